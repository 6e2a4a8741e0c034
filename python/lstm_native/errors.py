"""What errors and warnings of the package share: wording, and where a warning points. Floor 4."""

from __future__ import annotations

import numbers
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any

_LONGEST_NAME = 100  # that may be a slip of another; difflib takes the square of it


def unknown_name(kind: str, name: object, known: Iterable[str]) -> ValueError:
    """The error for a name that does not exist, with the nearest known name as a suggestion.

    Args:
        kind: What was asked for, for example "optimizer".
        name: What the caller wrote.
        known: Every legal name.

    Returns:
        An exception to raise.
    """
    names = sorted(set(known))
    near = nearest(name, names)
    hint = f"did you mean {near!r}? " if near else ""
    seen = repr(name)
    if len(seen) > _LONGEST_NAME:
        seen = f"{seen[:_LONGEST_NAME]}..."
    return ValueError(f"unknown {kind} {seen}: {hint}known names are {', '.join(names)}")


def nearest(name: object, known: Iterable[str]) -> str:
    """The name among `known` that `name` may be a slip of; "" when none is near."""
    if len(str(name)) > _LONGEST_NAME:
        return ""
    # A rare path, so difflib is not part of the cost of importing the package.
    import difflib

    lowered = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(str(name).lower(), list(lowered), n=1, cutoff=0.6)
    return lowered[near[0]] if near else ""


def check_number(
    owner: str, argument: str, value: Any, expected: str, accept: Callable[[float], bool] = lambda _: True
) -> float:
    """`value` as a float.

    Args:
        owner: who asks, for the message.
        argument: name of the argument, for the message.
        value: what the caller passed.
        expected: what is right, for the message ("a number in [0, 1]").
        accept: whether a number is right; NaN must fail where it is wrong.

    Raises:
        ValueError: no real number (bools are none), or one that `accept` refuses.
    """
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not accept(float(value)):
        raise ValueError(f"{owner}: {argument} is {value!r}, expected {expected}")
    return float(value)


def warn(message: str) -> None:
    """Warns, with the line of the program that called the package, however deep in it this is."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == "lstm_native"
