"""How names are made from names of classes. Floor 4."""

from __future__ import annotations

import re

# A border lies before a capital that starts a word: after a small letter or digit, or before one.
_BORDER = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def snake_case(name: str) -> str:
    """`MeanSquaredError` is `mean_squared_error`, `MyMSELoss` is `my_mse_loss`, `SGD` is `sgd`."""
    return _BORDER.sub("_", name.lstrip("_")).lower()
