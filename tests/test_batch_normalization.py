"""BatchNormalization: outputs, gradients, moving statistics, masks, freezing, streams, files."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layer_support import Array, close, difference, draw, f64
from lstm_native import _core
from lstm_native.layers import (
    LSTM,
    BatchNormalization,
    Dense,
    Embedding,
    GlobalAveragePooling1D,
    Input,
    Masking,
    TimeDistributed,
)
from lstm_native.layers.context import Context
from lstm_native.models import Model, Sequential, load_model

STEPS = np.array([[True, False, True, True], [False, True, False, False], [True] * 4])


def moments(x: Array, axis: int, mask: Array | None) -> tuple[Array, Array, Array]:
    """Mean, variance and number of the values of each feature that count, by plain loops."""
    moved = np.moveaxis(x, axis, -1)
    counts = np.ones(x.shape, bool) if mask is None else np.broadcast_to(mask[..., None], x.shape)
    kept = np.moveaxis(counts, axis, -1)
    found = []
    for i in range(moved.shape[-1]):
        values = moved[..., i][kept[..., i]]
        found.append((values.mean(), values.var(), len(values)) if len(values) else (0.0, 0.0, 0))
    mean, variance, count = (np.array(column) for column in zip(*found, strict=True))
    return mean, variance, count


def normalized(
    x: Array, weights: dict[str, Array], axis: int, by_batch: bool, mask: Array | None = None
) -> Array:
    mean, variance = weights["moving_mean"], weights["moving_variance"]
    if by_batch:
        mean, variance, _ = moments(x, axis, mask)
    moved = (np.moveaxis(x, axis, -1) - mean) / np.sqrt(variance + 1e-3)
    moved = moved * weights.get("gamma", 1.0) + weights.get("beta", 0.0)
    return np.moveaxis(moved, -1, axis)


def check(layer: BatchNormalization, x: Array, training: bool, mask: Array | None = None) -> None:
    """Outputs, every gradient and what becomes of the moving statistics."""
    layer.build(x.shape)
    for i, variable in enumerate(layer.variables):
        variable.assign(1.0 + 0.3 * np.abs(draw(variable.shape, 100 + i)))
    wide, weights = f64(x), {v.name: f64(v.numpy()) for v in layer.variables}
    by_batch = training and layer.trainable

    def f() -> Array:
        return normalized(wide, weights, layer.axis, by_batch, mask)

    ctx = Context(training=training, record=True)
    flags = None if mask is None else _core.as_tensor(mask, "bool")
    close(layer.forward(_core.as_tensor(x, "float32"), ctx, flags), f(), 2e-6)
    d = draw(x.shape, 7)
    close(layer.backward(_core.as_tensor(d, "float32"), ctx), difference(f, wide, f64(d)), 2e-5)
    trained = [v for v in layer.variables if v.name in ("gamma", "beta")]
    for variable in trained:
        close(ctx.gradients[variable], difference(f, weights[variable.name], f64(d)), 2e-5)
    assert set(ctx.gradients) == set(trained)
    ctx.commit_states()
    kept = layer.momentum if by_batch else 1.0
    for variable, batch in zip(
        (layer.moving_mean, layer.moving_variance), moments(wide, layer.axis, mask), strict=False
    ):
        close(variable, kept * weights[variable.name] + (1 - kept) * batch, 1e-6)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("shape", "axis"), [((5, 3), -1), ((3, 4, 2), -1), ((3, 4, 2), 1), ((2, 3, 2, 4), 3)]
)
def test_values_and_gradients(shape: tuple[int, ...], axis: int, training: bool) -> None:
    check(BatchNormalization(axis, momentum=0.7), draw(shape), training)


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("center", [False, True])
def test_with_and_without_weights(center: bool, scale: bool) -> None:
    layer = BatchNormalization(center=center, scale=scale)
    check(layer, draw((3, 4, 2)), True)
    names = ["gamma"] * scale + ["beta"] * center
    assert [v.name for v in layer.trainable_weights] == names
    assert [v.name for v in layer.weights] == [*names, "moving_mean", "moving_variance"]


@pytest.mark.parametrize("axis", [-1, 1])
def test_masked_steps_do_not_count(axis: int) -> None:
    check(BatchNormalization(axis, momentum=0.5), draw((3, 4, 2)), True, STEPS)
    check(BatchNormalization(axis), draw((3, 4, 2)), False, STEPS)
    check(BatchNormalization(axis), draw((3, 4, 2)), True, np.zeros_like(STEPS))


def test_masked_nan_does_not_count() -> None:
    layer, x = BatchNormalization(momentum=0.0), draw((3, 4, 2))
    x[~STEPS] = np.nan
    y = layer(x, mask=STEPS, training=True)
    assert np.isfinite(y[STEPS]).all()
    mean, variance, _ = moments(f64(x), -1, STEPS)
    close(layer.moving_mean, mean, 1e-6)
    close(layer.moving_variance, variance, 1e-6)


def test_masks_of_a_single_call() -> None:
    """Of one axis less than the inputs, broadcast to them."""
    layer = BatchNormalization(momentum=0.0)
    x = np.ones((1, 2, 3, 4), np.float32)
    np.testing.assert_array_equal(layer(x, mask=np.ones((1, 2, 1)), training=True), np.zeros_like(x))
    np.testing.assert_array_equal(layer.moving_mean.numpy(), np.ones(4))
    flat = BatchNormalization(center=False, scale=False)
    zeros = np.zeros((4, 5), np.float32)
    np.testing.assert_array_equal(flat(zeros, mask=np.zeros(4), training=True), zeros)
    with pytest.raises(
        ValueError, match=r"mask provided should be one dimension less .*mask.shape=\(3, 4, 2\)"
    ):
        BatchNormalization()(draw((3, 4, 2)), mask=np.ones((3, 4, 2)))
    with pytest.raises(ValueError, match=r"mask has shape \(3, 3\), which does not fit"):
        BatchNormalization()(draw((3, 4, 2)), mask=np.ones((3, 3)))


def test_large_means_cost_no_digits() -> None:
    x = (draw((200, 3)) + 1e4).astype(np.float32)
    layer = BatchNormalization(momentum=0.0)
    layer.build(x.shape)
    wide = f64(x)
    expected = (wide - wide.mean(0)) / np.sqrt(wide.var(0) + 1e-3)
    # The mean is rounded to float32: by half a unit of 1e4, which is 5e-4.
    np.testing.assert_allclose(layer(x, training=True), expected, atol=1e-3)
    np.testing.assert_allclose(layer(x), expected, atol=1e-3)


def test_frozen_means_inference() -> None:
    x = draw((6, 3)) * 4
    frozen = BatchNormalization(epsilon=1e-7, trainable=False)
    np.testing.assert_allclose(frozen(x, training=True), x, rtol=1e-6)
    assert not frozen.trainable_weights
    assert len(frozen.non_trainable_weights) == 4
    np.testing.assert_array_equal(frozen.moving_mean.numpy(), np.zeros(3))
    frozen.trainable = True
    assert [v.name for v in frozen.trainable_weights] == ["gamma", "beta"]
    assert np.abs(frozen(x, training=True).mean(0)).max() < 1e-6
    check(BatchNormalization(trainable=False), draw((3, 4, 2)), True)


def test_fit_goes_by_the_batches(tmp_path: Path) -> None:
    """Two steps of fit beside the same by hand; predict, evaluate and failed calls change nothing."""
    x, y = draw((8, 3)) * 2 + 1, draw((8, 2), 1)
    model = Sequential([Input((3,)), BatchNormalization(momentum=0.9), Dense(2)])
    model.compile("sgd", "mse")
    norm: Any = model.layers[0]
    mean, variance = np.zeros(3), np.ones(3)
    for part in (slice(0, 4), slice(4, 8)):
        mean = 0.9 * mean + 0.1 * f64(x[part]).mean(0)
        variance = 0.9 * variance + 0.1 * f64(x[part]).var(0)
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    close(norm.moving_mean, mean, 1e-6)
    close(norm.moving_variance, variance, 1e-6)
    before = model.get_weights()
    model.predict(x, verbose=0)
    model.evaluate(x, y, verbose=0)
    model(x)
    with pytest.raises(ValueError):
        model.train_on_batch(x, y[:3])
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    model(x, training=True)
    assert not np.array_equal(norm.moving_mean.numpy(), before[2])


def sequences() -> Sequential:
    return Sequential(
        [
            Input((None, 3)),
            Masking(),
            BatchNormalization(momentum=0.5),
            LSTM(4, return_sequences=True),
            BatchNormalization(momentum=0.5, scale=False),
            TimeDistributed(BatchNormalization(center=False)),
            Dense(2),
        ]
    )


def trained() -> tuple[Sequential, Array, Array]:
    model, x, y = sequences(), draw((8, 5, 3)) + 1, draw((8, 5, 2), 1)
    x[::2, 3:] = 0
    model.compile("adam", "mse")
    model.fit(x, y, epochs=3, batch_size=4, verbose=0)
    return model, x, y


@pytest.mark.parametrize("suffix", ["safetensors", "keras", "h5"])
def test_files_and_copies(suffix: str, tmp_path: Path) -> None:
    model, x, y = trained()
    model.save(tmp_path / f"m.{suffix}")
    expected = model.predict(x, verbose=0)
    model.fit(x, y, verbose=0, shuffle=False)
    later = model.predict(x, verbose=0)
    again = load_model(tmp_path / f"m.{suffix}")
    for twin in (again, copy.deepcopy(again), pickle.loads(pickle.dumps(again))):
        np.testing.assert_array_equal(twin.predict(x, verbose=0), expected)
        twin.fit(x, y, verbose=0, shuffle=False)
        np.testing.assert_array_equal(twin.predict(x, verbose=0), later)


def test_streams_have_the_bits_of_predict() -> None:
    model, x, y = trained()
    stream = model.stream(8)
    for _ in range(2):
        expected = model.predict(x, verbose=0)
        for t in range(5):
            np.testing.assert_array_equal(stream.step(x[:, t]), expected[:, t])
        stream.reset()
        model.fit(x, y, verbose=0)  # which the same stream follows
    over_time = Sequential([Input((4, 3)), BatchNormalization(axis=1)])
    with pytest.raises(ValueError, match="axis is 1, only the last axis can be normalized step by step"):
        over_time.stream()


def test_padding_does_not_move_valid_steps() -> None:
    model, x, _ = trained()
    ragged = [row[:n] for row, n in zip(x[1::2], (5, 2, 3, 1), strict=True)]
    for row, found in zip(ragged, model.predict(ragged, verbose=0), strict=True):
        np.testing.assert_array_equal(found[: len(row)], model.predict(row[None], verbose=0)[0])


def test_time_distributed_takes_the_batch_of_each_step() -> None:
    """As Keras: step by step, the moving statistics after each."""
    x, d = draw((4, 3, 2)), draw((4, 3, 2), 5)
    layer = TimeDistributed(BatchNormalization(momentum=0.8))
    layer.build(x.shape)
    plain, inner = BatchNormalization(momentum=0.8), layer.layer
    plain.build((4, 2))
    ctx, by_hand = (Context(training=True, record=True) for _ in range(2))
    outputs = layer.forward(_core.as_tensor(x, "float32"), ctx)
    d_inputs = layer.backward(_core.as_tensor(d, "float32"), ctx)
    assert d_inputs is not None
    for t in range(3):
        step = plain.forward(_core.as_tensor(x[:, t], "float32"), by_hand)
        np.testing.assert_array_equal(outputs.numpy()[:, t], step.numpy())
        d_step = plain.backward(_core.as_tensor(d[:, t], "float32"), by_hand)
        assert d_step is not None
        np.testing.assert_array_equal(d_inputs.numpy()[:, t], d_step.numpy())
    for c in (ctx, by_hand):
        c.commit_states()
    for mine, other in zip(inner.variables, plain.variables, strict=True):
        np.testing.assert_array_equal(mine.numpy(), other.numpy())
        if other in by_hand.gradients:
            close(ctx.gradients[mine], f64(by_hand.gradients[other].numpy()), 1e-6)
    model = Sequential([Input((3, 2)), TimeDistributed(Sequential([Dense(3), BatchNormalization()]))])
    model.compile("sgd", "mse")
    model.fit(x, draw((4, 3, 3)), verbose=0)


def test_a_layer_that_is_used_twice() -> None:
    inputs, norm = Input((3,)), BatchNormalization(momentum=0.5)
    model = Model(inputs, norm(norm(inputs)))
    x = draw((6, 3)) + 2
    model(x, training=True)
    first = 0.5 * f64(x).mean(0)
    close(norm.moving_mean, 0.5 * first, 1e-6)  # the second call has means of zero
    model.compile("sgd", "mse")
    model.fit(x, x, verbose=0)


def test_masks_come_through_to_the_loss() -> None:
    ids = np.array([[1, 2, 0, 0], [3, 1, 2, 0]])
    inputs = Input((None,), dtype="int32")
    x = BatchNormalization(momentum=0.0)(Embedding(5, 3, mask_zero=True)(inputs))
    model = Model(inputs, GlobalAveragePooling1D()(x))
    model.compile("sgd", "mse")
    table = f64(model.get_weights()[0])
    model.fit(ids, np.zeros((2, 3)), verbose=0)
    counted = table[ids[ids != 0]]
    close(model.layers[2].variables[2], counted.mean(0), 1e-6)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: BatchNormalization(axis="last"), TypeError, "axis is 'last', expected an integer"),  # type: ignore[arg-type]
        (lambda: BatchNormalization(axis=[1, 2]), TypeError, r"axis is \[1, 2\]"),  # type: ignore[arg-type]
        (lambda: BatchNormalization(momentum=1.5), ValueError, r"momentum is 1.5, expected a number in \[0"),
        (lambda: BatchNormalization(epsilon=-1), ValueError, "epsilon is -1"),
        (lambda: BatchNormalization(renorm=True), TypeError, "argument renorm=True is not supported"),
        (
            lambda: BatchNormalization(axis=3)(draw((2, 3))),
            ValueError,
            r"shape \(2, 3\), which has no axis 3",
        ),
        (lambda: BatchNormalization(axis=0)(draw((2, 3))), ValueError, "no axis 0 beside that of the batch"),
        (lambda: BatchNormalization()(draw((2,))), ValueError, "has no axis -1 beside"),
        (lambda: BatchNormalization(axis=1)(Input((None, 3))), ValueError, "known size above zero"),
    ],
)
def test_wrong_arguments(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
    layer = BatchNormalization(axis=[2])  # type: ignore[arg-type]
    assert layer.axis == 2  # as files of Keras 2 have it


def test_another_shape_than_it_was_built_for() -> None:
    layer = BatchNormalization()
    layer.build((2, 4, 3))
    for shape in ((2, 3), (2, 4, 5)):
        with pytest.raises(ValueError, match=r"expected 3 axes with 3 along axis -1"):
            layer(draw(shape))


def test_files_of_keras_2() -> None:
    from lstm_native.convert.conversion import Conversion
    from lstm_native.convert.keras_config import KerasConfig

    old = {"name": "n", "trainable": True, "dtype": "float32", "axis": [2], "momentum": 0.9, "epsilon": 0.01}
    old |= {"renorm": False, "fused": None, "virtual_batch_size": None, "gamma_regularizer": None}
    layer = {"class_name": "BatchNormalization", "config": old}
    data = {"class_name": "Sequential", "config": {"layers": [layer]}}
    made = KerasConfig(2, Conversion("Keras", "lstm_native")).model(data)["config"]["layers"][0]
    found = BatchNormalization.from_config(made["config"])
    assert (found.axis, found.momentum, found.epsilon) == (2, 0.9, 0.01)
