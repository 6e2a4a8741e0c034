"""Layers that only arrange their inputs anew: Flatten, RepeatVector. Floor 4."""

from __future__ import annotations

import math
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
