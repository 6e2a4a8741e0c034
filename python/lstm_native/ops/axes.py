"""Functions over axes: sums, means, extremes, softmax. Floor 4."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_native.layers.symbolic import Placeholder
from lstm_native.ops.elementwise import exp, log, sqrt, square, stop_gradient
from lstm_native.ops.operation import Array, as_axes, operation
from lstm_native.ops.shapes import reshape, squeeze
from lstm_native.traced import Traced
from lstm_native.variable import Variable


def _kept(d: Array, like: Array, axis: Any, keepdims: bool) -> Array:
    """A gradient of a reduced array, ready to be broadcast over the axes that were reduced."""
    if keepdims or axis is None:
        return d
    axes = axis if isinstance(axis, tuple) else (axis,)
    return np.expand_dims(d, tuple(a % like.ndim for a in axes))


def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Sum over axes, all by default."""
    axis = as_axes(axis)
    return operation(
        lambda a: np.sum(a, axis=axis, keepdims=keepdims),
        lambda d, y, a: (np.broadcast_to(_kept(d, a, axis, keepdims), a.shape),),
        x,
    )


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Mean over axes, all by default."""
    axis = as_axes(axis)
    return operation(
        lambda a: np.mean(a, axis=axis, keepdims=keepdims, dtype=None if a.dtype.kind == "f" else np.float32),
        lambda d, y, a: (
            np.broadcast_to(_kept(d, a, axis, keepdims) * np.float32(y.size / a.size), a.shape),
        ),
        x if isinstance(x, Traced | Variable | Placeholder) else np.asarray(x),
    )


def _extreme(function: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    axis = as_axes(axis)

    def rule(d: Array, y: Array, a: Array) -> tuple[Array]:
        chosen = a == _kept(y, a, axis, keepdims)
        share = chosen / chosen.sum(axis=axis, keepdims=True)  # equal ones share the gradient
        return (_kept(d, a, axis, keepdims) * share,)

    return operation(lambda a: function(a, axis=axis, keepdims=keepdims), rule, x)


def max(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Largest element over axes, all by default."""
    return _extreme(np.max, x, axis, keepdims)


def min(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Smallest element over axes, all by default."""
    return _extreme(np.min, x, axis, keepdims)


def var(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Mean squared distance from the mean."""
    return mean(square(x - mean(x, axis, True)), axis, keepdims)


def std(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Root of `var`."""
    return sqrt(var(x, axis, keepdims))


def cumsum(x: Any, axis: int | None = None) -> Any:
    """Running sums along an axis, or over all elements in a row."""
    if axis is None:
        x, axis = reshape(x, -1), 0
    return operation(
        lambda a: np.cumsum(a, axis), lambda d, y, a: (np.flip(np.cumsum(np.flip(d, axis), axis), axis),), x
    )


def argmax(x: Any, axis: Any = None) -> Any:
    """Number of the largest element."""
    return operation(lambda a: np.argmax(a, axis), None, x)


def argmin(x: Any, axis: Any = None) -> Any:
    """Number of the smallest element."""
    return operation(lambda a: np.argmin(a, axis), None, x)


def all(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Whether all hold."""
    return operation(lambda a: np.all(a, axis=as_axes(axis), keepdims=keepdims), None, x)


def any(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Whether one holds."""
    return operation(lambda a: np.any(a, axis=as_axes(axis), keepdims=keepdims), None, x)


def softmax(x: Any, axis: int = -1) -> Any:
    """`exp(x)`, scaled to sum to one along `axis`."""
    # The largest is a constant here: it changes nothing but the range.
    shifted = exp(x - stop_gradient(max(x, axis, True)))
    return shifted / sum(shifted, axis, True)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """Logarithm of `softmax(x, axis)`."""
    return x - logsumexp(x, axis, True)


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """`log(sum(exp(x)))`, without overflow."""
    top = stop_gradient(max(x, axis, True))
    result = log(sum(exp(x - top), axis, True)) + top
    return result if keepdims else squeeze(result, axis) if axis is not None else reshape(result, ())
