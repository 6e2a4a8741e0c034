"""Training through code of the caller: layers, Lambda, losses, activations; gradients against differences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_native
from lstm_native import losses, ops
from lstm_native.layers import (
    GRU,
    LSTM,
    Activation,
    Add,
    BatchNormalization,
    Bidirectional,
    Concatenate,
    Dense,
    Dropout,
    Embedding,
    Input,
    Lambda,
    Layer,
)
from lstm_native.models import Model, Sequential
from lstm_native.optimizers import SGD

RNG = np.random.default_rng(7)
X = RNG.normal(size=(6, 4, 3)).astype(np.float32)
IDS = RNG.integers(0, 10, (6, 4))
IDS[:3, 2:] = 0
Y = RNG.normal(size=(6, 2)).astype(np.float32)


class Attention(Layer):
    """As many programs have it: weights of steps from a small dense layer."""

    def build(self, input_shape: Any) -> None:
        self.w = self.add_weight(name="w", shape=(input_shape[-1], 1), initializer="random_normal")
        self.b = self.add_weight(name="b", shape=(input_shape[1], 1), initializer="zeros")
        super().build(input_shape)

    def call(self, x: Any) -> Any:
        score = ops.squeeze(ops.tanh(ops.dot(x, self.w) + self.b), -1)
        return ops.sum(x * ops.expand_dims(ops.softmax(score), -1), axis=1)


class Encoder(Layer):
    """Layers inside, masks on their way, states handed over, a penalty."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = Embedding(10, 4, mask_zero=True)
        self.first = Bidirectional(GRU(3, return_sequences=True))
        self.second = LSTM(5, return_state=True)
        self.third = LSTM(5, return_sequences=True)
        self.join = Concatenate()

    def call(self, ids: Any, training: bool = False) -> Any:
        x = self.first(self.embed(ids), training=training)
        last, h, c = self.second(x)
        steps = self.third(x, initial_state=[h, c])
        self.add_loss(0.1 * ops.sum(ops.square(h)))
        return self.join([last, steps[:, -1] * 2.0])


def weighted(y_true: Any, y_pred: Any) -> Any:
    return ops.sqrt(ops.mean(ops.square(y_pred - y_true) * np.array([1.0, 3.0])))


def attention() -> Model:
    x = Input((4, 3))
    return Model(x, Dense(2)(Attention()(LSTM(5, return_sequences=True)(x))))


def siamese() -> Model:
    a, b = Input((4, 3)), Input((4, 3))
    shared = LSTM(5)
    near = Lambda(lambda v: ops.exp(-ops.sum(ops.abs(v[0] - v[1]), axis=1, keepdims=True)))
    return Model([a, b], Dense(2)(near([shared(a), shared(b)])))


def on_placeholders() -> Model:
    x = Input((4, 3))
    h = LSTM(5, return_sequences=True)(x)
    return Model(x, Dense(2)(ops.concatenate([ops.sum(h, axis=1), ops.tanh(h[:, -1])], axis=-1)))


MODELS: dict[str, tuple[Any, Any, Any]] = {
    "attention": (attention, X, "mse"),
    "lambda": (
        lambda: Sequential([LSTM(5), Lambda(lambda x: x * 3.0 + 1), Dense(2), Lambda(np.tanh)]),
        X,
        "mse",
    ),
    "layers inside": (lambda: Sequential([Encoder(), Dense(2)]), IDS, "mse"),
    "two inputs": (siamese, [X, X[::-1].copy()], "mse"),
    "functions of placeholders": (on_placeholders, X, "mse"),
    "a loss in Python": (lambda: Sequential([LSTM(5), Dense(2)]), X, weighted),
    "a loss around ours": (
        lambda: Sequential([LSTM(5), Dense(2)]),
        X,
        lambda t, p: losses.huber(t, p) + 0.5 * losses.MeanAbsoluteError()(t, p),
    ),
    "an activation in Python": (
        lambda: Sequential(
            [LSTM(5), Dense(4, activation=lambda z: z * ops.sigmoid(z)), Dense(2), Activation(np.tanh)]
        ),
        X,
        "mse",
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_gradients(name: str) -> None:
    make, x, loss = MODELS[name]
    lstm_native.utils.set_random_seed(3)
    model = make()
    model.compile(SGD(1.0), loss)
    model.predict(x, verbose=0)
    start = model.get_weights()
    model.train_on_batch(x, Y)
    found = [before - after for before, after in zip(start, model.get_weights(), strict=True)]
    step = 1e-2
    for i, weight in enumerate(start):
        for position in RNG.permutation(weight.size)[:3]:
            values = []
            for sign in (1, -1):
                moved = [w.copy() for w in start]
                moved[i].flat[position] += sign * step
                model.set_weights(moved)
                values.append(float(model.evaluate(x, Y, verbose=0)))
            slope = (values[0] - values[1]) / (2 * step)
            assert found[i].flat[position] == pytest.approx(slope, rel=2e-2, abs=2e-3), model.weights[i].path


def test_masks_go_through_layers_inside() -> None:
    """Padding behind changes nothing, in predict nor in training."""

    class Masked(Layer):
        def __init__(self) -> None:
            super().__init__()
            self.embed = Embedding(10, 4, mask_zero=True)
            self.lstm = LSTM(3)

        def call(self, ids: Any) -> Any:
            return self.lstm(self.embed(ids))

    model = Sequential([Masked(), Dense(2)])
    padded = np.concatenate([IDS, np.zeros((6, 3), IDS.dtype)], axis=1)
    expected = model.predict(IDS, verbose=0)
    np.testing.assert_allclose(model.predict(padded, verbose=0), expected, rtol=1e-5, atol=1e-6)
    model.compile(SGD(0.1), "mse")
    start = model.get_weights()
    after = []
    for ids in (IDS, padded):
        model.set_weights(start)
        model.train_on_batch(ids, Y)
        after.append(model.get_weights())
    for a, b in zip(*after, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_dropout_inside_follows_training() -> None:
    class Dropped(Layer):
        def __init__(self) -> None:
            super().__init__()
            self.drop = Dropout(0.5, seed=1)

        def call(self, x: Any) -> Any:
            return self.drop(x)

    model = Sequential([Input((50,)), Dropped()])
    x = np.ones((2, 50), np.float32)
    np.testing.assert_array_equal(model.predict(x, verbose=0), x)
    assert set(np.unique(model(x, training=True))) == {0.0, 2.0}


def test_states_of_stateful_layers_inside() -> None:
    class Holder(Layer):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = LSTM(3, stateful=True)

        def call(self, x: Any) -> Any:
            return self.lstm(x)

    layer = Holder()
    model = Sequential([Input(batch_shape=(2, 4, 3)), layer])
    first = model.predict(X[:2], batch_size=2, verbose=0)
    second = model.predict(X[:2], batch_size=2, verbose=0)
    assert np.abs(first - second).max() > 1e-3
    layer.lstm.reset_state()
    np.testing.assert_array_equal(model.predict(X[:2], batch_size=2, verbose=0), first)


def test_lambda() -> None:
    layer = Lambda(lambda x, factor, mask=None: x * factor, arguments={"factor": 3.0})
    np.testing.assert_array_equal(layer(X), X * 3)
    assert Lambda(lambda x: x[:, 0]).compute_output_shape((None, 4, 3)) == (None, 3)
    assert Lambda(abs, output_shape=(7,)).compute_output_shape((None, 4)) == (None, 7)
    of_shape = Lambda(abs, output_shape=lambda shape: (shape[0], 2))
    assert of_shape.compute_output_shape((5, 4)) == (5, 2)
    with pytest.raises(ValueError, match="Lambda: function is 3"):
        Lambda(3)  # type: ignore[arg-type]
    model = Sequential([Input((4,)), Lambda(lambda x: ops.expand_dims(x, axis=-1)), LSTM(3)])
    assert model.output_shape == (None, 3)


def test_lambda_follows_training() -> None:
    layer = Lambda(lambda x, training=False: x * (2.0 if training else 1.0))
    model = Sequential([Input((2,)), layer, Dense(1, kernel_initializer="ones")])
    model.compile("sgd", "mse")
    x, y = np.ones((3, 2), np.float32), np.zeros((3, 1), np.float32)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(4)
    assert model.train_on_batch(x, y) == pytest.approx(16)
    np.testing.assert_array_equal(layer(x, training=True), 2 * x)


class InPlace(Layer):
    """Changes what it was given."""

    def call(self, x: Any) -> Any:
        x += 1
        return x


class InPlaceModel(Model):
    """The same as a model, with a layer inside."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = Dense(3, kernel_initializer="ones")

    def call(self, x: Any) -> Any:
        x += 1
        y = self.dense(x)
        y += x
        return y


def test_call_may_change_its_inputs() -> None:
    x = np.zeros((2, 3), np.float32)
    inputs = Input((3,))
    graph = Model(inputs, Add()([InPlace()(inputs), inputs]))
    for found in (InPlace()(x), graph.predict(x, verbose=0), graph(x)):
        np.testing.assert_array_equal(found, np.ones((2, 3)))
        assert not x.any()
    model = InPlaceModel()
    np.testing.assert_array_equal(model(x), np.full((2, 3), 4))
    model.compile("sgd", "mse")
    assert model.train_on_batch(x, x) == pytest.approx(16)
    assert not x.any()


class Twice(Layer):
    """One normalization for two places."""

    def __init__(self) -> None:
        super().__init__()
        self.normalize = BatchNormalization(momentum=0.5)

    def call(self, x: Any) -> Any:
        return self.normalize(self.normalize(x) + 1.0)


def test_moving_statistics_of_a_layer_used_twice() -> None:
    inside, outside = Twice(), BatchNormalization(momentum=0.5)
    x = Input((3,))
    graph = Model(x, outside(outside(x) + 1.0))
    model = Sequential([Input((3,)), inside])
    for each in (graph, model):
        each.compile(SGD(0.1), "mse")
        each.train_on_batch(X[:, 0] + 5, X[:, 1])
    for a, b in zip(inside.normalize.get_weights(), outside.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert np.all(inside.normalize.moving_mean.numpy() > 1)


def test_lambda_in_files(tmp_path: Path) -> None:
    @lstm_native.utils.register_keras_serializable("tests")
    def scaled(x: Any, by: float) -> Any:
        return x * by

    model = Sequential([Input((4, 3)), LSTM(2), Lambda(scaled, arguments={"by": 5.0})])
    model.save(tmp_path / "m.safetensors")
    again = lstm_native.load_model(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))
    with pytest.raises(TypeError, match="no name stands for"):
        Sequential([Input((4,)), Lambda(lambda x: x)]).save(tmp_path / "n.safetensors")


def test_a_scalar_loss_and_row_weights() -> None:
    """A loss that is one number counts in every row."""
    loss = losses.get(lambda t, p: ops.mean(ops.square(t - p)))
    expected = np.mean((Y - 1) ** 2)
    assert loss(np.ones_like(Y), Y) == pytest.approx(expected, rel=1e-6)
    weights = np.array([1, 0, 0, 0, 0, 1.0])
    assert loss(np.ones_like(Y), Y, sample_weight=weights) == pytest.approx(expected / 3, rel=1e-6)


class Inner(Layer):
    """Layers inside, made without names, built by the first call."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.normalize = BatchNormalization()
        self.lstm = LSTM(3, return_sequences=True)

    def call(self, x: Any) -> Any:
        return self.lstm(self.normalize(x)) * 2.0


def test_layers_inside_in_files(tmp_path: Path) -> None:
    model = Sequential([Input((4, 3)), Inner(), GRU(4), Dense(2)])
    for compiled in (False, True):
        if compiled:
            model.compile("adam", "mse")
            model.fit(X, Y, verbose=0)
        model.save(tmp_path / "m.safetensors")
        again = lstm_native.load_model(tmp_path / "m.safetensors", custom_objects={"Inner": Inner})
        np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))
    assert again.train_on_batch(X, Y) == model.train_on_batch(X, Y)
    for a, b in zip(again.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("suffix", ["safetensors", "keras", "h5"])
def test_losses_of_the_caller_in_files(tmp_path: Path, suffix: str) -> None:
    model = Sequential([Input((4, 3)), LSTM(5), Dense(2)])
    model.compile("adam", weighted, metrics=[weighted])
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / f"m.{suffix}")
    again = lstm_native.load_model(tmp_path / f"m.{suffix}", custom_objects={"weighted": weighted})
    expected = model.evaluate(X, Y, verbose=0)
    assert again.evaluate(X, Y, verbose=0) == pytest.approx(expected, rel=1e-5)
    again.fit(X, Y, verbose=0)
    with pytest.raises(ValueError, match="unknown loss 'weighted'"):
        losses.get("weighted")
