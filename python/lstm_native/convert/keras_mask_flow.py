"""Which masks the values of a functional model of Keras have, followed from call to call as formulas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

ELEMENTWISE = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
MERGING = (*ELEMENTWISE, "Concatenate", "Dot")
RECURRENT = ("LSTM", "GRU", "SimpleRNN", "RNN")
STOPPING = (
    "Flatten", "RepeatVector", "Reshape", "Permute", "GlobalAveragePooling1D", "GlobalMaxPooling1D", "Dot",
    "Conv1D", "MaxPooling1D", "AveragePooling1D", "ZeroPadding1D", "Cropping1D", "UpSampling1D",
)  # fmt: skip
_PASSING = (
    "Dense", "Activation", "Dropout", "SpatialDropout1D", "LayerNormalization", "TimeDistributed", "Softmax",
    "ReLU", "Rescaling", "GaussianNoise", "GaussianDropout", "BatchNormalization",
)  # fmt: skip
_ATTENTION = ("Attention", "AdditiveAttention")
_OPERATIONS = (
    "NotEqual", "Any", "LogicalOr", "ExpandDims", "ZerosLike", "OnesLike", "Concatenate", "ConvertToTensor",
)  # fmt: skip
# Operations on one value as activations, and the arguments with which they are those.
ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "Tanh": ("tanh", {}), "Sigmoid": ("sigmoid", {}), "Relu": ("relu", {}), "Relu6": ("relu6", {}),
    "Softplus": ("softplus", {}), "Softsign": ("softsign", {}), "Silu": ("silu", {}), "Selu": ("selu", {}),
    "Exp": ("exponential", {}), "Elu": ("elu", {"alpha": 1.0}), "Softmax": ("softmax", {"axis": -1}),
}  # fmt: skip
_WITH_CONSTANTS = ("TrueDivide", "Divide", "Negative")
_MOST = 200  # masks that one is made of
# Numbers of formulas: no mask, and one where every step counts.
NONE, ALL = 0, 1
_UNKNOWN = -1
History = tuple[Any, ...]


def is_operation(one: dict[str, Any]) -> bool:
    """Whether this is no layer but a function on values: `x + y`, or a part of what computes a mask."""
    if "module" in one:
        return str(one["module"]).startswith("keras.src.ops")
    # Files in the old form have no modules; layers know whether they are trained.
    config = one.get("config")
    named = one.get("class_name") in (*_OPERATIONS, *ELEMENTWISE, *_WITH_CONSTANTS, *ACTIVATIONS)
    return named and isinstance(config, dict) and "trainable" not in config


def histories(data: Any) -> Iterator[History]:
    """The values that arguments of calls name."""
    if isinstance(data, list):
        for item in data:
            yield from histories(item)
    elif isinstance(data, dict):
        config = data.get("config")
        history = config.get("keras_history") if isinstance(config, dict) else None
        if data.get("class_name") == "__keras_tensor__" and isinstance(history, list) and len(history) == 3:
            if isinstance(history[0], str) and all(type(number) is int for number in history[1:]):
                yield tuple(history)
        elif "class_name" not in data:
            for item in data.values():
                yield from histories(item)


class MaskFlow:
    """The masks of all values, as numbers that are equal where the masks are.

    Args:
        layers: configurations of layers with their calls, in the form of Keras 3.
    """

    def __init__(self, layers: Sequence[dict[str, Any]]) -> None:
        self._formulas: dict[Any, int] = {}
        self._parts: dict[int, frozenset[int]] = {}  # of those that are unions
        self._masks: dict[History, int] = {}
        self._operations: dict[str, int] = {}
        self._kinds = {str(one.get("name")): str(one.get("class_name")) for one in layers}
        calls = {
            (str(one.get("name")), number): (one, node)
            for one in layers
            if isinstance(one.get("inbound_nodes"), list)
            for number, node in enumerate(one["inbound_nodes"])
            if isinstance(node, dict)
        }
        for name in (str(one.get("name")) for one in layers if one.get("class_name") == "InputLayer"):
            self._masks[name, 0, 0] = NONE
        waiting: dict[Any, list[Any]] = {}
        needs: dict[Any, int] = {}
        for call, (_, node) in calls.items():
            needed = {h[:2] for h in histories([node.get("args"), node.get("kwargs")]) if h[:2] in calls}
            needs[call] = len(needed)
            for other in needed:
                waiting.setdefault(other, []).append(call)
        ready = [call for call, count in needs.items() if not count]
        for call in ready:  # which grows meanwhile
            self._follow(call, *calls[call])
            for other in waiting.get(call, ()):
                needs[other] -= 1
                if not needs[other]:
                    ready.append(other)

    def is_mask(self, name: str) -> bool:
        """Whether an operation of this name is a part of what computes a mask."""
        return name in self._operations

    def of(self, history: History) -> int | None:
        """The mask that a value brings along by itself; None where that is not known."""
        mask = self._masks.get(history, _UNKNOWN)
        return None if mask == _UNKNOWN else mask

    def comes_by_itself(self, node: dict[str, Any]) -> bool | None:
        """Whether a call would have the masks that it is given without them too; None: not known."""
        inputs = [self.of(history) for history in histories(node.get("args"))]
        given = node["kwargs"].get("mask")
        several = given if isinstance(given, list) else [given]
        wanted: list[int | None] = []
        for one in several:
            names = [history[0] for history in histories([one])]
            wanted.append(
                NONE if one is None else self._operations.get(names[0]) if len(names) == 1 else None
            )
        if None in wanted or None in inputs[: len(wanted)] or _UNKNOWN in wanted:
            return None
        return wanted == inputs[: len(wanted)]

    # --- formulas ---------------------------------------------------------------------------------

    def _number(self, formula: Any) -> int:
        return self._formulas.setdefault(formula, len(self._formulas) + 2)

    def _union(self, masks: Sequence[int]) -> int:
        """Steps that count in any of these."""
        if _UNKNOWN in masks:
            return _UNKNOWN
        if ALL in masks:
            return ALL
        parts = frozenset[int]().union(*(self._parts.get(m, frozenset([m])) for m in masks)) - {NONE}
        if len(parts) <= 1:
            return next(iter(parts), NONE)
        if len(parts) > _MOST:
            return _UNKNOWN
        number = self._number(parts)
        self._parts[number] = parts
        return number

    def _in_time(self, masks: Sequence[int]) -> int:
        """Steps one behind the other."""
        if _UNKNOWN in masks or set(masks) == {ALL}:
            return _UNKNOWN if _UNKNOWN in masks else ALL
        return self._number(("time", tuple(masks)))

    # --- calls ------------------------------------------------------------------------------------

    def _follow(self, call: tuple[str, int], one: dict[str, Any], node: dict[str, Any]) -> None:
        name, kind = call[0], one.get("class_name")
        config = one.get("config")
        config = config if isinstance(config, dict) else {}
        given = list(histories(node.get("args")))
        if is_operation(one):
            mask = self._of_operation(kind, config, node, given)
            if mask is not None and call[1] == 0:
                self._operations[name] = mask
            else:
                self._masks[(*call, 0)] = NONE  # what operations give has none
            return
        masks = [self._masks.get(history, _UNKNOWN) for history in given]
        self._masks[(*call, 0)] = self._of_layer(str(kind), config, given, masks)

    def _of_operation(self, kind: Any, config: dict[str, Any], node: Any, given: list[History]) -> int | None:
        """The mask that an operation computes; None where it is none."""
        if kind not in _OPERATIONS or not given:
            return None
        args = node.get("args")
        if kind in ("ZerosLike", "OnesLike"):
            flags = config.get("dtype") == "bool"
            return (NONE if kind == "ZerosLike" else ALL) if flags else None
        if kind == "NotEqual":
            plain = isinstance(args, list) and len(args) == 2 and isinstance(args[1], int | float)
            return self._number((given[0], float(args[1]))) if plain and len(given) == 1 else None
        masks = [self._operations.get(history[0]) for history in given]
        if None in masks:
            return None
        known = [mask for mask in masks if mask is not None]
        if kind == "Concatenate":
            time = config.get("axis") in (1, -2)
            return self._in_time(known) if time else self._union(known)
        if kind in ("Any", "ExpandDims"):
            return known[0] if config.get("axis", -1) == -1 else _UNKNOWN
        return self._union(known)

    def _of_layer(self, kind: str, config: dict[str, Any], given: list[History], masks: list[int]) -> int:
        """The mask of the first output of a layer."""
        if kind == "Embedding":
            return self._number((given[0], 0.0)) if config.get("mask_zero") is True and given else NONE
        if kind == "Masking":
            value = config.get("mask_value", 0.0)
            return (
                self._number((given[0], float(value)))
                if isinstance(value, int | float) and given
                else _UNKNOWN
            )
        if kind in STOPPING or not masks or config.get("ends_masks") is True:
            return NONE
        if kind in _PASSING or kind in _ATTENTION:
            return masks[0]
        if kind in (*RECURRENT, "Bidirectional"):
            return masks[0] if _gives_sequences(kind, config) else NONE
        if kind in ELEMENTWISE:
            return NONE if NONE in masks else self._union(masks)
        if kind == "Concatenate":
            if set(masks) == {NONE}:
                return NONE
            full = [ALL if mask == NONE else mask for mask in masks]
            return self._in_time(full) if config.get("axis") in (1, -2) else self._union(full)
        return _UNKNOWN

    def disagreement(self, one: dict[str, Any]) -> bool:
        """Whether Keras 2, where a step must count in all inputs, has another mask behind this layer."""
        kind = one.get("class_name")
        config = one.get("config")
        time = isinstance(config, dict) and config.get("axis") in (1, -2)
        if kind not in (*ELEMENTWISE, "Concatenate") or (kind == "Concatenate" and time):
            return False
        for node in one.get("inbound_nodes") or ():
            masks = {self.of(history) for history in histories(node.get("args"))}
            if len(masks) > 1:
                return True
        return False


def _gives_sequences(kind: str, config: dict[str, Any]) -> bool:
    inner = config.get("layer") if kind == "Bidirectional" else {"config": config}
    held = inner.get("config") if isinstance(inner, dict) else None
    return isinstance(held, dict) and held.get("return_sequences") is True
