"""What NumPy calls where its functions are used on traced values. Floor 4."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lstm_native.ops import axes, elementwise, products, shapes
from lstm_native.ops.operation import operation
from lstm_native.traced import current, value_of


def apply_ufunc(ufunc: Any, method: str, inputs: Sequence[Any], options: dict[str, Any]) -> Any:
    """What NumPy calls for its element-wise functions on traced values."""
    if method == "__call__" and ufunc in elementwise.UFUNCS and not options:
        return operation(ufunc, elementwise.UFUNCS[ufunc], *inputs)
    if "out" in options and any(isinstance(x, np.ndarray) for x in options["out"]):
        tape = current()
        if tape is not None and tape.record:
            raise TypeError(
                f"numpy.{ufunc.__name__} of a value that training differentiates cannot go into an array: "
                "write a = a + x in the place of a += x"
            )
    return _without_rule(f"numpy.{ufunc.__name__}", getattr(ufunc, method), inputs, options)


def apply_function(function: Any, args: Sequence[Any], options: dict[str, Any]) -> Any:
    """What NumPy calls for its other functions on traced values."""
    ours = _FUNCTIONS.get(function)
    if ours is not None:
        return ours(*args, **options)
    return _without_rule(f"numpy.{function.__name__}", function, args, options)


_CONSTANT = (
    "shape", "ndim", "size", "argmax", "argmin", "argsort", "zeros_like", "ones_like", "full_like", "all",
    "any", "round", "around", "array_equal", "allclose", "searchsorted", "count_nonzero",
)  # fmt: skip


def _without_rule(name: str, function: Any, args: Sequence[Any], options: dict[str, Any]) -> Any:
    tape = current()
    if tape is not None and tape.record and name.rpartition(".")[2] not in _CONSTANT:
        raise TypeError(
            f"{name} has no gradient here, so a layer or loss that uses it cannot be trained; "
            "lstm_native.ops has the functions that do"
        )
    return function(*(value_of(a) for a in args), **{k: value_of(v) for k, v in options.items()})


def _clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    return elementwise.clip(a, min if a_min is None else a_min, max if a_max is None else a_max)


_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.sum: axes.sum,
    np.mean: axes.mean,
    np.max: axes.max,
    np.min: axes.min,
    np.amax: axes.max,
    np.amin: axes.min,
    np.var: axes.var,
    np.std: axes.std,
    np.cumsum: axes.cumsum,
    np.argmax: axes.argmax,
    np.reshape: shapes.reshape,
    np.transpose: shapes.transpose,
    np.swapaxes: shapes.swapaxes,
    np.moveaxis: shapes.moveaxis,
    np.expand_dims: shapes.expand_dims,
    np.squeeze: shapes.squeeze,
    np.concatenate: shapes.concatenate,
    np.stack: shapes.stack,
    np.split: shapes.split,
    np.flip: shapes.flip,
    np.broadcast_to: shapes.broadcast_to,
    np.repeat: shapes.repeat,
    np.tile: shapes.tile,
    np.dot: products.dot,
    np.tensordot: products.tensordot,
    np.einsum: products.einsum,
    np.where: elementwise.where,
    np.clip: _clip,
    np.take: shapes.take,
    np.shape: shapes.shape,
    np.linalg.norm: products.norm,
    np.zeros_like: products.zeros_like,
    np.ones_like: products.ones_like,
}
