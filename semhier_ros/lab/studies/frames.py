"""How many damaged and forged compact frames a receiver takes, of a given number, by transport and proof.

Right frames of a camera (descriptions, blocks, deltas, motion, pieces, stored pieces, turns, hails) are made once. Then
each trial is one of these, none equal to a right frame: up to eight wrong bits, a burst over up to eight bytes, a frame
cut or grown, two frames spliced, noise behind a right first byte, noise alone; with a key also a right frame a second
time. They go through the transport's own framing into the receiving end; whatever that hands on is counted as taken.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from semhier_ros import options as shared
from semhier_ros.codec.compact import (
    Context,
    DeltaBlock,
    Seal,
    announcement,
    hail_frame,
    lay_out,
    lay_out_pieces,
    parcel,
    stamp_units,
    stored_frame,
    stream_tag,
    turn_frame,
)
from semhier_ros.codec.compact import finish as finish_frame
from semhier_ros.codec.packet import Block, delta_tag
from semhier_ros.codec.secrecy import SecrecyError
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.command import CommandError
from semhier_ros.lab.options import check_range, finish
from semhier_ros.link.clock import ManualClock
from semhier_ros.link.radio.framing import framing
from semhier_ros.link.radio.mavlink import MavlinkOptions, Tunnel
from semhier_ros.link.radio.options import Air, RadioOptions
from semhier_ros.link.radio.receiving import RadioReceiving
from semhier_ros.link.transport import LinkDependencyError, ReceiverHooks

KEY = bytes(range(16))
EPOCH = bytes(range(8))
SEALS: dict[str, tuple[int, bytes | None, str]] = {
    "crc16": (2, None, "none"),
    "crc32": (4, None, "none"),
    "key": (4, KEY, "none"),
    "chacha20": (4, KEY, "chacha20"),
    "chacha20poly1305": (4, KEY, "chacha20poly1305"),
}
"""Proofs by name: bytes of a check, key, encryption."""
TRANSPORTS = ("udp", "serial", "mavlink")
FIRST, SESSION = 100, 0x5E55
"""Number of the first frame, and the session of stored pieces."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=1_000_000, help="frames of each kind (default: %(default)s)")
    parser.add_argument("--transports", action=shared.Listed, metavar="NAME", help=f"of {', '.join(TRANSPORTS)} (all)")
    parser.add_argument("--proofs", action=shared.Listed, metavar="NAME", help=f"of {', '.join(SEALS)} (all)")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (default: %(default)s)")
    shared.json(parser)


class _NoPort:
    """A port that nothing leaves; `give` is the end's own."""

    is_open, trouble = True, ""
    counters: Mapping[str, int] = {}

    def __init__(self, on_frame: Callable[[bytes], None]) -> None:
        self.give = on_frame

    def send(self, frame: bytes) -> bool:
        return True

    def close(self) -> None:
        return


class Target:
    """A receiving end that has heard the right frames, and what it took since. `crashes`: what raised."""

    def __init__(self, transport: str, seal: Seal) -> None:
        self.clock, self.taken, self.crashes = ManualClock(), 0, 0
        self.right = right_frames(seal)
        ports: list[_NoPort] = []

        def open_port(on_frame: Callable[[bytes], None]) -> _NoPort:
            ports.append(_NoPort(on_frame))
            return ports[0]

        hooks = ReceiverHooks(self._take, self._take, self._take, lambda now: None, None)
        self.end = RadioReceiving(RadioOptions(Air(128), seal), open_port, hooks, clock=self.clock)
        self._give = ports[0].give
        self._framing: Any = framing("cobs") if transport == "serial" else None
        if transport == "mavlink":
            self._framing = Tunnel(MavlinkOptions(peer="127.0.0.1:14550"))
        for frame in self.right:
            self._give(frame)
        self.heard, self.taken = self.taken, 0

    def _take(self, *told: Any) -> None:
        self.taken += 1

    def give(self, frame: bytes) -> None:
        """A frame as the transport would bring it."""
        try:
            if self._framing is None:
                self._give(frame)
                return
            for found in self._framing.feed(self._framing.wrap(frame[:128])):
                self._give(found)
        except Exception:
            self.crashes += 1


def right_frames(seal: Seal) -> list[bytes]:
    """Frames that a receiver takes, in order."""
    chance = random.Random(1)
    info = StreamInfo(
        camera="front",
        frame_id="lens",
        width=640,
        height=360,
        model="road",
        stream_hash="beef" * 4,
        model_hash="cafe" * 4,
        stamp_ns=0,
    )
    tag, counter = stream_tag(info), 5_000
    made = []
    names = (Block(0xBEEF, FIRST, 3, chance.randbytes(90)),)

    def add(laid: bytes, frame: int = 0, stamp: int = 0, known: bool = True) -> None:
        nonlocal counter
        whole = Context(False, tag if known else bytes(4), frame, stamp, counter if seal.key else 0)
        made.append(finish_frame(laid, 0, False, whole, seal.of(EPOCH)))
        counter += 1

    for part in announcement(info, FIRST, 0, 60, EPOCH if seal.hides else b""):
        add(part, known=False)
    for number in range(FIRST, FIRST + 40):
        stamp = 0
        blocks = [Block(0xBEEF, number, index, chance.randbytes(chance.randint(3, 30))) for index in range(3)]
        add(lay_out(blocks[:1], stamp, long=number % 2 == 1), number, stamp_units(stamp))
        add(lay_out(blocks, stamp, long=False), number, stamp_units(stamp))
        add(lay_out(blocks[1:], None, long=False), number)
        delta = DeltaBlock(delta_tag(0xBEEF), number, 0, chance.randbytes(chance.randint(3, 20)))
        moving = replace(blocks[0], motion=chance.randbytes(chance.randint(1, 20)))
        for one in ([delta], [moving, *blocks[1:]]):
            add(lay_out(one, stamp, long=number % 2 == 0), number, stamp_units(stamp))
    for piece in lay_out_pieces(Block(0xBEEF, number, 4, chance.randbytes(200)), 60, None):
        add(piece, number)
    add(turn_frame(number), number)
    whole = parcel(names, 0)
    add(stored_frame(0, whole[:50], False, SESSION), SESSION)
    add(stored_frame(1, whole[50:], True), SESSION)
    add(hail_frame(), known=False)
    return made


def wrong(right: list[bytes], chance: random.Random, keyed: bool) -> tuple[str, bytes]:
    """(kind, frame) of one trial."""
    frame = chance.choice(right)
    kind = chance.randrange(7 if keyed else 6)
    if kind == 0:
        value = int.from_bytes(frame, "big")
        for _ in range(chance.randint(1, 8)):
            value ^= 1 << chance.randrange(8 * len(frame))
        return "bits", value.to_bytes(len(frame), "big")
    if kind == 1:
        start, length = chance.randrange(len(frame)), chance.randint(1, 8)
        return "burst", frame[:start] + chance.randbytes(min(length, len(frame) - start)) + frame[start + length :]
    if kind == 2:
        cut = chance.randrange(len(frame))
        return "length", frame[:cut] if chance.random() < 0.5 else frame + chance.randbytes(chance.randint(1, 8))
    if kind == 3:
        other = chance.choice(right)
        return "spliced", frame[: chance.randrange(len(frame))] + other[chance.randrange(len(other)) :]
    if kind == 4:
        return "forged", frame[:1] + chance.randbytes(chance.randint(4, 60))
    if kind == 5:
        return "noise", chance.randbytes(chance.randint(1, 80))
    return "repeated", frame


def attack(transport: str, proof: str, count: int, seed: int) -> dict[str, Any]:
    """What a receiver took of `count` wrong frames, by kind."""
    seal = Seal(*SEALS[proof])
    target = Target(transport, seal)
    chance = random.Random(seed)
    known, taken = set(target.right), Counter[str]()
    done = 0
    while done < count:
        kind, frame = wrong(target.right, chance, seal.key is not None)
        if not frame or (kind != "repeated" and frame in known):
            continue
        before = target.taken
        target.give(frame)
        taken[kind] += target.taken - before
        done += 1
    target.end.close()
    return {
        "transport": transport,
        "proof": proof,
        "frames": count,
        "right_frames_taken_before": target.heard,
        "taken": sum(taken.values()),
        "taken_by_kind": dict(sorted(taken.items())),
        "crashes": target.crashes,
    }


def _known(option: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        raise CommandError(f"--{option}: {name!r}, of {', '.join(names)} expected")


def run(options: argparse.Namespace) -> int:
    """Measures every transport with every proof; 1 when something raised."""
    check_range("count", options.count, 1, 100_000_000)
    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    for transport in options.transports or TRANSPORTS:
        _known("transports", transport, TRANSPORTS)
        for proof in options.proofs or SEALS:
            _known("proofs", proof, tuple(SEALS))
            try:
                rows.append(attack(transport, proof, options.count, options.seed))
            except (LinkDependencyError, SecrecyError) as error:
                left_out[f"{transport}, {proof}"] = str(error)
    result = {"rows": rows, "left_out": left_out}
    finish(result, options.json, "frames")
    return int(any(row["crashes"] for row in rows))
