"""What travels about one object beyond its name: small latent groups, each trained for its level.

A linear, logit-aware projection makes the latents; a context network predicts mean and scale of each group from the
path named so far, the box and the groups before; readers turn path and latents into a posterior over the leaves, a box
correction and, last, the object's features. "Name first, then what the name doesn't say."
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

MIN_SCALE, MAX_SCALE = 0.11, 32.0
CONTEXT_WIDTH = 48
READER_WIDTH = 64


class GroupReading(NamedTuple):
    """Per object after one prefix: leaf logits n,T; box correction n,4 (dx, dy as shares of the side, dlog w, dlog h);
    logit correction of the objectness n,1; features n,F (standardised)."""

    leaves: Tensor
    box: Tensor
    objectness: Tensor
    features: Tensor


def perceptron(inputs: int, width: int, outputs: int, hidden: int = 2) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(hidden):
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


class ObjectCodec(nn.Module):
    """Latent groups 1..K of the semantic blocks (block 0 carries geometry alone).

    nodes: nodes per level, coarse first. `evidence` is what the encoder knows of an object: standardised features,
    leaf log-probabilities, and what quantising lost of the box and the score. `told` is what the decoder knows before
    the group: geometry symbols scaled to about -1..1, one-hot names of the levels named so far (in that order).
    """

    def __init__(self, evidence: int, nodes: Sequence[int], features: int, latents: Sequence[int] = (4, 6, 12)):
        super().__init__()
        self.nodes, self.latents = tuple(nodes), tuple(latents)
        geometry = GEOMETRY_INPUTS
        self.project = nn.ModuleList(nn.Linear(evidence, d) for d in latents)
        self.context = nn.ModuleList()
        self.reader = nn.ModuleList([perceptron(geometry, READER_WIDTH, self._outputs(features))])
        for group, dimensions in enumerate(latents):
            told = geometry + sum(self.nodes[1 : self.named(group) + 1])
            before = sum(latents[:group])
            self.context.append(perceptron(told + before, CONTEXT_WIDTH, 2 * dimensions))
            self.reader.append(perceptron(told + before + dimensions, READER_WIDTH, self._outputs(features)))

    def named(self, group: int) -> int:
        """The deepest level whose names stand before latent group `group`."""
        return min(group + 1, len(self.nodes) - 1)

    def _outputs(self, features: int) -> int:
        return self.nodes[-1] + 4 + 1 + features

    def read(self, prefix: int, told: Tensor, latents: Tensor) -> GroupReading:
        """The reading after block `prefix` (0: geometry alone) from `told` and all latents so far (n,sum)."""
        out = self.reader[prefix](torch.cat([told, latents], dim=1))
        leaves = self.nodes[-1]
        return GroupReading(
            out[:, :leaves], out[:, leaves : leaves + 4], out[:, leaves + 4 : leaves + 5], out[:, leaves + 5 :]
        )


GEOMETRY_INPUTS = 6  # log width, log height, row, offset x, offset y, score: see `perception.evidence`
