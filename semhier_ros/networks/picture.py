"""The picture's transforms: a light analysis to stride-16 latents in channel groups, and a synthesis from any prefix.

Groups are coded one after another; a small context network predicts mean and scale of each later group from the
groups before it (channel-wise autoregression, Minnen and Singh, arXiv 2007.08739). At run time the context networks
are integer arithmetic (`codec.integer_network`); the float twins here are what training optimises.

Every block is depthwise 5x5 + pointwise, so that encode and decode fit a robot's CPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

STRIDE = 16
GROUPS = (16, 32, 48)  # channels of picture block 0, 1, 2
CONTEXT_WIDTH = 64
MIN_SCALE, MAX_SCALE = 0.11, 64.0


class _Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 5, padding=2, groups=width),
            nn.Conv2d(width, 2 * width, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(2 * width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class PictureAnalysis(nn.Module):
    """RGB (B,3,H,W in -1..1, H and W multiples of 16) to latents (B,sum(groups),H/16,W/16)."""

    def __init__(self, groups: Sequence[int] = GROUPS):
        super().__init__()
        self.body = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(48, 32, 1),
            _Residual(32),
            _Residual(32),
            nn.PixelUnshuffle(2),
            nn.Conv2d(128, 64, 1),
            _Residual(64),
            _Residual(64),
            nn.PixelUnshuffle(2),
            nn.Conv2d(256, 128, 1),
            _Residual(128),
            nn.Conv2d(128, sum(groups), 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.body(image)


class PictureSynthesis(nn.Module):
    """Latents and a map of what the semantic blocks said to RGB in -1..1.

    latents B,sum(groups),h,w with missing groups zero; present B,len(groups): 1 for every group that arrived;
    meaning B,M,h,w: soft maps of objects by group.
    """

    def __init__(self, meanings: int, groups: Sequence[int] = GROUPS):
        super().__init__()
        self.start = nn.Conv2d(sum(groups) + meanings + len(groups), 128, 1)
        self.body = nn.Sequential(
            _Residual(128),
            _Residual(128),
            nn.Conv2d(128, 256, 1),
            nn.PixelShuffle(2),
            _Residual(64),
            _Residual(64),
            nn.Conv2d(64, 128, 1),
            nn.PixelShuffle(2),
            _Residual(32),
            _Residual(32),
            nn.Conv2d(32, 48, 3, padding=1),
            nn.PixelShuffle(4),
        )

    def forward(self, latents: Tensor, present: Tensor, meaning: Tensor) -> Tensor:
        told = present[:, :, None, None].expand(-1, -1, *latents.shape[-2:])
        return self.body(self.start(torch.cat([latents, meaning, told], dim=1)))


class ContextNetwork(nn.Module):
    """Mean and log scale of one group's latents from a 3x3 neighbourhood of all earlier groups.

    Written as a perceptron on unfolded patches, the very form that `codec.integer_network` evaluates: input order is
    channel-major (channel, row, column), as `torch.nn.functional.unfold` lays it out.
    """

    def __init__(self, channels_before: int, channels: int, width: int = CONTEXT_WIDTH):
        super().__init__()
        self.hidden = nn.Linear(9 * channels_before, width)
        self.second = nn.Linear(width, width)
        self.out = nn.Linear(width, 2 * channels)

    def forward(self, before: Tensor) -> tuple[Tensor, Tensor]:
        b, _, h, w = before.shape
        patches = nn.functional.unfold(before, 3, padding=1).transpose(1, 2)
        hidden = torch.relu(self.second(torch.relu(self.hidden(patches))))
        mean, log_scale = self.out(hidden).transpose(1, 2).reshape(b, -1, h, w).chunk(2, dim=1)
        return mean, log_scale


class PictureModel(nn.Module):
    """Everything that training optimises together."""

    def __init__(self, meanings: int, groups: Sequence[int] = GROUPS):
        super().__init__()
        self.groups = tuple(groups)
        self.analysis = PictureAnalysis(groups)
        self.synthesis = PictureSynthesis(meanings, groups)
        self.first_scale = nn.Parameter(torch.zeros(groups[0]))
        self.contexts = nn.ModuleList(ContextNetwork(sum(groups[:k]), groups[k]) for k in range(1, len(groups)))

    def parameters_of(self, group: int, decoded: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and scale of `group` given the decoded latents of all groups before it (B,channels before,h,w)."""
        if group == 0:
            log_scale = self.first_scale[None, :, None, None].expand(decoded.shape[0], -1, *decoded.shape[-2:])
            mean = torch.zeros_like(log_scale)
        else:
            mean, log_scale = self.contexts[group - 1](decoded)
        return mean, log_scale.exp().clamp(MIN_SCALE, MAX_SCALE)
