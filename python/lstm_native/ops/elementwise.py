"""Functions of each element by itself, and the rules of NumPy's. Floor 4."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_native.layers.symbolic import Placeholder
from lstm_native.ops.operation import Array, Rule, named, operation, summed_to
from lstm_native.traced import value_of

# --- element by element ---------------------------------------------------------------------------


def _at_positive(x: Any, p: Any, d: Any) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(x > 0, d * np.power(x, p) * np.log(np.where(x > 0, x, 1)), 0)


UFUNCS: dict[Any, Rule | None] = {
    np.add: lambda d, y, a, b: (d, d),
    np.subtract: lambda d, y, a, b: (d, -d),
    np.multiply: lambda d, y, a, b: (d * b, d * a),
    np.true_divide: lambda d, y, a, b: (d / b, -d * y / b),
    np.power: lambda d, y, a, b: (d * b * np.power(a, np.subtract(b, 1)), _at_positive(a, b, d)),
    np.negative: lambda d, y, a: (-d,),
    np.positive: lambda d, y, a: (d,),
    np.absolute: lambda d, y, a: (d * np.sign(a),),
    np.exp: lambda d, y, a: (d * y,),
    np.expm1: lambda d, y, a: (d * (y + 1),),
    np.log: lambda d, y, a: (d / a,),
    np.log1p: lambda d, y, a: (d / (1 + a),),
    np.log2: lambda d, y, a: (d / (a * np.float32(np.log(2))),),
    np.log10: lambda d, y, a: (d / (a * np.float32(np.log(10))),),
    np.sqrt: lambda d, y, a: (d / (2 * y),),
    np.square: lambda d, y, a: (2 * d * a,),
    np.reciprocal: lambda d, y, a: (-d * y * y,),
    np.sin: lambda d, y, a: (d * np.cos(a),),
    np.cos: lambda d, y, a: (-d * np.sin(a),),
    np.tan: lambda d, y, a: (d * (1 + y * y),),
    np.tanh: lambda d, y, a: (d * (1 - y * y),),
    np.sinh: lambda d, y, a: (d * np.cosh(a),),
    np.cosh: lambda d, y, a: (d * np.sinh(a),),
    np.arctan: lambda d, y, a: (d / (1 + a * a),),
    np.maximum: lambda d, y, a, b: (np.where(a >= b, d, 0), np.where(a >= b, 0, d)),
    np.minimum: lambda d, y, a, b: (np.where(a <= b, d, 0), np.where(a <= b, 0, d)),
    np.remainder: lambda d, y, a, b: (d, -d * np.floor_divide(a, b)),
    np.matmul: lambda d, y, a, b: _products(d, a, b),
    # No gradient, or zero wherever there is one.
    **dict.fromkeys(
        (np.sign, np.floor, np.ceil, np.rint, np.equal, np.not_equal, np.less, np.less_equal, np.greater,
         np.greater_equal, np.logical_and, np.logical_or, np.logical_not, np.isnan, np.isfinite, np.isinf,
         np.bitwise_and, np.bitwise_or, np.invert, np.floor_divide)
    ),
}  # fmt: skip


def _products(d: Array, a: Array, b: Array) -> tuple[Array, Array]:
    if a.ndim == 1 or b.ndim == 1:
        wide = a[None] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b
        d = np.expand_dims(d, -1) if b.ndim == 1 else d
        d = np.expand_dims(d, -2) if a.ndim == 1 else d
        first, second = _products(d, *wide)
        return summed_to(first, wide[0].shape).reshape(a.shape), summed_to(second, wide[1].shape).reshape(
            b.shape
        )
    return d @ np.swapaxes(b, -1, -2), np.swapaxes(a, -1, -2) @ d


add = named(np.add, UFUNCS[np.add])
subtract = named(np.subtract, UFUNCS[np.subtract])
multiply = named(np.multiply, UFUNCS[np.multiply])
divide = named(np.true_divide, UFUNCS[np.true_divide])
power = named(np.power, UFUNCS[np.power])
negative = named(np.negative, UFUNCS[np.negative])
exp = named(np.exp, UFUNCS[np.exp])
expm1 = named(np.expm1, UFUNCS[np.expm1])
log = named(np.log, UFUNCS[np.log])
log1p = named(np.log1p, UFUNCS[np.log1p])
sqrt = named(np.sqrt, UFUNCS[np.sqrt])
square = named(np.square, UFUNCS[np.square])
sin = named(np.sin, UFUNCS[np.sin])
cos = named(np.cos, UFUNCS[np.cos])
tanh = named(np.tanh, UFUNCS[np.tanh])
abs = absolute = named(np.absolute, UFUNCS[np.absolute])
maximum = named(np.maximum, UFUNCS[np.maximum])
minimum = named(np.minimum, UFUNCS[np.minimum])
sign = named(np.sign, None)
floor = named(np.floor, None)
ceil = named(np.ceil, None)
round = named(np.round, None)
equal = named(np.equal, None)
not_equal = named(np.not_equal, None)
less = named(np.less, None)
less_equal = named(np.less_equal, None)
greater = named(np.greater, None)
greater_equal = named(np.greater_equal, None)
logical_and = named(np.logical_and, None)
logical_or = named(np.logical_or, None)
logical_not = named(np.logical_not, None)
isnan = named(np.isnan, None)
matmul = named(np.matmul, UFUNCS[np.matmul])


def sigmoid(x: Any) -> Any:
    """`1 / (1 + exp(-x))`."""
    return operation(_sigmoid, lambda d, y, a: (d * y * (1 - y),), x)


def _sigmoid(x: Array) -> Array:
    # By tanh, which does not overflow.
    half: Array = np.tanh(np.multiply(x, np.float32(0.5))) * np.float32(0.5) + np.float32(0.5)
    return half


def relu(x: Any) -> Any:
    """`max(x, 0)`."""
    return operation(lambda a: np.maximum(a, 0), lambda d, y, a: (np.where(a > 0, d, 0),), x)


def softplus(x: Any) -> Any:
    """`log(exp(x) + 1)`."""
    return operation(lambda a: np.logaddexp(a, 0), lambda d, y, a: (d * _sigmoid(a),), x)


def clip(x: Any, x_min: Any, x_max: Any) -> Any:
    """`x` within bounds; None for no bound."""

    def rule(d: Array, y: Array, a: Array, low: Any, high: Any) -> tuple[Array, Array, Array]:
        above = np.True_ if low is None else a >= low
        raised = a if low is None else np.maximum(a, low)
        d_raised = d if high is None else np.where(raised <= high, d, 0)
        return np.where(above, d_raised, 0), np.where(above, 0, d_raised), d - d_raised

    return operation(np.clip, rule, x, x_min, x_max)


def where(condition: Any, x1: Any, x2: Any) -> Any:
    """`x1` where `condition` holds, else `x2`."""
    return operation(
        np.where, lambda d, y, c, a, b: (None, np.where(c, d, 0), np.where(c, 0, d)), condition, x1, x2
    )


def stop_gradient(x: Any) -> Any:
    """`x` as a constant."""
    return operation(lambda a: a, None, x) if isinstance(x, Placeholder) else value_of(x)


def cast(x: Any, dtype: Any) -> Any:
    """`x` in another type; floats are all float32."""
    kind = np.dtype(np.float32 if np.dtype(dtype).kind == "f" else dtype)
    return operation(lambda a: np.asarray(a).astype(kind), lambda d, y, a: (d,), x)
