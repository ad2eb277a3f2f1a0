"""What asking saves: bytes on the wire when finer blocks are asked for only where a reading is uncertain.

Labelled scenes, each sent once: all semantic blocks at once, or blocks 0..BASE at once and the rest on request, for
each threshold of the policy. Bytes are those of real packets with the link's headers, requests included; accuracy is
AP50 at the finest level. `saved` compares with sending everything, at the threshold that keeps its accuracy for least.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

THRESHOLDS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
REQUEST_BYTES = 14
EQUAL = 0.005
"""AP50 that may be missing and still count as equal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `semhier bench asking`."""
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--labels", type=Path, required=True, help="folder of their YOLO labels")
    parser.add_argument("--names", type=Path, help="file that lists the pictures (default: all)")
    parser.add_argument("--limit", type=int, default=0, help="so many scenes at most (default: all)")
    parser.add_argument("--model", default="road", help="model name or folder (default: %(default)s)")
    parser.add_argument("--device", default="cpu", choices=("auto", "cpu", "cuda"), help="(default: %(default)s)")
    parser.add_argument("--json", type=Path, required=True, metavar="OUT", help="file of the result")


def run(options: argparse.Namespace) -> int:
    """Measures and writes the table."""
    import numpy as np
    from tqdm import tqdm

    from semhier_ros.api import Codec
    from semhier_ros.evaluation.detection import find_scenes, read_picture
    from semhier_ros.evaluation.detection_scores import Truth, read_labels, rows_of

    codec = Codec.load(options.model, options.device, threads=1)
    scenes = find_scenes(options.images, options.labels, options.names)
    scenes = scenes[: options.limit] if options.limit else scenes
    last = codec.levels - 1
    labels: list[Any] = []
    frames: list[dict[str, Any]] = []
    for scene in tqdm(scenes, unit="scene"):
        image = read_picture(scene.picture)
        height, width = image.shape[:2]
        file = scene.labels if scene.labels is not None and scene.labels.is_file() else Path("/dev/null")
        labels.append(read_labels(file, width, height))
        blocks = codec.encode(image, blocks=codec.semantic_blocks)
        decoder = codec.decoder((width, height))
        readings = [decoder.push(block) for block in blocks]
        frames.append(
            {
                "blocks": blocks,
                "rows": [rows_of(reading.detections, codec.levels)[last] for reading in readings if reading],
                "scores": [
                    [item.scores[-1] for item in reading.detections if item.scores] for reading in readings if reading
                ],
            }
        )
    owners = [np.asarray(codec.taxonomy.owner(level)) for level in range(codec.levels)]
    truth = Truth(labels, owners, [codec.taxonomy.names(level) for level in range(codec.levels)])
    result = measure(frames, lambda rows: float(truth.score(last, rows).ap50))
    result |= {"scenes": len(frames), "model": codec.model_hash}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: result[key] for key in ("everything", "saved")}))
    return 0


def measure(frames: Sequence[dict[str, Any]], score: Any) -> dict[str, Any]:
    """The table for all bases and thresholds; `score(rows of all frames)` gives AP50 at the finest level."""
    count = len(frames[0]["blocks"])
    full = sum(wire(frame["blocks"]) for frame in frames) / len(frames)
    best = score([frame["rows"][-1] for frame in frames])
    rows, saved = [], []
    for base in range(count - 1):
        for below in THRESHOLDS:
            asked = [any(value < below for value in frame["scores"][base]) for frame in frames]
            up = sum(
                wire(frame["blocks"][: base + 1]) + (wire(frame["blocks"][base + 1 :]) if ask else 0)
                for frame, ask in zip(frames, asked, strict=True)
            ) / len(frames)
            ap50 = score([frame["rows"][-1 if ask else base] for frame, ask in zip(frames, asked, strict=True)])
            entry = {"base": base, "below": below, "asked": sum(asked) / len(frames), "ap50": ap50, "wire_bytes": up}
            entry["request_bytes"] = entry["asked"] * envelope().wire_bytes(REQUEST_BYTES)
            rows.append(entry)
        equal = [row for row in rows if row["base"] == base and row["ap50"] >= best - EQUAL]
        if equal:
            least = min(equal, key=lambda row: row["wire_bytes"])
            saved.append({**least, "share_saved": 1.0 - least["wire_bytes"] / full})
    return {"everything": {"ap50": best, "wire_bytes": full}, "saved": saved, "rows": rows}


def envelope() -> Any:
    """The wire model of the measured link."""
    from semhier_ros.link.sender import measured
    from semhier_ros.link.wire import ZENOH_UDP

    return measured(ZENOH_UDP)


def wire(blocks: Sequence[Any]) -> int:
    """Bytes on IP of consecutive blocks in one packet, with the stamp where block 0 is among them."""
    from semhier_ros.codec.packet import Packet

    return int(envelope().wire_bytes(len(Packet.pack(blocks, stamp_ns=0 if blocks[0].index == 0 else None))))
