"""ops and backend: values as NumPy's, gradients against differences, NumPy's functions on traced values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lstm_native
from lstm_native import activations, backend, ops
from lstm_native.traced import Traced, recording
from lstm_native.variable import Variable

RNG = np.random.default_rng(5)
X = RNG.normal(size=(3, 4, 5)).astype(np.float32)
W = RNG.normal(size=(5, 2)).astype(np.float32)
B = RNG.normal(size=(3, 5, 2)).astype(np.float32)
ROW = RNG.normal(size=(5,)).astype(np.float32)


def in_place(y: Any, x: Any) -> Any:
    y += x
    y *= x
    y -= 1.0
    y /= 2.0
    y **= 2
    return y


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "add": lambda x: x + ROW,
    "radd": lambda x: 2 + x,
    "subtract": lambda x: ROW - x,
    "multiply": lambda x: x * x * ROW,
    "divide": lambda x: ROW / (x * x + 1),
    "power": lambda x: x**3,
    "negative power": lambda x: (x * x + 1) ** -1.5,
    "power of a number": lambda x: 2.0**x,
    "negative": lambda x: -x,
    "exp": lambda x: ops.exp(x) + ops.expm1(x),
    "log": lambda x: ops.log(x * x + 1) + ops.log1p(ops.square(x)),
    "sqrt": lambda x: ops.sqrt(x * x + 1),
    "abs": ops.abs,
    "sin": lambda x: ops.sin(x) * ops.cos(x),
    "tanh": ops.tanh,
    "sigmoid": ops.sigmoid,
    "relu": ops.relu,
    "softplus": ops.softplus,
    "softmax": lambda x: ops.softmax(x, axis=1) * X,
    "log_softmax": lambda x: ops.log_softmax(x) * X,
    "logsumexp": lambda x: ops.logsumexp(x, axis=-1),
    "clip": lambda x: ops.clip(x, -0.5, 0.5) * X,
    "maximum": lambda x: ops.maximum(x, ROW) * ops.minimum(x, 0.3),
    "where": lambda x: ops.where(X > 0, x * 2, x * x),
    "sum": lambda x: ops.sum(x, axis=(0, 2), keepdims=True) * x,
    "sum of all": lambda x: ops.sum(x) * x,
    "mean": lambda x: ops.mean(x, axis=1) ** 2,
    "max": lambda x: ops.max(x, axis=1) * ops.min(x, axis=-1, keepdims=False)[:, :1],
    "std": lambda x: ops.std(x, axis=-1) + ops.var(x),
    "cumsum": lambda x: ops.cumsum(x, axis=1) ** 2,
    "reshape": lambda x: ops.reshape(x, (3, -1)) ** 2,
    "transpose": lambda x: ops.transpose(x, (2, 0, 1)) * np.arange(4),
    "swapaxes": lambda x: ops.swapaxes(x, 0, 2) * np.arange(3),
    "expand_dims": lambda x: ops.squeeze(ops.expand_dims(x, 1), 1) ** 2,
    "slice": lambda x: x[:, -1, 1:3] ** 2,
    "index twice": lambda x: x[:, [0, 0, 1]] ** 2,
    "take": lambda x: ops.take(x, [1, 1], axis=-1) ** 2,
    "concatenate": lambda x: ops.concatenate([x, X, x * 2], axis=1) ** 2,
    "stack": lambda x: ops.stack([x, x * x], axis=1) ** 2,
    "split": lambda x: ops.split(x, 2, axis=1)[1] * ops.unstack(x, axis=0)[0][:2],
    "flip": lambda x: ops.flip(x, 1) * np.arange(20).reshape(4, 5),
    "broadcast_to": lambda x: ops.broadcast_to(x[:, :1], (3, 4, 5)) * X,
    "repeat": lambda x: ops.repeat(x, 2, axis=1) ** 2,
    "tile": lambda x: ops.tile(x, (2, 1, 3)) ** 2,
    "matmul": lambda x: (x @ W) ** 2,
    "matmul of batches": lambda x: ops.matmul(x, B) ** 2,
    "matmul of a vector": lambda x: ops.matmul(x, ROW) ** 2,
    "dot": lambda x: ops.dot(x, W) ** 2,
    "tensordot": lambda x: ops.tensordot(x, B, ((2, 0), (1, 0))) ** 2,
    "einsum": lambda x: ops.einsum("bti,bij->btj", x, B) ** 2,
    "einsum that sums": lambda x: ops.einsum("bti,ij->b", x, W) ** 2,
    "norm": lambda x: ops.norm(x, axis=-1) + ops.norm(x, 1),
    "normalize": lambda x: ops.normalize(x) * X,
    "norms": lambda x: ops.norm(x, 3, axis=-1) + ops.norm(x, np.inf, axis=2) + np.linalg.norm(x, axis=-1),
    "normalize by cubes": lambda x: ops.normalize(x, order=3) * X,
    "einsum of diagonals": lambda x: ops.einsum("btt->bt", x[:, :, :4]) ** 2,
    "einsum of any axes": lambda x: ops.einsum("...i,ij->...j", x, W) ** 2,
    "einsum of axes of size one": lambda x: ops.einsum("...ti,...ti", x[:1], X * X) ** 2,
    "remainder": lambda x: (x % 2.5 + 7 % (x * x + 1)) * X,
    "transpose from behind": lambda x: ops.transpose(x[:, :3, :3], (-1, 0, 1)) ** 2,
    "cumsum of all": lambda x: np.cumsum(x) ** 2 + ops.cumsum(x) ** 2,
    "repeat of all": lambda x: np.repeat(x, 2) ** 2,
    "repeat by numbers": lambda x: ops.repeat(x, [0, 1, 3, 2], axis=1) ** 2,
    "clip by values": lambda x: ops.clip(X, -0.7 * ops.abs(x), 0.5 * ops.abs(x)) + np.clip(x, None, 0.5),
    "clip by name": lambda x: np.clip(x, a_min=0.1, a_max=None) * X,
    "in place": lambda x: in_place(x * 2, x),
    "cast": lambda x: ops.cast(x, "float64") ** 2,
    "numpy": lambda x: (
        np.mean(np.concatenate([np.tanh(x), x], axis=-1), axis=1) * np.exp(np.sum(x, axis=1))[:, :1]
    ),
    "numpy of a constant": lambda x: x * (x > 0) + np.argmax(x, axis=-1)[..., None],
    "methods": lambda x: (x.reshape(3, 20).sum(axis=1) * x.mean() + x.max() - x.T.squeeze().min()) ** 2,
    "activation": lambda x: activations.get("gelu")(x) + activations.softmax(x, axis=1),
    "parametric activation": lambda x: activations.leaky_relu(x, 0.3) + activations.elu(x, 0.5),
    "batch_dot": lambda x: backend.batch_dot(x, B) ** 2,
    "batch_dot of axes": lambda x: backend.batch_dot(x, X, axes=2) ** 2,
    "l2_normalize": lambda x: backend.l2_normalize(x, axis=1) * X,
    "binary_crossentropy": lambda x: backend.binary_crossentropy(X > 0, ops.sigmoid(x)),
    "binary_crossentropy of logits": lambda x: backend.binary_crossentropy(X > 0, x, from_logits=True),
    "sparse_categorical_crossentropy": lambda x: backend.sparse_categorical_crossentropy(
        np.ones((3, 4, 1)), ops.softmax(x)
    ),
    "switch": lambda x: backend.switch(X > 0, lambda: x * 3, x),
    "stop_gradient": lambda x: x * ops.stop_gradient(X),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients(name: str) -> None:
    function = FUNCTIONS[name]
    with recording(True) as tape:
        x = Traced(X, tape)
        y = function(x)
    assert isinstance(y, Traced)
    plain = function(X)
    # NumPy 1 squares and raises to the power of 2 with other last bits.
    np.testing.assert_allclose(y.value, np.asarray(plain, np.float32), rtol=2.4e-7, atol=0)
    weights = RNG.normal(size=y.shape).astype(np.float32)
    found = tape.backward([y], [weights])[0](x)
    assert found is not None
    assert found.dtype == np.float32
    step = 1e-3
    for position in RNG.permutation(X.size)[:12]:
        moved = [X.astype(np.float64).copy() for _ in range(2)]
        moved[0].flat[position] += step
        moved[1].flat[position] -= step
        high, low = (np.sum(np.asarray(function(m.astype(np.float32)), np.float64) * weights) for m in moved)
        # Rounding of float32 results, divided by the step.
        scale = np.abs(np.asarray(plain, np.float64) * weights).sum() + 1
        assert found.flat[position] == pytest.approx(
            (high - low) / (2 * step), rel=2e-2, abs=1e-4 * scale + 2e-3
        )


def test_variables_are_leaves() -> None:
    w = Variable(W)
    for function in (
        lambda x: ops.dot(x, w),
        lambda x: x @ w,
        lambda x: ops.matmul(x, ops.tanh(w)),
        lambda x: np.sum(w) * x,
        lambda x: w[0] + x[..., :2],
        lambda x: ops.concatenate([x[0], np.transpose(w)]),
    ):
        with recording(True) as tape:
            y = function(Traced(X, tape))
        gradients = tape.backward([y], [np.ones(y.shape, np.float32)])[1]
        assert list(gradients) == [w]
        assert gradients[w].shape == W.shape
        assert np.abs(gradients[w]).sum() > 0
    # Outside they are arrays.
    assert type(np.sum(w)) is np.float32
    assert type(ops.tanh(w)) is np.ndarray


def test_what_has_no_gradient_says_so() -> None:
    with recording(True) as tape:
        x = Traced(X, tape)
        for function in (lambda: np.fft.rfft(x), lambda: np.sort(x), lambda: np.add.reduce(x)):
            with pytest.raises(TypeError, match=r"has no gradient here.*lstm_native\.ops"):
                function()
        with pytest.raises(TypeError, match="loses its gradient"):
            np.asarray(x)
        total = np.zeros(X.shape, np.float32)
        with pytest.raises(TypeError, match=r"a = a \+ x"):
            total += x
        for order in (2, 1, "nuc"):
            with pytest.raises(ValueError, match=r"norm: ord is .* for matrices"):
                np.linalg.norm(x[0], order)
        with pytest.raises(ValueError, match=r"'ij' for an array of 3 axes"):
            ops.einsum("ij,jk", x, W)
        # What is no float has no gradient to lose.
        np.testing.assert_array_equal(np.asarray(x > 0), X > 0)
        assert np.shape(x) == X.shape
        assert x.numpy() is X
    with recording(False) as tape:
        np.testing.assert_array_equal(np.sort(Traced(X, tape)), np.sort(X))


def test_arrays_stay_arrays() -> None:
    assert type(ops.softmax(X)) is np.ndarray
    np.testing.assert_allclose(ops.softmax(X).sum(-1), 1, rtol=1e-6)
    np.testing.assert_array_equal(ops.one_hot([1, 0], 3), [[0, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(ops.argmax(X, -1), X.argmax(-1))
    assert ops.convert_to_tensor([1.0]).dtype == np.float32
    assert ops.mean([1, 2]) == 1.5


def test_settings_of_the_backend() -> None:
    assert lstm_native.backend.floatx() == "float32"
    assert backend.epsilon() == 1e-7
    rate = lstm_native.optimizers.Adam(0.5)._rate
    backend.set_value(rate, 0.25)
    assert backend.get_value(rate) == 0.25
    backend.clear_session()
    assert lstm_native.layers.LSTM(2).name == "lstm"
    assert lstm_native.layers.LSTM(2).name == "lstm_1"
    lstm_native.utils.clear_session()
    assert lstm_native.layers.LSTM(2).name == "lstm"
    assert backend.random_normal((2, 3), seed=1).shape == (2, 3)
    assert backend.ndim(X) == 3
    assert backend.int_shape(X) == (3, 4, 5)
