"""Loading codecs for the nodes: late, so that a node's `--help`, parameters and errors need no model runtime."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from semhier_ros import Codec
    from semhier_ros.scene.tracker import Tracker


def load_codec(name: str, device: str, threads: int = 0, precision: str = "f32") -> Codec:
    """`Codec.load(name)` for the nodes. Raises ValueError naming the model when it cannot be loaded."""
    from semhier_ros import Codec

    try:
        return Codec.load(name, device=device, threads=threads, precision=precision)
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise ValueError(f"model: {name!r} cannot be loaded on device {device!r}: {error}") from error


def tracker_maker(name: str) -> Callable[[Codec], Tracker] | None:
    """What makes a camera's tracker for a codec, or None for `none`. Raises ValueError when its library is missing."""
    if name == "none":
        return None
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"tracker: {name} is not installed: pip install 'semhier_ros[tracker]'") from error
    from semhier_ros.scene.tracker import Tracker

    return Tracker.of
