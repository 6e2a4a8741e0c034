"""Attention and Bidirectional in functional models: several inputs, masks, scores, states."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from layer_support import draw
from lstm_native.layers import (
    LSTM,
    AdditiveAttention,
    Attention,
    Bidirectional,
    Dense,
    Embedding,
    Input,
    LayerNormalization,
    TimeDistributed,
)
from lstm_native.models import Model
from lstm_native.optimizers import SGD


@pytest.mark.parametrize("kind", [Attention, AdditiveAttention])
def test_attention_in_a_model(kind: Any) -> None:
    query, value = Input((3, 5)), Input((None, 5))
    layer = kind(use_scale=True)
    outputs, weights = layer([query, value], return_attention_scores=True, use_causal_mask=True)
    assert (outputs.shape, weights.shape) == ((None, 3, 5), (None, 3, None))
    model = Model([query, value], [outputs, weights])
    x = [draw((2, 3, 5), 1), draw((2, 4, 5), 2)]
    expected = layer(x, return_attention_scores=True, use_causal_mask=True)
    for got, wanted in zip(model.predict(x, verbose=0), expected, strict=True):
        assert np.array_equal(got, wanted)
    plain = Model([query, value], layer([query, value]))
    assert np.array_equal(plain.predict(x, verbose=0), layer(x))


def test_masks_reach_the_attention() -> None:
    ids, others = Input((6,), dtype="int32"), Input((4,), dtype="int32")
    embedding = Embedding(9, 5, mask_zero=True)
    layer = Attention()
    model = Model([ids, others], layer([embedding(ids), embedding(others)]))
    a = np.array([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 8, 1]])
    b = np.array([[0, 0, 7, 2], [3, 0, 1, 0]])
    table = embedding.get_weights()[0]
    expected = layer([table[a], table[b]], mask=[a != 0, b != 0])
    assert np.array_equal(model.predict([a, b], verbose=0), expected)
    assert not expected[0, 3:].any()


def test_gradients_through_attention_and_states() -> None:
    """Against differences of the loss along the gradient of each weight."""
    source, target = Input((6,), dtype="int32"), Input((4,), dtype="int32")
    embedding = Embedding(9, 5, mask_zero=True)
    encoder = Bidirectional(LSTM(4, return_sequences=True, return_state=True))
    memory, *states = encoder(embedding(source))
    decoder = Bidirectional(LSTM(4, return_sequences=True))
    decoded = decoder(embedding(target), initial_state=states)
    context = Attention(use_scale=True)([decoded, memory])
    mixed = AdditiveAttention()([context, decoded])
    outputs = TimeDistributed(Dense(3, activation="softmax"))(LayerNormalization()(mixed))
    model = Model([source, target], outputs)
    rng = np.random.default_rng(0)
    x = [rng.integers(1, 9, (8, 6)), rng.integers(1, 9, (8, 4))]
    y = rng.integers(0, 3, (8, 4))
    model.compile(SGD(1.0), "sparse_categorical_crossentropy")
    weights = [draw(w.shape, i) for i, w in enumerate(model.get_weights())]
    model.set_weights(weights)
    model.train_on_batch(x, y)
    gradients = [a - b for a, b in zip(weights, model.get_weights(), strict=True)]

    def loss_at(index: int, step: float) -> float:
        moved = list(weights)
        moved[index] = weights[index] + np.float32(step) * gradients[index]
        model.set_weights(moved)
        return float(model.test_on_batch(x, y))

    for i, (variable, gradient) in enumerate(zip(model.weights, gradients, strict=True)):
        size = float(np.linalg.norm(gradient))
        assert size > 0, variable.path
        step = 0.01 / size
        slope = (loss_at(i, step) - loss_at(i, -step)) / 0.02
        # The loss has about seven digits; terms of third order are smaller than the step squared.
        assert abs(slope - size) < 1e-4 + 1e-2 * size, variable.path
