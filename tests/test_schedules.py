"""Learning-rate schedules: formulas, restarts, warm-up, training, configurations, wrong arguments."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lstm_native import optimizers
from lstm_native.layers import Dense, Input
from lstm_native.models import Sequential
from lstm_native.optimizers import schedules
from lstm_native.variable import Variable

STEPS = (0, 1, 3, 4, 5, 7, 8, 9, 12, 28, 100)


def cosine(fraction: float, alpha: float) -> float:
    return (1 - alpha) * 0.5 * (1 + math.cos(math.pi * fraction)) + alpha


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (schedules.ExponentialDecay(0.5, 4, 0.9), lambda t: 0.5 * 0.9 ** (t / 4)),
        (schedules.ExponentialDecay(0.5, 4, 0.9, staircase=True), lambda t: 0.5 * 0.9 ** (t // 4)),
        (schedules.InverseTimeDecay(0.5, 4, 0.9), lambda t: 0.5 / (1 + 0.9 * t / 4)),
        (schedules.InverseTimeDecay(0.5, 4, 0.9, staircase=True), lambda t: 0.5 / (1 + 0.9 * (t // 4))),
        (
            schedules.PiecewiseConstantDecay([4, 8], [1.0, 0.5, 0.1]),
            lambda t: 1.0 if t <= 4 else 0.5 if t <= 8 else 0.1,
        ),
        (
            schedules.PolynomialDecay(0.5, 8, 0.1, power=2.0),
            lambda t: 0.4 * (1 - min(t, 8) / 8) ** 2 + 0.1,
        ),
        (
            schedules.PolynomialDecay(0.5, 8, 0.1, cycle=True),
            lambda t: 0.4 * (1 - t / (8 * max(math.ceil(t / 8), 1))) + 0.1,
        ),
        (schedules.CosineDecay(0.5, 8, alpha=0.1), lambda t: 0.5 * cosine(min(t, 8) / 8, 0.1)),
        (
            schedules.CosineDecay(0.1, 8, warmup_target=0.5, warmup_steps=4),
            lambda t: 0.1 + 0.4 * t / 4 if t < 4 else 0.5 * cosine(min(t - 4, 8) / 8, 0.0),
        ),
        (
            schedules.CosineDecayRestarts(0.5, 4, t_mul=1.0, m_mul=0.5),
            lambda t: 0.5 * 0.5 ** (t // 4) * cosine(t % 4 / 4, 0.0),
        ),
    ],
)
def test_values(schedule: schedules.LearningRateSchedule, expected: Callable[[int], float]) -> None:
    for step in STEPS:
        assert schedule(step) == pytest.approx(expected(step), rel=1e-12)
        assert schedule(Variable(step, dtype="int64")) == schedule(step)
    again = schedules.deserialize(schedules.serialize(schedule))
    assert type(again) is type(schedule)
    assert [again(step) for step in STEPS] == [schedule(step) for step in STEPS]


@pytest.mark.parametrize("t_mul", [1.0, 1.5, 2.0, 3.0])
def test_every_restart_is_at_its_step(t_mul: float) -> None:
    """Also where a logarithm of the step would round down: 3 ** 5 has log_3 4.999..."""
    schedule = schedules.CosineDecayRestarts(1.0, 2, t_mul=t_mul, m_mul=0.9)
    start, length = 0.0, 2.0
    for wave in range(8):
        if start == int(start):
            assert schedule(int(start)) == pytest.approx(0.9**wave)
        start += length
        length *= t_mul


def test_training_follows_a_schedule_of_the_batches() -> None:
    model = Sequential([Input((1,)), Dense(1, use_bias=False, kernel_initializer="zeros")])
    optimizer = optimizers.SGD(schedules.PiecewiseConstantDecay([0, 1], [1.0, 0.5, 0.25]))
    model.compile(optimizer, "mse")
    # The gradient of (w x - y)^2 at w = 0 is -2 x y = -2; afterwards the weights are put back.
    for rate in (1.0, 0.5, 0.25, 0.25):
        model.set_weights([np.zeros((1, 1))])
        model.train_on_batch(np.ones((1, 1)), np.ones((1, 1)))
        assert model.get_weights()[0][0, 0] == pytest.approx(2 * rate)


def test_an_optimizer_is_made_again_with_its_schedule() -> None:
    optimizer = optimizers.RMSprop(schedules.ExponentialDecay(0.5, 4, 0.9))
    again = optimizers.get({"class_name": "RMSprop", "config": optimizer.get_config()})
    assert again is not None
    assert again.get_config() == optimizer.get_config()
    assert again.learning_rate == optimizer.learning_rate == 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.ExponentialDecay(0.1, 0, 0.9), "ExponentialDecay: decay_steps is 0"),
        (lambda: schedules.ExponentialDecay(0.1, 1, -0.9), "ExponentialDecay: decay_rate is -0.9"),
        (lambda: schedules.InverseTimeDecay("a", 1, 0.9), "InverseTimeDecay: initial_learning_rate is 'a'"),
        (
            lambda: schedules.PiecewiseConstantDecay([1, 2], [0.1, 0.2]),
            "PiecewiseConstantDecay: 2 boundaries and 2 values",
        ),
        (lambda: schedules.PolynomialDecay(0.1, 5, power=-1), "PolynomialDecay: power is -1"),
        (lambda: schedules.CosineDecay(0.1, -5), "CosineDecay: decay_steps is -5"),
        (lambda: schedules.CosineDecayRestarts(0.1, 5, t_mul=0.5), "CosineDecayRestarts: t_mul is 0.5"),
        (
            lambda: schedules.deserialize({"class_name": "CosineDecai"}),
            "unknown class 'CosineDecai': did you mean 'CosineDecay'",
        ),
    ],
)
def test_wrong_arguments(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
