"""What all optimizers share beside the rule: running means of the weights, accumulation, loss scaling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_native import Variable
from lstm_native.layers import Dense
from lstm_native.models import Sequential
from lstm_native.optimizers import SGD, Adam

GRADIENTS = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)


def walk(optimizer: Any) -> list[np.ndarray[Any, Any]]:
    """The weight after every step."""
    weight = Variable(np.array([1.0, -2.0, 0.5]), name="w")
    after = []
    for gradient in GRADIENTS:
        optimizer.apply([gradient], [weight])
        after.append(weight.numpy())
    optimizer.finalize_variable_values([weight])
    return [*after, weight.numpy()]


@pytest.mark.parametrize("frequency", [None, 3])
def test_running_means_of_the_weights(frequency: int | None) -> None:
    w, mean = np.array([1.0, -2.0, 0.5]), np.zeros(3)
    expected = []
    for step, gradient in enumerate(GRADIENTS):
        w = w - 0.1 * gradient
        mean = w if step == 0 else 0.7 * mean + 0.3 * w
        if frequency and (step + 1) % frequency == 0:
            w = mean
        expected.append(w)
    seen = walk(SGD(0.1, use_ema=True, ema_momentum=0.7, ema_overwrite_frequency=frequency))
    np.testing.assert_allclose(seen, [*expected, mean], rtol=1e-5, atol=1e-6)


def test_accumulated_gradients() -> None:
    w = np.array([1.0, -2.0, 0.5])
    expected = []
    for step in range(len(GRADIENTS)):
        if step % 3 == 2:
            w = w - 0.1 * GRADIENTS[step - 2 : step + 1].mean(axis=0)
        expected.append(w)
    optimizer = SGD(0.1, gradient_accumulation_steps=3)
    np.testing.assert_allclose(walk(optimizer), [*expected, w], rtol=1e-5, atol=1e-6)
    assert int(optimizer.iterations) == 2
    # Clipping and Adam's bias correction see the means and the number of changes.
    clipped = walk(Adam(0.1, gradient_accumulation_steps=7, clipnorm=0.01))
    mean = GRADIENTS.mean(axis=0)
    mean *= min(1, 0.01 / np.linalg.norm(mean))
    expected = [1, -2, 0.5] - 0.1 * mean / (np.abs(mean) + 1e-7 / np.sqrt(1e-3))
    np.testing.assert_allclose(clipped[-1], expected, rtol=1e-5)


def test_loss_scale() -> None:
    plain, scaled = SGD(0.1), SGD(0.1, loss_scale_factor=8.0)
    a, b = Variable(np.ones(3), name="a"), Variable(np.ones(3), name="b")
    gradients = GRADIENTS[0] * 8
    plain.apply([GRADIENTS[0]], [a])
    scaled.apply([gradients], [b])
    np.testing.assert_array_equal(a.numpy(), b.numpy())
    np.testing.assert_array_equal(gradients, GRADIENTS[0] * 8)  # the caller's numbers stay


def test_fit_ends_with_the_means() -> None:
    model = Sequential([Dense(1)])
    model.compile(SGD(0.1, use_ema=True), "mse")
    model.fit(np.ones((4, 3)), np.zeros(4), batch_size=2, verbose=0)
    averages = [v.numpy() for v in model.optimizer.variables if v.name.endswith("average")]
    assert len(averages) == 2
    for weight, average in zip(model.get_weights(), averages, strict=True):
        np.testing.assert_array_equal(weight, average)


def test_configuration_holds_them() -> None:
    options = {
        "use_ema": True,
        "ema_momentum": 0.5,
        "ema_overwrite_frequency": 2,
        "loss_scale_factor": 4.0,
        "gradient_accumulation_steps": 3,
    }
    for cls in (Adam, SGD):
        config = cls(**options).get_config()
        assert config.items() >= options.items()
        assert cls.from_config(config).get_config() == config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ema_momentum": 1.5}, r"adam: ema_momentum is 1.5, expected a number in \[0, 1\]"),
        ({"ema_overwrite_frequency": 0}, "adam: ema_overwrite_frequency is 0, expected a positive integer"),
        ({"loss_scale_factor": 0}, "adam: loss_scale_factor is 0, expected a positive number"),
        ({"gradient_accumulation_steps": 1.5}, "adam: gradient_accumulation_steps is 1.5"),
    ],
)
def test_values_outside_the_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Adam(**options)
