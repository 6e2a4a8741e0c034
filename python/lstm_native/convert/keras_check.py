"""Runs a model beside its original in Keras on random inputs."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from lstm_native.convert.conversion import Conversion
from lstm_native.layers import Embedding
from lstm_native.models import Model
from lstm_native.saving.safetensors import Path
from lstm_native.trees import flat

_ROWS, _STEPS = 3, 7


def load_in_keras(path: Path) -> Any:
    """The model in a file, as Keras reads it."""
    import keras

    return keras.saving.load_model(os.fsdecode(path), compile=False)


def compare_with_live(original: Any, model: Model, record: Conversion) -> None:
    """Holds the outputs of both models against each other.

    Raises:
        ValueError: they differ by more than 1e-5, or in number or shape.
    """
    inputs = random_inputs(model)
    given = inputs[0] if len(inputs) == 1 else inputs
    kept = [(state, state.numpy()) for state in _states_of(original)]
    for state, value in kept:
        state.assign(np.zeros_like(value))
    try:
        expected = flat(original.predict(given, verbose=0))
    finally:
        for state, value in kept:
            state.assign(value)
    found = flat(model.predict(given, verbose=0))
    if len(expected) != len(found):
        raise ValueError(f"conversion: the model has {len(found)} outputs, expected {len(expected)}")
    record.compare([np.asarray(e) for e in expected], [np.asarray(f) for f in found])
    model.reset_state()


def _states_of(original: Any) -> list[Any]:
    """The variables in which stateful layers of Keras keep their states."""
    layers = [layer for layer in original._flatten_layers() if getattr(layer, "stateful", False)]
    states = [state for layer in layers for state in flat(getattr(layer, "states", None) or [])]
    return [state for state in {id(state): state for state in states}.values() if hasattr(state, "assign")]


def random_inputs(model: Model) -> list[Any]:
    """An array for each input; whole numbers, with zeros among them, where an Embedding reads them."""
    random = np.random.default_rng(0)
    plan = model._plan()
    found = []
    for i, placeholder in enumerate(model.inputs):
        rows, *rest = placeholder.shape
        shape = (rows or _ROWS, *(_STEPS if size is None else size for size in rest))
        readers = plan.readers(i)
        tables = [layer for layer in readers if isinstance(layer, Embedding)]
        if tables:
            ids = random.integers(0, min(layer.input_dim for layer in tables), shape)
            ids[..., -1:] = 0
            found.append(ids.astype(np.int32))
        else:
            found.append(random.normal(size=shape).astype(np.float32))
    return found
