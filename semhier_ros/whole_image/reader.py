"""From a decoded prefix of a whole image's code to a reading: features, posteriors per level, calibrated scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.latent_groups import UNIT
from semhier_ros.codec.reading import Detection
from semhier_ros.taxonomy import Taxonomy
from semhier_ros.whole_image.stream import ImageCode, ImageStream

Floats = NDArray[np.float32]
MENTIONED = 0.05  # probability from which another node of a level is worth mentioning
MOST_OTHERS = 4
RAISED_BY = 0.01  # nats by which a named node stands above the next


class ImageReader:
    """Reads `ImageCode`s.

    weights: `feature_mean` F and `space` K,F: features are `feature_mean + x @ space` for x in the codec's own space;
    `rows` C,K and `row_bias` C: leaf logits of x. Per semantic prefix k: `known_<k>` nodes,K and `lift_<k>` K,d: x is
    `known[node] + lift @ latents`; `sharpness` (prefixes): factor on the logits, times the exponential of
    `sharpen_<k>` (H) times the hidden layer; `hidden_<k>.weight`, `.bias`,
    `.told` (nodes,H) and `answer_<k>.weight`, `.bias`: a small perceptron that corrects the logits. `temperature`
    qualities,prefixes,levels: what calibrates the leaf logits before they are summed.
    """

    def __init__(self, stream: ImageStream, tree: Taxonomy, weights: Mapping[str, Floats]):
        self.stream, self.tree, self.weights = stream, tree, weights
        self.prefixes = stream.semantic_blocks
        self._names = [tree.names(level) for level in range(tree.depth)]

    def deepest(self, prefix: int) -> int:
        """The last semantic prefix that `prefix` holds."""
        return min(prefix, self.prefixes - 1)

    def point(self, code: ImageCode, prefix: int) -> Floats:
        """Where the picture lies in the codec's own space (K), as far as blocks 0..prefix say."""
        k = self.deepest(prefix)
        node = code.path[min(k, self.stream.levels - 1)]
        latents = np.concatenate(code.latents[: k + 1]).astype(np.float32) / UNIT
        return np.asarray(self.weights[f"known_{k}"][node] + self.weights[f"lift_{k}"] @ latents)

    def features(self, code: ImageCode, prefix: int) -> Floats:
        """The trunk's features (F) as far as blocks 0..prefix say."""
        return np.asarray(self.weights["feature_mean"] + self.point(code, prefix) @ self.weights["space"])

    def logits(self, code: ImageCode, prefix: int) -> Floats:
        """Leaf logits (C) as far as blocks 0..prefix say, on the classifier's own scale.

        What the encoder named is the likeliest node of its level: where latents alone would rank another one before
        it, the named node's leaves are raised just above, so that no prefix is worse than the name it carries.
        """
        logits = self.linear_and_hidden(code, prefix)[0]
        temperatures = self.weights["temperature"][code.quality, self.deepest(prefix)]
        for level in range(min(prefix, self.stream.levels - 1), -1, -1):
            own = self.tree.owner(level) == code.path[level]
            for temperature in (1.0, float(temperatures[level])):
                nodes = self.tree.lift(softmax(logits, temperature), level)
                best = float(nodes.max())
                if nodes[code.path[level]] < best:
                    gap = np.log((best + 1e-9) / (nodes[code.path[level]] + 1e-9))
                    logits[own] += np.float32(temperature * gap + RAISED_BY)
        return logits

    def linear_and_hidden(
        self, code: ImageCode, prefix: int, point: Floats | None = None
    ) -> tuple[Floats, Floats, Floats, float]:
        """Leaf logits (C), their linear part (C), the perceptron's hidden layer (H), and the factor on the former.

        point: what `point` gives for the same prefix, where the caller has it.
        """
        k = self.deepest(prefix)
        weights = self.weights
        linear = weights["rows"] @ (self.point(code, prefix) if point is None else point) + weights["row_bias"]
        latents = np.concatenate(code.latents[: k + 1]).astype(np.float32) / UNIT
        node = code.path[min(k, 1)]
        hidden = weights[f"hidden_{k}.weight"] @ latents + weights[f"hidden_{k}.bias"]
        hidden = np.maximum(hidden + weights[f"hidden_{k}.told"][node], 0)
        factor = float(weights["sharpness"][k] * np.exp(hidden @ weights[f"sharpen_{k}"]))
        answer = weights[f"answer_{k}.weight"] @ hidden + weights[f"answer_{k}.bias"]
        return np.asarray(factor * linear + answer, np.float32), linear, hidden, factor

    def posterior(self, logits: Floats, quality: int, prefix: int, level: int) -> NDArray[np.float64]:
        """Calibrated probabilities of a level's nodes for leaf logits (…,C) as `logits` gives them."""
        temperature = float(self.weights["temperature"][quality, self.deepest(prefix), level])
        return self.tree.lift(softmax(logits, temperature), level)

    def read(self, code: ImageCode, prefix: int, size: tuple[int, int]) -> tuple[Detection, ...]:
        """One detection with the whole picture (width, height) as its box: the likeliest node of the deepest level
        known, the nodes above it, and at each level what else it may be."""
        level = min(prefix, self.stream.levels - 1)
        logits = self.logits(code, prefix)
        chances = [self.posterior(logits, code.quality, prefix, k) for k in range(level + 1)]
        path = self.tree.path((level, int(chances[level].argmax())))
        scores = np.minimum.accumulate([float(chances[k][node]) for k, node in enumerate(path)])
        others = []
        for k, node in enumerate(path):
            best = np.argsort(-chances[k], kind="stable")[: MOST_OTHERS + 1].tolist()
            others.append(tuple((n, float(chances[k][n])) for n in best if n != node and chances[k][n] >= MENTIONED))
        names = tuple(self._names[k][node] for k, node in enumerate(path))
        box = (0.0, 0.0, float(size[0]), float(size[1]))
        return (Detection(0, box, tuple(path), names, tuple(scores.tolist()), tuple(others)),)


def softmax(logits: NDArray, temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities (…,C) of logits divided by `temperature`."""
    scaled = (logits - logits.max(axis=-1, keepdims=True)).astype(np.float64) / temperature
    chances = np.exp(scaled)
    return chances / chances.sum(axis=-1, keepdims=True)
