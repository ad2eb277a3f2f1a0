"""Groups of quantised latents, as every kind of stream codes them: a mean each, a scale each, a whole number of steps.

Latents and means are integers in units of 1/16. A latent is its mean plus a whole number of steps; a step is 16 (one
unit) unless a stream says otherwise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semhier_ros.codec.entropy import BlockDecoder, BlockError, Tables

Ints = NDArray[np.int32]
UNIT = 16
LATENT_BOUND = 4095  # both ways: what the context networks accept


def middle(tables: Tables, name: str) -> int:
    """The symbol that stands for the mean: as many lie below it as above. `name`: of the tables.

    Raises:
        ValueError: there is none.
    """
    if tables.alphabet % 2 == 0:
        raise ValueError(f"table {name}: {tables.alphabet} symbols, expected an odd number of 3 or more")
    return (tables.alphabet - 1) // 2


def split_parameters(out: Ints, rows: int) -> tuple[Ints, Ints]:
    """A context network's outputs (n,2d in units of 1/16) as means (units of 1/16) and table rows (whole)."""
    half = out.shape[1] // 2
    means, scales = out[:, :half], out[:, half:]
    return means, np.minimum(np.maximum((scales + UNIT // 2) // UNIT, 0), rows - 1)


def quantise(
    values: NDArray[np.floating],
    means: Ints,
    half_width: int,
    step: int = UNIT,
    dead_zone: float | NDArray[np.floating] = 0.5,
) -> Ints:
    """The latents (units of 1/16) that the coder will carry for real `values`: mean plus a whole number of steps.

    dead_zone: what is nearer to its mean than this share of a step becomes the mean; over 0.5 it saves bits.
    """
    exact = (values * UNIT - means) / step
    steps = np.where(np.abs(exact) < dead_zone, 0, np.rint(exact))
    steps = np.clip(steps, -half_width, half_width).astype(np.int32)
    low, high = -(-(-LATENT_BOUND - means) // step), (LATENT_BOUND - means) // step
    return np.clip(steps, low, high) * step + means


def steps_of(latents: Ints, means: Ints, tables: Tables, step: int = UNIT) -> Ints:
    """Symbols of latents around their means."""
    return (latents - means) // step + (tables.alphabet - 1) // 2


def get_latents(decoder: BlockDecoder, means: Ints, rows: Ints, tables: Tables, step: int = UNIT) -> Ints:
    """The latents that a block carries for these means and table rows.

    Raises:
        BlockError: one lies outside of what any encoder writes.
    """
    symbols = decoder.get(tables, rows.ravel()).reshape(means.shape)
    latents = (symbols - (tables.alphabet - 1) // 2) * step + means
    if latents.size and int(np.abs(latents).max()) > LATENT_BOUND:
        raise BlockError(f"latent {int(np.abs(latents).max())}/16: outside -{LATENT_BOUND}..{LATENT_BOUND} sixteenths")
    return latents.astype(np.int32)
