"""How a detector's file is fed and what its tensors mean, as data: the table of layouts that `--layout` names.

A layout says what a picture becomes before the network (size, letterbox or stretch, channel order, mean and scale) and
how the network's output tensors are read (`decode` names a reader of `detectors.decode`; the other fields are its
settings). A file that differs from a layout of the table in a field or two is described in YAML:

    like: yolox
    padding: 0
    channels: rgb
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml


class DetectorError(ValueError):
    """A detector that cannot be used as it was asked for: one line that names the field or tensor, and what fits."""


RESIZES = ("letterbox", "letterbox-centre", "stretch")
CHANNELS = ("rgb", "bgr")
ACTIVATIONS = ("none", "sigmoid", "softmax")
UNITS = ("pixels", "relative")
CORNERS = ("xyxy", "cxcywh", "yxyx")
BACKGROUNDS = ("none", "first", "last")
LARGEST_SIDE = 8192

IMAGENET_MEAN, IMAGENET_DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Layout:
    """One way in which detectors are exported.

    decode: the reader of the output tensors. resize: how a picture comes onto the network's input: scaled to fit and
    padded at the right and bottom (`letterbox`) or all around (`letterbox-centre`) with `padding`, or stretched.
    size: width and height of the input where the file leaves them open. channels: order of the input's. mean,
    deviation: of 0..255 pixels, per channel in that order: (pixel - mean) / deviation goes in. activation: what makes
    class scores of 0..1 from the tensor. units, corners: what the boxes are in, and in which order. background: which
    class index stands for nothing. first_label: the label that means class 0. nms: intersection over union above which
    the weaker of two boxes of one class goes (None: the file has done it). strides: of the grids of grid detectors.
    """

    name: str
    about: str
    decode: str
    resize: str = "letterbox"
    padding: int = 114
    size: tuple[int, int] = (640, 640)
    channels: str = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    deviation: tuple[float, float, float] = (255.0, 255.0, 255.0)
    activation: str = "none"
    units: str = "pixels"
    corners: str = "xyxy"
    background: str = "none"
    first_label: int = 0
    nms: float | None = None
    strides: tuple[int, ...] = (8, 16, 32)

    def __post_init__(self) -> None:
        for field, allowed in (
            ("resize", RESIZES),
            ("channels", CHANNELS),
            ("activation", ACTIVATIONS),
            ("units", UNITS),
            ("corners", CORNERS),
            ("background", BACKGROUNDS),
        ):
            if getattr(self, field) not in allowed:
                raise DetectorError(f"layout {self.name}: {field} {getattr(self, field)!r} is not {_or(allowed)}")
        check_size(self.size, f"layout {self.name}: size")
        if not 0 <= self.padding <= 255:
            raise DetectorError(f"layout {self.name}: padding {self.padding} is outside 0..255")
        if len(self.mean) != 3 or len(self.deviation) != 3 or not all(map(math.isfinite, self.mean + self.deviation)):
            raise DetectorError(
                f"layout {self.name}: mean {self.mean} and deviation {self.deviation}, three finite numbers each wanted"
            )
        if min(self.deviation) <= 0:
            raise DetectorError(f"layout {self.name}: deviation {self.deviation} is not above 0")
        if self.nms is not None and not 0 < self.nms <= 1:
            raise DetectorError(f"layout {self.name}: nms {self.nms} is outside 0..1")
        if not self.strides or not all(1 <= stride <= 512 for stride in self.strides):
            raise DetectorError(f"layout {self.name}: strides {self.strides} are not all within 1..512")

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON has them; `from_dict` is the way back."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "layout") -> Layout:
        """A layout from its fields; with `like`, those of that layout of the table where they are not given.

        Raises:
            DetectorError: a field is unknown, missing or outside its range.
        """
        given = dict(values)
        like = given.pop("like", None)
        base = named(str(like)) if like is not None else None
        known = {field.name: field for field in fields(cls)}
        if unknown := sorted(set(given) - set(known)):
            raise DetectorError(f"{where}: {unknown[0]!r} is no field; there are like, {', '.join(known)}")
        for key, value in given.items():
            wanted = known[key].type
            try:
                if str(wanted).startswith("tuple"):
                    kind = float if "float" in str(wanted) else int
                    given[key] = tuple(kind(item) for item in value)
                elif wanted == "float | None":
                    given[key] = None if value is None else float(value)
                elif wanted == "int":
                    given[key] = int(value)
                else:
                    given[key] = str(value)
            except (OverflowError, TypeError, ValueError):
                raise DetectorError(f"{where}: {key} {value!r} is not {wanted}") from None
        if base is not None:
            return replace(base, **{"name": f"like {base.name}", **given})
        if missing := [key for key in ("decode",) if key not in given]:
            raise DetectorError(f"{where}: {missing[0]} is missing; give it, or `like: NAME` of {', '.join(LAYOUTS)}")
        return cls(**{"name": "own", "about": "described by hand", **given})


def check_size(size: tuple[int, int], field: str) -> tuple[int, int]:
    """Width and height of a network's input. Raises DetectorError naming `field`."""
    if len(size) != 2 or not all(16 <= side <= LARGEST_SIDE for side in size):
        raise DetectorError(f"{field}: {'x'.join(map(str, size))} is not two sides of 16..{LARGEST_SIDE} pixels")
    return int(size[0]), int(size[1])


def _or(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


_PLAIN: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "deviation": (1.0, 1.0, 1.0)}
_IMAGENET: dict[str, Any] = {"mean": IMAGENET_MEAN, "deviation": IMAGENET_DEVIATION}

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout(
            "yolox",
            "YOLOX as its own tools/export_onnx.py writes it: 1,N,5+C on raw grids",
            "grid",
            channels="bgr",
            nms=0.65,
            **_PLAIN,
        ),
        Layout(
            "yolox-decoded",
            "YOLOX exported with --decode_in_inference: 1,N,5+C with boxes in pixels",
            "objectness-rows",
            channels="bgr",
            corners="cxcywh",
            nms=0.65,
            **_PLAIN,
        ),
        Layout(
            "yolov5",
            "Ultralytics YOLOv5, YOLOv7: 1,N,5+C with boxes in pixels",
            "objectness-rows",
            "letterbox-centre",
            corners="cxcywh",
            nms=0.6,
        ),
        Layout(
            "ultralytics",
            "Ultralytics v8, v9, v11, v12: 1,4+C,N",
            "columns",
            "letterbox-centre",
            corners="cxcywh",
            nms=0.7,
        ),
        Layout(
            "ultralytics-end2end",
            "Ultralytics v10, v26 and exports with nms=True: 1,N,6 of corners, score, class",
            "rows",
            "letterbox-centre",
        ),
        Layout(
            "detr",
            "RT-DETR, D-FINE, DEIM without their postprocessor: logits 1,Q,C and boxes 1,Q,4",
            "queries",
            "stretch",
            activation="sigmoid",
            units="relative",
            corners="cxcywh",
        ),
        Layout(
            "rf-detr",
            "RF-DETR: dets 1,Q,4 and labels 1,Q,C of COCO's 91 ids, normalised as ImageNet",
            "queries",
            "stretch",
            activation="sigmoid",
            units="relative",
            corners="cxcywh",
            **_IMAGENET,
        ),
        Layout(
            "detr-softmax",
            "DETR, Conditional DETR: logits 1,Q,C+1, the last one for nothing, normalised as ImageNet",
            "queries",
            "stretch",
            activation="softmax",
            units="relative",
            corners="cxcywh",
            background="last",
            **_IMAGENET,
        ),
        Layout(
            "detr-labels",
            "RT-DETR, D-FINE, DEIM as their export_onnx.py writes them: labels, boxes, scores; sizes go in",
            "labels",
            "stretch",
        ),
        Layout(
            "nms",
            "TorchVision (SSD, RetinaNet, FCOS, Faster R-CNN): boxes, scores, labels; NMS inside, label 0 is nothing",
            "labels",
            padding=0,
            first_label=0,
        ),
        Layout(
            "tensorflow",
            "TensorFlow's detection zoo (SSD, EfficientDet): boxes y0,x0,y1,x1, classes from 1, scores; NMS inside",
            "labels",
            "stretch",
            units="relative",
            corners="yxyx",
            first_label=1,
            **_PLAIN,
        ),
        Layout(
            "detection-output",
            "SSD with Caffe's DetectionOutput: 1,1,N,7 of picture, label, score, corners",
            "rows7",
            "stretch",
            channels="bgr",
            units="relative",
            background="first",
            **_PLAIN,
        ),
        Layout(
            "nanodet",
            "NanoDet and NanoDet-Plus: class scores and box distributions, one pair a grid or one tensor of all",
            "distributions",
            "letterbox-centre",
            padding=0,
            channels="bgr",
            size=(416, 416),
            mean=IMAGENET_MEAN[::-1],
            deviation=IMAGENET_DEVIATION[::-1],
            nms=0.6,
        ),
    )
}


def named(name: str) -> Layout:
    """The layout of that name of the table. Raises DetectorError naming all there are."""
    if name not in LAYOUTS:
        raise DetectorError(f"layout {name!r}: not one of {', '.join(LAYOUTS)}, and no YAML file")
    return LAYOUTS[name]


def find_layout(name_or_file: str) -> Layout:
    """The layout of that name, or the one that a YAML file describes.

    Raises:
        DetectorError: neither; or the file is not readable, or a field of it is wrong.
    """
    path = Path(name_or_file)
    if path.suffix not in (".yaml", ".yml"):
        return named(name_or_file)
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DetectorError(f"layout {path}: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise DetectorError(f"layout {path}: a mapping from field to value wanted")
    return Layout.from_dict(values, f"layout {path}")
