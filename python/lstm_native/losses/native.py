"""What the native losses share: the call of the native module. Floor 4."""

from __future__ import annotations

from typing import Any

from lstm_native import _core
from lstm_native.losses.base import Array, Loss


class NativeLoss(Loss):
    """A loss that the native module computes, known there by `_native`.

    Args:
        reduction, name, dtype: See `Loss`.

    Attributes:
        from_logits: Whether predictions are logits; only cross-entropies look at it.
        parameter: The one number that some losses take, such as delta.
    """

    _native = ""
    _label_dtype = "float32"
    from_logits = False
    parameter = 0.0

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name, reduction, dtype)

    def call(self, y_true: Array, y_pred: Array) -> Array:
        """One value per row."""
        return self._rows_and_gradient(y_true, _core.as_tensor(y_pred, "float32"), None, False, None)[0]

    def _rows_and_gradient(
        self,
        y_true: Array,
        y_pred: _core.Tensor,
        row_weights: _core.Tensor | None,
        need_gradient: bool,
        from_logits: bool | None,
    ) -> tuple[Array, _core.Tensor | None]:
        rows, gradient = _core.loss(
            self._native,
            _core.as_tensor(y_true, self._label_dtype),
            y_pred,
            row_weights,
            self.from_logits if from_logits is None else from_logits,
            self.parameter,
            need_gradient,
        )
        return rows.numpy(), gradient
