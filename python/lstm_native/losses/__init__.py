"""Losses under the Keras names, as classes, as functions and by name. Floor 4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lstm_native import registration
from lstm_native.errors import unknown_name
from lstm_native.losses.base import Array, Loss, Shape
from lstm_native.losses.distances import (
    CategoricalHinge,
    CosineSimilarity,
    Hinge,
    MeanAbsolutePercentageError,
    MeanSquaredLogarithmicError,
    Poisson,
    SquaredHinge,
)
from lstm_native.losses.probabilistic import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    KLDivergence,
    SparseCategoricalCrossentropy,
)
from lstm_native.losses.regression import Huber, LogCosh, MeanAbsoluteError, MeanSquaredError
from lstm_native.naming import name_and_config, snake_case

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalHinge",
    "CosineSimilarity",
    "Hinge",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "Loss",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "SparseCategoricalCrossentropy",
    "SquaredHinge",
    "binary_crossentropy",
    "categorical_crossentropy",
    "categorical_hinge",
    "cosine_similarity",
    "get",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "poisson",
    "sparse_categorical_crossentropy",
    "squared_hinge",
]


class _FunctionLoss(Loss):
    """A function (y_true, y_pred) -> values of the user's."""

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        super().__init__(getattr(function, "__name__", None) or snake_case(type(function).__name__))
        self.function = function

    def prepare(self, y_true: Any, y_pred_shape: Shape) -> Array:
        """Labels as they are, (n,) against (n, 1) aside: what fits is the function's affair."""
        labels = np.asarray(y_true)
        if labels.ndim == len(tuple(y_pred_shape)) - 1 and tuple(y_pred_shape)[-1] == 1:
            return labels[..., None]
        return labels

    def call(self, y_true: Array, y_pred: Array) -> Array:
        """One value per row."""
        rows: Array = self.function(y_true, y_pred)
        return rows


def mean_squared_error(y_true: Any, y_pred: Any) -> Array:
    """Mean of squared differences over the last axis, a value per row."""
    return _per_row(MeanSquaredError(reduction=None), y_true, y_pred)


def mean_absolute_error(y_true: Any, y_pred: Any) -> Array:
    """Mean of absolute differences over the last axis, a value per row."""
    return _per_row(MeanAbsoluteError(reduction=None), y_true, y_pred)


def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Array:
    """Half squares of differences up to `delta`, linear beyond, a value per row. See `Huber`."""
    return _per_row(Huber(delta, None), y_true, y_pred)


def log_cosh(y_true: Any, y_pred: Any) -> Array:
    """Mean log of the hyperbolic cosine of differences over the last axis, a value per row."""
    return _per_row(LogCosh(None), y_true, y_pred)


def kl_divergence(y_true: Any, y_pred: Any) -> Array:
    """Kullback-Leibler divergence over the last axis, a value per row. See `KLDivergence`."""
    return _per_row(KLDivergence(None), y_true, y_pred)


def binary_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Array:
    """Cross-entropy of yes-or-no labels, a value per row. See `BinaryCrossentropy`."""
    return _per_row(BinaryCrossentropy(from_logits, label_smoothing, axis, None), y_true, y_pred)


def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Array:
    """Cross-entropy of one-hot labels, a value per row. See `CategoricalCrossentropy`."""
    return _per_row(CategoricalCrossentropy(from_logits, label_smoothing, axis, None), y_true, y_pred)


def sparse_categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> Array:
    """Cross-entropy of class numbers, a value per row. See `SparseCategoricalCrossentropy`."""
    return _per_row(SparseCategoricalCrossentropy(from_logits, ignore_class, None, axis), y_true, y_pred)


def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Array:
    """Mean error in percent over the last axis, a value per row. See `MeanAbsolutePercentageError`."""
    return _per_row(MeanAbsolutePercentageError(None), y_true, y_pred)


def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Array:
    """Mean of squared differences of logarithms, a value per row. See `MeanSquaredLogarithmicError`."""
    return _per_row(MeanSquaredLogarithmicError(None), y_true, y_pred)


def hinge(y_true: Any, y_pred: Any) -> Array:
    """Mean of margins that are too small, a value per row. See `Hinge`."""
    return _per_row(Hinge(None), y_true, y_pred)


def squared_hinge(y_true: Any, y_pred: Any) -> Array:
    """The same of squared margins. See `SquaredHinge`."""
    return _per_row(SquaredHinge(None), y_true, y_pred)


def categorical_hinge(y_true: Any, y_pred: Any) -> Array:
    """Margin between the right class and the highest other one, a value per row. See `CategoricalHinge`."""
    return _per_row(CategoricalHinge(None), y_true, y_pred)


def poisson(y_true: Any, y_pred: Any) -> Array:
    """Poisson loss over the last axis, a value per row. See `Poisson`."""
    return _per_row(Poisson(None), y_true, y_pred)


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Array:
    """Minus the cosine between labels and predictions, a value per row. See `CosineSimilarity`."""
    return _per_row(CosineSimilarity(axis, None), y_true, y_pred)


FUNCTIONS: dict[Callable[..., Any], type[Loss]] = {
    mean_squared_error: MeanSquaredError,
    mean_absolute_error: MeanAbsoluteError,
    huber: Huber,
    log_cosh: LogCosh,
    mean_absolute_percentage_error: MeanAbsolutePercentageError,
    mean_squared_logarithmic_error: MeanSquaredLogarithmicError,
    hinge: Hinge,
    squared_hinge: SquaredHinge,
    categorical_hinge: CategoricalHinge,
    poisson: Poisson,
    cosine_similarity: CosineSimilarity,
    kl_divergence: KLDivergence,
    binary_crossentropy: BinaryCrossentropy,
    categorical_crossentropy: CategoricalCrossentropy,
    sparse_categorical_crossentropy: SparseCategoricalCrossentropy,
}
_NAMES: dict[str, type[Loss]] = {
    **{function.__name__: cls for function, cls in FUNCTIONS.items()},
    **{cls.__name__: cls for cls in FUNCTIONS.values()},
    "bce": BinaryCrossentropy,
    "BCE": BinaryCrossentropy,
    "mse": MeanSquaredError,
    "MSE": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "MAE": MeanAbsoluteError,
    "mape": MeanAbsolutePercentageError,
    "MAPE": MeanAbsolutePercentageError,
    "msle": MeanSquaredLogarithmicError,
    "MSLE": MeanSquaredLogarithmicError,
    "kld": KLDivergence,
    "KLD": KLDivergence,
}


def get(identifier: Any) -> Loss:
    """The loss that `identifier` stands for.

    Args:
        identifier: A name ("binary_crossentropy", "mse", ...), a `Loss`, its class, a configuration
            `{"class_name": ..., "config": {...}}`, a function of this module, or any function
            (y_true, y_pred) -> values, whose gradient is found as `Loss.gradient` says.

    Returns:
        A `Loss`.

    Raises:
        ValueError: Unknown name, or something that is none of these.
    """
    identifier, config = name_and_config("loss", identifier)
    if isinstance(identifier, Loss):
        return identifier
    if isinstance(identifier, str):
        if identifier not in _NAMES:
            known_to_caller = registration.find(identifier)
            if known_to_caller is None:
                raise unknown_name("loss", identifier, _NAMES)
            return get(known_to_caller)
        return _NAMES[identifier].from_config(config)
    if isinstance(identifier, type) and issubclass(identifier, Loss):
        return identifier()
    if callable(identifier):
        known = FUNCTIONS.get(identifier)
        return known() if known is not None else _FunctionLoss(identifier)
    raise ValueError(f"loss: cannot interpret {identifier!r}, expected a name, a Loss or a function")


def _per_row(loss: Loss, y_true: Any, y_pred: Any) -> Array:
    rows: Array = loss(y_true, y_pred)
    return rows
