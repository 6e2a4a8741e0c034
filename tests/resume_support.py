"""A training that can be killed and started again: `python resume_support.py FOLDER` runs it once.

The model has everything that resuming must bring back: slots of Adam, a stateful LSTM with masked steps,
dropout in it and behind it, shuffled rows, and callbacks that change the learning rate by what happened
before.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from lstm_native.callbacks import BackupAndRestore, Callback, LearningRateScheduler, ReduceLROnPlateau
from lstm_native.layers import LSTM, Dense, Dropout, Embedding, Input
from lstm_native.models import Sequential
from lstm_native.optimizers import Adam
from lstm_native.utils import set_random_seed

ROWS, STEPS, BATCH = 48, 7, 8
Data = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def data() -> Data:
    """Ids with masked steps, and labels."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 20, (ROWS, STEPS))
    return x, (x.sum(axis=1) % 2).astype(np.float32)


def make_model() -> Sequential:
    """The model, compiled, as every process makes it."""
    set_random_seed(5)
    model = Sequential(
        [
            Input((None,), batch_size=BATCH),
            Embedding(20, 6, mask_zero=True),
            LSTM(9, stateful=True, dropout=0.1, recurrent_dropout=0.2),
            Dropout(0.3),
            Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(Adam(0.02), "binary_crossentropy", metrics=["accuracy"])
    return model


class Noise(Callback):
    """Draws from the generators that a script draws from, and nudges the learning rate by that."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        import random

        optimizer = self.model.optimizer
        factor = 1 + 0.01 * (random.random() + np.random.random() - 1)  # noqa: NPY002
        optimizer.learning_rate = float(optimizer.learning_rate) * factor


def callbacks(backup: Any) -> list[Any]:
    """What is called back; `backup` first, though it has to come last."""
    return [
        backup,
        LearningRateScheduler(lambda epoch, rate: rate * 0.99),
        ReduceLROnPlateau("loss", factor=0.9, patience=1, min_delta=0.01, cooldown=1),
        Noise(),
    ]


def main(folder: str, epochs: int) -> None:
    """Trains, or goes on, and leaves the weights and the values of all epochs."""
    x, y = data()
    model = make_model()
    backup = BackupAndRestore(Path(folder) / "backup", save_freq=1, double_checkpoint=True)
    print("ready", flush=True)
    history = model.fit(
        x, y, BATCH, epochs=epochs, verbose=0, callbacks=callbacks(backup), validation_data=(x, y)
    )
    model.save_weights(Path(folder) / "weights.safetensors")
    (Path(folder) / "history.txt").write_text(repr(history.history))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
