"""Files that are either whole or not there: a full disk or an interrupt leaves the old one, or none."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says when a disk, a quota or a file's largest size is reached."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives the path to write to, of the same name, in a folder of its own beside `path`; it takes the place of `path`
    when the block ends well.

    May be a folder. Of a link, what it points to is replaced and the link stays. Nothing else beside `path` is touched,
    whatever its name. Raises what the block raises; an OSError without a file's name gets that of `path`.
    """
    place = Path(os.path.realpath(path))
    try:
        folder = Path(mkdtemp(prefix=f".{place.name}.", suffix=".part", dir=place.parent))
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), str(path)) from error
    try:
        yield folder / place.name
        _exchange(folder / place.name, place, folder / f"{place.name}.old")
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """`replacing` of a folder, which is there and empty. What the old one has and the new one lacks when the block ends
    comes along."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as folder:
        folder.mkdir()
        yield folder
        for old in path.iterdir() if path.is_dir() else ():
            new = folder / old.name
            if new.exists():
                continue
            if old.is_dir() and not old.is_symlink():
                shutil.copytree(old, new, symlinks=True)
            else:
                shutil.copy2(old, new, follow_symlinks=False)


def _exchange(new: Path, place: Path, old: Path) -> None:
    """Puts `new` in the place of what is at `place`. A folder there goes to `old` first, and comes back where the new
    one cannot be put."""
    if not place.is_dir():
        new.replace(place)
        return
    place.replace(old)
    try:
        new.replace(place)
    except OSError:
        old.replace(place)
        raise


def write_whole(path: Path, text: str) -> None:
    """Writes `text` (UTF-8) to `path`. Bytes of file names that are no UTF-8, or that Python took for none in a locale
    without it, come out as what they are, or as U+FFFD. Raises OSError with the path's name; what was there before then
    stays."""
    with replacing(path) as part:
        part.write_bytes(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").encode("utf-8"))
