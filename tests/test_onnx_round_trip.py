"""Random models to ONNX and back: the same outputs."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from lstm_native.convert import from_onnx, to_onnx
from lstm_native.layers import (
    GRU,
    LSTM,
    Activation,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    Input,
    LayerNormalization,
    SimpleRNN,
    TimeDistributed,
)
from lstm_native.models import Sequential

IDS = 7
# Of results that are normalized by a few numbers that may lie near each other, so of 1e-7 times some tens.
TOLERANCE = 3e-5
ACTIVATIONS = ["relu", "tanh", "sigmoid", "softsign", "exponential", "relu6", "leaky_relu", "selu", "silu"]


def random_layers(rng: random.Random, time: int | None) -> list[Any]:
    """One to five layers, of which the first ones may have time."""
    layers: list[Any] = []
    sequence = True
    for _ in range(rng.randint(1, 5)):
        kind = rng.randrange(9) if sequence else rng.choice([3, 4, 5])
        size = rng.randint(1, 5)
        if kind < 3:
            sequence = rng.random() < 0.6
            options = {"return_sequences": sequence, "use_bias": rng.random() < 0.8}
            cell = rng.choice([LSTM, GRU, SimpleRNN])
            if rng.random() < 0.5:
                layers.append(
                    Bidirectional(cell(size, **options), rng.choice(["concat", "sum", "mul", "ave"]))
                )
            else:
                layers.append(cell(size, go_backwards=rng.random() < 0.4, **options))
        elif kind == 3:
            layers.append(
                Dense(
                    size, activation=rng.choice([None, "softmax", *ACTIVATIONS]), use_bias=rng.random() < 0.7
                )
            )
        elif kind == 4:
            layers.append(Activation(rng.choice(ACTIVATIONS)))
        elif kind == 5:
            layers.append(LayerNormalization())
        elif kind == 6:
            layers.append(rng.choice([GlobalAveragePooling1D, GlobalMaxPooling1D])())
            sequence = False
        elif kind == 7:
            layers += [Dropout(0.5), TimeDistributed(Dense(size))]
        elif time is not None:
            layers.append(Flatten())
            sequence = False
    return layers or [Dense(2)]


def check(seed: int, path: Path) -> None:
    rng, arrays = random.Random(seed), np.random.default_rng(seed)
    time = rng.choice([None, 4])
    features = rng.randint(1, 5)
    ids = rng.random() < 0.4
    front = [Input((time,), dtype="int32"), Embedding(IDS, features)] if ids else [Input((time, features))]
    model = Sequential([*front, *random_layers(rng, time)])
    model.set_weights([arrays.normal(0, 0.5, w.shape).astype(np.float32) for w in model.get_weights()])
    to_onnx(model, path)
    again = from_onnx(path)
    shape = (3, time or 6)
    x = arrays.integers(0, IDS, shape) if ids else arrays.normal(size=(*shape, features)).astype(np.float32)
    np.testing.assert_allclose(again(x), model(x), atol=TOLERANCE, rtol=TOLERANCE)


def test_random_models(tmp_path: Path) -> None:
    for seed in range(80):
        check(seed, tmp_path / "m.onnx")


@pytest.mark.long
def test_many_random_models(tmp_path: Path) -> None:
    for seed in range(1000, 3000):
        check(seed, tmp_path / "m.onnx")
