"""One-file models: what is in the file, what comes back, and training that goes on as if never saved."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_native import layers, losses, metrics, models, optimizers, saving
from lstm_native.callbacks import ModelCheckpoint
from lstm_native.convert import to_keras
from lstm_native.layers import (
    GRU,
    LSTM,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    Input,
    Layer,
    TextVectorization,
    TimeDistributed,
)
from lstm_native.models import Model, Sequential, load_model
from lstm_native.saving import read_safetensors, write_safetensors
from lstm_native.utils import register_serializable, set_random_seed

ROWS, STEPS, IDS, BATCH = 24, 6, 20, 8


def data() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    x = rng.integers(0, IDS, (ROWS, STEPS))
    return x, (x.sum(axis=1) % 2).astype(np.float32)


def lstm() -> Any:
    return [LSTM(5, dropout=0.2, recurrent_dropout=0.1), Dropout(0.3)]


def gru() -> Any:
    return [GRU(5, dropout=0.2, seed=3), Dropout(0.3, seed=7)]


def both_ways() -> Any:
    return [Bidirectional(LSTM(4, return_sequences=True, dropout=0.1)), GRU(3)]


def stack() -> Any:
    return [layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)], return_sequences=True), LSTM(3)]


def normalized() -> Any:
    return [
        TimeDistributed(Dense(4, activation="relu", kernel_regularizer="l2")),
        layers.LayerNormalization(),
        layers.SimpleRNN(3, kernel_constraint="max_norm"),
    ]


def sequential(inner: Callable[[], Any] = lstm, optimizer: Any = "adam", **options: Any) -> Sequential:
    set_random_seed(4)
    model = Sequential(
        [
            Input((None,), **options),
            Embedding(IDS, 4, mask_zero=True),
            *inner(),
            Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(optimizer, "binary_crossentropy", metrics=["accuracy", metrics.AUC(num_thresholds=50)])
    return model


def fit(model: Any, epochs: int) -> Any:
    x, y = data()
    return model.fit(x, y, BATCH, epochs=epochs, verbose=0, shuffle=False)


def same(a: Any, b: Any) -> bool:
    """Whether weights and optimizer are equal, bit for bit."""
    pairs = [
        *zip(a.get_weights(), b.get_weights(), strict=True),
        *zip(a.optimizer.variables, b.optimizer.variables, strict=True),
    ]
    return all(np.array_equal(np.asarray(x), np.asarray(y)) for x, y in pairs)


def through_a_file(model: Any, folder: Path, custom_objects: Any = None, **options: Any) -> Any:
    """The model saved and loaded; random numbers of the package differ, as in another process."""
    path = folder / "model.safetensors"
    model.save(path, **options)
    set_random_seed(99)
    return load_model(path, custom_objects)


SCHEDULE = optimizers.schedules.ExponentialDecay(0.05, 3, 0.8)


@pytest.mark.parametrize("inner", [lstm, gru, both_ways, stack, normalized])
@pytest.mark.parametrize(
    "optimizer",
    [
        optimizers.Adam(0.02, amsgrad=True),
        optimizers.AdamW(0.02, weight_decay=0.1),
        optimizers.SGD(0.1, momentum=0.9, nesterov=True, clipnorm=0.5),
        optimizers.RMSprop(SCHEDULE, momentum=0.5, centered=True),
        optimizers.Adam(use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=2),
        optimizers.SGD(0.1, gradient_accumulation_steps=2),
    ],
    ids=lambda optimizer: optimizer.name,
)
def test_training_goes_on(tmp_path: Path, inner: Callable[[], Any], optimizer: Any) -> None:
    def make() -> Sequential:
        return sequential(inner, type(optimizer).from_config(optimizer.get_config()))

    whole, first = make(), make()
    fit(first, 2)
    second = through_a_file(first, tmp_path)
    assert second is not first
    assert same(first, second)
    # EMA puts the means in the place of the weights when a fit ends, so the other one has two fits too.
    histories = [(fit(whole, 2), fit(whole, 2))[1], fit(second, 2)]
    assert same(whole, second)
    assert histories[0].history == histories[1].history


def test_states_go_on_where_they_are_asked_for(tmp_path: Path) -> None:
    def inner() -> Any:
        return [LSTM(4, stateful=True, return_sequences=True), GRU(3, stateful=True)]

    whole = sequential(inner, batch_size=BATCH)
    first = sequential(inner, batch_size=BATCH)
    fit(first, 1)
    without = through_a_file(first, tmp_path)
    assert without.layers[1].states is None
    second = through_a_file(first, tmp_path, include_state=True)
    fit(whole, 1)
    for a, b in zip(whole.layers[1].states, second.layers[1].states, strict=True):
        np.testing.assert_array_equal(a, b)
    fit(whole, 1)
    fit(second, 1)
    fit(without, 1)
    assert same(whole, second)
    assert not same(whole, without)


def test_history_where_it_is_asked_for(tmp_path: Path) -> None:
    model = sequential()
    fit(model, 3)
    model.history.history["loss"][1] = float("nan")
    assert through_a_file(model, tmp_path).history is None
    history = through_a_file(model, tmp_path, include_history=True).history
    assert history.epoch == [0, 1, 2]
    assert repr(history.history) == repr(model.history.history)
    model.history.history["words"] = ["a", "b", "c"]
    with pytest.raises(ValueError, match="history of 'words' holds other values"):
        model.save(tmp_path / "x.safetensors", include_history=True)


def test_the_file_can_be_read_by_others(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    model = sequential()
    fit(model, 1)
    path = tmp_path / "model.safetensors"
    model.save(path, include_history=True)
    with safetensors.safe_open(path, "np") as file:
        metadata = file.metadata()
        named = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert metadata["format"] == "lstm_native.model"
    assert metadata["format_version"] == "1"
    config = json.loads(metadata["config"])
    assert [layer["class_name"] for layer in config["config"]["layers"]] == [
        "InputLayer", "Embedding", "LSTM", "Dropout", "Dense",
    ]  # fmt: skip
    assert json.loads(metadata["compile"])["loss"] == "binary_crossentropy"
    for name, variable in model.named_variables().items():
        np.testing.assert_array_equal(named[name], variable.numpy())
    ours, _ = read_safetensors(path)
    assert ours.keys() == named.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(named[name], array)


def test_files_of_others_can_be_read(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    tensors = {
        f"{dtype}/{shape}": np.asarray(rng.normal(size=shape) * 9).astype(dtype)
        for dtype in ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?")
        for shape in ((), (0,), (3,), (2, 3))
    }
    save_file(tensors, tmp_path / "x.safetensors", {"a": "ü"})
    read, metadata = read_safetensors(tmp_path / "x.safetensors")
    assert metadata == {"a": "ü"}
    assert read.keys() == tensors.keys()
    for name, array in tensors.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def test_functional_models(tmp_path: Path) -> None:
    ids, query = Input((STEPS,), dtype="int32", name="ids"), Input((STEPS, 4), name="query")
    embedded = Embedding(IDS, 4, mask_zero=True)(ids)
    shared = LSTM(4, return_sequences=True, return_state=True)
    first, h, c = shared(embedded)
    second, _, _ = shared(query, initial_state=[h, c])
    nested = Sequential([Input((STEPS, 4)), Bidirectional(GRU(2))], name="nested")
    head = Dense(3, activation="softmax", name="classes")(nested(layers.Attention()([second, first])))
    model = Model({"ids": ids, "query": query}, [head, Dense(1, name="value")(h)])
    model.compile(
        "adam",
        ["sparse_categorical_crossentropy", losses.Huber(0.5)],
        loss_weights=[1.0, 0.3],
        metrics=[["accuracy"], None],
    )
    rng = np.random.default_rng(0)
    x = {"ids": rng.integers(0, IDS, (ROWS, STEPS)), "query": rng.normal(size=(ROWS, STEPS, 4))}
    y = [rng.integers(0, 3, (ROWS,)), rng.normal(size=(ROWS, 1))]
    model.fit(x, y, BATCH, epochs=1, verbose=0, shuffle=False)
    loaded = through_a_file(model, tmp_path)
    for a, b in zip(model.predict(x, verbose=0), loaded.predict(x, verbose=0), strict=True):
        np.testing.assert_array_equal(a, b)
    assert loaded.count_params() == model.count_params()
    histories = [m.fit(x, y, BATCH, epochs=2, verbose=0, shuffle=False).history for m in (model, loaded)]
    assert histories[0] == histories[1]
    assert same(model, loaded)


def test_branches_keep_their_weights(tmp_path: Path) -> None:
    # The calls of the second branch come first, and those of the two take turns in the file.
    a = Input((4,))
    r = Dense(4, name="r")(a)
    p = Dense(4, name="p")(a)
    q = Dense(4, name="q")(p)
    s = Dense(4, name="s")(r)
    model = Model(a, [q, layers.Attention()([layers.RepeatVector(2)(s), layers.RepeatVector(3)(p)])])
    loaded = through_a_file(model, tmp_path)
    for name in "pqrs":
        for u, v in zip(
            model.get_layer(name).get_weights(), loaded.get_layer(name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(u, v)
    twin = Model.from_config(model.get_config())
    twin.load_weights(tmp_path / "model.safetensors")
    for u, v in zip(model(np.ones((2, 4))), twin(np.ones((2, 4))), strict=True):
        np.testing.assert_array_equal(u, v)


def test_frozen_layers_stay_frozen(tmp_path: Path) -> None:
    model = sequential(both_ways)
    model.layers[0].trainable = False
    model.layers[1].backward_layer.trainable = False
    fit(model, 1)
    loaded = through_a_file(model, tmp_path)
    assert len(loaded.trainable_variables) == len(model.trainable_variables) < len(model.variables)
    fit(model, 1)
    fit(loaded, 1)
    assert same(model, loaded)


def test_what_is_frozen_after_compile_keeps_its_slots(tmp_path: Path) -> None:
    model = sequential()
    fit(model, 1)
    model.layers[1].trainable = False
    loaded = through_a_file(model, tmp_path)
    for one in (model, loaded):
        fit(one, 1)
        one.layers[1].trainable = True
        fit(one, 1)
    assert same(model, loaded)


def test_weights_without_decay(tmp_path: Path) -> None:
    optimizer = optimizers.AdamW(0.02, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    model = sequential(optimizer=optimizer)
    early = through_a_file(model, tmp_path)
    fit(model, 1)
    fit(early, 1)
    assert same(model, early)
    loaded = through_a_file(model, tmp_path)
    fit(model, 1)
    fit(loaded, 1)
    assert same(model, loaded)


def test_vocabulary_and_texts(tmp_path: Path) -> None:
    texts = np.array(["the cat sat", "the dog sat down", "no cat", "a dog"])
    vectorization = TextVectorization(max_tokens=9, output_sequence_length=5)
    vectorization.adapt(texts)
    model = Sequential([vectorization, Embedding(9, 3, mask_zero=True), LSTM(4), Dense(1)])
    model.compile("adam", "mse")
    model.fit(texts, np.arange(4.0), epochs=1, verbose=0)
    loaded = through_a_file(model, tmp_path)
    assert loaded.layers[0].get_vocabulary() == vectorization.get_vocabulary()
    np.testing.assert_array_equal(model.predict(texts, verbose=0), loaded.predict(texts, verbose=0))


class Doubled(Layer):
    """A layer of the caller, with an argument of its own."""

    def __init__(self, factor: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, input_shape: Any) -> None:
        self.shift = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="shift")

    def call(self, inputs: Any) -> Any:
        return inputs * self.factor + self.shift.numpy()

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


@register_serializable("tests")
class Tripled(Doubled):
    """One that is registered."""


def distance(y_true: Any, y_pred: Any) -> Any:
    return np.abs(y_true - y_pred).mean(axis=-1)


def test_layers_of_the_caller(tmp_path: Path) -> None:
    model = Sequential([Input((3,)), Doubled(1.5), Tripled(2.5), Dense(2)])
    x = np.random.default_rng(0).normal(size=(4, 3))
    with pytest.raises(ValueError, match=r"model\.safetensors.*unknown class 'Doubled'"):
        through_a_file(model, tmp_path)
    loaded = through_a_file(model, tmp_path, {"Doubled": Doubled})
    assert type(loaded.layers[0]) is Doubled
    assert loaded.layers[1].factor == 2.5
    np.testing.assert_array_equal(model(x), loaded(x))


def test_functions_of_the_caller(tmp_path: Path) -> None:
    model = Sequential([Input((3,)), Dense(2)])
    model.compile("sgd", "mse", metrics=[distance])
    with pytest.raises(ValueError, match=r"what compile\(\) was given: .*'distance'"):
        through_a_file(model, tmp_path)
    assert load_model(tmp_path / "model.safetensors", compile=False).optimizer is None
    loaded = through_a_file(model, tmp_path, {"distance": distance})
    x, y = np.ones((4, 3)), np.zeros((4, 2))
    assert model.evaluate(x, y, verbose=0) == loaded.evaluate(x, y, verbose=0)
    model.compile("sgd", "mse", metrics=[lambda y_true, y_pred: y_pred])
    with pytest.raises(TypeError, match="include_optimizer=False"):
        model.save(tmp_path / "model.safetensors")
    assert not through_a_file(model, tmp_path, include_optimizer=False).compiled


def test_a_file_of_a_model_is_one_of_weights_too(tmp_path: Path) -> None:
    model, other = sequential(), sequential()
    fit(model, 1)
    model.save(tmp_path / "m.safetensors", include_state=True, include_history=True)
    other.load_weights(tmp_path / "m.safetensors")
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    model.save_weights(tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="weights alone"):
        load_model(tmp_path / "w.safetensors")


def test_names_of_files(tmp_path: Path) -> None:
    model = Sequential([Input((3,)), Dense(2)])
    for name in ("m.zip", "m.pt", "m", "m.safetensors.bak"):
        with pytest.raises(ValueError, match=r"in no known suffix, expected \.keras or .* \.safetensors"):
            model.save(tmp_path / name)
    path = tmp_path / "M.SafeTensors"
    model.save(str(path))
    with pytest.raises(FileExistsError, match="overwrite=False"):
        model.save(path, overwrite=False)
    path.rename(tmp_path / "any name")
    assert isinstance(saving.load_model(os.fsencode(tmp_path / "any name")), Sequential)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        load_model(path)
    with pytest.raises(ValueError, match="before it is built"):
        Sequential([Dense(2)]).save(path)
    assert os.listdir(tmp_path) == ["any name"]


def test_other_formats_find_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(saving.models, "_formats", list(saving.models._formats))
    saving.add_format(
        saving.Format((".zip",), b"PK\3\4", lambda *a: seen.append(a), lambda *a: seen.append(a) or "loaded")
    )
    model = Sequential([Input((3,)), Dense(2)])
    model.save(tmp_path / "m.zip")
    assert seen == [(model, tmp_path / "m.zip", True, False, False)]
    (tmp_path / "m.zip").write_bytes(b"PK\3\4" + b"\0" * 9)
    assert load_model(tmp_path / "m.zip") == "loaded"
    model.save(tmp_path / "m.safetensors")
    assert isinstance(load_model(tmp_path / "m.safetensors"), Sequential)


def test_models_save_model_and_checkpoints(tmp_path: Path) -> None:
    model = sequential()
    x, y = data()
    path = tmp_path / "deep" / "{epoch}.keras"  # a name from a script for Keras
    model.fit(x, y, BATCH, epochs=2, verbose=0, shuffle=False, callbacks=[ModelCheckpoint(path)])
    models.save_model(model, tmp_path / "m.safetensors")
    for last in (tmp_path / "deep" / "2.keras", tmp_path / "m.safetensors"):
        loaded = load_model(last)
        assert same(model, loaded)
    first = load_model(tmp_path / "deep" / "1.keras")
    fit(first, 1)
    assert same(model, first)


def test_a_frozen_model_without_optimizer(tmp_path: Path) -> None:
    model = sequential()
    model.trainable = False
    loaded = through_a_file(model, tmp_path, include_optimizer=False)
    assert loaded.trainable is False
    assert loaded.trainable_variables == []


def test_weights_are_made_without_their_initializers(tmp_path: Path) -> None:
    calls = []

    @register_serializable("tests", "counting")
    def counting(shape: Any, dtype: Any = None) -> Any:
        calls.append(shape)
        return np.ones(shape, np.float32)

    model = Sequential([Input((3,)), Dense(2, kernel_initializer=counting)])
    assert calls == [(3, 2)]
    loaded = through_a_file(model, tmp_path)
    assert calls == [(3, 2)]
    np.testing.assert_array_equal(loaded.get_weights()[0], np.ones((3, 2)))


# --- names of files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [None, 3, ["a"], b"a\0b.safetensors", "a\0b.safetensors"])
def test_what_is_no_name_of_a_file(path: Any) -> None:
    model = Sequential([Input((3,)), Dense(2)])
    kind = TypeError if not isinstance(path, str | bytes) else ValueError
    for call, name in (
        (model.save, "save: filepath"),
        (model.save_weights, "save_weights: filepath"),
        (model.load_weights, "load_weights: filepath"),
        (load_model, "load_model: filepath"),
        (lambda p: to_keras(model, p), "to_keras: path"),
        (read_safetensors, "read_safetensors: path"),
        (lambda p: write_safetensors(p, {}), "write_safetensors: path"),
    ):
        with pytest.raises(kind, match=f"{name} (is a|has a null byte).*expected the path of a file"):
            call(path)


@pytest.mark.parametrize("name", ["w.safetensors", "w.weights.h5", "w.h5", "w"])
@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
def test_weights_in_files_of_every_name(name: str, kind: Any, tmp_path: Path) -> None:
    def make() -> Sequential:
        return Sequential([Input((5, 3)), Bidirectional(LSTM(4)), Dense(1)])

    model, other = make(), make()
    path = kind(str(tmp_path / name))
    model.save_weights(path)
    is_hdf5 = (tmp_path / name).read_bytes().startswith(b"\x89HDF")
    assert is_hdf5 == name.endswith(".h5")
    with pytest.raises(FileExistsError):
        model.save_weights(path, overwrite=False)
    other.load_weights(path)
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".weights.h5"])
def test_weights_of_a_file_of_keras(suffix: str, tmp_path: Path) -> None:
    model, other = (Sequential([Input((3,)), Dense(2)]) for _ in range(2))
    to_keras(model, tmp_path / f"m{suffix}", check=False)
    other.load_weights(tmp_path / f"m{suffix}")
    np.testing.assert_array_equal(other.get_weights()[0], model.get_weights()[0])
    narrow = Sequential([Input((3,)), Dense(1)])
    before = narrow.get_weights()
    with pytest.raises(ValueError, match=f"m{suffix}: the weights: .* has shape"):
        narrow.load_weights(tmp_path / f"m{suffix}")
    np.testing.assert_array_equal(narrow.get_weights()[0], before[0])


def test_custom_objects_that_are_none_are_the_callers_mistake(tmp_path: Path) -> None:
    Sequential([Input((3,)), Dense(2)]).save(tmp_path / "m.safetensors")
    for wrong in ([1], {"A": 3}):
        with pytest.raises(TypeError, match=r"^custom_objects is .* expected a dict of classes"):
            load_model(tmp_path / "m.safetensors", custom_objects=wrong)  # type: ignore[arg-type]
