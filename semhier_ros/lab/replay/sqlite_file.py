"""SQLite3 bags (rosbag2's older storage), message by message in the order in which they were written.

A database that was cut off gives what its intact pages hold; `problems` says what could not be read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from semhier_ros.lab.replay.mcap_file import BagDamage, Channel, Place


class SqliteFile:
    """One .db3 file, with the interface of `McapFile`. Raises BagDamage when it is no such file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[str] = []
        try:
            self._file = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
            rows = self._file.execute("SELECT id, name, type, serialization_format FROM topics").fetchall()
        except sqlite3.Error as error:
            raise BagDamage(f"{path}: no SQLite bag that can be read ({error})") from error
        self.channels = {int(row[0]): Channel(int(row[0]), str(row[1]), str(row[2]), str(row[3])) for row in rows}

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()

    def messages(self, wants: Callable[[Channel], bool]) -> Iterator[tuple[Channel, int, Place, bytes]]:
        """(channel, log time in ns, place, data) of every message of the wanted channels, in file order."""
        wanted = [number for number, channel in self.channels.items() if wants(channel)]
        if not wanted:
            return
        marks = ",".join("?" * len(wanted))
        after = 0
        try:
            rows = self._file.execute(
                f"SELECT id, topic_id, timestamp, data FROM messages WHERE topic_id IN ({marks}) ORDER BY id", wanted
            )
            for number, topic, time, data in rows:
                after = int(number)
                yield self.channels[int(topic)], int(time), Place(after, -1), bytes(data)
        except sqlite3.Error as error:
            self.problems.append(f"the database is damaged after message {after} ({error}): the recording was cut off")

    def at(self, place: Place) -> bytes:
        """The data of the message at `place`. Raises BagDamage when it cannot be read."""
        try:
            row = self._file.execute("SELECT data FROM messages WHERE id = ?", (place.offset,)).fetchone()
        except sqlite3.Error as error:
            raise BagDamage(f"{self.path}: message {place.offset} cannot be read ({error})") from error
        if row is None:
            raise BagDamage(f"{self.path}: message {place.offset} is gone")
        return bytes(row[0])
