"""Embedding, Dense, Activation, Dropout, Masking and Input against the yardstick and their properties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import reference as ref
from lstm_native import _core, activations
from lstm_native.layers import Activation, Dense, Dropout, Embedding, Input, InputLayer, Layer, Masking
from lstm_native.layers.base import Context
from lstm_native.utils import set_random_seed


def f32(rng: np.random.Generator, *shape: int) -> np.ndarray[Any, Any]:
    return rng.standard_normal(shape).astype(np.float32)


def passes(layer: Layer, x: Any, d_y: Any) -> tuple[Any, Any, list[Any]]:
    """Outputs, gradient of the inputs and gradients of the variables of one recorded pass."""
    tensor = layer.as_input(x)
    layer.build(tensor.shape)
    ctx = Context(True, True)
    y = layer.forward(tensor, ctx)
    d_x = layer.backward(_core.as_tensor(d_y, "float32"), ctx)
    gradients = [ctx.gradients[v].numpy() for v in layer.variables]
    return y.numpy(), None if d_x is None else d_x.numpy(), gradients


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 5)])
@pytest.mark.parametrize("activation", [None, "sigmoid", "softmax", "relu", "tanh"])
@pytest.mark.parametrize("use_bias", [True, False])
def test_dense(shape: tuple[int, ...], activation: str | None, use_bias: bool) -> None:
    rng = np.random.default_rng(1)
    x, d_y = f32(rng, *shape), f32(rng, *shape[:-1], 3)
    layer = Dense(3, activation, use_bias, bias_initializer="ones")
    y, d_x, gradients = passes(layer, x, d_y)
    kernel, *bias = layer.get_weights()
    z = ref.dense_forward(x, kernel, bias[0] if use_bias else None)
    name = activation or "linear"
    expected = ref.dense_backward(x, kernel, ref.activation_gradient(name, z, d_y))
    # Sums of 5 to 6 products of size ~1: 1e-5 is far above float32 rounding, far below a wrong term.
    np.testing.assert_allclose(y, ref.activation(name, z), atol=1e-5)
    np.testing.assert_allclose(d_x, expected[0], atol=1e-5)
    assert len(gradients) == 1 + use_bias
    for got, want in zip(gradients, expected[1:], strict=False):
        np.testing.assert_allclose(got, want, atol=1e-5)
    np.testing.assert_array_equal(layer(x), y)


def test_dense_with_python_callable_works_forward() -> None:
    x = f32(np.random.default_rng(2), 3, 4)
    layer = Dense(2, activation=lambda z: z * 2)
    y = layer(x)
    kernel, bias = layer.get_weights()
    np.testing.assert_allclose(y, 2 * (x @ kernel + bias), rtol=1e-5, atol=1e-6)


def test_embedding() -> None:
    rng = np.random.default_rng(3)
    ids = rng.integers(0, 7, (4, 5))
    d_y = f32(rng, 4, 5, 3)
    layer = Embedding(7, 3)
    y, d_x, gradients = passes(layer, ids, d_y)
    np.testing.assert_array_equal(y, layer.get_weights()[0][ids])
    assert d_x is None
    np.testing.assert_allclose(gradients[0], ref.embedding_backward(ids, d_y, 7), atol=1e-5)
    assert np.abs(layer.get_weights()[0]).max() <= 0.05


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int16", "int32", "int64", "uint64", "float32", "float64", ">i4"]
)
def test_embedding_takes_whole_numbers_of_any_dtype(dtype: str) -> None:
    layer = Embedding(9, 2)
    ids = np.array([[1, 8], [0, 3]])
    np.testing.assert_array_equal(layer(ids.astype(dtype)), layer(ids))
    np.testing.assert_array_equal(layer(ids.tolist()), layer(ids))


def test_embedding_weights_argument_and_mask() -> None:
    table = f32(np.random.default_rng(4), 5, 2)
    layer = Embedding(5, 2, mask_zero=True, weights=[table])
    np.testing.assert_array_equal(layer([[0, 4]]), table[[[0, 4]]])
    np.testing.assert_array_equal(layer.compute_mask(np.array([[0, 4]])), [[False, True]])
    assert Embedding(5, 2).compute_mask(np.array([[0, 4]])) is None
    np.testing.assert_array_equal(Embedding(5, 2, weights=table).get_weights()[0], table)


def test_embedding_input_length_is_accepted_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="input_length"):
        Embedding(5, 2, input_length=10)


@pytest.mark.parametrize("name", [n for n in _core.activation_names() if n != "threshold"])
def test_activation_layer_and_function(name: str) -> None:
    rng = np.random.default_rng(5)
    x, d_y = f32(rng, 3, 4) * 2, f32(rng, 3, 4)
    y, d_x, _ = passes(Activation(name), x, d_y)
    np.testing.assert_allclose(y, ref.activation(name, x), atol=2e-6, rtol=2e-6)
    np.testing.assert_allclose(d_x, ref.activation_gradient(name, x, d_y), atol=1e-5, rtol=1e-5)
    np.testing.assert_array_equal(activations.get(name)(x), y)


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        ("relu", {"negative_slope": 0.1}, [-0.2, -0.05, 0.0, 3.0]),
        ("relu", {"max_value": 2.0}, [0.0, 0.0, 0.0, 2.0]),
        ("relu", {"threshold": 1.0}, [0.0, 0.0, 0.0, 3.0]),
        ("leaky_relu", {"negative_slope": 0.5}, [-1.0, -0.25, 0.0, 3.0]),
        ("elu", {"alpha": 2.0}, [2 * np.expm1(-2.0), 2 * np.expm1(-0.5), 0.0, 3.0]),
        ("celu", {"alpha": 2.0}, [2 * np.expm1(-1.0), 2 * np.expm1(-0.25), 0.0, 3.0]),
        ("soft_shrink", {"threshold": 1.0}, [-1.0, 0.0, 0.0, 2.0]),
        ("hard_shrink", {"threshold": 1.0}, [-2.0, 0.0, 0.0, 3.0]),
        ("squareplus", {"b": 0}, [0.0, 0.0, 0.0, 3.0]),
        ("threshold", {"threshold": 0.0, "default_value": 7.0}, [7.0, 7.0, 7.0, 3.0]),
        ("glu", {}, [0.0 - 2.0 * 0.5, -0.5 / (1 + np.exp(-3.0))]),
    ],
)
def test_activation_functions_with_other_parameters(function: str, arguments: Any, expected: Any) -> None:
    x = np.array([-2.0, -0.5, 0.0, 3.0], np.float32)
    y = getattr(activations, function)(x, **arguments)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-7)


def test_gelu_approximation_and_softmax_along_another_axis() -> None:
    x = f32(np.random.default_rng(6), 3, 4)
    # The tanh formula is within 1e-3 of the exact function.
    np.testing.assert_allclose(activations.gelu(x, approximate=True), activations.gelu(x), atol=1e-3)
    np.testing.assert_allclose(activations.softmax(x, axis=0).sum(axis=0), np.ones(4), rtol=1e-6)
    np.testing.assert_array_equal(activations.softmax(x, axis=0), activations.softmax(x.T).T)


def test_dropout_scales_what_it_keeps() -> None:
    x = np.ones((50, 40), np.float32)
    layer = Dropout(0.25, seed=1)
    np.testing.assert_array_equal(layer(x), x)
    y = layer(x, training=True)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    # 2000 draws: 5 standard deviations of the fraction are 0.049.
    assert abs((y == 0).mean() - 0.25) < 0.05
    assert not np.array_equal(layer(x, training=True), y)
    np.testing.assert_array_equal(Dropout(0.25, seed=1)(x, training=True), y)


def test_dropout_without_seed_follows_the_global_seed() -> None:
    x = np.ones((6, 7), np.float32)
    drawn = []
    for _ in range(2):
        set_random_seed(3)
        drawn.append(Dropout(0.5)(x, training=True))
    np.testing.assert_array_equal(*drawn)


def test_dropout_noise_shape_is_shared_and_backward_uses_the_same_mask() -> None:
    x, d_y = np.ones((3, 8, 5), np.float32), np.full((3, 8, 5), 2.0, np.float32)
    y, d_x, _ = passes(Dropout(0.5, noise_shape=(None, 1, None), seed=2), x, d_y)
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1], y.shape))
    np.testing.assert_array_equal(d_x, 2 * y)
    assert len(np.unique(y)) == 2


def test_dropout_of_everything() -> None:
    y = Dropout(1.0)(np.ones((2, 3), np.float32), training=True)
    np.testing.assert_array_equal(y, np.zeros((2, 3)))


def test_masking() -> None:
    x = np.array([[[0, 0], [1, 0], [2, 2]], [[3, 0], [0, 0], [0, 0]]], np.float32)
    layer = Masking()
    mask = np.array([[False, True, True], [True, False, False]])
    np.testing.assert_array_equal(layer.compute_mask(x), mask)
    np.testing.assert_array_equal(layer(x), x)
    y, d_x, _ = passes(Masking(2.0), x, np.ones_like(x))
    np.testing.assert_array_equal(y[0], [[0, 0], [1, 0], [0, 0]])
    np.testing.assert_array_equal(d_x[0, 2], [0, 0])
    assert np.isnan(layer(np.full((1, 1, 2), np.nan))).all()


def test_automatic_names_are_numbered_and_given_names_kept() -> None:
    a, b = Dense(1), Dense(1)
    assert a.name.startswith("dense")
    assert a.name != b.name
    assert Dense(1, name="top").name == "top"
    layer = Dense(1, name="top")
    layer.build((None, 2))
    assert [v.path for v in layer.weights] == ["top/kernel", "top/bias"]


def test_weights_can_be_read_set_counted_and_frozen() -> None:
    layer = Dense(3)
    layer.build((None, 2))
    assert layer.count_params() == 9
    values = [np.arange(6.0).reshape(2, 3), np.ones(3)]
    layer.set_weights(values)
    for got, want in zip(layer.get_weights(), values, strict=True):
        np.testing.assert_array_equal(got, want)
    layer.get_weights()[0][:] = 7  # a copy
    np.testing.assert_array_equal(layer.kernel.value, values[0])
    layer.kernel.assign(values[0] + 1)
    np.testing.assert_array_equal(np.asarray(layer.kernel), values[0] + 1)
    assert layer.trainable_weights == layer.weights
    layer.trainable = False
    assert layer.trainable_weights == []
    assert layer.non_trainable_weights == layer.weights


def test_initializer_arrays_are_not_shared_with_the_variable() -> None:
    table = np.zeros((3, 2), np.float32)
    layer = Embedding(3, 2, embeddings_initializer=lambda shape, dtype=None: table)
    layer.build((None, None))
    table += 1
    np.testing.assert_array_equal(layer.get_weights()[0], np.zeros((3, 2)))


def test_input_shapes() -> None:
    assert InputLayer(shape=(10, 4)).batch_shape == Input(shape=(10, 4)).shape == (None, 10, 4)
    assert (
        InputLayer(shape=(None,), batch_size=3).batch_shape
        == Input(shape=(None,), batch_size=3).shape
        == (3, None)
    )
    assert InputLayer(batch_shape=(2, 5)).batch_shape == Input(batch_shape=(2, 5)).shape == (2, 5)


@pytest.mark.parametrize(
    "kind", ["float64", "strided", "read-only", "big-endian", "fortran", "int", "list", "dlpack"]
)
def test_any_array_layout_gives_the_same_outputs(kind: str) -> None:
    x = np.arange(24, dtype=np.float32).reshape(4, 6) / 8
    layer = Dense(2)
    expected = layer(x)
    given: Any = x
    if kind == "float64":
        given = x.astype(np.float64)
    elif kind == "strided":
        given = np.repeat(x, 2, axis=1)[:, ::2]
    elif kind == "read-only":
        given = x.copy()
        given.flags.writeable = False
    elif kind == "big-endian":
        given = x.astype(">f4")
    elif kind == "fortran":
        given = np.asfortranarray(x)
    elif kind == "int":
        expected = layer(np.float32(8) * x)
        given = (8 * x).astype(np.int64)
    elif kind == "list":
        given = x.tolist()
    else:
        given = _DLPackOnly(x)
    np.testing.assert_array_equal(layer(given), expected)


class _DLPackOnly:
    """An array of another library: nothing but the DLPack protocol."""

    def __init__(self, x: np.ndarray[Any, Any]) -> None:
        self._x = x

    def __dlpack__(self, **arguments: Any) -> Any:
        return self._x.__dlpack__(**arguments)

    def __dlpack_device__(self) -> Any:
        return self._x.__dlpack_device__()


def test_nan_and_infinity_pass_through() -> None:
    x = np.array([[np.nan, 1.0], [np.inf, 1.0], [1.0, 1.0]], np.float32)
    y = Dense(2, kernel_initializer="ones")(x)
    assert np.isnan(y[0]).all()
    assert np.isinf(y[1]).all()
    assert np.isfinite(y[2]).all()
