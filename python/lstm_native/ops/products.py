"""Sums of products, lengths, one-hot rows, new arrays. Floor 4."""

from __future__ import annotations

from string import ascii_letters
from typing import Any

import numpy as np

from lstm_native.layers.symbolic import Placeholder
from lstm_native.ops.axes import max as largest
from lstm_native.ops.axes import sum as sum_over
from lstm_native.ops.elementwise import abs as size_of
from lstm_native.ops.elementwise import cast, matmul, maximum, multiply, power, sqrt, square
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
    """Sums of products by Einstein's notation, such as "ij,jk->ik"; "..." stands for any axes."""
    terms, result = _terms(subscripts, [len(shape(x)) for x in operands])

    def rule(d: Array, y: Array, *arrays: Array) -> list[Array]:
        gradients = []
        for i, term in enumerate(terms):
            own = "".join(dict.fromkeys(term))
            others = [(t, a) for j, (t, a) in enumerate(zip(terms, arrays, strict=True)) if j != i]
            known = set(result).union(*(t for t, _ in others))
            seen = "".join(c for c in own if c in known)
            factors = ",".join([result, *(t for t, _ in others)])
            gradient = np.einsum(f"{factors}->{seen}", d, *(a for _, a in others))
            for axis, c in enumerate(own):
                if c not in known:
                    gradient = np.expand_dims(gradient, axis)
            if own != term:  # diagonals have all of it
                whole = np.zeros(arrays[i].shape, np.float32)
                np.einsum(f"{term}->{own}", whole)[...] = gradient
                gradient = whole
            gradients.append(gradient)
        return gradients

    explicit = f"{','.join(terms)}->{result}"
    return operation(lambda *arrays: np.einsum(explicit, *arrays), rule, *operands)


def _terms(subscripts: str, ranks: list[int]) -> tuple[list[str], str]:
    """The letters of every operand and of the result; "..." as letters that are free."""
    inputs, arrow, result = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(ranks):
        raise ValueError(f"einsum: {subscripts!r} speaks of {len(terms)} arrays, got {len(ranks)}")
    free = "".join(c for c in ascii_letters if c not in subscripts)
    counts = [rank - len(t) + 3 if "..." in t else 0 for t, rank in zip(terms, ranks, strict=True)]
    for term, rank, count in zip(terms, ranks, counts, strict=True):
        if count < 0 or ("..." not in term and len(term) != rank):
            raise ValueError(f"einsum: {subscripts!r} has {term!r} for an array of {rank} axes")
    dots = free[: max(counts)]
    terms = [t.replace("...", dots[len(dots) - n :]) for t, n in zip(terms, counts, strict=True)]
    if not arrow:
        letters = inputs.replace(".", "")
        result = "..." + "".join(sorted(c for c in set(letters) - {","} if letters.count(c) == 1))
    return terms, result.replace("...", dots)


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """Length over axes, Euclidean by default.

    Args:
        x: array.
        ord: of vectors: 1 sums sizes, infinity is the largest size, p the p-th root of sums of p-th powers;
            over two axes, which NumPy takes for matrices, None or "fro".
        axis: axes, all by default.
        keepdims: whether these stay, with size one.

    Raises:
        ValueError: another `ord`.
    """
    of_matrix = (len(shape(x)) if axis is None else np.size(axis)) == 2
    if ord is None or (ord == "fro" if of_matrix else ord == 2):
        return sqrt(sum_over(square(x), axis, keepdims))
    if of_matrix or isinstance(ord, str) or not ord > 0:
        kind = "matrices, expected None or 'fro'" if of_matrix else "vectors, expected a number above 0"
        raise ValueError(f"norm: ord is {ord!r} for {kind}")
    if ord == 1:
        return sum_over(size_of(x), axis, keepdims)
    if ord == np.inf:
        return largest(size_of(x), axis, keepdims)
    return power(sum_over(power(size_of(x), ord), axis, keepdims), 1 / ord)


def normalize(x: Any, axis: int = -1, order: int = 2, epsilon: float = 1e-12) -> Any:
    """`x` scaled to length one along an axis."""
    length = norm(x, None if order == 2 else order, axis, True)
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
