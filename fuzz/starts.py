"""Small good files of each kind, from which fuzzing starts."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

import hostile_keras
from hostile_safetensors import good_functional, good_model, good_texts, save_whole
from lstm_native.layers import GRU, LSTM, RNN, Dense, Input, LSTMCell, TimeDistributed
from lstm_native.models import Sequential
from lstm_native.saving import write_safetensors

DATA = Path(__file__).resolve().parent.parent / "tests" / "data"
MODELS = (good_model, good_functional, good_texts)


def safetensors(folder: Path) -> dict[str, bytes]:
    """Models with all that a file may hold, weights alone, and state dicts of PyTorch."""
    path = folder / "m.safetensors"
    found = {make.__name__: save_whole(make(), path) for make in MODELS}
    good_functional().save_weights(path)
    found["weights"] = path.read_bytes()
    arrays = {"f16": np.ones(3, np.float16), "bool": np.ones((2, 2), bool), "empty": np.ones((0, 4))}
    write_safetensors(path, arrays, {"key": "value"})
    found["types"] = path.read_bytes()
    return found | {file.stem: file.read_bytes() for file in (DATA / "torch").glob("*.safetensors")}


def keras(folder: Path) -> dict[str, bytes]:
    """Files of ours, files of Keras that are small, and files of weights."""
    found = {"small": hostile_keras.archive(), "weights": hostile_keras.weights()}
    functional = {"config.json": hostile_keras.functional_config()}
    found["functional"] = hostile_keras.archive(functional)
    for make in MODELS[:2]:
        for suffix in (".keras", ".h5"):
            path = folder / f"m{suffix}"
            make().save(path)
            found[f"{make.__name__}{suffix}"] = path.read_bytes()
    for archive in ("hostile.zip", "models.zip"):
        with zipfile.ZipFile(DATA / "keras" / archive) as file:
            found |= {
                name.replace("/", "_"): file.read(name)
                for name in file.namelist()
                if file.getinfo(name).file_size < 12_000
            }
    return found


def onnx(folder: Path) -> dict[str, bytes]:
    """Files of PyTorch's exporters, and recurrent operators with all their attributes."""
    from onnx_graphs import RecurrentCase

    found = {file.stem: file.read_bytes() for file in (DATA / "torch").glob("*.onnx")}
    for op in ("LSTM", "GRU", "RNN"):
        for options in ({}, {"direction": "bidirectional"}, {"clip": 0.5, "layout": 1}):
            case = RecurrentCase(op, options, 3, 2, 0, peepholes=True, lengths=bool(options), states=True)
            found[f"{op}{len(options)}{len(str(options))}"] = case.proto().SerializeToString()
    return found


def json(folder: Path) -> dict[str, bytes]:
    """Models of all shapes without their weights."""
    wrapped = [Input((4, 3)), TimeDistributed(Dense(2)), RNN([LSTMCell(2), LSTMCell(3)]), Dense(1, "relu")]
    plain = [Input((None, 2)), LSTM(2, return_sequences=True), GRU(3, kernel_regularizer="l2")]
    models = [*(make() for make in MODELS), Sequential(wrapped), Sequential(plain)]
    return {str(i): model.to_json().encode() for i, model in enumerate(models)}


STARTS: dict[str, Callable[[Path], dict[str, bytes]]] = {
    "safetensors": safetensors,
    "keras": keras,
    "onnx": onnx,
    "json": json,
}


def write(kind: str, corpus: Path) -> None:
    """Writes the files into a folder."""
    corpus.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in STARTS[kind](Path(folder)).items():
            (corpus / name).write_bytes(content)
