"""pad_sequences: sequences of different lengths as one array. Floor 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


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
        ValueError: Not a list of sequences, a text as `value` of a `dtype` of numbers, unknown `padding` or
            `truncating`, negative `maxlen`, or trailing axes that differ.
    """
    for argument, given in (("padding", padding), ("truncating", truncating)):
        if given not in ("pre", "post"):
            raise ValueError(f"pad_sequences: {argument} is {given!r}, expected 'pre' or 'post'")
    kind = np.dtype(dtype)
    if isinstance(value, str) and kind.kind not in "OUST":
        raise ValueError(
            f"pad_sequences: `dtype` {kind} is not compatible with value {value!r}; pass dtype=object "
            "or '<U9' for texts"
        )
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
