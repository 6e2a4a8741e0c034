"""ModelCheckpoint: saves a model, or its weights, while it is trained. Floor 4."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import numpy as np

from lstm_native import saving
from lstm_native.callbacks.base import Logs
from lstm_native.callbacks.frequency import SavingCallback
from lstm_native.callbacks.monitor import MonitorCallback
from lstm_native.errors import warn


class ModelCheckpoint(MonitorCallback, SavingCallback):
    """Saves the model, as `save` does, or its weights alone, after every epoch or every so many batches.

    `load_model` reads the file, and `load_weights`. It appears whole or not at all, and folders are made as
    needed. It is a safetensors file, also where its name ends in a suffix that `save` does not know.

    Args:
        filepath: Name of the file; `{epoch}`, `{batch}` (both counted from 1) and names of values in the logs
            are filled in, with formats as in "{epoch:02d}-{val_loss:.2f}.safetensors".
        monitor: Name of the value that `save_best_only` compares (default "val_loss").
        verbose: 1 says what was done, 0 nothing (default 0).
        save_best_only: Saves only when the value is better than at every saving before (default False).
        save_weights_only: Saves as `save_weights` does (default False: the whole model).
        mode: "min", "max" or "auto", which knows losses, errors and accuracies (default "auto").
        save_freq: "epoch", or a number of batches, counted through all epochs (default "epoch").
        initial_value_threshold: With `save_best_only`, the value to improve on first (default None: any).

    Raises:
        ValueError: A wrong argument; or, while training, a direction that "auto" cannot tell.
        KeyError: While training, when `filepath` names a value that is not in the logs.
        TypeError: While training, when no name stands for something in the model or in what `compile` was
            given, as for a lambda.
        OSError: While training, when the file cannot be written.
    """

    kept: ClassVar[tuple[str, ...]] = ("best", "unsaved_batches")

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode)
        self.filepath = os.fspath(filepath)
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.best = initial_value_threshold
        self.set_frequency(save_freq)
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Notes the number of the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Saves when enough batches have gone by."""
        if self.is_due():
            self._save({"epoch": self._epoch + 1, "batch": batch + 1, **(logs or {})}, logs)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Saves, unless batches are counted."""
        if self.save_freq == "epoch":
            self._save({"epoch": epoch + 1, **(logs or {})}, logs)

    def _save(self, fields: dict[str, Any], logs: Logs) -> None:
        try:
            path = self.filepath.format(**fields)
        except KeyError as error:
            raise KeyError(
                f"ModelCheckpoint: filepath {self.filepath!r} names {error}, there are {', '.join(fields)}"
            ) from None
        where = f"\nEpoch {self._epoch + 1}: "
        if self.save_best_only and not self._is_best(logs, where, path):
            return
        if not self.save_best_only:
            self.say(f"{where}saving model to {path}", self.verbose)
        if os.path.isdir(path):
            raise IsADirectoryError(f"ModelCheckpoint: filepath {path!r} is a folder, expected a file")
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        if self.save_weights_only:
            self.model.save_weights(path)
        else:
            saving.save_checkpoint(self.model, path)
        self.say(f"{where}finished saving model to {path}", self.verbose)

    def _is_best(self, logs: Logs, where: str, path: str) -> bool:
        current = self.value_in(logs)
        if current is None:
            return True  # as in Keras: better a file too many than none
        if np.ndim(current):
            warn(f"ModelCheckpoint: {self.monitor!r} is {current!r}, expected a number to compare; saving")
            return True
        before = "None" if self.best is None else f"{self.best:.5f}"
        if not self.is_better(current, self.best):
            self.say(f"{where}{self.monitor} did not improve from {before}", self.verbose)
            return False
        self.say(
            f"{where}{self.monitor} improved from {before} to {current:.5f}, saving model to {path}",
            self.verbose,
        )
        self.best = current
        return True
