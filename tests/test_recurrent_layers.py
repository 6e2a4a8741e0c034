"""GRU and SimpleRNN as layers: against the yardstick, trained, stateful, streamed, activations in Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lstm_native as ln
import reference_recurrent as rec
from lstm_native.layers import GRU, LSTM, Dense, Embedding, SimpleRNN
from lstm_native.layers.base import Context, Tensor
from native_support import Array, assert_bits, f32, tensor

CELLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "gru": (GRU, {}),
    "gru_before": (GRU, {"reset_after": False}),
    "simple_rnn": (SimpleRNN, {}),
    "lstm": (LSTM, {}),
}


def layer_of(cell: str, units: int = 7, features: int = 5, **options: Any) -> Any:
    kind, more = CELLS[cell]
    layer = kind(
        units, bias_initializer="glorot_uniform" if options.pop("bias", False) else "zeros", **more, **options
    )
    layer.build((None, None, features))
    return layer


def reference_of(cell: str, layer: Any, x: Array, **options: Any) -> rec.RecurrentTrace:
    kernel, recurrent, *bias = layer.get_weights()
    return rec.recurrent_forward(
        x,
        kernel,
        recurrent,
        bias[0] if bias else None,
        cell=cell,
        return_sequences=layer.return_sequences,
        go_backwards=layer.go_backwards,
        zero_output_for_mask=layer.zero_output_for_mask,
        **options,
    )


def inputs(rows: int = 4, time: int = 6, features: int = 5) -> Array:
    return f32(np.random.default_rng(3).normal(size=(rows, time, features)))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    "options", [{}, {"return_sequences": True}, {"go_backwards": True}, {"use_bias": False}]
)
def test_outputs_and_states(cell: str, options: dict[str, Any]) -> None:
    layer = layer_of(cell, return_state=True, **options)
    x = inputs()
    mask = np.random.default_rng(4).random(x.shape[:2]) < 0.7
    for given in (None, mask):
        output, *states = layer(x, mask=given)
        trace = reference_of(cell, layer, x, mask=given)
        np.testing.assert_allclose(output, trace.output, atol=3e-6)
        for got, expected in zip(states, (trace.h, trace.c), strict=False):
            np.testing.assert_allclose(got, expected, atol=3e-6)
        assert len(states) == len(layer.state_names)


@pytest.mark.parametrize("cell", CELLS)
def test_weights_have_the_shapes_of_keras(cell: str) -> None:
    gates = {"gru": 3, "gru_before": 3, "simple_rnn": 1, "lstm": 4}[cell]
    bias = (2, 21) if cell == "gru" else (7 * gates,)
    assert [w.shape for w in layer_of(cell).get_weights()] == [(5, 7 * gates), (7, 7 * gates), bias]


@pytest.mark.parametrize("cell", CELLS)
def test_gradients(cell: str) -> None:
    layer = layer_of(cell, return_sequences=True)
    x = inputs()
    rng = np.random.default_rng(5)
    states = tuple(f32(rng.normal(size=(4, 7))) for _ in layer.state_names)
    ctx = Context(record=True)
    outputs = layer.forward(tensor(x), ctx, None, tuple(map(tensor, states)))
    d_output = f32(rng.normal(size=outputs.shape))
    d_inputs, *d_states = layer.backward(tensor(d_output), ctx)
    names = dict(zip(("h0", "c0"), states, strict=False))
    expected = rec.recurrent_backward(reference_of(cell, layer, x, **names), d_output)
    found = {
        "inputs": d_inputs,
        "kernel": ctx.gradients[layer.kernel],
        "recurrent": ctx.gradients[layer.recurrent_kernel],
        "bias": ctx.gradients[layer.bias],
        **dict(zip(names, d_states, strict=True)),
    }
    for name, got in found.items():
        assert isinstance(got, Tensor)
        value = getattr(expected, name)
        assert np.linalg.norm(got.numpy() - value) <= 2e-5 * np.linalg.norm(value), name


@pytest.mark.parametrize("cell", CELLS)
def test_a_model_learns(cell: str) -> None:
    """The sign of the sum of a short sequence, behind an Embedding: the loss falls to a tenth."""
    ln.utils.set_random_seed(1)
    kind, more = CELLS[cell]
    model = ln.Sequential([Embedding(10, 8), kind(16, **more), Dense(1, activation="sigmoid")])
    model.compile(ln.optimizers.Adam(0.01), "binary_crossentropy")
    rng = np.random.default_rng(6)
    x = rng.integers(0, 10, (256, 8))
    y = (x[:, -1] > 4).astype(np.float32)
    history = model.fit(x, y, epochs=20, verbose=0).history["loss"]
    assert history[-1] < 0.1 * history[0]


@pytest.mark.parametrize("cell", CELLS)
def test_stateful_calls_continue(cell: str) -> None:
    layer = layer_of(cell, stateful=True, return_sequences=True)
    whole = layer_of(cell, return_sequences=True)
    whole.set_weights(layer.get_weights())
    x = inputs(time=9)
    parts = [layer(x[:, :2]), layer(x[:, 2:3]), layer(x[:, 3:])]
    assert_bits(np.concatenate(parts, axis=1), whole(x))
    assert len(layer.states) == len(layer.state_names)
    layer.reset_state()
    assert_bits(layer(x[:, :2]), parts[0])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("rows", [1, 3, 30])
def test_streams_give_what_predict_gives(cell: str, rows: int, isa: str) -> None:
    model = ln.Sequential([ln.Input((None, 5)), layer_of(cell, units=20, return_sequences=True)])
    x = inputs(rows=rows)
    stream = model.stream(batch_size=rows)
    steps = [stream.step(x[:, t]) for t in range(x.shape[1])]
    assert_bits(np.stack(steps, axis=1), model.predict(x, verbose=0))
    assert [len(states) for states in stream.state] == [len(model.layers[0].state_names)]
    before = stream.state
    after = stream.step(x[:, 0])
    stream.state = before
    assert_bits(stream.step(x[:, 0]), after)


@pytest.mark.parametrize("cell", CELLS)
def test_activations_in_python_compute_the_same(cell: str) -> None:
    native = layer_of(cell, bias=True, return_sequences=True)
    python = layer_of(cell, activation=lambda x: np.tanh(x), return_sequences=True)
    python.set_weights(native.get_weights())
    x = inputs()
    mask = np.random.default_rng(7).random(x.shape[:2]) < 0.7
    np.testing.assert_allclose(python(x, mask=mask), native(x, mask=mask), atol=3e-6)


@pytest.mark.parametrize("cell", ["gru", "simple_rnn"])
def test_wrong_initial_states(cell: str) -> None:
    layer = layer_of(cell)
    name = type(layer).__name__
    with pytest.raises(ValueError, match=rf"{name} .*initial_state h has shape \(3, 7\), expected \(4, 7\)"):
        layer(inputs(), initial_state=np.zeros((3, 7)))
    with pytest.raises(ValueError, match=rf"{name} .*initial_state is a list of 2, expected \[h\]"):
        layer(inputs(), initial_state=[np.zeros((4, 7))] * 2)
    with pytest.raises(ValueError, match=rf"{name} .*expected \(batch, time, features\)"):
        layer(np.zeros((4, 5)))


@pytest.mark.parametrize("cell", CELLS)
def test_dropout_draws_one_mask_for_a_sequence(cell: str) -> None:
    """The masks are taken from calls with the same seed; then everything follows from the yardstick."""
    layer = layer_of(cell, dropout=0.4, recurrent_dropout=0.3, seed=11, return_sequences=True)
    twin = layer_of(cell, dropout=0.4, recurrent_dropout=0.3, seed=11)
    x = inputs()
    assert_bits(layer(x), reference_like(layer)(x))  # nothing is dropped at inference
    kept = twin._dropout.noise(x.shape).numpy()
    recurrent = twin._recurrent_dropout.noise((4, 7)).numpy()
    assert (kept == kept[:, :1]).all()
    ctx = Context(training=True, record=True)
    outputs = layer.forward(tensor(x), ctx)
    trace = reference_of(cell, layer, x * kept, recurrent_mask=recurrent)
    np.testing.assert_allclose(outputs.numpy(), trace.output, atol=5e-6)
    d_output = f32(np.random.default_rng(8).normal(size=outputs.shape))
    expected = rec.recurrent_backward(trace, d_output)
    d_inputs = layer.backward(tensor(d_output), ctx).numpy()
    np.testing.assert_allclose(d_inputs, expected.inputs * kept, atol=2e-5)
    np.testing.assert_allclose(ctx.gradients[layer.recurrent_kernel].numpy(), expected.recurrent, atol=5e-5)
    again = layer.forward(tensor(x), Context(training=True))
    assert not np.array_equal(again.numpy(), outputs.numpy())


def reference_like(layer: Any) -> Any:
    """The layer without dropout."""
    plain = type(layer)(
        layer.units,
        return_sequences=True,
        **({"reset_after": layer.reset_after} if isinstance(layer, GRU) else {}),
    )
    plain.build((None, None, 5))
    plain.set_weights(layer.get_weights())
    return plain


@pytest.mark.parametrize("argument", ["dropout", "recurrent_dropout"])
@pytest.mark.parametrize("wrong", [-0.1, 1.5, "half", None])
def test_wrong_dropout(argument: str, wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"GRU: {argument}"):
        GRU(3, **{argument: wrong})


def test_recurrent_dropout_wants_native_activations() -> None:
    layer = GRU(3, activation=lambda x: np.tanh(x), recurrent_dropout=0.5)
    layer(inputs())
    with pytest.raises(ValueError, match="recurrent_dropout takes activations"):
        layer(inputs(), training=True)


@pytest.mark.parametrize("cell", CELLS)
def test_a_regularizer_that_cannot_train_is_refused_before_anything_changes(cell: str) -> None:
    kind, more = CELLS[cell]
    model = ln.Sequential([kind(3, kernel_regularizer=lambda w: float(np.sum(w)), **more), Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"kernel_regularizer .* works forward only"):
        model.fit(inputs(), np.zeros((4, 1)), verbose=0)
