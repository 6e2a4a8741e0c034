"""ModelCheckpoint: when it saves, under which names, and what."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_native.callbacks import CallbackList, ModelCheckpoint
from lstm_native.metrics import AUC
from model_support import data, sentiment, weights_equal


def fit(checkpoint: ModelCheckpoint, epochs: int = 3, **arguments: Any) -> Any:
    x, y = data()
    model = sentiment()
    model.fit(x, y, 5, epochs=epochs, verbose=0, callbacks=[checkpoint], **arguments)
    return model


def run(checkpoint: ModelCheckpoint, values: list[Any], name: str = "val_loss") -> list[int]:
    """Epochs (counted from 1) after which the checkpoint saves, given the values of its monitor."""
    saved: list[int] = []

    class Model:
        metrics = ()
        epoch = 0

        def save_weights(self, path: str) -> None:
            saved.append(self.epoch)

    model = Model()
    checkpoint.save_weights_only = True  # which asks nothing else of a model
    calls = CallbackList(checkpoint, model)
    calls.on_train_begin()
    for epoch, value in enumerate(values):
        model.epoch = epoch + 1
        calls.on_epoch_begin(epoch)
        calls.on_epoch_end(epoch, {name: value})
    return saved


def test_every_epoch_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder" / "{epoch:02d}-{loss:.3f}-{val_accuracy:.1f}.safetensors"
    x, y = data()
    model = fit(ModelCheckpoint(path), validation_data=(x, y))
    names = sorted(os.listdir(tmp_path / "deep" / "folder"))
    assert [name[:3] for name in names] == ["01-", "02-", "03-"]
    other = sentiment()
    other(x)
    other.load_weights(tmp_path / "deep" / "folder" / names[-1])
    assert weights_equal(model, other)


def test_every_so_many_batches(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(str(tmp_path / "{epoch}-{batch}.x"), save_freq=3, save_weights_only=True)
    fit(checkpoint)  # 4 batches an epoch
    assert sorted(os.listdir(tmp_path)) == ["1-3.x", "2-2.x", "3-1.x", "3-4.x"]


@pytest.mark.parametrize(
    ("values", "arguments", "saved"),
    [
        ([3, 2, 4, 1, 1], {}, [1, 2, 4]),
        ([3, 2, 4, 1, 5], {"mode": "max"}, [1, 3, 5]),
        ([3, 2, 1], {"initial_value_threshold": 1.5}, [3]),
        ([3, 2, 1], {"save_best_only": False}, [1, 2, 3]),
        ([float("nan"), 2, 1], {"initial_value_threshold": 5}, [2, 3]),
    ],
)
def test_only_the_best(
    tmp_path: Path, values: list[Any], arguments: dict[str, Any], saved: list[int]
) -> None:
    assert run(ModelCheckpoint(tmp_path / "x", **{"save_best_only": True, **arguments}), values) == saved


def test_directions_and_missing_values(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="ModelCheckpoint mode 'best' is unknown"):
        ModelCheckpoint(tmp_path / "x", mode="best")
    with pytest.raises(ValueError, match="cannot tell whether a larger 'val_score'"):
        run(ModelCheckpoint(tmp_path / "x", "val_score", save_best_only=True), [1, 2], "val_score")
    with pytest.warns(UserWarning, match="'val_loss' is not among the values"):
        assert run(ModelCheckpoint(tmp_path / "x", save_best_only=True), [1], "loss") == [1]
    with pytest.warns(UserWarning, match="expected a number to compare"):
        assert run(ModelCheckpoint(tmp_path / "x", save_best_only=True), [np.ones(2)]) == [1]
    with pytest.raises(KeyError, match="names 'val_loss', there are epoch, loss"):
        run(ModelCheckpoint(tmp_path / "{val_loss}"), [1], "loss")
    with pytest.raises(IsADirectoryError, match="is a folder, expected a file"):
        run(ModelCheckpoint(tmp_path), [1])
    assert os.listdir(tmp_path) == []


def test_it_says_what_it_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "x")
    run(ModelCheckpoint(path, verbose=1, save_best_only=True), [2.0, 3.0])
    assert capsys.readouterr().out.split("\n") == [
        "",
        f"Epoch 1: val_loss improved from None to 2.00000, saving model to {path}",
        "",
        f"Epoch 1: finished saving model to {path}",
        "",
        "Epoch 2: val_loss did not improve from 2.00000",
        "",
    ]


def test_batches_cost_nothing_when_epochs_are_saved(tmp_path: Path) -> None:
    assert not CallbackList(ModelCheckpoint(tmp_path / "x")).wants_train_batch_end
    assert CallbackList(ModelCheckpoint(tmp_path / "x", save_freq=2)).wants_train_batch_end


def test_the_metric_knows_its_direction(tmp_path: Path) -> None:
    x, y = data()
    model = sentiment(metrics=(AUC(name="area"),))
    checkpoint = ModelCheckpoint(tmp_path / "x", "area", save_best_only=True, initial_value_threshold=1.0)
    model.fit(x, y, verbose=0, callbacks=[checkpoint])
    assert os.listdir(tmp_path) == []
