"""Where batches come from: files larger than memory, data loaders, generators; ending loops early."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_native.callbacks import Callback
from lstm_native.layers import LSTM, Dense, Embedding, Input
from lstm_native.models import Model, Sequential
from lstm_native.utils import set_random_seed


def series() -> Sequential:
    model = Sequential([Input((5, 3)), LSTM(4), Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    return model


def in_file(path: Path, values: Any) -> Any:
    array = np.lib.format.open_memmap(path, "w+", values.dtype, values.shape)
    array[:] = values
    array.flush()
    return np.load(path, mmap_mode="r")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shuffle", [False, True, "batch"])
def test_arrays_in_files_train_like_those_in_memory(tmp_path: Path, dtype: Any, shuffle: Any) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((21, 5, 3)).astype(dtype), rng.standard_normal((21, 1)).astype(dtype)
    x_file, y_file = in_file(tmp_path / "x.npy", x), in_file(tmp_path / "y.npy", y)
    found = []
    for data in ((x, y), (x_file, y_file), (x_file, y)):
        set_random_seed(1)
        model = series()
        history = model.fit(
            *data, batch_size=4, epochs=2, shuffle=shuffle, verbose=0, validation_split=0.2,
            sample_weight=np.linspace(0, 1, 21),
        ).history  # fmt: skip
        found.append(
            (history, model.evaluate(*data, verbose=0), model.predict(data[0], batch_size=8, verbose=0))
        )
    for history, values, outputs in found[1:]:
        assert history == found[0][0]
        assert values == found[0][1]
        np.testing.assert_array_equal(outputs, found[0][2])


def test_files_are_read_batch_by_batch(tmp_path: Path) -> None:
    """The largest number of rows ever converted at once is that of a batch."""
    x = in_file(tmp_path / "x.npy", np.ones((64, 5, 3), np.float64))
    model = series()
    seen: list[int] = []
    convert = model.as_input
    model.as_input = lambda inputs: (seen.append(len(inputs)), convert(inputs))[1]  # type: ignore[method-assign]
    model.fit(x, np.ones(64), batch_size=8, verbose=0)
    model.predict(x, batch_size=8, verbose=0)
    assert max(seen) == 8
    with pytest.raises(ValueError, match=r"y has shape \(63,\), expected 64 rows"):
        model.fit(x, np.ones(63), verbose=0)


def test_files_for_several_inputs(tmp_path: Path) -> None:
    ids = in_file(tmp_path / "ids.npy", np.arange(24).reshape(6, 4) % 7)
    a, b = Input((4,)), Input((2,))
    model = Model([a, b], [Dense(1, name="p")(LSTM(3)(Embedding(7, 2)(a))), Dense(1, name="q")(b)])
    model.compile("sgd", "mse")
    data, labels = [ids, np.ones((6, 2))], {"p": np.ones(6), "q": np.zeros((6, 1))}
    assert model.fit(data, labels, batch_size=4, verbose=0).history.keys() == {"loss", "p_loss", "q_loss"}
    in_memory = [np.array(ids), data[1]]
    assert model.evaluate(data, labels, verbose=0) == model.evaluate(in_memory, labels, verbose=0)


class Loader:
    """A torch DataLoader from outside: lists of things with `__array__`, perhaps without a length."""

    class Tensor:
        def __init__(self, values: Any) -> None:
            self._values = values

        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return self._values

    def __init__(self, batches: int, has_length: bool) -> None:
        self._batches = batches
        self._has_length = has_length

    def __len__(self) -> int:
        if not self._has_length:
            raise TypeError("object of type 'IterableDataset' has no len()")
        return self._batches

    def __iter__(self) -> Any:
        rng = np.random.default_rng(0)
        for _ in range(self._batches):
            yield [self.Tensor(rng.standard_normal((4, 5, 3))), self.Tensor(rng.standard_normal((4, 1)))]


@pytest.mark.parametrize("has_length", [False, True])
def test_data_loaders(has_length: bool) -> None:
    loader, model = Loader(5, has_length), series()

    class Steps(Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            assert self.params is not None
            assert self.params["steps"] == (5 if has_length else None)

    history = model.fit(loader, epochs=3, validation_data=loader, callbacks=[Steps()], verbose=0).history
    assert len(history["val_mae"]) == 3
    assert history["loss"][-1] < history["loss"][0]
    assert model.predict(loader, verbose=0).shape == (20, 1)


def test_torch_data_loader() -> None:
    pytest.importorskip("torch")
    from torch.utils.data import DataLoader, TensorDataset

    torch = sys.modules["torch"]
    data = TensorDataset(torch.ones(10, 5, 3), torch.zeros(10, 1))
    assert len(series().fit(DataLoader(data, batch_size=4, shuffle=True), epochs=2, verbose=0).epoch) == 2


@pytest.mark.parametrize("what", ["fit", "evaluate", "predict"])
def test_a_callback_ends_the_loop(what: str) -> None:
    model = series()
    attribute = {"fit": "stop_training", "evaluate": "stop_evaluating", "predict": "stop_predicting"}[what]
    batches: list[int] = []

    class Stop(Callback):
        def _stop(self, batch: int, logs: Any = None) -> None:
            batches.append(batch)
            if batch == 3:
                setattr(self.model, attribute, True)

        on_train_batch_end = on_test_batch_end = on_predict_batch_end = _stop

    def endless() -> Any:
        x, y = np.ones((2, 5, 3)), np.ones((2, 1))
        while True:
            yield (x,) if what == "predict" else (x, y)

    arguments = {"verbose": 0, "callbacks": [Stop()]}
    result = getattr(model, what)(endless(), **arguments)
    assert batches == [0, 1, 2, 3]
    if what == "predict":
        assert len(result) == 8
    # The flag does not outlive the call.
    batches.clear()
    getattr(model, what)(endless(), **arguments)
    assert batches == [0, 1, 2, 3]


def test_temporal_weights_count_single_steps() -> None:
    model = Sequential([Input((4, 2)), LSTM(3, return_sequences=True), Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"], weighted_metrics=["mae"])
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 4, 2)), rng.standard_normal((6, 4, 1)).astype(np.float32)
    weight = rng.random((6, 4)).astype(np.float32)
    outputs = model.predict(x, verbose=0)
    logs = model.evaluate(x, y, sample_weight=weight, verbose=0, return_dict=True)
    errors = (outputs - y)[..., 0]
    assert logs["loss"] == pytest.approx((errors**2 * weight).mean(), rel=1e-5)
    assert logs["mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-5)
    assert logs["weighted_mae"] == pytest.approx((np.abs(errors) * weight).sum() / weight.sum(), rel=1e-5)


def test_loss_weight_of_a_single_output() -> None:
    found = []
    for loss_weights in (None, 0.5, [0.5]):
        set_random_seed(0)
        model = Sequential([Dense(1)])
        model.compile("sgd", "mse", loss_weights=loss_weights)
        x = np.linspace(-1, 1, 12).reshape(6, 2)
        found.append((model.train_on_batch(x, np.ones(6)), model.get_weights()[0]))
    assert found[1][0] == pytest.approx(found[0][0] / 2)
    assert found[1][0] == found[2][0]
    np.testing.assert_array_equal(found[1][1], found[2][1])
