"""Wording shared by the errors of the package. Floor 4."""

from __future__ import annotations

from collections.abc import Iterable


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
    # A rare path, so difflib is not part of the cost of importing the package.
    import difflib

    lowered = {candidate.lower(): candidate for candidate in names}
    near = difflib.get_close_matches(str(name).lower(), list(lowered), n=1, cutoff=0.6)
    hint = f"did you mean {lowered[near[0]]!r}? " if near else ""
    return ValueError(f"unknown {kind} {name!r}: {hint}known names are {', '.join(names)}")
