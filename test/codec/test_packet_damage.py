"""More than 20,000 damaged packets: none crashes, none is accepted with changed content, all in bounded time."""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest

from semhier_ros.codec import Block, Packet, PacketError, split


def originals(rng: random.Random) -> list[bytes]:
    packets = []
    for frame in range(60):
        stamp = rng.choice([None, rng.getrandbits(63)])
        blocks = [Block(0xC0DE, frame, index, rng.randbytes(rng.choice([0, 9, 60, 400]))) for index in range(7)]
        first = rng.randrange(7)
        packets.append(Packet.pack(blocks[first : first + rng.randint(1, 7)], stamp_ns=stamp))
        packets += split(Block(0xC0DE, frame, 6, rng.randbytes(700)), 300, stamp_ns=stamp)
    packets.append(Packet.pack([Block(0xC0DE, 60, 0, rng.randbytes(65535))]))
    return packets


def truncate(rng: random.Random, data: bytes, _: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def flip_bits(rng: random.Random, data: bytes, _: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 12)):
        changed[rng.randrange(min(len(data), rng.choice([12, len(data)])))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def overwrite(rng: random.Random, data: bytes, _: bytes) -> bytes:
    start, size = rng.randrange(len(data)), rng.randint(1, 40)
    return data[:start] + rng.randbytes(size) + data[start + size :]


def splice(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randint(0, len(data))] + other[rng.randint(0, len(other)) :]


def remove(rng: random.Random, data: bytes, _: bytes) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.randint(1, 8) :]


def append(rng: random.Random, data: bytes, _: bytes) -> bytes:
    return data + rng.choice([bytes(rng.randint(1, 9)), rng.randbytes(rng.randint(1, 99)), data, bytes(100_000)])


def noise(rng: random.Random, _: bytes, __: bytes) -> bytes:
    return rng.choice([b"\x10", b"\x13", b""]) + rng.randbytes(rng.choice([0, 5, 9, 10, 30, 200, 1200]))


@pytest.mark.parametrize("damage", [truncate, flip_bits, overwrite, splice, remove, append, noise])
def test_damaged_packets(damage: Callable[[random.Random, bytes, bytes], bytes]) -> None:
    rng = random.Random(damage.__name__)
    packets = originals(rng)
    known = set(packets)
    slowest, refused = 0.0, 0
    for _ in range(4000):
        data = damage(rng, rng.choice(packets), rng.choice(packets))
        start = time.perf_counter()
        try:
            packet = Packet.parse(data)
        except PacketError as error:
            refused += len(str(error)) > 10
        else:
            assert data in known
            assert packet.to_bytes() == data
        slowest = max(slowest, time.perf_counter() - start)
    assert refused >= 3500
    assert slowest < 0.5


def test_well_checked_nonsense_is_refused_or_has_one_encoding() -> None:
    """Damage that a checksum cannot see, for whoever writes packets may be wrong or hostile."""
    rng = random.Random(11)
    packets = [data for data in originals(rng) if len(data) < 2000]
    accepted = 0
    for _ in range(20_000):
        kind = rng.choice([truncate, flip_bits, overwrite, splice, remove, noise])
        body = kind(rng, rng.choice(packets)[:-4], rng.choice(packets)[:-4])
        if rng.random() < 0.5 and body:
            body = bytes((0x10 | body[0] & 3,)) + body[1:]
        data = body + zlib.crc32(body).to_bytes(4, "little")
        try:
            packet = Packet.parse(data)
        except PacketError:
            continue
        accepted += 1
        assert packet.to_bytes() == data
    assert 5000 < accepted < 19_000


def test_damage_within_four_consecutive_bytes_never_passes() -> None:
    rng = random.Random(12)
    packets = originals(rng)
    for _ in range(3000):
        changed = bytearray(rng.choice(packets))
        start = rng.randrange(len(changed) - 3)
        pattern = rng.randrange(1, 1 << 32).to_bytes(4, "big")
        changed[start : start + 4] = bytes(a ^ b for a, b in zip(changed[start : start + 4], pattern, strict=True))
        with pytest.raises(PacketError):
            Packet.parse(bytes(changed))


def test_the_checksum_sees_any_three_bits_up_to_11000_bytes() -> None:
    """No x**i + x**j + 1 is a multiple of CRC-32's polynomial for 0 < j < i < 88,000: what docs/bitstream.md claims."""
    powers = np.empty(88_000, np.uint32)
    value = 1
    for exponent in range(len(powers)):
        powers[exponent] = value
        value = value << 1 ^ (0x104C11DB7 if value >> 31 else 0)
    assert len(np.unique(powers)) == len(powers)
    assert not np.isin(powers[1:] ^ np.uint32(1), powers[1:]).any()
