"""CallbackList: calls every callback of one call of fit, evaluate or predict. Floor 4."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lstm_native.callbacks.base import Callback, Logs
from lstm_native.callbacks.logs import History

# A hook is worth calling when its class overrides it or the older name that it calls.
_BATCH_HOOKS: dict[str, tuple[str, ...]] = {
    "on_train_batch_begin": ("on_train_batch_begin", "on_batch_begin"),
    "on_train_batch_end": ("on_train_batch_end", "on_batch_end"),
    "on_test_batch_begin": ("on_test_batch_begin",),
    "on_test_batch_end": ("on_test_batch_end",),
    "on_predict_batch_begin": ("on_predict_batch_begin",),
    "on_predict_batch_end": ("on_predict_batch_end",),
}


_NO_HOOKS: dict[str, list[Callable[..., None]]] = {hook: [] for hook in _BATCH_HOOKS}


class CallbackList:
    """Calls every callback of a call, in order; batch hooks that nobody overrides cost nothing.

    Callbacks with `runs_last` come after all others.

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

    # Where nobody is to be called; predict is called often and seldom has callbacks.
    _batch_hooks: dict[str, list[Callable[..., None]]] = _NO_HOOKS
    _train_batch_begin: Sequence[Callable[..., None]] = ()
    _train_batch_end: Sequence[Callable[..., None]] = ()
    wants_train_batch_end = False
    wants_test_batch_end = False
    wants_predict_batch_end = False

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
        if self.callbacks:
            self._arrange()
        if model is not None:
            self.set_model(model)
        if params is not None:
            self.set_params(params)

    def append(self, callback: Callback) -> None:
        """Adds a callback at the end, but before those that run last."""
        (added,) = _flatten(callback)
        self.callbacks.append(added)
        if isinstance(added, History) and self.history is None:
            self.history = added
        self._arrange()
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
            callback.on_train_begin(logs or {})

    def on_train_end(self, logs: Logs = None) -> None:
        """Calls the hook of every callback."""
        for callback in self.callbacks:
            callback.on_train_end(logs or {})

    def on_test_begin(self, logs: Logs = None) -> None:
        """Calls the hook of every callback."""
        for callback in self.callbacks:
            callback.on_test_begin(logs or {})

    def on_test_end(self, logs: Logs = None) -> None:
        """Calls the hook of every callback."""
        for callback in self.callbacks:
            callback.on_test_end(logs or {})

    def on_predict_begin(self, logs: Logs = None) -> None:
        """Calls the hook of every callback."""
        for callback in self.callbacks:
            callback.on_predict_begin(logs or {})

    def on_predict_end(self, logs: Logs = None) -> None:
        """Calls the hook of every callback."""
        for callback in self.callbacks:
            callback.on_predict_end(logs or {})

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Calls the hook of every callback."""
        for callback in self.callbacks:
            callback.on_epoch_begin(epoch, logs or {})

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Calls the hook of every callback."""
        for callback in self.callbacks:
            callback.on_epoch_end(epoch, logs or {})

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Calls the hook where it is overridden."""
        for hook in self._train_batch_begin:
            hook(batch, logs=logs or {})

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Calls the hook where it is overridden."""
        for hook in self._train_batch_end:
            hook(batch, logs=logs or {})

    def on_test_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Calls the hook where it is overridden."""
        for hook in self._batch_hooks["on_test_batch_begin"]:
            hook(batch, logs=logs or {})

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Calls the hook where it is overridden."""
        for hook in self._batch_hooks["on_test_batch_end"]:
            hook(batch, logs=logs or {})

    def on_predict_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Calls the hook where it is overridden."""
        for hook in self._batch_hooks["on_predict_batch_begin"]:
            hook(batch, logs=logs or {})

    def on_predict_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Calls the hook where it is overridden."""
        for hook in self._batch_hooks["on_predict_batch_end"]:
            hook(batch, logs=logs or {})

    def _arrange(self) -> None:
        self.callbacks.sort(key=lambda callback: callback.runs_last)
        hooks = {
            hook: [
                getattr(c, hook)
                for c in self.callbacks
                if hook not in c.idle_hooks and any(_overrides(c, name) for name in names)
            ]
            for hook, names in _BATCH_HOOKS.items()
        }
        self._batch_hooks = hooks
        self._train_batch_begin = hooks["on_train_batch_begin"]
        self._train_batch_end = hooks["on_train_batch_end"]
        self.wants_train_batch_end = bool(self._train_batch_end)
        self.wants_test_batch_end = bool(hooks["on_test_batch_end"])
        self.wants_predict_batch_end = bool(hooks["on_predict_batch_end"])


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
