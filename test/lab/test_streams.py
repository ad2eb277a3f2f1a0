"""Frame streams in virtual time: the package's own decoder agrees, the same input gives the same run, budgets hold."""

from __future__ import annotations

import importlib.util
import pickle
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from replay_footage import Frames, street_pictures

from semhier_ros.codec.reading import Detection
from semhier_ros.lab.baselines.answer import AnswerCoder, AnswerStream
from semhier_ros.lab.baselines.picture_files import PictureSetting
from semhier_ros.lab.baselines.pictures import PictureStream
from semhier_ros.lab.baselines.search import make_stream
from semhier_ros.lab.baselines.video import (
    VideoReceiver,
    VideoSender,
    VideoSetting,
    chosen,
    encode_video,
    frames_per_second,
    units,
)
from semhier_ros.lab.replay.base import Costs, Run, run_virtual
from semhier_ros.lab.replay.blocks import SemhierStream
from semhier_ros.lab.replay.reader import Reader
from semhier_ros.lab.replay.store import Store
from semhier_ros.lab.replay.task import CODECS, StreamError, Task
from semhier_ros.lab.replay.work import largest_datagram
from semhier_ros.lab.scoring.figures import budget_use, middle
from semhier_ros.lab.scoring.streaming import Matching, World, draws
from semhier_ros.link.emulate.profile import parse_link
from semhier_ros.link.emulate.radio import RadioLink, parse_hop
from semhier_ros.paths import model_names
from semhier_ros.scene import remembering

needs_road = pytest.mark.skipif("road" not in model_names(), reason="models/road is not there")
needs_av = pytest.mark.skipif(importlib.util.find_spec("av") is None, reason="PyAV (extra video) is not installed")
LINK = parse_link("64kbit,50ms,5%,seed3")
TASK = Task((), "64kbit,50ms,5%,seed3", (), costs=Costs())
RATE = 7760.0


@pytest.fixture(scope="module")
def reader() -> Reader:
    if "road" not in model_names():
        pytest.skip("models/road is not there")
    return Reader.load("road")


@pytest.fixture(scope="module")
def camera() -> Frames:
    return Frames(street_pictures(24))


def picture_run(reader: Reader, camera: Frames, kind: str = "jpeg", parity: bool = True) -> Run:
    stream = PictureStream(reader, Costs(), PictureSetting(kind, 0.6, 20, 10.0, parity))
    return run_virtual(stream, [camera], LINK, RATE)


def test_the_same_run_twice(reader: Reader, camera: Frames) -> None:
    first, second = (run_virtual(SemhierStream(reader, Costs()), [camera], LINK, RATE) for _ in range(2))
    assert first.sent == second.sent
    assert first.answers == second.answers
    assert first.blocks == second.blocks
    assert first.link["lost"] > 0


def test_with_memory_no_loss_drives_the_ends_apart(
    reader: Reader, camera: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembering, "LEAST_OBJECTS", 0)  # the footage shows few
    lossy = parse_link("64kbit,50ms,20%,burst4,seed3")
    memory = run_virtual(SemhierStream(reader, Costs(), memory=True), [camera], lossy, RATE)
    counts = memory.counters
    assert counts["deltas"] >= 5
    assert counts["deltas"] == len(memory.deltas)
    assert counts["acknowledged"] > 0
    assert not {"acknowledged_unknown", "decoder_damaged"} & counts.keys()
    assert counts["decoder_refused_deltas"] > 0  # they refer to frames that were lost, or come later
    assert {item.level for item in memory.answers} == {0, 1, 2}
    by_delta = [item for item in memory.answers if (0, item.number) in memory.deltas]
    assert by_delta
    assert all(item.level == 2 and item.prefix >= 3 for item in by_delta)
    assert any(item.detections for item in by_delta)
    again = run_virtual(SemhierStream(reader, Costs(), memory=True), [camera], lossy, RATE)
    assert again.sent == memory.sent
    assert again.deltas == memory.deltas


class Slow(Frames):
    """The same pictures to and fro for half a minute, five a second, with stamps that are no multiple of 8 ms."""

    def __init__(self, pictures: list[np.ndarray]) -> None:
        super().__init__(pictures)
        there, back = range(len(pictures)), range(len(pictures) - 2, 0, -1)
        self._order = ([*there, *back] * 4)[:150]
        self.times_ns = [number * 201_234_567 for number in range(len(self._order))]

    def __len__(self) -> int:
        return len(self._order)

    def key(self, number: int) -> str:
        return super().key(self._order[number])

    def image(self, number: int) -> np.ndarray:
        return super().image(self._order[number])


def test_memory_and_motion_cross_a_radio_that_carries_most_frames_with_and_without(
    reader: Reader, camera: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1.2 kbit/s, frames of 32 bytes, half duplex, 5 % lost: what comes can be read, and most frames do."""
    pytest.importorskip("serial", reason="pyserial is not installed: requirements/radio.txt")
    monkeypatch.setattr(remembering, "LEAST_OBJECTS", 0)  # the footage shows few
    slow, radio = Slow(camera._pictures), parse_hop("acoustic,seed3")
    assert isinstance(radio, RadioLink)
    runs = [
        run_virtual(SemhierStream(reader, Costs(), memory=on, motion=on), [slow], radio, 145.0) for on in (False, True)
    ]
    shares = [len({item.number for item in run.answers}) / len(slow) for run in runs]
    counts = runs[1].counters
    assert counts["deltas"] > 0.7 * counts["encoded"]
    assert counts["acknowledged"] >= 10
    assert counts.keys().isdisjoint({"acknowledged_unknown", "decoder_damaged", "decoder_refused_deltas"})
    assert min(shares) > 0.75, shares
    assert sum(one.wire_bytes for one in runs[1].sent) <= 150 * runs[1].seconds
    again = run_virtual(SemhierStream(reader, Costs(), memory=True, motion=True), [slow], radio, 145.0)
    assert (again.sent, again.deltas) == (runs[1].sent, runs[1].deltas)


def test_an_idle_radio_carries_every_object_of_a_scene_and_its_names(reader: Reader, camera: Frames) -> None:
    """Nobody says how many frames are wanted: two a second come, and each may fill what the radio carries meanwhile."""
    pytest.importorskip("serial", reason="pyserial is not installed: requirements/radio.txt")
    crowded = [np.tile(picture, (3, 3, 1)) for picture in camera._pictures[::2]]
    slow = Frames(crowded, "crowded")
    slow.times_ns = [number * 500_000_000 for number in range(len(slow))]
    run = run_virtual(SemhierStream(reader, Costs()), [slow], parse_hop("serial9600,loss0%,seed3"), 960.0)
    best = {item.number: item for item in run.answers}
    assert len(best) == len(slow)
    assert {item.level for item in best.values()} == {2}
    pairs = [(item.detections, reader.reference(slow, number)) for number, item in best.items()]
    for level in range(3):
        found = Matching().paired(pairs, level).value()
        assert found is not None
        assert found > 0.9, level


def test_every_answer_is_that_of_its_frame_and_later_than_physics(reader: Reader, camera: Frames) -> None:
    costs = Costs()
    run = run_virtual(SemhierStream(reader, costs), [camera], LINK, RATE)
    assert {item.number for item in run.answers} >= set(range(10, 20))
    for item in run.answers:
        assert (
            item.detections
            == reader.encoded(camera, item.number).readings[min(item.prefix, reader.semantic_blocks - 1)]
        )
        assert item.ready - item.stamp_ns / 1e9 >= costs.semantic + LINK.delay_s + costs.read - 1e-9


def test_semhier_keeps_its_budget(reader: Reader, camera: Frames) -> None:
    run = run_virtual(SemhierStream(reader, Costs()), [camera], LINK, RATE)
    packets = [(item.time, item.wire_bytes) for item in run.sent if item.number >= 0]
    use = budget_use(packets, RATE, largest_datagram("semhier", RATE))
    assert use.kept
    assert use.excess > use.largest - 5, "one of the largest leaves at once, and an envelope takes 5 bytes"
    assert not run.link["dropped at the full queue"]


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_pictures_keep_their_budget_and_are_read_as_decoded(reader: Reader, camera: Frames, kind: str) -> None:
    run = picture_run(reader, camera, kind)
    assert len({item.number for item in run.answers}) >= 3
    assert budget_use([(item.time, item.wire_bytes) for item in run.sent], RATE, 1245).kept
    assert {item.purpose for item in run.sent} == {"picture", "parity"}


def test_two_cameras_share_a_link(reader: Reader, camera: Frames) -> None:
    cameras = [camera, Frames(street_pictures(24)[::-1], "rear")]
    for stream in (
        SemhierStream(reader, Costs()),
        PictureStream(reader, Costs(), PictureSetting("jpeg", 0.4, 10, 10.0, False)),
    ):
        run = run_virtual(stream, cameras, LINK, RATE)
        heard = [sum(item.camera == place for item in run.answers) for place in range(2)]
        assert min(heard) > 0.4 * max(heard) > 0


def test_cameras_of_pictures_and_videos_share_one_budget() -> None:
    """While one camera has nothing to send the other has all of it; when both have, they take turns."""
    rate, slices = 2000.0, [b"\0\0\0\1" + bytes(400)] * 10
    for other, share in ((0, 1.0), (10, 0.5)):
        sender = VideoSender([{0: slices}, {0: slices[:other]}], rate, 0.0)
        for camera in range(2):
            sender.offer(camera, 0, 0, 0.0)
        sent: list[tuple[float, int, int]] = []
        now: float | None = 0.0
        while now is not None and len(sent) < 10:
            while (one := sender.pop(now)) is not None:
                sent.append((now, one.camera, one.wire_bytes))
            now = sender.next_event(now)
        assert [camera for _, camera, _ in sent] == ([0] * 10 if share == 1.0 else [0, 1] * 5)
        spent = sum(size for _, _, size in sent)
        assert spent / rate - 0.6 < sent[-1][0] < spent / rate
        assert budget_use([(at, size) for at, _, size in sent], rate, 1109).kept


@needs_road
def test_answers_survive_their_coder(reader: Reader, camera: Frames) -> None:
    coder = AnswerCoder(reader.codec)
    sizes = []
    for number in range(len(camera)):
        blocks = reader.encoded(camera, number).blocks
        data = coder.encode(blocks)
        found, whole = coder.read(data, camera.size), reader.encoded(camera, number).readings[reader.levels - 1]
        assert len(found) == len(whole)
        assert [item.path[0] for item in found] == [item.path[0] for item in whole]
        named = [(a.path, b.path) for a, b in zip(found, whole, strict=True) if len(b.path) == reader.levels]
        assert all(mine == theirs for mine, theirs in named)
        assert len(data) <= sum(len(block) for block in blocks[: reader.levels])
        sizes.append(len(data) / max(1, len(found)))
    assert np.mean(sizes) < 12, "an object costs a handful of bytes"


@needs_road
def test_an_answer_pays_for_no_foot_bits(reader: Reader, camera: Frames) -> None:
    finer = Reader(reader.codec.with_foot_bits())
    plain, feet = AnswerCoder(reader.codec), AnswerCoder(finer.codec)
    model: Any = reader.codec.model
    count = 0
    for number in range(6, 24, 4):
        objects = model.find(camera.image(number))
        count += len(objects)
        data = plain.encode_objects(objects, None, None)
        assert feet.encode_objects(objects, None, None) == data
        assert feet.encode(finer.encoded(camera, number).blocks) == plain.encode(reader.encoded(camera, number).blocks)
        assert feet.read(data, camera.size) == plain.read(data, camera.size)
    assert count


@needs_road
@pytest.mark.parametrize("most", [None, 24])
def test_a_live_answer_is_the_one_that_is_remembered(reader: Reader, camera: Frames, most: int | None) -> None:
    """The detector looks at each picture anew, and the same bytes are said of it."""
    stream = AnswerStream(reader, Costs())
    kept, live = stream.maker(camera), stream.live_maker(camera)
    looks = []
    model = reader.codec.model
    real = model.find
    with pytest.MonkeyPatch.context() as patch:
        for number in range(len(camera)):
            (wanted,) = kept.open(number, number, 0, most).blocks
            patch.setattr(model, "find", lambda image: looks.append(image.shape) or real(image))
            (made,) = live.open(number, number, 0, most).blocks
            patch.setattr(model, "find", real)
            assert made == wanted
    assert len(looks) == len(camera)
    (again,) = live.open(0, 77, 0, None).blocks
    assert again.frame == 77


def test_intervals_hold_the_value_and_shrink_with_more_instants(reader: Reader, camera: Frames) -> None:
    run = run_virtual(SemhierStream(reader, Costs()), [camera], LINK, RATE)
    world = reader.world(camera)
    if not any(world.truths):
        pytest.skip("the detector sees nothing in this footage")
    matches = Matching().matches([world], [run.answers], 0)
    span = middle(matches.precision(draws([world], 200)))
    value = matches.value()
    assert span is not None
    assert value is not None
    assert span[0] - 0.15 <= value <= span[1] + 0.15
    assert 0 <= span[0] <= span[1] <= 1
    weights = draws([world], 50)
    assert weights.shape == (50, len(camera))
    assert set(weights.sum(axis=1)) == {float(len(camera))}


@needs_av
def test_h264_survives_losses(reader: Reader, camera: Frames) -> None:
    stream = make_stream("h264", TASK, reader, Costs(), [camera])
    run = run_virtual(stream, [camera], LINK, RATE)
    again = run_virtual(stream, [camera], LINK, RATE)
    assert run.answers == again.answers
    assert len(run.answers) >= 2
    assert budget_use([(item.time, item.wire_bytes) for item in run.sent], RATE, 1109).kept


def test_an_encoder_takes_no_more_frames_than_asked() -> None:
    times = [number * 40_000_000 for number in range(100)]
    assert chosen(times, 25.0) == list(range(100))
    five = chosen(times, 5.0)
    assert five == list(range(0, 100, 5))
    assert 49 <= len(chosen(times, 12.5)) <= 51


def test_a_rate_is_that_between_pauses() -> None:
    assert frames_per_second([0, 500_000_000, 1_000_000_000], 5.0) == pytest.approx(2.0)
    assert frames_per_second([0, 66_000_000, 166_000_000, 232_000_000, 332_000_000], 12.5) == pytest.approx(
        12.05, abs=0.01
    )
    assert frames_per_second([0, 10**8, 2 * 10**8, 20 * 10**9, 201 * 10**8], 12.5) == pytest.approx(10.0)
    assert frames_per_second([0, 10**8], 5.0) == frames_per_second([7], 5.0) == 5.0


@needs_av
def test_a_slow_camera_gets_the_bits_of_a_fast_one() -> None:
    pictures = [np.random.default_rng(n).integers(0, 256, (96, 160, 3)).astype(np.uint8) for n in range(20)]
    spent = []
    for rate in (2.0, 10.0):
        camera = Frames(pictures)
        camera.times_ns = [round(n / rate * 1e9) for n in range(20)]
        made = encode_video(camera, range(20), VideoSetting(1.0, 12.5, 400.0))
        spent.append(sum(len(unit) for units_of_one in made for unit in units_of_one) * rate / 20 * 8 / 1000)
    assert spent == [pytest.approx(400.0, rel=0.25)] * 2


@needs_av
def test_frames_of_many_slices_are_whole_when_the_last_one_is_there(camera: Frames, reader: Reader) -> None:
    slices = [b"\0\0\0\1" + bytes([65, n % 256]) for n in range(600)]
    sender = VideoSender([{0: slices, 1: slices[:2]}], 0.0, 0.0)
    receiver = VideoReceiver([camera], reader, 0.0)
    (state,) = receiver.states
    decoded: list[int] = []
    state.decode = lambda: decoded.append(len(state.slices))  # type: ignore[method-assign]
    for number in range(2):
        sender.offer(0, number, camera.times_ns[number], 0.0)
    sent = [one.payload for one in iter(lambda: sender.pop(0.0), None)]
    assert len(sent) == 602
    for payload in [*sent[:598], sent[599]]:  # of the first frame one is late
        receiver.push(0, payload, 0.0)
    assert decoded == []
    receiver.push(0, sent[598], 0.0)
    assert decoded == [600]
    receiver.push(0, sent[601], 0.0)
    receiver.push(0, sent[600], 0.0)
    assert decoded == [600, 2]
    with pytest.raises(ValueError, match=r"video: frame 0 has 32769 slices, 1 to 32768 expected"):
        VideoSender([{0: [b"\0\0\0\1A"] * 32769}], 0.0, 0.0).offer(0, 0, 0, 0.0)


def test_units_of_a_stream() -> None:
    """What a decoder may need rides with the slice after it; delimiters and what an encoder says of itself do not."""
    stream = b"\0\0\0\1\x09d\0\0\0\1\x67ab\0\0\1\x68c\0\0\0\1\x06\x05x264\0\0\1\x65slice\0\0\0\1\x41next"
    stream += b"\0\0\0\1\x06\x06sei\0\0\1\x41in"
    assert units(stream) == [
        b"\0\0\0\1\x67ab\0\0\0\1\x68c\0\0\0\1\x65slice",
        b"\0\0\0\1\x41next",
        b"\0\0\0\1\x06\x06sei\0\0\0\1\x41in",
    ]


@needs_av
def test_a_receiver_that_lost_the_first_frame_begins_at_a_recovery_point() -> None:
    there = street_pictures(20)
    camera = Frames([*there, *there[::-1]])  # nothing changes at once, so no key frame follows
    camera.times_ns = [number * 200_000_000 for number in range(40)]
    made = encode_video(camera, range(40), VideoSetting(1.0, 5.0, 60.0))
    sender = VideoSender([dict(enumerate(made))], 0.0, 0.0)
    receiver = VideoReceiver([camera], cast(Any, None), 0.0)
    (state,) = receiver.states
    seen: list[int] = []
    decode = state.decode

    def noted() -> None:
        assert state.open is not None
        if decode() is not None:
            seen.append(state.open[0])

    state.decode = noted  # type: ignore[method-assign]
    for number in range(40):
        sender.offer(0, number, camera.times_ns[number], 0.0)
        for one in iter(lambda: sender.pop(0.0), None):
            if number:
                receiver.push(0, one.payload, 0.0)
    assert seen
    assert seen == list(range(seen[0], 40))
    assert seen[0] <= 25


def test_a_store_remembers_across_processes(tmp_path: Path, reader: Reader, camera: Frames) -> None:
    found = reader.reference(camera, 0)
    with closing(Store(tmp_path / "made.sqlite")) as store:
        store.put("kind", "key", found)
    with closing(Store(tmp_path / "made.sqlite")) as store:
        assert store.get("kind", "key", tuple[Detection, ...]) == found
        assert store.get("kind", "other") is None
    with sqlite3.connect(tmp_path / "made.sqlite") as file:  # what a stranger might leave there
        file.execute("UPDATE told SET value = ?", (pickle.dumps(Path(tmp_path / "run")),))
    with closing(Store(tmp_path / "made.sqlite")) as store:
        assert store.get("kind", "key") is None
    (tmp_path / "bad.sqlite").write_bytes(b"this is no database" * 100)
    with closing(Store(tmp_path / "bad.sqlite")) as store:
        assert "not used" in store.problem
        store.put("kind", "key", 1)
        assert store.get("kind", "key") == 1


def test_what_cannot_run_says_why(reader: Reader, camera: Frames) -> None:
    assert CODECS == ("semhier", "answer", "jpeg", "webp", "h264")
    with pytest.raises(StreamError, match="'h265', one of semhier"):
        make_stream("h265", TASK, reader, Costs(), [camera])
    with pytest.raises(ValueError, match=r"cost detect: -1 ms, 0 to 60000 expected"):
        Costs.parse("detect=-1")
    with pytest.raises(ValueError, match=r"costs: 'speed', one of semantic"):
        Costs.parse("speed=3")
    assert Costs.parse("semantic=25,detect=40ms") == Costs(semantic=0.025, detect=0.04)


def test_a_world_without_objects_has_no_precision(camera: Frames) -> None:
    world = World(np.arange(3.0), [(), (), ()], "agreement")
    assert Matching().matches([world], [[]], 0).value() is None
