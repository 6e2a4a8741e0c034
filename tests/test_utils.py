"""pad_sequences, to_categorical, normalize; the method that results of calls have beside those of arrays."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import lstm_native
from lstm_native import utils
from lstm_native.utils import pad_sequences, to_categorical

SEQUENCES = [[1], [2, 3], [], [4, 5, 6]]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, [[0, 0, 1], [0, 2, 3], [0, 0, 0], [4, 5, 6]]),
        ({"padding": "post"}, [[1, 0, 0], [2, 3, 0], [0, 0, 0], [4, 5, 6]]),
        ({"maxlen": 2}, [[0, 1], [2, 3], [0, 0], [5, 6]]),
        ({"maxlen": 2, "truncating": "post"}, [[0, 1], [2, 3], [0, 0], [4, 5]]),
        ({"maxlen": 4, "value": -1}, [[-1, -1, -1, 1], [-1, -1, 2, 3], [-1] * 4, [-1, 4, 5, 6]]),
        ({"maxlen": 0}, [[], [], [], []]),
    ],
)
def test_pad_sequences(arguments: dict[str, Any], expected: Any) -> None:
    padded = pad_sequences(SEQUENCES, **arguments)
    assert padded.dtype == np.int32
    assert padded.tolist() == expected


def test_pad_sequences_of_features() -> None:
    padded = pad_sequences([np.ones((1, 2)), np.zeros((0, 2)), 2 * np.ones((3, 2))], dtype="float32")
    assert padded.shape == (3, 3, 2)
    assert padded[0].tolist() == [[0, 0], [0, 0], [1, 1]]
    assert pad_sequences([]).shape == (0, 0)


def test_pad_sequences_errors() -> None:
    with pytest.raises(ValueError, match="sequence 1 is 3"):
        pad_sequences([[1], 3])
    with pytest.raises(ValueError, match="padding"):
        pad_sequences(SEQUENCES, padding="left")
    with pytest.raises(ValueError, match="truncating"):
        pad_sequences(SEQUENCES, truncating="left")
    with pytest.raises(ValueError, match="maxlen"):
        pad_sequences(SEQUENCES, maxlen=-1)
    with pytest.raises(ValueError, match=r"sequence 1 has shape \(3,\)"):
        pad_sequences([np.ones((2, 2)), np.ones((2, 3))])
    with pytest.raises(ValueError, match="expected a list"):
        pad_sequences(iter([[1]]))  # type: ignore[arg-type]


def test_pad_sequences_of_texts() -> None:
    words = [["a"], ["b", "c"]]
    for dtype in (object, "<U3"):
        padded = pad_sequences(words, value="pad", dtype=dtype)
        assert padded.dtype == np.dtype(dtype)
        assert padded.tolist() == [["pad", "a"], ["b", "c"]]
    with pytest.raises(ValueError, match="`dtype` int32 is not compatible with value 'pad'"):
        pad_sequences(words, value="pad")


def test_to_categorical() -> None:
    assert to_categorical([0, 2, 1]).tolist() == np.eye(3)[[0, 2, 1]].tolist()
    assert to_categorical([[0], [1]], num_classes=4).shape == (2, 4)
    assert to_categorical([[0, 1], [1, 0]]).shape == (2, 2, 2)
    assert to_categorical([], 3).shape == (0, 3)
    for bad in ([0, 3], [-1, 0]):
        with pytest.raises(ValueError, match="classes lie in"):
            to_categorical(bad, 3)
    with pytest.raises(ValueError, match="empty"):
        to_categorical([])


def test_normalize() -> None:
    x = np.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(utils.normalize(x), [[0.6, 0.8], [0, 0]])
    np.testing.assert_allclose(utils.normalize(x, axis=0, order=1), [[1, 1], [0, 0]])


def test_results_have_the_method_numpy() -> None:
    """Programs for TensorFlow ask for it; else they are arrays like others."""
    layer = lstm_native.layers.Dense(2)
    result = layer(np.ones((3, 4)))
    assert isinstance(result, np.ndarray)
    assert type(result.numpy()) is np.ndarray
    assert np.shares_memory(result, result.numpy())
    assert type(result.sum()) is np.float32
    assert type(np.max(result)) is np.float32
    assert type(pickle.loads(pickle.dumps(result))) is np.ndarray
    assert repr(result) == repr(result.numpy())
    assert result[0][:, None].numpy().shape == (2, 1)
    model = lstm_native.Sequential([layer])
    assert model(np.ones((3, 4))).numpy().shape == (3, 2)
    assert type(model.predict(np.ones((3, 4)), verbose=0)) is np.ndarray
    batches = utils.timeseries_dataset_from_array(np.arange(10.0), np.arange(10), 3, batch_size=4)
    x, y = next(iter(batches))
    assert x.numpy().shape == (4, 3)
    assert y.numpy().shape == (4,)
    text = lstm_native.layers.TextVectorization(vocabulary=["a"])
    assert text(["a b"]).numpy().shape == (1, 2)
