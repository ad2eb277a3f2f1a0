"""Deltas as the compiled walk writes and reads them, against Python's, bit for bit."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from semhier_ros.codec.entropy import BlockError
from semhier_ros.codec.packet import Doubted, PacketError
from semhier_ros.lab.made_scenes import FRAME_NS, drive
from semhier_ros.native import kernels
from semhier_ros.paths import find_model
from semhier_ros.scene import memory
from semhier_ros.scene.folder import read_scene_folder
from semhier_ros.scene.layout import SceneCode
from semhier_ros.scene.memory import UNIT, Delta, DeltaCodec, Said, SceneState, lengths_of_sides, side_lengths
from semhier_ros.scene.objects import Objects, code_objects
from semhier_ros.scene.remembering import ReceiverMemory, SenderMemory, _foretold_overlaps, _residuals, code_of
from semhier_ros.scene.tracks import SHARE_OF_SPEED

START_NS = 1_700_000_000_000_000_000
PATH = 10
"""The column of a state's table with the first level below the top."""


class Both(DeltaCodec):
    """Works by the compiled walk, and holds what it gives against what Python does."""

    def __init__(self, model: str) -> None:
        self.folder = read_scene_folder(find_model(model))
        super().__init__(self.folder.stream)
        self.plain = DeltaCodec(self.stream)
        self.plain.__dict__ |= {"compiled": None, "shown": None}
        self.deltas: list[tuple[bytes, SceneState, int, int]] = []
        assert self.compiled is not None
        assert self.shown is not None

    def code(self, objects: Objects) -> SceneCode:
        """A whole frame of these, with all latents."""
        features = np.zeros((len(objects), len(self.folder.projection.feature_mean)), np.float32)
        blocks = self.stream.semantic_blocks
        return code_objects(self.stream, self.folder.projection, replace(objects, features=features), blocks)

    def write(self, reference: SceneState, said: Said, frame: int, stamp_ns: int) -> tuple[bytes, SceneState]:
        found = super().write(reference, said, frame, stamp_ns)
        expected = self.plain.write(reference, said, frame, stamp_ns)
        assert found[0] == expected[0]
        assert same(found[1], expected[1])
        self.deltas.append((found[0], reference, frame, stamp_ns))
        return found

    def decode(
        self, data: bytes, find: Callable[[int, int], SceneState | None], frame: int, stamp_ns: int
    ) -> SceneState:
        expected = outcome(self.plain.decode, data, find, frame, stamp_ns)
        found = outcome(super().decode, data, find, frame, stamp_ns)
        if isinstance(found, PacketError):
            assert type(found) is type(expected)
            raise found
        assert isinstance(expected, SceneState)
        assert same(found, expected)
        self.show(found)
        return found

    def show(self, state: SceneState) -> None:
        """Holds what a state shows against what Python says."""
        found, expected = (code_of(codec, state) for codec in (self, self.plain))
        found.once("geometry", lambda: pytest.fail("geometry that is not handed on"))
        self.stream.told(expected, 0)
        for one, other in zip(arrays(found), arrays(expected), strict=True):
            assert one.dtype == other.dtype
            assert one.shape == other.shape
            assert one.tolist() == other.tolist()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(memory, "kernels", None)
            digest = replace(state).digest
        assert state.digest == digest


def arrays(code: SceneCode) -> list[NDArray]:
    assert code.boxes is not None
    placed = [code.cells, code.sizes, code.offsets, code.scores, code.boxes, code.worked["geometry"]]
    return [*placed, *code.kept, *code.path, *code.latents]


def outcome(decode: Callable[..., SceneState], *given: Any) -> SceneState | PacketError:
    """What it gives, or how it refuses."""
    try:
        return decode(*given)
    except PacketError as error:
        return error


def same(one: SceneState, other: SceneState) -> bool:
    return one.digest == other.digest and one.table.tobytes() == other.table.tobytes()


@pytest.fixture(scope="module")
def both() -> Both:
    return Both("road")


@pytest.fixture(scope="module", params=["road", "street", "coco80"])
def every(request: pytest.FixtureRequest) -> Both:
    return Both(request.param)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 60))
def test_a_state_shows_what_python_says(every: Both, seed: int, count: int) -> None:
    """Also where blocks are lacking, objects are hidden, and places are none that an encoder comes to."""
    rng = np.random.default_rng(seed)
    state = every.whole(every.code(next(drive(every.layout, seed, count))), rng.integers(0, 5), 7, START_NS)
    told = rng.integers(0, state.told + 1)
    every.show(
        replace(
            state,
            told=told,
            latents=tuple(
                rng.integers(-5000, 5000, group.shape) * (told > place)[:, None]
                for place, group in enumerate(state.latents)
            ),
            hidden=rng.integers(0, 5, len(state)) // 4,
            centre=state.centre + rng.integers(-9000, 9000, (len(state), 2)),
            logs=state.logs + rng.integers(-9000, 9000, (len(state), 2)),
        )
    )


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 40), loss=st.sampled_from([0.0, 0.1, 0.4]))
def test_drives_are_said_and_read_alike(both: Both, seed: int, count: int, loss: float) -> None:
    chance = random.Random(seed)
    sender, receiver = SenderMemory(both, whole_every=4.0), ReceiverMemory(both)
    for number, objects in zip(range(40), drive(both.layout, seed, count), strict=False):
        stamp = START_NS + number * FRAME_NS
        sender.begin(number, stamp)
        data = sender.delta(objects, objects.objectness.astype(float), chance.choice([None, None, 10]))
        code = None if data is not None else both.code(objects)
        if code is not None:
            sender.whole(code)
        if chance.random() >= loss:
            try:
                if code is not None:
                    receiver.whole(code, chance.randint(0, 2), number, stamp)
                else:
                    receiver.delta(data or b"", number, stamp)
            except PacketError:
                continue
            sender.heard(receiver.acknowledgement or b"")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_deltas_are_read_or_refused_alike(both: Both, draw: st.DataObject) -> None:
    if not both.deltas:
        sender, receiver = SenderMemory(both, whole_every=60.0), ReceiverMemory(both)
        for number, objects in zip(range(30), drive(both.layout, 7, 20), strict=False):
            stamp = START_NS + number * FRAME_NS
            sender.begin(number, stamp)
            if sender.delta(objects, objects.objectness.astype(float)) is None:
                code = both.code(objects)
                sender.whole(code)
                receiver.whole(code, 1, number, stamp)
                sender.heard(receiver.acknowledgement or b"")
    data, reference, frame, stamp = draw.draw(st.sampled_from(both.deltas[:20]))
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(0, 3))):
        damaged[draw.draw(st.integers(0, len(data) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    cut = bytes(damaged[: draw.draw(st.integers(1, len(data)))])
    for one in (cut, Doubted(cut)):
        try:
            state = both.decode(one, lambda number, check: reference, frame, stamp)
        except PacketError:
            continue
        assert len(state) <= both.layout.max_objects


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_what_a_sender_says_of_places_is_python_s(both: Both, seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    table = np.zeros((count, 10 + both.levels), np.int64)
    table[:, :2], table[:, 2:4] = rng.integers(0, both.edge, (count, 2)), rng.integers(-3072, 6145, (count, 2))
    table[:, 4:6] = rng.normal(0, 300, (count, 2))
    away, elapsed, sides = (
        rng.integers(-3000, 3000, 2).tolist(),
        int(rng.integers(1, 4000)),
        side_lengths(table[:, 2:4]),
    )
    centre = table[:, :2] + away + table[:, 4:6] * elapsed / 1024
    off = rng.normal(0, rng.choice([0.1, 0.4, 40.0]), (count, 2)) * sides
    boxes = np.concatenate([centre + off, sides * rng.uniform(0.5, 2, (count, 2))], axis=1) / UNIT
    speed = (table[:, 4:6] + rng.normal(0, 900, (count, 2))) / (SHARE_OF_SPEED * UNIT * 1024)
    error = rng.choice([np.inf, 1e-4, 1e-3], (count, 2))
    overlaps = [_foretold_overlaps(codec, table, boxes, away, elapsed) for codec in (both, both.plain)]
    assert overlaps[0].tobytes() == overlaps[1].tobytes()
    found, expected = (_residuals(codec, table, boxes, speed, error, away, elapsed) for codec in (both, both.plain))
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert one.tolist() == other.tolist()


AS_IT_IS, BELOW_0 = [1, 2], [0, 1]
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"moved": 1, "steered": 1}, "object 1: velocity changes by 0 and 0, expected one at least that is not 0"),
    (
        {"moved": 1},
        "object 1: place and size change by 0, and its velocity does not, expected one at least that is not 0",
    ),
    ({"labelled": 1, "score": -10}, "object 1: score -1, expected 0 to 11"),
    ({"labelled": 1, "score": 3}, "object 1: score 12, expected 0 to 11"),
    (
        {"labelled": 1},
        "object 1: score changes by 0, and its name does not, expected one at least that is not 0",
    ),
    ({"labelled": 1, "renamed": 2, "path": AS_IT_IS}, "object 1: renamed to [1, 2], expected another name than it has"),
    ({"labelled": 1, "renamed": 2, "path": BELOW_0}, "object 1: child 3 at level 2, expected less than 3"),
    ({"born": [[9, 5, 5, 8, 8, 1], [9, 5, 5, 8, 8, 1]]}, "new object 1: cell 9, expected more than 9"),
    ({"born": [[9, 5, 5, 8, 8, 1]] * 61}, "61 new objects beside 3, expected at most 63 together"),
]
"""What is said of the second of three objects that are shown, of score 9 and the name 1, 2; and in which words it is
refused."""


@pytest.mark.parametrize(("changes", "words"), REFUSED)
def test_what_no_encoder_says_is_refused_by_object_value_and_range(
    both: Both, changes: dict[str, Any], words: str
) -> None:
    state = both.whole(both.code(next(drive(both.layout, 3, 8))), 2, 7, START_NS).take(np.array([0, 1, 2]))
    state.scores[:], state.named[:], state.path[:] = 9, 2, AS_IT_IS
    state = SceneState.of_table(
        state.table, both.layout.latents, frame=7, stamp=state.stamp, camera=state.camera, flags=state.flags,
        scales=state.scales,
    )  # fmt: skip
    said, stamp = Said.of(Delta.nothing(state, 8, 3, both.levels)), START_NS + FRAME_NS
    said.touched[1] = "born" not in changes
    for field, value in changes.items():
        if field == "born":
            said.born, said.born_path = value, [AS_IT_IS] * len(value)
        else:
            getattr(said, field)[1] = value
    writer, plain = memory._Writer(), DeltaCodec(both.stream)
    plain._places = [places.copy() for places in plain._places]
    plain._places[2][BELOW_0[1]] = 3  # a child more than its node has
    with pytest.raises(BlockError, match=re.escape(f"delta: {words}") + "$"):
        plain._walk(writer, plain._open(writer, lambda frame, check: state, said, 8, stamp), said)
    told_so_far(both, writer, state, words)


@pytest.mark.parametrize(
    ("far", "values", "words"),
    [
        (1, [0, 0, 5, 5], "moved far by 0 and 0 steps of 63, expected one at least that is not 0"),
        (1, [0, 1, 5, 32], "moved by 32 besides, expected -31 to 31"),
        (0, [-32, 5], "moved by -32 besides, expected -31 to 31"),
    ],
)
def test_a_picture_moves_in_one_way(both: Both, far: int, values: list[int], words: str) -> None:
    state = both.whole(both.code(next(drive(both.layout, 3, 8))), 2, 7, START_NS)
    said, writer = Said.of(Delta.nothing(state, 8, len(state), both.levels)), memory._Writer()
    both._open(writer, lambda frame, check: state, said, 8, START_NS + FRAME_NS)
    walk = memory._Walk(writer, state.flags)
    walk.flag(memory.FAR, [far], 1)
    for place in range(0, len(values), 2):
        last = place == len(values) - 2
        walk.residual(memory.scale_row(state.scales[4]) if last else memory.FAR_ROW, values[place : place + 2], 2)
    told_so_far(both, writer, state, f"the picture: {words}")


def told_so_far(both: Both, writer: memory._Writer, state: SceneState, words: str) -> None:
    """That Python and the kernel refuse what was written, in these words."""
    data = writer.coder.finish()
    for codec in (both.plain, DeltaCodec(both.stream)):
        with pytest.raises(BlockError, match=re.escape(words) + "$"):
            codec.decode(data, lambda frame, check: state, 8, START_NS + FRAME_NS)


def test_what_does_not_fit_is_refused(both: Both) -> None:
    assert kernels is not None
    objects = next(drive(both.layout, 3))
    state = both.whole(both.code(objects), 2, 7, START_NS)
    state = replace(state, told=0 * state.told, latents=tuple(0 * group for group in state.latents))
    said = Said.of(Delta.nothing(state, 8, len(state), both.levels))
    write = lambda *given: both.compiled.write(kernels.RangeEncoder(), *given)  # noqa: E731
    table, camera, flags, scales = state.table, [0, 0], state.flags, state.scales
    write(table, camera, flags, scales, 80, said)
    for wrong in (
        (table[:, 1:], camera, flags, scales, 80, said),
        (table, camera, flags[1:], scales, 80, said),
        (table, camera, (*flags[1:], 1 << 16), scales, 80, said),
        (table, camera, flags, scales[1:], 80, said),
        (table, camera, flags, scales, 0, said),
        (table[1:], camera, flags, scales, 80, said),
    ):
        with pytest.raises(ValueError, match=r"expected|state|outside|object"):
            write(*wrong)
    both.show(state)
    for refused in (table[:, 1:], table[0], np.where(np.arange(table.shape[1]) == PATH, 99, table)):
        with pytest.raises(ValueError, match=r"expected|no such node"):
            both.shown.code(refused)
    with pytest.raises(ValueError, match="outside of the table"):
        kernels.columns_as_bytes(table, [(0, table.shape[1] + 1)])
    box, pair, edge = np.ones((len(state), 4)), np.ones((len(state), 2)), both.edge
    lengths, places = lengths_of_sides(), (table, box, [0, 0], edge, 80)
    kernels.foretold_overlaps(lengths, *places)
    kernels.residuals(lengths, table, box, pair, pair, pair, [0, 0], edge, 80)
    for wrong_places in ((table[:, :9], *places[1:]), (table[1:], *places[1:]), (table, box[:, 1:], *places[2:])):
        with pytest.raises(ValueError, match=r"expected|no state"):
            kernels.foretold_overlaps(lengths, *wrong_places)
    with pytest.raises(ValueError, match="none"):
        kernels.foretold_overlaps(lengths[:0], *places)
    with pytest.raises(ValueError, match="expected"):
        kernels.residuals(lengths, table, box, pair, pair[1:], pair, [0, 0], edge, 80)
    for part, odd, error in (
        ("score", 3, TypeError),
        ("place", [[0]] * len(state), ValueError),
        ("moved", [], ValueError),
    ):
        with pytest.raises(error):
            write(table, camera, flags, scales, 80, replace(said, **{part: odd}))
    said.touched[0] = said.labelled[0] = 1
    said.renamed[0], said.path[0] = 2, [99] * (both.levels - 1)
    with pytest.raises(ValueError, match="no such node"):
        write(table, camera, flags, scales, 80, said)
