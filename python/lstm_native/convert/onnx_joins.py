"""Merging layers and attention as nodes of ONNX: layers of several inputs, which `onnx_writer` has not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lstm_native.arrays import Shape
from lstm_native.convert.onnx_nodes import Flow, Writer, refused
from lstm_native.layers import (
    Add,
    Attention,
    Average,
    Concatenate,
    Dot,
    Maximum,
    Minimum,
    Multiply,
    Subtract,
)
from lstm_native.layers.merging_axes import EPSILON

_OPERATORS: dict[type, str] = {
    Add: "Add", Average: "Add", Subtract: "Sub", Multiply: "Mul", Maximum: "Max", Minimum: "Min",
}  # fmt: skip


def write_joined(writer: Writer, layer: Any, flows: Sequence[Flow], shapes: Sequence[Shape]) -> list[Flow]:
    """What a layer of several inputs computes.

    Args:
        writer: gets the nodes.
        layer: the layer.
        flows: its inputs.
        shapes: of the inputs, None where unknown.

    Raises:
        ValueError: this writer does not have it.
    """
    write = _LAYERS.get(type(layer))
    if write is None:
        raise refused(layer, f"a {type(layer).__name__} of several inputs has no counterpart")
    return [write(writer, layer, flows, shapes)]


# --- elementwise ----------------------------------------------------------------------------------


def _elementwise(writer: Writer, layer: Any, flows: Sequence[Flow], shapes: Sequence[Shape]) -> Flow:
    rank = max(map(len, shapes))
    raised = [_raised(writer, x.name, len(shape), rank) for x, shape in zip(flows, shapes, strict=True)]
    masks = [
        None if x.mask is None else _raised(writer, _over(writer, x.mask, len(shape)), len(shape), rank)
        for x, shape in zip(flows, shapes, strict=True)
    ]
    every = [x.mask for x in flows if x.mask is not None]
    mask = _any(writer, every) if len(every) == len(flows) else None
    op = _OPERATORS[type(layer)]
    if every and type(layer) is Multiply:
        one = writer.constant(np.float32(1))
        raised = [
            x if m is None else writer.node("Where", m, x, one) for x, m in zip(raised, masks, strict=True)
        ]
    if every and type(layer) in (Maximum, Minimum):
        joined = _best(writer, op, raised, masks)
    else:
        joined = raised[0]
        for x in raised[1:]:
            joined = writer.node(op, joined, x)
    if type(layer) is Average:
        joined = writer.node("Mul", joined, writer.constant(np.float32(1 / len(flows))))
    if mask is not None and type(layer) is Multiply:  # steps that count nowhere are zero
        shown = _any(writer, [m for m in masks if m is not None])
        joined = writer.node("Where", shown, joined, writer.constant(np.float32(0)))
    return Flow(writer.node("Identity", joined, name=layer.name), mask)


def _best(writer: Writer, op: str, inputs: Sequence[str], masks: Sequence[str | None]) -> str:
    """The largest or smallest of the inputs that count; where none does, the first."""
    best, valid = inputs[0], masks[0]
    for x, mask in zip(inputs[1:], masks[1:], strict=True):
        kept = x if mask is None else writer.node("Where", mask, x, best)
        if valid is not None:
            best = writer.node("Where", valid, best, kept)
        best = writer.node(op, best, kept)
        valid = None if valid is None or mask is None else writer.node("Or", valid, mask)
    return best


def _raised(writer: Writer, x: str, own: int, rank: int) -> str:
    """`x`, of `own` axes, with axes of size 1 behind the batch until there are `rank`."""
    return x if own == rank else writer.node("Unsqueeze", x, writer.ints(*range(1, 1 + rank - own)))


def _over(writer: Writer, mask: str, rank: int) -> str:
    """A mask (batch, time) for a tensor of `rank` axes."""
    return mask if rank <= 2 else writer.node("Unsqueeze", mask, writer.ints(*range(2, rank)))


def _any(writer: Writer, masks: Sequence[str]) -> str:
    joined = masks[0]
    for mask in masks[1:]:
        joined = writer.node("Or", joined, mask)
    return joined


# --- along axes -----------------------------------------------------------------------------------


def _concatenate(writer: Writer, layer: Any, flows: Sequence[Flow], shapes: Sequence[Shape]) -> Flow:
    rank = len(shapes[0])
    axis = layer.axis % rank
    joined = writer.node("Concat", *(x.name for x in flows), name=layer.name, axis=axis)
    masks = [x.mask for x in flows]
    if rank < 3 or set(masks) == {None}:
        return Flow(joined)
    if axis == 1:
        full = [_all(writer, x.name) if x.mask is None else x.mask for x in flows]
        return Flow(joined, writer.node("Concat", *full, axis=1))
    # Where one input has no mask, all steps count.
    every = [mask for mask in masks if mask is not None]
    return Flow(joined, _any(writer, every) if len(every) == len(masks) else None)


def _all(writer: Writer, x: str) -> str:
    """A mask of `x` in which every step counts."""
    size = writer.node("Slice", writer.node("Shape", x), writer.ints(0), writer.ints(2), writer.ints(0))
    return writer.node("Expand", writer.constant(np.array([[True]])), size)


def _dot(writer: Writer, layer: Any, flows: Sequence[Flow], shapes: Sequence[Shape]) -> Flow:
    ranks = [len(shape) for shape in shapes]
    if max(ranks) > 3:
        raise refused(layer, f"its inputs have {ranks} axes, expected 2 or 3")
    axes = layer.axes if isinstance(layer.axes, list | tuple) else (layer.axes, layer.axes)
    sides = []
    for x, rank, axis in zip(flows, ranks, axes, strict=True):
        name = x.name
        if layer.normalize:
            total = writer.node(
                "ReduceSum", writer.node("Mul", name, name), writer.ints(axis % rank), keepdims=1
            )
            inverse = writer.node("Reciprocal", writer.node("Sqrt", total))
            name = writer.node(
                "Mul", name, writer.node("Min", inverse, writer.constant(np.float32(1 / EPSILON)))
            )
        # The summed axis last: (batch, others, size).
        if rank == 2:
            name = writer.node("Unsqueeze", name, writer.ints(1))
        elif axis % rank == 1:
            name = writer.node("Transpose", name, perm=[0, 2, 1])
        sides.append(name)
    product = writer.node("MatMul", sides[0], writer.node("Transpose", sides[1], perm=[0, 2, 1]))
    if 2 in ranks:
        product = writer.node("Squeeze", product, writer.ints(1 if ranks[0] == 2 else 2))
    return Flow(writer.node("Identity", product, name=layer.name))


# --- attention ------------------------------------------------------------------------------------


def _attention(writer: Writer, layer: Any, flows: Sequence[Flow], shapes: Sequence[Shape]) -> Flow:
    if layer.score_mode != "dot":
        raise refused(layer, f"score_mode is {layer.score_mode!r}, expected 'dot'")
    query, value, key = (*flows, flows[1])[:3]
    scores = writer.node("MatMul", query.name, writer.node("Transpose", key.name, perm=[0, 2, 1]))
    if layer.scale is not None:
        scores = writer.node("Mul", scores, writer.weight(layer.scale.numpy(), f"{layer.name}/scale"))
    if value.mask is not None:
        seen = writer.node("Unsqueeze", value.mask, writer.ints(1))
        far = writer.node("Sub", scores, writer.constant(np.float32(1e9)))  # as the layer has it
        scores = writer.node("Where", seen, scores, far)
    outputs = writer.node("MatMul", writer.node("Softmax", scores, axis=-1), value.name)
    if query.mask is not None:
        shown = writer.node("Unsqueeze", query.mask, writer.ints(2))
        outputs = writer.node("Where", shown, outputs, writer.constant(np.float32(0)))
    return Flow(writer.node("Identity", outputs, name=layer.name), query.mask)


_LAYERS: dict[type, Callable[[Writer, Any, Sequence[Flow], Sequence[Shape]], Flow]] = {
    **dict.fromkeys(_OPERATORS, _elementwise),
    Concatenate: _concatenate,
    Dot: _dot,
    Attention: _attention,
}
