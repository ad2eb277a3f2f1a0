"""Picture blocks to bytes and back: ranges of latent channels, each with its own step, told position by position.

A group carries latents `start..stop` in whole numbers of its step around a mean; what a later group says of a latent
that an earlier one told replaces it. Mean and table row of every latent come from a small integer network that looks at
the latest of all latents around it, this group's own included, as far as they are told: positions go in phases, and
those of one phase are coded together. Both kinds of stream, scenes and whole images, carry their pictures so. Integer
arithmetic throughout; docs/bitstream.md specifies it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.compiled_walk import CPU, CompiledArithmetic, CompiledContext
from semhier_ros.codec.entropy import BlockDecoder, BlockEncoder, BlockError, Tables, get_together
from semhier_ros.codec.integer_network import IntegerNetwork
from semhier_ros.codec.latent_groups import LATENT_BOUND, UNIT, Ints, middle
from semhier_ros.codec.model import PicturesFound, PictureWork, Spent
from semhier_ros.codec.packet import PacketError
from semhier_ros.codec.picture_walk import (
    PHASES,
    Arithmetic,
    GroupContext,
    Phase,
    PictureContext,
    PictureGroup,
    channels_of,
)
from semhier_ros.native import kernels

PATCH_SIDE = 16  # pixels of a picture, across and down, that one position of its latents stands for
THRIFT = 0.2
"""How much of their worth bits are weighed at by default: little, for networks that were trained on plain rounding mend
what it leaves better than what zeroing leaves."""
FIRST_THRIFT = 4.0
"""How much more than in later blocks a bit is weighed at in the first, which is for the thinnest links."""
BITS_PER_SQUARE = 7.5
"""Bits that one squared step of distortion is worth, where rate and distortion of a coded coefficient balance."""


Rows = NDArray[np.unsignedinteger[Any]]


class CodedPicture(NamedTuple):
    """A picture after one block: `latents` (known,h,w in units of 1/16), and the block's symbols and table rows, phase
    by phase."""

    latents: Ints
    symbols: list[Ints]
    rows: list[Rows]


Tell = Callable[[Phase, Ints, Rows], Ints]
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
        self.half = middle(tables, "picture")
        self._contexts: dict[tuple[int, int], GroupContext] = {}
        if self.shifts.shape != (tables.rows,):
            raise ValueError(f"picture shifts: shape {self.shifts.shape}, expected one for each of {tables.rows} rows")
        for number, (group, context) in enumerate(zip(self.groups, self.contexts, strict=True)):
            for field, size, low, high in (
                ("start", group.start, 0, None),
                ("stop", group.stop, group.start + 1, None),
                ("step", group.step, 1, LATENT_BOUND),
            ):
                if size < low or (high is not None and size > high):
                    allowed = f"{low} or more" if high is None else f"{low} to {high}"
                    raise ValueError(f"picture group {number}: {field} {size}, expected {allowed}")
            known, features = channels_of(self.groups[: number + 1]), context.features.outputs
            for part, found, expected in (
                (f"inputs of picture_{number}_features", context.features.inputs, known),
                (f"inputs of picture_{number}_expect", context.expect.inputs, 9 * (features + 1) + known + len(PHASES)),
                (f"outputs of picture_{number}_expect", context.expect.outputs, 2 * (group.stop - group.start)),
            ):
                if found != expected:
                    raise ValueError(f"picture group {number}: {found} {part}, expected {expected}")

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

        def tell(phase: Phase, means: Ints, rows: Rows) -> Ints:
            goal, worth = exact[phase.at()].astype(np.float64, order="C"), price[phase.at()[1:]]
            if kernels is None or rows.dtype != np.uint8:
                return self.weigh(goal, means, rows, worth, spec.step)
            flat, nearer = (len(goal), worth.size), self.shifts / UNIT
            found: Ints = kernels.weigh_latents(
                goal.reshape(flat),
                means.reshape(flat),
                rows.reshape(flat),
                self.tables.bits,
                nearer,
                worth.ravel(),
                spec.step,
            )
            return found.reshape(means.shape)

        return self.walk(group, before, wanted.shape[1:], tell)

    def weigh(self, goal: NDArray[np.float64], means: Ints, rows: Rows, worth: NDArray[np.float64], step: int) -> Ints:
        """Symbols (C,r,c) for real latents `goal` in steps of `step`, all in units of 1/16, where a bit is `worth` so
        many squared steps (r,c)."""
        steps = (goal - means) / step
        size = np.abs(steps)
        limit = np.minimum(self.half, (LATENT_BOUND - np.abs(means)) // step)
        far = np.minimum(np.rint(size), limit).astype(np.int32)
        near = np.maximum(far - 1, 0)
        bits, shift = self.tables.bits, self.shifts[rows] / UNIT
        costs = [
            np.square(size - number + shift * (number > 0)) + worth * bits[rows, self.half + number]
            for number in (far, near)
        ]
        number = np.where(costs[1] < costs[0], near, far)
        return np.where(steps < 0, -number, number) + self.half

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
        self, coded: Sequence[CodedPicture], shape: tuple[int, int], arithmetic: Arithmetic = CPU
    ) -> tuple[Any, NDArray[np.float32]]:
        """What a synthesis is given after some groups of a picture of `shape` positions: all latents (channels,h,w)
        where `arithmetic` computes, unknown ones zero, and which groups are present."""
        latents = arithmetic.to_paint(coded[-1].latents if coded else None, channels_of(self.groups), shape)
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
        (found,) = self.get_many([decoder], group, [before], shape)
        if isinstance(found, BlockError):
            raise found
        return found

    def get_many(
        self,
        decoders: Sequence[BlockDecoder],
        group: int,
        before: Sequence[Ints | None],
        shape: tuple[int, int],
        arithmetic: Arithmetic = CPU,
        spent: Spent | None = None,
    ) -> list[CodedPicture | BlockError]:
        """What `get` gives or raises for each of many pictures, phase by phase together. Adds to `spent`."""
        timer = perf_counter if spent is None else spent.timer
        began, entropy = timer(), 0.0
        with arithmetic.running():
            walk = self._context(group, arithmetic).begin(before, shape)
            coded = [CodedPicture(np.empty(0, np.int32), [], []) for _ in decoders]
            failed: dict[int, BlockError] = {}
            for number in walk.phases:
                if spent is not None and spent.between is not None:
                    paused = timer()
                    spent.between()
                    began += timer() - paused
                rows = walk.ask(number)
                flat = rows.reshape(len(rows), -1)
                going = [place for place in range(len(decoders)) if place not in failed]
                asked = timer()
                found, refused = get_together([decoders[place] for place in going], self.tables, flat[going])
                entropy += timer() - asked
                symbols = np.full(flat.shape, self.half, np.int32)
                symbols[going] = found
                for own, error in refused.items():
                    failed[going[own]] = error
                    symbols[going[own]] = self.half
                for place in going:
                    coded[place].symbols.append(symbols[place])
                    coded[place].rows.append(flat[place])
                symbols = symbols.reshape(rows.shape)
                for place in np.flatnonzero(walk.tell(number, symbols)).tolist():
                    failed.setdefault(place, _outside())
            latents = walk.latents()
        if spent is not None:
            spent.entropy += entropy
            spent.device += timer() - began - entropy
        return [
            failed[place] if place in failed else one._replace(latents=latents[place])
            for place, one in enumerate(coded)
        ]

    def decode_together(
        self, works: Sequence[PictureWork], first: int, shape: tuple[int, int], arithmetic: Arithmetic, spent: Spent
    ) -> list[PicturesFound]:
        """`Model.decode_pictures` of a stream whose picture blocks begin with index `first`: those of one index in as
        many matrix products as one frame needs."""
        codes = [work.code for work in works]
        done, errors = [0] * len(works), cast("list[PacketError | None]", [None] * len(works))
        while due := [n for n, work in enumerate(works) if errors[n] is None and done[n] < len(work.data)]:
            index = min(works[n].first + done[n] for n in due)  # who is behind catches up, and goes on with the others
            due = [n for n in due if works[n].first + done[n] == index]
            decoders = [BlockDecoder(works[n].data[done[n]]) for n in due]
            before = [codes[n].picture[-1].latents if codes[n].picture else None for n in due]
            for n, decoder, found in zip(
                due, decoders, self.get_many(decoders, index - first, before, shape, arithmetic, spent), strict=True
            ):
                try:
                    if isinstance(found, BlockError):
                        raise found
                    decoder.finish()
                except BlockError as error:
                    errors[n] = error
                    continue
                codes[n] = codes[n].extended()
                codes[n].picture.append(found)
                done[n] += 1
        return [PicturesFound(*each) for each in zip(codes, done, errors, strict=True)]

    def walk(self, group: int, before: Ints | None, shape: tuple[int, ...], tell: Tell) -> CodedPicture:
        """Group number `group` of a picture of `shape` positions, after `before`, with the symbols that `tell` gives.

        Raises:
            BlockError: a symbol leads to a latent that no encoder gives.
        """
        walk = self._context(group, CPU).begin([before], (shape[0], shape[1]))
        all_symbols, all_rows = [], []
        for number in walk.phases:
            phase = PHASES[number]
            rows = walk.ask(number)[0]
            placed = (len(rows), *phase.size(walk.shape))
            symbols = tell(phase, walk.means()[0].reshape(placed), rows.reshape(placed))
            if walk.tell(number, symbols.reshape(1, *rows.shape)).any():
                raise _outside()
            all_symbols.append(symbols.ravel())
            all_rows.append(rows.ravel())
        return CodedPicture(walk.latents()[0], all_symbols, all_rows)

    def _context(self, group: int, arithmetic: Arithmetic) -> GroupContext:
        """A group's networks where `arithmetic` computes, taken there once."""
        found = self._contexts.get((group, id(arithmetic)))
        if found is None or found.arithmetic is not arithmetic:
            known = channels_of(self.groups[: group + 1])
            kind = CompiledContext if isinstance(arithmetic, CompiledArithmetic) else GroupContext
            found = kind(group, self.groups[group], known, self.contexts[group], self._offsets(group), arithmetic)
            self._contexts[group, id(arithmetic)] = found
        return found

    def _offsets(self, group: int) -> Ints:
        """By row and symbol, how far a latent of a group lies from its mean (units of 1/16)."""
        step = self.groups[group].step
        steps = np.arange(self.tables.alphabet, dtype=np.int32) - self.half
        nearer = (step * self.shifts + UNIT // 2) // UNIT
        return np.asarray(steps * step - np.sign(steps) * nearer[:, None], np.int32)


def _outside() -> BlockError:
    return BlockError(f"picture latent outside -{LATENT_BOUND}..{LATENT_BOUND} sixteenths")
