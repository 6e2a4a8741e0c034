"""Dropout and SpatialDropout1D: in training, a fraction of the inputs is set to zero. Floor 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from lstm_native import _core, random_state
from lstm_native.arrays import Shape
from lstm_native.layers.base import Context, Layer, Tensor
from lstm_native.locks import Lock


def _noise_shape(given: Any) -> Shape:
    """A noise shape as a tuple; the words of its errors are those that Keras' users know."""
    expected = ""
    if not isinstance(given, list | tuple):
        expected = "a tuple or list of integers"
    elif not all(size is None or isinstance(size, int) for size in given):
        expected = "all elements to be integers or None"
    elif not all(size is None or size > 0 for size in given):
        expected = "all dimensions to be positive integers or None"
    if expected:
        raise ValueError(
            f"Dropout: Invalid value received for argument `noise_shape`. Expected {expected}. "
            f"Received: noise_shape={given!r}"
        )
    return tuple(given)


def check_fraction(owner: str, argument: str, value: Any) -> float:
    """`value` as a float in [0, 1]; the words of the error are those that Keras' users know.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating) or not 0 <= value <= 1:
        raise ValueError(
            f"{owner}: Invalid value received for argument `{argument}`. Expected a float value "
            f"between 0 and 1. Received: {argument}={value!r}"
        )
    return float(value)


class Drawing(Layer):
    """Base of the layers that change their inputs by random numbers in training, and never otherwise.

    Args:
        seed: the numbers are a function of the seed and of how many were drawn before.
    """

    supports_masking = True
    unmoved_by_padding = True
    uncopied: ClassVar[tuple[str, ...]] = ("_draw_lock",)

    def __init__(self, seed: int | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        if seed is None:
            self._stream = random_state.next_seed()
        else:
            # The numbers of the seed itself are those of an initializer with the same seed.
            self._stream = random_state.mix(random_state.check_seed(type(self).__name__, seed), 0)
        self._drawn = 0
        self.make_uncopied()
        self.built = True

    def make_uncopied(self) -> None:
        self._draw_lock = Lock()

    def draw(self, count: int) -> int:
        """Takes the next `count` random numbers of the stream: where they begin."""
        with self._draw_lock:
            offset = self._drawn
            self._drawn += count
        return offset

    @property
    def strength(self) -> float:
        """How much training changes: 0 for nothing."""
        raise NotImplementedError

    def changed(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """What training makes of `inputs`, and the factors in it; None for ones."""
        raise NotImplementedError

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Tensor:
        factors = None
        outputs = inputs
        if ctx.training and self.strength > 0.0:
            outputs, factors = self.changed(inputs)
        if ctx.record:
            ctx.save(self, factors)
        return outputs

    def backward(self, d_outputs: Tensor, ctx: Context, need_d_inputs: bool = True) -> Tensor:
        factors = ctx.take(self)
        return d_outputs if factors is None else _core.multiply(d_outputs, factors)

    def add_to_stream(self, stream: _core.Stream) -> None:
        pass  # nothing is changed at inference


class Dropout(Drawing):
    """In training, sets a fraction of the inputs to zero and scales the rest up by 1 / (1 - rate).

    Args:
        rate: fraction that is dropped, in [0, 1].
        noise_shape: shape of the random mask, broadcast to the inputs; None or a size of None means theirs.
        seed: the masks are a function of the seed and of the number of calls; drawn at random by default.
    """

    def __init__(
        self,
        rate: float,
        noise_shape: Sequence[int | None] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        rate = check_fraction(type(self).__name__, "rate", rate)
        super().__init__(seed, **kwargs)
        self.rate = rate
        self.noise_shape = None if noise_shape is None else _noise_shape(noise_shape)

    def check_input_shape(self, shape: Shape) -> None:
        if self.noise_shape is None:
            return
        if len(shape) != len(self.noise_shape) or any(
            n not in (None, 1) and size is not None and n != size
            for n, size in zip(self.noise_shape, shape, strict=True)
        ):
            raise self.error(f"input has shape {shape}, which noise_shape {self.noise_shape} does not fit")

    def noise(self, shape: tuple[int, ...], device: str = "cpu") -> Tensor:
        """The next random mask: zero where something is dropped, 1 / (1 - rate) elsewhere."""
        noise_shape = shape
        if self.noise_shape is not None:
            noise_shape = tuple(
                size if n is None else n for n, size in zip(self.noise_shape, shape, strict=True)
            )
        offset = self.draw(int(np.prod(noise_shape)))
        if self.rate == 1.0:
            return _core.as_tensor(np.zeros(shape, np.float32), "float32")
        return _core.dropout_mask(shape, self.rate, self._stream, offset, noise_shape, device)

    @property
    def strength(self) -> float:
        return self.rate

    def changed(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        self.check_input_shape(inputs.shape)
        noise = self.noise(inputs.shape, inputs.device)
        return _core.multiply(inputs, noise), noise


class SpatialDropout1D(Dropout):
    """Dropout of whole features: in training, a feature of a sequence is dropped at all its steps or at none.

    Its configuration has no other arguments, as in Keras.

    Args:
        rate: fraction that is dropped, in [0, 1].
        seed: as of `Dropout`.
        name: name of the layer.
        dtype: "float32" or None, the same.
    """

    def __init__(
        self, rate: float, seed: int | None = None, name: str | None = None, dtype: str | None = None
    ) -> None:
        super().__init__(rate, (None, 1, None), seed, name=name, dtype=dtype)

    def check_input_shape(self, shape: Shape) -> None:
        if len(shape) != 3:
            raise self.error(f"input has shape {shape}, expected (batch, time, features)")

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Tensor:
        self.check_input_shape(inputs.shape)
        return super().forward(inputs, ctx, mask)

    def add_to_stream(self, stream: _core.Stream) -> None:
        pass  # nothing is dropped at inference
