"""RMSprop and AdamW: native steps on every instruction set, against float64, and numbers of Keras."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import reference
from lstm_native import _core, optimizers
from lstm_native.layers import Dense, Input
from lstm_native.models import Sequential
from lstm_native.variable import Variable
from native_support import UNIT_ROUNDOFF, f32, tensor, variable

Array = npt.NDArray[Any]
SHAPES = [(7, 12), (12,), (1,), (0,), (33, 64), (5, 1), ()]


def rmsprop_step(
    w: Array,
    g: Array,
    v: Array,
    m: Array | None,
    a: Array | None,
    rate: float,
    rho: float,
    momentum: float,
    epsilon: float,
    decay: float,
) -> tuple[Array, Array, Array | None, Array | None]:
    """One step in the form of Keras: the new (w, velocity, momentum, average), float64."""
    w = w - w * decay
    v = rho * v + (1 - rho) * g**2
    variance = v
    if a is not None:
        a = rho * a + (1 - rho) * g
        variance = v - a**2
    step = rate * g / np.sqrt(variance + epsilon)
    if m is not None:
        m = step = momentum * m + step
    return w - step, v, m, a


@pytest.mark.parametrize("momentum", [None, 0.9])
@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("decayed", [False, True])
def test_rmsprop(isa: str, momentum: float | None, centered: bool, decayed: bool) -> None:
    rng = np.random.default_rng(10)
    weights = [f32(rng.normal(size=shape)) for shape in SHAPES]

    def zeros(used: bool) -> list[_core.Variable] | None:
        return [variable(np.zeros(shape)) for shape in SHAPES] if used else None

    variables = [variable(w) for w in weights]
    velocities, momentums, averages = zeros(True), zeros(momentum is not None), zeros(centered)
    assert velocities is not None
    expected: list[Any] = [
        (
            w.astype(np.float64),
            np.zeros(w.shape),
            None if momentum is None else np.zeros(w.shape),
            np.zeros(w.shape) if centered else None,
        )
        for w in weights
    ]
    decays = [0.01 * index for index in range(len(SHAPES))] if decayed else None
    rate, rho, steps = 0.01, 0.9, 10
    for _ in range(steps):
        gradients = [f32(rng.normal(size=shape)) for shape in SHAPES]
        _core.rmsprop_step(
            variables,
            [tensor(g) for g in gradients],
            velocities,
            momentums,
            averages,
            rate,
            rho,
            momentum or 0.0,
            1e-3,
            decays,
        )
        expected = [
            rmsprop_step(
                *state[:1], g.astype(np.float64), *state[1:], rate, rho, momentum or 0.0, 1e-3,
                decays[index] if decays else 0.0,
            )
            for index, (state, g) in enumerate(zip(expected, gradients, strict=True))
        ]  # fmt: skip
    # A step rounds each array a handful of times. The variance of `centered` cancels digits: its root is off
    # by up to u v / sqrt(epsilon) relative to a step of rate / sqrt(epsilon) g.
    for index, (w, v, m, a) in enumerate(expected):
        for name, got, want in (
            ("variable", variables, w),
            ("velocity", velocities, v),
            ("momentum", momentums, m),
            ("average", averages, a),
        ):
            if want is not None:
                assert got is not None
                cancelled = 8 * np.max(v, initial=0.0) / 1e-3 * rate if centered else 0.0
                bound = 8 * steps * UNIT_ROUNDOFF * (np.maximum(np.abs(want), 0.05) + cancelled)
                assert np.all(np.abs(got[index].numpy() - want) <= bound), (name, SHAPES[index])


def test_a_variance_that_rounding_makes_negative_is_zero(isa: str) -> None:
    """Gradients that stay the same: their mean square and the square of their mean agree but for rounding."""
    w, v, a = (variable(np.zeros(40)) for _ in range(3))
    g = tensor(np.linspace(1e3, 3e3, 40))
    for _ in range(300):
        _core.rmsprop_step([w], [g], [v], None, [a], 1e-3, 0.9, 0.0, 1e-7, None)
    assert np.isfinite(w.numpy()).all()


def test_a_refused_step_changes_nothing() -> None:
    variables, v, m = ([variable(np.ones(shape)) for shape in ((3,), (2, 2))] for _ in range(3))
    good = [tensor(np.ones(3)), tensor(np.ones((2, 2)))]
    rest = (0.1, 0.9, 0.9, 1e-7, None)
    with pytest.raises(ValueError, match="gradients"):
        _core.rmsprop_step(variables, good[:1], v, m, None, *rest)
    with pytest.raises(ValueError, match="velocities"):
        _core.rmsprop_step(variables, good, v[::-1], m, None, *rest)
    with pytest.raises(ValueError, match="momentums"):
        _core.rmsprop_step(variables, good, v, m[:1], None, *rest)
    with pytest.raises(ValueError, match="averages"):
        _core.rmsprop_step(variables, good, v, m, m[::-1], *rest)
    with pytest.raises(TypeError, match="velocities holds an object of type int"):
        _core.rmsprop_step(variables, good, [1, 2], m, None, *rest)  # type: ignore[list-item]
    for array in (*variables, *v, *m):
        np.testing.assert_array_equal(array.numpy(), 1.0)
        assert array.version == 0


def test_a_step_does_not_depend_on_threads() -> None:
    rng = np.random.default_rng(3)
    start, g = rng.normal(size=(2, 200_000))
    seen = set()
    before = _core.get_num_threads()
    try:
        for threads in (1, 2, 3):
            _core.set_num_threads(threads)
            w, v, m, a = variable(start), *(variable(np.zeros(start.size)) for _ in range(3))
            for _ in range(2):
                _core.rmsprop_step([w], [tensor(g)], [v], [m], [a], 1e-2, 0.9, 0.5, 1e-7, [0.1])
            seen.add(tuple(x.numpy().tobytes() for x in (w, v, m, a)))
    finally:
        _core.set_num_threads(before)
    assert len(seen) == 1


GRADIENTS = (np.array([0.1, -2.0, 0.0], np.float32), np.array([0.3, 1.0, -1e-3], np.float32))


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        # Two steps of Keras 3.15.1 from [1, -1, 0.5].
        (optimizers.RMSprop(0.1), [0.38227823, -0.83121419, 0.72360682]),
        (
            optimizers.RMSprop(0.1, rho=0.5, momentum=0.9, centered=True, epsilon=1e-3),
            [0.45445409, -0.70181227, 0.50316191],
        ),
        (optimizers.RMSprop(0.1, weight_decay=0.1, clipnorm=0.5), [0.355277, -0.89185035, 0.62663954]),
        (optimizers.AdamW(0.1), [0.8074677, -0.87260759, 0.57377845]),
        (
            optimizers.AdamW(0.1, 0.2, amsgrad=True, use_ema=True, ema_overwrite_frequency=2),
            [0.87891006, -0.8795585, 0.49064377],
        ),
    ],
)
def test_numbers_of_keras(optimizer: optimizers.Optimizer, expected: list[float]) -> None:
    w = Variable([1.0, -1.0, 0.5], name="w")
    for g in GRADIENTS:
        optimizer.apply_gradients([(g, w)])
    np.testing.assert_allclose(w.numpy(), expected, rtol=2e-6)


def test_adamw_is_adam_with_weight_decay() -> None:
    w = Variable([1.0, -1.0, 0.5], name="w")
    optimizer = optimizers.AdamW(0.1)
    expected = w.numpy().astype(np.float64), *(np.zeros(3) for _ in range(2)), None
    for step, g in enumerate(GRADIENTS, 1):
        optimizer.apply_gradients([(g, w)])
        alpha = reference.adam_alpha(0.1, 0.9, 0.999, step)
        expected = reference.adam_step(*expected[:1], g, *expected[1:], alpha, 0.9, 0.999, 1e-7, 0.004 * 0.1)
    np.testing.assert_allclose(w.numpy(), expected[0], rtol=1e-6)


def test_compile_takes_rmsprop_by_default_and_learns() -> None:
    x = np.random.default_rng(0).normal(size=(64, 3))
    model = Sequential([Input((3,)), Dense(1)])
    model.compile(loss="mse")
    assert isinstance(model.optimizer, optimizers.RMSprop)
    assert model.optimizer.get_config() == optimizers.RMSprop().get_config()
    history = model.fit(x, x @ [1.0, -1.0, 0.5], epochs=5, batch_size=8, verbose=0).history["loss"]
    assert history[-1] < history[0]


def test_slots_in_the_order_of_keras() -> None:
    optimizer = optimizers.RMSprop(momentum=0.5, centered=True)
    optimizer.build([Variable([1.0], name="a"), Variable([2.0], name="b")])
    assert [v.name for v in optimizer.variables] == [
        "iteration", "learning_rate", "a_velocity", "b_velocity", "a_momentum", "b_momentum",
        "a_average_gradient", "b_average_gradient",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rho": 1.0}, r"rmsprop: rho is 1.0, expected a number in \[0, 1\)"),
        ({"momentum": -0.5}, "rmsprop: .*momentum=-0.5"),
        ({"epsilon": -1e-7}, "rmsprop: epsilon is -1e-07"),
    ],
)
def test_arguments_outside_their_ranges(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optimizers.RMSprop(**arguments)
