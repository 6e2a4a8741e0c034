"""Sequences: padding, windows over series as numbered batches, pairs of words for word vectors. Floor 4."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native import random_state
from lstm_native.arrays import positive_int, whole_number
from lstm_native.errors import check_number
from lstm_native.utils.datasets import PyDataset
from lstm_native.utils.sequences import pad_sequences

__all__ = ["TimeseriesGenerator", "make_sampling_table", "pad_sequences", "skipgrams"]

Array = npt.NDArray[Any]


class TimeseriesGenerator(PyDataset):
    """Batches of windows over a series and the value behind each: `generator[i]` is `(samples, targets)`.

    The window of row `r` is `data[r - length : r : sampling_rate]`, its target `targets[r]`; rows run from
    `start_index + length` to `end_index`, both included. `timeseries_dataset_from_array` is the newer way.

    Args:
        data: points in time, (steps, ...).
        targets: as many as `data`.
        length: steps that a window spans.
        sampling_rate: steps between two points of a window (default 1).
        stride: steps between two windows (default 1).
        start_index: points before it are left out (default 0).
        end_index: last row; None for the last one of `data`.
        shuffle: batches of random rows, drawn with replacement (default False).
        reverse: windows run backwards in time (default False).
        batch_size: windows in a batch; the last one may have fewer (default 128).
        options: `workers` and the like, see `PyDataset`.

    Raises:
        ValueError: `data` and `targets` of different lengths, no row left, or a size that is not positive.
    """

    def __init__(
        self,
        data: Any,
        targets: Any,
        length: int,
        sampling_rate: int = 1,
        stride: int = 1,
        start_index: int = 0,
        end_index: int | None = None,
        shuffle: bool = False,
        reverse: bool = False,
        batch_size: int = 128,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        owner = "TimeseriesGenerator"
        if len(data) != len(targets):
            raise ValueError(
                f"{owner}: data has {len(data)} steps and targets {len(targets)}, expected the same number"
            )
        self.data = data
        self.targets = targets
        self.length = positive_int(length, owner, "length")
        self.sampling_rate = positive_int(sampling_rate, owner, "sampling_rate")
        self.stride = positive_int(stride, owner, "stride")
        self.start_index = whole_number(start_index, owner, "start_index") + self.length
        self.end_index = len(data) - 1 if end_index is None else whole_number(end_index, owner, "end_index")
        self.shuffle = bool(shuffle)
        self.reverse = bool(reverse)
        self.batch_size = positive_int(batch_size, owner, "batch_size")
        if self.start_index < self.length or self.end_index >= len(data):
            raise ValueError(
                f"{owner}: start_index is {start_index} and end_index {end_index}, expected rows of data, "
                f"which has {len(data)} steps"
            )
        if self.start_index > self.end_index:
            raise ValueError(
                f"{owner}: `start_index + length` is {self.start_index}, behind end_index "
                f"{self.end_index}, so no row is left"
            )

    def __len__(self) -> int:
        return -(-(self.end_index - self.start_index + 1) // (self.batch_size * self.stride))

    def __getitem__(self, index: int) -> tuple[Array, Array]:
        if self.shuffle:
            numbers = np.random.default_rng(random_state.next_seed())
            rows = numbers.integers(self.start_index, self.end_index + 1, self.batch_size)
        else:
            first = self.start_index + self.batch_size * self.stride * index
            last = min(first + self.batch_size * self.stride, self.end_index + 1)
            rows = np.arange(first, last, self.stride)
        samples = np.array([self.data[row - self.length : row : self.sampling_rate] for row in rows])
        targets = np.array([self.targets[row] for row in rows])
        return samples[:, ::-1] if self.reverse else samples, targets

    def get_config(self) -> dict[str, Any]:
        """What the generator was made with; series as JSON."""
        own = ("length", "sampling_rate", "stride", "start_index", "end_index")
        return {
            "data": json.dumps(np.asarray(self.data).tolist()),
            "targets": json.dumps(np.asarray(self.targets).tolist()),
            **{name: getattr(self, name) for name in (*own, "shuffle", "reverse", "batch_size")},
        }

    def to_json(self, **options: Any) -> str:
        """The configuration as JSON.

        Args:
            options: of `json.dumps`.
        """
        return json.dumps({"class_name": type(self).__name__, "config": self.get_config()}, **options)


def make_sampling_table(size: int, sampling_factor: float = 1e-5) -> Array:
    """Probability with which `skipgrams` keeps the word of each rank, frequent words less often.

    word2vec's `min(1, sqrt(f / t) / (f / t))` (Mikolov et al., 2013) with frequencies by Zipf's law.

    Args:
        size: number of ranks.
        sampling_factor: t; smaller leaves out more (default 1e-5).

    Returns:
        float64 array (size,); the first item is that of rank 1, too.
    """
    rank = np.arange(positive_int(size, "make_sampling_table", "size"), dtype=np.float64)
    rank[0] = 1.0
    # 1 / frequency(rank), by the harmonic series; Euler's constant in the three digits that Keras has.
    inverse = rank * (np.log(rank) + 0.577) + 0.5 - 1 / (12 * rank)
    table: Array = np.minimum(1.0, np.sqrt(sampling_factor * inverse))
    return table


def skipgrams(
    sequence: Any,
    vocabulary_size: int,
    window_size: int = 4,
    negative_samples: float = 1.0,
    shuffle: bool = True,
    categorical: bool = False,
    sampling_table: Any = None,
    seed: int | None = None,
) -> tuple[list[list[int]], list[Any]]:
    """Pairs of a word and one near it (label 1), and of a word and a random one (label 0).

    Args:
        sequence: word numbers; 0 is no word and is passed over.
        vocabulary_size: largest word number plus one.
        window_size: farthest distance of the two words of a pair (default 4).
        negative_samples: random pairs for each pair that occurs (default 1).
        shuffle: pairs come in random order (default True).
        categorical: labels are [0, 1] and [1, 0] instead of 1 and 0 (default False).
        sampling_table: probability with which a word of each number is used, see `make_sampling_table`.
        seed: of the drawing; drawn when None.

    Returns:
        Pairs and labels, two lists of one length.
    """
    chosen = random_state.next_seed() if seed is None else random_state.check_seed("skipgrams", seed)
    numbers = np.random.default_rng(chosen)
    share = check_number(
        "skipgrams", "negative_samples", negative_samples, "a number from 0 on", lambda v: v >= 0
    )
    words = [int(word) for word in sequence]
    pairs = []
    for i, word in enumerate(words):
        if word == 0 or (sampling_table is not None and sampling_table[word] < numbers.random()):
            continue
        near = words[max(0, i - window_size) : i] + words[i + 1 : i + 1 + window_size]
        pairs += [[word, other] for other in near if other]
    random_pairs = int(len(pairs) * share)
    firsts = numbers.permutation([pair[0] for pair in pairs])
    others = numbers.integers(1, vocabulary_size, random_pairs) if random_pairs else ()
    labels: list[Any] = [1] * len(pairs) + [0] * random_pairs
    pairs += [[int(firsts[i % len(firsts)]), int(other)] for i, other in enumerate(others)]
    if shuffle:
        order = numbers.permutation(len(pairs))
        pairs, labels = [pairs[i] for i in order], [labels[i] for i in order]
    return pairs, [[1 - label, label] for label in labels] if categorical else labels
