"""Models on CUDA against the same models on the CPU: predictions, training, files, copies, states."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import lstm_native as ln
from cuda_support import open_for_tests
from lstm_native import layers

Array = npt.NDArray[Any]

# Batches of some steps of Adam: differences of a few units in the last place (6e-8) pass through square roots
# and quotients near zero gradients, so weights may differ by a small part of a step of 1e-3.
TOLERANCE = 2e-5


@pytest.fixture(scope="module", autouse=True)
def device(tmp_path_factory: pytest.TempPathFactory) -> None:
    open_for_tests(tmp_path_factory.mktemp("cuda"))


def ids() -> ln.Model:
    return ln.Sequential(
        [
            ln.Input((9,)),
            ln.Embedding(50, 8, mask_zero=True),
            layers.Bidirectional(ln.LSTM(7, return_sequences=True, dropout=0.2)),
            layers.LayerNormalization(),
            layers.GRU(6, return_sequences=True, recurrent_dropout=0.2),
            layers.GRU(5, reset_after=False, return_sequences=True, activation="relu"),
            layers.SimpleRNN(5),
            ln.Dropout(0.3),
            ln.Dense(4, activation="gelu"),
            ln.Dense(1, activation="sigmoid"),
        ]
    )


def features() -> ln.Model:
    return ln.Sequential(
        [
            ln.Input((9, 3)),
            ln.Masking(),
            ln.LSTM(6, return_sequences=True, checkpoint_steps=3, activity_regularizer="l2"),
            layers.TimeDistributed(ln.Dense(5, activation="tanh", kernel_regularizer="l1_l2")),
            layers.GlobalAveragePooling1D(),
            ln.Dense(1, activation="sigmoid", kernel_constraint="non_neg"),
        ]
    )


def attention() -> ln.Model:
    query = ln.Input((9, 3))
    encoded = ln.LSTM(6, return_sequences=True)(query)
    attended = layers.AdditiveAttention()([encoded, layers.Attention()([encoded, encoded])])
    pooled = layers.GlobalMaxPooling1D()(attended)
    return ln.Model(query, ln.Dense(1, activation="sigmoid")(pooled))


def python_cells() -> ln.Model:
    return ln.Sequential(
        [
            ln.Input((9, 3)),
            layers.RNN([layers.LSTMCell(4), layers.GRUCell(5)]),
            ln.Dense(1, activation="sigmoid"),
        ]
    )


def branches() -> ln.Model:
    """Values that are read several times, and every kind of merging layer."""
    inputs = ln.Input((9, 3))
    x = ln.LSTM(6, return_sequences=True)(ln.Masking()(inputs))
    y = layers.LayerNormalization()(layers.add([x, layers.GRU(6, return_sequences=True)(x)]))
    scores = ln.Activation("softmax")(layers.dot([y, x], axes=2))
    joined = layers.concatenate([layers.dot([scores, x], axes=[2, 1]), y, x])
    small = layers.average([ln.Dense(4)(joined), ln.Dense(4)(x), ln.Dense(1)(y)])
    tops = [layers.GlobalAveragePooling1D()(part) for part in (small, layers.multiply([small, small]))]
    ends = [layers.maximum(tops), layers.minimum(tops), layers.subtract(tops)]
    return ln.Model(inputs, ln.Dense(1, activation="sigmoid")(layers.concatenate(ends)))


def around() -> ln.Model:
    """Layers around the recurrent ones that compute with NumPy, and draw random numbers."""
    return ln.Sequential(
        [
            ln.Input((9, 3)),
            layers.BatchNormalization(),
            layers.GaussianNoise(0.1),
            layers.Conv1D(4, 3, padding="causal", activation="relu"),
            layers.ZeroPadding1D((1, 0)),
            layers.MaxPooling1D(2, strides=1),
            layers.Conv1D(4, 2, padding="same", groups=2, data_format="channels_last"),
            layers.UpSampling1D(2),
            layers.AveragePooling1D(2),
            layers.Permute((2, 1)),
            layers.Reshape((9, -1)),
            layers.SpatialDropout1D(0.2),
            ln.LSTM(6, return_sequences=True),
            layers.TimeDistributed(layers.BatchNormalization(momentum=0.9)),
            layers.GaussianDropout(0.1),
            layers.Flatten(),
            ln.Dense(1, activation="sigmoid"),
        ]
    )


MODELS = [ids, features, attention, python_cells, branches, around]


def both(make: Callable[[], ln.Model], optimizer: str = "adam") -> tuple[ln.Model, ln.Model]:
    """The same model on the CPU and on the device."""
    made = []
    for where in ("cpu", "cuda"):
        ln.utils.set_random_seed(1)
        model = make()
        model.compile(optimizer, "binary_crossentropy", metrics=["accuracy"])
        made.append(model.to(where))
    return made[0], made[1]


def data(make: Callable[[], ln.Model]) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 50, (40, 9)) if make is ids else rng.normal(size=(40, 9, 3)).astype(np.float32)
    if make is features:
        x[::3, 5:] = 0
    return x, rng.integers(0, 2, (40, 1)).astype(np.float32)


def assert_close(a: ln.Model, b: ln.Model) -> None:
    for mine, other in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, atol=TOLERANCE)


@pytest.mark.parametrize("make", MODELS)
def test_predictions_and_training(make: Callable[[], ln.Model]) -> None:
    here, there = both(make)
    x, y = data(make)
    assert (here.device, there.device) == ("cpu", "cuda")
    assert all(v.device == "cuda" for v in there.variables)
    predicted = there.predict(x, verbose=0)
    assert isinstance(predicted, np.ndarray)
    np.testing.assert_allclose(predicted, here.predict(x, verbose=0), atol=1e-6)
    np.testing.assert_allclose(np.asarray(there(x)), np.asarray(here(x)), atol=1e-6)
    weight = np.linspace(0, 1, 40, dtype=np.float32)
    logs = [
        m.fit(x, y, epochs=2, batch_size=8, verbose=0, shuffle=False, sample_weight=weight).history
        for m in (here, there)
    ]
    np.testing.assert_allclose(logs[0]["loss"], logs[1]["loss"], rtol=1e-4)
    assert logs[0]["accuracy"] == logs[1]["accuracy"]
    assert_close(here, there)
    assert all(v.device == "cuda" for v in there.variables)
    np.testing.assert_allclose(there.evaluate(x, y, verbose=0), here.evaluate(x, y, verbose=0), rtol=1e-4)
    # Back, with what the optimizer keeps; and on.
    there.to("cpu")
    assert all(v.device == "cpu" for v in there.variables)
    for m in (here, there):
        m.fit(x, y, epochs=1, batch_size=8, verbose=0, shuffle=False)
    assert_close(here, there)


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adamw"])
def test_optimizers_with_all_options(optimizer: str) -> None:
    def make(kind: Any) -> Any:
        return kind(
            learning_rate=0.01,
            weight_decay=0.01,
            global_clipnorm=0.5,
            use_ema=True,
            ema_momentum=0.5,
            gradient_accumulation_steps=2,
        )

    kinds = {"sgd": ln.SGD, "rmsprop": ln.RMSprop, "adamw": ln.AdamW}
    x, y = data(features)
    trained = []
    for where in ("cpu", "cuda"):
        ln.utils.set_random_seed(1)
        model = features()
        model.compile(make(kinds[optimizer]), "binary_crossentropy")
        trained.append(model.to(where))
        trained[-1].fit(x, y, epochs=2, batch_size=8, verbose=0, shuffle=False)
    assert_close(*trained)


def test_model_that_is_built_later() -> None:
    model = ln.Sequential([ln.LSTM(4), ln.Dense(1)])
    model.to("cuda")
    assert model.device == "cuda"
    model.compile("adam", "mse")
    x, y = np.ones((4, 5, 3), np.float32), np.ones((4, 1), np.float32)
    model.fit(x, y, verbose=0)
    assert all(v.device == "cuda" for v in model.variables)
    assert model.optimizer is not None
    assert {v.device for v in model.optimizer.variables if isinstance(v, ln.Variable)} == {"cuda"}


def test_copies_and_files(tmp_path: Path) -> None:
    here, there = both(ids)
    x, _ = data(ids)
    expected = here.predict(x, verbose=0)
    for twin in (copy.deepcopy(there), pickle.loads(pickle.dumps(there))):
        assert twin.device == "cpu"
        np.testing.assert_allclose(twin.predict(x, verbose=0), expected, atol=1e-6)
    path = tmp_path / "weights.safetensors"
    there.save_weights(path)
    here.set_weights([w * 0 for w in here.get_weights()])
    here.load_weights(path)
    np.testing.assert_allclose(here.predict(x, verbose=0), expected, atol=1e-6)
    there.load_weights(path)
    assert there.device == "cuda"
    np.testing.assert_allclose(there.predict(x, verbose=0), expected, atol=1e-6)


def test_states_and_lists() -> None:
    def stateful() -> ln.Model:
        return ln.Sequential([ln.Input((4, 3), batch_size=2), ln.LSTM(5, stateful=True)])

    here, there = both(stateful)
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    for _ in range(2):
        np.testing.assert_allclose(there.predict(x, verbose=0), here.predict(x, verbose=0), atol=1e-6)
    there.to("cpu")  # the state follows at its next use
    np.testing.assert_allclose(there.predict(x, verbose=0), here.predict(x, verbose=0), atol=1e-6)

    here, there = both(lambda: ln.Sequential([ln.Input((None, 3)), ln.LSTM(5)]))
    ragged = [np.ones((n, 3), np.float32) for n in (3, 1, 0, 4)]
    np.testing.assert_allclose(there.predict(ragged, verbose=0), here.predict(ragged, verbose=0), atol=1e-6)


def test_the_first_gpu_by_its_number() -> None:
    assert both(ids)[1].to("cpu").to("cuda:0").device == "cuda"


def test_wrong_ids() -> None:
    model = both(ids)[1]
    with pytest.raises(ValueError, match=r"input\[0, 0\] is 50, expected an index"):
        model.predict(np.full((2, 9), 50), verbose=0)


def steps_of_ids() -> ln.Model:
    return ln.Sequential(
        [ln.Input((9,)), ln.Embedding(50, 8, mask_zero=True), ln.LSTM(7), ln.Dense(2, activation="softmax")]
    )


def steps_of_features() -> ln.Model:
    return ln.Sequential(
        [
            ln.Input((9, 3)),
            layers.LayerNormalization(),
            ln.Masking(),
            layers.GRU(6, return_sequences=True, zero_output_for_mask=True),
            layers.BatchNormalization(),
            layers.SimpleRNN(5),
        ]
    )


def steps_that_branch() -> ln.Model:
    inputs = ln.Input((9, 3))
    masked = ln.Masking(1.0)(inputs)
    x = layers.GRU(6, return_sequences=True)(masked)
    y = layers.LayerNormalization()(layers.add([x, ln.LSTM(6, return_sequences=True)(x)]))
    joined = layers.concatenate([masked, layers.average([x, y])])
    return ln.Model(inputs, ln.Dense(2)(joined))


def steps_compared() -> ln.Model:
    inputs = ln.Input((9, 3))
    x, y = (layers.GRU(6, return_sequences=True)(inputs) for _ in range(2))
    z = 0.5 * x + 1 - layers.Rescaling([1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 0, 1])(y)
    return ln.Model(inputs, layers.average([layers.maximum([x, y]), layers.minimum([y, z]), z]))


def features_of_a_step(rng: np.random.Generator, step: int) -> Array:
    x = rng.normal(size=(3, 3)).astype(np.float32)
    x[step % 3] = 1  # a constant row, whose normalization is zero, which Masking skips
    return x


@pytest.mark.parametrize("make", [steps_of_ids, steps_of_features, steps_that_branch, steps_compared])
def test_streams(make: Callable[[], ln.Model]) -> None:
    here, there = both(make)
    rng = np.random.default_rng(0)
    streams = [m.stream(batch_size=3) for m in (here, there)]
    for step in range(6):
        x = rng.integers(0, 4, 3) if make is steps_of_ids else features_of_a_step(rng, step)
        expected, got = (s.step(x) for s in streams)
        np.testing.assert_allclose(got, expected, atol=1e-6)
        if step == 2:
            for s in streams:
                s.reset([1])
        if step == 4:
            streams[1].state = streams[0].state
    for a, b in zip(streams[0].state, streams[1].state, strict=True):
        for mine, other in zip(a, b, strict=True):
            np.testing.assert_allclose(mine, other, atol=1e-6)
    streams[1].reset()
    assert all(not part.any() for parts in streams[1].state for part in parts)


def test_streams_stay_where_they_were_made() -> None:
    moved = ln.Sequential([ln.Input((4, 3)), ln.LSTM(5)])
    stream = moved.stream()
    moved.to("cuda")
    with pytest.raises(RuntimeError, match="LSTM: the model has moved to cuda since this stream was made"):
        stream.step(np.ones((1, 3), np.float32))
    moved.to("cpu")
    assert stream.step(np.ones((1, 3), np.float32)).shape == (1, 5)
