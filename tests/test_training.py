"""compile, fit and train_on_batch: their numbers, and what a run does."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import reference as ref
import reference_recurrent as rec
from lstm_native.callbacks import Callback, EarlyStopping
from lstm_native.layers import LSTM, Activation, Dense, Dropout, Embedding, Input
from lstm_native.losses import BinaryCrossentropy, CategoricalCrossentropy
from lstm_native.models import Sequential
from lstm_native.optimizers import SGD
from lstm_native.utils import set_random_seed, to_categorical
from model_support import Array, data, sentiment, weights_equal

# --- one step against the yardstick -----------------------------------------------------------------


def yardstick_step(
    model: Sequential, ids: Array, y: Array, row_weights: Array, rate: float
) -> tuple[float, list[Array]]:
    """Loss and weights after one SGD step of Embedding -> LSTM -> Dense(sigmoid) in float64."""
    table, kernel, recurrent, bias, top, top_bias = (ref.f64(w) for w in model.get_weights())
    x = ref.embedding_forward(table, ids)
    trace = rec.recurrent_forward(x, kernel, recurrent, bias, return_sequences=False)
    z = ref.dense_forward(trace.output, top, top_bias)
    rows, d_z = ref.loss("binary_crossentropy", y[:, None], z, row_weights, from_logits=True)
    d_h, d_top, d_top_bias = ref.dense_backward(trace.output, top, d_z)
    gradients = rec.recurrent_backward(trace, d_h)
    d_table = ref.embedding_backward(ids, gradients.inputs, len(table))
    every = [d_table, gradients.kernel, gradients.recurrent, gradients.bias, d_top, d_top_bias]
    loss = float((rows * row_weights).sum())
    return loss, [w - rate * g for w, g in zip(model.get_weights(), every, strict=True)]


@pytest.mark.parametrize("weighting", ["none", "sample", "class"])
def test_train_on_batch_takes_the_step_of_the_yardstick(weighting: str) -> None:
    ids, y = data(9)
    model = sentiment(metrics=())
    model.compile(SGD(0.5), "binary_crossentropy")
    model.build((None, 6))
    weights = np.ones(9)
    arguments: dict[str, Any] = {}
    if weighting == "sample":
        weights = np.linspace(0, 2, 9)
        arguments["sample_weight"] = weights
    elif weighting == "class":
        weights = np.where(y == 1, 3.0, 1.0)
        arguments["class_weight"] = {1: 3.0}
    loss, expected = yardstick_step(model, ids, y, weights / 9, 0.5)
    assert model.train_on_batch(ids, y, **arguments) == pytest.approx(loss, rel=1e-5)
    for got, want in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(got, want, atol=2e-6)


@pytest.mark.parametrize(
    ("activation", "loss", "units"),
    [
        ("sigmoid", "binary_crossentropy", 1),
        ("sigmoid", "binary_crossentropy", 3),
        ("softmax", "categorical_crossentropy", 3),
        ("softmax", "sparse_categorical_crossentropy", 3),
        (None, "mse", 2),
        ("tanh", "mae", 2),
        ("sigmoid", BinaryCrossentropy(label_smoothing=0.1), 2),
        ("softmax", CategoricalCrossentropy(label_smoothing=0.2), 3),
        (None, BinaryCrossentropy(from_logits=True), 2),
    ],
)
@pytest.mark.parametrize("separate", [False, True])
def test_gradients_agree_with_differences_of_the_reported_loss(
    activation: str | None, loss: Any, units: int, separate: bool
) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((6, 4))
    y = rng.integers(0, units, 6)
    labels: Array = y if loss == "sparse_categorical_crossentropy" else to_categorical(y, units)
    head = [Dense(units), Activation(activation)] if separate else [Dense(units, activation=activation)]
    model = Sequential([Input((4,)), *head])
    model.compile(SGD(1.0), loss)
    before = model.get_weights()
    reported = model.train_on_batch(x, labels)
    gradients = [a - b for a, b in zip(before, model.get_weights(), strict=True)]
    model.set_weights(before)
    assert model.evaluate(x, labels, verbose=0) == pytest.approx(reported, rel=1e-6)
    # A step along the gradient g changes the loss by |g|^2 per unit to first order. Rounding of float32
    # losses (~1e-7) over steps of 1e-2 |g| leaves about three digits.
    norm = sum(float((g**2).sum()) for g in gradients)
    step = 1e-2
    sides = []
    for sign in (-1, 1):
        model.set_weights([w + sign * step * g for w, g in zip(before, gradients, strict=True)])
        sides.append(model.test_on_batch(x, labels))
    assert (sides[1] - sides[0]) / (2 * step) == pytest.approx(norm, rel=5e-3, abs=1e-5)


def test_saturated_outputs_give_finite_losses_and_gradients() -> None:
    for activation, loss, y in (
        ("sigmoid", "binary_crossentropy", [[0.0, 1.0]]),
        ("softmax", "categorical_crossentropy", [[0.0, 1.0]]),
    ):
        model = Sequential(
            [Input((1,)), Dense(2, activation, kernel_initializer=lambda shape: np.array([[500.0, -500.0]]))]
        )
        model.compile("sgd", loss)
        value = model.train_on_batch([[1.0]], y)
        assert value in (500.0, 1000.0)
        assert all(np.isfinite(w).all() for w in model.get_weights())


def test_a_frozen_layer_keeps_its_weights() -> None:
    x, y = data()
    model = sentiment()
    model.build((None, 6))
    model.layers[0].trainable = False
    before = model.get_weights()
    model.fit(x, y, epochs=2, verbose=0)
    after = model.get_weights()
    np.testing.assert_array_equal(before[0], after[0])
    assert not np.array_equal(before[1], after[1])


def test_a_model_without_trainable_weights_warns_and_reports() -> None:
    x, y = data()
    model = sentiment()
    model.trainable = False
    with pytest.warns(UserWarning, match="without trainable weights"):
        history = model.fit(x, y, verbose=0)
    assert history.history["loss"][0] == pytest.approx(model.evaluate(x, y, verbose=0)[0], rel=1e-6)


# --- fit ------------------------------------------------------------------------------------------------


def test_fit_twice_from_one_seed_gives_equal_weights() -> None:
    x, y = data()
    models = []
    for _ in range(2):
        set_random_seed(5)
        model = Sequential([Embedding(30, 4), Dropout(0.3), LSTM(5), Dense(1, activation="sigmoid")])
        model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
        model.fit(x, y, batch_size=3, epochs=3, verbose=0)
        models.append(model)
    assert weights_equal(*models)
    assert models[0].history is not None
    assert models[1].history is not None
    assert models[0].history.history == models[1].history.history


def test_history_and_epochs() -> None:
    x, y = data()
    model = sentiment()
    history = model.fit(x, y, epochs=5, initial_epoch=2, verbose=0)
    assert history is model.history
    assert history.epoch == [2, 3, 4]
    assert {name: len(v) for name, v in history.history.items()} == {"loss": 3, "accuracy": 3}
    assert history.params == {"verbose": 0, "epochs": 5, "steps": 1}
    assert all(isinstance(v, float) for v in history.history["loss"])


def test_reported_loss_is_the_mean_over_rows() -> None:
    x, y = data(10)
    model = sentiment()
    model.build((None, 6))
    model.trainable = False
    parts = [model.test_on_batch(x[i : i + 4], y[i : i + 4])[0] * len(x[i : i + 4]) for i in (0, 4, 8)]
    assert model.evaluate(x, y, batch_size=4, verbose=0)[0] == pytest.approx(sum(parts) / 10, rel=1e-12)
    assert model.evaluate(x, y, batch_size=10, verbose=0)[0] == pytest.approx(sum(parts) / 10, rel=1e-6)


def test_shuffle_changes_the_order_every_epoch_and_false_does_not() -> None:
    x = np.arange(12.0)[:, None]
    for shuffle, batch_size in ((False, 1), (True, 1), (True, 5), ("batch", 4)):
        seen: list[list[float]] = []

        class Spy(Dense):
            def forward_logits(self, inputs: Any, ctx: Any, seen: Any = seen) -> Any:
                seen[-1] += inputs.numpy()[:, 0].tolist()
                return super().forward_logits(inputs, ctx)

        class NewEpoch(Callback):
            def on_epoch_begin(self, epoch: int, logs: Any = None, seen: Any = seen) -> None:
                seen.append([])

        model = Sequential([Spy(1)])
        model.compile("sgd", "mse")
        model.fit(
            x, x / 100, batch_size=batch_size, epochs=3, shuffle=shuffle, verbose=0, callbacks=[NewEpoch()]
        )
        assert all(sorted(epoch) == list(range(12)) for epoch in seen)
        if shuffle is False:
            assert all(epoch == list(range(12)) for epoch in seen)
        else:
            assert seen[0] != seen[1]
        if shuffle == "batch":
            assert all(sorted(epoch[:4]) == [0, 1, 2, 3] for epoch in seen)


def test_validation_split_takes_the_last_rows() -> None:
    x, y = data(20)
    split, given = sentiment(), sentiment()
    for model in (split, given):
        model.build((None, 6))
    given.set_weights(split.get_weights())
    a = split.fit(x, y, epochs=2, shuffle=False, validation_split=0.25, verbose=0).history
    b = given.fit(
        x[:15], y[:15], epochs=2, shuffle=False, validation_data=(x[15:], y[15:]), verbose=0
    ).history
    assert a == b
    assert list(a) == ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert a["val_loss"][1] == pytest.approx(split.evaluate(x[15:], y[15:], verbose=0)[0], rel=1e-6)


@pytest.mark.parametrize(("frequency", "times"), [(2, 2), ([1, 5], 2), (1, 5), (7, 0)])
def test_validation_frequency(frequency: Any, times: int) -> None:
    x, y = data()
    history = sentiment().fit(x, y, epochs=5, validation_data=(x, y), validation_freq=frequency, verbose=0)
    assert len(history.history.get("val_loss", [])) == times


def test_early_stopping_restores_the_best_weights() -> None:
    x, y = data()
    model = sentiment()
    stop = EarlyStopping(monitor="loss", min_delta=10.0, patience=2, restore_best_weights=True)
    history = model.fit(x, y, epochs=50, callbacks=[stop], verbose=0)
    assert history.epoch == [0, 1, 2]


def test_callbacks_see_every_hook_in_order() -> None:
    calls: list[str] = []

    class Spy(Callback):
        def __getattribute__(self, name: str) -> Any:
            if name.startswith("on_") and not name.startswith("on_batch"):
                calls.append(name)
            return super().__getattribute__(name)

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            calls.append("train_batch_begin")

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            assert set(logs) == {"loss", "accuracy"}
            calls.append(f"train_batch_end {batch}")

        def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
            assert set(logs) == {"loss", "accuracy"}
            calls.append(f"test_batch_end {batch}")

        def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
            assert logs["outputs"].shape == (10, 1)
            calls.append(f"predict_batch_end {batch}")

    x, y = data(20)
    model = sentiment()
    spy = Spy()
    calls.clear()
    model.fit(x, y, batch_size=10, validation_data=(x, y), callbacks=[spy], verbose=0)
    events = [c for c in calls if "_batch" not in c or not c.startswith("on_")]
    assert events == [
        "on_train_begin", "on_epoch_begin", "train_batch_begin", "train_batch_end 0", "train_batch_begin",
        "train_batch_end 1", "on_test_begin", "test_batch_end 0", "test_batch_end 1", "on_test_end",
        "on_epoch_end", "on_train_end",
    ]  # fmt: skip
    calls.clear()
    model.predict(x, batch_size=10, callbacks=[spy], verbose=0)
    events = [c for c in calls if "_batch" not in c or not c.startswith("on_")]
    assert events == ["on_predict_begin", "predict_batch_end 0", "predict_batch_end 1", "on_predict_end"]
    assert spy.model is model


def test_stop_training_ends_inside_an_epoch() -> None:
    class Stop(Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.model.stop_training = batch == 1

    x, y = data(20)
    model = sentiment()
    history = model.fit(x, y, batch_size=2, epochs=9, callbacks=[Stop()], verbose=0)
    assert history.epoch == [0]
    assert model.optimizer is not None
    assert int(model.optimizer.iterations) == 2


def test_learning_rate_can_be_set_between_batches() -> None:
    class Freeze(Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            self.model.optimizer.learning_rate = 0.0

    x, y = data()
    model = sentiment()
    model.build((None, 6))
    before = model.get_weights()
    model.fit(x, y, callbacks=[Freeze()], verbose=0)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_output_without_terminal_is_a_line_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = data()
    model = sentiment()
    model.fit(x, y, epochs=2)
    out = capsys.readouterr().out
    assert out.startswith("Epoch 1/2\n")
    assert out.count("loss: ") == 2
    assert "\r" not in out
    model.fit(x, y, verbose=0)
    model.predict(x, verbose=0)
    assert capsys.readouterr().out == ""


def test_fit_goes_on_from_the_state_before() -> None:
    x, y = data()
    model = sentiment()
    model.fit(x, y, epochs=2, verbose=0)
    model.fit(x, y, epochs=1, verbose=0)
    assert model.optimizer is not None
    assert int(model.optimizer.iterations) == 3


def test_a_training_at_a_time() -> None:
    x, y = data()
    model = sentiment()
    inside, release = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    class Wait(Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            inside.set()
            release.wait(30)

    thread = threading.Thread(target=lambda: model.fit(x, y, callbacks=[Wait()], verbose=0))
    thread.start()
    assert inside.wait(30)
    for call in (lambda: model.fit(x, y, verbose=0), lambda: model.train_on_batch(x, y)):
        try:
            call()
        except RuntimeError as error:
            errors.append(error)
    assert model.predict(x, verbose=0).shape == (20, 1)
    release.set()
    thread.join(30)
    assert len(errors) == 2
    assert "training already" in str(errors[0])
    model.fit(x, y, verbose=0)
