"""Metrics that are weighted sums and means of values. Floor 4."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from lstm_native import losses
from lstm_native.arrays import to_numpy
from lstm_native.metrics.base import Array, Metric, spread_weights


class Sum(Metric):
    """Weighted sum of values.

    Args:
        name: Default "sum".
        dtype: See `Metric`.
    """

    def __init__(self, name: str | None = "sum", dtype: Any = None) -> None:
        super().__init__(dtype, name)
        self.total = self.add_variable((), name="total")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Takes `values` (batch, ...) into account, with weights of the same or a lower rank."""
        values = to_numpy(values, self.name, "values")
        if sample_weight is not None:
            values = _weighted(values, spread_weights(self.name, sample_weight, values.shape))
        self.total.assign_add(values.sum(dtype=np.float64))

    def result(self) -> float:
        """The sum of everything since `reset_state`."""
        return float(self.total)


class Mean(Metric):
    """Weighted mean of values; a sample of several values counts as their mean.

    Args:
        name: Default "mean".
        dtype: See `Metric`.
    """

    def __init__(self, name: str | None = "mean", dtype: Any = None) -> None:
        super().__init__(dtype, name)
        self.total = self.add_variable((), name="total")
        self.count = self.add_variable((), name="count")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Takes `values` (batch, ...) into account, with weights of the same or a lower rank."""
        self._add(to_numpy(values, self.name, "values"), sample_weight)

    def result(self) -> float:
        """Total over count; 0.0 when nothing was counted."""
        return float(self.total) / float(self.count) if self.count else 0.0

    def reset_state(self) -> None:
        """Sets total and count to zero."""
        self.total.set_to_zero()
        self.count.set_to_zero()

    def _add(self, values: Array, sample_weight: Any) -> None:
        steps = math.prod(values.shape[1:])  # a sample counts once, however many values it has
        if steps == 0:
            return
        if sample_weight is None:
            count = float(len(values)) if values.ndim else 1.0
            boolean = values.dtype == np.bool_
            total = float(np.count_nonzero(values) if boolean else values.sum(dtype=np.float64)) / steps
        else:
            weights = spread_weights(self.name, sample_weight, values.shape)
            count = float(weights.sum()) / steps
            total = float(_weighted(values, weights).sum()) / steps
        self.total.assign_add(total)
        self.count.assign_add(count)


class MeanMetricWrapper(Mean):
    """Mean of a function (y_true, y_pred) -> values per sample.

    Args:
        fn: The function, or a loss.
        name: Default: the name of `fn`.
        dtype: See `Metric`.
        **kwargs: More arguments of `fn`.
    """

    config_attributes: ClassVar[dict[str, str | None]] = {"fn": "_fn"}

    def __init__(
        self, fn: Callable[..., Any], name: str | None = None, dtype: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(name or getattr(fn, "__name__", None) or getattr(fn, "name", None), dtype)
        self._fn = fn
        self._kwargs = kwargs
        if isinstance(fn, losses.Loss) or fn in losses.FUNCTIONS:
            self._direction = "down"

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        """Takes a batch into account.

        Args:
            y_true: Labels.
            y_pred: Predictions.
            sample_weight: Weights of the values that the function gives, or of whole samples.

        Raises:
            ValueError: Shapes that do not fit.
        """
        if not (isinstance(self._fn, losses.Loss) or self._fn in losses.FUNCTIONS):
            # Copies, for `y_pred -= y_true` in there.
            y_true, y_pred = (x.copy() if isinstance(x, np.ndarray) else x for x in (y_true, y_pred))
        self._add(np.asarray(self._fn(y_true, y_pred, **self._kwargs)), sample_weight)

    def arguments(self, taken: Any = None) -> dict[str, Any]:
        """See `Configurable`; with those of `fn`."""
        own = self._kwargs if type(self) is MeanMetricWrapper else {}
        return super().arguments(taken) | own


def _weighted(values: Array, weights: Array) -> Array:
    # A value that does not count must not count even where it is NaN or infinite.
    with np.errstate(invalid="ignore"):
        return np.where(weights != 0, values * weights, 0.0)
