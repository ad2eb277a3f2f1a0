"""How many threads the linear algebra behind numpy uses, for programs of this package; imported before numpy."""

from __future__ import annotations

import os

VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def one_thread_for_small_matrices() -> None:
    """Let numpy's matrix products run on the thread that asks, unless the environment says otherwise.

    The codec multiplies many small matrices. Shared between two threads of a busy machine each product waits until both
    get a core: on two cores with other work, encoding a picture took 19 ms at best and 150 ms at worst, and 12 on one
    thread. Works only before numpy is imported.
    """
    for name in VARIABLES:
        os.environ.setdefault(name, "1")
