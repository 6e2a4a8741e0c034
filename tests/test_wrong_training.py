"""Mistakes of compile, fit and evaluate: each is one clear exception that changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lstm_native import losses
from lstm_native.layers import LSTM, Concatenate, Dense, Input
from lstm_native.models import Model, Sequential
from mistake_support import IDS, LABELS, SERIES, classifier, everything, regressor

# --- compile ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimizer": "adm", "loss": "mse"}, "unknown optimizer 'adm': did you mean 'adam'"),
        ({"optimizer": "adam", "loss": "binary_crossentrophy"}, "did you mean 'binary_crossentropy'"),
        (
            {"optimizer": "adam", "loss": "mse", "metrics": ["acuracy"]},
            "unknown metric 'acuracy': did you mean 'accuracy'",
        ),
        ({"optimizer": "adam", "loss": "mse", "metrics": "accuracy"}, "metrics='accuracy', expected a list"),
        ({"optimizer": "adam", "loss": "mse", "weighted_metrics": ["x"]}, "unknown metric 'x'"),
        ({"optimizer": "adam", "loss": "mse", "loss_weights": [1, 2]}, "loss_weights"),
        ({"optimizer": 3, "loss": "mse"}, "cannot interpret 3"),
    ],
)
def test_compile_refuses_and_stays_compiled(arguments: Any, message: str) -> None:
    model = regressor()
    optimizer = model.optimizer
    with pytest.raises(ValueError, match=message):
        model.compile(**arguments)
    assert model.optimizer is optimizer
    assert model.loss == "mse"
    assert model.metrics_names == ["loss"]


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_training_before_compile(method: str) -> None:
    model = Sequential([LSTM(3), Dense(2)])
    with pytest.raises(ValueError, match=f"{method} before compile"):
        getattr(model, method)(SERIES, np.ones((2, 2)))
    model.compile("adam")
    with pytest.raises(ValueError, match=f"{method} without a loss"):
        getattr(model, method)(SERIES, np.ones((2, 2)))
    assert not model.built


# --- labels, weights and options of fit ----------------------------------------------------------------


def test_labels_that_were_forgotten() -> None:
    a, b, y = np.ones((4, 3), np.float32), np.ones((4, 2), np.float32), np.ones((4, 1))
    first, second = Input((3,), name="first"), Input((2,), name="second")
    model = Model([first, second], Dense(1)(Concatenate()([first, second])))
    model.compile("sgd", "mse")
    before = model.get_weights()
    one = Sequential([Input((3,)), Dense(1)])
    one.compile("sgd", "mse")
    for made, x in (
        (model, [a, b]),
        (model, (a, b)),
        (model, [a.tolist(), b.tolist()]),
        (model, {"first": a, "second": b}),
        (one, a),
        (one, a.tolist()),
        (one, list(a)),
    ):
        for method in (made.fit, made.evaluate, made.train_on_batch, made.test_on_batch):
            with pytest.raises(ValueError, match=f"{method.__name__}: y is missing, the labels are needed"):
                method(x)
    with pytest.raises(ValueError, match="fit: y is missing, the labels are needed"):
        model.fit([a, b], validation_split=0.5)
    with pytest.raises(ValueError, match="validation: y is missing"):
        model.fit([a, b], y, validation_data=([a, b],))
    with pytest.raises(TypeError, match="fit: x is a NoneType, expected an array of numbers"):
        one.fit(y=y)
    assert all(np.array_equal(v, w) for v, w in zip(model.get_weights(), before, strict=True))
    # Lists of batches, as a data loader may give them.
    for batches in ([(a, y)], [[a, y], [a, y]], [(a.tolist(), y.tolist())]):
        one.fit(batches, verbose=0)
    model.fit([([a, b], y), ({"first": a, "second": b}, y)], verbose=0)
    model.fit([[[a, b], y], [{"first": a, "second": b}, y]], verbose=0)


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": None}, "y is missing"),
        ({"y": [0, 1, 1]}, r"y has shape \(3,\), expected 2 rows"),
        ({"y": 1}, r"y has shape \(\)"),
        ({"y": np.ones((2, 3))}, r"labels have shape \(2, 3\)"),
        ({"y": LABELS, "sample_weight": [1.0]}, r"sample_weight has shape \(1,\), expected \(2,\)"),
        (
            {"y": LABELS, "sample_weight": np.ones((2, 5))},
            r"shape \(2, 5\), expected \(2,\)$",
        ),
        (
            {"y": LABELS, "sample_weight": [1, 2], "class_weight": {0: 2}},
            "class_weight or sample_weight, not both",
        ),
        ({"y": LABELS, "class_weight": [1, 2]}, "class_weight is"),
        ({"y": LABELS, "class_weight": {0: "a"}}, r"class_weight\[0\] is 'a', expected a number"),
        ({"y": LABELS, "class_weight": {0: None}}, r"class_weight\[0\] is None"),
        ({"y": LABELS, "class_weight": {"0": 2}}, "class_weight has the class '0', expected class numbers"),
        ({"y": [0, np.nan], "class_weight": {0: 2}}, "class_weight with labels that are not finite"),
        ({"y": LABELS, "batch_size": 0}, "batch_size is 0"),
        ({"y": LABELS, "batch_size": 1.5}, "batch_size is 1.5"),
        ({"y": LABELS, "epochs": -1}, "epochs is -1"),
        ({"y": LABELS, "epochs": "3"}, "epochs is '3'"),
        ({"y": LABELS, "steps_per_epoch": 0}, "fit: steps_per_epoch is 0"),
        ({"y": LABELS, "validation_steps": 0}, "fit: validation_steps is 0"),
        ({"y": LABELS, "validation_batch_size": 0}, "fit: validation_batch_size is 0"),
        ({"y": LABELS, "shuffle": "foo"}, "fit: shuffle is 'foo', expected True, False or 'batch'"),
        ({"y": LABELS, "verbose": np.zeros(1)}, "verbose is array"),
        ({"y": LABELS, "validation_split": "0.2"}, "fit: validation_split is '0.2', expected a number"),
        ({"y": LABELS, "validation_data": []}, "fit: validation_data: a batch has 0 parts"),
        ({"y": LABELS, "validation_freq": [1, "a"]}, "fit: validation_freq is 'a'"),
        ({"y": LABELS, "verbose": "loud"}, "verbose is 'loud'"),
        ({"y": LABELS, "validation_split": 1.5}, "validation_split is 1.5"),
        (
            {"y": LABELS, "validation_split": 0.9},
            "validation_split=0.9 of 2 rows leaves one part without rows",
        ),
        ({"y": LABELS, "validation_data": (IDS, [1])}, "validation: y has shape"),
        ({"y": LABELS, "validation_data": (IDS + 5, LABELS)}, r"input\[1, 1\] is 10"),
        ({"y": LABELS, "validation_data": (IDS, LABELS), "validation_freq": 0}, "validation_freq is 0"),
        ({"y": LABELS, "validation_data": (IDS, LABELS), "validation_freq": "x"}, "validation_freq is 'x'"),
    ],
)
def test_fit_refuses_and_changes_nothing(built: bool, arguments: Any, message: str) -> None:
    model = classifier()
    if built:
        model.fit(IDS, LABELS, verbose=0)
    before = everything(model)
    with pytest.raises(ValueError, match=message):
        model.fit(IDS, **{"verbose": 0, **arguments})
    assert everything(model) == before
    model.fit(IDS, LABELS, verbose=0)  # and the model still trains


@pytest.mark.parametrize("built", [False, True])
def test_an_optimizer_serves_one_model(built: bool) -> None:
    first, second = classifier(), classifier()
    first.fit(IDS, LABELS, verbose=0)
    second.compile(first.optimizer, "binary_crossentropy")
    if built:
        second.build((None, 3))
    before = everything(second)
    with pytest.raises(ValueError, match=r"optimizer of another model|none of the variables"):
        second.fit(IDS, LABELS, verbose=0)
    assert everything(second) == before


def test_fit_refuses_what_is_no_callback() -> None:
    model = classifier()
    before = everything(model)
    with pytest.raises(TypeError, match=r"expected lstm_native\.callbacks\.Callback"):
        model.fit(IDS, LABELS, callbacks=[print], verbose=0)
    assert everything(model) == before


@pytest.mark.parametrize(
    ("loss", "y", "message"),
    [
        ("sparse_categorical_crossentropy", [0, 3], r"label 3 found, predictions have 3 classes"),
        ("sparse_categorical_crossentropy", [0, -1], "label -1 found"),
        ("sparse_categorical_crossentropy", [0.5, 1], "label 0.5 found"),
        ("categorical_crossentropy", [0, 1], r"labels have shape \(2,\), predictions have \(2, 3\)"),
        ("mse", np.ones((2, 2)), r"labels have shape \(2, 2\), predictions have \(2, 3\)"),
    ],
)
def test_labels_must_fit_the_loss(loss: str, y: Any, message: str) -> None:
    model = Sequential([LSTM(4), Dense(3, activation="softmax")])
    model.compile("adam", loss)
    before = everything(model)
    for call in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match=f"loss .*{message}"):
            call(SERIES, y, verbose=0)
    with pytest.raises(ValueError, match=message):
        model.train_on_batch(SERIES, y)
    assert everything(model) == before


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_empty_batch_is_no_data_to_train_with(method: str) -> None:
    model = classifier()
    before = everything(model)
    with pytest.raises(ValueError, match=rf"{method}: x has shape \(0, 3\), expected at least one row"):
        getattr(model, method)(np.zeros((0, 3), int), np.zeros(0))
    assert everything(model) == before


def test_iterables_that_are_wrong() -> None:
    model = classifier()
    before = everything(model)

    def four() -> Iterator[Any]:
        yield IDS, LABELS, LABELS, LABELS

    for x, message in (
        (iter(()), "the data has no batches"),
        ([], "the data has no batches"),
        (four(), "a batch has 4 parts"),
        (iter([IDS]), "y is missing"),
        (iter([(np.zeros((0, 3), int), np.zeros(0))]), "expected at least one row"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(x, verbose=0)
    with pytest.raises(ValueError, match="x yields batches, so y and sample_weight belong into them"):
        model.fit(iter([(IDS, LABELS)]), LABELS, verbose=0)
    with pytest.raises(ValueError, match="validation_split needs arrays"):
        model.fit(iter([(IDS, LABELS)]), validation_split=0.5, verbose=0)
    assert everything(model)[:5] == before[:5]


@pytest.mark.parametrize(
    "layer",
    [LSTM(3, activation=np.tanh), LSTM(3, recurrent_activation=np.tanh), LSTM(3, activation="softmax")],
)
def test_training_through_what_works_forward_only(layer: Any) -> None:
    model = Sequential([layer, Dense(1)])
    model.compile("sgd", "mse")
    before = everything(model)
    for call in (model.fit, model.train_on_batch):
        with pytest.raises(ValueError, match=r"LSTM .*activation is .* works forward only"):
            call(SERIES, np.ones(2))
    assert everything(model) == before
    assert np.isfinite(model.evaluate(SERIES, np.ones(2), verbose=0))


def test_an_activation_of_an_lstm_keeps_the_shape() -> None:
    for argument in ("activation", "recurrent_activation"):
        layer = LSTM(3, **{argument: lambda x: x[:, :1]}, name="memory")
        with pytest.raises(ValueError, match=rf"'memory': {argument} turned shape \(2, 3\) into \(2, 1\)"):
            layer(SERIES)


def test_losses_that_cannot_be_trained_with() -> None:
    model = Sequential([LSTM(4), Dense(2)])
    model.compile("adam", losses.MeanSquaredError(reduction=None))
    before = everything(model)
    for call in (model.fit, model.train_on_batch):
        with pytest.raises(ValueError, match="reduction is None"):
            call(SERIES, np.ones((2, 2)))
    assert everything(model) == before


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (lambda y_true, y_pred: np.argmax(y_pred, -1), RuntimeError, "loss '<lambda>' has no gradient"),
        (lambda y_true, y_pred: np.fft.fft(y_pred), TypeError, "numpy.fft has no gradient here"),
        (lambda y_true, y_pred: np.asarray(y_pred), TypeError, "was made an array, which loses its gradient"),
    ],
)
def test_functions_without_a_gradient(loss: Any, error: type[Exception], message: str) -> None:
    model = Sequential([LSTM(4), Dense(2)])
    model(SERIES)
    model.compile("adam", loss)
    before = model.get_weights()
    for call in (model.fit, model.train_on_batch):
        with pytest.raises(error, match=message):
            call(SERIES, np.ones((2, 2)))
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_several_outputs_cannot_be_trained_or_fed_on() -> None:
    model = Sequential([LSTM(3, return_state=True)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="several outputs"):
        model.fit(SERIES, np.ones((2, 3)), verbose=0)
    with pytest.raises(ValueError, match="several outputs"):
        Sequential([LSTM(3, return_state=True), Dense(1)])(SERIES)


def test_warnings_point_at_the_program() -> None:
    model = regressor()
    model.build((None, None, 5))
    model.trainable = False
    batches = [(SERIES, np.ones((2, 2)))] * 2
    for train in (
        lambda: model.fit(SERIES, np.ones((2, 2)), verbose=0),
        lambda: model.train_on_batch(*batches[0]),
        lambda: model.fit(iter(batches), steps_per_epoch=2, verbose=0),
    ):
        with pytest.warns(UserWarning, match="without trainable weights") as caught:
            train()
        assert {warning.filename for warning in caught} == {__file__}
