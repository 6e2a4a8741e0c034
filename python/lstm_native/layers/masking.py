"""Masking, and masks made from values. Floor 4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native import _core
from lstm_native.arrays import Shape
from lstm_native.errors import check_number
from lstm_native.layers.base import Context, Layer, Tensor


class Masking(Layer):
    """Marks time steps whose features all equal `mask_value`, for later layers to skip, and zeroes them.

    Args:
        mask_value: the value that means "no data".
    """

    supports_masking = True
    unmoved_by_padding = True

    def __init__(self, mask_value: float = 0.0, **kwargs: Any) -> None:
        mask_value = check_number("Masking", "mask_value", mask_value, "a number")
        super().__init__(**kwargs)
        self.mask_value = mask_value
        self.built = True

    def check_input_shape(self, shape: Shape) -> None:
        if len(shape) != 3:
            raise self.error(f"input has shape {shape}, expected (batch, time, features)")

    def _valid(self, inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.asarray((inputs != np.float32(self.mask_value)).any(axis=-1))

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return step_flags(inputs, self._valid, previous_mask)

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Tensor:
        self.check_input_shape(inputs.shape)
        valid = self._valid(inputs.numpy())[..., None]
        if ctx.record:
            ctx.save(self, valid)
        return _core.as_tensor(np.where(valid, inputs.numpy(), np.float32(0)), "float32")

    def backward(self, d_outputs: Tensor, ctx: Context, need_d_inputs: bool = True) -> Tensor:
        valid = ctx.take(self)
        return _core.as_tensor(np.where(valid, d_outputs.numpy(), np.float32(0)), "float32")

    def add_to_stream(self, stream: _core.Stream) -> None:
        stream.add_masking(self.mask_value)


def step_flags(inputs: Any, flags_of: Callable[[npt.NDArray[Any]], npt.NDArray[Any]], previous: Any) -> Any:
    """A mask of the kind that `inputs` are, tensor or array; what `previous` masks stays masked."""
    if isinstance(inputs, Tensor):
        flags = flags_of(inputs.numpy())
        return _core.as_tensor(flags if previous is None else flags & previous.numpy(), "bool")
    flags = flags_of(np.asarray(inputs))
    return flags if previous is None else flags & np.asarray(previous)
