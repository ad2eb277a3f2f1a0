"""What asking saves: bytes on the wire when finer blocks are asked for only where a reading is uncertain.

Labelled scenes, each sent once. `types`: all semantic blocks at once, or blocks 0..BASE at once and the rest on request
for one frame or, lasting, for `HOLD` frames (each scene then stands for as many, of which the first comes without);
accuracy is AP50 at the finest level. `pictures`: every block at once, or the semantic ones at once and the picture's on
request; they are not part of the reading, so its accuracy is the same. Bytes are those of real packets with the link's
headers, pieces and requests included.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from semhier_ros import options as shared
from semhier_ros.camera.asking import AskPolicy, Seen
from semhier_ros.codec.packet import Packet, split
from semhier_ros.lab.options import finish, labelled_scenes, load_codec
from semhier_ros.lab.scoring.coco import Truth, rows_of
from semhier_ros.link.schedule.wire import ZENOH_UDP
from semhier_ros.link.sender import measured
from semhier_ros.progress import each
from semhier_ros.received import received

THRESHOLDS = (0.4, 0.6, 0.8, 1.01)
ABOVE = (0.0, 0.3, 0.5)
NEAR = (0.0, 0.1, 0.2, 0.3)
HOLD = 20
"""Two seconds at 10 frames/s."""
PIECE_BYTES = 200
"""Packets of a picture on a link of 64 kbit/s."""
REQUEST_BYTES = 14
ENVELOPE = measured(ZENOH_UDP)
"""The wire model of the measured link."""
EQUAL = 0.005
"""AP50 that may be missing and still count as equal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.images(parser)
    shared.labels(parser, "folder of their YOLO labels")
    shared.common(parser, shared.model, shared.device, shared.json)
    shared.renamed(parser, names="--split")


def run(options: argparse.Namespace) -> int:
    """Encodes every scene, and reads it after every block."""
    codec = load_codec(options.model, options.device, kind="scenes")
    scenes = labelled_scenes(options)
    last = codec.levels - 1
    labels: list[Any] = []
    frames: list[dict[str, Any]] = []
    for scene in each(scenes, "scenes"):
        image, boxes, _ = scene.read(codec.taxonomy)
        labels.append(boxes)
        coming = list(received(codec, image))
        meaning, picture = coming[: codec.semantic_blocks], coming[codec.semantic_blocks :]
        frames.append(
            {
                "blocks": [known.block for known in meaning],
                "picture": sum(pieces(known.block) for known in picture),
                "rows": [rows_of(known.reading.detections, codec.levels)[last] for known in meaning],
                "seen": [Seen.of(known.reading.detections, image.shape[0]) for known in meaning],
            }
        )
    truth = Truth.of(labels, codec.taxonomy)
    result = measure(frames, lambda rows: float(truth.score(last, rows).ap50))
    result |= {"scenes": len(frames), "model": codec.model_hash}
    return finish(result, options.json, text=str({key: result[key] for key in ("everything", "saved")}))


def measure(frames: Sequence[dict[str, Any]], score: Any) -> dict[str, Any]:
    """The tables; `score(rows of all frames)` gives AP50 at the finest level."""
    last = len(frames[0]["blocks"]) - 1
    request = ENVELOPE.wire_bytes(REQUEST_BYTES)
    semantic = np.array([wire(frame["blocks"]) for frame in frames])
    painted = np.array([frame["picture"] for frame in frames])
    best = score([frame["rows"][-1] for frame in frames])
    full, everything = float(semantic.mean()), float((semantic + painted).mean())
    types, pictures = [], []
    for setting in product(ABOVE, NEAR, THRESHOLDS):
        above, near, below = setting
        policy = AskPolicy(min(below, 1.0), 15, 20.0, above=above, near=near)
        known = dict(zip(("above", "near", "below"), setting, strict=True))
        asked = np.array([policy.uncertain(frame["seen"][last]) for frame in frames])
        saved = 1.0 - float((semantic + asked * (painted + request)).mean()) / everything
        pictures.append({**known, "asked": float(asked.mean()), "ap50": best, "share_saved": saved})
        if below < 1.0:
            continue
        for base in range(last):  # a finer name is not known yet: whatever is there and near is asked for
            asked = np.array(
                [any(item.score >= above and item.height >= near for item in frame["seen"][base]) for frame in frames]
            )
            first = np.array([wire(frame["blocks"][: base + 1]) for frame in frames])
            rest = np.array([wire(frame["blocks"][base + 1 :]) for frame in frames])
            once = float((first + asked * (rest + request)).mean())
            lasting = float((first + asked * ((semantic - first) * (HOLD - 1) + request) / HOLD).mean())
            chosen = [frame["rows"][-1 if ask else base] for frame, ask in zip(frames, asked, strict=True)]
            entry = {"base": base, "above": above, "near": near, "asked": float(asked.mean()), "ap50": score(chosen)}
            types.append(entry | {"share_saved_once": 1.0 - once / full, "share_saved_lasting": 1.0 - lasting / full})
    equal = [row for row in types if row["ap50"] >= best - EQUAL]
    return {
        "everything": {"ap50": best, "semantic_bytes": full, "wire_bytes": everything},
        "saved": max(equal, key=lambda row: row["share_saved_lasting"], default=None),
        "types": types,
        "pictures": pictures,
    }


def pieces(block: Any) -> int:
    """Bytes on IP of one block in packets of its own."""
    return sum(int(ENVELOPE.wire_bytes(len(packet))) for packet in split(block, PIECE_BYTES))


def wire(blocks: Sequence[Any]) -> int:
    """Bytes on IP of consecutive blocks in one packet, with the stamp where block 0 is among them."""
    return int(ENVELOPE.wire_bytes(len(Packet.pack(blocks, stamp_ns=0 if blocks[0].index == 0 else None))))
