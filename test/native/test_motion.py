"""The living scene's filters in compiled kernels, against the NumPy lines that define them."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semhier_ros.codec.reading import Detection, Reading
from semhier_ros.native import kernels
from semhier_ros.scene.forecast import MODELS, MotionBank, Seen, outlook_of
from semhier_ros.scene.living import GATE, LivingScene
from semhier_ros.scene.names import Tree
from semhier_ros.scene.shares import nearest_mixture

MODULES = [importlib.import_module(f"semhier_ros.scene.{name}") for name in ("forecast", "living", "shares")]
SIZE = (1280, 720)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call it, and NumPy computes from then on."""
    return lambda: [monkeypatch.setattr(module, "kernels", None) for module in MODULES]


def moving(rng: np.random.Generator, frames: int) -> list[list[Detection]]:
    """Objects that drive, turn up, are missed now and then, and go."""
    places, speeds = rng.uniform((0, 200), SIZE, (24, 2)), rng.normal(0, 60, (24, 2))
    sides, shown = rng.uniform(15, 160, (24, 2)), []
    for frame in range(frames):
        camera = 90 * np.sin(frame / 7)
        places = places + (speeds + np.array([camera, 0])) / 12.5
        places[rng.random(24) < 0.02] = rng.uniform((0, 200), SIZE)
        seen = np.flatnonzero(rng.random(24) < 0.85)
        middle = places[seen] + rng.normal(0, 0.04, (len(seen), 2)) * sides[seen]
        boxes = np.concatenate([middle - sides[seen] / 2, middle + sides[seen] / 2], axis=1).tolist()
        groups = [(int(row % 2), int(row % 4)) for row in seen]
        shown.append(
            [
                Detection(place, tuple(box), path, ("thing", "kind"), (0.8, 0.6), ((), ()), (float(camera), 0.0))
                for place, (box, path) in enumerate(zip(boxes, groups, strict=True))
            ]
        )
    return shown


def walk(drive: list[list[Detection]]) -> tuple[list[Any], list[list[float]]]:
    """Ids, names and places of a scene that follows a drive."""
    living = LivingScene(SIZE, Tree([[0, 0], [0, 0, 1, 1]], [("a", "b"), ("aa", "ab", "ba", "bb")]))
    told, numbers = [], []
    for frame, detections in enumerate(drive):
        stamp = frame * 80_000_000
        reading = living.follow(stamp, Reading(frame, 1, 1, tuple(detections), 0, True))
        scene = living.at(stamp + 160_000_000)
        told.append(([(item.id, item.names) for item in reading.detections], [item.id for item in scene.objects]))
        for item in scene.objects:
            numbers.append([*item.box, *item.velocity, *item.covariance, *item.velocity_covariance, item.existence])
    return told, numbers


def test_a_walk_gives_the_ids_and_names_of_numpy_and_places_but_for_rounding(without: Any) -> None:
    drive = moving(np.random.default_rng(5), 120)
    told, numbers = walk(drive)
    without()
    expected, others = walk(drive)
    assert told == expected
    np.testing.assert_allclose(numbers, others, rtol=1e-9, atol=1e-9)


def bank(rng: np.random.Generator, objects: int = 12) -> tuple[MotionBank, Seen]:
    sides = np.log(rng.uniform(10, 200, (objects, 2)))
    seen = Seen(rng.uniform(0, 700, (objects, 2)), rng.uniform(1, 9, (objects, 2)), sides, np.full_like(sides, 0.01))
    made = MotionBank(width=1280.0)
    made.add(seen, list(range(objects)))
    for step in (0.07, 0.04, 0.1, 0.2):
        made.predict(step)
        seen = seen._replace(centre=seen.centre + rng.normal(3, 2, (objects, 2)))
        made.update(np.arange(objects), seen, np.arange(objects))
    return made, seen


def test_time_passes_as_in_numpy_to_the_bit(without: Any) -> None:
    made, _ = bank(np.random.default_rng(1))
    found = made._after(made._state, 0.083)
    without()
    for one, other in zip(found, made._after(made._state, 0.083), strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("gate", [GATE, 1e9])
def test_distances_are_those_of_numpy(without: Any, gate: float) -> None:
    made, seen = bank(np.random.default_rng(2))
    found = made.distances(seen.take(np.arange(7)), gate)
    without()
    for one, other in zip(found, made.distances(seen.take(np.arange(7)), gate), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
        assert np.isinf(one).any() == (gate == GATE)
        assert np.isfinite(np.diag(one)).all()


@pytest.mark.parametrize("seconds", [0.0, 0.08, 0.16, 0.4])
def test_forecasts_are_those_of_numpy(without: Any, seconds: float) -> None:
    made, _ = bank(np.random.default_rng(4))
    assert (made.shares.values[0, :2] > 0).all(), "shares of several models"
    outlook, found = outlook_of(made._state, made._noise), made.forecast(seconds)
    without()
    for one, other in zip(outlook, outlook_of(made._state, made._noise), strict=True):
        assert one.tobytes() == other.tobytes()
    for one, other in zip(found, made.forecast(seconds), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 12), st.integers(0, 4))
def test_what_is_seen_is_taken_as_by_numpy(seed: int, seen_again: int, strangers: int) -> None:
    """Also where objects have come and gone since what is judged was foretold."""
    rng = np.random.default_rng(seed)
    made, seen = bank(rng)
    made.keep(np.arange(3, 12))
    made.add(seen.take(np.arange(3)), [20, 21, 22])
    made.predict(0.06)
    rows, order = rng.permutation(12)[:seen_again], rng.permutation(seen_again + strangers)
    jittered = seen._replace(centre=seen.centre + rng.normal(0, 4, (12, 2)))
    shown = jittered.take(np.concatenate([(rows + 3) % 12, rng.integers(0, 12, strangers)]).astype(np.intp)[order])
    plain, places = made.copy(), np.argsort(order)[:seen_again]
    made.update(rows, shown, places)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MODULES[0], "kernels", None)
        plain.update(rows, shown, places)
    assert made._judged.tolist() == plain._judged.tolist()
    records = [[one._record, one._ages, one._scales, one.shares.both, one.shares.gain] for one in (made, plain)]
    for found, expected in zip([*made._state, *records[0]], [*plain._state, *records[1]], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_mixtures_are_those_of_numpy_to_the_bit(without: Any) -> None:
    rng = np.random.default_rng(3)
    some = rng.normal(size=(3, 4, 9, 4))
    both, gain = some.swapaxes(2, 3) @ some + np.eye(4), rng.normal(size=(3, 4, 4))
    found = nearest_mixture(both, gain)
    without()
    assert found.tobytes() == nearest_mixture(both, gain).tobytes()


def test_arrays_that_do_not_fit_are_refused() -> None:
    assert kernels is not None
    count, models = 3, len(MODELS)
    state = [np.zeros((models, 2, 7)), np.zeros((models, 2, 7, 7)), np.zeros((models, 2, 2, count))]
    state += [np.ones((models, 3, 2, count)), np.ones(count), np.ones((models, 5))]
    for place in range(len(state)):
        wrong = [array[:-1] if place == number else array for number, array in enumerate(state)]
        with pytest.raises(ValueError, match="expected"):
            kernels.motion_after(*wrong, 0.1, 0.1, 0.1)
    two = np.ones((2, 2))
    for rows in ([[0, 7]], [[-1, 0]]):
        with pytest.raises(ValueError, match="expected"):
            kernels.motion_observed(state[0], state[1], np.array(rows), two, two)
    with pytest.raises(ValueError, match="not positive definite"):
        kernels.motion_observed(state[0], state[1], np.array([[1, 2]]), two, np.zeros((2, 2)))
    with pytest.raises(TypeError):
        kernels.nearest_mixture(np.ones((1, 4, 4), complex), np.ones((1, 4)), np.ones((15, 4)))


def test_what_is_seen_and_does_not_fit_is_refused() -> None:
    assert kernels is not None
    made, seen = bank(np.random.default_rng(6))
    state, record, all_of_them = made._state, made._record, np.arange(12)
    kernels.motion_updated(*state, record, all_of_them, all_of_them, seen)
    for wrong in (
        (record[1:], all_of_them, all_of_them, seen),
        (record, all_of_them + 1, all_of_them, seen),
        (record, all_of_them, all_of_them - 1, seen),
        (record, all_of_them[1:], all_of_them, seen),
        (record, all_of_them, all_of_them, seen[:3]),
        (record, all_of_them, all_of_them, [part[1:] for part in seen]),
    ):
        with pytest.raises(ValueError, match="expected"):
            kernels.motion_updated(*state, *wrong)
    with pytest.raises(ValueError, match="expected"):
        kernels.motion_distances(*state[:4], record[1:], seen, GATE)


def test_forecasts_that_do_not_fit_are_refused() -> None:
    assert kernels is not None
    made, seen = bank(np.random.default_rng(6))
    outlook, numbers = outlook_of(made._state, made._noise), np.arange(12)
    told = (0, outlook.mean, outlook.variance, numbers, 0.1)
    records = [made.shares.values, made._record, made._ages, made._scales, made._judged, made.shares.both]
    records.append(made.shares.gain)
    kernels.motion_judged([told], *records, numbers, numbers, numbers, seen, 0.9)
    for place in range(len(records)):
        wrong = [array[:-1] if place == number else array for number, array in enumerate(records)]
        with pytest.raises(ValueError, match=r"expected|other models"):
            kernels.motion_judged([told], *wrong, numbers, numbers, numbers, seen, 0.9)
        wrong[place] = records[place].astype(np.float32)
        with pytest.raises((TypeError, ValueError)):
            kernels.motion_judged([told], *wrong, numbers[1:], numbers, numbers, seen, 0.9)
    for then, *given_ in (
        ((3, *told[1:]), numbers, numbers, numbers, seen),
        ((*told[:3], numbers[1:], 0.1), numbers, numbers, numbers, seen),
        ((0, told[1][:, :2], *told[2:]), numbers, numbers, numbers, seen),
        (told, numbers[1:], numbers, numbers, seen),
        (told, numbers, numbers[1:], numbers, seen),
        (told, numbers, numbers, numbers + 1, seen),
        (told, numbers, numbers, numbers, seen[:3]),
    ):
        with pytest.raises(ValueError, match=r"expected|age"):
            kernels.motion_judged([then], *records, *given_, 0.9)
    for values, ages, scales in (
        (records[0][1:], made._ages, made._scales),
        (records[0], made._ages[1:], made._scales),
        (records[0], made._ages, made._scales[1:]),
    ):
        with pytest.raises(ValueError, match="expected"):
            kernels.motion_foretold(*outlook, made._state.mean, values, ages, scales, 0.1)
    with pytest.raises(ValueError, match="expected"):
        kernels.motion_foretold(*outlook, made._state.mean[:, :, 1:], *records[:1], made._ages, made._scales, 0.1)
    with pytest.raises(ValueError, match="expected"):
        kernels.motion_outlook(*made._state, made._noise[:, 1:])
