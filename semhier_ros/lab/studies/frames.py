"""How many damaged and forged compact frames and words an end takes, of a given number, by transport and proof.

Right frames of a made scene (descriptions, blocks, deltas, motion, poses, pieces, stored pieces, turns, hails) are made
once, and all but those of the last second are heard. Then each trial is one of that second, none equal to a right
frame: up to eight wrong bits, a burst over up to eight bytes, a frame cut or grown, two frames spliced, noise behind a
right first byte, noise alone; with a key also a right frame a second time. They go through the transport's own framing
into the receiving end and what reads its packets; whatever is published of them is counted as taken.

What is damaged is any of them (`all`), or deltas or frames with motion alone. `word`: what a receiver says, of its
memory more often than else, comes to a sending end that has given turns, waits for the answers, and knows what it sent.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice, product
from typing import Any

from semhier_ros import options as shared
from semhier_ros.api import Codec
from semhier_ros.camera.decoder_end import DecoderEnd
from semhier_ros.codec import compact
from semhier_ros.codec.block_request import BlockRequest
from semhier_ros.codec.compact import Compact, Context, Seal, Word
from semhier_ros.codec.packet import Block
from semhier_ros.codec.pose import EgoPose, PoseError, PoseReader, PoseWriter
from semhier_ros.codec.secrecy import SecrecyError
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.lab.made_scenes import acknowledgements, codec_of, description, made_frames, picture_block
from semhier_ros.lab.options import finish
from semhier_ros.link.clock import ManualClock
from semhier_ros.link.radio.framing import framing
from semhier_ros.link.radio.mavlink import MavlinkOptions, Tunnel
from semhier_ros.link.radio.options import Air, RadioOptions
from semhier_ros.link.radio.ports import OnFrame
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
    "delta": (compact.DELTA, compact.DELTA_LONG),
    "motion": (compact.MOTION, compact.MOTION_LONG),
    "word": (),
}
"""What is damaged, by name: kinds of frames."""
TURNS, ANSWERED = 8, 2
"""Turns that a sending end has given when wrong words come, the last but one by a hail and the last by stored pieces;
and those of them that were answered."""
STORED_BYTES = 2400
"""Of what is stored at a sending end."""
FIRST, SESSION = 100, 0x5E55
"""Number of the first frame, and the session of stored pieces."""
MODEL = "street"
FRAMES, LATEST = 60, 1.0
"""Right frames, and seconds of the last ones, which are damaged before the base has heard them."""
TRAVEL = 0.1
"""Seconds from stamp to arrival."""
MOST_BYTES, PIECE_BYTES = 128, 100
"""Of a frame, as on MAVLink; of a piece."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.option(parser, "--count", shared.whole(1, 100_000_000), 1_000_000, "frames of each kind")
    shared.several(parser, "--transports", shared.one_of(*TRANSPORTS), list(TRANSPORTS), "carriers", "NAME")
    shared.several(parser, "--proofs", shared.one_of(*SEALS), list(SEALS), "proofs", "NAME")
    shared.several(parser, "--kinds", shared.one_of(*KINDS), list(KINDS), "kinds of frames", "KIND")
    shared.common(parser, shared.seed, shared.json)


class _Port:
    """A port from which nothing leaves; `sent`: what was to. `give` is the end's own."""

    is_open, trouble = True, ""
    counters: Mapping[str, int] = {}

    def __init__(self, on_frame: OnFrame) -> None:
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

    def _open(self, on_frame: OnFrame) -> _Port:
        self._ports.append(_Port(on_frame))
        return self._ports[0]

    def some(self, chance: random.Random) -> bytes:
        """A right frame that is to be damaged, of each kind as often."""
        return chance.choice(self.base)

    def give(self, frame: bytes) -> None:
        """A frame as the transport would bring it."""
        try:
            if self._framing is None:
                self._ports[0].give(frame)
                return
            for found in self._framing.feed(self._framing.wrap(frame[:MOST_BYTES])):
                self._ports[0].give(found)
        except Exception:
            self.crashes += 1


class Receiver(Target):
    """A base: the receiving end and what reads its packets, which has heard all right frames but the last `LATEST`. Of
    those, none of which it has heard, the ones of a kind are damaged. What it publishes of a frame counts as taken:
    readings, pictures, a description, a pose."""

    def __init__(self, transport: str, seal: Seal, kind: str = "all") -> None:
        super().__init__(transport)
        codec, frames = right_frames(seal)
        fresh = [data for data, when in frames if when > frames[-1][1] - LATEST]
        self.right = [data for data, _ in frames]
        self.used = [data for data in self.right if data not in fresh]
        self.base = [one for one in fresh if not KINDS[kind] or Compact.parse(one, seal).kind in KINDS[kind]]
        self._kinds = list(_by_kind(self.base, seal).values())
        self._base = DecoderEnd("front", codec.streams(), 8, lambda kind, text: None, memory=True)
        self._poses = PoseReader()
        hooks = ReceiverHooks(self._packet, self._described, self._posed, lambda now: None, None, self._stored)
        self.end = RadioReceiving(RadioOptions(Air(MOST_BYTES), seal), self._open, hooks, clock=self.clock)
        for data, when in frames:
            self.clock.set(when)
            if data not in fresh:
                self._ports[0].give(data)
        self.heard, self.taken = self.taken, 0

    def some(self, chance: random.Random) -> bytes:
        return chance.choice(chance.choice(self._kinds))

    def _packet(self, camera: str, level: int, data: bytes) -> None:
        self.taken += bool(self._base.datagram(data, self.clock.now()))

    def _stored(self, camera: str, stamp_ns: int, blocks: Sequence[Any]) -> None:
        self.taken += bool(self._base.stored(blocks, stamp_ns, self.clock.now()))

    def _described(self, camera: str, data: bytes) -> None:
        self._base.describe(StreamInfo.from_bytes(data), self.clock.now())
        self.taken += 1

    def _posed(self, camera: str, data: bytes) -> None:
        with suppress(PoseError):
            self._poses.read(data)
            self.taken += 1


class Sender(Target):
    """A sending end that has given turns, the first of which were answered; words are damaged. Its own counter says how
    many it takes."""

    def __init__(self, transport: str, seal: Seal) -> None:
        super().__init__(transport)
        hooks = SenderHooks(lambda camera, data: None, lambda camera, data: data, lambda now: None)
        self.end = end = RadioSending(
            RadioOptions(Air(MOST_BYTES), seal), self._open, hooks, age=lambda: 0.0, clock=self.clock
        )
        codec = codec_of(MODEL)
        told = description(codec)
        end.set_info("front", told.to_bytes())
        memory = codec.memory(radio=True)
        end.on_memory = lambda camera, state: memory.heard(state)
        held = [[], *islice(acknowledgements(codec, memory, 1, 1), TURNS)]
        turns: list[int] = []
        port, session, number, tag = self._ports[0], 0, 0, compact.stream_tag(told)
        begin, sealed = 0, seal

        def words(turn: int) -> list[bytes]:
            place = turns[turn]
            context = Context(True, tag, counter=begin + place if seal.key else 0)
            frame = min(turn + 1, TURNS - 2)
            return self._words(context, session, sealed, frame, place + 1, held[frame])

        while len(turns) < TURNS:
            hails = len(turns) == TURNS - 2
            self.clock.set(self.clock.now() + (5.0 if hails else 30.0))
            number += 1
            before = len(port.sent)
            departure: Datagram | None = None
            if len(turns) == TURNS - 1:
                end.store("front", TURNS, 0, (Block(0xBEEF, TURNS, 0, bytes(STORED_BYTES)),))
                departure = end.take(self.clock.now())
            elif not hails:
                laid = compact.lay_out([Block(0xBEEF, number, 0, bytes(9))], 0, long=False)
                departure = Datagram("front", 0, laid, 20, 1, number, 0, (0,))
            if departure is None:
                end.tick(self.clock.now())
            else:
                end.send(departure)
            if not turns:
                first = Compact.parse(port.sent[0], seal)  # of a description, whose counter travels whole
                begin = 0 if first.counter is None else first.counter[0]
                parts = 1 if first.piece is None else first.piece[1]
                announced = b"".join(Compact.parse(frame, seal).body for frame in port.sent[:parts])
                sealed = seal.of(compact.read_announcement(announced, seal.hides)[3])
            for place, frame in enumerate(port.sent[before:], before):
                parsed = Compact.parse(frame, seal)
                session = parsed.session or session
                turns += [place] if parsed.turn else []
            if len(turns) <= ANSWERED:
                port.give(words(len(turns) - 1)[0])
        answers = [words(turn) for turn in range(TURNS)]
        self.right = [word for words in answers for word in words]
        self.base = [word for words in answers[ANSWERED:] for word in words]
        self.used = [words[0] for words in answers[:ANSWERED]]
        self.heard = self._heard = end.counters["words"]

    @staticmethod
    def _words(
        context: Context, session: int, seal: Seal, frame: int, count: int, held: Sequence[bytes]
    ) -> list[bytes]:
        """Right answers to a turn that was given with that frame, the so many-th; one of its memory first. `held`: what
        may be said of it, after each block of the frame."""
        said = [Word(compact.MEMORY, 0, count=count, memory=state) for state in (*held, b"")]
        said.append(Word(compact.ACK, 0, frame, 0b1011 & (1 << frame - 1) - 1, count))
        said += [compact.word_of(BlockRequest(6, 3), 0), compact.word_of(BlockRequest(2, None, 4000), 0)]
        words = [word.to_bytes(context, seal) for word in said]
        words.append(Word(compact.QUERY, 0).to_bytes(Context(True), seal.of(b"")))
        pieces = (Word(compact.MISSING, 0, 0, 0b1011, fresh=True), Word(compact.MISSING, 0, 7, 0b1011))
        return words + [word.to_bytes(replace(context, frame=session), seal) for word in pieces]

    def give(self, frame: bytes) -> None:
        super().give(frame)
        heard = self.end.counters.get("words", 0)
        self.taken, self._heard = self.taken + heard - self._heard, heard


def _by_kind(frames: Sequence[bytes], seal: Seal) -> dict[int, list[bytes]]:
    """Frames by what they are."""
    kinds: dict[int, list[bytes]] = {}
    for one in frames:
        kinds.setdefault(Compact.parse(one, seal).kind, []).append(one)
    return kinds


def right_frames(seal: Seal) -> tuple[Codec, list[tuple[bytes, float]]]:
    """The codec of the made scene, and frames that a base takes, each with when it comes (s), in order."""
    codec = codec_of(MODEL)
    info = description(codec)
    tag, counter = compact.stream_tag(info), 5_000
    made: list[tuple[bytes, float]] = []

    def add(laid: bytes, when: float, frame: int = 0, stamp: int = 0, known: bool = True) -> None:
        nonlocal counter
        whole = Context(False, tag if known else bytes(4), frame, stamp, counter if seal.key else 0)
        made.append((compact.finish(laid, 0, False, whole, seal.of(EPOCH)), when))
        counter += 1

    for part in compact.announcement(info, FIRST, 0, 60, EPOCH if seal.hides else b""):
        add(part, TRAVEL, known=False)
    when, poses = 0.0, PoseWriter()
    for frame in islice(made_frames(codec, FIRST, 1), FRAMES):
        when, number = frame.stamp_ns / 1e9 + TRAVEL, frame.number
        units, long = compact.stamp_units(frame.stamp_ns), number % 2 == 0
        for blocks in frame.packets:
            begins = blocks[0].index == 0
            add(
                compact.lay_out(blocks, frame.stamp_ns if begins else None, long=long),
                when,
                number,
                units if begins else 0,
            )
        if number % 4 == 0:
            pose = EgoPose.of("map", frame.stamp_ns, (12.34, 0.1 * number, 0.0), (0.0, 0.0, 1.0), sigma=0.1)
            add(compact.note_frame(number, poses.write(pose)), when, number)
        add(compact.turn_frame(number), when, number)
    picture = picture_block(codec, number)
    for piece in compact.lay_out_pieces(picture, PIECE_BYTES, None):
        add(piece, when, number)
    whole = compact.parcel([picture], frame.stamp_ns)
    for place in range(0, len(whole), PIECE_BYTES):
        part, last = whole[place : place + PIECE_BYTES], place + PIECE_BYTES >= len(whole)
        add(compact.stored_frame(place // PIECE_BYTES, part, last, None if place else SESSION), when, SESSION)
    add(compact.hail_frame(), when, known=False)
    return codec, made


def wrong(target: Target, chance: random.Random, keyed: bool) -> tuple[str, bytes]:
    """(kind of damage, frame) of one trial."""
    frame = target.some(chance)
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
        other = target.some(chance)
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
