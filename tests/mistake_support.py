"""Two small models, data for them, and all that a failed call could have changed in them."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_native.layers import LSTM, Dense, Embedding
from lstm_native.models import Sequential


def classifier() -> Sequential:
    model = Sequential(
        [Embedding(10, 3, name="words"), LSTM(4, name="memory"), Dense(1, activation="sigmoid", name="top")]
    )
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


def regressor() -> Sequential:
    model = Sequential([LSTM(4, name="memory"), Dense(2, name="top")])
    model.compile("adam", "mse")
    return model


IDS = np.array([[1, 2, 3], [4, 5, 6]])
LABELS = np.array([0, 1])
SERIES = np.ones((2, 3, 5), np.float32)


def everything(model: Sequential) -> list[Any]:
    """All that a failed call could have changed."""
    optimizer = model.optimizer
    return [
        model.built,
        [layer.built for layer in model.layers],
        [w.tobytes() for w in model.get_weights()],
        [getattr(layer, "states", None) for layer in model.layers],
        None
        if optimizer is None
        else [optimizer.built, *(np.asarray(v).tobytes() for v in optimizer.variables)],
        model.history,
    ]
