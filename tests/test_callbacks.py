"""Callbacks: order of hooks, hooks that are skipped, History, EarlyStopping."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lstm_native.callbacks import Callback, CallbackList, EarlyStopping, History


class FakeModel:
    """What callbacks touch of a model; its only weight is set by the test."""

    def __init__(self, metrics: tuple[Any, ...] = ()) -> None:
        self.stop_training = False
        self.metrics = metrics
        self.weight = 0

    def get_weights(self) -> list[Any]:
        return [self.weight]

    def set_weights(self, weights: list[Any]) -> None:
        (self.weight,) = weights


class Recorder(Callback):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.calls.append("train_begin")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.calls.append(("epoch_end", epoch, logs))

    def on_batch_end(self, batch: int, logs: Any = None) -> None:
        self.calls.append(("batch_end", batch, logs))

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.calls.append(("test_batch_begin", batch))


def test_hooks_reach_every_callback_in_order() -> None:
    first, second = Recorder(), Recorder()
    model = FakeModel()
    params = {"epochs": 1, "verbose": 0, "steps": 2}
    callbacks = CallbackList([first, [second]], model, params)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    callbacks.on_train_batch_begin(0)
    callbacks.on_train_batch_end(0, {"loss": 1.0})
    callbacks.on_test_begin()
    callbacks.on_test_batch_begin(3)
    callbacks.on_test_batch_end(3)
    callbacks.on_test_end()
    callbacks.on_epoch_end(0, {"loss": 0.5})
    callbacks.on_train_end()
    callbacks.on_predict_begin()
    callbacks.on_predict_batch_begin(0)
    callbacks.on_predict_batch_end(0)
    callbacks.on_predict_end()
    expected = [
        "train_begin",
        ("batch_end", 0, {"loss": 1.0}),
        ("test_batch_begin", 3),
        ("epoch_end", 0, {"loss": 0.5}),
    ]
    assert first.calls == second.calls == expected
    assert first.model is model
    assert first.params == params


def test_batch_hooks_that_nobody_overrides_are_skipped() -> None:
    assert not CallbackList([History(), EarlyStopping()]).wants_train_batch_end
    recorded = CallbackList(Recorder())
    assert recorded.wants_train_batch_end
    assert not recorded.wants_test_batch_end
    assert not recorded.wants_predict_batch_end
    plain = Callback()
    seen: list[int] = []
    plain.on_test_batch_end = lambda batch, logs=None: seen.append(batch)  # type: ignore[method-assign]
    callbacks = CallbackList(plain)
    assert callbacks.wants_test_batch_end
    callbacks.on_test_batch_end(4)
    assert seen == [4]


def test_add_history_and_append() -> None:
    callbacks = CallbackList(None, FakeModel(), add_history=True)
    assert isinstance(callbacks.history, History)
    mine = History()
    assert CallbackList([mine], add_history=True).history is mine
    recorder = Recorder()
    callbacks.append(recorder)
    callbacks.on_train_batch_end(0)
    assert recorder.calls == [("batch_end", 0, {})]
    assert recorder.model is callbacks.model


def test_only_callbacks_are_callbacks() -> None:
    for bad in (3, [EarlyStopping], ["history"]):
        with pytest.raises(TypeError, match="callbacks: got"):
            CallbackList(bad)  # type: ignore[arg-type]


def test_history() -> None:
    history = History()
    for _ in range(2):
        history.on_train_begin()
        history.on_epoch_end(0, {"loss": 1.0})
        history.on_epoch_end(1, {"loss": 0.5, "val_loss": 2.0})
    assert history.epoch == [0, 1]
    assert history.history == {"loss": [1.0, 0.5, 1.0, 0.5], "val_loss": [2.0, 2.0]}


def run(
    values: list[float], model: Any = None, monitor: str = "val_loss", **arguments: Any
) -> tuple[int, Any]:
    """Epochs that a training with these values runs, and its model; the weight is the epoch's number."""
    model = model or FakeModel()
    callbacks = CallbackList(EarlyStopping(monitor, **arguments), model)
    callbacks.on_train_begin()
    epochs = 0
    for epoch, value in enumerate(values):
        model.weight = epoch
        callbacks.on_epoch_end(epoch, {monitor: value})
        epochs += 1
        if model.stop_training:
            break
    callbacks.on_train_end()
    return epochs, model


@pytest.mark.parametrize(
    ("values", "arguments", "epochs"),
    [
        ([3, 2, 1, 1, 1], {}, 4),
        ([3, 2, 1, 1, 1], {"patience": 1}, 4),
        ([3, 2, 1, 1, 0, 1, 1, 1], {"patience": 2}, 7),
        ([3.0, 2.9, 2.8, 2.7], {"min_delta": 0.5}, 2),
        ([3.0, 2.9, 2.8, 2.7], {"min_delta": -0.5}, 2),
        ([1, 2, 3, 3], {"mode": "max"}, 4),
        ([5, 4, 3, 2], {"baseline": 1.0, "patience": 2}, 4),
        ([5, 5, 5, 5, 5], {"start_from_epoch": 2}, 4),
        ([5, 6, 6], {"patience": 0}, 2),
        ([float("nan")] * 4, {"patience": 2}, 3),
    ],
)
def test_early_stopping_ends_after(values: list[float], arguments: dict[str, Any], epochs: int) -> None:
    assert run(values, **arguments)[0] == epochs


def test_early_stopping_knows_directions() -> None:
    up = SimpleNamespace(name="accuracy", _direction="up")
    down = SimpleNamespace(name="mae", _direction="down")
    assert run([1, 2, 3, 3], FakeModel((up, down)), "val_accuracy")[0] == 4
    assert run([1, 2, 3], FakeModel((up, down)), "mae")[0] == 2
    with pytest.raises(ValueError, match="cannot tell whether a larger 'score'"):
        run([1, 2], FakeModel((up,)), "score")
    with pytest.warns(UserWarning, match="mode 'best'"):
        EarlyStopping(mode="best")


def test_early_stopping_restores_the_best_weights(capsys: pytest.CaptureFixture[str]) -> None:
    epochs, model = run([3, 1, 2, 2, 2], patience=2, restore_best_weights=True, verbose=1)
    assert epochs == 4
    assert model.weight == 1
    assert capsys.readouterr().out == (
        "Epoch 4: early stopping\nRestoring model weights from the end of the best epoch: 2.\n"
    )
    _, model = run([3, 1, 2, 2, 2], patience=2)
    assert model.weight == 3
    assert capsys.readouterr().out == ""
    # Training that ends by itself restores too.
    _, model = run([3, 1, 2], patience=5, restore_best_weights=True)
    assert model.weight == 1


def test_early_stopping_can_be_used_again() -> None:
    stopping = EarlyStopping(monitor="loss")
    for _ in range(2):
        model = FakeModel()
        stopping.set_model(model)
        stopping.on_train_begin()
        stopping.on_epoch_end(0, {"loss": 5.0})
        assert not model.stop_training
        stopping.on_epoch_end(1, {"loss": 6.0})
        assert model.stop_training


def test_a_missing_value_warns_and_goes_on() -> None:
    stopping = EarlyStopping()
    stopping.set_model(FakeModel())
    with pytest.warns(UserWarning, match="'val_loss' is not among the values of this epoch: loss"):
        stopping.on_epoch_end(0, {"loss": 1.0})
