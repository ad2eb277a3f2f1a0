"""The semantic blocks of whole images before and in training, on a made-up world of twelve classes in three kinds."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra `train`)")

from semhier_ros.torch.image_semantics import ImageSemantics, evidence_of, evidence_size

CLASSES, SIZE = 12, 10
OWNERS = [torch.arange(CLASSES) // 4, torch.arange(CLASSES) // 2, torch.arange(CLASSES)]
NODES = (3, 6, 12)


@pytest.fixture(scope="module")
def world():
    """A started network, and points with evidence and leaf."""
    torch.manual_seed(0)
    centres = 2 * torch.randn(CLASSES, SIZE)
    rows, bias = centres.clone(), -centres.square().sum(1) / 2
    points = centres[torch.arange(1200) % CLASSES] + torch.randn(1200, SIZE) * torch.linspace(1.5, 0.2, SIZE)
    logits = points @ rows.T + bias
    evidence = evidence_of(logits, OWNERS)
    assert evidence.shape == (1200, evidence_size(NODES))
    network = ImageSemantics(OWNERS, centres, rows, bias, (5, 3, 4, 6), evidence_size(NODES))
    network.start(points, evidence, logits.argmax(1), 3, NODES[0])
    return network, points, evidence, logits.argmax(1)


@pytest.mark.torch
def test_every_block_brings_the_points_nearer_before_any_training(world):
    network, points, evidence, leaf = world
    with torch.no_grad():
        prefixes = network(points, evidence, leaf, rounded=True)
    distances = [float((prefix.point - points).square().sum(1).mean()) for prefix in prefixes]
    about = float((points - network.centres[leaf]).square().sum(1).mean())
    assert distances == sorted(distances, reverse=True)
    assert distances[2] < about
    assert distances[3] < 0.2 * about
    assert all(torch.isfinite(prefix.bits).all() and prefix.bits.mean() > 0 for prefix in prefixes)


@pytest.mark.torch
def test_started_scales_fit_what_is_coded(world):
    """The Gaussians' own idea of the bits is near the entropy of the symbols."""
    network, points, evidence, leaf = world
    wanted = points @ network.analyse.T + evidence @ network.evidence.T
    with torch.no_grad():
        bits = float(network(points, evidence, leaf, rounded=True)[0].bits.mean())
        mean, _ = network.parameters_of(0, leaf, points[:, :0])
        symbols = (wanted[:, : network.ends[0]] - mean).round().numpy()
    entropy = 0.0
    for column in symbols.T:
        share = np.unique(column, return_counts=True)[1] / len(column)
        entropy -= float((share * np.log2(share)).sum())
    assert bits < 1.25 * entropy + 1


@pytest.mark.torch
def test_blocks_that_do_not_follow_ignore_the_latents_before(world):
    network, *_ = world
    leaf = torch.tensor([3])
    far = 5 * torch.ones(1, network.ends[0])
    network.follows = False
    try:
        np.testing.assert_array_equal(
            network.parameters_of(1, leaf, far)[0].detach(), network.parameters_of(1, leaf, -far)[0].detach()
        )
    finally:
        network.follows = True
    assert not torch.equal(network.parameters_of(1, leaf, far)[0], network.parameters_of(1, leaf, -far)[0])


@pytest.mark.torch
def test_integer_form_agrees_with_the_network(world):
    from semhier_ros.codec.latent_groups import UNIT, split_parameters
    from semhier_ros.training.imagenet_model import LATENT_ROWS, latent_network
    from semhier_ros.training.integer_form import scale_table

    network, points, _, leaf = world
    _, scales = scale_table(0.08, 40.0, LATENT_ROWS, 63)
    with torch.no_grad():
        latents = points[:8, :0]
        for block in range(4):
            told = np.zeros((8, sum(NODES[: min(block, 2) + 1])), np.int32)
            start = 0
            for level in range(min(block, 2) + 1):
                told[np.arange(8), start + OWNERS[level][leaf[:8]].numpy()] = UNIT
                start += NODES[level]
            before = (latents * UNIT).round().int().numpy()
            means, rows = split_parameters(
                latent_network(network, block, NODES, scales)(np.concatenate([told, before], axis=1)), LATENT_ROWS
            )
            mean, scale = network.parameters_of(block, leaf[:8], torch.from_numpy(before / UNIT).float())
            np.testing.assert_allclose(means / UNIT, mean, atol=0.1)
            nearest = np.abs(np.log(scales)[None, None] - np.log(scale.numpy())[..., None]).argmin(-1)
            assert np.abs(rows - nearest).max() <= 1
            latents = torch.cat([latents, torch.from_numpy(means / UNIT).float().round()], dim=1)
