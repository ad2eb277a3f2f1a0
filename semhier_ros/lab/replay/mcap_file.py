"""MCAP files read record by record, in the order in which they were written, whatever state they are in.

A file that was cut off in the middle of a recording, has no index at its end or a damaged chunk gives what can be read
before and after; `problems` says what could not. Chunks that hold no wanted channel are skipped where the message
index after them says so, so that a camera among many gigabytes of other topics is found without reading those.
(The format: mcap.dev/spec.)
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MAGIC = b"\x89MCAP0\r\n"
MOST_RECORD = 256 << 20
"""A record that claims to be larger than this is taken as damage."""
SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, DATA_END, FOOTER = 3, 4, 5, 6, 7, 15, 2
_HEAD = struct.Struct("<BQ")
_MESSAGE = struct.Struct("<HIQQ")


class BagDamage(ValueError):
    """A part of a file that cannot be read."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A topic of a bag: `kind` is its message type, `encoding` that of its messages."""

    number: int
    topic: str
    kind: str
    encoding: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message lies: `offset` of its chunk (or of itself) in the file, `within` the chunk (-1: no chunk)."""

    offset: int
    within: int


class McapFile:
    """One .mcap file. `wants(channel)` chooses what `messages` gives. Raises BagDamage when it is no MCAP file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO = path.open("rb")
        self._size = os.fstat(self._file.fileno()).st_size
        if self._file.read(len(MAGIC)) != MAGIC:
            self._file.close()
            raise BagDamage(f"{path}: no MCAP file (it does not begin with the magic bytes)")
        self.channels: dict[int, Channel] = {}
        self.problems: list[str] = []
        self._schemas: dict[int, str] = {}
        self._held: tuple[int, bytes] = (-1, b"")
        self._cut = -1

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()

    def messages(self, wants: Callable[[Channel], bool]) -> Iterator[tuple[Channel, int, Place, bytes]]:
        """(channel, log time in ns, place, data) of every message of the wanted channels, in file order."""
        position = len(MAGIC)
        while True:
            head = self._read(position, _HEAD.size)
            if len(head) < _HEAD.size:
                self._note("the file ends without an end record: the recording was cut off")
                return
            code, length = _HEAD.unpack(head)
            if code in (DATA_END, FOOTER):
                return
            after = position + _HEAD.size + length
            if length > MOST_RECORD or after > self._size:
                self._note(f"a record at byte {position} reaches beyond the end of the file: the recording was cut off")
                if code == CHUNK and length <= MOST_RECORD:
                    self._cut = position
                    yield from self._chunk(position, self._read(position + _HEAD.size, length), wants)
                return
            if code == CHUNK:
                if self._index_allows(after, wants):
                    yield from self._chunk(position, self._read(position + _HEAD.size, length), wants)
            elif code in (SCHEMA, CHANNEL):
                self._declare(code, self._read(position + _HEAD.size, length))
            elif code == MESSAGE:
                found = self._message(self._read(position + _HEAD.size, length), wants)
                if found is not None:
                    channel, time, data = found
                    yield channel, time, Place(position, -1), data
            position = after

    def at(self, place: Place) -> bytes:
        """The data of the message at `place`. Raises BagDamage when it is not there any more."""
        if place.within < 0:
            _, length = _HEAD.unpack(self._read(place.offset, _HEAD.size))
            return self._read(place.offset + _HEAD.size, length)[_MESSAGE.size :]
        if self._held[0] != place.offset:
            _, length = _HEAD.unpack(self._read(place.offset, _HEAD.size))
            body = self._read(place.offset + _HEAD.size, length)
            self._held = (place.offset, self._unpacked(body, place.offset == self._cut))
        records = self._held[1]
        _, length = _HEAD.unpack_from(records, place.within)
        begin = place.within + _HEAD.size
        return records[begin + _MESSAGE.size : begin + length]

    def _read(self, position: int, length: int) -> bytes:
        self._file.seek(position)
        return self._file.read(length)

    def _note(self, text: str) -> None:
        if text not in self.problems and len(self.problems) < 20:
            self.problems.append(text)

    def _index_allows(self, position: int, wants: Callable[[Channel], bool]) -> bool:
        """Whether the message indexes after a chunk leave it open that it holds something wanted."""
        seen = False
        while True:
            head = self._read(position, _HEAD.size + 2)
            if len(head) < _HEAD.size + 2:
                return True
            code, length = _HEAD.unpack_from(head)
            if code != MESSAGE_INDEX:
                return not seen  # all channels of the chunk are known and none is wanted
            seen = True
            number = int.from_bytes(head[_HEAD.size :], "little")
            channel = self.channels.get(number)
            if channel is None or wants(channel):
                return True
            position += _HEAD.size + length

    def _unpacked(self, body: bytes, cut: bool = False) -> bytes:
        """The records in a chunk's body, of one that was cut off as far as it goes. Raises BagDamage."""
        if len(body) < 36:
            raise BagDamage("a chunk without a header")
        size, crc, name = struct.unpack_from("<QII", body, 16)
        kind = body[32 : 32 + name].decode(errors="replace")
        begin = 32 + name + 8
        packed = body[begin:]
        if size > MOST_RECORD:
            raise BagDamage(f"a chunk that claims to hold {size} bytes")
        try:
            records = _unpack(kind, packed)
        except Exception as error:  # whatever a decompressor raises for damaged bytes
            raise BagDamage(f"a chunk that cannot be unpacked ({kind or 'plain'}: {error})") from error
        if crc and not cut and zlib.crc32(records) != crc:
            raise BagDamage("a chunk whose checksum does not fit")
        return records

    def _chunk(
        self, position: int, body: bytes, wants: Callable[[Channel], bool]
    ) -> Iterator[tuple[Channel, int, Place, bytes]]:
        try:
            records = self._unpacked(body, position == self._cut)
        except BagDamage as error:
            self._note(f"byte {position}: {error}")
            return
        self._held = (position, records)
        within = 0
        while within + _HEAD.size <= len(records):
            code, length = _HEAD.unpack_from(records, within)
            begin = within + _HEAD.size
            if begin + length > len(records):
                self._note(f"byte {position}: a record reaches beyond its chunk")
                return
            if code in (SCHEMA, CHANNEL):
                self._declare(code, records[begin : begin + length])
            elif code == MESSAGE:
                found = self._message(records[begin : begin + length], wants)
                if found is not None:
                    channel, time, data = found
                    yield channel, time, Place(position, within), data
            within = begin + length

    def _message(self, record: bytes, wants: Callable[[Channel], bool]) -> tuple[Channel, int, bytes] | None:
        if len(record) < _MESSAGE.size:
            self._note("a message shorter than its header")
            return None
        number, _, time, _ = _MESSAGE.unpack_from(record)
        channel = self.channels.get(number)
        if channel is None or not wants(channel):
            return None
        return channel, time, record[_MESSAGE.size :]

    def _declare(self, code: int, record: bytes) -> None:
        try:
            number = int.from_bytes(record[:2], "little")
            if code == SCHEMA:
                self._schemas[number] = _text(record, 2)[0]
                return
            schema = int.from_bytes(record[2:4], "little")
            topic, after = _text(record, 4)
            encoding, _ = _text(record, after)
        except (struct.error, UnicodeDecodeError):
            self._note("a channel that cannot be read")
            return
        self.channels[number] = Channel(number, topic, self._schemas.get(schema, ""), encoding)


def _text(record: bytes, position: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<I", record, position)
    end = position + 4 + length
    return record[position + 4 : end].decode(), end


def _unpack(kind: str, packed: bytes) -> bytes:
    """As much as `packed` holds: a frame that ends too early gives what came before."""
    if kind == "":
        return packed
    if kind == "lz4":
        import lz4.frame

        return bytes(lz4.frame.LZ4FrameDecompressor().decompress(packed))
    if kind == "zstd":
        try:
            from compression import zstd  # type: ignore[import-not-found]
        except ImportError:
            from backports import zstd
        return bytes(zstd.ZstdDecompressor().decompress(packed))
    raise ValueError(f"compression {kind!r}, one of none, lz4, zstd expected")
