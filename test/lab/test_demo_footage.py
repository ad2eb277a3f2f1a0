"""What the demo's camera sees when whole images are named: photos that move slowly, the same every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semhier_ros.codec.reading import Detection
from semhier_ros.lab import demo_footage
from semhier_ros.lab.agreement import Received, share_named, streaming_precision
from semhier_ros.lab.bag import read_frames
from semhier_ros.lab.demo_footage import Photo, Slideshow, installed_photos
from semhier_ros.lab.footage import FootageError


def photos(*shapes: tuple[int, int]) -> list[np.ndarray]:
    """Smooth pictures of these heights and widths, each of a colour of its own."""
    found = []
    for number, (height, width) in enumerate(shapes):
        y, x = np.mgrid[:height, :width]
        shade = np.stack([x * 200 // width, y * 200 // height, np.full_like(x, 80 * number % 256)], axis=2)
        found.append(shade.astype(np.uint8))
    return found


def test_photos_follow_each_other_and_move_slowly() -> None:
    show = Slideshow(photos((300, 400), (50, 900), (900, 60)), "drawn", seconds_each=1.0, size=(120, 90))
    assert show.loop_ns == 3_000_000_000
    frames = list(show.frames())
    assert len(frames) == show.count
    assert [frame.time_ns for frame in frames] == sorted({frame.time_ns for frame in frames})
    assert {frame.image.shape for frame in frames} == {(90, 120, 3)}
    for seconds in (0.1, 1.5, 2.9):
        image = show.at(seconds).astype(int)
        assert abs(int(np.median(image[..., 2])) - 80 * int(seconds)) <= 1, "the photo whose turn it is"
        assert 0 < np.abs(show.at(seconds + 0.04) - image).mean() < 4, "it moves, slowly"
        np.testing.assert_array_equal(show.at(seconds + 3.0), image)


def test_its_bag_holds_what_was_seen(tmp_path: Path) -> None:
    show = Slideshow(photos((60, 80), (60, 80)), "drawn", seconds_each=0.5, size=(80, 60))
    show.write_bag(tmp_path / "bag", 4.0, 2.0)
    frames = list(read_frames(tmp_path / "bag"))
    assert [frame.stamp_ns - frames[0].stamp_ns for frame in frames] == [250_000_000 * number for number in range(8)]
    for number, frame in enumerate(frames):
        assert np.abs(frame.image.astype(int) - show.at(number / 4)).mean() < 4, "but for JPEG of high quality"


def test_instants_to_show_lie_shortly_after_a_change() -> None:
    show = Slideshow(photos((60, 80), (60, 80)), "drawn", seconds_each=1.5)
    for instant in show.telling([], 8.0):
        assert instant % 1.5 == pytest.approx(0.4)
        assert instant <= 8.0


def test_without_any_photo_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_footage, "PHOTOS", (Photo("no_such_package", "a.png"), Photo("numpy", "no/such.png")))
    with pytest.raises(FootageError, match="pip install --no-deps scikit-image"):
        installed_photos()


def named(*path: int) -> tuple[Detection, ...]:
    """A whole image's reading."""
    return (Detection(0, (0, 0, 9, 9), path, ("x",) * len(path), (0.5,) * len(path)),)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20))
def test_the_share_of_right_names(pairs: list[tuple[int, int]]) -> None:
    answers = [named(0, answer) for answer, _ in pairs]
    truths = [named(0, truth) for _, truth in pairs]
    assert share_named(answers, truths, 0) == 1
    assert share_named(answers, truths, 1) == sum(a == b for a, b in pairs) / len(pairs)
    assert share_named(answers, truths, 2) is None
    assert share_named([()] * len(pairs), truths, 1) == 0
    assert share_named([named(0)] * len(pairs), truths, 1) == 0, "not known down to that level"


def test_an_old_name_is_wrong_once_the_photo_has_changed() -> None:
    world = [(now, named(0, now // 5)) for now in range(10)]
    at_once = [Received(now, now, 1, truth) for now, truth in world]
    late = [Received(now, now + 2, 1, truth) for now, truth in world]
    assert streaming_precision(at_once, world, 2, share_named) == [1.0, 1.0]
    assert streaming_precision(late, world, 2, share_named) == [0.8, 0.6]
    with pytest.raises(ValueError, match="3 instants, 2 expected"):
        share_named([(), (), ()], [(), ()], 0)
