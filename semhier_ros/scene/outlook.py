"""What of the filters' state a forecast goes by, as polynomials of the time that passes.

To let time pass for a whole state takes a product of every object with every other, for all are tied to the camera. A
forecast shows centres, sides and how sure each is. Those are a few numbers an object, found once for a state: then it
can be asked about any moment at little cost.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Told(NamedTuple):
    """What every model m foretells of n objects: `mean` m,4,n of the centre across and down and of the logarithms of
    width and height, and the `variance` of each."""

    mean: Floats
    variance: Floats


class Outlook(NamedTuple):
    """Coefficients of what is foretold of n objects under m models, the constant first: `mean` 2,m,4,n and `variance`
    4,m,4,n as in `Told`, `velocity_variance` 2,m,2,n of the centre's velocity (which is the second of `mean`)."""

    mean: Floats
    variance: Floats
    velocity_variance: Floats

    def __len__(self) -> int:
        return int(self.mean.shape[-1])

    def after(self, seconds: float) -> Told:
        """What is foretold so much later."""
        mean, variance = self.mean, self.variance
        return Told(
            mean[0] + seconds * mean[1],
            variance[0] + seconds * (variance[1] + seconds * (variance[2] + seconds * variance[3])),
        )
