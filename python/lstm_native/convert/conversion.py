"""What a conversion did: the conventions that it changed, and how far both sides are apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Both sides compute in float32 and add in different orders; 1e-5 is 84 roundings of the result.
TOLERANCE = 1e-5


@dataclass
class Conversion:
    """The record of one conversion.

    Attributes:
        source: what was converted, "PyTorch" or the like.
        target: into what.
        notes: every convention that differs between the two, and what was done about it.
        max_difference: the largest difference between the outputs of both on the same random inputs, relative
            to outputs beyond 1; None where they were not run.
        not_run: why they were not.
        beside: what the other side was run in, where several can.
    """

    source: str
    target: str
    notes: list[str] = field(default_factory=list)
    max_difference: float | None = None
    not_run: str | None = None
    beside: str | None = None

    def note(self, text: str) -> None:
        """Adds a convention, once."""
        if text not in self.notes:
            self.notes.append(text)

    def compare(self, expected: Sequence[Any], found: Sequence[Any]) -> None:
        """Holds outputs of the converted model against those of the original.

        Raises:
            ValueError: they differ by more than 1e-5, or in number or shape.
        """
        if len(expected) != len(found):
            raise ValueError(
                f"conversion from {self.source} to {self.target}: the model has {len(found)} outputs, "
                f"expected {len(expected)} as the original"
            )
        worst = 0.0
        for i, (theirs, ours) in enumerate(zip(expected, found, strict=True)):
            a, b = np.asarray(theirs, np.float64), np.asarray(ours, np.float64)
            if a.shape != b.shape:
                raise ValueError(
                    f"conversion from {self.source} to {self.target}: output {i} has shape {b.shape}, "
                    f"expected {a.shape} as the original"
                )
            if not np.array_equal(np.isnan(a), np.isnan(b)):
                worst = np.inf
            elif a.size:
                worst = max(worst, float(np.nanmax(np.abs(a - b) / np.maximum(1.0, np.abs(a)), initial=0.0)))
        self.max_difference = worst
        if worst > TOLERANCE:
            raise ValueError(
                f"conversion from {self.source} to {self.target}: outputs differ by {worst:.2g}, expected at "
                f"most {TOLERANCE}"
            )

    def __str__(self) -> str:
        checked = f"not run beside the original: {self.not_run}"
        if self.max_difference is not None:
            where = f", in {self.beside}" if self.beside else ""
            checked = f"largest difference {self.max_difference:.2g}{where}"
        lines = [f"from {self.source} to {self.target}: {checked}", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines)
