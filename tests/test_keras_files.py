"""Models from Keras and to it: files that real Keras made, files that we make, and HDF5 itself."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hostile_keras import archive, changed, layer, layers_of
from lstm_native import activations, load_model, models, optimizers
from lstm_native.convert import Conversion, from_keras, to_keras
from lstm_native.convert.keras_config import KerasConfig
from lstm_native.convert.keras_hdf5 import read_hdf5
from lstm_native.convert.keras_hdf5_writer import NewGroup, write_hdf5
from lstm_native.layers import (
    GRU,
    LSTM,
    RNN,
    AdditiveAttention,
    Attention,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAveragePooling1D,
    GRUCell,
    Input,
    Layer,
    LayerNormalization,
    LSTMCell,
    SimpleRNN,
    TextVectorization,
    TimeDistributed,
)
from lstm_native.models import Model, Sequential
from lstm_native.utils import set_random_seed

DATA = Path(__file__).parent / "data" / "keras"
LABELS = np.array([[0.0], [1.0], [1.0], [0.0]])
WHOLE = [
    f"{version}_{what}{suffix}"
    for version in ("keras2", "keras3")
    for what in ("sequential", "cells", "functional")
    for suffix in (".keras", ".h5")
]
# Both compute in float32; values are below 4, sums have up to 30 terms.
TOLERANCE = 2e-6


@pytest.fixture(autouse=True)
def _without_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Keras is installed, models would be run beside it: test_keras_live.py does that."""
    for package in ("keras", "tf_keras"):
        monkeypatch.setitem(sys.modules, package, None)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of real Keras."""
    folder = tmp_path_factory.mktemp("keras")
    with zipfile.ZipFile(DATA / "models.zip") as file:
        file.extractall(folder)
    return folder


def expected(folder: Path, name: str) -> tuple[list[Any], list[Any]]:
    """Inputs and outputs of a model."""
    with np.load(folder / "expected.npz") as file:
        inputs = [file[key] for key in sorted(file) if key.startswith(f"{name}/in")]
        return inputs, [file[key] for key in sorted(file) if key.startswith(f"{name}/out")]


def outputs_of(model: Any, inputs: list[Any]) -> list[Any]:
    found = model.predict(inputs[0] if len(inputs) == 1 else inputs, verbose=0)
    return found if isinstance(found, list) else [found]


def check(model: Any, folder: Path, name: str, tolerance: float = TOLERANCE) -> None:
    inputs, outputs = expected(folder, name)
    for wanted, found in zip(outputs, outputs_of(model, inputs), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)


# --- files of real Keras ----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:GlobalMaxPooling1D")  # has no use for a mask, in Keras neither
@pytest.mark.parametrize("name", [*WHOLE, "keras2_cudnn.h5"])
def test_whole_models(name: str, made: Path) -> None:
    model = from_keras(made / name)
    check(model, made, name.partition(".")[0])
    assert model.conversion.source == "Keras"
    notes = str(model.conversion)
    assert ("clip(0.2 x + 0.5, 0, 1)" in notes) == name.startswith("keras2_sequential")
    assert ("CuDNNLSTM is LSTM here" in notes) == ("cudnn" in name)
    assert model.compiled == ("sequential" in name)


@pytest.mark.parametrize("name", [f"{v}_trained{s}" for v in ("keras2", "keras3") for s in (".keras", ".h5")])
def test_training_goes_on(name: str, made: Path) -> None:
    model = from_keras(made / name)
    assert int(model.optimizer.iterations) == 2
    assert float(np.float32(model.optimizer.learning_rate)) == np.float32(0.01)
    inputs, _ = expected(made, name.partition(".")[0])
    model.fit(inputs[0], LABELS, verbose=0, shuffle=False)
    # A step of Adam moves weights by up to 0.01 whatever the gradient's size: small ones magnify roundings.
    check(model, made, name.partition(".")[0], 1e-5)


def test_optimizer_is_left_out_on_request(made: Path) -> None:
    assert not from_keras(made / "keras3_trained.keras", compile=False).compiled


@pytest.mark.parametrize("name", ["keras2_sequential.weights.h5", "keras2_sequential_old.h5"])
def test_weights_alone(name: str, made: Path) -> None:
    model = from_keras(made / "keras2_sequential.h5")
    model.set_weights([np.zeros_like(w) for w in model.get_weights()])
    assert from_keras(made / name, model=model) is model
    check(model, made, "keras2_sequential")
    with pytest.raises(ValueError, match="this file holds weights alone, pass the model"):
        from_keras(made / name)
    other = Sequential([Input((3,)), Dense(2)])
    before = other.get_weights()
    with pytest.raises(ValueError, match=name):
        from_keras(made / name, model=other)
    np.testing.assert_array_equal(before[0], other.get_weights()[0])
    with pytest.raises(ValueError, match="before it is built"):
        from_keras(made / name, model=Sequential([Dense(2)]))
    with pytest.raises(ValueError, match="leave model out"):
        from_keras(made / "keras2_sequential.h5", model=other)


def test_load_model_reads_them_whatever_they_are_called(made: Path, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes((made / "keras3_sequential.keras").read_bytes())
    check(load_model(tmp_path / "model"), made, "keras3_sequential")
    check(models.load_model(made / "keras2_functional.h5", compile=False), made, "keras2_functional")


def test_what_is_no_model() -> None:
    with pytest.raises(TypeError, match="got a int, expected the path of a file or a model of Keras"):
        from_keras(3)
    with pytest.raises(TypeError, match="is no model of keras or tf_keras"):
        from_keras(Sequential([Dense(2)]))
    with pytest.raises(IsADirectoryError, match="SavedModel"):
        from_keras(os.curdir)
    with pytest.raises(FileNotFoundError):
        from_keras("not there.keras")


# --- what cannot be converted, and what changes -------------------------------------------------------


def parts(*layers: Any) -> bytes:
    """A file whose model has these layers."""
    return archive(changed(lambda c: c["config"].update(layers=list(layers))))


START = layer("InputLayer", batch_shape=[None, None, 3])


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (layer("Conv2D", filters=2), "Conv2D 'conv2d' has no counterpart here"),
        (layer("Lstm", units=2), r"Lstm 'lstm' has no counterpart here \(did you mean LSTM\?\)"),
        (layer("LSTM", units=2, time_major=True), "LSTM 'lstm': time_major=True has no counterpart here"),
        (layer("LSTM", units=2, activation={"class_name": "LeakyReLU"}), "activation is a LeakyReLU"),
        (layer("Dense", units=2, bias_regularizer={"class_name": "Mine"}), "bias_regularizer is a Mine"),
        (layer("TextVectorization", max_tokens=9), "has its vocabulary in another part of the file"),
        (layer("TimeDistributed", layer=layer("Conv2D")), "Conv2D 'conv2d' has no counterpart here"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_named(one: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    path.write_bytes(parts(START, one))
    with pytest.raises(ValueError, match=message):
        from_keras(path)


def test_conventions_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    policy = {"class_name": "DTypePolicy", "config": {"name": "mixed_bfloat16"}}
    strange = {"class_name": "Strange", "config": {}}
    first = layer("InputLayer", batch_shape=[None, 3], sparse=False)
    path.write_bytes(
        parts(
            first, layer("Dense", units=2, dtype=policy, bias_initializer=strange), layer("Softmax", axis=-1)
        )
    )
    model = from_keras(path)
    assert model.conversion.notes == [
        "Dense 'dense' computes in 'mixed_bfloat16' in Keras, in float32 here",
        "Dense 'dense': bias_initializer: start values of Strange, which is not known, became default ones",
        "Softmax is Activation here, of the last axis",
    ]
    np.testing.assert_allclose(model.predict(np.ones((1, 3)), verbose=0).sum(), 1, rtol=1e-6)
    assert "not run beside the original: keras is not installed" in str(model.conversion)


def test_an_unknown_optimizer_is_a_note(tmp_path: Path) -> None:
    optimizer = {"module": "keras.optimizers", "class_name": "Lion", "config": {}}
    path = tmp_path / "m.keras"
    found = changed(lambda c: c.update(compile_config={"optimizer": optimizer, "loss": "mse"}))
    path.write_bytes(archive(found))
    model = from_keras(path)
    assert not model.compiled
    assert "what compile() was given is not taken over" in str(model.conversion)
    assert "Lion" in str(model.conversion)


def test_the_gates_of_old_gru_layers() -> None:
    found = [KerasConfig(v, Conversion("a", "b")).model(small(layer("GRU", units=2))) for v in (2, 3)]
    assert layers_of(found[0])[0]["config"]["reset_after"] is False
    assert "reset_after" not in layers_of(found[1])[0]["config"]


def small(*layers: Any) -> dict[str, Any]:
    return {"class_name": "Sequential", "config": list(layers)}  # a list, as before Keras 2.2.3


def value(name: str, output: int = 0) -> dict[str, Any]:
    return {"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, output]}}


def called(one: dict[str, Any], name: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """A layer of a functional model with a call."""
    one["config"]["name"] = name
    return {**one, "name": name, "inbound_nodes": [{"args": list(args), "kwargs": kwargs}]}


def with_masks(*layers: Any) -> dict[str, Any]:
    """A functional model with ids, their Embedding, and its mask as Keras 3 writes it down."""
    start = {**layer("InputLayer", batch_shape=[None, None]), "name": "ids", "inbound_nodes": []}
    start["config"]["name"] = "ids"
    table = called(layer("Embedding", input_dim=9, output_dim=3, mask_zero=True), "table", value("ids"))
    operation = called({"class_name": "NotEqual", "config": {}}, "mask", value("ids"), 0)
    config = {
        "layers": [start, operation, table, *layers],
        "input_layers": ["ids", 0, 0],
        "output_layers": ["lstm", 0, 0],
    }
    return {"class_name": "Functional", "config": config}


def ours(config: Any, version: int = 3) -> Any:
    return KerasConfig(version, Conversion("a", "b")).model(config)


def test_masks_that_come_by_themselves_are_left_out() -> None:
    lstm = called(layer("LSTM", units=2), "lstm", value("table"), mask=value("mask"), training=False)
    found = layers_of(ours(with_masks(lstm)))
    assert [one["name"] for one in found] == ["ids", "table", "lstm"]
    assert found[-1]["inbound_nodes"][0]["kwargs"] == {}
    model = models.Model.from_config(ours(with_masks(lstm))["config"])
    x = np.array([[3, 4, 0, 0]])
    np.testing.assert_array_equal(model.predict(x, verbose=0), model.predict(x[:, :2], verbose=0))


@pytest.mark.parametrize(
    "lstm",
    [
        # The mask of other ids, beside initial states, of other numbers than 0.
        called(layer("LSTM", units=2), "lstm", value("other"), mask=value("mask")),
        called(layer("LSTM", units=2), "lstm", value("table"), mask=value("mask"), initial_state=value("h")),
        called(layer("LSTM", units=2), "lstm", value("table"), mask=value("ones")),
    ],
)  # fmt: skip
def test_masks_that_do_not_are_refused(lstm: Any) -> None:
    other = called(layer("Embedding", input_dim=9, output_dim=3), "other", value("ids"))
    ones = called({"class_name": "NotEqual", "config": {}}, "ones", value("ids"), 1)
    with pytest.raises(ValueError, match=r"NotEqual '(mask|ones)' has no counterpart here"):
        ours(with_masks(other, ones, lstm))


def test_masks_beside_states_in_keras_2() -> None:
    config = with_masks()
    config["config"]["layers"] = [
        {**one, "inbound_nodes": [[["ids", 0, 0, {}]]] if one["name"] == "table" else []}
        for one in config["config"]["layers"]
        if one["name"] != "mask"
    ]
    first = {**layer("LSTM", units=3, return_state=True, return_sequences=True), "name": "first"}
    last = {**layer("LSTM", units=3), "name": "lstm"}
    first["config"]["name"], last["config"]["name"] = "first", "lstm"
    first["inbound_nodes"] = [[["table", 0, 0, {}]]]
    last["inbound_nodes"] = [[["first", 0, 0, {}], ["first", 0, 1, {}], ["first", 0, 2, {}]]]
    config["config"]["layers"] += [first, last]
    with pytest.raises(
        ValueError, match="is called with initial_state, and in Keras 2 with the mask of 'table'"
    ):
        ours(config, 2)
    config["config"]["layers"][1]["config"]["mask_zero"] = False
    found = layers_of(ours(config, 2))[-1]["inbound_nodes"][0]
    assert found["args"] == [value("first")]
    assert found["kwargs"] == {"initial_state": [value("first", 1), value("first", 2)]}


def test_what_keras_2_gave_to_compile() -> None:
    config = {"reduction": "auto", "name": "huber_loss", "fn": "huber", "delta": 2.0}
    loss = {"class_name": "Huber", "config": config}
    metric = {"class_name": "MeanMetricWrapper", "config": {"name": "accuracy", "fn": "binary_accuracy"}}
    optimizer = {"class_name": "Custom>Adam", "config": {"learning_rate": 0.5, "is_legacy_optimizer": False}}
    given = {"optimizer_config": optimizer, "loss": loss, "metrics": [[metric]], "loss_weights": None}
    model = Sequential([Input((3,)), Dense(1)])
    model.compile_from_config(KerasConfig(2, Conversion("a", "b")).compilation(given))
    assert float(model.optimizer.learning_rate) == 0.5
    assert model.loss.delta == 2.0
    model.fit(np.ones((2, 3)), np.ones((2, 1)), verbose=0)
    assert "accuracy" in model.history.history


# --- our files -----------------------------------------------------------------------------------------


def sequential() -> Sequential:
    model = Sequential(
        [
            Input((None,)),
            Embedding(9, 3, mask_zero=True),
            Bidirectional(LSTM(2, return_sequences=True, dropout=0.2, checkpoint_steps=2)),
            RNN([LSTMCell(2), GRUCell(3)], return_sequences=True, name="cells"),
            TimeDistributed(Dense(2, "softplus")),
            GRU(3, reset_after=False, go_backwards=True, return_sequences=True),
            LayerNormalization(),
            Dropout(0.5),
            SimpleRNN(3, recurrent_dropout=0.1),
            Dense(1, "sigmoid", kernel_regularizer="l2"),
        ]
    )
    model.compile(optimizers.Adam(0.02), "binary_crossentropy", metrics=["accuracy"])
    x = np.random.default_rng(1).integers(0, 9, (4, 5))
    model.fit(x, LABELS, epochs=2, verbose=0)
    return model


def functional() -> Model:
    words, steps = Input((None,), name="words"), Input((4, 2), name="steps")
    encoded, h, c = LSTM(3, return_sequences=True, return_state=True)(Embedding(9, 3)(words))
    decoded = LSTM(3, return_sequences=True)(steps, initial_state=[h, c])
    inside = Input((4, 3))
    inner = Model(inside, Dense(3)(inside), name="inner")
    row = Sequential([Input((4, 3)), Dense(3)], name="row")
    shared = Dense(3, "tanh")
    attended = Attention()([shared(inner(row(inner(decoded)))), shared(encoded)])
    more = AdditiveAttention()([attended, encoded])
    return Model(
        [words, steps], {"a": Dense(1)(GlobalAveragePooling1D()(attended)), "b": Dense(2)(Flatten()(more))}
    )


def data_for(model: Any) -> Any:
    random = np.random.default_rng(2)
    words = random.integers(0, 9, (3, 5))
    return words if isinstance(model, Sequential) else [words, random.normal(size=(3, 4, 2))]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return all(np.array_equal(a[key], b[key]) for key in a | b)
    return np.array_equal(a, b)


@pytest.mark.parametrize("make", [sequential, functional])
@pytest.mark.parametrize("suffix", [".keras", ".h5", ".hdf5"])
def test_there_and_back(make: Any, suffix: str, tmp_path: Path) -> None:
    model = make()
    path = tmp_path / f"m{suffix}"
    record = to_keras(model, path)
    assert (record.source, record.target, record.max_difference) == ("lstm_native", "Keras", None)
    assert any("checkpoint_steps" in note for note in record.notes) == isinstance(model, Sequential)
    again = from_keras(path)
    assert same(model.predict(data_for(model), verbose=0), again.predict(data_for(model), verbose=0))
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    if model.compiled:
        assert again.get_compile_config() == model.get_compile_config()
        for a, b in zip(model.optimizer.variables, again.optimizer.variables, strict=True):
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
        x = np.random.default_rng(1).integers(0, 9, (4, 5))
        for one in (model, again):  # dropout goes on where it stood
            set_random_seed(3)
            one.fit(x, LABELS, verbose=0)
        for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
            # Without checkpoint_steps, which Keras has not, gradients are summed in another order.
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_weights_there_and_back(tmp_path: Path) -> None:
    model = functional()
    weights = model.get_weights()
    to_keras(model, tmp_path / "m.weights.h5")
    model.set_weights([w * 0 for w in weights])
    from_keras(tmp_path / "m.weights.h5", model=model)
    for a, b in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_save_by_suffix(tmp_path: Path) -> None:
    model = sequential()
    model.save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as file:
        assert file.namelist() == ["metadata.json", "config.json", "model.weights.h5"]
        assert json.loads(file.read("config.json"))["compile_config"]["loss"] == "binary_crossentropy"
    model.save(tmp_path / "M.H5", include_optimizer=False)
    for name in ("m.keras", "M.H5"):
        loaded = load_model(tmp_path / name)
        assert same(loaded.predict(data_for(model), verbose=0), model.predict(data_for(model), verbose=0))
    assert not load_model(tmp_path / "M.H5").compiled
    for argument in ("include_state", "include_history"):
        with pytest.raises(ValueError, match=f"{argument} has no place in a file of Keras"):
            model.save(tmp_path / "n.keras", **{argument: True})
    with pytest.raises(ValueError, match="names a file of weights alone"):
        model.save(tmp_path / "n.weights.h5")
    with pytest.raises(FileExistsError):
        model.save(tmp_path / "m.keras", overwrite=False)
    assert sorted(os.listdir(tmp_path)) == ["M.H5", "m.keras"]


class Mine(Layer):
    def call(self, inputs: Any) -> Any:
        return inputs


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (LSTM(2, peepholes=True, name="x"), "LSTM 'x': peepholes=True has no counterpart in Keras"),
        (LSTM(2, projection_units=1, name="x"), "projection_units=1 has no counterpart"),
        (GRU(2, clip=1.0, name="x"), "clip=1.0 has no counterpart"),
        (
            LSTM(2, recurrent_activation=activations.Parametric("hard_sigmoid"), name="x"),
            r"recurrent_activation: activations.Parametric\(function='hard_sigmoid', alpha=0.2, beta=0.5\)",
        ),
        (Mine(name="x"), "Mine 'x' is of a class that Keras does not know"),
    ],
)
def test_what_keras_has_not_is_named(one: Any, message: str, tmp_path: Path) -> None:
    model = Sequential([Input((None, 3)), one])
    with pytest.raises(ValueError, match=message):
        to_keras(model, tmp_path / "m.keras")
    assert os.listdir(tmp_path) == []


def test_texts_stay_here(tmp_path: Path) -> None:
    model = Sequential([TextVectorization(vocabulary=["a", "b"]), Embedding(4, 2)])
    model(np.array(["a b"]))
    with pytest.raises(ValueError, match=r"TextVectorization .* begins with texts"):
        to_keras(model, tmp_path / "m.keras")


def test_arguments_of_to_keras(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in no known suffix, expected one of \.weights\.h5, \.keras"):
        to_keras(Sequential([Input((3,)), Dense(2)]), tmp_path / "m.zip")
    with pytest.raises(ValueError, match="before it is built"):
        to_keras(Sequential([Dense(2)]), tmp_path / "m.keras")
    with pytest.raises(TypeError, match="got a int, expected a model"):
        to_keras(3, tmp_path / "m.keras")  # type: ignore[arg-type]


def test_what_compile_was_given_but_has_no_name_is_a_note(tmp_path: Path) -> None:
    model = Sequential([Input((3,)), Dense(2)])
    model.compile("sgd", lambda a, b: np.zeros(len(a)))
    record = to_keras(model, tmp_path / "m.keras")
    assert "what compile() was given is not written" in str(record)


# --- HDF5 ------------------------------------------------------------------------------------------------


def tree() -> NewGroup:
    root = NewGroup({"text": "hällo", "empty": "", "long": "x" * 200_000, "names": ["a", "bc", ""]})
    random = np.random.default_rng(4)
    group = root.group("a/b/c")
    group.members |= {
        "float": random.normal(size=(2, 3)).astype(np.float32),
        "column first": np.asfortranarray(random.normal(size=(4, 5)).astype(np.float32)),
        "number": np.array(7, np.int64),
        "none": np.zeros((0, 3), np.float32),
        "whole": np.arange(5, dtype=np.uint32),
    }
    many = root.group("many")  # more than two levels of a tree hold with eight to a leaf and 32 to a node
    many.members |= {f"{i}": np.full(2, i, np.float32) for i in range(700)}
    many.attributes["weight_names"] = [str(i) for i in range(2500)]
    root.group("nothing")
    return root


def leaves(group: NewGroup, path: str = "") -> dict[str, Any]:
    found = {}
    for name, member in group.members.items():
        inner = f"{path}/{name}" if path else name
        found |= leaves(member, inner) if isinstance(member, NewGroup) else {inner: member}
    return found


def test_hdf5_there_and_back() -> None:
    root = tree()
    found = read_hdf5(write_hdf5(root), "file")
    stored = {dataset.path: dataset.read() for dataset in found.datasets()}
    assert stored.keys() == leaves(root).keys()
    for path, array in leaves(root).items():
        assert stored[path].dtype == array.dtype
        np.testing.assert_array_equal(stored[path], array)
    assert found.attributes == root.attributes
    many = found.group("many")
    assert many is not None
    assert many.strings("weight_names") == [str(i) for i in range(2500)]


def test_h5py_reads_what_we_write(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    root = tree()
    (tmp_path / "f.h5").write_bytes(write_hdf5(root))
    with h5py.File(tmp_path / "f.h5") as file:
        for path, array in leaves(root).items():
            assert file[path].dtype == array.dtype
            np.testing.assert_array_equal(file[path][()], array)
        assert len(file["many"]) == 700
        assert list(file["nothing"]) == []
        assert {name: file.attrs[name] for name in ("text", "empty", "long")} == {
            name: root.attributes[name] for name in ("text", "empty", "long")
        }
        assert list(file.attrs["names"]) == ["a", "bc", ""]
        assert len(file["many"].attrs["weight_names2"]) == 500
