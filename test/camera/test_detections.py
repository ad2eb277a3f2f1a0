"""Objects that a detector outside has found become a camera's blocks, with or without pictures."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from semhier_ros import Codec
from semhier_ros.camera.detections import MOST_BOXES, DetectionMaker, PicturesByStamp, Sighting

SIZE = (640, 480)
BOXES = np.array([[320, 200, 380, 390], [60, 220, 260, 330]], np.float32)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec.load("coco80", "cpu", threads=1)


class Heard(Counter[str]):
    """Counts what a maker reports, and keeps the last words."""

    words = ""

    def __call__(self, kind: str, text: str) -> None:
        self[kind] += 1
        self.words = text


def sighting(*classes: str, size: tuple[int, int] | None = SIZE, score: float = 0.8) -> Sighting:
    count = len(classes)
    return Sighting(size, np.resize(BOXES, (count, 4)), classes, np.full(count, score, np.float32))


def read(codec: Codec, maker: DetectionMaker, source: Sighting, stamp_ns: int = 1) -> list[str]:
    """The leaves that a receiver reads."""
    opened = maker.open(source, 7, stamp_ns, None)
    decoder = codec.decoder(opened.size)
    reading = None
    for block in opened.blocks:
        assert block.frame == 7
        reading = decoder.push(block)
    assert reading is not None
    return sorted(item.names[-1] for item in reading.detections)


def test_names_and_numbers_become_leaves_and_unknown_ones_are_counted(codec: Codec) -> None:
    heard = Heard()
    maker = DetectionMaker(codec, heard)
    assert read(codec, maker, sighting("person", "2")) == ["car", "person"]
    assert read(codec, maker, sighting("Traffic_Light", "unicorn")) == ["traffic light"]
    assert heard == Counter(unknown_classes=1)
    assert "'unicorn' of the detections is no leaf of model coco80's tree" in heard.words
    assert read(codec, maker, sighting()) == []


def test_numbers_that_no_detector_says_are_left_out(codec: Codec) -> None:
    heard = Heard()
    maker = DetectionMaker(codec, heard)
    bad = BOXES.copy()
    bad[1, 2] = np.inf
    source = Sighting(SIZE, bad, ("person", "car"), np.array([np.nan, 0.9], np.float32))
    assert read(codec, maker, source) == []
    many = MOST_BOXES + 500
    crowd = Sighting(SIZE, np.resize(BOXES, (many, 4)), ("car",) * many, np.full(many, 0.5, np.float32))
    assert 1 <= len(read(codec, maker, crowd)) <= 63
    assert heard == Counter(boxes_left_out=1)


def test_a_picture_of_unknown_size_is_told(codec: Codec) -> None:
    with pytest.raises(ValueError, match="size is not known; publish camera_info"):
        DetectionMaker(codec, Heard()).open(sighting("car", size=None), 0, 1, None)


def test_a_model_that_finds_objects_by_itself_takes_no_detections() -> None:
    with pytest.raises(ValueError, match="model road finds objects by itself"):
        DetectionMaker(Codec.load("road", "cpu", threads=1), Heard())


def test_pictures_are_found_by_their_stamp_and_no_other(codec: Codec) -> None:
    heard, pictures = Heard(), PicturesByStamp(most=3)
    maker = DetectionMaker(codec, heard, pictures)
    for stamp in range(5):
        pictures.put(stamp, np.full((480, 640, 3), stamp, np.uint8))
    assert pictures.take(0) is None  # three are kept
    assert pictures.take(3)[0, 0, 0] == 3
    assert pictures.take(2) is None  # older than one that was taken
    assert read(codec, maker, sighting("car", size=None), stamp_ns=4) == ["car"]
    assert read(codec, maker, sighting("car"), stamp_ns=9) == ["car"]
    assert heard == Counter(detections_without_picture=1)
    pictures.put(10, np.zeros((48, 64, 3), np.uint8))
    assert read(codec, maker, sighting("car"), stamp_ns=10) == ["car"]
    assert heard["pictures_of_another_size"] == 1
