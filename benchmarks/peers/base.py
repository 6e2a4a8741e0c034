"""What a peer must offer: for every case the calls that are timed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cases import Array, Case


@dataclass(frozen=True)
class Timed:
    """One way to do the work of a case.

    Attributes:
        call: what is timed. It ends when the result is there, not when it is under way.
        read: turns what `call` returned into the array that is compared. Not timed.
    """

    call: Callable[[], Any]
    read: Callable[[Any], Array]


class NotOffered(Exception):
    """The library does not do that; the message says what."""


class Peer(ABC):
    """One library in its process.

    Each method prepares a case (weights loaded, inputs in the layout that the library likes best, whatever
    is compiled compiled) and returns one or several ways to do it by name; the fastest one counts.
    """

    packages: tuple[str, ...]
    """Packages whose versions belong in the results."""
    families: tuple[str, ...] = ("lstm",)
    """Of recurrent layers, keys of `GATES`."""

    @abstractmethod
    def __init__(self, threads: int) -> None: ...

    @abstractmethod
    def inference(self, case: Case) -> dict[str, Timed]:
        """The outputs of all steps, (batch, time, units)."""

    @abstractmethod
    def streaming(self, case: Case) -> dict[str, Timed]:
        """One step more of the same stream at every call, from zero state on: the output (batch, units)."""

    def training(self, case: Case) -> dict[str, Timed]:
        """One step more of the same training at every call: the loss before the update."""
        raise NotOffered("does not train")

    def model(self, case: Case) -> dict[str, Timed]:
        """Probabilities (batch, 1)."""
        raise NotOffered("whole models are not built for it here")

    def predict(self, case: Case) -> dict[str, Timed]:
        """Probabilities (sequences, 1) of sequences of different lengths."""
        raise NotOffered("sequences of different lengths are not built for it here")

    def fit(self, case: Case) -> dict[str, Timed]:
        """One epoch more of the same training at every call: the mean loss of its batches."""
        raise NotOffered("sequences of different lengths are not built for it here")
