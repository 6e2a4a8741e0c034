"""Rescaling: inputs times a number, plus a number. Floor 4."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_native import _core
from lstm_native.arrays import Shape, to_numpy
from lstm_native.layers.base import Context, Layer, Tensor


class Rescaling(Layer):
    """`inputs * scale + offset`, in training and inference.

    What `2 * x`, `x / 2`, `x + 1`, `1 - x` and `-x` are in functional models, but for masks, which end there.

    Args:
        scale: a number, or numbers for the last axes of the inputs; not trained.
        offset: the same (default 0).
    """

    supports_masking = True
    unmoved_by_padding = True

    def __init__(self, scale: Any, offset: Any = 0.0, **kwargs: Any) -> None:
        given = [_checked(value, argument) for value, argument in ((scale, "scale"), (offset, "offset"))]
        super().__init__(**kwargs)
        # As the configuration has them: numbers, or lists of them.
        self.scale, self.offset = (numbers.tolist() for numbers in given)
        self._numbers = [numbers.astype(np.float32) for numbers in given]
        self.built = True

    def check_input_shape(self, shape: Shape) -> None:
        for numbers, argument in zip(self._numbers, ("scale", "offset"), strict=True):
            ends = shape[1:][max(len(shape) - 1 - numbers.ndim, 0) :]
            sizes = zip(numbers.shape, ends, strict=False)
            if len(ends) < numbers.ndim or not all(n == 1 or size in (None, n) for n, size in sizes):
                raise self.error(
                    f"input has shape {shape}, which {argument} of shape {numbers.shape} does not fit, "
                    "expected numbers for its last axes"
                )

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Tensor:
        self.check_input_shape(inputs.shape)
        outputs = self._scaled(inputs)
        offset = self._numbers[1]
        if not offset.any():
            return outputs
        with np.errstate(over="ignore", invalid="ignore"):
            return _core.as_tensor(outputs.numpy() + offset, "float32")

    def backward(self, d_outputs: Tensor, ctx: Context, need_d_inputs: bool = True) -> Tensor:
        return self._scaled(d_outputs)

    def add_to_stream(self, stream: _core.Stream) -> None:
        tensors: list[Tensor | None] = []
        for numbers, argument in zip(self._numbers, ("scale", "offset"), strict=True):
            while numbers.ndim > 1 and len(numbers) == 1:
                (numbers,) = numbers
            if numbers.ndim > 1:
                raise self.error(f"{argument} differs from step to step and cannot run in a stream")
            needed = argument == "scale" or numbers.any()
            tensors.append(_core.as_tensor(numbers, "float32") if needed else None)
        scale, offset = tensors
        assert scale is not None
        stream.add_rescaling(scale, offset)

    def _scaled(self, x: Tensor) -> Tensor:
        scale = self._numbers[0]
        if scale.ndim:
            with np.errstate(over="ignore", invalid="ignore"):
                return _core.as_tensor(x.numpy() * scale, "float32")
        scaled = x.copy()
        _core.scale_(scaled, float(scale))
        return scaled


def _checked(value: Any, argument: str) -> np.ndarray[Any, Any]:
    numbers = to_numpy(value, "Rescaling", argument)
    with np.errstate(over="ignore"):
        finite = np.isfinite(numbers.astype(np.float32)).all()
    if not finite:
        raise ValueError(f"Rescaling: {argument} is {value!r}, expected finite numbers of float32")
    return numbers
