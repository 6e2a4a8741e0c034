"""Functions that move elements: shapes, parts, joints. Floor 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstm_native.ops.operation import Array, as_axes, operation
from lstm_native.traced import value_of


def shape(x: Any) -> tuple[Any, ...]:
    """The shape."""
    return tuple(np.shape(x) if not hasattr(x, "shape") else x.shape)


def reshape(x: Any, newshape: Any) -> Any:
    """`x` in another shape, of which one size may be -1."""
    sizes = (newshape,) if isinstance(newshape, int) else tuple(newshape)
    return operation(lambda a: np.reshape(a, sizes), lambda d, y, a: (d.reshape(a.shape),), x)


def transpose(x: Any, axes: Any = None) -> Any:
    """Axes in another order, reversed by default."""
    return operation(
        lambda a: np.transpose(a, axes),
        lambda d, y, a: (np.transpose(d, None if axes is None else np.argsort([n % a.ndim for n in axes])),),
        x,
    )


def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """Two axes in each other's place."""
    return operation(
        lambda a: np.swapaxes(a, axis1, axis2), lambda d, y, a: (np.swapaxes(d, axis1, axis2),), x
    )


def moveaxis(x: Any, source: Any, destination: Any) -> Any:
    """Axes in other places, the others in their order."""
    rank = len(shape(x))
    places = [tuple(n % rank for n in np.atleast_1d(given)) for given in (source, destination)]
    order = [n for n in range(rank) if n not in places[0]]
    for to, start in sorted(zip(places[1], places[0], strict=True)):
        order.insert(to, start)
    return transpose(x, order)


def expand_dims(x: Any, axis: Any) -> Any:
    """Axes of size one more."""
    return operation(lambda a: np.expand_dims(a, axis), lambda d, y, a: (d.reshape(a.shape),), x)


def squeeze(x: Any, axis: Any = None) -> Any:
    """Without axes of size one."""
    return operation(lambda a: np.squeeze(a, as_axes(axis)), lambda d, y, a: (d.reshape(a.shape),), x)


def getitem(x: Any, index: Any) -> Any:
    """`x[index]`."""
    key = tuple(value_of(i) for i in index) if isinstance(index, tuple) else value_of(index)

    def rule(d: Array, y: Array, a: Array) -> tuple[Array]:
        gradient = np.zeros(a.shape, np.float32)
        np.add.at(gradient, key, d)
        return (gradient,)

    return operation(lambda a: np.asarray(a)[key], rule, x)


def take(x: Any, indices: Any, axis: int | None = None) -> Any:
    """Elements along an axis by number."""
    numbers = np.asarray(value_of(indices))
    if axis is None:
        return getitem(reshape(x, -1), numbers)
    return getitem(x, (slice(None),) * (axis % len(shape(x))) + (numbers,))


def concatenate(xs: Sequence[Any], axis: int = 0) -> Any:
    """Arrays one behind the other."""

    def rule(d: Array, y: Array, arrays: Sequence[Array]) -> list[Array]:
        ends = np.cumsum([a.shape[axis] for a in arrays])[:-1]
        return list(np.split(d, ends, axis))

    return operation(lambda arrays: np.concatenate(arrays, axis), rule, list(xs))


def stack(xs: Sequence[Any], axis: int = 0) -> Any:
    """Arrays along a new axis."""
    return operation(
        lambda arrays: np.stack(arrays, axis), lambda d, y, arrays: list(np.moveaxis(d, axis, 0)), list(xs)
    )


def split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """Parts along an axis: so many, or with these ends."""
    size = shape(x)[axis]
    if isinstance(indices_or_sections, int):
        ends = [size * i // indices_or_sections for i in range(1, indices_or_sections)]
    else:
        ends = list(indices_or_sections)
    before = (slice(None),) * (axis % len(shape(x)))
    return [getitem(x, (*before, slice(a, b))) for a, b in zip([0, *ends], [*ends, size], strict=True)]


def unstack(x: Any, num: int | None = None, axis: int = 0) -> list[Any]:
    """The items along an axis."""
    before = (slice(None),) * (axis % len(shape(x)))
    return [getitem(x, (*before, i)) for i in range(shape(x)[axis] if num is None else num)]


def flip(x: Any, axis: Any = None) -> Any:
    """Axes backwards, all by default."""
    return operation(lambda a: np.flip(a, axis), lambda d, y, a: (np.flip(d, axis),), x)


def broadcast_to(x: Any, shape: Any) -> Any:
    """`x` repeated to a shape."""
    return operation(lambda a: np.broadcast_to(a, shape), lambda d, y, a: (d,), x)


def repeat(x: Any, repeats: Any, axis: int | None = None) -> Any:
    """Every item along an axis, or of all of `x`, several times: so many, or a number for each."""
    if axis is None:
        x, axis = reshape(x, -1), 0
    if np.ndim(repeats) or repeats < 1:
        return take(x, np.repeat(np.arange(shape(x)[axis]), repeats), axis)
    return operation(
        lambda a: np.repeat(a, repeats, axis),
        lambda d, y, a: (np.add.reduceat(d, np.arange(0, d.shape[axis], repeats), axis),),
        x,
    )


def tile(x: Any, repeats: Any) -> Any:
    """`x` side by side with itself."""

    def rule(d: Array, y: Array, a: Array) -> tuple[Array]:
        times = (1,) * (d.ndim - np.size(repeats)) + tuple(np.atleast_1d(repeats))
        sizes = (1,) * (d.ndim - a.ndim) + a.shape
        pairs = [n for pair in zip(times, sizes, strict=True) for n in pair]
        return (d.reshape(pairs).sum(axis=tuple(range(0, 2 * d.ndim, 2))).reshape(a.shape),)

    return operation(lambda a: np.tile(a, repeats), rule, x)
