"""Layers that only arrange their inputs anew: Flatten, Reshape, Permute, RepeatVector. Floor 4."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lstm_native import _core
from lstm_native.arrays import Shape
from lstm_native.layers.base import Layer, Tensor
from lstm_native.layers.context import Context

DATA_FORMATS = ("channels_last", "channels_first")


def check_data_format(owner: str, data_format: str | None) -> str:
    """`data_format`, or "channels_last" for None.

    Raises:
        ValueError: neither "channels_last" nor "channels_first".
    """
    if data_format is None:
        return DATA_FORMATS[0]
    if data_format not in DATA_FORMATS:
        raise ValueError(f"{owner}: data_format is {data_format!r}, expected one of {DATA_FORMATS} or None")
    return data_format


class Flatten(Layer):
    """All axes but the first as one: (batch, a, b, ...) to (batch, a * b * ...), and (batch,) to (batch, 1).

    The mask of the inputs, which speaks of time steps, ends here.

    Args:
        data_format: "channels_first" moves axis 1 behind the others before; "channels_last" (default) does
            not.
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        data_format = check_data_format("Flatten", data_format)
        super().__init__(**kwargs)
        self.data_format = data_format
        self.built = True

    def check_input_shape(self, shape: Shape) -> None:
        if not shape:
            raise self.error("input is a single number, expected (batch, ...)")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        sizes = input_shape[1:]
        return input_shape[0], None if None in sizes else math.prod(s for s in sizes if s is not None)

    def _moves_channels(self, rank: int) -> bool:
        return self.data_format == "channels_first" and rank > 2

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Tensor:
        shape = inputs.shape
        self.check_input_shape(shape)
        if ctx.record:
            ctx.save(self, shape)
        if self._moves_channels(len(shape)):
            moved = np.ascontiguousarray(np.moveaxis(inputs.numpy(), 1, -1))
            inputs = _core.as_tensor(moved, "float32")
        return inputs.reshape((shape[0], math.prod(shape[1:])))

    def backward(self, d_outputs: Tensor, ctx: Context, need_d_inputs: bool = True) -> Tensor:
        shape = ctx.take(self)
        if not self._moves_channels(len(shape)):
            return d_outputs.reshape(shape)
        moved = d_outputs.numpy().reshape((shape[0], *shape[2:], shape[1]))
        return _core.as_tensor(np.ascontiguousarray(np.moveaxis(moved, -1, 1)), "float32")

    def add_to_stream(self, stream: _core.Stream) -> None:
        raise self.error("joins the time steps of a sequence and cannot run step by step in a stream")


class Reshape(Layer):
    """The same numbers in another shape: (batch, ...) to (batch, *target_shape).

    The mask of the inputs, which speaks of their time steps, ends here; a warning says so.

    Args:
        target_shape: shape of one output, without the batch axis; -1 stands for what is left over, once.
    """

    def __init__(self, target_shape: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target_shape = _target_shape(target_shape)
        self.built = True

    def check_input_shape(self, shape: Shape) -> None:
        if not shape:
            raise self.error("input is a single number, expected (batch, ...)")
        sizes = shape[1:]
        if None in sizes:
            return
        count = math.prod(size for size in sizes if size is not None)
        known = math.prod(size for size in self.target_shape if size != -1)
        if count != known and (-1 not in self.target_shape or known == 0 or count % known):
            raise self.error(
                f"The total size of the tensor must be unchanged: input has shape {shape}, which does not "
                f"fit target_shape={self.target_shape}"
            )

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        self.check_input_shape(input_shape)
        left: int | None = None
        if None not in input_shape[1:]:
            count = math.prod(size for size in input_shape[1:] if size is not None)
            left = count // max(math.prod(size for size in self.target_shape if size != -1), 1)
        return input_shape[0], *(left if size == -1 else size for size in self.target_shape)

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Tensor:
        self.lose_mask(mask)
        shape = self.compute_output_shape(inputs.shape)
        if ctx.record:
            ctx.save(self, inputs.shape)
        return inputs.reshape([size for size in shape if size is not None])

    def backward(self, d_outputs: Tensor, ctx: Context, need_d_inputs: bool = True) -> Tensor:
        return d_outputs.reshape(ctx.take(self))

    def add_to_stream(self, stream: _core.Stream) -> None:
        raise self.error("arranges a whole sequence anew and cannot run step by step in a stream")


def _target_shape(given: Any) -> tuple[int, ...]:
    """A target shape as a tuple; the words of its errors are those that Keras' users know."""
    try:
        sizes = tuple(given)
    except TypeError:
        raise TypeError(f"Reshape: target_shape is {given!r}, expected a tuple of integers") from None
    if any(isinstance(n, bool) or not isinstance(n, int | np.integer) or n < -1 for n in sizes):
        raise ValueError(
            "Reshape: each size should be a non-negative integer, or -1 for what is left over. Received: "
            f"target_shape={sizes}"
        )
    if sizes.count(-1) > 1:
        raise ValueError(
            f"Reshape: there must be at most one unknown dimension (-1). Received: target_shape={sizes}"
        )
    return tuple(int(n) for n in sizes)


class Permute(Layer):
    """Axes in another order, the batch axis aside.

    The mask of the inputs, which speaks of their time steps, ends here; a warning says so.

    Args:
        dims: the axes of the inputs, counted from 1, in the order of the outputs: (2, 1) makes
            (batch, features, time) of (batch, time, features).
    """

    def __init__(self, dims: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        try:
            self.dims = tuple(dims)
        except TypeError:
            raise TypeError(f"Permute: dims is {dims!r}, expected a tuple of integers") from None
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(
                "Permute: Invalid permutation argument `dims`. The set of indices in `dims` must be "
                f"consecutive and start from 1. Received dims={dims}"
            )
        self.built = True

    def check_input_shape(self, shape: Shape) -> None:
        if len(shape) != len(self.dims) + 1:
            raise self.error(
                f"input has shape {shape}, expected {len(self.dims) + 1} axes for dims={self.dims}"
            )

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        self.check_input_shape(input_shape)
        return input_shape[0], *(input_shape[axis] for axis in self.dims)

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Tensor:
        self.lose_mask(mask)
        self.check_input_shape(inputs.shape)
        return _transposed(inputs, (0, *self.dims))

    def backward(self, d_outputs: Tensor, ctx: Context, need_d_inputs: bool = True) -> Tensor:
        return _transposed(d_outputs, np.argsort((0, *self.dims)).tolist())

    def add_to_stream(self, stream: _core.Stream) -> None:
        raise self.error("moves the time axis of a sequence and cannot run step by step in a stream")


def _transposed(x: Tensor, axes: Sequence[int]) -> Tensor:
    return _core.as_tensor(np.ascontiguousarray(x.numpy().transpose(axes)), "float32")


class RepeatVector(Layer):
    """The same vector at every time step: (batch, features) to (batch, n, features).

    Between an encoder and a decoder.

    Args:
        n: number of time steps.
    """

    unmoved_by_padding = True

    def __init__(self, n: int, **kwargs: Any) -> None:
        if isinstance(n, bool) or not isinstance(n, int | np.integer):
            raise TypeError(f"RepeatVector: Expected an integer value for `n`, got {n!r}")
        if n < 1:
            raise ValueError(f"RepeatVector: n is {n}, which should be a positive integer")
        super().__init__(**kwargs)
        self.n = int(n)
        self.built = True

    def check_input_shape(self, shape: Shape) -> None:
        if len(shape) != 2:
            raise self.error(f"input has shape {shape}, expected (batch, features)")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape[0], self.n, input_shape[1]

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Tensor:
        self.check_input_shape(inputs.shape)
        return _core.as_tensor(np.repeat(inputs.numpy()[:, None], self.n, axis=1), "float32")

    def backward(self, d_outputs: Tensor, ctx: Context, need_d_inputs: bool = True) -> Tensor:
        return _core.as_tensor(d_outputs.numpy().sum(axis=1, dtype=np.float64), "float32")

    def add_to_stream(self, stream: _core.Stream) -> None:
        raise self.error("makes a sequence of one vector and cannot run step by step in a stream")
