"""Layers that join several inputs along axes: Concatenate, Dot. Floor 4."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from lstm_native import _core
from lstm_native.arrays import Shape, fits
from lstm_native.layers.base import Tensor
from lstm_native.layers.context import Context
from lstm_native.layers.merging_base import Array, Flags, MergingLayer, as_tensor

EPSILON = 1e-7  # of Keras: vectors shorter than this are divided by it
# Infinities and NaN go through without a warning, as in the kernels.
_QUIET = partial(np.errstate, divide="ignore", over="ignore", invalid="ignore")


def _is_axis(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


class Concatenate(MergingLayer):
    """The inputs side by side along one axis; in the others they have the same sizes.

    Along the features, a step counts that does in any of the inputs; along the time, masks are joined as the
    steps are. All steps of an input without a mask count, where another one has a mask.

    Args:
        axis: the axis, negative from the end; not that of the batch.
    """

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        if not _is_axis(axis):
            raise TypeError(f"Concatenate: axis is {axis!r}, expected an integer")
        super().__init__(**kwargs)
        self.axis = int(axis)

    def _axis_of(self, shape: Shape) -> int:
        if not -len(shape) <= self.axis < len(shape) or self.axis % len(shape) == 0:
            raise self.error(f"axis is {self.axis}, expected one behind the batch of inputs of shape {shape}")
        return self.axis % len(shape)

    def joined_shape(self, shapes: Sequence[Shape]) -> Shape:
        first = shapes[0]
        axis = self._axis_of(first)
        others = [(*s[:axis], *s[axis + 1 :]) for s in shapes]
        if any(len(s) != len(first) for s in shapes) or not all(
            fits(one, other) for i, one in enumerate(others) for other in others[:i]
        ):
            raise self.error(
                "A Concatenate layer requires inputs with matching shapes except for the concatenation axis, "
                f"got {[*shapes]} for axis {self.axis}"
            )
        sizes = [s[axis] for s in shapes]
        joined = None if None in sizes else sum(size for size in sizes if size is not None)
        rest = [next((size for size in each if size is not None), None) for each in zip(*others, strict=True)]
        return (*rest[:axis], joined, *rest[axis:])

    def joined_mask(self, shapes: Sequence[Shape], masks: Flags) -> Array | None:
        if len(shapes[0]) < 3:
            return None  # no steps are left
        known = zip(shapes, masks, strict=True)
        full: list[Array] = [np.ones(s[:2], np.bool_) if m is None else m for s, m in known]  # type: ignore[arg-type]
        if self._axis_of(shapes[0]) == 1:
            return np.concatenate(full, axis=1)
        joined: Array = np.logical_or.reduce(np.broadcast_arrays(*full))
        return joined

    @property
    def unmoved_by_padding(self) -> bool:
        """Whether outputs at valid steps are the same bits with and without masked steps behind them."""
        return not any(self._joins_time([value.shape for value in node.inputs]) for node in self.nodes)

    def _joins_time(self, shapes: Sequence[Shape]) -> bool:
        # Axis 1 of inputs with two axes are features where its size is fixed, else steps.
        return self._axis_of(shapes[0]) == 1 and (len(shapes[0]) > 2 or any(s[1] is None for s in shapes))

    def forward(self, inputs: Any, ctx: Context, mask: Any = None) -> Tensor:
        shapes = [x.shape for x in inputs]
        whole = self.compute_output_shape(shapes)
        axis = self._axis_of(shapes[0])
        if ctx.record:
            ctx.save(self, (shapes, axis))
        if len(inputs) == 1:
            alone: Tensor = inputs[0]
            return alone.copy()  # outputs share no memory with inputs
        rows = math.prod(shapes[0][:axis])
        flat = [x.reshape((rows, math.prod(x.shape[axis:]))) for x in inputs]
        return _side_by_side(flat).reshape(whole)  # type: ignore[arg-type]

    def backward(self, d_outputs: Tensor, ctx: Context, need_d_inputs: bool = True) -> tuple[Tensor, ...]:
        """Gradients of the inputs."""
        shapes, axis = ctx.take(self)
        rows = math.prod(shapes[0][:axis])
        widths = [math.prod(shape[axis:]) for shape in shapes]
        parts = _apart(d_outputs.reshape((rows, sum(widths))), widths)
        return tuple(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))

    def add_join_to_stream(
        self, stream: _core.Stream, slots: Sequence[int], shapes: Sequence[Shape], masked: bool
    ) -> None:
        """See `Layer`."""
        if self._axis_of(shapes[0]) < len(shapes[0]) - 1:
            raise self.error("joins along the time and cannot run step by step in a stream")
        stream.add_join(self.label(), "concat", slots)


def _side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """Tensors (rows, width) as one; in halves, so that many parts are not copied over and over."""
    if len(parts) == 1:
        return parts[0]
    half = len(parts) // 2
    return _core.merge_forward("concat", _side_by_side(parts[:half]), _side_by_side(parts[half:]))


def _apart(d: Tensor, widths: Sequence[int]) -> list[Tensor]:
    """(rows, sum of widths) as tensors of these widths."""
    if len(widths) == 1:
        return [d]
    half = len(widths) // 2
    width = sum(widths[:half])
    left, right = _core.merge_backward("concat", d, width, None, None)
    if left is None:
        left = as_tensor(np.zeros((d.shape[0], 0)))
    return [*_apart(left, widths[:half]), *_apart(right, widths[half:])]


class Dot(MergingLayer):
    """Products of two inputs, row by row of the batch, summed over one axis of each.

    Inputs (batch, ...a..., size, ...b...) and (batch, ...c..., size, ...d...) give (batch, ...a..., ...b...,
    ...c..., ...d...), and (batch, 1) where nothing else is left. Masks end here.

    Args:
        axes: the axis, or the axes of first and second input, that the sum is over; not that of the batch.
        normalize: divide the vectors along these axes by their length: the output is the cosine of the angle
            between them.
    """

    count: ClassVar[int | None] = 2

    def __init__(self, axes: int | Sequence[int], normalize: bool = False, **kwargs: Any) -> None:
        if not _is_axis(axes):
            if not isinstance(axes, list | tuple):
                raise TypeError(
                    f"Dot: Invalid type for argument `axes`: it should be a list or an int, got {axes!r}"
                )
            if len(axes) != 2 or not all(map(_is_axis, axes)):
                raise ValueError(
                    "Dot: Invalid format for argument `axes`: it should contain two elements, list elements "
                    f"should be integers, got {axes!r}"
                )
        super().__init__(**kwargs)
        self.axes = axes
        self.normalize = bool(normalize)

    def _axes_of(self, shapes: Sequence[Shape]) -> tuple[int, int]:
        given = self.axes if isinstance(self.axes, list | tuple) else (self.axes, self.axes)
        found = []
        for axis, shape in zip(given, shapes, strict=True):
            if not -len(shape) <= axis < len(shape) or axis % len(shape) == 0:
                raise self.error(
                    f"axes is {self.axes!r}, expected one behind the batch of each of {[*shapes]}"
                )
            found.append(int(axis) % len(shape))
        return found[0], found[1]

    def joined_shape(self, shapes: Sequence[Shape]) -> Shape:
        first, second = shapes
        a, b = self._axes_of(shapes)
        if None not in (first[a], second[b]) and first[a] != second[b]:
            raise self.error(
                f"Incompatible input shapes: axis values {first[a]} (at axis {a}) != {second[b]} "
                f"(at axis {b}), of {first} and {second}"
            )
        batch = first[0] if first[0] is not None else second[0]
        rest = (*first[1:a], *first[a + 1 :], *second[1:b], *second[b + 1 :])
        return (batch, *(rest or (1,)))

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        """None: masks end here."""
        return

    @property
    def unmoved_by_padding(self) -> bool:
        """Whether outputs at valid steps are the same bits with and without masked steps behind them."""
        # Only vectors have no steps.
        shapes = [value.shape for node in self.nodes for value in node.inputs]
        return all(len(shape) == 2 and shape[1] is not None for shape in shapes)

    def forward(self, inputs: Any, ctx: Context, mask: Any = None) -> Tensor:
        shapes = [x.shape for x in inputs]
        whole = self.compute_output_shape(shapes)
        # The summed axes last: (batch, others, size).
        last = [np.moveaxis(x.numpy(), a, -1) for x, a in zip(inputs, self._axes_of(shapes), strict=True)]
        moved = [x.shape for x in last]
        rows = [x.reshape(x.shape[0], math.prod(x.shape[1:-1]), x.shape[-1]) for x in last]
        lengths: list[Array | None] = [None, None]
        with _QUIET():
            if self.normalize:
                lengths = [_inverse_length(x) for x in rows]
                rows = [x * inverse for x, inverse in zip(rows, lengths, strict=True)]
            product = rows[0] @ rows[1].swapaxes(1, 2)
        if ctx.record:
            ctx.save(self, (shapes, moved, rows, lengths))
        return as_tensor(product.reshape(whole))

    def backward(self, d_outputs: Tensor, ctx: Context, need_d_inputs: bool = True) -> tuple[Tensor, ...]:
        """Gradients of the inputs."""
        shapes, moved, rows, lengths = ctx.take(self)
        first, second = rows
        d = d_outputs.numpy().reshape(first.shape[0], first.shape[1], second.shape[1])
        gradients = []
        with _QUIET():
            for d_rows, unit, inverse, shape, axis in zip(
                (d @ second, d.swapaxes(1, 2) @ first),
                rows,
                lengths,
                moved,
                self._axes_of(shapes),
                strict=True,
            ):
                if inverse is not None:
                    along = (d_rows * unit).sum(axis=-1, keepdims=True) * (inverse < 1 / EPSILON)
                    d_rows = inverse * (d_rows - unit * along)
                gradients.append(as_tensor(np.moveaxis(d_rows.reshape(shape), -1, axis)))
        return tuple(gradients)

    def add_join_to_stream(
        self, stream: _core.Stream, slots: Sequence[int], shapes: Sequence[Shape], masked: bool
    ) -> None:
        raise self.error("sums over an axis and cannot run step by step in a stream")


def _inverse_length(x: Array) -> Array:
    """One over the length of the vectors in the last axis, at most one over `EPSILON`; that axis stays."""
    inverse = 1 / np.sqrt(np.square(x).sum(axis=-1, keepdims=True))
    shortest: Array = np.minimum(inverse, np.float32(1 / EPSILON))
    return shortest


# --- functions ------------------------------------------------------------------------------------


def concatenate(inputs: Any, axis: int = -1, **kwargs: Any) -> Any:
    """A list of placeholders or arrays side by side: `Concatenate(axis, **kwargs)(inputs)`."""
    return Concatenate(axis=axis, **kwargs)(inputs)


def dot(inputs: Any, axes: int | Sequence[int] = -1, **kwargs: Any) -> Any:
    """Products of two placeholders or arrays, summed over an axis: `Dot(axes, **kwargs)(inputs)`."""
    return Dot(axes=axes, **kwargs)(inputs)
