"""Streams of models that branch: bit for bit what predict gives, and which models cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lstm_native import layers
from lstm_native.layers import (
    GRU,
    LSTM,
    Activation,
    Add,
    Attention,
    Average,
    Bidirectional,
    Concatenate,
    Dense,
    Dot,
    Dropout,
    Embedding,
    GlobalMaxPooling1D,
    Input,
    LayerNormalization,
    Masking,
    Maximum,
    Multiply,
    Rescaling,
    Subtract,
)
from lstm_native.models import Model, Sequential
from stream_support import sequences


def residual() -> Model:
    """Recurrent layers with a way past each of them, as models of speech have."""
    inputs = Input((None, 5))
    x = Dense(12)(inputs)
    for make in (LSTM, GRU, LSTM):
        y = Dropout(0.2)(make(12, return_sequences=True)(x))
        x = LayerNormalization()(layers.add([x, y]))
    return Model(inputs, Dense(4, activation="softmax")(x))


def wide() -> Model:
    """Several values side by side, one of them twice, and what a step was given."""
    inputs = Input((None, 5))
    a, b = LSTM(7, return_sequences=True)(inputs), GRU(3, return_sequences=True)(inputs)
    joined = Concatenate()([inputs, a, b, a])
    return Model(inputs, LSTM(6)(Dense(8, activation="relu")(joined)))


def gated() -> Model:
    """A highway, and the mean of two values."""
    inputs = Input((None, 5))
    x = LSTM(5, return_sequences=True)(inputs)
    gate = Dense(5, activation="sigmoid")(inputs)
    return Model(inputs, Average()([Multiply()([x, gate, x]), Add()([x, inputs, gate])]))


def last_states() -> Model:
    """Vectors of the last step joined."""
    inputs = Input((None, 5))
    return Model(inputs, Dense(2)(Add()([LSTM(4)(inputs), GRU(4)(inputs)])))


def ids() -> Model:
    inputs = Input((None,), dtype="int32")
    x = Embedding(30, 6, mask_zero=True)(inputs)
    y = LSTM(6, return_sequences=True)(x)
    return Model(inputs, LSTM(4, return_sequences=True)(Concatenate(axis=2)([layers.add([x, y]), y])))


def partly_masked() -> Model:
    """Where one of the joined values has no mask, all steps count."""
    inputs = Input((None, 5))
    masked = LSTM(4, return_sequences=True)(Masking(0.5)(inputs))
    both = Concatenate()([masked, Dense(3)(inputs)])
    return Model(inputs, LSTM(4, return_sequences=True)(Dense(4)(both)))


def rescaled() -> Model:
    """Values times and plus numbers, for all features or each; differences; the larger and the smaller."""
    inputs = Input((None, 5))
    x = LSTM(5, return_sequences=True)(2 * inputs - 1)
    y = Rescaling(np.array([[1.0, -2.0, 0.5, 1e-30, 3.0]]), [1e30])(x)
    z = Rescaling([0.3], [0.0, 1.0, 0.0, 2.0, -1.0])(inputs) - 0.1 * x
    joined = Concatenate()([layers.maximum([x, inputs, z]), layers.minimum([-x, z]), x - inputs])
    return Model(inputs, Average()([Dense(5)(joined), y * 1e-30, x]))


def rescaled_ids() -> Model:
    inputs = Input((None,), dtype="int32")
    x = 0.5 * Embedding(30, 6, mask_zero=True)(inputs)
    return Model(inputs, 1 - Subtract()([LSTM(4)(x), LSTM(4)(x + 1)]))


def nested() -> Model:
    """A block that is a model of its own, used twice."""
    x = Input((None, 5))
    block = Model(x, layers.add([x, LSTM(5, return_sequences=True)(x)]))
    inputs = Input((None, 5))
    return Model(inputs, Activation("tanh")(block(Dense(5)(block(inputs)))))


def shared() -> Model:
    """One Dense that reads two values."""
    inputs = Input((None, 5))
    dense = Dense(5)
    x = dense(inputs)
    return Model(inputs, LSTM(3)(layers.add([x, dense(LSTM(5, return_sequences=True)(x))])))


MODELS = [
    residual, wide, gated, last_states, ids, partly_masked, rescaled, rescaled_ids, nested, shared
]  # fmt: skip


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("rows", [1, 7])
def test_steps_are_predictions(make: Callable[[], Any], rows: int) -> None:
    model = make()
    x = sequences(model, rows, 9)
    stream = model.stream(rows)
    out = np.empty((rows, model.output_shape[-1]), np.float32)
    for t in range(x.shape[1]):
        got = stream.step(np.ascontiguousarray(x[:, t]), out=out)
        want = model.predict(x[:, : t + 1], verbose=0)
        np.testing.assert_array_equal(got, want if want.ndim == 2 else want[:, t])
    # The states are those of all recurrent layers; going back to them repeats what came.
    kept = stream.state
    first = stream.step(np.ascontiguousarray(x[:, 0])).copy()
    stream.state = kept
    np.testing.assert_array_equal(stream.step(np.ascontiguousarray(x[:, 0])), first)
    stream.reset()
    want = model.predict(x[:, :1], verbose=0)
    got = stream.step(np.ascontiguousarray(x[:, 0]))
    np.testing.assert_array_equal(got, want if want.ndim == 2 else want[:, 0])


def test_outputs_may_be_written_where_the_inputs_are() -> None:
    inputs = Input((None, 4))
    model = Model(inputs, layers.add([inputs, LSTM(4, return_sequences=True)(inputs)]))
    x = np.random.default_rng(1).standard_normal((3, 5, 4)).astype(np.float32)
    stream = model.stream(3)
    want = model.predict(x, verbose=0)
    for t in range(5):
        now = np.ascontiguousarray(x[:, t])
        assert stream.step(now, out=now) is now
        np.testing.assert_array_equal(now, want[:, t])


def test_a_step_that_fails_changes_nothing() -> None:
    model = ids()
    stream = model.stream(2)
    stream.step([3, 4])
    before = stream.state
    with pytest.raises(ValueError, match="expected an index"):
        stream.step([3, 99])
    for a, b in zip(before, stream.state, strict=True):
        np.testing.assert_array_equal(a, b)


def cannot_stream() -> dict[str, tuple[Any, str]]:
    """Models, and what the message says of them."""
    x = Input((None, 4))
    masked = Masking(0.5)(x)
    sequence, h, c = LSTM(4, return_sequences=True, return_state=True)(x)
    one = Model(x, [sequence, Dense(2)(sequence)])
    other, six = Input((None, 4)), Input((6, 4))

    class Louder(Add):
        def joined(self, inputs: Any, masks: Any) -> Any:
            return super().joined([*inputs, inputs[0]], masks)

    return {
        "two outputs": (one, "needs a model with one input and one output"),
        "two inputs": (Model([x, other], Add()([x, other])), "needs a model with one input and one output"),
        "product": (Model(x, Dot(1)([x, sequence])), "Dot 'dot.*': sums over an axis and cannot"),
        "numbers for steps": (
            Model(six, Rescaling(np.arange(6.0).reshape(6, 1), 1.0)(six)),
            "Rescaling .*: scale differs from step to step",
        ),
        "masked maximum": (Model(x, Maximum()([masked, sequence])), "minds which steps count"),
        "along the time": (Model(x, Concatenate(axis=1)([x, sequence])), "joins along the time"),
        "masked product": (Model(x, Multiply()([masked, sequence])), "minds which steps count"),
        "every step and one": (Model(x, Add()([sequence, LSTM(4)(x)])), "expected one shape to run step by"),
        "states read": (Model(x, Add()([Dense(4)(h), c])), "reads the states of another layer"),
        "states given": (
            Model(x, LSTM(4, return_sequences=True)(x, initial_state=[h, c])),
            "is called with states",
        ),
        "attention": (Model(x, Attention()([sequence, x])), "Attention .*cannot run step by step"),
        "both directions": (
            Model(x, Concatenate()([x, Bidirectional(LSTM(2, return_sequences=True))(x)])),
            "cannot run step by step",
        ),
        "pooling": (
            Model(x, Add()([GlobalMaxPooling1D()(x), h])),
            "cannot run step by step|reads the states",
        ),
        "own class": (Model(x, Louder()([x, sequence])), "defines joined but no add_join_to_stream"),
        "always dropped": (Model(x, Add()([x, Dropout(0.5)(sequence, training=True)])), "other arguments"),
    }


@pytest.mark.parametrize("name", cannot_stream())
def test_models_that_cannot(name: str) -> None:
    model, message = cannot_stream()[name]
    with pytest.raises(ValueError, match=message):
        model.stream()


def test_a_sequential_of_blocks() -> None:
    x = Input((None, 5))
    block = Model(x, layers.add([x, LSTM(5, return_sequences=True)(x)]))
    model = Sequential([Input((None, 5)), block, Dense(2)])
    data = np.random.default_rng(2).standard_normal((2, 4, 5)).astype(np.float32)
    stream = model.stream(2)
    for t, want in enumerate(np.moveaxis(model.predict(data, verbose=0), 1, 0)):
        np.testing.assert_array_equal(stream.step(np.ascontiguousarray(data[:, t])), want)
