"""Metrics from the losses that few programs use. Floor 4."""

from __future__ import annotations

from typing import Any

from lstm_native import losses
from lstm_native.metrics.reduction import MeanMetricWrapper


class MeanAbsolutePercentageError(MeanMetricWrapper):
    """Mean error in percent of the labels.

    Args:
        name: Default "mean_absolute_percentage_error".
        dtype: See `Metric`.
    """

    def __init__(self, name: str | None = "mean_absolute_percentage_error", dtype: Any = None) -> None:
        super().__init__(losses.MeanAbsolutePercentageError(reduction=None), name, dtype)


class MeanSquaredLogarithmicError(MeanMetricWrapper):
    """Mean of squared differences of logarithms.

    Args:
        name: Default "mean_squared_logarithmic_error".
        dtype: See `Metric`.
    """

    def __init__(self, name: str | None = "mean_squared_logarithmic_error", dtype: Any = None) -> None:
        super().__init__(losses.MeanSquaredLogarithmicError(reduction=None), name, dtype)


class Hinge(MeanMetricWrapper):
    """Mean of margins that are too small.

    Args:
        name: Default "hinge".
        dtype: See `Metric`.
    """

    def __init__(self, name: str | None = "hinge", dtype: Any = None) -> None:
        super().__init__(losses.Hinge(reduction=None), name, dtype)


class SquaredHinge(MeanMetricWrapper):
    """Mean of the squares of margins that are too small.

    Args:
        name: Default "squared_hinge".
        dtype: See `Metric`.
    """

    def __init__(self, name: str | None = "squared_hinge", dtype: Any = None) -> None:
        super().__init__(losses.SquaredHinge(reduction=None), name, dtype)


class CategoricalHinge(MeanMetricWrapper):
    """Mean margin between the right class and the highest other one.

    Args:
        name: Default "categorical_hinge".
        dtype: See `Metric`.
    """

    def __init__(self, name: str | None = "categorical_hinge", dtype: Any = None) -> None:
        super().__init__(losses.CategoricalHinge(reduction=None), name, dtype)


class Poisson(MeanMetricWrapper):
    """Mean Poisson loss.

    Args:
        name: Default "poisson".
        dtype: See `Metric`.
    """

    def __init__(self, name: str | None = "poisson", dtype: Any = None) -> None:
        super().__init__(losses.Poisson(reduction=None), name, dtype)


class CosineSimilarity(MeanMetricWrapper):
    """Mean cosine of the angle between labels and predictions, 1 where they point the same way.

    Args:
        name: Default "cosine_similarity".
        dtype: See `Metric`.
        axis: The last axis; no other one is supported.
    """

    def __init__(self, name: str | None = "cosine_similarity", dtype: Any = None, axis: int = -1) -> None:
        self._loss = losses.CosineSimilarity(axis, None)
        super().__init__(lambda y_true, y_pred: -self._loss(y_true, y_pred), name, dtype)
        self.axis = axis
        self._direction = "up"
