"""Base class of losses: labels, row weights and reduction. Floor 4.

A loss gives one value per row, a row being all axes but the last. Row weights (sample weights, mask,
reduction) are folded together here, so that the native kernels know a single form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lstm_native import _core
from lstm_native.arrays import to_float32
from lstm_native.configurable import Configurable
from lstm_native.errors import unknown_name
from lstm_native.naming import snake_case
from lstm_native.traced import Traced, recording, value_of

Array = npt.NDArray[Any]
Shape = Sequence[int | None]

_REDUCTIONS = ("sum_over_batch_size", "mean", "sum", "mean_with_sample_weight", "none", None)


class Loss(Configurable):
    """Base class of losses.

    Subclasses define `call(y_true, y_pred)`, which gives one value per row, and, to be trained with,
    `gradient(y_true, y_pred, row_weights)`.

    Args:
        name: Name in messages; the class's name in snake case when None.
        reduction: "sum_over_batch_size" or "mean" (the sum divided by the number of rows, the
            default), "sum", "mean_with_sample_weight" (divided by the sum of the weights), "none"
            or None (no reduction: the rows' values; such a loss cannot be trained with).
        dtype: float32, the type of every computation; None means the same.

    Raises:
        ValueError: Unknown `reduction`, or another dtype.

    Attributes:
        logits_activation: Output activation that the loss can be computed without, from logits:
            "sigmoid", "softmax" or None.
    """

    logits_activation: str | None = None
    config_attributes: ClassVar[dict[str, str | None]] = {"dtype": None}

    def __init__(
        self, name: str | None = None, reduction: str | None = "sum_over_batch_size", dtype: Any = None
    ) -> None:
        if reduction not in _REDUCTIONS:
            raise unknown_name("reduction", reduction, [r for r in _REDUCTIONS if r])
        if dtype is not None and np.dtype(dtype) != np.float32:
            raise ValueError(f"{type(self).__name__}: dtype is {dtype!r}, expected float32")
        self.name = name or snake_case(type(self).__name__)
        self.reduction = None if reduction == "none" else reduction

    @property
    def dtype(self) -> str:
        """Type of every computation."""
        return "float32"

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The loss of a batch.

        Args:
            y_true: Labels that fit `y_pred`.
            y_pred: Predictions, (batch, ..., features).
            sample_weight: Weights of rows: a number, (batch,), or the shape of the rows.

        Returns:
            np.float32; without reduction a float32 array, a value per row.

        Raises:
            ValueError: Labels or weights that do not fit.
        """
        if isinstance(y_pred, Traced):
            return self._traced(value_of(y_true), y_pred, value_of(sample_weight))
        pred = self._float32(y_pred, "y_pred")
        if pred.ndim == 0:
            raise ValueError(f"{self.name}: y_pred is a single number, expected (batch, ...)")
        labels = np.asarray(y_true)
        if pred.ndim == 1 and labels.ndim == 2 and labels.shape[-1] == 1:
            pred = pred[:, None]
        labels = self.prepare(labels, pred.shape)
        rows = _spread_to_rows(self.call(labels.copy(), pred.copy()), pred.shape)
        weights, divisor = self._row_weights(rows.shape, sample_weight, self._valid_rows(labels, None))
        if weights is not None:
            rows = _weighted(rows, weights)
        if self.reduction is None:
            return rows
        return np.float32(rows.sum(dtype=np.float64) / divisor if divisor else 0.0)

    def call(self, y_true: Array, y_pred: Array) -> Array:
        """One value per row. `y_true` comes from `prepare`, both are NumPy arrays."""
        raise NotImplementedError(f"{type(self).__name__} does not define call(y_true, y_pred)")

    def gradient(self, y_true: Array, y_pred: Array, row_weights: Array) -> Array:
        """The derivative of `sum(row_weights * call(y_true, y_pred))` for `y_pred`, in its shape.

        By default found by going backwards through what `call` computes with operators, NumPy's functions
        and those of `lstm_native.ops`.

        Raises:
            RuntimeError: `call` makes nothing of `y_pred` that has a gradient.
        """
        with recording(True) as tape:
            pred = Traced(y_pred, tape)
            rows = self.call(y_true.copy(), pred)  # type: ignore[arg-type]
        if not isinstance(rows, Traced) or not rows.is_float:
            raise RuntimeError(
                f"loss {self.name!r} has no gradient: what it returns does not depend on y_pred by "
                "operators, NumPy's functions or those of lstm_native.ops"
            )
        gradient_of, _ = tape.backward([rows], [_weights_of(rows.value, row_weights)])
        found = gradient_of(pred)
        return np.zeros_like(y_pred) if found is None else found

    def check_usable(self) -> None:
        """Raises what `forward_backward` would raise whatever the batch.

        Raises:
            ValueError: The loss has no reduction.
        """
        if self.reduction is None:
            raise ValueError(
                f"loss {self.name!r}: reduction is None, so there is no single number to train with"
            )

    def _traced(self, y_true: Any, y_pred: Traced, sample_weight: Any) -> Any:
        """`__call__` inside a loss or layer written in Python."""
        from lstm_native import ops  # which is made of layers

        labels = self.prepare(np.asarray(y_true), y_pred.shape)
        tensor = _core.as_tensor(y_pred.value, "float32")
        rows = Traced(self._rows_and_gradient(labels, tensor, None, False, None)[0], y_pred.tape)

        def back(gradient: Array) -> list[Any]:
            weights = _core.as_tensor(np.ascontiguousarray(gradient), "float32")
            found = self._rows_and_gradient(labels, tensor, weights, True, None)[1]
            return [None if found is None else found.numpy()]

        y_pred.tape.add([rows], [y_pred], back)
        weights, divisor = self._row_weights(rows.shape, sample_weight, self._valid_rows(labels, None))
        result = rows if weights is None else rows * weights
        if self.reduction is None:
            return result
        return ops.sum(result) * np.float32(1 / divisor if divisor else 0)

    def prepare(self, y_true: Any, y_pred_shape: Shape) -> Array:
        """Labels in the form that `forward_backward` takes. Done once for many batches.

        Args:
            y_true: Labels, array-like.
            y_pred_shape: Shape of the predictions; None stands for any size.

        Returns:
            float32 array of the predictions' rank; (n,) becomes (n, 1) and (n, 1) becomes (n,)
            where the predictions ask for it.

        Raises:
            ValueError: Labels that do not fit, with both shapes.
            TypeError: Labels that are no numbers.
        """
        labels = self._float32(y_true, "y_true")
        want = tuple(y_pred_shape)
        if want and labels.ndim == len(want) - 1 and want[-1] == 1:
            labels = labels[..., None]
        elif labels.ndim == len(want) + 1 and labels.shape[-1] == 1:
            labels = labels[..., 0]
        self._check_shape(labels.shape, want, y_true)
        return labels

    def forward_backward(
        self,
        y_true: Array,
        y_pred: _core.Tensor,
        sample_weight: Array | None = None,
        mask: Array | None = None,
        *,
        need_gradient: bool,
        from_logits: bool | None = None,
    ) -> tuple[float, _core.Tensor | None]:
        """The reduced loss of one batch and, on request, its gradient.

        Args:
            y_true: Labels from `prepare`.
            y_pred: float32 predictions (batch, ..., features), or logits.
            sample_weight: Weights of rows: (batch,) or the shape of the rows.
            mask: bool, the shape of the rows or its leading part; rows that are False do not count.
            need_gradient: Whether to compute the gradient.
            from_logits: Whether `y_pred` holds logits; None takes the loss's own setting.

        Returns:
            The loss and the gradient of `y_pred` (None unless asked for).

        Raises:
            ValueError: Weights of another shape, or a loss without reduction.
            RuntimeError: A loss of the user's without `gradient`, when one is needed.
        """
        self.check_usable()
        row_shape = y_pred.shape[:-1]
        weights: Array | None = None
        mask = self._valid_rows(y_true, mask)
        if sample_weight is None and mask is None:
            divisor = self._plain_divisor(math.prod(row_shape))
        else:
            weights, divisor = self._row_weights(row_shape, sample_weight, mask)
        scale = 1.0 / divisor if divisor else 0.0
        native_weights = None
        if need_gradient and (weights is not None or scale != 1.0):
            if weights is None:
                native_weights = _constant(row_shape, scale)
            else:
                native_weights = _core.as_tensor(weights * np.float32(scale), "float32")
        rows, gradient = self._rows_and_gradient(y_true, y_pred, native_weights, need_gradient, from_logits)
        if weights is not None:
            rows = _weighted(rows, weights)
            if gradient is not None:
                # Zero times NaN is NaN, but a row that does not count must not reach the weights.
                values = gradient.numpy()
                values[weights == 0] = 0.0
                gradient = _core.as_tensor(values, "float32")
        # float64, so that the reported loss does not depend on how NumPy splits a sum.
        total = rows.item() if rows.size == 1 else float(rows.sum(dtype=np.float64))
        return total * scale, gradient

    def _rows_and_gradient(
        self,
        y_true: Array,
        y_pred: _core.Tensor,
        row_weights: _core.Tensor | None,
        need_gradient: bool,
        from_logits: bool | None,
    ) -> tuple[Array, _core.Tensor | None]:
        pred = y_pred.numpy()
        gradient = None
        if need_gradient:
            weights = np.ones(pred.shape[:-1], np.float32) if row_weights is None else row_weights.numpy()
            gradient = _core.as_tensor(self.gradient(y_true, pred, weights), "float32")
            if gradient.shape != y_pred.shape:
                raise ValueError(
                    f"loss {self.name!r}: gradient() gave shape {gradient.shape}, expected {y_pred.shape}"
                )
        # Copies, for `y_pred -= y_true` in there.
        values = np.asarray(self.call(y_true.copy(), pred.copy()), np.float32)
        return _spread_to_rows(values, pred.shape), gradient

    def _valid_rows(self, y_true: Array, mask: Array | None) -> Array | None:
        """`mask` together with what the labels themselves mask."""
        return mask

    def _plain_divisor(self, count: int) -> float:
        return 1.0 if self.reduction == "sum" else float(count)

    def _row_weights(
        self, row_shape: tuple[int, ...], sample_weight: Any, mask: Array | None
    ) -> tuple[Array | None, float]:
        """Weights in the shape of the rows and what the weighted sum is divided by."""
        weights: Array | None = None
        divisor = self._plain_divisor(math.prod(row_shape))
        if sample_weight is not None:
            weights = self._spread(self._float32(sample_weight, "sample_weight"), row_shape, "sample_weight")
        if mask is not None:
            valid = self._spread(np.asarray(mask, dtype=np.bool_), row_shape, "mask")
            # Means run over the valid rows only. Whoever masks everything gets a loss of zero.
            if self.reduction in ("mean", "sum_over_batch_size"):
                divisor = float(np.count_nonzero(valid))
            weights = valid.astype(np.float32) if weights is None else np.where(valid, weights, np.float32(0))
        if self.reduction == "mean_with_sample_weight" and weights is not None:
            divisor = float(weights.sum(dtype=np.float64))
        return weights, divisor

    def _spread(self, values: Array, row_shape: tuple[int, ...], argument: str) -> Array:
        shape = values.shape
        if shape == row_shape:
            return values
        if len(shape) == len(row_shape) + 1 and shape[-1] == 1:
            values = values[..., 0]
        elif len(shape) < len(row_shape):
            # A weight of a whole sequence counts for each of its steps.
            values = values.reshape(shape + (1,) * (len(row_shape) - len(shape)))
        try:
            return np.broadcast_to(values, row_shape)
        except ValueError:
            raise ValueError(
                f"loss {self.name!r}: {argument} has shape {shape}, expected {row_shape[:1]} or {row_shape}"
            ) from None

    def _float32(self, x: Any, argument: str) -> Array:
        if type(x) is np.ndarray and x.dtype.kind in "iub":  # the usual case; no float32 is exceeded
            return np.asarray(x, np.float32, order="C")
        return to_float32(x, f"loss {self.name!r}", argument).numpy()

    def _check_shape(self, labels: tuple[int, ...], want: tuple[int | None, ...], y_true: Any) -> None:
        if labels != want and (
            len(labels) != len(want) or any(w not in (None, n) for n, w in zip(labels, want, strict=True))
        ):
            raise ValueError(
                f"loss {self.name!r}: labels have shape {np.shape(y_true)}, predictions have {tuple(want)}, "
                f"{self._rule_of_shapes(want)}"
            )

    def _rule_of_shapes(self, want: Shape) -> str:
        last = "; the last axis of size 1 may be left out" if tuple(want)[-1:] == (1,) else ""
        return f"they must have the same shape{last}"


def _spread_to_rows(values: Array, shape: tuple[int, ...]) -> Array:
    """What a loss written in Python gives, as one value per row of predictions of `shape`.

    It may give a value per element, whose mean counts, or one for several rows, even for all.
    """
    values = np.asarray(values)
    if values.shape == shape and len(shape) > 1:
        means: Array = values.mean(axis=-1)
        return means
    rows = shape[:-1] if len(shape) > 1 else shape
    if values.ndim < len(rows) and values.shape == rows[: values.ndim]:
        return np.broadcast_to(values.reshape(values.shape + (1,) * (len(rows) - values.ndim)), rows)
    return values


def _weights_of(values: Array, row_weights: Array) -> Array:
    """The weights of what `_spread_to_rows` was given, from those of rows."""
    if values.ndim == row_weights.ndim + 1:
        return np.broadcast_to(row_weights[..., None] / np.float32(values.shape[-1]), values.shape)
    sums: Array = row_weights.sum(axis=tuple(range(values.ndim, row_weights.ndim)))
    return sums


def _weighted(rows: Array, weights: Array) -> Array:
    # A row that does not count must not count even where its value is NaN or infinite.
    with np.errstate(invalid="ignore"):
        return np.where(weights != 0, rows * weights, np.float32(0))


# The weights of an unweighted batch; batches of one shape follow each other, so one entry is enough.
_last_constant: tuple[tuple[int, ...], float, _core.Tensor] | None = None


def _constant(shape: tuple[int, ...], value: float) -> _core.Tensor:
    global _last_constant
    last = _last_constant
    if last is None or last[0] != shape or last[1] != value:
        last = (shape, value, _core.as_tensor(np.full(shape, value, np.float32), "float32"))
        _last_constant = last
    return last[2]
