"""Metrics over all thresholds: the area under a curve, the best rate where another is enough. Floor 4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from lstm_native.activations import sigmoid
from lstm_native.errors import check_number
from lstm_native.later import check_room
from lstm_native.metrics.base import Array, ratio, same_shape
from lstm_native.metrics.confusion import ConfusionMetric, given_thresholds

# How far outside [0, 1] the first and the last threshold lie (Keras' epsilon), where no prediction is.
_EPSILON = 1e-7
# The height of a curve between two thresholds, from those at them.
_HEIGHTS: dict[str, Callable[[Array, Array], Array]] = {
    "interpolation": lambda a, b: (a + b) / 2,
    "minoring": np.minimum,
    "majoring": np.maximum,
}


class CurveMetric(ConfusionMetric):
    """Base class of metrics that keep all four counts at many thresholds."""

    _direction = "up"

    def _build(self, labels: tuple[int, ...] = ()) -> None:
        self.true_positives = self.keep("true_positives", labels)
        self.false_positives = self.keep("false_positives", labels)
        self.true_negatives = self.keep("true_negatives", labels)
        self.false_negatives = self.keep("false_negatives", labels)

    def _recall(self) -> Array:
        true = self.true_positives.value
        return ratio(true, true + self.false_negatives)

    def _precision(self) -> Array:
        true = self.true_positives.value
        return ratio(true, true + self.false_positives)

    def _specificity(self) -> Array:
        true = self.true_negatives.value
        return ratio(true, true + self.false_positives)


class AUC(CurveMetric):
    """Area under the ROC curve or another curve of decisions, over a fixed set of thresholds.

    Args:
        num_thresholds: Number of thresholds, spread evenly over [0, 1]; at least 2 (default 200).
        curve: "ROC" (true over false positive rate, the default), "PR" (precision over recall) or
            "PRGAIN" (precision gain over recall gain).
        summation_method: Height between two thresholds: "interpolation" (the mean of both; for "PR" the
            interpolation of the counts; the default), "minoring" (the smaller) or "majoring".
        name: Default "auc".
        dtype: See `Metric`.
        thresholds: Numbers in [0, 1] to use instead; 0 and 1 are added.
        multi_label: Whether every label of the last axis has an area of its own; the result is their
            mean (default False: all are counted together).
        num_labels: Number of labels with `multi_label`; the first batch tells it otherwise.
        label_weights: Weights of the labels, (labels,): in the mean of areas, or of the elements.
        from_logits: Whether predictions are logits (default False).

    Raises:
        ValueError: Fewer than two thresholds, thresholds outside [0, 1], an unknown curve or method,
            `num_labels` without `multi_label`.
    """

    config_attributes: ClassVar[dict[str, str | None]] = {
        "thresholds": "_inner",
        "label_weights": "_given_label_weights",
        "from_logits": "_from_logits",
    }

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: Any = None,
        thresholds: Any = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Any = None,
        from_logits: bool = False,
    ) -> None:
        if str(curve).upper() not in ("PR", "ROC", "PRGAIN"):
            raise ValueError(
                f'AUC: Invalid AUC curve value: "{curve}". Expected values are ["PR", "ROC", "PRGAIN"]'
            )
        if str(summation_method).lower() not in _HEIGHTS:
            raise ValueError(
                f'AUC: Invalid AUC summation method value: "{summation_method}". '
                'Expected values are ["interpolation", "majoring", "minoring"]'
            )
        if num_labels and not multi_label:
            raise ValueError("AUC: num_labels is needed only when multi_label is True")
        if thresholds is None:
            inner = even_thresholds(num_thresholds, "AUC")[1:-1]
        else:
            inner = sorted(given_thresholds(thresholds, 0.5, "AUC"))
        super().__init__([-_EPSILON, *inner, 1.0 + _EPSILON], name=name, dtype=dtype)
        self._inner = None if thresholds is None else inner
        self.num_thresholds = len(self._thresholds)
        self.curve = str(curve).upper()
        self.summation_method = str(summation_method).lower()
        self.multi_label = bool(multi_label)
        self.num_labels = num_labels
        self.label_weights = None if label_weights is None else np.asarray(label_weights, np.float64)
        self._given_label_weights = None if self.label_weights is None else self.label_weights.tolist()
        self._from_logits = bool(from_logits)
        self._built = not self.multi_label or num_labels is not None
        if self._built:
            check_room("AUC: num_labels", self.num_thresholds * (num_labels or 0))
            self._build((num_labels,) if num_labels else ())

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes a batch into account; see `Precision`. With `multi_label`, shapes are (batch, labels)."""
        true, pred = same_shape(self.name, y_true, y_pred)
        labels = 1
        if self.multi_label:
            expected = self.true_positives.shape[1:] if self._built else pred.shape[1:]
            if pred.ndim != 2 or pred.shape[1:] != expected:
                raise ValueError(
                    f"metric {self.name!r}: y_pred has shape {pred.shape}, expected "
                    f"{('batch', *expected) if self._built else '(batch, labels)'} with multi_label"
                )
            labels = pred.shape[1]
        factor = None if self.multi_label else self.label_weights
        if factor is not None and factor.shape != pred.shape[-1:]:
            raise ValueError(
                f"metric {self.name!r}: label_weights have shape {factor.shape}, y_pred has {pred.shape}"
            )
        if not self._built:
            self._build((labels,))
            self._built = True
        pred = sigmoid(pred) if self._from_logits else pred
        self._count(true, np.clip(pred, 0.0, 1.0, dtype=np.float32), sample_weight, factor, labels)

    def result(self) -> float:
        """The area since `reset_state`."""
        if not self._built:
            return 0.0
        if self.curve == "PR" and self.summation_method == "interpolation":
            areas = self._interpolated_pr()
        else:
            x, y = self._points()
            areas = (x[:-1] - x[1:]) * _HEIGHTS[self.summation_method](y[:-1], y[1:])
        by_label = areas.sum(axis=0)
        if not self.multi_label:
            return float(by_label)
        weights = self.label_weights
        return float(by_label.mean() if weights is None else ratio(by_label @ weights, weights.sum()))

    def _points(self) -> tuple[Array, Array]:
        """The curve's points from the lowest to the highest threshold."""
        if self.curve == "ROC":
            negatives = self.false_positives.value + self.true_negatives
            return ratio(self.false_positives.value, negatives), self._recall()
        if self.curve == "PR":
            return self._recall(), self._precision()
        true = self.true_positives.value
        positives = true + self.false_negatives
        scale = ratio(positives, self.true_negatives.value + self.false_positives)
        recall = np.maximum(1.0 - scale * ratio(self.false_negatives.value, true), 0.0)
        precision = 1.0 - scale * ratio(self.false_positives.value, true)
        return np.where(true == 0, 0.0, recall), np.where(true == 0, 1.0, precision)

    def _interpolated_pr(self) -> Array:
        """Areas between thresholds where the counts, not precision itself, go along straight lines.

        Davis and Goadrich, The Relationship Between Precision-Recall and ROC Curves, 2006.
        """
        true, found = self.true_positives.value, self.true_positives.value + self.false_positives
        d_true, d_found = true[:-1] - true[1:], found[:-1] - found[1:]
        slope = ratio(d_true, np.maximum(d_found, 0.0))
        intercept = true[1:] - slope * found[1:]
        both = (found[:-1] > 0) & (found[1:] > 0)
        growth = np.where(both, ratio(found[:-1], np.maximum(found[1:], 0.0)), 1.0)
        positives = np.maximum(true[1:] + self.false_negatives.value[1:], 0.0)
        return ratio(slope * (d_true + intercept * np.log(growth)), positives)


class _BestRate(CurveMetric):
    """The largest value of one rate at the thresholds where another is at least `_required`."""

    def __init__(
        self,
        argument: str,
        required: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        label = type(self).__name__
        self._required = check_number(label, argument, required, "a number in [0, 1]", lambda v: 0 <= v <= 1)
        thresholds = [0.5] if num_thresholds == 1 else even_thresholds(num_thresholds, label)
        super().__init__(thresholds, class_id=class_id, name=name, dtype=dtype)
        self.num_thresholds = num_thresholds
        self._build()

    def _best(self, rate: Array, other: Array) -> float:
        return float(np.max(rate[other >= self._required], initial=0.0))


class SensitivityAtSpecificity(_BestRate):
    """The best sensitivity (recall) at a specificity of at least `specificity`.

    Args:
        specificity: In [0, 1].
        num_thresholds: Number of thresholds, spread evenly over [0, 1] (default 200).
        class_id: The only class of the last axis to look at (default None: all).
        name, dtype: See `Metric`.
    """

    def __init__(self, specificity: float, *common: Any, **options: Any) -> None:
        super().__init__("specificity", specificity, *common, **options)
        self.specificity = self._required

    def result(self) -> float:
        """The best rate since `reset_state`; 0 where none is allowed."""
        return self._best(self._recall(), self._specificity())


class SpecificityAtSensitivity(_BestRate):
    """The best specificity at a sensitivity (recall) of at least `sensitivity`.

    Args:
        sensitivity: In [0, 1].
        num_thresholds, class_id, name, dtype: See `SensitivityAtSpecificity`.
    """

    def __init__(self, sensitivity: float, *common: Any, **options: Any) -> None:
        super().__init__("sensitivity", sensitivity, *common, **options)
        self.sensitivity = self._required

    def result(self) -> float:
        """The best rate since `reset_state`; 0 where none is allowed."""
        return self._best(self._specificity(), self._recall())


class PrecisionAtRecall(_BestRate):
    """The best precision at a recall of at least `recall`.

    Args:
        recall: In [0, 1].
        num_thresholds, class_id, name, dtype: See `SensitivityAtSpecificity`.
    """

    def __init__(self, recall: float, *common: Any, **options: Any) -> None:
        super().__init__("recall", recall, *common, **options)
        self.recall = self._required

    def result(self) -> float:
        """The best rate since `reset_state`; 0 where none is allowed."""
        return self._best(self._precision(), self._recall())


class RecallAtPrecision(_BestRate):
    """The best recall at a precision of at least `precision`.

    Args:
        precision: In [0, 1].
        num_thresholds, class_id, name, dtype: See `SensitivityAtSpecificity`.
    """

    def __init__(self, precision: float, *common: Any, **options: Any) -> None:
        super().__init__("precision", precision, *common, **options)
        self.precision = self._required

    def result(self) -> float:
        """The best rate since `reset_state`; 0 where none is allowed."""
        return self._best(self._recall(), self._precision())


def even_thresholds(number: int, label: str) -> list[float]:
    """`number` thresholds from 0 to 1, at equal distances.

    Raises:
        ValueError: Fewer than two.
    """
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 2:
        raise ValueError(
            f"{label}: Argument `num_thresholds` must be an integer > 1. Received: num_thresholds={number}"
        )
    check_room(f"{label}: num_thresholds", number)
    return [i / (number - 1) for i in range(number)]
