"""Files of Keras as `save_model` and `load_model` want them."""

from __future__ import annotations

import os
from typing import Any

from lstm_native.convert.keras_source import from_keras
from lstm_native.convert.keras_target import to_keras
from lstm_native.saving.safetensors import Path


def save(model: Any, path: Path, include_optimizer: bool, include_state: bool, include_history: bool) -> None:
    """See `save_model`."""
    for argument, wanted in (("include_state", include_state), ("include_history", include_history)):
        if wanted:
            raise model.error(f"save: {argument} has no place in a file of Keras, expected '.safetensors'")
    if os.fsdecode(path).lower().endswith(".weights.h5"):
        raise model.error(
            f"save: {os.fsdecode(path)!r} names a file of weights alone, which convert.to_keras writes"
        )
    to_keras(model, path, compile=include_optimizer, check=False)


def load(path: Path, custom_objects: Any, compile: bool) -> Any:
    """See `load_model`."""
    return from_keras(path, custom_objects, compile=compile, check=False)
