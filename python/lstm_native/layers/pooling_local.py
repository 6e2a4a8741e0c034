"""Pooling over windows of time steps: MaxPooling1D, AveragePooling1D. Floor 4."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_native.arrays import Shape
from lstm_native.layers.base import Context, Tensor
from lstm_native.layers.reshaping import check_data_format
from lstm_native.layers.windows import Array, OverWindows, Windows, check_padding, int_tuple


class _Pooling1D(OverWindows):
    """What both share: (batch, time, features) to (batch, windows, features)."""

    def __init__(
        self,
        pool_size: int | tuple[int] = 2,
        strides: int | tuple[int] | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        kind = type(self).__name__
        self.pool_size = int_tuple(pool_size, 1, kind, "pool_size")
        self.strides = int_tuple(self.pool_size if strides is None else strides, 1, kind, "strides")
        self.padding = check_padding(padding, ("valid", "same"), kind)
        self.data_format = check_data_format(kind, data_format)
        super().__init__(**kwargs)
        self.built = True

    @property
    def windows(self) -> Windows:
        """The windows of which each gives one output."""
        return Windows(self.pool_size[0], self.strides[0], padding=self.padding)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        self.check_input_shape(input_shape)
        return self.with_steps(input_shape, self.windows.count(input_shape[self.time_axis]))

    def _checked(self, inputs: Tensor, mask: Tensor | None) -> Array:
        self.lose_mask(mask)
        self.check_input_shape(inputs.shape)
        return self.steps_first(inputs)


class MaxPooling1D(_Pooling1D):
    """The largest value of each feature in windows of time steps.

    (batch, time, features) becomes (batch, windows, features). As in Keras, masked time steps count like
    others, and layers behind see no mask; a warning says so.

    Args:
        pool_size: number of steps in a window.
        strides: how far a window begins behind the one before; `pool_size` by default.
        padding: "valid": no window reaches beyond the sequence; "same": there is one for every `strides`
            steps, and what lies beyond the sequence does not count.
        data_format: "channels_last" (default), or "channels_first" for inputs (batch, features, time).
    """

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Tensor:
        views = self.windows.of(self._checked(inputs, mask), -np.inf)
        if not ctx.record:
            return self.as_inputs_are(views.max(axis=2))
        chosen = views.argmax(axis=2)[:, :, None]
        ctx.save(self, (chosen, inputs.shape[self.time_axis]))
        return self.as_inputs_are(np.take_along_axis(views, chosen, 2)[:, :, 0])

    def backward(self, d_outputs: Tensor, ctx: Context, need_d_inputs: bool = True) -> Tensor:
        chosen, time = ctx.take(self)
        d = self.steps_first(d_outputs)[:, :, None]
        d_windows = np.zeros((*d.shape[:2], self.pool_size[0], d.shape[3]), np.float32)
        # Of steps that are equally large the first one has all of the gradient.
        np.put_along_axis(d_windows, chosen, d, 2)
        return self.as_inputs_are(self.windows.back(d_windows, time))


class AveragePooling1D(_Pooling1D):
    """The mean of each feature in windows of time steps.

    (batch, time, features) becomes (batch, windows, features). As in Keras, masked time steps count like
    others, and layers behind see no mask; a warning says so.

    Args:
        pool_size: number of steps in a window.
        strides: how far a window begins behind the one before; `pool_size` by default.
        padding: "valid": no window reaches beyond the sequence; "same": there is one for every `strides`
            steps, and what lies beyond the sequence does not count.
        data_format: "channels_last" (default), or "channels_first" for inputs (batch, features, time).
    """

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Tensor:
        views = self.windows.of(self._checked(inputs, mask))
        time = inputs.shape[self.time_axis]
        if ctx.record:
            ctx.save(self, time)
        return self.as_inputs_are(views.sum(axis=2) / self._counts(time))

    def backward(self, d_outputs: Tensor, ctx: Context, need_d_inputs: bool = True) -> Tensor:
        time = ctx.take(self)
        share = self.steps_first(d_outputs) / self._counts(time)
        d_windows = np.broadcast_to(share[:, :, None], (*share.shape[:2], self.pool_size[0], share.shape[2]))
        return self.as_inputs_are(self.windows.back(d_windows, time))

    def _counts(self, time: int) -> Array:
        """Number of steps of the sequence in each window."""
        return np.asarray(self.windows.of(np.ones((1, time, 1), np.float32)).sum(axis=2))


# Names that Keras has too.
MaxPool1D = MaxPooling1D
AvgPool1D = AveragePooling1D
