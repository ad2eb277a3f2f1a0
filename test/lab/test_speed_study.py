"""The study of speed: frames of memory, of which each is told at either end."""

from __future__ import annotations

from semhier_ros.api import Codec
from semhier_ros.lab.studies.speed import Remembered
from semhier_ros.scene.model import SceneModel


def test_every_step_times_one_frame_that_refers_to_another() -> None:
    model = Codec.load("road", "cpu", threads=1).model
    assert isinstance(model, SceneModel)
    remembered = Remembered(model)
    encode: list[float] = []
    decode: list[float] = []
    for steps in range(1, 30):  # over more than one whole frame, which comes every 2 s
        remembered.step(encode, decode)
        assert len(encode) == len(decode) == steps
    assert min(encode) > 0
    assert min(decode) > 0
