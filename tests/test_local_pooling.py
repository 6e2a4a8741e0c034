"""MaxPooling1D, AveragePooling1D, ZeroPadding1D, Cropping1D, UpSampling1D against plain loops in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layer_support import Array, check_layer, draw
from lstm_native import _core, layers
from lstm_native.layers import (
    LSTM,
    AveragePooling1D,
    Cropping1D,
    Dense,
    Embedding,
    Input,
    Layer,
    MaxPooling1D,
    UpSampling1D,
    ZeroPadding1D,
)
from lstm_native.layers.context import Context
from lstm_native.models import Model, Sequential, load_model

SHAPE = (2, 7, 3)


def pooled(x: Array, size: int, stride: int, padding: str, reduce: Any) -> Array:
    """Window by window; what lies beyond the sequence does not count."""
    time = x.shape[1]
    count = (time - size) // stride + 1 if padding == "valid" else -(-time // stride)
    before = 0 if padding == "valid" else max((count - 1) * stride + size - time, 0) // 2
    starts = [i * stride - before for i in range(count)]
    return np.stack([reduce(x[:, max(s, 0) : s + size], axis=1) for s in starts], axis=1)


@pytest.mark.parametrize(("kind", "reduce"), [(MaxPooling1D, np.max), (AveragePooling1D, np.mean)])
@pytest.mark.parametrize(("size", "stride"), [(2, None), (3, 1), (2, 3), (1, 1), (7, 2)])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_pooling(
    kind: Any, reduce: Any, size: int, stride: int | None, padding: str, data_format: str
) -> None:
    layer = kind(size, stride, padding, data_format)
    x = draw(SHAPE)
    if data_format == "channels_first":
        x = np.ascontiguousarray(x.swapaxes(1, 2))

    def function(inputs: list[Array], _: Any) -> Array:
        last = data_format == "channels_last"
        y = pooled(inputs[0] if last else inputs[0].swapaxes(1, 2), size, stride or size, padding, reduce)
        return y if last else y.swapaxes(1, 2)

    check_layer(layer, [x], function)
    assert layer.built
    assert layer.compute_output_shape(x.shape) == layer(x).shape
    np.testing.assert_array_equal(kind.from_config(layer.get_config())(x), layer(x))


def test_the_first_of_equal_maxima_has_the_gradient() -> None:
    layer, ctx = MaxPooling1D(3), Context(record=True)
    layer.forward(_core.as_tensor([[[1.0], [2.0], [2.0]]], "float32"), ctx)
    d = layer.backward(_core.as_tensor([[[3.0]]], "float32"), ctx)
    assert d.numpy().ravel().tolist() == [0.0, 3.0, 0.0]


def test_nan_and_infinity_stay_in_their_windows() -> None:
    x = np.array([[[1.0], [np.nan], [-np.inf], [-np.inf], [3.0], [np.inf]]], np.float32)
    np.testing.assert_array_equal(MaxPooling1D(2)(x).ravel(), [np.nan, -np.inf, np.inf])
    np.testing.assert_array_equal(AveragePooling1D(2)(x).ravel(), [np.nan, -np.inf, np.inf])


@pytest.mark.parametrize("padding", [1, 0, (2, 0), (0, 3), [1, 2]])
def test_zero_padding(padding: Any) -> None:
    around = (padding, padding) if isinstance(padding, int) else tuple(padding)
    check_layer(ZeroPadding1D(padding), [draw(SHAPE)], lambda x, _: np.pad(x[0], ((0, 0), around, (0, 0))))
    first = ZeroPadding1D(padding, data_format="channels_first")
    check_layer(first, [draw(SHAPE)], lambda x, _: np.pad(x[0], ((0, 0), (0, 0), around)))
    assert first.padding == around
    assert first.compute_output_shape((None, 7, 3)) == (None, 7, 3 + sum(around))
    assert ZeroPadding1D(padding).compute_output_shape((None, None, 3)) == (None, None, 3)


@pytest.mark.parametrize("cropping", [1, 0, (2, 0), (0, 3), [3, 3]])
def test_cropping(cropping: Any) -> None:
    before, behind = (cropping, cropping) if isinstance(cropping, int) else cropping
    layer = Cropping1D(cropping)
    check_layer(layer, [draw(SHAPE)], lambda x, _: x[0][:, before : 7 - behind])
    assert layer.compute_output_shape((None, 7, 3)) == (None, 7 - before - behind, 3)
    assert layer.compute_output_shape((None, None, 3)) == (None, None, 3)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_up_sampling(size: int) -> None:
    check_layer(UpSampling1D(size), [draw(SHAPE)], lambda x, _: np.repeat(x[0], size, axis=1))
    assert UpSampling1D(size).compute_output_shape((None, None, 3)) == (None, None, 3)
    assert UpSampling1D(size).compute_output_shape((None, 7, 3)) == (None, 7 * size, 3)


def test_other_names_of_keras() -> None:
    assert layers.MaxPool1D is MaxPooling1D
    assert layers.AvgPool1D is AveragePooling1D


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: MaxPooling1D(0), ValueError, "MaxPooling1D: The `pool_size` argument must be a tuple of 1"),
        (lambda: MaxPooling1D(2, strides=(1, 2)), ValueError, r"`strides` argument .* strides=\(1, 2\)"),
        (lambda: AveragePooling1D(2, 2, "full"), ValueError, "AveragePooling1D: padding is 'full', expected"),
        (lambda: MaxPooling1D(data_format="x"), ValueError, "data_format is 'x'"),
        (lambda: MaxPooling1D(3)(draw((2, 2, 3))), ValueError, "expected at least 3 time steps, for one win"),
        (lambda: MaxPooling1D(3)(draw((2, 3))), ValueError, r"shape \(2, 3\), expected \(batch, time, feat"),
        (lambda: ZeroPadding1D("1"), ValueError, "`padding` argument must be a tuple of 2 integers"),
        (lambda: ZeroPadding1D((1,)), ValueError, "`padding` argument must be a tuple of 2 integers"),
        (lambda: ZeroPadding1D(-1), ValueError, r"including values \{-1\} that do not satisfy `value >= 0`"),
        (lambda: Cropping1D((1, 2, 3)), ValueError, "`cropping` argument must be a tuple of 2 integers"),
        (lambda: Cropping1D(2)(draw((2, 4, 3))), ValueError, "must be smaller than the input length"),
        (lambda: Cropping1D(2)(Input((4, 3))), ValueError, "must be smaller than the input length"),
        (lambda: UpSampling1D(1.5), TypeError, "Expected an integer value for `size`, got 1.5"),
        (lambda: UpSampling1D(0), ValueError, "`size` should be a positive integer. Received: size=0"),
    ],
)
def test_wrong_arguments(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "layer", [MaxPooling1D(), AveragePooling1D(), ZeroPadding1D(), Cropping1D(1), UpSampling1D()]
)
def test_masks_end_with_a_warning_and_streams_are_refused(layer: Layer) -> None:
    ids = Input((4,), dtype="int32")
    model = Model(ids, layer(Embedding(5, 3, mask_zero=True)(ids)))
    with pytest.warns(UserWarning, match=f"{layer.label()}: the inputs have a mask, which this layer does n"):
        model(np.array([[1, 2, 0, 0]]))
    with pytest.raises(
        ValueError, match=f"{layer.label()}: looks at several time steps at once and cannot r"
    ):
        model.stream()


def test_a_model_that_narrows_and_widens(tmp_path: Path) -> None:
    model = Sequential(
        [
            Input((8, 3)),
            ZeroPadding1D((1, 0)),
            AveragePooling1D(3, strides=2, padding="same"),
            LSTM(4, return_sequences=True),
            UpSampling1D(2),
            Cropping1D((0, 2)),
            MaxPooling1D(2, strides=1, padding="same"),
            Dense(3),
        ]
    )
    x, y = draw((12, 8, 3)), draw((12, 8, 3), 1)
    model.compile("adam", "mse")
    before = model.evaluate(x, y, verbose=0)
    model.fit(x, y, epochs=20, batch_size=4, verbose=0)
    assert model.evaluate(x, y, verbose=0) < before
    for suffix in ("safetensors", "keras", "h5"):
        model.save(tmp_path / f"m.{suffix}")
        np.testing.assert_array_equal(load_model(tmp_path / f"m.{suffix}")(x), model(x))


@pytest.mark.parametrize("time", [4, None])
def test_up_sampling_beyond_all_memory(time: int | None) -> None:
    """Sizes whose product with the steps is a multiple of 2^64 are errors, too."""
    for size in (2**61, 2**62, 2**63, 2**100):
        model = Sequential([Input((time, 2)), UpSampling1D(size)])
        with pytest.raises(ValueError, match="repeated do not fit in memory"):
            model(np.ones((1, 4, 2), np.float32))
