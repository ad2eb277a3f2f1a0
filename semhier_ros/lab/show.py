"""`semhier show IMAGE…`: what each block of a picture says, as words, bytes and pictures, without ROS."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from semhier_ros.api import Codec
from semhier_ros.cli import CommandError
from semhier_ros.codec.model_folder import ModelError
from semhier_ros.codec.reading import Reading

COLOURS = ((214, 120, 31), (178, 62, 142), (44, 110, 220))  # RGB per level, coarse first


def draw_reading(picture: NDArray[np.uint8], reading: Reading, least: float = 0.0) -> NDArray[np.uint8]:
    """A copy of the picture (H,W,3 uint8 RGB) with boxes and finest names of detections scored `least` or more."""
    drawn = picture.copy()
    colour = COLOURS[min(reading.level, len(COLOURS) - 1)]
    for found in reading.detections:
        if found.scores[-1] < least:
            continue
        x0, y0, x1, y1 = (round(value) for value in found.box)
        cv2.rectangle(drawn, (x0, y0), (x1, y1), colour, 2)
        text = f"{found.names[-1]} {found.scores[-1]:.0%}"
        (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)
        top = max(0, y0 - height - 4)
        cv2.rectangle(drawn, (x0, top), (x0 + width + 4, top + height + 4), colour, -1)
        cv2.putText(
            drawn, text, (x0 + 2, top + height + 1), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA
        )
    return drawn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="picture files")
    parser.add_argument("--model", default="road", help="model name or folder (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda or torch (default: %(default)s)")
    parser.add_argument("--least", type=float, default=0.2, help="least score drawn or listed (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder for one annotated and one decoded picture per prefix")


def run(options: argparse.Namespace) -> int:
    try:
        codec = Codec.load(options.model, options.device)
    except (ModelError, FileNotFoundError, ValueError) as error:
        raise CommandError(str(error)) from error
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    for path in options.images:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise CommandError(f"{path}: missing, or not a picture that OpenCV reads")
        _show(codec, path, np.ascontiguousarray(image[..., ::-1]).astype(np.uint8), options)
    return 0


def _show(codec: Codec, path: Path, picture: NDArray[np.uint8], options: argparse.Namespace) -> None:
    print(f"{path} ({picture.shape[1]}x{picture.shape[0]})")
    decoder = codec.decoder((picture.shape[1], picture.shape[0]))
    total = 0
    for block in codec.encode(picture):
        reading = decoder.push(block)
        assert reading is not None
        total += len(block.data)
        listed = [found for found in reading.detections if found.scores[-1] >= options.least]
        words = ", ".join(f"{found.names[-1]} {found.scores[-1]:.0%}" for found in listed) or "nothing"
        name = codec.block_names[block.index]
        print(f"  {name:>9} {len(block.data):5} B, {total:5} B so far: {words}")
        if options.out:
            decoded = decoder.picture(block.frame)
            assert decoded is not None
            for kind, shown in (("reading", draw_reading(picture, reading, options.least)), ("picture", decoded)):
                target = options.out / f"{path.stem}-{block.index}-{name}-{kind}.png"
                if not cv2.imwrite(str(target), shown[..., ::-1]):
                    raise CommandError(f"{target}: cannot be written")
