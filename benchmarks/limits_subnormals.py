"""Calls whose numbers become subnormal, each beside the same call with ordinary ones, for limits.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from limits_models import Call, classifier, stream_step, uniform

from lstm_native import _core
from lstm_native.layers import LSTM, Dense

TINY = 1e-39  # the smallest normal number is 1.2e-38


@dataclass(frozen=True)
class Work:
    """What is timed, and what comes before every call and is not."""

    call: Call
    prepare: Call = lambda: None


Pair = tuple[Work, Work]  # with ordinary numbers, with subnormal ones


def lstm(inputs: int, units: int, scale: float = 0.1, forget: float = 0.0) -> LSTM:
    """Returns all steps; weights up to `scale`, a bias of zero but for that of the forget gate."""
    layer = LSTM(units, return_sequences=True)
    layer.build((None, None, inputs))
    bias = np.zeros(4 * units, np.float32)
    bias[units : 2 * units] = forget
    layer.set_weights([uniform(inputs, 4 * units, scale=scale), uniform(units, 4 * units, scale=scale), bias])
    return layer


def tiny_inputs(batch: int) -> Pair:
    # No bias: candidates, cell states and outputs are as small as the inputs.
    layer, x = lstm(64, 128), uniform(batch, 100, 64)
    tiny = x * np.float32(TINY)
    return Work(lambda: layer(x)), Work(lambda: layer(tiny))


def tiny_states(batch: int) -> Pair:
    layer, state, x = lstm(64, 128), uniform(batch, 128), np.zeros((batch, 100, 64), np.float32)
    tiny = state * np.float32(TINY / 10)
    return Work(lambda: layer(x, initial_state=[state] * 2)), Work(lambda: layer(x, initial_state=[tiny] * 2))


def decay(batch: int) -> Pair:
    # Cell states shrink by 0.7 a step; past step 250 they are subnormal, and rounding keeps them so.
    layer, state, x = lstm(64, 128, 0.01, 0.85), uniform(batch, 128), uniform(batch, 1000, 64)
    zeros = np.zeros_like(x)
    return Work(lambda: layer(x, initial_state=[state] * 2)), Work(
        lambda: layer(zeros, initial_state=[state] * 2)
    )


def tiny_weights(batch: int) -> Pair:
    x, ordinary, tiny = uniform(batch, 100, 64), lstm(64, 128), lstm(64, 128, TINY)
    return Work(lambda: ordinary(x)), Work(lambda: tiny(x))


def training(batch: int, scale: float = 1.0, weight: float = 1.0) -> Pair:
    def work(scale: float, weight: float) -> Work:
        # No bias, whose gradient is not small: the states would not stay subnormal.
        model = classifier(64, 128, ids=False, use_bias=False)
        x, y = uniform(batch, 100, 64) * np.float32(scale), np.ones((batch, 1), np.float32)
        weights = np.full(batch, weight, np.float32)
        return Work(lambda: model.train_on_batch(x, y, sample_weight=weights))

    return work(1.0, 1.0), work(scale, weight)


def adam(size: int) -> Pair:
    """As for the rows of an embedding that no batch has touched for long."""

    def work(moment: float) -> Work:
        w, m, v = (_core.Variable(_core.as_tensor(uniform(size), "float32")) for _ in range(3))
        g, start = (_core.as_tensor(np.full(size, x, np.float32), "float32") for x in (0, moment))
        return Work(
            lambda: _core.adam_step([w], [g], [m], [v], None, 1e-6, 0.9, 0.999, 1e-7, None),
            lambda: (m.assign(start), v.assign(start)),
        )

    return work(1e-3), work(TINY)


def dense(rows: int) -> Pair:
    layer = Dense(128, activation="tanh")
    layer.build((None, 128))
    x = uniform(rows, 128)
    tiny = x * np.float32(TINY)
    return Work(lambda: layer(x)), Work(lambda: layer(tiny))


def stream(units: int) -> Pair:
    def work(scale: float) -> Work:
        step, x, out = stream_step(lstm(units, units), scale)
        return Work(lambda: step(x, out=out))

    return work(1.0), work(TINY)


def without_flush(size: int) -> Pair:
    """NumPy computes with subnormal numbers: what these cost on this processor."""
    x, out = uniform(size), np.empty(size, np.float32)
    tiny = x * np.float32(TINY)
    return Work(lambda: np.multiply(x, x, out=out)), Work(lambda: np.multiply(tiny, x, out=out))


SUBNORMALS: dict[str, Callable[[], Pair]] = {
    "forward 8,100,64,128: x of 1e-39": lambda: tiny_inputs(8),
    "forward 32,100,64,128: x of 1e-39": lambda: tiny_inputs(32),
    "forward 8,100,64,128: states of 1e-40": lambda: tiny_states(8),
    "forward 8,1000,64,128: x of 0, the state decays": lambda: decay(8),
    "forward 8,100,64,128: weights of 1e-39": lambda: tiny_weights(8),
    "training 8,100,64,128: x of 1e-39": lambda: training(8, scale=TINY),
    "training 8,100,64,128: gradients of 1e-39": lambda: training(8, weight=100 * TINY),
    "Adam, 100,000 moments of 1e-39": lambda: adam(100_000),
    "Dense 512,128,128 with tanh: x of 1e-39": lambda: dense(512),
    "stream 1,1,128,128: x of 1e-39": lambda: stream(128),
    "NumPy's multiply, 10,000 of 1e-39": lambda: without_flush(10_000),
}
