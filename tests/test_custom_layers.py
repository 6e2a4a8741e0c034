"""Layers written in Python as for Keras: build, call, masks, losses, held layers, models."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest

from lstm_native import regularizers
from lstm_native.layers import LSTM, Dense, Dropout, Embedding, Input, Layer, Masking
from lstm_native.models import Model, Sequential


class Scale(Layer):
    """Multiplies with a weight, as a Keras script would write it."""

    def __init__(self, factor: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, input_shape: Any) -> None:
        self.w = self.add_weight(
            shape=(input_shape[-1],), initializer="ones", regularizer=regularizers.L1(0.5), name="w"
        )
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

    def call(self, inputs: Any) -> Any:
        return self.factor * inputs * self.w


class Block(Layer):
    """Holds layers of the package and one of its own kind."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = Dense(3, kernel_regularizer="l2")
        self.more = [Scale(), {"drop": Dropout(0.5, seed=1)}]

    def call(self, inputs: Any, training: bool = False) -> Any:
        x = self.more[0](self.dense(inputs))  # type: ignore[operator]
        self.add_loss(np.float32(7))
        return self.more[1]["drop"](x, training=training)  # type: ignore[index]


class Mean(Layer):
    """Changes the shape, and uses the mask."""

    def call(self, inputs: Any, mask: Any = None) -> Any:
        weights = np.ones(inputs.shape[:2], np.float32) if mask is None else mask.astype(np.float32)
        return (inputs * weights[..., None]).sum(axis=1) / weights.sum(axis=1, keepdims=True)


def test_a_layer_by_itself() -> None:
    layer = Scale(3.0, name="s")
    assert not layer.built
    y = layer(np.arange(6.0).reshape(2, 3))
    assert layer.built
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, 3 * np.arange(6).reshape(2, 3))
    assert [v.path for v in layer.trainable_weights] == ["s/w"]
    assert [v.path for v in layer.non_trainable_weights] == ["s/calls"]
    layer.w.assign([1, 2, 3])
    np.testing.assert_array_equal(layer(np.ones((1, 3))), [[3, 6, 9]])
    assert layer.losses == [3.0]
    before = layer.w
    layer.build((None, 3))  # a second time does nothing
    assert layer.w is before
    layer.trainable = False
    layer.trainable = True
    assert [v.path for v in layer.non_trainable_weights] == ["s/calls"]


def test_integers_stay_integers() -> None:
    class Shift(Layer):
        def call(self, inputs: Any) -> Any:
            assert inputs.dtype.kind == "i"
            return inputs + 1

    model = Sequential([Shift(), Embedding(5, 2, weights=np.arange(10.0).reshape(5, 2))])
    np.testing.assert_array_equal(model(np.array([[0, 3]])), [[[2, 3], [8, 9]]])


def test_held_layers_are_a_part() -> None:
    block = Block()
    x = np.ones((4, 2), np.float32)
    block(x)
    assert [v.name for v in block.variables] == ["kernel", "bias", "w", "calls"]
    assert len(block.trainable_weights) == 3
    kernel = block.dense.kernel.numpy()
    assert block.losses == pytest.approx([7.0, 0.01 * (kernel**2).sum(), 1.5])
    assert (block(x) != 0).all()
    assert (block(x, training=True) == 0).any()
    block.trainable = False
    assert block.trainable_weights == []
    twin = copy.deepcopy(block)
    np.testing.assert_array_equal(twin(x), block(x))
    assert set(block.named_variables().values()) == set(block.variables)


def test_pickles() -> None:
    layer = Scale()
    layer(np.ones((1, 2)))
    again = pickle.loads(pickle.dumps(layer))
    np.testing.assert_array_equal(again(np.ones((1, 2))), layer(np.ones((1, 2))))
    assert again.losses == layer.losses


def test_inside_models() -> None:
    x = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
    model = Sequential([LSTM(6, return_sequences=True), Scale(), Mean(), Dense(2)])
    y = model(x)
    assert y.shape == (4, 2)
    assert model.layers[2].compute_output_shape((None, None, 6)) == (None, 6)
    np.testing.assert_array_equal(model.predict(x, batch_size=3, verbose=0), y)
    lstm, scale, mean, dense = model.layers
    np.testing.assert_allclose(dense(mean(scale(lstm(x)))), y, rtol=1e-6)
    inputs = Input((5, 3))
    functional = Model(inputs, dense(mean(scale(lstm(inputs)))))
    np.testing.assert_array_equal(functional(x), y)


def test_weights_are_saved_and_loaded(tmp_path: Any) -> None:
    models = [Sequential([Input((2,)), Block(), Dense(1)]) for _ in range(2)]
    models[0].save_weights(tmp_path / "w.safetensors")
    models[1].load_weights(tmp_path / "w.safetensors")
    x = np.ones((3, 2))
    np.testing.assert_array_equal(models[0](x), models[1](x))


def test_masks_reach_call_and_go_on_where_they_may() -> None:
    seen: list[Any] = []

    class Look(Layer):
        def __init__(self, passes: bool) -> None:
            super().__init__()
            self.supports_masking = passes

        def call(self, inputs: Any, mask: Any = None) -> Any:
            seen.append(mask)
            return inputs

    x = np.array([[[1.0], [0.0], [2.0]]])
    Sequential([Masking(), Look(True), Look(False), Look(False)])(x)
    # The calls before were with zeros, for the shapes of the outputs.
    np.testing.assert_array_equal(seen[-3], [[True, False, True]])
    np.testing.assert_array_equal(seen[-2], seen[-3])
    assert seen[-1] is None
    np.testing.assert_allclose(Sequential([Masking(), Mean()])(x), [[1.5]])
    np.testing.assert_allclose(Mean()(x, mask=np.array([[True, True, False]])), [[0.5]])


def test_a_lost_mask_is_told() -> None:
    with pytest.warns(UserWarning, match="Scale .*mask of its inputs is lost"):
        Sequential([Masking(), Scale()])(np.ones((1, 2, 3)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Sequential([Scale()])(np.ones((1, 2, 3)))


def test_a_mask_of_ones_own() -> None:
    class First(Layer):
        def call(self, inputs: Any) -> Any:
            return inputs

        def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
            assert isinstance(inputs, np.ndarray)
            return inputs[..., 0] > 0

    x = np.array([[[1.0], [-1.0], [2.0]]], np.float32)
    model = Sequential([First(), LSTM(2)])
    np.testing.assert_array_equal(model(x), model.layers[1](x, mask=np.array([[True, False, True]])))
    np.testing.assert_array_equal(First().compute_mask(x), [[True, False, True]])


def test_several_inputs_and_outputs() -> None:
    class Both(Layer):
        def build(self, input_shape: Any) -> None:
            self.shapes = input_shape

        def call(self, inputs: Any, factor: float = 1.0) -> Any:
            a, b = inputs
            return factor * (a + b), a - b

    layer = Both()
    total, difference = layer([np.ones((2, 3)), np.full((2, 3), 2.0)], factor=10.0)
    assert layer.shapes == [(2, 3), (2, 3)]
    assert total[0, 0] == 30.0
    assert difference[0, 0] == -1.0


def test_an_activity_regularizer() -> None:
    layer = Scale(activity_regularizer=regularizers.L1(1.0))
    layer(np.ones((4, 2)))
    assert layer.losses == pytest.approx([4.0, 1.0])  # 2 * 8 / 4 rows; 0.5 * 2


def test_training_reaches_their_weights() -> None:
    scale = Scale(name="s")
    model = Sequential([Dense(2), scale, Dense(1)])
    model.compile("sgd", "mse")
    model.fit(np.ones((2, 2)), np.full((2, 1), 9.0), verbose=0)
    assert (scale.w.numpy() != 1).all()
    assert scale.calls.numpy() == 0


def test_wrong_layers_say_what_is_wrong() -> None:
    class Fails(Layer):
        def build(self, input_shape: Any) -> None:
            self.w = self.add_weight(shape=(2,), name="w")
            raise RuntimeError("no")

        def call(self, inputs: Any) -> Any:
            return inputs

    layer = Fails()
    with pytest.raises(RuntimeError, match="no"):
        layer(np.ones((1, 2)))
    assert not layer.built
    assert layer.variables == []
    assert not hasattr(layer, "w")

    class NeedsOnes(Layer):
        def call(self, inputs: Any) -> Any:
            raise ArithmeticError("ones only")

    with pytest.raises(ValueError, match=r"NeedsOnes .*zeros of shape \(2, 3\) \(ones only\)"):
        Sequential([NeedsOnes(), Dense(1)]).build((None, 3))

    class Text(Layer):
        def call(self, inputs: Any) -> Any:
            return np.full(inputs.shape, "a")

    with pytest.raises(TypeError, match=r"Text .*output of call has dtype <U1"):
        Sequential([Text()])(np.ones((1, 2)))
    with pytest.raises(NotImplementedError, match="Layer defines neither forward nor call"):
        Layer()(np.ones((1, 2)))
    with pytest.raises(TypeError, match="Dense 'd': takes inputs, mask and training, got also"):
        Dense(1, name="d")(np.ones((1, 2)), 3)


def test_add_weight_as_keras_has_it() -> None:
    layer = Layer(name="l")
    w = layer.add_weight((2, 3))
    assert w.path == "l/variable_0"
    assert np.ptp(w.numpy()) > 0  # glorot_uniform
    count = layer.add_weight(initializer="zeros", dtype="int64", trainable=False, name="count")
    assert (count.shape, count.dtype) == ((), "int64")
    count.assign(count + 1)
    assert int(count) == 1
    with pytest.raises(ValueError, match=r"Layer 'l': initializer of v made an array of shape \(3,\)"):
        layer.add_weight((2,), lambda shape: np.ones(3), name="v")
    assert len(layer.variables) == 2
