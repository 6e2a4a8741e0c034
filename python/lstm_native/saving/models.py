"""save_model and load_model: models in files of all kinds that are known."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lstm_native.saving import model_file
from lstm_native.saving.atomic import path_name
from lstm_native.saving.safetensors import Path, open_regular


class Format(NamedTuple):
    """A kind of file.

    Attributes:
        suffixes: what names of such files end in.
        magic: what such files begin with; empty for the kind that is taken where no other fits.
        save: `(model, path, include_optimizer, include_state, include_history)`, as `save_model` has them.
        load: `(path, custom_objects, compile)`, returns the model.
    """

    suffixes: tuple[str, ...]
    magic: bytes
    save: Callable[..., None]
    load: Callable[..., Any]


def _of_keras(name: str) -> Callable[..., Any]:
    """A function of `convert.keras_format`, which is imported with the first file of Keras."""

    def call(*args: Any) -> Any:
        from lstm_native.convert import keras_format

        return getattr(keras_format, name)(*args)

    return call


_SAFETENSORS = Format((".safetensors",), b"", model_file.save, model_file.load)
_formats = [
    Format((".keras",), b"PK\x03\x04", _of_keras("save"), _of_keras("load")),
    Format((".h5", ".hdf5"), b"\x89HDF\r\n\x1a\n", _of_keras("save"), _of_keras("load")),
    _SAFETENSORS,
]


def add_format(new: Format) -> None:
    """Makes `save_model` and `load_model` know a kind of file."""
    _formats.insert(0, new)


def _format_to_save(filepath: Path) -> Format | None:
    """The kind of file that a name asks for."""
    name = os.fsdecode(filepath).lower()
    return next((known for known in _formats if name.endswith(known.suffixes)), None)


def _format_to_load(filepath: Path) -> Format:
    """The kind of a file by what it begins with, whatever it is called."""
    with open_regular(filepath, "a file of a model") as file:
        start = file.read(8)
    return next(known for known in _formats if start.startswith(known.magic))


def save_model(
    model: Any,
    filepath: Path,
    overwrite: bool = True,
    include_optimizer: bool = True,
    include_state: bool = False,
    include_history: bool = False,
) -> None:
    """Writes a model to one file, from which `load_model` makes it again.

    The file appears whole or not at all: a kill or a full disk leaves what was there before. One that ends in
    ".safetensors" has the weights under names like "lstm/kernel" and the configuration as JSON in its
    metadata; where the random numbers of dropout stand is always part of it. One that ends in ".keras", ".h5"
    or ".hdf5" is a file of Keras, as `convert.to_keras` with `check=False` writes it.

    Args:
        model: a built model.
        filepath: the file; its name ends in one of these suffixes.
        overwrite: False raises FileExistsError when the file is there.
        include_optimizer: with what `compile` was given and the state of the optimizer, so that training goes
            on as if it had not been interrupted.
        include_state: with the states of stateful layers.
        include_history: with `model.history`, the values of the epochs of the last `fit`.

    Raises:
        ValueError: another suffix, a model that is not built, or for a file of Keras something that Keras has
            not.
        TypeError: something in the model or in what `compile` was given that no name stands for, such as a
            lambda.
        OSError: the file cannot be written.
    """
    name = path_name(filepath, f"{model.label()}: save: filepath")
    kind = _format_to_save(filepath)
    if kind is None:
        raise ValueError(
            f"{model.label()}: save: the name {name!r} ends in no known suffix, expected "
            f"{' or '.join(suffix for known in _formats for suffix in known.suffixes)}"
        )
    if not overwrite and os.path.exists(filepath):
        raise FileExistsError(f"{model.label()}: save found {name!r}, overwrite=False")
    kind.save(model, filepath, include_optimizer, include_state, include_history)


def save_checkpoint(model: Any, filepath: Path) -> None:
    """`save_model` under any name: where its suffix is not known, a safetensors file too.

    Raises:
        TypeError, OSError: as `save_model`.
    """
    kind = _format_to_save(filepath) or _SAFETENSORS
    kind.save(model, filepath, True, False, False)


def load_model(filepath: Path, custom_objects: Mapping[str, Any] | None = None, compile: bool = True) -> Any:
    """The model in a file that `save_model` wrote, or Keras: `convert.from_keras` says which of these.

    Nothing in a file is run or imported: it can only name classes of this package, and those that the caller
    has registered or passes here. A damaged or hostile file is a ValueError. A model of Keras is not run
    beside Keras here; `convert.from_keras` does that.

    Args:
        filepath: the file.
        custom_objects: classes and functions of the caller by name, beside those that
            `utils.register_serializable` knows.
        compile: with what `compile` was given and the state of the optimizer, where the file has them.

    Returns:
        The model.

    Raises:
        ValueError: the file is damaged, is none of a model, or names what is not known.
        OSError: the file cannot be read.
    """
    path_name(filepath, "load_model: filepath")
    return _format_to_load(filepath).load(filepath, custom_objects, compile)
