"""The receiver's tracker: ids that last over frames and from coarse to fine, names that don't flicker."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semhier_ros.codec.reading import Detection, Reading
from semhier_ros.lab.studies.steadiness import Steadiness
from semhier_ros.scene.living import REMEMBERED_FRAMES, LivingScene
from semhier_ros.scene.names import Tree

PARENTS = [[0], [0, 0], [0, 0, 1]]
STEP = 80_000_000  # ns from frame to frame
NAMES = [("thing",), ("round", "square"), ("ball", "ring", "box")]


def detection(number: int, box: tuple[float, ...], leaf: int, score: float = 0.8, depth: int = 3) -> Detection:
    """A detection of a leaf, half as sure at each level; the other leaves share what is left."""
    whole = (0, PARENTS[2][leaf], leaf)
    path = whole[:depth]
    scores = (score, score * 0.8, score * 0.5)[:depth]
    others = ((), ((1 - whole[1], 0.2 * score),), tuple((n, 0.2 * score) for n in range(3) if n != leaf))[:depth]  # type: ignore[misc]
    words = tuple(NAMES[level][node] for level, node in enumerate(path))
    return Detection(number, box, path, words, scores, others)  # type: ignore[arg-type]


def reading(frame: int, *detections: Detection, level: int = 2) -> Reading:
    return Reading(frame, level, level, tuple(detections), 10, True)


def box(x: float, y: float, side: float = 40.0) -> tuple[float, float, float, float]:
    return (x, y, x + side, y + side * 0.8)


def test_ids_last_while_objects_cross_and_change_their_order() -> None:
    scene = LivingScene((640, 480), Tree(PARENTS, NAMES))
    seen: dict[int, set[int]] = {0: set(), 1: set()}
    for frame in range(20):
        near, far = detection(0, box(10 + 6 * frame, 100), 2), detection(1, box(300 - 6 * frame, 20), 0)
        found = scene.follow(
            frame * STEP, reading(frame, near, far) if frame % 2 else reading(frame, *swapped(far, near))
        )
        for item in found.detections:
            seen[0 if item.path[1] == 1 else 1].add(item.id)
    assert [len(ids) for ids in seen.values()] == [1, 1]
    assert not seen[0] & seen[1]


def test_a_box_that_is_cut_at_the_picture_s_edge_is_of_floats_as_messages_want_them() -> None:
    scene = LivingScene((640, 480), Tree(PARENTS, NAMES))
    for frame in range(4):
        scene.follow(frame * STEP, reading(frame, detection(0, box(620 + frame, 460), 2)))
    (item,) = scene.at(4 * STEP).objects
    assert item.box[2:] == (640.0, 480.0)
    assert all(type(value) is float for value in (*item.box, *item.velocity, *item.covariance, item.age, item.since))


def test_what_else_an_object_may_be_is_what_its_reading_mentions_at_that_level() -> None:
    """The square's number, 1, is the ring's at the level below."""
    scene = LivingScene((640, 480), Tree(PARENTS, NAMES))
    scene.follow(0, reading(0, detection(0, box(100, 100), 2)))
    sure = replace(detection(0, box(100, 100), 2), others=((), (), ()))
    (item,) = scene.follow(STEP, reading(1, sure)).detections
    assert item.path == (0, 1, 2)
    assert item.others == ((), (), ())


def swapped(first: Detection, second: Detection) -> tuple[Detection, Detection]:
    """The two in this order, numbered by their places as a frame numbers them."""
    from dataclasses import replace

    return replace(first, id=0), replace(second, id=1)


def test_coarse_and_fine_readings_of_a_frame_share_ids() -> None:
    scene = LivingScene((640, 480), Tree(PARENTS, NAMES))
    for frame in range(5):
        ids = []
        for depth in (1, 2, 3):
            parts = [detection(n, box(80 * n + frame, 50), n, depth=depth) for n in range(3)]
            found = scene.follow(frame * STEP, reading(frame, *parts, level=depth - 1)).detections
            assert [len(item.path) for item in found] == [depth] * 3
            ids.append([item.id for item in found])
        assert ids[0] == ids[1] == ids[2]
        assert len(set(ids[0])) == 3


def test_a_coarse_reading_before_the_fine_one_changes_no_object() -> None:
    """Two of different groups sway about each other: by place alone they would change their ids."""
    alone, stepwise = (LivingScene((640, 480), Tree(PARENTS, NAMES)) for _ in range(2))
    ids: set[tuple[int, int]] = set()
    for frame in range(16):
        sway = 3 if frame % 2 else -3
        places = [(box(200 + sway, 100), 0), (box(200 - sway, 100), 2)]
        fine, coarse = (
            reading(frame, *(detection(n, where, leaf, depth=depth) for n, (where, leaf) in enumerate(places)))
            for depth in (3, 1)
        )
        stepwise.follow(frame * STEP, coarse)
        stepwise.at(frame * STEP)
        found = stepwise.follow(frame * STEP, fine)
        assert found == alone.follow(frame * STEP, fine)
        assert stepwise.at(frame * STEP + STEP // 2) == alone.at(frame * STEP + STEP // 2)
        ids |= {(item.path[1], item.id) for item in found.detections}
    assert len(ids) == 2


def test_late_fine_blocks_of_an_older_frame_find_its_ids_and_move_nothing() -> None:
    scene = LivingScene((640, 480), Tree(PARENTS, NAMES))
    first = scene.follow(0 * STEP, reading(0, detection(0, box(10, 10), 0, depth=1), level=0)).detections[0].id
    scene.follow(1 * STEP, reading(1, detection(0, box(12, 10), 0)))
    late = scene.follow(0 * STEP, reading(0, detection(0, box(10, 10), 2))).detections[0]
    assert late.id == first
    assert scene.follow(2 * STEP, reading(2, detection(0, box(14, 10), 0))).detections[0].names[-1] == "ball"


def test_a_late_block_of_a_known_frame_leaves_the_scene_alone_however_old_it_is() -> None:
    scene = LivingScene((640, 480), Tree(PARENTS, NAMES))
    first = [scene.follow(frame * 250_000_000, reading(frame, detection(0, box(50, 50), 1))) for frame in range(12)]
    late = scene.follow(2 * 250_000_000, reading(2, detection(0, box(50, 50), 1)))
    unknown = scene.follow(1_900_000_000, reading(7, detection(0, box(50, 50), 1)))
    after = scene.follow(12 * 250_000_000, reading(12, detection(0, box(50, 50), 1)))
    assert {one.detections[0].id for one in (*first, late, after)} == {first[0].detections[0].id}
    assert unknown.detections[0].id not in (first[0].detections[0].id, 0), "nobody knows which object it was"


def test_a_late_frame_has_ids_that_no_other_object_has() -> None:
    scene = LivingScene((640, 480), Tree(PARENTS, NAMES))
    two = detection(0, box(50, 50), 1), detection(1, box(300, 50), 1)
    known = [item.id for item in scene.follow(4 * STEP, reading(4, *two)).detections]
    late = [scene.follow(3 * STEP, reading(3, *reversed(two), level=level)).detections for level in (1, 2)]
    assert not {item.id for item in late[0]} & set(known)
    assert [item.id for item in late[0]] == [item.id for item in late[1]], "and keeps them"
    assert scene.follow(5 * STEP, reading(5, *two)).detections[0].id == known[0]


def test_two_frames_of_one_stamp_are_two_frames() -> None:
    scene = LivingScene((640, 480), Tree(PARENTS, NAMES))
    left, right = detection(0, box(50, 50), 1), detection(1, box(300, 50), 1)
    first = {item.box: item.id for item in scene.follow(0, reading(0, left, right)).detections}
    for frame in (1, 2):
        exchanged = replace(right, id=0), replace(left, id=1)
        again = scene.follow(STEP, reading(frame, *exchanged)).detections
        assert {item.box: item.id for item in again} == first


def test_a_clock_that_is_set_back_begins_a_new_scene_and_an_inexact_one_does_not() -> None:
    scene = LivingScene((640, 480), Tree(PARENTS, NAMES))
    for frame in range(30):
        shown = scene.follow(frame * STEP, reading(frame, detection(0, box(50 + 4 * frame, 50), 1)))
    kept = scene.follow(29 * STEP - 20_000_000, reading(30, detection(0, box(170, 50), 1)))
    assert scene.at(29 * STEP).objects[0].id == shown.detections[0].id
    set_back = scene.follow(11 * STEP, reading(31, detection(0, box(174, 50), 1)))
    assert set_back.detections[0].id not in (shown.detections[0].id, kept.detections[0].id)
    found = scene.at(11 * STEP)
    assert found.objects[0].box[0] == pytest.approx(174, abs=2)
    assert scene.at(10 * STEP).objects[0].age == 0, "asked for a time before the newest reading it is as of that"
    assert scene.at(10 * STEP).stamp_ns == 11 * STEP


def test_an_object_keeps_its_id_over_a_short_gap_and_loses_it_over_a_long_one() -> None:
    scene = LivingScene((640, 480), Tree(PARENTS, NAMES))
    for frame in range(6):
        before = scene.follow(frame * STEP, reading(frame, detection(0, box(50, 50), 1))).detections[0].id
    for frame in range(6, 9):
        scene.follow(frame * STEP, reading(frame))
    assert scene.follow(9 * STEP, reading(9, detection(0, box(50, 50), 1))).detections[0].id == before
    for frame in range(10, 40):
        scene.follow(frame * STEP, reading(frame))
    assert scene.follow(40 * STEP, reading(40, detection(0, box(50, 50), 1))).detections[0].id != before


def test_what_is_seen_often_and_hardly_believed_in_is_sure_to_be_seen_and_hardly_there() -> None:
    scene = LivingScene((640, 480), Tree(PARENTS, NAMES))
    for frame in range(20):
        scene.follow(
            frame * STEP, reading(frame, detection(0, box(50, 50), 0, 0.1), detection(1, box(300, 200), 2, 0.9))
        )
    doubtful, sure = sorted(scene.at(20 * STEP).objects, key=lambda item: item.box[0])
    assert doubtful.scores[0] > 0.4
    assert 0.05 < doubtful.existence < 0.11
    assert 0.8 < sure.existence <= 0.9
    for frame in range(20, 24):
        scene.follow(frame * STEP, reading(frame, detection(0, box(50, 50), 0, 0.1)))
    missed = max(scene.at(24 * STEP).objects, key=lambda item: item.box[0])
    assert missed.existence < 0.5 < sure.existence, "four readings in a row did not see it"


def test_what_the_sender_said_orders_a_scene_and_what_was_read_says_what_exists() -> None:
    scene = LivingScene((640, 480), Tree(PARENTS, NAMES))
    surely_seen, surely_there = (
        replace(detection(0, box(50, 50), 0, 0.3), said=0.9),
        detection(1, box(300, 200), 2, 0.6),
    )
    for frame in range(3):
        scene.follow(frame * STEP, reading(frame, surely_seen, replace(surely_there, said=0.2)))
    first, second = sorted(scene.at(3 * STEP).objects, key=lambda item: -item.scores[0])
    assert first.box[0] < 100 < second.box[0]
    assert first.existence < 0.31 < 0.5 < second.existence
    assert scene.follow(3 * STEP, reading(3, surely_seen)).detections[0].said == 0.9


def test_a_name_that_flickers_is_steadied_and_a_lasting_change_is_taken() -> None:
    scene, shown = LivingScene((640, 480), Tree(PARENTS, NAMES)), []
    leaves = [0] * 6 + [2, 0, 0, 1, 0, 0, 2, 0] + [2] * 15
    for frame, leaf in enumerate(leaves):
        shown.append(scene.follow(frame * STEP, reading(frame, detection(0, box(50, 50), leaf))).detections[0])
    assert {item.names[-1] for item in shown[:14]} == {"ball"}
    assert shown[-1].names == ("thing", "square", "box")
    for item in shown:
        assert PARENTS[2][item.path[2]] == item.path[1]
        assert all(first >= second for first, second in zip(item.scores, item.scores[1:], strict=False))


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 2), st.integers(1, 3)), max_size=5), max_size=15)
)
def test_any_video_keeps_boxes_depth_and_unique_ids(frames: list[list[tuple[int, int, int]]]) -> None:
    scene = LivingScene((640, 480), Tree(PARENTS, NAMES))
    for frame, objects in enumerate(frames):
        given_ = reading(frame, *(detection(n, box(x, x), leaf, depth=d) for n, (x, leaf, d) in enumerate(objects)))
        found = scene.follow(frame * STEP, given_)
        assert [item.box for item in found.detections] == [item.box for item in given_.detections]
        assert len({item.id for item in found.detections}) == len(objects)
        for before, after in zip(given_.detections, found.detections, strict=True):
            assert 1 <= len(after.path) <= len(before.path)
            assert len(after.names) == len(after.scores) == len(after.path)
            assert 0 <= min(after.scores) <= max(after.scores) <= 1
    assert len(scene._frames) <= REMEMBERED_FRAMES


def test_steadiness_counts_switches_and_flips_by_boxes_alone() -> None:
    counted = Steadiness()
    counted.add([detection(0, box(10, 10), 0), detection(1, box(200, 10), 2)])
    counted.add([detection(1, box(12, 10), 1), detection(0, box(202, 10), 2)])  # ids swapped, one leaf changed
    counted.add([])
    counted.add([detection(1, box(14, 10), 2)])  # over a gap: same id, another group
    assert (counted.links, counted.switches) == (3, 2)
    assert dict(counted.flips) == {0: 0, 1: 1, 2: 2}
    rates = counted.as_dict(minutes=0.5, levels=3)
    assert rates["id_switches_per_minute"] == 4
    assert rates["level_flips_per_minute"] == {"L0": 0, "L1": 2, "L2": 4}
    for _ in range(8):
        counted.add([])
    counted.add([detection(7, box(14, 10), 2)])
    assert counted.links == 3, "after a long gap it is another object"
