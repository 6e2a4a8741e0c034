"""to_categorical: one-hot labels; normalize: rows of length one. Floor 4."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native.arrays import optional_int, to_numpy


def to_categorical(x: Any, num_classes: int | None = None) -> npt.NDArray[np.float64]:
    """One-hot rows of class numbers.

    Args:
        x: Integers in [0, num_classes), any shape; a last axis of size one is dropped.
        num_classes: Number of classes; None takes the largest class plus one.

    Returns:
        float64 array with a new last axis of `num_classes`.

    Raises:
        ValueError: A class outside the range, or no `num_classes` and nothing to take it from.
    """
    given = to_numpy(x, "to_categorical", "x")
    if given.dtype.kind == "f" and not np.isfinite(given).all():
        raise ValueError("to_categorical: x has values that are not finite, expected class numbers")
    classes = given.astype(np.int64)
    if classes.ndim > 1 and classes.shape[-1] == 1:
        classes = classes.reshape(classes.shape[:-1])
    num_classes = optional_int(num_classes or None, "to_categorical", "num_classes")
    if num_classes is None:
        if classes.size == 0:
            raise ValueError("to_categorical: x is empty, so num_classes must be given")
        num_classes = int(classes.max()) + 1
    if classes.size and (classes.min() < 0 or classes.max() >= num_classes):
        raise ValueError(
            f"to_categorical: classes lie in [{classes.min()}, {classes.max()}], expected [0, {num_classes})"
        )
    result = np.zeros((classes.size, num_classes))
    result[np.arange(classes.size), classes.reshape(-1)] = 1.0
    return result.reshape(*classes.shape, num_classes)


def normalize(x: Any, axis: int = -1, order: int = 2) -> npt.NDArray[Any]:
    """An array scaled to length one along an axis; what is zero stays zero.

    Args:
        x: Array.
        axis: Along which it is measured (default the last one).
        order: Of the norm: 1, 2 or infinity (default 2).

    Returns:
        Array of floats in the shape of `x`.
    """
    values = to_numpy(x, "normalize", "x")
    length = np.linalg.norm(values, order, axis, keepdims=True)
    scaled: npt.NDArray[Any] = values / np.where(length == 0, 1, length)
    return scaled
