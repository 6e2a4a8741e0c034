"""Models of classes of the caller, as for Keras: training, masks, states, files, copies."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_native.layers import GRU, LSTM, Dense, Dropout, Embedding, Input
from lstm_native.models import Functional, Model, Sequential
from lstm_native.optimizers import SGD

RNG = np.random.default_rng(13)
IDS = RNG.integers(1, 10, (8, 5))
Y = RNG.normal(size=(8, 2)).astype(np.float32)


class Tagger(Model):
    """As the guides write it; masks, dropout, and a state on request."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.embed = Embedding(10, 4, mask_zero=True)
        self.gru = GRU(units, return_state=True)
        self.drop = Dropout(0.3)
        self.head = Dense(2)

    def call(self, x: Any, states: Any = None, return_state: bool = False, training: bool = False) -> Any:
        x, h = self.gru(self.embed(x), initial_state=states, training=training)
        x = self.head(self.drop(x, training=training))
        return (x, h) if return_state else x


class Pair(Model):
    """Two inputs, a weight of its own."""

    def __init__(self) -> None:
        super().__init__(name="pair")
        self.lstm = LSTM(3)
        self.scale = self.add_weight(shape=(3,), initializer="ones", name="scale")
        self.head = Dense(2)

    def call(self, inputs: Any) -> Any:
        a, b = inputs
        return self.head(self.lstm(a) * self.scale - self.lstm(b))


def test_it_trains_as_the_functional_model_does() -> None:
    model = Tagger(3)
    model.drop.rate = 0.0
    x = Input((None,))
    twin = Model(x, model.head(model.gru(model.embed(x))[0]))
    assert isinstance(twin, Functional)
    expected = twin.predict(IDS, verbose=0)
    np.testing.assert_allclose(model.predict(IDS, verbose=0), expected, rtol=1e-6)
    np.testing.assert_allclose(model(IDS), expected, rtol=1e-6)
    start = model.get_weights()
    histories = []
    for one in (model, twin):
        one.set_weights(start)
        one.compile(SGD(0.1), "mse", metrics=["mae"])
        done = one.fit(IDS, Y, epochs=3, batch_size=4, shuffle=False, validation_split=0.25, verbose=0)
        histories.append(done.history)
    assert list(histories[0]) == ["loss", "mae", "val_loss", "val_mae"]
    for name, values in histories[0].items():
        np.testing.assert_allclose(values, histories[1][name], rtol=1e-5)


def test_weights_of_its_own_and_several_inputs() -> None:
    model = Pair()
    a, b = RNG.normal(size=(2, 8, 4, 3)).astype(np.float32)
    model.compile(SGD(0.5), "mse")
    model.fit([a, b], Y, verbose=0)
    assert (model.scale.numpy() != 1).all()
    assert model.name == "pair"
    assert model.output_shape == (None, 2)
    assert [layer.name for layer in model.layers] == [model.lstm.name, model.head.name]


def test_further_arguments_of_call() -> None:
    model = Tagger(3)
    outputs, state = model(IDS, return_state=True)
    assert state.shape == (8, 3)
    again, _ = model(IDS[:, :1], states=state, return_state=True)
    assert again.shape == outputs.shape
    dropped = model(IDS, training=True)
    assert np.abs(dropped - outputs).max() > 0


def test_padding_is_masked() -> None:
    model = Tagger(3)
    padded = np.concatenate([IDS, np.zeros((8, 3), IDS.dtype)], axis=1)
    np.testing.assert_allclose(model.predict(padded, verbose=0), model.predict(IDS, verbose=0), rtol=1e-5)


def test_copies_and_files(tmp_path: Path) -> None:
    model = Tagger(3)
    with pytest.raises(ValueError, match="before the layer is built"):
        model.count_params()
    expected = model.predict(IDS, verbose=0)
    assert model.count_params() == 40 + 3 * 3 * (4 + 3 + 2) + 8
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert isinstance(twin, Tagger)
        np.testing.assert_array_equal(twin.predict(IDS, verbose=0), expected)
    model.save_weights(tmp_path / "w.safetensors")
    other = Tagger(3)
    other.build((None, 5))
    other.load_weights(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(other.predict(IDS, verbose=0), expected)


def test_states_and_the_summary() -> None:
    class Holder(Model):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = LSTM(3, stateful=True)

        def call(self, x: Any) -> Any:
            return self.lstm(x)

    model = Holder()
    x = RNG.normal(size=(2, 4, 3))
    first = model.predict(x, verbose=0)
    assert np.abs(model.predict(x, verbose=0) - first).max() > 1e-3
    model.reset_states()
    np.testing.assert_array_equal(model.predict(x, verbose=0), first)
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    assert any("lstm" in line for line in "\n".join(lines).splitlines())


def test_a_model_in_a_model() -> None:
    inner = Tagger(3)
    model = Sequential([inner, Dense(1)])
    model.compile(SGD(0.5), "mse")
    model.predict(IDS, verbose=0)
    before = inner.get_weights()
    model.fit(IDS, Y[:, :1], verbose=0)
    assert all((a != b).any() for a, b in zip(before, inner.get_weights(), strict=True))


def test_what_is_wrong_is_said() -> None:
    class Fails(Model):
        def call(self, x: Any) -> Any:
            return x[:, 7]

    with pytest.raises(ValueError, match="call fails on zeros of shape"):
        Fails().predict(np.ones((2, 3)), verbose=0)
    with pytest.raises(AttributeError, match="no placeholders"):
        _ = Tagger(2).output


class Shared(Model):
    """Two inputs, one layer for both."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = Dense(3)
        self.lstm = LSTM(3)

    def call(self, inputs: Any) -> Any:
        steps, last = inputs
        return self.dense(last) + self.lstm(self.dense(steps))


class Around(Model):
    """A model that calls another one with several inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Shared()

    def call(self, x: Any) -> Any:
        return self.pair([x, x[:, 0]])


def test_calls_with_several_inputs() -> None:
    x = np.random.default_rng(4).normal(size=(4, 5, 2)).astype(np.float32)
    model = Shared()
    outputs = model([x, x[:, 0]])
    np.testing.assert_array_equal(model.predict([x, x[:, 0]], verbose=0), outputs)
    assert model([x[:0], x[:0, 0]]).shape == (0, 3)
    around = Around()
    assert around(x).shape == (4, 3)
    around.pair.set_weights(model.get_weights())
    np.testing.assert_array_equal(around(x), outputs)
    around.compile(SGD(0.1), "mse")
    losses = around.fit(x, np.ones((4, 3)), epochs=3, verbose=0).history["loss"]
    assert losses[0] > losses[1] > losses[2]
