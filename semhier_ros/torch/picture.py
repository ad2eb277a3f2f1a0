"""The picture's transforms and contexts: a light analysis to stride-16 latents, a synthesis from any prefix of blocks.

Both transforms are a linear one on 16x16 patches, begun as their principal directions, plus a small network that
begins silent: training starts from a sound transform coder and bends it. A picture block codes a range of latent
channels with its own quantiser step, around what the blocks before told of them: channel groups as in channel-wise
autoregression (Minnen and Singh, arXiv 2007.08739), of which later ones also refine earlier ones, as in trit-plane
coding (Lee et al., "DPICT", CVPR 2022). Within a block positions go in `PHASES`, each seeing the latents around it that
are known (He et al., checkerboard context, arXiv 2103.15306). At run time the context networks are integer arithmetic
(`codec.picture_walk`); the float twins here are what training optimises.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from semhier_ros.codec.latent_groups import UNIT
from semhier_ros.codec.picture_blocks import PATCH_SIDE
from semhier_ros.codec.picture_walk import PHASES, PictureGroup, channels_of, phases_of
from semhier_ros.torch.rate import interval_bits

STRIDE = PATCH_SIDE
PATCH = 3 * STRIDE * STRIDE
CHANNELS = 160
UNIT_IN_PIXELS = 22.0
"""One latent unit along an orthonormal direction of a patch, in steps of 0..255."""
GROUPS = (
    PictureGroup(0, 16, 128),
    PictureGroup(0, 12, 64),
    PictureGroup(12, 64, 70),
    PictureGroup(0, 32, 36),
    PictureGroup(32, 160, 41),
)
FEATURES, CONTEXT_WIDTH = 32, 96
MIN_SCALE, MAX_SCALE = 0.11, 64.0
GAIN = PATCH**0.5  # linear weights are kept this much larger, about 1, to learn as fast as all others


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
    """RGB (B,3,H,W in -1..1, H and W multiples of 16) to latents (B,channels,H/16,W/16)."""

    def __init__(self, channels: int = CHANNELS):
        super().__init__()
        self.linear = nn.Conv2d(PATCH, channels, 1)
        self.body = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(48, 32, 1),
            _Residual(32),
            nn.PixelUnshuffle(2),
            nn.Conv2d(128, 64, 1),
            _Residual(64),
            _Residual(64),
            nn.PixelUnshuffle(2),
            nn.Conv2d(256, 128, 1),
            _Residual(128),
            nn.Conv2d(128, channels, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        patches = functional.pixel_unshuffle(image, STRIDE)
        return self.linear(patches) * (127.5 / UNIT_IN_PIXELS / GAIN) + self.body(image)


class PictureSynthesis(nn.Module):
    """Latents and a map of what the semantic blocks said to RGB in -1..1.

    latents B,channels,h,w, unknown ones zero; present B,groups: 1 for every picture block that arrived; meaning
    B,M,h,w.
    """

    def __init__(self, meanings: int, channels: int = CHANNELS, groups: int = len(GROUPS)):
        super().__init__()
        self.start = nn.Conv2d(channels + meanings + groups, 160, 1)
        self.coarse = nn.Sequential(_Residual(160), _Residual(160))
        self.mend = nn.Conv2d(160, channels, 1)
        self.linear = nn.Conv2d(channels, PATCH, 1)
        self.middle = nn.Sequential(nn.Conv2d(160, 384, 1), nn.PixelShuffle(2), _Residual(96))
        self.rise = nn.Sequential(nn.Conv2d(96, 192, 1), nn.PixelShuffle(2))
        self.fine = nn.Sequential(nn.Conv2d(96, 48, 1), _Residual(48), _Residual(48), nn.Conv2d(48, 48, 3, padding=1))

    def forward(self, latents: Tensor, present: Tensor, meaning: Tensor) -> Tensor:
        told = present[:, :, None, None].expand(-1, -1, *latents.shape[-2:])
        coarse = self.coarse(self.start(torch.cat([latents, meaning, told], dim=1)))
        patches = self.linear(latents + self.mend(coarse)) * (UNIT_IN_PIXELS / 127.5 / GAIN)
        plain = functional.pixel_shuffle(patches, STRIDE // 4)  # B,48,4h,4w: 4x4 pixels each
        fine = self.fine(torch.cat([plain, self.rise(self.middle(coarse))], dim=1))
        return functional.pixel_shuffle(plain + fine, 4)


def principal_start(analysis: PictureAnalysis, synthesis: PictureSynthesis, patches: Tensor) -> None:
    """Make both transforms the principal directions of `patches` (n,3,16,16 in -1..1), their networks silent."""
    flat = functional.pixel_unshuffle(patches, STRIDE).flatten(1).double()
    mean = flat.mean(0)
    directions = torch.linalg.eigh(torch.cov(flat.T))[1].flip(1)[:, : analysis.linear.out_channels]
    with torch.no_grad():
        analysis.linear.weight.copy_((directions.T * GAIN)[:, :, None, None])
        analysis.linear.bias.copy_(-(directions.T @ mean) * GAIN)
        # Pixels of a patch in the order of two shuffles: 16x16 as 4x4 blocks of 4x4.
        order = functional.pixel_unshuffle(
            functional.pixel_unshuffle(
                functional.pixel_shuffle(torch.arange(PATCH).reshape(1, PATCH, 1, 1).float(), STRIDE), 4
            ),
            4,
        )
        order = order.reshape(PATCH).long()
        synthesis.linear.weight.copy_((directions[order] * GAIN)[:, :, None, None])
        synthesis.linear.bias.copy_(mean[order] * GAIN * 127.5 / UNIT_IN_PIXELS)
        for layer in (analysis.body[-1], synthesis.mend, synthesis.fine[-1]):
            layer.weight.mul_(0.05)
            layer.bias.zero_()


class Context(nn.Module):
    """What is expected of one group's latents, from all that is known of them and of their neighbours.

    The form that `codec.picture_walk.PictureContext` evaluates in integers: features of every position, then a
    perceptron on the 3x3 features (and marks of what this block told already) around a position, its own latents, and
    its phase.
    """

    def __init__(self, known: int, coded: int, features: int = FEATURES, width: int = CONTEXT_WIDTH):
        super().__init__()
        self.features = nn.Linear(known, features)
        self.hidden = nn.Linear(9 * (features + 1) + known + len(PHASES), width)
        self.second = nn.Linear(width, width)
        self.out = nn.Linear(width, 2 * coded)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, known: Tensor, fresh: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """Shift of the mean and log scale (B,coded,rows,columns) at the positions of phase `number`.

        known B,K,h,w: the latest of every latent; fresh B,1,h,w: where this block has told.
        """
        phase = PHASES[number]
        channels = known.shape[1]
        own = known[(slice(None), *phase.at())]
        seen = functional.conv2d(known, self.features.weight[:, :, None, None], self.features.bias).relu()
        around = functional.pad(torch.cat([seen, fresh], dim=1), (phase.reach,) * 4)[:, :, phase.top :, phase.left :]
        planes = around.shape[1]
        first = self.hidden.weight[:, : 9 * planes].reshape(-1, planes, 3, 3)
        second = self.hidden.weight[:, 9 * planes : 9 * planes + channels]
        told = self.hidden.bias + self.hidden.weight[:, 9 * planes + channels + number]
        hidden = functional.conv2d(around, first, stride=phase.step, dilation=phase.reach)
        hidden = hidden[:, :, : own.shape[2], : own.shape[3]]
        hidden = (hidden + functional.conv2d(own, second[:, :, None, None], told)).relu()
        hidden = functional.conv2d(hidden, self.second.weight[:, :, None, None], self.second.bias).relu()
        mean, log_scale = functional.conv2d(hidden, self.out.weight[:, :, None, None], self.out.bias).chunk(2, dim=1)
        return mean, log_scale


def centroid_shift(scale: Tensor) -> Tensor:
    """How much nearer to 0 than 1 the mean of a zero-mean Gaussian of `scale` is within 0.5..1.5."""
    low, high = 0.5 / scale, 1.5 / scale
    density = (torch.exp(-low.square() / 2) - torch.exp(-high.square() / 2)) / (2 * torch.pi) ** 0.5
    mass = (torch.special.ndtr(high) - torch.special.ndtr(low)).clamp(min=1e-6)
    return (1 - scale * density / mass).clamp(0, 0.45)


def expected_bits(exact: Tensor, whole: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Bits of the symbols `whole` of latents that lie `exact` steps from their `mean` (in steps).

    Mean and scale learn from the symbols themselves, the latents from what uniform noise in place of rounding would
    cost (Balle et al., arXiv 1611.01704): where most symbols are 0, noise alone overrates
    them and teaches wrong scales.
    """
    bits = interval_bits(whole - (mean - mean.detach()), scale)
    if not torch.is_grad_enabled():
        return bits
    noisy = interval_bits(exact + torch.empty_like(exact).uniform_(-0.5, 0.5), scale.detach())
    return bits + noisy - noisy.detach()


class CodedGroup(NamedTuple):
    """One picture block in training: `latents` B,known,h,w after it (straight through the rounding) and the bits it
    takes, B."""

    latents: Tensor
    bits: Tensor


class PictureModel(nn.Module):
    """Everything that training optimises together."""

    def __init__(self, meanings: int, groups: Sequence[PictureGroup] = GROUPS):
        super().__init__()
        self.groups = tuple(groups)
        channels = channels_of(groups)
        self.analysis = PictureAnalysis(channels)
        self.synthesis = PictureSynthesis(meanings, channels, len(groups))
        self.contexts = nn.ModuleList(
            Context(channels_of(groups[: k + 1]), group.stop - group.start) for k, group in enumerate(groups)
        )

    def keep_code(self) -> None:
        """From now on training changes the synthesis alone."""
        self.analysis.requires_grad_(False)
        self.contexts.requires_grad_(False)

    @property
    def codes(self) -> bool:
        """Whether training changes what is sent."""
        return any(own.requires_grad for own in self.analysis.parameters())

    def code(self, latents: Tensor) -> Iterator[CodedGroup]:
        """Groups one after the other, as rounding would code `latents` (B,channels,h,w). Contexts learn from bits alone
        and pass no gradient on to the latents that they look at."""
        known = torch.zeros_like(latents[:, :0])
        for number, group in enumerate(self.groups):
            yield (coded := self._code_group(number, group, known, latents))
            known = coded.latents

    def _code_group(self, number: int, group: PictureGroup, known: Tensor, wanted: Tensor) -> CodedGroup:
        missing = max(0, group.stop - known.shape[1])
        known = functional.pad(known, (0, 0, 0, 0, 0, missing))
        fresh = torch.zeros_like(known[:, :1])
        bits = wanted.new_zeros(len(wanted))
        step = group.step / UNIT
        for phase in phases_of(number):
            where = (slice(None), *PHASES[phase].at(group.start, group.stop))
            shift, log_scale = self.contexts[number](known.detach(), fresh, phase)
            mean = known[where].detach() + shift
            scale = log_scale.exp().clamp(MIN_SCALE, MAX_SCALE)
            exact = (wanted[where] - mean.detach()) / step
            whole = exact.detach().round()
            bits = bits + expected_bits(exact, whole, mean / step, scale).sum((1, 2, 3))
            value = (whole - whole.sign() * centroid_shift(scale.detach())) * step + mean.detach()
            known, fresh = known.clone(), fresh.clone()
            known[where] = wanted[where] + (value - wanted[where]).detach()
            fresh[(slice(None), *PHASES[phase].at())] = 1
        return CodedGroup(known, bits)
