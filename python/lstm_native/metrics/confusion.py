"""Metrics of right and wrong decisions: counts of true and false positives and negatives, and their ratios.

A prediction above a threshold is a positive. All thresholds are counted in one pass over a batch. Floor 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from lstm_native.arrays import optional_int
from lstm_native.metrics.base import Array, Metric, MetricVariable, ratio, same_shape, spread_weights

# Below every threshold. What `top_k` leaves out is set to it, and with `top_k` alone it is the threshold.
_LOWEST = -1e10


class Counts(NamedTuple):
    """Weighted numbers of elements, (thresholds,) or (thresholds, labels)."""

    true_positives: Array
    false_positives: Array
    true_negatives: Array
    false_negatives: Array


class ConfusionMetric(Metric):
    """Base class of metrics made from counts at thresholds; subclasses `keep` counts and define `result`.

    Args:
        thresholds: Numbers that a prediction must exceed to be a positive.
        top_k: How many of the largest predictions of a row may be positives; None for all.
        class_id: The class of the last axis that is looked at; None for all.
        name, dtype: See `Metric`.
    """

    def __init__(
        self,
        thresholds: Sequence[float],
        *,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(dtype, name)
        self._thresholds = list(thresholds)
        self.top_k = optional_int(top_k, f"metric {self.name!r}", "top_k")
        self.class_id = class_id
        self._kept: dict[str, MetricVariable] = {}

    @property
    def thresholds(self) -> list[float]:
        """Numbers that a prediction must exceed to be a positive."""
        return list(self._thresholds)

    def keep(self, count: str, labels: tuple[int, ...] = (), name: str | None = None) -> MetricVariable:
        """A variable that sums the field `count` of `Counts`; `labels` is () or (labels,)."""
        variable = self.add_variable((len(self._thresholds), *labels), name=name or count)
        self._kept[count] = variable
        return variable

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes a batch into account.

        Args:
            y_true: Labels 0 or 1, in the shape of the predictions.
            y_pred: Predictions in [0, 1].
            sample_weight: A number, or weights of samples or of elements.

        Raises:
            ValueError: Shapes that do not fit.
        """
        true, pred = same_shape(self.name, y_true, y_pred)
        self._count(true, pred.astype(np.float32, copy=False), sample_weight)

    def _count(
        self, true: Array, pred: Array, sample_weight: Any, factor: Array | None = None, labels: int = 1
    ) -> None:
        """Adds the counts of a batch, weighted with `factor` too; by the last axis where `labels` > 1."""
        weights = None if sample_weight is None else spread_weights(self.name, sample_weight, pred.shape)
        if factor is not None:
            weights = np.broadcast_to(factor, pred.shape) * (1.0 if weights is None else weights)
        if self.top_k is not None:
            pred = _only_largest(pred, self.top_k)
        if self.class_id is not None:
            true, pred, weights = self._of_class(true, pred, weights)
        counts = count_decisions(true, pred, np.asarray(self._thresholds, np.float32), weights, labels)
        for count, variable in self._kept.items():
            variable.assign_add(getattr(counts, count).reshape(variable.shape))

    def _of_class(self, true: Array, pred: Array, weights: Array | None) -> tuple[Array, Array, Array | None]:
        chosen = self.class_id
        if pred.ndim < 2:
            raise ValueError(
                f"metric {self.name!r}: When class_id is provided, y_pred must be a 2D array with shape "
                f"(num_samples, num_classes), found shape: {pred.shape}"
            )
        if not isinstance(chosen, int | np.integer) or not 0 <= chosen < pred.shape[-1]:
            raise ValueError(
                f"metric {self.name!r}: class_id is {chosen!r}, expected a class in [0, {pred.shape[-1]})"
            )
        return true[..., chosen], pred[..., chosen], None if weights is None else weights[..., chosen]

    def _by_threshold(self, values: Array) -> Any:
        """A number where there is one threshold, else an array (thresholds,)."""
        return self._numbers(values[0] if len(self._thresholds) == 1 else values)


class _Count(ConfusionMetric):
    """A count itself, named by `_counted`."""

    config_attributes: ClassVar[dict[str, str | None]] = {"thresholds": "init_thresholds"}
    _counted = ""

    def __init__(self, thresholds: Any = None, name: str | None = None, dtype: Any = None) -> None:
        label = type(self).__name__
        super().__init__(given_thresholds(thresholds, 0.5, label), name=name, dtype=dtype)
        self.init_thresholds = thresholds
        self.accumulator = self.keep(self._counted, name="accumulator")

    def result(self) -> Any:
        """The weighted number since `reset_state`; an array (thresholds,) for several thresholds."""
        return self._by_threshold(self.accumulator.value)


class TruePositives(_Count):
    """Number of labels 1 whose prediction is above the threshold.

    Args:
        thresholds: A number or numbers in [0, 1] (default 0.5).
        name, dtype: See `Metric`.
    """

    _counted = "true_positives"


class FalsePositives(_Count):
    """Number of labels 0 whose prediction is above the threshold.

    Args:
        thresholds, name, dtype: See `TruePositives`.
    """

    _counted = "false_positives"


class TrueNegatives(_Count):
    """Number of labels 0 whose prediction is not above the threshold.

    Args:
        thresholds, name, dtype: See `TruePositives`.
    """

    _counted = "true_negatives"


class FalseNegatives(_Count):
    """Number of labels 1 whose prediction is not above the threshold.

    Args:
        thresholds, name, dtype: See `TruePositives`.
    """

    _counted = "false_negatives"


class _ShareOfTrue(ConfusionMetric):
    """True positives over these and another count."""

    config_attributes: ClassVar[dict[str, str | None]] = {"thresholds": "init_thresholds"}
    _direction = "up"

    def __init__(
        self,
        thresholds: Any = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        default = 0.5 if top_k is None else _LOWEST
        given = given_thresholds(thresholds, default, type(self).__name__)
        super().__init__(given, top_k=top_k, class_id=class_id, name=name, dtype=dtype)
        self.init_thresholds = thresholds
        self.true_positives = self.keep("true_positives")

    def _share(self, others: MetricVariable) -> Any:
        true = self.true_positives.value
        return self._by_threshold(ratio(true, true + others))


class Precision(_ShareOfTrue):
    """How much of what is predicted positive is so.

    Args:
        thresholds: A number or numbers in [0, 1] that a prediction must exceed to be a positive
            (default 0.5; with `top_k` none).
        top_k: Only the `top_k` largest predictions of a row may be positives (default None: all).
        class_id: The only class of the last axis to look at (default None: all).
        name, dtype: See `Metric`.

    Raises:
        ValueError: Thresholds outside [0, 1].
    """

    def __init__(self, *common: Any, **options: Any) -> None:
        super().__init__(*common, **options)
        self.false_positives = self.keep("false_positives")

    def result(self) -> Any:
        """The share since `reset_state`, 0 without positives; an array for several thresholds."""
        return self._share(self.false_positives)


class Recall(_ShareOfTrue):
    """How much of what is positive is predicted so.

    Args:
        thresholds, top_k, class_id, name, dtype: See `Precision`.

    Raises:
        ValueError: Thresholds outside [0, 1].
    """

    def __init__(self, *common: Any, **options: Any) -> None:
        super().__init__(*common, **options)
        self.false_negatives = self.keep("false_negatives")

    def result(self) -> Any:
        """The share since `reset_state`, 0 without positive labels; an array for several thresholds."""
        return self._share(self.false_negatives)


def given_thresholds(thresholds: Any, default: float, label: str) -> list[float]:
    """Thresholds as a list; `default` where there are none.

    Raises:
        ValueError: Something that is no number in [0, 1].
    """
    if thresholds is None:
        return [default]
    values = list(thresholds) if isinstance(thresholds, list | tuple | np.ndarray) else [thresholds]
    wrong = [t for t in values if not isinstance(t, int | float | np.number) or not 0 <= t <= 1]
    if wrong or not values:
        raise ValueError(f"{label}: Threshold values must be in [0, 1]. Received: {wrong}")
    return values


def count_decisions(
    true: Array, pred: Array, thresholds: Array, weights: Array | None = None, labels: int = 1
) -> Counts:
    """Weighted numbers of right and wrong decisions at every threshold.

    Args:
        true: Labels; anything but zero is positive.
        pred: float32 predictions of the same shape; NaN is above no threshold.
        thresholds: float32, (thresholds,), in any order.
        weights: Weights in the same shape, or None for ones.
        labels: 1 for all elements together, or the size of the last axis to count along it.

    Returns:
        Counts of shape (thresholds,), or (thresholds, labels) where `labels` > 1.
    """
    order = np.argsort(thresholds, kind="stable")
    levels = len(thresholds) + 1
    # The level of a prediction is the number of thresholds that it exceeds.
    level = np.searchsorted(thresholds[order], pred, side="left")
    cell = np.where(np.isnan(pred), 0, level) + levels * labels * (true != 0)
    if labels > 1:
        cell += levels * np.arange(labels)
    flat = None if weights is None else np.ravel(weights)
    histogram = np.bincount(cell.ravel(), flat, 2 * labels * levels).reshape(2, labels, levels)
    below = histogram.cumsum(axis=-1)[..., :-1]
    above = histogram[..., ::-1].cumsum(axis=-1)[..., -2::-1]
    rank = np.argsort(order)
    (tn, fn), (fp, tp) = (
        (c[..., rank].T if labels > 1 else c[0, rank] for c in half) for half in (below, above)
    )
    return Counts(tp, fp, tn, fn)


def _only_largest(pred: Array, k: int) -> Array:
    """`pred` where it is among the `k` largest of its row (of equal ones the first), else the lowest."""
    largest = np.argsort(-pred, axis=-1, kind="stable")[..., :k]
    kept = np.full_like(pred, _LOWEST)
    np.put_along_axis(kept, largest, np.take_along_axis(pred, largest, axis=-1), axis=-1)
    return kept
