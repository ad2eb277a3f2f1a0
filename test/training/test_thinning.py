"""A thinner trunk: fewer channels that give what the whole ones gave, and weights that say how many there are."""

from __future__ import annotations

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra `train`)")
from torch import nn

from semhier_ros.torch.detector import Detector, Unshuffled
from semhier_ros.torch.scene_backend import DetectorGraph
from semhier_ros.training.errors import TrainingError
from semhier_ros.training.thinning import block_of, fit_fewer, read_widths, thinned

pytestmark = pytest.mark.torch

WIDTHS = {"0.0": 24, "1.0": 80, "1.1": 120}
PIXELS = torch.linspace(-1, 1, 3 * 64 * 96).reshape(1, 3, 64, 96).sin()


@pytest.fixture(scope="module")
def canvases() -> list[np.ndarray]:
    random = np.random.default_rng(3)
    coarse = random.integers(0, 256, (3, 8, 12, 3), np.uint8)
    return [np.kron(one, np.ones((8, 8, 1), np.uint8)) for one in coarse]


@pytest.fixture(scope="module")
def doubled() -> Detector:
    """A detector of whose channels, in the blocks that are cut, many stand for others: they do what these do."""
    torch.manual_seed(1)
    network = Detector(3).eval()
    state = network.state_dict()
    for name, count in WIDTHS.items():
        block = block_of(network, name)
        for part in block.expanded:
            for key in [key for key in state if key.startswith(f"{part}.") and state[key].ndim]:
                spare = len(state[key]) - count
                state[key][count:] = state[key][:spare]
    network.load_state_dict(state)
    return network


def test_channels_that_others_stand_for_go_without_loss(doubled: Detector, canvases: list[np.ndarray]) -> None:
    narrow, lost = thinned(doubled, WIDTHS, canvases)
    assert list(lost) == list(WIDTHS)
    assert max(lost.values()) < 1e-4
    for before, after in zip(doubled(PIXELS), narrow(PIXELS), strict=True):
        assert torch.allclose(before, after, atol=2e-3, rtol=1e-3)
    for name, count in WIDTHS.items():
        assert len(narrow.state_dict()[f"trunk.blocks.{name}.conv_dw.weight"]) == count
    assert len(narrow.state_dict()["trunk.conv_stem.weight"]) == WIDTHS["0.0"]


def test_weights_say_how_wide_a_trunk_is(doubled: Detector, canvases: list[np.ndarray]) -> None:
    narrow, _ = thinned(doubled, WIDTHS, canvases)
    again = DetectorGraph(Detector(3))
    again.load_state_dict(DetectorGraph(narrow).state_dict())
    canvas = torch.from_numpy(canvases[0][None])
    for before, after in zip(DetectorGraph(narrow)(canvas), again.eval()(canvas), strict=True):
        assert torch.equal(before, after)
    again.detector.load_state_dict(doubled.state_dict())  # and back
    assert torch.equal(again.detector(PIXELS).box, doubled(PIXELS).box)
    depthwise = again.detector.trunk.blocks[1][0].conv_dw
    assert depthwise.groups == depthwise.in_channels == depthwise.out_channels == 96


def test_a_thin_network_learns(doubled: Detector, canvases: list[np.ndarray]) -> None:
    narrow, _ = thinned(doubled, WIDTHS, canvases)
    narrow(PIXELS).objectness.square().mean().backward()
    gradient = narrow.trunk.blocks[1][0].conv_pw.weight.grad
    assert gradient is not None
    assert gradient.abs().max() > 0


def test_what_is_kept_is_what_explains_most() -> None:
    random = np.random.default_rng(0)
    inputs = random.normal(size=(400, 6))
    inputs[:, 5] = inputs[:, 0] - 2 * inputs[:, 1]  # which 0 and 1 stand for
    wanted = np.stack([inputs[:, 0] + inputs[:, 5] + 3, 0.01 * inputs[:, 2] - inputs[:, 3]], axis=1)
    fitted = fit_fewer(inputs, wanted, 3)
    assert len(fitted.kept) == 3
    assert 3 in fitted.kept
    assert 4 not in fitted.kept
    assert fitted.lost < 1e-3
    assert np.allclose(inputs[:, fitted.kept] @ fitted.weight.T + fitted.shift, wanted, atol=0.06)


@pytest.mark.parametrize("text", ["1.0", "1.0=", "1.0=0", "1=64", "1.0=64 ", "1.0=-4"])
def test_a_text_that_is_no_width_is_refused(text: str) -> None:
    with pytest.raises(TrainingError, match=r"widths: .*BLOCK=CHANNELS expected"):
        read_widths([text])


def test_blocks_are_cut_from_the_first_on_each_once_and_must_be_there(canvases: list[np.ndarray]) -> None:
    assert list(read_widths(["10.0=4", "2.1=160", "0.0=24"])) == ["0.0", "2.1", "10.0"]
    with pytest.raises(TrainingError, match="each block once"):
        read_widths(["1.0=64", "1.0=32"])
    with pytest.raises(TrainingError, match=r"no block 10\.0 in the trunk"):
        block_of(Detector(1), "10.0")
    with pytest.raises(TrainingError, match=r"1\.0=96: the block has 96 channels, fewer expected"):
        thinned(Detector(1), {"1.0": 96}, canvases)


def test_unshuffling_in_a_convolution_is_unshuffling_and_a_convolution() -> None:
    torch.manual_seed(0)
    own = Unshuffled(5, 7).double()
    plain = nn.Sequential(nn.PixelUnshuffle(2), copy.deepcopy(nn.Conv2d(20, 7, 1))).double()
    plain[1].load_state_dict(own.state_dict())
    values = torch.randn(2, 5, 6, 8, dtype=torch.float64)
    assert torch.allclose(own(values), plain(values), atol=1e-12)
