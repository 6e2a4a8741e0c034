"""Attention and AdditiveAttention: outputs and gradients, masks, dropout, wrong arguments."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from layer_support import Array, check_layer, close, draw, f64
from lstm_native import _core
from lstm_native.layers import AdditiveAttention, Attention, Dense
from lstm_native.layers.context import Context
from lstm_native.models import Sequential

QUERY_MASK = np.array([[True, True, False], [True, False, True]])
VALUE_MASK = np.array([[True, True, False, True], [False, False, False, True]])


def attended(
    inputs: list[Array],
    weights: dict[str, Array],
    kind: str,
    query_mask: Array | None = None,
    value_mask: Array | None = None,
    causal: bool = False,
) -> tuple[Array, Array]:
    """Outputs and attention weights in float64."""
    query, value, key = (*inputs, inputs[1])[:3]
    scale = weights.get("scale", np.float64(1))
    if kind == "dot":
        scores = scale * np.einsum("bqd,bsd->bqs", query, key)
    elif kind == "concat":
        sums = np.tanh(scale * (query[:, :, None] + key[:, None])).sum(-1)
        scores = weights["concat_score_weight"] * sums
    else:
        scores = (scale * np.tanh(query[:, :, None] + key[:, None])).sum(-1)
    allowed = np.ones(scores.shape, bool)
    if value_mask is not None:
        allowed &= value_mask[:, None]
    if causal:
        allowed &= np.tri(*scores.shape[1:], dtype=bool)
    scores = np.where(allowed, scores, -np.inf)
    probabilities = np.exp(scores - scores.max(-1, keepdims=True))
    probabilities /= probabilities.sum(-1, keepdims=True)
    outputs = probabilities @ value
    if query_mask is not None:
        outputs = np.where(query_mask[..., None], outputs, 0.0)
    return outputs, probabilities


def layer_of(kind: str, use_scale: bool) -> Attention:
    if kind == "additive":
        return AdditiveAttention(use_scale=use_scale)
    return Attention(use_scale=use_scale, score_mode=kind)


@pytest.mark.parametrize("with_key", [False, True])
@pytest.mark.parametrize("use_scale", [False, True])
@pytest.mark.parametrize("kind", ["dot", "concat", "additive"])
def test_outputs_and_gradients(kind: str, use_scale: bool, with_key: bool) -> None:
    inputs = [draw((2, 3, 5), 1), draw((2, 4, 5), 2)] + [draw((2, 4, 5), 3)] * with_key
    check_layer(layer_of(kind, use_scale), inputs, lambda x, w: attended(x, w, kind)[0])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masks", [(None, VALUE_MASK), (QUERY_MASK, None), (QUERY_MASK, VALUE_MASK)])
@pytest.mark.parametrize("kind", ["dot", "additive"])
def test_masks(kind: str, masks: tuple[Array | None, Array | None], causal: bool) -> None:
    value_mask = (
        None if masks[1] is None else masks[1] | np.eye(1, 4, dtype=bool)
    )  # something is left for query 0
    check_layer(
        layer_of(kind, True),
        [draw((2, 3, 5), 1), draw((2, 4, 5), 2)],
        lambda x, w: attended(x, w, kind, masks[0], value_mask, causal)[0],
        masks=[masks[0], value_mask],
        use_causal_mask=causal,
    )


def test_scores_are_returned_and_have_a_gradient() -> None:
    layer = Attention()
    query, value = draw((2, 3, 5), 1), draw((2, 4, 5), 2)
    outputs, weights = layer([query, value], mask=[None, VALUE_MASK], return_attention_scores=True)
    expected = attended([f64(query), f64(value)], {}, "dot", value_mask=VALUE_MASK)
    close(outputs, expected[0], 2e-6)
    close(weights, expected[1], 2e-6)
    assert weights[~np.broadcast_to(VALUE_MASK[:, None], weights.shape)].max() == 0.0

    tensors = [_core.as_tensor(x, "float32") for x in (query, value)]
    d_weights = draw((2, 3, 4), 3)
    ctx = Context(record=True)
    layer.forward(tensors, ctx, None, return_attention_scores=True)
    d_query, _ = layer.backward((None, _core.as_tensor(d_weights, "float32")), ctx)
    p = attended([f64(query), f64(value)], {}, "dot")[1]
    d_scores = p * (d_weights - (p * d_weights).sum(-1, keepdims=True))
    close(d_query, d_scores @ f64(value), 2e-5)


def test_a_query_with_nothing_to_attend_to_gives_numbers() -> None:
    outputs = Attention()([draw((1, 2, 3)), draw((1, 4, 3))], mask=[None, np.zeros((1, 4), bool)])
    assert np.isfinite(outputs).all()


def test_dropout_is_of_training_only_and_follows_its_seed() -> None:
    inputs = [draw((4, 6, 5), 1), draw((4, 7, 5), 2)]
    plain = Attention()(inputs)
    layer = Attention(dropout=0.5, seed=3)
    assert np.array_equal(layer(inputs), plain)
    first, weights = layer(inputs, training=True, return_attention_scores=True)
    assert 0.3 < (weights == 0).mean() < 0.7
    assert not np.array_equal(layer(inputs, training=True), first)
    assert np.array_equal(Attention(dropout=0.5, seed=3)(inputs, training=True), first)


def test_gradient_with_dropout() -> None:
    """Backward uses the mask that forward drew: d of sum(kept @ value) by the value is the kept weights."""
    layer = Attention(dropout=0.5, seed=1)
    layer.build([(2, 4, 3)] * 3)
    query, value, key = (_core.as_tensor(draw((2, 4, 3), i), "float32") for i in range(3))
    ctx = Context(training=True, record=True)
    _, kept = layer.forward([query, value, key], ctx, return_attention_scores=True)
    d = draw((2, 4, 3), 9)
    d_value = layer.backward((_core.as_tensor(d, "float32"), None), ctx)[1]
    close(d_value, np.einsum("bqs,bqd->bsd", f64(kept.numpy()), f64(d)), 2e-5)


def test_mask_of_the_outputs_is_that_of_the_query() -> None:
    layer = Attention()
    inputs = [np.ones((2, 3, 4)), np.ones((2, 4, 4))]
    assert layer.compute_mask(inputs) is None
    assert layer.compute_mask(inputs, [None, VALUE_MASK]) is None
    assert layer.compute_mask(inputs, [QUERY_MASK, VALUE_MASK]) is QUERY_MASK


def test_shapes_and_weights() -> None:
    layer = Attention(use_scale=True, score_mode="concat")
    layer.build([(2, 3, 4), (2, 5, 4)])
    assert [v.name for v in layer.weights] == ["scale", "concat_score_weight"]
    assert layer.compute_output_shape([(None, 3, 4), (None, 5, 6), (None, 5, 4)]) == (None, 3, 6)
    both = layer.compute_output_shape([(None, 3, 4), (None, 5, 6)], return_attention_scores=True)
    assert both == ((None, 3, 6), (None, 3, 5))
    additive = AdditiveAttention()
    additive.build([(2, 3, 4), (2, 5, 4)])
    assert [v.shape for v in additive.weights] == [(4,)]
    twin = copy.deepcopy(additive)
    inputs = [draw((2, 3, 4)), draw((2, 5, 4))]
    assert np.array_equal(twin(inputs), additive(inputs))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda layer, x: layer(x), "must be called on a list"),
        (lambda layer, x: layer([x]), "length 2 or 3"),
        (lambda layer, x: layer([x, x], mask=x), "layer mask must be a list"),
        (lambda layer, x: layer([x, x[:1]]), "rows are 2 and 1"),
        (lambda layer, x: layer([x, x[..., :2]]), "dim are 3 and 2"),
        (lambda layer, x: layer([x, x, x[:, :1]]), "steps are 4 and 1"),
        (lambda layer, x: layer([x, x[0]]), r"value has shape \(4, 3\)"),
        (lambda layer, x: layer([x, x[:, :0]]), r"value has shape \(2, 0, 3\)"),
        (lambda layer, x: layer([x, x], mask=[None, np.ones((2, 3))]), r"value mask has shape \(2, 3\)"),
        (lambda layer, x: Attention(dropout=1.5), "dropout is 1.5"),
        (lambda layer, x: Attention(score_mode="general"), "score_mode"),
    ],
)
def test_wrong_arguments(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(Attention(), draw((2, 4, 3)))


def test_additive_attention_keeps_its_dim() -> None:
    layer = AdditiveAttention()
    layer([draw((2, 3, 4)), draw((2, 3, 4))])
    with pytest.raises(ValueError, match="expected 4 in the last axis"):
        layer([draw((2, 3, 5)), draw((2, 3, 5))])


def test_no_stream_and_no_sequential() -> None:
    model = Sequential([Dense(3), Attention()])
    with pytest.raises(ValueError, match="must be called on a list"):
        model(draw((2, 4, 3)))
    with pytest.raises(ValueError, match=r"Attention .attention.*: .*cannot run step by step"):
        Attention().add_to_stream(_core.Stream("model", 1, 3, lambda x: x))
