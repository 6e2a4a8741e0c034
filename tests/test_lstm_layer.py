"""The LSTM layer: every constructor flag and call argument, forward and backward, against the yardstick."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import reference_recurrent as rec
from lstm_native import _core
from lstm_native.layers import LSTM, Dense, Embedding, Masking
from lstm_native.layers.base import Context
from lstm_native.models import Sequential

Array = npt.NDArray[Any]
# Float32 sums of some 20 products of size ~1 over 7 steps, against float64: errors stay near 1e-6.
FORWARD = 5e-6
BACKWARD = 5e-5


def f32(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)


def tensor(x: Array | None, dtype: str = "float32") -> Any:
    return None if x is None else _core.as_tensor(x, dtype)


def reference_of(layer: LSTM, x: Array, **arguments: Any) -> rec.RecurrentTrace:
    kernel, recurrent, *bias = layer.get_weights()
    return rec.recurrent_forward(
        x,
        kernel,
        recurrent,
        bias[0] if bias else None,
        activation_name=layer.activation.__name__,
        recurrent_activation=layer.recurrent_activation.__name__,
        return_sequences=layer.return_sequences,
        go_backwards=layer.go_backwards,
        zero_output_for_mask=layer.zero_output_for_mask,
        **arguments,
    )


MASKS = {
    "none": None,
    "left": [[0, 0, 1, 1, 1, 1, 1]],
    "right": [[1, 1, 1, 1, 0, 0, 0]],
    "holes": [[1, 0, 1, 1, 0, 0, 1]],
    "rows": [[0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1], [0, 1, 0, 1, 0, 1, 0]],
}


def mask_of(name: str) -> Array | None:
    pattern = MASKS[name]
    return None if pattern is None else np.broadcast_to(np.array(pattern, bool), (3, 7)).copy()


@pytest.mark.parametrize("mask_name", list(MASKS))
@pytest.mark.parametrize(
    ("sequences", "state", "backwards", "initial"), list(itertools.product([False, True], repeat=4))
)
def test_flags_forward_and_backward(
    mask_name: str, sequences: bool, state: bool, backwards: bool, initial: bool
) -> None:
    rng = np.random.default_rng(hash((sequences, state, backwards, initial)) & 0xFFFF)
    x, mask = f32(rng, 3, 7, 4), mask_of(mask_name)
    layer = LSTM(5, return_sequences=sequences, return_state=state, go_backwards=backwards)
    layer.build(x.shape)
    h0, c0 = (f32(rng, 3, 5), f32(rng, 3, 5)) if initial else (None, None)
    trace = reference_of(layer, x, mask=mask, h0=h0, c0=c0)

    result = layer(x, initial_state=[h0, c0] if initial else None, mask=mask)
    outputs = result if state else (result,)
    for got, want in zip(outputs, (trace.output, trace.h, trace.c), strict=False):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, atol=FORWARD)
    assert len(outputs) == (3 if state else 1)

    ctx = Context(True, True)
    start = (tensor(h0), tensor(c0)) if initial else None
    recorded = layer.forward(tensor(x), ctx, tensor(mask, "bool"), initial_state=start)
    np.testing.assert_array_equal((recorded[0] if state else recorded).numpy(), outputs[0])
    d_out, d_h, d_c = f32(rng, *trace.output.shape), f32(rng, 3, 5), f32(rng, 3, 5)
    d_outputs = (tensor(d_out), tensor(d_h), tensor(d_c)) if state else tensor(d_out)
    gradients = layer.backward(d_outputs, ctx)
    expected = rec.recurrent_backward(trace, d_out, d_h if state else None, d_c if state else None)
    if initial:
        for got, want in zip(gradients, (expected.inputs, expected.h0, expected.c0), strict=True):
            np.testing.assert_allclose(got.numpy(), want, atol=BACKWARD)
    else:
        np.testing.assert_allclose(gradients.numpy(), expected.inputs, atol=BACKWARD)
    for variable, want in zip(
        layer.weights, (expected.kernel, expected.recurrent, expected.bias), strict=True
    ):
        np.testing.assert_allclose(ctx.gradients[variable].numpy(), want, atol=BACKWARD)


@pytest.mark.parametrize("mask_name", ["left", "right", "holes", "rows"])
@pytest.mark.parametrize("sequences", [False, True])
def test_zero_output_for_mask(mask_name: str, sequences: bool) -> None:
    rng = np.random.default_rng(1)
    x, mask = f32(rng, 3, 7, 4), mask_of(mask_name)
    layer = LSTM(5, return_sequences=sequences, zero_output_for_mask=True)
    got = layer(x, mask=mask)
    np.testing.assert_allclose(got, reference_of(layer, x, mask=mask).output, atol=FORWARD)
    if sequences:
        assert mask is not None
        assert (got[~mask] == 0).all()


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("recurrent_activation", ["sigmoid", "hard_sigmoid", None])
@pytest.mark.parametrize("activation", ["tanh", "relu", "softsign", "linear", "elu"])
def test_activations_and_bias(activation: str, recurrent_activation: str | None, use_bias: bool) -> None:
    rng = np.random.default_rng(2)
    x = f32(rng, 2, 4, 3) / 2
    layer = LSTM(4, activation, recurrent_activation, use_bias, return_sequences=True)
    layer.build(x.shape)
    trace = reference_of(layer, x)
    np.testing.assert_allclose(layer(x), trace.output, rtol=1e-5, atol=FORWARD)
    ctx = Context(True, True)
    layer.forward(tensor(x), ctx)
    d_out = f32(rng, 2, 4, 4)
    d_x = layer.backward(tensor(d_out), ctx).numpy()
    expected = rec.recurrent_backward(trace, d_out)
    np.testing.assert_allclose(d_x, expected.inputs, rtol=1e-4, atol=BACKWARD)
    assert len(ctx.gradients) == 2 + use_bias


def test_reset_starts_a_new_sequence_inside_a_row() -> None:
    rng = np.random.default_rng(3)
    x = f32(rng, 2, 6, 3)
    reset = np.zeros((2, 6), bool)
    reset[:, 4] = True
    layer = LSTM(4, return_sequences=True)
    y = layer(x, reset=reset)
    np.testing.assert_allclose(y, reference_of(layer, x, reset=reset).output, atol=FORWARD)
    np.testing.assert_array_equal(y[:, 4:], layer(x[:, 4:]))


def test_unit_forget_bias_sets_the_forget_gate_only() -> None:
    layer = LSTM(3, bias_initializer="constant")
    layer.build((None, None, 2))
    np.testing.assert_array_equal(layer.get_weights()[2], [0] * 3 + [1] * 3 + [0] * 6)
    layer = LSTM(3, bias_initializer=lambda shape, dtype=None: np.full(shape, 0.25, np.float32))
    layer.build((None, None, 2))
    np.testing.assert_array_equal(layer.get_weights()[2], [0.25] * 3 + [1] * 3 + [0.25] * 6)
    layer = LSTM(3, unit_forget_bias=False, bias_initializer="ones")
    layer.build((None, None, 2))
    np.testing.assert_array_equal(layer.get_weights()[2], [1] * 12)


def test_initial_weights_have_the_keras_shapes_and_kinds() -> None:
    layer = LSTM(6)
    layer.build((None, None, 4))
    kernel, recurrent, bias = layer.get_weights()
    assert (kernel.shape, recurrent.shape, bias.shape) == ((4, 24), (6, 24), (24,))
    assert np.abs(kernel).max() <= np.sqrt(6 / (4 + 24))
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(6), atol=1e-5)
    assert layer.count_params() == 4 * 24 + 6 * 24 + 24


def test_stateful_continues_where_the_call_before_stopped() -> None:
    rng = np.random.default_rng(4)
    x = f32(rng, 3, 8, 2)
    layer = LSTM(4, stateful=True, return_sequences=True)
    assert layer.states is None
    first, second = layer(x[:, :5]), layer(x[:, 5:])
    whole = LSTM(4, return_sequences=True)
    whole.build(x.shape)
    whole.set_weights(layer.get_weights())
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole(x), atol=FORWARD)
    assert layer.states is not None
    np.testing.assert_array_equal(layer.states[0], second[:, -1])

    with pytest.raises(ValueError, match=r"2 rows.*state of this stateful layer has 3"):
        layer(x[:2])
    layer.reset_state()
    np.testing.assert_array_equal(layer(x[:2, :5]), first[:2])


def test_failed_call_leaves_the_state() -> None:
    rng = np.random.default_rng(5)
    x = f32(rng, 3, 4, 2)
    model = Sequential([LSTM(4, stateful=True), Dense(2, activation=lambda z: 1 / 0)])
    with pytest.raises(ZeroDivisionError):
        model(x)
    assert model.layers[0].states is None  # type: ignore[attr-defined]


def test_state_goes_from_one_layer_to_another() -> None:
    rng = np.random.default_rng(6)
    x = f32(rng, 2, 5, 3)
    encoder = LSTM(4, return_state=True)
    output, h, c = encoder(x)
    np.testing.assert_array_equal(output, h)
    decoder = LSTM(4)
    got = decoder(x, initial_state=[h, c])
    np.testing.assert_allclose(got, reference_of(decoder, x, h0=h, c0=c).output, atol=FORWARD)


@pytest.mark.parametrize("mask_name", ["none", "holes"])
@pytest.mark.parametrize("backwards", [False, True])
def test_python_callable_runs_forward(mask_name: str, backwards: bool) -> None:
    rng = np.random.default_rng(7)
    x, mask = f32(rng, 3, 7, 2), mask_of(mask_name)
    arguments: dict[str, Any] = {"return_sequences": True, "return_state": True, "go_backwards": backwards}
    layer = LSTM(4, activation=lambda z: np.tanh(z), **arguments)
    native = LSTM(4, **arguments)
    native.build(x.shape)
    layer.build(x.shape)
    native.set_weights(layer.get_weights())
    reset = np.zeros((3, 7), bool)
    reset[1, 3] = True
    for got, want in zip(layer(x, mask=mask, reset=reset), native(x, mask=mask, reset=reset), strict=True):
        np.testing.assert_allclose(got, want, atol=FORWARD)


def test_softmax_in_the_recurrence_runs_forward() -> None:
    x = f32(np.random.default_rng(8), 2, 3, 4)
    layer = LSTM(5, activation="softmax")
    np.testing.assert_allclose(layer(x), reference_of(layer, x).output, atol=FORWARD)


def test_mask_of_embedding_reaches_the_lstm() -> None:
    ids = np.array([[0, 0, 3, 1], [2, 0, 1, 4]])
    embedding, lstm = Embedding(5, 3, mask_zero=True), LSTM(4)
    model = Sequential([embedding, lstm])
    got = model(ids)
    x = embedding.get_weights()[0][ids]
    np.testing.assert_allclose(got, reference_of(lstm, x, mask=ids != 0).output, atol=FORWARD)


def test_masking_and_stacked_layers_pass_the_mask_on() -> None:
    rng = np.random.default_rng(9)
    x = f32(rng, 3, 6, 2)
    x[0, 4:] = 0
    x[1, :2] = 0
    mask = (x != 0).any(axis=-1)
    first, second = LSTM(4, return_sequences=True), LSTM(3)
    model = Sequential([Masking(), first, second])
    got = model(x)
    between = reference_of(first, x, mask=mask).output
    np.testing.assert_allclose(got, reference_of(second, between, mask=mask).output, atol=FORWARD)
    np.testing.assert_array_equal(Sequential([first, second])(x, mask=mask), got)


def test_a_row_is_the_same_alone_and_in_any_batch() -> None:
    rng = np.random.default_rng(10)
    x = f32(rng, 9, 6, 5)
    layer = LSTM(7, return_sequences=True)
    whole = layer(x)
    for row in range(9):
        np.testing.assert_array_equal(layer(x[row : row + 1])[0], whole[row])


def test_compute_output_shape_and_mask() -> None:
    assert LSTM(4).compute_output_shape((None, 7, 3)) == (None, 4)
    assert LSTM(4, return_sequences=True).compute_output_shape((2, None, 3)) == (2, None, 4)
    assert LSTM(4, return_state=True).compute_output_shape((2, 7, 3)) == ((2, 4), (2, 4), (2, 4))
    mask = np.ones((2, 7), bool)
    assert LSTM(4).compute_mask(None, mask) is None
    assert LSTM(4, return_sequences=True).compute_mask(None, mask) is mask


def test_keras_arguments_that_change_nothing_are_accepted() -> None:
    layer = LSTM(
        3, dropout=0.0, recurrent_dropout=0.0, kernel_regularizer=None, unroll=True, implementation=1, seed=1
    )
    assert layer(np.zeros((1, 2, 3))).shape == (1, 3)
