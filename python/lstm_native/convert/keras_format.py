"""Files of Keras as `save_model` and `load_model` want them."""

from __future__ import annotations

import os
from typing import Any

from lstm_native.convert.keras_file import read_keras_file
from lstm_native.convert.keras_hdf5_writer import NewGroup, write_hdf5
from lstm_native.convert.keras_source import from_keras, load_into
from lstm_native.convert.keras_target import to_keras
from lstm_native.convert.keras_weights import write_tree
from lstm_native.saving.atomic import replace_file
from lstm_native.saving.blaming import blaming
from lstm_native.saving.safetensors import Path
from lstm_native.saving.weights import Loading, not_by_name


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


def save_weights(model: Any, path: Path) -> None:
    """See `Model.save_weights`. Layers that Keras has not may be among those with weights."""
    root = NewGroup()
    write_tree(model, root)
    replace_file(path, [write_hdf5(root)])


def load_weights(model: Any, path: Path, loading: Loading) -> None:
    """See `Model.load_weights`; of a file of a whole model, the weights alone."""
    file = read_keras_file(path)
    if loading.by_name and not file.layers:
        raise ValueError(not_by_name(file.where))
    with blaming(file.where, "the weights"):
        load_into(model, file, set(), loading)
