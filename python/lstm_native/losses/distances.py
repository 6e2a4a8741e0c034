"""Losses that few programs use, in NumPy; gradients are found by going backwards through them. Floor 4."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_native.losses.base import Array, Loss

_EPSILON = np.float32(1e-7)


class _Distance(Loss):
    """What these losses share: the order of arguments."""

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str | None = None, dtype: Any = None
    ) -> None:
        super().__init__(name, reduction, dtype)


class MeanAbsolutePercentageError(_Distance):
    """`100 * mean(|y_true - y_pred| / max(|y_true|, 1e-7))` over the last axis.

    Args:
        reduction, name, dtype: See `Loss`.
    """

    def call(self, y_true: Array, y_pred: Array) -> Array:
        """See `Loss.call`."""
        scale: Array = np.float32(100) / np.maximum(np.abs(y_true), _EPSILON)
        return np.mean(np.abs(y_true - y_pred) * scale, axis=-1)  # type: ignore[no-any-return]


class MeanSquaredLogarithmicError(_Distance):
    """Mean of squared differences of `log(1 + max(y, 1e-7))` over the last axis.

    Args:
        reduction, name, dtype: See `Loss`.
    """

    def call(self, y_true: Array, y_pred: Array) -> Array:
        """See `Loss.call`."""
        difference = np.log1p(np.maximum(y_pred, _EPSILON)) - np.log1p(np.maximum(y_true, _EPSILON))
        return np.mean(np.square(difference), axis=-1)  # type: ignore[no-any-return]


class Hinge(_Distance):
    """`mean(max(1 - y_true * y_pred, 0))` over the last axis; labels 0 and 1 become -1 and 1.

    Args:
        reduction, name, dtype: See `Loss`.
    """

    def call(self, y_true: Array, y_pred: Array) -> Array:
        """See `Loss.call`."""
        return np.mean(_margins(y_true, y_pred), axis=-1)  # type: ignore[no-any-return]


class SquaredHinge(_Distance):
    """`Hinge` of squared margins.

    Args:
        reduction, name, dtype: See `Loss`.
    """

    def call(self, y_true: Array, y_pred: Array) -> Array:
        """See `Loss.call`."""
        return np.mean(np.square(_margins(y_true, y_pred)), axis=-1)  # type: ignore[no-any-return]


def _margins(y_true: Array, y_pred: Array) -> Array:
    if np.isin(y_true, (0, 1)).all():
        y_true = np.float32(2) * y_true - np.float32(1)
    margins: Array = np.maximum(np.float32(1) - y_true * y_pred, np.float32(0))
    return margins


class CategoricalHinge(_Distance):
    """`max(1 + highest wrong - right, 0)`, labels one-hot.

    Args:
        reduction, name, dtype: See `Loss`.
    """

    def call(self, y_true: Array, y_pred: Array) -> Array:
        """See `Loss.call`."""
        right = np.sum(y_true * y_pred, axis=-1)
        wrong = np.max((np.float32(1) - y_true) * y_pred, axis=-1)
        return np.maximum(wrong - right + np.float32(1), np.float32(0))  # type: ignore[no-any-return]


class Poisson(_Distance):
    """`mean(y_pred - y_true * log(y_pred + 1e-7))` over the last axis.

    Args:
        reduction, name, dtype: See `Loss`.
    """

    def call(self, y_true: Array, y_pred: Array) -> Array:
        """See `Loss.call`."""
        return np.mean(y_pred - y_true * np.log(y_pred + _EPSILON), axis=-1)  # type: ignore[no-any-return]


class CosineSimilarity(_Distance):
    """Minus the cosine of the angle between labels and predictions: -1 where they point the same way.

    Args:
        axis: The last axis; no other one is supported.
        reduction, name, dtype: See `Loss`.
    """

    def __init__(
        self,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "cosine_similarity",
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype)
        if axis != -1:
            raise ValueError(f"loss {self.name!r}: axis is {axis!r}, only the last axis, -1, is supported")
        self.axis = axis

    def call(self, y_true: Array, y_pred: Array) -> Array:
        """See `Loss.call`."""
        return -np.sum(_unit(y_true) * _unit(y_pred), axis=-1)  # type: ignore[no-any-return]


def _unit(x: Array) -> Array:
    # As Keras: the root of the larger of the square and 1e-12.
    squares = np.sum(np.square(x), axis=-1)
    lengths = np.sqrt(np.maximum(squares, np.float32(1e-12)))
    return x / np.expand_dims(lengths, -1)  # type: ignore[no-any-return]
