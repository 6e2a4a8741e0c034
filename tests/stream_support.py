"""Models that can stream, and data for them, used by the tests of streaming."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native.layers import LSTM, Activation, Dense, Dropout, Embedding, Input, Layer, Masking
from lstm_native.models import Sequential

Array = npt.NDArray[Any]


def on_features(*layers: Layer, features: int = 5) -> Sequential:
    return Sequential([Input((None, features)), *layers])


def on_ids(*layers: Layer, **first: Any) -> Sequential:
    model = Sequential([Embedding(30, 6, **first), *layers])
    model.build((None, None))
    return model


MODELS = {
    "one layer": lambda: on_features(LSTM(9)),
    "sequences": lambda: on_features(LSTM(40, return_sequences=True, return_state=True)),
    "stack": lambda: on_features(
        LSTM(33, return_sequences=True), Dropout(0.5), LSTM(20), Dense(3), Activation("softmax")
    ),
    "flags": lambda: on_features(
        Dense(7, activation="gelu", use_bias=False),
        LSTM(16, activation="relu", recurrent_activation="hard_sigmoid", use_bias=False, stateful=True),
        Dense(2, activation="sigmoid"),
    ),
    "masking": lambda: on_features(
        Masking(0.5), LSTM(8, return_sequences=True), Dense(6), LSTM(5, return_sequences=True), Dense(4)
    ),
    "zeros for masked steps": lambda: on_features(
        Masking(0.5), LSTM(8, return_sequences=True, zero_output_for_mask=True), LSTM(6)
    ),
    "no recurrent layer": lambda: on_features(Masking(0.5), Dense(4), Activation("tanh")),
    "nested": lambda: on_features(Sequential([LSTM(6, return_sequences=True), Dense(3)]), LSTM(4)),
    "ids": lambda: on_ids(LSTM(12), Dense(1, activation="sigmoid")),
    "masked ids": lambda: on_ids(
        LSTM(12, return_sequences=True), LSTM(9, zero_output_for_mask=True), Dense(2), mask_zero=True
    ),
    "masked ids, sequences": lambda: on_ids(LSTM(12, return_sequences=True), mask_zero=True),
}


def sequences(model: Sequential, rows: int, time: int) -> Array:
    """Data with steps that do not count, some rows starting with them, one row without any other."""
    rng = np.random.default_rng(rows + time)
    skipped = rng.random((rows, time)) < 0.3
    skipped[rows // 2, : time // 2] = True
    skipped[-1] |= rows > 1
    if len(model.input_shape) == 2:
        ids = rng.integers(1, 30, (rows, time))
        ids[skipped] = 0
        return ids
    x = rng.standard_normal((rows, time, model.input_shape[-1])).astype(np.float32)
    x[skipped] = 0.5
    return x
