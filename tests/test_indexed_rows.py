"""An Embedding straight before an LSTM hands over each distinct row once: same outputs, same gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lstm_native as ln
from lstm_native.layers import LSTM, Activation, Dense, Embedding
from lstm_native.layers.base import Context
from lstm_native.layers.embedding import IndexedRows
from native_support import Array, assert_bits


def models(between: bool, **options: Any) -> ln.Sequential:
    """The same model with and without a layer between, which keeps the two from working together."""
    ln.utils.set_random_seed(5)
    mask_zero = options.pop("mask_zero", False)
    model = ln.Sequential([Embedding(20, 6, mask_zero=mask_zero)])
    if between:
        model.add(Activation("linear"))
    model.add(LSTM(9, **options))
    model.add(Dense(1))
    model.compile(ln.optimizers.SGD(1.0), "mse")
    model.build((None, None))
    return model


def data(rows: int = 7, time: int = 11) -> tuple[Array, Array]:
    rng = np.random.default_rng(2)
    return rng.integers(0, 20, (rows, time)), rng.normal(size=(rows, 1)).astype(np.float32)


@pytest.mark.parametrize("options", [{}, {"mask_zero": True}, {"go_backwards": True}, {"stateful": True}])
def test_outputs_and_training_are_those_of_separate_layers(isa: str, options: dict[str, Any]) -> None:
    x, y = data()
    together, apart = models(False, **options), models(True, **options)
    for _ in range(3):
        together.set_weights(apart.get_weights())
        assert_bits(together(x), apart(x))
        together.reset_state()
        apart.reset_state()
        before = apart.get_weights()
        assert together.train_on_batch(x, y) == pytest.approx(apart.train_on_batch(x, y), rel=1e-6)
        for got, expected, start in zip(together.get_weights(), apart.get_weights(), before, strict=True):
            # The step is the gradient; sums over equal ids come in another order.
            scale = float(np.abs(expected - start).max())
            np.testing.assert_allclose(got - start, expected - start, rtol=0, atol=2e-5 * scale)


def test_the_rows_are_those_of_the_distinct_ids() -> None:
    embedding = Embedding(20, 6)
    embedding.build((None, None))
    x, _ = data()
    ctx = Context()
    found = embedding.forward_rows(embedding.as_input(x), ctx)
    assert isinstance(found, IndexedRows)
    assert found.shape == (7, 11, 6)
    assert_bits(found.rows.numpy()[found.numbers.numpy()], embedding(x))
    few = embedding.forward_rows(embedding.as_input(np.arange(20)[None]), ctx)
    assert isinstance(few, ln.layers.base.Tensor)


def test_frozen_embedding() -> None:
    x, y = data()
    model = models(False)
    model.layers[0].trainable = False
    table = model.layers[0].get_weights()[0]
    model.train_on_batch(x, y)
    assert_bits(model.layers[0].get_weights()[0], table)


def test_a_layer_of_ones_own_gets_plain_inputs() -> None:
    seen = []

    class Looking(LSTM):
        def forward(self, inputs: Any, ctx: Context, *arguments: Any, **named: Any) -> Any:
            seen.append(inputs.numpy().shape)
            return super().forward(inputs, ctx, *arguments, **named)

    model = ln.Sequential([Embedding(20, 6), Looking(3)])
    model(data()[0])
    assert seen == [(7, 11, 6)]


@pytest.mark.parametrize("wrong", [-1, 20])
def test_a_wrong_id_is_named(wrong: int) -> None:
    model = models(False)
    x, _ = data()
    x[3, 4] = wrong
    with pytest.raises(
        ValueError, match=rf"embedding.*input\[3, 4\] is {wrong}, expected an index in \[0, 20\)"
    ):
        model(x)


@pytest.mark.parametrize("steps", [1, 4, 11, 100])
def test_checkpoint_steps_train_the_same(isa: str, steps: int) -> None:
    x, y = data()
    plain, checkpoints = models(True), models(False, checkpoint_steps=steps)
    assert checkpoints.train_on_batch(x, y) == plain.train_on_batch(x, y)
    for got, expected in zip(checkpoints.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("wrong", [0, -3, 2.5, "all"])
def test_wrong_checkpoint_steps(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="LSTM: checkpoint_steps"):
        LSTM(3, checkpoint_steps=wrong)
