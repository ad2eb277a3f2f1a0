"""What the picture blocks of a scene model are worth, beside JPEG and WebP at several scales.

PSNR of the whole picture and of what lies in labelled boxes, over all scenes together; bytes are means, semantic blocks
included. Default: every eighth of the scenes that choose.
"""

from __future__ import annotations

import argparse
import math
from itertools import product
from pathlib import Path

import numpy as np

from semhier_ros import options as shared
from semhier_ros.api import Codec
from semhier_ros.footage.labels import read_labels
from semhier_ros.footage.video import read_picture
from semhier_ros.lab.baselines.picture_files import KINDS, PictureSetting, decode_picture, encode_picture
from semhier_ros.lab.options import finish
from semhier_ros.received import received

SETTINGS = tuple(PictureSetting(*each) for each in product(KINDS, (0.35, 0.5, 0.7), (8, 15, 25)))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder with images/ and labels/")
    shared.split(parser, "config/splits/road-vehicles/choose.txt")
    shared.renamed(parser, names="--split")
    parser.add_argument("--every", type=int, default=8, help="use each so many-th scene (default: %(default)s)")
    shared.common(parser, shared.model, shared.json)


def run(options: argparse.Namespace) -> int:
    """Codes every scene at every setting."""
    codec = Codec.load(options.model, "cpu", threads=1)
    rows: dict[str, list[tuple[float, float, float, int, int]]] = {}

    def add(name: str, size: int, picture: np.ndarray, truth: np.ndarray, inside: np.ndarray) -> None:
        error = ((picture.astype(float) - truth) ** 2).mean(axis=2)
        rows.setdefault(name, []).append((size, error.sum(), error[inside].sum(), error.size, int(inside.sum())))

    names = options.split.read_text().split()[:: options.every]
    for name in names:
        image = read_picture(options.data / "images" / name)
        height, width = image.shape[:2]
        inside = np.zeros((height, width), bool)
        labels = read_labels(options.data / "labels" / f"{Path(name).stem}.txt", width, height)
        for x, y, w, h in np.maximum(labels[:, 1:], 0).astype(int):
            inside[y : y + h + 1, x : x + w + 1] = True
        for known in received(codec, image):
            if (index := known.block.index) >= codec.semantic_blocks - 1:
                painted = known.picture()
                assert painted is not None
                add(codec.block_names[index], known.reading.payload_bytes, painted, image, inside)
        for setting in SETTINGS:
            data = encode_picture(image, setting)
            back = decode_picture(data, (width, height))
            assert back is not None
            add(setting.look, len(data), back, image, inside)
    figures = {}
    for name, found in rows.items():
        size, whole, boxes, pixels, covered = np.sum(found, axis=0)
        psnr, psnr_boxes = (round(10 * math.log10(255**2 * n / e), 2) for e, n in ((whole, pixels), (boxes, covered)))
        figures[name] = {"bytes": round(size / len(found)), "psnr": psnr, "psnr_in_boxes": psnr_boxes}
    result = {"scenes": len(names), "figures": figures}
    return finish(result, options.json, "pictures")
