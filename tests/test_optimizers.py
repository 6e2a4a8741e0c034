"""Optimizers: steps against the reference, clipping, weight decay, learning rates, failed steps."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import reference
from lstm_native import _core, optimizers
from lstm_native.optimizers.schedules import LearningRateSchedule
from lstm_native.variable import Variable

SHAPES = [(3, 4), (5,), (2, 2, 2)]
# float32 state over a dozen steps: each step rounds a few times, relative 6e-8 each.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


def make(seed: int = 0) -> tuple[list[Variable], list[list[Any]]]:
    """Variables, and gradients for a dozen steps."""
    rng = np.random.default_rng(seed)
    names = ["dense/kernel", "dense/bias", "lstm/kernel"]
    variables = [
        Variable(rng.normal(size=s), name=n.split("/")[1], path=n) for s, n in zip(SHAPES, names, strict=True)
    ]
    return variables, [[rng.normal(size=s).astype(np.float32) for s in SHAPES] for _ in range(12)]


def train(optimizer: optimizers.Optimizer, steps: list[list[Any]], variables: list[Variable]) -> None:
    for gradients in steps:
        optimizer.apply_gradients(zip(gradients, variables, strict=True))


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("weight_decay", [None, 0.1])
def test_adam_matches_the_reference(amsgrad: bool, weight_decay: float | None) -> None:
    variables, steps = make()
    rate = float(np.float32(0.01))
    expected = [
        (
            v.numpy().astype(np.float64),
            np.zeros(v.shape),
            np.zeros(v.shape),
            np.zeros(v.shape) if amsgrad else None,
        )
        for v in variables
    ]
    optimizer = optimizers.Adam(0.01, beta_1=0.8, beta_2=0.95, amsgrad=amsgrad, weight_decay=weight_decay)
    for number, gradients in enumerate(steps, 1):
        alpha = reference.adam_alpha(rate, 0.8, 0.95, number)
        expected = [
            reference.adam_step(w, g, m, v, hat, alpha, 0.8, 0.95, 1e-7, (weight_decay or 0) * rate)
            for (w, m, v, hat), g in zip(expected, gradients, strict=True)
        ]
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
    for variable, (w, *_) in zip(variables, expected, strict=True):
        np.testing.assert_allclose(variable.numpy(), w, **TOLERANCE)
    assert int(optimizer.iterations) == len(steps)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.parametrize("weight_decay", [None, 0.1])
def test_sgd_matches_the_reference(momentum: float, nesterov: bool, weight_decay: float | None) -> None:
    variables, steps = make(1)
    rate = float(np.float32(0.05))
    expected: list[Any] = [
        (v.numpy().astype(np.float64), np.zeros(v.shape) if momentum else None) for v in variables
    ]
    optimizer = optimizers.SGD(0.05, momentum, nesterov, weight_decay=weight_decay)
    for gradients in steps:
        expected = [
            reference.sgd_step(w, g, velocity, rate, momentum, nesterov, (weight_decay or 0) * rate)
            for (w, velocity), g in zip(expected, gradients, strict=True)
        ]
    train(optimizer, steps, variables)
    for variable, (w, _) in zip(variables, expected, strict=True):
        np.testing.assert_allclose(variable.numpy(), w, **TOLERANCE)


def stepped_by(gradients: list[Any], **clip: float) -> list[Any]:
    """What one step of plain descent with learning rate 1 takes off zero weights: the clipped gradients."""
    variables = [Variable(np.zeros(np.shape(g)), name="w") for g in gradients]
    optimizers.SGD(1.0, **clip).apply_gradients(zip(gradients, variables, strict=True))
    return [-v.numpy() for v in variables]


def test_clipping() -> None:
    gradients = [np.array([3.0, -4.0], np.float32), np.array([[0.3, 0.4]], np.float32)]
    before = [g.copy() for g in gradients]
    clipped = stepped_by(gradients, clipvalue=0.35)
    np.testing.assert_allclose(clipped[0], [0.35, -0.35])
    np.testing.assert_allclose(clipped[1], [[0.3, 0.35]])
    clipped = stepped_by(gradients, clipnorm=1.0)
    np.testing.assert_allclose(clipped[0], [0.6, -0.8], rtol=1e-6)
    np.testing.assert_allclose(clipped[1], [[0.3, 0.4]])
    clipped = stepped_by(gradients, global_clipnorm=1.0)
    norm = np.sqrt(25.25)
    np.testing.assert_allclose(clipped[0], before[0] / norm, rtol=1e-6)
    np.testing.assert_allclose(clipped[1], before[1] / norm, rtol=1e-6)
    clipped = stepped_by(gradients, global_clipnorm=100.0)
    np.testing.assert_array_equal(clipped[0], before[0])
    for gradient, original in zip(gradients, before, strict=True):
        np.testing.assert_array_equal(gradient, original)


def test_an_infinite_global_norm_shows_as_nan() -> None:
    clipped = stepped_by([np.array([np.inf, 1.0]), np.array([1.0])], global_clipnorm=1.0)
    assert np.isnan(clipped[0]).all()
    assert np.isnan(clipped[1]).all()


def test_only_one_kind_of_clipping() -> None:
    with pytest.raises(ValueError, match=r"Only one of .* Received: clip"):
        optimizers.Adam(clipnorm=1.0, clipvalue=1.0)
    with pytest.raises(ValueError, match=r"Only one of .* Received: clip"):
        optimizers.SGD(clipvalue=1.0, global_clipnorm=1.0)


def test_exclude_from_weight_decay() -> None:
    variables, _ = make()
    start = [v.numpy() for v in variables]
    optimizer = optimizers.SGD(1.0, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=[variables[2]], var_names=["bias"])
    optimizer.apply_gradients([(np.zeros(v.shape), v) for v in variables])
    np.testing.assert_allclose(variables[0].numpy(), start[0] * 0.5)
    np.testing.assert_array_equal(variables[1].numpy(), start[1])
    np.testing.assert_array_equal(variables[2].numpy(), start[2])
    with pytest.raises(ValueError, match="before the first step"):
        optimizer.exclude_from_weight_decay(var_names=["kernel"])


def test_learning_rate_is_settable_between_steps() -> None:
    variable = Variable(np.zeros(2), name="w")
    optimizer = optimizers.SGD(0.5)
    optimizer.apply_gradients([(np.ones(2), variable)])
    optimizer.learning_rate = 0.25
    optimizer.apply_gradients([(np.ones(2), variable)])
    np.testing.assert_allclose(variable.numpy(), -0.75)
    optimizer.learning_rate.assign(0.125)
    assert float(optimizer.learning_rate) == 0.125
    assert optimizer.learning_rate.numpy() == np.float32(0.125)
    assert optimizer.learning_rate * 2 == 0.25
    assert f"{optimizer.learning_rate:.3f}" == "0.125"
    optimizer.learning_rate = np.float32(2.0)
    assert float(optimizer.learning_rate) == 2.0
    for bad in ("fast", None, [0.1, 0.2], True):
        with pytest.raises(ValueError, match="learning_rate"):
            optimizer.learning_rate = bad
    assert float(optimizer.learning_rate) == 2.0


def test_schedules_and_functions() -> None:
    class Halving(LearningRateSchedule):
        def __call__(self, step: int) -> float:
            return 0.5**step

        def get_config(self) -> dict[str, Any]:
            return {}

    variable = Variable(np.zeros(1), name="w")
    optimizer = optimizers.SGD(Halving())
    for _ in range(3):
        optimizer.apply_gradients([(np.ones(1), variable)])
    np.testing.assert_allclose(variable.numpy(), -1.75)
    assert optimizer.learning_rate == 0.125
    assert optimizer.get_config()["learning_rate"] == {"class_name": "Halving", "config": {}}
    with pytest.raises(TypeError, match=r"`LearningRateSchedule` \(Halving\)"):
        optimizer.learning_rate = 0.1
    optimizer.learning_rate = lambda: 4.0
    optimizer.apply_gradients([(np.ones(1), variable)])
    np.testing.assert_allclose(variable.numpy(), -5.75)


def test_iterations_is_like_an_int() -> None:
    optimizer = optimizers.Adam()
    assert int(optimizer.iterations) == 0
    variable = Variable(np.zeros(1), name="w")
    for _ in range(3):
        optimizer.apply_gradients([(np.ones(1), variable)])
    assert optimizer.iterations == 3
    assert list(range(5))[optimizer.iterations] == 3
    assert optimizer.iterations.numpy() == 3


def test_variables_continue_a_training_exactly() -> None:
    variables, steps = make()
    first = optimizers.Adam(0.01, amsgrad=True)
    train(first, steps[:6], variables)
    assert len(first.variables) == 2 + 3 * len(variables)
    assert first.variables[0].name == "iteration"
    assert first.variables[1].name == "learning_rate"
    assert [v.name for v in first.variables[2:4]] == ["dense_kernel_momentum", "dense_kernel_velocity"]
    assert first.variables[8].name == "dense_kernel_velocity_hat"

    copies = [Variable(v.numpy(), name=v.name) for v in variables]
    second = optimizers.Adam(0.5, amsgrad=True)
    with pytest.raises(ValueError, match="needs build"):
        second.set_weights([])
    second.build(copies)
    second.set_weights([v.numpy() for v in first.variables])
    train(first, steps[6:], variables)
    train(second, steps[6:], copies)
    for a, b in zip(variables, copies, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    with pytest.raises(ValueError, match="arrays given"):
        second.set_weights([np.zeros(1)])


def test_a_failed_step_changes_nothing() -> None:
    variables, steps = make()
    optimizer = optimizers.Adam()
    train(optimizer, steps[:1], variables)
    before = [v.numpy() for v in [*variables, *optimizer.variables]]
    bad = [*steps[1][:2], np.zeros((2, 2))]
    with pytest.raises(ValueError, match=r"gradient of lstm/kernel has shape \(2, 2\), expected \(2, 2, 2\)"):
        optimizer.apply_gradients(zip(bad, variables, strict=True))
    with pytest.raises(ValueError, match="No gradients"):
        optimizer.apply_gradients((None, v) for v in variables)
    with pytest.raises(ValueError, match="none of the variables"):
        optimizer.apply_gradients([(np.zeros(1), Variable(np.zeros(1), name="other"))])
    with pytest.raises(ValueError, match="2 gradients for 3"):
        optimizer.apply(steps[1][:2], variables)
    for value, old in zip([*variables, *optimizer.variables], before, strict=True):
        np.testing.assert_array_equal(value.numpy(), old)


def test_a_missing_gradient_leaves_its_variable_alone() -> None:
    variables, steps = make()
    optimizer = optimizers.Adam()
    optimizer.build(variables)
    before = variables[1].numpy()
    with pytest.warns(UserWarning, match="no gradients for dense/bias"):
        optimizer.apply_gradients(zip([steps[0][0], None, steps[0][2]], variables, strict=True))
    np.testing.assert_array_equal(variables[1].numpy(), before)
    expected, _ = make()
    optimizers.Adam().apply_gradients([(steps[0][2], expected[2])])
    np.testing.assert_array_equal(variables[2].numpy(), expected[2].numpy())


def test_step_is_apply_without_checks() -> None:
    variables, steps = make()
    others, _ = make()
    a, b = optimizers.Adam(clipnorm=0.5), optimizers.Adam(clipnorm=0.5)
    b.build(others)
    for gradients in steps:
        a.apply(gradients, variables)
        b.step([_core.as_tensor(g, "float32").copy() for g in gradients], list(others))
    for one, other in zip(variables, others, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_get_and_configurations() -> None:
    adam = optimizers.Adam(0.5, beta_1=0.7, amsgrad=True, clipnorm=2.0, weight_decay=0.1)
    assert optimizers.get(adam) is adam
    again = optimizers.get({"class_name": "Adam", "config": adam.get_config()})
    assert again.get_config() == adam.get_config()
    for identifier in ("adam", "Adam", "ADAM", optimizers.Adam):
        assert isinstance(optimizers.get(identifier), optimizers.Adam)
    assert isinstance(optimizers.get("sgd"), optimizers.SGD)
    assert optimizers.get("adam").name == "adam"
    with pytest.raises(ValueError, match="did you mean 'adam'"):
        optimizers.get("adamm")
    with pytest.raises(ValueError, match="cannot interpret"):
        optimizers.get(0.01)
    with pytest.raises(TypeError, match="use_emma"):
        optimizers.Adam(use_emma=True)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "arguments",
    [
        {"beta_1": 1.0},
        {"beta_2": -0.1},
        {"learning_rate": "fast"},
        {"clipnorm": -1.0},
        {"weight_decay": -1.0},
    ],
)
def test_values_out_of_range(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        optimizers.Adam(**arguments)


def test_sgd_momentum_out_of_range() -> None:
    with pytest.raises(ValueError, match="momentum"):
        optimizers.SGD(momentum=1.5)


# --- constructors -------------------------------------------------------------------------------------

COMMON = [
    "weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "use_ema", "ema_momentum",
    "ema_overwrite_frequency", "loss_scale_factor", "gradient_accumulation_steps", "name",
]  # fmt: skip


@pytest.mark.parametrize(
    ("cls", "own"),
    [
        (optimizers.Adam, ["learning_rate", "beta_1", "beta_2", "epsilon", "amsgrad"]),
        (optimizers.RMSprop, ["learning_rate", "rho", "momentum", "epsilon", "centered"]),
        (optimizers.SGD, ["learning_rate", "momentum", "nesterov"]),
    ],
)
def test_arguments_are_those_of_keras_in_their_order(cls: Any, own: list[str]) -> None:
    parameters = inspect.signature(cls).parameters
    assert list(parameters) == own + COMMON
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters.values())
    defaults = cls().get_config()
    given = [defaults[name] for name in list(parameters)[:-1]]
    assert cls(*given, "by_position").get_config() == {**defaults, "name": "by_position"}


def test_adamw_has_its_weight_decay_second() -> None:
    names = list(inspect.signature(optimizers.AdamW).parameters)
    assert names[:6] == ["learning_rate", "weight_decay", "beta_1", "beta_2", "epsilon", "amsgrad"]
    assert names[6:] == COMMON[1:]
    config = optimizers.AdamW(0.5, 0.1, 0.2, 0.3, 0.4, True, 2.0).get_config()
    assert [config[name] for name in names[:7]] == [0.5, 0.1, 0.2, 0.3, 0.4, True, 2.0]


def test_unknown_arguments() -> None:
    with pytest.raises(TypeError, match="Adam: unknown argument 'clipnrom': did you mean 'clipnorm'"):
        optimizers.Adam(clipnrom=1.0)
    with pytest.raises(TypeError, match="SGD: 2 arguments too many, expected learning_rate, momentum"):
        optimizers.SGD(*[0.1, 0.0, False, None, None, None, None, False, 0.9, None, None, None, "s", 1, 2])
