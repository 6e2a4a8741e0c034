"""ZeroPadding1D, Cropping1D, UpSampling1D: sequences with more time steps, or fewer. Floor 4."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from lstm_native.arrays import Shape
from lstm_native.layers.base import Context, Tensor
from lstm_native.layers.reshaping import check_data_format
from lstm_native.layers.windows import OverTime, int_tuple


class ZeroPadding1D(OverTime):
    """Steps of zeros before and after a sequence: (batch, time, features) to (batch, longer, features).

    As in Keras, layers behind see no mask; a warning says so.

    Args:
        padding: number of steps in front and behind: one for both, or two.
        data_format: "channels_last" (default), or "channels_first" for inputs (batch, features, time).
    """

    def __init__(
        self, padding: int | tuple[int, int] = 1, data_format: str | None = None, **kwargs: Any
    ) -> None:
        self.padding = int_tuple(padding, 2, "ZeroPadding1D", "padding", least=0)
        self.data_format = check_data_format("ZeroPadding1D", data_format)
        super().__init__(**kwargs)
        self.built = True

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        self.check_input_shape(input_shape)
        time = input_shape[self.time_axis]
        return self.with_steps(input_shape, None if time is None else time + sum(self.padding))

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Tensor:
        self.lose_mask(mask)
        self.check_input_shape(inputs.shape)
        return self.as_inputs_are(np.pad(self.steps_first(inputs), ((0, 0), self.padding, (0, 0))))

    def backward(self, d_outputs: Tensor, ctx: Context, need_d_inputs: bool = True) -> Tensor:
        d = self.steps_first(d_outputs)
        return self.as_inputs_are(d[:, self.padding[0] : d.shape[1] - self.padding[1]])


class Cropping1D(OverTime):
    """A sequence without its first and last steps: (batch, time, features) to (batch, shorter, features).

    As in Keras, layers behind see no mask; a warning says so.

    Args:
        cropping: number of steps that go in front and behind: one for both, or two.
    """

    data_format = "channels_last"

    def __init__(self, cropping: int | tuple[int, int] = (1, 1), **kwargs: Any) -> None:
        self.cropping = int_tuple(cropping, 2, "Cropping1D", "cropping", least=0)
        super().__init__(**kwargs)
        self.built = True

    def check_input_shape(self, shape: Shape) -> None:
        super().check_input_shape(shape)
        time = shape[1]
        if time is not None and time <= sum(self.cropping):
            raise self.error(
                "`cropping` parameter of `Cropping1D` layer must be smaller than the input length. Received: "
                f"input of shape {shape}, cropping={self.cropping}"
            )

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        self.check_input_shape(input_shape)
        time = input_shape[1]
        return self.with_steps(input_shape, None if time is None else time - sum(self.cropping))

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Tensor:
        self.lose_mask(mask)
        self.check_input_shape(inputs.shape)
        x = inputs.numpy()
        return self.as_inputs_are(x[:, self.cropping[0] : x.shape[1] - self.cropping[1]])

    def backward(self, d_outputs: Tensor, ctx: Context, need_d_inputs: bool = True) -> Tensor:
        return self.as_inputs_are(np.pad(d_outputs.numpy(), ((0, 0), self.cropping, (0, 0))))


class UpSampling1D(OverTime):
    """Every step several times in a row: (batch, time, features) to (batch, size * time, features).

    As in Keras, layers behind see no mask; a warning says so.

    Args:
        size: how many times.
    """

    data_format = "channels_last"

    def __init__(self, size: int = 2, **kwargs: Any) -> None:
        if isinstance(size, bool) or not isinstance(size, int | np.integer):
            raise TypeError(f"UpSampling1D: Expected an integer value for `size`, got {size!r}")
        if size < 1:
            raise ValueError(
                f"UpSampling1D: Argument `size` should be a positive integer. Received: size={size}"
            )
        super().__init__(**kwargs)
        self.size = int(size)
        self.built = True

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        self.check_input_shape(input_shape)
        time = input_shape[1]
        return self.with_steps(input_shape, None if time is None else time * self.size)

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Tensor:
        self.lose_mask(mask)
        self.check_input_shape(inputs.shape)
        batch, time, features = inputs.shape
        # Where this overflows, NumPy's repeat writes past the end of its result.
        if 4 * time * self.size * max(1, batch) * max(1, features) > sys.maxsize:
            raise self.error(
                f"size is {self.size}, inputs of shape {inputs.shape} repeated do not fit in memory"
            )
        return self.as_inputs_are(np.repeat(inputs.numpy(), self.size, axis=1))

    def backward(self, d_outputs: Tensor, ctx: Context, need_d_inputs: bool = True) -> Tensor:
        d = d_outputs.numpy()
        steps = d.reshape((d.shape[0], d.shape[1] // self.size, self.size, d.shape[2]))
        return self.as_inputs_are(steps.sum(axis=2))
