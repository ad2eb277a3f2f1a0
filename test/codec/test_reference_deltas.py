"""Deltas as docs/bitstream.md specifies them: a reader written from the page alone finds what ours do."""

from __future__ import annotations

import json
import random
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_deltas import DamagedDelta, ReferenceDeltas, State, Thing, shared_tables

from semhier_ros.codec.packet import PacketError
from semhier_ros.paths import find_model
from semhier_ros.scene.folder import read_scene_folder
from semhier_ros.scene.memory import BORN, FAR, Delta, DeltaCodec, Held, Said, SceneState, fixed_tables

GOLDEN = json.loads((Path(__file__).parents[1] / "scene" / "golden_memory.json").read_text())
START_NS = 1_700_000_000_000_000_000
FRAME_NS = 80_000_000
MODELS = ("road", "street", "coco80")


@lru_cache
def reader(name: str) -> ReferenceDeltas:
    return ReferenceDeltas(find_model(name))


@lru_cache
def codec(name: str) -> DeltaCodec:
    return DeltaCodec(read_scene_folder(find_model(name)).stream)


def of_page(state: SceneState) -> State:
    """One of our states as the page has it."""
    things = [
        Thing(
            state.centre[row].tolist(), state.logs[row].tolist(), state.velocity[row].tolist(), int(state.scores[row]),
            state.path[row].tolist(), int(state.told[row]), [group[row].tolist() for group in state.latents],
            int(state.hidden[row]),
        )
        for row in range(len(state))
    ]  # fmt: skip
    across, down = state.camera.tolist()
    return State(state.frame, state.stamp, things, (across, down), state.flags, state.scales)


def test_the_tables_are_the_page_s() -> None:
    for name, table in shared_tables().items():
        assert np.array(table).tolist() == fixed_tables()[name].frequencies.tolist()
        assert zlib.crc32(np.array(table, "<i4").tobytes()) == GOLDEN["tables"][name]


def test_the_golden_deltas_are_read() -> None:
    """Three objects after blocks 0 to 2, a delta that says everything once, and one that says nothing."""
    road = reader("road")
    whole = State(100, START_NS % 2**40, [
        road.placed(1234, (9, 8), (8, 8), 5), road.placed(3020, (14, 12), (3, 12), 9),
        road.placed(3055, (6, 6), (8, 9), 2),
    ])  # fmt: skip
    for number, (one, path) in enumerate(zip(whole.things, ([2, 0], [1, 2], [3, -1]), strict=True)):
        one.path, one.told = path, 2 if number < 2 else 1
        one.latents[0] = [4 * number + place for place in range(4)]
        if number < 2:
            one.latents[1] = [6 * number + place - 9 for place in range(6)]
    golden: dict[str, Any] = GOLDEN["whole"]
    assert [one.centre for one in whole.things] == golden["centre"]
    assert [one.logs for one in whole.things] == golden["logs"]
    assert whole.check == golden["check"]
    state = whole
    for name, frame in (("delta", 103), ("nothing", 107)):
        golden = GOLDEN[name]
        before = {(state.frame, state.check): state}
        stamp = START_NS + (frame - 100) * FRAME_NS
        state = road.read(bytes.fromhex(golden["bytes"]), lambda *key, known=before: known[key], frame, stamp)
        assert [one.centre for one in state.things] == golden["centre"]
        assert state.check == golden["check"]
        assert list(state.flags) == golden.get("flags", list(state.flags))


def path_below(deltas: DeltaCodec, chance: random.Random, depth: int) -> list[int]:
    """A name of so many levels."""
    path, parent = [-1] * (deltas.levels - 1), 0
    for level in range(1, depth + 1):
        parent = path[level - 1] = chance.choice(deltas._children[level][parent])
    return path


def said_at_random(deltas: DeltaCodec, state: SceneState, chance: random.Random, frame: int, elapsed: int) -> Said:
    """A delta that an encoder might send."""
    held, layout, levels = Held.of(state, elapsed), deltas.layout, deltas.levels - 1
    said = Said.nothing(frame - state.frame, state.check, held)
    most, small = len(layout.score_edges), lambda: chance.choice((0, 0, 1, -1, chance.randint(-63, 63)))
    said.pans = int(state.camera.any() and chance.random() < 0.7)
    said.shift = [chance.choice((0, 2, -3, chance.randint(-31, 31), chance.randint(-3000, 3000))) for _ in range(2)]
    for row, hidden in enumerate(held.hidden):
        if chance.random() < 0.4:
            continue
        said.touched[row] = 1
        said.toggled[row] = int(hidden > 0 or chance.random() < 0.2)
        if said.toggled[row] and not hidden:
            continue
        said.moved[row] = chance.randrange(2)
        if said.moved[row]:
            said.place[row], said.size[row] = [small(), small()], [small(), small()]
            said.steered[row] = int(chance.random() < 0.3 or not any(said.place[row] + said.size[row]))
        if said.steered[row]:
            said.speed[row] = [chance.choice((1, -1, chance.randint(1, 63))), small()]
        said.labelled[row] = 1 if not hidden and not said.moved[row] else chance.randrange(2)
        if said.labelled[row]:
            score = chance.randint(0, most)
            said.score[row] = score - held.scores[row]
            known, deepest = held.named[row], path_below(deltas, chance, chance.randint(0, levels))
            kind = chance.randrange(3) if levels else 0
            if kind == 1 and known < levels:
                said.renamed[row], said.named[row] = 1, known + 1
                above = said.path[row][known - 1] if known else 0
                said.path[row][known] = chance.choice(deltas._children[known + 1][above])
            elif kind == 2 and deepest != held.path[row]:
                said.renamed[row], said.path[row] = 2, deepest
                said.named[row] = sum(node >= 0 for node in deepest)
            if not said.renamed[row] and not said.score[row]:
                said.score[row] = -1 if held.scores[row] else 1
    room = layout.max_objects - len(held.hidden)
    cells = sorted(chance.sample(range(layout.cells), min(room, chance.choice((0, 0, 1, 2, 5)))))
    size, offset = layout.size_levels, layout.offset_levels
    said.born = [
        [cell, *(chance.randrange(limit) for limit in (size, size, offset, offset, most + 1))] for cell in cells
    ]
    said.born_path = [path_below(deltas, chance, chance.randint(0, levels)) for _ in cells]
    return said


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=25, deadline=None)
@given(chance=st.randoms(use_true_random=False))
def test_what_ours_writes_is_read_from_the_page(name: str, chance: random.Random) -> None:
    """Objects that move, grow, hide, come back, are renamed and are new, frame after frame."""
    deltas, page = codec(name), reader(name)
    state = beginning(deltas)
    for _ in range(6):
        later, elapsed = chance.randint(1, 64), chance.choice((80, 160, 300, 600, 3999))
        frame, stamp = (state.frame + later) & 0xFFFF, state.stamp + elapsed * 1_000_000
        said = said_at_random(deltas, state, chance, state.frame + later, elapsed)
        data, after = deltas.write(state, said, frame, stamp)
        told = of_page(state)
        assert told.check == state.check
        found = page.read(data, lambda number, check, known=told: known, frame, stamp)
        assert found == of_page(after)
        assert found.check == after.check
        state = after


def beginning(deltas: DeltaCodec) -> SceneState:
    """A frame without objects."""
    widths = deltas.layout.latents
    table = np.zeros((0, 9 + deltas.levels + sum(widths)), np.int64)
    return SceneState.of_table(table, widths, frame=65_500, stamp=2**40 - 10**8, camera=np.zeros(2, np.int64))


@pytest.mark.parametrize("name", MODELS)
def test_between_two_size_symbols_the_middle_rounded_down_belongs_to_the_larger(name: str) -> None:
    """A log just there, whose distances to the two differ by 1, and the one below."""
    deltas, page = codec(name), reader(name)
    odd = [low for low, (one, other) in enumerate(zip(page.logs, page.logs[1:], strict=False)) if (one + other) % 2]
    assert odd
    for low, below in [(low, below) for low in odd for below in (0, 1)]:
        log = (page.logs[low] + page.logs[low + 1]) // 2 - below
        assert page.size_symbol(log) == low + 1 - below
        table = np.zeros((1, beginning(deltas).table.shape[1]), np.int64)
        table[0, 2:4], table[0, 10 : 9 + deltas.levels] = (log, page.logs[low]), -1
        state = SceneState.of_table(
            table, deltas.layout.latents, frame=7, stamp=START_NS % 2**40, camera=np.zeros(2, np.int64)
        )
        said = Said.of(Delta.nothing(state, 8, 1, deltas.levels))
        said.touched[0] = said.labelled[0] = said.renamed[0] = said.named[0] = 1
        said.path[0][0] = 1
        data, after = deltas.write(state, said, 8, state.stamp + FRAME_NS)
        told = of_page(state)
        assert page.read(data, lambda number, check, known=told: known, 8, state.stamp + FRAME_NS) == of_page(after)


def test_a_flag_is_kept_within_both_bounds() -> None:
    deltas, page = codec("road"), reader("road")
    state, bounds = beginning(deltas), []
    for far in (1, 0):
        for _ in range(120):
            said = Said.of(Delta.nothing(state, (state.frame + 1) & 0xFFFF, 0, deltas.levels))
            said.shift = [100 * far, 0]
            frame, stamp = (state.frame + 1) & 0xFFFF, state.stamp + FRAME_NS
            data, after = deltas.write(state, said, frame, stamp)
            told = of_page(state)
            found = page.read(data, lambda number, check, known=told: known, frame, stamp)
            assert found == of_page(after)
            state = after
        bounds.append((state.flags[FAR], state.flags[BORN]))
    assert bounds == [(65_023, 512), (512, 512)]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_what_ours_reads_of_damaged_bytes_the_page_s_reads_alike(draw: st.DataObject) -> None:
    deltas, page = codec("road"), reader("road")
    state, chance = beginning(deltas), random.Random(draw.draw(st.integers(0, 20)))
    for _ in range(3):
        said = said_at_random(deltas, state, chance, state.frame + 1, 80)
        before, stamp = state, state.stamp + FRAME_NS
        data, state = deltas.write(before, said, before.frame + 1, stamp)
    damaged = bytearray(data)
    damaged[draw.draw(st.integers(0, len(data) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    try:
        ours = of_page(deltas.decode(bytes(damaged), lambda number, check: before, state.frame, stamp))
    except PacketError:
        ours = None
    try:
        found = page.read(bytes(damaged), lambda number, check: of_page(before), state.frame, stamp)
    except (DamagedDelta, ValueError):
        found = None
    if ours is not None:
        assert found == ours
