"""Loading codecs for the nodes: late, so that a node's `--help`, parameters and errors need no model runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semhier_ros import Codec


def load_codec(name: str, device: str, threads: int = 0, precision: str = "auto", **more: Any) -> Codec:
    """`Codec.load(name)` for the nodes; `more`: its arguments about detectors. Raises ValueError
    naming the model when it cannot be loaded."""
    from semhier_ros import Codec

    try:
        return Codec.load(name, device=device, threads=threads, precision=precision, **more)
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise ValueError(f"model: {name!r} cannot be loaded on device {device!r}: {error}") from error
