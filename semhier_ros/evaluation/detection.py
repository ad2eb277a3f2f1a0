"""Average precision of readings at every level of the taxonomy after every prefix, beside JPEG pictures of the scene.

COCO's AP50 by pycocotools. Rates are lengths of real blocks. JPEG: the picture is encoded, decoded and read by the very
same detector; its best of several scales is taken at each quality by the caller reading the rows.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from semhier_ros.api import Codec
from semhier_ros.perception.reading import Detection

Picture = NDArray[np.uint8]
JPEG_SETTINGS = tuple((scale, quality) for scale in (1.0, 0.6) for quality in (5, 10, 25, 50))


def read_labels(path: Path, width: int, height: int) -> NDArray[np.float64]:
    """Rows (class, x0, y0, w, h) in pixels of a YOLO label file; empty where there is none.

    Raises:
        ValueError: a row is not five numbers; the message names file and line.
    """
    rows = []
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
        fields = line.split()
        try:
            kind, cx, cy, w, h = map(float, fields)
        except ValueError:
            raise ValueError(f"{path}:{number}: five numbers `class cx cy w h` wanted, found {line!r}") from None
        rows.append((kind, (cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height))
    return np.asarray(rows, float).reshape(-1, 5)


class Scores:
    """Collects readings of labelled scenes and gives AP50 at every level."""

    def __init__(self, owners: list[NDArray[np.intp]]):
        self.owners = owners
        self._truth: list[tuple[int, NDArray[np.float64]]] = []
        self._found: list[list[dict[str, Any]]] = [[] for _ in owners]

    def add(self, scene: int, labels: NDArray[np.float64], detections: Iterable[Detection]) -> None:
        """One scene's labels (class, x0, y0, w, h) and detections; each counts at the levels that its path reaches."""
        self._truth.append((scene, labels))
        for detection in detections:
            x0, y0, x1, y1 = detection.box
            for level, (node, score) in enumerate(zip(detection.path, detection.scores, strict=True)):
                self._found[level].append(
                    {"image_id": scene, "category_id": node + 1, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score}
                )

    def ap50(self, level: int) -> float:
        """COCO AP at IoU .5, mean over the level's nodes that occur in the labels; 0..1."""
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        boxes = [(scene, self.owners[level][int(row[0])] + 1, row[1:]) for scene, rows in self._truth for row in rows]
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = {
                "images": [{"id": scene} for scene, _ in self._truth],
                "categories": [{"id": node + 1} for node in range(int(self.owners[level].max()) + 1)],
                "annotations": [
                    {
                        "id": n + 1,
                        "image_id": s,
                        "category_id": int(c),
                        "bbox": b.tolist(),
                        "area": float(b[2] * b[3]),
                        "iscrowd": 0,
                    }
                    for n, (s, c, b) in enumerate(boxes)
                ],
            }
            truth.createIndex()
            if not self._found[level]:
                return 0.0
            scoring = COCOeval(truth, truth.loadRes(self._found[level]), "bbox")
            scoring.params.iouThrs = np.array([0.5])
            scoring.params.maxDets = [1, 10, 100]
            scoring.evaluate()
            scoring.accumulate()
        precision = scoring.eval["precision"][0, :, :, 0, -1]
        return float(precision[precision > -1].mean())


def full_reading(
    codec: Codec, picture: Picture, size: tuple[int, int], threshold: float | None
) -> tuple[Detection, ...]:
    """The reading of all semantic blocks of a picture, with boxes in a picture of `size`."""
    decoder = codec.decoder(size)
    reading = None
    for block in codec.encode(picture, blocks=codec.semantic_blocks, threshold=threshold):
        reading = decoder.push(block)
    return reading.detections if reading else ()


def evaluate(
    codec: Codec, images: list[Path], labels: Path, threshold: float | None, jpeg: bool, pictures: bool
) -> dict[str, Any]:
    """Every prefix of `codec` and, with `jpeg`, JPEG at several scales and qualities, over labelled scenes."""
    owners = [np.asarray(codec.taxonomy.owner(level)) for level in range(codec.levels)]
    count = len(codec.block_names) if pictures else codec.semantic_blocks
    ours = [Scores(owners) for _ in range(count)]
    sizes = np.zeros((len(images), count))
    errors = np.zeros((len(images), count))
    others: dict[tuple[float, int], tuple[Scores, list[int], list[float]]] = {
        setting: (Scores(owners), [], []) for setting in (JPEG_SETTINGS if jpeg else ())
    }
    for number, path in enumerate(tqdm(images, unit="scene", mininterval=5)):
        bgr = cv2.imread(str(path))
        if bgr is None:
            raise ValueError(f"{path}: not an image that OpenCV can decode")
        picture = np.ascontiguousarray(bgr[..., ::-1])
        size = (picture.shape[1], picture.shape[0])
        truth = read_labels(labels / f"{path.stem}.txt", *size)
        decoder = codec.decoder(size)
        for block in codec.encode(picture, blocks=count, threshold=threshold):
            reading = decoder.push(block)
            assert reading is not None
            ours[block.index].add(number, truth, reading.detections)
            sizes[number, block.index] = len(block.data)
            if pictures:
                painted = decoder.picture(block.frame)
                assert painted is not None
                errors[number, block.index] = float(np.mean((painted.astype(np.float32) - picture) ** 2))
        for (scale, quality), (scores, bytes_, squared) in others.items():
            small = cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else bgr
            data = cv2.imencode(".jpg", small, (cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1))[1]
            back = cv2.imdecode(data, cv2.IMREAD_COLOR)
            back = cv2.resize(back, size, interpolation=cv2.INTER_CUBIC) if scale < 1 else back
            scores.add(number, truth, full_reading(codec, np.ascontiguousarray(back[..., ::-1]), size, threshold))
            bytes_.append(len(data))
            squared.append(float(np.mean((back.astype(np.float32) - bgr) ** 2)))
    rows = []
    for prefix, scores in enumerate(ours):
        deepest = min(prefix, codec.levels - 1)
        row: dict[str, Any] = {
            "prefix": prefix,
            "block": codec.block_names[prefix],
            "payload_bytes_mean": float(sizes[:, : prefix + 1].sum(axis=1).mean()),
            "bytes_mean": float(sizes[:, : prefix + 1].sum(axis=1).mean()) + 10 + prefix,
            "ap50": {f"L{level}": scores.ap50(level) for level in range(deepest + 1)},
        }
        if pictures:
            row["psnr"] = float(10 * np.log10(255**2 / errors[:, prefix]).mean())
        rows.append(row)
    jpeg_rows = [
        {
            "scale": scale,
            "quality": quality,
            "payload_bytes_mean": float(np.mean(bytes_)),
            "bytes_mean": float(np.mean(bytes_)),
            "psnr": float(10 * np.log10(255**2 / np.maximum(squared, 1e-3)).mean()),
            "ap50": {f"L{level}": scores.ap50(level) for level in range(codec.levels)},
        }
        for (scale, quality), (scores, bytes_, squared) in others.items()
    ]
    result: dict[str, Any] = {"scenes": len(images), "codecs": {"semhier": rows}}
    if jpeg:
        result["codecs"]["jpeg"] = jpeg_rows
    return result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=Path, required=True, help="folder of scenes")
    parser.add_argument("--labels", type=Path, required=True, help="folder of YOLO label files of the same names")
    parser.add_argument("--names", type=Path, help="text file naming the scenes to use (default: all of --images)")
    parser.add_argument("--model", default="road", help="model name or folder (default: %(default)s)")
    parser.add_argument("--threshold", type=float, help="least objectness worth sending (default: the model's own)")
    parser.add_argument("--codecs", default="semhier", help="semhier or semhier,jpeg (default: %(default)s)")
    parser.add_argument("--pictures", action="store_true", help="picture blocks and PSNR too")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda or torch (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the result there (default: standard output)")


def run(options: argparse.Namespace) -> int:
    codec = Codec.load(options.model, options.device)
    listed = options.names.read_text().split() if options.names else sorted(p.name for p in options.images.iterdir())
    if not listed:
        raise ValueError(f"{options.names or options.images}: no scenes")
    result = evaluate(
        codec,
        [options.images / name for name in listed],
        options.labels,
        options.threshold,
        "jpeg" in options.codecs.split(","),
        options.pictures,
    )
    text = json.dumps(result, indent=1)
    if options.json:
        options.json.write_text(text + "\n")
        for row in result["codecs"]["semhier"]:
            scores = ", ".join(f"{level} {value:.3f}" for level, value in row["ap50"].items())
            print(f"{row['block']:>10}: {row['payload_bytes_mean']:7.1f} B  AP50 {scores}")
    else:
        print(text)
    return 0
