"""Layers that end masks, for operators of a functional model made them, as operations of Keras 3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstm_native.convert.keras_mask_flow import ACTIVATIONS

_KINDS = {activation: kind for kind, (activation, _) in ACTIVATIONS.items()}
_OF_TWO = ("Add", "Subtract", "Multiply", "Maximum", "Minimum")
_NUMPY = (
    *_OF_TWO,
    "Concatenate",
    "Tanh",
    "Exp",
)  # those that Keras has in `ops.numpy`; others are in `ops.nn`


def as_operations(kind: str, config: dict[str, Any], calls: Sequence[Any]) -> list[dict[str, Any]] | None:
    """The operations that compute what a layer does, the last of which has its name; None where none do.

    Args:
        kind: the layer's class.
        config: its configuration.
        calls: its calls, as Keras has them.
    """
    name = config["name"]
    inputs = [call["args"][0] for call in calls]
    if kind == "Rescaling":
        return _rescaled(name, config, inputs)
    if kind == "Concatenate":
        return [_operation(kind, name, [[values] for values in inputs], axis=config["axis"])]
    if kind in _OF_TWO and all(len(values) == 2 for values in inputs):
        return [_operation(kind, name, inputs)]
    if kind == "Activation" and config["activation"] in _KINDS:
        operation = _KINDS[config["activation"]]
        return [_operation(operation, name, [[x] for x in inputs], **ACTIVATIONS[operation][1])]
    return None


def _rescaled(name: str, config: dict[str, Any], inputs: Sequence[Any]) -> list[dict[str, Any]]:
    scale, offset = np.asarray(config["scale"]), np.asarray(config["offset"])
    made = []
    if offset.any() and (scale != 1).any():
        first = f"{name}_scale"
        made.append(_operation("Multiply", first, [[x, _constant(scale)] for x in inputs]))
        inputs = [
            {**x, "config": {**x["config"], "keras_history": [first, number, 0]}}
            for number, x in enumerate(inputs)
        ]
    kind, constant = ("Add", offset) if offset.any() else ("Multiply", scale)
    return [*made, _operation(kind, name, [[x, _constant(constant)] for x in inputs])]


def _constant(numbers: np.ndarray[Any, Any]) -> Any:
    if numbers.ndim == 0:
        return float(numbers)
    return {"class_name": "__numpy__", "config": {"value": numbers.tolist(), "dtype": "float32"}}


def _operation(kind: str, name: str, arguments: Sequence[Any], **config: Any) -> dict[str, Any]:
    return {
        "module": f"keras.src.ops.{'numpy' if kind in _NUMPY else 'nn'}",
        "class_name": kind,
        "config": {"name": name, **config},
        "registered_name": kind,
        "name": name,
        "inbound_nodes": [{"args": args, "kwargs": {}} for args in arguments],
    }
