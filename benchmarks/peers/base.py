"""The model that every peer runs, and what a peer must offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

LEARNING_RATE = 0.001
EPSILON = 1e-7  # of Adam, where Keras puts it


@dataclass(frozen=True)
class Case:
    """Embedding -> LSTM -> Dense(1, sigmoid), binary cross-entropy, Adam, on batches (batch, time) of ids."""

    name: str
    batch: int
    time: int
    vocabulary: int
    embedding: int
    units: int

    def weights(self) -> list[Array]:
        """Keras order and layout: table, kernel, recurrent kernel, bias (gates i f c o), kernel, bias."""
        random = np.random.default_rng(1)

        def uniform(*shape: int) -> Array:
            limit = np.sqrt(6.0 / sum(shape))
            return random.uniform(-limit, limit, shape).astype(np.float32)

        bias = np.zeros(4 * self.units, np.float32)
        bias[self.units : 2 * self.units] = 1
        return [
            random.uniform(-1, 1, (self.vocabulary, self.embedding)).astype(np.float32),
            uniform(self.embedding, 4 * self.units),
            uniform(self.units, 4 * self.units),
            bias,
            uniform(self.units, 1),
            np.zeros(1, np.float32),
        ]

    def data(self) -> tuple[Array, Array]:
        """Ids int32 (batch, time) and labels float32 (batch, 1)."""
        random = np.random.default_rng(2)
        ids = random.integers(0, self.vocabulary, (self.batch, self.time), dtype=np.int32)
        return ids, random.integers(0, 2, (self.batch, 1)).astype(np.float32)


CASES = {
    case.name: case
    for case in (
        Case("tutorial", batch=1, time=4, vocabulary=1000, embedding=64, units=128),
        Case("sequence", batch=32, time=100, vocabulary=1000, embedding=64, units=128),
    )
}


class Peer(ABC):
    """One library with the model of a case loaded, ready to be timed.

    `prepare` brings the batch into the form that the library likes best (outside the timing);
    `predict` and `train_step` are what is timed.
    """

    packages: tuple[str, ...]
    """Packages whose versions belong in the results."""

    @abstractmethod
    def __init__(self, case: Case, threads: int) -> None: ...

    @abstractmethod
    def prepare(self, ids: Array, labels: Array) -> None: ...

    @abstractmethod
    def predict(self) -> Array:
        """Probabilities (batch, 1) as a NumPy array: inference, no gradients kept."""

    @abstractmethod
    def train_step(self) -> float:
        """Forward, backward and Adam update on the batch; the loss before the update."""
