"""`Model.quantize`: what the model does afterwards, what it refuses, copies, files and conversions."""

from __future__ import annotations

import copy
import json
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import lstm_native
from lstm_native import activations, convert, initializers
from lstm_native.layers import (
    GRU,
    LSTM,
    RNN,
    Bidirectional,
    Dense,
    Embedding,
    Input,
    Layer,
    LayerNormalization,
    LSTMCell,
    SimpleRNN,
    TimeDistributed,
)
from lstm_native.models import Model, Sequential, clone_model
from lstm_native.saving.safetensors import SafetensorsFile, read_safetensors, write_safetensors
from lstm_native.variable import Variable
from native_support import assert_bits
from stream_support import MODELS, sequences

Array = npt.NDArray[Any]
MODES = ("bfloat16", "int8")


def every_kind() -> Sequential:
    """A model with all that can be quantized, and layers that cannot."""
    model = Sequential(
        [
            Embedding(30, 12, mask_zero=True),
            Bidirectional(LSTM(9, return_sequences=True)),
            GRU(8, return_sequences=True),
            GRU(7, reset_after=False, return_sequences=True),
            RNN(LSTMCell(7), return_sequences=True),
            LayerNormalization(),
            LSTM(6, clip=3.0, return_sequences=True),
            TimeDistributed(Dense(5)),
            SimpleRNN(20, kernel_regularizer="l2"),
            Dense(1, activation="sigmoid"),
        ]
    )
    model.build((None, None))
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


def ids(rows: int = 9, time: int = 7) -> Array:
    return np.random.default_rng(0).integers(0, 30, (rows, time))


def rounded(model: Any) -> Any:
    """A float32 model with the weights that those of `model` stand for."""
    other = clone_model(model)
    other.set_weights(model.get_weights())
    return other


# --- what it does ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_outputs_are_those_of_the_rounded_weights(isa: str, mode: str) -> None:
    model = every_kind()
    model.quantize(mode)
    got, expected = model.predict(ids(), verbose=0), rounded(model).predict(ids(), verbose=0)
    if mode == "bfloat16":
        assert_bits(got, expected)
    np.testing.assert_allclose(got, expected, atol=2e-6)
    assert_bits(np.asarray(model(ids())), got)
    assert_bits(model.predict(ids(), batch_size=2, verbose=0), got)
    assert_bits(model.predict_on_batch(ids()[3:4]), got[3:4])


@pytest.mark.parametrize(("mode", "error"), [("bfloat16", 2.0**-8), ("int8", 1 / 254)])
def test_weights(mode: str, error: float) -> None:
    """Kernels and tables are rounded, within the bounds of rounding; the others are as they were."""
    model = every_kind()
    before = {name: variable.numpy() for name, variable in model.named_variables().items()}
    count = model.count_params()
    model.quantize(mode)
    assert model.count_params() == count
    for name, variable in model.named_variables().items():
        stays = name.endswith(("bias", "gamma", "beta")) or name.startswith("lstm/")  # the one with clip
        assert variable.dtype == ("float32" if stays else mode), name
        if stays:
            assert_bits(variable.numpy(), before[name], name)
            continue
        axis = 1 if name.startswith("embedding") else 0
        size = abs(before[name]) if mode == "bfloat16" else abs(before[name]).max(axis=axis, keepdims=True)
        assert (abs(variable.numpy() - before[name]) <= error * size * 1.0001).all(), name
        assert not np.array_equal(variable.numpy(), before[name]), name
    assert [w.dtype.name for w in model.get_weights()] == ["float32"] * len(before)


@pytest.mark.parametrize(("mode", "bound"), [("bfloat16", 4e-3), ("int8", 1.2e-2)])
def test_error_of_a_long_sequence(mode: str, bound: float) -> None:
    """Outputs of 100 steps of an LSTM of 64 units: about four times what was measured with other seeds."""
    model = Sequential([Input((None, 16)), LSTM(64, return_sequences=True)])
    x = np.random.default_rng(1).normal(size=(8, 100, 16)).astype(np.float32)
    before = model.predict(x, verbose=0)
    model.quantize(mode)
    error = abs(model.predict(x, verbose=0) - before)
    assert 0 < error.max() < bound
    assert np.sqrt((error**2).mean()) < bound / 8


@pytest.mark.parametrize("mode", MODES)
def test_evaluate(mode: str) -> None:
    """The penalty is that of the rounded weights."""
    model, y = every_kind(), np.arange(9)[:, None] % 2
    model.quantize(mode)
    other = rounded(model)
    other.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    np.testing.assert_allclose(model.evaluate(ids(), y, verbose=0), other.evaluate(ids(), y, verbose=0), 1e-5)
    np.testing.assert_allclose([float(x) for x in model.losses], [float(x) for x in other.losses], 1e-6)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "no recurrent layer"])
@pytest.mark.parametrize("mode", MODES)
def test_streams(isa: str, name: str, mode: str) -> None:
    """Bit for bit what predict gives, also in a stream that was made before."""
    model = MODELS[name]()
    x = sequences(model, 3, 6)
    older = model.stream(3)
    model.quantize(mode)
    outputs = model.predict(x, verbose=0)
    expected = outputs[0] if isinstance(outputs, list | tuple) else outputs
    for stream in (older, model.stream(3)):
        steps = np.stack([stream.step(x[:, t]).copy() for t in range(6)], axis=1)
        assert_bits(steps if expected.ndim == 3 else steps[:, -1], expected)


def test_shared_layers_and_functional_models() -> None:
    shared = LSTM(6)
    a, b = Input((None, 4)), Input((None, 4))
    model = Model([a, b], Dense(2)(shared(a) + shared(b)))
    x = [np.random.default_rng(i).normal(size=(3, 5, 4)).astype(np.float32) for i in range(2)]
    model.quantize("int8")
    np.testing.assert_allclose(model.predict(x, verbose=0), rounded(model).predict(x, verbose=0), atol=1e-6)
    other = Sequential([Input((None, 4)), shared, Dense(3)])
    with pytest.raises(ValueError, match="weights are quantized to int8 already"):
        other.quantize("int8")


@pytest.mark.parametrize("mode", MODES)
def test_threads_that_predict_meanwhile(mode: str) -> None:
    """They finish with the weights that they began with; storage that is let go is used again at once."""
    x = np.random.default_rng(0).integers(0, 2000, (16, 8000)).astype(np.int32)
    for wait in np.linspace(0, 0.01, 8):
        model = Sequential([Input((None,), dtype="int32"), Embedding(2000, 64)])
        before, results = model.predict_on_batch(x), []
        thread = threading.Thread(target=lambda m=model, r=results: r.append(m.predict_on_batch(x)))
        thread.start()
        time.sleep(wait)
        model.quantize(mode)
        others = [Variable(np.full((2000, 64), 7.0)) for _ in range(4)]
        thread.join()
        after = model.predict_on_batch(x)
        assert any(np.array_equal(results[0], y) for y in (before, after))
        assert len(others) == 4


def test_threads_that_predict_without_end() -> None:
    """quantize gets its turn."""
    x = np.random.default_rng(0).normal(size=(64, 50, 32)).astype(np.float32)
    model, done = Sequential([Input((None, 32)), LSTM(32), Dense(2)]), threading.Event()
    model.predict_on_batch(x)

    def predict() -> None:
        while not done.is_set():
            model.predict_on_batch(x)

    threads = [threading.Thread(target=predict) for _ in range(3)]
    for thread in threads:
        thread.start()
    model.quantize("int8")
    copied = copy.deepcopy(model)
    done.set()
    for thread in threads:
        thread.join()
    assert_bits(copied.predict_on_batch(x), model.predict_on_batch(x))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_child_forked_while_another_thread_predicts_does_not_wait_for_it() -> None:
    x = np.zeros((400, 50, 32), np.float32)
    model, started = Sequential([Input((None, 32)), LSTM(64)]), threading.Event()

    def predict() -> None:
        for _ in range(10):
            started.set()
            model.predict_on_batch(x)

    thread = threading.Thread(target=predict)
    thread.start()
    started.wait()
    for _ in range(5):
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # which ends it
            model.quantize("int8")
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    thread.join()
    model.quantize("int8")


def test_summary(capsys: pytest.CaptureFixture[str]) -> None:
    model = Sequential([Input((None, 4)), LSTM(8), Dense(2)])
    sizes = {}
    for mode in (None, *MODES):
        quantized = copy.deepcopy(model)
        if mode is not None:
            quantized.quantize(mode)
        quantized.summary()
        line = next(line for line in capsys.readouterr().out.splitlines() if "Total params" in line)
        sizes[mode] = line.strip()
    matrices, others = 4 * 32 + 8 * 32 + 8 * 2, 32 + 2
    assert sizes[None] == f"Total params: 434 ({(matrices + others) * 4 / 1024:.2f} KB)"
    assert sizes["bfloat16"] == f"Total params: 434 ({matrices * 2 + others * 4:.2f} B)"
    assert sizes["int8"] == f"Total params: 434 ({matrices + (32 + 32 + 2) * 4 + others * 4:.2f} B)"


# --- what it refuses ------------------------------------------------------------------------------


def test_training_is_an_error() -> None:
    for mode in MODES:
        model, y = every_kind(), np.ones((9, 1))
        model.fit(ids(), y, verbose=0)  # a plan that has trained
        before = model.get_weights()
        model.quantize(mode)
        after = model.get_weights()
        for train in (model.fit, model.train_on_batch):
            with pytest.raises(
                ValueError, match=f"embeddings is quantized to {mode}, which is for inference"
            ):
                train(ids(), y)
        for kept, weight in zip(after, model.get_weights(), strict=True):
            assert_bits(weight, kept)
        assert len(before) == len(after)


def test_training_of_classes_of_the_caller_is_an_error() -> None:
    class Doubled(Layer):
        def __init__(self) -> None:
            super().__init__()
            self.dense = Dense(2)

        def call(self, x: Any) -> Any:
            return 2 * self.dense(x)

    class Own(Model):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.lstm, self.last = Embedding(30, 3), LSTM(4), Doubled()

        def call(self, x: Any) -> Any:
            return self.last(self.lstm(self.table(x)))

    for model in (Own(), Sequential([Embedding(30, 2), Doubled(), LSTM(2)])):
        model.compile("sgd", "mse")
        y = np.zeros((9, 2))
        model.fit(ids(), y, verbose=0)
        before = model.predict(ids(), verbose=0)
        model.quantize("bfloat16")
        assert sum(v.is_quantized for v in model.variables) == 4
        np.testing.assert_allclose(model.predict(ids(), verbose=0), before, atol=1e-3)
        iterations = int(model.optimizer.iterations)
        with pytest.raises(ValueError, match="is quantized to bfloat16, which is for inference"):
            model.fit(ids(), y, verbose=0)
        assert int(model.optimizer.iterations) == iterations


@pytest.mark.parametrize("mode", ["int4", "float8", "INT8", None, 8, "float16"])
def test_unknown_modes(mode: Any) -> None:
    with pytest.raises(ValueError, match=r"quantize: unknown mode .*known names are bfloat16, int8"):
        every_kind().quantize(mode)


def test_twice() -> None:
    for first in MODES:
        model = every_kind()
        model.quantize(first)
        for second in MODES:
            with pytest.raises(ValueError, match=f"quantize: weights are quantized to {first} already"):
                model.quantize(second)


def test_what_cannot_be_quantized() -> None:
    with pytest.raises(ValueError, match="quantize before the model is built"):
        Sequential([LSTM(3)]).quantize("int8")
    with pytest.raises(ValueError, match="no layer has weights to quantize, expected an LSTM"):
        Sequential([Input((None, 3)), LSTM(3, clip=1.0), LayerNormalization()]).quantize("int8")
    model = Sequential(
        [Input((None, 3)), LSTM(3), Dense(2, kernel_initializer=initializers.Constant(np.inf))]
    )
    before = model.get_weights()
    with pytest.raises(
        ValueError, match=r"quantize: Dense 'dense.*': kernel: cannot be quantized to int8 as it"
    ):
        model.quantize("int8")
    for weight, expected in zip(model.get_weights(), before, strict=True):
        assert_bits(weight, expected)
    assert not any(v.is_quantized for v in model.variables)
    model.quantize("bfloat16")


def test_layers_on_other_paths_stay() -> None:
    """Those whose activations are parametric or Python functions keep float32, and run."""
    layers = [
        LSTM(4, activation=activations.Parametric("leaky_relu", 0.2), return_sequences=True),
        LSTM(4, activation=lambda x: x, return_sequences=True),
        LSTM(4, peepholes=True, return_sequences=True),
        Dense(2),
    ]
    model = Sequential([Input((None, 3)), *layers])
    x = np.ones((2, 3, 3), np.float32)
    model.quantize("int8")
    assert [v.path.split("/")[-1] for v in model.variables if v.is_quantized] == ["kernel"]
    np.testing.assert_allclose(model.predict(x, verbose=0), rounded(model).predict(x, verbose=0), atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_weights_cannot_be_set(mode: str, tmp_path: Path) -> None:
    model = every_kind()
    weights = model.get_weights()
    path = tmp_path / "weights.safetensors"
    model.save_weights(path)
    model.quantize(mode)
    expected = model.get_weights()
    with pytest.raises(ValueError, match=f"embeddings: is quantized to {mode} and takes no other values"):
        model.set_weights(weights)
    with pytest.raises(ValueError, match=f"load_weights: weights are quantized to {mode}"):
        model.load_weights(path)
    with pytest.raises(ValueError, match="takes no other values"):
        model.layers[-1].kernel.assign(weights[-2])
    for weight, kept in zip(model.get_weights(), expected, strict=True):
        assert_bits(weight, kept)


def test_no_gpu() -> None:
    model = every_kind()
    model.quantize("int8")
    with pytest.raises(ValueError, match=r"to\('cuda'\): weights are quantized to int8, which the CPU alone"):
        model.to("cuda")
    assert model.to("cpu").device == "cpu"


# --- copies, files, conversions -------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies(mode: str, copied: Callable[[Any], Any]) -> None:
    model = every_kind()
    model.quantize(mode)
    other = copied(model)
    assert [v.dtype for v in other.variables] == [v.dtype for v in model.variables]
    assert_bits(other.predict(ids(), verbose=0), model.predict(ids(), verbose=0))


@pytest.mark.parametrize("mode", MODES)
def test_files(mode: str, tmp_path: Path) -> None:
    model = every_kind()
    model.fit(ids(), np.ones((9, 1)), verbose=0)
    path, plain = tmp_path / "model.safetensors", tmp_path / "plain.safetensors"
    model.save(plain, include_optimizer=False)
    model.quantize(mode)
    model.save(path)
    other = lstm_native.load_model(path)
    assert [v.dtype for v in other.variables] == [v.dtype for v in model.variables]
    assert_bits(other.predict(ids(), verbose=0), model.predict(ids(), verbose=0))
    for got, expected in zip(other.get_weights(), model.get_weights(), strict=True):
        assert_bits(got, expected)
    with pytest.raises(ValueError, match="is quantized to"):
        other.fit(ids(), np.ones((9, 1)))
    # Any reader of the format can read them, and weights go into a float32 model.
    with SafetensorsFile(path) as file:
        kind = {"bfloat16": "void16", "int8": "int8"}[mode]
        assert file.entries["dense/kernel"].dtype.name == kind
        assert file.metadata["quantization"] == mode
    float32 = rounded(model)
    float32.set_weights([np.zeros_like(w) for w in float32.get_weights()])
    float32.load_weights(path)
    for got, expected in zip(float32.get_weights(), model.get_weights(), strict=True):
        assert_bits(got, expected)


def test_files_are_smaller(tmp_path: Path) -> None:
    model = Sequential([Input((None, 64)), LSTM(128)])
    sizes = {}
    for mode in (None, *MODES):
        other = copy.deepcopy(model)
        if mode is not None:
            other.quantize(mode)
        path = tmp_path / f"{mode}.safetensors"
        other.save(path)
        sizes[mode] = path.stat().st_size
    numbers = 64 * 512 + 128 * 512
    assert sizes[None] - sizes["bfloat16"] == pytest.approx(2 * numbers, rel=0.01)
    assert sizes[None] - sizes["int8"] == pytest.approx(3 * numbers - 4 * 1024, rel=0.01)


@pytest.mark.parametrize("mode", MODES)
def test_damaged_files(mode: str, tmp_path: Path) -> None:
    model = Sequential([Input((None, 3)), LSTM(4), Dense(2)])
    model.quantize(mode)
    path = tmp_path / "model.safetensors"
    model.save(path)
    tensors, metadata = read_safetensors(path)

    def refused(words: str, change: Callable[[dict[str, Any], dict[str, str]], Any]) -> None:
        changed, text = dict(tensors), dict(metadata)
        change(changed, text)
        write_safetensors(path, changed, text)
        with pytest.raises(ValueError, match=words):
            lstm_native.load_model(path)

    refused("metadata 'quantization'.*unknown mode 'int4'", lambda _, m: m.update(quantization="int4"))
    if mode == "int8":
        scales = "_scales/dense/kernel"
        refused("dense/kernel holds int8", lambda t, _: t.pop(scales))
        refused(
            rf"{scales}' is float32 of shape \(1, 3\), expected float32 with a number for every row",
            lambda t, _: t.update({scales: np.ones((1, 3), np.float32)}),
        )
        refused("is float64", lambda t, _: t.update({scales: np.ones((1, 2))}))
        refused(
            "'quantization'.*holds nan",
            lambda t, _: t.update({scales: np.full((1, 2), np.nan, np.float32)}),
        )
    json.loads(metadata["config"])  # nothing of the mode is in it
    assert mode not in metadata["config"]


def test_a_model_that_shares_layers_with_a_quantized_one_is_not_saved(tmp_path: Path) -> None:
    shared = LSTM(3)
    model = Sequential([Input((None, 2)), shared])
    other = Sequential([Input((None, 2)), shared, Dense(1)])
    model.quantize("int8")
    with pytest.raises(ValueError, match="save: some weights are quantized and others are not"):
        other.save(tmp_path / "other.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", MODES)
def test_files_of_keras_hold_the_rounded_weights(mode: str, tmp_path: Path) -> None:
    model = Sequential([Input((None, 3)), LSTM(4), Dense(2)])
    model.quantize(mode)
    for name in ("model.keras", "model.h5"):
        model.save(tmp_path / name)
        other = lstm_native.load_model(tmp_path / name)
        assert not any(v.is_quantized for v in other.variables)
        for got, expected in zip(other.get_weights(), model.get_weights(), strict=True):
            assert_bits(got, expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("library", ["torch", "onnx"])
def test_conversions_give_the_rounded_weights(library: str, mode: str, tmp_path: Path) -> None:
    """They run both sides and compare them by themselves."""
    pytest.importorskip(library)
    model = Sequential([Input((None, 3)), LSTM(4), Dense(2)])
    model.quantize(mode)
    if library == "torch":
        back = convert.from_torch(convert.to_torch(model, check=True))
    else:
        convert.to_onnx(model, tmp_path / "model.onnx", check=True)
        back = convert.from_onnx(tmp_path / "model.onnx")
    for got, expected in zip(back.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-7)
