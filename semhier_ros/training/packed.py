"""Arrays that are worked out once and kept on disk, under a key of everything that they depend on.

`NAME.json` says which array is the current one: `NAME-KEY.npy`, KEY being a hash of what it was made of. Files count by
name, size and time of change, as in `make`: a picture that was put right under its old name is decoded anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semhier_ros.whole_file import replacing, write_whole


def fingerprint(parts: Any) -> str:
    """Sixteen hexadecimal digits that change with anything in `parts` (plain values, lists, mappings, paths)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def states(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Name, size in bytes and time of change (ns) of each file; -1 where there is none."""
    found = []
    for file in files:
        try:
            about = file.stat()
        except FileNotFoundError:
            found.append((str(file), -1, -1))
        else:
            found.append((str(file), about.st_size, about.st_mtime_ns))
    return found


class PackedArray:
    """A `.npy` file as a memory map. To another process it travels as its name alone."""

    def __init__(self, path: Path):
        self.path = Path(path).absolute()
        self._array = np.load(self.path, mmap_mode="r", allow_pickle=False)

    def __reduce__(self) -> tuple[type[PackedArray], tuple[Path]]:
        return PackedArray, (self.path,)

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, where: Any) -> NDArray:
        return self._array[where]

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape


def packed(
    folder: Path, name: str, made_of: Mapping[str, Any], make: Callable[[Path], Mapping[str, Any]]
) -> tuple[PackedArray, dict[str, Any]]:
    """The array `name` of `folder` and the notes kept with it; made now unless one of the same `made_of` is there.

    make: writes the array to a path and returns its notes (plain values). What an interrupt leaves is never taken for
    the array; the one that another `made_of` gave is removed once the new one is whole.
    """
    key = fingerprint(made_of)
    index, stored = folder / f"{name}.json", folder / f"{name}-{key}.npy"
    known = _read(index)
    if known.get("key") != key or not stored.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(stored) as part:
            notes = make(part)
        known = {"key": key, "file": stored.name, "notes": dict(notes)}
        write_whole(index, json.dumps(known))
        for old in folder.glob(f"{name}-*.npy"):
            if old != stored:
                old.unlink()
    return PackedArray(stored), known["notes"]


def last_packed(folder: Path, name: str) -> tuple[PackedArray, dict[str, Any]] | None:
    """The array `name` that `packed` left in `folder`, whatever it was made of; None where there is none."""
    known = _read(folder / f"{name}.json")
    stored = folder / str(known.get("file"))
    return (PackedArray(stored), known["notes"]) if known and stored.exists() else None


def _read(index: Path) -> dict[str, Any]:
    try:
        known = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) and "notes" in known else {}
