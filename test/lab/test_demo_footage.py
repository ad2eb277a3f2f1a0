"""What the demo's camera sees when whole images are named: photos that move slowly, the same every time."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semhier_ros.codec.reading import Detection
from semhier_ros.footage import slideshow
from semhier_ros.footage.slideshow import Photo, Slideshow, installed_photos
from semhier_ros.footage.video import FootageError, VideoCamera
from semhier_ros.lab.demo import judged_rate
from semhier_ros.lab.replay.base import Answer
from semhier_ros.lab.scoring.streaming import Matching, World


def photos(*shapes: tuple[int, int]) -> list[np.ndarray]:
    """Smooth pictures of these heights and widths, each of a colour of its own."""
    found = []
    for number, (height, width) in enumerate(shapes):
        y, x = np.mgrid[:height, :width]
        shade = np.stack([x * 200 // width, y * 200 // height, np.full_like(x, 80 * number % 256)], axis=2)
        found.append(shade.astype(np.uint8))
    return found


def test_photos_follow_each_other_and_move_slowly() -> None:
    show = Slideshow(photos((300, 400), (50, 900), (900, 60)), 12.5, 6.0, each=1.0, size=(120, 90))
    assert len(show) == 75
    assert show.times_ns == sorted(set(show.times_ns))
    assert {show.image(number).shape for number in range(75)} == {(90, 120, 3)}
    for seconds in (0.1, 1.5, 2.9):
        image = show.at(seconds).astype(int)
        assert abs(int(np.median(image[..., 2])) - 80 * int(seconds)) <= 1, "the photo whose turn it is"
        assert 0 < np.abs(show.at(seconds + 0.04) - image).mean() < 4, "it moves, slowly"
        np.testing.assert_array_equal(show.at(seconds + 3.0), image)


def test_what_is_seen_again_has_the_same_key() -> None:
    show = Slideshow(photos((60, 80), (60, 80)), 4.0, 2.0, each=0.5, size=(80, 60))
    assert [show.times_ns[number] for number in range(8)] == [250_000_000 * number for number in range(8)]
    assert show.key(0) == show.key(4) != show.key(1)
    np.testing.assert_array_equal(show.image(1), show.image(5))
    other = Slideshow(photos((60, 80), (50, 80)), 4.0, 2.0, each=0.5, size=(80, 60))
    assert other.key(0) != show.key(0)


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("fps", [2.0, 4.0, 5.0, 8.0, 10.0])
def test_readings_are_judged_everywhere_between_two_frames(tmp_path: Path, fps: float, short: bool) -> None:
    path = tmp_path / "street.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (16, 16))
    for _ in range(100):
        writer.write(np.zeros((16, 16, 3), np.uint8))
    writer.release()
    seen = np.array(VideoCamera(path, seconds=4.0, rate=fps, length=4.0).times_ns)
    judged = np.array(VideoCamera(path, seconds=4.0, rate=judged_rate(fps, short), length=4.0).times_ns)
    behind = (judged - seen[np.searchsorted(seen, judged, side="right") - 1]) * fps / 1e9
    assert len(judged) >= len(seen)
    assert len(np.unique(behind.round(3))) >= 3
    assert 0.3 <= behind.mean() <= 0.6, "frames' own instants would be 0"


def test_a_video_is_repeated_until_its_length_is_full(tmp_path: Path) -> None:
    path = tmp_path / "street.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for number in range(10):
        writer.write(np.full((48, 64, 3), 20 * number, np.uint8))
    writer.release()
    camera = VideoCamera(path, seconds=0.8, rate=5.0, length=2.0)
    assert camera.times_ns == [200_000_000 * number for number in range(10)]
    assert [round(float(camera.image(number).mean()), -1) for number in range(6)] == [0, 40, 80, 120, 0, 40]
    assert camera.key(1) == camera.key(5) != camera.key(2)


def test_without_any_photo_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slideshow, "PHOTOS", (Photo("no_such_package", "a.png"), Photo("numpy", "no/such.png")))
    with pytest.raises(FootageError, match="pip install --no-deps scikit-image"):
        installed_photos()


def named(*path: int) -> tuple[Detection, ...]:
    """A whole image's reading."""
    return (Detection(0, (0, 0, 9, 9), path, ("x",) * len(path), (0.5,) * len(path)),)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20))
def test_the_share_of_right_names(pairs: list[tuple[int, int]]) -> None:
    answers = [named(0, answer) for answer, _ in pairs]
    truths = [named(0, truth) for _, truth in pairs]

    def share(found: list[tuple[Detection, ...]], level: int) -> float | None:
        return Matching(named=True).paired(list(zip(found, truths, strict=True)), level).value()

    assert share(answers, 0) == 1
    assert share(answers, 1) == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))
    assert share(answers, 2) is None
    assert share([()] * len(pairs), 1) == 0
    assert share([named(0)] * len(pairs), 1) == 0, "not known down to that level"


def test_an_old_name_is_wrong_once_the_photo_has_changed() -> None:
    world = World(np.arange(10.0), [named(0, now // 5) for now in range(10)], "agreement")

    def shares(delay: float) -> list[float | None]:
        seen = [
            Answer(0, now, now * 10**9, now, now + delay, 1, 1, truth, "") for now, truth in enumerate(world.truths)
        ]
        return [Matching(named=True).matches([world], [seen], level).value() for level in range(2)]

    assert shares(0) == [1.0, 1.0]
    assert shares(2) == [pytest.approx(0.8), pytest.approx(0.6)]
