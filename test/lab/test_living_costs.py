"""What a frame of the living scene costs: each part of each frame is told, at either end."""

from __future__ import annotations

from collections import defaultdict

from semhier_ros.api import Codec
from semhier_ros.lab.studies.living import MadeDrive, costs_of_a_frame
from semhier_ros.scene.model import SceneModel


def scenes() -> SceneModel:
    model = Codec.load("road", "cpu", threads=1).model
    assert isinstance(model, SceneModel)
    return model


def test_every_step_times_one_frame_that_refers_to_another() -> None:
    made = MadeDrive(scenes())
    times: dict[str, list[float]] = defaultdict(list)
    for steps in range(1, 30):  # over more than one whole frame, which comes every 2 s
        made.step(times)
        assert [len(times[part]) for part in ("encode", "decode", "follow", "forecast")] == 4 * [steps]
    assert min(map(min, times.values())) > 0


def test_a_receiver_s_frame_is_all_that_it_does_with_it() -> None:
    costs = costs_of_a_frame(scenes(), objects=6, frames=5)
    parts = costs["ms"]
    assert costs["frames"] == 5
    assert parts["receiver"]["median"] >= max(parts[name]["median"] for name in ("decode", "follow", "forecast"))
