"""A drawn run for tests of the report: no model, no network, everything made up but complete."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from semhier_ros.codec.reading import Detection
from semhier_ros.lab.report.content import (
    BlockFigures,
    JpegFigures,
    Moment,
    ReportContent,
    Step,
    StripFrame,
    TimelineRow,
    View,
    block_kinds,
)
from semhier_ros.lab.scoring.delivery import budget_use, delivered

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode does not; for replay_footage

NAMES = ("level_0", "level_1", "level_2", "detail", "picture_0", "picture_1", "picture_2")
SIZES = (44, 10, 15, 32, 410, 880, 2050)
TITLES = ("any vehicle", "group", "type")


def street(number: int, width: int = 320, height: int = 136) -> np.ndarray:
    """A drawn road with two boxes for vehicles, HxWx3 uint8."""
    image = np.full((height, width, 3), 150, np.uint8)
    image[: height // 2] = (200, 215, 230)
    cv2.rectangle(image, (40 + 5 * number, 60), (110 + 5 * number, 110), (170, 40, 40), -1)
    cv2.rectangle(image, (220, 40), (290, 120), (40, 60, 150), -1)
    return image


def webp(image: np.ndarray, quality: int = 60) -> bytes:
    """The image as a WebP file."""
    return cv2.imencode(".webp", image[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()


def found(number: int, level: int, scale: float = 1.0) -> tuple[Detection, ...]:
    """The two vehicles as known down to `level`."""
    names = (("vehicle", "car", "hatchback"), ("vehicle", "heavy", "bus"))
    boxes = ((40 + 5 * number, 60, 110 + 5 * number, 110), (220, 40, 290, 120))
    return tuple(
        Detection(
            place,
            tuple(scale * float(v) for v in box),
            (0, place, place)[: level + 1],
            name[: level + 1],
            (0.93, 0.81, 0.66)[: level + 1],
        )
        for place, (name, box) in enumerate(zip(names, boxes, strict=True))
    )


def drawn_content(
    frames: int = 50,
    image_of: Callable[[int], np.ndarray] = street,
    *,
    jpeg: bool = True,
    titles: tuple[str, ...] = TITLES,
    footage: str = "a drawn street",
    scale: float = 1.0,
) -> ReportContent:
    """A complete run with losses; `image_of(number)` gives its frames."""
    chance = random.Random(3)
    kinds = block_kinds(NAMES, 4, titles)
    stamps = [round(number * 0.2e9) for number in range(frames)]
    rows, arrivals = [], {name: {} for name in NAMES}
    for number, stamp in enumerate(stamps):
        row: dict[str, float] = {}
        ms = 62.0
        for name, size in zip(NAMES, SIZES, strict=True):
            ms += size / 8 + chance.uniform(0, 25)
            if chance.random() < (0.02 if name == "level_0" else 0.06) or ms > 480:
                break
            row[name] = ms
            arrivals[name][stamp] = stamp + round(ms * 1e6)
        rows.append(TimelineRow(number * 0.2, row))
    blocks = tuple(
        BlockFigures(kind, frames, frames, delivered(stamps, arrivals[kind.name]), float(size), size * 1.4)
        for kind, size in zip(kinds, SIZES, strict=True)
    )
    height, width = image_of(0).shape[:2]
    strip, moments = [], []
    for number in (5, 17, 30):
        total, steps = 0, []
        for place, (kind, size) in enumerate(zip(kinds[:6], SIZES, strict=False)):
            total += size
            blurred = cv2.GaussianBlur(image_of(number), (0, 0), (40, 30, 22, 16, 7, 3)[place])
            steps.append(Step(kind, 62.0 + total / 8, size, total, found(number, min(place, 2), scale), webp(blurred)))
        missing = tuple(kind.title for kind in kinds[6:])
        strip.append(StripFrame(number * 0.2, width, height, webp(image_of(number)), tuple(steps), missing))
        ours = View(found(number - 1, 2, scale), 140.0, webp(cv2.GaussianBlur(image_of(number), (0, 0), 5)), 410.0)
        theirs = View(found(number - 4, 2, scale), 900.0, webp(image_of(number), 5), 860.0)
        truth = found(number, 2, scale)
        moments.append(
            Moment(number * 0.2 + 0.1, width, height, webp(image_of(number)), truth, ours, theirs if jpeg else None)
        )
    wire = budget_use([(0.03 * number, 230) for number in range(300)], 8000.0)
    result = JpegFigures(
        "37.5 % size, quality 20, at most 5 pictures/s, with a parity piece",
        "Tried: 5 sizes x 5 qualities x 3 rates, with and without parity.",
        (240, 102),
        20,
        delivered(stamps, {stamp: stamp + 620_000_000 for stamp in stamps[::3]}),
        2890.0,
        budget_use([(0.2 * number, 1241) for number in range(48)], 8000.0),
        (0.31, 0.22, 0.14),
        tuple(chance.uniform(500, 760) for _ in stamps[::3]),
        (("37.5 %, quality 20", 2890.0, 0.22), ("25 %, quality 35", 2510.0, None)),
    )
    return ReportContent(
        link="64 kbit/s, 50 ms, 5 % loss",
        rate=8000.0,
        loss=0.05,
        footage=footage,
        frames_sent=frames,
        frames_per_second=5.0,
        level_names=titles,
        blocks=blocks,
        levels=tuple(item.delivered for item in blocks[:3]),
        pictures=blocks[4].delivered,
        semantic_bytes=101.0,
        frame_bytes=1200.0,
        wire=wire,
        datagrams={"datagrams sent": 300, "lost on the way": 15, "dropped at the full queue": 0},
        precision=(0.71, 0.58, 0.4),
        ceiling=(0.88, 0.8, 0.75),
        strip=strip,
        moments=moments,
        timeline=rows,
        jpeg=result if jpeg else None,
        facts={"footage": footage, "model": "road 0123456789abcdef", "link": "64kbit,50ms,5%"},
        notes=("Agreement is measured against what the same model reads on the uncompressed frame.",),
    )


@pytest.fixture
def drawn() -> Callable[..., ReportContent]:
    """`drawn_content`."""
    return drawn_content
