"""Sequential: the list of layers, building, calling, weights in memory and in files, the summary."""

from __future__ import annotations

import os
import select
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_native.layers import (
    GRU,
    LSTM,
    RNN,
    Activation,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    Input,
    InputLayer,
    LSTMCell,
    Masking,
    SimpleRNN,
)
from lstm_native.models import Sequential
from lstm_native.saving import read_safetensors, write_safetensors
from lstm_native.utils import set_random_seed


def small(units: int = 4) -> Sequential:
    return Sequential([Embedding(20, 3), LSTM(units), Dense(2, activation="softmax")])


def test_first_call_builds() -> None:
    model = small()
    assert not model.built
    assert model.weights == []
    y = model(np.zeros((5, 7), int))
    assert model.built
    assert y.shape == (5, 2)
    np.testing.assert_allclose(y.sum(axis=1), np.ones(5), rtol=1e-6)
    assert [v.path.split("/")[1] for v in model.weights] == [
        "embeddings", "kernel", "recurrent_kernel", "bias", "kernel", "bias",
    ]  # fmt: skip
    assert model.count_params() == 60 + 3 * 16 + 4 * 16 + 16 + 10


@pytest.mark.parametrize("how", ["input", "input_shape", "build"])
def test_known_input_shape_builds_at_once(how: str) -> None:
    if how == "input":
        model = Sequential([Input(shape=(6, 3)), LSTM(4), Dense(1)])
    elif how == "input_shape":
        model = Sequential([LSTM(4, input_shape=(6, 3)), Dense(1)])
    else:
        model = Sequential([LSTM(4), Dense(1)])
        model.build((None, 6, 3))
    assert model.built
    assert model.input_shape == (None, 6, 3)
    assert model.output_shape == (None, 1)
    assert [type(layer).__name__ for layer in model.layers] == ["LSTM", "Dense"]
    assert model(np.zeros((2, 6, 3))).shape == (2, 1)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: LSTM(4, batch_input_shape=(1, 1, 3), stateful=True), (1, 1, 3)),
        (lambda: LSTM(4, batch_shape=(2, None, 3)), (2, None, 3)),
        (lambda: LSTM(4, input_shape=[5, 3], batch_size=2), (2, 5, 3)),
        (lambda: GRU(4, input_dim=3), (None, None, 3)),
        (lambda: SimpleRNN(4, input_dim=3, input_length=6), (None, 6, 3)),
        (lambda: RNN(LSTMCell(4), input_dim=3, input_length=6), (None, 6, 3)),
        (lambda: Dense(4, input_dim=3), (None, 3)),
        (lambda: Embedding(9, 4, batch_input_shape=(2, 5)), (2, 5)),
        (lambda: Bidirectional(LSTM(2), batch_input_shape=(2, 5, 3)), (2, 5, 3)),
        (lambda: InputLayer(input_shape=(5, 3)), (None, 5, 3)),
        (lambda: InputLayer(batch_input_shape=(2, 5, 3)), (2, 5, 3)),
    ],
)
def test_the_shape_of_inputs_as_older_programs_say_it(layer: Any, shape: tuple[int, ...]) -> None:
    model = Sequential([layer(), Dense(1)])
    assert (model.built, model.input_shape) == (True, shape)
    assert Sequential.from_config(model.get_config()).input_shape == shape
    config = model.layers[0].get_config()
    assert not {"batch_size", "input_shape", "batch_input_shape", "input_length"} & config.keys()


def test_a_stateful_program_of_an_older_tutorial() -> None:
    model = Sequential()
    model.add(LSTM(4, batch_input_shape=(2, 3, 1), return_sequences=True, stateful=True))
    model.add(LSTM(4, stateful=True))
    model.add(Dense(1))
    model.compile(loss="mean_squared_error", optimizer="adam")
    x, y = np.ones((6, 3, 1), np.float32), np.ones((6, 1), np.float32)
    for _ in range(2):
        model.fit(x, y, epochs=1, batch_size=2, verbose=0, shuffle=False)
        model.reset_states()
    assert model.predict(x, batch_size=2, verbose=0).shape == (6, 1)


def test_adding_to_a_built_model_keeps_the_weights() -> None:
    model = Sequential([Dense(3)])
    x = np.eye(2, dtype=np.float32)
    first = model(x)
    model.add(Dense(4))
    assert model.built
    assert model(x).shape == (2, 4)
    popped = model.pop()
    assert popped.name.startswith("dense")
    np.testing.assert_array_equal(model(x), first)


def test_failed_add_leaves_the_model() -> None:
    model = Sequential([Input(shape=(5,)), Dense(3)])
    before = model.get_weights()
    with pytest.raises(
        ValueError, match=r"LSTM.*input has shape \(None, 3\), expected \(batch, time, features\)"
    ):
        model.add(LSTM(2))
    assert len(model.layers) == 1
    assert model.built
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    model.add(Dense(2))
    assert model.output_shape == (None, 2)


def test_failed_build_leaves_no_trace() -> None:
    model = Sequential([Dense(3), Embedding(10**9, 10**10)])
    with pytest.raises(ValueError, match="larger than the address space"):
        model.build((None, 2))
    assert not model.built
    assert not model.layers[0].built
    assert model.layers[0].weights == []


def test_get_layer() -> None:
    model = Sequential([Dense(3, name="a"), Dense(2, name="b")])
    assert model.get_layer("b") is model.layers[1]
    assert model.get_layer(index=0) is model.layers[0]
    with pytest.raises(ValueError, match="no layer is called 'c'"):
        model.get_layer("c")


def test_one_layer_may_be_used_twice() -> None:
    dense = Dense(3, activation="tanh")
    model = Sequential([dense, dense])
    x = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    assert len(model(x)) == 8
    assert len(model.weights) == 2
    np.testing.assert_array_equal(model(x), dense(dense(x)))
    model.compile("sgd", "mse")
    before = model.evaluate(x, x, verbose=0)
    model.fit(x, x, epochs=20, verbose=0)
    assert model.evaluate(x, x, verbose=0) < before


def test_nested_model_computes_as_its_layers() -> None:
    inner = Sequential([LSTM(4, return_sequences=True), Dense(3)])
    model = Sequential([Masking(), inner, LSTM(2)])
    flat = Sequential([model.layers[0], *inner.layers, model.layers[2]])
    x = np.random.default_rng(1).standard_normal((3, 5, 2)).astype(np.float32)
    x[0, 3:] = 0
    np.testing.assert_array_equal(model(x), flat(x))
    assert len(model.weights) == 3 + 2 + 3
    model.compile("sgd", "mse")
    assert np.isfinite(model.train_on_batch(x, np.zeros((3, 2))))


def test_training_flag_reaches_dropout() -> None:
    model = Sequential([Dropout(0.5, seed=1)])
    x = np.ones((10, 10), np.float32)
    np.testing.assert_array_equal(model(x), x)
    np.testing.assert_array_equal(model.predict(x, verbose=0), x)
    assert (model(x, training=True) == 0).any()


def test_several_outputs_come_as_a_tuple() -> None:
    model = Sequential([LSTM(3, return_state=True)])
    x = np.random.default_rng(2).standard_normal((70, 4, 2))
    one, many = model(x), model.predict(x, verbose=0)
    assert len(one) == len(many) == 3
    for a, b in zip(one, many, strict=True):
        np.testing.assert_array_equal(a, b)


def test_reset_state_of_the_model() -> None:
    model = Sequential([LSTM(3, stateful=True, return_sequences=True), LSTM(2, stateful=True)])
    x = np.random.default_rng(3).standard_normal((2, 4, 3))
    first = model(x)
    assert not np.array_equal(model(x), first)
    model.reset_state()
    np.testing.assert_array_equal(model(x), first)


def test_equal_seeds_give_equal_weights() -> None:
    weights = []
    for seed in (7, 7, 8):
        set_random_seed(seed)
        model = small()
        model.build((None, 5))
        weights.append(model.get_weights())
    for a, b, c in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.ndim == 1 or not np.array_equal(a, c)


def test_set_weights_sets_all_or_none() -> None:
    model = small()
    model.build((None, 5))
    values = [w + 1 for w in model.get_weights()]
    wrong = [*values[:-1], np.zeros(3)]
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"bias: value has shape \(3,\), expected \(2,\)"):
        model.set_weights(wrong)
    with pytest.raises(ValueError, match="got 5 arrays, expected 6"):
        model.set_weights(values[:-1])
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    model.set_weights(values)
    for a, b in zip(model.get_weights(), values, strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_files(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    a, b = small(), small()
    a.build((None, 5))
    b.build((None, 5))
    a.save_weights(path)
    tensors, _ = read_safetensors(path)
    lstm = {"lstm/kernel", "lstm/recurrent_kernel", "lstm/bias"}
    assert set(tensors) == {"embedding/embeddings", *lstm, "dense/kernel", "dense/bias"}
    b.load_weights(str(path))
    for x, y in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)
    with pytest.raises(FileExistsError, match="save_weights found"):
        a.save_weights(path, overwrite=False)


def test_weights_file_of_another_model_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    a, wider = small(), small(units=5)
    a.build((None, 5))
    wider.build((None, 5))
    wider.save_weights(path)
    before = a.get_weights()
    with pytest.raises(ValueError, match=r"lstm/kernel has shape \(3, 20\) in the file, expected \(3, 16\)"):
        a.load_weights(path)
    write_safetensors(path, {"embedding/embeddings": before[0], "other": before[1]})
    with pytest.raises(ValueError, match=r"lacks \['dense/bias'.*has \['other'\]"):
        a.load_weights(path)
    path.write_bytes(b"no file of weights")
    with pytest.raises(ValueError):
        a.load_weights(path)
    for x, y in zip(a.get_weights(), before, strict=True):
        np.testing.assert_array_equal(x, y)
    with pytest.raises(ValueError, match="before it is built"):
        small().save_weights(path)


def test_summary_names_layers_shapes_and_numbers() -> None:
    model = small()
    model.build((None, 5))
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    text = "\n".join(lines)
    assert f'Model: "{model.name}"' in text
    for piece in ("(Embedding)", "(None, 5, 3)", "(None, 4)", "Total params: 198 (792.00 B)"):
        assert piece in text
    assert len({len(line) for line in lines[1:10]}) == 1  # a table with straight edges


def test_summary_of_an_unbuilt_model_and_with_options() -> None:
    lines: list[str] = []
    model = small()
    model.summary(print_fn=lines.append)
    assert "(unbuilt)" in "\n".join(lines)
    model.build((None, 5))
    model.layers[0].trainable = False
    lines.clear()
    names = [layer.name for layer in model.layers]
    model.summary(60, print_fn=lines.append, show_trainable=True, layer_range=names[:2])
    text = "\n".join(lines)
    assert "(Dense)" not in text
    assert "Non-trainable params: 60" in text


def test_summary_shows_the_layers_of_nested_models() -> None:
    model = Sequential(
        [Dense(2, name="a"), Sequential([Sequential([Dense(4, name="b")], name="in")], name="out")]
    )
    model.build((None, 3))
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    assert "b (Dense)" not in "\n".join(lines)
    lines.clear()
    model.summary(None, None, lines.append, True)  # the order of Keras
    cells = [line[2:].split(" │")[0].rstrip() for line in lines if line.startswith("│")]
    assert cells == ["a (Dense)", "out (Sequential)", "   └ in (Sequential)", "      └ b (Dense)"]
    with pytest.raises(ValueError, match="summary: line_length is 'a'"):
        model.summary("a")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="layer_range is 5, expected two names"):
        model.summary(layer_range=5)  # type: ignore[arg-type]


def test_summary_on_a_plain_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plain:
        encoding = "ascii"
        text = ""

        def write(self, text: str) -> None:
            text.encode("ascii")
            self.text += text

        def flush(self) -> None: ...

    stream = Plain()
    monkeypatch.setattr("sys.stdout", stream)
    model = small()
    model.build((None, 5))
    model.summary()
    assert "| " in stream.text


def test_threads_predicting_on_one_model_give_the_serial_results() -> None:
    model = small()
    rng = np.random.default_rng(4)
    inputs = [rng.integers(0, 20, (17, 6)) for _ in range(16)]
    expected = [model.predict(x, verbose=0) for x in inputs]
    results: list[Any] = [None] * 16

    def work(i: int) -> None:
        for _ in range(5):
            results[i] = model.predict(inputs[i], batch_size=5, verbose=0)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for got, want in zip(results, expected, strict=True):
        np.testing.assert_array_equal(got, want)


def test_threads_may_build_one_model_together() -> None:
    for _ in range(10):
        model = small()
        barrier = threading.Barrier(8)
        results: list[Any] = [None] * 8

        def work(i: int, model: Sequential = model, barrier: Any = barrier, results: Any = results) -> None:
            barrier.wait(30)
            results[i] = model(np.arange(6).reshape(1, 6))

        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        for got in results:
            np.testing.assert_array_equal(got, results[0])
        assert len(model.weights) == 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_predicts() -> None:
    model = Sequential([LSTM(64, return_sequences=True), Dense(3)])
    x = np.random.default_rng(5).standard_normal((64, 20, 32)).astype(np.float32)
    expected = model.predict(x, verbose=0)  # large enough to wake the threads
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, model.predict(x, verbose=0).tobytes()[:1000])
        finally:
            os._exit(0)
    os.close(writer)
    try:
        ready, _, _ = select.select([reader], [], [], 60)
        assert ready, "the child hangs"
        assert os.read(reader, 1000) == expected.tobytes()[:1000]
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_activation_layer_at_the_end() -> None:
    model = Sequential([Dense(3), Activation("softmax")])
    y = model(np.ones((2, 4)))
    np.testing.assert_allclose(y.sum(axis=1), [1, 1], rtol=1e-6)


def test_the_summary_breaks_cells_at_blanks() -> None:
    model = Sequential([Input((3,)), Dense(2, name="a_name_that_is_long")])
    lines: list[str] = []
    model.summary(line_length=60, print_fn=lines.append)
    assert any(line.startswith("│ (Dense) ") for line in lines for line in line.splitlines())
