"""Layers that join several inputs element by element: Add, Multiply, Maximum and the like. Floor 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from lstm_native import _core
from lstm_native.arrays import Shape
from lstm_native.layers.base import Tensor
from lstm_native.layers.context import Context
from lstm_native.layers.merging_base import Array, as_tensor
from lstm_native.layers.merging_base import MergingLayer as MergingLayer


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
    # The mode of `Stream.add_join` that computes the same of one time step.
    merge_mode: ClassVar[str]

    def add_join_to_stream(
        self, stream: _core.Stream, slots: Sequence[int], shapes: Sequence[Shape], masked: bool
    ) -> None:
        """See `Layer`."""
        if self.minds_masks and masked:
            raise self.error("minds which steps count, and cannot run step by step in a stream with a mask")
        if len({shape[1:] for shape in shapes}) > 1:
            raise self.error(
                f"joins inputs of shapes {[*shapes]}, expected one shape to run step by step in a stream"
            )
        if self.merge_mode == "ave" and len(slots) > 2:
            stream.add_join(self.label(), "sum", slots)
            stream.add_rescaling(_core.as_tensor(np.asarray(1 / len(slots)), "float32"), None)
        else:
            stream.add_join(self.label(), self.merge_mode, slots)

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

    merge_mode: ClassVar[str] = "sum"

    def joined(self, inputs: list[Tensor], masks: list[Array | None] | None) -> tuple[Tensor, Any]:
        total = inputs[0].copy()
        for x in inputs[1:]:
            _core.add_(total, x)
        return total, None

    def parted(self, d_outputs: Tensor, kept: Any, count: int) -> Sequence[Tensor]:
        return [d_outputs] * count


class Average(Add):
    """The mean of the inputs; which may be joined is as in `Add`."""

    merge_mode: ClassVar[str] = "ave"

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
    merge_mode: ClassVar[str] = "sub"

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
    merge_mode: ClassVar[str] = "mul"

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
    merge_mode: ClassVar[str] = "max"
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

    merge_mode: ClassVar[str] = "min"
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
