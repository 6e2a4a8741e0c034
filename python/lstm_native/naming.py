"""Names made from the names of classes, and names read out of configurations. Floor 4."""

from __future__ import annotations

import re
from typing import Any

# A border lies before a capital that starts a word: after a small letter or digit, or before one.
_BORDER = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def snake_case(name: str) -> str:
    """`MeanSquaredError` is `mean_squared_error`, `MyMSELoss` is `my_mse_loss`, `SGD` is `sgd`."""
    return _BORDER.sub("_", name.lstrip("_")).lower()


def name_and_config(kind: str, identifier: Any) -> tuple[Any, dict[str, Any]]:
    """The name in a configuration `{"class_name": ..., "config": {...}}` and a copy of its arguments.

    Anything else is its own name, without arguments.

    Raises:
        ValueError: a dict without "class_name"; `kind` ("loss") is what it is called.
    """
    if not isinstance(identifier, dict):
        return identifier, {}
    if "class_name" not in identifier:
        raise ValueError(f"{kind}: configuration {identifier!r} has no 'class_name'")
    return identifier["class_name"], dict(identifier.get("config") or {})
