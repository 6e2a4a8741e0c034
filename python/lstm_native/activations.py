"""Activation functions by their Keras names, on arrays; `get` turns a name into one.

With default parameters they run natively; other parameters are computed with NumPy. Recurrent layers run
`Parametric` ones natively too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native import _core
from lstm_native.errors import unknown_name
from lstm_native.parametric import Parametric as Parametric
from lstm_native.traced import Traced

Array = npt.NDArray[np.float32]
Activation = Callable[[Any], Any]


def _native(name: str, x: Any) -> Array:
    if isinstance(x, Traced):
        return _native_on_tape(name, x)  # type: ignore[return-value]
    return _core.activation_forward(name, _core.as_tensor(x, "float32")).numpy()


def _native_on_tape(name: str, x: Traced) -> Traced:
    tensor = _core.as_tensor(x.value, "float32")
    y = _core.activation_forward(name, tensor)
    result = Traced(y.numpy(), x.tape)

    def back(gradient: Array) -> list[Any]:
        d_y = _core.as_tensor(np.ascontiguousarray(gradient), "float32")
        return [_core.activation_backward(name, tensor, y, d_y).numpy()]

    x.tape.add([result], [x], back)
    return result


def _float32(x: Any) -> Array:
    if isinstance(x, Traced):
        return x  # type: ignore[return-value]
    return np.asarray(x, dtype=np.float32)


def _softmax_along(name: str, x: Any, axis: int | Sequence[int]) -> Array:
    """A native function of the last axis, applied along another one, or along several as if they were one."""
    x = _float32(x)
    if x.ndim == 0 or axis in (-1, x.ndim - 1):
        return _native(name, x)
    axes = tuple(axis) if isinstance(axis, Sequence) else (axis,)
    ends = range(-len(axes), 0)
    moved = np.moveaxis(x, axes, ends)
    rows = np.reshape(moved, (*moved.shape[: -len(axes)], -1))
    y: Array = np.moveaxis(np.reshape(_native(name, rows), moved.shape), ends, axes)
    return y


def linear(x: Any) -> Array:
    """`x` itself, as float32."""
    return _float32(x)


def relu(
    x: Any, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> Array:
    """`max(x, 0)`; up to `threshold` `negative_slope * (x - threshold)`, and at most `max_value`."""
    if negative_slope == 0.0 and max_value is None and threshold == 0.0:
        return _native("relu", x)
    x = _float32(x)
    y: Array = np.where(x <= threshold, np.float32(0), x)
    if max_value is not None:
        y = np.clip(y, np.float32(0), np.float32(max_value))
    if negative_slope != 0.0:
        y = y + np.float32(negative_slope) * np.minimum(x - np.float32(threshold), np.float32(0))
    return y


def leaky_relu(x: Any, negative_slope: float = 0.2) -> Array:
    """`x` where positive, else `negative_slope * x`."""
    if negative_slope == 0.2:
        return _native("leaky_relu", x)
    x = _float32(x)
    y: Array = np.where(x >= 0, x, np.float32(negative_slope) * x)
    return y


def relu6(x: Any) -> Array:
    """`min(max(x, 0), 6)`."""
    return _native("relu6", x)


def softmax(x: Any, axis: int | Sequence[int] = -1) -> Array:
    """`exp(x)` scaled so that it sums to one along `axis`."""
    return _softmax_along("softmax", x, axis)


def log_softmax(x: Any, axis: int | Sequence[int] = -1) -> Array:
    """Logarithm of `softmax(x)`, computed without overflow."""
    return _softmax_along("log_softmax", x, axis)


def sparsemax(x: Any, axis: int = -1) -> Array:
    """Euclidean projection of `x` onto the probability simplex along `axis`."""
    return _softmax_along("sparsemax", x, axis)


def elu(x: Any, alpha: float = 1.0) -> Array:
    """`x` where positive, else `alpha * (exp(x) - 1)`."""
    if alpha == 1.0:
        return _native("elu", x)
    x = _float32(x)
    y: Array = np.where(x > 0, x, np.float32(alpha) * np.expm1(np.minimum(x, 0)))
    return y


def celu(x: Any, alpha: float = 1.0) -> Array:
    """`x` where positive, else `alpha * (exp(x / alpha) - 1)`."""
    if alpha == 1.0:
        return _native("celu", x)
    x = _float32(x)
    a = np.float32(alpha)
    y: Array = np.where(x > 0, x, a * np.expm1(np.minimum(x, 0) / a))
    return y


def selu(x: Any) -> Array:
    """Scaled exponential linear unit."""
    return _native("selu", x)


def softplus(x: Any) -> Array:
    """`log(exp(x) + 1)`."""
    return _native("softplus", x)


def softsign(x: Any) -> Array:
    """`x / (|x| + 1)`."""
    return _native("softsign", x)


def soft_shrink(x: Any, threshold: float = 0.5) -> Array:
    """`x` moved towards zero by `threshold`, zero where that would cross it."""
    if threshold == 0.5:
        return _native("soft_shrink", x)
    x = _float32(x)
    y: Array = np.sign(x) * np.maximum(np.abs(x) - np.float32(threshold), np.float32(0))
    return y


def hard_shrink(x: Any, threshold: float = 0.5) -> Array:
    """`x` where `|x| > threshold`, else zero."""
    if threshold == 0.5:
        return _native("hard_shrink", x)
    x = _float32(x)
    y: Array = np.where(np.abs(x) > threshold, x, np.float32(0))
    return y


def sparse_plus(x: Any) -> Array:
    """0 up to -1, `(x + 1)**2 / 4` up to 1, `x` beyond."""
    return _native("sparse_plus", x)


def silu(x: Any) -> Array:
    """`x * sigmoid(x)`, also called swish."""
    return _native("silu", x)


def squareplus(x: Any, b: float = 4) -> Array:
    """`(x + sqrt(x**2 + b)) / 2`."""
    if b == 4:
        return _native("squareplus", x)
    x = _float32(x)
    y: Array = (x + np.sqrt(x * x + np.float32(b))) / np.float32(2)
    return y


def gelu(x: Any, approximate: bool = False) -> Array:
    """`x * P(X <= x)` for a standard normal X; `approximate` uses the tanh formula."""
    if not approximate:
        return _native("gelu", x)
    x = _float32(x)
    inner = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x * x * x)
    y: Array = np.float32(0.5) * x * (np.float32(1) + _native("tanh", inner))
    return y


def glu(x: Any, axis: int = -1) -> Array:
    """First half of `x` along `axis` times the sigmoid of the second half."""
    x = _float32(x)
    if x.shape[axis] % 2:
        raise ValueError(f"glu: x has shape {x.shape}, expected an even size along axis {axis}")
    a, b = np.split(x, 2, axis=axis)
    y: Array = a * _native("sigmoid", b)
    return y


def tanh(x: Any) -> Array:
    """Hyperbolic tangent."""
    return _native("tanh", x)


def tanh_shrink(x: Any) -> Array:
    """`x - tanh(x)`."""
    return _native("tanh_shrink", x)


def hard_tanh(x: Any) -> Array:
    """`x` clipped to [-1, 1]."""
    return _native("hard_tanh", x)


def threshold(x: Any, threshold: float, default_value: float) -> Array:
    """`x` where it is above `threshold`, else `default_value`."""
    x = _float32(x)
    y: Array = np.where(x > threshold, x, np.float32(default_value))
    return y


def sigmoid(x: Any) -> Array:
    """`1 / (1 + exp(-x))`."""
    return _native("sigmoid", x)


def exponential(x: Any) -> Array:
    """`exp(x)`."""
    return _native("exponential", x)


def hard_sigmoid(x: Any) -> Array:
    """`x / 6 + 0.5` clipped to [0, 1] (the form of Keras 3)."""
    return _native("hard_sigmoid", x)


def sparse_sigmoid(x: Any) -> Array:
    """`(x + 1) / 2` clipped to [0, 1]."""
    return _native("sparse_sigmoid", x)


def log_sigmoid(x: Any) -> Array:
    """`log(sigmoid(x))`, computed without overflow."""
    return _native("log_sigmoid", x)


def hard_silu(x: Any) -> Array:
    """`x * hard_sigmoid(x)`, also called hard swish."""
    return _native("hard_silu", x)


def mish(x: Any) -> Array:
    """`x * tanh(softplus(x))`."""
    return _native("mish", x)


_FUNCTIONS: dict[str, Activation] = {
    f.__name__: f
    for f in (
        linear, relu, leaky_relu, relu6, softmax, log_softmax, sparsemax, elu, celu, selu, softplus, softsign,
        soft_shrink, hard_shrink, sparse_plus, silu, squareplus, gelu, glu, tanh, tanh_shrink, hard_tanh,
        sigmoid, exponential, hard_sigmoid, sparse_sigmoid, log_sigmoid, hard_silu, mish,
    )
}  # fmt: skip
_ALIASES: dict[str, Activation] = {"swish": silu, "hard_swish": hard_silu}
# The functions that layers may run natively, forward and backward; glu changes the shape.
_NATIVE_NAMES: dict[Activation, str] = {f: name for name, f in _FUNCTIONS.items() if f is not glu}


def get(identifier: Any) -> Activation:
    """The activation called `identifier`.

    Args:
        identifier: a name, None (linear) or a callable, which is returned as it is.

    Raises:
        ValueError: the name is unknown.
        TypeError: `identifier` is none of these.
    """
    if identifier is None:
        return linear
    if isinstance(identifier, str):
        found = _FUNCTIONS.get(identifier) or _ALIASES.get(identifier)
        if found is None:
            raise unknown_name("activation", identifier, [*_FUNCTIONS, *_ALIASES])
        return found
    if callable(identifier):
        return identifier  # type: ignore[no-any-return]
    raise TypeError(f"activation is {identifier!r}, expected a name, None or a callable")


def native_name(activation: Activation) -> str | None:
    """The name under which native code knows `activation`; None for any other Python callable."""
    return _NATIVE_NAMES.get(activation)


def name_of(activation: Activation) -> str:
    """How messages and configurations call `activation`."""
    return getattr(activation, "__name__", None) or type(activation).__name__
