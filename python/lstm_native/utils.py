"""Small helpers around training: seeds, padding, one-hot labels. Floor 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native import random_state
from lstm_native.arrays import optional_int, to_numpy


def set_random_seed(seed: int) -> None:
    """Makes a program reproducible: seeds Python's `random`, NumPy's global generator and this package.

    Weights, shuffling and dropout drawn afterwards are the same at every run.

    Args:
        seed: Integer in [0, 2**32), the range that NumPy takes.

    Raises:
        ValueError: `seed` is no integer or outside that range; nothing was seeded.
    """
    value = random_state.check_seed("set_random_seed", seed)
    if value != seed or value >= 1 << 32:
        raise ValueError(f"set_random_seed: seed is {seed!r}, expected an integer in [0, 2**32)")
    # Importing either at the top would cost every program that never seeds.
    import random

    random.seed(value)
    # The legacy global generator is what scripts that call this function draw from.
    np.random.seed(value)  # noqa: NPY002
    random_state.set_seed(value)


def pad_sequences(
    sequences: Sequence[Any],
    maxlen: int | None = None,
    dtype: Any = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: Any = 0.0,
) -> npt.NDArray[Any]:
    """Brings sequences to one length, by default with padding and cutting on the LEFT.

    Args:
        sequences: Sequences (time_i,) or (time_i, ...) whose trailing axes agree; length 0 is legal.
        maxlen: Time steps of the result; None takes the longest sequence.
        dtype: Type of the result (default "int32").
        padding: "pre" or "post": where `value` is put.
        truncating: "pre" or "post": where longer sequences lose their steps.
        value: What is put in (default 0).

    Returns:
        Array (len(sequences), maxlen, ...).

    Raises:
        ValueError: Not a list of sequences, unknown `padding` or `truncating`, negative `maxlen`, or
            trailing axes that differ.
    """
    for argument, given in (("padding", padding), ("truncating", truncating)):
        if given not in ("pre", "post"):
            raise ValueError(f"pad_sequences: {argument} is {given!r}, expected 'pre' or 'post'")
    if not hasattr(sequences, "__len__"):
        raise ValueError(
            f"pad_sequences: sequences is a {type(sequences).__name__}, expected a list of sequences"
        )
    rows = []
    for i, sequence in enumerate(sequences):
        if not hasattr(sequence, "__len__"):
            raise ValueError(f"pad_sequences: sequence {i} is {sequence!r}, expected a sequence")
        rows.append(sequence)
    if maxlen is None:
        maxlen = max((len(row) for row in rows), default=0)
    elif isinstance(maxlen, bool) or not isinstance(maxlen, int | np.integer) or maxlen < 0:
        raise ValueError(f"pad_sequences: maxlen is {maxlen!r}, expected a length that is not negative")

    step_shape = next((np.shape(row)[1:] for row in rows if len(row)), ())
    result = np.full((len(rows), maxlen, *step_shape), value, dtype=dtype)
    for i, row in enumerate(rows):
        part = row[max(len(row) - maxlen, 0) :] if truncating == "pre" else row[:maxlen]
        try:
            numbers = np.asarray(part)
            if numbers.size and numbers.dtype.kind in "iu" and result.dtype.kind in "iu":
                # NumPy 1 would let a number that is out of range wrap around.
                limits = np.iinfo(result.dtype)
                if numbers.min() < limits.min or numbers.max() > limits.max:
                    raise OverflowError("a number is out of range")
            kept = numbers.astype(result.dtype)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"pad_sequences: sequence {i} is no array of {result.dtype}: {error}") from None
        if len(kept) == 0:
            continue
        if kept.shape[1:] != step_shape:
            raise ValueError(
                f"pad_sequences: a step of sequence {i} has shape {kept.shape[1:]}, "
                f"those before it have {step_shape}"
            )
        if padding == "post":
            result[i, : len(kept)] = kept
        else:
            result[i, maxlen - len(kept) :] = kept
    return result


def to_categorical(x: Any, num_classes: int | None = None) -> npt.NDArray[np.float64]:
    """One-hot rows of class numbers.

    Args:
        x: Integers in [0, num_classes), any shape; a last axis of size one is dropped.
        num_classes: Number of classes; None takes the largest class plus one.

    Returns:
        float64 array with a new last axis of `num_classes`.

    Raises:
        ValueError: A class outside the range, or no `num_classes` and nothing to take it from.
    """
    given = to_numpy(x, "to_categorical", "x")
    if given.dtype.kind == "f" and not np.isfinite(given).all():
        raise ValueError("to_categorical: x has values that are not finite, expected class numbers")
    classes = given.astype(np.int64)
    if classes.ndim > 1 and classes.shape[-1] == 1:
        classes = classes.reshape(classes.shape[:-1])
    num_classes = optional_int(num_classes or None, "to_categorical", "num_classes")
    if num_classes is None:
        if classes.size == 0:
            raise ValueError("to_categorical: x is empty, so num_classes must be given")
        num_classes = int(classes.max()) + 1
    if classes.size and (classes.min() < 0 or classes.max() >= num_classes):
        raise ValueError(
            f"to_categorical: classes lie in [{classes.min()}, {classes.max()}], expected [0, {num_classes})"
        )
    result = np.zeros((classes.size, num_classes))
    result[np.arange(classes.size), classes.reshape(-1)] = 1.0
    return result.reshape(*classes.shape, num_classes)
