"""`semhier show IMAGE…`: what each block of a picture says, as words, bytes and pictures, without ROS."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semhier_ros import options as shared
from semhier_ros.api import Codec
from semhier_ros.camera.drawing import draw_boxes
from semhier_ros.command import for_the_user
from semhier_ros.footage.video import read_picture, write_picture
from semhier_ros.paths import DEFAULT_MODEL
from semhier_ros.received import received


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="picture files")
    shared.model(parser, DEFAULT_MODEL)
    shared.device(parser)
    parser.add_argument("--least", type=float, default=0.2, help="least score drawn or listed (default: %(default)s)")
    shared.out(parser, None, "folder for one annotated and one decoded picture per prefix", required=False)


def run(options: argparse.Namespace) -> int:
    with for_the_user():
        codec = Codec.load(options.model, options.device, threads=1)
    for path in options.images:
        _show(codec, path, read_picture(path), options)
    return 0


def _show(codec: Codec, path: Path, picture: NDArray[np.uint8], options: argparse.Namespace) -> None:
    print(f"{path} ({picture.shape[1]}x{picture.shape[0]})")
    for known in received(codec, picture):
        block, reading, _ = known
        listed = [found for found in reading.detections if found.scores[-1] >= options.least]
        words = ", ".join(f"{found.names[-1]} {found.scores[-1]:.0%}" for found in listed) or "nothing"
        name = codec.block_names[block.index]
        print(f"  {name:>9} {len(block.data):5} B, {reading.payload_bytes:5} B so far: {words}")
        if options.out:
            drawn = {"reading": draw_boxes(picture, reading.detections, least=options.least)}
            if (painted := known.picture()) is not None:
                drawn["picture"] = painted
            for kind, shown in drawn.items():
                write_picture(options.out / f"{path.stem}-{block.index}-{name}-{kind}.png", shown)
