"""What becomes of one labelled scene under every system that is compared: ours at each prefix and operating point, the
bare answer, reference codecs at each setting, and no coding at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semhier_ros.api import Codec
from semhier_ros.codec.packet import Packet
from semhier_ros.lab.baselines import Picture, Setting, StillCodec, make, send
from semhier_ros.lab.baselines.answer_coder import AnswerCoder
from semhier_ros.lab.scoring.coco import MOST_PER_NODE, Rows, rows_of
from semhier_ros.scene.finders import Finder, Listed
from semhier_ros.scene.objects import Objects

DENSE_THRESHOLD = 0.05  # objectness from which the uncompressed detector's own list goes on
LEAST_CHANCE = 0.01  # probability below which a node isn't listed
STILL_SCALES = (1.0, 0.65, 0.4)


@dataclass(frozen=True, order=True)
class OperatingPoint:
    """How ours is asked to encode: threshold is the least objectness sent, max_bytes what a frame may take."""

    threshold: float
    max_bytes: int | None = None


@dataclass(frozen=True)
class Plan:
    """What to compare. blocks: how many of ours at the first operating point; at the others, the semantic ones.
    answers: thresholds of the bare answer. stills: names of reference codecs. pictures: whether PSNR is wanted."""

    points: tuple[OperatingPoint, ...]
    blocks: int
    answers: tuple[float, ...] = ()
    stills: tuple[str, ...] = ()
    pictures: bool = False


@dataclass(frozen=True)
class Outcome:
    """What one system says of one scene. key: system, then what tells its operating points apart. payload: bytes
    without headers; total: with them. objects: how many are known. psnr: None where no picture was asked for."""

    key: tuple[Any, ...]
    rows: list[Rows]
    payload: int
    total: int
    objects: int
    psnr: float | None = None


class OnceFinder:
    """A finder whose detector runs once per picture: operating points of one scene share its look."""

    def __init__(self, finder: Finder):
        self._finder = finder
        self._image: NDArray[np.uint8] | None = None
        self._seen: Any = None

    def look(self, image: NDArray[np.uint8]) -> Any:
        if self._image is None or not np.array_equal(image, self._image):
            self._seen = self._finder.look(image)
            self._image = image.copy()
        return self._seen

    def objects(self, seen: Any, size: tuple[int, int], threshold: float, most: int) -> Objects:
        return self._finder.objects(seen, size, threshold, most)

    def listed(self, seen: Any, size: tuple[int, int], least: float, most: int) -> Listed:
        return self._finder.listed(seen, size, least, most)


def still_settings(codec: StillCodec) -> list[Setting]:
    """The operating points of a reference codec that are tried on scenes."""
    cuts: tuple[int | None, ...] = codec.cuts[3::2] if codec.progressive else (None,)
    qualities = codec.qualities[:4] if not codec.progressive else codec.qualities[:1]
    return [Setting(scale, quality, cut) for scale in STILL_SCALES for quality in qualities for cut in cuts]


class SceneJudge:
    """Holds a scene model and runs every system of a plan on one picture after another.

    Raises:
        ValueError: the model is not one of scenes, or a codec of the plan is unknown.
    """

    def __init__(self, codec: Codec, plan: Plan):
        model: Any = codec.model
        if not hasattr(model, "finder") or not hasattr(model, "stream"):
            raise ValueError(f"model: {codec.name} finds no objects; a model of scenes, such as road, is wanted")
        model.finder = OnceFinder(model.finder)
        self.codec, self.plan, self._model = codec, plan, model
        self._answer = AnswerCoder(codec) if plan.answers else None
        self._stills = [make(name) for name in plan.stills]
        self._owners = [np.asarray(codec.taxonomy.owner(level)) for level in range(codec.levels)]

    def outcomes(self, picture: Picture) -> list[Outcome]:
        """What every system of the plan says of a picture (H,W,3 uint8 RGB)."""
        found = [Outcome(("uncompressed",), self.dense(picture), 0, 0, 0)]
        for point in self.plan.points:
            found += self._ours(picture, point)
        for threshold in self.plan.answers:
            found += self._answers(picture, threshold)
        for codec in self._stills:
            for setting, sent in send(codec, picture, still_settings(codec)):
                error = psnr(sent.picture, picture) if self.plan.pictures else None
                rows = self.dense(sent.picture)
                found.append(Outcome((codec.name, setting), rows, sent.payload_bytes, sent.total_bytes, 0, error))
        return found

    def dense(self, picture: Picture) -> list[Rows]:
        """The detector's own list with nothing coded: every node of every object with its share of the posterior."""
        size = (picture.shape[1], picture.shape[0])
        finder: Finder = self._model.finder
        listed = finder.listed(finder.look(picture), size, DENSE_THRESHOLD, MOST_PER_NODE)
        result = []
        for owner in self._owners:
            chances = np.zeros((len(listed.boxes), int(owner.max()) + 1))
            np.add.at(chances.T, owner, listed.chances.T)
            which, nodes = np.nonzero(chances >= LEAST_CHANCE)
            shown = np.minimum(chances[which, nodes], 1.0)
            rows = np.concatenate([nodes[:, None], shown[:, None], listed.boxes[which]], axis=1)
            result.append(rows.astype(np.float32))
        return result

    def _ours(self, picture: Picture, point: OperatingPoint) -> list[Outcome]:
        """Every prefix of ours; one that the budget left out says and costs what the one before did."""
        codec, size = self.codec, (picture.shape[1], picture.shape[0])
        decoder = codec.decoder(size)
        first = point == self.plan.points[0]
        count = self.plan.blocks if first else codec.semantic_blocks
        blocks = codec.encode(picture, blocks=count, threshold=point.threshold, max_bytes=point.max_bytes)
        found: list[Outcome] = []
        for block in blocks:
            reading = decoder.push(block)
            assert reading is not None
            painted = decoder.picture(block.frame) if self.plan.pictures and first else None
            found.append(
                Outcome(
                    ("semhier", point, block.index),
                    rows_of(reading.detections, codec.levels),
                    reading.payload_bytes,
                    len(Packet.pack(blocks[: block.index + 1])),
                    len(reading.detections),
                    None if painted is None else psnr(painted, picture),
                )
            )
        while len(found) < count:
            last = found[-1]
            key = ("semhier", point, len(found))
            found.append(Outcome(key, last.rows, last.payload, last.total, last.objects, last.psnr))
        return found

    def _answers(self, picture: Picture, threshold: float) -> list[Outcome]:
        """The encoder's own list, named down to each level; each depth is a message of its own."""
        assert self._answer is not None
        codec, size = self.codec, (picture.shape[1], picture.shape[0])
        blocks = [block.data for block in codec.encode(picture, blocks=codec.levels, threshold=threshold)]
        found = []
        for depth in range(1, codec.levels + 1):
            data = self._answer.encode(blocks[:depth])
            detections = self._answer.read(data, size, levels=min(depth, len(blocks)))
            rows = rows_of(detections, codec.levels)
            found.append(Outcome(("answer", threshold, depth - 1), rows, len(data), len(data), len(detections)))
        return found


def psnr(one: Picture, other: Picture) -> float:
    """Peak signal to noise ratio in dB, at most 60."""
    error = float(np.mean((one.astype(np.float32) - other) ** 2))
    return float(10 * np.log10(255**2 / max(error, 255**2 / 1e6)))


def choose_points(threshold: float, thresholds: Sequence[float], budgets: Sequence[int]) -> tuple[OperatingPoint, ...]:
    """The operating points: the model's own threshold or those given, and each budget at the lowest of them."""
    chosen = [OperatingPoint(value) for value in (thresholds or [threshold])]
    least = min(point.threshold for point in chosen)
    return tuple(dict.fromkeys([*chosen, *(OperatingPoint(least, budget) for budget in budgets)]))
