"""Blocks and the checked packets that carry them (docs/bitstream.md, "Packet").

A packet is one header (version, flags, first block, stream tag, frame), one or more consecutive blocks of one frame,
and a CRC-32 at its end. Every packet has exactly one encoding: `parse` refuses whatever `to_bytes` would not write.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

from semhier_ros.codec.checksum import check_crc, with_crc

VERSION = 1
HEADER_BYTES = 10
"""Version and flags, first block and count, stream tag, frame (6 bytes) and the CRC-32 at the packet's end (4)."""
STAMP_BYTES = 5
STAMP_MODULUS = 1 << (8 * STAMP_BYTES)
MAX_BLOCKS = 16
MAX_BLOCK_BYTES = 0xFFFF
DELTA_VERSION = 0xFFFD
"""What the stream tag of deltas differs by; another one for each version of what they say (0xFFFF was the first)."""
MAX_VARINT = 0x7FFF
MAX_MOTION_BYTES = 1023
MAX_PACKET_BYTES = HEADER_BYTES + STAMP_BYTES + MAX_BLOCK_BYTES

_FLAG_STAMP = 0x1
_FLAG_PIECE = 0x2
_FLAG_MOTION = 0x4
_FIXED = struct.Struct(">BBHH")


def claimed_index(data: bytes) -> int:
    """The first block that a packet claims to carry, of bytes that nobody has checked; MAX_BLOCKS of too few."""
    return data[1] >> 4 if len(data) >= HEADER_BYTES else MAX_BLOCKS


class PacketError(ValueError):
    """Bytes that are not a valid packet, stream info or block; the message says what is wrong and where."""


class UnknownReference(PacketError):
    """A block refers to a frame that its receiver does not remember, or not so: it joined late, or another sender's
    frame is meant."""


class Doubted(bytes):
    """A packet, or the bytes of a block, that a check of 16 bits is all that vouches for: what they decode to has to be
    what an encoder would have made them of (`codec.entropy`, docs/bitstream.md, "Checks")."""


@dataclass(frozen=True, slots=True)
class Block:
    """The entropy-coded bytes of one step for one frame.

    `stream`: 16-bit tag, the first two bytes of the stream hash. `frame`: 0..65535, wraps. `index`: 0..15, coarse
    first. `data`: 0..65535 bytes. `motion`: of block 0, the frame's motion part (`scene.steering`), 0..1023 bytes, none
    where the sender says nothing of motion. Raises ValueError when a field is out of its range.
    """

    stream: int
    frame: int
    index: int
    data: bytes
    motion: bytes = b""

    def __post_init__(self) -> None:
        _check_range("stream", self.stream, 0xFFFF)
        _check_range("frame", self.frame, 0xFFFF)
        _check_range("index", self.index, MAX_BLOCKS - 1)
        if not isinstance(self.data, bytes):
            raise ValueError(f"data: {type(self.data).__name__}, expected bytes")
        _check_range("len(data)", len(self.data), MAX_BLOCK_BYTES)
        if self.motion:
            _check_range("len(motion)", len(self.motion), MAX_MOTION_BYTES)
            _check_range("index of a block with motion", self.index, 0)

    def without_motion(self) -> Block:
        """The block without what it says of motion."""
        return replace(self, motion=b"") if self.motion else self


@dataclass(frozen=True, slots=True)
class Packet:
    """What one message or datagram carries.

    `blocks`: one or more blocks with consecutive indices, all of `stream` and `frame`. `stamp`: the low 40 bits of the
    frame's stamp in ns, or None. `piece`: (number, count) when the packet carries one piece of a block too large for
    the link; `blocks` then holds one Block whose data are the piece's bytes.
    """

    stream: int
    frame: int
    blocks: tuple[Block, ...]
    stamp: int | None = None
    piece: tuple[int, int] | None = None

    @staticmethod
    def pack(blocks: Sequence[Block], *, stamp_ns: int | None = None) -> bytes:
        """Bytes of one packet with `blocks` (consecutive indices, one stream, one frame).

        `stamp_ns`: the frame's stamp in ns since the epoch; its low 40 bits are sent. Raises ValueError when the blocks
        do not belong together or are too large for one packet (then use `split`).
        """
        if not blocks:
            raise ValueError("blocks: empty, expected 1 to 16 blocks")
        stamp = None if stamp_ns is None else stamp_ns % STAMP_MODULUS
        return _packed(blocks[0].stream, blocks[0].frame, blocks, stamp, None)

    def to_bytes(self) -> bytes:
        """The packet's only encoding; `Packet.parse` of it gives an equal packet. Raises ValueError as `pack` does."""
        _check_range("stream", self.stream, 0xFFFF)
        return _packed(self.stream, self.frame, self.blocks, self.stamp, self.piece)

    @staticmethod
    def parse(data: bytes) -> Packet:
        """The packet that `data` (bytes, bytearray or memoryview) encodes, without trusting a byte of it.

        Time and memory are proportional to len(data), at most 65,550. Raises PacketError, and nothing else, when data
        is no valid packet of this version.
        """
        part: type[bytes] = Doubted if isinstance(data, Doubted) else bytes
        data = bytes(data)
        size = len(data)
        if size < HEADER_BYTES:
            raise PacketError(f"packet: {size} bytes, shorter than its header ({HEADER_BYTES})")
        if size > MAX_PACKET_BYTES:
            raise PacketError(f"packet: {size} bytes, at most {MAX_PACKET_BYTES}")
        lead, span, stream, frame = _FIXED.unpack_from(data)
        if lead >> 4 != VERSION:
            raise PacketError(f"byte 0: packet version {lead >> 4}, this release reads version {VERSION}")
        end = check_crc(data, PacketError)
        flags, first, count = lead & 0xF, span >> 4, (span & 0xF) + 1
        if flags & ~(_FLAG_STAMP | _FLAG_PIECE | _FLAG_MOTION):
            raise PacketError(f"byte 0: unknown flags {flags:#x}")
        if first + count > MAX_BLOCKS:
            raise PacketError(f"byte 1: {count} blocks from index {first}, the last index is {MAX_BLOCKS - 1}")
        position = _FIXED.size
        stamp = piece = None
        if flags & _FLAG_STAMP:
            if position + STAMP_BYTES > end:
                raise PacketError(f"byte {position}: the stamp ends after the packet")
            stamp = int.from_bytes(data[position : position + STAMP_BYTES], "big")
            position += STAMP_BYTES
        if flags & _FLAG_PIECE:
            if count != 1:
                raise PacketError(f"byte 1: {count} blocks in a piece, expected 1")
            number, position = read_varint(data, position, end, "piece number")
            pieces, position = read_varint(data, position, end, "piece count")
            if pieces < 2 or number >= pieces:
                raise PacketError(f"byte {position}: piece {number} of {pieces}")
            if position == end:
                raise PacketError(f"byte {position}: piece {number} of {pieces} is empty")
            piece = (number, pieces)
        moving = 0
        if flags & _FLAG_MOTION:
            if first or piece is not None:
                raise PacketError("byte 0: motion goes with a whole block 0")
            moving, position = read_varint(data, position, end, "length of the motion part")
            if not 1 <= moving <= MAX_MOTION_BYTES:
                raise PacketError(f"byte {position}: motion part of {moving} bytes, 1 to {MAX_MOTION_BYTES} expected")
        lengths = []
        for index in range(first, first + count - 1):
            length, position = read_varint(data, position, end, f"length of block {index}")
            lengths.append(length)
        lengths.append(end - position - moving - sum(lengths))
        if lengths[-1] < 0:
            told = f"block lengths {lengths[:-1]}" + (f" and motion of {moving}" if moving else "")
            raise PacketError(f"byte {position}: {told} exceed the {end - position} bytes left")
        if lengths[-1] > MAX_BLOCK_BYTES:
            raise PacketError(f"byte {position}: block of {lengths[-1]} bytes, at most {MAX_BLOCK_BYTES}")
        motion = data[position : position + moving]
        position += moving
        blocks = []
        for index, length in enumerate(lengths, first):
            beside = b"" if index else motion
            blocks.append(Block(stream, frame, index, part(data[position : position + length]), beside))
            position += length
        return Packet(stream, frame, tuple(blocks), stamp, piece)


def _packed(
    stream: int, frame: int, blocks: Sequence[Block], stamp: int | None, piece: tuple[int, int] | None
) -> bytes:
    """The bytes of a packet; ValueError where its fields do not go together (`blocks` are valid each by itself)."""
    count = len(blocks)
    if not 1 <= count <= MAX_BLOCKS:
        raise ValueError(f"blocks: {count} of them, expected 1 to {MAX_BLOCKS}")
    first = blocks[0].index
    for position, block in enumerate(blocks):
        if block.stream != stream or block.frame != frame:
            raise ValueError(
                f"blocks[{position}]: stream {block.stream:#06x} frame {block.frame}, "
                f"expected stream {stream:#06x} frame {frame} like the packet"
            )
        if block.index != first + position:
            raise ValueError(f"blocks[{position}].index: {block.index}, expected {first + position} (consecutive)")
    motion = blocks[0].motion
    flags = (_FLAG_STAMP if stamp is not None else 0) | (_FLAG_PIECE if piece is not None else 0)
    flags |= _FLAG_MOTION if motion else 0
    parts = [_FIXED.pack(VERSION << 4 | flags, first << 4 | count - 1, stream, frame)]
    if stamp is not None:
        _check_range("stamp", stamp, STAMP_MODULUS - 1)
        parts.append(stamp.to_bytes(STAMP_BYTES, "big"))
    if piece is not None:
        number, pieces = piece
        if count != 1:
            raise ValueError(f"blocks: {count} of them in a piece, expected 1")
        if not 2 <= pieces <= MAX_VARINT or not 0 <= number < pieces:
            raise ValueError(f"piece: {piece}, expected 0 <= number < count and 2 <= count <= {MAX_VARINT}")
        if not blocks[0].data:
            raise ValueError("piece: empty, expected at least 1 byte")
        if motion:
            raise ValueError("motion: of a piece, a whole block expected")
        parts += [varint("piece number", number), varint("piece count", pieces)]
    if motion:
        parts.append(varint("len(motion)", len(motion)))
    if count > 1:
        parts += [varint(f"len(blocks[{i}].data)", len(block.data)) for i, block in enumerate(blocks[:-1])]
    parts += [motion, *(block.data for block in blocks)]
    body = b"".join(parts)
    if len(body) + 4 > MAX_PACKET_BYTES:
        raise ValueError(f"packet: {len(body) + 4} bytes, at most {MAX_PACKET_BYTES}")
    return with_crc(body)


def split(block: Block, limit: int, *, stamp_ns: int | None = None) -> list[bytes]:
    """Packets of at most `limit` bytes that together carry `block`: one whole packet if it fits, if need be without its
    motion, else equal pieces, which carry none. Each of them has the stamp.

    Raises ValueError when `limit` leaves no room for a piece of 1 byte or would need more than 32,767 pieces.
    """
    stamp = None if stamp_ns is None else stamp_ns % STAMP_MODULUS
    overhead = HEADER_BYTES + (0 if stamp is None else STAMP_BYTES)
    beside = len(block.motion) + (len(varint("len(motion)", len(block.motion))) if block.motion else 0)
    if overhead + len(block.data) <= limit:
        fits = overhead + beside + len(block.data) <= limit
        return [Packet.pack([block if fits else block.without_motion()], stamp_ns=stamp_ns)]
    room = limit - overhead - 4
    if room < 1:
        raise ValueError(f"limit: {limit} bytes, at least {overhead + 5} expected")
    count = -(-len(block.data) // room)
    if count > MAX_VARINT:
        raise ValueError(f"limit: {limit} bytes would need {count} pieces, at most {MAX_VARINT}")
    step = -(-len(block.data) // count)
    chunks = [block.data[start : start + step] for start in range(0, len(block.data), step)]
    packets = []
    for number, chunk in enumerate(chunks):
        part = Block(block.stream, block.frame, block.index, chunk)
        packets.append(Packet(block.stream, block.frame, (part,), stamp, (number, len(chunks))).to_bytes())
    return packets


def delta_tag(stream: int) -> int:
    """The stream tag of blocks that refer to what a receiver remembers of that stream, so that whoever remembers
    nothing of it refuses them."""
    return stream ^ DELTA_VERSION


def restore_stamp(low40: int, near_ns: int) -> int:
    """The stamp in ns whose low 40 bits are `low40` and that is nearest to `near_ns` (within 9 minutes of it)."""
    _check_range("low40", low40, STAMP_MODULUS - 1)
    half = STAMP_MODULUS // 2
    return near_ns + (low40 - near_ns + half) % STAMP_MODULUS - half


class PieceAssembler:
    """Puts pieces back together into blocks, in bounded memory whatever arrives.

    At most `max_blocks` unfinished blocks, `max_bytes` bytes and `max_pieces` pieces are kept; beyond that the block
    that waited longest for a piece is given up. `counters`: pieces (seen), complete (blocks handed out), duplicate
    (a piece already held, or of a block already complete), conflict (a piece that contradicts those held: another
    count, stamp or content; the newcomer starts afresh), evicted (blocks given up), oversize (pieces that add up to
    more than a block can hold).
    """

    def __init__(self, *, max_blocks: int = 16, max_bytes: int = 1 << 18, max_pieces: int = 8192) -> None:
        for name, value in (("max_blocks", max_blocks), ("max_bytes", max_bytes), ("max_pieces", max_pieces)):
            if value < 1:
                raise ValueError(f"{name}: {value}, expected at least 1")
        self._max_blocks, self._max_bytes, self._max_pieces = max_blocks, max_bytes, max_pieces
        self._open: dict[tuple[int, int, int], _Pieces] = {}
        self._done: dict[tuple[int, int, int], tuple[int, int | None]] = {}
        self._bytes = 0
        self._pieces = 0
        names = ("pieces", "complete", "duplicate", "conflict", "evicted", "oversize")
        self.counters: dict[str, int] = dict.fromkeys(names, 0)

    def add(self, packet: Packet) -> Block | None:
        """The whole block if `packet` brought its last missing piece, else None. ValueError if it carries no piece."""
        if packet.piece is None:
            raise ValueError("packet.piece: None, expected a packet that carries a piece")
        self.counters["pieces"] += 1
        number, count = packet.piece
        part = packet.blocks[0]
        key = (part.stream, part.frame, part.index)
        if self._done.get(key) == (count, packet.stamp):
            self.counters["duplicate"] += 1
            return None
        held = self._open.pop(key, None)
        if held is not None and (held.count, held.stamp) != (count, packet.stamp):
            self.counters["conflict"] += 1
            self._forget(held)
            held = None
        if held is not None and number in held.parts:
            if held.parts[number] == part.data:
                self.counters["duplicate"] += 1
                self._open[key] = held
                return None
            self.counters["conflict"] += 1
            self._forget(held)
            held = None
        if held is None:
            held = _Pieces(count, packet.stamp)
        held.parts[number] = part.data
        held.size += len(part.data)
        self._bytes += len(part.data)
        self._pieces += 1
        if held.size > MAX_BLOCK_BYTES:
            self.counters["oversize"] += 1
            self._forget(held)
            return None
        if len(held.parts) == count:
            self._forget(held)
            self._done.pop(key, None)
            self._done[key] = (count, packet.stamp)
            if len(self._done) > self._max_blocks:
                self._done.pop(next(iter(self._done)))
            self.counters["complete"] += 1
            whole = b"".join(held.parts[i] for i in range(count))
            doubted = any(isinstance(one, Doubted) for one in held.parts.values())
            return Block(part.stream, part.frame, part.index, Doubted(whole) if doubted else whole)
        self._open[key] = held
        while len(self._open) > self._max_blocks or self._bytes > self._max_bytes or self._pieces > self._max_pieces:
            self._forget(self._open.pop(next(iter(self._open))))
            self.counters["evicted"] += 1
        return None

    def _forget(self, held: _Pieces) -> None:
        self._bytes -= held.size
        self._pieces -= len(held.parts)


class _Pieces:
    """The pieces of one block that have arrived so far."""

    __slots__ = ("count", "parts", "size", "stamp")

    def __init__(self, count: int, stamp: int | None) -> None:
        self.count = count
        self.stamp = stamp
        self.parts: dict[int, bytes] = {}
        self.size = 0


def _check_range(name: str, value: int, high: int) -> None:
    if not 0 <= value <= high:
        raise ValueError(f"{name}: {value}, expected 0 to {high}")


def varint(name: str, value: int) -> bytes:
    """`value` in one byte, or in two above 127. Raises ValueError above 32,767."""
    if value < 0x80:
        return bytes((value,))
    if value > MAX_VARINT:
        raise ValueError(f"{name}: {value}, at most {MAX_VARINT} here")
    return (value | 0x8000).to_bytes(2, "big")


def read_varint(data: bytes, position: int, end: int, name: str) -> tuple[int, int]:
    """(value, position behind it) of the varint at `position`, before `end`. Raises PacketError naming `name`."""
    if position >= end:
        raise PacketError(f"byte {position}: {name} is missing")
    value = data[position]
    if value < 0x80:
        return value, position + 1
    if position + 2 > end:
        raise PacketError(f"byte {position}: {name} is cut off")
    value = (value & 0x7F) << 8 | data[position + 1]
    if value < 0x80:
        raise PacketError(f"byte {position}: {name} {value} in two bytes, expected one")
    return value, position + 2
