"""Models like others, with weights of their own: from a model, and from its description as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lstm_native.configurable import short
from lstm_native.layers.base import Layer
from lstm_native.layers.cloning import clone_layer
from lstm_native.models.base import Model
from lstm_native.models.functional import Functional
from lstm_native.models.sequential import Sequential
from lstm_native.saving.json_text import parse_json
from lstm_native.serialization import deserialize
from lstm_native.trees import flat


def clone_model(
    model: Model, input_tensors: Any = None, clone_function: Callable[[Layer], Layer] | None = None
) -> Model:
    """A new model like `model`: the same layers and calls, with weights of their own.

    Layers that are used several times, or in several places of the model, stay shared in the new one.

    Args:
        model: a `Sequential`, or a functional model.
        input_tensors: placeholders to begin with, one for each input; new ones like those of `model` by
            default.
        clone_function: called with every layer but the inputs, gives the layer for the new model; by default
            one made from the same arguments.

    Raises:
        ValueError: neither of these models, or another number of placeholders.
    """
    make = clone_layer if clone_function is None else clone_function
    given = None if input_tensors is None else flat(input_tensors)
    if isinstance(model, Sequential):
        return _clone_sequential(model, given, make)
    if isinstance(model, Functional):
        return _clone_functional(model, given, make)
    raise ValueError(
        f"clone_model: got {model!r}, expected a Sequential or a model made by Model(inputs, outputs)"
    )


def _clone_sequential(model: Sequential, given: list[Any] | None, make: Callable[[Layer], Layer]) -> Model:
    first, layers = model.first_and_layers()
    start = [] if first is None else [clone_layer(first)]
    if given is not None:
        if len(given) != 1:
            raise ValueError(f"clone_model: got {len(given)} input_tensors, expected one for a Sequential")
        start = given
    clone = Sequential([*start, *map(make, layers)], trainable=model.trainable, name=model.name)
    if model.built and not clone.built:
        clone.build(model.input_shape)
    return clone


def _clone_functional(model: Functional, given: list[Any] | None, make: Callable[[Layer], Layer]) -> Model:
    made: dict[Layer, Layer] = {}

    def layer_for(layer: Layer) -> Layer:
        if layer not in made:
            made[layer] = make(layer)
        return made[layer]

    return Functional(*model.calls_again(layer_for, given), name=model.name, trainable=model.trainable)


def model_from_json(json_string: str, custom_objects: Mapping[str, Any] | None = None) -> Model:
    """The model, with new weights, that `model.to_json()` described.

    Args:
        json_string: the description.
        custom_objects: classes and functions of the caller by name, beside those that
            `utils.register_serializable` knows.

    Raises:
        ValueError: no JSON, or not the description of a model.
    """
    if not isinstance(json_string, str):
        raise TypeError(f"model_from_json: got a {type(json_string).__name__}, expected a string")
    config = parse_json(json_string, "model_from_json", "the text", len(json_string))
    model = deserialize(config, custom_objects)
    if not isinstance(model, Model):
        raise ValueError(f"model_from_json: the text describes {short(config)}, expected a model")
    return model
