"""Functional models as data and back: their layers, and the calls that lead from one to the other.

The form is that of Keras: every layer has its `inbound_nodes`, the calls of it, and a value is named by
`keras_history`: a layer, the number of a call, the number of an output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lstm_native.configurable import short
from lstm_native.layers.base import Layer
from lstm_native.layers.symbolic import Placeholder, arguments_of
from lstm_native.models.graph import Step
from lstm_native.serialization import deserialize, serialize

_VALUE = "__keras_tensor__"
# A call: the name of a layer, and the number of the call.
_Call = tuple[str, int]


def call_again(step: Step, layer: Layer, values: dict[int, Any]) -> None:
    """Records the call `step` again, of another layer and on other placeholders; adds what it gives.

    Args:
        step: the call.
        layer: what is called.
        values: placeholders by slot.
    """
    inputs = [values[slot] for slot in step.inputs]
    flags = {name: values[slot] for name, slot in step.flags.items()}
    named = {**step.arguments, **arguments_of(flags, len(inputs), step.several)}
    if step.states:
        named["initial_state"] = [values[slot] for slot in step.states]
    if step.training is not None:
        named["training"] = step.training
    layer(inputs if step.several else inputs[0], **named)
    values |= zip(step.outputs, layer.nodes[-1].outputs, strict=True)


# --- to data --------------------------------------------------------------------------------------


def graph_config(
    layers: Sequence[Layer],
    inputs: Sequence[Layer],
    steps: Sequence[Step],
    shapes: dict[int, Any],
) -> tuple[list[dict[str, Any]], Callable[[int], list[Any]]]:
    """The layers of a model with their calls, and what names the value in a slot.

    Args:
        layers: all layers, inputs too.
        inputs: the layers of the first slots.
        steps: the calls.
        shapes: of the values by slot.
    """
    histories: dict[int, list[Any]] = {slot: [layer.name, 0, 0] for slot, layer in enumerate(inputs)}
    dtypes = {slot: layer.dtype for slot, layer in enumerate(inputs)}
    calls: dict[Layer, list[dict[str, Any]]] = {layer: [] for layer in layers}

    def value(slot: int) -> dict[str, Any]:
        config = {
            "shape": list(shapes[slot]),
            "dtype": dtypes.get(slot, "float32"),
            "keras_history": histories[slot],
        }
        return {"class_name": _VALUE, "config": config}

    for step in steps:
        for i, slot in enumerate(step.outputs):
            number = _first_number(step.layer) + len(calls[step.layer])
            histories[slot] = [step.layer.name, number, i]
        given = [value(slot) for slot in step.inputs]
        flags = {name: value(slot) for name, slot in step.flags.items()}
        named = {**serialize(step.arguments), **arguments_of(flags, len(given), step.several)}
        if step.states:
            named["initial_state"] = [value(slot) for slot in step.states]
        if step.training is not None:
            named["training"] = step.training
        calls[step.layer].append({"args": [given] if step.several else given, "kwargs": named})
    found = [
        {**serialize(layer), "name": layer.name, "inbound_nodes": nodes} for layer, nodes in calls.items()
    ]
    return found, lambda slot: histories[slot]


def tree_config(tree: Any) -> Any:
    """A tree of histories as data that keep tuples apart from lists."""
    if isinstance(tree, dict):
        return {name: tree_config(part) for name, part in tree.items()}
    if isinstance(tree, tuple):
        return {"class_name": "__tuple__", "config": [tree_config(part) for part in tree]}
    return [tree_config(part) for part in tree] if isinstance(tree, list) else tree


# --- from data ------------------------------------------------------------------------------------


def graph_from_config(config: Any, kind: str) -> tuple[Any, Any]:
    """The placeholders of inputs and outputs, from new layers that were called as the data say.

    Args:
        config: a dict with "layers", "input_layers" and "output_layers".
        kind: what messages call the model.

    Raises:
        ValueError: the data fit together in no model.
    """
    for key in ("layers", "input_layers", "output_layers"):
        if not isinstance(config, dict) or not isinstance(config.get(key), list | dict):
            raise ValueError(f"{kind}: configuration has no {key!r}, expected 'layers' and their connections")
    layers: dict[str, Layer] = {}
    calls: dict[_Call, Any] = {}
    for data in config["layers"]:
        layer = deserialize(data)
        if not isinstance(layer, Layer):
            raise ValueError(f"{kind}: configuration has {short(data)} among its layers")
        if layer.name in layers:
            raise ValueError(f"{kind}: configuration has two layers called {layer.name!r}")
        nodes = data.get("inbound_nodes", [])
        if not isinstance(nodes, list):
            raise ValueError(f"{kind}: inbound_nodes of {layer.name!r} is {short(nodes)}, expected a list")
        layers[layer.name] = layer
        calls |= {(layer.name, number): node for number, node in enumerate(nodes, _first_number(layer))}
    first = {layer: len(layer.nodes) - _first_number(layer) for layer in layers.values()}
    for name, number in _in_order(calls, layers, kind):
        _call(calls[name, number], layers[name], layers, first, kind)

    def values(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {name: values(part) for name, part in tree.items()}
        if not isinstance(tree, list | tuple):
            raise ValueError(f"{kind}: configuration has {short(tree)} in the place of a value")
        if not _is_history(tree):
            return type(tree)(values(part) for part in tree)
        found = _value(tree, layers, first)
        if found is None:
            raise ValueError(f"{kind}: configuration names the value {short(tree)}, which no layer gives")
        return found

    return values(deserialize(config["input_layers"])), values(deserialize(config["output_layers"]))


def _in_order(calls: dict[_Call, Any], layers: dict[str, Layer], kind: str) -> list[_Call]:
    """The calls in an order in which each has what it needs; those of one layer come one after the other."""
    needed: dict[_Call, int] = {}
    waiting: dict[_Call, list[_Call]] = {}
    for (name, number), node in calls.items():
        needs = _needs(node, layers[name], kind)
        if number > _first_number(layers[name]):
            needs.add((name, number - 1))
        # What an Input gives is there without a call.
        needs = {need for need in needs if need in calls or not hasattr(layers.get(need[0]), "batch_shape")}
        needed[name, number] = len(needs)
        for need in needs:
            waiting.setdefault(need, []).append((name, number))
    order = [call for call, count in needed.items() if count == 0]
    for call in order:  # which grows meanwhile
        for other in waiting.get(call, ()):
            needed[other] -= 1
            if needed[other] == 0:
                order.append(other)
    if len(order) < len(calls):
        names = list(dict.fromkeys(name for (name, _), count in needed.items() if count))
        raise ValueError(f"{kind}: configuration has layers whose inputs come from nowhere: {short(names)}")
    return order


def _needs(node: Any, layer: Layer, kind: str) -> set[_Call]:
    """The calls whose values a call needs."""
    if (
        not isinstance(node, dict)
        or not isinstance(node.get("args"), list)
        or not isinstance(node.get("kwargs"), dict)
    ):
        raise ValueError(f"{kind}: a call of {layer.name!r} is {short(node)}, expected its args and kwargs")
    needs = set()
    open_parts: list[Any] = [node["args"], node["kwargs"]]
    while open_parts:
        data = open_parts.pop()
        if isinstance(data, dict) and data.get("class_name") == _VALUE:
            name, number, _ = _history_in(data, kind)
            needs.add((name, number))
        elif isinstance(data, list | tuple):
            open_parts += data
        elif isinstance(data, dict) and "class_name" not in data:
            open_parts += data.values()
    return needs


def _history_in(data: dict[str, Any], kind: str) -> Any:
    config = data.get("config")
    history = config.get("keras_history") if isinstance(config, dict) else None
    if not isinstance(history, list | tuple) or not _is_history(history):
        raise ValueError(f"{kind}: a value is {short(data)}, expected its keras_history")
    return history


def _first_number(layer: Layer) -> int:
    """The number of the first call of a layer. Keras counts the making of a functional model as one."""
    return getattr(layer, "calls_before_first", 0)


def _is_history(tree: Sequence[Any]) -> bool:
    return len(tree) == 3 and isinstance(tree[0], str) and all(type(number) is int for number in tree[1:])


def _value(history: Any, layers: dict[str, Layer], first: dict[Layer, int]) -> Placeholder | None:
    """The placeholder that a history names; None when the call is still to come."""
    name, call, output = history
    layer = layers.get(name)
    if layer is None:
        return None
    if not layer.nodes and hasattr(layer, "batch_shape"):
        start: Placeholder | None = layer.output if call == output == 0 else None
        return start
    number = first[layer] + call
    outputs = layer.nodes[number].outputs if 0 <= number < len(layer.nodes) else ()
    return outputs[output] if 0 <= output < len(outputs) else None


def _call(node: Any, layer: Layer, layers: dict[str, Layer], first: dict[Layer, int], kind: str) -> None:
    """Calls `layer` as `node` says."""

    def read(data: Any) -> Any:
        if isinstance(data, dict) and data.get("class_name") == _VALUE:
            history = _history_in(data, kind)
            found = _value(history, layers, first)
            if found is None:
                raise ValueError(
                    f"{kind}: a call of {layer.name!r} needs {short(history)}, which no layer gives"
                )
            return found
        if isinstance(data, list | tuple):
            return [read(item) for item in data]
        if isinstance(data, dict) and "class_name" not in data:
            return {name: read(item) for name, item in data.items()}
        return deserialize(data)

    args, named = read(node["args"]), read(node["kwargs"])
    before = len(layer.nodes)
    layer(*args, **named)
    if len(layer.nodes) != before + 1:
        raise ValueError(f"{kind}: a call of {layer.name!r} has no inputs, expected values of other layers")
