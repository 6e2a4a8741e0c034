"""set_random_seed: one seed for a whole program. Floor 4."""

from __future__ import annotations

import numpy as np

from lstm_native import random_state


def set_random_seed(seed: int) -> None:
    """Makes a program reproducible: seeds Python's `random`, NumPy's global generator and this package.

    Weights, shuffling and dropout drawn afterwards are the same at every run.

    Args:
        seed: Integer in [0, 2**32), the range that NumPy takes.

    Raises:
        ValueError: `seed` is no integer or outside that range; nothing was seeded.
    """
    value = random_state.check_seed("set_random_seed", seed)
    if value != seed or value >= 1 << 32:
        raise ValueError(f"set_random_seed: seed is {seed!r}, expected an integer in [0, 2**32)")
    # Importing either at the top would cost every program that never seeds.
    import random

    random.seed(value)
    # The legacy global generator is what scripts that call this function draw from.
    np.random.seed(value)  # noqa: NPY002
    random_state.set_seed(value)
