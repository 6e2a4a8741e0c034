"""Callbacks that change the learning rate: LearningRateScheduler, ReduceLROnPlateau. Floor 4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from lstm_native.callbacks.base import Callback, Logs
from lstm_native.callbacks.monitor import MonitorCallback
from lstm_native.errors import check_number


class LearningRateScheduler(Callback):
    """Sets the learning rate before every epoch; the logs of the epoch hold it as "learning_rate".

    Args:
        schedule: Function `(epoch, learning_rate) -> learning_rate`, or `(epoch) -> learning_rate`; epochs
            count from 0.
        verbose: 1 says what was set, 0 nothing (default 0).

    Raises:
        ValueError: While training, when `schedule` returns no float.
        TypeError: While training, when the optimizer follows a schedule of its own.
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        super().__init__()
        self.schedule = schedule
        self.verbose = verbose

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Asks the schedule."""
        optimizer = self.model.optimizer
        try:
            rate = self.schedule(epoch, float(optimizer.learning_rate))
        except TypeError:  # a function of the epoch alone
            rate = self.schedule(epoch)
        if not isinstance(rate, float | np.floating):
            raise ValueError(f"LearningRateScheduler: schedule returned {rate!r}, expected a float")
        optimizer.learning_rate = rate
        self.say(f"\nEpoch {epoch + 1}: LearningRateScheduler setting learning rate to {rate}.", self.verbose)

    def complete_logs(self, logs: dict[str, Any]) -> None:
        """Adds the learning rate to the logs."""
        _log_learning_rate(self.model, logs)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Adds the learning rate to the logs."""
        _log_learning_rate(self.model, logs)


class ReduceLROnPlateau(MonitorCallback):
    """Lowers the learning rate when a value has stopped improving; the logs hold it as "learning_rate".

    Args:
        monitor: Name of the value in the epoch's logs (default "val_loss").
        factor: What the learning rate is multiplied with, below 1 (default 0.1).
        patience: Epochs without improvement after which it is lowered (default 10).
        verbose: 1 says what was done, 0 nothing (default 0).
        mode: "min", "max" or "auto", which knows losses, errors and accuracies (default "auto").
        min_delta: Changes smaller than this are no improvement (default 1e-4).
        cooldown: Epochs to wait after lowering before patience counts again (default 0).
        min_lr: The learning rate does not go below this (default 0).

    Raises:
        ValueError: A wrong argument; or, at the first epoch's end, a direction that "auto" cannot tell.
        TypeError: While training, when the optimizer follows a schedule.
    """

    kept: ClassVar[tuple[str, ...]] = ("best", "wait", "cooldown_counter")

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        kind = "ReduceLROnPlateau"
        self.factor = check_number(kind, "factor", factor, "a number below 1", lambda f: f < 1)
        self.min_lr = check_number(kind, "min_lr", min_lr, "a number that is not negative", lambda r: r >= 0)
        check_number(kind, "patience", patience, "a number of epochs")
        check_number(kind, "cooldown", cooldown, "a number of epochs")
        self.patience = patience
        self.cooldown = cooldown
        self.verbose = verbose
        self._reset()

    def on_train_begin(self, logs: Logs = None) -> None:
        """Forgets an earlier training."""
        self._reset()

    def complete_logs(self, logs: dict[str, Any]) -> None:
        """Adds the learning rate to the logs."""
        _log_learning_rate(self.model, logs)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Compares this epoch with the best so far and lowers the rate when patience is over."""
        _log_learning_rate(self.model, logs)
        self.direction()  # raises at the first epoch, whatever the values are
        current = self.value_in(logs)
        if current is None:
            return
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if self.is_better(current, self.best):
            self.best = current
            self.wait = 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience:
                self._lower(epoch)

    def in_cooldown(self) -> bool:
        """Whether epochs without improvement do not count."""
        return self.cooldown_counter > 0

    def _lower(self, epoch: int) -> None:
        optimizer = self.model.optimizer
        before = float(optimizer.learning_rate)
        # The optimizer keeps float32: a rate at the bound is not above it.
        if before <= np.float32(self.min_lr):
            return
        after = max(before * self.factor, self.min_lr)
        optimizer.learning_rate = after
        self.say(f"\nEpoch {epoch + 1}: ReduceLROnPlateau reducing learning rate to {after}.", self.verbose)
        self.cooldown_counter = self.cooldown
        self.wait = 0

    def _reset(self) -> None:
        self.best = None
        self.cooldown_counter = 0
        self.wait = 0


def _log_learning_rate(model: Any, logs: Any) -> None:
    if logs is not None:
        logs["learning_rate"] = float(model.optimizer.learning_rate)
