"""Names made from the names of classes, and names read out of configurations. Floor 4."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lstm_native import registration
from lstm_native.errors import unknown_name

# A border lies before a capital that starts a word: after a small letter, or before one.
_BORDER = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z0-9])(?=[A-Z][a-z])")


def snake_case(name: str) -> str:
    """`MeanSquaredError` is `mean_squared_error`, `MyMSELoss` is `my_mse_loss`, `Conv1D` is `conv1d`."""
    return _BORDER.sub("_", name.lstrip("_")).lower()


def name_and_config(kind: str, identifier: Any) -> tuple[Any, dict[str, Any]]:
    """The name in a configuration `{"class_name": ..., "config": {...}}` and a copy of its arguments.

    For a class that the caller registered it is the object itself instead of its name. Anything else than a
    configuration is its own name, without arguments.

    Raises:
        ValueError: a dict without "class_name"; `kind` ("loss") is what it is called.
    """
    if not isinstance(identifier, dict):
        return identifier, {}
    if "class_name" not in identifier:
        raise ValueError(f"{kind}: configuration {identifier!r} has no 'class_name'")
    name, config = identifier["class_name"], dict(identifier.get("config") or {})
    registered = registration.find(identifier.get("registered_name"), name)
    return (name, config) if registered is None else (registered.from_config(config), {})


def callable_named(kind: str, identifier: Any, classes: Mapping[str, Any]) -> Any:
    """The callable object that `identifier` stands for; None for None.

    Args:
        kind: what it is, for messages ("regularizer").
        identifier: a name, an object, its class, a configuration or any callable.
        classes: the classes by all their names.

    Raises:
        ValueError: Unknown name, or something that is none of these.
    """
    identifier, config = name_and_config(kind, identifier)
    if isinstance(identifier, str):
        if identifier not in classes:
            raise unknown_name(kind, identifier, classes)
        return classes[identifier].from_config(config)
    if isinstance(identifier, type) and callable(identifier):
        return identifier()
    if identifier is None or callable(identifier):
        return identifier
    raise ValueError(f"{kind}: cannot interpret {identifier!r}, expected a name or a callable")
