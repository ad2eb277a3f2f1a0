"""The nodes' ends and virtual replay are one: the same frames, costs, losses and seed give the same datagrams, byte for
byte, and the same readings.

On one side the ends as the nodes build and run them: a codec that encodes pictures, workers and pacer in their threads,
sender and receiver with a transport, all by a clock that jumps (`virtual_threads`). On the other side a replay's event
loop, which encodes no frame twice and imagines what computing takes.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from virtual_threads import VirtualTime

sys.path.insert(0, str(Path(__file__).parents[1] / "lab"))
from replay_footage import Frames

from semhier_ros.camera.decoder_end import DecoderEnd, Output
from semhier_ros.camera.encoder_end import EncoderEnd, EncoderSettings, Opened, PictureMaker
from semhier_ros.camera.fleet import Fleet, Limits
from semhier_ros.camera.worker import EncodeWorker, FleetWorker
from semhier_ros.codec.packet import Block, Packet, split
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.footage.video import FootageError, default_video, read_video
from semhier_ros.lab.replay.base import Costs, Run, run_virtual
from semhier_ros.lab.replay.blocks import KEEP_FRAMES, BlockSession, BlockStream, SemhierStream, camera_name
from semhier_ros.lab.replay.reader import Reader
from semhier_ros.link import Scheduler, default_policies
from semhier_ros.link.emulate.hop import Message, VirtualHop
from semhier_ros.link.emulate.profile import LinkProfile, parse_link
from semhier_ros.link.receiver import LinkReceiver
from semhier_ros.link.schedule.wire import ZENOH_UDP
from semhier_ros.link.sender import LinkSender, measured
from semhier_ros.paths import model_names

pytestmark = pytest.mark.skipif("road" not in model_names(), reason="models/road is not there")

COSTS = Costs(semantic=0.031, picture=0.047, read=0.003)
ORDER = ("hop-deliver", "decode", "camera", "encode", "hop-tick", "semhier-pacer", "pictures")
FRAMES, FIRST = 24, 100
RATE = 5.0
SHRINKING = "64kbit,50ms,5%,seed3,step16kbit@2s"
THIN = "6kbit,100ms,10%,seed7"

Log = list[tuple[float, str, bytes, int, str]]
Readings = list[tuple[str, int, Any]]


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader.load("road")


@pytest.fixture(scope="module")
def cameras() -> list[Frames]:
    """A busy part of the demo's street, there and back."""
    try:
        frames = [frame.image for frame in islice(read_video(default_video()), FIRST, FIRST + 4 * FRAMES, 4)]
    except FootageError as error:
        pytest.skip(str(error))
    made = [Frames(frames, "front"), Frames(frames[::-1], "rear")]
    for camera in made:
        camera.times_ns = [round(number * 1e9 / RATE) for number in range(FRAMES)]
    return made


class SlowMaker(PictureMaker):
    """Encodes pictures in no time of the machine's that counts, and in what `COSTS` say of the clock's."""

    def __init__(self, codec: Any, camera: Frames, clock: VirtualTime) -> None:
        super().__init__(codec, camera.image)
        self._clock = clock

    def open(self, source: Any, frame: int, stamp_ns: int, max_bytes: int | None) -> Opened:
        opened = super().open(source, frame, stamp_ns, max_bytes)
        self._spend(COSTS.semantic)
        return Opened(opened.size, self._slowly(opened.blocks))

    def _slowly(self, blocks: Iterator[Block]) -> Iterator[Block]:
        for block in blocks:
            if block.index == self.semantic_blocks:
                self._spend(COSTS.picture)
            yield block

    def _spend(self, seconds: float) -> None:
        self._clock.bell().wait_until(self._clock.now() + seconds)


def nodes_run(
    codec: Any, cameras: list[Frames], link: LinkProfile, rate: float, max_rate: float, until: float
) -> tuple[Log, Readings]:
    """What the nodes' ends put on the link, and what they would publish."""
    clock = VirtualTime(ORDER)
    deliver, tick = clock.bell(), clock.bell()
    log: Log = []
    readings: Readings = []
    ended = threading.Event()

    def on_message(message: Message) -> None:
        log.append((message.time, message.kind, message.data, message.wire_bytes, message.cause))
        deliver.ring()

    hop = VirtualHop(link, clock, on_message=on_message)

    # the robot, as encoder_node makes it
    policies = default_policies(len(codec.block_names), codec.semantic_blocks)
    scheduler = Scheduler(Packet.pack, split, policies, wire=measured(ZENOH_UDP), rate=rate)
    sender = LinkSender(scheduler, hop.sending, budget=rate, clock=clock)

    def announce(info: StreamInfo, changed: bool) -> None:
        sender.set_info(info.camera, info.to_bytes(), changed)
        tick.ring()

    settings = EncoderSettings(max_rate)
    ends = [
        EncoderEnd(camera_name(place), SlowMaker(codec, camera, clock), sender, announce, settings)
        for place, camera in enumerate(cameras)
    ]
    for end in ends:
        sender.set_finest(end.camera, 15)
    failures: list[Exception] = []
    encoders = [EncodeWorker([end], lambda end, job, error: failures.append(error), clock=clock) for end in ends]

    # the base, as decoder_node makes it
    names = [end.camera for end in ends]
    decoders = {
        name: DecoderEnd(name, {codec.stream_hash: codec}, KEEP_FRAMES, lambda kind, text: None, pictures_later=True)
        for name in names
    }

    def on_reading(camera: str, output: Output) -> None:
        readings.append((camera, output.stamp_ns, output.reading))

    fleet = Fleet(
        decoders,
        Limits(),
        on_reading=on_reading,
        on_picture=lambda camera, rgb, output: None,
        wants_picture=lambda end, output: False,
        on_error=failures.append,
        report=lambda kind, text: None,
        clock=clock,
    )
    decoder = FleetWorker(fleet, clock=clock)
    receiver = LinkReceiver(
        hop.receiving,
        lambda camera, level, packet: decoder.put(camera, packet),
        lambda camera, info: decoder.put(camera, StreamInfo.from_bytes(info)),
        cameras=names,
        clock=clock,
    )

    # what is no part of them: cameras and network
    def shoot() -> None:
        bell = clock.bell()
        for time_ns, place, number in sorted(
            (time, place, number) for place, camera in enumerate(cameras) for number, time in enumerate(camera.times_ns)
        ):
            bell.wait_until(time_ns / 1e9)
            encoders[place].offer(ends[place], number, time_ns, "")
        while not ended.is_set():
            bell.wait_until(None)

    def carry(bell: Any, act: Callable[[], None], due: Callable[[], float | None]) -> None:
        while not ended.is_set():
            bell.wait_until(due())
            act()

    network = [
        threading.Thread(target=shoot, name="camera", daemon=True),
        threading.Thread(
            target=carry, args=(deliver, hop.deliver, lambda: hop.next_arrival), name="hop-deliver", daemon=True
        ),
        threading.Thread(target=carry, args=(tick, hop.tick, lambda: hop.next_tick), name="hop-tick", daemon=True),
    ]
    for thread in network:
        thread.start()
    clock.run(len(network) + len(encoders) + 3, until)
    ended.set()
    for worker in (*encoders, decoder):
        worker.close()
    sender.close()
    receiver.close()
    for thread in network:
        thread.join(10.0)
    assert not failures
    return log, readings


class Recorded(BlockSession):
    """A replay's session that remembers what it put on the link."""

    def _message(self, message: Message) -> None:
        self.log.append((message.time, message.kind, message.data, message.wire_bytes, message.cause))
        super()._message(message)

    log: Log


def replay_run(
    reader: Reader, cameras: list[Frames], link: LinkProfile, rate: float, max_rate: float, monkeypatch: Any
) -> tuple[Log, Readings, float, Any]:
    """The same of virtual replay; its end, and its session."""
    made: list[Recorded] = []

    def session(*arguments: Any) -> Recorded:
        one = Recorded.__new__(Recorded)
        one.log = []
        one.__init__(*arguments)
        made.append(one)
        return one

    monkeypatch.setattr("semhier_ros.lab.replay.blocks.BlockSession", session)
    run = run_virtual(SemhierStream(reader, COSTS, max_rate=max_rate), cameras, link, rate)
    readings = [(camera, output.stamp_ns, output.reading) for camera, output in made[0].outputs]
    return made[0].log, readings, run.seconds, run


@pytest.mark.parametrize(
    ("link", "share", "max_rate", "count"),
    [
        (SHRINKING, 0.97, 0.0, 1),
        ("24kbit,80ms,20%,burst3,jitter30ms,seed5", 0.97, 5.0, 2),
        (THIN, 0.97, 8.0, 1),
    ],
)
def test_the_nodes_ends_and_virtual_replay_send_the_same_bytes_and_read_the_same(
    reader: Reader,
    cameras: list[Frames],
    link: str,
    share: float,
    max_rate: float,
    count: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    profile = parse_link(link)
    rate = profile.rate_bps / 8 * share
    log, readings, seconds, run = replay_run(reader, cameras[:count], profile, rate, max_rate, monkeypatch)
    nodes_log, nodes_readings = nodes_run(reader.codec, cameras[:count], profile, rate, max_rate, seconds)
    assert len(log) > 50
    assert log == nodes_log[: len(log)]
    assert not [entry for entry in nodes_log[len(log) :] if entry[1] == "packet"]
    assert len(readings) == len(nodes_readings) > 20
    for end in range(count):
        name = camera_name(end)
        assert [one for one in readings if one[0] == name] == [one for one in nodes_readings if one[0] == name]
    kinds = {kind for _, kind, _, _, _ in log}
    assert kinds >= {"packet", "info", "note", "request"}, "envelopes, descriptions, clocks and reports are all sent"
    assert any(cause == "loss" for *_, cause in log)
    assert any(item.repeat for item in run.sent), "coarse blocks are repeated by measured loss"


def test_the_links_of_these_runs_make_the_sender_pare_and_slow(reader: Reader, cameras: list[Frames]) -> None:
    """What the equality above would be worth little without: advice is followed, and the rate follows the link."""
    run = run_virtual(SemhierStream(reader, COSTS, max_rate=8.0), cameras[:1], parse_link(THIN), 727.5)
    came = run.parts.items()
    pared = [one for one, data in came if data != reader.encoded(cameras[0], one[1]).blocks[one[2]]]
    assert len(pared) > 10, "blocks gave up names for the link"
    run = run_virtual(SemhierStream(reader, COSTS), cameras[:1], parse_link(SHRINKING), 7760.0)
    late = sum(item.wire_bytes for item in run.sent if 3.0 <= item.time < 4.8 and item.number >= 0) / 1.8
    assert late < 1.1 * 2000.0, "the sender went on faster than the link"


def test_a_packet_of_30_bytes_is_charged_79(reader: Reader, cameras: list[Frames]) -> None:
    """44 bytes of Zenoh, UDP and IP, 5 of the envelope. The nodes' engine: test_measured_sessions."""
    sizes: dict[int, set[int]] = {}
    run = Run("tiny", "one block a frame", [1])
    session = TinyStream(reader, COSTS, reader.codec).session(cameras[:1], 8000.0, parse_link("64kbit,50ms,seed1"), run)
    hop: Any = session._way.hop
    heard = hop._on_message
    hop._on_message = lambda message: (
        sizes.setdefault(len(message.data) - 5, set()).add(message.wire_bytes) if message.datagram else None,
        heard(message),
    )
    session.offer(0, 0, 0, 0.0)
    now: float | None = 0.0
    while now is not None and now < 2.0:
        session.arrive(now)
        session.work(now)
        now = session.next_event(now)
    assert sizes == {30: {79}}
    assert {item.wire_bytes for item in run.sent if item.number >= 0} == {79}


class TinyStream(BlockStream):
    """One block of 15 bytes a frame."""

    def maker(self, camera: Any, radio: bool = False) -> Any:
        tag = self.codec.stream_tag

        class Tiny(PictureMaker):
            def open(self, source: Any, frame: int, stamp_ns: int, max_bytes: int | None) -> Opened:
                return Opened(camera.size, iter([Block(tag, frame, 0, bytes(15))]))

        maker = Tiny(self.reader.codec)
        maker.block_names, maker.semantic_blocks, maker.levels = ("level_0",), 1, 1
        return maker
