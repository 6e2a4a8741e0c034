"""Pooling over all time steps: GlobalMaxPooling1D, GlobalAveragePooling1D. Floor 4."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native import _core
from lstm_native.arrays import Shape, to_numpy
from lstm_native.layers.base import Layer, Tensor
from lstm_native.layers.context import Context
from lstm_native.layers.reshaping import check_data_format

Array = npt.NDArray[Any]


class _GlobalPooling1D(Layer):
    """What both share: shapes, and where the time axis is."""

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any) -> None:
        data_format = check_data_format(type(self).__name__, data_format)
        super().__init__(**kwargs)
        self.data_format = data_format
        self.keepdims = bool(keepdims)
        self.built = True

    @property
    def _time_axis(self) -> int:
        return 1 if self.data_format == "channels_last" else 2

    def check_input_shape(self, shape: Shape) -> None:
        layout = "time, features" if self._time_axis == 1 else "features, time"
        if len(shape) != 3:
            raise self.error(f"input has shape {shape}, expected (batch, {layout})")
        if shape[self._time_axis] == 0:
            raise self.error(f"input has shape {shape}, expected at least one time step")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        kept = (1,) if self.keepdims else ()
        return (*input_shape[: self._time_axis], *kept, *input_shape[self._time_axis + 1 :])

    def _with_time_axis(self, d_outputs: Tensor) -> Array:
        """The gradient of the outputs, to be broadcast to the inputs."""
        d = d_outputs.numpy()
        return d if self.keepdims else np.expand_dims(d, self._time_axis)

    def add_to_stream(self, stream: _core.Stream) -> None:
        raise self.error("needs all time steps at once and cannot run step by step in a stream")


class GlobalMaxPooling1D(_GlobalPooling1D):
    """The largest value of each feature over time: (batch, time, features) to (batch, features).

    As in Keras, masked time steps count like others; a warning says so.

    Args:
        data_format: "channels_last" (default), or "channels_first" for inputs (batch, features, time).
        keepdims: the time axis stays, with one step.
    """

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Tensor:
        self.check_input_shape(inputs.shape)
        self.lose_mask(mask)
        x = inputs.numpy()
        largest = x.max(axis=self._time_axis, keepdims=True)
        if ctx.record:
            ctx.save(self, (inputs, largest))
        if not self.keepdims:
            largest = largest.squeeze(self._time_axis)
        return _core.as_tensor(largest, "float32")

    def backward(self, d_outputs: Tensor, ctx: Context, need_d_inputs: bool = True) -> Tensor:
        inputs, largest = ctx.take(self)
        chosen = inputs.numpy() == largest
        count = chosen.sum(axis=self._time_axis, keepdims=True)
        # Steps that are equally large share the gradient; there is none where NaN is the largest.
        share = self._with_time_axis(d_outputs) / np.maximum(count, 1).astype(np.float32)
        return _core.as_tensor(np.where(chosen, share, np.float32(0)), "float32")


class GlobalAveragePooling1D(_GlobalPooling1D):
    """The mean of each feature over time: (batch, time, features) to (batch, features).

    Masked time steps do not count. A row without any valid step gives zeros (in Keras NaN).

    Args:
        data_format: "channels_last" (default), or "channels_first" for inputs (batch, features, time).
        keepdims: the time axis stays, with one step.
    """

    supports_masking = True

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        """None: there are no time steps any more."""

    def __call__(self, inputs: Any, mask: Any = None, training: bool | None = False, **unknown: Any) -> Any:
        """Means of `inputs`, as a NumPy array.

        Args:
            inputs: (batch, time, features), or (batch, features, time) with "channels_first".
            mask: bool (batch, time), True where a time step counts.
            training: accepted as every layer has it.
        """
        if mask is None or unknown:
            return super().__call__(inputs, training=training, **unknown)
        x = self.as_input(inputs)
        self.check_input_shape(x.shape)
        valid = to_numpy(mask, self.label(), "mask")
        if valid.shape != (x.shape[0], x.shape[self._time_axis]):
            expected = x.shape[0], x.shape[self._time_axis]
            raise self.error(f"mask has shape {valid.shape}, expected (batch, time) = {expected}")
        return self._call(x, Context(bool(training)), _core.as_tensor(valid != 0, "bool"))

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Tensor:
        self.check_input_shape(inputs.shape)
        x, axis = inputs.numpy(), self._time_axis
        shares = self._shares(x.shape, mask)
        if ctx.record:
            ctx.save(self, (x.shape, shares))
        counted = x if mask is None else np.where(shares > 0, x, np.float32(0))  # also NaN does not count
        weight = shares.max(axis=axis, keepdims=True)
        means = counted.sum(axis=axis, keepdims=True, dtype=np.float64) * weight
        return _core.as_tensor(means if self.keepdims else means.squeeze(axis), "float32")

    def _shares(self, shape: tuple[int, ...], mask: Tensor | None) -> Array:
        """Of every time step in the mean, broadcastable to the inputs."""
        if mask is None:
            return np.full((1, 1, 1), 1 / shape[self._time_axis])
        valid = np.expand_dims(mask.numpy(), 3 - self._time_axis)
        count = valid.sum(axis=self._time_axis, keepdims=True)
        return np.asarray(valid / np.maximum(count, 1))

    def backward(self, d_outputs: Tensor, ctx: Context, need_d_inputs: bool = True) -> Tensor:
        shape, shares = ctx.take(self)
        d_inputs = self._with_time_axis(d_outputs) * shares.astype(np.float32)
        return _core.as_tensor(np.ascontiguousarray(np.broadcast_to(d_inputs, shape)), "float32")


# Names that Keras has too.
GlobalMaxPool1D = GlobalMaxPooling1D
GlobalAvgPool1D = GlobalAveragePooling1D
