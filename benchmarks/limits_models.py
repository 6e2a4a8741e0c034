"""Models, data and a clock that the probes of limits.py share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from cases import VOCABULARY, Array

from lstm_native.layers import LSTM, Dense, Embedding
from lstm_native.models import Sequential
from lstm_native.optimizers import Adam

Call = Callable[[], Any]
clock = time.perf_counter


def timed(call: Call, seconds: float, least: int = 3, prepare: Call = lambda: None) -> list[float]:
    """Seconds of each call, of `least` calls at least; `prepare` comes before each and is not counted."""
    times: list[float] = []
    end = clock() + seconds
    while len(times) < least or clock() < end:
        prepare()
        start = clock()
        call()
        times.append(clock() - start)
    return times


def uniform(*shape: int, scale: float = 1.0) -> Array:
    values = np.random.default_rng(1).uniform(-scale, scale, shape)
    return values.astype(np.float32)


def classifier(inputs: int, units: int, ids: bool, **options: Any) -> Sequential:
    """(Embedding ->) LSTM -> Dense(1, sigmoid) with Adam, built for any batch and time."""
    model = Sequential([Embedding(VOCABULARY, inputs)] if ids else [])
    model.add(LSTM(units, **options))
    model.add(Dense(1, activation="sigmoid"))
    model.compile(optimizer=Adam(), loss="binary_crossentropy")
    model.build((None, None) if ids else (None, None, inputs))
    return model


def data(batch: int, steps: int, inputs: int, ids: bool) -> tuple[Array, Array]:
    """Inputs and labels, made without larger temporary arrays: these would count as peak memory."""
    random = np.random.default_rng(1)
    labels = np.ones((batch, 1), np.float32)
    if ids:
        return random.integers(0, VOCABULARY, (batch, steps), dtype=np.int32), labels
    return random.random((batch, steps, inputs), np.float32), labels


def stream_step(layer: LSTM, scale: float = 1.0) -> tuple[Callable[..., Any], Array, Array]:
    """The step of a new stream of one layer with as many inputs as units, its x and its out."""
    model = Sequential([layer])
    model.build((None, None, layer.units))
    x = uniform(1, layer.units, scale=scale)
    return model.stream(1).step, x, np.empty((1, layer.units), np.float32)
