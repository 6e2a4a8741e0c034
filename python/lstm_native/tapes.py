"""Which tape of `traced` a thread is on, known where nothing else of it is. Floor 4."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lstm_native.traced import Tape

_local = threading.local()


def current() -> Tape | None:
    """The tape of this thread."""
    return getattr(_local, "tape", None)


def change(tape: Tape | None) -> Tape | None:
    """Makes `tape` the one of this thread; returns the one before."""
    before = current()
    _local.tape = tape
    return before


def on_tape(x: Any, tape: Tape, kind: type) -> Any:
    """`x` with the objects of class `kind`, variables, as values of the tape; lists item by item."""
    if isinstance(x, kind):
        return tape.leaf(x)  # type: ignore[arg-type]
    return type(x)(on_tape(item, tape, kind) for item in x) if isinstance(x, list | tuple) else x
