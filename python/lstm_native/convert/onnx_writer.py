"""Layers as nodes of ONNX: one function for each kind of layer, on names of values."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_native import activations
from lstm_native.convert.conversion import Conversion
from lstm_native.convert.layouts import Array
from lstm_native.convert.onnx_recurrent import directions_of, operator_of
from lstm_native.layers import (
    GRU,
    LSTM,
    Activation,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    InputLayer,
    Layer,
    LayerNormalization,
    Masking,
    RepeatVector,
    Rescaling,
    SimpleRNN,
    TimeDistributed,
)
from lstm_native.layers.base import ActivityPenalty

FAR = (1 << 63) - 1  # "to the end" of a Slice


@dataclass(frozen=True)
class Flow:
    """A value (batch, time, features) or (batch, features), and its mask (batch, time); names of both."""

    name: str
    mask: str | None = None


class Writer:
    """Nodes and weights of a graph in the making.

    Args:
        record: gets the conventions.

    Attributes:
        nodes: `onnx.NodeProto`s.
        initializers: `onnx.TensorProto`s.
        plain: whether recurrent nodes have nothing that onnx.reference passes over.
    """

    def __init__(self, record: Conversion) -> None:
        self.record = record
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.plain = True
        self._names: set[str] = set()
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def unique(self, wanted: str) -> str:
        """`wanted`, with a number where it is taken."""
        name, number = wanted, 1
        while name in self._names:
            name, number = f"{wanted}_{number}", number + 1
        self._names.add(name)
        return name

    def weight(self, array: Array, name: str) -> str:
        """An initializer."""
        from onnx import numpy_helper

        name = self.unique(name)
        self.initializers.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def ints(self, *values: int) -> str:
        """A constant list of int64."""
        return self.constant(np.array(values, np.int64))

    def constant(self, array: Any) -> str:
        """A small constant, one for all who want the same."""
        array = np.asarray(array)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.weight(array, "constant")
        return self._constants[key]

    def node(self, op: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """A node of one output; returns its name."""
        return self.nodes_outputs(op, inputs, [name or op.lower()], **attributes)[0]

    def nodes_outputs(
        self, op: str, inputs: Sequence[str], names: Sequence[str], **attributes: Any
    ) -> list[str]:
        """A node of several outputs; returns their names."""
        from onnx import helper

        outputs = [self.unique(name) for name in names]
        self.nodes.append(helper.make_node(op, list(inputs), outputs, name=outputs[0], **attributes))
        return outputs

    def layer(self, layer: Layer, inputs: Sequence[Flow], states: Sequence[str]) -> list[Flow]:
        """Adds what a layer computes.

        Raises:
            ValueError: ONNX, or this writer, does not have it.
        """
        write = _LAYERS.get(type(layer))
        if write is None:
            raise ValueError(
                f"to_onnx: {layer.label()}: {type(layer).__name__} has no counterpart, expected one of "
                f"{', '.join(sorted(kind.__name__ for kind in _LAYERS if kind is not ActivityPenalty))}"
            )
        if states:
            return _recurrent(self, layer, inputs[0], states)
        return write(self, layer, inputs[0])


def refused(layer: Layer, why: str) -> ValueError:
    """The error for a layer that cannot be written."""
    return ValueError(f"to_onnx: {layer.label()}: {why}")


# --- activations ----------------------------------------------------------------------------------

# Operator and attributes.
_OPERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
    "elu": ("Elu", {"alpha": 1.0}),
    "celu": ("Elu", {"alpha": 1.0}),
    "selu": ("Selu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "hard_silu": ("HardSwish", {}),
    "exponential": ("Exp", {}),
    "softmax": ("Softmax", {"axis": -1}),
    "log_softmax": ("LogSoftmax", {"axis": -1}),
}


def _activate(writer: Writer, layer: Layer, function: Any, x: str, name: str) -> str:
    """Applies an activation; `name` is what the result is called."""
    kind = activations.native_name(function)
    scalar = np.float32
    if kind == "linear":
        return x
    if kind in _OPERATORS:
        op, attributes = _OPERATORS[kind]
        if kind == "hard_sigmoid":
            writer.record.note(
                "hard_sigmoid: x / 6 + 0.5 here, the operator's alpha is 0.2 by default; written as 1 / 6"
            )
        return writer.node(op, x, name=name, **attributes)
    if kind in ("relu6", "hard_tanh"):
        low, high = (0, 6) if kind == "relu6" else (-1, 1)
        return writer.node("Clip", x, writer.constant(scalar(low)), writer.constant(scalar(high)), name=name)
    if kind in ("silu", "mish"):
        gate = (
            writer.node("Sigmoid", x) if kind == "silu" else writer.node("Tanh", writer.node("Softplus", x))
        )
        return writer.node("Mul", x, gate, name=name)
    if kind == "log_sigmoid":
        return writer.node("Neg", writer.node("Softplus", writer.node("Neg", x)), name=name)
    if kind == "tanh_shrink":
        return writer.node("Sub", x, writer.node("Tanh", x), name=name)
    if kind == "gelu":
        erf = writer.node("Erf", writer.node("Mul", x, writer.constant(scalar(np.sqrt(0.5)))))
        twice = writer.node("Mul", x, writer.node("Add", erf, writer.constant(scalar(1))))
        return writer.node("Mul", twice, writer.constant(scalar(0.5)), name=name)
    raise refused(layer, f"activation is {activations.name_of(function)}, which has no counterpart")


# --- layers without time --------------------------------------------------------------------------


def _pass(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    return [x]


def _dense(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    product = writer.node(
        "MatMul",
        x.name,
        writer.weight(layer.kernel.numpy(), f"{layer.name}/kernel"),
        name=f"{layer.name}/product",
    )
    if layer.bias is not None:
        bias = writer.weight(layer.bias.numpy(), f"{layer.name}/bias")
        product = writer.node("Add", product, bias, name=f"{layer.name}/sum")
    return [Flow(_activate(writer, layer, layer.activation, product, layer.name), x.mask)]


def _activation(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    return [Flow(_activate(writer, layer, layer.activation, x.name, layer.name), x.mask)]


def _embedding(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    table = writer.weight(layer.embeddings.numpy(), f"{layer.name}/embeddings")
    mask = x.mask
    if layer.mask_zero:
        zero = writer.constant(np.int32(0))
        mask = _both(writer, writer.node("Not", writer.node("Equal", x.name, zero)), mask)
    return [Flow(writer.node("Gather", table, x.name, name=layer.name, axis=0), mask)]


def _masking(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    differs = writer.node("Not", writer.node("Equal", x.name, writer.constant(np.float32(layer.mask_value))))
    flags = writer.node("ReduceMax", _number(writer, differs), axes=[-1], keepdims=0)
    mask = _both(writer, writer.node("Cast", flags, to=_type("BOOL")), x.mask)
    kept = writer.node(
        "Where",
        writer.node("Unsqueeze", mask, writer.ints(2)),
        x.name,
        writer.constant(np.float32(0)),
        name=layer.name,
    )
    return [Flow(kept, mask)]


def _layer_normalization(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    if layer.axis not in (-1, [-1]) or layer.rms_scaling:
        raise refused(
            layer, f"axis is {layer.axis} and rms_scaling {layer.rms_scaling}, expected -1 and False"
        )
    size = layer.compute_output_shape(layer._sizes)[-1]
    gamma = np.ones(size, np.float32) if layer.gamma is None else layer.gamma.numpy()
    inputs = [x.name, writer.weight(gamma, f"{layer.name}/gamma")]
    if layer.beta is not None:
        inputs.append(writer.weight(layer.beta.numpy(), f"{layer.name}/beta"))
    return [
        Flow(
            writer.node("LayerNormalization", *inputs, name=layer.name, axis=-1, epsilon=layer.epsilon),
            x.mask,
        )
    ]


def _rescaling(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    scale, offset = (writer.constant(np.asarray(n, np.float32)) for n in (layer.scale, layer.offset))
    scaled = writer.node("Mul", x.name, scale)
    return [Flow(writer.node("Add", scaled, offset, name=layer.name), x.mask)]


# --- layers around time ---------------------------------------------------------------------------


def _time_distributed(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    inner = layer.layer
    last_axis = type(inner) in (Dense, Activation, Dropout) or type(inner) is LayerNormalization
    if not last_axis:
        raise refused(
            layer,
            f"it holds a {type(inner).__name__}, expected Dense, Activation, Dropout or LayerNormalization",
        )
    return writer.layer(inner, [x], [])


def _flatten(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    if layer.data_format != "channels_last":
        raise refused(layer, f"data_format is {layer.data_format!r}, expected 'channels_last'")
    return [Flow(writer.node("Flatten", x.name, name=layer.name, axis=1))]


def _repeat_vector(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    column = writer.node("Unsqueeze", x.name, writer.ints(1))
    return [Flow(writer.node("Tile", column, writer.ints(1, layer.n, 1), name=layer.name))]


def _pooling(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    axis = 1 if layer.data_format == "channels_last" else 2
    options = {"axes": [axis], "keepdims": int(layer.keepdims)}
    if type(layer) is GlobalMaxPooling1D:
        return [Flow(writer.node("ReduceMax", x.name, name=layer.name, **options))]
    if x.mask is None:
        return [Flow(writer.node("ReduceMean", x.name, name=layer.name, **options))]
    flags = writer.node("Unsqueeze", _number(writer, x.mask), writer.ints(3 - axis))
    axes, keep = writer.ints(axis), options["keepdims"]
    total = writer.node("ReduceSum", writer.node("Mul", x.name, flags), axes, keepdims=keep)
    count = writer.node("ReduceSum", flags, axes, keepdims=keep)
    return [
        Flow(
            writer.node(
                "Div", total, writer.node("Max", count, writer.constant(np.float32(1))), name=layer.name
            )
        )
    ]


# --- masks ----------------------------------------------------------------------------------------


def _type(name: str) -> int:
    import onnx

    return int(getattr(onnx.TensorProto, name))


def _number(writer: Writer, flags: str, to: str = "FLOAT") -> str:
    return writer.node("Cast", flags, to=_type(to))


def _both(writer: Writer, mask: str, before: str | None) -> str:
    return mask if before is None else writer.node("And", mask, before)


def _turned(writer: Writer, x: str) -> str:
    """The time axis, 1, the other way round."""
    return writer.node("Slice", x, writer.ints(-1), writer.ints(-FAR), writer.ints(1), writer.ints(-1))


class _Masked:
    """Moves the steps that count to the front, where `sequence_lens` wants them, and outputs back.

    Args:
        writer: the graph.
        mask: bool (batch, time), of any pattern.
    """

    def __init__(self, writer: Writer, mask: str) -> None:
        self._writer = writer
        self._mask = mask
        numbers = _number(writer, mask, "INT64")
        self._count = writer.node("CumSum", numbers, writer.constant(np.int64(1)))
        total = writer.node("ReduceSum", numbers, writer.ints(1), keepdims=0)
        self.lengths = _number(writer, total, "INT32")
        # Steps in the order "counts first", otherwise by time: keys are distinct, so no order is left open.
        time = writer.node(
            "Slice", writer.node("Shape", mask), writer.ints(1), writer.ints(2), writer.ints(0)
        )
        scalar = writer.node("Squeeze", time)
        clock = writer.node("Range", writer.constant(np.int64(0)), scalar, writer.constant(np.int64(1)))
        keys = writer.node("Sub", writer.node("Mul", numbers, scalar), clock)
        _, self._order = writer.nodes_outputs(
            "TopK", [keys, time], ["keys", "order"], axis=1, sorted=1, largest=1
        )

    def _taken(self, x: str, steps: str) -> str:
        writer = self._writer
        return writer.node("GatherND", x, writer.node("Unsqueeze", steps, writer.ints(2)), batch_dims=1)

    def forward(self, x: str) -> str:
        """The steps that count in front."""
        return self._taken(x, self._order)

    def back(self, y: str, zero: bool) -> str:
        """Outputs at their places; others repeat the one before them, or are zero."""
        writer = self._writer
        one, nothing = writer.constant(np.int64(1)), writer.constant(np.int64(0))
        last = writer.node("Max", writer.node("Sub", self._count, one), nothing)
        shown = self._mask if zero else writer.node("Greater", self._count, nothing)
        return writer.node(
            "Where",
            writer.node("Unsqueeze", shown, writer.ints(2)),
            self._taken(y, last),
            writer.constant(np.float32(0)),
        )


# --- recurrent layers -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Outputs:
    """Of each direction: the sequence (batch, time, units) in the layer's order, and its states."""

    sequences: list[str]
    states: list[list[str]]


def _run(writer: Writer, layers: Sequence[Any], x: Flow, states: Sequence[str]) -> tuple[str, list[str]]:
    """Y (time, directions, batch, units) and the states (directions, batch, units) of one ONNX node."""
    writer.record.note(
        "gates: our columns became ONNX's rows, in its order; weights are transposed, time comes first inside"
    )
    op, attributes, weights = operator_of(layers)
    name = layers[0].name
    if {"activations", "clip", "input_forget"} & set(attributes):
        writer.plain = False
    given = {key: writer.weight(array, f"{name}/{key}") for key, array in weights.items()}
    time_first = writer.node("Transpose", x.name, perm=[1, 0, 2])
    count = len(states) // len(layers)
    initial = []
    for number in range(count):
        each = [
            writer.node("Unsqueeze", states[number + i * count], writer.ints(0)) for i in range(len(layers))
        ]
        initial.append(each[0] if len(each) == 1 else writer.node("Concat", *each, axis=0))
    inputs = [time_first, given["W"], given["R"], given.get("B", ""), x.mask or "", *(initial or [""])]
    if op == "LSTM":
        inputs += [""] * (7 - len(inputs)) + [given.get("P", "")]
    while not inputs[-1]:
        inputs.pop()
    outputs = [f"{name}/{key}" for key in (("Y", "Y_h", "Y_c") if op == "LSTM" else ("Y", "Y_h"))]
    y, *last = writer.nodes_outputs(op, inputs, outputs, **attributes)
    return y, last


def _one_direction(writer: Writer, layer: Any, x: Flow, states: Sequence[str]) -> tuple[str, list[str]]:
    """Sequence (batch, time, units) in the order of its computation, and the states (batch, units)."""
    if x.mask is None:
        y, last = _run(writer, [layer], x, states)
        y = writer.node("Transpose", writer.node("Squeeze", y, writer.ints(1)), perm=[1, 0, 2])
        y = _turned(writer, y) if layer.go_backwards else y
        return y, [writer.node("Squeeze", state, writer.ints(0)) for state in last]
    writer.plain = False
    flow, mask = x.name, x.mask
    if layer.go_backwards:
        flow, mask = _turned(writer, flow), _turned(writer, mask)
    moved = _Masked(writer, mask)
    writer.record.note(
        f"{layer.name}: steps that the mask leaves out are moved behind the others, where sequence_lens "
        "wants them, and outputs back"
    )
    y, last = _run(writer, [_forwards(layer)], Flow(moved.forward(flow), moved.lengths), states)
    y = writer.node("Transpose", writer.node("Squeeze", y, writer.ints(1)), perm=[1, 0, 2])
    finals = [writer.node("Squeeze", state, writer.ints(0)) for state in last]
    if states:  # a row without any step keeps its state; sequence_lens of 0 leaves that open
        any_step = writer.node(
            "Unsqueeze", writer.node("Greater", moved.lengths, writer.constant(np.int32(0))), writer.ints(1)
        )
        finals = [writer.node("Where", any_step, new, old) for new, old in zip(finals, states, strict=True)]
    return moved.back(y, layer.zero_output_for_mask), finals


def _forwards(layer: Any) -> Any:
    """The layer, reading forwards: its inputs were turned round already."""
    if not layer.go_backwards:
        return layer
    other = copy.copy(layer)
    other.go_backwards = False
    return other


def _check(layer: Any) -> None:
    for part in directions_of(layer):
        if type(part) not in (LSTM, GRU, SimpleRNN):
            raise refused(layer, f"it holds a {type(part).__name__}, expected LSTM, GRU or SimpleRNN")
        if part.stateful:
            raise refused(
                layer,
                "stateful is True, but a model of ONNX keeps nothing between calls; export a stateless copy",
            )


def _recurrent(writer: Writer, layer: Any, x: Flow, states: Sequence[str] = ()) -> list[Flow]:
    if not isinstance(layer, LSTM | GRU | SimpleRNN | Bidirectional):
        raise refused(layer, "it is given states, which recurrent layers take alone")
    _check(layer)
    try:
        if isinstance(layer, Bidirectional):
            return _bidirectional(writer, layer, x, states)
        y, last = _one_direction(writer, layer, x, states)
    except ValueError as error:
        raise error if str(error).startswith("to_onnx") else ValueError(f"to_onnx: {error}") from None
    if layer.return_sequences:
        first = Flow(y, x.mask)
    elif x.mask is not None and layer.zero_output_for_mask:
        first = Flow(writer.node("Gather", y, writer.constant(np.int64(-1)), axis=1))
    else:
        first = Flow(last[0])
    return [first, *(Flow(state) for state in last)] if layer.return_state else [first]


_MERGES = {"sum": "Add", "mul": "Mul", "ave": "Add", "concat": "Concat"}


def _bidirectional(writer: Writer, layer: Any, x: Flow, states: Sequence[str]) -> list[Flow]:
    parts = directions_of(layer)
    mask = x.mask if layer.return_sequences else None
    half = len(states) // 2
    joint = (
        x.mask is None
        and type(parts[0]) is type(parts[1])
        and parts[0].units == parts[1].units
        and not parts[0].go_backwards
    )
    if joint:
        return _joint(writer, layer, x, states)
    results = [
        _one_direction(writer, part, x, s)
        for part, s in zip(parts, (states[:half], states[half:]), strict=True)
    ]
    outputs = []
    for number, (y, last) in enumerate(results):
        if layer.return_sequences:
            outputs.append(_turned(writer, y) if number else y)
        else:
            outputs.append(last[0])
    every = [Flow(state) for _, last in results for state in last]
    if layer.merge_mode is None:
        return [*(Flow(y, mask) for y in outputs), *(every if layer.return_state else [])]
    op = _MERGES[layer.merge_mode]
    joined = writer.node(op, *outputs, name=layer.name, **({"axis": -1} if op == "Concat" else {}))
    if layer.merge_mode == "ave":
        joined = writer.node("Mul", joined, writer.constant(np.float32(0.5)))
    return [Flow(joined, mask), *(every if layer.return_state else [])]


_REDUCTIONS = {"sum": "ReduceSum", "mul": "ReduceProd", "ave": "ReduceMean"}


def _joint(writer: Writer, layer: Any, x: Flow, states: Sequence[str]) -> list[Flow]:
    """Both directions in one node."""
    parts = directions_of(layer)
    y, last = _run(writer, parts, x, states)
    # The directions come before the units: (batch, time, directions, units) or (batch, directions, units).
    whole = layer.return_sequences
    both = writer.node("Transpose", y if whole else last[0], perm=[2, 0, 1, 3] if whole else [1, 0, 2])
    axis = 2 if whole else 1
    outputs: list[Flow] = []
    if layer.merge_mode is None:
        numbers = [writer.constant(np.int64(number)) for number in range(2)]
        outputs += [Flow(writer.node("Gather", both, number, axis=axis)) for number in numbers]
    elif layer.merge_mode == "concat":
        shape = writer.ints(*(0,) * axis, 2 * parts[0].units)
        outputs.append(Flow(writer.node("Reshape", both, shape, name=layer.name)))
    else:
        op = _REDUCTIONS[layer.merge_mode]
        if op == "ReduceSum":
            joined = writer.node(op, both, writer.ints(axis), name=layer.name, keepdims=0)
        else:
            joined = writer.node(op, both, name=layer.name, axes=[axis], keepdims=0)
        outputs.append(Flow(joined))
    if layer.return_state:
        for number in range(2):
            outputs += [
                Flow(writer.node("Gather", state, writer.constant(np.int64(number)), axis=0))
                for state in last
            ]
    return outputs


_LAYERS: dict[type, Callable[[Writer, Any, Flow], list[Flow]]] = {
    InputLayer: _pass,
    Dropout: _pass,
    ActivityPenalty: _pass,
    Dense: _dense,
    Activation: _activation,
    Embedding: _embedding,
    Masking: _masking,
    LayerNormalization: _layer_normalization,
    Rescaling: _rescaling,
    TimeDistributed: _time_distributed,
    Flatten: _flatten,
    RepeatVector: _repeat_vector,
    GlobalMaxPooling1D: _pooling,
    GlobalAveragePooling1D: _pooling,
    LSTM: _recurrent,
    GRU: _recurrent,
    SimpleRNN: _recurrent,
    Bidirectional: _recurrent,
}
