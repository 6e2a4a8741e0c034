"""Metrics of how often predictions are right, as functions and as classes. Floor 4."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_native.arrays import positive_int, to_numpy
from lstm_native.errors import check_number
from lstm_native.metrics.base import Array, same_shape, shape_error
from lstm_native.metrics.reduction import MeanMetricWrapper


def accuracy(y_true: Any, y_pred: Any) -> Array:
    """Whether predictions equal labels, a bool per element."""
    true, pred = same_shape("accuracy", y_true, y_pred)
    equal: Array = true == pred
    return equal


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Array:
    """Whether predictions lie on the label's side of `threshold`, a bool per element."""
    true, pred = same_shape("binary_accuracy", y_true, y_pred)
    right: Array = (pred > threshold) == true
    return right


def categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """Whether the largest prediction is that of the one-hot label, a bool per row."""
    return _is_largest(*_classes("categorical_accuracy", y_true, y_pred))


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """Whether the largest prediction is that of the class number, a bool per row."""
    return _is_largest(*_class_numbers("sparse_categorical_accuracy", y_true, y_pred))


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Array:
    """Whether fewer than `k` predictions are larger than that of the one-hot label, a bool per row."""
    name = "top_k_categorical_accuracy"
    return _is_in_top(*_classes(name, y_true, y_pred), positive_int(k, name, "k"))


def sparse_top_k_categorical_accuracy(
    y_true: Any, y_pred: Any, k: int = 5, from_sorted_ids: bool = False
) -> Array:
    """Whether fewer than `k` predictions are larger than that of the class number, a bool per row.

    With `from_sorted_ids`, predictions are class numbers, the likeliest first.
    """
    name = "sparse_top_k_categorical_accuracy"
    true, pred = _class_numbers(name, y_true, y_pred)
    k = positive_int(k, name, "k")
    if from_sorted_ids:
        found: Array = (pred[..., :k] == true[..., None]).any(axis=-1)
        return found
    return _is_in_top(true, pred, k)


class Accuracy(MeanMetricWrapper):
    """How often predictions equal labels exactly.

    Args:
        name: Default "accuracy".
        dtype: See `Metric`.
    """

    _direction = "up"

    def __init__(self, name: str | None = "accuracy", dtype: Any = None) -> None:
        super().__init__(accuracy, name, dtype)


class BinaryAccuracy(MeanMetricWrapper):
    """How often predictions lie on the label's side of a threshold.

    Args:
        name: Default "binary_accuracy".
        dtype: See `Metric`.
        threshold: Predictions above it count as 1 (default 0.5).
    """

    _direction = "up"

    def __init__(
        self, name: str | None = "binary_accuracy", dtype: Any = None, threshold: float = 0.5
    ) -> None:
        expected = "a number between 0 and 1"
        check_number("BinaryAccuracy", "threshold", threshold, expected, lambda t: 0 < t < 1)
        super().__init__(binary_accuracy, name, dtype, threshold=threshold)
        self.threshold = threshold


class CategoricalAccuracy(MeanMetricWrapper):
    """How often the largest prediction is where the one-hot label is.

    Args:
        name: Default "categorical_accuracy".
        dtype: See `Metric`.
    """

    _direction = "up"

    def __init__(self, name: str | None = "categorical_accuracy", dtype: Any = None) -> None:
        super().__init__(categorical_accuracy, name, dtype)


class SparseCategoricalAccuracy(MeanMetricWrapper):
    """How often the largest prediction is that of the class number in the label.

    Args:
        name: Default "sparse_categorical_accuracy".
        dtype: See `Metric`.
    """

    _direction = "up"

    def __init__(self, name: str | None = "sparse_categorical_accuracy", dtype: Any = None) -> None:
        super().__init__(sparse_categorical_accuracy, name, dtype)


class TopKCategoricalAccuracy(MeanMetricWrapper):
    """How often the prediction of the one-hot label is among the `k` largest.

    Args:
        k: How many predictions count (default 5).
        name: Default "top_k_categorical_accuracy".
        dtype: See `Metric`.
    """

    _direction = "up"

    def __init__(
        self, k: int = 5, name: str | None = "top_k_categorical_accuracy", dtype: Any = None
    ) -> None:
        self.k = positive_int(k, "TopKCategoricalAccuracy", "k")
        super().__init__(top_k_categorical_accuracy, name, dtype, k=self.k)


class SparseTopKCategoricalAccuracy(MeanMetricWrapper):
    """How often the prediction of the class number in the label is among the `k` largest.

    Args:
        k: How many predictions count (default 5).
        name: Default "sparse_top_k_categorical_accuracy".
        dtype: See `Metric`.
        from_sorted_ids: Whether predictions are class numbers, the likeliest first (default False).
    """

    _direction = "up"

    def __init__(
        self,
        k: int = 5,
        name: str | None = "sparse_top_k_categorical_accuracy",
        dtype: Any = None,
        from_sorted_ids: bool = False,
    ) -> None:
        self.k = positive_int(k, "SparseTopKCategoricalAccuracy", "k")
        self.from_sorted_ids = bool(from_sorted_ids)
        super().__init__(
            sparse_top_k_categorical_accuracy, name, dtype, k=self.k, from_sorted_ids=self.from_sorted_ids
        )


def _classes(name: str, y_true: Any, y_pred: Any) -> tuple[Array, Array]:
    """Class numbers from one-hot labels, and the predictions."""
    true, pred = to_numpy(y_true, name, "y_true"), to_numpy(y_pred, name, "y_pred")
    if true.shape != pred.shape:
        raise shape_error(name, y_true, pred)
    return true.argmax(axis=-1), pred


def _class_numbers(name: str, y_true: Any, y_pred: Any) -> tuple[Array, Array]:
    """Class numbers in the shape of the rows (axes of size one aside), and the predictions."""
    true, pred = to_numpy(y_true, name, "y_true"), to_numpy(y_pred, name, "y_pred")
    rows = pred.shape[:-1]
    if true.shape != rows:
        if [n for n in true.shape if n != 1] != [n for n in rows if n != 1]:
            raise shape_error(name, y_true, pred)
        true = true.reshape(rows)
    return true, pred


def _is_largest(classes: Array, pred: Array) -> Array:
    right: Array = pred.argmax(axis=-1) == classes
    return right


def _is_in_top(classes: Array, pred: Array, k: int) -> Array:
    """Ties at place `k` count for all of their classes; rows with NaN or infinity or no such class never."""
    known = (classes >= 0) & (classes < pred.shape[-1])
    own = np.take_along_axis(pred, np.where(known, classes, 0).astype(np.int64)[..., None], axis=-1)
    in_top: Array = known & ((pred > own).sum(axis=-1) < k) & np.isfinite(pred).all(axis=-1)
    return in_top
