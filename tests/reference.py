"""The yardstick: Embedding, Dense, activations, losses and optimizers in float64 NumPy.

Written to be right, not fast: plain loops over time, no trick that the formulas do not show.
`test_reference.py` holds every gradient here against central differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Function = Callable[[Array], Array]


def f64(x: Any) -> Array:
    """`x` as a float64 array."""
    return np.asarray(x, dtype=np.float64)


# --- activations --------------------------------------------------------------------------------


def sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))  # never overflows
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


def softplus(x: Array) -> Array:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def _erf(x: Array) -> Array:
    return f64([math.erf(value) for value in x.ravel()]).reshape(x.shape)


def _normal_cdf(x: Array) -> Array:
    return 0.5 * (1.0 + _erf(x / math.sqrt(2.0)))


def _d_gelu(x: Array) -> Array:
    return _normal_cdf(x) + x * np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


def _d_sigmoid(x: Array) -> Array:
    return sigmoid(x) * sigmoid(-x)


def _d_tanh(x: Array) -> Array:
    return 4.0 * sigmoid(2.0 * x) * sigmoid(-2.0 * x)  # 1 - tanh^2 without its cancellation


def _mish(x: Array) -> Array:
    return x * np.tanh(softplus(x))


def _d_mish(x: Array) -> Array:
    s = softplus(x)
    return np.tanh(s) + x * _d_tanh(s) * sigmoid(x)


def _exp_negative(x: Array) -> Array:
    return np.exp(np.minimum(x, 0.0))


_SELU_ALPHA = 1.6732632423543772848170429916717  # Klambauer et al. 2017
_SELU_SCALE = 1.0507009873554804934193349852946

# name -> (function, derivative); at a kink the derivative is the one from the flat side.
ELEMENTWISE: dict[str, tuple[Function, Function]] = {
    "linear": (lambda x: x, np.ones_like),
    "tanh": (np.tanh, _d_tanh),
    "sigmoid": (sigmoid, _d_sigmoid),
    "hard_sigmoid": (lambda x: np.clip(x / 6.0 + 0.5, 0.0, 1.0), lambda x: (np.abs(x) < 3.0) / 6.0),
    "relu": (lambda x: np.maximum(x, 0.0), lambda x: f64(x > 0.0)),
    "relu6": (lambda x: np.clip(x, 0.0, 6.0), lambda x: f64((x > 0.0) & (x < 6.0))),
    "leaky_relu": (lambda x: np.where(x > 0.0, x, 0.2 * x), lambda x: np.where(x > 0.0, 1.0, 0.2)),
    "elu": (lambda x: np.where(x > 0.0, x, np.expm1(np.minimum(x, 0.0))), _exp_negative),
    "celu": (lambda x: np.where(x > 0.0, x, np.expm1(np.minimum(x, 0.0))), _exp_negative),
    "selu": (
        lambda x: _SELU_SCALE * np.where(x > 0.0, x, _SELU_ALPHA * np.expm1(np.minimum(x, 0.0))),
        lambda x: _SELU_SCALE * np.where(x > 0.0, 1.0, _SELU_ALPHA * _exp_negative(x)),
    ),
    "softplus": (softplus, sigmoid),
    "softsign": (lambda x: x / (1.0 + np.abs(x)), lambda x: 1.0 / np.square(1.0 + np.abs(x))),
    "squareplus": (
        lambda x: 0.5 * (x + np.sqrt(x * x + 4.0)),
        lambda x: 0.5 * (1.0 + x / np.sqrt(x * x + 4.0)),
    ),
    "soft_shrink": (lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0.0), lambda x: f64(np.abs(x) > 0.5)),
    "hard_shrink": (lambda x: np.where(np.abs(x) > 0.5, x, 0.0), lambda x: f64(np.abs(x) > 0.5)),
    "tanh_shrink": (lambda x: x - np.tanh(x), lambda x: np.square(np.tanh(x))),
    "sparse_plus": (
        lambda x: np.where(x <= -1.0, 0.0, np.where(x < 1.0, 0.25 * np.square(x + 1.0), x)),
        lambda x: np.clip(0.5 * (x + 1.0), 0.0, 1.0),
    ),
    "sparse_sigmoid": (lambda x: np.clip(0.5 * (x + 1.0), 0.0, 1.0), lambda x: 0.5 * (np.abs(x) < 1.0)),
    "silu": (lambda x: x * sigmoid(x), lambda x: sigmoid(x) + x * _d_sigmoid(x)),
    "hard_silu": (
        lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0),
        lambda x: np.where(x <= -3.0, 0.0, np.where(x >= 3.0, 1.0, x / 3.0 + 0.5)),
    ),
    "gelu": (lambda x: x * _normal_cdf(x), _d_gelu),
    "exponential": (np.exp, np.exp),
    "hard_tanh": (lambda x: np.clip(x, -1.0, 1.0), lambda x: f64(np.abs(x) < 1.0)),
    "mish": (_mish, _d_mish),
    "log_sigmoid": (lambda x: -softplus(-x), lambda x: sigmoid(-x)),
}
ALIASES = {"swish": "silu", "hard_swish": "hard_silu"}
OVER_LAST_AXIS = ("softmax", "log_softmax", "sparsemax")


def _log_softmax(x: Array) -> Array:
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _sparsemax(x: Array) -> Array:
    """The point of the simplex nearest to each row (Martins and Astudillo 2016)."""
    x = x - x.max(axis=-1, keepdims=True)  # changes nothing but the rounding of large values
    descending = -np.sort(-x, axis=-1)
    sums = np.cumsum(descending, axis=-1)
    count = np.arange(1, x.shape[-1] + 1)
    size = np.sum(1.0 + count * descending > sums, axis=-1, keepdims=True)
    threshold = (np.take_along_axis(sums, size - 1, axis=-1) - 1.0) / size
    return np.maximum(x - threshold, 0.0)


def activation(name: str, x: Array) -> Array:
    """The activation `name` of Keras with its default arguments."""
    x = f64(x)
    name = ALIASES.get(name, name)
    if name == "softmax":
        return np.exp(_log_softmax(x))
    if name == "log_softmax":
        return _log_softmax(x)
    if name == "sparsemax":
        return _sparsemax(x)
    return f64(ELEMENTWISE[name][0](x))


def activation_gradient(name: str, x: Array, d_y: Array) -> Array:
    """Gradient of the input x, given that of the output."""
    x, d_y = f64(x), f64(d_y)
    name = ALIASES.get(name, name)
    if name == "softmax":
        y = activation(name, x)
        return y * (d_y - (d_y * y).sum(axis=-1, keepdims=True))
    if name == "log_softmax":
        return d_y - np.exp(_log_softmax(x)) * d_y.sum(axis=-1, keepdims=True)
    if name == "sparsemax":
        support = f64(_sparsemax(x) > 0.0)
        mean = (d_y * support).sum(axis=-1, keepdims=True) / support.sum(axis=-1, keepdims=True)
        return support * (d_y - mean)
    return d_y * f64(ELEMENTWISE[name][1](x))


# --- Dense, Embedding ---------------------------------------------------------------------------


def dense_forward(x: Array, kernel: Array, bias: Array | None) -> Array:
    """x (..., K) -> (..., N)."""
    y = f64(x) @ f64(kernel)
    return y if bias is None else y + f64(bias)


def dense_backward(x: Array, kernel: Array, d_y: Array) -> tuple[Array, Array, Array]:
    """Gradients of x, kernel, bias."""
    x, kernel, d_y = f64(x), f64(kernel), f64(d_y)
    rows, d_rows = x.reshape(-1, kernel.shape[0]), d_y.reshape(-1, kernel.shape[1])
    return d_y @ kernel.T, rows.T @ d_rows, d_rows.sum(axis=0)


def embedding_forward(table: Array, ids: Array) -> Array:
    """ids (...) -> rows (..., D)."""
    return f64(table)[ids]


def embedding_backward(ids: Array, d_y: Array, input_dim: int) -> Array:
    """Gradient of the table (V, D)."""
    d_y = f64(d_y)
    d_table = np.zeros((input_dim, d_y.shape[-1]))
    for row, d_row in zip(ids.ravel(), d_y.reshape(-1, d_y.shape[-1]), strict=True):
        d_table[row] += d_row
    return d_table


# --- losses -------------------------------------------------------------------------------------

# Keras clips probabilities to [1e-7, 1 - 1e-7] in float32; the upper bound rounds to 1 - 2**-23.
CLIP_LOW = float(np.float32(1e-7))
CLIP_HIGH = float(np.float32(1.0) - np.float32(1e-7))


def _clip(p: Array) -> tuple[Array, Array]:
    """The clipped probabilities and the derivative of the clip."""
    return np.clip(p, CLIP_LOW, CLIP_HIGH), f64((p >= CLIP_LOW) & (p <= CLIP_HIGH))


def _binary_crossentropy(t: Array, p: Array, from_logits: bool) -> tuple[Array, Array]:
    n = p.shape[-1]
    if from_logits:
        # softplus(p) - t p, in an order that keeps the digits of a small loss.
        values = (np.maximum(p, 0.0) - t * p) + np.log1p(np.exp(-np.abs(p)))
        return values.mean(axis=-1), (sigmoid(p) - t) / n
    q, inside = _clip(p)
    rows = -(t * np.log(q) + (1.0 - t) * np.log1p(-q)).mean(axis=-1)
    return rows, inside * ((1.0 - t) / (1.0 - q) - t / q) / n


def _categorical_crossentropy(t: Array, p: Array, from_logits: bool) -> tuple[Array, Array]:
    if from_logits:
        log_q = _log_softmax(p)
        return -(t * log_q).sum(axis=-1), np.exp(log_q) * t.sum(axis=-1, keepdims=True) - t
    total = p.sum(axis=-1, keepdims=True)
    share = p / total
    q, inside = _clip(share)
    d_share = -inside * t / q
    return -(t * np.log(q)).sum(axis=-1), (d_share - (d_share * share).sum(axis=-1, keepdims=True)) / total


def loss(
    name: str,
    y_true: Array,
    y_pred: Array,
    row_weights: Array | None = None,
    from_logits: bool = False,
    parameter: float = 0.0,
) -> tuple[Array, Array]:
    """Loss of every row (all axes but the last) and the gradient of sum(row_weights * rows).

    `parameter` is the label smoothing of the binary and categorical cross-entropy and the delta of "huber".
    """
    p = f64(y_pred)
    n = p.shape[-1]
    if name == "binary_crossentropy":
        t = f64(y_true) * (1.0 - parameter) + 0.5 * parameter
        rows, gradient = _binary_crossentropy(t, p, from_logits)
    elif name == "categorical_crossentropy":
        t = f64(y_true) * (1.0 - parameter) + parameter / n
        rows, gradient = _categorical_crossentropy(t, p, from_logits)
    elif name == "sparse_categorical_crossentropy":
        rows, gradient = _categorical_crossentropy(np.eye(n)[y_true], p, from_logits)
    elif name == "mean_squared_error":
        difference = p - f64(y_true)
        rows, gradient = np.square(difference).mean(axis=-1), 2.0 * difference / n
    elif name == "mean_absolute_error":
        difference = p - f64(y_true)
        rows, gradient = np.abs(difference).mean(axis=-1), np.sign(difference) / n
    elif name == "huber":
        difference = p - f64(y_true)
        size = np.abs(difference)
        values = np.where(size <= parameter, 0.5 * size**2, parameter * (size - 0.5 * parameter))
        rows, gradient = values.mean(axis=-1), np.clip(difference, -parameter, parameter) / n
    elif name == "log_cosh":
        difference = p - f64(y_true)
        # cosh x = 1 + 2 sinh(x / 2)^2 keeps the digits of small differences; cosh of large ones overflows.
        near = np.log1p(2.0 * np.sinh(0.5 * np.clip(difference, -1.0, 1.0)) ** 2)
        far = np.logaddexp(difference, -difference) - np.log(2.0)
        values = np.where(np.abs(difference) < 1.0, near, far)
        rows, gradient = values.mean(axis=-1), np.tanh(difference) / n
    elif name == "kl_divergence":
        t, q = np.clip(f64(y_true), CLIP_LOW, 1.0), np.clip(p, CLIP_LOW, 1.0)
        rows, gradient = (t * np.log(t / q)).sum(axis=-1), np.where(p == q, -t / q, 0.0)
    else:
        raise ValueError(f"loss: unknown name {name!r}")
    if row_weights is not None:
        gradient = gradient * f64(row_weights)[..., None]
    return rows, gradient


# Of predictions that may be any number; the others take probabilities, or logits.
REGRESSION_LOSSES = ("mean_squared_error", "mean_absolute_error", "huber", "log_cosh")
LOSSES = (
    "binary_crossentropy",
    "categorical_crossentropy",
    "sparse_categorical_crossentropy",
    "kl_divergence",
    *REGRESSION_LOSSES,
)

# --- optimizers ---------------------------------------------------------------------------------


def adam_alpha(learning_rate: float, beta_1: float, beta_2: float, step: int) -> float:
    """Learning rate with both bias corrections, at step 1, 2, ..."""
    return learning_rate * math.sqrt(1.0 - beta_2**step) / (1.0 - beta_1**step)


def adam_step(
    w: Array,
    g: Array,
    m: Array,
    v: Array,
    v_hat: Array | None,
    alpha: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    decay: float = 0.0,
) -> tuple[Array, Array, Array, Array | None]:
    """One Adam step in the form of Keras: the new (w, m, v, v_hat)."""
    w, g, m, v = f64(w), f64(g), f64(m), f64(v)
    w = w - w * decay
    m = m + (g - m) * (1.0 - beta_1)
    v = v + (g * g - v) * (1.0 - beta_2)
    divisor = v
    if v_hat is not None:
        v_hat = divisor = np.maximum(f64(v_hat), v)
    return w - m * alpha / (np.sqrt(divisor) + epsilon), m, v, v_hat


def sgd_step(
    w: Array,
    g: Array,
    velocity: Array | None,
    learning_rate: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    decay: float = 0.0,
) -> tuple[Array, Array | None]:
    """One SGD step in the form of Keras: the new (w, velocity)."""
    w, g = f64(w), f64(g)
    w = w - w * decay
    if velocity is None:
        return w - g * learning_rate, None
    velocity = f64(velocity) * momentum - g * learning_rate
    return w + (velocity * momentum - g * learning_rate if nesterov else velocity), velocity
