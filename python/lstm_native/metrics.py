"""Metrics under the Keras names. Floor 4.

A metric keeps a total and a count between `reset_state` and `result`. NumPy, cheap for tiny batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native import losses
from lstm_native.arrays import to_numpy
from lstm_native.errors import check_number, unknown_name
from lstm_native.naming import name_and_config, snake_case

Array = npt.NDArray[Any]


class Metric:
    """Base class of metrics: define `update_state`, `result` and `reset_state`.

    Args:
        name: Name in logs; the class's name in snake case when None.
        dtype: float32 or None, for compatibility: totals are kept in double precision.
    """

    # "up" or "down": which values are better, None when unknown. Read by callbacks.
    _direction: str | None = None

    def __init__(self, name: str | None = None, dtype: Any = None) -> None:
        if dtype is not None and np.dtype(dtype) != np.float32:
            raise ValueError(f"{type(self).__name__}: dtype is {dtype!r}, expected float32")
        self.name = name or snake_case(type(self).__name__)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes a batch into account."""
        raise NotImplementedError(f"{type(self).__name__} does not define update_state()")

    def result(self) -> float:
        """The value of everything since `reset_state`."""
        raise NotImplementedError(f"{type(self).__name__} does not define result()")

    def reset_state(self) -> None:
        """Forgets everything."""
        raise NotImplementedError(f"{type(self).__name__} does not define reset_state()")

    def __call__(self, *args: Any, **kwargs: Any) -> float:
        """`update_state` with these arguments, then `result`."""
        self.update_state(*args, **kwargs)
        return self.result()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Metric:
        """A metric from `get_config()`."""
        return cls(**config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


class _Average(Metric):
    """A weighted total over a count; rows of several values count as their mean."""

    def __init__(self, name: str | None, dtype: Any = None) -> None:
        super().__init__(name, dtype)
        self.reset_state()

    def result(self) -> float:
        """Total over count; 0.0 when nothing was counted."""
        return self.total / self.count if self.count else 0.0

    def reset_state(self) -> None:
        """Sets total and count to zero."""
        self.total = 0.0
        self.count = 0.0

    def _add(self, values: Array, sample_weight: Any) -> None:
        if sample_weight is None:
            # Trailing axes are averaged, so that every sample counts once whatever its length.
            samples = len(values) if values.ndim else 1
            if values.size:
                total = np.count_nonzero(values) if values.dtype == np.bool_ else values.sum(dtype=np.float64)
                self.total += float(total) * samples / values.size
            self.count += samples
            return
        weights = np.asarray(sample_weight, dtype=np.float64)
        total, count = _weighted_sums(self.name, np.asarray(values, dtype=np.float64), weights)
        self.total += total
        self.count += count


class Mean(_Average):
    """Weighted mean of values.

    Args:
        name: Default "mean".
        dtype: See `Metric`.
    """

    def __init__(self, name: str | None = "mean", dtype: Any = None) -> None:
        super().__init__(name, dtype)

    def update_state(self, values: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        """Takes `values` (batch, ...) into account, with weights of the same or a lower rank."""
        self._add(np.asarray(values), sample_weight)


class MeanMetricWrapper(_Average):
    """Mean of a function (y_true, y_pred) -> values per sample.

    Args:
        fn: The function.
        name: Default: the function's name.
        dtype: See `Metric`.
        **kwargs: More arguments of `fn`.
    """

    def __init__(
        self, fn: Callable[..., Any], name: str | None = None, dtype: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(name or getattr(fn, "__name__", None), dtype)
        self._fn = fn
        self._kwargs = kwargs
        if fn in _LOWER_IS_BETTER:
            self._direction = "down"

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes a batch into account."""
        self._add(np.asarray(self._fn(y_true, y_pred, **self._kwargs)), sample_weight)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"fn": self._fn, "name": self.name, **self._kwargs}


class Accuracy(_Average):
    """How often predictions equal labels exactly.

    Args:
        name: Default "accuracy".
        dtype: See `Metric`.
    """

    _direction = "up"

    def __init__(self, name: str | None = "accuracy", dtype: Any = None) -> None:
        super().__init__(name, dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes labels and predictions of one shape into account."""
        self._add(accuracy(y_true, y_pred), sample_weight)


class BinaryAccuracy(_Average):
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
        super().__init__(name, dtype)
        self.threshold = threshold

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes labels 0 or 1 and predictions of one shape into account."""
        self._add(binary_accuracy(y_true, y_pred, self.threshold), sample_weight)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"name": self.name, "threshold": self.threshold}


class CategoricalAccuracy(_Average):
    """How often the largest prediction is where the one-hot label is.

    Args:
        name: Default "categorical_accuracy".
        dtype: See `Metric`.
    """

    _direction = "up"

    def __init__(self, name: str | None = "categorical_accuracy", dtype: Any = None) -> None:
        super().__init__(name, dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes one-hot labels and predictions (batch, ..., classes) into account."""
        self._add(categorical_accuracy(y_true, y_pred), sample_weight)


class SparseCategoricalAccuracy(_Average):
    """How often the largest prediction is that of the class number in the label.

    Args:
        name: Default "sparse_categorical_accuracy".
        dtype: See `Metric`.
    """

    _direction = "up"

    def __init__(self, name: str | None = "sparse_categorical_accuracy", dtype: Any = None) -> None:
        super().__init__(name, dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes class numbers (batch, ...) and predictions (batch, ..., classes) into account."""
        self._add(sparse_categorical_accuracy(y_true, y_pred), sample_weight)


class MeanSquaredError(_Average):
    """Mean of squared differences.

    Args:
        name: Default "mean_squared_error".
        dtype: See `Metric`.
    """

    _direction = "down"

    def __init__(self, name: str | None = "mean_squared_error", dtype: Any = None) -> None:
        super().__init__(name, dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes labels and predictions of one shape into account."""
        true, pred = _same_rank("mean_squared_error", y_true, y_pred)
        difference = np.subtract(pred, true, dtype=np.float32)
        self._add(np.square(difference).mean(axis=-1), sample_weight)


class MeanAbsoluteError(_Average):
    """Mean of absolute differences.

    Args:
        name: Default "mean_absolute_error".
        dtype: See `Metric`.
    """

    _direction = "down"

    def __init__(self, name: str | None = "mean_absolute_error", dtype: Any = None) -> None:
        super().__init__(name, dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes labels and predictions of one shape into account."""
        true, pred = _same_rank("mean_absolute_error", y_true, y_pred)
        difference = np.subtract(pred, true, dtype=np.float32)
        self._add(np.abs(difference).mean(axis=-1), sample_weight)


def accuracy(y_true: Any, y_pred: Any) -> Array:
    """Whether predictions equal labels, a bool per element."""
    true, pred = _same_rank("accuracy", y_true, y_pred)
    equal: Array = true == pred
    return equal


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Array:
    """Whether predictions lie on the label's side of `threshold`, a bool per element."""
    true, pred = _same_rank("binary_accuracy", y_true, y_pred)
    right: Array = (pred > threshold) == true
    return right


def categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """Whether the largest prediction is that of the one-hot label, a bool per row."""
    true, pred = np.asarray(y_true), np.asarray(y_pred)
    if true.shape != pred.shape:
        raise _shape_error("categorical_accuracy", true, pred)
    right: Array = true.argmax(axis=-1) == pred.argmax(axis=-1)
    return right


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """Whether the largest prediction is that of the class number, a bool per row."""
    true, pred = np.asarray(y_true), np.asarray(y_pred)
    if true.ndim == pred.ndim and true.ndim and true.shape[-1] == 1:
        true = true[..., 0]
    if true.shape != pred.shape[:-1]:
        raise _shape_error("sparse_categorical_accuracy", np.asarray(y_true), pred)
    right: Array = pred.argmax(axis=-1) == true
    return right


_LOWER_IS_BETTER: set[Callable[..., Any]] = {
    losses.mean_squared_error,
    losses.mean_absolute_error,
    losses.binary_crossentropy,
    losses.categorical_crossentropy,
    losses.sparse_categorical_crossentropy,
}
_CLASSES: tuple[type[Metric], ...] = (
    Mean,
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    MeanSquaredError,
    MeanAbsoluteError,
)
_NAMES: dict[str, Callable[..., Metric]] = {
    **{cls.__name__: cls for cls in _CLASSES},
    **{snake_case(cls.__name__): cls for cls in _CLASSES},
    "mse": MeanSquaredError,
    "MSE": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "MAE": MeanAbsoluteError,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "binary_crossentropy": losses.binary_crossentropy,
    "categorical_crossentropy": losses.categorical_crossentropy,
    "sparse_categorical_crossentropy": losses.sparse_categorical_crossentropy,
    "bce": losses.binary_crossentropy,
    "BCE": losses.binary_crossentropy,
}


def get(
    identifier: Any,
    *,
    loss: losses.Loss | None = None,
    y_shape: Sequence[int | None] | None = None,
    output_shape: Sequence[int | None] | None = None,
) -> Metric:
    """The metric that `identifier` stands for.

    "accuracy" and "acc" mean binary accuracy for one output, sparse categorical accuracy for labels
    that are class numbers, else categorical accuracy.

    Args:
        identifier: A name, a `Metric`, its class, a configuration `{"class_name": ..., "config":
            {...}}`, or a function (y_true, y_pred) -> values.
        loss: The loss trained with, which tells what labels mean where shapes leave it open.
        y_shape: Shape of the labels as the user gave them.
        output_shape: Shape of the predictions.

    Returns:
        A `Metric`; one asked for by name is called as it was asked for.

    Raises:
        ValueError: Unknown name, or something that is none of these.
    """
    if isinstance(identifier, Metric):
        return identifier
    configured = isinstance(identifier, dict)
    identifier, config = name_and_config("metric", identifier)
    if configured and identifier in _NAMES:
        return _NAMES[identifier](**config)
    if isinstance(identifier, str):
        if identifier.lower() in ("accuracy", "acc") and output_shape is not None:
            return _accuracy_for(loss, y_shape, output_shape)(name=identifier)
        if identifier in _FUNCTIONS:
            return MeanMetricWrapper(_FUNCTIONS[identifier], name=identifier)
        if identifier == "acc":
            return Accuracy(name=identifier)
        if identifier not in _NAMES:
            raise unknown_name("metric", identifier, (*_NAMES, *_FUNCTIONS, "acc"))
        return _NAMES[identifier](name=identifier)
    if isinstance(identifier, type) and issubclass(identifier, Metric):
        return identifier()
    if callable(identifier):
        return MeanMetricWrapper(identifier)
    raise ValueError(f"metric: cannot interpret {identifier!r}, expected a name, a Metric or a function")


def _accuracy_for(
    loss: losses.Loss | None, y_shape: Sequence[int | None] | None, output_shape: Sequence[int | None]
) -> Callable[..., Metric]:
    output = tuple(output_shape)
    if output and output[-1] == 1:
        return BinaryAccuracy
    if y_shape is None:
        # Without labels at hand the loss says what they are.
        sparse = isinstance(loss, losses.SparseCategoricalCrossentropy)
    else:
        labels = tuple(y_shape)
        sparse = len(labels) < len(output) or labels[-1:] == (1,)
    return SparseCategoricalAccuracy if sparse else CategoricalAccuracy


def _same_rank(name: str, y_true: Any, y_pred: Any) -> tuple[Array, Array]:
    """Labels and predictions of one shape: a last axis of size one is added to labels or dropped."""
    true, pred = to_numpy(y_true, name, "y_true"), to_numpy(y_pred, name, "y_pred")
    if true.shape != pred.shape:
        if true.ndim == pred.ndim - 1 and pred.shape[-1] == 1:
            true = true[..., None]
        elif true.ndim == pred.ndim + 1 and true.shape[-1] == 1:
            true = true[..., 0]
        if true.shape != pred.shape:
            raise _shape_error(name, np.asarray(y_true), pred)
    return true, pred


def _shape_error(name: str, true: Array, pred: Array) -> ValueError:
    return ValueError(
        f"metric {name!r}: labels have shape {true.shape}, predictions have {pred.shape}; they do not fit"
    )


def _weighted_sums(name: str, values: Array, weights: Array) -> tuple[float, float]:
    """Sum of weighted sample means and of the samples' weights."""
    if values.ndim == weights.ndim + 1 and values.shape[-1] == 1:
        values = values[..., 0]
    elif weights.ndim == values.ndim + 1 and weights.shape[-1] == 1:
        weights = weights[..., 0]
    if values.ndim > weights.ndim:
        values = values.mean(axis=tuple(range(weights.ndim, values.ndim)))
    try:
        weights = np.broadcast_to(weights, values.shape)
    except ValueError:
        raise ValueError(
            f"metric {name!r}: sample_weight has shape {weights.shape}, values have {values.shape}"
        ) from None
    # Sums over trailing axes become means, so that a sample counts once whatever its length.
    steps = math.prod(values.shape[1:])
    if steps == 0:
        return 0.0, 0.0
    weighted = np.where(weights != 0, values * weights, 0.0)
    return float(weighted.sum()) / steps, float(weights.sum()) / steps
