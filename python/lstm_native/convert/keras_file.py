"""What is in a file of Keras, whatever its form: read without Keras, strictly, and bounded in memory."""

from __future__ import annotations

import os
import zipfile
import zlib
from typing import Any, BinaryIO, NamedTuple

from lstm_native.convert.keras_hdf5 import MAGIC, Group, read_hdf5
from lstm_native.saving.blaming import blaming
from lstm_native.saving.json_text import parse_json, shortened
from lstm_native.saving.safetensors import Path, open_regular

ZIP = b"PK\x03\x04"
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
# By how many bytes a part may be larger than the archive; Keras stores without compression, so it is smaller.
_ROOM = 4 << 20


class KerasFile(NamedTuple):
    """What a file holds.

    Attributes:
        where: its name, for messages.
        size: its bytes.
        version: of Keras that wrote it, 2 or 3.
        config: of the model; None for weights alone.
        compilation: what `compile` was given, where it says so.
        root: the weights.
        layers: whether these are listed by layer, as in old files.
    """

    where: str
    size: int
    version: int
    config: dict[str, Any] | None
    compilation: dict[str, Any] | None
    root: Group
    layers: bool


def read_keras_file(path: Path) -> KerasFile:
    """What is in a file of Keras.

    Raises:
        ValueError: it is damaged, hostile, or none of Keras.
        OSError: it cannot be read.
    """
    where = os.fsdecode(path)
    if os.path.isdir(where):
        raise IsADirectoryError(
            f"{where}: a folder (SavedModel) is not read, save the model as .keras or .h5"
        )
    with open_regular(path, "a file of Keras") as stream:
        start = stream.read(len(MAGIC))
        stream.seek(0)
        if start.startswith(ZIP):
            return _archive(stream, os.fstat(stream.fileno()).st_size, where)
        if start != MAGIC:
            raise ValueError(f"{where}: neither a zip archive (.keras) nor an HDF5 file (.h5)")
        data = stream.read()
    root = read_hdf5(data, where)
    config = root.attributes.get("model_config")
    group = root if config is None else root.group("model_weights")
    if group is None:
        raise ValueError(f"{where}: the file has a configuration but no group 'model_weights'")
    with blaming(where, "the HDF5 file"):
        layers = group.strings("layer_names") is not None
    if not layers and config is not None:
        raise ValueError(f"{where}: 'model_weights' has no attribute 'layer_names'")
    version = root.attributes.get("keras_version", group.attributes.get("keras_version"))
    if config is None:
        return KerasFile(where, len(data), major_version(version, layers), None, None, root, layers)
    compilation = root.attributes.get("training_config")
    # The group of the weights stands for the root: the optimizer's are looked for beside it.
    return KerasFile(
        where,
        len(data),
        major_version(version, layers),
        _json(config, where, "model_config", len(data)),
        None if compilation is None else _json(compilation, where, "training_config", len(data)),
        Group("", {**root.attributes, **group.attributes}, {**root.members, **group.members}),
        layers,
    )


def major_version(version: Any, old_form: bool) -> int:
    """2 or 3, from the text in a file."""
    digits = version.partition(".")[0] if isinstance(version, str) else ""
    if digits.isdecimal() and digits.isascii():
        return 3 if int(digits[:4]) >= 3 else 2
    return 2 if old_form else 3


def _json(text: Any, where: str, what: str, size: int) -> dict[str, Any]:
    if not isinstance(text, str):
        raise ValueError(f"{where}: {what} is no text")
    return parse_json(text, where, what, size)


def _archive(stream: BinaryIO, size: int, where: str) -> KerasFile:
    try:
        with zipfile.ZipFile(stream) as archive:
            names: set[str] = set()
            for name in archive.namelist():
                if name in names:
                    raise ValueError(f"{where}: the archive has {shortened(name)} twice")
                names.add(name)
                if name.startswith("/") or ".." in name.replace("\\", "/").split("/"):
                    raise ValueError(f"{where}: the archive has the member {shortened(name)}")
            for name in (METADATA, CONFIG, WEIGHTS):
                if name not in names:
                    raise ValueError(f"{where}: the archive has no {name}, as a .keras file has")
            metadata, config, weights = (
                _part(archive, name, size, where) for name in (METADATA, CONFIG, WEIGHTS)
            )
    except (
        zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, LookupError,
        ValueError, OverflowError, OSError,
    ) as error:  # fmt: skip
        if str(error).startswith(where):
            raise
        raise ValueError(
            f"{where}: this is a zip archive, but a damaged one: {shortened(str(error))}"
        ) from None
    made = parse_json(config, where, CONFIG, size)
    version = parse_json(metadata, where, METADATA, size).get("keras_version")
    root = read_hdf5(weights, f"{where}: {WEIGHTS}")
    compilation = made.get("compile_config")
    return KerasFile(
        where,
        size,
        major_version(version, False),
        made,
        compilation if isinstance(compilation, dict) else None,
        root,
        False,
    )


def _part(archive: zipfile.ZipFile, name: str, size: int, where: str) -> bytes:
    """The bytes of a member, if they are no more than belongs into memory.

    Args:
        archive: the archive.
        name: of the member.
        size: bytes of the archive.
        where: its name, for messages.
    """
    info = archive.getinfo(name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{where}: {name} is compressed in a way that Keras does not write")
    if info.file_size > size + _ROOM:
        raise ValueError(
            f"{where}: {name} is {info.file_size} bytes in an archive of {size}, which is more than belongs "
            "into memory; Keras stores without compression"
        )
    with archive.open(info) as member:
        part = member.read(info.file_size)  # without a number it unpacks without end
        if member.read(1) or len(part) != info.file_size:
            raise zipfile.BadZipFile(f"{name} is longer or shorter than it says")
    return part
