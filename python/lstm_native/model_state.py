"""The state of a model in training: what another process needs to go on from it. Floor 4."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lstm_native import _core

# Where the random numbers of a layer that draws some stand: the seed, and how many were drawn.
STREAM = ("_stream", "_drawn")


def model_state(model: Any) -> dict[str, Any]:
    """Everything in a model that training changes.

    Returns:
        weights: arrays by the names of `named_variables`.
        optimizer: arrays, in the order of the optimizer's `variables`.
        states: for every layer of `layers_with_states` its states, or None.
        streams: for every layer of `all_layers` where its random numbers stand; empty for most.
    """
    optimizer = model.optimizer
    return {
        "weights": {name: variable.numpy() for name, variable in model.named_variables().items()},
        "optimizer": [] if optimizer is None else [np.array(v.numpy()) for v in optimizer.variables],
        "states": [layer.states for layer in layers_with_states(model)],
        "streams": [stream_of(layer) for layer in all_layers(model)],
    }


def restore_model_state(model: Any, state: dict[str, Any]) -> None:
    """Takes what `model_state` of an equal model gave; the caller has seen to it that it fits."""
    for name, variable in model.named_variables().items():
        variable.assign(state["weights"][name])
    if model.optimizer is not None:
        for variable, value in zip(model.optimizer.variables, state["optimizer"], strict=True):
            variable.assign(value)
    restore_states(model, state["states"])
    for layer, stream in zip(all_layers(model), state["streams"], strict=True):
        vars(layer).update(stream)


def restore_states(model: Any, states: Sequence[Any]) -> None:
    """Takes what the states of `layers_with_states` were."""
    for layer, found in zip(layers_with_states(model), states, strict=True):
        if found is None:
            layer.reset_state()
        else:
            layer.set_states(tuple(_core.as_tensor(state, "float32") for state in found))


def all_layers(model: Any) -> Iterator[Any]:
    """The layers inside a model, of whatever depth; shared ones as often as they are held."""
    for layer in model.held_layers():
        yield layer
        yield from all_layers(layer)


def layers_with_states(model: Any) -> Iterator[Any]:
    """The layers that hold states themselves: those in a wrapper, not the wrapper."""
    return (layer for layer in all_layers(model) if hasattr(layer, "_states"))


def stream_of(layer: Any) -> dict[str, int]:
    """Where the random numbers of a layer stand; empty for one that draws none."""
    return {name: value for name, value in vars(layer).items() if name in STREAM}
