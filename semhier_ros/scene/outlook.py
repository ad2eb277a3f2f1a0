"""What of the filters' state a forecast goes by, as polynomials of the time that passes.

To let time pass for a whole state takes a product of every object with every other, for all are tied to the camera. A
forecast shows centres, sides and how sure each is. Those are a few numbers an object, found once for a state: then it
can be asked about any moment at little cost, and states of several moments about one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Told(NamedTuple):
    """What every model m foretells of n objects: `centre` m,2,n with its `variance`, its `velocity` with the
    `velocity_variance`; `log` m,2,n: log sides, and their `log_variance`."""

    centre: Floats
    velocity: Floats
    variance: Floats
    velocity_variance: Floats
    log: Floats
    log_variance: Floats


class Outlook(NamedTuple):
    """Coefficients of what is foretold of n objects under m models, the constant first: `centre` 2,m,2,n, `variance`
    4,m,2,n, `velocity_variance` 2,m,2,n, `log` 2,m,2,n, `log_variance` 4,m,2,n."""

    centre: Floats
    variance: Floats
    velocity_variance: Floats
    log: Floats
    log_variance: Floats

    def __len__(self) -> int:
        return int(self.centre.shape[-1])

    @classmethod
    def joined(cls, several: Sequence[Outlook]) -> Outlook:
        """The objects of all, one after another."""
        if len(several) == 1:
            return several[0]
        return cls(*(np.concatenate(parts, axis=-1) for parts in zip(*several, strict=True)))

    def after(self, seconds: float | Floats) -> Told:
        """What is foretold so much later: the same for all, or n seconds."""
        return Told(
            self.centre[0] + seconds * self.centre[1],
            self.centre[1],
            _cubic(self.variance, seconds),
            self.velocity_variance[0] + seconds * self.velocity_variance[1],
            self.log[0] + seconds * self.log[1],
            _cubic(self.log_variance, seconds),
        )


def _cubic(parts: Floats, seconds: float | Floats) -> Floats:
    found: Floats = parts[0] + seconds * (parts[1] + seconds * (parts[2] + seconds * parts[3]))
    return found
