"""Weights of a model and the tensors of a file: whether they fit, and reading them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native.errors import warn
from lstm_native.quantization import quantized_mode
from lstm_native.saving.atomic import path_name
from lstm_native.saving.json_text import shortened
from lstm_native.saving.safetensors import (
    BFLOAT16,
    Entry,
    Path,
    SafetensorsFile,
    open_regular,
    write_safetensors,
)

# Tensors of model files that are no weights begin with this; names of weights never do.
PRIVATE = "_"
# In front of the name of a weight in 8 bits: what its numbers are multiples of, with an axis of length 1.
_SCALES = "_scales/"

_OF_KERAS = (".h5", ".hdf5")
_EXPECTED = "a file of weights: .safetensors, or .weights.h5, .h5 or .keras of Keras"
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


class Loading:
    """Which layers of a model take the weights of a file, and which keep their own.

    Args:
        label: who loads, for messages.
        skip_mismatch: layers that the weights in the file do not fit keep their own, with a warning.
        by_name: layers are found by name; those that the file does not name keep their own.
        kept: layers that keep their own weights.

    Attributes:
        by_name: as given.
        lenient: whether the file may have other weights than the model.
    """

    def __init__(
        self, label: str = "", skip_mismatch: bool = False, by_name: bool = False, kept: Sequence[Any] = ()
    ) -> None:
        self.by_name = by_name
        self.lenient = skip_mismatch or bool(kept)
        self._label = label
        self._skip_mismatch = skip_mismatch
        self._kept = {id(variable) for layer in kept for variable in layer.variables}
        self._skipped: list[str] = []

    def keeps(self, variables: Iterable[Any]) -> bool:
        """Whether these variables of a layer are to stay as they are."""
        return any(id(variable) in self._kept for variable in variables)

    @contextlib.contextmanager
    def layer(self, variables: Sequence[Any], place: str) -> Iterator[None]:
        """A ValueError in the body says that the weights in the file do not fit a layer.

        Args:
            variables: those of the layer.
            place: what the layer is called where it has no variables.
        """
        try:
            yield
        except ValueError as error:
            if not self._skip_mismatch:
                raise
            name = variables[0].path.rpartition("/")[0] if variables else place
            self._skipped.append(f"{self._label} skips {name!r}: {error}")

    def warn(self) -> None:
        """Names the layers that were skipped, when the others have their weights."""
        for message in self._skipped:
            warn(message)


def load_weights(
    model: Any,
    filepath: Path,
    skip_mismatch: bool = False,
    by_name: bool = False,
    objects_to_skip: Any = None,
) -> None:
    """See `Model.load_weights`."""
    label = f"{model.label()}: load_weights"
    name = path_name(filepath, f"{label}: filepath")
    if not isinstance(objects_to_skip, Iterable | None):
        raise TypeError(
            f"{label}: objects_to_skip is a {type(objects_to_skip).__name__}, expected a list of layers"
        )
    mode = quantized_mode(model.variables)
    if mode is not None:
        raise ValueError(f"{label}: weights are quantized to {mode}; load them into the float32 model")
    kept = () if objects_to_skip is None else tuple(objects_to_skip)
    for layer in kept:
        if not hasattr(layer, "variables"):
            raise TypeError(f"{label}: objects_to_skip has a {type(layer).__name__}, expected layers")
    loading = Loading(label, skip_mismatch, bool(by_name), kept)
    variables = model.named_variables()
    with open_regular(name, "a file of weights") as stream:
        of_keras = stream.read(8).startswith(_MAGICS)
    if of_keras:
        from lstm_native.convert import keras_format  # comes with the first file of Keras

        keras_format.load_weights(model, name, loading)
    else:
        _load_safetensors(name, variables, model.label(), loading)
    loading.warn()


def _load_safetensors(name: str, variables: Mapping[str, Any], label: str, loading: Loading) -> None:
    with SafetensorsFile(name, _EXPECTED) as file:
        if loading.by_name:
            raise ValueError(not_by_name(file.where))
        if not loading.lenient:
            check_weights(file, variables, label)
        tensors: dict[str, npt.NDArray[Any]] = {}
        for layer, named in _by_layer(variables).items():
            if loading.keeps(named.values()):
                continue
            with loading.layer(list(named.values()), layer):
                for path, variable in named.items():
                    if path not in file.entries:
                        raise ValueError(f"{file.where}: the file lacks {path}")
                    check_entry(file, path, variable)
                tensors |= {path: variable.check(read_weight(file, path)) for path, variable in named.items()}
    for path, value in tensors.items():
        variables[path].assign(value)


def _by_layer(variables: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The variables of each layer, by its name in the file."""
    layers: dict[str, dict[str, Any]] = {}
    for path, variable in variables.items():
        layers.setdefault(path.rpartition("/")[0], {})[path] = variable
    return layers


def not_by_name(where: str) -> str:
    """The message for `by_name` with a file that does not go by the names of layers."""
    return f"{where}: by_name=True needs a file of old Keras (.h5) that lists weights by the names of layers"


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
        differences = [f"lacks {shortened(missing)}"] if missing else []
        differences += [f"has {shortened(extra)} that {label} lacks"] if extra else []
        raise ValueError(f"{file.where}: the file {', and '.join(differences)}")
    for name, variable in variables.items():
        check_entry(file, name, variable)


def check_entry(file: SafetensorsFile, name: str, variable: Any) -> None:
    """Raises ValueError unless the tensor `name` of the file has the shape and the kind of `variable`."""
    dtype, shape = file.entries[name][:2]
    if shape != tuple(variable.shape):
        raise ValueError(f"{file.where}: {name} has shape {shape} in the file, expected {variable.shape}")
    floats = variable.dtype == "float32"
    scales = file.entries.get(_SCALES + name)
    if scales is not None and floats and dtype == np.int8:
        if scales.dtype != np.float32 or scales.shape not in ((1, *shape[1:]), (*shape[:1], 1)):
            raise ValueError(
                f"{file.where}: {shortened(_SCALES + name)} is {scales.dtype.name} of shape {scales.shape}, "
                f"expected float32 with a number for every row or column of {shape}"
            )
        return
    if dtype.kind not in ("fV" if floats else "iu"):  # V: BF16
        raise ValueError(f"{file.where}: {name} holds {dtype.name} in the file, expected {variable.dtype}")


def read_weight(file: SafetensorsFile, name: str) -> npt.NDArray[Any]:
    """The weight `name`, which was checked; those in 8 bits as float32."""
    values = file.read(name)
    if _SCALES + name not in file.entries:
        return values
    decoded: npt.NDArray[Any] = np.multiply(values, file.read(_SCALES + name), dtype=np.float32)
    return decoded


def stored_weights(
    variables: Mapping[str, Any], weights: Mapping[str, npt.NDArray[Any]]
) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a file for variables by name and what they hold, quantized ones in 16 or 8 bits."""
    tensors = dict(weights)
    for name, variable in variables.items():
        values, scales = weights[name], variable.scales
        if scales is not None:
            tensors[_SCALES + name] = scales
            codes = np.divide(values, scales, out=np.zeros_like(values), where=scales > 0)
            tensors[name] = np.rint(codes).astype(np.int8)
        elif variable.is_quantized:
            tensors[name] = (values.view(np.uint32) >> 16).astype("<u2").view(BFLOAT16)
    return tensors


class LazyTensors(Mapping[str, npt.NDArray[Any]]):
    """Tensors of a file by name, each read when it is asked for."""

    def __init__(self, file: SafetensorsFile) -> None:
        self._file = file

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return read_weight(self._file, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.entries)

    def __len__(self) -> int:
        return len(self._file.entries)
