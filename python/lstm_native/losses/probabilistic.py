"""Losses of probabilities, or of their logits; their mathematics is native. Floor 4."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_native import _core
from lstm_native.errors import check_number
from lstm_native.losses.base import Array, Shape
from lstm_native.losses.native import NativeLoss


class KLDivergence(NativeLoss):
    """Kullback-Leibler divergence of predicted from given probabilities: the sum over the last axis.

    Both are clipped to [1e-7, 1].

    Args:
        reduction, name, dtype: See `Loss`.
    """

    _native = "kl_divergence"


class _Crossentropy(NativeLoss):
    """What the three cross-entropies share."""

    _activation = ""

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        *common: Any,
        **options: Any,
    ) -> None:
        super().__init__(*common, **options)
        owner = f"loss {self.name!r}"
        self.label_smoothing = check_number(
            owner, "label_smoothing", label_smoothing, "0 to 1", lambda v: 0 <= v <= 1
        )
        if isinstance(axis, bool) or not isinstance(axis, int):
            raise ValueError(f"{owner}: axis is {axis!r}, expected an integer")
        self.from_logits = bool(from_logits)
        self.parameter = self.label_smoothing
        self.axis = axis
        self.logits_activation = None if self.from_logits else self._activation

    def prepare(self, y_true: Any, y_pred_shape: Shape) -> Array:
        """See `Loss.prepare`."""
        self._check_axis(len(tuple(y_pred_shape)))
        return super().prepare(y_true, y_pred_shape)

    def _check_axis(self, rank: int) -> None:
        if self.axis not in (-1, rank - 1):
            raise ValueError(
                f"loss {self.name!r}: axis is {self.axis}, only the last axis of the predictions is supported"
            )


class BinaryCrossentropy(_Crossentropy):
    """Cross-entropy of yes-or-no labels: the mean over the last axis.

    Computed from probabilities it clips them to [1e-7, 1 - 1e-7]; computed from logits it is exact.

    Args:
        from_logits: Whether predictions are logits rather than probabilities (default False).
        label_smoothing: Pulls labels towards 0.5: 0 none, 1 entirely (default 0.0).
        axis: The last axis; no other one is supported.
        reduction, name, dtype: See `Loss`.
    """

    _native = "binary_crossentropy"
    _activation = "sigmoid"


class CategoricalCrossentropy(_Crossentropy):
    """Cross-entropy of labels that are a distribution over classes, usually one-hot.

    Args:
        from_logits: Whether predictions are logits rather than probabilities (default False).
        label_smoothing: Share of every label that is spread evenly over the classes (default 0.0).
        axis: The last axis, that of the classes; no other one is supported.
        reduction, name, dtype: See `Loss`.
    """

    _native = "categorical_crossentropy"
    _activation = "softmax"


class SparseCategoricalCrossentropy(_Crossentropy):
    """Cross-entropy of labels that are class numbers.

    Args:
        from_logits: Whether predictions are logits rather than probabilities (default False).
        ignore_class: A label whose rows do not count (default None).
        reduction, name: See `Loss`.
        axis: The last axis, that of the classes; no other one is supported.
        dtype: See `Loss`.
    """

    _native = "sparse_categorical_crossentropy"
    _label_dtype = "int32"
    _activation = "softmax"

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        axis: int = -1,
        name: str | None = "sparse_categorical_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(from_logits, 0.0, axis, reduction, name, dtype)
        if ignore_class is not None and not isinstance(ignore_class, int | np.integer):
            raise ValueError(
                f"loss {self.name!r}: ignore_class is {ignore_class!r}, expected an integer or None"
            )
        self.ignore_class = ignore_class

    def prepare(self, y_true: Any, y_pred_shape: Shape) -> Array:
        """Class numbers as int32, in the shape of the rows.

        Args:
            y_true: Whole numbers in [0, classes) (or `ignore_class`): (n, ...) or (n, ..., 1).
            y_pred_shape: Shape of the predictions; None stands for any size.

        Returns:
            int32 array of the predictions' shape without its last axis.

        Raises:
            ValueError: Labels that do not fit, are not whole, or lie outside [0, classes).
            TypeError: Labels that are no numbers.
        """
        want = tuple(y_pred_shape)
        self._check_axis(len(want))
        given = np.asarray(y_true)
        if given.ndim == len(want) and given.ndim and given.shape[-1] == 1:
            given = given[..., 0]
        self._check_shape(given.shape, want[:-1], y_true)
        if given.dtype.kind not in "biuf":
            raise TypeError(f"loss {self.name!r}: labels have dtype {given.dtype}, expected whole numbers")
        classes = want[-1]
        ok = np.ones(given.shape, np.bool_) if given.dtype.kind != "f" else given == np.floor(given)
        ok &= given >= 0
        if classes is not None:
            ok &= given < classes
        if self.ignore_class is not None:
            ok |= given == self.ignore_class
        if not ok.all():
            raise ValueError(
                f"loss {self.name!r}: label {given[~ok].flat[0]} found, predictions have {classes} classes, "
                f"so whole numbers in [0, {classes}) are expected"
            )
        return np.asarray(given, dtype=np.int32, order="C")

    def _rows_and_gradient(
        self,
        y_true: Array,
        y_pred: _core.Tensor,
        row_weights: _core.Tensor | None,
        need_gradient: bool,
        from_logits: bool | None,
    ) -> tuple[Array, _core.Tensor | None]:
        if self.ignore_class is None:
            return super()._rows_and_gradient(y_true, y_pred, row_weights, need_gradient, from_logits)
        # Ignored rows get weight zero; the native loss only needs a class that exists.
        ignored = y_true == self.ignore_class
        y_true = np.where(ignored, np.int32(0), y_true)
        rows, gradient = super()._rows_and_gradient(y_true, y_pred, row_weights, need_gradient, from_logits)
        return np.where(ignored, np.float32(0), rows), gradient

    def _valid_rows(self, y_true: Array, mask: Array | None) -> Array | None:
        if self.ignore_class is None:
            return mask
        valid: Array = y_true != self.ignore_class
        if mask is not None:
            valid &= self._spread(np.asarray(mask, np.bool_), valid.shape, "mask")
        return valid

    def _rule_of_shapes(self, want: Shape) -> str:
        return f"labels of shape {tuple(want)} or {(*want, 1)} are expected"
