"""Losses, metrics, optimizers and activation layers that few programs use, against plain formulas."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import lstm_native
from lstm_native import _core, initializers, layers, losses, metrics, optimizers
from lstm_native.layers import LSTM, Dense, Input
from lstm_native.models import Sequential
from lstm_native.variable import Variable

Array = npt.NDArray[np.float64]
RNG = np.random.default_rng(11)
TRUE = RNG.uniform(0.2, 2, (6, 4, 3))
PRED = RNG.uniform(0.1, 3, (6, 4, 3))
SIGNS = RNG.integers(0, 2, (6, 4, 3)).astype(np.float64)

FORMULAS: dict[str, tuple[Callable[[Array, Array], Array], Array]] = {
    "MeanAbsolutePercentageError": (lambda t, p: 100 * np.abs((t - p) / t).mean(-1), TRUE),
    "MeanSquaredLogarithmicError": (lambda t, p: ((np.log(1 + t) - np.log(1 + p)) ** 2).mean(-1), TRUE),
    "Hinge": (lambda t, p: np.maximum(1 - (2 * t - 1) * p, 0).mean(-1), SIGNS),
    "SquaredHinge": (lambda t, p: (np.maximum(1 - (2 * t - 1) * p, 0) ** 2).mean(-1), SIGNS),
    "CategoricalHinge": (
        lambda t, p: np.maximum(((1 - t) * p).max(-1) - (t * p).sum(-1) + 1, 0),
        np.eye(3)[RNG.integers(0, 3, (6, 4))],
    ),
    "Poisson": (lambda t, p: (p - t * np.log(p + 1e-7)).mean(-1), TRUE),
    "CosineSimilarity": (
        lambda t, p: -(t * p).sum(-1) / np.sqrt((t * t).sum(-1) * (p * p).sum(-1)),
        TRUE,
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_losses(name: str) -> None:
    formula, true = FORMULAS[name]
    loss = getattr(losses, name)()
    assert loss(true, PRED) == pytest.approx(formula(true, PRED).mean(), rel=1e-5)
    function = getattr(losses, loss.name)
    np.testing.assert_allclose(function(true, PRED), formula(true, PRED), rtol=1e-5, atol=1e-6)
    assert type(losses.get(loss.name)) is type(loss)
    labels = loss.prepare(true, PRED.shape)
    _, gradient = loss.forward_backward(labels, _core.as_tensor(PRED, "float32"), need_gradient=True)
    assert gradient is not None
    step = 1e-6
    for position in RNG.permutation(PRED.size)[:8]:
        moved = [PRED.copy(), PRED.copy()]
        moved[0].flat[position] += step
        moved[1].flat[position] -= step
        slope = (formula(true, moved[0]).mean() - formula(true, moved[1]).mean()) / (2 * step)
        assert gradient.numpy().flat[position] == pytest.approx(slope, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("name", FORMULAS)
def test_metrics(name: str) -> None:
    formula, true = FORMULAS[name]
    sign = -1 if name == "CosineSimilarity" else 1
    metric = getattr(metrics, name)()
    metric.update_state(true[:3], PRED[:3])
    metric.update_state(true[3:], PRED[3:])
    assert float(metric.result()) == pytest.approx(sign * formula(true, PRED).mean(), rel=1e-5)
    assert type(metrics.get(metric.name)) is type(metric)


def test_short_names() -> None:
    assert isinstance(losses.get("mape"), losses.MeanAbsolutePercentageError)
    assert isinstance(losses.get("msle"), losses.MeanSquaredLogarithmicError)
    assert metrics.get("mape").name == "mape"
    with pytest.raises(ValueError, match="only the last axis"):
        losses.CosineSimilarity(axis=0)


def adagrad(w: Array, g: Array, s: list[Array], t: int) -> tuple[Array, list[Array]]:
    a = s[0] + g**2
    return w - 0.1 * g / np.sqrt(a + 1e-7), [a]


def adadelta(w: Array, g: Array, s: list[Array], t: int) -> tuple[Array, list[Array]]:
    a = 0.95 * s[0] + 0.05 * g**2
    delta = np.sqrt(s[1] + 1e-7) / np.sqrt(a + 1e-7) * g
    return w - 0.1 * delta, [a, 0.95 * s[1] + 0.05 * delta**2]


def adamax(w: Array, g: Array, s: list[Array], t: int) -> tuple[Array, list[Array]]:
    m, u = 0.9 * s[0] + 0.1 * g, np.maximum(0.999 * s[1], np.abs(g))
    return w - 0.1 / (1 - 0.9**t) * m / (u + 1e-7), [m, u]


def nadam(w: Array, g: Array, s: list[Array], t: int) -> tuple[Array, list[Array]]:
    def mu(i: int) -> float:
        return 0.9 * (1 - 0.5 * 0.96**i)

    m, v = 0.9 * s[0] + 0.1 * g, 0.999 * s[1] + 0.001 * g**2
    product = np.prod([mu(i) for i in range(1, t + 1)])
    ahead = mu(t + 1) * m / (1 - product * mu(t + 1)) + (1 - mu(t)) * g / (1 - product)
    return w - 0.1 * ahead / (np.sqrt(v / (1 - 0.999**t)) + 1e-7), [m, v]


@pytest.mark.parametrize(
    ("cls", "rule", "start"),
    [
        (optimizers.Adagrad, adagrad, [0.1]),
        (optimizers.Adadelta, adadelta, [0, 0]),
        (optimizers.Adamax, adamax, [0, 0]),
        (optimizers.Nadam, nadam, [0, 0]),
    ],
)
@pytest.mark.parametrize("decay", [None, 0.02])
def test_optimizers(cls: Any, rule: Any, start: list[float], decay: float | None) -> None:
    w = RNG.normal(size=(4, 3))
    variable, optimizer = Variable(w), cls(0.1, weight_decay=decay)
    slots = [np.full(w.shape, value) for value in start]
    w = variable.numpy().astype(np.float64)
    for step in range(1, 6):
        gradient = RNG.normal(size=w.shape).astype(np.float32)
        optimizer.apply([gradient], [variable])
        if decay is not None:
            w = w - 0.1 * decay * w
        w, slots = rule(w, gradient.astype(np.float64), slots, step)
        np.testing.assert_allclose(variable.numpy(), w, rtol=2e-5, atol=2e-6)
    copy = cls.from_config(optimizer.get_config())
    assert type(optimizers.get(cls.__name__.upper())) is cls
    assert copy.get_config() == optimizer.get_config()


@pytest.mark.parametrize("name", ["adagrad", "adadelta", "adamax", "nadam"])
def test_a_training_goes_on_from_variables(name: str) -> None:
    x, y = RNG.normal(size=(8, 5, 2)), RNG.normal(size=(8, 1))

    def model() -> Sequential:
        made = Sequential([Input((5, 2)), LSTM(3), Dense(1)])
        made.compile(name, "mse")
        return made

    through, second = model(), model()
    second.set_weights(through.get_weights())
    through.fit(x, y, epochs=4, shuffle=False, verbose=0)
    first = model()
    first.set_weights(second.get_weights())
    first.fit(x, y, epochs=2, shuffle=False, verbose=0)
    second.set_weights(first.get_weights())
    assert second.optimizer is not None
    assert first.optimizer is not None
    second.optimizer.build(second.trainable_variables)
    second.optimizer.set_weights([np.asarray(v) for v in first.optimizer.variables])
    second.fit(x, y, epochs=2, shuffle=False, verbose=0)
    for a, b in zip(through.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_nadam_keeps_the_product_of_its_momenta() -> None:
    variable, optimizer = Variable(np.ones(3)), optimizers.Nadam()
    optimizer.build([variable])
    np.testing.assert_array_equal(np.asarray(optimizer.variables[-1]), 1)
    optimizer.apply([np.ones(3, np.float32)], [variable])
    optimizer.apply([np.ones(3, np.float32)], [variable])
    expected = 0.9**2 * (1 - 0.5 * 0.96) * (1 - 0.5 * 0.96**2)
    assert float(optimizer.variables[-1]) == pytest.approx(expected, rel=1e-6)
    assert len(optimizer.variables) == 5  # iterations, rate, momentum, velocity, product: those of Keras


def test_arguments_out_of_range() -> None:
    with pytest.raises(ValueError, match="beta_1 is 1"):
        optimizers.Nadam(beta_1=1)
    with pytest.raises(ValueError, match="initial_accumulator_value is -1"):
        optimizers.Adagrad(initial_accumulator_value=-1)
    with pytest.raises(ValueError, match="negative_slope is -1"):
        layers.LeakyReLU(-1)
    with pytest.raises(ValueError, match="known sizes"):
        layers.PReLU().build((None, None, 3))


LAYERS: dict[str, tuple[Any, Callable[[Array], Array]]] = {
    "ReLU": (layers.ReLU(), lambda x: np.maximum(x, 0)),
    "ReLU6": (
        layers.ReLU(max_value=1.0, negative_slope=0.1),
        lambda x: np.minimum(np.where(x > 0, x, 0.1 * x), 1),
    ),
    "LeakyReLU": (layers.LeakyReLU(), lambda x: np.where(x > 0, x, 0.3 * x)),
    "LeakyReLU of older programs": (layers.LeakyReLU(alpha=0.2), lambda x: np.where(x > 0, x, 0.2 * x)),
    "ELU": (layers.ELU(0.5), lambda x: np.where(x > 0, x, 0.5 * np.expm1(x))),
    "Softmax": (layers.Softmax(), lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
    "Softmax of time": (layers.Softmax(axis=1), lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True)),
    "PReLU": (
        layers.PReLU(alpha_initializer=initializers.Constant(0.4)),
        lambda x: np.where(x > 0, x, 0.4 * x),
    ),
    "PReLU shared": (
        layers.PReLU(alpha_initializer=initializers.constant(0.4), shared_axes=[1]),
        lambda x: np.where(x > 0, x, 0.4 * x),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_activation_layers(name: str) -> None:
    layer, formula = LAYERS[name]
    x = RNG.normal(size=(6, 4, 3))
    np.testing.assert_allclose(layer(x), formula(x), rtol=1e-5, atol=1e-6)
    model = Sequential([Input((4, 3)), Dense(3), layer, LSTM(2)])
    np.testing.assert_allclose(
        model.predict(x, verbose=0), model.layers[-1](formula(model.layers[0](x))), rtol=1e-4, atol=1e-5
    )
    model.compile(optimizers.SGD(1.0), "mse")
    y = RNG.normal(size=(6, 2))
    before = model.get_weights()
    model.train_on_batch(x, y)
    after = model.get_weights()
    for i, weight in enumerate(before):
        position, step = int(RNG.integers(weight.size)), 1e-3
        values = []
        for sign in (1, -1):
            moved = [w.copy() for w in before]
            moved[i].flat[position] += sign * step
            model.set_weights(moved)
            values.append(float(model.evaluate(x, y, verbose=0)))
        slope = (values[0] - values[1]) / (2 * step)
        assert (weight - after[i]).flat[position] == pytest.approx(slope, rel=5e-2, abs=2e-3)


def test_activity_regularization() -> None:
    model = Sequential([Input((3,)), layers.ActivityRegularization(l1=0.1, l2=0.01)])
    model.compile("sgd", "mse")
    x = np.full((2, 3), 2.0)
    assert model.evaluate(x, x, verbose=0) == pytest.approx(0.1 * 6 + 0.01 * 12)


def test_activations_that_are_layers() -> None:
    model = Sequential([Input((3,)), Dense(2, activation=layers.LeakyReLU(0.1)), Dense(1)])
    model.compile("sgd", "mse")
    model.fit(np.ones((2, 3)), np.ones(2), verbose=0)
    x = RNG.normal(size=(5, 3))
    hidden = x @ model.layers[0].kernel.numpy() + model.layers[0].bias.numpy()
    np.testing.assert_allclose(
        model.layers[0](x), np.where(hidden > 0, hidden, 0.1 * hidden), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("axis", [-1, 1, (1, 2), None])
def test_normalization(axis: Any) -> None:
    x = RNG.normal(3, 2, size=(20, 6, 3))
    layer = layers.Normalization(axis=axis)
    layer.adapt(x)
    over = {-1: (0, 1), 1: (0, 2), (1, 2): (0,), None: None}[axis]
    expected = (x - x.mean(axis=over, keepdims=True)) / x.std(axis=over, keepdims=True)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-3, atol=1e-4)
    back = layers.Normalization(axis=axis, invert=True)
    back.adapt(x)
    np.testing.assert_allclose(back(layer(x)), x, rtol=1e-4, atol=1e-4)


def test_normalization_in_a_model() -> None:
    x = RNG.normal(3, 2, size=(20, 6, 3))
    layer = layers.Normalization()
    layer.adapt((x[i : i + 5], None) for i in range(0, 20, 5))
    given = layers.Normalization(mean=x.mean((0, 1)), variance=x.var((0, 1)))
    np.testing.assert_allclose(given(x), layer(x), rtol=1e-4, atol=1e-5)
    model = Sequential([Input((6, 3)), layer, LSTM(4), Dense(1)])
    model.compile("adam", "mse")
    before = layer.get_weights()
    model.fit(x, np.zeros(20), verbose=0)
    for a, b in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="pass mean and variance"):
        layers.Normalization(mean=1.0)
    with pytest.raises(ValueError, match="that were given"):
        given.adapt(x)


def test_normalization_as_data() -> None:
    layer = layers.Normalization(axis=1, mean=[1.0, 2.0], variance=4.0)
    copy = layers.Normalization.from_config(layer.get_config())
    x = RNG.normal(size=(5, 2, 3))
    np.testing.assert_allclose(copy(x), (x - np.array([[1.0], [2.0]])) / 2, rtol=1e-5)
    np.testing.assert_array_equal(copy(x), layer(x))
    assert layer.weights == []  # as in Keras: constants


def test_functions_of_the_caller_may_change_their_arguments() -> None:
    def in_place(y_true: Any, y_pred: Any) -> Any:
        y_pred -= y_true
        if isinstance(y_true, np.ndarray):
            y_true *= 0
        return np.mean(np.square(y_pred), axis=-1)

    model = Sequential([Input((3,)), Dense(2)])
    model.compile(optimizers.SGD(0.0), in_place, metrics=[in_place, "mae"])
    x, y = RNG.normal(size=(6, 3)).astype(np.float32), np.ones((6, 2), np.float32)
    predicted = model.predict(x, verbose=0)
    expected = [np.mean((predicted - 1) ** 2)] * 2 + [np.mean(np.abs(predicted - 1))]
    for call in (model.evaluate, model.train_on_batch, model.test_on_batch):
        found = call(x, y, **({"verbose": 0} if call == model.evaluate else {}))
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        assert np.all(y == 1)
    assert losses.get(in_place)(y, predicted) == pytest.approx(expected[0], rel=1e-5)
    assert np.all(y == 1)


@pytest.mark.parametrize("suffix", ["safetensors", "keras", "h5"])
def test_files(tmp_path: Path, suffix: str) -> None:
    x = RNG.normal(size=(6, 4, 3)).astype(np.float32)
    norm = layers.Normalization()
    norm.adapt(x)
    kinds = [layers.ReLU(2.0, 0.1), layers.LeakyReLU(), layers.ELU(0.5), layers.PReLU(shared_axes=[1]), norm]
    softened = [layers.Softmax(axis=1), layers.ActivityRegularization(0.1)]
    for optimizer, loss in (
        ("nadam", "mape"),
        ("adagrad", "hinge"),
        ("adadelta", "poisson"),
        ("adamax", "msle"),
    ):
        model = Sequential([Input((4, 3)), *kinds, *softened, LSTM(2), layers.ReLU(), layers.Softmax()])
        model.compile(optimizer, loss, metrics=["cosine_similarity"])
        model.fit(x, np.ones((6, 2)), verbose=0)
        path = tmp_path / f"{optimizer}.{suffix}"
        model.save(path)
        again = lstm_native.load_model(path)
        np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
        for one in (model, again):
            one.fit(x, np.ones((6, 2)), epochs=2, shuffle=False, verbose=0)
        np.testing.assert_allclose(again.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5)
