"""Store and forward: parcels arrive whole, once and in order whatever an air loses, and after either end began anew."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semhier_ros.codec.compact import (
    MAX_PARCEL_BYTES,
    MISSING,
    STORED_WINDOW,
    Compact,
    CompactError,
    Context,
    Seal,
    Word,
    finish,
    parcel,
    read_parcel,
)
from semhier_ros.codec.packet import Block, Packet, split
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.link.carriers import RadioCarrier, carrier
from semhier_ros.link.clock import ManualClock
from semhier_ros.link.emulate.radio import RADIOS, RadioHop, RadioProfile
from semhier_ros.link.radio.receiving import joined
from semhier_ros.link.radio.store import STORE_BYTES, Inbox, Outbox
from semhier_ros.link.schedule.policy import default_policies

pytest.importorskip("serial", reason="pyserial is not installed: requirements/radio.txt")

KEY = bytes(range(16))
SEAL = Seal(2)


def drive(
    outbox: Outbox[Any], inbox: Inbox, lost: Any, limit: int, short: bool = False, wrong: Any = lambda word: word
) -> list[bytes]:
    """What came of an exchange in which `lost()` says whether a frame or a word is lost, and `wrong(word)` what is
    heard of a word. `short`: as of `Outbox.heard`."""
    whole: list[bytes] = []
    now = 0.0
    for _ in range(4000):
        due = outbox.due(now)
        if due is None:
            return whole
        now = max(now, due)
        departure = outbox.take(now, limit)
        assert departure is not None
        assert len(departure.laid) <= limit
        told = Compact.parse(finish(departure.laid, 0, departure.turn, Context(), SEAL), SEAL)
        if departure.turn:
            outbox.given(now)
        known = told.session is not None or departure.session == inbox.session
        if lost() or not known:
            continue
        assert told.piece is not None
        whole += inbox.take(departure.session, told.piece[0], bool(told.piece[1]), told.body)
        if departure.turn and not lost():
            first, came, fresh = inbox.missing
            word = Word.parse(Word(MISSING, 0, first, came, fresh=fresh).to_bytes(Context(), SEAL), SEAL)
            word = wrong(word)
            outbox.heard(word.frame, word.before, word.fresh, short)
    raise AssertionError("it did not end")


@given(
    st.lists(st.binary(min_size=1, max_size=3000), max_size=6),
    st.integers(20, 240),
    st.floats(0.0, 0.6),
    st.integers(0, 1000),
    st.booleans(),
)
def test_parcels_arrive_once_and_in_order_whatever_is_lost(parcels, limit, loss, seed, short):
    chance = random.Random(seed)
    outbox: Outbox[int] = Outbox(lambda: chance.randrange(1 << 16))
    for key, data in enumerate(parcels):
        assert outbox.put(key, data)
    assert drive(outbox, Inbox(), lambda: chance.random() < loss, limit, short) == parcels
    assert outbox.done == len(parcels)
    assert outbox.bytes == 0


@given(st.lists(st.binary(min_size=1, max_size=3000), min_size=1, max_size=6), st.integers(0, 1000), st.data())
def test_what_a_wrong_word_tells_of_missing_pieces_costs_nothing_but_time(parcels, seed, data):
    """Now and then, and never twice in a row, another word is heard than was said; 16 bits are all that proves it. Only
    that all came is believed of one, if it fits what is under way."""
    chance = random.Random(seed)
    outbox: Outbox[int] = Outbox(lambda: chance.randrange(1 << 16))
    for key, parcel_data in enumerate(parcels):
        assert outbox.put(key, parcel_data)
    turns = itertools.count()

    def wrong(word: Word) -> Word:
        if next(turns) % 3:
            return word
        under_way = len(outbox._pieces)
        first = data.draw(st.integers(0, 127).filter(lambda one: (one - outbox._base) % 128 != under_way))
        return replace(word, frame=first, before=chance.getrandbits(24) >> chance.randrange(25), fresh=first == 0)

    assert drive(outbox, Inbox(), lambda: chance.random() < 0.1, 100, True, wrong) == parcels
    assert outbox.done == len(parcels)


def test_ends_that_have_gone_apart_begin_a_new_session():
    """As after a word that said of a piece that it came, which did not."""
    outbox: Outbox[int] = Outbox(iter((7, 8)).__next__)
    outbox.put(1, bytes(250))
    for _ in range(3):
        outbox.take(0.0, 100)
    outbox.given(0.0)
    assert outbox.heard(2, 0, False)
    assert not outbox.heard(1, 0b10, False)
    assert outbox.session == 7
    assert outbox.heard(1, 0b10, False)
    assert outbox.session == 8
    assert drive(outbox, Inbox(), lambda: False, 100) == [bytes(250)]


@given(
    st.lists(st.binary(min_size=1, max_size=900), min_size=2, max_size=5),
    st.integers(1, 60),
    st.integers(0, 1000),
    st.booleans(),
)
def test_a_receiver_that_begins_anew_gets_what_was_not_finished(parcels, after, seed, short):
    chance = random.Random(seed)
    outbox: Outbox[int] = Outbox(lambda: chance.randrange(1 << 16))
    for key, data in enumerate(parcels):
        outbox.put(key, data)
    first, second = Inbox(), Inbox()
    came: list[bytes] = []

    class Both(Inbox):
        """The first until some frames came, then the second."""

        left = after

        def take(self, *told: Any) -> list[bytes]:
            Both.left -= 1
            found = (first if Both.left >= 0 else second).take(*told)
            came.extend(found)
            return found

        @property
        def missing(self) -> tuple[int, int, bool]:
            return (first if Both.left > 0 else second).missing

        @property
        def session(self) -> Any:
            return (first if Both.left > 0 else second).session

        @session.setter
        def session(self, value: Any) -> None:
            return

    drive(outbox, Both(), lambda: chance.random() < 0.2, 40, short)
    assert set(came) == set(parcels)


def test_an_air_that_comes_back_finds_the_row_where_it_stopped():
    outbox: Outbox[int] = Outbox(lambda: 7)
    outbox.put(1, bytes(1000))
    inbox = Inbox()
    taken = [0]

    def outage() -> bool:
        taken[0] += 1
        return 8 < taken[0] < 60

    assert drive(outbox, inbox, outage, 100) == [bytes(1000)]
    assert outbox.again <= 10  # what was under way, not all of it


def test_a_question_grows_rarer_while_nobody_answers_and_a_word_ends_the_wait():
    outbox: Outbox[int] = Outbox(lambda: 7)
    outbox.put(1, bytes(50))
    now, times = 0.0, []
    for _ in range(12):
        now = outbox.due(now) or 0.0
        departure = outbox.take(now, 100)
        assert departure is not None
        assert departure.turn
        outbox.given(now + 0.1)
        times.append(now)
    apart = [round(later - earlier, 3) for earlier, later in itertools.pairwise(times)]
    assert apart == sorted(apart)
    assert 8.0 <= apart[-1] <= 8.2
    outbox.resume(now)
    assert outbox.due(now) == now


def test_a_peer_that_is_gone_for_days_is_asked_on_and_on():
    outbox: Outbox[int] = Outbox(lambda: 1)
    outbox.put(0, bytes(10))
    now, asked = 0.0, 0
    while now < 3 * 86_400.0:
        departure = outbox.take(now, 32)
        assert departure is not None
        assert departure.turn
        outbox.given(now)
        now, asked = outbox.due(now) or 0.0, asked + 1
    assert asked > 20_000


def test_memory_is_bounded_at_both_ends():
    outbox: Outbox[int] = Outbox(lambda: 7)
    for key in range(10):
        outbox.put(key, bytes(10_000))
    assert outbox.bytes <= STORE_BYTES
    assert outbox.dropped == 10 - STORE_BYTES // 10_000
    assert not outbox.put(99, bytes(MAX_PARCEL_BYTES + 1))
    assert outbox.put(9, b"the same again")
    assert outbox.bytes <= STORE_BYTES
    inbox = Inbox()
    for number in range(1, 10_000):
        inbox.take(1, number, False, bytes(200))
    for number in range(10_000):
        inbox.take(2, number, False, bytes(200))
    held = sum(len(data) for data, _ in vars(inbox)["_pieces"].values()) + sum(map(len, vars(inbox)["_parts"]))
    assert held <= MAX_PARCEL_BYTES + STORED_WINDOW * 200
    assert inbox.take(2, 10_000, True, b"end") == []
    assert inbox.dropped == 1


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5), st.integers(0, 15), st.integers(0, 0xFFFF))
def test_a_parcel_says_its_blocks_again(datas, first, frame):
    first = min(first, 16 - len(datas))
    blocks = tuple(Block(0xBEEF, frame, first + place, data) for place, data in enumerate(datas))
    stamp = 1_700_000_000_000_000_000
    assert read_parcel(parcel(blocks, stamp), 0xBEEF) == (stamp // 8_000_000, blocks)


@given(st.binary(max_size=400))
def test_whatever_a_parcel_holds_only_a_compact_error_is_raised(data):
    try:
        read_parcel(data, 1)
    except CompactError:
        return


@given(st.integers(0, 127), st.integers(0, (1 << 24) - 1), st.booleans())
def test_a_word_about_pieces_has_one_form_of_two_to_five_bytes(first, came, fresh):
    word = Word(MISSING, 2, first, came, fresh=fresh)
    data = word.to_bytes(Context(), SEAL)
    assert 2 <= len(data) - 2 <= 5
    assert Word.parse(data, SEAL) == word
    assert Word.parse(data, SEAL).to_bytes(Context(), SEAL) == data


# -- both ends in virtual time ----------------------------------------------------------------------------------------


class Ends:
    """Both ends over an air in virtual time."""

    def __init__(self, profile: RadioProfile, key: bytes | None = None, **changes: Any) -> None:
        self.clock = ManualClock()
        self.hop = RadioHop(profile, self.clock)
        made = carrier("serial", profile.settings(device="virtual", **changes), key)
        assert isinstance(made, RadioCarrier)
        self.made = made
        self.heard: list[tuple[float, Packet]] = []
        self.sender = replace(made, open_port=self.hop.port(0)).sender(
            Packet.pack, split, default_policies(6, 3), budget=None, clock=self.clock
        )
        self.open_receiver()
        self.at: list[tuple[float, Any]] = []
        self.frame(1, 16)

    def open_receiver(self) -> None:
        """A receiving end that knows nothing."""
        self.receiver = replace(self.made, open_port=self.hop.port(1)).receiver(
            lambda camera, level, data: self.heard.append((self.clock.now(), Packet.parse(data))), clock=self.clock
        )
        self.hop.attach(self.sender.transport, self.receiver.transport)  # type: ignore[arg-type]

    def run(self, until: float) -> None:
        """Lets time pass; what `at` holds happens at its time."""
        while self.clock.now() < until:
            times = [self.hop.next_tick, self.hop.next_arrival, self.sender.due, until]
            times += [when for when, _ in self.at]
            self.clock.set(min(when for when in times if when is not None))
            for item in [item for item in self.at if item[0] <= self.clock.now()]:
                self.at.remove(item)
                item[1]()
            self.hop.deliver()
            self.hop.tick()
            self.sender.advance()

    def frame(self, number: int, *sizes: int, first: int = 0, asked: bool = False) -> list[Block]:
        """Submits blocks of a frame."""
        chance = random.Random(number)
        blocks = [Block(0xBEEF, number, first + place, chance.randbytes(size)) for place, size in enumerate(sizes)]
        stamp = int(self.clock.now() * 1e9)
        self.sender.set_info(
            "front", StreamInfo("front", "lens", 640, 360, "road", "beef" * 4, "cafe" * 4, stamp).to_bytes(), False
        )
        self.sender.submit("front", number, int(self.clock.now() * 1e9), blocks, asked=asked)
        return blocks

    def came(self, number: int) -> dict[int, bytes]:
        """Whole blocks of a frame that came."""
        packets = [packet for _, packet in self.heard if packet.frame == number and packet.piece is None]
        return {block.index: block.data for packet in packets for block in packet.blocks}


PICTURE = (560, 925, 915)


@pytest.mark.parametrize("seal", ["check", "none", "chacha20", "chacha20poly1305"])
def test_an_asked_picture_crosses_a_lossy_air_whole_with_what_gives_it_a_meaning(seal):
    if seal.startswith("chacha"):
        pytest.importorskip("cryptography", reason="cryptography is not installed: requirements/radio.txt")
    key, encrypt = (None, "none") if seal == "check" else (KEY, seal)
    ends = Ends(replace(RADIOS["serial9600"], loss=0.1), key, encrypt=encrypt)
    ends.run(3.0)
    meaning = ends.frame(7, 12, 6, 30, asked=True)
    picture = ends.frame(7, *PICTURE, first=3, asked=True)
    ends.run(12.0)
    blocks = [*meaning, *picture]
    assert ends.came(7) == {block.index: block.data for block in blocks}
    last = ends.heard[-1][1]
    assert [block.index for block in last.blocks] == [0, 1, 2, 3, 4, 5]  # whole in itself: the frame may be forgotten
    assert last.stamp is not None
    assert ends.sender.counters["stored_done"] == 3
    assert "words_refused" not in ends.sender.counters


def test_pieces_never_go_before_coarse_blocks():
    ends = Ends(replace(RADIOS["serial9600"], loss=0.0))
    ends.run(3.0)
    for place in range(30):
        ends.at.append((3.0 + place / 5, lambda place=place: ends.frame(2 + place, 16)))
    ends.at.append((3.5, lambda: ends.frame(1, *PICTURE, first=3, asked=True)))
    ends.run(12.0)
    assert ends.came(1)
    first = {}
    for at, packet in ends.heard:
        first.setdefault(packet.frame, at)
    late = [first[2 + place] - (3.0 + place / 5) for place in range(30)]
    assert max(late) < 0.25  # a piece under way and a turn, at most


def test_a_picture_goes_on_after_an_outage_and_after_a_receiver_began_anew():
    ends = Ends(replace(RADIOS["serial9600"], loss=0.05))
    ends.run(3.0)
    picture = ends.frame(7, *PICTURE, first=3, asked=True)
    ends.run(4.0)
    ends.hop.air.on_air = False
    ends.run(30.0)
    assert len(ends.came(7)) < 3
    assert ends.sender.counters["stored_sent"] < 15  # nothing is poured into an air that is not there
    ends.hop.air.on_air = True
    ends.run(45.0)
    assert ends.came(7) == {block.index: block.data for block in picture}
    other = ends.frame(8, *PICTURE, first=3, asked=True)
    ends.run(46.5)
    ends.heard.clear()
    ends.open_receiver()
    ends.run(70.0)
    assert ends.came(8)[5] == other[2].data


def test_a_link_without_answers_sends_asked_pictures_as_any_other():
    ends = Ends(replace(RADIOS["serial57600"]))
    made = replace(ends.made, options=replace(ends.made.options, answers=False), open_port=ends.hop.port(0))
    ends.sender = made.sender(Packet.pack, split, default_policies(6, 3), budget=None, clock=ends.clock)
    info = StreamInfo("front", "lens", 640, 360, "road", "beef" * 4, "cafe" * 4, 0)
    ends.sender.set_info("front", info.to_bytes())
    ends.hop.attach(ends.sender.transport, ends.receiver.transport)  # type: ignore[arg-type]
    ends.frame(6, 12, 6, 30)
    ends.run(1.0)
    ends.frame(7, 100, first=3, asked=True)
    ends.run(3.0)
    assert 3 in ends.came(7)
    assert "stored" not in ends.sender.counters


def test_a_forged_turn_of_an_unknown_stream_does_not_make_a_receiver_talk():
    ends = Ends(RADIOS["serial57600"], KEY)
    ends.hop.air.on_air = False
    forged = finish(bytes((0x05, 0x07)) + b"scene", 0, True, Context(), Seal(4, bytes(16)))
    for _ in range(50):
        ends.hop._ports[1].take(forged)
        ends.run(ends.clock.now() + 0.02)
    assert ends.receiver.counters["refused"] == 50
    assert not ends.hop.air.counters(1)


@pytest.mark.parametrize("encrypt", ["chacha20", "chacha20poly1305"])
def test_a_sender_that_begins_anew_draws_another_epoch_and_is_read_again(encrypt):
    pytest.importorskip("cryptography", reason="cryptography is not installed: requirements/radio.txt")
    ends = Ends(RADIOS["serial57600"], KEY, encrypt=encrypt)
    ends.run(2.0)
    before = ends.sender
    ends.sender = replace(ends.made, open_port=ends.hop.port(0)).sender(
        Packet.pack, split, default_policies(6, 3), budget=None, clock=ends.clock
    )
    ends.hop.attach(ends.sender.transport, ends.receiver.transport)  # type: ignore[arg-type]
    assert vars(ends.sender.transport)["_epoch"] != vars(before.transport)["_epoch"]
    ends.frame(2, 20)
    ends.run(4.0)
    assert ends.came(2)


def test_a_counter_never_begins_anew_and_the_sender_says_so():
    ends = Ends(RADIOS["serial57600"], KEY)
    ends.run(2.0)
    vars(ends.sender.transport)["_counter"] = (1 << 48) - 3
    for number in range(2, 8):
        ends.frame(number, 20)
        ends.run(ends.clock.now() + 0.2)
    assert not ends.came(7)
    assert ends.sender.counters["counter_used_up"] > 0
    assert "its counter is used up" in ends.sender.trouble


@pytest.mark.parametrize("sizes", [(32760, 32760, 15), (40000, 20000, 8), (65535, 1, 1), (100, 200, 60000)])
def test_what_two_parcels_bring_fits_a_packet(sizes: tuple[int, int, int]) -> None:
    first, *rest = (Block(1, 9, index, bytes(size)) for index, size in enumerate(sizes))
    blocks = joined((first,), tuple(rest))
    assert blocks[-1] is rest[-1]
    assert Packet.parse(Packet(1, 9, blocks, 5 if blocks[0].index == 0 else None).to_bytes()).blocks == blocks
    assert (len(blocks) == 3) == (sizes == (100, 200, 60000)), "only what is too large leaves the older ones out"
    assert joined((first,), tuple(rest[1:])) == tuple(rest[1:]), "one between is missing"
