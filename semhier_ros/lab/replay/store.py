"""What was computed once and need not be again: encoded frames, readings and detections, known by what they came from.

One SQLite file that several processes may use at once; values are MessagePack, so that reading a stranger's file runs
nothing, and are asked for by their type. A damaged or unwritable file costs only time.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

CACHE_FILE = "replay.sqlite"
HELD = 50_000
"""Entries that stay in memory."""


def default_folder() -> Path:
    """`$XDG_CACHE_HOME/semhier_ros`, else `~/.cache/semhier_ros`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "semhier_ros"


def digest(*parts: object) -> str:
    """A short name for the values `parts` (32 hex digits), the same on every machine."""
    text = "\0".join(part if isinstance(part, str) else repr(part) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Store:
    """Key-value memory in `path` (None: only in this process). Keys are (kind, key) of text; values are
    what msgspec knows: numbers, text, bytes, what holds them, and dataclasses of them."""

    def __init__(self, path: Path | None = None) -> None:
        self._held: dict[tuple[str, str], Any] = {}
        self._file: sqlite3.Connection | None = None
        self.problem = ""
        self._path = path
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, timeout=30.0, isolation_level=None)
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=OFF")
            self._file.execute("DROP TABLE IF EXISTS packed")  # of caches whose readings lack what senders said
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS told (kind TEXT, key TEXT, value BLOB, PRIMARY KEY (kind, key))"
                " WITHOUT ROWID"
            )
        except (sqlite3.Error, OSError) as error:
            self._lose(error)

    def get(self, kind: str, key: str, type: Any = Any) -> Any:
        """The value of (kind, key), of that type; None when there is none."""
        found = self._held.get((kind, key))
        if found is not None or self._file is None:
            return found
        try:
            row = self._file.execute("SELECT value FROM told WHERE kind = ? AND key = ?", (kind, key)).fetchone()
        except sqlite3.Error as error:
            self._lose(error)
            return None
        if row is None:
            return None
        try:
            value = msgspec.msgpack.decode(row[0], type=type)
        except (msgspec.MsgspecError, TypeError):
            return None
        self._hold(kind, key, value)
        return value

    def put(self, kind: str, key: str, value: Any) -> None:
        """Keeps `value`."""
        self._hold(kind, key, value)
        row = (kind, key, msgspec.msgpack.encode(value))
        try:
            if self._file is not None:
                self._file.execute("INSERT OR REPLACE INTO told VALUES (?, ?, ?)", row)
        except sqlite3.Error as error:
            self._lose(error)

    def made(self, kind: str, key: str, make: Callable[[], Any], type: Any = Any) -> Any:
        """The value of (kind, key), of that type, made and kept if there is none."""
        value = self.get(kind, key, type)
        if value is None:
            value = make()
            self.put(kind, key, value)
        return value

    def close(self) -> None:
        """Lets go of the file; a second call does nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _hold(self, kind: str, key: str, value: Any) -> None:
        if len(self._held) >= HELD:
            for old in list(self._held)[: HELD // 4]:
                del self._held[old]
        self._held[kind, key] = value

    def _lose(self, error: Exception) -> None:
        self.problem = f"the cache {self._path} is not used: {error}"
        with suppress(sqlite3.Error):
            self.close()
        self._file = None
