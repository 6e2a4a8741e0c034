"""LayerNormalization, global pooling, Flatten, RepeatVector: outputs, gradients, masks, models."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from layer_support import Array, check_layer, close, draw, f64
from lstm_native import _core
from lstm_native.layers import (
    LSTM,
    Dense,
    Embedding,
    Flatten,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    Layer,
    LayerNormalization,
    Masking,
    RepeatVector,
)
from lstm_native.models import Sequential

MASK = np.array([[True, False, True, True], [False, True, False, False]])


def normalized(axes: tuple[int, ...], rms: bool = False) -> Any:
    def function(inputs: list[Array], weights: dict[str, Array]) -> Array:
        x = inputs[0]
        mean = x.mean(axes, keepdims=True)
        deviation = np.sqrt(x.var(axes, keepdims=True) + 1e-3)
        wide = [n if a in [i % x.ndim for i in axes] else 1 for a, n in enumerate(x.shape)]
        y = (x if rms else x - mean) / deviation
        if "gamma" in weights:
            y = y * weights["gamma"].reshape(wide)
        return y + weights["beta"].reshape(wide) if "beta" in weights else y

    return function


@pytest.mark.parametrize("axis", [-1, 1, 2, (1, 2), [-1, -2], (2, 1)])
def test_layer_normalization(axis: Any) -> None:
    axes = tuple(axis) if isinstance(axis, tuple | list) else (axis,)
    check_layer(LayerNormalization(axis=axis), [draw((2, 3, 4))], normalized(axes))


def test_layer_normalization_variants() -> None:
    check_layer(LayerNormalization(center=False), [draw((3, 4))], normalized((-1,)))
    check_layer(LayerNormalization(scale=False), [draw((3, 4))], normalized((-1,)))
    check_layer(LayerNormalization(scale=False, center=False), [draw((3, 4))], normalized((-1,)))
    with pytest.warns(UserWarning, match="rms_scaling"):
        layer = LayerNormalization(rms_scaling=True)
    check_layer(layer, [draw((3, 4))], normalized((-1,), rms=True))
    assert [v.name for v in layer.weights] == ["gamma"]


def test_layer_normalization_of_other_ranks_and_empty_axes() -> None:
    layer = LayerNormalization()
    layer.build((2, 2, 5))
    x = draw((3, 2, 2, 5))
    close(layer(x), normalized((-1,))([f64(x)], {}), 2e-6)
    assert layer(np.zeros((1, 0, 5))).shape == (1, 0, 5)
    assert layer(np.zeros((0, 2, 5))).shape == (0, 2, 5)


def test_layer_normalization_refuses() -> None:
    with pytest.raises(TypeError, match="'axis'"):
        LayerNormalization(axis="last")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="epsilon is -1"):
        LayerNormalization(epsilon=-1)
    with pytest.raises(ValueError, match="has no axis 3"):
        LayerNormalization(axis=3).build((2, 3))
    with pytest.raises(ValueError, match="twice"):
        LayerNormalization(axis=(1, -1)).build((2, 3))
    with pytest.raises(ValueError, match="known sizes"):
        LayerNormalization(axis=1).build((2, None, 3))
    layer = LayerNormalization()
    layer.build((2, 3))
    with pytest.raises(ValueError, match=r"expected \(3,\) along axis -1"):
        layer(draw((2, 4)))


def test_layer_normalization_in_a_stream() -> None:
    model = Sequential([LSTM(5, return_sequences=True), LayerNormalization(), LSTM(4, return_sequences=True)])
    x = draw((2, 6, 3))
    expected = model(x)
    model.layers[1].set_weights([draw((5,), 1), draw((5,), 2)])
    expected = model(x)
    stream = model.stream(2)
    for t in range(6):
        assert np.array_equal(stream.step(x[:, t]), expected[:, t])
    over_time = Sequential([LayerNormalization(axis=1)])
    over_time.build((None, 6, 3))
    with pytest.raises(ValueError, match="axis is 1, only the features"):
        over_time.stream()


def averaged(inputs: list[Array], mask: Array | None, axis: int) -> Array:
    x = inputs[0]
    if mask is None:
        return x.mean(axis)
    valid = np.expand_dims(mask, 3 - axis)
    return np.where(valid, x, 0).sum(axis) / valid.sum(axis)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("data_format", "axis"), [("channels_last", 1), ("channels_first", 2)])
def test_average(data_format: str, axis: int, masked: bool, keepdims: bool) -> None:
    x = draw((2, 4, 3) if axis == 1 else (2, 3, 4))
    layer = GlobalAveragePooling1D(data_format, keepdims=keepdims)
    mask = MASK if masked else None

    def function(inputs: list[Array], _: Any) -> Array:
        means = averaged(inputs, mask, axis)
        return np.expand_dims(means, axis) if keepdims else means

    check_layer(layer, [x], function, [mask])
    close(layer(x, mask), function([f64(x)], None), 2e-6)
    assert layer.compute_output_shape(x.shape) == layer(x).shape
    assert layer.compute_mask(x, MASK) is None


def test_average_of_nothing_is_zero_and_masked_nan_does_not_count() -> None:
    x = draw((2, 4, 3))
    x[1, 0] = np.nan
    mask = np.array([[False] * 4, [False, True, True, True]])
    got = GlobalAveragePooling1D()(x, mask=mask)
    assert np.array_equal(got[0], np.zeros(3))
    close(got[1], f64(x[1, 1:]).mean(0), 2e-6)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(("data_format", "axis"), [("channels_last", 1), ("channels_first", 2)])
def test_max(data_format: str, axis: int, keepdims: bool) -> None:
    layer = GlobalMaxPooling1D(data_format, keepdims)
    check_layer(layer, [draw((2, 4, 3))], lambda x, _: x[0].max(axis, keepdims=keepdims))
    assert layer.compute_output_shape((2, 4, 3)) == layer(draw((2, 4, 3))).shape


def test_equal_maxima_share_the_gradient() -> None:
    from lstm_native.layers.context import Context

    layer, ctx = GlobalMaxPooling1D(), Context(record=True)
    layer.forward(_core.as_tensor([[[1.0], [2.0], [2.0]]], "float32"), ctx)
    d = layer.backward(_core.as_tensor([[3.0]], "float32"), ctx)
    assert d.numpy().ravel().tolist() == [0.0, 1.5, 1.5]


def test_max_says_that_it_ignores_a_mask() -> None:
    model = Sequential([Masking(), GlobalMaxPooling1D()])
    with pytest.warns(UserWarning, match="masked time steps count"):
        assert np.array_equal(model(-np.ones((1, 2, 3))), -np.ones((1, 3)))


def test_flatten() -> None:
    check_layer(Flatten(), [draw((2, 3, 4))], lambda x, _: x[0].reshape(2, 12))
    check_layer(Flatten(), [draw((2,))], lambda x, _: x[0].reshape(2, 1))
    moved = lambda x, _: np.moveaxis(x[0], 1, -1).reshape(2, -1)  # noqa: E731
    check_layer(Flatten("channels_first"), [draw((2, 3, 4, 5))], moved)
    assert Flatten().compute_output_shape((None, 3, None)) == (None, None)
    assert Flatten().compute_output_shape((None, 3, 4)) == (None, 12)
    assert Flatten().compute_mask(None, MASK) is None
    assert Flatten()(np.zeros((0, 3, 4))).shape == (0, 12)


def test_repeat_vector() -> None:
    check_layer(RepeatVector(3), [draw((2, 5))], lambda x, _: np.repeat(x[0][:, None], 3, 1))
    assert RepeatVector(3).compute_output_shape((None, 5)) == (None, 3, 5)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: RepeatVector(2.5), TypeError, "Expected an integer value for `n`"),  # type: ignore[arg-type]
        (lambda: RepeatVector(0), ValueError, "positive integer"),
        (lambda: RepeatVector(2)(draw((2, 3, 4))), ValueError, r"expected \(batch, features\)"),
        (lambda: Flatten("first"), ValueError, "data_format is 'first'"),
        (lambda: GlobalMaxPooling1D()(draw((2, 3))), ValueError, "expected .batch, time, features"),
        (lambda: GlobalMaxPooling1D()(np.zeros((2, 0, 3))), ValueError, "at least one time step"),
        (lambda: GlobalAveragePooling1D()(draw((2, 4, 3)), np.ones((2, 3))), ValueError, "mask has shape"),
    ],
)
def test_wrong_arguments(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "layer", [Flatten(), RepeatVector(2), GlobalMaxPooling1D(), GlobalAveragePooling1D()]
)
def test_no_stream(layer: Layer) -> None:
    with pytest.raises(ValueError, match=f"{layer.label()}: .*cannot run step by step"):
        layer.add_to_stream(_core.Stream("model", 1, 3, lambda x: x))


def test_models_with_these_layers_train_and_copy() -> None:
    """An encoder and a decoder; the mask of the Embedding ends where the sequence ends."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 9, (16, 5))
    model = Sequential(
        [
            Embedding(9, 6, mask_zero=True),
            LSTM(8, return_sequences=True),
            LayerNormalization(),
            GlobalAveragePooling1D(),
            RepeatVector(5),
            LSTM(8, return_sequences=True),
            Flatten(),
            Dense(5),
        ]
    )
    model.compile("adam", "mse")
    targets = ids / 9.0
    before = model.train_on_batch(ids, targets)
    for _ in range(60):
        after = model.train_on_batch(ids, targets)
    assert after < 0.3 * before
    expected = model.predict(ids, verbose=0)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(twin.predict(ids, verbose=0), expected)
