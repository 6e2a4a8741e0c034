"""Recurrent layers as nodes of ONNX, with masks of any pattern, which ONNX has not."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from lstm_native.convert.onnx_nodes import Flow, Writer, cast, refused, turned
from lstm_native.convert.onnx_recurrent import directions_of, operator_of
from lstm_native.layers import GRU, LSTM, Bidirectional, SimpleRNN


class _StepsInFront:
    """Moves the steps that count to the front, where `sequence_lens` wants them, and outputs back.

    Args:
        writer: the graph.
        mask: bool (batch, time), of any pattern.
    """

    def __init__(self, writer: Writer, mask: str) -> None:
        self._writer = writer
        self._mask = mask
        numbers = cast(writer, mask, "INT64")
        self._count = writer.node("CumSum", numbers, writer.constant(np.int64(1)))
        total = writer.node("ReduceSum", numbers, writer.ints(1), keepdims=0)
        self.lengths = cast(writer, total, "INT32")
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
        y = turned(writer, y) if layer.go_backwards else y
        return y, [writer.node("Squeeze", state, writer.ints(0)) for state in last]
    writer.plain = False
    flow, mask = x.name, x.mask
    if layer.go_backwards:
        flow, mask = turned(writer, flow), turned(writer, mask)
    moved = _StepsInFront(writer, mask)
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


def write_recurrent(writer: Writer, layer: Any, x: Flow, states: Sequence[str] = ()) -> list[Flow]:
    """What a recurrent layer computes.

    Args:
        writer: gets the nodes.
        layer: the layer.
        x: its input.
        states: its initial states, zero by default.

    Raises:
        ValueError: ONNX does not have it.
    """
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
    count = len(parts[0].named_state_sizes())
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
        for part, s in zip(parts, (states[:count], states[count:]), strict=True)
    ]
    outputs = []
    for number, (y, last) in enumerate(results):
        if layer.return_sequences:
            outputs.append(turned(writer, y) if number else y)
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
