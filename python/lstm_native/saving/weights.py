"""Weights of a model and the tensors of a file: whether they fit, and reading them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy.typing as npt

from lstm_native.saving.atomic import path_name
from lstm_native.saving.json_text import shortened
from lstm_native.saving.safetensors import Entry, Path, SafetensorsFile, open_regular, write_safetensors

# Tensors of model files that are no weights begin with this; names of weights never do.
PRIVATE = "_"


_OF_KERAS = (".h5", ".hdf5")
_MAGICS = (b"PK\x03\x04", b"\x89HDF\r\n\x1a\n")  # of files of Keras


def save_weights(model: Any, filepath: Path, overwrite: bool = True) -> None:
    """See `Model.save_weights`."""
    name = path_name(filepath, f"{model.label()}: save_weights: filepath")
    variables = model.named_variables()
    if not overwrite and os.path.exists(name):
        raise FileExistsError(f"{model.label()}: save_weights found {name!r}, overwrite=False")
    if name.lower().endswith(_OF_KERAS):
        from lstm_native.convert import keras_format  # comes with the first file of Keras

        keras_format.save_weights(model, name)
    else:
        tensors = {path: variable.numpy() for path, variable in variables.items()}
        write_safetensors(name, tensors, {"format": "lstm_native.weights"})


def load_weights(model: Any, filepath: Path) -> None:
    """See `Model.load_weights`."""
    name = path_name(filepath, f"{model.label()}: load_weights: filepath")
    variables = model.named_variables()
    with open_regular(name, "a file of weights") as stream:
        of_keras = stream.read(8).startswith(_MAGICS)
    if of_keras:
        from lstm_native.convert import keras_format  # comes with the first file of Keras

        keras_format.load_weights(model, name)
        return
    with SafetensorsFile(name) as file:
        check_weights(file, variables, model.label())
        tensors = {path: variable.check(file.read(path)) for path, variable in variables.items()}
    for path, variable in variables.items():
        variable.assign(tensors[path])


def weights_in(file: SafetensorsFile) -> dict[str, Entry]:
    """The weights in a file of weights or of a model, by name."""
    return {name: entry for name, entry in file.entries.items() if not name.startswith(PRIVATE)}


def check_weights(file: SafetensorsFile, variables: Mapping[str, Any], label: str) -> None:
    """Raises ValueError unless the file has exactly the weights `variables`; reads none of them.

    Args:
        file: the file.
        variables: the weights of a model by name.
        label: the model, for the message.
    """
    entries = weights_in(file)
    missing = sorted(variables.keys() - entries.keys())
    extra = sorted(entries.keys() - variables.keys())
    if missing or extra:
        raise ValueError(
            f"{file.where}: the file lacks {shortened(missing)}, and has {shortened(extra)} that {label} "
            "lacks"
        )
    for name, variable in variables.items():
        check_entry(file, name, variable)


def check_entry(file: SafetensorsFile, name: str, variable: Any) -> None:
    """Raises ValueError unless the tensor `name` of the file has the shape and the kind of `variable`."""
    dtype, shape = file.entries[name][:2]
    if shape != tuple(variable.shape):
        raise ValueError(f"{file.where}: {name} has shape {shape} in the file, expected {variable.shape}")
    floats = variable.dtype == "float32"
    if dtype.kind not in ("fV" if floats else "iu"):  # V: BF16
        raise ValueError(f"{file.where}: {name} holds {dtype.name} in the file, expected {variable.dtype}")


class LazyTensors(Mapping[str, npt.NDArray[Any]]):
    """Tensors of a file by name, each read when it is asked for."""

    def __init__(self, file: SafetensorsFile) -> None:
        self._file = file

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._file.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.entries)

    def __len__(self) -> int:
        return len(self._file.entries)
