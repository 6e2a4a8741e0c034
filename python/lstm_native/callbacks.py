"""Callbacks of fit, evaluate and predict, under the Keras names. Floor 4."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lstm_native.errors import check_number

Logs = Mapping[str, Any] | None


class Callback:
    """Base class: override the hooks that you need.

    Attributes:
        params: Dictionary with "verbose", "epochs" and "steps" of the running call.
        model: The model that is trained, evaluated or asked.

    `logs` is a dictionary of the values so far, by name, or None. To end training after the running
    batch or epoch, set `self.model.stop_training = True`.
    """

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


# A hook is worth calling when its class overrides it or the older name that it calls.
_BATCH_HOOKS: dict[str, tuple[str, ...]] = {
    "on_train_batch_begin": ("on_train_batch_begin", "on_batch_begin"),
    "on_train_batch_end": ("on_train_batch_end", "on_batch_end"),
    "on_test_batch_begin": ("on_test_batch_begin",),
    "on_test_batch_end": ("on_test_batch_end",),
    "on_predict_batch_begin": ("on_predict_batch_begin",),
    "on_predict_batch_end": ("on_predict_batch_end",),
}


class CallbackList:
    """Calls every callback of a call, in order; batch hooks that nobody overrides cost nothing.

    Args:
        callbacks: A callback or an iterable of callbacks (may be nested), or None.
        model: What the callbacks see as `self.model`.
        params: What they see as `self.params`.
        add_history: Appends a `History` unless there is one; it is `history` then.

    Raises:
        TypeError: Something that is no `Callback`.

    Attributes:
        callbacks: The flat list.
        history: The `History` among them, or None.
        wants_train_batch_end, wants_test_batch_end, wants_predict_batch_end: Whether anybody reads
            the logs of a batch, so that the caller need not make them in vain.
    """

    def __init__(
        self,
        callbacks: Callback | Iterable[Any] | None = None,
        model: Any = None,
        params: dict[str, Any] | None = None,
        *,
        add_history: bool = False,
    ) -> None:
        self.callbacks: list[Callback] = list(_flatten(callbacks))
        self.history = next((c for c in self.callbacks if isinstance(c, History)), None)
        if add_history and self.history is None:
            self.history = History()
            self.callbacks.append(self.history)
        self.model: Any = None
        self.params: dict[str, Any] | None = None
        self._batch_hooks: dict[str, list[Callable[..., None]]] = {}
        self._find_batch_hooks()
        if model is not None:
            self.set_model(model)
        if params is not None:
            self.set_params(params)

    def append(self, callback: Callback) -> None:
        """Adds a callback at the end."""
        (added,) = _flatten(callback)
        self.callbacks.append(added)
        if isinstance(added, History) and self.history is None:
            self.history = added
        self._find_batch_hooks()
        if self.model is not None:
            added.set_model(self.model)
        if self.params is not None:
            added.set_params(self.params)

    def set_model(self, model: Any) -> None:
        """Shows every callback its model."""
        self.model = model
        for callback in self.callbacks:
            callback.set_model(model)

    def set_params(self, params: dict[str, Any]) -> None:
        """Shows every callback the parameters."""
        self.params = params
        for callback in self.callbacks:
            callback.set_params(params)

    def on_train_begin(self, logs: Logs = None) -> None:
        """Calls the hook of every callback."""
        for callback in self.callbacks:
            callback.on_train_begin(logs)

    def on_train_end(self, logs: Logs = None) -> None:
        """Calls the hook of every callback."""
        for callback in self.callbacks:
            callback.on_train_end(logs)

    def on_test_begin(self, logs: Logs = None) -> None:
        """Calls the hook of every callback."""
        for callback in self.callbacks:
            callback.on_test_begin(logs)

    def on_test_end(self, logs: Logs = None) -> None:
        """Calls the hook of every callback."""
        for callback in self.callbacks:
            callback.on_test_end(logs)

    def on_predict_begin(self, logs: Logs = None) -> None:
        """Calls the hook of every callback."""
        for callback in self.callbacks:
            callback.on_predict_begin(logs)

    def on_predict_end(self, logs: Logs = None) -> None:
        """Calls the hook of every callback."""
        for callback in self.callbacks:
            callback.on_predict_end(logs)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Calls the hook of every callback."""
        for callback in self.callbacks:
            callback.on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Calls the hook of every callback."""
        for callback in self.callbacks:
            callback.on_epoch_end(epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Calls the hook where it is overridden."""
        for hook in self._train_batch_begin:
            hook(batch, logs=logs)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Calls the hook where it is overridden."""
        for hook in self._train_batch_end:
            hook(batch, logs=logs)

    def on_test_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Calls the hook where it is overridden."""
        for hook in self._batch_hooks["on_test_batch_begin"]:
            hook(batch, logs=logs)

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Calls the hook where it is overridden."""
        for hook in self._batch_hooks["on_test_batch_end"]:
            hook(batch, logs=logs)

    def on_predict_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Calls the hook where it is overridden."""
        for hook in self._batch_hooks["on_predict_batch_begin"]:
            hook(batch, logs=logs)

    def on_predict_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Calls the hook where it is overridden."""
        for hook in self._batch_hooks["on_predict_batch_end"]:
            hook(batch, logs=logs)

    def _find_batch_hooks(self) -> None:
        for hook, names in _BATCH_HOOKS.items():
            self._batch_hooks[hook] = [
                getattr(c, hook) for c in self.callbacks if any(_overrides(c, name) for name in names)
            ]
        self._train_batch_begin = self._batch_hooks["on_train_batch_begin"]
        self._train_batch_end = self._batch_hooks["on_train_batch_end"]
        self.wants_train_batch_end = bool(self._train_batch_end)
        self.wants_test_batch_end = bool(self._batch_hooks["on_test_batch_end"])
        self.wants_predict_batch_end = bool(self._batch_hooks["on_predict_batch_end"])


class History(Callback):
    """Records the values at the end of every epoch; `fit` returns one.

    Attributes:
        epoch: Numbers of the epochs run by the last `fit`, counted from 0.
        history: Dictionary from a name ("loss", "val_accuracy", ...) to its value per epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.epoch: list[int] = []
        self.history: dict[str, list[Any]] = {}

    def on_train_begin(self, logs: Logs = None) -> None:
        """Starts the list of epochs anew."""
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Appends the values of this epoch."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class EarlyStopping(Callback):
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

    wait: int
    stopped_epoch: int
    best: Any
    best_epoch: int
    best_weights: list[Any] | None
    # -1 where smaller is better, 1 where larger is, 0 while that is not known yet.
    _sign: int

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
        super().__init__()
        if not isinstance(monitor, str):
            raise ValueError(f"EarlyStopping: monitor is {monitor!r}, expected the name of a value")
        if mode not in ("auto", "min", "max"):
            warnings.warn(
                f"EarlyStopping: mode {mode!r} is unknown, 'auto' is taken instead", UserWarning, stacklevel=2
            )
            mode = "auto"
        self.monitor = monitor
        self.min_delta = abs(check_number("EarlyStopping", "min_delta", min_delta, "a number"))
        check_number("EarlyStopping", "patience", patience, "a number of epochs")
        self.patience = patience
        self.verbose = verbose
        self.mode = mode
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self._reset()

    def on_train_begin(self, logs: Logs = None) -> None:
        """Forgets an earlier training, so that one object serves several calls of fit."""
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Compares this epoch with the best so far and asks the model to stop."""
        if self._sign == 0:
            self._sign = self._direction()
        current = (logs or {}).get(self.monitor)
        if current is None:
            warnings.warn(
                f"EarlyStopping: {self.monitor!r} is not among the values of this epoch: "
                f"{', '.join(logs or {}) or 'none'}",
                UserWarning,
                stacklevel=2,
            )
            return
        if epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            # Something must be restorable even when no epoch ever counts as an improvement (NaN).
            self.best_weights = self.model.get_weights()
            self.best_epoch = epoch
        self.wait += 1
        if self.best is None or self._is_better(current, self.best):
            self.best = current
            self.best_epoch = epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self._is_better(current, self.baseline):
                self.wait = 0
            return
        # As in Keras the very first epoch never stops a training.
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs = None) -> None:
        """Restores the best weights when asked to."""
        if self.stopped_epoch > 0:
            self._say(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights and self.best_weights is not None:
            self._say(f"Restoring model weights from the end of the best epoch: {self.best_epoch + 1}.")
            self.model.set_weights(self.best_weights)

    def _reset(self) -> None:
        self.wait = 0
        self.stopped_epoch = 0
        self.best = None
        self.best_epoch = 0
        self.best_weights = None
        self._sign = {"min": -1, "max": 1, "auto": 0}[self.mode]

    def _is_better(self, value: Any, reference: Any) -> bool:
        return bool(self._sign * (value - reference) > self.min_delta)

    def _direction(self) -> int:
        name = self.monitor.removeprefix("val_")
        if name == "loss":
            return -1
        for metric in getattr(self.model, "metrics", None) or ():
            direction = getattr(metric, "_direction", None)
            if metric.name == name and direction in ("up", "down"):
                return 1 if direction == "up" else -1
        raise ValueError(
            f"EarlyStopping: cannot tell whether a larger {self.monitor!r} is better; "
            "pass mode='max' or mode='min'"
        )

    def _say(self, message: str) -> None:
        if self.verbose > 0 and sys.stdout is not None:
            print(message, flush=True)


def _flatten(callbacks: Any) -> Iterable[Callback]:
    if callbacks is None:
        return
    if isinstance(callbacks, Callback):
        yield callbacks
    elif isinstance(callbacks, Iterable) and not isinstance(callbacks, (str, bytes)):
        for callback in callbacks:
            yield from _flatten(callback)
    else:
        hint = " (a class: call it)" if isinstance(callbacks, type) else ""
        raise TypeError(
            f"callbacks: got {callbacks!r}{hint}, expected lstm_native.callbacks.Callback objects"
        )


def _overrides(callback: Callback, hook: str) -> bool:
    """Whether `callback` brings its own `hook`, by its class or as an attribute of the object."""
    return hook in vars(callback) or getattr(type(callback), hook) is not getattr(Callback, hook)
