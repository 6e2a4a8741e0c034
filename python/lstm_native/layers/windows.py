"""Windows that slide over the time axis: their number and their steps; what layers of them share. Floor 4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native import _core
from lstm_native.arrays import Shape
from lstm_native.layers.base import Layer, Tensor

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Windows:
    """Windows over the steps of a sequence.

    Attributes:
        size: number of steps in a window.
        stride: how far a window begins behind the one before.
        dilation: how far the steps of a window are apart.
        padding: "valid": windows lie within the sequence; "same": there is one for every `stride` steps, with
            padding on both sides, the odd step of it behind; "causal": as many, all padding in front.
    """

    size: int
    stride: int = 1
    dilation: int = 1
    padding: str = "valid"

    @property
    def span(self) -> int:
        """Steps from the first one of a window to its last one, both included."""
        return self.dilation * (self.size - 1) + 1

    def count(self, time: int | None) -> int | None:
        """Number of windows over `time` steps; below 1 where there is no room for any. None where unknown."""
        if time is None:
            return None
        return (time - (self.span if self.padding == "valid" else 1)) // self.stride + 1

    def around(self, time: int) -> tuple[int, int]:
        """Steps of padding in front and behind."""
        if self.padding == "causal":
            return self.span - 1, 0
        if self.padding == "valid":
            return 0, 0
        total = max((-(-time // self.stride) - 1) * self.stride + self.span - time, 0)
        return total // 2, total - total // 2

    def of(self, x: Array, fill: float = 0.0) -> Array:
        """The windows (batch, windows, size, features) of x (batch, time, features); `fill` is the padding.

        They lie in the memory of x, or of a padded copy.
        """
        around = self.around(x.shape[1])
        if any(around):
            x = np.pad(x, ((0, 0), around, (0, 0)), constant_values=fill)
        views = np.lib.stride_tricks.sliding_window_view(x, self.span, axis=1)
        return views[:, :: self.stride, :, :: self.dilation].swapaxes(2, 3)

    def back(self, d_windows: Array, time: int) -> Array:
        """What `of` takes apart, put together: sums (batch, time, features) of gradients of windows."""
        batch, count, size, features = d_windows.shape
        before, after = self.around(time)
        total = np.zeros((batch, before + time + after, features), np.float32)
        behind = (count - 1) * self.stride + 1  # from the first window's step on
        for i in range(size):
            first = i * self.dilation
            total[:, first : first + behind : self.stride] += d_windows[:, :, i]
        return total[:, before : before + time]


class OverTime(Layer):
    """Base of the layers that look at the time axis of (batch, time, features), whichever axis that is."""

    data_format: str

    @property
    def time_axis(self) -> int:
        """1, or 2 for "channels_first"."""
        return 1 if self.data_format == "channels_last" else 2

    def steps_first(self, x: Tensor | Array) -> Array:
        """x as an array (batch, time, features)."""
        array = x.numpy() if isinstance(x, Tensor) else x
        return array if self.time_axis == 1 else array.swapaxes(1, 2)

    def as_inputs_are(self, x: Array) -> Tensor:
        """(batch, time, features) with the axes in the order of the inputs."""
        return _core.as_tensor(np.ascontiguousarray(self.steps_first(x)), "float32")

    def check_input_shape(self, shape: Shape) -> None:
        if len(shape) != 3:
            layout = "time, features" if self.time_axis == 1 else "features, time"
            raise self.error(f"input has shape {shape}, expected (batch, {layout})")

    def with_steps(self, shape: Shape, count: int | None, features: int | None = None) -> Shape:
        """`shape` with another number of steps, and of features where that is given."""
        features = shape[3 - self.time_axis] if features is None else features
        return (shape[0], count, features) if self.time_axis == 1 else (shape[0], features, count)

    def add_to_stream(self, stream: _core.Stream) -> None:
        raise self.error("looks at several time steps at once and cannot run step by step in a stream")


class OverWindows(OverTime):
    """Base of the layers that make one step of every window of steps."""

    @property
    def windows(self) -> Windows:
        """The windows."""
        raise NotImplementedError

    def check_input_shape(self, shape: Shape) -> None:
        super().check_input_shape(shape)
        count = self.windows.count(shape[self.time_axis])
        if count is not None and count < 1:
            least = self.windows.span if self.windows.padding == "valid" else 1
            raise self.error(f"input has shape {shape}, expected at least {least} time steps, for one window")


def int_tuple(value: Any, count: int, owner: str, argument: str, least: int = 1) -> tuple[int, ...]:
    """An int, or `count` of them in a list, as a tuple; errors have the words that Keras' users know.

    Raises:
        ValueError: something else, or numbers below `least`.
    """
    wrong = (
        f"{owner}: The `{argument}` argument must be a tuple of {count} integers. Received {argument}={value}"
    )
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        value = (value,) * count
    if not isinstance(value, list | tuple) or len(value) != count:
        raise ValueError(wrong)
    if any(isinstance(n, bool) or not isinstance(n, int | np.integer) for n in value):
        raise ValueError(wrong)
    low = {int(n) for n in value if n < least}
    if low:
        bound = ">= 0" if least == 0 else "> 0"
        raise ValueError(f"{wrong}, including values {low} that do not satisfy `value {bound}`")
    return tuple(int(n) for n in value)


def check_padding(value: Any, known: Sequence[str], owner: str) -> str:
    """A kind of padding, in small letters.

    Raises:
        ValueError: none of `known`.
    """
    padding = value.lower() if isinstance(value, str) else value
    if padding not in known:
        raise ValueError(f"{owner}: padding is {value!r}, expected one of {', '.join(map(repr, known))}")
    return str(padding)
