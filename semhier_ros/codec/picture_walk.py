"""The walk over the positions of picture latents, of one picture or of many at once: what is expected of each latent.

Positions go in phases, and those of one phase are worked out together; the same phase of many pictures is one matrix
product. All numbers are integers in float64, below 2**53 by the proof in `codec.integer_network`, so a product gives
the same integers in any order, in any batch and on any device: what NumPy expects, torch on a CPU or a GPU expects too.
The arithmetic is an argument; here is NumPy's, `torch.exact` has the other. docs/bitstream.md specifies the numbers.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.integer_network import EXACT_LIMIT, IntegerNetwork
from semhier_ros.codec.latent_groups import LATENT_BOUND, UNIT, Ints

MARGIN = 2
"""How far a position may look beyond the edge: the longest reach of a phase."""


class PictureGroup(NamedTuple):
    """What one picture block codes: latent channels `start`..`stop`, in steps of `step` (units of 1/16)."""

    start: int
    stop: int
    step: int


class Phase(NamedTuple):
    """Positions coded together: rows `top`, `top + step` …, columns `left`, `left + step` …; they look at neighbours
    `reach` positions away."""

    top: int
    left: int
    step: int
    reach: int

    def at(self, start: int = 0, stop: int | None = None) -> tuple[slice, slice, slice]:
        """Where its positions of channels `start`..`stop` stand in an array C,h,w."""
        return slice(start, stop), slice(self.top, None, self.step), slice(self.left, None, self.step)

    def size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Rows and columns of its positions in a picture of `shape`."""
        return len(range(self.top, shape[0], self.step)), len(range(self.left, shape[1], self.step))


PHASES = (
    Phase(0, 0, 4, 2),
    Phase(2, 2, 4, 2),
    Phase(0, 2, 4, 2),
    Phase(2, 0, 4, 2),
    Phase(0, 0, 2, 1),
    Phase(1, 1, 2, 1),
    Phase(0, 1, 2, 1),
    Phase(1, 0, 2, 1),
)
FROM_AFAR, NEARBY = (0, 1, 2, 3, 5, 6, 7), (4, 5, 6, 7)
TAPS = tuple((down, across) for down in (-1, 0, 1) for across in (-1, 0, 1))
"""The 3x3 positions that one looks at, in units of its phase's reach."""


def phases_of(group: int) -> tuple[int, ...]:
    """The phases of a group, by number, in order: the first group knows nothing and goes from far to near."""
    return NEARBY if group else FROM_AFAR


def channels_of(groups: Sequence[PictureGroup]) -> int:
    """Latent channels of a picture whose blocks carry `groups`."""
    return max((group.stop for group in groups), default=0)


class PictureContext(NamedTuple):
    """The integer networks of one group: `features` of every position's latents, `expect` for mean and row."""

    features: IntegerNetwork
    expect: IntegerNetwork


class Arithmetic(Protocol):
    """Where matrix products are made: arrays of its own kind, of float64 unless said otherwise.

    rows_at_once: how many rows of a product pay best at a time.
    """

    rows_at_once: int

    def running(self) -> AbstractContextManager[None]:
        """Within it the rest may be asked for."""
        ...

    def up(self, values: NDArray[Any]) -> Any:
        """`values`, moved there as float64."""
        ...

    def down(self, values: Any, kind: type[np.generic]) -> NDArray[Any]:
        """Whole numbers from there, as `kind`."""
        ...

    def latents(self, known: Any) -> Sequence[Ints]:
        """A picture's latents (known,h,w) for each of n,h,w,known; a device may keep its own copy with them."""
        ...

    def to_paint(self, latents: Ints | None, channels: int, shape: tuple[int, int]) -> Any:
        """What a synthesis there is given of latents (known,h,w in units of 1/16; None: of none): real numbers
        (channels,h,w), unknown ones zero."""
        ...

    def zeros(self, *shape: int) -> Any: ...

    def scratch(self, name: str, *shape: int) -> Any:
        """An array of any content, the calling thread's own until it asks for the same name again."""
        ...

    def product(self, values: Any, weight: Any, name: str = "") -> Any:
        """values @ weight, in the scratch array of that name if there is one."""
        ...

    def windows(self, values: Any, phase: Phase, size: tuple[int, int]) -> Any:
        """What the positions of a phase look at in `values` (n,h,w,planes, with a MARGIN): a view
        n,rows,columns,3,3,planes."""
        ...

    def floor_clip(self, values: Any, low: int, high: int) -> Any:
        """floor(values) within low..high, in place."""
        ...

    def clip(self, values: Any, low: int, high: int) -> Any: ...

    def look_up(self, table: Any, places: Any) -> Any:
        """Entries of a flat `table` at `places`, whole numbers held as float64."""
        ...


class NumpyArithmetic:
    """`Arithmetic` by NumPy, on the calling thread."""

    rows_at_once = 480  # the rows and their products stay in a core's own cache

    def __init__(self) -> None:
        self._scratch = threading.local()
        self._bounds: dict[int, NDArray[np.float64]] = {}

    def running(self) -> AbstractContextManager[None]:
        return nullcontext()

    def up(self, values: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(values, np.float64)

    def down(self, values: NDArray[np.float64], kind: type[np.generic]) -> NDArray[Any]:
        return np.ascontiguousarray(values, kind)

    def latents(self, known: NDArray[Any]) -> Sequence[Ints]:
        return list(np.ascontiguousarray(known.transpose(0, 3, 1, 2), np.int32))

    def to_paint(self, latents: Ints | None, channels: int, shape: tuple[int, int]) -> NDArray[np.float32]:
        found = np.zeros((channels, *shape), np.float32)
        if latents is not None:
            np.multiply(latents, np.float32(1 / UNIT), out=found[: len(latents)])
        return found

    def zeros(self, *shape: int) -> NDArray[np.float64]:
        return np.zeros(shape)

    def scratch(self, name: str, *shape: int) -> NDArray[np.float64]:
        kept: dict[str, NDArray[np.float64]] = self._scratch.__dict__
        size = prod(shape)
        found = kept.get(name)
        if found is None or len(found) < size:  # memory that is new to the process costs as much as the product
            found = kept[name] = np.empty(size)
        return found[:size].reshape(shape)

    def product(self, values: NDArray[np.float64], weight: NDArray[np.float64], name: str = "") -> NDArray[np.float64]:
        return np.matmul(values, weight, out=self.scratch(name, len(values), weight.shape[1]) if name else None)

    def windows(self, values: NDArray[np.float64], phase: Phase, size: tuple[int, int]) -> NDArray[np.float64]:
        count, down, across, plane = values.strides
        start = (MARGIN + phase.top - phase.reach) * down + (MARGIN + phase.left - phase.reach) * across
        strides = (count, down * phase.step, across * phase.step, down * phase.reach, across * phase.reach, plane)
        # the same as as_strided makes, in less time; that the view lies within the array, numpy checks here
        return np.ndarray((len(values), *size, 3, 3, values.shape[3]), np.float64, values, start, strides)

    def floor_clip(self, values: NDArray[np.float64], low: int, high: int) -> NDArray[np.float64]:
        np.floor(values, out=values)
        if values.max(initial=low) > high:  # seldom
            np.minimum(values, self._copies(high, values), out=values)
        return np.maximum(values, self._copies(low, values), out=values)

    def _copies(self, bound: int, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """As many of a bound as there are values: with one alone, numpy takes four times as long."""
        kept = self._bounds.get(bound)
        if kept is None or kept.size < values.size:
            kept = self._bounds[bound] = np.full(values.size, bound, np.float64)
        return kept[: values.size].reshape(values.shape)

    def clip(self, values: NDArray[np.float64], low: int, high: int) -> NDArray[np.float64]:
        return np.minimum(np.maximum(values, low), high)

    def look_up(self, table: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
        return table.take(places.astype(np.intp))


NUMPY: Arithmetic = NumpyArithmetic()


@lru_cache(maxsize=64)
def told_taps(number: int) -> tuple[int, ...]:
    """Which of `TAPS` may have been told when phase `number` of the first group is asked for."""
    told = np.zeros((16, 16), bool)
    for earlier in FROM_AFAR[: FROM_AFAR.index(number)]:
        told[PHASES[earlier].at()[1:]] = True
    phase = PHASES[number]
    return tuple(
        place
        for place, (down, across) in enumerate(TAPS)
        if told[
            phase.top + 4 + down * phase.reach :: phase.step, phase.left + 4 + across * phase.reach :: phase.step
        ].any()
    )


class _Layers:
    """An integer network's layers, on a device: y = clip(floor(x @ weight + bias), low, high), 2**-shift within."""

    def __init__(self, network: IntegerNetwork, arithmetic: Arithmetic) -> None:
        self._arithmetic = arithmetic
        self.bound = network.input_bound
        self.layers = [
            (arithmetic.up(weight), arithmetic.up(bias), low, high) for weight, bias, low, high in network.scaled_layers
        ]

    def __call__(self, values: Any) -> Any:
        """Outputs for whole inputs n,inputs within -LATENT_BOUND..LATENT_BOUND, in a scratch array."""
        if self.bound < LATENT_BOUND:
            values = self._arithmetic.clip(values, -self.bound, self.bound)
        sums = self._arithmetic.product(values, self.layers[0][0], "layer 0")
        sums += self.layers[0][1]
        return self.rest(sums)

    def rest(self, sums: Any) -> Any:
        """Outputs for the first layer's sums, in a scratch array."""
        for number, (weight, bias, low, high) in enumerate(self.layers):
            if number:
                sums = self._arithmetic.product(sums, weight, f"layer {number}")
                sums += bias
            sums = self._arithmetic.floor_clip(sums, low, high)
        return sums


class GroupContext:
    """The context networks of one group on a device, with the first layer cut by what it looks at.

    number: of the group. offsets: by row and symbol, how far a latent lies from its mean (units of 1/16).
    """

    def __init__(
        self,
        number: int,
        group: PictureGroup,
        known: int,
        context: PictureContext,
        offsets: Ints,
        arithmetic: Arithmetic,
    ) -> None:
        self.number, self.group, self.known, self.arithmetic = number, group, known, arithmetic
        self.rows, self.alphabet = offsets.shape
        self.offsets = arithmetic.up(offsets.ravel())
        self.features = _Layers(context.features, arithmetic)
        self.expect = _Layers(context.expect, arithmetic)
        self.planes = context.features.outputs
        weight, bias, _, _ = context.expect.scaled_layers[0]
        around, self._width = 9 * (self.planes + 1), weight.shape[1]
        taps = weight[:around].reshape(self.planes + 1, 9, self._width)
        self._taps = taps[:-1].transpose(1, 0, 2)
        limit = context.expect.input_bound
        self._marks = taps[-1] * min(UNIT, limit)
        self._biases = bias + min(UNIT, limit) * weight[around + known :]
        blank = np.clip(context.features(np.zeros((1, known), np.int32))[0], -limit, limit)
        self.blank, self._told_by_blank = arithmetic.up(blank), blank @ self._taps
        # sums of a blank picture are made in two parts, each no more than three times what the whole can reach
        self.splits = 4 * context.expect.worst < EXACT_LIMIT
        own = weight[around : around + known]
        self._whole = arithmetic.up(np.concatenate([self._taps.reshape(9 * self.planes, -1), own]))
        self._parts = {
            phase: arithmetic.up(self._taps[list(told_taps(phase))].reshape(-1, self._width)) for phase in FROM_AFAR
        }
        self._base: dict[tuple[Any, ...], Any] = {}

    def begin(self, before: Sequence[Ints | None], shape: tuple[int, int]) -> Walk:
        """A walk through pictures of `shape`, after `before`."""
        return Walk(self, before, shape)

    def see(self, known: Any) -> Any:
        """Features n,F of positions' latents n,K, as the other network takes them."""
        seen, bound = self.features(known), self.expect.bound
        _, _, low, high = self.features.layers[-1]
        return self.arithmetic.clip(seen, -bound, bound) if max(abs(low), abs(high)) > bound else seen

    def first_layer(self, phase: int, blank: bool, shape: tuple[int, int]) -> tuple[tuple[int, ...], Any, Any]:
        """The taps looked at in a phase, the weights of their features (then of a position's own latents, unless
        `blank`), and what is added at each position: all that is the same in every picture of `shape`."""
        base = self._base.get((phase, blank, shape))
        if base is None:
            if len(self._base) >= 256:  # shapes are a model's own: a few
                self._base.clear()
            base = self.arithmetic.up(self._same(phase, blank, shape))
            self._base[phase, blank, shape] = base
        return (told_taps(phase), self._parts[phase], base) if blank else (tuple(range(9)), self._whole, base)

    def _same(self, number: int, blank: bool, shape: tuple[int, int]) -> NDArray[np.float64]:
        """Sums of the first layer (positions,width) that no latent changes: the bias, the phase, the marks of what was
        told; of a blank picture, the features of zeros at neighbours inside it."""
        phase, phases = PHASES[number], phases_of(self.number)
        told = np.zeros((1, shape[0] + 2 * MARGIN, shape[1] + 2 * MARGIN), np.float64)
        inside = told.copy()
        inner = (slice(None), slice(MARGIN, MARGIN + shape[0]), slice(MARGIN, MARGIN + shape[1]))
        inside[inner] = 1
        for earlier in phases[: phases.index(number)]:
            told[inner][PHASES[earlier].at()] = 1
        size = phase.size(shape)
        marks, there = (NUMPY.windows(grid[..., None], phase, size).reshape(*size, 9) for grid in (told, inside))
        sums = self._biases[number] + marks @ self._marks
        if blank:
            sums += there @ self._told_by_blank
        return np.asarray(sums.reshape(-1, self._width))


def latents_before(before: Sequence[Ints | None], shape: tuple[int, int]) -> NDArray[np.int16]:
    """Latents (count,h,w,told) that earlier groups told of each picture, 0 where none did."""
    most = max((len(known) for known in before if known is not None), default=0)
    told = np.zeros((len(before), *shape, most), np.int16)
    for place, known in enumerate(before):
        if known is not None:
            told[place, :, :, : len(known)] = known.transpose(1, 2, 0)
    return told


class Walk:
    """One group's walk through `count` pictures of `shape` positions. For each phase in turn: `ask`, then `tell`. A
    thread walks one at a time.

    before: latents (known,h,w) that earlier groups told, of each picture, or None for none.
    """

    def __init__(self, context: GroupContext, before: Sequence[Ints | None], shape: tuple[int, int]) -> None:
        self._context, self._arithmetic, self.shape = context, context.arithmetic, shape
        self.count = len(before)
        self.phases = [number for number in phases_of(context.number) if min(PHASES[number].size(shape))]
        # of a blank picture, features are kept as how they differ from those of zeros
        self._blank = context.number == 0 and context.splits and all(known is None for known in before)
        self._start(before)

    def _start(self, before: Sequence[Ints | None]) -> None:
        context, (height, width) = self._context, self.shape
        inner = (slice(None), slice(MARGIN, MARGIN + height), slice(MARGIN, MARGIN + width))
        self._wide = self._arithmetic.zeros(self.count, height + 2 * MARGIN, width + 2 * MARGIN, context.planes)
        self._seen = self._wide[inner]
        self._known = self._arithmetic.zeros(self.count, height, width, context.known)
        if not self._blank:
            told = latents_before(before, self.shape)
            self._known[..., : told.shape[-1]] = self._arithmetic.up(told)
            at_once = max(1, self._arithmetic.rows_at_once // (height * width))
            for start in range(0, self.count, at_once):
                some = slice(start, start + at_once)
                seen = context.see(self._known[some].reshape(-1, context.known))
                self._seen[some] = seen.reshape(-1, height, width, context.planes)

    def ask(self, number: int) -> NDArray[Any]:
        """Table rows (count,C,positions) of the latents of a phase, whole numbers; their means are kept."""
        context, arithmetic, phase = self._context, self._arithmetic, PHASES[number]
        down, across = phase.size(self.shape)
        positions, channels = down * across, context.group.stop - context.group.start
        taps, weight, same = context.first_layer(number, self._blank, self.shape)
        around, inputs = len(taps) * context.planes, weight.shape[0]
        windows = arithmetic.windows(self._wide, phase, (down, across))
        latents = self._known[:, phase.top :: phase.step, phase.left :: phase.step]
        self._means = arithmetic.scratch("means", self.count, positions, channels)
        self._rows = arithmetic.scratch("rows", self.count, positions, channels)
        at_once = max(1, min(self.count, arithmetic.rows_at_once // positions))
        for start in range(0, self.count, at_once):
            some = slice(start, min(start + at_once, self.count))
            size = some.stop - start
            patches = arithmetic.scratch("patches", size, down, across, inputs)
            if len(taps) == 9:
                patches[..., :around].reshape(size, down, across, 3, 3, -1)[:] = windows[some]
            else:
                for place, tap in enumerate(taps):
                    part = slice(place * context.planes, (place + 1) * context.planes)
                    patches[..., part] = windows[some, :, :, tap // 3, tap % 3]
            if around < inputs:
                own, bound = latents[some], context.expect.bound
                patches[..., around:] = arithmetic.clip(own, -bound, bound) if bound < LATENT_BOUND else own
            sums = arithmetic.product(patches.reshape(size * positions, inputs), weight, "layer 0")
            sums.reshape(size, positions, -1)[:] += same
            out = context.expect.rest(sums).reshape(size, positions, 2 * channels)
            had = latents[some, :, :, context.group.start : context.group.stop].reshape(size, positions, channels)
            means = self._means[some]
            means[:] = out[..., :channels]
            means += had
            arithmetic.floor_clip(means, -LATENT_BOUND, LATENT_BOUND)
            scales = self._rows[some]
            scales[:] = out[..., channels:]
            scales += UNIT // 2
            scales *= 1 / UNIT
            arithmetic.floor_clip(scales, 0, context.rows - 1)
        kind = np.uint8 if context.rows <= 1 << 8 else np.uint16
        return arithmetic.down(self._rows.swapaxes(1, 2), kind)

    def means(self) -> Ints:
        """Means (count,C,positions, units of 1/16) of the phase asked for last."""
        return self._arithmetic.down(self._means.swapaxes(1, 2), np.int32)

    def tell(self, number: int, symbols: NDArray[Any]) -> NDArray[np.bool_]:
        """Takes the symbols (count,C,positions) of the phase asked for last. Which pictures thereby have a latent that
        no encoder gives; they go on as if it were 0."""
        context, phase = self._context, PHASES[number]
        down, across = phase.size(self.shape)
        told = self._arithmetic.up(symbols).swapaxes(1, 2)
        values = self._means + self._arithmetic.look_up(context.offsets, self._rows * context.alphabet + told)
        outside = self._arithmetic.down((abs(values) > LATENT_BOUND).reshape(self.count, -1).any(axis=1), np.bool_)
        for place in np.flatnonzero(outside).tolist():
            values[place] = 0.0
        where = (slice(None), slice(phase.top, None, phase.step), slice(phase.left, None, phase.step))
        self._known[(*where, slice(context.group.start, context.group.stop))] = values.reshape(
            self.count, down, across, -1
        )
        if number != self.phases[-1]:
            seen = context.see(self._known[where].reshape(-1, context.known))
            if self._blank:
                seen -= context.blank
            self._seen[where] = seen.reshape(self.count, down, across, -1)
        return outside

    def latents(self) -> Sequence[Ints]:
        """All latents (known,h,w, units of 1/16) of each picture as they are known now."""
        return self._arithmetic.latents(self._known)
