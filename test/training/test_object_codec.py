"""What the readers of an object codec learn."""

from __future__ import annotations

import argparse
import re

import numpy as np
import pytest
import torch

from semhier_ros.torch.object_codec import GEOMETRY_INPUTS
from semhier_ros.training.object_codec import Rows, train_object_codec
from semhier_ros.training.road_model import check
from semhier_ros.training.road_objects import read_variant
from semhier_ros.training.settings import TrainingError

NODES, LEAVES, FEATURES = (1, 2), 2, 3


def test_the_reader_of_block_0_is_as_sure_as_it_was_taught_whatever_was_true():
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    count = 1000
    told = np.zeros((count, GEOMETRY_INPUTS + LEAVES), np.float32)
    told[:, GEOMETRY_INPUTS - 1] = rng.uniform(-1, 1, count)
    sure = (0.5 + 0.4 * told[:, GEOMETRY_INPUTS - 1]).astype(np.float32)
    told[:, GEOMETRY_INPUTS] = 1
    rows = Rows(
        told,
        rng.normal(size=(count, 5)).astype(np.float32),
        np.full((count, LEAVES), np.log(0.5), np.float32),
        rng.integers(-1, 1, count),  # as often true as not, at every score
        sure,
        rng.normal(size=(count, FEATURES)).astype(np.float32),
        np.zeros((count, 4), np.float32),
    )
    codec = train_object_codec(rows, NODES, [np.zeros(2, np.intp), np.arange(2)], (1,), 150, 0, 64, (0.05,))
    with torch.no_grad():
        known = torch.from_numpy(told[:, :GEOMETRY_INPUTS])
        read = codec.read(0, known, known[:, :0]).objectness[:, 0].sigmoid().numpy()
    assert np.abs(read - sure).mean() < 0.05
    assert np.corrcoef(read, sure)[0, 1] > 0.98


def test_the_reader_of_block_0_learns_of_labels_and_of_the_detector():
    from semhier_ros import Codec
    from semhier_ros.footage.video import default_video, read_video
    from semhier_ros.training.matching import Matched
    from semhier_ros.training.road_objects import make_rows

    codec = Codec.load("road", "cpu", threads=1)
    frame = next(iter(read_video(default_video()))).image
    objects = codec.model.finder.objects(
        codec.model.finder.look(frame), (frame.shape[1], frame.shape[0]), 0.1, codec.model.stream.layout.max_objects
    )
    truth = np.arange(len(objects)) % 2 - 1  # every other object is none
    found = [Matched(objects, truth, objects.boxes)]
    mean, scale = np.zeros(objects.features.shape[1]), np.ones(objects.features.shape[1])
    sure = {
        trust: make_rows(codec.model.stream, found, mean, scale, trust).sure.astype(float) for trust in (0.0, 0.5, 1.0)
    }
    assert sure[0.0].tolist() == (truth + 1).tolist()
    assert np.allclose(sure[0.5], (objects.objectness + truth + 1) / 2)
    assert np.array_equal(sure[1.0], objects.objectness)


@pytest.mark.parametrize("variant", ["0", "3", "mirrored", "1-upside-down", ""])
def test_a_variant_that_is_none_is_one_line(variant):
    with pytest.raises(TrainingError, match=re.escape(f"variants: {variant!r}: a scale of 0.1 to 2 wanted")):
        read_variant(variant)


@pytest.mark.parametrize("edges", [[], [0.3, 0.2], [0.2, 0.2], [0.5, 1.0]])
def test_classes_of_score_that_are_none_are_one_line(edges):
    options = argparse.Namespace(looks=[], score_edges=edges)
    with pytest.raises(TrainingError, match=re.escape(f"score_edges: {edges}, expected one or more numbers that rise")):
        check(options)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"name": "my model"}, "name: 'my model', expected 1 to 32"), ({"memory_overlap": 0.1}, "memory.overlap: 0.1 is")],
)
def test_what_no_model_folder_may_hold_is_told_before_the_work(change: dict[str, object], said: str) -> None:
    given = {"looks": [], "score_edges": [0.5], "variants": ["1"], "name": "a"}
    with pytest.raises(TrainingError, match=re.escape(said)):
        check(argparse.Namespace(**{**given, "memory_overlap": 0.0, **change}))
