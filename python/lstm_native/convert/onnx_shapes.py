"""The operators of ONNX that move elements or change shapes, on NumPy arrays, and how they name axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lstm_native.convert.onnx_file import Array, Node

Inputs = Sequence[Any]  # arrays; None where an optional one is absent


def axes_of(node: Node, inputs: Inputs, position: int = 1) -> tuple[int, ...] | None:
    """Axes that newer operators have as an input and older ones as an attribute; None: not given."""
    given = inputs[position] if len(inputs) > position else None
    if given is not None:
        return tuple(int(axis) for axis in given.ravel())
    axes = node.get("axes")
    return None if axes is None else tuple(axes)


def at(inputs: Inputs, position: int) -> Any:
    """The input at a position, where there is one."""
    return inputs[position] if len(inputs) > position else None


def normal_axes(node: Node, axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Axes counted from the front, each once.

    Raises:
        ValueError: there is no such axis, or one is named twice.
    """
    if any(not -rank <= axis < rank for axis in axes) or len({axis % rank for axis in axes}) != len(axes):
        raise node.error(f"axes are {tuple(axes)[:20]}, the tensor has {rank}")
    return tuple(axis % rank for axis in axes)


def reshape(node: Node, inputs: Inputs) -> Any:
    x, shape = inputs[0], inputs[1]
    sizes = [int(size) for size in shape.ravel()]
    if not node.get("allowzero", 0):
        sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    return x.reshape(sizes)


def flatten(node: Node, inputs: Inputs) -> Any:
    x = inputs[0]
    axis = node.get("axis", 1)
    if not -x.ndim <= axis <= x.ndim:
        raise node.error(f"axis is {axis}, the tensor has {x.ndim}")
    axis = axis % x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def squeeze(node: Node, inputs: Inputs) -> Any:
    x, axes = inputs[0], axes_of(node, inputs)
    return x.squeeze(None if axes is None else normal_axes(node, axes, x.ndim))


def unsqueeze(node: Node, inputs: Inputs) -> Any:
    x, axes = inputs[0], axes_of(node, inputs)
    return np.expand_dims(x, normal_axes(node, axes or (), x.ndim + len(axes or ())))


def transpose(node: Node, inputs: Inputs) -> Any:
    x = inputs[0]
    return x.transpose(node.get("perm"))


def shape(node: Node, inputs: Inputs) -> Any:
    return np.array(inputs[0].shape[slice(node.get("start"), node.get("end"))], np.int64)


def slices_of(node: Node, inputs: Inputs, rank: int) -> dict[int, slice]:
    """What a Slice takes of each axis that it names."""
    if node.opset < 10:
        starts, ends, axes, steps = node.get("starts", ()), node.get("ends", ()), node.get("axes"), None
    else:
        arrays = [at(inputs, i) for i in range(1, 5)]
        if any(array is not None and array.dtype.kind not in "iu" for array in arrays):
            raise node.error("starts, ends, axes or steps are no integers")
        starts, ends, axes, steps = (None if array is None else array.ravel().tolist() for array in arrays)
        if starts is None or ends is None:
            raise node.error("starts or ends are missing")
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise node.error("starts, ends, axes and steps are not of one length, or a step is 0")
    found: dict[int, slice] = {}
    for axis, start, end, step in zip(normal_axes(node, axes, rank), starts, ends, steps, strict=True):
        # An end far below 0 means "beyond the first" where steps are negative, which Python calls None.
        found[axis] = slice(start, None if step < 0 and end < -(1 << 31) + 1 else end, step)
    return found


def slice_of(node: Node, inputs: Inputs) -> Any:
    x = inputs[0]
    found = slices_of(node, inputs, x.ndim)
    sizes = {axis: range(*_clamped(piece, x.shape[axis])) for axis, piece in found.items()}
    index = tuple(
        list(sizes[a])
        if a in sizes and sizes[a].step < 0
        else slice(sizes[a].start, sizes[a].stop, sizes[a].step)
        if a in sizes
        else slice(None)
        for a in range(x.ndim)
    )
    for axis, item in enumerate(index):  # one after the other: lists would go together
        x = x[(slice(None),) * axis + (item,)]
    return x


def _clamped(piece: slice, size: int) -> tuple[int, int, int]:
    """Start, stop and step of a Slice within an axis, as ONNX counts."""
    start, stop, step = piece.start, piece.stop, piece.step
    start = start + size if start < 0 else start
    if stop is None:
        stop = -1
    else:
        stop = stop + size if stop < 0 else stop
        stop = min(max(stop, -1 if step < 0 else 0), size)
    start = min(max(start, 0), size - 1 if step < 0 else size)
    return start, stop, step


def split_sizes(node: Node, inputs: Inputs, size: int) -> list[int]:
    """Sizes of the parts of a Split of an axis of `size`."""
    given = at(inputs, 1)
    sizes = node.get("split") if given is None else given.ravel().tolist()
    if sizes is None:
        count = len(node.outputs)
        part = -(-size // count)
        sizes = [max(min(part, size - i * part), 0) for i in range(count)]
    if sum(sizes) != size or len(sizes) != len(node.outputs) or min(sizes) < 0:
        raise node.error(
            f"split is {list(sizes)[:20]}, the axis has {size} and there are {len(node.outputs)} outputs"
        )
    return [int(s) for s in sizes]


def split(node: Node, inputs: Inputs) -> list[Array]:
    x = inputs[0]
    (axis,) = normal_axes(node, (node.get("axis", 0),), x.ndim)
    sizes = split_sizes(node, inputs, x.shape[axis])
    return np.split(x, np.cumsum(sizes)[:-1], axis=axis)


def gather(node: Node, inputs: Inputs) -> Any:
    x, indices = inputs[0], inputs[1]
    (axis,) = normal_axes(node, (node.get("axis", 0),), x.ndim)
    if indices.dtype.kind not in "iu":
        raise node.error(f"indices have type {indices.dtype}, expected integers")
    return np.take(x, indices, axis=axis)


def gather_nd(node: Node, inputs: Inputs) -> Any:
    x, indices = inputs[0], inputs[1]
    batch, depth = node.get("batch_dims", 0), indices.shape[-1]
    if not 0 <= batch < min(x.ndim, indices.ndim) or depth > x.ndim - batch:
        raise node.error(f"batch_dims is {batch}, the tensors have shapes {x.shape} and {indices.shape}")
    rank = indices.ndim - 1
    rows = [np.arange(n).reshape(-1, *[1] * (rank - i - 1)) for i, n in enumerate(x.shape[:batch])]
    return x[(*rows, *(indices[..., i] for i in range(depth)))]


def expand(node: Node, inputs: Inputs) -> Any:
    x, shape = inputs[0], inputs[1]
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(int(s) for s in shape))).copy()


def reverse_sequence(node: Node, inputs: Inputs) -> Any:
    x, lengths = inputs[0], inputs[1]
    time, batch = node.get("time_axis", 0), node.get("batch_axis", 1)
    y = np.moveaxis(x, (batch, time), (0, 1)).copy()
    for row, length in enumerate(lengths.tolist()):
        y[row, :length] = y[row, :length][::-1]
    return np.moveaxis(y, (0, 1), (batch, time))
