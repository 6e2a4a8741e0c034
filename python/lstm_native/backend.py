"""What programs for Keras 2 and tf.keras take from `keras.backend`: settings, and `ops` by older names."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_native import ops
from lstm_native.initializers import RandomNormal, RandomUniform
from lstm_native.ops import (
    abs,
    all,
    any,
    arange,
    argmax,
    argmin,
    cast,
    clip,
    concatenate,
    cos,
    cumsum,
    dot,
    equal,
    exp,
    expand_dims,
    greater,
    greater_equal,
    less,
    less_equal,
    log,
    logsumexp,
    max,
    maximum,
    mean,
    min,
    minimum,
    not_equal,
    one_hot,
    ones,
    ones_like,
    relu,
    reshape,
    round,
    shape,
    sigmoid,
    sign,
    sin,
    softmax,
    softplus,
    sqrt,
    square,
    squeeze,
    stack,
    std,
    stop_gradient,
    sum,
    tanh,
    tile,
    transpose,
    var,
    where,
    zeros,
    zeros_like,
)
from lstm_native.traced import value_of
from lstm_native.utils.session import clear_session
from lstm_native.variable import Variable

__all__ = [
    "__all__",
    "abs",
    "all",
    "any",
    "arange",
    "argmax",
    "argmin",
    "backend",
    "batch_dot",
    "batch_flatten",
    "binary_crossentropy",
    "cast",
    "cast_to_floatx",
    "categorical_crossentropy",
    "clear_session",
    "clip",
    "concatenate",
    "constant",
    "cos",
    "cumsum",
    "dot",
    "epsilon",
    "equal",
    "eval",
    "exp",
    "expand_dims",
    "flatten",
    "floatx",
    "gather",
    "get_value",
    "greater",
    "greater_equal",
    "int_shape",
    "l2_normalize",
    "less",
    "less_equal",
    "log",
    "logsumexp",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "ndim",
    "not_equal",
    "one_hot",
    "ones",
    "ones_like",
    "permute_dimensions",
    "pow",
    "prod",
    "random_normal",
    "random_uniform",
    "relu",
    "repeat_elements",
    "reshape",
    "reverse",
    "round",
    "set_value",
    "shape",
    "sigmoid",
    "sign",
    "sin",
    "softmax",
    "softplus",
    "sparse_categorical_crossentropy",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "stop_gradient",
    "sum",
    "switch",
    "tanh",
    "tile",
    "transpose",
    "var",
    "variable",
    "where",
    "zeros",
    "zeros_like",
]

pow = ops.power
permute_dimensions = ops.transpose
gather = ops.getitem
repeat_elements = ops.repeat
reverse = ops.flip
int_shape = shape


def backend() -> str:
    """The name of this package."""
    return "lstm_native"


def floatx() -> str:
    """The type of every computation."""
    return "float32"


def epsilon() -> float:
    """A small number that keeps divisors from zero."""
    return 1e-7


def get_value(x: Any) -> Any:
    """The value of a variable or of an optimizer's learning rate."""
    return x.numpy() if hasattr(x, "numpy") else np.asarray(x)


def set_value(x: Any, value: Any) -> None:
    """Sets a variable or an optimizer's learning rate."""
    x.assign(value)


def eval(x: Any) -> Any:
    """The value of `x`."""
    return get_value(x)


def variable(value: Any, dtype: Any = None, name: str | None = None) -> Variable:
    """A variable that starts with `value`."""
    return Variable(value, dtype=dtype, name=name)


def constant(value: Any, dtype: Any = None, shape: Any = None) -> Any:
    """An array of `value`."""
    array = np.asarray(value, np.float32 if dtype is None else dtype)
    return array if shape is None else np.broadcast_to(array, shape)


def cast_to_floatx(x: Any) -> Any:
    """`x` in single precision."""
    return ops.cast(x, "float32")


def ndim(x: Any) -> int:
    """Number of axes."""
    return len(shape(x))


def prod(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Product over axes; of constants."""
    return np.prod(value_of(x), axis=axis, keepdims=keepdims)


def flatten(x: Any) -> Any:
    """All elements in a row."""
    return ops.reshape(x, -1)


def batch_flatten(x: Any) -> Any:
    """Rows of all but the first axis."""
    return ops.reshape(x, (shape(x)[0], -1))


def l2_normalize(x: Any, axis: int = -1) -> Any:
    """`x` scaled to length one along an axis."""
    return ops.normalize(x, axis)


def switch(condition: Any, then_expression: Any, else_expression: Any) -> Any:
    """One of two values, or what functions give, by element."""
    values = (v() if callable(v) else v for v in (then_expression, else_expression))
    return ops.where(condition, *values)


def batch_dot(x: Any, y: Any, axes: Any = None) -> Any:
    """Sums of products row by row, over the last axis of `x` and the last but one of `y` by default."""
    a, b = (axes, axes) if isinstance(axes, int) else axes or (ndim(x) - 1, ndim(y) - 2 or 1)
    names = "ijklmnop"
    left, right = "b" + names[: ndim(x) - 1], "b" + names[ndim(x) - 1 :][: ndim(y) - 1]
    right = right[:b] + left[a] + right[b + 1 :]
    result = left[:a] + left[a + 1 :] + right[1:b] + right[b + 1 :]
    product = ops.einsum(f"{left},{right}->{result}", x, y)
    return product if len(result) > 1 else ops.expand_dims(product, 1)


def binary_crossentropy(target: Any, output: Any, from_logits: bool = False) -> Any:
    """Cross-entropy of yes-or-no labels, by element."""
    if from_logits:
        return ops.relu(output) - output * target + ops.log1p(ops.exp(-ops.abs(output)))
    p = ops.clip(output, np.float32(1e-7), np.float32(1 - 1e-7))
    return -(target * ops.log(p) + (1 - target) * ops.log(1 - p))


def categorical_crossentropy(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> Any:
    """Cross-entropy of one-hot labels, a value per row."""
    if from_logits:
        return -ops.sum(target * ops.log_softmax(output, axis), axis)
    p = output / ops.sum(output, axis, True)
    return -ops.sum(target * ops.log(ops.clip(p, np.float32(1e-7), np.float32(1 - 1e-7))), axis)


def sparse_categorical_crossentropy(
    target: Any, output: Any, from_logits: bool = False, axis: int = -1
) -> Any:
    """Cross-entropy of class numbers, a value per row."""
    numbers = np.asarray(value_of(target)).astype(np.int64)
    if numbers.ndim == ndim(output) and numbers.shape[-1] == 1:
        numbers = numbers[..., 0]
    return categorical_crossentropy(ops.one_hot(numbers, shape(output)[axis]), output, from_logits, axis)


def random_normal(shape: Any, mean: float = 0.0, stddev: float = 1.0, seed: int | None = None) -> Any:
    """Normal random numbers."""
    return RandomNormal(mean, stddev, seed)(shape)


def random_uniform(shape: Any, minval: float = 0.0, maxval: float = 1.0, seed: int | None = None) -> Any:
    """Evenly spread random numbers."""
    return RandomUniform(minval, maxval, seed)(shape)
