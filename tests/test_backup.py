"""BackupAndRestore: training that was interrupted ends as if it had not been, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import resume_support
from lstm_native.callbacks import BackupAndRestore, Callback, EarlyStopping, ModelCheckpoint
from lstm_native.layers import (
    GRU,
    LSTM,
    RNN,
    Bidirectional,
    Dense,
    Dropout,
    GRUCell,
    Input,
    LSTMCell,
    SimpleRNN,
    TimeDistributed,
)
from lstm_native.models import Model, Sequential
from lstm_native.utils import set_random_seed, timeseries_dataset_from_array
from resume_support import BATCH, ROWS, callbacks, data, make_model

EPOCHS = 4
BATCHES = ROWS // BATCH


class Interrupted(Exception):
    """Stands for the end of a process."""


class Interruption(Callback):
    """Interrupts after so many batches."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.left = batches

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self.left == 0:
            raise Interrupted
        self.left -= 1


def batches(x: Any, y: Any, passes: int) -> Iterator[Any]:
    rng = np.random.default_rng(1)
    for _ in range(passes):
        order = rng.permutation(len(x))
        for first in range(0, len(x), BATCH):
            rows = order[first : first + BATCH]
            yield x[rows], y[rows]


def windows() -> Any:
    x = np.random.default_rng(0).integers(0, 20, (ROWS + 6,))
    return timeseries_dataset_from_array(x, (x[:ROWS] % 2), 7, batch_size=BATCH, shuffle=True)


def arrays_in(steps: int | None) -> Callable[[Any, list[Any]], Any]:
    def fit(model: Any, calls: list[Any]) -> Any:
        x, y = data()
        return model.fit(
            x,
            y,
            BATCH,
            epochs=EPOCHS,
            verbose=0,
            callbacks=calls,
            validation_data=(x, y),
            steps_per_epoch=steps,
        )

    return fit


def generator_in(model: Any, calls: list[Any]) -> Any:
    return model.fit(
        batches(*data(), EPOCHS), epochs=EPOCHS, steps_per_epoch=BATCHES, verbose=0, callbacks=calls
    )


def windows_in(model: Any, calls: list[Any]) -> Any:
    return model.fit(windows(), epochs=EPOCHS, verbose=0, callbacks=calls)


FITS: dict[str, Callable[[Any, list[Any]], Any]] = {
    "arrays": arrays_in(None),
    "fewer steps than batches": arrays_in(BATCHES // 2),
    "generator": generator_in,
    "windows": windows_in,
}


@pytest.mark.parametrize("save_freq", ["epoch", 1, 4])
@pytest.mark.parametrize("after", [0, 5, 6, 9, 11])
@pytest.mark.parametrize("fit", FITS.values(), ids=FITS.keys())
def test_resuming_is_exact(tmp_path: Path, fit: Any, after: int, save_freq: Any) -> None:
    model = make_model()
    expected = fit(model, callbacks(Callback())).history
    interrupted = make_model()
    backup = BackupAndRestore(tmp_path / "backup", save_freq)
    with pytest.raises(Interrupted):
        fit(interrupted, [*callbacks(backup), Interruption(after)])
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002
    resumed = make_model()
    history = fit(resumed, callbacks(BackupAndRestore(tmp_path / "backup", save_freq))).history
    for a, b in zip(resumed.get_weights(), model.get_weights(), strict=True):
        assert np.array_equal(a, b)
    for a, b in zip(resumed.optimizer.variables, model.optimizer.variables, strict=True):
        assert np.array_equal(a.numpy(), b.numpy())
    assert history == expected
    assert not (tmp_path / "backup").exists()


def bidirectional() -> Any:
    return Sequential(
        [Input((None, 3), batch_size=4), Bidirectional(LSTM(4, stateful=True)), Dropout(0.2), Dense(1)]
    )


def two_outputs() -> Any:
    inputs = Input((None, 3))
    shared = Dropout(0.3)(LSTM(4)(inputs))
    return Model(inputs, [Dense(1, name="a")(shared), Dense(1, name="b")(shared)])


def ragged(x: Any) -> Any:
    return [row[: 1 + i % 5] for i, row in enumerate(x)]


def file_of(x: Any) -> Any:
    with tempfile.TemporaryFile() as file:
        kept: Any = np.memmap(file, "float32", "w+", shape=x.shape)
    kept[:] = x
    return kept


@pytest.mark.parametrize(
    ("make", "form"),
    [
        (bidirectional, np.asarray),
        (two_outputs, np.asarray),
        (lambda: Sequential([Input((None, 3)), LSTM(4), Dropout(0.2), Dense(1)]), ragged),
        (lambda: Sequential([Input((None, 3)), LSTM(4), Dropout(0.2), Dense(1)]), file_of),
    ],
    ids=["bidirectional", "two outputs", "ragged", "file"],
)
@pytest.mark.parametrize(("after", "save_freq"), [(3, 1), (5, "epoch"), (7, 2)])
def test_other_models_and_data(tmp_path: Path, make: Any, form: Any, after: int, save_freq: Any) -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(16, 5, 3)).astype(np.float32), rng.normal(size=16)

    def fit(*calls: Any) -> tuple[Any, dict[str, list[float]]]:
        set_random_seed(1)
        model = make()
        model.compile("rmsprop", "mse")
        labels = [y, -y] if make is two_outputs else y
        history = model.fit(form(x), labels, 4, epochs=3, verbose=0, callbacks=list(calls))
        return model, history.history

    model, expected = fit()
    with pytest.raises(Interrupted):
        fit(BackupAndRestore(tmp_path / "backup", save_freq), Interruption(after))
    resumed, history = fit(BackupAndRestore(tmp_path / "backup", save_freq))
    assert history == expected
    for a, b in zip(resumed.get_weights(), model.get_weights(), strict=True):
        assert np.array_equal(a, b)


def in_cells(seed: int | None) -> list[Any]:
    cells = [LSTMCell(5, dropout=0.2, recurrent_dropout=0.3, seed=seed), GRUCell(4, dropout=0.1, seed=seed)]
    return [RNN(cells, return_sequences=True), SimpleRNN(3, recurrent_dropout=0.4, seed=seed)]


DROPPING: dict[str, Callable[[int | None], list[Any]]] = {
    "lstm": lambda seed: [LSTM(6, dropout=0.3, recurrent_dropout=0.2, seed=seed)],
    "both directions": lambda seed: [
        Bidirectional(GRU(4, dropout=0.3, recurrent_dropout=0.2, seed=seed, return_sequences=True)),
        TimeDistributed(Dropout(0.2, seed=seed)),
        LSTM(3),
    ],
    "cells": in_cells,
    "nested": lambda seed: [Sequential([Dropout(0.1, seed=seed), LSTM(4, recurrent_dropout=0.5, seed=seed)])],
    "checkpoint steps": lambda seed: [
        LSTM(4, checkpoint_steps=2, recurrent_dropout=0.3, dropout=0.2, seed=seed)
    ],
}


@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize("make", DROPPING.values(), ids=DROPPING.keys())
@pytest.mark.parametrize(("after", "save_freq"), [(3, 1), (6, "epoch")])
def test_dropout_goes_on(tmp_path: Path, make: Any, seed: int | None, after: int, save_freq: Any) -> None:
    """Also where the new process draws other random numbers, in making the model and before."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(16, 5, 3)).astype(np.float32), rng.normal(size=16)

    def fit(start: int, *calls: Any) -> tuple[Any, dict[str, list[float]]]:
        set_random_seed(start)
        model = Sequential([Input((None, 3)), *make(seed), Dense(1)])
        model.compile("adam", "mse")
        return model, model.fit(x, y, 4, epochs=3, verbose=0, callbacks=list(calls)).history

    model, expected = fit(1)
    with pytest.raises(Interrupted):
        fit(1, BackupAndRestore(tmp_path / "backup", save_freq), Interruption(after))
    resumed, history = fit(2, BackupAndRestore(tmp_path / "backup", save_freq))
    assert history == expected
    for a, b in zip(resumed.get_weights(), model.get_weights(), strict=True):
        assert np.array_equal(a, b)


def test_early_stopping_goes_on_with_what_it_knew(tmp_path: Path) -> None:
    def fit(model: Any, *more: Any) -> EarlyStopping:
        x, y = data()
        stopping = EarlyStopping("loss", min_delta=1, patience=3, restore_best_weights=True)
        model.fit(x, y, BATCH, epochs=9, verbose=0, callbacks=[stopping, *more])
        return stopping

    model = make_model()
    assert fit(model).stopped_epoch == 3
    # The first killed before the end, the second after training was told to stop.
    for after in (2 * BATCHES, 4 * BATCHES):
        interrupted, resumed = make_model(), make_model()
        folder = tmp_path / str(after)
        kept = BackupAndRestore(folder, delete_checkpoint=False)
        if after < 4 * BATCHES:
            with pytest.raises(Interrupted):
                fit(interrupted, kept, Interruption(after))
        else:
            fit(interrupted, kept)
        stopping = fit(resumed, BackupAndRestore(folder))
        assert stopping.stopped_epoch == 3
        for a, b in zip(resumed.get_weights(), model.get_weights(), strict=True):
            assert np.array_equal(a, b)


def interrupted_training(folder: Path, **arguments: Any) -> Sequential:
    model = make_model()
    with pytest.raises(Interrupted):
        arrays_in(None)(model, [BackupAndRestore(folder, **arguments), Interruption(8)])
    return model


def test_a_broken_backup_is_an_error_and_the_previous_one_helps(tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    interrupted_training(folder, save_freq=2, double_checkpoint=True)
    assert sorted(os.listdir(folder)) == ["latest.safetensors", "previous.safetensors"]
    latest = folder / "latest.safetensors"
    latest.write_bytes(latest.read_bytes()[:100])
    begun: list[int] = []
    model = make_model()
    model_calls = [BackupAndRestore(folder), Callback()]
    model_calls[1].on_train_batch_begin = lambda batch, logs=None: begun.append(batch)  # type: ignore[method-assign]
    arrays_in(None)(model, model_calls)
    assert begun[:3] == [0, 1, 2]  # the previous backup was made after the first epoch
    interrupted_training(folder, save_freq=2)
    latest.write_bytes(b"no backup")
    with pytest.raises(ValueError, match=r"latest\.safetensors"):
        arrays_in(None)(make_model(), [BackupAndRestore(folder)])


def test_a_backup_of_something_else_changes_nothing(tmp_path: Path) -> None:
    interrupted_training(tmp_path / "backup")
    backup = BackupAndRestore(tmp_path / "backup")
    x, y = data()
    with pytest.raises(ValueError, match="6 batches an epoch, this one has 3"):
        make_model().fit(x[:24], y[:24], BATCH, verbose=0, callbacks=[backup])
    set_random_seed(3)
    other = Sequential([Input((7, 1)), LSTM(3), Dense(1)])
    other.compile("adam", "mse")
    before = other.get_weights()
    with pytest.raises(ValueError, match="the backup is of another model"):
        other.fit(x[..., None], y, BATCH, verbose=0, callbacks=[backup])
    assert all(np.array_equal(a, b) for a, b in zip(before, other.get_weights(), strict=True))
    sgd = make_model()
    sgd.compile("sgd", "binary_crossentropy")
    with pytest.raises(ValueError, match="another optimizer"):
        sgd.fit(x, y, BATCH, verbose=0, callbacks=[backup])


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="backup_dir is empty"):
        BackupAndRestore("")
    for save_freq in ("batch", 0, -1, 1.5, True):
        with pytest.raises(ValueError, match="Unrecognized save_freq"):
            BackupAndRestore(tmp_path, save_freq)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="Unrecognized save_freq"):
            ModelCheckpoint(tmp_path / "x", save_freq=save_freq)  # type: ignore[arg-type]
    model = Sequential([Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="is not built"):
        model.fit(iter([(np.ones((2, 1)), np.ones(2))]), verbose=0, callbacks=[BackupAndRestore(tmp_path)])


def test_foreign_files_stay(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    (tmp_path / ".latest.safetensors.0123.tmp").write_text("left by a kill")
    arrays_in(None)(make_model(), [BackupAndRestore(tmp_path)])
    assert os.listdir(tmp_path) == ["mine.txt"]


def start(folder: Path) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, resume_support.__file__, str(folder), "12"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.long
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills as POSIX has them")
def test_fifty_kills(tmp_path: Path) -> None:
    with start(tmp_path / "through") as process:
        begun = time.monotonic()
        assert process.wait(120) == 0
        duration = time.monotonic() - begun
    expected = [(tmp_path / "through" / name).read_bytes() for name in ("weights.safetensors", "history.txt")]
    rng = random.Random(0)
    kills = rounds = 0
    while kills < 50 or rounds == 0:
        folder = tmp_path / f"round{rounds}"
        with start(folder) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            if kills < 50:
                time.sleep(rng.uniform(0, duration / 2))
                process.kill()
            if process.wait(120) == -signal.SIGKILL:
                kills += 1
                continue
        # It got to its end: as the one that ran through; the next round starts anew.
        assert process.returncode == 0
        rounds += 1
        assert [(folder / n).read_bytes() for n in ("weights.safetensors", "history.txt")] == expected
        assert not (folder / "backup").exists()
