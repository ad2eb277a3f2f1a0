"""What is worked out of a scene's code once is kept with it, and never with a code of other objects."""

import numpy as np

from semhier_ros.scene.layout import SceneCode


def code(objects: int) -> SceneCode:
    cells = np.arange(objects, dtype=np.int32)
    pairs = np.zeros((objects, 2), np.int32)
    return SceneCode(cells, pairs, pairs, cells, path=[np.zeros(objects, np.int32)])


def test_a_code_that_goes_on_keeps_what_was_worked_out() -> None:
    first = code(3)
    assert first.once("count", lambda: len(first)) == 3
    assert first.once("count", lambda: -1) == 3
    assert first.extended().once("count", lambda: -1) == 3


def test_a_code_of_fewer_objects_is_worked_out_anew() -> None:
    first = code(3)
    first.once("count", lambda: len(first))
    fewer = first.take(np.array([True, False, True]))
    assert fewer.once("count", lambda: len(fewer)) == 2
    assert first.once("count", lambda: -1) == 3
