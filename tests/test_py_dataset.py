"""Data sets of the caller's classes, which give batches by number: PyDataset, and anything of its form."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from lstm_native import utils
from lstm_native.callbacks import BackupAndRestore
from lstm_native.layers import LSTM, Dense, Input
from lstm_native.models import Sequential

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((10, 4, 3)).astype(np.float32), RNG.standard_normal((10, 1)).astype(np.float32)


class Rows:
    """Four rows a batch; slices beyond the end are empty, so that only `__len__` says where it is."""

    def __init__(self, labels: bool = True, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.labels = labels
        self.seen: list[Any] = []

    def __len__(self) -> int:
        return 3

    def __getitem__(self, number: int) -> Any:
        self.seen.append(number)
        rows = slice(4 * number, 4 * number + 4)
        return (X[rows], Y[rows]) if self.labels else X[rows]


class Told(Rows, utils.PyDataset):
    def on_epoch_begin(self) -> None:
        self.seen.append("begin")

    def on_epoch_end(self) -> None:
        self.seen.append("end")


def model() -> Sequential:
    utils.set_random_seed(3)
    made = Sequential([Input((4, 3)), LSTM(3), Dense(1)])
    made.compile("sgd", "mse")
    return made


@pytest.mark.parametrize("kind", [Rows, Told])
def test_the_same_as_arrays(kind: type[Rows]) -> None:
    one, other = model(), model()
    one.fit(kind(), epochs=2, validation_data=kind(), shuffle=False, verbose=0)
    other.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.evaluate(kind(), verbose=0) == other.evaluate(X, Y, batch_size=4, verbose=0)
    np.testing.assert_array_equal(one.predict(kind(labels=False), verbose=0), other.predict(X, verbose=0))


def test_what_is_called() -> None:
    data = Told(workers=4, use_multiprocessing=True, max_queue_size=3)
    assert (data.workers, data.use_multiprocessing, data.max_queue_size, data.num_batches) == (4, True, 3, 3)
    model().fit(data, epochs=2, shuffle=False, verbose=0)
    assert data.seen == ["begin", 0, 1, 2, "end"] * 2
    assert len(list(data)) == 3
    assert utils.Sequence is utils.PyDataset
    plain = Rows()
    model().fit(plain, steps_per_epoch=2, verbose=0)
    assert plain.seen == [0, 1]


def test_what_is_missing() -> None:
    for method in (model().fit, model().evaluate, model().predict):
        with pytest.raises(NotImplementedError, match="PyDataset does not define __len__"):
            method(utils.PyDataset())
    with pytest.raises(ValueError, match="y is missing"):
        model().fit(Rows(labels=False), verbose=0)
    with pytest.raises(ValueError, match="x yields batches, so y and sample_weight belong into them"):
        model().fit(Rows(), Y, verbose=0)


def test_another_order_in_every_epoch() -> None:
    class Many(Told):
        def __len__(self) -> int:
            return 12

        def __getitem__(self, number: int) -> Any:
            return X[:2], super().__getitem__(number)[1][:0].sum() + Y[:2]

    def orders(**options: Any) -> list[list[int]]:
        data = Many()
        model().fit(data, epochs=3, verbose=0, **options)
        return [data.seen[start + 1 : start + 13] for start in (0, 14, 28)]

    found = orders()
    assert all(sorted(order) == list(range(12)) for order in found)
    assert len({*map(tuple, found), tuple(range(12))}) == 4
    assert orders() == found == orders(shuffle="batch")
    assert orders(shuffle=False) == [[*range(12)]] * 3
    data = Many()
    model().fit(data, epochs=2, steps_per_epoch=6, shuffle=False, verbose=0)
    assert data.seen == ["begin", *range(6), "end", "begin", *range(6, 12), "end"]
    data = Many()
    model().evaluate(data, verbose=0)
    assert data.seen == ["begin", *range(12), "end"]


def test_an_endless_data_set() -> None:
    class Endless(utils.PyDataset):
        num_batches = None
        seen: ClassVar[list[int]] = []

        def __getitem__(self, number: int) -> Any:
            self.seen.append(number)
            return X[:2], Y[:2]

    data = Endless()
    model().fit(data, epochs=2, steps_per_epoch=3, verbose=0, validation_data=data, validation_steps=2)
    assert data.seen == [0, 1, 2, 0, 1, 3, 4, 5, 0, 1]
    assert model().predict(data, steps=2, verbose=0).shape == (4, 1)


@pytest.mark.parametrize("kind", [Rows, Told])
def test_training_goes_on_after_an_interruption(kind: type[Rows], tmp_path: Path) -> None:
    class Dies(kind):  # type: ignore[misc, valid-type]
        def __getitem__(self, number: int) -> Any:
            if sum(n in range(3) for n in self.seen) == 5:
                raise KeyboardInterrupt
            return super().__getitem__(number)

    data, rest = kind(), kind()
    whole = model()
    whole.fit(data, epochs=3, verbose=0)
    parts = model()
    with pytest.raises(KeyboardInterrupt):
        parts.fit(Dies(), epochs=3, verbose=0, callbacks=[BackupAndRestore(tmp_path / "b", save_freq=1)])
    again = model()
    utils.set_random_seed(99)
    again.fit(rest, epochs=3, verbose=0, callbacks=[BackupAndRestore(tmp_path / "b", save_freq=1)])
    if kind is Told:
        assert rest.seen == ["begin", *data.seen[8:]]
    for a, b in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
