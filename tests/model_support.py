"""A small model of the tutorial's kind and data for it, used by the tests of training and prediction."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native.layers import LSTM, Dense, Embedding
from lstm_native.models import Sequential
from lstm_native.optimizers import Adam

Array = npt.NDArray[Any]


def data(rows: int = 20, time: int = 6) -> tuple[Array, Array]:
    rng = np.random.default_rng(rows)
    x = rng.integers(0, 30, (rows, time))
    return x, (x[:, 0] > 14).astype(np.int64)


def sentiment(loss: Any = "binary_crossentropy", metrics: Any = ("accuracy",), **first: Any) -> Sequential:
    model = Sequential([Embedding(30, 4, **first), LSTM(5), Dense(1, activation="sigmoid")])
    model.compile(Adam(0.01), loss, metrics=list(metrics))
    return model


def weights_equal(a: Sequential, b: Sequential) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a.get_weights(), b.get_weights(), strict=True))
