"""The shapes that are compared, with their weights and data: the same numbers for every library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

VOCABULARY = 1000
LEARNING_RATE = 0.001
EPSILON = 1e-7  # of Adam, where Keras puts it
GATES = {"lstm": 4, "gru": 3, "simple_rnn": 1}  # of each family of layers, in the columns of its weights


@dataclass(frozen=True)
class Case:
    """One row of a table: what is run, on which shape.

    Sections: `inference` is one recurrent layer over (batch, time, inputs) that returns every step;
    `streaming` is one step of it, time 1, whose state goes in and comes out; `training` is a whole step
    (forward, backward, Adam) of Embedding -> recurrent layers -> Dense(1, sigmoid) with binary cross-entropy
    on ids (batch, time), `inputs` being the width of the embedding; `model` is inference of that model.

    `predict` and `fit` are calls over many sequences of the lengths `shortest` to `time`, in batches of
    sequences of similar lengths, with a model of one recurrent layer and Dense(1, sigmoid).

    Attributes:
        family: of the recurrent layers, a key of GATES; a GRU is that with `reset_after`.
        recurrent_dropout: of the recurrent layers, in training.
        quantized: what `inference` and `streaming` store weights in: "bfloat16", "int8", or "" for float32.
        sequences: how many `predict` and `fit` get.
        shortest: the least length of these.
    """

    section: str
    batch: int
    time: int
    inputs: int
    units: int
    layers: int = 1
    family: str = "lstm"
    recurrent_dropout: float = 0.0
    quantized: str = ""
    sequences: int = 0
    shortest: int = 1

    @property
    def name(self) -> str:
        stack = "" if self.layers == 1 else f" x{self.layers}"
        return f"{self.batch},{self.time},{self.inputs},{self.units}{stack}"

    @property
    def has_ids(self) -> bool:
        return self.section in ("training", "model")

    def layer_weights(self) -> list[list[Array]]:
        """For every layer kernel, recurrent kernel and bias in the Keras layout, gates i f c o or z r h.

        The bias of a GRU is (2, 3 units), of the inputs and of the recurrent product.
        """
        random = np.random.default_rng(1)

        def uniform(*shape: int) -> Array:
            limit = np.sqrt(6.0 / sum(shape))
            return random.uniform(-limit, limit, shape).astype(np.float32)

        layers, columns = [], GATES[self.family] * self.units
        for number in range(self.layers):
            # Different in every gate, so that a wrong order of gates shows in the outputs.
            shape = (2, columns) if self.family == "gru" else (columns,)
            bias = random.uniform(-0.2, 0.2, shape).astype(np.float32)
            if self.family == "lstm":
                bias[self.units : 2 * self.units] += 1
            width = self.units if number else self.inputs
            layers.append([uniform(width, columns), uniform(self.units, columns), bias])
        return layers

    def table(self) -> Array:
        """Of the embedding."""
        return np.random.default_rng(3).uniform(-1, 1, (VOCABULARY, self.inputs)).astype(np.float32)

    def dense_weights(self) -> list[Array]:
        limit = np.sqrt(6.0 / (self.units + 1))
        kernel = np.random.default_rng(4).uniform(-limit, limit, (self.units, 1))
        return [kernel.astype(np.float32), np.zeros(1, np.float32)]

    def data(self) -> Array:
        """Float32 (batch, time, inputs), or ids int32 (batch, time)."""
        random = np.random.default_rng(2)
        if self.has_ids:
            return random.integers(0, VOCABULARY, (self.batch, self.time), dtype=np.int32)
        return random.uniform(-1, 1, (self.batch, self.time, self.inputs)).astype(np.float32)

    def labels(self) -> Array:
        """Float32 (batch, 1), of `fit` (sequences, 1)."""
        rows = self.sequences or self.batch
        return np.random.default_rng(5).integers(0, 2, (rows, 1)).astype(np.float32)

    def lengths(self) -> Array:
        """Of the sequences, uniform, in no order."""
        return np.random.default_rng(6).integers(self.shortest, self.time + 1, self.sequences)

    def ragged_data(self) -> list[Array]:
        """For each sequence float32 (its length, inputs)."""
        random = np.random.default_rng(7)
        return [random.uniform(-1, 1, (n, self.inputs)).astype(np.float32) for n in self.lengths()]

    def padded_data(self) -> Array:
        """Float32 (sequences, time, inputs), zeros behind the end of a sequence."""
        padded = np.zeros((self.sequences, self.time, self.inputs), np.float32)
        for row, sequence in zip(padded, self.ragged_data(), strict=True):
            row[: len(sequence)] = sequence
        return padded

    def rows_of_batches(self) -> list[Array]:
        """The sequences of each batch, from the shortest to the longest."""
        order = np.argsort(self.lengths(), kind="stable")
        return [order[first : first + self.batch] for first in range(0, self.sequences, self.batch)]


SEQUENCES = (
    (1, 100, 1, 32),
    (1, 100, 64, 128),
    (1, 100, 256, 256),
    (1, 100, 512, 512),
    (1, 100, 1024, 1024),
    (8, 100, 64, 128),
    (8, 100, 256, 256),
    (8, 100, 512, 512),
    (32, 100, 64, 128),
    (32, 100, 256, 256),
    (32, 100, 512, 512),
    (128, 100, 64, 128),
    (128, 100, 256, 256),
)
TRAININGS = (
    (1, 4, 64, 128),
    (32, 20, 64, 64),
    (32, 100, 64, 128),
    (32, 100, 256, 256),
    (64, 50, 128, 512),
    (128, 100, 64, 128),
)
SECTIONS: dict[str, tuple[Case, ...]] = {
    "inference": tuple(Case("inference", *shape) for shape in SEQUENCES),
    "streaming": tuple(Case("streaming", 1, 1, width, width) for width in (64, 128, 256, 512, 1024)),
    "training": tuple(Case("training", *shape) for shape in TRAININGS),
    "model": (
        Case("model", 1, 4, 64, 128),
        Case("model", 32, 100, 64, 128),
        Case("model", 1, 100, 64, 128, layers=2),
        Case("model", 32, 100, 64, 128, layers=2),
    ),
}
# Other families, a handful of shapes.
FAMILIES: dict[str, tuple[Case, ...]] = {
    family: (
        *(
            Case(section, *shape, family=family)
            for section in ("inference", "training")
            for shape in ((1, 100, 64, 128), (32, 100, 64, 128), (32, 100, 256, 256), (128, 100, 64, 128))
        ),
        Case("streaming", 1, 1, 128, 128, family=family),
    )
    for family in ("gru", "simple_rnn")
}
