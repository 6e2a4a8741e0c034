"""Metrics of predictions that may be any number. Floor 4."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lstm_native import losses
from lstm_native.errors import warn
from lstm_native.metrics.base import Array, Metric, same_shape, spread_weights
from lstm_native.metrics.reduction import Mean, MeanMetricWrapper


class MeanSquaredError(MeanMetricWrapper):
    """Mean of squared differences.

    Args:
        name: Default "mean_squared_error".
        dtype: See `Metric`.
    """

    def __init__(self, name: str | None = "mean_squared_error", dtype: Any = None) -> None:
        super().__init__(losses.MeanSquaredError(reduction=None), name, dtype)


class MeanAbsoluteError(MeanMetricWrapper):
    """Mean of absolute differences.

    Args:
        name: Default "mean_absolute_error".
        dtype: See `Metric`.
    """

    def __init__(self, name: str | None = "mean_absolute_error", dtype: Any = None) -> None:
        super().__init__(losses.MeanAbsoluteError(reduction=None), name, dtype)


class LogCoshError(MeanMetricWrapper):
    """Mean of the logarithms of the hyperbolic cosines of differences.

    Args:
        name: Default "logcosh".
        dtype: See `Metric`.
    """

    def __init__(self, name: str | None = "logcosh", dtype: Any = None) -> None:
        super().__init__(losses.LogCosh(reduction=None), name, dtype)


class RootMeanSquaredError(Mean):
    """Square root of the mean of squared differences.

    Args:
        name: Default "root_mean_squared_error".
        dtype: See `Metric`.
    """

    _direction = "down"

    def __init__(self, name: str | None = "root_mean_squared_error", dtype: Any = None) -> None:
        super().__init__(name, dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        """Takes labels and predictions of one shape into account, with weights of elements or of samples."""
        true, pred = same_shape(self.name, y_true, y_pred)
        self._add(np.square(np.subtract(pred, true, dtype=np.float32)), sample_weight)

    def result(self) -> float:
        """The root of the mean since `reset_state`."""
        return math.sqrt(super().result())


class R2Score(Metric):
    """Coefficient of determination: 1 - (squares of errors) / (squares of deviations from the labels' mean).

    Args:
        class_aggregation: "uniform_average" (the mean over the outputs, the default),
            "variance_weighted_average" (weighted with the outputs' squares of deviations) or None (a
            value for each output).
        num_regressors: Number of independent regressors, for the adjusted score; 0 for the plain one
            (the default).
        name: Default "r2_score".
        dtype: See `Metric`.

    Raises:
        ValueError: Another aggregation, or a negative number.
    """

    _direction = "up"
    _AGGREGATIONS = (None, "uniform_average", "variance_weighted_average")

    def __init__(
        self,
        class_aggregation: str | None = "uniform_average",
        num_regressors: int = 0,
        name: str | None = "r2_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(dtype, name)
        if class_aggregation not in self._AGGREGATIONS:
            raise ValueError(
                f"metric {self.name!r}: Invalid value for argument `class_aggregation`: "
                f"{class_aggregation!r}, expected one of {self._AGGREGATIONS}"
            )
        if num_regressors < 0:
            raise ValueError(
                f"metric {self.name!r}: Invalid value for argument `num_regressors`: {num_regressors}, "
                "expected 0 or more"
            )
        self.class_aggregation = class_aggregation
        self.num_regressors = num_regressors
        self.num_samples = self.add_variable((), name="num_samples")
        self._built = False

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes a batch into account.

        Args:
            y_true: Labels, (batch, outputs).
            y_pred: Predictions of the same shape.
            sample_weight: (batch,) or the same shape.

        Raises:
            ValueError: Other shapes, or another number of outputs than before.
        """
        true, pred = same_shape(self.name, y_true, y_pred)
        check_outputs(self, pred, self.count.shape if self._built else None)
        true, pred = true.astype(np.float64), pred.astype(np.float64)
        weights: Array = np.ones(true.shape)
        if sample_weight is not None:
            weights = spread_weights(self.name, sample_weight, true.shape)
        if not self._built:
            self._build(true.shape[1:])
        self.sum.assign_add((weights * true).sum(axis=0))
        self.squared_sum.assign_add((weights * true**2).sum(axis=0))
        self.total_mse.assign_add((weights * (true - pred) ** 2).sum(axis=0))
        self.count.assign_add(weights.sum(axis=0))
        self.num_samples.assign_add(true.size)

    def result(self) -> Any:
        """The score; an array (outputs,) without aggregation."""
        if not self._built:
            return 0.0
        residual = self.total_mse.value
        with np.errstate(divide="ignore", invalid="ignore"):
            total = self.squared_sum.value - self.sum.value**2 / self.count.value
            scores = 1.0 - residual / total
            scores = np.where(np.isinf(scores), 0.0, scores)
            if self.class_aggregation == "uniform_average":
                scores = np.asarray(scores.mean())
            elif self.class_aggregation == "variance_weighted_average":
                scores = np.asarray((total * scores).sum() / total.sum())
        return self._numbers(self._adjusted(scores))

    def _build(self, shape: tuple[int, ...]) -> None:
        self.squared_sum = self.add_variable(shape, name="squared_sum")
        self.sum = self.add_variable(shape, name="sum")
        self.total_mse = self.add_variable(shape, name="residual")
        self.count = self.add_variable(shape, name="count")
        self._built = True

    def _adjusted(self, scores: Array) -> Array:
        n, p = float(self.num_samples), self.num_regressors
        if p == 0:
            return scores
        if p >= n - 1:
            warn(
                f"metric {self.name!r}: {p} regressors for {n:.0f} values leave nothing to adjust the "
                "score with, so it is the plain one"
            )
            return scores
        return 1.0 - (1.0 - scores) * (n - 1.0) / (n - p - 1.0)


def check_outputs(metric: Metric, pred: Array, outputs: tuple[int, ...] | None) -> None:
    """Refuses predictions that are not (batch, outputs), or whose outputs are others than before."""
    if pred.ndim != 2 or outputs not in (None, pred.shape[1:]):
        seen = "" if outputs is None else f" with {outputs[0]} outputs as before"
        raise ValueError(
            f"metric {metric.name!r} expects 2D inputs with shape (batch, outputs){seen}, got {pred.shape}"
        )
