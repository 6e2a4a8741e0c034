"""F-scores: precision and recall in one number. Floor 4."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_native.errors import check_number
from lstm_native.metrics.base import Array, Metric, MetricVariable, same_shape, spread_weights
from lstm_native.metrics.regression import check_outputs

# Keras' epsilon in the denominators.
_EPSILON = 1e-7


class FBetaScore(Metric):
    """Harmonic mean of precision and recall, recall counting `beta` times as much.

    Args:
        average: None (a score for each class, the default), "micro" (one score of all counts together),
            "macro" (the mean over the classes) or "weighted" (weighted with the classes' labels).
        beta: Weight of recall, above 0 (default 1.0).
        threshold: Predictions above it are positives; None (the default) takes the largest of each row.
        name: Default "fbeta_score".
        dtype: See `Metric`.

    Raises:
        ValueError: Another average, a `beta` that is not positive, a threshold outside (0, 1].
    """

    _direction = "up"

    def __init__(
        self,
        average: str | None = None,
        beta: float = 1.0,
        threshold: float | None = None,
        name: str | None = "fbeta_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(dtype, name)
        label = f"metric {self.name!r}"
        if average not in (None, "micro", "macro", "weighted"):
            raise ValueError(
                f"{label}: average is {average!r}, expected None, 'micro', 'macro' or 'weighted'"
            )
        self.average = average
        self.beta = check_number(label, "beta", beta, "a positive number", lambda b: 0 < b < float("inf"))
        self.threshold = threshold
        if threshold is not None:
            expected = "a number above 0, at most 1, or None"
            check_number(label, "threshold", threshold, expected, lambda t: 0 < t <= 1)
        self._built = False

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes a batch into account.

        Args:
            y_true: Labels 0 or 1, (batch, classes).
            y_pred: Predictions of the same shape.
            sample_weight: Weights of the samples, (batch,).

        Raises:
            ValueError: Other shapes, or another number of classes than before.
        """
        given_true, given_pred = same_shape(self.name, y_true, y_pred)
        check_outputs(self, given_pred, (self._classes,) if self._built else None)
        true, pred = given_true.astype(np.float64), given_pred.astype(np.float32, copy=False)
        if self.threshold is None:
            # A row of zeros has no largest prediction.
            positive = (pred >= pred.max(axis=-1, keepdims=True)) & (np.abs(pred) > 1e-9)
        else:
            positive = pred > self.threshold
        weights: Array = np.ones(pred.shape)
        if sample_weight is not None:
            weights = spread_weights(self.name, sample_weight, pred.shape)
        if not self._built:
            self._build(pred.shape[1])
        for variable, values in (
            (self.true_positives, positive * true),
            (self.false_positives, positive * (1.0 - true)),
            (self.false_negatives, ~positive * true),
            (self.intermediate_weights, true),
        ):
            variable.assign_add((values * weights).sum(axis=None if self.average == "micro" else 0))

    def result(self) -> Any:
        """The score since `reset_state`; an array (classes,) without average."""
        if not self._built:
            return 0.0
        true = self.true_positives.value
        precision = true / (true + self.false_positives + _EPSILON)
        recall = true / (true + self.false_negatives + _EPSILON)
        square = self.beta**2
        scores = (1.0 + square) * (precision * recall / (square * precision + recall + _EPSILON))
        if self.average == "weighted":
            weights = self.intermediate_weights.value
            scores = np.asarray((scores * weights).sum() / (weights.sum() + _EPSILON))
        elif self.average is not None:
            scores = np.asarray(scores.mean())
        return self._numbers(scores)

    def _build(self, classes: int) -> None:
        shape = () if self.average == "micro" else (classes,)

        def keep(name: str) -> MetricVariable:
            return self.add_variable(shape, name=name)

        self._classes = classes
        self.true_positives = keep("true_positives")
        self.false_positives = keep("false_positives")
        self.false_negatives = keep("false_negatives")
        self.intermediate_weights = keep("intermediate_weights")
        self._built = True


class F1Score(FBetaScore):
    """Harmonic mean of precision and recall.

    Args:
        average, threshold, dtype: See `FBetaScore`.
        name: Default "f1_score".
    """

    def __init__(
        self,
        average: str | None = None,
        threshold: float | None = None,
        name: str | None = "f1_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(average, 1.0, threshold, name, dtype)
