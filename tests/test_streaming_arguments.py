"""Arguments of a stream: every legal form; a wrong one is one clear error and changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_native import _core
from lstm_native.layers import LSTM, Activation, Dense, Embedding, Input, Layer
from lstm_native.layers.base import Context
from lstm_native.models import Sequential
from native_support import assert_bits
from stream_support import MODELS, on_features, sequences

Z = np.zeros


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ([], "state has 0 items, expected 2"),
        ([(Z((2, 33)), Z((2, 33)))], "state has 1 items, expected 2"),
        ([(Z((2, 33)), Z((2, 33))), (Z((2, 20)), Z((1, 20)))], r"state\[1\].*\(2, 20\)"),
        (3, "expected a list"),
        ([Z((2, 33)), Z((2, 20))], "expected a list with one"),
    ],
)
def test_a_state_that_does_not_fit(state: Any, message: str) -> None:
    model = MODELS["stack"]()
    stream = model.stream(2)
    stream.step(np.ones((2, 5), np.float32))
    before = stream.state
    with pytest.raises(ValueError, match=message):
        stream.state = state
    for pair, old in zip(stream.state, before, strict=True):
        assert_bits(np.stack(pair), np.stack(old))


def test_forms_of_one_row() -> None:
    model = MODELS["stack"]()
    row = np.arange(5, dtype=np.float32) / 8
    want = model.stream().step(row[None])
    assert want.shape == (1, 3)
    for x in (row, row.tolist(), [row], row.astype(np.float64), row.astype(">f4"), np.repeat(row, 2)[::2]):
        assert_bits(model.stream().step(x), want)
    ids = MODELS["ids"]()
    want = ids.stream().step([7])
    forms = (7, np.int64(7), np.array(7), np.array([7], np.int32), np.array([7], np.uint8), [7.0], 7.0)
    for x in (*forms, np.array([7], ">i8"), _core.as_tensor(np.array([7]), "int32")):
        assert_bits(ids.stream().step(x), want)


def test_out_is_returned_and_may_be_the_input() -> None:
    model = on_features(LSTM(5, return_sequences=True))
    x = sequences(model, 7, 3)
    want = model.predict(x, verbose=0)
    stream = model.stream(7)
    for t in range(3):
        step = x[:, t].copy()
        assert stream.step(step, out=step) is step
        assert_bits(step, np.ascontiguousarray(want[:, t]))


WRONG: list[tuple[str, Any, type[Exception], str]] = [
    ("stack", np.zeros((3, 5)), ValueError, r"x_t has shape \(3, 5\), expected \(2, 5\)"),
    ("stack", np.zeros(5), ValueError, r"x_t has shape \(5,\), expected \(2, 5\)"),
    ("stack", np.zeros((2, 1, 5), np.float32), ValueError, r"expected \(2, 5\)"),
    ("stack", np.zeros((2, 4), np.float32), ValueError, r"expected \(2, 5\)"),
    ("stack", np.zeros((2,) + (1,) * 12, np.float32), ValueError, "axes"),
    ("stack", [["a"] * 5] * 2, TypeError, "x_t has dtype"),
    ("stack", [[1.0], [1.0, 2.0]], ValueError, "unequal lengths"),
    ("stack", None, TypeError, "x_t is a NoneType"),
    ("masked ids", [3, 30], ValueError, r"Embedding.*x_t\[1\] is 30, expected an index in \[0, 30\)"),
    ("masked ids", np.array([-1, 3], np.int32), ValueError, r"Embedding.*x_t\[0\] is -1"),
    ("masked ids", [3, 2**40], ValueError, r"Embedding.*1099511627776"),
    ("masked ids", [3, 2.5], ValueError, "Embedding.*2.5, expected whole numbers"),
    ("masked ids", 3, ValueError, r"x_t has shape \(\), expected \(2,\)"),
    ("masked ids", [[3], [4]], ValueError, r"expected \(2,\)"),
    ("masked ids", 10**30, TypeError, "dtype object"),
]


@pytest.mark.parametrize(("name", "x", "error", "message"), WRONG)
def test_wrong_steps_change_nothing(name: str, x: Any, error: type[Exception], message: str) -> None:
    model = MODELS[name]()
    data = sequences(model, 2, 4)
    stream, other = model.stream(2), model.stream(2)
    for s in (stream, other):
        s.step(data[:, 0])
    out = np.full((2, model.output_shape[-1]), 7, np.float32)
    with pytest.raises(error, match=message):
        stream.step(x, out=out)
    assert (out == 7).all()
    assert_bits(stream.step(data[:, 1]), other.step(data[:, 1]))


@pytest.mark.parametrize(
    ("out", "error"),
    [
        ([[0.0] * 3] * 2, TypeError),
        (np.zeros((2, 3)), ValueError),
        (np.zeros((3, 2), np.float32), ValueError),
        (np.zeros(6, np.float32), ValueError),
        (np.zeros((2, 3), np.float32, order="F"), ValueError),
        (np.zeros((2, 3), ">f4"), ValueError),
        (np.frombuffer(bytes(24), np.float32).reshape(2, 3), ValueError),
    ],
)
def test_an_out_that_does_not_fit(out: Any, error: type[Exception]) -> None:
    model = MODELS["stack"]()
    x = sequences(model, 2, 2)
    stream = model.stream(2)
    with pytest.raises(error, match=r"Sequential.*out .*float32.*\(2, 3\)"):
        stream.step(x[:, 0], out)
    assert_bits(stream.step(x[:, 0]), model.predict(x[:, :1], verbose=0))


@pytest.mark.parametrize("rows", [4, -1, [0, 4], [0.5], [True, False], [[0, 1]], 1.0])
def test_wrong_resets_change_nothing(rows: Any) -> None:
    stream = MODELS["stack"]().stream(4)
    stream.step(np.ones((4, 5)))
    before = stream.state
    with pytest.raises(ValueError, match=r"Sequential.*reset"):
        stream.reset(rows)
    assert_bits(stream.state[0][1], before[0][1])


class Doubled(Dense):
    """Computes something of its own, but inherits the step of Dense."""

    def forward_logits(self, inputs: Any, ctx: Context) -> Any:
        return super().forward_logits(inputs, ctx)


class Unknown(Layer):
    """A layer that knows nothing of streams."""

    def forward(self, inputs: Any, ctx: Context, mask: Any = None) -> Any:
        return inputs


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (LSTM(3, go_backwards=True, name="bad"), "LSTM 'bad'.*go_backwards"),
        (LSTM(3, activation=lambda x: x, name="bad"), "LSTM 'bad'.*lambda"),
        (LSTM(3, recurrent_activation="softmax", name="bad"), "LSTM 'bad'.*softmax"),
        (Dense(3, activation=lambda x: x, name="bad"), "Dense 'bad'.*lambda"),
        (Activation(np.tanh, name="bad"), "Activation 'bad'.*tanh"),
        (Doubled(3, name="bad"), "Doubled 'bad'.*forward_logits"),
        (Unknown(name="bad"), "Unknown 'bad'.*step by step"),
        (Embedding(9, 2, name="bad"), "Embedding 'bad'.*first layer"),
    ],
)
def test_what_cannot_stream_is_named(layer: Layer, message: str) -> None:
    model = on_features(Dense(2), layer)
    with pytest.raises(ValueError, match=message):
        model.stream()


def test_models_that_cannot_stream() -> None:
    with pytest.raises(ValueError, match="before the model is built"):
        Sequential([LSTM(3)]).stream()
    with pytest.raises(ValueError, match=r"stream needs inputs \(batch, time, features\).*\(None, 4\)"):
        Sequential([Input((4,)), Dense(3)]).stream()
    with pytest.raises(ValueError, match=r"stream needs inputs \(batch, time\).*\(None,\)"):
        Sequential([Input(()), Embedding(5, 3)]).stream()
    with pytest.raises(ValueError, match="number of features"):
        Sequential([Input((None, None)), Activation("relu")]).stream()
    for batch_size in (0, -1, 1.5, True, "2", None):
        with pytest.raises(ValueError, match="stream: batch_size"):
            MODELS["stack"]().stream(batch_size)  # type: ignore[arg-type]
