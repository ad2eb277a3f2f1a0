"""What was computed once and need not be again: encoded frames, readings and detections, known by what they came from.

One SQLite file that several processes may use at once. Values are what JSON knows, written by pickle, which reads them
five times faster (and is let make nothing else here); a damaged or unwritable file costs only time.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import pickle
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from semhier_ros.perception.reading import Detection

HELD = 50_000
"""Entries that stay in memory."""


def default_folder() -> Path:
    """`$XDG_CACHE_HOME/semhier_ros`, else `~/.cache/semhier_ros`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "semhier_ros"


class _Plain(pickle.Unpickler):
    """Reads numbers, text, lists and the like; refuses everything that would call code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} in a cache of plain values")


def digest(*parts: object) -> str:
    """A short name for the values `parts` (32 hex digits), the same on every machine."""
    text = "\0".join(part if isinstance(part, str) else repr(part) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Store:
    """Key-value memory in `path` (None: only in this process). Keys are (kind, key) of text; values are JSON."""

    def __init__(self, path: Path | None = None) -> None:
        self._held: dict[tuple[str, str], Any] = {}
        self._file: sqlite3.Connection | None = None
        self._pending: list[tuple[str, str, bytes]] = []
        self.problem = ""
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, timeout=30.0, isolation_level=None)
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=OFF")
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS made (kind TEXT, key TEXT, value TEXT, PRIMARY KEY (kind, key))"
                " WITHOUT ROWID"
            )
        except (sqlite3.Error, OSError) as error:
            self._lose(error)

    def get(self, kind: str, key: str) -> Any:
        """The value of (kind, key), None when there is none."""
        found = self._held.get((kind, key))
        if found is not None or self._file is None:
            return found
        try:
            row = self._file.execute("SELECT value FROM made WHERE kind = ? AND key = ?", (kind, key)).fetchone()
        except sqlite3.Error as error:
            self._lose(error)
            return None
        if row is None:
            return None
        try:
            value = json.loads(row[0]) if isinstance(row[0], str) else _Plain(io.BytesIO(row[0])).load()
        except (ValueError, EOFError, pickle.UnpicklingError):
            return None
        self._hold(kind, key, value)
        return value

    def put(self, kind: str, key: str, value: Any) -> None:
        """Keeps `value`, which JSON must know; it is written with the next `flush` or after some more."""
        self._hold(kind, key, value)
        if self._file is not None:
            self._pending.append((kind, key, pickle.dumps(value, protocol=4)))
            if len(self._pending) >= 64:
                self.flush()

    def made(self, kind: str, key: str, make: Callable[[], Any]) -> Any:
        """The value of (kind, key), made and kept if there is none."""
        value = self.get(kind, key)
        if value is None:
            value = make()
            self.put(kind, key, value)
        return value

    def flush(self) -> None:
        """Writes what was put."""
        if self._file is None or not self._pending:
            return
        try:
            self._file.execute("BEGIN IMMEDIATE")
            self._file.executemany("INSERT OR REPLACE INTO made VALUES (?, ?, ?)", self._pending)
            self._file.execute("COMMIT")
        except sqlite3.Error as error:
            self._lose(error)
        self._pending.clear()

    def close(self) -> None:
        """Writes and lets go of the file; a second call does nothing."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _hold(self, kind: str, key: str, value: Any) -> None:
        if len(self._held) >= HELD:
            for old in list(self._held)[: HELD // 4]:
                del self._held[old]
        self._held[kind, key] = value

    def _lose(self, error: Exception) -> None:
        self.problem = f"the cache is not used: {error}"
        self._file = None


def pack_detections(detections: Sequence[Detection]) -> list[Any]:
    """Detections as JSON knows them; floats survive exactly."""
    return [
        [item.id, list(item.box), list(item.path), list(item.names), list(item.scores), _lists(item)]
        for item in detections
    ]


def _lists(item: Detection) -> list[Any]:
    return [[list(pair) for pair in level] for level in getattr(item, "others", ())]


def unpack_detections(values: Sequence[Any]) -> tuple[Detection, ...]:
    """The way back from `pack_detections`."""
    return tuple(
        Detection(
            number,
            (box[0], box[1], box[2], box[3]),
            tuple(path),
            tuple(names),
            tuple(scores),
            *([tuple(tuple((pair[0], pair[1]) for pair in level) for level in others)] if others else []),
        )
        for number, box, path, names, scores, others in values
    )


def pack_bytes(data: bytes) -> str:
    """Bytes as JSON knows them: a colon and Base64, which Python decodes fifty times faster than Base85."""
    return ":" + base64.b64encode(data).decode()


def unpack_bytes(text: str) -> bytes:
    """The way back from `pack_bytes`, and from the Base85 (no colon is in it) of older caches."""
    return base64.b64decode(text[1:]) if text.startswith(":") else base64.b85decode(text)
