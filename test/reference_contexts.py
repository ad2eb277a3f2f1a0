"""The walk over picture latents as docs/bitstream.md says it, one picture and one position's neighbours at a time: what
`codec.picture_walk` has to give, written without its shortcuts."""

import numpy as np

from semhier_ros.codec.latent_groups import LATENT_BOUND, UNIT, split_parameters
from semhier_ros.codec.picture_walk import PHASES, PictureContext, channels_of, phases_of


def see(context: PictureContext, known: np.ndarray) -> np.ndarray:
    """Features F,h,w of latents K,h,w."""
    channels, height, width = known.shape
    return context.features(known.reshape(channels, -1).T).T.reshape(-1, height, width)


def parameters(context: PictureContext, seen: np.ndarray, known: np.ndarray, number: int, rows: int):
    """Shifts of the means (C,r,c in units of 1/16) and table rows (C,r,c) of a phase. seen: features and marks of what
    this block told, F+1,h,w."""
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
    out = context.expect(np.concatenate([patches, own.reshape(len(own), -1), which]).T)
    means, table_rows = split_parameters(out, rows)
    return means.T.reshape(-1, down, across), table_rows.T.reshape(-1, down, across)


def walk(blocks, group: int, before, shape, tell):
    """Latents, and the symbols and rows phase by phase, of group number `group`, with the symbols that `tell` gives."""
    spec, context = blocks.groups[group], blocks.contexts[group]
    known = np.zeros((channels_of(blocks.groups[: group + 1]), *shape), np.int32)
    if before is not None:
        known[: len(before)] = before
    seen = np.concatenate([see(context, known), np.zeros((1, *shape), np.int32)])
    all_symbols, all_rows = [], []
    for number in phases_of(group):
        phase = PHASES[number]
        coded = phase.at(spec.start, spec.stop)
        if not known[coded].size:
            continue
        shift, rows = parameters(context, seen, known, number, blocks.tables.rows)
        means = np.clip(known[coded] + shift, -LATENT_BOUND, LATENT_BOUND)
        symbols = tell(phase, means, rows)
        steps = symbols - blocks.half
        nearer = (spec.step * blocks.shifts[rows] + UNIT // 2) // UNIT
        known[coded] = means + steps * spec.step - np.sign(steps) * nearer
        seen[phase.at(0, -1)] = see(context, known[phase.at()])
        seen[phase.at(-1)] = UNIT
        all_symbols.append(symbols.ravel())
        all_rows.append(rows.ravel())
    return known, all_symbols, all_rows
