"""evaluate, predict and the values they report; batches from generators and other iterables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lstm_native.layers import LSTM, Dense, Embedding, Masking
from lstm_native.metrics import BinaryAccuracy, Metric
from lstm_native.models import Sequential
from lstm_native.optimizers import SGD
from lstm_native.utils import to_categorical
from model_support import Array, data, sentiment, weights_equal

# --- data from elsewhere ----------------------------------------------------------------------------


def batches(x: Array, y: Array, size: int) -> Iterator[tuple[Array, Array]]:
    for i in range(0, len(x), size):
        yield x[i : i + size], y[i : i + size]


@pytest.mark.parametrize("kind", ["generator", "list", "weights"])
def test_fit_takes_batches_from_an_iterable(kind: str) -> None:
    x, y = data(20)
    plain, fed = sentiment(), sentiment()
    for model in (plain, fed):
        model.build((None, 6))
    fed.set_weights(plain.get_weights())
    expected = plain.fit(x, y, batch_size=8, shuffle=False, verbose=0).history
    source: Any = batches(x, y, 8)
    if kind == "list":
        source = list(source)
    elif kind == "weights":
        source = ((a, b, np.ones(len(a))) for a, b in source)
    assert fed.fit(source, verbose=0).history == expected
    assert weights_equal(plain, fed)
    assert fed.evaluate(batches(x, y, 8), verbose=0) == plain.evaluate(x, y, batch_size=8, verbose=0)
    np.testing.assert_array_equal(fed.predict(batches(x, y, 8), verbose=0), plain.predict(x, verbose=0))


def test_generator_builds_the_model_with_its_first_batch() -> None:
    x, y = data(20)
    model = sentiment()
    model.fit(batches(x, y, 5), verbose=0, validation_data=(x, y))
    assert model.built


def test_a_list_serves_every_epoch_and_a_generator_one() -> None:
    x, y = data(20)
    assert len(sentiment().fit(list(batches(x, y, 5)), epochs=3, verbose=0).epoch) == 3
    with pytest.warns(UserWarning, match="data ended in epoch 2"):
        history = sentiment().fit(batches(x, y, 5), epochs=3, verbose=0)
    assert history.epoch == [0]


def test_steps_per_epoch_goes_through_the_data_over_epochs() -> None:
    x, y = data(20)
    model = sentiment()
    history = model.fit(batches(x, y, 4), epochs=2, steps_per_epoch=2, verbose=0)
    assert history.params is not None
    assert history.params["steps"] == 2
    assert model.optimizer is not None
    assert int(model.optimizer.iterations) == 4
    model.fit(x, y, batch_size=10, epochs=3, steps_per_epoch=1, verbose=0)
    assert int(model.optimizer.iterations) == 7
    with pytest.warns(UserWarning, match="data ended in epoch 1"):
        model.fit(batches(x, y, 4), steps_per_epoch=7, verbose=0)
    assert int(model.optimizer.iterations) == 12


def test_validation_starts_anew_and_does_without_an_exhausted_generator() -> None:
    x, y = data(20)
    model = sentiment()
    model.compile(SGD(0.0), "binary_crossentropy")
    val_loss = model.fit(
        x, y, epochs=3, verbose=0, validation_data=(x, y), validation_steps=1, validation_batch_size=5
    ).history["val_loss"]
    assert len(set(val_loss)) == 1
    with pytest.warns(UserWarning, match="validation: the data ended"):
        history = model.fit(x, y, epochs=2, validation_data=batches(x, y, 5), verbose=0).history
    assert (len(history["loss"]), len(history["val_loss"])) == (2, 1)


def test_predict_and_evaluate_with_steps() -> None:
    x, y = data(20)
    model = sentiment()
    assert model.predict(x, batch_size=4, steps=2, verbose=0).shape == (8, 1)
    assert model.predict(x, steps=5, verbose=0).shape == (20, 1)
    first = model.evaluate(x, y, batch_size=4, steps=2, verbose=0)
    assert first == pytest.approx(model.evaluate(x[:8], y[:8], verbose=0), rel=1e-6)


# --- evaluate, predict ------------------------------------------------------------------------------


def test_predictions_do_not_depend_on_the_batch_size() -> None:
    x, _ = data(23)
    model = sentiment()
    expected = model.predict(x, verbose=0)
    for size in (1, 2, 7, 23, 100):
        np.testing.assert_array_equal(model.predict(x, batch_size=size, verbose=0), expected)
    np.testing.assert_array_equal(model.predict_on_batch(x), expected)
    np.testing.assert_array_equal(model(x), expected)


@pytest.mark.parametrize("built", [False, True])
def test_empty_batch_gives_an_empty_answer(built: bool) -> None:
    model = Sequential([Embedding(30, 4), LSTM(5, return_sequences=True), Dense(2)])
    if built:
        model.build((None, None))
    for answer in (model.predict(np.zeros((0, 6), int), verbose=0), model(np.zeros((0, 6), int))):
        assert answer.shape == (0, 6, 2)
        assert answer.dtype == np.float32


def test_results_as_number_list_and_dict() -> None:
    x, y = data()
    model = sentiment(metrics=())
    assert isinstance(model.evaluate(x, y, verbose=0), float)
    assert isinstance(model.train_on_batch(x, y), float)
    model = sentiment(metrics=["accuracy", "mae"])
    assert model.metrics_names == ["loss"]
    values = model.evaluate(x, y, verbose=0)
    assert model.evaluate(x, y, verbose=0, return_dict=True) == dict(
        zip(["loss", "accuracy", "mae"], values, strict=True)
    )
    assert set(model.train_on_batch(x, y, return_dict=True)) == {"loss", "accuracy", "mae"}
    assert model.metrics_names == ["loss", "accuracy", "mae"]
    assert len(model.test_on_batch(x, y)) == 3


@pytest.mark.parametrize(
    ("units", "loss", "kind"),
    [
        (1, "binary_crossentropy", "BinaryAccuracy"),
        (3, "sparse_categorical_crossentropy", "SparseCategoricalAccuracy"),
        (3, "categorical_crossentropy", "CategoricalAccuracy"),
        (1, "mse", "BinaryAccuracy"),
    ],
)
def test_accuracy_is_chosen_by_shape(units: int, loss: str, kind: str) -> None:
    x = np.random.default_rng(3).standard_normal((8, 4))
    y = np.arange(8) % max(units, 2)
    labels = to_categorical(y, units) if loss == "categorical_crossentropy" else y
    model = Sequential([Dense(units, activation="sigmoid" if units == 1 else "softmax")])
    model.compile("adam", loss, metrics=["accuracy"])
    got = model.fit(x, labels, verbose=0, epochs=1)
    assert type(model.metrics[0]).__name__ == kind
    predictions = model.predict(x, verbose=0)
    right = (predictions[:, 0] > 0.5) == y if units == 1 else predictions.argmax(axis=1) == y
    assert model.evaluate(x, labels, verbose=0)[1] == pytest.approx(right.mean())
    assert 0 <= got.history["accuracy"][0] <= 1


def test_sample_weights_touch_loss_and_weighted_metrics_only() -> None:
    x, y = data(8)
    weight = np.array([0, 0, 0, 0, 1, 1, 2, 2.0])
    model = sentiment()
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"], weighted_metrics=["accuracy"])
    result = model.evaluate(x, y, sample_weight=weight, verbose=0, return_dict=True)
    p = model.predict(x, verbose=0)[:, 0].astype(np.float64)
    right = (p > 0.5) == y
    rows = -(y * np.log(p) + (1 - y) * np.log1p(-p))
    assert result["loss"] == pytest.approx((rows * weight).sum() / 8, rel=1e-5)
    assert result["accuracy"] == pytest.approx(right.mean())
    assert result["weighted_accuracy"] == pytest.approx((right * weight).sum() / weight.sum())


def test_mask_reaches_loss_and_metrics() -> None:
    ids = np.array([[3, 4, 0, 0], [5, 6, 7, 0]])
    y = np.array([[1, 0, 1, 1], [0, 0, 1, 0]])
    model = Sequential(
        [Embedding(9, 4, mask_zero=True), LSTM(5, return_sequences=True), Dense(1, activation="sigmoid")]
    )
    model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    loss, accuracy = model.evaluate(ids, y, verbose=0)
    p = model.predict(ids, verbose=0)[..., 0].astype(np.float64)
    valid = ids != 0
    rows = -(y * np.log(p) + (1 - y) * np.log1p(-p))
    assert loss == pytest.approx(rows[valid].mean(), rel=1e-5)
    assert accuracy == pytest.approx(((p > 0.5) == y)[valid].mean())
    # Masked steps do not count: neither their labels nor what stands there.
    y[~valid] = 1 - y[~valid]
    assert model.train_on_batch(ids, y)[0] == pytest.approx(loss, rel=1e-6)


def test_masking_layer_in_training() -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((4, 5, 2))
    x[:, 3:] = 0
    short = x[:, :3]
    layers = [Masking(), LSTM(3), Dense(1)]
    masked = Sequential(layers)
    masked.compile(SGD(0.1), "mse")
    plain = Sequential([LSTM(3), Dense(1)])
    plain.compile(SGD(0.1), "mse")
    masked.build((None, 5, 2))
    plain.build((None, 3, 2))
    plain.set_weights(masked.get_weights())
    a, b = masked.train_on_batch(x, np.ones(4)), plain.train_on_batch(short, np.ones(4))
    assert a == pytest.approx(b, rel=1e-6)
    for v, w in zip(masked.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(v, w, atol=1e-6)


def test_metric_objects_and_functions() -> None:
    x, y = data()

    class Count(Metric):
        def __init__(self) -> None:
            super().__init__(name="count")
            self.rows = 0

        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
            self.rows += len(y_true)

        def result(self) -> float:
            return float(self.rows)

        def reset_state(self) -> None:
            self.rows = 0

    def largest(y_true: Any, y_pred: Any) -> Any:
        return y_pred.max(axis=-1)

    model = sentiment(metrics=[Count(), BinaryAccuracy(threshold=0.9), largest])
    result = model.evaluate(x, y, verbose=0, return_dict=True)
    assert list(result) == ["binary_accuracy", "count", "largest", "loss"]
    assert model.evaluate(x, y, verbose=0) == [
        result[n] for n in ("loss", "count", "binary_accuracy", "largest")
    ]
    assert result["count"] == 20
    assert result["largest"] == pytest.approx(model.predict(x, verbose=0).mean(), rel=1e-6)


def test_stateful_model_trains_and_keeps_its_state() -> None:
    rng = np.random.default_rng(6)
    x = rng.standard_normal((8, 3, 2))
    model = Sequential([LSTM(4, stateful=True), Dense(1)])
    model.compile("sgd", "mse")
    model.fit(x, np.ones(8), batch_size=4, shuffle=False, verbose=0)
    layer: Any = model.layers[0]
    assert layer.states[0].shape == (4, 4)
    model.reset_state()
    assert layer.states is None


def test_recompiling_starts_a_new_optimizer() -> None:
    x, y = data()
    model = sentiment()
    model.fit(x, y, verbose=0)
    model.compile("sgd", "mse", metrics=["mae"])
    assert list(model.fit(x, y, verbose=0).history) == ["loss", "mae"]


def test_labels_as_column_and_row_are_the_same() -> None:
    x, y = data()
    model = sentiment()
    assert model.evaluate(x, y, verbose=0) == model.evaluate(x, y[:, None].astype(float), verbose=0)


@pytest.mark.long
def test_memory_does_not_grow() -> None:
    import resource

    x, y = data(8)
    model = sentiment()
    for _ in range(200):
        model.train_on_batch(x, y)
        model.predict(x, verbose=0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(1000):
        model.train_on_batch(x, y)
    for _ in range(5000):
        model.predict(x, verbose=0)
    # KiB; a leak of 1 KiB a call would be 6 MiB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2048
