"""SpatialDropout1D, GaussianNoise, GaussianDropout: values, gradients, seeds, masks, streams, files."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layer_support import close, draw, f64
from lstm_native import _core, layers
from lstm_native.convert import from_onnx, to_onnx
from lstm_native.layers import LSTM, Dense, GaussianDropout, GaussianNoise, Input, Masking, SpatialDropout1D
from lstm_native.layers.context import Context
from lstm_native.models import Sequential, load_model

KINDS = [SpatialDropout1D, GaussianNoise, GaussianDropout]
COUNT = 200_000


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_happens_at_inference_and_at_zero(kind: Any) -> None:
    x = draw((2, 3, 4))
    np.testing.assert_array_equal(kind(0.5)(x), x)
    np.testing.assert_array_equal(kind(0.5)(x, training=False), x)
    np.testing.assert_array_equal(kind(0)(x, training=True), x)
    assert kind(0.5).compute_output_shape((None, 3, 4)) == (None, 3, 4)
    assert kind(0.5).supports_masking


def test_whole_features_are_dropped() -> None:
    x = draw((100, 7, 50)) + 3
    y = SpatialDropout1D(0.3, seed=1)(x, training=True)
    kept = y[:, :1] != 0
    close(y, np.where(kept, f64(x) / 0.7, 0), 1e-6)
    assert abs(kept.mean() - 0.7) < 5 * np.sqrt(0.21 / kept.size)  # deviations of the binomial distribution
    np.testing.assert_array_equal(SpatialDropout1D(1.0)(x, training=True), np.zeros_like(x))


@pytest.mark.parametrize("spread", [0.1, 0.5, 1.0])
def test_noise_is_added(spread: float) -> None:
    x = draw((COUNT // 100, 100))
    noise = f64(GaussianNoise(spread, seed=3)(x, training=True)) - x
    # Five deviations of mean and variance of normally distributed numbers.
    assert abs(noise.mean()) < 5 * spread / np.sqrt(COUNT)
    assert abs(noise.var() / spread**2 - 1) < 5 * np.sqrt(2 / COUNT)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_noise_is_multiplied(rate: float) -> None:
    x = np.where(draw((COUNT // 100, 100)) > 0, np.float32(2), np.float32(-1))
    noise = f64(GaussianDropout(rate, seed=4)(x, training=True)) / x
    spread = np.sqrt(rate / (1 - rate))
    assert abs(noise.mean() - 1) < 5 * spread / np.sqrt(COUNT)
    assert abs(noise.var() / spread**2 - 1) < 5 * np.sqrt(2 / COUNT)


@pytest.mark.parametrize("kind", KINDS)
def test_seeds(kind: Any) -> None:
    x = np.ones((3, 4, 5), np.float32)
    first, again = kind(0.5, seed=7), kind(0.5, seed=7)
    calls = [first(x, training=True) for _ in range(2)]
    assert not np.array_equal(*calls)
    np.testing.assert_array_equal(again(x, training=True), calls[0])
    twin = pickle.loads(pickle.dumps(copy.deepcopy(again)))
    np.testing.assert_array_equal(twin(x, training=True), calls[1])
    np.testing.assert_array_equal(kind.from_config(first.get_config())(x, training=True), calls[0])
    assert not np.array_equal(kind(0.5)(x, training=True), kind(0.5)(x, training=True))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind: Any) -> None:
    layer, ctx = kind(0.4, seed=5), Context(training=True, record=True)
    x, d = draw((2, 3, 4)), draw((2, 3, 4), 1)
    y = layer.forward(_core.as_tensor(x, "float32"), ctx)
    slope = 1.0 if kind is GaussianNoise else f64(y.numpy()) / x
    close(layer.backward(_core.as_tensor(d, "float32"), ctx), slope * f64(d), 1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SpatialDropout1D(1.5), "SpatialDropout1D: Invalid value .* `rate`.*rate=1.5"),
        (lambda: GaussianNoise(-0.1), "GaussianNoise: Invalid value .* `stddev`.*stddev=-0.1"),
        (lambda: GaussianDropout(True), "GaussianDropout: Invalid value .* `rate`.*rate=True"),
        (lambda: SpatialDropout1D(0.5)(draw((2, 3))), r"input has shape \(2, 3\), expected \(batch"),
        (lambda: SpatialDropout1D(0.5)(Input((3,))), r"input has shape \(None, 3\), expected \(batch"),
        (lambda: GaussianDropout(1.0)(draw((2, 3)), training=True), "rate is 1, of which"),
    ],
)
def test_wrong_arguments(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_the_arguments_of_spatial_dropout_are_those_of_keras() -> None:
    assert set(SpatialDropout1D(0.5).get_config()) == {"rate", "seed", "name", "dtype"}
    with pytest.raises(TypeError, match="noise_shape"):
        SpatialDropout1D(0.5, noise_shape=(1, 1, 1))  # type: ignore[call-arg]


def noisy() -> Sequential:
    return Sequential(
        [
            Input((None, 3)),
            Masking(),
            GaussianNoise(0.1, seed=1),
            SpatialDropout1D(0.2, seed=2),
            LSTM(4, return_sequences=True),
            GaussianDropout(0.2, seed=3),
            Dense(2),
        ]
    )


def test_models(tmp_path: Path) -> None:
    """They train the same when they go on from a file; masks pass; streams and ONNX leave them out."""
    model = noisy()
    x = draw((6, 5, 3))
    x[::2, 3:] = 0
    y = draw((6, 5, 2), 1)
    model.compile("adam", "mse")
    model.fit(x, y, epochs=2, verbose=0)
    for suffix in ("safetensors", "keras"):
        model.save(tmp_path / f"m.{suffix}")
    model.fit(x, y, verbose=0, shuffle=False)
    for suffix in ("safetensors", "keras"):
        again = load_model(tmp_path / f"m.{suffix}")
        again.fit(x, y, verbose=0, shuffle=False)
        np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    padded, short = model.predict(x[:1], verbose=0), model.predict(x[:1, :3], verbose=0)
    np.testing.assert_array_equal(padded[:, :3], short)
    stream = model.stream(6)
    want = model.predict(x, verbose=0)
    for t in range(5):
        np.testing.assert_array_equal(stream.step(x[:, t]), want[:, t])


def test_onnx_leaves_them_out(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    layers_in_a_row = [
        Input((5, 3)),
        GaussianNoise(0.1),
        SpatialDropout1D(0.2),
        GaussianDropout(0.2),
        LSTM(4),
    ]
    model, x = Sequential(layers_in_a_row), draw((6, 5, 3))
    to_onnx(model, tmp_path / "m.onnx", check=False)
    again = from_onnx(tmp_path / "m.onnx", check=False)
    assert [type(layer) for layer in again.layers if not isinstance(layer, layers.InputLayer)] == [LSTM]
    np.testing.assert_allclose(again(x), model(x), atol=1e-6)


def test_files_of_keras_2() -> None:
    from lstm_native.convert.conversion import Conversion
    from lstm_native.convert.keras_config import KerasConfig

    old = {"name": "s", "trainable": True, "dtype": "float32", "rate": 0.2, "noise_shape": None, "seed": None}
    layer = {"class_name": "SpatialDropout1D", "config": old}
    data = {"class_name": "Sequential", "config": {"layers": [layer]}}
    made = KerasConfig(2, Conversion("Keras", "lstm_native")).model(data)
    assert made["config"]["layers"][0]["class_name"] == "SpatialDropout1D"
    assert layers.SpatialDropout1D.from_config(made["config"]["layers"][0]["config"]).rate == 0.2
