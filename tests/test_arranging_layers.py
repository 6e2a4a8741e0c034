"""Reshape and Permute: outputs, gradients, shapes, errors, models and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layer_support import check_layer, draw
from lstm_native import _core
from lstm_native.layers import LSTM, Dense, Embedding, Input, Layer, Permute, Reshape
from lstm_native.models import Model, Sequential, load_model


@pytest.mark.parametrize(
    ("shape", "target", "result"),
    [
        ((2, 12), (3, 4), (2, 3, 4)),
        ((2, 3, 4), (12,), (2, 12)),
        ((2, 3, 4), (-1, 2), (2, 6, 2)),
        ((2, 3, 4), [1, -1], (2, 1, 12)),
        ((2, 3, 4), (4, 1, 3), (2, 4, 1, 3)),
        ((2, 1), (), (2,)),
        ((2,), (1, -1), (2, 1, 1)),
        ((2, 0, 3), (-1, 3), (2, 0, 3)),
        ((0, 3, 4), (-1,), (0, 12)),
    ],
)
def test_reshape(shape: Any, target: Any, result: Any) -> None:
    layer = Reshape(target)
    assert layer.built
    assert layer.compute_output_shape(shape) == result
    assert layer(draw(shape)).shape == result
    if 0 not in shape:
        check_layer(layer, [draw(shape)], lambda x, _: x[0].reshape(result))


def test_shapes_that_are_not_known() -> None:
    assert Reshape((-1, 8)).compute_output_shape((None, 6, 4)) == (None, 3, 8)
    assert Reshape((-1, 3)).compute_output_shape((4, 6, None, 3)) == (4, None, 3)
    assert Reshape((3, 5)).compute_output_shape((2, None)) == (2, 3, 5)
    assert Reshape((3, 5))(Input((None,))).shape == (None, 3, 5)
    assert Permute((2, 1)).compute_output_shape((None, None, 3)) == (None, 3, None)
    layer = Reshape((-1, 8))
    assert [layer(draw((1, n, 4))).shape for n in (6, 10)] == [(1, 3, 8), (1, 5, 8)]


@pytest.mark.parametrize("dims", [(2, 1), (1, 2), (3, 1, 2), [2, 3, 1], (1,), ()])
def test_permute(dims: Any) -> None:
    x = draw((2, 3, 4, 5)[: len(dims) + 1])
    layer = Permute(dims)
    check_layer(layer, [x], lambda x, _: x[0].transpose((0, *dims)))
    assert layer.compute_output_shape(x.shape) == layer(x).shape


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Reshape((-2, 5)), ValueError, r"non-negative integer, or -1.*target_shape=\(-2, 5\)"),
        (lambda: Reshape((-1, -1)), ValueError, r"at most one unknown dimension.*target_shape=\(-1, -1\)"),
        (lambda: Reshape((2.5,)), ValueError, r"non-negative integer.*target_shape=\(2.5,\)"),
        (lambda: Reshape((True,)), ValueError, r"non-negative integer.*target_shape=\(True,\)"),
        (lambda: Reshape(3), TypeError, "target_shape is 3, expected a tuple"),
        (lambda: Reshape((5,))(draw((2, 3, 4))), ValueError, r"has shape \(2, 3, 4\), .*target_shape=\(5,\)"),
        (lambda: Reshape((5, -1))(Input((3, 4))), ValueError, "total size of the tensor must be unchanged"),
        (lambda: Reshape((0, -1))(draw((2, 3))), ValueError, "total size of the tensor must be unchanged"),
        (lambda: Permute((0, 1)), ValueError, r"Invalid permutation argument `dims`.*dims=\(0, 1\)"),
        (lambda: Permute((1, 4, 2)), ValueError, "must be consecutive and start from 1"),
        (lambda: Permute(2), TypeError, "dims is 2, expected a tuple"),
        (lambda: Permute((2, 1))(draw((2, 3))), ValueError, r"has shape \(2, 3\), expected 3 axes"),
    ],
)
def test_wrong_arguments(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("layer", [Reshape((-1,)), Permute((2, 1))])
def test_masks_end_with_a_warning_and_streams_are_refused(layer: Layer) -> None:
    ids = Input((4,), dtype="int32")
    model = Model(ids, layer(Embedding(5, 3, mask_zero=True)(ids)))
    with pytest.warns(UserWarning, match=f"{layer.label()}: the inputs have a mask, which this layer does n"):
        model(np.array([[1, 2, 0, 0]]))
    with pytest.raises(ValueError, match=f"{layer.label()}: .*cannot run step by step"):
        layer.add_to_stream(_core.Stream("model", 1, 3, lambda x: x))


def test_windows_of_windows(tmp_path: Path) -> None:
    """Features before time and time in pieces, as in models of sensors: they train, and files hold them."""
    model = Sequential(
        [
            Input((3, 8)),
            Permute((2, 1)),
            Reshape((4, 6)),
            LSTM(5, return_sequences=True),
            Reshape((-1,)),
            Dense(6),
            Reshape((2, 3)),
        ]
    )
    model.compile("adam", "mse")
    x, y = draw((20, 3, 8)), draw((20, 2, 3), 1)
    before = model.evaluate(x, y, verbose=0)
    model.fit(x, y, batch_size=4, epochs=30, verbose=0)
    assert model.evaluate(x, y, verbose=0) < 0.8 * before
    for suffix in ("safetensors", "keras", "h5"):
        model.save(tmp_path / f"m.{suffix}")
        np.testing.assert_array_equal(load_model(tmp_path / f"m.{suffix}")(x), model(x))
