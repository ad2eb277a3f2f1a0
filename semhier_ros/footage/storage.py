"""The files of a bag, MCAP or SQLite3, message by message in the order of writing, whatever state they are in.

A file that was cut off in the middle of a recording, has no index at its end or a damaged chunk gives what can be read
before and after; `problems` says what could not. MCAP's chunks that hold no wanted channel are skipped where the index
says so, so that a camera among many gigabytes of other topics is found without reading those.
"""

from __future__ import annotations

import io
import shutil
import sqlite3
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import lz4.frame
import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.reader import SeekingReader
from mcap.records import Channel as ChannelRecord
from mcap.records import Chunk, ChunkIndex, DataEnd, McapRecord, Message, Schema
from mcap.stream_reader import MAGIC_SIZE, StreamReader, read_magic

MOST_RECORD = 256 << 20
"""A record that claims to be larger than this is taken as damage."""
SQLITE_LOGS = ("-wal", "-journal")
ZSTD = b"\x28\xb5\x2f\xfd"
"""With which a zstd frame begins; a message in CDR begins with a 0."""
_DAMAGE = (McapError, struct.error, ValueError, OSError, RuntimeError, zstandard.ZstdError)
"""What damaged bytes may raise in the libraries that read them."""


class BagDamage(ValueError):
    """A part of a file that cannot be read."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A topic of a bag: `kind` is its message type, `encoding` that of its messages, `qos` the qualities of service
    that its writers offered, as rosbag2 writes them (YAML; empty: not said)."""

    number: int
    topic: str
    kind: str
    encoding: str
    qos: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message lies: `offset` of its chunk (or of itself) in the file, `within` the chunk (-1: no chunk)."""

    offset: int
    within: int


Wants = Callable[[Channel], bool]
Found = tuple[Channel, int, Place, bytes]
"""Channel, log time in ns, place and data of a message."""


class McapFile:
    """One .mcap file. `wants(channel)` chooses what `messages` gives. Raises BagDamage when it is no MCAP file."""

    def __init__(self, path: Path) -> None:
        self.path, self.problems, self.channels = path, list[str](), dict[int, Channel]()
        self._schemas: dict[int, str] = {}
        self._held: tuple[int, bytes] = (-1, b"")
        self._cut = -1  # where the chunk begins that the file's end cuts off
        self.closing = ExitStack()
        self._file = self.closing.enter_context(path.open("rb"))
        try:
            read_magic(ReadDataStream(self._file))
        except _DAMAGE as error:
            self.close()
            raise BagDamage(f"{path}: no MCAP file (it does not begin with the magic bytes)") from error
        self._chunks = self._indexed()

    def close(self) -> None:
        """Lets go of the file."""
        self.closing.close()

    def messages(self, wants: Wants) -> Iterator[Found]:
        """Every message of the wanted channels, in file order."""
        records = StreamReader(self._file, skip_magic=True, emit_chunks=True, record_size_limit=MOST_RECORD).records
        position = MAGIC_SIZE
        while True:
            index = self._chunks.get(position)
            if index is not None and self._unwanted(index, wants):
                position += index.chunk_length + index.message_index_length
                continue
            self._file.seek(position)  # whoever asked for a message in between moved it
            try:
                record = next(records)
            except (*_DAMAGE, StopIteration):
                self._note("the file ends before its end record or is damaged there: the recording was cut off")
                yield from self._cut_chunk(position, wants)
                return
            after = self._file.tell()
            if isinstance(record, DataEnd):
                return
            if isinstance(record, Chunk):
                yield from self._chunk(position, record, wants)
            elif (found := self._message(record, Place(position, -1), wants)) is not None:
                yield found
            position = after if index is None else position + index.chunk_length + index.message_index_length

    def at(self, place: Place) -> bytes:
        """The data of the message at `place`. Raises BagDamage when it is not there any more."""
        try:
            self._file.seek(place.offset)
            if place.within < 0:
                return _record(ReadDataStream(self._file)).data  # type: ignore[union-attr]
            if self._held[0] != place.offset:
                chunk = _record(ReadDataStream(self._file))
                assert isinstance(chunk, Chunk)
                self._held = (place.offset, _unpacked(chunk, place.offset != self._cut))
            stream = io.BytesIO(self._held[1])
            stream.seek(place.within)
            return _record(ReadDataStream(stream)).data  # type: ignore[union-attr]
        except (*_DAMAGE, AttributeError, AssertionError) as error:
            raise BagDamage(f"{self.path}: no message at byte {place.offset}") from error

    def _note(self, text: str) -> None:
        if text not in self.problems and len(self.problems) < 20:
            self.problems.append(text)

    def _indexed(self) -> dict[int, ChunkIndex]:
        """The indexes of chunks by where those begin, and the channels, of a file that ends with a summary."""
        try:
            summary = SeekingReader(self._file, record_size_limit=MOST_RECORD).get_summary()
        except _DAMAGE:
            return {}
        for schema in summary.schemas.values() if summary else ():
            self._message(schema, Place(0, 0), bool)
        for channel in summary.channels.values() if summary else ():
            self._message(channel, Place(0, 0), bool)
        return {index.chunk_start_offset: index for index in (summary.chunk_indexes if summary else ())}

    def _unwanted(self, index: ChunkIndex, wants: Wants) -> bool:
        """Whether all channels of a chunk are known and none is wanted."""
        held = [self.channels.get(number) for number in index.message_index_offsets]
        return bool(held) and all(channel is not None and not wants(channel) for channel in held)

    def _cut_chunk(self, position: int, wants: Wants) -> Iterator[Found]:
        """What the chunk at the end of a file that was cut off still holds."""
        self._file.seek(position)
        try:
            chunk = _record(ReadDataStream(self._file))
        except _DAMAGE:
            return
        if isinstance(chunk, Chunk):
            self._cut = position
            yield from self._chunk(position, chunk, wants)

    def _chunk(self, position: int, chunk: Chunk, wants: Wants) -> Iterator[Found]:
        try:
            records = _unpacked(chunk, position != self._cut)
        except _DAMAGE as error:
            self._note(f"byte {position}: a chunk that cannot be unpacked ({chunk.compression or 'plain'}: {error})")
            return
        self._held = (position, records)
        stream = ReadDataStream(io.BytesIO(records))
        while stream.count < len(records):
            place = Place(position, stream.count)
            try:
                found = self._message(_record(stream), place, wants)
            except _DAMAGE:
                self._note(f"byte {position}: a record reaches beyond its chunk")
                return
            if found is not None:
                yield found

    def _message(self, record: McapRecord | None, place: Place, wants: Wants) -> Found | None:
        """The message in a record, if it is one and wanted; schemas and channels are remembered."""
        if isinstance(record, Schema):
            self._schemas[record.id] = record.name
        elif isinstance(record, ChannelRecord):
            kind = self._schemas.get(record.schema_id, "")
            qos = record.metadata.get("offered_qos_profiles", "")
            self.channels[record.id] = Channel(record.id, record.topic, kind, record.message_encoding, qos)
        elif isinstance(record, Message):
            channel = self.channels.get(record.channel_id)
            if channel is not None and wants(channel):
                return channel, record.log_time, place, record.data
        return None


_READERS = {Opcode.SCHEMA: Schema.read, Opcode.CHANNEL: ChannelRecord.read, Opcode.CHUNK: Chunk.read}


def _record(stream: ReadDataStream) -> McapRecord | None:
    """The next record if it is a chunk, or one of those that chunks hold."""
    opcode, length = stream.read1(), stream.read8()
    if length > MOST_RECORD:
        raise BagDamage(f"a record that claims to hold {length} bytes")
    begin = stream.count
    if opcode == Opcode.MESSAGE:
        record: McapRecord | None = Message.read(stream, length)
        if stream.count - begin < length:
            raise BagDamage("a message that is cut off")
        return record
    if opcode in _READERS:
        record = _READERS[Opcode(opcode)](stream)
        return record if isinstance(record, Chunk) else (stream.read(length + begin - stream.count), record)[1]
    stream.read(length)
    return None


def _unpacked(chunk: Chunk, whole: bool) -> bytes:
    """The records in a chunk; of one that is not `whole`, as far as it goes."""
    if chunk.uncompressed_size > MOST_RECORD:
        raise BagDamage(f"a chunk that claims to hold {chunk.uncompressed_size} bytes")
    if chunk.compression == "lz4":
        records = bytes(lz4.frame.LZ4FrameDecompressor().decompress(chunk.data))
    elif chunk.compression == "zstd":
        records = zstandard.ZstdDecompressor().decompressobj().decompress(chunk.data)
    elif chunk.compression == "":
        records = chunk.data
    else:
        raise BagDamage(f"compression {chunk.compression!r}, one of none, lz4, zstd expected")
    if whole and chunk.uncompressed_crc and zlib.crc32(records) != chunk.uncompressed_crc:
        raise BagDamage("its checksum does not fit")
    return records


class SqliteFile:
    """One .db3 file of rosbag2's older storage, with the interface of `McapFile`. A database that was cut off gives
    what its intact pages hold. Raises BagDamage when it is no such file."""

    def __init__(self, path: Path) -> None:
        self.path, self.problems = path, list[str]()
        self.closing = ExitStack()
        try:
            self._file = sqlite3.connect(f"{self._with_its_log(path).as_uri()}?mode=ro&immutable=1", uri=True)
            self.closing.enter_context(closing(self._file))
            columns = {str(row[1]) for row in self._file.execute("PRAGMA table_info(topics)")}
            qos = "offered_qos_profiles" if "offered_qos_profiles" in columns else "''"
            rows = self._file.execute(f"SELECT id, name, type, serialization_format, {qos} FROM topics").fetchall()
        except sqlite3.Error as error:
            self.close()
            raise BagDamage(f"{path}: no SQLite bag that can be read ({error})") from error
        self.channels = {int(row[0]): Channel(int(row[0]), *(str(part or "") for part in row[1:])) for row in rows}

    def _with_its_log(self, path: Path) -> Path:
        """The database to open. A recorder that was killed, or still runs, leaves rows in a log beside it (`-wal`), or
        pages as they were before a change that it did not finish (`-journal`): then it is a copy that SQLite itself has
        put in order, so that nothing is written beside the user's file."""
        logs = [log for end in SQLITE_LOGS if (log := path.with_name(path.name + end)).is_file() and log.stat().st_size]
        if not logs:
            return path.resolve()
        folder = self.closing.enter_context(TemporaryDirectory(prefix="semhier_ros-bag-"))
        copied = Path(folder) / path.name
        shutil.copyfile(path, copied)
        for log in logs:
            shutil.copyfile(log, copied.with_name(log.name))
        with closing(sqlite3.connect(copied)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()  # plays back a journal
        self.problems.append("the recorder did not close it; the rows in its log are read too")
        return copied

    def close(self) -> None:
        """Lets go of the file."""
        self.closing.close()

    def messages(self, wants: Wants) -> Iterator[Found]:
        """Every message of the wanted channels, in file order."""
        wanted = [number for number, channel in self.channels.items() if wants(channel)]
        after, marks = 0, ",".join("?" * len(wanted))
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


class UnpackedMessages:
    """A file of which rosbag2 may have compressed the messages one by one (`--compression-mode message`), with the
    interface of `McapFile`. Such a message begins as no other does, so that it is known without metadata.yaml, which a
    killed recorder leaves out and a file that is named alone does not have."""

    def __init__(self, inner: McapFile | SqliteFile) -> None:
        self._inner, self.path, self.problems, self.channels = inner, inner.path, inner.problems, inner.channels
        self.close = inner.close

    def messages(self, wants: Wants) -> Iterator[Found]:
        """Every message of the wanted channels, in file order; one that cannot be unpacked is noted."""
        for channel, time, place, data in self._inner.messages(wants):
            try:
                yield channel, time, place, _unpacked_message(data)
            except BagDamage as error:
                if len(self.problems) < 20:
                    self.problems.append(f"{channel.topic}: a message that cannot be unpacked ({error})")

    def at(self, place: Place) -> bytes:
        """The data of the message at `place`. Raises BagDamage when it is not there any more."""
        return _unpacked_message(self._inner.at(place))


def _unpacked_message(data: bytes) -> bytes:
    if not data.startswith(ZSTD):
        return data
    try:
        if zstandard.frame_content_size(data) > MOST_RECORD:
            raise BagDamage(f"it claims to hold over {MOST_RECORD} bytes")
        unpacker = zstandard.ZstdDecompressor(max_window_size=MOST_RECORD)
        return bytes(unpacker.decompress(data, max_output_size=MOST_RECORD))
    except zstandard.ZstdError as error:
        raise BagDamage(str(error)) from error


BagFile = McapFile | SqliteFile | UnpackedMessages


def open_file(path: Path) -> BagFile:
    """A storage file of a bag by its name's ending, compressed or not. Raises BagDamage when it is none."""
    if path.suffix == ".zstd":
        return UnpackedMessages(_open_packed(path))
    return UnpackedMessages(SqliteFile(path) if path.suffix == ".db3" else McapFile(path))


def _open_packed(path: Path) -> McapFile | SqliteFile:
    """A file that rosbag2 compressed as a whole (`--compression-mode file`), unpacked to a temporary folder for as long
    as it is open. Raises BagDamage when it cannot be unpacked."""
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="semhier_ros-bag-"))
        plain = Path(folder) / path.stem
        try:
            with path.open("rb") as source, plain.open("wb") as target:
                zstandard.ZstdDecompressor().copy_stream(source, target)
            inner = SqliteFile(plain) if plain.suffix == ".db3" else McapFile(plain)
        except (zstandard.ZstdError, BagDamage) as error:
            raise BagDamage(f"{path}: cannot be unpacked ({error})") from error
        inner.path = path
        inner.closing.push(stack.pop_all())
    return inner
