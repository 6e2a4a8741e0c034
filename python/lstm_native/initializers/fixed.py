"""Initial values of weights that no random numbers are in. Floor 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstm_native.errors import check_number
from lstm_native.initializers.base import Array, Initializer, as_dtype, check_shape


class Zeros(Initializer):
    """All zeros."""

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Array:
        """Zeros of `shape`."""
        return np.zeros(check_shape(self, shape), as_dtype(dtype))


class Ones(Initializer):
    """All ones."""

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Array:
        """Ones of `shape`."""
        return np.ones(check_shape(self, shape), as_dtype(dtype))


class Constant(Initializer):
    """One value everywhere.

    Args:
        value: The number (default 0.0), or an array that is broadcast to the shape.
    """

    def __init__(self, value: float | Array = 0.0) -> None:
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            self.value: float | Array = value.copy()
        else:
            self.value = check_number("Constant", "value", value, "a number or an array of numbers")

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Array:
        """`value` in every element of `shape`.

        Raises:
            ValueError: It is an array that does not broadcast to `shape`.
        """
        return np.full(check_shape(self, shape), self.value, as_dtype(dtype))


class Identity(Initializer):
    """The identity matrix times `gain`; the shape must have two axes.

    Args:
        gain: Factor (default 1.0).
    """

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = check_number("Identity", "gain", gain, "a number")

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Array:
        """`gain` on the diagonal of a matrix of `shape`, zero elsewhere.

        Raises:
            ValueError: `shape` has not two axes.
        """
        dims = check_shape(self, shape)
        if len(dims) != 2:
            raise ValueError(f"Identity: shape is {dims}, expected a matrix (two axes)")
        values = np.eye(dims[0], dims[1]) * self.gain
        return values.astype(as_dtype(dtype))


class GivenValues(Initializer):
    """Values that the caller brought as an array."""

    def __init__(self, values: Array) -> None:
        self.values = values

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Array:
        dims = check_shape(self, shape)
        if dims != self.values.shape:
            raise ValueError(
                f"initializer: Expected `shape` to be {self.values.shape} for an array as initializer. "
                f"Received: shape={dims}"
            )
        return self.values.astype(as_dtype(dtype))
