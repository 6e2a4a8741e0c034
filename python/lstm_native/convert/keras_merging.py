"""Operators such as `x + y` and `2 * x` in functional models of Keras, as layers; and their masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lstm_native.configurable import short
from lstm_native.convert.keras_mask_flow import (
    ACTIVATIONS,
    MERGING,
    RECURRENT,
    STOPPING,
    MaskFlow,
    histories,
    is_operation,
)
from lstm_native.convert.keras_masks import makes_mask

# Functions of TensorFlow as Keras 2 names them, and the operations of Keras 3 that compute the same.
_FUNCTIONS = {
    "__operators__.add": "Add", "math.add": "Add", "math.subtract": "Subtract", "math.multiply": "Multiply",
    "math.maximum": "Maximum", "math.minimum": "Minimum", "concat": "Concatenate", "math.add_n": "Add",
    "math.truediv": "TrueDivide", "math.divide": "Divide", "math.negative": "Negative", "math.tanh": "Tanh",
    "math.sigmoid": "Sigmoid", "nn.relu": "Relu", "nn.relu6": "Relu6", "nn.softmax": "Softmax",
    "math.softplus": "Softplus", "nn.softsign": "Softsign", "nn.silu": "Silu", "nn.selu": "Selu",
    "nn.elu": "Elu", "math.exp": "Exp",
}  # fmt: skip
# Functions that take a list of values.
_OF_LISTS = ("concat", "math.add_n")
# What arrays are in configurations.
ARRAYS = ("__tensor__", "__numpy__")
_OPERATIONS = ("Add", "Subtract", "Multiply", "Maximum", "Minimum", "Concatenate")
# Operations on a value and a constant as scale and offset, where the value comes first and where it does not.
_RESCALING: dict[str, tuple[Any, Any]] = {
    "Add": (lambda c: (1.0, c), lambda c: (1.0, c)),
    "Subtract": (lambda c: (1.0, -c), lambda c: (-1.0, c)),
    "Multiply": (lambda c: (c, 0.0), lambda c: (c, 0.0)),
    "TrueDivide": (lambda c: (1 / c, 0.0), None),
    "Divide": (lambda c: (1 / c, 0.0), None),
    "Negative": (lambda c: (-1.0, 0.0), None),
}
# Layers that go by the mask of their inputs.
_MINDING = (
    *RECURRENT, "Bidirectional", "GlobalAveragePooling1D", "Attention", "AdditiveAttention", "Multiply",
    "Maximum", "Minimum",
)  # fmt: skip


def with_merging_layers(layers: Sequence[Any], label: str, found: set[str]) -> Iterator[Any]:
    """The layers of a functional model, where operations on two values have become layers.

    Args:
        layers: configurations of layers with their calls.
        label: the model, for messages.
        found: gets the names of what was an operation.

    Raises:
        ValueError: an operation that joins other things than values of layers.
    """
    for one in layers:
        config = one.get("config") if isinstance(one, dict) else None
        kind = one.get("class_name") if isinstance(one, dict) else None
        if not isinstance(config, dict):
            yield one
            continue
        name = str(one.get("name", config.get("name")))
        single = _of_one_value(one)
        if single is not None:
            found.add(name)
            yield single
            continue
        function = config.get("function") if kind == "TFOpLambda" else None
        if isinstance(function, str) and _FUNCTIONS.get(function) in _OPERATIONS:
            joined = _FUNCTIONS[function]
            calls, axis = _calls_of_keras_2(one, function in _OF_LISTS)
        elif is_operation(one) and kind in _OPERATIONS:
            joined, axis = str(kind), config.get("axis")
            calls = [_call_of_keras_3(node, joined) for node in one.get("inbound_nodes") or ()]
        else:
            yield one
            continue
        if None in calls or (joined == "Concatenate" and type(axis) is not int):
            raise ValueError(
                f"from_keras: {label}: the operation {name!r} ({joined}) has the arguments "
                f"{short(one.get('inbound_nodes'))}, expected values of layers alone"
            )
        found.add(name)
        arguments = {"name": name} | ({"axis": axis} if joined == "Concatenate" else {})
        yield {"class_name": joined, "config": arguments, "name": name, "inbound_nodes": calls}


def _of_one_value(one: dict[str, Any]) -> dict[str, Any] | None:
    """An operation on a value, and a constant in `2 * x` and the like, as a layer; None for others."""
    kind, config, nodes = one.get("class_name"), _dict(one.get("config")), one.get("inbound_nodes")
    of_keras_2 = kind == "TFOpLambda"
    if of_keras_2:
        kind = _FUNCTIONS.get(str(config.get("function")))
    elif not is_operation(one):
        return None
    # Each use of one operation object may have constants of its own; those of models have one use.
    if not isinstance(kind, str) or not isinstance(nodes, list) or len(nodes) != 1:
        return None
    values, constants, named = _operands_of_keras_2(nodes[0]) if of_keras_2 else _operands(nodes[0])
    if len(values) != 1:
        return None
    named = {key: value for key, value in named.items() if value is not None}
    name = str(one.get("name", config.get("name")))
    made: dict[str, Any] = {"name": name}
    if kind in ACTIVATIONS and not constants:
        made["activation"], expected = ACTIVATIONS[kind]
        named |= {key: config[key] for key in expected if key in config}
        if any(named[key] != expected.get(key) for key in named):
            return None
    else:
        scaling = _scaling(kind, next(iter(values)), constants)
        if scaling is None or any(named.values()):
            return None
        made |= scaling
    (value,) = values.values()
    calls = [[value]] if of_keras_2 else [{"args": [value], "kwargs": {}}]
    layer = "Activation" if "activation" in made else "Rescaling"
    return {"class_name": layer, "config": made, "name": name, "inbound_nodes": calls}


def _scaling(kind: str, place: int, constants: Sequence[Any]) -> dict[str, Any] | None:
    """Arguments of the `Rescaling` that is an operation on a value in this place and constants."""
    if kind not in _RESCALING or len(constants) != (kind != "Negative"):
        return None
    constant = _constant(constants[0]) if constants else np.zeros(())
    way = _RESCALING[kind][place]
    if constant is None or way is None:
        return None
    with np.errstate(divide="ignore"):
        scale, offset = way(constant)
    return {"scale": np.asarray(scale).tolist(), "offset": np.asarray(offset).tolist()}


_Operands = tuple[dict[int, Any], list[Any], dict[str, Any]]


def _operands(node: Any) -> _Operands:
    """Values of a call in Keras 3 by their places, the constants beside them, and arguments by name."""
    args = _dict(node).get("args")
    items = list(enumerate(args)) if isinstance(args, list) else []
    values = {i: item for i, item in items if len(list(histories(item))) == 1 and "class_name" in item}
    constants = [item for i, item in items if i not in values]
    return values, constants, _dict(_dict(node).get("kwargs"))


def _operands_of_keras_2(node: Any) -> _Operands:
    """The same of a call in Keras 2, where the second operand has a name."""
    if isinstance(node, list) and len(node) == 1:
        (node,) = node
    if not isinstance(node, list) or len(node) != 4 or not isinstance(node[3], dict):
        return {}, [], {}
    named = dict(node[3])
    items = [node[2] if node[0] == "_CONSTANT_VALUE" else node[:3]]
    if "y" in named:
        items.append(named.pop("y"))
    values = {i: [*item, {}] for i, item in enumerate(items) if _is_value_of_keras_2(item)}
    return values, [item for i, item in enumerate(items) if i not in values], named


def _is_value_of_keras_2(item: Any) -> bool:
    """Whether this names a value: a layer, the number of its call and that of its output."""
    listed = isinstance(item, list) and len(item) == 3 and isinstance(item[0], str)
    return listed and all(type(number) is int and number >= 0 for number in item[1:])


def _constant(item: Any) -> np.ndarray[Any, Any] | None:
    """A number or an array of numbers among the arguments of a call; None for others."""
    if isinstance(item, dict) and item.get("class_name") in ARRAYS:
        item = _dict(item.get("config")).get("value")
    try:
        numbers = np.asarray(item, np.float64)
    except (TypeError, ValueError):
        return None
    return numbers if item is not None and not isinstance(item, str | bool) else None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _call_of_keras_3(node: Any, kind: str) -> dict[str, Any] | None:
    """The call of an operation as that of a layer; None where other things than values go into it."""
    args = node.get("args") if isinstance(node, dict) else None
    if kind == "Concatenate" and isinstance(args, list) and len(args) == 1:
        args = args[0]
    if not isinstance(args, list) or (kind != "Concatenate" and len(args) != 2):
        return None
    if any(len(list(histories(item))) != 1 or "class_name" not in item for item in args) or not args:
        return None
    named = node.get("kwargs") or {}
    return {"args": [args], "kwargs": {}} if isinstance(named, dict) and not any(named.values()) else None


def _calls_of_keras_2(one: dict[str, Any], of_list: bool) -> tuple[list[Any], Any]:
    """The calls of a function as those of a layer, None where they are others, and the axis."""
    calls: list[Any] = []
    axes = []
    for node in one.get("inbound_nodes") or ():
        items = [node] if isinstance(node, list) and node and isinstance(node[0], str) else node
        if not isinstance(items, list) or not all(isinstance(i, list) and len(i) == 4 for i in items):
            return [None], None
        named = items[0][3] if items and isinstance(items[0][3], dict) else {}
        values = [item[:3] for item in items]
        if of_list:
            axes.append(named.get("axis"))
        else:
            values.append(named.get("y"))
        fit = (of_list or len(values) == 2) and all(map(_is_value_of_keras_2, values))
        calls.append([[*value, {}] for value in values] if fit else None)
    return calls, axes[0] if axes and all(axis == axes[0] for axis in axes) else None


def check_merged_masks(layers: list[dict[str, Any]], operations: set[str], version: int, label: str) -> None:
    """Raises ValueError where values that are joined have another mask in Keras, and a layer goes by it.

    Args:
        layers: the layers of a functional model with their calls, in the form of Keras 3.
        operations: names of those that are operations in Keras: there masks end, and here.
        version: 2 or 3; Keras 2 wants a step to count in all inputs, Keras 3 in any.
        label: the model, for the message.
    """
    joins = any(one["class_name"] in MERGING for one in layers)
    if version >= 3 or not joins or not any(map(makes_mask, layers)):
        return
    flow = MaskFlow(layers)
    readers: dict[str, set[str]] = {}
    kinds = {one["name"]: one["class_name"] for one in layers}
    for one in layers:
        for node in one["inbound_nodes"]:
            for history in histories([node["args"], node["kwargs"]]):
                readers.setdefault(history[0], set()).add(one["name"])
    for one in layers:
        name = one["name"]
        if name in operations or not flow.disagreement(one):
            continue
        minding = _first_minding(name, readers, kinds, operations)
        if minding is not None:
            raise ValueError(
                f"from_keras: {label}: {one['class_name']} {name!r}: its inputs have different masks, of "
                "which Keras 2 takes the steps that count in all, and this package, as Keras 3, those that "
                f"count in any (to {minding!r})"
            )


def _first_minding(
    name: str, readers: dict[str, set[str]], kinds: dict[str, str], ends: set[str]
) -> str | None:
    """A layer behind `name` that goes by its mask."""
    todo, seen = [name], {name}
    while todo:
        for reader in sorted(readers.get(todo.pop(), set()) - seen - ends):
            if kinds.get(reader) in _MINDING:
                return reader
            seen.add(reader)
            if kinds.get(reader) not in STOPPING:
                todo.append(reader)
    return None
