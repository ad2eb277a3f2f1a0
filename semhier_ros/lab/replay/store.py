"""What was computed once and need not be again: encoded frames, readings and detections, known by what they came from.

One SQLite file that several processes may use at once; values are JSON, so that reading a stranger's file runs nothing.
Detections keep their floats apart, as bytes: JSON alone took five times as long. A damaged or unwritable file costs
only time.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sqlite3
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from semhier_ros.codec.reading import Detection

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
    """Key-value memory in `path` (None: only in this process). Keys are (kind, key) of text; values are JSON."""

    def __init__(self, path: Path | None = None) -> None:
        self._held: dict[tuple[str, str], Any] = {}
        self._file: sqlite3.Connection | None = None
        self._pending: list[tuple[str, str, str]] = []
        self.problem = ""
        self._path = path
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, timeout=30.0, isolation_level=None)
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=OFF")
            self._file.execute("DROP TABLE IF EXISTS made")  # of caches whose values were pickled
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS kept (kind TEXT, key TEXT, value TEXT, PRIMARY KEY (kind, key))"
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
            row = self._file.execute("SELECT value FROM kept WHERE kind = ? AND key = ?", (kind, key)).fetchone()
        except sqlite3.Error as error:
            self._lose(error)
            return None
        if row is None:
            return None
        try:
            value = json.loads(row[0])
        except (TypeError, ValueError):
            return None
        self._hold(kind, key, value)
        return value

    def put(self, kind: str, key: str, value: Any) -> None:
        """Keeps `value`, which JSON must know; it is written with the next `flush` or after some more."""
        self._hold(kind, key, value)
        if self._file is not None:
            self._pending.append((kind, key, json.dumps(value, separators=(",", ":"))))
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
            self._file.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", self._pending)
            self._file.execute("COMMIT")
            self._pending.clear()
        except sqlite3.Error as error:
            self._lose(error)

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
        self.problem = f"the cache {self._path} is not used: {error}"
        self._pending.clear()
        if self._file is not None:
            with suppress(sqlite3.Error):
                self._file.close()  # what was begun and not committed is undone
        self._file = None


def pack_detections(detections: Sequence[Detection]) -> list[Any]:
    """Detections as JSON knows them: [ids, each one's place among the kinds, kinds as (path, names), each one's other
    nodes per level, all floats as bytes]. Floats (box, scores, the others' probabilities) survive exactly."""
    kinds = list(dict.fromkeys((item.path, item.names) for item in detections))
    places = {kind: place for place, kind in enumerate(kinds)}
    floats: list[float] = []
    for item in detections:
        floats += (*item.box, *item.scores, *(share for level in item.others for _, share in level))
    return [
        [item.id for item in detections],
        [places[item.path, item.names] for item in detections],
        kinds,
        [[[node for node, _ in level] for level in item.others] for item in detections],
        pack_bytes(struct.pack(f"<{len(floats)}d", *floats)),
    ]


def unpack_detections(values: Sequence[Any]) -> tuple[Detection, ...]:
    """The way back from `pack_detections`. Other values raise ValueError, TypeError, IndexError, struct.error."""
    numbers, places, packed_kinds, others, packed = values
    kinds = [(tuple(path), tuple(names)) for path, names in packed_kinds]
    raw = unpack_bytes(packed)
    floats = struct.unpack(f"<{len(raw) // 8}d", raw)
    found, at = [], 0
    for number, place, levels in zip(numbers, places, others, strict=True):
        path, names = kinds[place]
        middle = at + 4
        x0, y0, x1, y1 = floats[at:middle]
        at = end = middle + len(path)
        scores = floats[middle:end]
        shares: list[tuple[tuple[int, float], ...]] = []
        for nodes in levels:
            if not nodes:
                shares.append(())
                continue
            end = at + len(nodes)
            shares.append(tuple(zip(nodes, floats[at:end], strict=True)))
            at = end
        found.append(Detection(number, (x0, y0, x1, y1), path, names, scores, tuple(shares)))
    return tuple(found)


def pack_bytes(data: bytes) -> str:
    """Bytes as JSON knows them: Base64, which Python decodes fifty times faster than Base85."""
    return base64.b64encode(data).decode()


def unpack_bytes(text: str) -> bytes:
    """The way back from `pack_bytes`."""
    return base64.b64decode(text)
