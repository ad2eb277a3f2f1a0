"""The walk of `codec.picture_walk` by compiled kernels (native/picture_walk.cpp): the numbers that NumPy finds, sooner.

Latents, features and weights are 16-bit integers here. Where a model's are larger, NumPy walks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.integer_network import compiled_layer, compiled_layers
from semhier_ros.codec.latent_groups import LATENT_BOUND, Ints
from semhier_ros.codec.picture_walk import (
    FROM_AFAR,
    MARGIN,
    NUMPY,
    PHASES,
    Arithmetic,
    GroupContext,
    NumpyArithmetic,
    Phase,
    PictureContext,
    PictureGroup,
    Walk,
    latents_before,
    told_taps,
)
from semhier_ros.native import kernels

_kernels: Any = kernels
EVERYWHERE = Phase(0, 0, 1, 0)


class CompiledArithmetic(NumpyArithmetic):
    """NumPy's; walks go through the kernels whole."""


CPU: Arithmetic = NUMPY if kernels is None else CompiledArithmetic()
"""What is fastest on this machine's CPU."""


class CompiledContext(GroupContext):
    """A group's networks as kernels take them. fits: whether they do; `first_parts`: of a blank picture, by phase."""

    def __init__(
        self,
        number: int,
        group: PictureGroup,
        known: int,
        context: PictureContext,
        offsets: Ints,
        arithmetic: Arithmetic,
    ) -> None:
        super().__init__(number, group, known, context, offsets, arithmetic)
        self.table = np.ascontiguousarray(offsets, np.int32)
        features, expect, bound = context.features, context.expect, context.expect.input_bound
        first, last = expect.layers[0], features.layers[-1]
        held = replace(last, low=max(last.low, -bound), high=min(last.high, bound))
        reach = max(abs(held.low), abs(held.high))
        around = 9 * (self.planes + 1)
        taps = first.weight[:around].reshape(self.planes + 1, 9, -1)[:-1].transpose(1, 0, 2)
        whole = np.concatenate([taps.reshape(9 * self.planes, -1), first.weight[around : around + known]])
        parts = {phase: taps[list(told_taps(phase))].reshape(-1, taps.shape[2]) for phase in FROM_AFAR}
        self.fits = min(features.input_bound, bound) >= LATENT_BOUND and self.rows <= 1 << 8
        try:
            self.seeing = compiled_layers([*features.layers[:-1], held], LATENT_BOUND)
            self.rest = compiled_layers(expect.layers[1:], max(abs(first.low), abs(first.high)))
            self.first_whole = compiled_layer(first, max(reach, LATENT_BOUND), whole)
            self.first_parts = {phase: compiled_layer(first, 2 * reach, part) for phase, part in parts.items()}
        except OverflowError:
            self.fits = False

    def begin(self, before: Sequence[Ints | None], shape: tuple[int, int]) -> Walk:
        return CompiledWalk(self, before, shape) if self.fits else super().begin(before, shape)


class CompiledWalk(Walk):
    """`Walk` by kernels. Latents n,h,w,known and features n,h,w,planes (with a MARGIN) are 16-bit integers."""

    def __init__(self, context: CompiledContext, before: Sequence[Ints | None], shape: tuple[int, int]) -> None:
        self._context: CompiledContext
        super().__init__(context, before, shape)

    def _start(self, before: Sequence[Ints | None]) -> None:
        context, (height, width) = self._context, self.shape
        self._known = np.zeros((self.count, height, width, context.known), np.int16)
        self._seen = np.zeros((self.count, height + 2 * MARGIN, width + 2 * MARGIN, context.planes), np.int16)
        self._unsaid = context.blank.astype(np.int16) if self._blank else np.zeros(context.planes, np.int16)
        if not self._blank:
            told = latents_before(before, self.shape)
            self._known[..., : told.shape[-1]] = told
            _kernels.see_latents(self._seen, self._known, EVERYWHERE, context.seeing, self._unsaid)

    def ask(self, number: int) -> NDArray[Any]:
        context, group = self._context, self._context.group
        taps, _, same = context.first_layer(number, self._blank, self.shape)
        first = context.first_parts[number] if self._blank else context.first_whole
        self._means, self._rows = _kernels.expect_latents(
            self._seen,
            self._known,
            PHASES[number],
            taps,
            first,
            same,
            context.rest,
            group.start,
            group.stop,
            context.rows,
        )
        return np.asarray(self._rows)

    def means(self) -> Ints:
        return np.asarray(self._means, np.int32)

    def tell(self, number: int, symbols: NDArray[Any]) -> NDArray[np.bool_]:
        context, phase = self._context, PHASES[number]
        told = np.ascontiguousarray(symbols, np.int32)
        outside = _kernels.tell_latents(
            self._known, phase, context.group.start, self._means, self._rows, told, context.table
        )
        if number != self.phases[-1]:
            _kernels.see_latents(self._seen, self._known, phase, context.seeing, self._unsaid)
        return np.asarray(outside)
