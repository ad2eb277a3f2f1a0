"""Footage of phones is read as every player shows it, and a film of gigabytes is not read into memory."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from semhier_ros.footage.bags import open_footage
from semhier_ros.footage.video import FootageError, VideoCamera, check_moves, read_picture, read_video

WIDTH, HEIGHT = 96, 64
ONE = 0x10000


def street() -> np.ndarray:
    """BGR, each quarter in a colour of its own."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:32, :48], image[:32, 48:], image[32:, :48] = (220, 40, 40), (40, 220, 40), (40, 40, 220)
    return image


def film(path: Path, matrix: tuple[int, ...]) -> Path:
    """An MP4 of four frames whose track says how players turn it: the nine numbers of its `tkhd` box."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (WIDTH, HEIGHT))  # type: ignore[attr-defined]
    for _ in range(4):
        writer.write(street())
    writer.release()
    data = bytearray(path.read_bytes())
    plain = struct.pack(">9i", ONE, 0, 0, 0, ONE, 0, 0, 0, 0x40000000)
    at = data.index(plain, data.index(b"tkhd"))
    data[at : at + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(data)
    return path


MATRICES = {
    0: (ONE, 0, 0, 0, ONE, 0, 0, 0, 0x40000000),
    90: (0, ONE, 0, -ONE, 0, 0, HEIGHT << 16, 0, 0x40000000),
    180: (-ONE, 0, 0, 0, -ONE, 0, WIDTH << 16, HEIGHT << 16, 0x40000000),
    270: (0, -ONE, 0, ONE, 0, 0, 0, WIDTH << 16, 0x40000000),
}


@pytest.mark.parametrize("degrees", MATRICES)
def test_a_video_is_turned_as_its_track_says(tmp_path: Path, degrees: int) -> None:
    plain = np.stack([frame.image for frame in read_video(film(tmp_path / "plain.mp4", MATRICES[0]))])
    path = film(tmp_path / "turned.mp4", MATRICES[degrees])
    wanted = np.rot90(plain, -degrees // 90, axes=(1, 2))
    assert np.array_equal(np.stack([frame.image for frame in read_video(path)]), wanted)
    camera = VideoCamera(path)
    assert camera.size == wanted.shape[2:0:-1]
    assert np.array_equal(camera.image(2), wanted[2])
    (footage,), _ = open_footage(path)[:2]
    assert footage.size == camera.size


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_exif_says(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "phone.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(street()[..., ::-1]).save(path, exif=exif, quality=100, subsampling=0)
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    found = read_picture(path)
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).max() <= 4


PROGRAM = """
import resource, sys
from pathlib import Path
from semhier_ros.footage.video import VideoCamera, read_video
held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + (512 << 20),) * 2)
path = Path(sys.argv[1])
print(len(list(read_video(path))), len(VideoCamera(path)))
"""
"""Reads a film with 512 MB of memory beside what libraries take."""


def test_a_film_of_gigabytes_is_not_read_into_memory(tmp_path: Path) -> None:
    path = film(tmp_path / "long.mp4", MATRICES[0])
    size, more = path.stat().st_size, 1 << 30
    with path.open("ab") as file:  # a hole in the file: nothing is written to the disk
        file.write(struct.pack(">I4sQ", 1, b"free", more))
        file.truncate(size + more)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout.split() == ["4", "4"], done.stderr


def test_a_picture_given_for_a_film_has_one_frame_alone(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), street())
    with pytest.raises(FootageError, match=r"a\.png: one frame alone"):
        check_moves(VideoCamera(tmp_path / "a.png"))
    check_moves(VideoCamera(film(tmp_path / "a.mp4", MATRICES[0])))


def test_what_is_no_film_is_one_line(tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    folder = tmp_path / "folder.mp4"
    folder.mkdir()
    for path, said in ((empty, "no video frame"), (folder, "no such video file")):
        with pytest.raises(FootageError, match=said) as raised:
            list(read_video(path))
        assert "\n" not in str(raised.value)
