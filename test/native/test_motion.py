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
from semhier_ros.scene.forecast import MODELS, MotionBank, Seen, foretold, judged, outlook_of
from semhier_ros.scene.living import LivingScene
from semhier_ros.scene.names import Tree
from semhier_ros.scene.shares import nearest_mixture

MODULES = [importlib.import_module(f"semhier_ros.scene.{name}") for name in ("forecast", "living", "names", "shares")]
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
    made.predict(0.07)
    made.update(np.arange(objects), seen)
    return made, seen


def test_time_passes_as_in_numpy_to_the_bit(without: Any) -> None:
    made, _ = bank(np.random.default_rng(1))
    found = made._after(made._state, 0.083)
    without()
    for one, other in zip(found, made._after(made._state, 0.083), strict=True):
        assert one.tobytes() == other.tobytes()


def test_distances_are_those_of_numpy(without: Any) -> None:
    made, seen = bank(np.random.default_rng(2))
    found = made.distances(seen.take(np.arange(7)))
    without()
    for one, other in zip(found, made.distances(seen.take(np.arange(7))), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13)


def test_forecasts_are_those_of_numpy(without: Any) -> None:
    made, _ = bank(np.random.default_rng(4))
    shares = np.random.default_rng(5).dirichlet(np.ones(len(MODELS)), 4).T
    outlook = outlook_of(made._state, made._noise)
    found = foretold(outlook, shares, 0.16, 1.7)
    without()
    for one, other in zip(outlook, outlook_of(made._state, made._noise), strict=True):
        assert one.tobytes() == other.tobytes()
    for one, other in zip(found, foretold(outlook, shares, 0.16, 1.7), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 12), st.integers(0, 4))
def test_forecasts_are_judged_as_numpy_judges_them(seed: int, seen_again: int, strangers: int) -> None:
    rng = np.random.default_rng(seed)
    made, seen = bank(rng)
    outlook = outlook_of(made._state, made._noise)
    told = [(outlook, np.arange(12), 0.05), (outlook, rng.permutation(12) + 4, 0.1), (outlook, np.arange(12) - 7, 0.3)]
    shares = rng.dirichlet(np.ones(len(MODELS)), (4, 3)).transpose(2, 0, 1)
    rows = rng.permutation(12)[:seen_again]
    jitter = Seen(seen.centre + rng.normal(0, 4, (12, 2)), *seen[1:])
    given_ = told, shares, [1.0, 0.4, 3.0], rows, jitter.take(rows), jitter.take(rng.integers(0, 12, strangers))
    found = judged(*given_)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MODULES[0], "kernels", None)
        expected = judged(*given_)
    for name in ("matched", "outside", "paired"):
        assert list(getattr(found, name)) == list(getattr(expected, name))
    for name in ("lost", "both", "gain"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=1e-9)


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
        with pytest.raises(ValueError, match="outside"):
            kernels.motion_observed(state[0], state[1], np.array(rows), two, two)
    with pytest.raises(ValueError, match="not positive definite"):
        kernels.motion_observed(state[0], state[1], np.array([[1, 2]]), two, np.zeros((2, 2)))
    with pytest.raises(TypeError):
        kernels.nearest_mixture(np.ones((1, 4, 4), complex), np.ones((1, 4)), np.ones((15, 4)))


def test_forecasts_that_do_not_fit_are_refused() -> None:
    assert kernels is not None
    made, seen = bank(np.random.default_rng(6))
    outlook, shares = outlook_of(made._state, made._noise), np.full((len(MODELS), 4), 0.25)
    told, numbers = (outlook.mean, outlook.variance, np.arange(12), 0.1), np.arange(12)
    kernels.motion_judged([told], shares[..., None], [1.0], numbers, seen, seen)
    for wrong in (
        ([], shares[..., None], [1.0], numbers, seen, seen),
        ([(*told[:2], np.arange(11), 0.1)], shares[..., None], [1.0], numbers, seen, seen),
        ([(told[0][:, :2], told[1], *told[2:])], shares[..., None], [1.0], numbers, seen, seen),
        ([told], shares, [1.0], numbers, seen, seen),
        ([told], shares[..., None], [], numbers, seen, seen),
        ([told], shares[..., None], [1.0], numbers[1:], seen, seen),
        ([told], shares[..., None], [1.0], numbers, seen[:3], seen),
    ):
        with pytest.raises(ValueError, match=r"expected|age"):
            kernels.motion_judged(*wrong)
    with pytest.raises(ValueError, match="expected"):
        kernels.motion_foretold(*outlook, shares[1:], 0.1, 1.0)
    with pytest.raises(ValueError, match="expected"):
        kernels.motion_outlook(*made._state, made._noise[:, 1:])
