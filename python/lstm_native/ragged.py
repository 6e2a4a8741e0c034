"""Batches of lists of sequences of different lengths, sorted by length so that little is padded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native import _core, random_state
from lstm_native.arrays import to_numpy
from lstm_native.data import Batch

Array = npt.NDArray[Any]


def is_ragged(x: Any) -> bool:
    """Whether `x` is a list of sequences that make no rectangular array."""
    if not isinstance(x, list | tuple) or not x or not all(hasattr(item, "__len__") for item in x):
        return False
    try:
        lengths = {len(item) for item in x}
    except TypeError:  # arrays without axes have __len__, but no length
        return False
    return len(lengths) > 1 or lengths == {0}


class Sequences:
    """Sequences one behind the other.

    Args:
        items: arrays or lists (time_i, ...), all with the same further axes; length 0 is allowed.
        where: who asks, for messages.
        argument: name of the argument, for messages.

    Attributes:
        lengths: their lengths.
        flat: all steps, (sum of lengths, ...).

    Raises:
        ValueError: axes that differ.
        TypeError: objects or strings.
    """

    def __init__(self, items: Sequence[Any], where: str, argument: str) -> None:
        arrays = [to_numpy(item, where, f"{argument}[{i}]") for i, item in enumerate(items)]
        self.lengths = np.array([len(array) for array in arrays], np.int64)
        axes = [array.shape[1:] for array in arrays if len(array)]
        for i, array in enumerate(arrays):
            # An empty list does not know its features.
            if array.shape[1:] != axes[0] and len(array) if axes else False:
                raise ValueError(
                    f"{where}: {argument}[{i}] has shape {array.shape}, expected (time, "
                    f"{', '.join(map(str, axes[0]))}) as those before"
                )
        full = [array for array in arrays if len(array)] or arrays[:1]
        # One step of zeros behind the last: padding reads it.
        self._steps: Array = np.concatenate([*full, np.zeros((1, *full[0].shape[1:]), full[0].dtype)])
        self.flat: Array = self._steps[:-1]
        self._starts = np.concatenate([[0], np.cumsum(self.lengths)[:-1]])

    def __len__(self) -> int:
        return len(self.lengths)

    def padded(self, rows: Array) -> tuple[Array, Array | None]:
        """The sequences `rows` as (rows, longest, ...), zeros behind the end, and the mask of their steps.

        The mask is None where nothing is padded.
        """
        lengths = self.lengths[rows]
        time = max(1, int(lengths.max()))
        steps = np.arange(time)
        valid = steps < lengths[:, None]
        index = np.where(valid, self._starts[rows][:, None] + steps, len(self.flat))
        # All are in range; "clip" says so, and spares take a copy through a buffer.
        return self._steps.take(index, axis=0, mode="clip"), None if lengths.min() == time else valid


# Something for each row: an array, sequences, or a tuple of these and None; None where there is nothing.
Columns = Array | Sequences | tuple[Any, ...] | None


def columns(
    parts: Sequence[Any], names: Sequence[str], where: str, lengths: Array | None = None
) -> list[Array | Sequences | None]:
    """Arrays and ragged lists of sequences that belong together, row by row.

    Args:
        parts: arrays, ragged lists, and None.
        names: what to call them in messages.
        where: who asks, for messages.
        lengths: those of all sequences; by default those of the first ragged list.

    Raises:
        ValueError: another number of rows, or sequences of other lengths.
    """
    found: list[Array | Sequences | None] = []
    whose = "x"
    for part, name in zip(parts, names, strict=True):
        if part is None:
            found.append(None)
        elif is_ragged(part):
            sequences = Sequences(part, where, name)
            if lengths is None:
                lengths, whose = sequences.lengths, name
            found.append(sequences)
        else:
            found.append(to_numpy(part, where, name))
    assert lengths is not None
    for column, name in zip(found, names, strict=True):
        if isinstance(column, Sequences):
            if not np.array_equal(column.lengths, lengths):
                raise ValueError(f"{where}: {name} has sequences of other lengths than {whose}")
        elif column is not None and column.shape[:1] != (len(lengths),):
            raise ValueError(
                f"{where}: {name} has shape {column.shape}, expected {len(lengths)} rows as {whose} has"
            )
    return found


class RaggedData:
    """Batches of sequences of similar lengths.

    Args:
        x: the sequences; for several inputs a tuple of arrays and sequences of the same lengths.
        y: labels: an array with a row for each sequence, `Sequences` of the same lengths, or None; for
            several outputs a tuple of them.
        weight: sample weights, likewise.
        batch_size: rows of a batch.
        shuffle: whether batches come in a new order in every epoch, and rows of one length mix.
        seed: of the shuffling.
        exact: whether only sequences of one length may meet in a batch.
        prepare: checks and converts a batch of x, y, weight and mask.

    Attributes:
        lengths: of all sequences.
    """

    def __init__(
        self,
        x: Sequences | tuple[Array | Sequences, ...],
        y: Columns,
        weight: Columns,
        batch_size: int,
        shuffle: bool,
        seed: int,
        exact: bool,
        prepare: Callable[[Any, Any, Any, Any], Batch],
    ) -> None:
        self._x = x
        parts = x if isinstance(x, tuple) else (x,)
        self.lengths = next(part.lengths for part in parts if isinstance(part, Sequences))
        self._y = y
        self._weight = weight
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._seed = seed
        self._exact = exact
        self._prepare = prepare
        self.num_batches: int | None = len(self.rows_of_batches(0))

    def state(self) -> dict[str, int]:
        """What gives the same batches in another process: the seed of the shuffling."""
        return {"seed": self._seed}

    def restore(self, state: dict[str, int]) -> None:
        """Continues from `state()`."""
        self._seed = state["seed"]

    def rows_of_batches(self, number: int) -> list[Array]:
        """The rows of each batch of epoch `number`."""
        lengths = self.lengths
        seed = random_state.mix(self._seed, number)
        order: Array = np.arange(len(lengths))
        if self._shuffle:
            order = _core.random_permutation(len(lengths), seed, 0).numpy()
        order = order[np.argsort(lengths[order], kind="stable")]
        # A batch ends where it is full, or where another length begins.
        full = np.arange(len(order)) // self._batch_size
        if self._exact:
            new = np.concatenate([[True], np.diff(lengths[order]) != 0])
            place = np.arange(len(order)) - np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
            full = np.cumsum(place % self._batch_size == 0)
        batches = np.split(order, np.flatnonzero(np.diff(full)) + 1)
        if not self._shuffle:
            return batches
        shuffled = _core.random_permutation(len(batches), random_state.mix(seed, 1), 0).numpy()
        return [batches[i] for i in shuffled]

    def batch(self, rows: Array) -> Batch:
        """The batch of `rows`."""
        x, mask = _padded(self._x, rows)
        return self._prepare(x, _padded(self._y, rows)[0], _padded(self._weight, rows)[0], mask)

    def shapes(self) -> tuple[Any, Any]:
        """The shapes of x and y, None for what varies; tuples of shapes where they have several parts."""
        return _shape_of(self._x), _shape_of(self._y)

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number` from the `first` one on."""
        for rows in self.rows_of_batches(number)[first:]:
            yield self.batch(rows)


def _shape_of(column: Columns) -> Any:
    if isinstance(column, tuple):
        return tuple(map(_shape_of, column))
    if isinstance(column, Sequences):
        return (None, None, *column.flat.shape[1:])
    return None if column is None else (None, *column.shape[1:])


def _padded(column: Columns, rows: Array) -> tuple[Any, Any]:
    """The rows of a column, and the masks of their steps: None where nothing is padded."""
    if isinstance(column, tuple):
        values, masks = zip(*(_padded(part, rows) for part in column), strict=True)
        return values, None if all(mask is None for mask in masks) else masks
    if isinstance(column, Sequences):
        return column.padded(rows)
    return (None if column is None else column[rows]), None


def in_order(parts: Sequence[Array], rows: Sequence[Array], lengths: Array | None) -> Any:
    """Outputs of batches in the order of the input.

    Args:
        parts: outputs of each batch.
        rows: the rows of each batch.
        lengths: lengths of all sequences where outputs have a time axis; these are cut and come as a list.

    Returns:
        An array with the batch axis first, or a list of arrays (time_i, ...).
    """
    if lengths is None:
        outputs = np.empty((sum(map(len, rows)), *parts[0].shape[1:]), parts[0].dtype)
        for part, its_rows in zip(parts, rows, strict=True):
            outputs[its_rows] = part
        return outputs
    cut: list[Any] = [None] * len(lengths)
    for part, its_rows in zip(parts, rows, strict=True):
        for output, row in zip(part, its_rows, strict=True):
            cut[row] = output[: lengths[row]].copy()
    return cut
