"""Small callbacks: LambdaCallback, made of functions, and TerminateOnNaN. Floor 4."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from lstm_native.callbacks.base import Callback, Logs


class LambdaCallback(Callback):
    """A callback made of functions.

    Args:
        on_epoch_begin: Called as `(epoch, logs)` before an epoch.
        on_epoch_end: Called as `(epoch, logs)` after an epoch and its validation.
        on_train_begin: Called as `(logs)` before the first epoch.
        on_train_end: Called as `(logs)` after the last epoch.
        on_train_batch_begin: Called as `(batch, logs=logs)` before a training batch.
        on_train_batch_end: Called as `(batch, logs=logs)` after a training batch.
        **kwargs: Any other hook of `Callback` by name, with the arguments that it has there; other names
            become attributes.
    """

    def __init__(
        self,
        on_epoch_begin: Callable[..., Any] | None = None,
        on_epoch_end: Callable[..., Any] | None = None,
        on_train_begin: Callable[..., Any] | None = None,
        on_train_end: Callable[..., Any] | None = None,
        on_train_batch_begin: Callable[..., Any] | None = None,
        on_train_batch_end: Callable[..., Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        hooks = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
        }
        vars(self).update({name: hook for name, hook in {**hooks, **kwargs}.items() if hook is not None})


class TerminateOnNaN(Callback):
    """Ends training when the loss is NaN or infinite.

    Args:
        raise_error: True raises at once, so that nothing is done at the end of training; False lets the
            epoch end and training with it (default False).

    Raises:
        RuntimeError: While training, if `raise_error`.
    """

    def __init__(self, raise_error: bool = False) -> None:
        super().__init__()
        self.raise_error = raise_error

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Looks at the loss."""
        loss = (logs or {}).get("loss")
        if loss is None or math.isfinite(loss):
            return
        if self.raise_error:
            raise RuntimeError(
                f"TerminateOnNaN: the loss is {loss} after batch {batch}, expected a finite number"
            )
        self.say(f"Batch {batch}: Invalid loss, terminating training")
        self.model.stop_training = True
