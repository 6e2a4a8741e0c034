"""PyDataset: batches that a class of the caller makes by their number. Floor 4."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any


class PyDataset:
    """Base of data sets written in Python, which `fit`, `evaluate` and `predict` take as `x`.

    A subclass defines `__len__`, the number of batches, and `__getitem__(index)`, which gives a batch: `x`,
    `(x, y)` or `(x, y, sample_weight)`. It may define `on_epoch_begin` and `on_epoch_end`; and in the place
    of `__len__` the property `num_batches`, None for an endless data set. In `fit`, unless `shuffle=False`,
    batches come in another order in every epoch, that of their numbers elsewhere; what is in a batch may
    change in `on_epoch_end`.

    Args:
        workers, use_multiprocessing, max_queue_size: as in Keras; without effect, batches are made one after
            the other where they are used.
    """

    def __init__(self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10) -> None:
        self.workers = workers
        self.use_multiprocessing = use_multiprocessing
        self.max_queue_size = max_queue_size

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} does not define __len__, the number of batches")

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not define __getitem__(index)")

    @property
    def num_batches(self) -> int | None:
        """Number of batches; None where there is no end."""
        return len(self)

    def on_epoch_begin(self) -> None:
        """Called before the first batch of an epoch."""

    def on_epoch_end(self) -> None:
        """Called after the last batch of an epoch."""

    def __iter__(self) -> Iterator[Any]:
        size = self.num_batches
        return (self[index] for index in (count() if size is None else range(size)))


# An older name of it.
Sequence = PyDataset
