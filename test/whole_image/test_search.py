"""The encoder's search for whole numbers: it never makes things worse, and finds what trying everything finds."""

import itertools

import numpy as np
import pytest

from semhier_ros import Codec
from semhier_ros.codec.latent_groups import steps_of
from semhier_ros.whole_image.backend import TrunkOutput
from semhier_ros.whole_image.encoder import code_image, rounded_bits
from semhier_ros.whole_image.reader import ImageReader, softmax
from semhier_ros.whole_image.search import Quadratic, Wanted, damage, improve
from semhier_ros.whole_image.stream import ImageCode


def quadratic(random, size, tied):
    """A damage with its curvature written out (size,size), and the price of each latent's symbols (size,9)."""
    root = np.eye(size) + tied * random.standard_normal((size, size))
    less = 0.3 * tied * random.standard_normal(size)
    found = Quadratic.made(2 * random.standard_normal(size), root, less, np.eye(size), 0.2)
    prices = np.abs(np.arange(9) - 4) * random.uniform(0.1, 1.5, (size, 1))
    return found, root.T @ root - np.outer(less, less) + 0.2 * np.eye(size), prices


def cost(found, curvature, prices, start, symbols):
    moved = symbols - start
    price = prices[np.arange(len(symbols)), symbols].sum()
    return found.gradient @ moved + moved @ curvature @ moved / 2 + price


@pytest.mark.parametrize("tied", [0.0, 0.3])
def test_search_is_near_the_best_of_all(tied):
    random = np.random.default_rng(5)
    low, high = np.zeros(3, np.int32), np.full(3, 8, np.int32)
    gained, most = 0.0, 0.0
    for _ in range(20):
        found, curvature, prices = quadratic(random, 3, tied)
        start = random.integers(2, 7, 3)
        symbols = start.copy()
        improve(found, symbols, low, high, prices, np.arange(3))
        before, after = (cost(found, curvature, prices, start, own) for own in (start, symbols))
        every = itertools.product(range(9), repeat=3)
        best = min(cost(found, curvature, prices, start, np.array(own)) for own in every)
        assert best - 1e-6 <= after <= before + 1e-6
        if not tied:
            assert after == pytest.approx(best, abs=1e-4)
        gained, most = gained + before - after, most + before - best
    assert gained > 0.9 * most


def test_quadratic_is_what_its_parts_say():
    random = np.random.default_rng(7)
    found, curvature, _ = quadratic(random, 6, 0.3)
    step = random.standard_normal(6).astype(np.float32)
    np.testing.assert_allclose(found.bend(step), curvature @ step, rtol=1e-5)
    np.testing.assert_allclose(found.half, np.diag(curvature) / 2, rtol=1e-5)


def test_bounds_hold():
    random = np.random.default_rng(6)
    found, _, prices = quadratic(random, 40, 0.05)
    symbols = np.full(40, 4)
    improve(found, symbols, np.full(40, 3, np.int32), np.full(40, 5, np.int32), prices, np.arange(40))
    assert set(symbols) <= {3, 4, 5}


@pytest.fixture(scope="module")
def model():
    return Codec.load("imagenet", "cpu", threads=1).model


def made_up(model, random, spread=0.1):
    """What the trunk might say: a point some way off a likely class."""
    weights = model.reader.weights
    point = spread * random.standard_normal(len(weights["space"])).astype(np.float32)
    features = weights["feature_mean"] + point @ weights["space"]
    return TrunkOutput(features, weights["rows"] @ point + weights["row_bias"]), point


def test_evidence_is_finite_and_says_what_is_likely(model):
    random = np.random.default_rng(2)
    seen, point = made_up(model, random)
    evidence = Wanted(seen.logits, point, model.taxonomy, 0.6).evidence()
    coarse = model.taxonomy.lift(softmax(seen.logits), 0)
    assert np.isfinite(evidence).all()
    assert evidence[:10].argmax() == coarse.argmax()
    certain = np.eye(1, 1000, 7, dtype=np.float32)[0] * 1e4
    assert np.isfinite(Wanted(certain, point, model.taxonomy, 0.6).evidence()).all()


@pytest.mark.parametrize("block", [2, 3])
def test_gradient_is_that_of_the_divergence_and_the_distance(model, block):
    """Central differences of what is read, without the rise of named nodes."""
    random = np.random.default_rng(3)
    reader, stream = model.reader, model.stream
    seen, point = made_up(model, random)
    code = code_image(reader, seen, stream.layout.quality, block + 1)
    step = 16
    shares = reader.weights["search_shares"]
    wanted = Wanted(seen.logits, point, reader.tree, float(shares[0]))
    found = damage(reader, code, block, wanted, step)

    def loss(latents):
        moved = ImageCode(code.quality, code.path, [*code.latents[:block], latents])
        logits = reader.linear_and_hidden(moved, block)[0]
        total = float(reader.weights["search_features"][block]) * float(
            np.square((reader.point(moved, block) - point).astype(np.float64)).sum()
        )
        for temperature, weight in ((1.0, 1.0), (float(shares[0]), float(shares[1]))):
            true, read = (softmax(z, temperature) for z in (seen.logits, logits))
            total += weight * float((true * np.log((true + 1e-15) / (read + 1e-15))).sum())
        return total

    for latent in range(min(5, len(code.latents[block]))):
        away = np.zeros(len(code.latents[block]))
        away[latent] = 0.16
        slope = (loss(code.latents[block] + away) - loss(code.latents[block] - away)) / 0.02
        assert found.gradient[latent] == pytest.approx(slope, rel=0.05, abs=0.02)
    for _ in range(10):
        away = random.standard_normal(len(code.latents[block])).astype(np.float32)
        assert away @ found.bend(away) > 0


def test_bytes_are_spent_evenly(model):
    """Where a picture's latents would take more bits than usual a bit must save more: sizes differ less."""
    random = np.random.default_rng(8)
    reader, stream = model.reader, model.stream
    quality, blocks = stream.layout.quality, stream.semantic_blocks
    tables = stream.tables["latents"]

    def bits(own, seen):
        code = code_image(own, seen, quality, blocks)
        total = 0.0
        for block in range(2, blocks):
            means, rows = stream.latent_parameters(block, code)
            symbols = steps_of(code.latents[block], means, tables, stream.layout.steps[quality][block])
            total += float(tables.bits[rows, symbols].sum())
        return total

    plain = dict(reader.weights) | {"search_even": np.zeros(blocks, np.float32)}
    unweighed = ImageReader(stream, model.taxonomy, plain)
    pictures = [made_up(model, random, spread)[0] for spread in np.linspace(0.02, 0.12, 12)]
    taken = np.array([rounded_bits(reader, seen, quality, blocks)[-1] for seen in pictures])
    usual = float(reader.weights["search_usual"][quality, -1])
    assert taken.min() < usual < taken.max()
    evened, left = (np.array([bits(own, seen) for seen in pictures]) for own in (reader, unweighed))
    assert evened[taken.argmax()] < left[taken.argmax()]
    assert evened[taken.argmin()] > left[taken.argmin()]
    assert evened.std() / evened.mean() < 0.9 * left.std() / left.mean()
