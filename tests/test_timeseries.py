"""timeseries_dataset_from_array against windows cut by plain loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from lstm_native.layers import LSTM, Dense, Input
from lstm_native.models import Sequential
from lstm_native.utils import timeseries_dataset_from_array as dataset_of


@hypothesis.given(st.data())
def test_windows(data: st.DataObject) -> None:
    draw = data.draw
    rows = draw(st.integers(3, 40))
    rate, stride = draw(st.integers(1, min(4, rows - 1))), draw(st.integers(1, min(6, rows - 1)))
    start = draw(st.integers(0, rows - 2))
    end = draw(st.integers(start + 1, rows) | st.none())
    last = rows if end is None else end
    length = draw(st.integers(1, (last - start - 1) // rate + 1))
    size = draw(st.integers(1, 7) | st.none())
    features = draw(st.sampled_from([(), (2,)]))
    x = np.random.default_rng(rows).normal(size=(rows, *features))
    y = np.arange(rows) if draw(st.booleans()) else None
    windows = [
        (x[first : first + (length - 1) * rate + 1 : rate], first)
        for first in range(start, last - (length - 1) * rate, stride)
    ]
    dataset = dataset_of(x, y, length, stride, rate, size, start_index=start, end_index=end)
    for _ in range(2):  # it may be gone through again
        found = list(dataset)
        assert len(found) == len(dataset) == -(-len(windows) // (size or 1))
        inputs = found if y is None else [batch[0] for batch in found]
        join = np.stack if size is None else np.concatenate
        assert np.array_equal(join(inputs), [w for w, _ in windows])
        if y is not None:
            targets = [batch[1] for batch in found]
            assert np.array_equal(np.hstack(targets), [first for _, first in windows])


def test_shuffling() -> None:
    def order(dataset: Any) -> list[int]:
        return [int(t) for _, targets in dataset for t in targets]

    x = np.arange(30)
    dataset = dataset_of(x, x, 3, batch_size=4, shuffle=True, seed=7)
    first, second = order(dataset), order(dataset)
    assert sorted(first) == sorted(second) == list(range(28))
    assert first != second
    again = dataset_of(x, x, 3, batch_size=4, shuffle=True, seed=7)
    assert [order(again), order(again)] == [first, second]
    again.set_epoch(0)
    assert order(again) == first
    assert order(dataset_of(x, x, 3, batch_size=4, shuffle=True, seed=8)) != first
    for windows, targets in dataset:
        assert np.array_equal(windows[:, 0], targets)


def test_the_first_batches() -> None:
    dataset = dataset_of(np.arange(50.0), None, 4, batch_size=8, shuffle=True, seed=3)
    whole = [list(dataset) for _ in range(2)]
    taken = dataset_of(np.arange(50.0), None, 4, batch_size=8, shuffle=True, seed=3).take(2)
    assert len(taken) == 2
    for batches in whole:  # every pass has its own order
        for a, b in zip(taken, batches[:2], strict=True):
            np.testing.assert_array_equal(a, b)
    # As in tf.data: all for a negative count.
    for count in (100, -1, -2, np.int64(-1)):
        assert len(dataset.take(count)) == len(list(dataset.take(count))) == len(dataset) == 6
    assert len(dataset.take(0)) == len(list(dataset.take(0))) == 0
    for wrong in (1.5, None, "3", True):
        with pytest.raises(ValueError, match=f"take: count is {wrong!r}, expected an integer"):
            dataset.take(wrong)
    model = Sequential([Input((4, 1)), LSTM(2), Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="the data has no batches"):
        model.fit(dataset_of(np.ones((50, 1)), np.ones(50), 4).take(0), verbose=0)


def test_files_larger_than_memory(tmp_path: Path) -> None:
    kept: Any = np.memmap(tmp_path / "x", "float32", "w+", shape=(50, 2))
    kept[:] = np.arange(100).reshape(50, 2)
    dataset = dataset_of(kept, kept[5:, 0], 5, batch_size=8)
    model = Sequential([Input((5, 2)), LSTM(3), Dense(1)])
    model.compile("adam", "mse")
    history = model.fit(dataset, validation_data=dataset, epochs=2, verbose=0)
    assert len(history.history["val_loss"]) == 2
    assert model.evaluate(dataset, verbose=0) == history.history["val_loss"][-1]
    assert model.predict(dataset_of(kept, None, 5), verbose=0).shape == (46, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start_index": -1}, "`start_index` must be"),
        ({"start_index": 10}, "`start_index` must be"),
        ({"end_index": 0}, "`end_index` must be"),
        ({"end_index": 11}, "`end_index` must be"),
        ({"start_index": 5, "end_index": 5}, "`end_index` must be"),
        ({"sampling_rate": 0}, "`sampling_rate` must be"),
        ({"sampling_rate": 10}, "`sampling_rate` must be"),
        ({"sequence_stride": 0}, "`sequence_stride` must be"),
        ({"sequence_length": 0}, "sequence_length is 0"),
        ({"sequence_length": 11}, "does not fit into 10 steps"),
        ({"sampling_rate": 5}, "does not fit into 10 steps"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"batch_size": 1.5}, "batch_size is 1.5"),
        ({"batch_size": True}, "batch_size is True"),
        ({"sequence_length": 2.0}, "sequence_length is 2.0"),
        ({"sequence_stride": 1.5}, "sequence_stride is 1.5, expected an integer"),
        ({"sampling_rate": None}, "sampling_rate is None, expected an integer"),
        ({"start_index": 1.5}, "start_index is 1.5, expected an integer"),
        ({"end_index": "5"}, "end_index is '5', expected an integer"),
        ({"seed": 1.5, "shuffle": True}, "seed is 1.5"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataset_of(np.arange(10), None, **{"sequence_length": 3, **arguments})


def test_wrong_data() -> None:
    with pytest.raises(ValueError, match="data is a single number"):
        dataset_of(3.0, None, 1)
    with pytest.raises(ValueError, match="targets is a single number"):
        dataset_of(np.ones(5), 3.0, 1)
    with pytest.raises(ValueError, match="data is a nested list of unequal lengths"):
        dataset_of([[1], [2, 3]], None, 1)
    with pytest.raises(TypeError, match="data is a NoneType, expected an array of numbers"):
        dataset_of(None, None, 1)
