"""The encoder's search for whole numbers: it never makes things worse, and finds what trying everything finds."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from semhier_ros import Codec
from semhier_ros.codec.image_backend import TrunkOutput
from semhier_ros.codec.image_stream import ImageCode
from semhier_ros.kinds.image_encoder import code_image
from semhier_ros.kinds.meaning_search import Damage, Wanted, evidence_of, improve
from semhier_ros.perception.image_reader import softmax


def quadratic(random, size, tied):
    root = np.eye(size) + tied * random.standard_normal((size, size))
    gradient = 2 * random.standard_normal(size)
    bits = np.abs(np.arange(9) - 4) * random.uniform(0.1, 1.5, (size, 1))
    return SimpleNamespace(gradient=gradient, curvature=root.T @ root), bits


def cost(damage, bits, start, symbols):
    moved = symbols - start
    price = bits[np.arange(len(symbols)), symbols].sum()
    return damage.gradient @ moved + moved @ damage.curvature @ moved / 2 + price


@pytest.mark.parametrize("tied", [0.0, 0.3])
def test_search_is_near_the_best_of_all(tied):
    random = np.random.default_rng(5)
    low, high = np.zeros(3, np.int32), np.full(3, 8, np.int32)
    found, least = 0.0, 0.0
    for _ in range(20):
        damage, bits = quadratic(random, 3, tied)
        start = random.integers(2, 7, 3)
        symbols = start.copy()
        improve(damage, symbols, low, high, bits)
        before, after = (cost(damage, bits, start, own) for own in (start, symbols))
        best = min(cost(damage, bits, start, np.array(own)) for own in itertools.product(range(9), repeat=3))
        assert best - 1e-9 <= after <= before + 1e-9
        if not tied:
            assert after == pytest.approx(best, abs=1e-4)
        found, least = found + before - after, least + before - best
    assert found > 0.9 * least


def test_bounds_hold():
    random = np.random.default_rng(6)
    damage, bits = quadratic(random, 40, 0.05)
    symbols = np.full(40, 4)
    improve(damage, symbols, np.full(40, 3, np.int32), np.full(40, 5, np.int32), bits)
    assert set(symbols) <= {3, 4, 5}


@pytest.fixture(scope="module")
def model():
    return Codec.load("imagenet", "cpu", threads=1).model


def made_up(model, random):
    """What the trunk might say: a point some way off a likely class."""
    weights = model.reader.weights
    point = 0.1 * random.standard_normal(len(weights["space"])).astype(np.float32)
    features = weights["feature_mean"] + point @ weights["space"]
    return TrunkOutput(features, weights["rows"] @ point + weights["row_bias"]), point


def test_evidence_is_finite_and_says_what_is_likely(model):
    random = np.random.default_rng(2)
    seen, _ = made_up(model, random)
    evidence = evidence_of(seen.logits, model.taxonomy)
    coarse = model.taxonomy.lift(softmax(seen.logits), 0)
    assert np.isfinite(evidence).all()
    assert evidence[:10].argmax() == coarse.argmax()
    assert np.isfinite(evidence_of(np.eye(1, 1000, 7, dtype=np.float32)[0] * 1e4, model.taxonomy)).all()


@pytest.mark.parametrize("block", [0, 1, 2, 3])
def test_gradient_is_that_of_the_divergence_and_the_distance(model, block):
    """Central differences of what is read, without the rise of named nodes."""
    random = np.random.default_rng(3)
    reader, stream = model.reader, model.stream
    seen, point = made_up(model, random)
    code = code_image(reader, seen, stream.layout.quality, block + 1)
    step = 16
    shares = reader.weights["search_shares"]
    wanted = Wanted(seen.logits, point, reader.tree, float(shares[0]))
    damage = Damage(reader, code, block, wanted, step)
    last = reader.tree.depth - 1
    terms = [(block, 1.0), (last, float(shares[2]))] if block < last else [(last, 1.0)]

    def loss(latents):
        moved = ImageCode(code.quality, code.path, [*code.latents[:block], latents])
        logits = reader.linear_and_hidden(moved, block)[0]
        total = float(reader.weights["search_features"][block]) * float(
            np.square((reader.point(moved, block) - point).astype(np.float64)).sum()
        )
        for temperature, weight in ((1.0, 1.0), (float(shares[0]), float(shares[1]))):
            for level, share in terms:
                true, read = (reader.tree.lift(softmax(z, temperature), level) for z in (seen.logits, logits))
                total += weight * share * float((true * np.log((true + 1e-15) / (read + 1e-15))).sum())
        return total

    for latent in range(min(5, len(code.latents[block]))):
        away = np.zeros(len(code.latents[block]))
        away[latent] = 0.16
        slope = (loss(code.latents[block] + away) - loss(code.latents[block] - away)) / 0.02
        assert damage.gradient[latent] == pytest.approx(slope, rel=0.05, abs=0.02)
