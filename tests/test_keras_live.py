"""Beside real Keras, where it is installed: live models, and files that it loads and predicts from."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_native.convert import from_keras, to_keras
from lstm_native.convert.keras_config import KerasConfig
from lstm_native.convert.keras_weights import load_tree
from lstm_native.layers import LSTM, Dense, Input
from lstm_native.models import Sequential
from test_keras_files import DATA, LABELS, WHOLE, data_for, functional, sequential

pytest.importorskip("tensorflow")
keras: Any = pytest.importorskip("keras")
L = keras.layers
TF_KERAS = importlib.util.find_spec("tf_keras") is not None

pytestmark = pytest.mark.filterwarnings("ignore")  # those of TensorFlow and NumPy among themselves


def live() -> list[Any]:
    """Models with every layer that both have."""
    words, numbers = L.Input((None,)), L.Input((6, 3))
    embedded = L.Embedding(11, 4, mask_zero=True)(words)
    both, *states = L.Bidirectional(L.GRU(3, return_sequences=True, return_state=True))(embedded)
    again = L.Bidirectional(L.GRU(3, return_sequences=True), merge_mode="ave")(numbers, initial_state=states)
    attended = L.AdditiveAttention()([again, L.Dense(3)(both)])
    wide = keras.Model([words, numbers], [attended, L.GlobalAveragePooling1D()(both)])
    deep = keras.Sequential(
        [
            L.Input((5, 3), batch_size=4),
            L.LSTM(
                4,
                stateful=True,
                return_sequences=True,
                activation="relu",
                recurrent_activation="hard_sigmoid",
            ),
            L.RNN([L.LSTMCell(3), L.SimpleRNNCell(2)], return_sequences=True, go_backwards=True),
            L.LayerNormalization(),
            L.SpatialDropout1D(0.2),
            L.BatchNormalization(),
            L.GaussianNoise(0.1),
            L.BatchNormalization(axis=1, scale=False, trainable=False),
            L.GaussianDropout(0.3),
            L.TimeDistributed(L.Dense(3, "gelu")),
            L.GRU(3, reset_after=False, use_bias=False),
            L.BatchNormalization(center=False),
            L.RepeatVector(2),
            L.Reshape((-1, 2)),
            L.Permute((2, 1)),
            L.Flatten(),
            L.Dropout(0.2),
            L.Dense(2, "softmax"),
        ]
    )
    return [wide, deep, branches(), windows()]


def windows() -> Any:
    """Windows of time steps, alone and within the steps of longer sequences."""
    inputs = L.Input((12, 4))
    x = L.Conv1D(6, 3, activation="relu", padding="causal", dilation_rate=2)(inputs)
    x = L.AveragePooling1D(3, strides=2, padding="same")(L.BatchNormalization()(x))
    x = L.Conv1D(6, 2, groups=2, use_bias=False)(L.ZeroPadding1D((1, 0))(x))
    x = L.MaxPooling1D(2, strides=1, padding="same")(L.UpSampling1D(2)(x))
    x = L.LSTM(3, return_sequences=True)(L.Cropping1D((0, 2))(x))
    pieces = L.Reshape((3, 4, 4))(inputs)
    y = L.TimeDistributed(L.Conv1D(5, 2, strides=2, padding="same"))(pieces)
    y = L.TimeDistributed(L.Flatten())(L.TimeDistributed(L.MaxPooling1D(2))(y))
    return keras.Model(inputs, [x, L.GRU(2)(L.TimeDistributed(L.BatchNormalization())(y))])


def branches() -> Any:
    """Every merging layer, and masks that are joined."""
    words, steps = L.Input((None,)), L.Input((None, 4))
    read, shown = L.Embedding(11, 4, mask_zero=True)(words), L.Masking()(steps)
    kinds = (L.Add, L.Subtract, L.Average, L.Multiply, L.Maximum, L.Minimum, L.Concatenate)
    ends = [L.LSTM(2)(kind()([read, shown])) for kind in kinds]
    past = L.Add()([read, L.LSTM(4, return_sequences=True)(read)])
    scores = L.Dot(axes=[2, 2], normalize=True)([steps, steps])
    seen = L.Dot(axes=[2, 1])([L.Softmax()(scores), steps + steps])
    ends += [L.GRU(3)(past), L.GRU(3)(L.Concatenate(axis=1)([shown, read])), L.LSTM(2)(seen)]
    return keras.Model([words, steps], L.Concatenate()(ends))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_live_models(number: int) -> None:
    model = from_keras(live()[number])
    assert model.conversion.max_difference < 2e-6


def test_a_live_model_with_its_optimizer() -> None:
    theirs = keras.Sequential([L.Input((5, 3)), L.LSTM(4), L.Dense(1, "sigmoid")])
    theirs.compile(keras.optimizers.RMSprop(0.01, momentum=0.5), "binary_crossentropy", metrics=["accuracy"])
    x = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
    theirs.fit(x, LABELS, epochs=2, verbose=0)
    ours = from_keras(theirs)
    for one in (theirs, ours):
        one.fit(x, LABELS, epochs=2, verbose=0, shuffle=False)
    for a, b in zip(theirs.get_weights(), ours.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("make", [sequential, functional])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_keras_predicts_from_our_files(make: Any, suffix: str, tmp_path: Path) -> None:
    model = make()
    path = tmp_path / f"m{suffix}"
    record = to_keras(model, path, check=True)
    assert record.max_difference is not None
    assert record.max_difference < 2e-6
    theirs = keras.saving.load_model(path)
    if model.compiled:
        assert int(theirs.optimizer.iterations) == int(model.optimizer.iterations)
    if model.compiled and suffix == ".keras":  # Keras 3.15.1 builds no slots from the old form
        for a, b in zip(theirs.optimizer.variables, model.optimizer.variables, strict=True):
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-6)
    assert from_keras(path, check=True).conversion.max_difference < 2e-6


@pytest.mark.parametrize("make", [sequential, functional])
def test_keras_takes_our_weights(make: Any, tmp_path: Path) -> None:
    model = make()
    to_keras(model, tmp_path / "m.keras")
    to_keras(model, tmp_path / "m.weights.h5")
    theirs = keras.saving.load_model(tmp_path / "m.keras", compile=False)
    theirs.set_weights([w * 0 for w in theirs.get_weights()])
    theirs.load_weights(tmp_path / "m.weights.h5")
    for a, b in zip(theirs.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    data = data_for(model)
    inputs = [np.asarray(d, np.float32) for d in data] if isinstance(data, list) else data
    assert theirs.predict(inputs, verbose=0) is not None


def test_an_unbuilt_live_model() -> None:
    with pytest.raises(ValueError, match="the model is not built"):
        from_keras(keras.Sequential([L.Dense(2)]))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of real Keras."""
    folder = tmp_path_factory.mktemp("keras")
    with zipfile.ZipFile(DATA / "models.zip") as file:
        file.extractall(folder)
    return folder


@pytest.mark.parametrize("name", [*WHOLE, "keras2_cudnn.h5"])
def test_files_run_beside_keras(name: str, made: Path) -> None:
    record = from_keras(made / name).conversion
    old = name.startswith("keras2") and TF_KERAS
    if "cudnn" in name and not old:
        assert "keras does not take it (ValueError: Shape mismatch" in record.not_run
    else:
        assert record.max_difference < 2e-6
        assert record.beside.startswith("tf_keras 2" if old else "keras 3")


@pytest.mark.skipif(not TF_KERAS, reason="Keras 2 is not installed")
@pytest.mark.parametrize("name", [name for name in WHOLE if name.startswith("keras2")])
def test_files_of_keras_2_run_beside_keras_3_too(
    name: str, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    record = from_keras(made / name).conversion
    assert record.max_difference < 2e-6
    assert record.beside.startswith("keras 3")


def test_weights_alone_run_beside_keras(tmp_path: Path) -> None:
    model = functional()
    to_keras(model, tmp_path / "m.weights.h5", check=True)
    assert from_keras(tmp_path / "m.weights.h5", model=model, check=True).conversion.max_difference < 2e-6


@pytest.mark.parametrize("name", ["keras3_functional.keras", "keras3_sequential.h5"])
def test_the_file_itself_never_comes_to_keras(name: str, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def note(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and watching and str(args[0]).startswith(str(made)):
            opened.append((args[0], sys._getframe(1).f_globals["__name__"]))

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("Keras reads a model")

    watching = True
    sys.addaudithook(note)  # there is no way to take it away again
    monkeypatch.setattr(keras.saving, "load_model", refuse)
    monkeypatch.setattr(keras.models, "load_model", refuse)
    try:
        assert from_keras(made / name).conversion.max_difference < 2e-6
    finally:
        watching = False
    assert opened == [(str(made / name), "lstm_native.saving.safetensors")]


def test_mistakes_of_our_reader_are_found(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made / "keras3_cells.keras"
    real = KerasConfig._argument

    def mistaken(self: KerasConfig, key: str, value: Any, owner: str) -> Any:
        return "relu" if value == "softsign" else real(self, key, value, owner)

    with monkeypatch.context() as patch:
        patch.setattr(KerasConfig, "_argument", mistaken)
        with pytest.raises(ValueError, match=r"keras3_cells.keras: .*outputs differ by"):
            from_keras(path)

    def exchanged(model: Any, *arguments: Any) -> None:
        load_tree(model, *arguments)
        for variable in model.layers[-2].variables:
            variable.assign(variable.numpy()[::-1])

    monkeypatch.setattr("lstm_native.convert.keras_source.load_tree", exchanged)
    with pytest.raises(ValueError, match="outputs differ by"):
        from_keras(path)
    assert from_keras(path, check=False).conversion.not_run == "check is False"


def test_a_file_that_keras_does_not_load_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise KeyError("nothing\nmore")

    monkeypatch.setattr(keras.saving, "load_model", refuse)
    with pytest.raises(ValueError, match=r"Keras 3.* does not load the file \(KeyError: .*\); check=False"):
        to_keras(sequential(), tmp_path / "m.keras")
    assert not list(tmp_path.iterdir())


def test_live_models_of_another_precision_are_not_run() -> None:
    theirs = keras.Sequential([L.Input((3,)), L.Dense(2, dtype="mixed_bfloat16")])
    assert from_keras(theirs).conversion.not_run == "it computes in another precision than float32"
    with pytest.raises(ValueError, match=r"check is True, but .* another precision"):
        from_keras(theirs, check=True)


def test_outputs_that_differ_are_an_error(tmp_path: Path) -> None:
    from lstm_native.convert.conversion import Conversion
    from lstm_native.convert.keras_check import compare_with_live

    ours = Sequential([Input((4, 3)), LSTM(2), Dense(1)])
    to_keras(ours, tmp_path / "m.keras")
    theirs = keras.saving.load_model(tmp_path / "m.keras")
    theirs.layers[-1].bias.assign([0.1])
    with pytest.raises(ValueError, match="outputs differ by"):
        compare_with_live(theirs, ours, Conversion("Keras", "lstm_native"))
