"""timeseries_dataset_from_array: batches of sliding windows over long arrays. Floor 4."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native import _core, random_state
from lstm_native.arrays import Result, optional_int, positive_int, to_numpy, whole_number

Array = npt.NDArray[Any]
_NAME = "timeseries_dataset_from_array"


class TimeseriesDataset:
    """Batches of windows, made when they are asked for; may be gone through again and again.

    `len()` is the number of batches. Made by `timeseries_dataset_from_array`.
    """

    def __init__(
        self,
        data: Array,
        targets: Array | None,
        starts: Array,
        steps: Array,
        batch_size: int | None,
        seed: int | None,
    ) -> None:
        self._data = data
        self._targets = targets
        self._starts = starts
        self._steps = steps
        self._batch_size = batch_size
        self._seed = seed
        self._passes = 0
        self._batches = -(-len(starts) // (batch_size or 1))

    def __len__(self) -> int:
        return self._batches

    def take(self, count: int) -> TimeseriesDataset:
        """The first batches of every pass.

        Args:
            count: How many; all when there are fewer, or when it is -1 or another negative number.

        Raises:
            ValueError: No integer.
        """
        taken = copy.copy(self)
        count = whole_number(count, f"{_NAME}: take", "count")
        if count >= 0:
            taken._batches = min(self._batches, count)
        return taken

    def set_epoch(self, number: int) -> None:
        """Says which order the next pass has, if the windows are shuffled: `fit` passes the epoch."""
        self._passes = number

    def __iter__(self) -> Iterator[Any]:
        order = np.arange(len(self._starts))
        if self._seed is not None:
            seed = random_state.mix(self._seed, self._passes)
            order = _core.random_permutation(len(order), seed, 0).numpy()
        self._passes += 1
        size = self._batch_size or 1
        for first in range(0, len(order), size)[: self._batches]:
            starts = self._starts[order[first : first + size]]
            x = self._data[starts[:, None] + self._steps]
            y = None if self._targets is None else self._targets[starts]
            if self._batch_size is None:
                x, y = x[0], None if y is None else y[0]
            x = x.view(Result)
            yield x if y is None else (x, np.asarray(y).view(Result))


def timeseries_dataset_from_array(
    data: Any,
    targets: Any,
    sequence_length: int,
    sequence_stride: int = 1,
    sampling_rate: int = 1,
    batch_size: int | None = 128,
    shuffle: bool = False,
    seed: int | None = None,
    start_index: int | None = None,
    end_index: int | None = None,
) -> TimeseriesDataset:
    """Sliding windows over a time series, as batches that `fit`, `evaluate` and `predict` take.

    Only the windows of a batch are copied, so `data` may be a `numpy.memmap` larger than the memory.

    Args:
        data: Array (steps, ...) of consecutive points in time.
        targets: Array whose row i belongs to the window that starts at step i; None yields windows alone.
        sequence_length: Steps of a window.
        sequence_stride: Steps between the starts of two windows (default 1).
        sampling_rate: Steps between two points of a window (default 1).
        batch_size: Windows of a batch; None yields one window at a time without a batch axis (default 128).
        shuffle: A new order of the windows in every pass (default False).
        seed: Of the shuffling; drawn when None.
        start_index: Steps before this one are left out (default None: none).
        end_index: This step and those after it are left out (default None: none).

    Returns:
        An iterable of (windows, targets) or of windows; windows are (batch, sequence_length, ...). As in
        Keras, the first row of `targets` that counts is that of `start_index`.

    Raises:
        ValueError: An index or a number of steps outside the data; a window longer than the data.
    """
    data = to_numpy(data, _NAME, "data")
    if data.ndim == 0:
        raise ValueError(f"{_NAME}: data is a single number, expected an array (steps, ...)")
    rows = len(data)
    for name, value in (("start_index", start_index), ("end_index", end_index)):
        if value is not None:
            whole_number(value, _NAME, name)
    if start_index is not None and not 0 <= start_index < rows:
        raise ValueError(
            f"{_NAME}: `start_index` must be in [0, {rows}), the steps of data, not {start_index}"
        )
    first = start_index or 0
    if end_index is not None and not first < end_index <= rows:
        raise ValueError(f"{_NAME}: `end_index` must be in ({first}, {rows}], not {end_index}")
    for name, value in (("sampling_rate", sampling_rate), ("sequence_stride", sequence_stride)):
        if not 0 < whole_number(value, _NAME, name) < max(rows, 2):
            raise ValueError(f"{_NAME}: `{name}` must be in [1, {rows}), the steps of data, not {value}")
    length = positive_int(sequence_length, _NAME, "sequence_length")
    size = optional_int(batch_size, _NAME, "batch_size")
    data = data[first:end_index]
    windows = len(data) - (length - 1) * sampling_rate
    if targets is not None:
        targets = to_numpy(targets, _NAME, "targets")
        if targets.ndim == 0:
            raise ValueError(f"{_NAME}: targets is a single number, expected a row for each window")
        targets = targets[first:end_index]
        windows = min(windows, len(targets))
    if windows < 1:
        raise ValueError(
            f"{_NAME}: a window of sequence_length {length} with sampling_rate {sampling_rate} does not fit "
            f"into {len(data)} steps of data and its targets"
        )
    if shuffle:
        seed = random_state.next_seed() if seed is None else random_state.check_seed(_NAME, seed)
    return TimeseriesDataset(
        data,
        targets,
        np.arange(0, windows, sequence_stride),
        np.arange(length) * sampling_rate,
        size,
        seed if shuffle else None,
    )
