"""Callbacks that watch a value: MonitorCallback, what they share, and EarlyStopping. Floor 4."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from lstm_native.callbacks.base import Callback, Logs
from lstm_native.errors import check_number, warn


class MonitorCallback(Callback):
    """Base of callbacks that compare a value of the logs with the best so far.

    Args:
        monitor: Name of the value in the logs (default "val_loss").
        mode: "min", "max" or "auto", which knows losses, errors and accuracies (default "auto").
        min_delta: Changes smaller than this are no improvement (default 0).

    Raises:
        ValueError: A wrong argument; or, when a value is first compared, a direction that "auto" cannot tell.
    """

    best: Any

    def __init__(self, monitor: str = "val_loss", mode: str = "auto", min_delta: float = 0) -> None:
        super().__init__()
        kind = type(self).__name__
        if not isinstance(monitor, str):
            raise ValueError(f"{kind}: monitor is {monitor!r}, expected the name of a value")
        if mode not in ("auto", "min", "max"):
            warn(f"{kind} mode {mode!r} is unknown, 'auto' is taken instead")
            mode = "auto"
        self.monitor = monitor
        self.mode = mode
        self.min_delta = abs(check_number(kind, "min_delta", min_delta, "a number"))
        self.best = None

    def is_better(self, value: Any, reference: Any) -> bool:
        """Whether `value` improves on `reference`; anything improves on None.

        Raises:
            ValueError: a metric with several values.
        """
        if np.ndim(value):
            raise ValueError(
                f"{type(self).__name__}: {self.monitor!r} is {value!r}, expected a single number"
            )
        if reference is None:
            return True
        return bool(self.direction() * (value - reference) > self.min_delta)

    def direction(self) -> int:
        """-1 where smaller values are better, 1 where larger ones are."""
        if self.mode != "auto":
            return -1 if self.mode == "min" else 1
        name = self.monitor.removeprefix("val_")
        if name == "loss":
            return -1
        for metric in getattr(self.model, "metrics", None) or ():
            direction = getattr(metric, "_direction", None)
            if metric.name == name and direction in ("up", "down"):
                return 1 if direction == "up" else -1
        raise ValueError(
            f"{type(self).__name__}: cannot tell whether a larger {self.monitor!r} is better; "
            "pass mode='max' or mode='min'"
        )

    def value_in(self, logs: Logs) -> Any:
        """The watched value; None, with a warning, where it is not among `logs`."""
        value = (logs or {}).get(self.monitor)
        if value is None:
            warn(
                f"{type(self).__name__}: {self.monitor!r} is not among the values of this epoch: "
                f"{', '.join(logs or {}) or 'none'}"
            )
        return value


class EarlyStopping(MonitorCallback):
    """Ends training when a value has stopped improving.

    Args:
        monitor: Name of the value in the epoch's logs (default "val_loss").
        min_delta: Changes smaller than this are no improvement (default 0).
        patience: Epochs without improvement after which training ends (default 0).
        verbose: 1 says what was done, 0 nothing (default 0).
        mode: "min", "max" or "auto", which knows losses, errors and accuracies (default "auto").
        baseline: Only values better than this restart the patience (default None).
        restore_best_weights: Puts the weights of the best epoch back at the end (default False).
        start_from_epoch: Epochs before this one are not looked at (default 0).

    Raises:
        ValueError: At the first epoch's end, when "auto" cannot tell which direction is better.
    """

    kept: ClassVar[tuple[str, ...]] = ("wait", "stopped_epoch", "best", "best_epoch", "best_weights")
    wait: int
    stopped_epoch: int
    best_epoch: int
    best_weights: list[Any] | None

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        check_number("EarlyStopping", "patience", patience, "a number of epochs")
        self.patience = patience
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self._reset()

    def on_train_begin(self, logs: Logs = None) -> None:
        """Forgets an earlier training, so that one object serves several calls of fit."""
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Compares this epoch with the best so far and asks the model to stop."""
        self.direction()  # raises at the first epoch, whatever the values are
        current = self.value_in(logs)
        if current is None:
            return
        if epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            # Something must be restorable even when no epoch ever counts as an improvement (NaN).
            self.best_weights = self.model.get_weights()
            self.best_epoch = epoch
        self.wait += 1
        if self.is_better(current, self.best):
            self.best = current
            self.best_epoch = epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.is_better(current, self.baseline):
                self.wait = 0
            return
        # As in Keras the very first epoch never stops a training.
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs = None) -> None:
        """Restores the best weights when asked to."""
        if self.stopped_epoch > 0:
            self.say(f"Epoch {self.stopped_epoch + 1}: early stopping", self.verbose)
        if self.restore_best_weights and self.best_weights is not None:
            self.say(
                f"Restoring model weights from the end of the best epoch: {self.best_epoch + 1}.",
                self.verbose,
            )
            self.model.set_weights(self.best_weights)

    def _reset(self) -> None:
        self.wait = 0
        self.stopped_epoch = 0
        self.best = None
        self.best_epoch = 0
        self.best_weights = None
