"""JSON from files that nobody vouches for: strict, and bounded in memory by the size of the file."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

# Values that a text may hold, however short the file is; and one more for every so many bytes of the file. A
# value takes about 70 bytes of memory and one with a key three times that, so that memory stays below 8 MiB
# and ten times the file.
_VALUES = 100_000
_BYTES_PER_VALUE = 8
_MAX_DEPTH = 100
# Characters that are looked at together: all pieces between quotes would take many times the text's memory.
_PART = 1 << 16
# Characters of a message: more are no sentence that somebody reads. Some at the end are kept.
_MESSAGE = 1200
_END = 200
_BRACKETS = re.compile(r"[\[\]{}]")


def parse_json(text: bytes | str, where: str, what: str, file_size: int) -> dict[str, Any]:
    """The JSON object in `text`.

    Args:
        text: the text, UTF-8 where it is bytes.
        where: name of the file, for messages.
        what: what the text is ("header"), for messages.
        file_size: bytes of the file that it comes from.

    Raises:
        ValueError: no JSON (which has neither NaN nor infinity), no object, a key twice in one object,
            too many values or too many levels.
    """
    try:
        if text[:1] not in ("{", b"{"):
            raise ValueError("it does not start with '{'")
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        _check_amount(text, _VALUES + file_size // _BYTES_PER_VALUE)
        found = json.loads(
            text, object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_finite_float
        )
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: {what} is no valid JSON object: {error}") from None
    assert isinstance(found, dict)
    return found


def _check_amount(text: str, limit: int) -> None:
    # Escaped quotes are none. Behind a backslash outside of strings this is wrong, but there is no JSON then.
    text = text.replace("\\\\", "").replace('\\"', "")
    count = 0
    for part in _outside_strings(text):
        count += part.count(",") + part.count("[") + part.count("{") + 2 * part.count(":")
        if count > limit:
            raise ValueError(f"it has more than {limit} values")
    depth = 0
    for part in _outside_strings(text):
        for bracket in _BRACKETS.finditer(part):
            depth += 1 if bracket[0] in "[{" else -1
            if depth > _MAX_DEPTH:
                raise ValueError(f"it has more than {_MAX_DEPTH} levels")


def _outside_strings(text: str) -> Iterator[str]:
    """What is not between quotes, part by part."""
    inside = 0
    for start in range(0, len(text), _PART):
        pieces = text[start : start + _PART].split('"')
        yield " ".join(pieces[inside::2])
        inside = (inside + len(pieces) - 1) % 2


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"duplicate key {shortened(key)}")
            seen.add(key)
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {shortened(text)} is too large")
    return value


def shortened(value: Any) -> str:
    """`repr(value)`, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def one_line(text: str) -> str:
    """A message without line breaks, cut in the middle where it quotes much of a file."""
    if len(text) > _MESSAGE:
        text = f"{text[:_MESSAGE]} ... {text[-_END:]}"
    return " ".join(text.splitlines())
