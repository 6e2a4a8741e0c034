"""The progress bar of fit, evaluate and predict. Floor 4.

Redraws at most every 50 ms, so that a batch costs one clock reading. Where output is no terminal, the
bar is left out and each epoch is one finished line.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

import numpy as np

_INTERVAL = 0.05  # seconds between two drawings of the live bar
_WIDTH = 20  # characters of the bar
_BOLD, _GREEN, _WHITE, _PLAIN = "\x1b[1m", "\x1b[32m", "\x1b[37m", "\x1b[0m"


def resolve_verbose(verbose: int | str, stream: TextIO | None = None) -> int:
    """The verbosity that `verbose` means on `stream` (standard output when None).

    Args:
        verbose: "auto", 0 (silent), 1 (bar) or 2 (a line per epoch); bool counts as 0 or 1.
        stream: Where progress would be written.

    Returns:
        0, 1 or 2: "auto" is 1 where a bar can be drawn live, else 2.

    Raises:
        ValueError: Anything else.
    """
    if isinstance(verbose, str):
        if verbose != "auto":
            raise ValueError(f"verbose is {verbose!r}, expected 'auto', 0, 1 or 2")
        return 1 if _is_live(sys.stdout if stream is None else stream) else 2
    if not isinstance(verbose, int | np.integer) or verbose not in (0, 1, 2):
        raise ValueError(f"verbose is {verbose!r}, expected 'auto', 0, 1 or 2")
    return int(verbose)


class Progress:
    """Shows how far a loop over batches is.

    Usage: for every epoch `begin(epoch)`, `update(step, logs)` after each batch, `end(logs)`.
    evaluate and predict are a single epoch, for which no "Epoch" line is written.

    Args:
        verbose: "auto", 0, 1 or 2, see `resolve_verbose`.
        steps: Number of batches, None when unknown.
        epochs: Total number of epochs.
        stream: Where to write; None is standard output at the time of writing.

    Raises:
        ValueError: Unknown `verbose`.
    """

    # Of the running epoch: its start, the end of its first batch, the last drawing, batches done, and
    # the characters that the line drawn last takes.
    _start: float
    _first: float | None
    _drawn: float
    _step: int
    _shown: int

    def __init__(
        self,
        verbose: int | str = "auto",
        steps: int | None = None,
        epochs: int = 1,
        stream: TextIO | None = None,
    ) -> None:
        self.verbose = resolve_verbose(verbose, stream)
        self.steps = steps
        self.epochs = epochs
        self._stream = stream
        # What `update` asks first: whether there is anything to draw while batches run.
        self.live = self.verbose == 1 and _is_live(sys.stdout if stream is None else stream)
        self._restart()

    def begin(self, epoch: int = 0) -> None:
        """Starts an epoch (counted from 0): writes its heading and starts its clock."""
        self._restart()
        if self.verbose and self.epochs > 1:
            self._write(f"Epoch {epoch + 1}/{self.epochs}\n")

    def update(self, step: int, logs: Mapping[str, Any] | None = None) -> None:
        """Says that `step` batches are done.

        Args:
            step: Batches done in this epoch.
            logs: Values so far, shown in their order.
        """
        self._step = step
        if not self.live:
            return
        now = time.perf_counter()
        if step == 1:
            self._first = now
        if now - self._drawn < _INTERVAL:
            return
        self._drawn = now
        self._draw(now, logs, finished=False)

    def wants_update(self) -> bool:
        """Whether an `update` now would draw, for callers whose logs cost something to make."""
        return self.live and time.perf_counter() - self._drawn >= _INTERVAL

    def end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Finishes the epoch: the last line with the final values."""
        if self.verbose == 0:
            return
        if self.steps is None:
            # The first epoch of a generator tells how long the following ones are.
            self.steps = self._step
        self._step = self.steps
        self._draw(time.perf_counter(), logs, finished=True)

    def _restart(self) -> None:
        self._start = time.perf_counter()
        self._first = None
        self._drawn = -_INTERVAL
        self._step = 0
        self._shown = 0

    def _draw(self, now: float, logs: Mapping[str, Any] | None, *, finished: bool) -> None:
        values = "".join(f" - {name}: {_number(value)}" for name, value in (logs or {}).items())
        duration = self._step_seconds(now)
        steps = self.steps
        count = f"{self._step:7d}/Unknown" if steps is None else f"{self._step:{len(str(steps))}d}/{steps}"
        remaining = None if finished or steps is None else duration * (steps - self._step)
        clock = f"{now - self._start:.0f}s" if remaining is None else _eta(remaining)
        if self.verbose == 2:
            self._write(f"{count} - {clock} - {_per_step(duration)}{values}\n")
            return
        cell = "━" if self._can_write("━") else "="
        done = _WIDTH if not steps else min(_WIDTH, _WIDTH * self._step // steps)
        tail = f"{_per_step(duration)}{values}"
        plain = f"{count} {cell * _WIDTH if steps is not None else ''} {clock} {tail}"
        if not self.live:
            self._write(f"{plain}\n")
            return
        bar = ""
        if steps is not None:
            bar = f"{_GREEN}{cell * done}{_PLAIN}{_WHITE}{cell * (_WIDTH - done)}{_PLAIN}"
        # Spaces wipe what a longer line before left behind.
        wipe = " " * max(0, self._shown - len(plain))
        self._shown = len(plain)
        line = f"\r{_BOLD}{count}{_PLAIN} {bar} {_BOLD}{clock}{_PLAIN} {tail}{wipe}"
        self._write(line + "\n" if finished else line)

    def _step_seconds(self, now: float) -> float:
        # The first batch pays for building and packing, so it is left out where there are others.
        if self._first is not None and self._step > 1:
            return (now - self._first) / (self._step - 1)
        return (now - self._start) / self._step if self._step else 0.0

    def _can_write(self, text: str) -> bool:
        stream = self._target()
        try:
            text.encode(getattr(stream, "encoding", None) or "utf-8")
        except UnicodeEncodeError:
            return False
        return True

    def _target(self) -> TextIO | None:
        return sys.stdout if self._stream is None else self._stream

    def _write(self, text: str) -> None:
        stream = self._target()
        # A windowed program has no standard output at all.
        if stream is None:
            return
        stream.write(text)
        stream.flush()


def _is_live(stream: TextIO | None) -> bool:
    """Whether a carriage return goes back to the start of the line on `stream`."""
    if stream is None:
        return False
    if stream is sys.stdout and ("ipykernel" in sys.modules or "PYCHARM_HOSTED" in os.environ):
        return True
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        # Not every replacement of sys.stdout has isatty, and a closed one raises.
        return False


def _number(value: Any) -> str:
    try:
        number = float(np.mean(value))  # of a metric with several values, as Keras shows it
    except (TypeError, ValueError):
        return str(value)
    return f"{number:.4f}" if abs(number) > 1e-3 else f"{number:.4e}"


def _eta(seconds: float) -> str:
    whole = int(seconds)
    if whole > 3600:
        return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
    return f"{whole // 60}:{whole % 60:02d}" if whole > 60 else f"{whole}s"


def _per_step(seconds: float) -> str:
    if seconds >= 1 or seconds == 0:
        return f"{seconds:.0f}s/step"
    return f"{seconds * 1e3:.0f}ms/step" if seconds >= 1e-3 else f"{seconds * 1e6:.0f}us/step"
