"""Normalisations folded into convolutions: what is computed and learned is what an evaluating network computes."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra `train`)")
from torch import nn

from semhier_ros.torch.detector import Detector
from semhier_ros.training.device import depthwise_in_float32
from semhier_ros.training.fit import AveragedWeights
from semhier_ros.training.folded import fold_statistics

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def detector() -> Detector:
    """One whose statistics and scales are those of no fresh network."""
    torch.manual_seed(1)
    network = Detector(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return network.eval()


def folded(network: Detector) -> Detector:
    other = copy.deepcopy(network).train()
    fold_statistics(other)
    depthwise_in_float32(other)
    return other.to(memory_format=torch.channels_last)


PIXELS = torch.linspace(-1, 1, 2 * 3 * 64 * 96).reshape(2, 3, 64, 96).sin()


def test_a_folded_network_says_and_learns_what_an_evaluating_one_does(detector: Detector) -> None:
    plain, other = copy.deepcopy(detector).double(), folded(detector).double()
    assert list(other.state_dict()) == list(plain.state_dict())
    before = {name: value.clone() for name, value in other.named_buffers()}
    for network in (plain, other):
        sum(part.square().mean() for part in network(PIXELS.double())).backward()
    for one, two in zip(plain(PIXELS.double()), other(PIXELS.double()), strict=True):
        assert torch.allclose(one, two, rtol=1e-9)
    wanted = dict(plain.named_parameters())
    for name, weight in other.named_parameters():
        given, own = wanted[name].grad, weight.grad
        assert (given is None) == (own is None), name
        if given is not None and own is not None:
            assert torch.allclose(given, own, rtol=1e-6, atol=1e-6 * float(given.abs().max())), name
    assert all(torch.equal(value, before[name]) for name, value in other.named_buffers()), "statistics stay"


def test_the_average_of_a_folded_network_follows_its_own_weights(detector: Detector) -> None:
    network = folded(detector)
    average = AveragedWeights(network)
    with torch.no_grad():
        network.lateral[0][1].bias.add_(1.0)
        assert torch.allclose(average.module(PIXELS).objectness, detector(PIXELS).objectness, atol=1e-3)
        average.update_parameters(network)
        average.update_parameters(network)
    assert not torch.allclose(average.module(PIXELS).objectness, detector(PIXELS).objectness, atol=1e-3)


def test_a_folded_network_computes_in_bfloat16_too(detector: Detector) -> None:
    network = folded(detector)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = network(PIXELS).objectness
    exact = detector(PIXELS).objectness
    assert float((coarse - exact).detach().abs().mean()) < 0.05 * float(exact.detach().abs().mean())
