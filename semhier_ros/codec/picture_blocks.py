"""Picture blocks to bytes and back: ranges of latent channels, each with its own step, told position by position.

A group carries latents `start..stop` in whole numbers of its step around a mean; what a later group says of a latent
that an earlier one told replaces it. Mean and table row of every latent come from a small integer network that looks at
the latest of all latents around it, this group's own included, as far as they are told: positions go in phases, and
those of one phase are coded together. Both kinds of stream, scenes and whole images, carry their pictures so. Integer
arithmetic throughout; docs/bitstream.md specifies it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.entropy import BlockDecoder, BlockEncoder, BlockError, Tables
from semhier_ros.codec.integer_network import IntegerNetwork
from semhier_ros.codec.latent_groups import LATENT_BOUND, UNIT, Ints, split_parameters

PATCH_SIDE = 16  # pixels of a picture, across and down, that one position of its latents stands for
THRIFT = 0.2
"""How much of their worth bits are weighed at by default: little, for networks that were trained on plain rounding mend
what it leaves better than what zeroing leaves."""
FIRST_THRIFT = 4.0
"""How much more than in later blocks a bit is weighed at in the first, which is for the thinnest links."""
BITS_PER_SQUARE = 7.5
"""Bits that one squared step of distortion is worth, where rate and distortion of a coded coefficient balance."""


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


def phases_of(group: int) -> tuple[int, ...]:
    """The phases of a group, by number, in order: the first group knows nothing and goes from far to near."""
    return NEARBY if group else FROM_AFAR


def channels_of(groups: Sequence[PictureGroup]) -> int:
    """Latent channels of a picture whose blocks carry `groups`."""
    return max((group.stop for group in groups), default=0)


class CodedPicture(NamedTuple):
    """A picture after one block: `latents` (known,h,w in units of 1/16), and the block's symbols and table rows, phase
    by phase."""

    latents: Ints
    symbols: list[Ints]
    rows: list[Ints]


class PictureContext(NamedTuple):
    """The integer networks of one group: `features` of every position's latents, `expect` for mean and row."""

    features: IntegerNetwork
    expect: IntegerNetwork

    def see(self, known: Ints) -> Ints:
        """Features F,h,w of latents K,h,w."""
        channels, height, width = known.shape
        return self.features(known.reshape(channels, -1).T).T.reshape(-1, height, width)

    def parameters(self, seen: Ints, known: Ints, number: int, rows: int) -> tuple[Ints, Ints]:
        """Shifts of the means (C,r,c in units of 1/16) and table rows (C,r,c) at the r x c positions of a phase.

        seen: features of all positions and marks of what this block told, F+1,h,w.
        """
        phase = PHASES[number]
        own = known[phase.at()]
        down, across = own.shape[1:]
        wide = np.pad(seen, ((0, 0), (phase.reach,) * 2, (phase.reach,) * 2))
        high, broad = (down - 1) * phase.step + 1, (across - 1) * phase.step + 1
        around = [
            wide[:, y : y + high : phase.step, x : x + broad : phase.step]
            for y in (phase.top + n * phase.reach for n in range(3))
            for x in (phase.left + n * phase.reach for n in range(3))
        ]
        patches = np.stack(around, axis=1).reshape(-1, down * across)
        which = np.zeros((len(PHASES), down * across), np.int32)
        which[number] = UNIT
        out = self.expect(np.concatenate([patches, own.reshape(len(own), -1), which]).T)
        means, table_rows = split_parameters(out, rows)
        return means.T.reshape(-1, down, across), table_rows.T.reshape(-1, down, across)


Tell = Callable[[Phase, Ints, Ints], Ints]
"""Gives the symbols (C,r,c) at the positions of a phase for their means and table rows."""


class PictureBlocks:
    """The coder of all picture blocks of a stream.

    groups: what each block codes. tables: a row per scale. contexts: the networks of each group. shifts: per table row,
    by how many sixteenths of a step a latent other than its mean lies nearer to it than its symbol says.
    """

    def __init__(
        self,
        groups: Sequence[PictureGroup],
        tables: Tables,
        contexts: Sequence[PictureContext],
        shifts: NDArray[np.uint8],
    ):
        self.groups, self.tables, self.contexts = tuple(groups), tables, tuple(contexts)
        self.shifts = shifts.astype(np.int32)
        self.half = tables.alphabet // 2
        if self.shifts.shape != (tables.rows,):
            raise ValueError(f"picture shifts: shape {self.shifts.shape}, expected one for each of {tables.rows} rows")
        for number, (group, context) in enumerate(zip(self.groups, self.contexts, strict=True)):
            known, features = channels_of(self.groups[: number + 1]), context.features.outputs
            expected = (known, 9 * (features + 1) + known + len(PHASES), 2 * (group.stop - group.start))
            found = (context.features.inputs, context.expect.inputs, context.expect.outputs)
            if found != expected or not 0 <= group.start < group.stop or not 1 <= group.step <= LATENT_BOUND:
                raise ValueError(f"picture group {number}: networks of {found} for {group}, expected {expected}")

    @classmethod
    def assemble(
        cls,
        groups: Sequence[Sequence[int]],
        tables: Mapping[str, Tables],
        networks: Mapping[str, IntegerNetwork],
        shifts: NDArray[np.uint8],
    ) -> PictureBlocks:
        """The coder from a stream's parts: table `picture`, networks `picture_<group>_features` and `_expect`.

        Raises:
            ValueError: parts do not fit each other. KeyError: one is missing.
        """
        contexts = [
            PictureContext(networks[f"picture_{number}_features"], networks[f"picture_{number}_expect"])
            for number in range(len(groups))
        ]
        return cls([PictureGroup(*group) for group in groups], tables["picture"], contexts, shifts)

    def quantise(
        self,
        group: int,
        wanted: NDArray[np.floating],
        before: Ints | None,
        thrift: float | NDArray[np.floating] = THRIFT,
    ) -> CodedPicture:
        """The code of group number `group` for real latents `wanted` (all channels,h,w), after `before` (known,h,w).

        Of the two nearest symbols towards the mean the cheaper one is taken, by squared error and bits; thrift (one
        number, or h,w) is how much of its worth a bit is weighed at, times FIRST_THRIFT in the first group.
        """
        spec = self.groups[group]
        exact = wanted[spec.start : spec.stop] * UNIT
        worth_of_bits = (1.0 if group else FIRST_THRIFT) / BITS_PER_SQUARE
        price = np.broadcast_to(np.asarray(thrift, np.float64) * worth_of_bits, wanted.shape[1:])

        def tell(phase: Phase, means: Ints, rows: Ints) -> Ints:
            steps = (exact[phase.at()] - means) / spec.step
            size = np.abs(steps)
            limit = np.minimum(self.half, (LATENT_BOUND - np.abs(means)) // spec.step)
            far = np.minimum(np.rint(size).astype(np.int32), limit)
            near = np.maximum(far - 1, 0)
            bits, shift = self.tables.bits, self.shifts[rows] / UNIT
            worth = price[phase.at()[1:]]
            costs = [
                np.square(size - number + shift * (number > 0)) + worth * bits[rows, self.half + number]
                for number in (far, near)
            ]
            number = np.where(costs[1] < costs[0], near, far)
            return np.where(steps < 0, -number, number) + self.half

        return self.walk(group, before, wanted.shape[1:], tell)

    def quantise_all(
        self,
        wanted: NDArray[np.floating],
        coded: list[CodedPicture],
        groups: int,
        thrift: float | NDArray[np.floating] = THRIFT,
    ) -> None:
        """`quantise` group after group, appending to `coded` until it has `groups`."""
        while len(coded) < groups:
            before = coded[-1].latents if coded else None
            coded.append(self.quantise(len(coded), wanted, before, thrift))

    def synthesis_inputs(
        self, coded: Sequence[CodedPicture], shape: tuple[int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What a synthesis is given after some groups of a picture of `shape` positions: all latents (channels,h,w),
        unknown ones zero, and which groups are present."""
        latents = np.zeros((channels_of(self.groups), *shape), np.float32)
        if coded:
            latents[: len(coded[-1].latents)] = coded[-1].latents / UNIT
        return latents, (np.arange(len(self.groups)) < len(coded)).astype(np.float32)

    def put(self, encoder: BlockEncoder, coded: CodedPicture) -> None:
        """Append a group's symbols to its block."""
        for symbols, rows in zip(coded.symbols, coded.rows, strict=True):
            encoder.put(symbols, self.tables, rows)

    def get(self, decoder: BlockDecoder, group: int, before: Ints | None, shape: tuple[int, int]) -> CodedPicture:
        """Group number `group` of a picture of `shape` positions, from its block.

        Raises:
            BlockError: no encoder made these bytes.
        """

        def tell(phase: Phase, means: Ints, rows: Ints) -> Ints:
            return decoder.get(self.tables, rows.ravel()).reshape(rows.shape)

        return self.walk(group, before, shape, tell)

    def walk(self, group: int, before: Ints | None, shape: tuple[int, ...], tell: Tell) -> CodedPicture:
        """Group number `group` of a picture of `shape` positions, after `before`, with the symbols that `tell` gives.

        Raises:
            BlockError: a symbol leads to a latent that no encoder gives.
        """
        spec, context = self.groups[group], self.contexts[group]
        height, width = shape
        known = np.zeros((channels_of(self.groups[: group + 1]), height, width), np.int32)
        if before is not None:
            known[: len(before)] = before
        seen = np.concatenate([context.see(known), np.zeros((1, height, width), np.int32)])
        all_symbols, all_rows = [], []
        for number in phases_of(group):
            phase = PHASES[number]
            coded = phase.at(spec.start, spec.stop)
            if not known[coded].size:
                continue
            shift, rows = context.parameters(seen, known, number, self.tables.rows)
            means = np.clip(known[coded] + shift, -LATENT_BOUND, LATENT_BOUND)
            symbols = tell(phase, means, rows)
            steps = symbols - self.half
            nearer = (spec.step * self.shifts[rows] + UNIT // 2) // UNIT
            known[coded] = means + steps * spec.step - np.sign(steps) * nearer
            if int(np.abs(known[coded]).max()) > LATENT_BOUND:
                raise BlockError(f"picture latent outside -{LATENT_BOUND}..{LATENT_BOUND} sixteenths")
            seen[phase.at(0, -1)] = context.see(known[phase.at()])
            seen[phase.at(-1)] = UNIT
            all_symbols.append(symbols.ravel())
            all_rows.append(rows.ravel())
        return CodedPicture(known, all_symbols, all_rows)
