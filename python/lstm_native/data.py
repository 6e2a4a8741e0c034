"""Batches for fit, evaluate and predict: from arrays, or from generators and other iterables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from itertools import count, islice
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from lstm_native import _core, random_state
from lstm_native.errors import check_number, warn
from lstm_native.utils.datasets import PyDataset

Array = npt.NDArray[Any]


class BatchSource(Protocol):
    """What batches come from.

    Attributes:
        num_batches: batches of a pass; None where that is not known.
    """

    num_batches: int | None

    def state(self) -> dict[str, int]:
        """What gives the same batches in another process."""

    def restore(self, state: dict[str, int]) -> None:
        """Continues from `state()`."""

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number` from the `first` one on."""


class Batch(NamedTuple):
    """One batch, checked and converted.

    With several inputs or outputs, `x`, or `y` and `sample_weight`, are tuples.
    """

    x: Any
    y: Any
    sample_weight: Any
    mask: _core.Tensor | None = None


class ArrayData:
    """Batches of whole arrays, cut without copies unless they are shuffled.

    Args:
        data: the arrays, checked and converted.
        batch_size: rows of a batch; the last one may have fewer.
        shuffle: True for a new order in every epoch, "batch" to shuffle within the batches only.
        seed: of the shuffling.
    """

    def __init__(self, data: Batch, batch_size: int, shuffle: bool | str = False, seed: int = 0) -> None:
        several = isinstance(data.x, tuple)
        self._x: Any = tuple(x.numpy() for x in data.x) if several else data.x.numpy()
        self._dtype: Any = tuple(x.dtype for x in data.x) if several else data.x.dtype
        self._y = data.y
        self._weight = data.sample_weight
        self._set_up(len(self._x[0] if several else self._x), batch_size, shuffle, seed)

    def _set_up(self, rows: int, batch_size: int, shuffle: bool | str, seed: int) -> None:
        self._rows = rows
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._seed = seed
        self.num_batches: int | None = -(-rows // batch_size)

    def state(self) -> dict[str, int]:
        """What gives the same batches in another process: the seed of the shuffling."""
        return {"seed": self._seed}

    def restore(self, state: dict[str, int]) -> None:
        """Continues from `state()`."""
        self._seed = state["seed"]

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number` from the `first` one on."""
        order = self._order(number) if self._shuffle else None
        for start in range(first * self._batch_size, self._rows, self._batch_size):
            stop = start + self._batch_size
            rows: Any = slice(start, stop)
            if order is not None:
                rows = order[start:stop]
                if len(rows) == 1:  # one row is a view, wherever it lies
                    row = int(rows[0])
                    rows = slice(row, row + 1)
            yield self._batch(rows)

    def _batch(self, rows: Any) -> Batch:
        x, y, weight = self._x, self._y, self._weight
        if type(x) is tuple:
            inputs: Any = tuple(map(_core.as_tensor, _cut(x, rows), self._dtype))
        else:
            inputs = _core.as_tensor(x[rows], self._dtype)
        return Batch(
            inputs,
            None if y is None else _cut(y, rows),
            None if weight is None else _cut(weight, rows),
        )

    def _order(self, number: int) -> Array:
        seed = random_state.mix(self._seed, number)
        if self._shuffle != "batch":
            return _core.random_permutation(self._rows, seed, 0).numpy()
        order = np.arange(self._rows)
        for start in range(0, self._rows, self._batch_size):
            size = min(self._batch_size, self._rows - start)
            part = _core.random_permutation(size, random_state.mix(seed, start), 0).numpy()
            order[start : start + size] = start + part
        return order


class SlicedData(ArrayData):
    """Batches of arrays that may be larger than memory: each is read, checked and converted by itself.

    Args:
        x, y, weight: arrays with a row for each sample, tuples of arrays, or None.
        rows: number of rows.
        batch_size, shuffle, seed: as `ArrayData`.
        prepare: checks and converts one batch.
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        weight: Any,
        rows: int,
        batch_size: int,
        shuffle: bool | str,
        seed: int,
        prepare: Callable[[Any, Any, Any], Batch],
    ) -> None:
        self._x, self._y, self._weight = x, y, weight
        self._prepare = prepare
        self._set_up(rows, batch_size, shuffle, seed)

    def raw(self, rows: Any) -> tuple[Any, Any, Any]:
        """These rows of x, y and weight, as they are."""
        x, y, weight = (None if a is None else _cut(a, rows) for a in (self._x, self._y, self._weight))
        return x, y, weight

    def _batch(self, rows: Any) -> Batch:
        return self._prepare(*self.raw(rows))


def _cut(part: Any, rows: Any) -> Any:
    """Rows of an array, or of each array of a tuple."""
    if type(part) is tuple:
        return tuple(None if a is None else a[rows] for a in part)
    return part[rows]


class IterableData:
    """Batches that a generator or another iterable makes.

    Args:
        batches: yields `x`, `(x,)`, `(x, y)` or `(x, y, sample_weight)`, or has them by number.
        prepare: checks and converts one batch.
        where: who asks, for messages.
    """

    def __init__(self, batches: Iterable[Any], prepare: Callable[[Any, Any, Any], Batch], where: str) -> None:
        iterable = hasattr(batches, "__iter__") or not hasattr(batches, "__getitem__")
        self._batches = batches if iterable else _ByNumber(batches)
        self._prepare = prepare
        self._where = where
        self.num_batches = _length_of(batches)
        # A generator: every epoch goes on where the one before stopped.
        self._is_iterator = isinstance(batches, Iterator)
        self._consumed = 0

    def state(self) -> dict[str, int]:
        """What gives the same batches in another process: how many were taken from a generator."""
        return {"consumed": self._consumed}

    def restore(self, state: dict[str, int]) -> None:
        """Continues from `state()`: leaves out what a generator has given before."""
        if self._is_iterator:
            self._consumed = _skip(iter(self._batches), state["consumed"])

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of one pass over the iterable, from the `first` on; an exhausted generator has none."""
        # Datasets that shuffle do it by the number of the epoch.
        if hasattr(self._batches, "set_epoch"):
            self._batches.set_epoch(number)
        items = iter(self._batches)
        if not self._is_iterator:
            _skip(items, first)
        for item in items:
            self._consumed += 1
            yield self._prepare(*unpack(item, self._where))


class _ByNumber:
    """What has `__getitem__` and `__len__` only, as an iterable; by itself it need not know where it ends."""

    def __init__(self, batches: Any) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Any]:
        return (self._batches[number] for number in range(len(self._batches)))


class NumberedData:
    """Batches that a `PyDataset` makes by their numbers.

    Args:
        dataset: the data set.
        prepare: checks and converts one batch.
        where: who asks, for messages.
        shuffle: whether the numbers come in a new order in every epoch; those of an endless data set do not.
    """

    def __init__(
        self, dataset: PyDataset, prepare: Callable[[Any, Any, Any], Batch], where: str, shuffle: bool
    ) -> None:
        self.dataset = dataset
        self._prepare = prepare
        self._where = where
        self._shuffle = shuffle
        self._seed = random_state.next_seed() if shuffle else 0
        self.num_batches = dataset.num_batches

    def state(self) -> dict[str, int]:
        """What gives the same batches in another process: the seed of the shuffling."""
        return {"seed": self._seed}

    def restore(self, state: dict[str, int]) -> None:
        """Continues from `state()`."""
        self._seed = state["seed"]

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number` from the `first` one on; those before are not made."""
        size = self.dataset.num_batches
        numbers: Iterable[int] = count() if size is None else range(size)
        if self._shuffle and size:
            seed = random_state.mix(self._seed, number)
            numbers = _core.random_permutation(size, seed, 0).numpy().tolist()
        for index in islice(numbers, first, None):
            yield self._prepare(*unpack(self.dataset[index], self._where))


def source_of(
    batches: Any, prepare: Callable[[Any, Any, Any], Batch], where: str, shuffle: bool = False
) -> BatchSource:
    """What is no array: a `PyDataset`, which may be shuffled, or another iterable, which comes as it is."""
    if isinstance(batches, PyDataset):
        return NumberedData(batches, prepare, where, shuffle)
    return IterableData(batches, prepare, where)


class Epochs:
    """The batches of every epoch, `steps` of them where the caller fixed a number.

    With `steps` an epoch goes on where the one before stopped.
    """

    def __init__(self, data: BatchSource, steps: int | None, where: str) -> None:
        self._data = data
        self._where = where
        self._steps = steps
        self._running: Iterator[Batch] | None = None
        # The epoch in which the running pass over the data began, and how many batches it has given.
        self._began = 0
        self._taken = 0
        self._found_any = False
        self.num_batches = steps if steps is not None else data.num_batches

    def restart(self) -> None:
        """Lets the next epoch start from the beginning; a generator goes on."""
        self._running = None

    def state(self) -> dict[str, int]:
        """Where the data stands, for `restore` in another process."""
        began = -1 if self._running is None else self._began
        return {"began": began, "taken": self._taken, **self._data.state()}

    def restore(self, state: dict[str, int]) -> None:
        """Continues from `state()`; the next call of `epoch` names the batch to start from."""
        self._data.restore(state)
        self._began, self._taken = state["began"], state["taken"]
        self._running = None if self._began < 0 else self._data.epoch(self._began, self._taken)

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number`.

        Args:
            number: counted from 0.
            first: the batch to start from, where the ones before were given in another process.

        Raises:
            ValueError: the data has no batch at all.
        """
        dataset = self._data.dataset if isinstance(self._data, NumberedData) else None
        if dataset is not None:
            dataset.on_epoch_begin()
        yield from self._batches(number, first)
        if dataset is not None:
            dataset.on_epoch_end()

    def _batches(self, number: int, first: int) -> Iterator[Batch]:
        if self._steps is None:
            given = first
            for batch in self._data.epoch(number, first):
                given += 1
                self._found_any = True
                yield batch
            if given == 0:
                self._ran_out(number)
            return
        for _ in range(first, self._steps):
            if self._running is None:
                self._running = self._data.epoch(number)
                self._began = number
                self._taken = 0
            following = next(self._running, None)
            if following is None:
                self._running = None
                self._ran_out(number)
                return
            self._taken += 1
            self._found_any = True
            yield following
        if self._taken == self._data.num_batches:
            self._running = None

    def _ran_out(self, number: int) -> None:
        if not self._found_any:
            raise ValueError(f"{self._where}: the data has no batches, expected at least one")
        warn(
            f"{self._where}: the data ended in epoch {number + 1}; it must hold enough batches for "
            "every epoch and step that was asked for"
        )


def _length_of(batches: Any) -> int | None:
    try:
        return len(batches) if isinstance(batches, Sized) else None
    except TypeError:  # a DataLoader of a data set that does not know its own
        return None


def _skip(items: Iterator[Any], count: int) -> int:
    """Takes `count` items and drops them; the number that there were."""
    return sum(1 for _ in islice(items, count))


def is_iterable_of_batches(x: Any) -> bool:
    """Whether `x` yields batches, rather than being an array or a nested list."""
    if (
        hasattr(x, "__array__")
        or hasattr(x, "__dlpack__")
        or isinstance(x, list | tuple | str | bytes | dict)
    ):
        return False
    by_number = hasattr(x, "__getitem__") and hasattr(x, "__len__")
    return by_number or hasattr(x, "__iter__") or hasattr(x, "__next__")


def is_list_of_batches(x: Any) -> bool:
    """Whether a list or tuple without labels beside it holds batches, rather than inputs alone."""
    return isinstance(x, list | tuple) and all(
        isinstance(item, list | tuple)
        and not (item and isinstance(item[0], int | float | np.number))
        and (isinstance(item, tuple) or any(isinstance(p, tuple | dict) or hasattr(p, "shape") for p in item))
        for item in x
    )


def unpack(item: Any, where: str) -> tuple[Any, Any, Any]:
    """`item` as (x, y, sample_weight), None for what is not there."""
    if not isinstance(item, tuple | list):
        return item, None, None
    if not 1 <= len(item) <= 3:
        raise ValueError(
            f"{where}: a batch has {len(item)} parts, expected x, (x, y) or (x, y, sample_weight)"
        )
    x, y, weight = (*item, None, None)[:3]
    return x, y, weight


def class_weights_of(y: Array, class_weight: dict[int, float], where: str) -> Array:
    """A weight (rows,) for every row of the labels `y`; classes that are not listed have weight 1."""
    labels = y
    if labels.ndim > 1:
        labels = labels[..., 0] if labels.shape[-1] == 1 else labels.argmax(axis=-1)
    if labels.ndim != 1:
        raise ValueError(f"{where}: class_weight with labels of shape {y.shape}, expected one label a row")
    if not np.isfinite(labels).all():
        raise ValueError(f"{where}: class_weight with labels that are not finite, expected class numbers")
    for known, value in class_weight.items():
        if isinstance(known, bool) or not isinstance(known, int | np.integer):
            raise ValueError(f"{where}: class_weight has the class {known!r}, expected class numbers")
        check_number(where, f"class_weight[{known}]", value, "a number")
    classes, positions = np.unique(np.round(labels).astype(np.int64), return_inverse=True)
    weights = np.array([class_weight.get(int(c), 1.0) for c in classes], np.float32)
    return np.asarray(weights[positions.reshape(-1)])
