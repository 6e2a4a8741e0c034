"""Input: where a model begins. Floor 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from lstm_native import _core
from lstm_native.arrays import Shape, fits, positive_int, to_shape
from lstm_native.layers.base import Context, Layer, Tensor
from lstm_native.layers.symbolic import Node, Placeholder


class InputLayer(Layer):
    """Says the shape of a model's inputs, so that the model builds before it sees data.

    Args:
        shape: shape of one input, without the batch axis; None where it may vary.
        batch_size: number of rows, when it is fixed.
        dtype: accepted as Keras has it; the first real layer decides what it takes.
        batch_shape: shape with the batch axis, instead of `shape` and `batch_size`.
        name: name of the layer.
        input_shape, batch_input_shape: older names of `shape` and `batch_shape`.
    """

    supports_masking = True
    unmoved_by_padding = True
    # All in batch_shape.
    config_attributes: ClassVar[dict[str, str | None]] = dict.fromkeys(
        ("shape", "batch_size", "input_shape", "batch_input_shape")
    )

    def __init__(
        self,
        shape: Sequence[int | None] | None = None,
        batch_size: int | None = None,
        dtype: str | None = None,
        batch_shape: Sequence[int | None] | None = None,
        name: str | None = None,
        input_shape: Sequence[int | None] | None = None,
        batch_input_shape: Sequence[int | None] | None = None,
    ) -> None:
        shape = input_shape if shape is None else shape
        batch_shape = batch_input_shape if batch_shape is None else batch_shape
        if (shape is None) == (batch_shape is None):
            raise ValueError("Input: pass either shape or batch_shape")
        if batch_shape is not None and batch_size is not None:
            raise ValueError("Input: batch_size is part of batch_shape, pass one of them")
        if batch_size is not None:
            batch_size = positive_int(batch_size, "Input", "batch_size")
        try:
            input_dtype = np.dtype(dtype or "float32")
        except (TypeError, ValueError):
            raise ValueError(
                f"Input: dtype is {dtype!r}, expected the name of one, such as 'float32'"
            ) from None
        super().__init__(name=name)
        if batch_shape is None:
            assert shape is not None
            batch_shape = (batch_size, *to_shape(shape, "Input", "shape"))
        self.batch_shape: Shape = to_shape(batch_shape, "Input", "batch_shape")
        if not self.batch_shape:
            raise ValueError(f"Input: batch_shape is {batch_shape!r}, expected the size of the batch first")
        self.dtype = input_dtype.name
        self.built = True

    @property
    def output(self) -> Placeholder:
        """The placeholder that layers are called on."""
        if not self.nodes:
            Node(self).give(self.batch_shape, self.dtype)
        return self.nodes[0].outputs[0]

    @property
    def input(self) -> Placeholder:
        """The placeholder that layers are called on."""
        return self.output

    def check_input_shape(self, shape: Shape) -> None:
        if not fits(shape, self.batch_shape):
            raise self.error(f"input has shape {shape}, expected {self.batch_shape}")

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Tensor:
        self.check_input_shape(inputs.shape)
        return inputs

    def add_to_stream(self, stream: _core.Stream) -> None:
        pass  # a stream may have any number of rows and steps

    def backward(self, d_outputs: Tensor, ctx: Context, need_d_inputs: bool = True) -> Tensor:
        return d_outputs


def Input(
    shape: Sequence[int | None] | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    batch_shape: Sequence[int | None] | None = None,
    name: str | None = None,
) -> Placeholder:
    """A model's inputs: the first item of a `Sequential`, or what layers of a functional model are called on.

    Arguments as `InputLayer`.
    """
    return InputLayer(shape, batch_size, dtype, batch_shape, name).output
