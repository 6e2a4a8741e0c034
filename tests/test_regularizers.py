"""Regularizers and constraints: values and gradients by themselves, and through training."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lstm_native import _core, constraints, initializers, optimizers, regularizers, utils
from lstm_native.layers import LSTM, Activation, Dense, Embedding, Input, Layer
from lstm_native.models import Model, Sequential
from lstm_native.variable import Variable
from native_support import UNIT_ROUNDOFF, f32, tensor, variable

Array = npt.NDArray[Any]


class Cubes(regularizers.Regularizer):
    """A regularizer of the user's own, with its gradient."""

    def __call__(self, x: Any) -> Any:
        return 0.1 * np.abs(x).sum() ** 3 / 3

    def gradient(self, x: Any) -> Any:
        return 0.1 * np.abs(x).sum() ** 2 * np.sign(x)


def mean_of_cosines(x: Array) -> float:
    rows = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosines = [abs(rows[i] @ rows[j]) for i in range(len(rows)) for j in range(i)]
    return float(np.mean(cosines))


REGULARIZERS: list[tuple[Any, Callable[[Array], float]]] = [
    (regularizers.L1(0.3), lambda x: 0.3 * np.abs(x).sum()),
    (regularizers.L2(0.2), lambda x: 0.2 * (x**2).sum()),
    (regularizers.L1L2(0.3, 0.2), lambda x: 0.3 * np.abs(x).sum() + 0.2 * (x**2).sum()),
    (regularizers.OrthogonalRegularizer(0.5), lambda x: 0.5 * mean_of_cosines(x)),
    (regularizers.OrthogonalRegularizer(0.5, "columns"), lambda x: 0.5 * mean_of_cosines(x.T)),
    (Cubes(), lambda x: 0.1 * np.abs(x).sum() ** 3 / 3),
]


@pytest.mark.parametrize(("regularizer", "function"), REGULARIZERS)
def test_values_and_gradients(regularizer: Any, function: Callable[[Array], float]) -> None:
    x = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    exact = x.astype(np.float64)
    assert regularizer(x) == pytest.approx(function(exact), rel=1e-6)
    assert regularizer(Variable(x)) == regularizer(x)
    expected = np.empty_like(exact)
    for i in np.ndindex(exact.shape):
        above, below = exact.copy(), exact.copy()
        above[i] += 1e-6
        below[i] -= 1e-6
        expected[i] = (function(above) - function(below)) / 2e-6
    for given in (tensor(x), variable(x)):
        value, gradient = regularizers.penalty(regularizer, given, True)
        assert value == pytest.approx(function(exact), rel=1e-6)
        assert gradient is not None
        np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(gradient.numpy(), regularizer.gradient(x).astype(np.float32))
        assert regularizers.penalty(regularizer, given, False) == (value, None)


def test_native_penalty(isa: str) -> None:
    """Lengths around a vector and a chunk, the sign of zeros, NaN; value and gradient are float32's best."""
    rng = np.random.default_rng(1)
    for count in (0, 1, 7, 16, 33, 8192, 20000):
        x = f32(rng.normal(size=count))
        x[::5] = 0.0
        value, gradient = _core.penalty(tensor(x), 0.3, 0.2, True)
        assert value == pytest.approx(
            0.3 * np.abs(x).sum(dtype=float) + 0.2 * (x.astype(float) ** 2).sum(), rel=1e-9
        )
        assert gradient is not None
        expected = 0.3 * np.sign(x, dtype=np.float64) + 0.4 * x.astype(np.float64)
        # The factors and two operations are rounded.
        bound = 4 * UNIT_ROUNDOFF * (0.3 + 0.4 * np.abs(x))
        assert np.all(np.abs(gradient.numpy() - expected) <= bound)
    value, gradient = _core.penalty(tensor(f32([np.nan, -0.0])), 1.0, 1.0, True)
    assert np.isnan(value)
    assert gradient is not None
    np.testing.assert_array_equal(gradient.numpy(), [np.nan, 0.0])
    with pytest.raises(ValueError, match="penalty: x is float64, expected float32"):
        _core.penalty(tensor(np.ones(2), "float64"), 1.0, 1.0, True)


def test_penalties_do_not_depend_on_threads() -> None:
    x = tensor(np.random.default_rng(2).normal(size=300_000))
    seen = set()
    before = _core.get_num_threads()
    try:
        for threads in (1, 2, 3):
            _core.set_num_threads(threads)
            value, gradient = _core.penalty(x, 0.1, 0.2, True)
            assert gradient is not None
            seen.add((value, gradient.numpy().tobytes()))
    finally:
        _core.set_num_threads(before)
    assert len(seen) == 1


def test_short_vectors_have_no_direction() -> None:
    orthogonal = regularizers.OrthogonalRegularizer(1.0)
    assert orthogonal(np.zeros((3, 4))) == 0.0
    np.testing.assert_array_equal(orthogonal.gradient(np.zeros((3, 4))), np.zeros((3, 4)))
    assert orthogonal(np.ones((1, 4))) == 0.0  # no pairs


def test_get() -> None:
    assert regularizers.get(None) is None
    l2 = regularizers.get("l2")
    assert isinstance(l2, regularizers.L2)
    assert l2.l2 == 0.01
    assert isinstance(regularizers.get("L1L2"), regularizers.L1L2)
    assert isinstance(regularizers.get(regularizers.L1), regularizers.L1)
    for regularizer, _ in REGULARIZERS[:-1]:
        config = {"class_name": type(regularizer).__name__, "config": regularizer.get_config()}
        again: Any = regularizers.get(config)
        assert type(again) is type(regularizer)
        assert again.get_config() == regularizer.get_config()
    assert regularizers.get(abs) is abs
    for wrong, message in (("l3", "unknown regularizer 'l3'"), (3, "regularizer: cannot interpret 3")):
        with pytest.raises(ValueError, match=message):
            regularizers.get(wrong)
    for make in (
        lambda: regularizers.L1(-1.0),
        lambda: regularizers.L2(np.inf),
        lambda: regularizers.L1L2("a"),
    ):
        with pytest.raises(ValueError, match="expected a number that is not negative"):
            make()


# --- constraints -----------------------------------------------------------------------------------


def test_constraints() -> None:
    w = np.random.default_rng(3).normal(size=(5, 4)).astype(np.float32) * [0.1, 1, 2, 0]
    norms = np.linalg.norm(w, axis=0)
    np.testing.assert_array_equal(constraints.NonNeg()(w), np.maximum(w, 0).astype(np.float32))
    np.testing.assert_allclose(np.linalg.norm(constraints.UnitNorm()(w), axis=0), [1, 1, 1, 0], rtol=1e-5)
    np.testing.assert_allclose(
        np.linalg.norm(constraints.MaxNorm(0.5)(w), axis=0), np.minimum(norms, 0.5), rtol=1e-5
    )
    limited = constraints.MinMaxNorm(0.3, 0.5, rate=0.25)(w)
    # A column of zeros cannot be scaled up.
    expected = 0.25 * np.clip(norms, 0.3, 0.5) + 0.75 * norms
    np.testing.assert_allclose(np.linalg.norm(limited, axis=0)[:3], expected[:3], rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(constraints.UnitNorm(axis=[0, 1])(w)), 1.0, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(constraints.UnitNorm(axis=1)(w), axis=1), 1.0, rtol=1e-5)


def test_get_constraint() -> None:
    assert constraints.get(None) is None
    assert isinstance(constraints.get("max_norm"), constraints.MaxNorm)
    assert isinstance(constraints.get("MinMaxNorm"), constraints.MinMaxNorm)
    config = {"class_name": "MaxNorm", "config": {"max_value": 3.0, "axis": 1}}
    limit: Any = constraints.get(config)
    assert limit.get_config() == config["config"]
    assert constraints.get(abs) is abs
    for wrong, message in (("norm", "unknown constraint 'norm'"), (3, "constraint: cannot interpret 3")):
        with pytest.raises(ValueError, match=message):
            constraints.get(wrong)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_constraints_hold_after_every_step(optimizer: str) -> None:
    model = Sequential(
        [
            Input((6,), dtype="int32"),
            Embedding(9, 4, embeddings_constraint=constraints.UnitNorm(axis=1)),
            LSTM(3),
            Dense(2, kernel_constraint="non_neg", bias_constraint=lambda w: np.clip(w, -0.01, 0.01)),
        ]
    )
    model.compile(optimizer, "mse")
    rng = np.random.default_rng(4)
    for _ in range(3):
        model.train_on_batch(rng.integers(0, 9, (5, 6)), rng.normal(size=(5, 2)))
        table, *_, kernel, bias = model.get_weights()
        np.testing.assert_allclose(np.linalg.norm(table, axis=1), 1.0, rtol=1e-5)
        assert (kernel >= 0).all()
        assert (np.abs(bias) <= np.float32(0.01)).all()


# --- in training -------------------------------------------------------------------------------------


def regularized(functional: bool, activity: Any = None) -> Model:
    utils.set_random_seed(11)
    layers = [
        # Wide enough that no output of the LSTM is so small that the kink of L1 is near.
        Embedding(9, 4, initializers.RandomNormal(stddev=1.0), embeddings_regularizer="l2"),
        LSTM(3, kernel_regularizer=regularizers.L1(0.05), activity_regularizer=activity),
        Dense(
            3,
            "sigmoid",
            kernel_regularizer=regularizers.OrthogonalRegularizer(0.2),
            bias_regularizer=Cubes(),
            activity_regularizer=activity,
            bias_initializer="ones",
        ),
    ]
    if not functional:
        return Sequential([Input((6,), dtype="int32"), *layers])
    inputs = outputs = Input((6,), dtype="int32")
    for layer in layers:
        outputs = layer(outputs)
    return Model(inputs, outputs)


@pytest.mark.parametrize("activity", [None, "l2", "l1"])
@pytest.mark.parametrize("functional", [False, True])
def test_gradients_of_penalties_are_those_of_the_reported_loss(functional: bool, activity: Any) -> None:
    rng = np.random.default_rng(5)
    x, y = rng.integers(0, 9, (4, 6)), rng.integers(0, 2, (4, 3))
    model = regularized(functional, activity)
    model.compile(optimizers.SGD(1.0), "binary_crossentropy")
    before = model.get_weights()
    reported = model.train_on_batch(x, y)
    gradients = [a - b for a, b in zip(before, model.get_weights(), strict=True)]
    model.set_weights(before)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(reported, rel=1e-6)
    # float32 losses (about 1e-7) over a step of 1e-2 along one weight array at a time.
    for i, gradient in enumerate(gradients):
        direction = gradient / max(float(np.linalg.norm(gradient)), 1e-6)
        sides = []
        for sign in (-1, 1):
            moved = list(before)
            moved[i] = before[i] + np.float32(sign * 1e-2) * direction
            model.set_weights(moved)
            sides.append(model.test_on_batch(x, y))
        assert (sides[1] - sides[0]) / 2e-2 == pytest.approx(np.linalg.norm(gradient), rel=2e-2, abs=3e-4), i


def test_losses_are_listed_and_reported() -> None:
    x = np.full((5, 2), 2.0)
    layer = Dense(
        5, kernel_initializer="ones", kernel_regularizer=regularizers.L1(0.01), activity_regularizer="l2"
    )
    layer(x)
    # Outputs are 4: 0.01 * 25 * 16 / 5 rows; the kernel 0.01 * 10.
    assert layer.losses == pytest.approx([0.8, 0.1])
    model = Sequential([Input((2,)), layer])
    model.compile("sgd", "mse")
    model(x)
    assert model.losses == pytest.approx([0.8, 0.1])
    assert model.evaluate(x, np.full((5, 5), 4.0), verbose=0) == pytest.approx(0.9)
    layer.trainable = False
    assert model.losses == pytest.approx([0.8])


def test_a_frozen_layer_has_no_weight_penalty_but_one_of_its_outputs() -> None:
    first = Dense(3, kernel_regularizer="l2", activity_regularizer="l1")
    model = Sequential([Input((2,)), Dense(2), first])
    model.compile("sgd", "mse")
    first.trainable = False
    before = first.get_weights()
    model.fit(np.ones((4, 2)), np.ones((4, 3)), verbose=0)
    for a, b in zip(before, first.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_penalty_of_a_shared_layer_counts_each_use() -> None:
    inputs = Input((2,))
    layer = Dense(2, kernel_initializer="identity", activity_regularizer=regularizers.L1(1.0))
    model = Model(inputs, layer(layer(inputs)))
    model(np.ones((3, 2)))
    assert model.losses == pytest.approx([2.0, 2.0])


def test_callables_without_gradient_work_forward_only() -> None:
    def total(w: Any) -> Any:
        return np.abs(w).sum()

    for arguments in ({"kernel_regularizer": total}, {"activity_regularizer": total}):
        model = Sequential([Input((2,)), Dense(1, name="d", kernel_initializer="ones", **arguments)])
        model.compile("sgd", "mse")
        assert model.evaluate(np.ones((1, 2)), [[2.0]], verbose=0) == pytest.approx(2.0)
        with pytest.raises(ValueError, match=f"Dense 'd': {next(iter(arguments))} is total, .*gradient"):
            model.fit(np.ones((1, 2)), [[2.0]], verbose=0)


def test_copies_keep_regularizers_and_constraints() -> None:
    model = Sequential([Input((2,)), Dense(2, kernel_regularizer="l2", kernel_constraint="non_neg")])
    twin = copy.deepcopy(model)
    assert twin.losses == model.losses
    assert isinstance(twin.layers[0].kernel.constraint, constraints.NonNeg)


def test_an_activation_layer_may_be_penalized_too() -> None:
    layer: Layer = Activation("relu", activity_regularizer=regularizers.L2(0.5))
    layer([[1.0, -1.0], [2.0, 0.0]])
    assert layer.losses == pytest.approx([0.5 * 5 / 2])
