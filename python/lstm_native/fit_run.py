"""FitRun: where a call of fit stands, and everything that continues it in another process. Floor 4."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from lstm_native import random_state
from lstm_native.data import Batch, Epochs
from lstm_native.model_state import model_state, restore_model_state


class FitRun:
    """One call of `fit`; callbacks find it as `model.fit_run`.

    Args:
        model: the model that is trained.
        data: the training data.
        validation: the validation data, or None.
        callbacks: everything that is called back; the attributes that they list in `kept` are part of the
            state.
        epoch: the epoch to start with.

    Attributes:
        epoch: the running epoch; after its last batch, the next one.
        batch: batches of that epoch that are done.
    """

    def __init__(
        self, model: Any, data: Epochs, validation: Epochs | None, callbacks: Iterable[Any], epoch: int
    ) -> None:
        self.model = model
        self.data = data
        self.validation = validation
        self.callbacks = callbacks
        self.epoch = epoch
        self.batch = 0
        # Running values to go on from, and the logs that they make; until the first batch, for there may be
        # no metrics before it.
        self._values: list[dict[str, Any]] | None = None
        self._logs: dict[str, float] = {}

    def epochs(self, last: int) -> range:
        """The epochs before `last` that are to be run; none where training was told to stop."""
        stopped = self.model.stop_training and self.batch == 0
        return range(last if stopped else self.epoch, last)

    def batches(self) -> Iterator[Batch]:
        """What is left of the running epoch."""
        if self.model.stop_training:
            return
        for batch in self.data.epoch(self.epoch, self.batch):
            if self._values is not None:
                for part, numbers in zip(self._running_values(), self._values, strict=True):
                    _set_numbers(part, numbers)
                self._values = None
            yield batch

    def logs(self) -> dict[str, float]:
        """Means over the running epoch."""
        values = self.model._train_values
        if self._values is None and values is not None:
            self._logs = values.logs()
        self._values = None
        return self._logs

    def state(self) -> dict[str, Any]:
        """Everything that training from here on depends on.

        Returns:
            Nested dictionaries (names as keys) and lists of None, numbers, strings and arrays: weights,
            optimizer, states of stateful layers, shuffling, random numbers (of this package, of `random` and
            of NumPy's global generator), running values, callbacks, and the place in the data.
        """
        import random  # importing it costs, and importing the package must not

        model = self.model
        version, numbers, gauss = random.getstate()
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "batches": self.data.num_batches,
            "stop_training": model.stop_training,
            "data": self.data.state(),
            "validation": None if self.validation is None else self.validation.state(),
            **model_state(model),
            "random": list(random_state.state()),
            "python_random": [version, list(numbers), gauss],
            # The legacy global generator is what callbacks and data of scripts draw from.
            "numpy_random": np.random.get_state(legacy=False),  # noqa: NPY002
            "values": [_numbers(part) for part in self._running_values()],
            "logs": self.logs() if self.batch else {},
            "callbacks": {k: {name: getattr(c, name) for name in c.kept} for k, c in self._named_callbacks()},
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Goes to where `state` was taken; `restore` must follow the beginning of a begun epoch.

        Raises:
            ValueError: the state is of another model or of other data; nothing is changed then.
        """
        self._check(state)
        self.data.restore(state["data"])
        if self.validation is not None and state["validation"] is not None:
            self.validation.restore(state["validation"])
        self.epoch, self.batch = state["epoch"], state["batch"]
        self.restore(state)

    def restore(self, state: dict[str, Any]) -> None:
        """Everything of `state` but the place in the data."""
        import random

        model = self.model
        restore_model_state(model, state)
        random_state.restore(*state["random"])
        version, numbers, gauss = state["python_random"]
        random.setstate((version, tuple(numbers), gauss))
        np.random.set_state(state["numpy_random"])  # noqa: NPY002
        # An epoch that has not begun starts with none.
        self._values = state["values"] if state["batch"] else None
        self._logs = state["logs"]
        model.stop_training = state["stop_training"]
        for name, callback in self._named_callbacks():
            vars(callback).update(state["callbacks"].get(name, {}))

    def _check(self, state: dict[str, Any]) -> None:
        model = self.model
        label = f"{model.label()}: fit"
        if state["batches"] != self.data.num_batches:
            raise ValueError(
                f"{label}: the backup is of a training with {state['batches']} batches an epoch, "
                f"this one has {self.data.num_batches}"
            )
        if model.optimizer is not None and not model.optimizer.built:
            model.optimizer.build(model.variables_to_train())
        weights = {name: variable.shape for name, variable in model.named_variables().items()}
        kept = {name: value.shape for name, value in state["weights"].items()}
        if weights != kept:
            raise ValueError(f"{label}: the backup is of another model, with the weights {kept}")
        slots = [tuple(variable.shape) for variable in model.optimizer.variables]
        if slots != [value.shape for value in state["optimizer"]]:
            raise ValueError(f"{label}: the backup is of a training with another optimizer")

    def _named_callbacks(self) -> Iterator[tuple[str, Any]]:
        """Callbacks by a name that does not depend on callbacks of other classes."""
        counts: Counter[str] = Counter()
        for callback in self.callbacks:
            kind = type(callback).__name__
            counts[kind] += 1
            yield f"{kind}_{counts[kind]}", callback

    def _running_values(self) -> list[Any]:
        values = self.model._train_values
        return [] if values is None else [values, *values.metrics]


def _numbers(part: Any) -> dict[str, Any]:
    """The attributes of `part` that hold numbers: totals, counts, arrays of them."""
    kept: dict[str, Any] = {}
    for name, value in vars(part).items():
        if isinstance(value, int | float | np.generic):
            kept[name] = value
        elif isinstance(value, np.ndarray):
            kept[name] = value.copy()
        elif hasattr(value, "assign"):
            kept[name] = np.array(value.numpy())
    return kept


def _set_numbers(part: Any, numbers: dict[str, Any]) -> None:
    for name, value in numbers.items():
        known: Any = getattr(part, name, None)
        if hasattr(known, "assign"):
            known.assign(value)
        else:
            setattr(part, name, value)
