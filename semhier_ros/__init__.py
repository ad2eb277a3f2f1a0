"""semhier_ros: what a camera sees, sent over a thin link, coarse meaning first.

What `__all__` names is the public API: `Codec` is the door. `semhier_ros.msg` holds the ROS 2 messages once the package
was built. Importing this package, or only its messages, loads neither OpenVINO nor OpenCV nor torch: each name
is resolved at its first use (PEP 562), so that `ros2 topic echo` and bag tools stay light.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semhier_ros.api import Codec, Decoder
    from semhier_ros.codec.block_request import BlockRequest
    from semhier_ros.codec.model import EncodeOptions
    from semhier_ros.codec.packet import Block, Packet
    from semhier_ros.codec.reading import Detection, Reading
    from semhier_ros.codec.stream_info import StreamInfo
    from semhier_ros.taxonomy import Taxonomy

__version__ = "0.1.0"
__all__ = [
    "Block",
    "BlockRequest",
    "Codec",
    "Decoder",
    "Detection",
    "EncodeOptions",
    "Packet",
    "Reading",
    "StreamInfo",
    "Taxonomy",
    "__version__",
]

_HOMES = {
    "Block": "codec.packet",
    "BlockRequest": "codec.block_request",
    "Codec": "api",
    "Decoder": "api",
    "Detection": "codec.reading",
    "EncodeOptions": "codec.model",
    "Packet": "codec.packet",
    "Reading": "codec.reading",
    "StreamInfo": "codec.stream_info",
    "Taxonomy": "taxonomy",
}

# The messages are generated into the installed package. Seen from a source tree (tests, `python -m` in the clone), the
# installed half has to be found too, hence every `semhier_ros` folder on sys.path belongs to this package.
__path__ = extend_path(__path__, __name__)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
