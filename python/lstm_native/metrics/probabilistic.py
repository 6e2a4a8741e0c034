"""Metrics of predicted probabilities: the losses of the same names. Floor 4."""

from __future__ import annotations

from typing import Any

from lstm_native import losses
from lstm_native.metrics.reduction import MeanMetricWrapper


class KLDivergence(MeanMetricWrapper):
    """Mean Kullback-Leibler divergence; see `losses.KLDivergence`.

    Args:
        name: Default "kl_divergence".
        dtype: See `Metric`.
    """

    def __init__(self, name: str | None = "kl_divergence", dtype: Any = None) -> None:
        super().__init__(losses.KLDivergence(reduction=None), name, dtype)


class BinaryCrossentropy(MeanMetricWrapper):
    """Mean cross-entropy of yes-or-no labels; see `losses.BinaryCrossentropy`.

    Args:
        name: Default "binary_crossentropy".
        dtype: See `Metric`.
        from_logits, label_smoothing: As the loss has them (default False and 0).
    """

    def __init__(
        self,
        name: str | None = "binary_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0,
    ) -> None:
        loss = losses.BinaryCrossentropy(from_logits, label_smoothing, reduction=None)
        super().__init__(loss, name, dtype)
        self.from_logits = loss.from_logits
        self.label_smoothing = loss.label_smoothing


class CategoricalCrossentropy(MeanMetricWrapper):
    """Mean cross-entropy of labels that are distributions; see `losses.CategoricalCrossentropy`.

    Args:
        name: Default "categorical_crossentropy".
        dtype: See `Metric`.
        from_logits, label_smoothing, axis: As the loss has them (default False, 0 and -1).
    """

    def __init__(
        self,
        name: str | None = "categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0,
        axis: int = -1,
    ) -> None:
        loss = losses.CategoricalCrossentropy(from_logits, label_smoothing, axis, reduction=None)
        super().__init__(loss, name, dtype)
        self.from_logits = loss.from_logits
        self.label_smoothing = loss.label_smoothing
        self.axis = loss.axis


class SparseCategoricalCrossentropy(MeanMetricWrapper):
    """Mean cross-entropy of class numbers; see `losses.SparseCategoricalCrossentropy`.

    Args:
        name: Default "sparse_categorical_crossentropy".
        dtype: See `Metric`.
        from_logits, ignore_class, axis: As the loss has them (default False, None and -1). Rows of the
            ignored class count as zero.
    """

    def __init__(
        self,
        name: str | None = "sparse_categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        ignore_class: int | None = None,
        axis: int = -1,
    ) -> None:
        loss = losses.SparseCategoricalCrossentropy(from_logits, ignore_class, None, axis)
        super().__init__(loss, name, dtype)
        self.from_logits = loss.from_logits
        self.ignore_class = loss.ignore_class
        self.axis = loss.axis
