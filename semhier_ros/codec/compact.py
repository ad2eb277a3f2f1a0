"""Compact frames for point-to-point links (docs/bitstream.md, "Compact frames"): what a packet, a description, a report
or a request become where both ends are known to each other and every byte is airtime.

What is constant (camera, model, picture size) is told once and named by a slot; frame number and stamp travel as their
low bits; the check at the end covers the whole of them. Only bytes here: who restores low bits, keeps counters and
takes each frame once is `link.radio`.
"""

from __future__ import annotations

import binascii
import hmac
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2s

from semhier_ros.codec.block_request import MAX_DURATION_MS, BlockRequest
from semhier_ros.codec.checksum import CRC_BYTES, with_crc
from semhier_ros.codec.packet import (
    MAX_BLOCK_BYTES,
    MAX_BLOCKS,
    MAX_MOTION_BYTES,
    STAMP_MODULUS,
    Block,
    Packet,
    PacketError,
    delta_tag,
    read_varint,
    varint,
)
from semhier_ros.codec.report import MEMORY_BYTES
from semhier_ros.codec.secrecy import (
    ENCRYPTIONS,
    EPOCH_BYTES,
    TAG_BYTES,
    Cipher,
    cryptography_module,
)
from semhier_ros.codec.stream_info import StreamInfo

STAMP_UNIT_NS = 8_000_000
"""Stamps are told in units of 8 ms."""
SLOTS = 4
"""Cameras of one link."""
MAX_FRAME_BYTES = 1200
"""The longest compact frame that is read or written."""
MAC_BYTES = 4
COUNTER_BYTES = 6
COUNTERS = 1 << 8 * COUNTER_BYTES
ANNOUNCE_PARTS = 16
LONGEST_AGE = 0xFFFF
"""The longest age that an announcement tells, in units of 8 ms: what is older is told so too, and tells nothing."""
WORD_BYTES = 4
"""The longest word of a receiver that answers an ordinary turn, its check not counted."""
STORED_WORD_BYTES = 5
"""The longest word about stored pieces."""
STORED_WINDOW = 25
"""Stored pieces that may be under way: what one word tells of, the first that is missing and 24 behind it."""
STORED_SEQUENCES = 128
"""Numbers of stored pieces, before they begin anew at 0."""
MAX_PARCEL_BYTES = 0x8000
"""The longest parcel that is sent or put together."""

BLOCKS, BLOCKS_LONG, PIECE, TURN, ANNOUNCE, STORED, STORED_FIRST, HAIL = range(8)
COARSE, NOTE, DELTA, DELTA_LONG, MOTION, MOTION_LONG, GONE = range(8, 15)
"""Kinds of frames of a sender. COARSE is block 0 alone with the short header; the others of the second row have what
would be slots 4 to 7 of the first row's. MOTION is blocks from block 0 on, and how camera and objects move."""
_WHOLE_COUNTER = frozenset((ANNOUNCE, HAIL))
"""Kinds that a receiver must be able to prove without knowing anything: their counter travels whole."""
ACK, ASK_FRAME, ASK_TIME, QUERY, MISSING, MEMORY = range(6)
"""Kinds of words of a receiver."""
_WORD_SIZES = {
    ACK: (4,),
    ASK_FRAME: (3,),
    ASK_TIME: (2,),
    QUERY: (1,),
    MISSING: (2, 3, 4, 5),
    MEMORY: (2, 2 + MEMORY_BYTES),
}
_GENERAL, _TURN, _STAMPED = 0x80, 0x40, 0x01
_WORD = 0xC0
_NOTE, _DELTA, _DELTA_LONG, _MOTION, _MOTION_LONG, _GONE = 0x84, 0x8C, 0x94, 0x9C, 0xAC, 0xB4
"""First bytes, with turn and slot 0, of kinds that have what would be slots 4 to 7 of another."""
_BESIDE = {
    _NOTE: NOTE,
    _DELTA: DELTA,
    _DELTA_LONG: DELTA_LONG,
    _MOTION: MOTION,
    _MOTION_LONG: MOTION_LONG,
    _GONE: GONE,
}
_LONG = frozenset((BLOCKS_LONG, DELTA_LONG, MOTION_LONG))
"""Kinds that tell 16 bits of the stamp."""
_SHORT_MOTION = 15
"""The longest motion part whose length stands in the span's upper four bits."""
_PERSON = b"semhierc"
_CONTEXT = struct.Struct(">B4sHQ6s")
_ANNOUNCED = struct.Struct(">HH")
_PARCEL_HEAD = 8
_LONGEST_TIME = 13  # 2 ** 12 s is above an hour
MAX_ANNOUNCED_BYTES = _ANNOUNCED.size + 600 + EPOCH_BYTES
"""An announcement put together: its head, the longest StreamInfo, and an epoch."""


class CompactError(ValueError):
    """Bytes that are no compact frame, or not to be trusted; the message says why."""


@dataclass(frozen=True)
class Seal:
    """What proves a frame: a check of `check` bytes (2: CRC-16, 4: CRC-32) or, with a `key` (16 to 32 bytes), a
    4-byte MAC and a counter. `encrypt`: one of ENCRYPTIONS, which but for none needs a key: whether the bodies of
    frames are hidden, under the key of `epoch` (8 bytes; empty while it is not known). Descriptions, hails and words
    are proved by the MAC alone. Raises ValueError naming the field that is out of its range, SecrecyError where a
    package is missing."""

    check: int = 4
    key: bytes | None = None
    encrypt: str = "none"
    epoch: bytes = b""

    def __post_init__(self) -> None:
        if self.check not in (2, 4):
            raise ValueError(f"check: {self.check} bytes, expected 2 (CRC-16) or 4 (CRC-32)")
        if self.key is not None and not 16 <= len(self.key) <= 32:
            raise ValueError(f"key: {len(self.key)} bytes, expected 16 to 32")
        if self.encrypt not in ENCRYPTIONS:
            raise ValueError(f"encrypt: {self.encrypt!r}, expected one of {', '.join(ENCRYPTIONS)}")
        if self.hides and self.key is None:
            raise ValueError(f"encrypt: {self.encrypt!r} needs link.key, which both ends share")
        if self.hides:
            cryptography_module()

    @property
    def hides(self) -> bool:
        """Whether bodies are encrypted."""
        return self.encrypt != "none"

    @property
    def short(self) -> bool:
        """Whether a check of 16 bits is all that proves a frame."""
        return self.key is None and self.check == 2

    @property
    def word_bytes(self) -> int:
        """Bytes at the end of a word, a description or a hail."""
        return self.check if self.key is None else MAC_BYTES

    @property
    def proof_bytes(self) -> int:
        """Bytes at the end of any other frame."""
        return TAG_BYTES if self._tagged else self.word_bytes

    @property
    def overhead(self) -> int:
        """What a frame carries besides header and payload: the proof, and with a key one byte of counter."""
        return self.proof_bytes + (self.key is not None)

    @property
    def description_overhead(self) -> int:
        """The same of a part of a description, or a hail, whose counter travels whole."""
        return self.word_bytes + (COUNTER_BYTES if self.key is not None else 0)

    def of(self, epoch: bytes) -> Seal:
        """The same for frames of one start of a sender."""
        return replace(self, epoch=epoch) if self.hides else self

    def prove(self, data: bytes, context: Context) -> bytes:
        """`data` and its proof."""
        return data + self._proof(data, context)

    def holds(self, data: bytes, context: Context) -> bool:
        """Whether `data` ends with what proves the rest of it in this context."""
        end = len(data) - self.word_bytes
        return end > 0 and hmac.compare_digest(data[end:], self._proof(data[:end], context))

    def close(self, header: bytes, body: bytes, context: Context) -> bytes:
        """A frame of a sender whose body is hidden, where that is wanted, and its proof."""
        if not self.hides:
            return self.prove(header + body, context)
        hidden = self._cipher.hide(body, context.counter, context.to_bytes() + header)
        return header + hidden if self._tagged else self.prove(header + hidden, context)

    def open(self, data: bytes, header: int, context: Context) -> bytes | None:
        """The body behind a frame's `header` bytes, None where its proof does not hold in this context."""
        if self._tagged:
            beside = context.to_bytes() + data[:header]
            return self._cipher.show(data[header:], context.counter, beside) if self.epoch else None
        if (self.hides and not self.epoch) or not self.holds(data, context):
            return None
        body = data[header : len(data) - self.word_bytes]
        return self._cipher.show(body, context.counter, b"") if self.hides else body

    @property
    def _tagged(self) -> bool:
        return self.encrypt == "chacha20poly1305"

    @cached_property
    def _cipher(self) -> Cipher:
        assert self.key is not None
        return Cipher(self.encrypt, self.key, self.epoch)

    def _proof(self, data: bytes, context: Context) -> bytes:
        covered = context.to_bytes() + self.epoch + data
        if self.key is not None:
            return blake2s(covered, key=self.key, digest_size=MAC_BYTES, person=_PERSON).digest()
        if self.check == 2:
            return (binascii.crc_hqx(covered, 0xFFFF) ^ 0xFFFF).to_bytes(2, "big")  # so that a zero more is noticed
        return zlib.crc32(covered).to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class Context:
    """What a proof covers besides the bytes it stands behind, so that wrongly restored values are noticed.

    `back`: a receiver's word. `tag`: of the announced stream (4 bytes), zeros for an announcement. `frame`: the whole
    16-bit number; of stored pieces and the words about them, their session. `stamp`: in units of 8 ms since the epoch,
    0 where the frame tells none. `counter`: 48 bits of a keyed frame, else 0.
    """

    back: bool = False
    tag: bytes = bytes(4)
    frame: int = 0
    stamp: int = 0
    counter: int = 0

    def to_bytes(self) -> bytes:
        """21 bytes, which do not travel."""
        return _CONTEXT.pack(self.back, self.tag, self.frame, self.stamp, self.counter.to_bytes(6, "big"))


def stamp_units(stamp_ns: int) -> int:
    """A stamp as it travels: units of 8 ms, to the nearest."""
    return max(0, (stamp_ns + STAMP_UNIT_NS // 2) // STAMP_UNIT_NS)


def stream_tag(info: StreamInfo) -> bytes:
    """Four bytes that stand for what does not change within a stream."""
    return blake2s(replace(info, stamp_ns=0).to_bytes(), digest_size=4, person=_PERSON).digest()


# -- frames of a sender -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Compact:
    """A frame of a sender as its bytes say it.

    `kind`: one of COARSE, BLOCKS, BLOCKS_LONG, PIECE, TURN, ANNOUNCE, STORED, STORED_FIRST, HAIL, NOTE, DELTA,
    DELTA_LONG, MOTION, MOTION_LONG, GONE. `turn`: the receiver may answer now. `slot`: 0 to 3. `frame`, `stamp`,
    `counter`: (low bits, how many), None where the frame tells none. `span`: (first block, how many). `piece`:
    (number, count) of a piece, (number, parts) of an announcement, of a stored piece (sequence number, 1 where it
    ends its parcel, else 0). `body`: lengths, motion and blocks, a piece's bytes, a part of an announcement.
    `session`: of stored pieces, where the frame tells it. `motion`: bytes of the motion part.
    """

    kind: int
    turn: bool
    slot: int
    frame: tuple[int, int] | None = None
    stamp: tuple[int, int] | None = None
    counter: tuple[int, int] | None = None
    span: tuple[int, int] = (0, 1)
    piece: tuple[int, int] | None = None
    body: bytes = b""
    session: int | None = None
    motion: int = 0
    header: int = 0
    """Bytes before the body."""

    @staticmethod
    def parse(data: bytes, seal: Seal) -> Compact:
        """What a frame says. Its form is checked, its proof is not: `opened` does that once its low bits are
        restored. Raises CompactError, and nothing else."""
        proof = seal.word_bytes if data and _knows_nothing(data[0]) else seal.proof_bytes
        end = len(data) - proof
        if end < 1 or len(data) > MAX_FRAME_BYTES:
            raise CompactError(f"compact frame: {len(data)} bytes, expected {proof + 1} to {MAX_FRAME_BYTES}")
        try:
            told = _parse(data, end, seal.key is not None)
        except (IndexError, PacketError) as error:
            raise CompactError(f"compact frame: {error}") from None
        return replace(told, header=end - len(told.body))

    def opened(self, data: bytes, seal: Seal, context: Context) -> bytes | None:
        """The frame's body, out of its bytes; None where its proof does not hold in this context. `seal`: with the
        epoch of its sender."""
        if self.kind in _WHOLE_COUNTER:
            return self.body if seal.of(b"").holds(data, context) else None
        return seal.open(data, self.header, context)

    def packet(self, stream: int, frame: int, stamp: int | None) -> bytes:
        """The packet that stands in the frame, with its restored `frame` number and `stamp` (units of 8 ms, None for
        none). `stream`: the stream's 16-bit tag. Raises CompactError for a frame that holds none."""
        if self.kind in (DELTA, DELTA_LONG):
            stream = delta_tag(stream)
        low = None if stamp is None else stamp * STAMP_UNIT_NS % STAMP_MODULUS
        first, count = self.span
        try:
            if self.kind == PIECE:
                return Packet(stream, frame, (Block(stream, frame, first, self.body),), low, self.piece).to_bytes()
            position, lengths = 0, []
            for index in range(first, first + count - 1):
                length, position = read_varint(self.body, position, len(self.body), f"length of block {index}")
                lengths.append(length)
            lengths.append(len(self.body) - position - self.motion - sum(lengths))
            if not 0 <= lengths[-1] <= MAX_BLOCK_BYTES:
                moving = f" and motion of {self.motion}" if self.motion else ""
                raise PacketError(f"block lengths {lengths[:-1]}{moving} in {len(self.body) - position} bytes")
            motion, blocks = self.body[position : position + self.motion], []
            position += self.motion
            for index, length in enumerate(lengths, first):
                data = self.body[position : position + length]
                blocks.append(Block(stream, frame, index, data, b"" if index else motion))
                position += length
            return Packet(stream, frame, tuple(blocks), low).to_bytes()
        except ValueError as error:
            raise CompactError(f"compact frame: {error}") from None


def _knows_nothing(lead: int) -> bool:
    """Whether a frame that begins so has to be proved by receivers that know nothing."""
    return bool(lead & _GENERAL) and (lead >> 3 & 7) in _WHOLE_COUNTER


def _parse(data: bytes, end: int, keyed: bool) -> Compact:
    lead, position = data[0], 1
    turn = bool(lead & _TURN)
    kind, slot = (lead >> 3 & 7, lead & 7) if lead & _GENERAL else (COARSE, lead >> 4 & 3)
    if (beside := _BESIDE.get(lead & ~_TURN & ~3)) is not None:
        kind, slot = beside, lead & 3
    if slot >= SLOTS:
        raise CompactError(f"compact frame: kind {kind}, slot {slot}")
    counter = None
    if keyed:
        size = COUNTER_BYTES if kind in _WHOLE_COUNTER else 1
        counter, position = (int.from_bytes(data[position : position + size], "big"), 8 * size), position + size
    if kind == COARSE:
        frame, stamp = (lead & 15, 4), (data[position], 8)
        return _ended(
            Compact(kind, turn, slot, frame, stamp, counter, body=data[position + 1 : end]), position + 1, end
        )
    if kind == ANNOUNCE:
        number, parts = data[position] >> 4, (data[position] & 15) + 1
        if number >= parts or position + 1 >= end:
            raise CompactError(f"compact frame: part {number} of {parts}, {end - position - 1} bytes")
        body = data[position + 1 : end]
        return Compact(kind, turn, slot, counter=counter, piece=(number, parts), body=body)
    if kind == HAIL:
        if position != end:
            raise CompactError(f"compact frame: {end - position} bytes behind a hail")
        return Compact(kind, turn, slot, counter=counter)
    low = (data[position], 8)
    position += 1
    if kind in (STORED, STORED_FIRST):
        session, numbered = None, (low[0] & 0x7F, low[0] >> 7)
        if kind == STORED_FIRST:
            session, position = int.from_bytes(data[position : position + 2], "big"), position + 2
        body = data[position:end]
        if numbered[1] and not body:
            raise CompactError("compact frame: a stored piece without bytes that ends a parcel")
        return _ended(
            Compact(kind, turn, slot, None, None, counter, piece=numbered, body=body, session=session), position, end
        )
    if kind in (TURN, GONE):
        if position != end:
            raise CompactError(f"compact frame: {end - position} bytes behind a frame number")
        return Compact(kind, turn, slot, low, None, counter)
    if kind == NOTE:
        if position >= end:
            raise CompactError("compact frame: a note of no bytes")
        return Compact(kind, turn, slot, low, None, counter, body=data[position:end])
    found: tuple[int, int] | None = None
    if kind in (DELTA, DELTA_LONG):
        found, position = _stamp(data, position, kind)
        return _ended(Compact(kind, turn, slot, low, found, counter, body=data[position:end]), position, end)
    span, position = data[position], position + 1
    if kind in (MOTION, MOTION_LONG):
        found, position = _stamp(data, position, kind)
        motion = span >> 4
        if not motion:
            motion, position = read_varint(data, position, end, "length of the motion part")
            if not _SHORT_MOTION < motion <= MAX_MOTION_BYTES:
                raise CompactError(f"compact frame: motion part of {motion} bytes behind the span")
        told = Compact(
            kind, turn, slot, low, found, counter, (0, (span & 15) + 1), body=data[position:end], motion=motion
        )
        return _ended(told, position, end)
    piece: tuple[int, int] | None = None
    if kind == PIECE:
        first, count = span >> 4, 1
        if span & 15 & ~_STAMPED or bool(span & _STAMPED) != (first == 0):
            raise CompactError(f"compact frame: flags {span & 15:#x} of a piece of block {first}")
        if first == 0:
            found, position = (int.from_bytes(data[position : position + 2], "big"), 16), position + 2
        number, position = read_varint(data, position, end, "piece number")
        pieces, position = read_varint(data, position, end, "piece count")
        if pieces < 2 or number >= pieces or position >= end:
            raise CompactError(f"compact frame: piece {number} of {pieces}, {end - position} bytes")
        piece = (number, pieces)
    else:
        first, count = span >> 4, (span & 15) + 1
        if first + count > MAX_BLOCKS:
            raise CompactError(f"compact frame: {count} blocks from index {first}, the last index is {MAX_BLOCKS - 1}")
        if kind == BLOCKS_LONG and first:
            raise CompactError(f"compact frame: a stamp with blocks from index {first}")
        if first == 0:
            found, position = _stamp(data, position, kind)
        if kind == BLOCKS and first == 0 and count == 1:
            raise CompactError("compact frame: block 0 alone without the short header")
    return _ended(
        Compact(kind, turn, slot, low, found, counter, (first, count), piece, data[position:end]), position, end
    )


def _stamp(data: bytes, position: int, kind: int) -> tuple[tuple[int, int], int]:
    """(low bits of a stamp, how many) at `position`, and the position behind them."""
    size = 2 if kind in _LONG else 1
    return (int.from_bytes(data[position : position + size], "big"), 8 * size), position + size


def _ended(frame: Compact, position: int, end: int) -> Compact:
    if position > end:
        raise CompactError(f"compact frame: its header ends at byte {position} of {end}")
    return frame


class DeltaBlock(Block):
    """Block 0 of a frame that refers to what its receiver remembers: a frame of its own kind says so, where a packet
    has another stream tag."""

    __slots__ = ()

    @classmethod
    def of(cls, block: Block) -> DeltaBlock:
        """The same block."""
        return cls(block.stream, block.frame, block.index, block.data)


def lay_out(blocks: Sequence[Block], stamp_ns: int | None, *, long: bool) -> bytes:
    """A frame of whole consecutive blocks, without slot, turn, counter and proof, which `finish` sets. What block 0
    says of motion goes with them.

    `stamp_ns`: told where block 0 is among them, and only there; `long`: in 16 bits instead of 8. Raises ValueError
    when the blocks do not belong together or are too large.
    """
    if not blocks or (blocks[0].index == 0) != (stamp_ns is not None):
        raise ValueError("blocks: a frame with block 0, and no other, tells a stamp")
    first, count = blocks[0].index, len(blocks)
    number, motion = blocks[0].frame, blocks[0].motion
    stamp = b""
    if stamp_ns is not None:
        stamp = (stamp_units(stamp_ns) & (0xFFFF if long else 0xFF)).to_bytes(2 if long else 1, "big")
    if isinstance(blocks[0], DeltaBlock):
        if count > 1:
            raise ValueError(f"blocks: {count} with a delta, which stands alone")
        return bytes((_DELTA_LONG if long else _DELTA, number & 0xFF)) + stamp + blocks[0].data
    plain = _body(blocks)
    if motion:
        short = len(motion) if len(motion) <= _SHORT_MOTION else 0
        lead = bytes((_MOTION_LONG if long else _MOTION, number & 0xFF, short << 4 | count - 1)) + stamp
        lead += b"" if short else varint("len(motion)", len(motion))
        lengths = len(plain) - sum(len(block.data) for block in blocks)
        return lead + plain[:lengths] + motion + plain[lengths:]
    if first == 0 and count == 1 and not long:
        return bytes((number & 15,)) + stamp + plain
    lead = bytes((_GENERAL | (BLOCKS_LONG if first == 0 and long else BLOCKS) << 3, number & 0xFF))
    return lead + bytes((first << 4 | count - 1,)) + stamp + plain


def _body(blocks: Sequence[Block]) -> bytes:
    """Lengths and data of consecutive blocks, as behind a packet's fixed fields; what they say of motion is left out.
    Raises ValueError where they do not belong together."""
    return Packet.pack([block.without_motion() for block in blocks])[6:-4]


def with_long_header(laid: bytes, frame: int, stamp: int) -> bytes:
    """A frame of block 0 alone with 8 bits of its number and 16 of its stamp (units of 8 ms), 3 bytes longer; any other
    as it is."""
    if laid[0] & _GENERAL:
        return laid
    return bytes((_GENERAL | BLOCKS_LONG << 3, frame & 0xFF, 0)) + (stamp & 0xFFFF).to_bytes(2, "big") + laid[2:]


def lay_out_pieces(block: Block, limit: int, stamp_ns: int | None) -> list[bytes]:
    """Frames of at most `limit` bytes that together carry `block`, as `lay_out` makes them; `stamp_ns`: block 0's.

    Raises ValueError where `limit` leaves no room.
    """
    if (block.index == 0) != (stamp_ns is not None):
        raise ValueError("block: a piece of block 0, and of no other, tells a stamp")
    lead = bytes((_GENERAL | PIECE << 3, block.frame & 0xFF, block.index << 4 | (block.index == 0)))
    if stamp_ns is not None:
        lead += (stamp_units(stamp_ns) & 0xFFFF).to_bytes(2, "big")
    for fields in (2, 3, 4):
        room = limit - len(lead) - fields
        if room < 1:
            raise ValueError(f"limit: {limit} bytes, expected at least {len(lead) + fields + 1}")
        count = max(2, -(-len(block.data) // room))
        if len(varint("piece number", count - 1)) + len(varint("piece count", count)) <= fields:
            break
    step = -(-len(block.data) // count)
    parts = [block.data[start : start + step] for start in range(0, len(block.data), step)]
    if len(parts) < 2:
        raise ValueError(f"block: {len(block.data)} bytes, too short for pieces")
    tail = varint("piece count", len(parts))
    return [lead + varint("piece number", number) + tail + part for number, part in enumerate(parts)]


def turn_frame(frame: int) -> bytes:
    """A frame that only gives the turn; `frame`: number of the newest one sent."""
    return bytes((_GENERAL | TURN << 3, frame & 0xFF))


def gone_frame(frame: int) -> bytes:
    """A frame that tells that blocks of frame number `frame`, which the receiver asked for, do not come. Its proof
    covers the low byte that the word told in the number's place: no more of it is sure."""
    return bytes((_GONE, frame & 0xFF))


def note_frame(frame: int, note: bytes) -> bytes:
    """A frame that tells something beside the blocks. `frame`: number of the newest one sent. `note`: a message that
    ends with a CRC-32, which stays behind: the frame's own proof stands for it."""
    return bytes((_NOTE, frame & 0xFF)) + note[:-CRC_BYTES]


def noted(body: bytes) -> bytes:
    """The message that the body of a note's frame stands for."""
    return with_crc(body)


def hail_frame() -> bytes:
    """A frame that asks whether anybody is there: what a receiver that knows nothing can prove, and answer."""
    return bytes((_GENERAL | HAIL << 3,))


# -- store and forward ------------------------------------------------------------------------------------------------


def parcel(blocks: Sequence[Block], stamp_ns: int) -> bytes:
    """Consecutive blocks of one frame as they are stored and sent in pieces, with what they are: frame number, stamp,
    span; then lengths and data as in a packet. Raises ValueError where they do not belong together or are too large.
    """
    body = _body(blocks)
    first, count = blocks[0].index, len(blocks)
    head = blocks[0].frame.to_bytes(2, "big") + stamp_units(stamp_ns).to_bytes(5, "big")
    whole = head + bytes((first << 4 | count - 1,)) + body
    if len(whole) > MAX_PARCEL_BYTES:
        raise ValueError(f"parcel: {len(whole)} bytes, expected at most {MAX_PARCEL_BYTES}")
    return whole


def read_parcel(data: bytes, stream: int) -> tuple[int, tuple[Block, ...]]:
    """(stamp in units of 8 ms, blocks) of a parcel put together, as blocks of `stream`. Raises CompactError."""
    if not _PARCEL_HEAD <= len(data) <= MAX_PARCEL_BYTES:
        raise CompactError(f"parcel: {len(data)} bytes, expected {_PARCEL_HEAD} to {MAX_PARCEL_BYTES}")
    first, count = data[7] >> 4, (data[7] & 15) + 1
    if first + count > MAX_BLOCKS:
        raise CompactError(f"parcel: {count} blocks from index {first}, the last index is {MAX_BLOCKS - 1}")
    frame = int.from_bytes(data[:2], "big")
    whole = Compact(BLOCKS, False, 0, span=(first, count), body=data[_PARCEL_HEAD:]).packet(stream, frame, None)
    return int.from_bytes(data[2:7], "big"), Packet.parse(whole).blocks


def stored_frame(sequence: int, data: bytes, last: bool, session: int | None = None) -> bytes:
    """A piece of a parcel; without data the question which pieces are missing, by the number of the next. `sequence`:
    of the piece, modulo 128. `last`: it ends its parcel. `session`: told until the receiver has answered in it."""
    head = STORED if session is None else STORED_FIRST
    tail = b"" if session is None else session.to_bytes(2, "big")
    return bytes((_GENERAL | head << 3, sequence % STORED_SEQUENCES | last << 7)) + tail + data


def stored_header(first: bool) -> int:
    """Bytes of a stored piece besides its data, proof and counter; `first`: of one that tells its session."""
    return 4 if first else 2


def least_limit(info: StreamInfo, epoch: bytes = b"") -> int:
    """Bytes that a frame must hold for a description to fit 16 of them, as `announcement` makes them."""
    return -(-(_ANNOUNCED.size + len(epoch) + len(info.to_bytes())) // ANNOUNCE_PARTS) + 2


def announcement(info: StreamInfo, frame: int, age: int, limit: int, epoch: bytes = b"") -> list[bytes]:
    """Frames of at most `limit` bytes that tell a stream's description. `frame`: number of the newest frame. `age`:
    how long ago a frame with the description's stamp would leave, in units of 8 ms (what is longer is told as
    `LONGEST_AGE`). `epoch`: of a sender that encrypts.

    Raises ValueError where it does not fit 16 of them.
    """
    body = _ANNOUNCED.pack(frame & 0xFFFF, min(max(age, 0), LONGEST_AGE)) + epoch + info.to_bytes()
    least = least_limit(info, epoch)
    if limit < least:
        raise ValueError(f"limit: {limit} bytes, expected at least {least} for a description of {len(body)} bytes")
    parts = -(-len(body) // (limit - 2))
    step = -(-len(body) // parts)
    head = _GENERAL | ANNOUNCE << 3
    return [bytes((head, n << 4 | parts - 1)) + body[n * step : (n + 1) * step] for n in range(parts)]


def read_announcement(body: bytes, hides: bool = False) -> tuple[StreamInfo, int, int, bytes]:
    """(description, newest frame number, age, epoch) of an announcement put together. `hides`: whether its sender
    encrypts and so tells an epoch. Raises CompactError."""
    begin = _ANNOUNCED.size + (EPOCH_BYTES if hides else 0)
    if not begin < len(body) <= MAX_ANNOUNCED_BYTES:
        raise CompactError(f"announcement: {len(body)} bytes, expected up to {MAX_ANNOUNCED_BYTES}")
    frame, age = _ANNOUNCED.unpack_from(body)
    try:
        return StreamInfo.from_bytes(body[begin:]), frame, age, bytes(body[_ANNOUNCED.size : begin])
    except PacketError as error:
        raise CompactError(f"announcement: {error}") from None


def finish(laid: bytes, slot: int, turn: bool, context: Context, seal: Seal) -> bytes:
    """A laid-out frame made whole: its slot and turn set, its counter (with a key) and its proof added.

    Raises ValueError for a slot that no header can name.
    """
    general = laid[0] & _GENERAL
    if not 0 <= slot < SLOTS:
        raise ValueError(f"slot: {slot}, expected 0 to {SLOTS - 1}")
    lead = laid[0] | (_TURN if turn else 0) | (slot if general else slot << 4)
    counter = b""
    if seal.key is not None:
        whole = general and (laid[0] >> 3 & 7) in _WHOLE_COUNTER
        counter = context.counter.to_bytes(COUNTER_BYTES, "big") if whole else bytes((context.counter & 0xFF,))
    frame = bytes((lead,)) + counter + laid[1:]
    if not seal.hides or _knows_nothing(lead):
        return seal.of(b"").prove(frame, context)
    header = len(frame) - len(_parse(frame, len(frame), True).body)
    return seal.close(frame[:header], frame[header:], context)


# -- words of a receiver ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Word:
    """What a receiver says when it has the turn, 1 to 5 bytes and the proof.

    `kind`: ACK: `frame` is the low byte of the newest frame whose block 0 came, bit k of `before` tells the same of the
    frame k + 1 before it, `count` how many frames of the slot came so far (modulo 256). ASK_FRAME, ASK_TIME: `request`.
    QUERY: the slot's description is unknown here. MEMORY, of a receiver with a memory: `memory` as in
    `codec.report.Report` (2 bytes, or none where it holds nothing that deltas refer to), and `count`. MISSING, of
    stored pieces: `frame` is the number of the first that is
    missing, modulo 128, bit k of `before` (24 bits) tells that the piece k + 1 behind it came, `fresh` that nothing
    came before the first in this session.
    """

    kind: int
    slot: int
    frame: int = 0
    before: int = 0
    count: int = 0
    request: BlockRequest | None = None
    fresh: bool = False
    memory: bytes = b""

    def to_bytes(self, context: Context, seal: Seal) -> bytes:
        """The word on the air. `context`: with the counter of the frame that gave the turn."""
        data = bytes((_WORD | self.kind << 3 | self.slot,))
        if self.kind == ACK:
            data += bytes((self.frame & 0xFF, self.before & 0xFF, self.count & 0xFF))
        elif self.kind == MEMORY:
            data += bytes((self.count & 0xFF,)) + self.memory
        elif self.kind == MISSING:
            bits = self.before & 0xFFFFFF
            data += bytes((self.frame % STORED_SEQUENCES | self.fresh << 7,))
            data += bits.to_bytes(-(-bits.bit_length() // 8), "little")
        elif self.request is not None:
            data += _asking(self.request)
        return seal.prove(data, replace(context, back=True))

    @staticmethod
    def parse(data: bytes, seal: Seal) -> Word:
        """What a word says; its proof is the caller's to check (`Seal.holds`). Raises CompactError."""
        end = len(data) - seal.word_bytes
        if end < 1 or data[0] & _WORD != _WORD:
            raise CompactError(f"word: {len(data)} bytes, no word")
        kind, slot = data[0] >> 3 & 7, data[0] & 7
        if end not in _WORD_SIZES.get(kind, ()) or slot >= SLOTS:
            raise CompactError(f"word: kind {kind} of {end} bytes, slot {slot}")
        if kind == ACK:
            return Word(kind, slot, data[1], data[2], data[3])
        if kind == QUERY:
            return Word(kind, slot)
        if kind == MEMORY:
            return Word(kind, slot, count=data[1], memory=data[2:end])
        if kind == MISSING:
            if end > 2 and not data[end - 1]:
                raise CompactError("word: a bitmap that ends in zeros")
            bits = int.from_bytes(data[2:end], "little")
            return Word(kind, slot, data[1] & 0x7F, bits, fresh=bool(data[1] >> 7))
        finest, low = data[1] >> 4, data[1] & 15
        if kind == ASK_FRAME:
            if low:
                raise CompactError(f"word: {low} behind the finest block of a frame")
            return Word(kind, slot, frame=data[2], request=BlockRequest(finest, data[2]))
        if low > _LONGEST_TIME:
            raise CompactError(f"word: duration 2 ** {low - 1} s")
        return Word(kind, slot, request=BlockRequest(finest, None, _milliseconds(low)))


def _milliseconds(code: int) -> int:
    return min(1000 << code >> 1, MAX_DURATION_MS) if code else 0


def _asking(request: BlockRequest) -> bytes:
    if request.frame is not None:
        return bytes((request.finest << 4, request.frame & 0xFF))
    code = next(code for code in range(_LONGEST_TIME + 1) if _milliseconds(code) >= request.duration_ms)
    return bytes((request.finest << 4 | code,))


def word_of(request: BlockRequest, slot: int) -> Word:
    """The word that a request becomes; a duration is rounded up to 2 ** n s."""
    return Word(ASK_TIME if request.frame is None else ASK_FRAME, slot, request=request)


def near(low: int, bits: int, expected: int) -> int:
    """The number whose low `bits` are `low` and that is nearest to `expected`; may be negative."""
    size = 1 << bits
    return expected + (low - expected + size // 2) % size - size // 2
