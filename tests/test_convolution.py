"""Conv1D: outputs and gradients against plain loops in float64, shapes, errors, models, files."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layer_support import Array, check_layer, close, draw, f64
from lstm_native import _core
from lstm_native.layers import (
    LSTM,
    BatchNormalization,
    Conv1D,
    Convolution1D,
    Dense,
    Embedding,
    Flatten,
    Input,
    MaxPooling1D,
    Rescaling,
    TimeDistributed,
)
from lstm_native.models import Sequential, load_model


def convolved(
    x: Array, kernel: Array, bias: Array, stride: int, dilation: int, padding: str, groups: int
) -> Array:
    """The definition, output by output: (batch, time, features) to (batch, windows, filters)."""
    size, per_group, filters = kernel.shape
    time, span = x.shape[1], dilation * (kernel.shape[0] - 1) + 1
    if padding == "valid":
        count, before = (time - span) // stride + 1, 0
    else:
        count = -(-time // stride)
        needed = max((count - 1) * stride + span - time, 0)
        before = span - 1 if padding == "causal" else needed // 2
    y = np.zeros((len(x), count, filters))
    for window in range(count):
        for f in range(filters):
            first = f // (filters // groups) * per_group
            for i in range(size):
                t = window * stride + i * dilation - before
                if 0 <= t < time:
                    y[:, window, f] += x[:, t, first : first + per_group] @ kernel[i, :, f]
    return y + bias


def check(x: Array, filters: int, size: int, **arguments: Any) -> Conv1D:
    layer = Conv1D(filters, size, **arguments)
    last = layer.data_format == "channels_last"

    def function(inputs: list[Array], weights: dict[str, Array]) -> Array:
        y = convolved(
            inputs[0] if last else inputs[0].swapaxes(1, 2),
            weights["kernel"],
            weights.get("bias", np.zeros(filters)),
            layer.strides[0],
            layer.dilation_rate[0],
            layer.padding,
            layer.groups,
        )
        y = np.tanh(y) if arguments.get("activation") == "tanh" else y
        return y if last else y.swapaxes(1, 2)

    check_layer(layer, [x], function)
    assert layer.compute_output_shape(x.shape) == layer(x).shape
    return layer


@pytest.mark.parametrize("padding", ["valid", "same", "causal"])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (3, 1), (1, 2)])
@pytest.mark.parametrize("groups", [1, 2])
def test_values_and_gradients(padding: str, stride: int, dilation: int, groups: int) -> None:
    check(draw((2, 7, 4)), 6, 3, strides=stride, dilation_rate=dilation, padding=padding, groups=groups)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_random_shapes(data: st.DataObject) -> None:
    size, dilation = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    padding = data.draw(st.sampled_from(["valid", "same", "causal"]))
    least = dilation * (size - 1) + 1 if padding == "valid" else 1
    groups = data.draw(st.sampled_from([1, 2, 3]))
    data_format = data.draw(st.sampled_from(["channels_last", "channels_first"]))
    x = draw((data.draw(st.integers(1, 3)), data.draw(st.integers(least, least + 6)), groups * 2))
    check(
        x if data_format == "channels_last" else np.ascontiguousarray(x.swapaxes(1, 2)),
        groups * data.draw(st.integers(1, 3)),
        size,
        strides=1 if dilation > 1 else data.draw(st.integers(1, 3)),
        dilation_rate=dilation,
        padding=padding,
        groups=groups,
        use_bias=data.draw(st.booleans()),
        data_format=data_format,
        activation=data.draw(st.sampled_from([None, "tanh"])),
    )


def test_windows_of_one_step_are_dense() -> None:
    x = draw((3, 5, 4))
    layer, dense = Conv1D(6, 1, activation="relu"), Dense(6, activation="relu")
    layer.build(x.shape)
    dense.build(x.shape)
    dense.set_weights([layer.get_weights()[0][0], layer.get_weights()[1]])
    np.testing.assert_array_equal(layer(x), dense(x))


@pytest.mark.parametrize("groups", [1, 2])
def test_the_bits_are_those_of_any_number_of_threads_and_rows(groups: int) -> None:
    x = draw((40, 50, 8))
    layer = Conv1D(32, 5, padding="same", groups=groups)
    before, found = _core.get_num_threads(), []
    try:
        for threads in (1, 3):
            _core.set_num_threads(threads)
            found.append(layer(x))
    finally:
        _core.set_num_threads(before)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(layer(x[7:8])[0], found[0][7])


@pytest.mark.parametrize("groups", [1, 3])
def test_it_follows_its_weights_and_copies(groups: int) -> None:
    x = draw((2, 6, 3))
    layer = Conv1D(3, 2, groups=groups)
    layer(x)
    layer.set_weights([0 * layer.kernel.numpy(), np.ones(3)])
    np.testing.assert_array_equal(layer(x), np.ones((2, 5, 3)))
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(twin(x), layer(x))
        twin.set_weights([0 * layer.kernel.numpy(), np.zeros(3)])
        assert not twin(x).any()
        assert layer(x).all()


def test_shapes() -> None:
    assert Convolution1D is Conv1D
    assert Conv1D(4, 3).name.startswith("conv1d")  # as Keras writes it, where files look for weights
    assert Conv1D(4, 3).compute_output_shape((None, None, 2)) == (None, None, 4)
    assert Conv1D(4, 3, strides=2).compute_output_shape((None, 10, 2)) == (None, 4, 4)
    assert Conv1D(4, (3,), padding="SAME")(Input((10, 2))).shape == (None, 10, 4)
    assert Conv1D(4, 3, data_format="channels_first")(Input((2, 10))).shape == (None, 4, 8)
    layer = Conv1D(6, 2, groups=2)
    layer.build((None, 5, 4))
    assert [w.shape for w in layer.weights] == [(2, 2, 6), (6,)]
    assert layer(np.zeros((0, 5, 4))).shape == (0, 4, 6)
    config = layer.get_config()
    assert [config[key] for key in ("kernel_size", "strides", "dilation_rate")] == [[2], [1], [1]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conv1D(0, 2), "Invalid value for argument `filters`. Expected a strictly positive .*=0"),
        (lambda: Conv1D(2.5, 2), "filters is 2.5, expected an integer"),  # type: ignore[arg-type]
        (
            lambda: Conv1D(4, 0),
            r"`kernel_size` argument must be a tuple of 1 integers.*\{0\} that do not sat",
        ),
        (lambda: Conv1D(4, (2, 2)), r"must be a tuple of 1 integers. Received kernel_size=\(2, 2\)"),  # type: ignore[arg-type]
        (lambda: Conv1D(4, "3"), "must be a tuple of 1 integers. Received kernel_size=3"),  # type: ignore[arg-type]
        (lambda: Conv1D(4, 2, strides=True), "must be a tuple of 1 integers. Received strides=True"),
        (lambda: Conv1D(4, 2, strides=2, dilation_rate=2), "`strides > 1` not supported in conjunction with"),
        (
            lambda: Conv1D(4, 2, padding="full"),
            "padding is 'full', expected one of 'valid', 'same', 'causal'",
        ),
        (lambda: Conv1D(4, 2, groups=0), "number of groups must be a positive integer. Received: groups=0"),
        (lambda: Conv1D(4, 2, groups=3), "evenly divisible by the number of groups. .*groups=3, filters=4"),
        (lambda: Conv1D(4, 2, groups=2)(draw((1, 5, 3))), "input channels must be evenly divisible by the"),
        (lambda: Conv1D(4, 2, data_format="last"), "data_format is 'last'"),
        (
            lambda: Conv1D(4, 5, dilation_rate=2)(draw((1, 8, 3))),
            "expected at least 9 time steps, for one win",
        ),
        (lambda: Conv1D(4, 5)(Input((4, 3))), r"input has shape \(None, 4, 3\), expected at least 5 time st"),
        (lambda: Conv1D(4, 5, padding="same")(draw((1, 0, 3))), "expected at least 1 time steps"),
        (lambda: Conv1D(4, 2)(draw((3, 5))), r"shape \(3, 5\), expected \(batch, time, features\)"),
        (
            lambda: Conv1D(4, 2, data_format="channels_first")(draw((3, 5))),
            r"expected \(batch, features, time",
        ),
        (lambda: Conv1D(4, 2)(Input((None, None))), "expected a known number of features"),
    ],
)
def test_wrong_arguments(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_another_number_of_features() -> None:
    layer = Conv1D(4, 2)
    layer(draw((1, 5, 3)))
    with pytest.raises(ValueError, match=r"input has shape \(1, 5, 2\), expected 3 features"):
        layer(draw((1, 5, 2)))


def test_masks_end_with_a_warning_and_streams_are_refused() -> None:
    model = Sequential([Input((4,), dtype="int32"), Embedding(5, 3, mask_zero=True), Conv1D(2, 2)])
    with pytest.warns(
        UserWarning, match=r"Conv1D 'conv1d.*': the inputs have a mask, which this layer does n"
    ):
        model(np.array([[1, 2, 0, 0]]))
    with pytest.raises(
        ValueError, match=r"Conv1D 'conv1d.*': looks at several time steps at once and cannot"
    ):
        model.stream()


def test_python_activations() -> None:
    x = draw((2, 5, 3))
    doubled = Sequential([Input((5, 3)), Conv1D(4, 2, activation=lambda x: x * 2)])
    plain = Sequential([Input((5, 3)), Conv1D(4, 2), Rescaling(2)])
    plain.set_weights(doubled.get_weights())
    np.testing.assert_array_equal(doubled(x), plain(x))
    for model in (doubled, plain):
        model.compile("sgd", "mse")
        model.fit(x, np.zeros((2, 4, 4)), verbose=0)
    for a, b in zip(doubled.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def cnn_lstm() -> Sequential:
    """Windows of a longer sequence, a small network on each, and an LSTM over them, as tutorials have it."""
    return Sequential(
        [
            Input((None, 8, 1)),
            TimeDistributed(Conv1D(6, 3, activation="relu")),
            TimeDistributed(MaxPooling1D(2)),
            TimeDistributed(Flatten()),
            LSTM(8),
            Dense(1),
        ]
    )


def conv_lstm() -> Sequential:
    return Sequential(
        [
            Input((32, 2)),
            Conv1D(6, 3, padding="same", activation="relu", kernel_regularizer="l2"),
            BatchNormalization(),
            MaxPooling1D(),
            Conv1D(4, 3, padding="causal", dilation_rate=2, groups=2),
            LSTM(6),
            Dense(1, activation="sigmoid"),
        ]
    )


@pytest.mark.parametrize(("make", "shape"), [(cnn_lstm, (24, 4, 8, 1)), (conv_lstm, (24, 32, 2))])
def test_models_learn_and_files_hold_them(make: Any, shape: Any, tmp_path: Path) -> None:
    model = make()
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype(np.float32)
    y = (x.reshape(24, -1).mean(1, keepdims=True) > 0).astype(np.float32)
    model.compile("adam", "mse")
    before = model.evaluate(x, y, verbose=0)
    model.fit(x, y, epochs=40, batch_size=8, verbose=0)
    assert model.evaluate(x, y, verbose=0) < 0.9 * before
    for suffix in ("safetensors", "keras", "h5"):
        model.save(tmp_path / f"m.{suffix}")
        again = load_model(tmp_path / f"m.{suffix}")
        np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


def test_the_last_activation_is_fused_with_the_loss() -> None:
    x, y = draw((4, 6, 3)) * 50, np.ones((4, 5, 2), np.float32)
    model = Sequential([Input((6, 3)), Conv1D(2, 2, activation="sigmoid", kernel_initializer="ones")])
    model.compile("sgd", "binary_crossentropy")
    logits = convolved(f64(x), np.ones((2, 3, 2)), np.zeros(2), 1, 1, "valid", 1)
    close(np.array(model.train_on_batch(x, y)), np.array(np.logaddexp(0, -logits).mean()), 1e-5)
