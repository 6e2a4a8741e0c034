"""Layers that join several inputs element by element: Add, Multiply, Maximum and the like. Floor 4."""

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
        return call_outputs(outputs)

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

    def add_to_stream(self, stream: _core.Stream) -> None:
        raise self.error("joins several inputs and cannot run step by step in a stream")


class _Elementwise(MergingLayer):
    """Base of the layers that join elements at the same place.

    Where all inputs have masks, steps count that do in any of them.
    """

    unmoved_by_padding = True

    def joined_shape(self, shapes: Sequence[Shape]) -> Shape:
        rank = max(map(len, shapes))
        batch = next((s[0] for s in shapes if s and s[0] is not None), None)
        sizes: list[int | None] = []
        for axis in range(1, rank):
            given = {s[axis] for s in (_raised(s, rank) for s in shapes)} - {1}
            if len(given - {None}) > 1:
                raise self.error(f"Inputs have incompatible shapes, got {list(shapes)}")
            known = given - {None}
            sizes.append(next(iter(known), None) if given else 1)
        return (batch, *sizes) if rank else ()

    def forward(self, inputs: Any, ctx: Context, mask: Any = None) -> Tensor:
        shapes = [x.shape for x in inputs]
        self.check_input_shape(shapes)
        whole = self.joined_shape(shapes)
        flags = (
            None
            if mask is None
            else [_spread_flags(m, x.shape, whole) for m, x in zip(mask, inputs, strict=True)]
        )
        same = [x if x.shape == whole else _spread(x, whole) for x in inputs]
        outputs, kept = self.joined(same, flags if self.minds_masks else None)
        if ctx.record:
            ctx.save(self, (shapes, whole, kept))
        return outputs

    def backward(self, d_outputs: Tensor, ctx: Context, need_d_inputs: bool = True) -> tuple[Tensor, ...]:
        """Gradients of the inputs."""
        shapes, whole, kept = ctx.take(self)
        gradients = self.parted(d_outputs, kept, len(shapes))
        return tuple(
            d if shape == whole else _gathered(d, shape) for d, shape in zip(gradients, shapes, strict=True)
        )

    # Whether masks change the numbers, as in Keras.
    minds_masks: ClassVar[bool] = False

    def joined(self, inputs: list[Tensor], masks: list[Array | None] | None) -> tuple[Tensor, Any]:
        """Joins inputs of one shape.

        Args:
            inputs: float32 tensors.
            masks: bool arrays of that shape, or None for inputs whose elements all count; None for no masks.

        Returns:
            The output, and what `parted` needs.
        """
        raise NotImplementedError

    def parted(self, d_outputs: Tensor, kept: Any, count: int) -> Sequence[Tensor]:
        """Gradients of the `count` inputs of `joined`; they may be one tensor."""
        raise NotImplementedError


def _raised(shape: Shape, rank: int) -> Shape:
    """`shape` with axes of size 1 behind the batch, until there are `rank`."""
    return (*shape[:1], *(1,) * (rank - len(shape)), *shape[1:])


def _spread(x: Tensor, whole: Shape) -> Tensor:
    array: Array = x.numpy().reshape(_raised(x.shape, len(whole)))  # type: ignore[arg-type]
    return as_tensor(np.broadcast_to(array, whole))  # type: ignore[arg-type]


def _spread_flags(mask: Tensor | None, shape: tuple[int, ...], whole: Shape) -> Array | None:
    """The mask (batch, time) of an input of `shape` for every element of the output."""
    if mask is None:
        return None
    flags = mask.numpy()
    flags = flags.reshape(flags.shape + (1,) * (len(shape) - 2))
    raised = flags.reshape(_raised(flags.shape, len(whole)))  # type: ignore[arg-type]
    return np.broadcast_to(raised, whole)  # type: ignore[arg-type]


def _gathered(d: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The gradient of an input of `shape` that was spread, from that of what it became."""
    raised = _raised(shape, d.ndim)
    axes = tuple(axis for axis, size in enumerate(raised) if size != d.shape[axis])
    return as_tensor(d.numpy().sum(axis=axes, dtype=np.float64).reshape(shape))


class Add(_Elementwise):
    """The sum of the inputs, a list of arrays (batch, ...) of one shape.

    Axes of size 1 are repeated as often as another input needs, and inputs with fewer axes get such axes
    behind that of the batch: (batch, features) is added at every step of (batch, time, features).
    """

    def joined(self, inputs: list[Tensor], masks: list[Array | None] | None) -> tuple[Tensor, Any]:
        total = inputs[0].copy()
        for x in inputs[1:]:
            _core.add_(total, x)
        return total, None

    def parted(self, d_outputs: Tensor, kept: Any, count: int) -> Sequence[Tensor]:
        return [d_outputs] * count


class Average(Add):
    """The mean of the inputs; which may be joined is as in `Add`."""

    def joined(self, inputs: list[Tensor], masks: list[Array | None] | None) -> tuple[Tensor, Any]:
        total, kept = super().joined(inputs, masks)
        _core.scale_(total, 1 / len(inputs))
        return total, kept

    def parted(self, d_outputs: Tensor, kept: Any, count: int) -> Sequence[Tensor]:
        share = d_outputs.copy()
        _core.scale_(share, 1 / count)
        return [share] * count


class Subtract(_Elementwise):
    """The first of two inputs less the second; which may be joined is as in `Add`."""

    count = 2

    def joined(self, inputs: list[Tensor], masks: list[Array | None] | None) -> tuple[Tensor, Any]:
        difference = _negative(inputs[1])
        _core.add_(difference, inputs[0])
        return difference, None

    def parted(self, d_outputs: Tensor, kept: Any, count: int) -> Sequence[Tensor]:
        return d_outputs, _negative(d_outputs)


def _negative(x: Tensor) -> Tensor:
    negative = x.copy()
    _core.scale_(negative, -1.0)
    return negative


class Multiply(_Elementwise):
    """The product of the inputs; which may be joined is as in `Add`.

    A masked step of one input leaves the others as they are; where it is masked in all, the output is zero.
    """

    minds_masks = True

    def joined(self, inputs: list[Tensor], masks: list[Array | None] | None) -> tuple[Tensor, Any]:
        out: Array | None = None
        if masks is not None:
            inputs = [
                x if mask is None else as_tensor(np.where(mask, x.numpy(), np.float32(1)))
                for x, mask in zip(inputs, masks, strict=True)
            ]
            found = [mask for mask in masks if mask is not None]
            out = ~np.logical_or.reduce(found) if len(found) == len(masks) else None
        result = _product(inputs)
        if out is not None:
            result = as_tensor(np.where(out, np.float32(0), result.numpy()))
        return result, (inputs, masks, out)

    def parted(self, d_outputs: Tensor, kept: Any, count: int) -> Sequence[Tensor]:
        inputs, masks, out = kept
        if out is not None:
            d_outputs = as_tensor(np.where(out, np.float32(0), d_outputs.numpy()))
        gradients = [_product([d_outputs, *inputs[:i], *inputs[i + 1 :]]) for i in range(count)]
        if masks is not None:
            gradients = [
                d if mask is None else as_tensor(np.where(mask, d.numpy(), np.float32(0)))
                for d, mask in zip(gradients, masks, strict=True)
            ]
        return gradients


def _product(factors: Sequence[Tensor]) -> Tensor:
    result = factors[0]
    for factor in factors[1:]:
        result = _core.multiply(result, factor)
    return result if len(factors) > 1 else result.copy()


class Maximum(_Elementwise):
    """The largest of the inputs at every place; which may be joined is as in `Add`.

    Masked steps of an input are left out where another one counts. The gradient goes to the largest input, of
    equal ones to the first.
    """

    minds_masks = True
    _sign: ClassVar[float] = 1.0

    def joined(self, inputs: list[Tensor], masks: list[Array | None] | None) -> tuple[Tensor, Any]:
        best = inputs[0].numpy().copy()
        winner = np.zeros(best.shape, np.int32)
        valid = None if masks is None else masks[0]  # None: everywhere
        for i, tensor in enumerate(inputs[1:], 1):
            x = tensor.numpy()
            better = (x > best if self._sign > 0 else x < best) | np.isnan(x)
            mask = None if masks is None else masks[i]
            if valid is not None:
                better |= ~valid
            if mask is not None:
                better &= mask
            np.copyto(best, x, where=better)
            np.copyto(winner, i, where=better)
            valid = None if valid is None or mask is None else valid | mask
        return as_tensor(best), winner

    def parted(self, d_outputs: Tensor, kept: Any, count: int) -> Sequence[Tensor]:
        d = d_outputs.numpy()
        return [as_tensor(np.where(kept == i, d, np.float32(0))) for i in range(count)]


class Minimum(Maximum):
    """The smallest of the inputs at every place; masks and gradients are as in `Maximum`."""

    _sign: ClassVar[float] = -1.0


# --- functions ------------------------------------------------------------------------------------


def add(inputs: Any, **kwargs: Any) -> Any:
    """The sum of a list of placeholders or arrays: `Add(**kwargs)(inputs)`."""
    return Add(**kwargs)(inputs)


def subtract(inputs: Any, **kwargs: Any) -> Any:
    """The first of two placeholders or arrays less the second: `Subtract(**kwargs)(inputs)`."""
    return Subtract(**kwargs)(inputs)


def multiply(inputs: Any, **kwargs: Any) -> Any:
    """The product of a list of placeholders or arrays: `Multiply(**kwargs)(inputs)`."""
    return Multiply(**kwargs)(inputs)


def average(inputs: Any, **kwargs: Any) -> Any:
    """The mean of a list of placeholders or arrays: `Average(**kwargs)(inputs)`."""
    return Average(**kwargs)(inputs)


def maximum(inputs: Any, **kwargs: Any) -> Any:
    """The largest of a list of placeholders or arrays at every place: `Maximum(**kwargs)(inputs)`."""
    return Maximum(**kwargs)(inputs)


def minimum(inputs: Any, **kwargs: Any) -> Any:
    """The smallest of a list of placeholders or arrays at every place: `Minimum(**kwargs)(inputs)`."""
    return Minimum(**kwargs)(inputs)
