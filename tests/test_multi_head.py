"""MultiHeadAttention against the formula, with masks; its gradients, models, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_native
from lstm_native.layers import LSTM, Add, Dense, GlobalAveragePooling1D, Input, MultiHeadAttention
from lstm_native.models import Model
from lstm_native.optimizers import SGD

RNG = np.random.default_rng(19)
QUERY = RNG.normal(size=(2, 4, 6)).astype(np.float32)
VALUE = RNG.normal(size=(2, 5, 3)).astype(np.float32)


def formula(weights: list[Any], query: Any, value: Any, allowed: Any = None) -> Any:
    """In float64, head by head."""
    (wq, bq, wk, bk, wv, bv, wo, bo) = (w.astype(np.float64) for w in weights)
    outputs, scores = np.zeros((*query.shape[:2], wo.shape[-1])) + bo, []
    for head in range(wq.shape[1]):
        q, k = query @ wq[:, head] + bq[head], value @ wk[:, head] + bk[head]
        logits = q @ np.swapaxes(k, 1, 2) / np.sqrt(q.shape[-1])
        if allowed is not None:
            logits = np.where(allowed, logits, -np.inf)
        p = np.exp(logits - logits.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        scores.append(p)
        outputs = outputs + p @ (value @ wv[:, head] + bv[head]) @ wo[head]
    return outputs, np.stack(scores, 1)


def made(**options: Any) -> MultiHeadAttention:
    layer = MultiHeadAttention(2, 3, **options)
    layer(QUERY, VALUE)
    layer.set_weights([RNG.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def test_the_formula() -> None:
    layer = made(value_dim=4, output_shape=5)
    outputs, scores = layer(QUERY, VALUE, return_attention_scores=True)
    expected, of_scores = formula(layer.get_weights(), QUERY, VALUE)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(scores, of_scores, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(layer(QUERY, VALUE, VALUE), outputs)
    assert MultiHeadAttention(2, 3, use_bias=False)(QUERY, VALUE).shape == (2, 4, 6)


def test_masks() -> None:
    layer = made()
    weights = layer.get_weights()
    valid = np.array([[1, 1, 0, 1, 0], [1, 1, 1, 1, 1]], bool)
    expected, _ = formula(weights, QUERY, VALUE, valid[:, None])
    np.testing.assert_allclose(layer(QUERY, VALUE, value_mask=valid), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        layer(QUERY, VALUE, attention_mask=np.repeat(valid[:, None], 4, 1)), expected, rtol=1e-4, atol=1e-4
    )
    causal, _ = formula(weights, QUERY, VALUE, np.tril(np.ones((4, 5), bool)))
    np.testing.assert_allclose(layer(QUERY, VALUE, use_causal_mask=True), causal, rtol=1e-4, atol=1e-4)


def test_a_query_that_may_look_nowhere() -> None:
    nowhere = np.ones((2, 4, 5), bool)
    nowhere[0, 1] = nowhere[1, 3] = False
    layer = made()
    # As in Keras: the mean of all values; nothing where the weights are asked for.
    flat = [w.copy() for w in layer.get_weights()]
    flat[0][...] = flat[1][...] = 0  # queries that find all alike
    mean, _ = formula(flat, QUERY, VALUE)
    expected, _ = formula(layer.get_weights(), QUERY, VALUE)
    found = layer(QUERY, VALUE, attention_mask=nowhere)
    np.testing.assert_allclose(found[~nowhere.all(-1)], mean[~nowhere.all(-1)], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[nowhere.all(-1)], expected[nowhere.all(-1)], rtol=1e-4, atol=1e-4)
    outputs, scores = layer(QUERY, VALUE, attention_mask=nowhere, return_attention_scores=True)
    assert not np.any(scores[0, :, 1])
    assert not np.any(scores[1, :, 3])
    np.testing.assert_allclose(outputs[0, 1], layer.get_weights()[-1], rtol=1e-6)
    # No gradient comes through what was hidden.
    query, value = Input((4, 6)), Input((5, 3))
    network = Model([query, value], layer(query, value, attention_mask=np.zeros((1, 4, 5), bool)))
    network.compile(SGD(1.0), "mse")
    before = layer.get_weights()
    network.train_on_batch([QUERY, VALUE], np.ones((2, 4, 6)))
    for same, a, b in zip([True] * 4 + [False] * 4, before, layer.get_weights(), strict=True):
        assert np.array_equal(a, b) is same


def model() -> Model:
    x = Input((4, 6))
    h = LSTM(6, return_sequences=True)(x)
    attended, _ = MultiHeadAttention(2, 3)(h, h, return_attention_scores=True, use_causal_mask=True)
    return Model(x, Dense(1)(GlobalAveragePooling1D()(Add()([h, attended]))))


def test_it_trains_beside_recurrent_layers() -> None:
    network = model()
    y = RNG.normal(size=(2, 1))
    network.compile(SGD(1.0), "mse")
    start = network.get_weights()
    network.train_on_batch(QUERY, y)
    after = network.get_weights()
    for i, weight in enumerate(start):
        position, step, values = int(RNG.integers(weight.size)), 1e-2, []
        for sign in (1, -1):
            moved = [w.copy() for w in start]
            moved[i].flat[position] += sign * step
            network.set_weights(moved)
            values.append(float(network.evaluate(QUERY, y, verbose=0)))
        slope = (values[0] - values[1]) / (2 * step)
        assert (weight - after[i]).flat[position] == pytest.approx(slope, rel=3e-2, abs=1e-3)


def test_files(tmp_path: Path) -> None:
    network = model()
    network.save(tmp_path / "m.safetensors")
    again = lstm_native.load_model(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.predict(QUERY, verbose=0), network.predict(QUERY, verbose=0))
    with pytest.raises(ValueError, match=r"MultiHeadAttention .* with the suffix \.safetensors"):
        network.save(tmp_path / "m.keras")


def test_dropout_and_wrong_shapes() -> None:
    layer = made(dropout=0.5, seed=1)
    assert np.abs(layer(QUERY, VALUE, training=True) - layer(QUERY, VALUE)).max() > 1e-3
    with pytest.raises(ValueError, match="expected three of"):
        MultiHeadAttention(2, 3)(QUERY[0], QUERY[0])
