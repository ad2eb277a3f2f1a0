"""The living scene: what moves is foretold, what stands stays, and how sure it is holds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from semhier_ros.codec.reading import Detection, Reading, Scene, TrackedObject
from semhier_ros.scene.forecast import ELLIPSE, MODELS, STILL, MotionBank, MotionModel, Seen
from semhier_ros.scene.living import MOST_OBJECTS, LivingScene
from semhier_ros.scene.names import Tree

TREE = Tree([[0], [0, 0]], [("vehicle",), ("car", "bus")])
SIZE = (960, 540)
STEP = 80_000_000  # ns between frames


def detection(number: int, x: float, y: float, side: float = 60.0, score: float = 0.7, leaf: int = 0) -> Detection:
    box = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
    return Detection(number, box, (0, leaf), ("vehicle", ("car", "bus")[leaf]), (score, score * 0.8))


def read(scene: LivingScene, frame: int, *found: Detection, step: int = STEP) -> Reading:
    return scene.follow(frame * step, Reading(frame, 1, 1, found, 9, True))


def centre(item: TrackedObject) -> tuple[float, float]:
    x0, y0, x1, y1 = item.box
    return (x0 + x1) / 2, (y0 + y1) / 2


def only(scene: Scene) -> TrackedObject:
    (item,) = scene.objects
    return item


def test_what_moves_steadily_is_foretold_where_it_will_be() -> None:
    scene = LivingScene(SIZE, TREE)
    for frame in range(20):
        read(scene, frame, detection(0, 100 + 20 * frame, 300 - 4 * frame))  # 250 and -50 pixels/s
    told = only(scene.at(19 * STEP + 160_000_000))
    assert centre(told) == pytest.approx((100 + 20 * 21, 300 - 4 * 21), abs=4)
    assert told.velocity == pytest.approx((250, -50), abs=15)
    assert told.age == pytest.approx(0.16)
    assert told.since == pytest.approx(0.16 + 19 * 0.08)


def test_what_only_jitters_stays_where_it_is() -> None:
    random = np.random.default_rng(3)
    scene = LivingScene(SIZE, TREE)
    for frame in range(40):
        x, y = random.normal((480, 270), 2.4)
        read(scene, frame, detection(0, x, y))
    told = only(scene.at(39 * STEP + 240_000_000))
    assert centre(told) == pytest.approx((480, 270), abs=5)
    assert np.hypot(*told.velocity) < 12


def test_a_growing_box_is_foretold_larger() -> None:
    scene = LivingScene(SIZE, TREE)
    for frame in range(20):
        read(scene, frame, detection(0, 480, 270, side=40 * 1.03**frame))
    x0, _, x1, _ = only(scene.at(19 * STEP + 2 * STEP)).box
    assert x1 - x0 == pytest.approx(40 * 1.03**21, rel=0.04)


def test_a_new_object_starts_with_the_motion_that_the_turning_camera_gives_to_all() -> None:
    scene = LivingScene(SIZE, TREE)
    places = np.array([[100.0, 100], [300, 300], [500, 200], [200, 400]])
    for frame in range(12):
        read(scene, frame, *(detection(n, x + 24 * frame, y) for n, (x, y) in enumerate(places)))
    told = scene.at(11 * STEP)
    assert told.camera_velocity[0] > 150, "the rest may be their own"
    late = (*(detection(n, x + 24 * 12, y) for n, (x, y) in enumerate(places)), detection(9, 700, 100))
    known = {item.id for item in told.objects}
    read(scene, 12, *late)
    (fresh,) = [item for item in scene.at(12 * STEP).objects if item.id not in known]
    assert fresh.velocity[0] > 150


def test_objects_keep_their_ids_when_the_camera_begins_to_turn_and_two_readings_are_lost() -> None:
    scene, seen = LivingScene(SIZE, TREE), set()
    places = np.array([[200.0, 100], [300, 300], [500, 200], [400, 420]])
    for frame in (*range(10), *range(10, 16), *range(18, 24)):
        turned = 16 * max(0, frame - 9)
        found = read(scene, frame, *(detection(n, x + turned, y) for n, (x, y) in enumerate(places)))
        seen.add(tuple(item.id for item in found.detections))
    assert len(seen) == 1


def test_uncertainty_grows_with_time_and_an_unseen_object_fades_and_is_forgotten() -> None:
    scene = LivingScene(SIZE, TREE)
    for frame in range(10):
        read(scene, frame, detection(0, 480, 270))
    near, far = (only(scene.at(9 * STEP + ms * 1_000_000)) for ms in (40, 400))
    assert far.covariance[0] > near.covariance[0] > 0
    assert far.scores[0] < near.scores[0]
    assert 0 < far.scores[1] <= far.scores[0]
    chances = []
    for frame in range(10, 30):
        read(scene, frame)
        chances.append(sum(item.scores[0] for item in scene.at(frame * STEP).objects))
    assert all(later <= earlier for earlier, later in itertools.pairwise(chances))
    assert chances[0] < 0.6
    assert chances[-1] == 0, "a second unseen"


def test_too_old_a_scene_is_empty_and_a_jump_of_the_clock_begins_a_new_one() -> None:
    scene = LivingScene(SIZE, TREE)
    assert scene.at(5).objects == ()
    assert scene.at(5).read_ns is None
    first = read(scene, 0, detection(0, 100, 100)).detections[0].id
    assert scene.at(3_000_000_000).objects == ()
    assert read(scene, 1000, detection(0, 100, 100)).detections[0].id != first
    assert read(scene, 3, detection(0, 100, 100)).detections[0].id == 2, "a clock that was set back begins anew too"


def test_a_box_that_leaves_the_picture_is_cut_and_then_gone() -> None:
    scene = LivingScene(SIZE, TREE)
    for frame in range(15):
        read(scene, frame, detection(0, 600 + 24 * frame, 270))
    edge = only(scene.at(14 * STEP + 40_000_000))
    assert edge.box[2] == SIZE[0] > edge.box[0]
    assert scene.at(14 * STEP + 500_000_000).objects == ()


def test_memory_is_bounded_whatever_arrives() -> None:
    random = np.random.default_rng(0)
    scene = LivingScene(SIZE, TREE)
    for frame in range(12):
        found = (detection(n, *random.uniform(0, 500, 2), side=30, score=0.3) for n in range(63))
        read(scene, frame, *found)
        assert len(scene.at(frame * STEP).objects) <= MOST_OBJECTS
    assert len(scene._objects) == len(scene._bank) <= MOST_OBJECTS


def test_nineteen_of_twenty_detections_lie_in_the_ellipse_widened_by_their_jitter() -> None:
    random = np.random.default_rng(5)
    bank = MotionBank(width=960)
    place, speed = random.uniform(100, 800, (8, 2)), np.zeros((8, 2))
    inside = []

    def seen() -> Seen:
        noise = random.normal(0, 2.0, (8, 2))
        return Seen(place + noise, np.full((8, 2), 4.0), np.full((8, 2), np.log(50.0)), np.full((8, 2), 0.005))

    bank.add(seen(), list(range(8)))
    for _ in range(400):
        for _ in range(2):
            speed += random.normal(0, 12, (8, 2))
            speed *= 0.98
            place = place + 0.04 * speed
        if len(inside) or random.random() < 2:
            told = bank.forecast(0.08)
            gone = place + random.normal(0, 2.0, (8, 2)) - told.centre
            spread = told.covariance + 4.0 * np.eye(2)
            inside.append(np.einsum("ni,nij,nj->n", gone, np.linalg.inv(spread), gone) <= ELLIPSE)
        bank.predict(0.08)
        bank.update(np.arange(8), seen(), np.arange(8))
    assert 0.9 <= np.mean(inside[100:]) <= 0.99


def test_the_record_chooses_the_model() -> None:
    random = np.random.default_rng(7)
    for speed, wanted in ((0.0, 0), (400.0, 1)):
        bank = MotionBank((STILL, MODELS[2]), width=960)
        place = np.array([[100.0, 200], [300, 100], [200, 300]])
        sides = np.full((3, 2), np.log(50.0))

        def seen(place: np.ndarray = place, sides: np.ndarray = sides) -> Seen:
            noise = random.normal(0, 2, (3, 2))
            return Seen(place + noise, np.full((3, 2), 4.0), sides, np.full((3, 2), 0.005))

        bank.add(seen(), [0, 1, 2])
        for _ in range(15):
            place += [speed * 0.08, 0]
            bank.predict(0.08)
            bank.update(np.arange(3), seen(), np.arange(3))
        assert bank.weights.argmax() == wanted
        assert bank.weights.max() > 0.9


def test_what_the_sender_says_of_velocity_is_believed_at_once() -> None:
    bank = MotionBank(width=960)
    bank.add(Seen(*(np.full((1, 2), value) for value in (100.0, 4.0, np.log(50.0), 0.005))), [0])
    bank.steer(np.array([0]), np.array([[200.0, -40.0]]), np.full((1, 2), 25.0))
    moving = bank.forecast(0.1).velocity[0]
    assert 0 < moving[0] <= 200
    assert bank.forecast(0.1).centre[0, 0] > 100 + 0.5 * 0.1 * moving[0]


def test_models_are_checked() -> None:
    with pytest.raises(ValueError, match=r"own -1\.0 is outside 0\.\.100"):
        MotionModel(0.0, -1.0, 0.0, 0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="at least one"):
        MotionBank((), width=960)


def nodding(frame: int, height: float) -> tuple[Detection, ...]:
    """Five objects before a camera that nods: up for two frames, down for two."""
    return tuple(detection(n, 150.0 * (n + 1), 270 + height * (0, 0, 1, 1)[frame % 4]) for n in range(5))


def test_a_nod_is_not_taken_for_a_motion_two_readings_ahead() -> None:
    scene, stale = LivingScene(SIZE, TREE), []
    missed = []
    for frame in range(60):
        read(scene, frame, *nodding(frame, 12.0))
        if frame > 20:
            later = {item.id: item.box for item in nodding(frame + 2, 12.0)}
            told = scene.at((frame + 2) * STEP).objects
            assert len(told) == 5
            for item in told:
                true = min(later.values(), key=lambda box, mine=item.box: abs(box[0] - mine[0]))  # type: ignore[misc]
                missed.append(abs(item.box[1] - true[1]))
            stale += [12.0] * 5
    assert np.mean(missed) <= np.mean(stale)


def test_what_was_foretold_too_badly_to_be_matched_still_widens_the_ellipse() -> None:
    def seen(x: float) -> Seen:
        return Seen(*(np.full((1, 2), value) for value in (x, 1.0, np.log(60.0), 0.005)))

    bank = MotionBank(width=960)
    bank.add(seen(100.0), [0])
    none = np.zeros(0, np.intp)
    for number in range(12):
        bank.predict(0.1)
        bank.update(none, seen(100.0 + 25 * (-1) ** number), none)
    assert bank.scale(0.1) > 1.5
    assert bank.scale(0.2) == pytest.approx(np.sqrt(bank.scale(0.1) * bank.scale(0.3)))
