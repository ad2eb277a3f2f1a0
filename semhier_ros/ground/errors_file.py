"""What was measured of a model's boxes: config/ground/<model>.yaml, written by `semhier measure box_errors`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from semhier_ros.ground.box_error import BoxError
from semhier_ros.ground.lens import GroundError
from semhier_ros.paths import config_dir

UNMEASURED = {"foot": (0.12, 1.0), "top": (0.12, 1.0), "middle": (0.1, 1.0), "half": (0.1, 1.0)}
"""Taken for a model that nobody measured: about what a small detector reaches on labels."""


def read_box_error(path: Path, size_step: float = 0.0, offset_step: float = 0.0) -> BoxError:
    """What the file says, for a quantiser of those steps.

    Raises:
        GroundError: naming the file and what cannot be read.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        sides = {name: (float(values[name][0]), float(values[name][1])) for name in UNMEASURED}
        read, across = (tuple((float(share), float(floor)) for share, floor in values[n]) for n in ("read", "across"))
        feet = tuple(float(left) for left in values.get("foot_told", ()))
        return BoxError(size_step, offset_step, read, across, foot_told=feet, **sides)  # type: ignore[arg-type]
    except (OSError, yaml.YAMLError, KeyError, TypeError, IndexError, ValueError) as error:
        raise GroundError(f"{path}: {type(error).__name__}: {error}") from None


def box_error_of(codec: Any, picture: tuple[int, int]) -> BoxError:
    """How wrong the boxes of an `api.Codec` are in pictures of that width and height: its quantiser's steps, and what
    was measured of its model.

    Raises:
        GroundError: the model's file cannot be read.
    """
    stream = getattr(codec.model, "stream", None)
    layout = getattr(stream, "layout", None)
    steps = (getattr(layout, "size_step", 0.0), getattr(layout, "offset_step", 0.0))
    path = config_dir() / "ground" / f"{codec.name}.yaml"
    known = BoxError(steps[0], steps[1], **UNMEASURED)  # type: ignore[arg-type]
    if path.is_file():
        known = read_box_error(path, *steps)
    known = replace(known, cell=float(getattr(layout, "stride", 0)), foot_cell=getattr(stream, "foot_cell", 0.0))
    view = getattr(codec.model, "view_size", picture)
    return known.scaled(max(picture[0] / view[0], picture[1] / view[1]))
