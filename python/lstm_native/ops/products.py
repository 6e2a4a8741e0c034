"""Sums of products, lengths, one-hot rows, new arrays. Floor 4."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_native.layers.symbolic import Placeholder
from lstm_native.ops.axes import sum as sum_over
from lstm_native.ops.elementwise import abs as size_of
from lstm_native.ops.elementwise import cast, matmul, maximum, multiply, sqrt, square
from lstm_native.ops.operation import Array, operation
from lstm_native.ops.shapes import shape
from lstm_native.traced import Traced, value_of


def dot(x1: Any, x2: Any) -> Any:
    """Sums of products over the last axis of `x1` and the last but one of `x2`."""
    if len(shape(x2)) <= 2:
        return matmul(x1, x2) if shape(x1) and shape(x2) else multiply(x1, x2)
    rank, last = len(shape(x1)), len(shape(x2)) - 2
    return tensordot(x1, x2, ((rank - 1,), (last,)))


def tensordot(x1: Any, x2: Any, axes: Any = 2) -> Any:
    """Sums of products over axes: the last ones of `x1` with the first ones of `x2`, or two lists of them."""
    a, b = len(shape(x1)), len(shape(x2))
    if isinstance(axes, int):
        first, second = tuple(range(a - axes, a)), tuple(range(axes))
    else:
        first, second = (
            tuple(n % r for n in np.atleast_1d(given)) for given, r in zip(axes, (a, b), strict=True)
        )
    names = iter("abcdefghijklmnopqrstuvwxyz")
    left = [next(names) for _ in range(a)]
    right = [next(names) for _ in range(b)]
    for i, j in zip(first, second, strict=True):
        right[j] = left[i]
    kept = [n for i, n in enumerate(left) if i not in first] + [
        n for j, n in enumerate(right) if j not in second
    ]
    return einsum(f"{''.join(left)},{''.join(right)}->{''.join(kept)}", x1, x2)


def einsum(subscripts: str, *operands: Any) -> Any:
    """Sums of products by Einstein's notation, such as "ij,jk->ik"."""
    inputs, arrow, result = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if not arrow:
        letters = "".join(terms)
        result = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))

    def rule(d: Array, y: Array, *arrays: Array) -> list[Array]:
        gradients = []
        for i, term in enumerate(terms):
            others = [(t, a) for j, (t, a) in enumerate(zip(terms, arrays, strict=True)) if j != i]
            known = set(result).union(*(t for t, _ in others))
            seen = "".join(c for c in term if c in known)
            factors = ",".join([result, *(t for t, _ in others)])
            gradient = np.einsum(f"{factors}->{seen}", d, *(a for _, a in others))
            for axis, c in enumerate(term):
                if c not in known:
                    gradient = np.expand_dims(gradient, axis)
            gradients.append(np.broadcast_to(gradient, arrays[i].shape))
        return gradients

    whole = f"{inputs}->{result}"
    return operation(lambda *arrays: np.einsum(whole, *arrays), rule, *operands)


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """Euclidean length over axes; `ord` 1 sums sizes."""
    if ord == 1:
        return sum_over(size_of(x), axis, keepdims)
    return sqrt(sum_over(square(x), axis, keepdims))


def normalize(x: Any, axis: int = -1, order: int = 2, epsilon: float = 1e-12) -> Any:
    """`x` scaled to length one along an axis."""
    length = norm(x, 1 if order == 1 else None, axis, True)
    return x / maximum(length, np.float32(epsilon))


def one_hot(x: Any, num_classes: int, axis: int = -1) -> Any:
    """Rows of zeros with a one at each class number."""
    return operation(
        lambda a: np.moveaxis(
            (np.asarray(a)[..., None] == np.arange(num_classes)).astype(np.float32), -1, axis
        ),
        None,
        x,
    )


def convert_to_tensor(x: Any, dtype: Any = None) -> Any:
    """`x` as an array of floats in single precision, or of `dtype`."""
    if isinstance(x, Traced | Placeholder):
        return x if dtype is None else cast(x, dtype)
    array = np.asarray(value_of(x))
    return array.astype(np.float32 if array.dtype == np.float64 and dtype is None else dtype or array.dtype)


def convert_to_numpy(x: Any) -> Array:
    """`x` as an array, without a gradient."""
    return np.asarray(value_of(x))


def zeros(shape: Any, dtype: Any = "float32") -> Array:
    """Zeros."""
    return np.zeros(shape, dtype)


def ones(shape: Any, dtype: Any = "float32") -> Array:
    """Ones."""
    return np.ones(shape, dtype)


def zeros_like(x: Any, dtype: Any = None) -> Any:
    """Zeros in the shape of `x`."""
    return operation(lambda a: np.zeros_like(a, dtype), None, x)


def ones_like(x: Any, dtype: Any = None) -> Any:
    """Ones in the shape of `x`."""
    return operation(lambda a: np.ones_like(a, dtype), None, x)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> Array:
    """Numbers at equal distances; floats in single precision."""
    numbers = np.arange(start, stop, step) if stop is not None else np.arange(0, start, step)
    return numbers.astype(dtype or (np.float32 if numbers.dtype.kind == "f" else np.int32))
