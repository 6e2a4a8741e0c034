"""Cloning: another layer like one that is there, with weights of its own. Floor 4."""

from __future__ import annotations

from typing import Any

from lstm_native import initializers
from lstm_native.layers.base import Layer


def clone_layer(layer: Layer, **changes: Any) -> Layer:
    """A new layer like `layer`, with weights of its own: its constructor's arguments, but for `changes`.

    Layers and initializers among the arguments are made anew too.

    Raises:
        TypeError: the constructor does not take an argument of `changes`.
    """
    if type(layer).from_config.__func__ is not Layer.from_config.__func__:  # type: ignore[attr-defined]
        return type(layer).from_config(layer.get_config() | changes)
    given = {name: _made_anew(value) for name, value in layer.arguments().items()}
    clone: Layer = type(layer)(**given | changes)
    return clone


def _made_anew(value: Any) -> Any:
    if isinstance(value, Layer):
        return clone_layer(value)
    if isinstance(value, initializers.Initializer):
        return type(value)(**value.get_config())  # with another seed, where none was given
    if isinstance(value, list | tuple):
        return type(value)(_made_anew(item) for item in value)
    return value
