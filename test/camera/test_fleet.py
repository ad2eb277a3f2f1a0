"""Many cameras, one decoder: the same readings and pictures as alone, fair turns, bounds, damage, a device lost."""

from __future__ import annotations

import time
from dataclasses import fields, replace
from itertools import islice
from typing import Any

import cv2
import numpy as np
import pytest

from semhier_ros import Codec
from semhier_ros.camera.decoder_end import DecoderEnd, Output
from semhier_ros.camera.fleet import FORESEEN, CameraQueue, Fleet, Limits
from semhier_ros.camera.worker import FleetWorker
from semhier_ros.codec.packet import Block, Packet
from semhier_ros.codec.reading import Detection
from semhier_ros.codec.stream_info import StreamInfo
from semhier_ros.lab.made_scenes import FRAME_NS, drive
from semhier_ros.link.clock import ManualClock

SECOND = 1_000_000_000
SIZE = (320, 192)


@pytest.fixture(scope="module")
def road() -> Codec:
    return Codec.load("road", "cpu", threads=1)


@pytest.fixture(scope="module")
def imagenet() -> Codec:
    return Codec.load("imagenet", "cpu", threads=1)


def picture_of(seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 256, (6, 10, 3)).astype(np.uint8)
    return cv2.resize(coarse, SIZE, interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def road_frames(road: Codec) -> list[list[Block]]:
    return [road.encode(picture_of(seed), frame=seed) for seed in range(4)]


@pytest.fixture(scope="module")
def imagenet_frame(imagenet: Codec) -> list[Block]:
    return imagenet.encode(picture_of(9), frame=0)


def description(codec: Codec) -> StreamInfo:
    return StreamInfo(
        camera="front",
        model=codec.name,
        stream_hash=codec.stream_hash,
        model_hash=codec.model_hash,
        width=SIZE[0],
        height=SIZE[1],
        frame_id="camera",
        stamp_ns=SECOND,
    )


class Base:
    """A fleet whose lanes are driven by hand, and what came out of it."""

    def __init__(self, codecs: list[Codec], cameras: list[str], **more: Any) -> None:
        self.readings: list[tuple[str, Output]] = []
        self.pictures: list[tuple[str, np.ndarray, Output]] = []
        self.errors: list[Exception] = []
        self.said: list[tuple[str, str]] = []
        self.clock = ManualClock()
        limits, memory = more.pop("limits", Limits()), more.pop("memory", False)
        by_hash = {codec.stream_hash: codec for codec in codecs}
        report = lambda *words: self.said.append(words)  # noqa: E731
        self.ends = {
            camera: DecoderEnd(camera, by_hash, 8, report, memory=memory, pictures_later=True) for camera in cameras
        }
        self.fleet = Fleet(
            self.ends,
            limits,
            on_reading=lambda camera, output: self.readings.append((camera, output)),
            on_picture=lambda camera, rgb, output: self.pictures.append((camera, rgb, output)),
            wants_picture=lambda end, output: end.has_picture(output.reading),
            on_error=self.errors.append,
            report=lambda *words: self.said.append(words),
            clock=more.pop("clock", self.clock),
            **more,
        )

    def send(self, camera: str, blocks: list[Block]) -> None:
        for block in blocks:
            self.fleet.put(camera, (block, SECOND + block.frame))

    def read_all(self) -> None:
        while self.fleet.read():
            pass

    def paint_all(self) -> list[int]:
        sizes = []
        while self.fleet.next_picture() is not None:
            sizes.append(self.fleet.paint())
        return sizes


def alone(codec: Codec, blocks: list[Block]) -> tuple[list[Any], np.ndarray]:
    """Readings after each block, and the picture, of a decoder that serves one camera."""
    decoder = codec.decoder(SIZE)
    readings = [decoder.push(block) for block in blocks]
    picture = decoder.picture(blocks[0].frame)
    assert picture is not None
    return readings, picture


def assert_same(found: tuple[Detection, ...], expected: tuple[Detection, ...]) -> None:
    """The same detections, but for the rounding of sums in float64, and of boxes in float32."""
    bare = lambda one: replace(one, box=(), scores=(), others=tuple([n for n, _ in level] for level in one.others))  # noqa: E731
    assert [bare(one) for one in found] == [bare(one) for one in expected]
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine.scores, other.scores, rtol=0, atol=1e-12)
        np.testing.assert_allclose(mine.box, other.box, rtol=1e-6)
        for here, there in zip(mine.others, other.others, strict=True):
            np.testing.assert_allclose([c for _, c in here], [c for _, c in there], rtol=0, atol=1e-12)


def test_every_camera_gets_what_it_would_get_alone(road, imagenet, road_frames, imagenet_frame):
    base = Base([road, imagenet], ["a", "b", "c", "w"])
    sent = {"a": (road, road_frames[0]), "b": (road, road_frames[1]), "c": (road, road_frames[2][:6])}
    sent["w"] = (imagenet, imagenet_frame)
    for camera, (codec, blocks) in sent.items():
        base.fleet.put(camera, description(codec))
        base.send(camera, blocks)
    base.read_all()
    assert base.paint_all() == [3, 1], "the cameras of one model together"
    assert not base.errors
    for camera, (codec, blocks) in sent.items():
        readings, picture = alone(codec, blocks)
        found = [output.reading for name, output in base.readings if name == camera]
        assert_same(found[-1].detections, readings[codec.semantic_blocks - 1].detections)
        ((shown, output),) = [(rgb, output) for name, rgb, output in base.pictures if name == camera]
        np.testing.assert_array_equal(shown, picture)
        assert output.reading.prefix == len(blocks) - 1
        assert output.reading.payload_bytes == sum(len(block.data) for block in blocks)
    figures = base.fleet.figures()
    assert (figures.pictures, figures.batches, figures.batched) == (4, 2, 4)
    assert figures.device > 0
    assert figures.entropy > 0
    assert figures.host > 0


def test_what_is_worked_out_together_is_what_each_would_get_in_the_same_order(road, road_frames, monkeypatch):
    cameras = [f"camera_{number}" for number in range(FORESEEN + 3)]
    sizes: list[int] = []
    plain = road.readings
    monkeypatch.setattr(road, "readings", lambda requests: sizes.append(len(requests)) or plain(requests))
    bases = []
    for together in (True, False):
        base = Base([road], cameras)
        if not together:
            monkeypatch.setattr(base.fleet, "_foresee", lambda together, now: None)
        for number, camera in enumerate(cameras):
            base.fleet.put(camera, description(road))
            for block in road_frames[number % 4][:4]:
                base.fleet.put(camera, Packet.pack([block], stamp_ns=None if block.index else SECOND))
        base.read_all()
        assert not base.errors
        assert not base.said
        bases.append(base)
    assert max(sizes) == FORESEEN
    assert sum(sizes) >= 3 * len(cameras)
    batched, single = (base.readings for base in bases)
    order = [[(camera, one.reading.frame, one.reading.prefix) for camera, one in base] for base in (batched, single)]
    assert order[0] == order[1]
    assert len(order[0]) >= 3 * len(cameras)
    for (_, found), (_, expected) in zip(batched, single, strict=True):
        assert_same(found.reading.detections, expected.reading.detections)
    counters = [[base.ends[camera].all_counters() for camera in cameras] for base in bases]
    assert counters[0] == counters[1]


def remembering_packets(codec: Codec, seed: int, frames: int) -> list[bytes]:
    """Packets of a made scene whose frames, after the first, refer to the one before."""
    model: Any = codec.model
    memory, scene = codec.memory(), drive(model.stream.layout, seed)
    base = DecoderEnd("front", {codec.stream_hash: codec}, 8, lambda *words: None, memory=True)
    base.describe(description(codec), 0.0)
    packets = []
    for frame, objects in enumerate(islice(scene, frames)):
        stamp_ns, features = (
            SECOND + frame * FRAME_NS,
            np.zeros((len(objects), len(model.folder.projection.feature_mean))),
        )
        memory.begin(frame, stamp_ns)
        seen = replace(objects, features=features.astype(np.float32))
        made = model.encode_objects(seen, codec.semantic_blocks, None, None, None, None, memory=memory)
        packets.append(Packet.pack(list(codec.bounded(made, frame, None)), stamp_ns=stamp_ns))
        base.datagram(packets[-1], frame * FRAME_NS / 1e9)
        assert base.acknowledgement is not None
        memory.heard(base.acknowledgement)
    assert base.all_counters()["decoder_deltas"] >= frames - 2
    return packets


def test_deltas_of_several_cameras_are_read_together_as_each_would_be_alone(road, monkeypatch):
    """One camera's delta is damaged, one's comes later than those that refer to it, one's does not come at all."""
    frames, cameras = 8, ["a", "b", "damaged", "late", "lost"]
    sent = {camera: remembering_packets(road, seed, frames) for seed, camera in enumerate(cameras)}
    whole = Packet.parse(sent["damaged"][3])
    broken = [replace(one, data=one.data + b"\xff\xff") for one in whole.blocks]
    sent["damaged"][3] = Packet.pack(broken, stamp_ns=SECOND + 3 * FRAME_NS)
    sent["late"].insert(5, sent["late"].pop(2))
    del sent["lost"][4]
    sizes: list[int] = []
    plain = road.readings
    monkeypatch.setattr(road, "readings", lambda requests: sizes.append(len(requests)) or plain(requests))
    bases = []
    for together in (True, False):
        base = Base([road], cameras, memory=True)
        if not together:
            monkeypatch.setattr(base.fleet, "_foresee", lambda together, now: None)
        for camera in cameras:
            base.fleet.put(camera, description(road))
        for number in range(frames):
            base.clock.set(number * FRAME_NS / 1e9)
            for camera in cameras:
                for packet in sent[camera][number : number + 1]:
                    base.fleet.put(camera, packet)
            base.read_all()
        assert not base.errors
        bases.append(base)
    assert sizes[:2] == [len(cameras)] * 2, "of whole frames, and of deltas"
    assert len(sizes) >= frames - 1
    assert min(sizes) > 1
    batched, single = bases
    assert batched.said == single.said
    assert {kind for kind, _ in batched.said} == {"damaged", "refused_deltas"}
    assert [(camera, one.reading.frame) for camera, one in batched.readings] == [
        (camera, one.reading.frame) for camera, one in single.readings
    ]
    for (_, found), (_, expected) in zip(batched.readings, single.readings, strict=True):
        assert_same(found.reading.detections, expected.reading.detections)
    for camera in cameras:
        ours, theirs = batched.ends[camera], single.ends[camera]
        assert ours.all_counters() == theirs.all_counters()
        assert ours.acknowledgement == theirs.acknowledgement
        assert states_of(ours) == states_of(theirs)
    assert batched.ends["late"].counters["readings"] == batched.ends["a"].counters["readings"]


def states_of(end: Any) -> list[tuple[Any, ...]]:
    """Every number of every state that a camera's memory holds."""
    held = end._decoder._memory._states
    return [
        tuple(repr(getattr(state, one.name)) for one in fields(state)) for states in held.values() for state in states
    ]


def test_damage_among_what_is_worked_out_together_costs_its_own_camera_alone(road, road_frames):
    cameras = ["a", "b", "c"]
    base = Base([road], cameras)
    for camera in cameras:
        base.fleet.put(camera, description(road))
    for camera in cameras:
        block = road_frames[1][0]
        damaged = replace(block, data=block.data + b"\xff\xff\xff") if camera == "b" else block
        base.send(camera, [damaged, *road_frames[1][1:3]])
    base.read_all()
    assert [kind for kind, _ in base.said] == ["damaged"]
    assert {camera for camera, _ in base.readings} == {"a", "c"}
    base.send("b", road_frames[1][:1])  # a good copy is still welcome, and what came after it had waited
    base.read_all()
    assert max(output.reading.prefix for camera, output in base.readings if camera == "b") == 2
    assert not base.errors


def test_a_coarse_packet_passes_finer_ones_that_are_worked_out_already(road, road_frames):
    base = Base([road], ["a", "b", "late"])
    for camera in ("a", "b", "late"):
        base.fleet.put(camera, description(road))
    for camera in ("a", "b"):
        base.send(camera, road_frames[0][:1])
    base.read_all()
    for camera in ("a", "b"):
        base.send(camera, road_frames[0][1:2])
    base.fleet.read()  # of a; that of b is foreseen
    base.send("late", road_frames[2][:1])
    base.fleet.read()
    assert base.readings[-1][0] == "late"
    base.read_all()
    assert base.readings[-1][0] == "b"
    assert base.readings[-1][1].reading.level == 1


def test_readings_come_though_no_picture_is_ever_made(road, road_frames):
    base = Base([road], ["a"])
    base.fleet.put("a", description(road))
    for blocks in road_frames:
        base.send("a", blocks)
    base.read_all()
    assert {output.reading.frame for _, output in base.readings} == {0, 1, 2, 3}
    assert not base.pictures


def test_one_camera_alone_is_read_while_its_picture_is_decoded(road, road_frames):
    base = Base([road], ["a"])
    base.fleet.put("a", description(road))
    base.send("a", road_frames[0])
    base.read_all()
    assert base.ends["a"].all_counters()["decoder_blocks"] == road.semantic_blocks, "picture blocks wait as they came"
    during: list[tuple[int, int]] = []

    def a_coarse_block_comes() -> None:
        if not during:
            base.send("a", road_frames[1][:1])
            base.read_all()
            during.append((base.readings[-1][1].reading.frame, len(base.pictures)))

    base.fleet.between = a_coarse_block_comes
    base.paint_all()
    assert during == [(1, 0)], "read before the picture of the frame before was there"
    assert [output.reading.frame for _, _, output in base.pictures] == [0]
    np.testing.assert_array_equal(base.pictures[0][1], alone(road, road_frames[0])[1])


def test_of_a_camera_that_is_behind_only_the_newest_picture_is_made(road, road_frames):
    base = Base([road], ["a"])
    base.fleet.put("a", description(road))
    for blocks in road_frames:
        base.send("a", blocks)
    base.read_all()
    base.paint_all()
    assert [output.reading.frame for _, _, output in base.pictures] == [3]
    base.send("a", [road_frames[2][-1]])  # a late copy for a frame that a newer one has overtaken
    base.read_all()
    assert base.fleet.next_picture() is None


def test_a_flood_of_damage_costs_the_others_no_turn(road, road_frames):
    base = Base([road], ["flood", "b"], limits=Limits(packets=50))
    base.fleet.put("flood", description(road))
    base.fleet.put("b", description(road))
    base.read_all()
    draw = np.random.default_rng(5)
    for _ in range(5000):
        base.fleet.put("flood", draw.bytes(int(draw.integers(1, 60))))
    base.send("b", road_frames[0][:1])
    assert base.fleet.counters["overflow"] == 4950
    base.fleet.read()
    base.fleet.read()
    assert [camera for camera, _ in base.readings] == ["b"], "its turn came after one packet of the flood"
    base.read_all()
    assert base.ends["flood"].counters["damaged"] == 50
    assert not base.errors


def test_coarse_blocks_come_before_finer_ones_that_came_earlier(road, road_frames):
    base = Base([road], ["a", "b"])
    for camera in ("a", "b"):
        base.fleet.put(camera, description(road))
    base.read_all()
    for block in road_frames[0]:
        base.fleet.put("a", Packet.pack([block], stamp_ns=SECOND))
    base.fleet.put("b", Packet.pack(road_frames[1][:1], stamp_ns=SECOND))
    base.fleet.read()
    base.fleet.read()
    assert [(camera, output.reading.level) for camera, output in base.readings] == [("a", 0), ("b", 0)]
    base.read_all()
    assert ("a", 2) in {(camera, output.reading.level) for camera, output in base.readings}


def test_a_flood_of_coarse_blocks_cannot_keep_finer_ones_back(road, road_frames):
    base = Base([road], ["flood", "b"])
    for camera in ("flood", "b"):
        base.fleet.put(camera, description(road))
    base.send("b", road_frames[0][:3])
    for frame in range(200):
        base.fleet.put("flood", (replace(road_frames[1][0], frame=frame), SECOND + frame))
    for _ in range(14):
        base.fleet.read()
    assert max(output.reading.level for camera, output in base.readings if camera == "b") == 2


def test_a_packet_that_waited_too_long_goes_where_several_later_ones_wait(road, road_frames):
    base = Base([road], ["a", "b"], limits=Limits(late=0.5))
    for camera in "ab":
        base.fleet.put(camera, description(road))
    while base.fleet.read():
        pass
    coarse = [Packet.pack([replace(road_frames[0][0], frame=frame)], stamp_ns=2 * SECOND) for frame in range(7)]
    base.fleet.put("a", coarse[0])
    base.fleet.put("a", (replace(road_frames[0][0], frame=1), 2 * SECOND))
    for packet in coarse[2:6]:
        base.fleet.put("a", packet)
    for packet in coarse[:2]:  # a moment's standstill loses nothing
        base.fleet.put("b", packet)
    base.clock.set(base.clock.now() + 0.6)
    base.fleet.put("a", coarse[6])
    while base.fleet.read():
        pass
    read = {camera: [output.reading.frame for one, output in base.readings if one == camera] for camera in "ab"}
    assert read == {"a": [4, 5, 6], "b": [0, 1]}
    assert base.fleet.counters["overflow"] == 4


def test_a_damaged_picture_block_stops_its_own_frame_alone(road, road_frames):
    base = Base([road], ["a", "b"])
    good = road_frames[0]
    broken = [*road_frames[1]]
    place = road.semantic_blocks + 1
    broken[place] = Block(broken[place].stream, 1, place, broken[place].data + b"\1" * 100)
    for camera, blocks in (("a", good), ("b", broken)):
        base.fleet.put(camera, description(road))
        base.send(camera, blocks)
    base.read_all()
    base.paint_all()
    assert [(camera, output.reading.prefix) for camera, _, output in base.pictures] == [
        ("a", len(good) - 1),
        ("b", place - 1),
    ]
    assert base.ends["b"].counters["damaged"] == 1
    base.send("b", [road_frames[1][place]])
    base.read_all()
    base.paint_all()
    camera, shown, output = base.pictures[-1]
    assert (camera, output.reading.prefix) == ("b", len(good) - 1)
    np.testing.assert_array_equal(shown, alone(road, road_frames[1])[1])


def test_a_picture_waits_for_company_as_long_as_it_may_and_no_longer(road, road_frames):
    base = Base([road], ["a", "b"], limits=Limits(company=0.003))
    for camera in ("a", "b"):
        base.fleet.put(camera, description(road))
    base.clock.set(1.0)
    base.send("a", road_frames[0])
    base.read_all()
    assert base.fleet.next_picture() == pytest.approx(base.clock.now() + 0.003)
    base.send("b", road_frames[1])
    base.read_all()
    assert base.fleet.next_picture() == pytest.approx(base.clock.now()), "all cameras are here"


class Painting:
    """A codec that notes how many pictures it paints at once; `batches`: it says that its device gains by several,
    `fails`: it cannot do so."""

    def __init__(self, codec: Codec, batches: bool, fails: bool) -> None:
        self._codec, self.batches, self._fails = codec, batches, fails
        self.passes: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codec, name)

    def pictures(self, requests: Any, spent: Any = None) -> list[np.ndarray]:
        if self._fails and len(requests) > 1:
            raise ValueError("a bad frame")
        self.passes.append(len(requests))
        return self._codec.pictures(requests, spent)


@pytest.mark.parametrize(
    ("batches", "fails", "passes"), [(True, False, [2]), (False, False, [1, 1]), (True, True, [1, 1])]
)
def test_pictures_that_are_due_are_painted_in_one_pass_where_the_device_gains_by_it(
    road, road_frames, batches, fails, passes
):
    codec: Any = Painting(road, batches, fails)
    base = Base([codec], ["a", "b"])
    for camera, blocks in zip("ab", road_frames, strict=False):
        base.fleet.put(camera, description(road))
        base.send(camera, blocks)
    base.read_all()
    base.paint_all()
    assert codec.passes == passes
    assert not base.errors
    assert [camera for camera, _, _ in base.pictures] == ["a", "b"]
    for (_, shown, _), blocks in zip(base.pictures, road_frames, strict=False):
        np.testing.assert_array_equal(shown, alone(road, blocks)[1])
    assert [end.counters["pictures"] for end in base.ends.values()] == [1, 1]


def test_a_queue_is_bounded_in_number_and_in_bytes(road):
    queue = CameraQueue(Limits(packets=10, bytes=1 << 16))
    assert sum(queue.put(b"x" * 20_000, 0.0) for _ in range(5)) == 2
    assert len(queue) == 3
    assert queue.put(b"x" * (1 << 17), 0.0) == 1
    assert len(queue) == 3, "what is larger than the queue goes alone"
    queue = CameraQueue(Limits(packets=3))
    queue.put(description(road), 0.0)
    assert sum(queue.put(bytes([n]), 1.0) for n in range(6)) == 4
    assert isinstance(queue.pop(0.0, coarse=True)[0].task, StreamInfo), "a description outlives packets"
    with pytest.raises(ValueError, match=r"company: 2 is outside 0\.\.1"):
        Limits(company=2)


@pytest.fixture
def on_torch() -> Codec:
    pytest.importorskip("torch", reason="torch is not installed (extra `cuda`)")
    return Codec.load("road", "torch")


def test_a_batch_that_no_memory_holds_is_made_in_parts_and_the_device_stays(road) -> None:
    class OutOfMemoryError(RuntimeError):
        """As torch calls it."""

    base, sizes = Base([road], ["a"]), []

    def work(items: list[int]) -> list[int]:
        sizes.append(len(items))
        if len(items) > 2:
            raise OutOfMemoryError("CUDA out of memory")
        return [2 * item for item in items]

    assert base.fleet._each(road, list(range(7)), work) == [2 * item for item in range(7)]
    assert sizes == [7, 3, 1, 2, 4, 2, 2]
    assert not base.said


@pytest.mark.parametrize("where", ["arithmetic", "synthesise_many", "_paint"])
def test_a_device_that_is_lost_is_said_once_and_the_cpu_goes_on(on_torch, road, road_frames, where, monkeypatch):
    base = Base([on_torch], ["a", "b"])

    def lost(*_: Any) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore lines")

    backend = on_torch.model.backend
    if where == "arithmetic":
        monkeypatch.setattr(backend.arithmetic, "product", lost)
    else:
        monkeypatch.setattr(backend, where, lost)
    for camera, blocks in (("a", road_frames[0]), ("b", road_frames[1])):
        base.fleet.put(camera, description(on_torch))
        base.send(camera, blocks)
    base.read_all()
    base.paint_all()
    base.send("a", road_frames[2])
    base.read_all()
    base.paint_all()
    lines = [text for kind, text in base.said if kind == "device_lost"]
    assert lines == [
        "device torch of model road is lost, goes on on the CPU: CUDA error: an illegal memory access was encountered"
    ]
    assert on_torch.device == "cpu"
    assert not base.errors
    shown = [(camera, output.reading.frame, rgb) for camera, rgb, output in base.pictures]
    assert [(camera, frame) for camera, frame, _ in shown] == [("a", 0), ("b", 1), ("a", 2)]
    for _, frame, rgb in shown:
        np.testing.assert_array_equal(rgb, alone(road, road_frames[frame])[1])


def test_an_error_on_the_cpu_costs_one_camera_its_picture(road, road_frames, monkeypatch):
    base = Base([road], ["a", "b"])
    real = road.model.stream.pictures.decode_together

    def wrong(works: Any, *more: Any) -> Any:
        if any(work.data == bad for work in works):
            raise ArithmeticError("unforeseen")
        return real(works, *more)

    monkeypatch.setattr(road.model.stream.pictures, "decode_together", wrong)
    for camera, blocks in (("a", road_frames[0]), ("b", road_frames[1])):
        base.fleet.put(camera, description(road))
        base.send(camera, blocks)
    base.read_all()
    found = base.ends["a"].newest_work()
    assert found is not None
    bad = found[1].data
    base.paint_all()
    assert [camera for camera, _, _ in base.pictures] == ["b"]
    assert [str(error) for error in base.errors] == ["unforeseen"]


def test_its_threads_read_and_paint_packets_of_many_cameras(road, road_frames):
    from semhier_ros.link.clock import MACHINE

    base = Base([road], ["a", "b", "c"], clock=MACHINE)
    worker = FleetWorker(base.fleet)
    try:
        for camera in ("a", "b", "c"):
            worker.put(camera, description(road))
            for block in road_frames[0]:
                worker.put(camera, Packet.pack([block], stamp_ns=SECOND + 5))
        deadline = time.monotonic() + 120
        complete = len(road.block_names) - 1
        while time.monotonic() < deadline:
            done = {camera for camera, _, output in list(base.pictures) if output.reading.prefix == complete}
            if done == {"a", "b", "c"}:
                break
            time.sleep(0.02)
    finally:
        worker.close()
    assert done == {"a", "b", "c"}
    assert not base.errors


def test_a_picture_stops_between_its_steps_where_coarse_packets_wait(road, road_frames):
    base = Base([road], ["a", "b"])
    for camera in ("a", "b"):
        base.fleet.put(camera, description(road))
    base.send("a", road_frames[0])
    base.read_all()
    waited = []

    def between() -> None:
        waited.append(base.fleet.coarse_waits)
        base.read_all()  # as the other thread does meanwhile

    base.fleet.between = between
    base.send("b", road_frames[1][:1])
    assert base.fleet.coarse_waits
    assert base.fleet.paint() == 1
    assert waited[0]
    assert not any(waited[1:])
    assert len(waited) > len(road_frames[0]) - road.semantic_blocks, "more often than once a block"
    assert [camera for camera, _, _ in base.pictures] == ["a"]
    assert not base.errors
