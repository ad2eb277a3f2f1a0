"""semhier_ros: what a camera sees, sent over a thin link, coarse meaning first.

`from semhier_ros import Codec` is the door to the codec; `semhier_ros.msg` holds the ROS 2 messages once the package
was built. Importing this package, or only its messages, loads neither OpenVINO nor OpenCV nor torch: `Codec` is
resolved at its first use (PEP 562), so that `ros2 topic echo` and bag tools stay light.
"""

from __future__ import annotations

from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semhier_ros.api import Codec

__version__ = "0.1.0"
__all__ = ["Codec", "__version__"]

# The messages are generated into the installed package. Seen from a source tree (tests, `python -m` in the clone), the
# installed half has to be found too, hence every `semhier_ros` folder on sys.path belongs to this package.
__path__ = extend_path(__path__, __name__)


def __getattr__(name: str) -> Any:
    if name == "Codec":
        from semhier_ros.api import Codec

        return Codec
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
