"""What calls give back is the caller's: never the memory of what he passed, nor of the model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lstm_native import _core
from lstm_native import layers as L
from lstm_native.callbacks import Callback
from lstm_native.models import Model, Sequential

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(5)


def numbers(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def arrays_in(value: Any) -> Iterator[Array]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from arrays_in(item)
    elif isinstance(value, dict):
        yield from arrays_in(list(value.values()))
    elif value is not None:
        yield np.asarray(value)


def check_own(call: Any, *given: Any) -> None:
    """Writing all over the results changes neither the arguments nor the next results."""
    before = [x.copy() for x in arrays_in(given)]
    results = call(*given)
    kept = [x.copy() for x in arrays_in(results)]
    for result in arrays_in(results):
        assert result.flags.writeable
        for x in arrays_in(given):
            assert not np.shares_memory(result, x)
        result[...] = 99.0
    for x, old in zip(arrays_in(given), before, strict=True):
        np.testing.assert_array_equal(x, old)
    for again, old in zip(arrays_in(call(*given)), kept, strict=True):
        np.testing.assert_array_equal(again, old)


SEQUENCES = {
    "dropout": lambda: L.Dropout(0.5),
    "activation": lambda: L.Activation("linear"),
    "python activation": lambda: L.Activation(lambda x: x),
    "flatten": lambda: L.Flatten(),
    "masking": lambda: L.Masking(7.0),
    "penalty": lambda: L.Dropout(0.5, activity_regularizer="l2"),
    "time distributed": lambda: L.TimeDistributed(L.Dropout(0.5)),
    "time distributed flatten": lambda: L.TimeDistributed(L.Flatten()),
    "lstm": lambda: L.LSTM(3, return_sequences=True, return_state=True),
    "lstm of one step": lambda: L.LSTM(3, return_state=True),
    "gru": lambda: L.GRU(3, return_state=True),
    "bidirectional": lambda: L.Bidirectional(L.LSTM(3, return_sequences=True, return_state=True)),
    "one direction": lambda: L.Bidirectional(L.LSTM(3, return_sequences=True), merge_mode=None),
    "rnn": lambda: L.RNN([L.LSTMCell(3), L.GRUCell(2)], return_sequences=True, return_state=True),
    "dense": lambda: L.Dense(3),
    "normalization": lambda: L.LayerNormalization(),
    "spatial dropout": lambda: L.SpatialDropout1D(0.5),
    "noise": lambda: L.GaussianNoise(0.5),
    "reshape": lambda: L.Reshape((2, -1)),
    "permute": lambda: L.Permute((1, 2)),
    "batch normalization": lambda: L.BatchNormalization(),
    "convolution": lambda: L.Conv1D(3, 2, padding="same"),
    "convolution of one step": lambda: L.Conv1D(2, 1),
    "maxima": lambda: L.MaxPooling1D(1),
    "means": lambda: L.AveragePooling1D(1),
    "padding": lambda: L.ZeroPadding1D(0),
    "cropping": lambda: L.Cropping1D(0),
    "repeated steps": lambda: L.UpSampling1D(1),
    "pooling": lambda: L.GlobalMaxPooling1D(),
}


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("steps", [4, 1])
def test_layers(name: str, steps: int) -> None:
    layer = SEQUENCES[name]()
    x = numbers(3, steps, 2)
    check_own(layer, x)
    check_own(lambda a: layer(a, training=False), x)
    model = Sequential([L.Input((steps, 2)), SEQUENCES[name]()])
    for call in (model, model.predict, model.predict_on_batch, lambda a: model.predict(a, batch_size=2)):
        check_own(call, x)


MERGING = {
    "add": (1, 2), "multiply": (1, 2), "maximum": (1, 2), "average": (1, 2), "concatenate": (1, 2),
    "subtract": (2,), "dot": (2,),
}  # fmt: skip


@pytest.mark.parametrize(("name", "count"), [(name, count) for name in MERGING for count in MERGING[name]])
def test_merging_layers(name: str, count: int) -> None:
    given = [numbers(3, 4) for _ in range(count)]
    check_own(L.Dot(axes=1) if name == "dot" else getattr(L, name.capitalize())(), given)


def test_broadcast_inputs() -> None:
    check_own(L.Add(), [numbers(3, 1), numbers(3, 4)])
    check_own(L.Maximum(), [numbers(3, 4, 2), numbers(3, 1, 2)])


def test_attention() -> None:
    x = numbers(2, 3, 4)
    check_own(L.Attention(), [x, x])
    check_own(lambda *a: L.Attention()(list(a), return_attention_scores=True), x, numbers(2, 5, 4))


def test_states_that_are_given() -> None:
    layer = L.LSTM(3, return_sequences=True, return_state=True)
    x, h, c = numbers(2, 4, 5), numbers(2, 3), numbers(2, 3)
    nothing = np.zeros((2, 4), bool)
    check_own(lambda x, h, c: layer(x, initial_state=[h, c]), x, h, c)
    check_own(lambda x, h, c: layer(x, initial_state=[h, c], mask=nothing), x, h, c)
    stack = L.RNN([L.LSTMCell(3), L.LSTMCell(3)], return_state=True)
    check_own(lambda x, *s: stack(x, initial_state=[list(s), list(s)], mask=nothing), x, h, c)


def test_states_that_are_kept() -> None:
    layer, twin = L.LSTM(3, return_state=True, stateful=True), L.LSTM(3, return_state=True, stateful=True)
    x = numbers(2, 4, 5)
    layer.build(x.shape)
    twin.build(x.shape)
    twin.set_weights(layer.get_weights())
    for _ in range(3):
        results, expected = layer(x), twin(x)
        for a, b in zip(results, expected, strict=True):
            np.testing.assert_array_equal(a, b)
            a[...] = 99.0
    stream = Sequential([L.Input((None, 5)), L.LSTM(3)]).stream(2)
    stream.step(x[:, 0])[...] = 99.0
    for parts in stream.state:
        for part in parts:
            assert not np.any(part == 99.0)


def test_branching_models() -> None:
    a, b = L.Input((4, 2)), L.Input((4, 2))
    model = Model([a, b], {"first": L.Dropout(0.5)(a), "second": L.Flatten()(b), "sum": L.Add()([a, b])})
    given = [numbers(3, 4, 2), numbers(3, 4, 2)]
    for call in (model, model.predict, lambda x: model.predict(x, batch_size=1)):
        check_own(call, given)
    nothing = Model(a, a)
    check_own(nothing, given[0])
    check_own(nothing.predict, given[0])


def test_outputs_do_not_share_memory_with_each_other() -> None:
    a = L.Input((4, 2))
    h = L.LSTM(3)(a)
    for outputs in ([h, h], [h, L.Dropout(0.5)(h)], [h, L.Flatten()(h)], [a, a]):
        model = Model(a, outputs)
        for call in (model, model.predict):
            x, y = call(numbers(2, 4, 2))
            assert not np.shares_memory(x, y)
    x = numbers(2, 4, 5)
    for layer in (
        L.LSTM(3, return_state=True),
        L.GRU(3, return_state=True),
        L.SimpleRNN(3, return_state=True),
    ):
        results = layer(x)
        assert not np.shares_memory(results[0], results[1])


def test_callbacks_get_their_own() -> None:
    class Writes(Callback):
        def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
            for result in arrays_in(logs["outputs"]):
                result[...] = 99.0

    x = numbers(3, 4, 2)
    before = x.copy()
    Sequential([L.Input((4, 2)), L.Dropout(0.5)]).predict(x, batch_size=2, callbacks=[Writes()], verbose=0)
    np.testing.assert_array_equal(x, before)


def test_tensors_know_whether_they_are_alone() -> None:
    x = numbers(2, 3)
    came_in = _core.as_tensor(x, "float32")
    assert not np.shares_memory(came_in.own().numpy(), x)
    alone = _core.activation_forward("tanh", came_in)
    assert alone.own() is alone
    view = alone.reshape((6,))
    assert not np.shares_memory(view.own().numpy(), alone.numpy())
    assert not np.shares_memory(alone.own().numpy(), view.numpy())
    del view
    assert alone.own() is alone
