"""A detector of ours that looks closer than the stream's canvas, or twice: what it finds is told on the canvas."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semhier_ros import Codec
from semhier_ros.codec.canvas import Canvas
from semhier_ros.codec.model_folder import ModelError
from semhier_ros.footage.video import default_video, read_video
from semhier_ros.paths import find_model
from semhier_ros.scene.budget import overlaps
from semhier_ros.scene.detectors.objects import placed
from semhier_ros.scene.finders import MOST_WINDOWS, WINDOW_COST, Look, OwnFinder, Window, read_looks
from semhier_ros.scene.finders import _lengths as window_lengths
from semhier_ros.scene.finders import _windows as windows_on
from semhier_ros.scene.folder import read_scene_folder
from semhier_ros.scene.layout import SceneLayout
from semhier_ros.scene.objects import DetectorMaps, Objects, doubted, find_objects, together

PICTURES = [frame.image for frame in islice(read_video(default_video()), 150, 190, 6)]
LAYOUT: SceneLayout = read_scene_folder(find_model("street")).stream.layout


def objects_at(middles: np.ndarray, scores: np.ndarray) -> Objects:
    """Objects of 6x8 cells at middles n,2, numbered by their first feature."""
    count = len(middles)
    boxes = np.concatenate([middles, np.tile([6.0, 8.0], (count, 1))], axis=1).astype(np.float32)
    features = np.arange(count, dtype=np.float32)[:, None]
    leaves = np.zeros((count, 3), np.float32)
    return Objects(np.arange(count, dtype=np.int32), boxes, scores.astype(np.float32), leaves, features)


@given(st.lists(st.tuples(st.floats(0, 99), st.floats(0, 59), st.floats(0.1, 1)), max_size=12))
def test_objects_get_cells_of_their_own_in_raster_order(rows: list[tuple[float, float, float]]) -> None:
    table = np.array(sorted(rows, key=lambda row: -row[2]), np.float64).reshape(-1, 3)
    found = placed(LAYOUT, objects_at(table[:, :2], table[:, 2]))
    assert len(found) <= len(table)
    assert (np.diff(found.cells) > 0).all()
    for box, score, number in zip(found.boxes, found.objectness, found.features[:, 0].astype(int), strict=True):
        assert np.allclose(box, [*table[number, :2], 6, 8], rtol=1e-5)
        assert score == pytest.approx(table[number, 2])


def test_of_two_in_one_cell_the_stronger_keeps_it() -> None:
    found = placed(LAYOUT, objects_at(np.array([[25.1, 20.1], [25.0, 20.0]]), np.array([0.8, 0.3])))
    stronger = int(found.features[:, 0].argmin())
    assert len(found) == 2
    assert found.cells[stronger] == 20 * LAYOUT.columns + 25
    assert found.cells[1 - stronger] != found.cells[stronger]


def test_of_two_lists_the_better_word_for_one_thing_stays() -> None:
    near = objects_at(np.array([[20.0, 20.0], [60.0, 30.0]]), np.array([0.5, 0.9]))
    far = objects_at(np.array([[20.3, 20.0], [80.0, 40.0]]), np.array([0.7, 0.2]))
    found = together([near, far], 63)
    assert found.objectness.tolist() == pytest.approx([0.9, 0.7, 0.2])
    assert found.boxes[1, 0] == pytest.approx(20.3)
    assert len(together([near, far], 2)) == 2


def two_peaks(spread: float) -> DetectorMaps:
    """Two objects of 6x6 cells and one objectness. The neighbours of the first say its very box, those of the second
    one that lies `spread` cells to the right."""
    maps = DetectorMaps(*(np.zeros(shape, np.float32) for shape in ((20, 40), (4, 20, 40), (3, 20, 40), (2, 20, 40))))
    maps.box[2:] = np.log(6.0)
    for column, off in ((10, 0.0), (30, spread)):
        for y in (-1, 0, 1):
            for x in (-1, 0, 1):
                middle = x == y == 0
                maps.objectness[10 + y, column + x] = 0.8 if middle else 0.4
                maps.box[0, 10 + y, column + x] = -x + (0 if middle else off)
                maps.box[1, 10 + y, column + x] = -y
    return maps


def test_a_score_falls_where_the_neighbours_say_other_boxes() -> None:
    maps = two_peaks(1.5)
    plain = find_objects(maps, 0.1, 63)
    assert plain.objectness == pytest.approx([0.8, 0.8])
    agreed = find_objects(maps, 0.1, 63, agreement=1.0)
    assert np.array_equal(plain.cells, agreed.cells)
    assert np.array_equal(plain.boxes, agreed.boxes)
    sure, unsure = agreed.objectness
    assert sure == pytest.approx(0.8)
    # mean box at +1.2 cells: the middle's lies 1.2 from it, those around 0.3; they weigh 0.8 and 8 x 0.4
    wanted = (0.8 * (4.8 / 7.2) + 3.2 * (5.7 / 6.3)) / 4
    assert unsure == pytest.approx(0.8 * wanted, rel=1e-4)
    assert find_objects(maps, 0.1, 63, agreement=0.5).objectness[1] == pytest.approx(0.8 * wanted**0.5, rel=1e-4)
    assert len(find_objects(maps, 0.79, 63, agreement=0.5)) == 1, "below the threshold by its own score"


def test_a_score_falls_where_the_role_is_not_sure() -> None:
    maps = two_peaks(0.0)
    maps.types[:, :, :20] = np.log(np.array([0.5, 0.1, 0.4]))[:, None, None]  # 0.6 and 0.4 of two roles
    maps.types[:, :, 20:] = np.log(np.array([0.45, 0.45, 0.1]))[:, None, None]  # two leaves of one role
    plain = find_objects(maps, 0.1, 63)
    told = doubted(plain, (0, 0, 1), 0.5)
    assert np.array_equal(plain.boxes, told.boxes)
    assert told.objectness == pytest.approx([0.8 * 0.6**0.5, 0.8 * 0.9**0.5], rel=1e-5)
    assert doubted(plain, (0, 0, 1), 0.0) is plain
    assert doubted(plain, (), 0.5) is plain, "a tree of one level has no roles"
    assert len(doubted(plain.take(np.arange(0)), (0, 0, 1), 0.5)) == 0


def test_a_finder_sends_what_is_sure_enough_and_then_doubts_its_role() -> None:
    maps = two_peaks(0.0)
    maps.types[:] = np.log(np.array([0.5, 0.1, 0.4]))[:, None, None]
    layout = replace(LAYOUT, columns=40, rows=20, parents=((0, 0), (0, 0, 1)))
    finder = OwnFinder(lambda canvas: maps, (320, 160), layout, [Look((320, 160))], certainty=0.5)
    objects = finder.objects([Window(finder.looks[0], maps)], (320, 160), 0.75, 63)
    assert objects.objectness == pytest.approx(2 * [0.8 * 0.6**0.5], rel=1e-5), "told lower than the threshold"
    listed = finder.listed([Window(finder.looks[0], maps)], (320, 160), 0.75, 63)
    assert listed.chances.sum(axis=1) == pytest.approx([0.8, 0.8], rel=1e-5), "the list says all chances"


def test_roles_are_the_nodes_of_level_one_above_the_leaves() -> None:
    tree = replace(LAYOUT, parents=((0, 0), (0, 1, 1), (2, 1, 0, 0)))
    assert tree.roles == (1, 1, 0, 0)
    assert replace(LAYOUT, parents=()).roles == ()


class Staged:
    """Maps in which each look sees an object of its own size, at the same place of the picture."""

    def __init__(self) -> None:
        self.canvases: list[tuple[int, ...]] = []

    def __call__(self, canvas: np.ndarray) -> DetectorMaps:
        self.canvases.append(canvas.shape)
        rows, columns = canvas.shape[0] // 8, canvas.shape[1] // 8
        maps = DetectorMaps(
            np.zeros((rows, columns), np.float32),
            np.zeros((4, rows, columns), np.float32),
            np.zeros((3, rows, columns), np.float32),
            np.zeros((2, rows, columns), np.float32),
        )
        for middle, side in (((0.25, 0.5), 4.0), ((0.7, 0.5), 20.0)):  # small and large: 32 and 160 pixels on 1088
            cell = int(middle[1] * rows), int(middle[0] * columns)
            maps.objectness[cell] = 0.6
            maps.box[2:, cell[0], cell[1]] = np.log(side * columns / 136)
        return maps


def test_each_look_takes_the_objects_of_its_sizes() -> None:
    maps = Staged()
    looks = (Look.read("1088x640:0-100"), Look.read("544x320:40-"))
    finder = OwnFinder(maps, (800, 480), LAYOUT, looks)
    seen = finder.look(np.zeros((450, 800, 3), np.uint8))
    assert maps.canvases == [(640, 1088, 3), (320, 544, 3)]
    objects = finder.objects(seen, (800, 450), 0.3, 63)
    assert len(objects) == 2, "a small one from the closer look, a large one from the other"
    sides = np.sqrt(objects.boxes[:, 2] * objects.boxes[:, 3]) * 8
    assert sorted(sides) == pytest.approx([32 * 800 / 1088, 160 * 800 / 1088], rel=1e-4)
    listed = finder.listed(seen, (800, 450), 0.3, 63)
    told = np.concatenate([objects.boxes[:, :2] - objects.boxes[:, 2:] / 2], axis=1) * 8
    assert sorted(told[:, 0]) == pytest.approx(sorted(listed.boxes[:, 0]), abs=1e-2)


@given(
    st.tuples(st.integers(1, 128), st.integers(1, 128)),
    st.integers(0, 900),
    st.one_of(st.none(), st.integers(901, 4096)),
    st.integers(0, 999),
)
def test_a_look_reads_what_it_writes(cells: tuple[int, int], least: int, most: int | None, where: int) -> None:
    look = Look((32 * cells[0], 32 * cells[1]), least, np.inf if most is None else most, where / 1000)
    assert Look.read(str(look)) == look


class Patches:
    """A detector of plain patches: each of one red value is an object, its green the objectness in 255ths."""

    def __init__(self) -> None:
        self.canvases: list[tuple[int, int]] = []

    def __call__(self, canvas: np.ndarray, any_size: bool = False) -> DetectorMaps:
        self.canvases.append((canvas.shape[1], canvas.shape[0]))
        rows, columns = canvas.shape[0] // 8, canvas.shape[1] // 8
        maps = DetectorMaps(*(np.zeros((*many, rows, columns), np.float32) for many in ((), (4,), (3,), (2,))))
        for value in (200, 220, 240):
            ys, xs = np.nonzero(canvas[..., 0] == value)
            if len(ys):
                low, high = np.array([xs.min(), ys.min()]) / 8, (np.array([xs.max(), ys.max()]) + 1) / 8
                column, row = ((low + high) / 2).astype(int)
                maps.objectness[row, column] = canvas[ys[0], xs[0], 1] / 255
                maps.box[:2, row, column] = (low + high) / 2 - (column + 0.5, row + 0.5)
                maps.box[2:, row, column] = np.log(high - low)
        return maps


def patches(*places: tuple[int, int, int, int, float]) -> np.ndarray:
    """A picture of 640x320 with up to three patches: x0, y0, x1, y1 and objectness."""
    picture = np.zeros((320, 640, 3), np.uint8)
    for value, (x0, y0, x1, y1, score) in zip((200, 220, 240), places, strict=False):
        picture[y0:y1, x0:x1] = value, round(255 * score), 0
    return picture


CLOSE = read_looks(["1280x640:0-150@0.2", "640x320:70-"])


def test_a_closer_look_sees_a_window_around_what_is_small() -> None:
    detector = Patches()
    finder = OwnFinder(detector, (800, 480), LAYOUT, CLOSE)
    small, faint, large = (404, 84, 424, 104, 0.5), (40, 280, 60, 300, 0.15), (380, 110, 620, 310, 0.7)
    seen = finder.look(patches(small, faint, large))
    assert detector.canvases == [(640, 320), (320, 160)], "first the whole, then a window on twice as many pixels"
    assert seen[1].corner == (96, 16), "in cells: what begins at 808, 168 there, less 16 around, in steps of 32"
    assert seen[1].cut == (True, True, True, True)
    listed = finder.listed(seen, (640, 320), 0.1, 63)
    assert listed.boxes.tolist() == [pytest.approx(large[:4], abs=0.6), pytest.approx(small[:4], abs=0.6)]
    assert listed.chances.sum(axis=1) == pytest.approx([0.7, 0.5], abs=0.01), "what the window's edge cuts is left out"
    without = OwnFinder(Patches(), (800, 480), LAYOUT, [look._replace(where=0.0) for look in CLOSE])
    both = without.listed(without.look(patches(small, faint, large)), (640, 320), 0.1, 63)
    assert both.boxes[:2] == pytest.approx(listed.boxes, abs=0.01)


def test_a_closer_look_sees_nothing_where_nothing_is_small_and_sure() -> None:
    detector = Patches()
    finder = OwnFinder(detector, (800, 480), LAYOUT, CLOSE)
    seen = finder.look(patches((380, 110, 620, 310, 0.7), (40, 280, 60, 300, 0.15)))
    assert detector.canvases == [(640, 320)]
    assert len(finder.objects(seen, (640, 320), 0.1, 63)) == 1
    assert len(finder.objects(finder.look(patches()), (640, 320), 0.1, 63)) == 0


@given(st.data())
def test_windows_hold_what_they_are_for_and_have_few_sizes(data: st.DataObject) -> None:
    whole = tuple(32 * data.draw(st.integers(1, 60)) for _ in range(2))
    used = tuple(data.draw(st.integers(1, side)) for side in whole)
    corners = []
    for _ in range(data.draw(st.integers(0, 30))):
        spans = []
        for side in used:
            least, most = sorted(data.draw(st.tuples(*2 * [st.floats(-50, side + 50)])))
            spans.append((min(least, side - 0.5), max(most, 0.5)))
        corners.append([spans[0][0], spans[1][0], spans[0][1], spans[1][1]])
    boxes = np.array(corners, np.float32).reshape(-1, 4).T
    windows = windows_on(boxes, used, whole)
    assert bool(windows) == bool(corners)
    assert len(windows) <= MOST_WINDOWS
    for x0, y0, x1, y1 in windows:
        assert x0 % 32 == y0 % 32 == 0
        assert 0 <= x0 < x1 <= whole[0]
        assert 0 <= y0 < y1 <= whole[1]
        assert x1 - x0 in window_lengths(whole[0])
        assert y1 - y0 in window_lengths(whole[1])
    for box in corners:
        low, high = np.maximum(box[:2], 0), np.minimum(box[2:], used)
        assert any(
            (low >= (x0, y0)).all() and (high <= (x1, y1)).all()  # a box is in one window whole
            for x0, y0, x1, y1 in windows
        )


def test_a_window_on_all_is_split_where_that_spares_time() -> None:
    left, right, beside = [20, 300, 60, 340], [1000, 310, 1040, 350], [70, 300, 110, 340]
    assert windows_on(np.array([left, beside], np.float32).T, (1088, 612), (1088, 640)) == [(0, 256, 256, 416)]
    apart = windows_on(np.array([left, right, beside], np.float32).T, (1088, 612), (1088, 640))
    assert sorted(apart) == [(0, 256, 256, 416), (832, 288, 1088, 448)]
    assert sum((x1 - x0) * (y1 - y0) + WINDOW_COST for x0, y0, x1, y1 in apart) < 1088 * 160
    many = [[x, y, x + 8, y + 8] for x in range(0, 1088, 250) for y in range(0, 612, 150)]
    assert len(windows_on(np.array(many, np.float32).T, (1088, 612), (1088, 640))) <= MOST_WINDOWS


def test_what_two_windows_see_is_told_once() -> None:
    detector = Patches()
    finder = OwnFinder(detector, (800, 480), LAYOUT, CLOSE)
    small = [(20, 20, 40, 40, 0.5), (600, 280, 620, 300, 0.6), (60, 40, 80, 60, 0.4)]
    seen = finder.look(patches(*small))
    assert len(seen) == 3, "the whole picture, and two windows in its corners"
    listed = finder.listed(seen, (640, 320), 0.1, 63)
    assert listed.chances.sum(axis=1) == pytest.approx([0.6, 0.5, 0.4], abs=0.01)
    assert listed.boxes[0].tolist() == pytest.approx(small[1][:4], abs=0.6)


def test_a_prepared_detector_has_seen_every_size_that_it_may_look_at() -> None:
    detector = Patches()
    finder = OwnFinder(detector, (800, 480), LAYOUT, CLOSE)
    finder.prepare()
    prepared = set(detector.canvases)
    assert (640, 320) in prepared
    assert len(prepared) == 1 + 4 * 4, "the whole from afar, and windows of 16 sizes"
    detector.canvases.clear()
    for width in (12, 140, 210, 360, 600):
        for height in (12, 90, 150, 300):
            finder.look(patches((9, 0, width, 8, 0.5), (0, 9, 8, height, 0.5)))
    assert set(detector.canvases) <= prepared
    assert len(set(detector.canvases)) > 8


def test_a_prepared_codec_compiles_nothing_more_and_knows_the_windows() -> None:
    codec = Codec.load("street", "cpu", threads=1)
    backend: Any = codec.model.backend  # type: ignore[attr-defined]
    codec.prepare_encoding()
    compiled = set(backend._requests)
    codec.encode(PICTURES[0])
    assert set(backend._requests) == compiled
    assert ("detector", (1, -1, -1, 3)) in compiled


def test_someone_must_see_the_whole_picture() -> None:
    with pytest.raises(ValueError, match=r"looks 800x480@0.2: one without @ expected"):
        read_looks(["800x480@0.2"])
    with pytest.raises(ValueError, match=r"detector_looks: looks 800x480@0.2: one without @"):
        Codec.load("street", "cpu", detector_looks=["800x480@0.2"])


def agreement_of(first: Codec, second: Codec) -> float:
    """The share of what either finds in PICTURES that both do."""
    both = agreed = 0
    for picture in PICTURES:
        one, other = (codec.model.find(picture).boxes for codec in (first, second))  # type: ignore[attr-defined]
        both += max(len(one), len(other))
        agreed += int((overlaps(one, other).max(axis=1, initial=0.0) >= 0.5).sum())
    assert both
    return agreed / both


def test_through_a_window_the_detector_finds_nearly_the_same() -> None:
    whole, parts = (
        Codec.load("street", "cpu", threads=1, detector_looks=[f"1088x640:0-166{where}", "544x320:64-"])
        for where in ("", "@0.1")
    )
    assert agreement_of(whole, parts) > 0.8


def test_what_the_looks_find_is_where_the_detector_said() -> None:
    codec = Codec.load("street", "cpu", threads=1)
    model: Any = codec.model
    assert [str(look) for look in model.folder.looks] == ["1088x640:0-100@0.2", "544x320:40-"]
    assert model.view_size == (800, 480)
    picture = PICTURES[0]
    size = (picture.shape[1], picture.shape[0])
    seen = model.finder.look(picture)
    objects = model.finder.objects(seen, size, 0.2, 63)
    assert len(objects) > 3
    listed = model.finder.listed(seen, size, 0.2, 63)
    half = objects.boxes[:, 2:] / 2
    corners = np.concatenate([objects.boxes[:, :2] - half, objects.boxes[:, :2] + half], axis=1)
    told = Canvas(*model.view_size, source=size).to_source(corners * LAYOUT.stride)
    distance = np.abs(told[:, None] - listed.boxes[None]).max(axis=2).min(axis=1)
    assert distance.max() < 0.1, "pixels of the source"


def test_in_integers_it_finds_nearly_the_same() -> None:
    floats, integers = (Codec.load("street", "cpu", threads=1, precision=own) for own in ("f32", "auto"))
    assert agreement_of(floats, integers) > 0.8


@pytest.mark.parametrize(
    ("looks", "said"),
    [
        (["1000x640"], "multiples of 32"),
        (["0x640"], "sides of 32..4096"),
        (["8192x640"], "sides of 32..4096"),
        (["1088"], "WIDTHxHEIGHT:LEAST-MOST@WHERE expected"),
        (["1088x640:90-10"], "LEAST below MOST"),
        ([1088, 640], "WIDTHxHEIGHT:LEAST-MOST@WHERE expected"),
        (["1088x640@1.5"], "WIDTHxHEIGHT:LEAST-MOST@WHERE expected"),
        (["1088x640@0.2"], "one without @ expected"),
        ([], "expected a list"),
        ("1088x640", "expected a list"),
    ],
)
def test_looks_that_no_network_takes_are_refused_by_name(tmp_path: Path, looks: Any, said: str) -> None:
    folder = tmp_path / "street"
    shutil.copytree(find_model("street"), folder)
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(card | {"looks": looks}))
    with pytest.raises(ModelError, match=r"model.json: looks: ") as refused:
        read_scene_folder(folder)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("value", [-0.1, 5, True, "0.5", None])
@pytest.mark.parametrize(
    ("field", "allowed"), [("agreement", "0..4"), ("certainty", "0..4"), ("memory_overlap", "0.3..0.95")]
)
def test_a_number_of_the_card_that_none_allows_is_refused_by_name(
    tmp_path: Path, field: str, allowed: str, value: Any
) -> None:
    folder = tmp_path / "street"
    shutil.copytree(find_model("street"), folder)
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(card | {field: value}))
    with pytest.raises(ModelError, match=rf"model.json: {field} .*, a number of {allowed} expected"):
        read_scene_folder(folder)


@pytest.mark.parametrize("change", [{"looks": ["800x480"]}, {"agreement": 3.5}, {"certainty": 3.5}])
def test_the_model_hash_knows_how_the_detector_looks(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = tmp_path / "street"
    shutil.copytree(find_model("street"), folder)
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(card | change))
    with pytest.raises(ModelError, match="model_hash"):
        read_scene_folder(folder)


def test_a_codec_looks_as_it_is_told_and_refuses_what_it_cannot() -> None:
    once: Any = Codec.load("street", "cpu", threads=1, detector_looks=["800x480"]).model
    twice: Any = Codec.load("street", "cpu", threads=1).model
    assert once.folder.looks == (Look((800, 480)),)
    assert once.stream_hash == twice.stream_hash
    assert len(once.finder.look(PICTURES[0])) == 1
    assert {window.look for window in twice.finder.look(PICTURES[0])} == set(twice.folder.looks)
    for looks, said in (
        (["800x481"], "detector_looks: look '800x481'"),
        ([], r"detector_looks: \[\], expected a list"),
        ("800x480", "detector_looks: '800x480', expected a list"),
    ):
        with pytest.raises(ValueError, match=said):
            Codec.load("street", "cpu", detector_looks=looks)
    with pytest.raises(ValueError, match="it takes no other"):
        Codec.load("street", "cpu", detector_looks=["800x480"], detector_size=(640, 640))
    with pytest.raises(ValueError, match="coco80 is not ours"):
        Codec.load("coco80", "cpu", detector_looks=["800x480"])


def test_a_folder_that_says_nothing_looks_at_its_canvas() -> None:
    folder = read_scene_folder(find_model("road"))
    assert folder.looks == (Look(folder.canvas),)
