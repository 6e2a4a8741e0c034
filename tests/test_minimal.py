"""The one file to run when only one is run: the tutorial's model trains, predicts and keeps its weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

import lstm_native
from lstm_native.layers import LSTM, Dense, Embedding
from lstm_native.models import Sequential


def tutorial_model() -> Sequential:
    model = Sequential()
    model.add(Embedding(input_dim=1000, output_dim=64))
    model.add(LSTM(128))
    model.add(Dense(1, activation="sigmoid"))
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    return model


def test_tutorial_learns_and_predicts() -> None:
    lstm_native.utils.set_random_seed(1)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 1000, size=(24, 10))
    y = rng.integers(0, 2, size=24)
    model = tutorial_model()
    history = model.fit(x, y, epochs=10, batch_size=1, verbose=0)
    assert history.epoch == list(range(10))
    assert set(history.history) == {"loss", "accuracy"}
    # 24 random sentences can be learned by heart.
    assert history.history["loss"][-1] < 0.1
    assert history.history["accuracy"][-1] == 1.0

    prediction = model.predict(x, verbose=0)
    assert prediction.shape == (24, 1)
    assert prediction.dtype == np.float32
    np.testing.assert_array_equal((prediction[:, 0] > 0.5).astype(int), y)
    np.testing.assert_array_equal(model(x[3:4]), prediction[3:4])
    loss, accuracy = model.evaluate(x, y, verbose=0)
    assert accuracy == 1.0
    assert loss < 0.1


def test_weights_survive_a_file(tmp_path: Path) -> None:
    x = np.arange(12).reshape(2, 6)
    model, other = tutorial_model(), tutorial_model()
    expected = model.predict(x, verbose=0)
    path = tmp_path / "weights.safetensors"
    model.save_weights(path)
    assert not np.array_equal(other.predict(x, verbose=0), expected)
    other.load_weights(path)
    np.testing.assert_array_equal(other.predict(x, verbose=0), expected)


def test_import_brings_numpy_only_and_starts_no_thread() -> None:
    code = (
        "import sys, numpy\n"
        "before = {name.split('.')[0] for name in sys.modules}\n"
        "import lstm_native\n"
        "new = {name.split('.')[0] for name in sys.modules} - before - set(sys.stdlib_module_names)\n"
        "assert new <= {'lstm_native', 'pybind11_builtins'}, new\n"
        "assert lstm_native._core.pool_threads() == 0\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
