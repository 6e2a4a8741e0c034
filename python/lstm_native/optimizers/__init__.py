"""Optimizers under the Keras names, and by name. Floor 4."""

from __future__ import annotations

from typing import Any

from lstm_native.errors import unknown_name
from lstm_native.naming import name_and_config
from lstm_native.optimizers import schedules
from lstm_native.optimizers.adam import Adam
from lstm_native.optimizers.adamw import AdamW
from lstm_native.optimizers.base import Optimizer
from lstm_native.optimizers.plain import Adadelta, Adagrad, Adamax, Nadam
from lstm_native.optimizers.rmsprop import RMSprop
from lstm_native.optimizers.sgd import SGD

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Nadam",
    "Optimizer",
    "RMSprop",
    "get",
    "schedules",
]

_CLASSES: dict[str, type[Optimizer]] = {
    cls.__name__.lower(): cls for cls in (SGD, Adadelta, Adagrad, Adam, AdamW, Adamax, Nadam, RMSprop)
}


def get(identifier: Any) -> Optimizer | None:
    """The optimizer that `identifier` stands for.

    Args:
        identifier: A name ("adam", "rmsprop", in any case), an `Optimizer`, its class, a configuration
            `{"class_name": ..., "config": {...}}`, or None.

    Returns:
        An `Optimizer`; None for None.

    Raises:
        ValueError: Unknown name, or something that is none of these.
    """
    identifier, config = name_and_config("optimizer", identifier)
    if identifier is None or isinstance(identifier, Optimizer):
        return identifier
    if isinstance(identifier, str):
        found = _CLASSES.get(identifier.lower())
        if found is None:
            raise unknown_name("optimizer", identifier, _CLASSES)
        return found.from_config(config)
    if isinstance(identifier, type) and issubclass(identifier, Optimizer):
        # Optimizer itself needs a learning rate; the rules have defaults for everything.
        return identifier.from_config({})
    raise ValueError(f"optimizer: cannot interpret {identifier!r}, expected a name or an Optimizer")
