"""Base class of initial values of weights. Floor 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native.configurable import Configurable

Array = npt.NDArray[Any]


class Initializer(Configurable):
    """Base class: an object that is called with a shape and gives the values.

    Subclasses define `__call__(shape, dtype=None)`.
    """

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Array:
        """Values of `shape` as a NumPy array of `dtype` (float32 when None)."""
        raise NotImplementedError(f"{type(self).__name__} does not define __call__(shape, dtype=None)")

    def clone(self) -> Initializer:
        """A new initializer with the same arguments."""
        return type(self).from_config(self.get_config())


def check_shape(owner: Initializer, shape: Sequence[int]) -> tuple[int, ...]:
    try:
        dims = tuple(int(dim) for dim in shape)
    except (TypeError, ValueError, OverflowError):
        dims = (-1,)
    if any(dim < 0 for dim in dims):
        raise ValueError(
            f"{type(owner).__name__}: shape is {shape!r}, expected a sequence of sizes that are not negative"
        )
    return dims


def as_dtype(dtype: Any) -> np.dtype[Any]:
    return np.dtype(np.float32 if dtype is None else dtype)
