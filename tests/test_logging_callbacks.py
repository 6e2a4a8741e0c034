"""CSVLogger, TensorBoard, LambdaCallback and TerminateOnNaN."""

from __future__ import annotations

import csv
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_native.callbacks import (
    BackupAndRestore,
    Callback,
    CallbackList,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    TensorBoard,
    TerminateOnNaN,
)
from lstm_native.layers import LSTM, Dense, Input
from lstm_native.metrics import F1Score
from lstm_native.models import Sequential
from model_support import data, sentiment


def lines(path: Path, separator: str = ",") -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file, delimiter=separator))


def test_a_line_that_was_not_finished_stays_by_itself(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("epoch,loss,val_loss\n0,1.5,NA\n1,1.", encoding="utf-8")
    x, y = data()
    logger = CSVLogger(tmp_path / "log", append=True)
    sentiment().fit(x, y, epochs=2, initial_epoch=1, verbose=0, callbacks=logger)
    _, _, unfinished, last = lines(tmp_path / "log")
    assert unfinished == ["1", "1."]
    assert last[0] == "1"
    assert len(last) >= 3


def test_a_line_an_epoch(tmp_path: Path) -> None:
    x, y = data()
    model = sentiment()
    logger = CSVLogger(tmp_path / "log", separator=";")
    history = model.fit(
        x, y, epochs=2, verbose=0, callbacks=logger, validation_data=(x, y), validation_freq=2
    ).history
    table = lines(tmp_path / "log", ";")
    assert table[0] == ["epoch", "accuracy", "loss", "val_accuracy", "val_loss"]
    assert table[1] == ["0", str(history["accuracy"][0]), str(history["loss"][0]), "NA", "NA"]
    assert table[2][:3] == ["1", str(history["accuracy"][1]), str(history["loss"][1])]
    assert table[2][3:] == [str(history["val_accuracy"][0]), str(history["val_loss"][0])]


def test_append_goes_on_and_its_absence_starts_anew(tmp_path: Path) -> None:
    for append, rows in ((True, 2), (True, 3), (False, 2), (False, 2)):
        calls = CallbackList(CSVLogger(tmp_path / "log", append=append))
        calls.on_train_begin()
        calls.on_epoch_end(0, {"loss": 1.5, "per_class": np.array([1, 2])})
        calls.on_train_end()
        table = lines(tmp_path / "log")
        assert len(table) == rows
        assert table[0] == ["epoch", "loss", "per_class", "val_loss", "val_per_class"]
        assert table[-1] == ["0", "1.5", '"[1, 2]"', "NA", "NA"]  # in quotes, as Keras writes it


@pytest.mark.filterwarnings("ignore")  # of the packages that tensorboardX imports
def test_metrics_with_several_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """F1Score(average=None) gives one for each class; the progress shows their mean, as in Keras."""
    model = Sequential([Input((3, 2)), LSTM(4), Dense(3, activation="softmax")])
    model.compile("sgd", "categorical_crossentropy", metrics=[F1Score(average=None, name="f1")])
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 3, 2)), np.eye(3)[rng.integers(0, 3, 12)]
    calls = [TensorBoard(tmp_path / "board"), CSVLogger(tmp_path / "log")]
    history = model.fit(x, y, 4, verbose=2, callbacks=calls, validation_data=(x, y)).history
    score = history["f1"][0]
    assert score.shape == (3,)
    assert f" - f1: {score.mean():.4f} - " in capsys.readouterr().out
    assert lines(tmp_path / "log")[1][1] == f'"[{", ".join(map(str, score))}]"'
    for folder, values in (("train", score), ("validation", history["val_f1"][0])):
        found = events(tmp_path / "board" / folder)
        np.testing.assert_allclose([found[f"epoch_f1/{i}"][0][1] for i in range(3)], values, rtol=1e-6)
    with pytest.raises(ValueError, match=r"EarlyStopping: 'f1' is array.*, expected a single number"):
        model.fit(x, y, verbose=0, callbacks=EarlyStopping("f1", mode="max"))


def test_functions_are_called() -> None:
    seen: list[Any] = []
    x, y = data()
    model = sentiment()
    calls = LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append(("begin", epoch)),
        on_train_end=lambda logs: seen.append(("end", sorted(logs))),
        on_train_batch_end=lambda batch, logs: seen.append((batch, "loss" in logs)),
        on_test_begin=lambda logs: seen.append("test"),
        note="kept",
    )
    model.fit(x, y, 10, verbose=0, callbacks=calls)
    model.evaluate(x, y, verbose=0, callbacks=calls)
    assert seen == [("begin", 0), (0, True), (1, True), ("end", ["accuracy", "loss"]), "test"]
    assert calls.note == "kept"  # type: ignore[attr-defined]
    assert not CallbackList(LambdaCallback()).wants_train_batch_end


def test_nan_ends_training(capsys: pytest.CaptureFixture[str]) -> None:
    for bad in (float("nan"), float("inf"), -float("inf")):
        stop = TerminateOnNaN()
        fake = type("Model", (), {"stop_training": False})()
        calls = CallbackList(stop, fake)
        calls.on_train_batch_end(0, {"loss": 1.0})
        calls.on_train_batch_end(1, {})
        assert not fake.stop_training
        calls.on_train_batch_end(2, {"loss": bad})
        assert fake.stop_training
        assert capsys.readouterr().out == "Batch 2: Invalid loss, terminating training\n"
        with pytest.raises(RuntimeError, match=f"the loss is {bad} after batch 3"):
            CallbackList(TerminateOnNaN(raise_error=True), fake).on_train_batch_end(3, {"loss": bad})


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by tag, of the event files in a folder."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


@pytest.mark.filterwarnings("ignore")  # of the packages that tensorboardX imports
def test_tensorboard(tmp_path: Path) -> None:
    x, y = data()
    model = sentiment()
    board = TensorBoard(tmp_path, histogram_freq=1, update_freq=2, write_steps_per_second=True)
    history = model.fit(
        x, y, 5, epochs=2, verbose=0, callbacks=board, validation_data=(x, y)
    ).history  # 4 batches an epoch
    train, validation = events(tmp_path / "train"), events(tmp_path / "validation")
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose(train[f"epoch_{name}"], list(enumerate(history[name])), rtol=1e-6)
        np.testing.assert_allclose(
            validation[f"epoch_{name}"], list(enumerate(history[f"val_{name}"])), rtol=1e-6
        )
        assert [step for step, _ in validation[f"evaluation_{name}_vs_iterations"]] == [4, 8]
        assert [step for step, _ in train[f"batch_{name}"]] == [2, 4, 6, 8]
    np.testing.assert_allclose(train["epoch_learning_rate"], [(0, 0.01), (1, 0.01)], rtol=1e-6)
    assert all(value > 0 for _, value in train["epoch_steps_per_second"])
    histograms = [tag for tag in train if tag.endswith("/histogram")]
    assert len(histograms) == len(model.variables)
    model.evaluate(x, y, verbose=0, callbacks=TensorBoard(tmp_path / "evaluate"))
    assert len(events(tmp_path / "evaluate" / "validation")) == 2


def test_tensorboard_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in ({"write_images": True}, {"profile_batch": 2}, {"embeddings_freq": 1}):
        with pytest.raises(ValueError, match="is not supported"):
            TensorBoard(tmp_path, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="update_freq"):
        TensorBoard(tmp_path, update_freq="often")
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    x, y = data()
    with pytest.raises(ImportError, match=r"pip install 'lstm-native\[tensorboard\]'"):
        sentiment().fit(x, y, verbose=0, callbacks=TensorBoard(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("save_freq", "dies_in"), [("epoch", 1), ("epoch", 2), (1, 0), (1, 2), (5, 3)])
def test_an_epoch_that_is_run_again_has_one_line(tmp_path: Path, save_freq: Any, dies_in: int) -> None:
    x, y = data()

    class Dies(Callback):
        """After the line was written, and before the backup."""

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == dies_in and not (tmp_path / "died").exists():
                (tmp_path / "died").touch()
                raise KeyboardInterrupt

    def train(name: str, *more: Callback) -> dict[str, list[Any]]:
        model = sentiment()
        model.build(x.shape)
        logger = CSVLogger(tmp_path / name, append=True)
        try:
            calls = [logger, *more]
            history = model.fit(x, y, epochs=4, batch_size=16, verbose=0, callbacks=calls).history
        finally:
            logger.on_train_end()  # closes the file, as the end of the process would
        return history

    backup = BackupAndRestore(tmp_path / "backup", save_freq)
    train("log")  # another training before, whose lines stay
    earlier = (tmp_path / "log").read_text()
    with pytest.raises(KeyboardInterrupt):
        train("log", Dies(), backup)
    assert len(lines(tmp_path / "log")) == 1 + 4 + dies_in + 1
    history = train("log", Dies(), backup)
    table = lines(tmp_path / "log")
    assert [row[0] for row in table] == ["epoch", *"0123", *"0123"]
    assert (tmp_path / "log").read_text().startswith(earlier)
    assert [row[table[0].index("loss")] for row in table[5:]] == [str(value) for value in history["loss"]]
    # The same in a new file, with its header.
    (tmp_path / "died").unlink()
    with pytest.raises(KeyboardInterrupt):
        train("new", Dies(), backup)
    train("new", Dies(), backup)
    assert [row[0] for row in lines(tmp_path / "new")] == ["epoch", *"0123"]
