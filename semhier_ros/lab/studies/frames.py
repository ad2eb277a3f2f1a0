"""How many damaged and forged compact frames and words an end takes, of a given number, by transport and proof.

Right frames of a camera (descriptions, blocks, deltas, motion, pieces, stored pieces, turns, hails) are made once. Then
each trial is one of these, none equal to a right frame: up to eight wrong bits, a burst over up to eight bytes, a frame
cut or grown, two frames spliced, noise behind a right first byte, noise alone; with a key also a right frame a second
time. They go through the transport's own framing into the receiving end; whatever that hands on is counted as taken.

What is damaged is any of them (`all`), or deltas or frames with motion alone. `word`: what a receiver says, of its
memory more often than else, comes to a sending end that has given turns and waits for the answers.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

from semhier_ros import options as shared
from semhier_ros.codec.block_request import BlockRequest
from semhier_ros.codec.compact import (
    ACK,
    DELTA,
    DELTA_LONG,
    MEMORY,
    MISSING,
    MOTION,
    MOTION_LONG,
    QUERY,
    Compact,
    Context,
    DeltaBlock,
    Seal,
    Word,
    announcement,
    hail_frame,
    lay_out,
    lay_out_pieces,
    parcel,
    read_announcement,
    stamp_units,
    stored_frame,
    stream_tag,
    turn_frame,
    word_of,
)
from semhier_ros.codec.compact import finish as finish_frame
from semhier_ros.codec.packet import Block, delta_tag
from semhier_ros.codec.secrecy import SecrecyError
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.lab.options import finish
from semhier_ros.link.clock import ManualClock
from semhier_ros.link.radio.framing import framing
from semhier_ros.link.radio.mavlink import MavlinkOptions, Tunnel
from semhier_ros.link.radio.options import Air, RadioOptions
from semhier_ros.link.radio.receiving import RadioReceiving
from semhier_ros.link.radio.sending import RadioSending
from semhier_ros.link.transport import Datagram, LinkDependencyError, ReceiverHooks, SenderHooks

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
KINDS: dict[str, tuple[int, ...]] = {
    "all": (),
    "delta": (DELTA, DELTA_LONG),
    "motion": (MOTION, MOTION_LONG),
    "word": (),
}
"""What is damaged, by name: kinds of frames."""
TURNS, ANSWERED = 8, 2
"""Turns that a sending end has given when wrong words come, and those of them that were answered."""
FIRST, SESSION = 100, 0x5E55
"""Number of the first frame, and the session of stored pieces."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.option(parser, "--count", shared.whole(1, 100_000_000), 1_000_000, "frames of each kind")
    shared.several(parser, "--transports", shared.one_of(*TRANSPORTS), list(TRANSPORTS), "carriers", "NAME")
    shared.several(parser, "--proofs", shared.one_of(*SEALS), list(SEALS), "proofs", "NAME")
    shared.several(parser, "--kinds", shared.one_of(*KINDS), list(KINDS), "kinds of frames", "KIND")
    shared.seed(parser)
    shared.json(parser)


class _Port:
    """A port from which nothing leaves; `sent`: what was to. `give` is the end's own."""

    is_open, trouble = True, ""
    counters: Mapping[str, int] = {}

    def __init__(self, on_frame: Callable[[bytes], None]) -> None:
        self.give, self.sent = on_frame, list[bytes]()

    def send(self, frame: bytes) -> bool:
        self.sent.append(frame)
        return True

    def close(self) -> None:
        return


class Target:
    """An end behind a transport's framing. `right`: what it takes; `base`: what of that is damaged; `used`: what it has
    taken already. `taken`: what it took since it is ready, `crashes`: what raised, `heard`: right ones taken before."""

    end: RadioReceiving | RadioSending
    right: list[bytes]
    base: list[bytes]
    used: list[bytes]
    heard = 0

    def __init__(self, transport: str) -> None:
        self.clock, self.taken, self.crashes = ManualClock(), 0, 0
        self._ports: list[_Port] = []
        self._framing: Any = framing("cobs") if transport == "serial" else None
        if transport == "mavlink":
            self._framing = Tunnel(MavlinkOptions(peer="127.0.0.1:14550"))

    def _open(self, on_frame: Callable[[bytes], None]) -> _Port:
        self._ports.append(_Port(on_frame))
        return self._ports[0]

    def give(self, frame: bytes) -> None:
        """A frame as the transport would bring it."""
        try:
            if self._framing is None:
                self._ports[0].give(frame)
                return
            for found in self._framing.feed(self._framing.wrap(frame[:128])):
                self._ports[0].give(found)
        except Exception:
            self.crashes += 1


class Receiver(Target):
    """A receiving end that has heard the right frames; those of a kind are damaged."""

    def __init__(self, transport: str, seal: Seal, kind: str = "all") -> None:
        super().__init__(transport)
        self.right = self.used = right_frames(seal)
        self.base = [one for one in self.right if not KINDS[kind] or Compact.parse(one, seal).kind in KINDS[kind]]
        hooks = ReceiverHooks(self._take, self._take, self._take, lambda now: None, None)
        self.end = RadioReceiving(RadioOptions(Air(128), seal), self._open, hooks, clock=self.clock)
        for frame in self.right:
            self._ports[0].give(frame)
        self.heard, self.taken = self.taken, 0

    def _take(self, *told: Any) -> None:
        self.taken += 1


class Sender(Target):
    """A sending end that has given turns, the first of which were answered; words are damaged. Its own counter says how
    many it takes."""

    def __init__(self, transport: str, seal: Seal) -> None:
        super().__init__(transport)
        hooks = SenderHooks(lambda camera, data: None, lambda camera, data: data, lambda now: None)
        self.end = end = RadioSending(
            RadioOptions(Air(128), seal), self._open, hooks, age=lambda: 0.0, clock=self.clock
        )
        told = stream_info()
        end.set_info("front", told.to_bytes())
        turns: list[tuple[bytes, int]] = []
        port, session, number = self._ports[0], 0, 0
        while len(turns) < TURNS:
            self.clock.set(self.clock.now() + 30.0)
            number += 1
            before = len(port.sent)
            if len(turns) == TURNS - 1:
                end.store("front", number, 0, (Block(0xBEEF, number, 0, bytes(200)),))
                departure = end.take(self.clock.now())
                assert departure is not None
            else:
                laid = lay_out([Block(0xBEEF, number, 0, bytes(9))], 0, long=False)
                departure = Datagram("front", 0, laid, 20, 1, number, 0, (0,))
            end.send(departure)
            for place, frame in enumerate(port.sent[before:], before):
                parsed = Compact.parse(frame, seal)
                session = parsed.session or session
                turns += [(frame, place)] if parsed.turn else []
        first = Compact.parse(port.sent[0], seal)  # of a description, whose counter travels whole
        begin = 0 if first.counter is None else first.counter[0]
        parts = 1 if first.piece is None else first.piece[1]
        description = b"".join(Compact.parse(frame, seal).body for frame in port.sent[:parts])
        seal = seal.of(read_announcement(description, seal.hides)[3])
        answers = [
            self._words(Context(True, stream_tag(told), counter=begin + place if seal.key else 0), session, seal)
            for _, place in turns
        ]
        self.right = [word for words in answers for word in words]
        self.base = [word for words in answers[ANSWERED:] for word in words]
        self.used = [words[0] for words in answers[:ANSWERED]]
        for word in self.used:
            port.give(word)
        self.heard = self._heard = end.counters["words"]

    @staticmethod
    def _words(context: Context, session: int, seal: Seal) -> list[bytes]:
        """Right answers to a turn, one of its memory first."""
        said = [Word(MEMORY, 0, count=7, memory=bytes((number, 0x5A))) for number in (3, 0x43, 0xC4)]
        said += [Word(MEMORY, 0, count=7), Word(ACK, 0, 9, 0b1011, 7)]
        said += [word_of(BlockRequest(6, 3), 0), word_of(BlockRequest(2, None, 4000), 0)]
        words = [word.to_bytes(context, seal) for word in said]
        words.append(Word(QUERY, 0).to_bytes(Context(True), seal.of(b"")))
        words.append(Word(MISSING, 0, 0, fresh=True).to_bytes(replace(context, frame=session), seal))
        return words

    def give(self, frame: bytes) -> None:
        super().give(frame)
        heard = self.end.counters.get("words", 0)
        self.taken, self._heard = self.taken + heard - self._heard, heard


def stream_info() -> StreamInfo:
    """What the study's camera is."""
    return StreamInfo(
        camera="front",
        frame_id="lens",
        width=640,
        height=360,
        model="road",
        stream_hash="beef" * 4,
        model_hash="cafe" * 4,
        stamp_ns=0,
    )


def right_frames(seal: Seal) -> list[bytes]:
    """Frames that a receiver takes, in order."""
    chance = random.Random(1)
    info = stream_info()
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


def wrong(target: Target, chance: random.Random, keyed: bool) -> tuple[str, bytes]:
    """(kind of damage, frame) of one trial."""
    frame = chance.choice(target.base)
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
        other = chance.choice(target.base)
        return "spliced", frame[: chance.randrange(len(frame))] + other[chance.randrange(len(other)) :]
    if kind == 4:
        return "forged", frame[:1] + chance.randbytes(chance.randint(4, 60))
    if kind == 5:
        return "noise", chance.randbytes(chance.randint(1, 80))
    return "repeated", chance.choice(target.used)


def attack(transport: str, proof: str, count: int, seed: int, kind: str = "all") -> dict[str, Any]:
    """What an end took of `count` wrong frames or words, by kind of damage."""
    seal = Seal(*SEALS[proof])
    chance = random.Random(seed)
    taken, crashes, done = Counter[str](), 0, 0
    while True:
        target = Sender(transport, seal) if kind == "word" else Receiver(transport, seal, kind)
        known = set(target.right)
        while done < count and not (
            target.taken and kind == "word"
        ):  # a turn is answered once: after that, another end
            how, frame = wrong(target, chance, seal.key is not None)
            if not frame or (how != "repeated" and frame in known):
                continue
            before = target.taken
            target.give(frame)
            taken[how] += target.taken - before
            done += 1
        target.end.close()
        crashes += target.crashes
        if done >= count:
            break
    return {
        "kind": kind,
        "transport": transport,
        "proof": proof,
        "frames": count,
        "right_frames_taken_before": target.heard,
        "taken": sum(taken.values()),
        "taken_by_kind": dict(sorted(taken.items())),
        "crashes": crashes,
    }


def run(options: argparse.Namespace) -> int:
    """Measures every transport with every proof; 1 when something raised."""
    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    for kind, transport, proof in product(options.kinds, options.transports, options.proofs):
        try:
            rows.append(attack(transport, proof, options.count, options.seed, kind))
        except (LinkDependencyError, SecrecyError) as error:
            left_out[f"{transport}, {proof}"] = str(error)
    result = {"rows": rows, "left_out": left_out}
    finish(result, options.json, "frames")
    return int(any(row["crashes"] for row in rows))
