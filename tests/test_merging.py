"""Merging layers: outputs and gradients in float64, shapes, masks, errors; inside functional models."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from layer_support import check_layer, draw, f64
from lstm_native import _core, layers
from lstm_native.layers import (
    LSTM,
    Add,
    Average,
    Concatenate,
    Dense,
    Dot,
    Dropout,
    Embedding,
    GlobalMaxPooling1D,
    Input,
    LayerNormalization,
    Masking,
    Maximum,
    Minimum,
    Multiply,
    Subtract,
)
from lstm_native.layers.base import Layer
from lstm_native.layers.context import Context
from lstm_native.models import Model, clone_model, load_model, model_from_json
from lstm_native.optimizers import SGD

Array = npt.NDArray[Any]
Function = Callable[[list[Array], dict[str, Array]], Array]


def folded(function: Callable[[Array, Array], Array]) -> Function:
    """`function` from input to input, where those with fewer axes get axes behind the batch."""

    def run(inputs: list[Array], _: Any) -> Array:
        rank = max(x.ndim for x in inputs)
        result, *others = (x.reshape(x.shape[:1] + (1,) * (rank - x.ndim) + x.shape[1:]) for x in inputs)
        for x in others:
            result = function(result, x)
        return result

    return run


def mean(inputs: list[Array], _: Any) -> Array:
    return folded(np.add)(inputs, _) / len(inputs)


KINDS: list[tuple[type[Layer], Function]] = [
    (Add, folded(np.add)),
    (Average, mean),
    (Multiply, folded(np.multiply)),
    (Maximum, folded(np.maximum)),
    (Minimum, folded(np.minimum)),
]
SHAPES: list[list[tuple[int, ...]]] = [
    [(2, 3)],
    [(2, 3), (2, 3)],
    [(2, 4, 3), (2, 4, 3), (2, 4, 3)],
    [(2, 4, 3), (2, 3)],
    [(2, 1, 3), (2, 4, 1), (2, 3)],
    [(2, 3), (2, 4, 5, 3)],
]


def of_shapes(shapes: list[tuple[int, ...]]) -> list[Array]:
    return [draw(shape, seed) for seed, shape in enumerate(shapes, 1)]


def check(layer: Layer, inputs: list[Array], function: Function, masks: Any = None) -> None:
    """`check_layer`, of one input in a list too."""
    if len(inputs) > 1:
        check_layer(layer, inputs, function, masks)
        return
    got = np.asarray(layer(inputs, mask=masks))  # type: ignore[call-arg]
    np.testing.assert_allclose(got, function(inputs, {}), atol=2e-6)


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize(("kind", "function"), KINDS)
def test_elementwise(kind: type[Layer], function: Function, shapes: list[tuple[int, ...]]) -> None:
    check(kind(), of_shapes(shapes), function)
    whole = kind().compute_output_shape(shapes)  # type: ignore[arg-type]
    assert whole == function(of_shapes(shapes), {}).shape


@pytest.mark.parametrize("shapes", [s for s in SHAPES if len(s) == 2])
def test_subtract(shapes: list[tuple[int, ...]]) -> None:
    check(Subtract(), of_shapes(shapes), folded(np.subtract))


@pytest.mark.parametrize(
    ("axis", "shapes"),
    [
        (-1, [(2, 3), (2, 5)]),
        (-1, [(2, 4, 3), (2, 4, 1), (2, 4, 2)]),
        (1, [(2, 4, 3), (2, 2, 3)]),
        (2, [(2, 3, 4, 2), (2, 3, 1, 2)]),
        (-2, [(2, 3, 4, 2), (2, 3, 1, 2), (2, 3, 2, 2), (2, 3, 1, 2), (2, 3, 5, 2)]),
        (-1, [(2, 3, 4)]),
    ],
)
def test_concatenate(axis: int, shapes: list[tuple[int, ...]]) -> None:
    def function(inputs: list[Array], _: Any) -> Array:
        return np.concatenate(inputs, axis=axis)

    check(Concatenate(axis), of_shapes(shapes), function)
    assert Concatenate(axis).compute_output_shape(shapes) == function(of_shapes(shapes), {}).shape


def test_concatenate_of_nothing() -> None:
    layer = Concatenate()
    parts = [np.zeros((2, 0), np.float32), draw((2, 3)), np.zeros((2, 0), np.float32)]
    np.testing.assert_array_equal(layer(parts), parts[1])
    ctx = Context(record=True)
    layer.forward([_core.as_tensor(x, "float32") for x in parts], ctx)
    d = layer.backward(_core.as_tensor(draw((2, 3), 1), "float32"), ctx)
    assert [x.shape for x in d] == [(2, 0), (2, 3), (2, 0)]
    np.testing.assert_array_equal(d[1].numpy(), draw((2, 3), 1))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(
    ("axes", "shapes", "sums"),
    [
        (-1, [(2, 4), (2, 4)], "bi,bi->b"),
        (1, [(2, 4), (2, 4)], "bi,bi->b"),
        (-1, [(2, 3, 4), (2, 5, 4)], "bti,bsi->bts"),
        (1, [(2, 4, 3), (2, 4, 5)], "bit,bis->bts"),
        ((2, 1), [(2, 3, 4), (2, 4, 5)], "bti,bis->bts"),
        ((1, 2), [(2, 4), (2, 5, 4)], "bi,bsi->bs"),
        ([-1, -1], [(2, 3, 4), (2, 4)], "bti,bi->bt"),
        ((-2, -1), [(1, 3, 2), (1, 1, 2, 3)], "bit,bsui->btsu"),
    ],
)
def test_dot(axes: Any, shapes: list[tuple[int, ...]], sums: str, normalize: bool) -> None:
    def function(inputs: list[Array], _: Any) -> Array:
        if normalize:
            given = axes if isinstance(axes, list | tuple) else (axes, axes)
            pairs = zip(inputs, given, strict=True)
            inputs = [x / np.sqrt((x**2).sum(axis=a, keepdims=True)) for x, a in pairs]
        result = np.einsum(sums, *inputs)
        return result[:, None] if result.ndim == 1 else result

    layer = Dot(axes, normalize=normalize)
    check_layer(layer, of_shapes(shapes), function)
    assert layer.compute_output_shape(shapes) == function([f64(x) for x in of_shapes(shapes)], {}).shape


def test_dot_of_zero_vectors() -> None:
    assert not Dot(1, normalize=True)([np.zeros((2, 3)), draw((2, 3))]).any()


@pytest.mark.parametrize("kind", [Add, Average, Multiply, Maximum, Minimum, Concatenate])
def test_a_single_input_is_copied(kind: type[Layer]) -> None:
    x = draw((2, 3))
    before = x.copy()
    output = kind()([x])
    np.testing.assert_array_equal(output, before)
    output[:] = 7
    np.testing.assert_array_equal(x, before)


def test_dot_over_no_elements() -> None:
    np.testing.assert_array_equal(Dot(1)([np.zeros((2, 0, 3)), np.zeros((2, 0, 4))]), np.zeros((2, 3, 4)))
    np.testing.assert_array_equal(Dot(2, normalize=True)([np.zeros((2, 3, 0))] * 2), np.zeros((2, 3, 3)))


@pytest.mark.parametrize(("normalize", "expected"), [(False, np.inf), (True, 0.0)])
def test_dot_beyond_float32(normalize: bool, expected: float) -> None:
    """As in Keras, and without a warning."""
    huge = np.full((2, 3), 1e30, np.float32)
    layer, ctx = Dot(1, normalize=normalize), Context(record=True)
    np.testing.assert_array_equal(layer([huge, huge]), np.full((2, 1), expected, np.float32))
    tensors = [_core.as_tensor(huge, "float32") for _ in range(2)]
    layer.forward(tensors, ctx)
    layer.backward(_core.as_tensor(np.full((2, 1), 1e30), "float32"), ctx)


def test_ties_and_nan() -> None:
    """The gradient goes to the first of equal inputs; NaN is neither lost nor spread."""
    a, b = np.array([[1, 2, np.nan, 4]], np.float32), np.array([[1, 3, 5, np.nan]], np.float32)
    for layer, expected in ((Maximum(), [[1, 3, np.nan, np.nan]]), (Minimum(), [[1, 2, np.nan, np.nan]])):
        np.testing.assert_array_equal(layer([a, b]), np.array(expected, np.float32))
        ctx = Context(record=True)
        layer.forward([_core.as_tensor(x, "float32") for x in (a, b)], ctx)
        first, second = layer.backward(_core.as_tensor(np.ones((1, 4)), "float32"), ctx)
        assert first.numpy()[0, 0] == 1
        np.testing.assert_array_equal(first.numpy() + second.numpy(), np.ones((1, 4)))


# --- masks ----------------------------------------------------------------------------------------

# Outputs are those of Keras 3.15 for inputs from Masking.
X1 = np.array([[[0, 0], [1, 2], [0, 0], [3, 4]]], np.float32)
X2 = np.array([[[0, 0], [0, 0], [1, 2], [3, 4]]], np.float32)
M1, M2 = X1.any(-1), X2.any(-1)


@pytest.mark.parametrize(
    ("layer", "sign", "one", "two"),
    [
        (Add(), 1, [[0, 0], [1, 2], [1, 2], [6, 8]], [[0, 0], [1, 2], [1, 2], [6, 8]]),
        (Subtract(), 1, [[0, 0], [1, 2], [-1, -2], [0, 0]], [[0, 0], [1, 2], [-1, -2], [0, 0]]),
        (Average(), 1, [[0, 0], [0.5, 1], [0.5, 1], [3, 4]], [[0, 0], [0.5, 1], [0.5, 1], [3, 4]]),
        (Multiply(), 1, [[0, 0], [0, 0], [1, 2], [9, 16]], [[0, 0], [1, 2], [1, 2], [9, 16]]),
        (Maximum(), -1, [[0, 0], [0, 0], [-1, -2], [-3, -4]], [[0, 0], [-1, -2], [-1, -2], [-3, -4]]),
        (Minimum(), 1, [[0, 0], [0, 0], [1, 2], [3, 4]], [[0, 0], [1, 2], [1, 2], [3, 4]]),
    ],
)
def test_masked_steps(layer: Any, sign: int, one: Any, two: Any) -> None:
    """With a mask of the first input only, and of both, as Keras has it."""
    x = [sign * X1, sign * X2]
    np.testing.assert_array_equal(layer(x, mask=[M1, None]), [one])
    np.testing.assert_array_equal(layer(x, mask=[M1, M2]), [two])
    assert layer.compute_mask(x, [M1, None]) is None
    np.testing.assert_array_equal(layer.compute_mask(x, [M1, M2]), M1 | M2)


@pytest.mark.parametrize("kind", [Multiply, Maximum, Minimum])
def test_gradients_with_masks(kind: type[Layer]) -> None:
    rng = np.random.default_rng(3)
    inputs = of_shapes([(3, 5, 2)] * 3)
    masks = [rng.random((3, 5)) < 0.6 for _ in inputs]

    def function(given: list[Array], _: Any) -> Array:
        # The value of steps that are left out is that of no input: 1 in products, or what loses.
        neutral = {Multiply: 1.0, Maximum: -np.inf, Minimum: np.inf}[kind]  # type: ignore[type-abstract]
        filled = [np.where(m[..., None], x, neutral) for x, m in zip(given, masks, strict=True)]
        joined = {Multiply: np.multiply, Maximum: np.maximum, Minimum: np.minimum}[kind]
        result = joined(joined(filled[0], filled[1]), filled[2])
        nowhere = ~np.logical_or.reduce(masks)[..., None]
        return np.where(nowhere, 0.0 if kind is Multiply else given[0], result)

    check_layer(kind(), inputs, function, masks)


def test_masks_of_concatenate() -> None:
    time, features = Concatenate(axis=1), Concatenate(axis=2)
    np.testing.assert_array_equal(time.compute_mask([X1, X2], [M1, None]), [[0, 1, 0, 1, 1, 1, 1, 1]])
    np.testing.assert_array_equal(features.compute_mask([X1, X2], [M1, None]), [[1, 1, 1, 1]])
    np.testing.assert_array_equal(features.compute_mask([X1, X2], [M1, M2]), M1 | M2)
    assert features.compute_mask([X1, X2], [None, None]) is None
    assert Concatenate().compute_mask([X1[0], X2[0]], [M1[0], None]) is None
    assert Dot(1).compute_mask([X1, X2], [M1, M2]) is None


def test_masks_go_on_to_the_next_layer() -> None:
    """A joined mask reaches an LSTM behind, as when it is given by hand."""
    a, b = Input((4, 2)), Input((4, 2))
    lstm = LSTM(3)
    model = Model([a, b], lstm(layers.concatenate([Masking()(a), Masking()(b)])))
    x1, x2 = np.repeat(X1, 2, axis=0), np.repeat(X2, 2, axis=0)
    expected = lstm(np.concatenate([x1, x2], -1), mask=np.repeat(M1 | M2, 2, axis=0))
    np.testing.assert_array_equal(model([x1, x2]), expected)
    along_time = Model([a, b], LSTM(3)(Concatenate(1)([Masking()(a), b])))
    assert along_time([x1, x2]).shape == (2, 3)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Add()(draw((2, 3))), "should be called on a list of inputs"),
        (lambda: Add()(Input((3,))), "should be called on a list of inputs"),
        (lambda: Add()([]), "at least 1 input"),
        (lambda: Add()([draw((2, 3)), draw((3, 3))]), "different batch sizes"),
        (lambda: Add()([draw((2, 3)), draw((2, 4))]), "incompatible shapes"),
        (lambda: Add()([Input((3,)), Input((4,))]), "incompatible shapes"),
        (lambda: Add()([X1, X2], mask=[M1]), "expected a list with one"),
        (lambda: Add()([X1, X2], mask=[M1[:, :2], None]), r"expected \(batch, time\)"),
        (lambda: Add().compute_mask([X1, X2], M1), "`mask` should be a list."),
        (lambda: Add().compute_mask(X1, [None, None]), "`inputs` should be a list."),
        (lambda: Add().compute_mask([X1, X2], [M1]), "should have the same length"),
        (lambda: Subtract()([X1]), "layer should be called on exactly 2 inputs"),
        (lambda: Subtract()([X1, X2, X1]), "layer should be called on exactly 2 inputs"),
        (lambda: Concatenate()([X1, X2[:, :2]]), "matching shapes except for the concatenation axis"),
        (lambda: Concatenate(1)([X1, draw((1, 3))]), "matching shapes except for the concatenation axis"),
        (lambda: Concatenate(3)([X1, X2]), "axis is 3"),
        (lambda: Concatenate(0)([X1, X2]), "expected one behind the batch"),
        (lambda: Dot(1)([X1]), "exactly 2 inputs"),
        (lambda: Dot(0)([X1, X2]), "expected one behind the batch"),
        (lambda: Dot((1, 2))([X1, X2]), "Incompatible input shapes"),
        (lambda: Dot((1, 2, 3)), "should contain two elements"),
    ],
)
def test_errors(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_wrong_types() -> None:
    with pytest.raises(TypeError, match="axis is 'last', expected an integer"):
        Concatenate("last")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="should be a list or an int"):
        Dot("last")  # type: ignore[arg-type]


# --- in models ------------------------------------------------------------------------------------


def residual() -> Any:
    """LSTM layers with a way past each of them."""
    inputs = x = Input((None, 4))
    for _ in range(2):
        y = LSTM(4, return_sequences=True)(x)
        x = LayerNormalization()(layers.add([x, Dropout(0.0)(y)]))
    return Model(inputs, Dense(2)(x)), [draw((5, 6, 4))]


def two_inputs() -> Any:
    """Text and features."""
    text, features = Input((None,), dtype="int32"), Input((3,))
    read = LSTM(5)(Embedding(20, 4, mask_zero=True)(text))
    joined = layers.concatenate([read, Dense(4, activation="relu")(features)])
    ids = np.random.default_rng(0).integers(0, 20, (5, 6))
    return Model([text, features], Dense(2)(joined)), [ids, draw((5, 3), 2)]


def attention() -> Any:
    """Luong's attention over an encoder, written with Dot."""
    source, target = Input((None, 3)), Input((None, 2))
    encoded, h, c = LSTM(4, return_sequences=True, return_state=True)(source)
    decoded = LSTM(4, return_sequences=True)(target, initial_state=[h, c])
    weights = layers.Activation("softmax")(layers.dot([decoded, encoded], axes=[2, 2]))
    context = Dot(axes=[2, 1])([weights, encoded])
    out = Dense(2)(Dense(4, activation="tanh")(Concatenate()([context, decoded])))
    return Model([source, target], out), [draw((3, 5, 3)), draw((3, 4, 2), 1)]


def gated() -> Any:
    """One value that several layers read, and products of branches."""
    inputs = Input((None, 4))
    x = LSTM(4, return_sequences=True)(inputs)
    gate = Dense(4, activation="sigmoid")(x)
    mixed = layers.average([Multiply()([x, gate]), layers.subtract([inputs, x]), layers.maximum([x, gate])])
    top = GlobalMaxPooling1D()(mixed)
    return Model(inputs, Dense(1)(layers.minimum([top, layers.multiply([top, top])]))), [draw((3, 5, 4))]


MODELS = [residual, two_inputs, attention, gated]


@pytest.mark.parametrize("make", MODELS)
def test_gradients_of_models(make: Callable[[], Any]) -> None:
    """Against differences of the loss along the gradient of each weight."""
    model, x = make()
    y = draw(model(x).shape, 9)
    model.compile(SGD(1.0), "mse")
    start = model.get_weights()

    def loss() -> float:
        return float(((f64(model(x)) - y) ** 2).mean())

    model.train_on_batch(x, y)
    gradients = [a - b for a, b in zip(start, model.get_weights(), strict=True)]
    model.set_weights(start)
    for i, gradient in enumerate(gradients):
        size = float(np.linalg.norm(gradient))
        step = 1e-2 * gradient / max(size, 1e-6)
        model.set_weights([*start[:i], start[i] + step, *start[i + 1 :]])
        above = loss()
        model.set_weights([*start[:i], start[i] - step, *start[i + 1 :]])
        below = loss()
        # Second differences and float32 losses: a step of 1e-2 leaves an error of about 1e-4 of size 1.
        assert abs((above - below) / 2e-2 - size) < 2e-3 * max(1.0, size), i


@pytest.mark.parametrize("make", MODELS)
def test_training_repeats_and_learns(make: Callable[[], Any]) -> None:
    model, x = make()
    y = 0.3 * draw(model(x).shape, 9)
    model.compile("adam", "mse")
    first = model.evaluate(x, y, verbose=0)
    model.fit(x, y, epochs=30, verbose=0)
    assert model.evaluate(x, y, verbose=0) < first


def test_ragged_lists() -> None:
    """Padding moves nothing where layers join features; lists of sequences as each by itself."""
    for make in (residual, two_inputs):
        model, (x, *others) = make()
        assert model.unmoved_by_padding
        lengths = [3, 6, 1, 5, 2]
        rows = [row[:n] for row, n in zip(np.maximum(x, 1) if x.ndim == 2 else x, lengths, strict=True)]
        got = model.predict([rows, *others] if others else rows, verbose=0)
        for i, row in enumerate(rows):
            one = model([row[None], *(other[i : i + 1] for other in others)] if others else row[None])
            np.testing.assert_allclose(got[i], one[0], atol=1e-6)


def test_what_padding_moves() -> None:
    a, b = Input((None, 2)), Input((None, 2))
    moved = [Concatenate(1)([a, b]), Dot(2)([a, b]), Concatenate(1)([Input((None,)), Input((None,))])]
    for out in moved:
        assert not out.node.layer.unmoved_by_padding
    vectors = Input((3,)), Input((3,))
    for out in (Concatenate()([a, b]), Concatenate()(vectors), Dot(1)(vectors), Add()([a, b])):
        assert out.node.layer.unmoved_by_padding


@pytest.mark.parametrize("make", MODELS)
def test_threads_give_the_same(make: Callable[[], Any]) -> None:
    model, x = make()
    before = _core.get_num_threads()
    try:
        results = []
        for count in (1, 4):
            _core.set_num_threads(count)
            results.append(model.predict(x, verbose=0))
    finally:
        _core.set_num_threads(before)
    np.testing.assert_array_equal(*results)


def test_activity_penalty_and_summary() -> None:
    layer = Add(activity_regularizer="l2", name="sum")
    layer([X1, X2])
    np.testing.assert_allclose(layer.losses, [0.01 * ((X1 + X2) ** 2).sum()], rtol=1e-6)
    model, _ = two_inputs()
    lines: list[str] = []
    model.summary(print_fn=lines.append, line_length=100)
    text = "\n".join(lines)
    assert "Concatenate" in text
    assert "(None, 9)" in text


def test_empty_batches() -> None:
    assert Add()([np.zeros((0, 3)), np.zeros((0, 3))]).shape == (0, 3)
    assert Concatenate()([np.zeros((0, 4, 3)), np.zeros((0, 4, 2))]).shape == (0, 4, 5)
    model, x = two_inputs()
    assert model.predict([part[:0] for part in x], verbose=0).shape == (0, 2)


COPIES: list[Callable[[Any], Any]] = [
    lambda model: type(model).from_config(model.get_config()),
    lambda model: model_from_json(model.to_json()),
    clone_model,
    copy.deepcopy,
    lambda model: pickle.loads(pickle.dumps(model)),
]


@pytest.mark.parametrize("make", MODELS)
def test_copies_and_files(make: Callable[[], Any], tmp_path: Path) -> None:
    model, x = make()
    model.save(tmp_path / "m.safetensors")
    for again in (*(copied(model) for copied in COPIES), load_model(tmp_path / "m.safetensors")):
        assert [type(layer) for layer in again.layers] == [type(layer) for layer in model.layers]
        again.set_weights(model.get_weights())
        np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
