"""Crafted files with too much of something: layers, names, texts; to see that is to be little work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hostile_keras import archive, good_config, layer, layers_of, old, with_dense
from hostile_safetensors import raw
from lstm_native.convert import from_keras, from_torch
from lstm_native.convert.keras_hdf5_writer import NewGroup, write_hdf5
from lstm_native.layers import Dense, Input
from lstm_native.models import Sequential


class Amount(NamedTuple):
    """A file.

    Attributes:
        name: what there is too much of.
        suffix: what its name ends in.
        content: its bytes.
        read: the reader that it is meant for.
        cause: pattern that the message must hold; None where the file does no harm and is read.
    """

    name: str
    suffix: str
    content: bytes
    read: Callable[[Path], Any]
    cause: str | None


def unchecked(path: Path) -> Any:
    return from_keras(path, check=False)


def read_weights(path: Path) -> Any:
    """An HDF5 file as weights for a model."""
    return from_keras(path, model=Sequential([Input((3,)), Dense(2)]), check=False)


def state_dict(path: Path) -> Any:
    return from_torch(path, check=False)


def tensors(shapes: dict[str, tuple[int, ...]]) -> bytes:
    """A safetensors file of zeros."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    return raw(header, bytes(end))


def many(count: int, class_name: str, **config: Any) -> list[dict[str, Any]]:
    """Layers of one class."""
    found = [layer(class_name, **config) for _ in range(count)]
    for i, one in enumerate(found):
        one["config"]["name"] = f"{class_name.lower()}_{i}"
    return found


def sequence(layers: list[dict[str, Any]], shape: Any = (None, 3)) -> bytes:
    """An archive whose model has these layers."""
    config = good_config()
    config["config"]["layers"] = [layer("InputLayer", batch_shape=list(shape)), *layers]
    return archive({"config.json": config})


def stack(depth: int) -> dict[str, Any]:
    """Stacks of two stacks of two, and so on, and around them stacks of one."""
    cell = layer("LSTMCell", units=1)
    for i in range(depth):
        cell = layer("StackedRNNCells", cells=[cell, cell] if i < 10 else [cell])
    return cell


def all_files() -> Iterator[Amount]:
    """All of them."""
    for suffix, read, files in (
        (".keras", unchecked, archives()),
        (".h5", read_weights, weights_alone()),
        (".safetensors", state_dict, state_dicts()),
    ):
        for name, cause, content in files:
            yield Amount(name, suffix, content, read, cause)
    config = '{"class_name":"Sequential","config":{"layers":[' + '"' + "x" * 12_000_000 + '"]}}'
    yield Amount("a text of 12 MB", ".h5", old(config), unchecked, "more than belongs into memory")


def archives() -> Iterator[tuple[str, str | None, bytes]]:
    """Those for `.keras` archives."""
    yield "4,000 Dense without weights", "4000 layers with weights", sequence(many(4000, "Dense", units=1))
    yield "11,000 Dropouts", "11001 layers", sequence(many(11_000, "Dropout", rate=0.1))
    yield "500 Dropouts", "which Sequential 'model' has not", sequence(many(500, "Dropout", rate=0.1))
    cells = layer("RNN", cell=many(3000, "LSTMCell", units=1))
    yield "3,000 cells without weights", "3000 layers with weights", sequence([cells], (None, None, 3))
    cells = layer("RNN", cell=stack(30))
    yield "stacks of stacks", "1024 layers with weights", sequence([cells], (None, None, 3))
    long = "x" * 1_000_000
    yield "a class name of a megabyte", "has no counterpart", sequence([layer(long)])
    yield "an activation of a megabyte", "unknown activation", archive(with_dense(activation=long))
    yield "an argument of a megabyte", "has no counterpart", archive(with_dense(**{long: 1}))
    tokens = layer("TextVectorization", vocabulary=[long, long])
    yield "tokens of a megabyte", "twice", archive({"config.json": changed_layers([tokens])})
    shape = layer("Dropout", rate=0.1, noise_shape=[None] * 50_000)
    yield "a shape of 50,000 axes", "noise_shape", sequence([shape])
    metrics = [{"class_name": "AUC", "config": {"num_thresholds": 90_000}}] * 50
    compiled = {**good_config(), "compile_config": {"optimizer": "adam", "loss": "mse", "metrics": metrics}}
    yield "50 metrics of 90,000 thresholds", None, archive({"config.json": compiled})


def changed_layers(layers: list[dict[str, Any]]) -> dict[str, Any]:
    """A configuration with these layers behind a Dense."""
    config = good_config()
    layers_of(config)[1:] = layers
    return config


def weights_alone() -> Iterator[tuple[str, str | None, bytes]]:
    """Those for HDF5 files of weights."""
    root = NewGroup({"layer_names": ["a"] * 3000})
    root.group("a").attributes["weight_names"] = ["w"] * 3000
    root.group("a").members["w"] = np.zeros((3, 2), np.float32)
    yield "3,000 times a layer of 3,000 weights", "twice", write_hdf5(root)
    root = NewGroup({"layer_names": ["a"]})
    root.group("a").attributes["weight_names"] = ["w"] * 3000
    root.group("a").members["w"] = np.zeros((3, 2), np.float32)
    yield "3,000 times a weight", "has a name twice", write_hdf5(root)
    yield (
        "names of 15 MB",
        "more than belongs into memory",
        write_hdf5(NewGroup({"layer_names": ["x" * 60_000 + str(i) for i in range(250)]})),
    )


def state_dicts() -> Iterator[tuple[str, str | None, bytes]]:
    """Those for state dicts of PyTorch."""
    yield "50 modules", "50 in all", tensors({f"m{i}.weight": (3, 3) for i in range(50)})
    long = {f"{letter * 300_000}.weight": (i + 3, i + 5) for i, letter in enumerate("abcdefgh")}
    yield "names of a megabyte", "no order", tensors(long)
    names = [f"weight_{kind}_l{i}" for i in range(300) for kind in ("ih", "hh")]
    yield "an LSTM of 300 layers", None, tensors(dict.fromkeys(names, (4, 1)))
