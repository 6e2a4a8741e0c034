"""Holds a model against its original in Keras."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from lstm_native.convert.both_sides import NotRun, cause, outputs_of, random_inputs
from lstm_native.convert.conversion import Conversion
from lstm_native.models import Model
from lstm_native.trees import flat


def compare_with_live(original: Any, model: Model, record: Conversion) -> None:
    """Holds the outputs of both models on random inputs against each other.

    Raises:
        ValueError: they differ by more than 1e-5, or in number or shape.
        NotRun: Keras cannot run it, or there are no inputs for it.
    """
    inputs = random_inputs(model)
    kept = [(state, np.array(state.numpy())) for state in _states_of(original)]
    for state, value in kept:
        state.assign(np.zeros_like(value))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Keras and TensorFlow among themselves
            expected = flat(original.predict(inputs[0] if len(inputs) == 1 else inputs, verbose=0))
    except Exception as error:  # whatever it has against its own model
        raise NotRun(f"Keras cannot run it ({cause(error)})") from error
    finally:
        for state, value in kept:
            state.assign(value)
    found = outputs_of(model, inputs)
    record.compare([np.asarray(e) for e in expected], found)


def _states_of(original: Any) -> list[Any]:
    """The variables in which stateful layers of Keras keep their states."""
    layers = [layer for layer in original._flatten_layers() if getattr(layer, "stateful", False)]
    states = [state for layer in layers for state in flat(getattr(layer, "states", None) or [])]
    return [state for state in {id(state): state for state in states}.values() if hasattr(state, "assign")]
