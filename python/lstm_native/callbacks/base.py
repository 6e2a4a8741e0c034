"""Callback: the hooks of fit, evaluate and predict. Floor 4."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, ClassVar

Logs = Mapping[str, Any] | None


class Callback:
    """Base class: override the hooks that you need.

    Attributes:
        params: Dictionary with "verbose", "epochs" and "steps" of the running call.
        model: The model that is trained, evaluated or asked.

    `logs` is a dictionary of the values so far, by name, or None. To end training after the running
    batch or epoch, set `self.model.stop_training = True`.
    """

    # Attributes that `BackupAndRestore` keeps: None, numbers, strings, arrays, lists and dicts of them.
    kept: ClassVar[tuple[str, ...]] = ()
    # Hooks that this object need not be called for, though its class has them.
    idle_hooks: tuple[str, ...] = ()
    # Whether the hooks are called after those of all other callbacks.
    runs_last: ClassVar[bool] = False

    def __init__(self) -> None:
        self.params: dict[str, Any] | None = None
        self._model: Any = None

    @property
    def model(self) -> Any:
        """The model that the running call belongs to."""
        return self._model

    def set_params(self, params: dict[str, Any] | None) -> None:
        """Called before anything else with the parameters of the call."""
        self.params = params

    def set_model(self, model: Any) -> None:
        """Called before anything else with the model."""
        self._model = model

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Before an epoch (counted from 0)."""

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """After an epoch and its validation; `logs` holds both ("loss", "val_loss", ...)."""

    def complete_logs(self, logs: dict[str, Any]) -> None:
        """Adds to the logs of an epoch before they are shown; `on_epoch_end` follows."""

    def on_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Older name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Older name of `on_train_batch_end`."""

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Before a training batch (counted from 0 in its epoch)."""
        self.on_batch_begin(batch, logs=logs)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """After a training batch; `logs` holds the means of the epoch so far."""
        self.on_batch_end(batch, logs=logs)

    def on_test_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Before a batch of evaluate or of validation."""

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        """After a batch of evaluate or of validation."""

    def on_predict_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Before a batch of predict."""

    def on_predict_batch_end(self, batch: int, logs: Logs = None) -> None:
        """After a batch of predict; `logs` holds "outputs"."""

    def on_train_begin(self, logs: Logs = None) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Logs = None) -> None:
        """After the last epoch; `logs` are those of its end."""

    def on_test_begin(self, logs: Logs = None) -> None:
        """Before evaluate or validation."""

    def on_test_end(self, logs: Logs = None) -> None:
        """After evaluate or validation; `logs` are its results."""

    def on_predict_begin(self, logs: Logs = None) -> None:
        """Before predict."""

    def on_predict_end(self, logs: Logs = None) -> None:
        """After predict."""

    def say(self, message: str, verbose: int = 1) -> None:
        """Prints `message` if `verbose` is positive and there is somewhere to print to."""
        if verbose > 0 and sys.stdout is not None:
            print(message, flush=True)
