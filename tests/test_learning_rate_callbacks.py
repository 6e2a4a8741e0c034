"""LearningRateScheduler and ReduceLROnPlateau."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lstm_native.callbacks import CallbackList, LearningRateScheduler, ReduceLROnPlateau
from lstm_native.optimizers import SGD
from model_support import data, sentiment


def test_the_schedule_sets_the_rate() -> None:
    x, y = data()
    for schedule in (lambda epoch, rate: rate / 2, lambda epoch: 0.01 / 2 ** (epoch + 1)):
        model = sentiment()
        history = model.fit(x, y, epochs=3, verbose=0, callbacks=LearningRateScheduler(schedule)).history
        np.testing.assert_allclose(history["learning_rate"], [0.005, 0.0025, 0.00125], rtol=1e-6)
    with pytest.raises(ValueError, match=r"schedule returned 1, expected a float"):
        model.fit(x, y, verbose=0, callbacks=LearningRateScheduler(lambda epoch, rate: 1))


def rates(values: list[float], **arguments: Any) -> list[float]:
    """Learning rates after each epoch, given the values of the monitor."""
    model = SimpleNamespace(optimizer=SGD(1.0), metrics=(), stop_training=False)
    calls = CallbackList(ReduceLROnPlateau("loss", **arguments), model)
    calls.on_train_begin()
    found: list[float] = []
    for epoch, value in enumerate(values):
        logs = {"loss": value}
        calls.on_epoch_end(epoch, logs)
        # The logs hold the rate that the epoch ran with.
        assert round(logs["learning_rate"], 6) == (found[-1] if found else 1.0)
        found.append(round(float(model.optimizer.learning_rate), 6))
    return found


@pytest.mark.parametrize(
    ("values", "arguments", "expected"),
    [
        ([5, 4, 4, 4, 4], {"patience": 2}, [1, 1, 1, 0.1, 0.1]),
        ([5, 5, 5, 5], {"patience": 1, "factor": 0.5}, [1, 0.5, 0.25, 0.125]),
        ([5, 5, 5, 5], {"patience": 1, "cooldown": 2}, [1, 0.1, 0.1, 0.01]),
        ([5, 5, 5, 5], {"patience": 1, "min_lr": 0.05}, [1, 0.1, 0.05, 0.05]),
        ([5, 4.5, 4.0, 3.5], {"patience": 1, "min_delta": 0.6}, [1, 0.1, 0.1, 0.01]),
        ([1, 2, 3, 2], {"patience": 1, "mode": "max"}, [1, 1, 1, 0.1]),
        ([float("nan")] * 3, {"patience": 2}, [1, 1, 0.1]),
    ],
)
def test_the_rate_goes_down_on_a_plateau(
    values: list[float], arguments: dict[str, Any], expected: list[float]
) -> None:
    assert rates(values, **arguments) == expected


def test_it_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    rates([1, 1], patience=1, verbose=1)
    assert capsys.readouterr().out == "\nEpoch 2: ReduceLROnPlateau reducing learning rate to 0.1.\n"


def test_wrong_arguments() -> None:
    for arguments in ({"factor": 1.0}, {"min_lr": -1}, {"patience": "two"}, {"cooldown": None}):
        with pytest.raises(ValueError, match=f"ReduceLROnPlateau: {next(iter(arguments))}"):
            ReduceLROnPlateau(**arguments)  # type: ignore[arg-type]
    x, y = data()
    with pytest.warns(UserWarning, match="'val_loss' is not among the values of this epoch: accuracy, loss"):
        sentiment().fit(x, y, verbose=0, callbacks=ReduceLROnPlateau(), validation_freq=2)


def test_the_rate_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = data()
    model = sentiment()
    callbacks = [LearningRateScheduler(lambda epoch: 0.25), ReduceLROnPlateau(monitor="loss")]
    for callback in callbacks:
        model.fit(x, y, verbose=2, callbacks=[callback])
        assert "learning_rate: 0.2500" in capsys.readouterr().out
