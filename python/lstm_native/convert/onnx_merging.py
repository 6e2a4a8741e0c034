"""Operators of ONNX on several tensors that the model computes, as merging layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lstm_native.convert import onnx_moves as moves
from lstm_native.convert.onnx_file import Node
from lstm_native.convert.onnx_flow import Axis, B, Call, F, Flow, T, Tensor
from lstm_native.convert.onnx_shapes import normal_axes
from lstm_native.convert.onnx_uses import Uses, is_both_directions
from lstm_native.layers import (
    Activation,
    Add,
    Average,
    Concatenate,
    Dot,
    Maximum,
    Minimum,
    Multiply,
    Subtract,
)

# Operators that take several tensors element by element.
KINDS: dict[str, Any] = {
    "Add": Add, "Sum": Add, "Sub": Subtract, "Mul": Multiply, "Max": Maximum, "Min": Minimum, "Mean": Average,
}  # fmt: skip
# What both directions of a recurrent operator become by the layer itself.
_BOTH = {"Add": "sum", "Sum": "sum", "Mul": "mul", "Mean": "ave"}


class Merging(Uses):
    """Follows operators that join tensors."""

    def _merged(self, node: Node, given: Sequence[Flow]) -> Flow:
        """Tensors element by element; x * sigmoid(x) is an activation."""
        flows = self._one_way([self._settled(x) for x in given])
        axes = self._common_axes(node, flows)
        count = max(len(x.parts) for x in flows)
        silu = self._silu(node, flows)
        if silu is not None:
            return silu
        parts = []
        for i in range(count):
            each = [x.parts[i if len(x.parts) > 1 else 0] for x in flows]
            if node.op in _BOTH and is_both_directions(each):
                parts.append(self._joined(replace(flows[0], parts=tuple(each)), _BOTH[node.op]))
            else:
                parts.append(each[0] if len(each) == 1 else self._merge(KINDS[node.op], each))
        return Flow(tuple(parts), axes, any(x.flipped for x in flows))

    def _one_way(self, flows: Sequence[Flow]) -> list[Flow]:
        """The flows with their times running the same way."""
        ways = {x.flipped for x in flows if any("T" in axis for axis in x.axes)}
        return [self._unflipped(x) for x in flows] if len(ways) > 1 else list(flows)

    def _common_axes(self, node: Node, flows: Sequence[Flow]) -> tuple[Axis, ...]:
        """The axes of the result; ONNX counts those of each from the end."""
        rank = max(len(x.axes) for x in flows)
        wide = [((),) * (rank - len(x.axes)) + x.axes for x in flows]
        axes = []
        for kinds in zip(*wide, strict=True):
            found = set(kinds) - {()}
            if len(found) > 1:
                texts = "; ".join(f"({', '.join(map(moves.describe, x.axes))})" for x in flows)
                raise node.error(f"its inputs have the axes {texts}, which layers do not join")
            axes.append(found.pop() if found else ())
        counts = {len(x.parts) for x in flows} - {1}
        if len(counts) > 1:
            raise node.error(f"its inputs are made of {sorted(counts)} tensors, which has no counterpart")
        return tuple(axes)

    def _silu(self, node: Node, flows: Sequence[Flow]) -> Flow | None:
        if node.op != "Mul" or len(flows) != 2 or {len(x.parts) for x in flows} != {1}:
            return None
        for x, gate in (flows, flows[::-1]):
            source = gate.parts[0].source
            if not isinstance(source, Call) or source.input is not x.parts[0] or x.axes != gate.axes:
                continue
            if source.holder.kind is Activation and source.holder.arguments == {"activation": "sigmoid"}:
                return self._activation(x, "silu")
        return None

    def _activation(self, x: Flow, name: Any) -> Flow:
        raise NotImplementedError

    def _averaged(self, x: Flow, factor: float) -> Flow | None:
        """The mean, where `x` is a sum that nobody else reads, and `factor` one over the number of terms."""
        part = x.parts[0]
        source = part.source
        if len(x.parts) > 1 or id(part) in self._shared or not isinstance(source, Call):
            return None
        if source.holder.kind is not Add or abs(factor * len(source.inputs) - 1) > 1e-6:
            return None
        source.holder.kind = Average
        return x

    def _concatenated(self, node: Node, flows: Sequence[Flow]) -> Flow:
        """Tensors side by side: as directions of one where they may be that, else by a layer."""
        (axis,) = normal_axes(node, (node.attributes["axis"],), len(flows[0].axes))
        kinds = [x.axes[axis] if len(x.axes) > axis else () for x in flows]
        parts = [part for x in flows for part in x.parts]
        features = all(kind in (F, ("D", "F")) for kind in kinds)
        if len(flows) == 1 or is_both_directions(parts) or not (features or set(kinds) == {T}):
            return moves.concat(node, flows)
        settled = [self._settled(x) for x in flows]
        settled = self._one_way(settled) if features else [self._unflipped(x) for x in settled]
        others = {x.axes for x in settled}
        if len(others) > 1 or any(len(x.parts) > 1 for x in settled):
            raise node.error("its inputs have different axes")
        tensors = [x.parts[0] for x in settled]
        if features:
            return replace(settled[0], parts=(self._merge(Concatenate, tensors),))
        return replace(settled[0], parts=(self._in_time(node, tensors),))

    def _in_time(self, node: Node, parts: Sequence[Tensor]) -> Tensor:
        """Sequences one behind the other."""
        if any(part.mask is not None for part in parts):
            raise node.error("it joins sequences with sequence_lens, which has no counterpart")
        times = [part.time for part in parts]
        time = None if None in times else sum(time for time in times if time is not None)
        size = self._same("Concatenate", "features", [part.size for part in parts])
        return self._merged_as(Concatenate, parts, size, time, axis=1)

    def _product(self, node: Node, given: Sequence[Flow]) -> Flow:
        """The product of two tensors for each row of the batch, as in attention."""
        a, b = (self._unflipped(self._settled(x)) for x in given)
        texts = "; ".join(f"({', '.join(map(moves.describe, x.axes))})" for x in (a, b))
        inner = b.axes[1] if len(b.axes) == 3 else ()
        fit = a.axes in ((B, T, F), (B, (), F)) and b.axes[:1] == (B,) and inner in (F, T)
        if not fit or len(a.parts) != 1 or len(b.parts) != 1 or set(b.axes) - {B, T, F, ()}:
            raise node.error(
                f"its second input is no constant, and no layer multiplies tensors with the axes {texts}"
            )
        (left,), (right,) = a.parts, b.parts
        steps = a.axes[1] == T
        columns = b.axes[2]
        size = {T: right.time, F: right.size, (): left.time if steps else 1}[columns]
        axes = (2 if steps else 1, 1 if inner == T else 2 if T in b.axes else 1)
        made = self._merged_as(Dot, [left, right], size, left.time if steps and columns else 0, axes=axes)
        rows: tuple[Axis, Axis] = (T, F) if steps and columns else (F, ()) if steps else ((), F)
        return Flow((made,), (B, *rows))
