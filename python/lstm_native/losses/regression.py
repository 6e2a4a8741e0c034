"""Losses of predictions that may be any number; their mathematics is native. Floor 4."""

from __future__ import annotations

from typing import Any

from lstm_native.errors import check_number
from lstm_native.losses.native import NativeLoss


class MeanSquaredError(NativeLoss):
    """Mean of squared differences over the last axis.

    Args:
        reduction, name, dtype: See `Loss`.
    """

    _native = "mean_squared_error"


class MeanAbsoluteError(NativeLoss):
    """Mean of absolute differences over the last axis.

    Args:
        reduction, name, dtype: See `Loss`.
    """

    _native = "mean_absolute_error"


class Huber(NativeLoss):
    """Half the squared difference up to `delta`, a straight line beyond it; the mean over the last axis.

    Args:
        delta: Difference from which on the loss grows linearly, above 0 (default 1.0).
        reduction, name, dtype: See `Loss`.
    """

    _native = "huber"

    def __init__(
        self,
        delta: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "huber_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype)
        expected = "a positive number"
        self.delta = check_number(
            f"loss {self.name!r}", "delta", delta, expected, lambda v: 0 < v < float("inf")
        )
        self.parameter = self.delta


class LogCosh(NativeLoss):
    """Logarithm of the hyperbolic cosine of the difference; the mean over the last axis.

    Close to half the square of small differences and to the size of large ones.

    Args:
        reduction, name, dtype: See `Loss`.
    """

    _native = "log_cosh"
