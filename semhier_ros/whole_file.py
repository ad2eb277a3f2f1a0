"""Files that are either whole or not there: a full disk or an interrupt leaves the old one, or none."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says when a disk, a quota or a file's largest size is reached."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives the path to write to, beside `path`; it takes the place of `path` when the block ends well.

    May be a folder. Raises what the block raises; an OSError without a file's name gets that of `path`.
    """
    part = path.with_name(path.name + ".part")
    _remove(part)
    try:
        yield part
        if path.is_dir() and part.is_dir():
            shutil.rmtree(path)
        part.replace(path)
    except OSError as error:
        _remove(part)
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise
    except BaseException:
        _remove(part)
        raise


def write_whole(path: Path, text: str) -> None:
    """Writes `text` (UTF-8) to `path`. Raises OSError with the path's name; what was there before then stays."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def _remove(part: Path) -> None:
    with suppress(OSError):
        shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
