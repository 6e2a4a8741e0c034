"""Inputs, sizes and models that are wrong: one clear exception that changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lstm_native
from lstm_native.layers import LSTM, Dense, Dropout, Embedding, Input, InputLayer, Masking
from lstm_native.models import Sequential
from mistake_support import IDS, LABELS, SERIES, classifier, everything, regressor

# --- inputs of layers and models ----------------------------------------------------------------------


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((2, 3)), r"LSTM 'memory': input has shape \(2, 3\), expected \(batch, time, features\)"),
        (np.ones((2, 3, 4, 5)), r"LSTM 'memory': input has shape \(2, 3, 4, 5\)"),
        (np.ones((2, 0, 5)), r"LSTM 'memory': input has shape \(2, 0, 5\), expected at least one time step"),
        (np.ones((0, 0, 5)), "expected at least one time step"),
        (np.ones((2, 3, 0)), r"input has shape \(2, 3, 0\)"),
        (3.0, r"input has shape \(\)|single number"),
        ([[1.0, 2.0], [3.0]], r"nested list of unequal lengths|input has shape \(None, 1\)"),
    ],
)
def test_model_refuses_shapes(built: bool, x: Any, message: str) -> None:
    model = regressor()
    if built:
        model.train_on_batch(SERIES, np.ones((2, 2)))
    before = everything(model)
    for call in (
        model,
        lambda x: model.predict(x, verbose=0),
        lambda x: model.fit(x, np.ones((2, 2)), verbose=0),
        lambda x: model.evaluate(x, np.ones((2, 2)), verbose=0),
        lambda x: model.train_on_batch(x, np.ones((2, 2))),
        lambda x: model.test_on_batch(x, np.ones((2, 2))),
        model.predict_on_batch,
    ):
        with pytest.raises(ValueError, match=message):
            call(x)
    assert everything(model) == before


def test_feature_count_must_stay() -> None:
    model = regressor()
    model(SERIES)
    before = everything(model)
    for call in (
        model,
        lambda x: model.predict(x, verbose=0),
        lambda x: model.fit(x, np.ones((2, 2)), verbose=0),
    ):
        with pytest.raises(
            ValueError, match=r"LSTM 'memory': input has shape \(2, 3, 4\), expected 5 features"
        ):
            call(np.ones((2, 3, 4)))
    assert everything(model) == before


@pytest.mark.parametrize(
    ("layer", "x", "message"),
    [
        (
            Dense(2, name="d"),
            np.ones(3),
            r"Dense 'd': input has shape \(3,\), expected \(batch, ..., features\)",
        ),
        (Masking(name="m"), np.ones((2, 3)), r"Masking 'm': input has shape \(2, 3\)"),
        (Embedding(4, 2, name="e"), 3, "Embedding 'e': input is a single number"),
        (
            Embedding(4, 2, name="e"),
            np.ones((2, 0), int),
            "Embedding 'e': input has shape .* at least one time step",
        ),
        (
            InputLayer((3,), name="i"),
            np.ones((2, 4)),
            r"InputLayer 'i': input has shape \(2, 4\), expected \(None, 3\)",
        ),
    ],
)
def test_layers_refuse_shapes(layer: Any, x: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer(x)


def test_dropout_refuses_inputs_that_do_not_fit_noise_shape() -> None:
    with pytest.raises(ValueError, match=r"noise_shape \(2, 1\) does not fit"):
        Dropout(0.5, noise_shape=(2, 1), name="d")(np.ones((3, 4)), training=True)


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([[1, 10, 2]], r"Embedding 'words': input\[0, 1\] is 10, expected an index in \[0, 10\)"),
        ([[1, 2, -1]], r"input\[0, 2\] is -1"),
        ([[1.0, 2.5, 3.0]], r"input\[0, 1\] is 2.5, expected whole numbers"),
        ([[np.nan, 1.0, 1.0]], r"input\[0, 0\] is nan, expected whole numbers"),
        ([[np.inf, 1.0, 1.0]], r"input\[0, 0\] is inf"),
        (np.array([[1, 2**32 + 1, 2]]), r"input\[0, 1\] is 4294967297"),
        (np.array([[2**63 + 5, 1, 2]], np.uint64), r"input\[0, 0\] is 9223372036854775813"),
    ],
)
def test_ids_must_be_whole_and_in_range(built: bool, x: Any, message: str) -> None:
    model = classifier()
    if built:
        model.fit(IDS, LABELS, verbose=0)
    before = everything(model)
    many = np.concatenate([np.ones((40, 3)), np.asarray(x)])  # the bad row is not in the first batch
    for call in (
        model,
        lambda x: model.predict(x, verbose=0),
        lambda x: model.train_on_batch(x, [1]),
    ):
        with pytest.raises(ValueError, match=message):
            call(x)
    with pytest.raises(ValueError, match=r"Embedding 'words': input\[40, "):
        model.fit(many, np.ones(41), shuffle=False, verbose=0)
    if built:
        assert everything(model) == before
    assert [w.tobytes() for w in model.get_weights()] == before[2] or not built


@pytest.mark.parametrize(
    "x",
    [
        np.array([["a", "b", "c"]]),
        np.array([[object(), 1, 2]], dtype=object),
        np.array([[1j, 1, 2]]),
        np.array([["2020-01-01"]], dtype="datetime64[D]"),
        None,
    ],
)
def test_arrays_of_other_things_are_type_errors(x: Any) -> None:
    model = classifier()
    before = everything(model)
    for call in (
        model,
        lambda x: model.predict(x, verbose=0),
        lambda x: model.fit(x, [1], verbose=0),
        lambda x: model.fit(IDS[:1], np.full(1, x if x is None else x.flat[0], dtype=object), verbose=0),
        Dense(2),
        LSTM(2),
        lambda x: model.fit(IDS[:1], [1], sample_weight=np.array(["heavy"]), verbose=0),
    ):
        with pytest.raises(TypeError, match=r"(dtype .*|is a \w+), expected (whole |an array of )?numbers"):
            call(x)
    assert everything(model) == before


@pytest.mark.parametrize(("x", "kind"), [(None, "NoneType"), ({"a": IDS}, "dict"), (lambda: IDS, "function")])
def test_what_is_no_array_is_named(x: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=f"LSTM 'memory': input is a {kind}, expected an array of numbers"):
        regressor().predict(x, verbose=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mask": np.ones((2, 4), bool)}, r"mask has shape \(2, 4\), expected \(batch, time\) = \(2, 3\)"),
        ({"reset": np.ones(3, bool)}, r"reset has shape \(3,\)"),
        ({"initial_state": np.zeros((2, 4))}, r"initial_state is a ndarray, expected \[h, c\]"),
        ({"initial_state": [np.zeros((2, 4))]}, r"expected \[h, c\]"),
        (
            {"initial_state": [np.zeros((2, 4)), np.zeros((3, 4))]},
            r"initial_state c has shape \(3, 4\), expected \(2, 4\)",
        ),
    ],
)
def test_lstm_call_arguments(arguments: Any, message: str) -> None:
    layer = LSTM(4, name="memory")
    with pytest.raises(ValueError, match=f"LSTM 'memory': .*{message}"):
        layer(SERIES, **arguments)
    assert not layer.built


def test_fixed_batch_size_holds() -> None:
    model = Sequential([Input((3, 5), batch_size=2), LSTM(4)])
    assert model.predict(np.ones((6, 3, 5)), batch_size=2, verbose=0).shape == (6, 4)
    with pytest.raises(ValueError, match=r"input has shape \(3, 3, 5\), expected \(2, 3, 5\)"):
        model(np.ones((3, 3, 5)))
    with pytest.raises(ValueError, match=r"predict makes batches of \[1, 2\] rows, but Input fixes 2"):
        model.predict(np.ones((5, 3, 5)), batch_size=2, verbose=0)


def test_stateful_batches_must_be_equal() -> None:
    model = Sequential([LSTM(4, stateful=True), Dense(2)])
    model.compile("sgd", "mse")
    before = everything(model)
    for call in (
        lambda: model.fit(np.ones((5, 3, 2)), np.ones((5, 2)), batch_size=2, verbose=0),
        lambda: model.predict(np.ones((5, 3, 2)), batch_size=2, verbose=0),
    ):
        with pytest.raises(ValueError, match=r"batches of \[1, 2\] rows, but stateful layers need 2"):
            call()
    assert everything(model) == before
    model.predict(np.ones((4, 3, 2)), batch_size=2, verbose=0)
    with pytest.raises(ValueError, match=r"need 2 in each: choose batch_size, or call reset_state\(\)"):
        model.predict(np.ones((4, 3, 2)), batch_size=4, verbose=0)


# --- sizes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [lambda: Embedding(2**31 - 1, 2**40), lambda: LSTM(2**60), lambda: Dense(2**62)],
)
def test_sizes_whose_product_overflows(make: Callable[[], Any]) -> None:
    layer = make()
    with pytest.raises(ValueError, match=r"weight \w+ of shape .* is larger than the address space"):
        layer.build((None, 3, 8))
    assert not layer.built
    assert layer.weights == []


def test_initializer_of_another_shape() -> None:
    layer = Dense(3, kernel_initializer=lambda shape, dtype=None: np.zeros((2, 2)))
    with pytest.raises(
        ValueError, match=r"initializer of kernel made an array of shape \(2, 2\), expected \(5, 3\)"
    ):
        layer(np.ones((1, 5)))
    assert not layer.built


def test_models_without_layers_and_with_double_names() -> None:
    for call in (lambda m: m(SERIES), lambda m: m.build((None, 3)), lambda m: m.predict(SERIES, verbose=0)):
        with pytest.raises(ValueError, match="the model has no layers"):
            call(Sequential())
    with pytest.raises(ValueError, match="pop from a model without layers"):
        Sequential().pop()
    with pytest.raises(ValueError, match="a layer called 'a' is there"):
        Sequential([Dense(1, name="a"), Dense(1, name="a")])
    with pytest.raises(ValueError, match="Input must be the first item"):
        Sequential([Dense(1), Input((3,))])
    with pytest.raises(ValueError, match="build needs input_shape"):
        Sequential([Dense(1)]).build()


def test_nan_and_infinity_in_the_input_pass_through() -> None:
    model = regressor()
    x = SERIES.copy()
    x[0, 1, 2] = np.nan
    x[1, 0, 0] = np.inf
    y = model.predict(np.concatenate([x, SERIES]), verbose=0)
    assert np.isnan(y[0]).all()
    assert np.isfinite(y[2:]).all()
    history = model.fit(x, np.ones((2, 2)), verbose=0)
    assert np.isnan(history.history["loss"][0])


def test_labels_and_weights_beyond_float32_are_infinite_without_a_warning() -> None:
    model = regressor()
    huge = np.array([[1e300, 1.0], [1.0, 1.0]])
    assert model.test_on_batch(SERIES, huge) == np.inf
    assert model.test_on_batch(SERIES, np.ones((2, 2)), sample_weight=[1e300, 1.0]) == np.inf


def test_unknown_names_at_the_top() -> None:
    assert not hasattr(lstm_native, "Sequentiel")
