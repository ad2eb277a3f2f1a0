"""What the readers of an object codec learn."""

from __future__ import annotations

import numpy as np
import torch

from semhier_ros.torch.object_codec import GEOMETRY_INPUTS
from semhier_ros.training.object_codec import Rows, train_object_codec

NODES, LEAVES, FEATURES = (1, 2), 2, 3


def test_a_reader_is_as_sure_as_the_detector_whatever_was_true():
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    count = 1000
    told = np.zeros((count, GEOMETRY_INPUTS + LEAVES), np.float32)
    told[:, GEOMETRY_INPUTS - 1] = rng.uniform(-1, 1, count)
    objectness = (0.5 + 0.4 * told[:, GEOMETRY_INPUTS - 1]).astype(np.float32)
    told[:, GEOMETRY_INPUTS] = 1
    rows = Rows(
        told,
        rng.normal(size=(count, 5)).astype(np.float32),
        np.full((count, LEAVES), np.log(0.5), np.float32),
        rng.integers(-1, 1, count),  # as often true as not, at every score
        objectness,
        rng.normal(size=(count, FEATURES)).astype(np.float32),
        np.zeros((count, 4), np.float32),
    )
    codec = train_object_codec(rows, NODES, [np.zeros(2, np.intp), np.arange(2)], (1,), 150, 0, 64, (0.05,))
    with torch.no_grad():
        known = torch.from_numpy(told[:, :GEOMETRY_INPUTS])
        read = codec.read(0, known, known[:, :0]).objectness[:, 0].sigmoid().numpy()
    assert np.abs(read - objectness).mean() < 0.05
    assert np.corrcoef(read, objectness)[0, 1] > 0.98
