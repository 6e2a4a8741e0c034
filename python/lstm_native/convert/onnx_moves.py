"""Operators of ONNX that only move axes, or compute sizes: what they make of `Flow`, `Sizes` and `Filled`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lstm_native.convert.onnx_file import Node
from lstm_native.convert.onnx_flow import Axis, D, F, Filled, Flow, Size, Sizes, T, product
from lstm_native.convert.onnx_shapes import axes_of, normal_axes, slices_of, split_sizes

# Tensors that a value may have side by side: directions, of which a recurrent operator has two.
MAX_PARTS = 64

Select = Callable[[Node, Flow, bool], Flow]


def integers(node: Node, value: Any) -> list[int] | None:
    """A constant's numbers; None where it is no constant."""
    if not isinstance(value, np.ndarray):
        return None
    if value.dtype.kind not in "iu":
        raise node.error(f"its numbers have type {value.dtype}, expected integers")
    return [int(number) for number in value.ravel()[:64]]


def constant_inputs(node: Node, inputs: Sequence[Any]) -> list[Any]:
    """The inputs, if those behind the first are constants."""
    for name, value in zip(node.inputs[1:], inputs[1:], strict=True):
        if value is not None and not isinstance(value, np.ndarray):
            raise node.error(f"{name[:80]!r} depends on the data, expected a constant")
    return [None, *inputs[1:]]


def sizes_from(node: Node, value: Any) -> list[Size]:
    """A shape that is a constant, or comes from the data's shape."""
    if isinstance(value, Sizes):
        return list(value.values)
    numbers = integers(node, value)
    if numbers is None:
        raise node.error("its shape depends on the data")
    return [(number, ()) for number in numbers]


# --- axes -----------------------------------------------------------------------------------------


def transpose(node: Node, x: Flow) -> Flow:
    """Axes in another order."""
    rank = len(x.axes)
    order = normal_axes(node, node.get("perm", tuple(range(rank))[::-1]), rank)
    if len(order) != rank:
        raise node.error(f"perm is {order}, the tensor has {rank} axes")
    return x.with_axes([x.axes[axis] for axis in order])


def squeeze(node: Node, x: Flow, inputs: Sequence[Any]) -> Flow:
    """Without axes of size 1."""
    given = axes_of(node, constant_inputs(node, inputs))
    rank = len(x.axes)
    gone = (
        [i for i, axis in enumerate(x.axes) if not axis] if given is None else normal_axes(node, given, rank)
    )
    for axis in gone:
        if x.axes[axis]:
            raise node.error(f"it takes axis {axis} away, which is {describe(x.axes[axis])}")
    return x.with_axes([axis for i, axis in enumerate(x.axes) if i not in gone])


def unsqueeze(node: Node, x: Flow, inputs: Sequence[Any]) -> Flow:
    """With more axes of size 1."""
    given = axes_of(node, constant_inputs(node, inputs)) or ()
    rank = len(x.axes) + len(given)
    new = normal_axes(node, given, rank)
    old = iter(x.axes)
    return x.with_axes([() if i in new else next(old) for i in range(rank)])


def reshape(node: Node, x: Flow, inputs: Sequence[Any], batch: int | None) -> Flow:
    """Axes joined or taken apart again."""
    target: list[Size | None] = []
    own = x.sizes(batch)
    for i, size in enumerate(sizes_from(node, inputs[1])):
        if size == (0, ()) and not node.get("allowzero", 0):
            if i >= len(own):
                raise node.error(f"its shape keeps axis {i}, which the tensor has not")
            size = own[i]
        target.append(None if size == (-1, ()) else size)
    if target.count(None) > 1:
        raise node.error("its shape has -1 more than once")
    found = x.reshaped(target, batch)
    if found is None:
        axes = ", ".join(map(describe, x.axes))
        raise node.error(f"it reshapes ({axes}) to {shown(target)}, which mixes axes that layers keep apart")
    return found


def flatten(node: Node, x: Flow) -> Flow:
    """Two axes, of those before one and of the others."""
    axis = node.get("axis", 1)
    axis = axis + len(x.axes) if axis < 0 else axis
    if not 0 <= axis <= len(x.axes):
        raise node.error(f"axis is {axis}, the tensor has {len(x.axes)}")
    join = [tuple(letter for a in part for letter in a) for part in (x.axes[:axis], x.axes[axis:])]
    return x.with_axes(join)


_NAMES = {"B": "batch", "T": "time", "F": "features", "D": "directions"}


def describe(axis: Axis) -> str:
    """What an axis is, for messages."""
    return " x ".join(_NAMES[letter] for letter in axis) or "1"


def shown(sizes: Sequence[Size | None]) -> str:
    """Sizes, for messages."""
    texts = ["-1" if s is None else " x ".join([str(s[0]), *(_NAMES[u] for u in s[1])]) for s in sizes]
    return f"({', '.join(texts)})"


# --- parts ----------------------------------------------------------------------------------------


def gather(node: Node, x: Flow, indices: Any, select: Select) -> Flow:
    """Directions of a tensor, or its first or last step."""
    numbers = integers(node, indices)
    (axis,) = normal_axes(node, (node.get("axis", 0),), len(x.axes))
    if numbers is None:
        raise node.error("its indices depend on the data")
    kind = x.axes[axis]
    scalar = indices.ndim == 0
    if indices.ndim > 1:
        raise node.error(f"its indices have {indices.ndim} axes")
    if kind == () and numbers in ([0], [-1]):
        taken = x
    elif kind == D and numbers and all(-len(x.parts) <= number < len(x.parts) for number in numbers):
        taken = _subset(x, axis, [x.parts[number] for number in numbers])
    elif kind == T and len(numbers) == 1:
        taken = _step(node, x, axis, numbers[0], select)
    else:
        raise node.error(f"it takes {numbers[:8]} of the axis {describe(kind)}, which has no counterpart")
    return taken.with_axes([a for i, a in enumerate(taken.axes) if i != axis]) if scalar else taken


def _subset(x: Flow, axis: int, parts: list[Any]) -> Flow:
    axes = list(x.axes)
    axes[axis] = () if len(parts) == 1 else D
    return replace(x, parts=tuple(parts), axes=tuple(axes))


def _step(node: Node, x: Flow, axis: int, number: int, select: Select) -> Flow:
    """The first or the last step; its axis stays, with size 1."""
    time = x.parts[0].time
    last = number == -1 or number + 1 == time
    if not last and number not in (0, -(time or 0)):
        raise node.error(f"it takes step {number} of the time, expected the first or the last")
    chosen = select(node, x, last)
    axes = list(chosen.axes)
    axes[axis] = ()
    return chosen.with_axes(axes)


def slice_(node: Node, x: Flow, inputs: Sequence[Any], select: Select) -> Flow:
    """Directions, the first or last step, or the time turned round."""
    for axis, piece in slices_of(node, constant_inputs(node, inputs), len(x.axes)).items():
        kind = x.axes[axis]
        size = {D: len(x.parts), (): 1, T: x.parts[0].time, F: x.parts[0].size}.get(kind)
        far = 1 << 30
        whole = piece.start == 0 and piece.step == 1 and (piece.stop >= (far if size is None else size))
        if whole:
            continue
        if kind in (D, ()):
            parts = x.parts[piece] if kind == D else (x.parts if range(1)[piece] else ())
            if not parts:
                raise node.error("it takes nothing")
            x = _subset(x, axis, list(parts)) if kind == D else x
        elif kind == T and piece.step == -1 and piece.stop is None and piece.start in (-1, (size or 0) - 1):
            x = replace(x, flipped=not x.flipped)
        elif (
            kind == T
            and piece.step == 1
            and piece.start == -1
            and (piece.stop or 0) >= (far if size is None else size)
        ):
            x = _step(node, x, axis, -1, select)
        elif kind == T and piece.step == 1 and piece.start == 0 and piece.stop == 1:
            x = _step(node, x, axis, 0, select)
        else:
            hint = "; loops that are written out step by step are not recognized" if kind == T else ""
            taken = f"{piece.start}:{piece.stop}:{piece.step}"
            raise node.error(f"it takes {taken} of the axis {describe(kind)}, which has no counterpart{hint}")
    return x


def split(node: Node, x: Flow, inputs: Sequence[Any]) -> list[Flow]:
    """Groups of directions."""
    (axis,) = normal_axes(node, (node.get("axis", 0),), len(x.axes))
    if x.axes[axis] not in (D, ()):
        raise node.error(f"it splits the axis {describe(x.axes[axis])}, which has no counterpart")
    count = len(x.parts) if x.axes[axis] == D else 1
    sizes = split_sizes(node, constant_inputs(node, inputs), count)
    if 0 in sizes:
        raise node.error("one of its parts is empty")
    ends = np.cumsum(sizes)
    return (
        [_subset(x, axis, list(x.parts[end - size : end])) for size, end in zip(sizes, ends, strict=True)]
        if count > 1
        else [x]
    )


def concat(node: Node, flows: Sequence[Flow]) -> Flow:
    """Tensors as directions of one, or their features side by side."""
    first = flows[0]
    (axis,) = normal_axes(node, (node.attributes["axis"],), len(first.axes))
    others = [[a for i, a in enumerate(flow.axes) if i != axis] for flow in flows]
    if any(len(flow.axes) != len(first.axes) for flow in flows) or any(o != others[0] for o in others):
        raise node.error("its inputs have different axes")
    if len(flows) > 1 and any(flow.flipped != first.flipped for flow in flows):
        raise node.error("time runs in different directions in its inputs")
    count = sum(len(flow.parts) for flow in flows)
    if count > MAX_PARTS:
        raise node.error(f"it joins {count} tensors, expected at most {MAX_PARTS}")
    parts = tuple(part for flow in flows for part in flow.parts)
    kinds = [flow.axes[axis] for flow in flows]
    axes = list(first.axes)
    if len(flows) == 1:
        return first
    if all(kind in (D, ()) for kind in kinds):
        if any(kind == () and len(flow.parts) > 1 for kind, flow in zip(kinds, flows, strict=True)):
            raise node.error("its inputs are made of several tensors, which has no counterpart")
        axes[axis] = D
    elif all(kind in (F, ("D", "F")) for kind in kinds):
        axes[axis] = ("D", "F")
    else:
        raise node.error(
            f"it joins the axes {', '.join(describe(kind) for kind in kinds[:8])}, which has no counterpart"
        )
    return Flow(parts, tuple(axes), first.flipped)


def reverse_sequence(node: Node, x: Flow, lengths: Any) -> Flow:
    """The whole time turned round; lengths are those of the data."""
    time, batch = node.get("time_axis", 0), node.get("batch_axis", 1)
    whole = x.parts[0].time
    sizes = lengths.values if isinstance(lengths, Sizes) else [(n, ()) for n in integers(node, lengths) or ()]
    axes = x.axes[time : time + 1], x.axes[batch : batch + 1]
    if axes != ((T,), (("B",),)) or set(sizes) != {(1, ("T",)) if whole is None else (whole, ())}:
        raise node.error("it turns a part of the time round, or another axis, which has no counterpart")
    return replace(x, flipped=not x.flipped)


# --- sizes ----------------------------------------------------------------------------------------


def on_sizes(node: Node, inputs: Sequence[Any]) -> Any:
    """Operators on what Shape gave."""
    op = node.op
    if op == "Concat":
        return Sizes(tuple(size for value in inputs for size in sizes_from(node, value)))
    if op == "Mul":
        return Sizes((product([product(sizes_from(node, value)) for value in inputs]),), _scalar(inputs))
    x = inputs[0]
    if op == "ReduceProd" and isinstance(x, Sizes):
        return Sizes((product(x.values),), not node.get("keepdims", 1))
    if not isinstance(x, Sizes):
        raise node.error("sizes of the data go into it, which has no counterpart")
    if op in ("Cast", "Identity"):
        return x
    if op == "Expand" and len(x.values) == 1:  # the same size for every row
        return Sizes(x.values)
    if op == "Gather":
        numbers = integers(node, inputs[1]) or []
        if not numbers or any(not -len(x.values) <= number < len(x.values) for number in numbers):
            raise node.error(f"it takes {numbers[:8]} of {len(x.values)} sizes")
        return Sizes(tuple(x.values[number] for number in numbers), inputs[1].ndim == 0)
    if op == "Slice":
        piece = slices_of(node, constant_inputs(node, inputs), 1).get(0, slice(None))
        return Sizes(x.values[piece])
    if op in ("Unsqueeze", "Reshape"):
        return Sizes(x.values)
    if op in ("Squeeze",):
        return Sizes(x.values, len(x.values) == 1)
    raise node.error("sizes of the data go into it, which has no counterpart")


def _scalar(inputs: Sequence[Any]) -> bool:
    return all(value.scalar if isinstance(value, Sizes) else np.ndim(value) == 0 for value in inputs)


def on_filled(node: Node, inputs: Sequence[Any]) -> Any:
    """Operators that move a tensor of one value about."""
    fills = [value for value in inputs if isinstance(value, Filled)]
    moves = (
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Reshape",
        "Slice",
        "Gather",
        "Identity",
        "Cast",
        "Expand",
        "Tile",
    )
    if node.op in moves and isinstance(inputs[0], Filled):
        return inputs[0]
    if node.op == "Split":
        return [inputs[0]] * len(node.outputs)
    if node.op == "Concat" and all(
        value == fills[0] if isinstance(value, Filled) else uniform(value) == fills[0] for value in inputs
    ):
        return fills[0]
    raise node.error("a tensor of one value goes into it, which has no counterpart")


def uniform(value: Any) -> Filled | None:
    """The value of a constant that holds only one; None for others."""
    if isinstance(value, Filled):
        return value
    if not isinstance(value, np.ndarray) or not value.size or value.dtype.kind not in "fiub":
        return None
    first = value.ravel()[0]
    return Filled(float(first)) if (value == first).all() else None
