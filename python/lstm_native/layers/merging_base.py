"""Base of the layers that join a list of inputs: their shapes, masks and calls. Floor 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lstm_native import _core
from lstm_native.arrays import Shape, to_float32, to_numpy
from lstm_native.layers.base import Layer, Tensor, call_outputs, empty_outputs
from lstm_native.layers.context import Context

Array = npt.NDArray[Any]
# Of the time steps of each input, or None where all of them count.
Flags = Sequence[Array | None]


def as_tensor(x: Array) -> Tensor:
    """A float32 tensor of these numbers."""
    return _core.as_tensor(np.ascontiguousarray(x), "float32")


class MergingLayer(Layer):
    """Base of the layers that take a list of inputs and give one output; they have no weights."""

    supports_masking = True
    # How many inputs a kind takes; None for any number.
    count: ClassVar[int | None] = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.built = True

    # --- shapes -----------------------------------------------------------------------------------

    def check_input_shape(self, shape: Any) -> None:
        """Raises ValueError when the shapes of the inputs do not fit each other."""
        kind = type(self).__name__
        if not isinstance(shape, list | tuple) or not all(isinstance(s, list | tuple) for s in shape):
            raise self.error(f"A {kind} layer should be called on a list of inputs, got one of shape {shape}")
        if self.count is not None and len(shape) != self.count:
            raise self.error(
                f"A {kind} layer should be called on exactly {self.count} inputs, got {len(shape)}"
            )
        if not shape:
            raise self.error(f"A {kind} layer should be called on a list of at least 1 input, got none")
        if len({s[0] for s in shape if s} - {None}) > 1:
            raise self.error(f"Cannot merge tensors with different batch sizes, got the shapes {[*shape]}")
        self.joined_shape([tuple(s) for s in shape])

    def joined_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Shape of the output; ValueError where the inputs do not fit each other."""
        raise NotImplementedError

    def compute_output_shape(self, input_shape: Any) -> Shape:
        """Shape of the output, for a list of the shapes of the inputs.

        Raises:
            ValueError: they do not fit each other.
        """
        self.check_input_shape(input_shape)
        return self.joined_shape([tuple(s) for s in input_shape])

    # --- masks ------------------------------------------------------------------------------------

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """The mask of the output, from a list of those of the inputs, each may be None."""
        if previous_mask is None:
            return None
        for name, given in (("mask", previous_mask), ("inputs", inputs)):
            if not isinstance(given, list | tuple):
                raise self.error(f"`{name}` should be a list. Got a {type(given).__name__}")
        if len(previous_mask) != len(inputs):
            raise self.error(
                f"The lists `inputs` and `mask` should have the same length, got {len(inputs)} and "
                f"{len(previous_mask)}"
            )
        if all(mask is None for mask in previous_mask):
            return None
        flags = [None if m is None else to_numpy(m, self.label(), "mask") != 0 for m in previous_mask]
        joined = self.joined_mask([tuple(x.shape) for x in inputs], flags)
        native = any(isinstance(mask, Tensor) for mask in previous_mask)
        return (
            _core.as_tensor(np.ascontiguousarray(joined), "bool") if native and joined is not None else joined
        )

    def joined_mask(self, shapes: Sequence[Shape], masks: Flags) -> Array | None:
        """The mask of the output, from those of inputs of these shapes; not all of them are None."""
        # A step counts where it does in any of the inputs; all do where one of them has no mask.
        found = [mask for mask in masks if mask is not None]
        return None if len(found) < len(masks) else np.logical_or.reduce(np.broadcast_arrays(*found))

    # --- calls ------------------------------------------------------------------------------------

    def as_input(self, inputs: Any) -> Any:
        """One of the inputs, or the list of them, as tensors."""
        if not isinstance(inputs, list | tuple):
            return to_float32(inputs, self.label(), "input")
        return tuple(to_float32(x, self.label(), f"inputs[{i}]") for i, x in enumerate(inputs))

    def __call__(self, inputs: Any, mask: Any = None, training: bool | None = False) -> Any:
        """The joined inputs, as a NumPy array.

        Args:
            inputs: list of array-likes.
            mask: list with the mask (batch, time) of each input, or None for it.
            training: without effect.
        """
        if not isinstance(inputs, list | tuple):
            kind = type(self).__name__
            raise self.error(
                f"A {kind} layer should be called on a list of inputs, got a {type(inputs).__name__}"
            )
        tensors = self.as_input(inputs)
        shape = self.compute_output_shape([x.shape for x in tensors])
        masks = self._checked_masks(mask, tensors)
        if 0 in shape:
            return empty_outputs(shape)
        ctx = Context(bool(training))
        outputs = self.forward(tensors, ctx, masks)
        for part in self.with_penalty()[1:]:
            part.forward(outputs, ctx)
        ctx.commit_states()
        return call_outputs(outputs, ctx)

    def _checked_masks(self, mask: Any, tensors: Sequence[Tensor]) -> Any:
        if mask is None:
            return None
        if not isinstance(mask, list | tuple) or len(mask) != len(tensors):
            raise self.error(
                f"mask is {mask!r}, expected a list with one, or None, for each of {len(tensors)} inputs"
            )
        for given, x in zip(mask, tensors, strict=True):
            if given is not None and np.shape(given) != x.shape[:2]:
                raise self.error(f"mask has shape {np.shape(given)}, expected (batch, time) = {x.shape[:2]}")
        return tuple(None if m is None else _core.as_tensor(np.asarray(m) != 0, "bool") for m in mask)

    def forward(self, inputs: Any, ctx: Context, mask: Any = None) -> Tensor:
        raise NotImplementedError
