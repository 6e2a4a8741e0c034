"""Reader and writer of safetensors files, the format of saved weights and models.

A file is the header's length (8 bytes, little-endian), the header (JSON from a tensor's name to its
dtype, shape and byte range) and the tensors' bytes. The reader trusts nothing in it.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping
from io import BufferedReader
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from lstm_native.saving.atomic import path_name, replace_file
from lstm_native.saving.json_text import parse_json, shortened

# The limit of the format's reference implementation: a longer header is an attack or an accident.
_MAX_HEADER = 100_000_000
_METADATA = "__metadata__"
_MAX_DIM = (1 << 63) - 1
# What every NumPy version supports.
_MAX_RANK = 32

_DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(code)
    for name, code in {
        "F64": "<f8",
        "F32": "<f4",
        "F16": "<f2",
        "I64": "<i8",
        "I32": "<i4",
        "I16": "<i2",
        "I8": "i1",
        "U64": "<u8",
        "U32": "<u4",
        "U16": "<u2",
        "U8": "u1",
        "BOOL": "?",
    }.items()
}
# NumPy has no such type: the upper halves of float32 numbers, which is what they are read as.
BFLOAT16 = np.dtype([("upper half of a float32", "<u2")])
_DTYPES["BF16"] = BFLOAT16
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
# What other files of weights start with; as the length of a header all of these are too long.
_OTHER_FORMATS = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file (.h5)",
    b"PK\x03\x04": "a zip archive (.keras, .npz or .pt)",
    b"\x93NUMPY": "a NumPy file (.npy)",
}

Path = str | os.PathLike[str]


def write_safetensors(
    path: Path,
    tensors: Mapping[str, npt.NDArray[Any]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes `tensors` to `path`, all or nothing.

    A new file beside `path` is filled, brought to disk and renamed over it, so that a crash leaves
    either the old file or the new one.

    Args:
        path: The file, replaced when it is there; a symbolic link is followed.
        tensors: Arrays by name, any layout and byte order; of `BFLOAT16` for BF16.
        metadata: Strings by name, kept in the header.

    Raises:
        TypeError: A dtype that the format lacks, or names or metadata that are no strings.
        ValueError: The name "__metadata__", or a header over 100 MB.
        OSError: The file cannot be written; `path` is as it was.
    """
    path = path_name(path, "write_safetensors: path")
    header: dict[str, Any] = {}
    if metadata:
        for key, value in metadata.items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise TypeError(f"write_safetensors: metadata {key!r}: {value!r}, expected strings")
        header[_METADATA] = dict(metadata)

    for name in tensors:
        if not isinstance(name, str):
            raise TypeError(f"write_safetensors: tensor name is {name!r}, expected a string")
        if name == _METADATA:
            raise ValueError(f"write_safetensors: a tensor cannot be named {_METADATA!r}")
    arrays: list[npt.NDArray[Any]] = []
    offset = 0
    # Larger elements first, so that every tensor starts at a multiple of its element size.
    for name in sorted(tensors, key=lambda n: (-np.asarray(tensors[n]).itemsize, n)):
        array = np.asarray(tensors[name])
        dtype = array.dtype.newbyteorder("<")
        if dtype not in _NAMES:
            raise TypeError(
                f"write_safetensors: tensor {name!r} has dtype {array.dtype}, expected one of "
                f"{', '.join(known.name for known in _NAMES if known != BFLOAT16)}"
            )
        # ascontiguousarray would turn a scalar into a vector.
        array = np.asarray(array, dtype=dtype, order="C")
        header[name] = {
            "dtype": _NAMES[dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
        arrays.append(array)

    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    if len(text) > _MAX_HEADER:
        raise ValueError(
            f"write_safetensors: the header has {len(text)} bytes, the format allows {_MAX_HEADER}"
        )
    replace_file(path, [len(text).to_bytes(8, "little"), text, *arrays])


def read_safetensors(path: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    """Reads every tensor of a safetensors file.

    Args:
        path: The file.

    Returns:
        Arrays by name, in the order of their bytes in the file, and the metadata (empty when none).

    Raises:
        ValueError: The file is damaged or hostile; the message names the field.
        OSError: The file cannot be read.
    """
    with SafetensorsFile(path) as file:
        return {name: file.read(name) for name in file.entries}, file.metadata


class Entry(NamedTuple):
    """A tensor of a file.

    Attributes:
        dtype: its type, little-endian; for BF16 a record of two bytes.
        shape: its shape.
        begin, end: where its bytes are, counted from the end of the header.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    end: int


class SafetensorsFile:
    """A safetensors file that is open for reading; to be used in a `with` statement.

    Args:
        path: The file.
        expected: What it should be, for the message where it is nothing of the kind.

    Attributes:
        where: The name of the file, for messages.
        size: Its number of bytes.
        metadata: Strings by name, empty when there are none.
        entries: The tensors by name, in the order of their bytes.

    Raises:
        ValueError: The header is damaged or hostile; the message names the field.
        OSError: The file cannot be read.
    """

    def __init__(self, path: Path, expected: str = "a safetensors file") -> None:
        self.where = path_name(path, "read_safetensors: path")
        self._file = open_regular(path, expected)
        try:
            self.size = os.fstat(self._file.fileno()).st_size
            _refuse_others(self._file, self.size, self.where, expected)
            self.entries, self.metadata, self._start = _read_header(self._file, self.size, self.where)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, name: str) -> npt.NDArray[Any]:
        """The tensor of that name, in native byte order; BF16 as float32.

        Raises:
            ValueError: The file got shorter since it was opened, or a BOOL is neither 0 nor 1.
            KeyError: There is none.
        """
        dtype, shape, begin, end = self.entries[name]
        raw = np.empty(end - begin, np.uint8)
        self._file.seek(self._start + begin)
        # No memory map: a file that another process shortens would end the process.
        if raw.size and self._file.readinto(raw.data) != raw.size:
            raise ValueError(f"{self.where}: file is truncated: it got shorter while it was read")
        if dtype.kind == "b" and raw.size and raw.max() > 1:
            raise ValueError(
                f"{self.where}: tensor {shortened(name)}: BOOL data holds bytes other than 0 and 1"
            )
        if dtype == BFLOAT16:
            return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
        return raw.view(dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def open_regular(path: Path, expected: str = "a safetensors file") -> BufferedReader:
    """`path` opened for reading; devices and pipes, which may have no end, are refused.

    Args:
        path: the file.
        expected: what it should be, for messages.

    Raises:
        ValueError: it is no regular file.
        OSError: it cannot be opened.
    """
    where = os.fsdecode(path)
    # Opening a pipe would wait for a writer. An integer would be the number of an open file.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(os.fspath(path), flags)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(f"{where}: this is a folder, expected {expected}")
        raise ValueError(f"{where}: this is a device or a pipe, expected {expected}")
    return os.fdopen(descriptor, "rb")


def _refuse_others(file: BufferedReader, size: int, where: str, expected: str) -> None:
    """Raises ValueError for a file whose first bytes are neither a length of a header nor its bracket."""
    start = file.read(9)
    file.seek(0)
    if size < 8:
        raise ValueError(f"{where}: the file is empty or truncated: {size} bytes, expected {expected}")
    for magic, kind in _OTHER_FORMATS.items():
        if start.startswith(magic):
            raise ValueError(f"{where}: this is {kind}, expected {expected}")
    if int.from_bytes(start[:8], "little") > _MAX_HEADER and start[8:] != b"{":
        raise ValueError(f"{where}: this is no file of a known kind, expected {expected}")


def _read_header(file: BufferedReader, size: int, where: str) -> tuple[dict[str, Entry], dict[str, str], int]:
    """The checked entries in order of their bytes, the metadata, and where the data starts."""
    length = int.from_bytes(file.read(8), "little")
    if length > _MAX_HEADER:
        raise ValueError(f"{where}: header length is {length}, the format allows {_MAX_HEADER}")
    if length > size - 8:
        raise ValueError(f"{where}: header length is {length}, but only {size - 8} bytes follow")
    header = parse_json(file.read(length), where, "header", size)
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError(f"{where}: {_METADATA} is no object of strings")

    available = size - 8 - length
    entries = {name: _check_entry(name, entry, available, where) for name, entry in header.items()}
    entries = dict(sorted(entries.items(), key=lambda item: item[1][2:]))
    position = 0
    for name, entry in entries.items():
        if entry.begin != position:
            kind = "overlaps the tensor before it" if entry.begin < position else "leaves a gap before it"
            raise ValueError(
                f"{where}: tensor {shortened(name)}: data_offsets [{entry.begin}, {entry.end}] {kind} "
                f"(at byte {position})"
            )
        position = entry.end
    if position != available:
        raise ValueError(f"{where}: the tensors take {position} bytes, but {available} follow the header")
    return entries, metadata, 8 + length


def _check_entry(name: str, entry: Any, available: int, where: str) -> Entry:
    where = f"{where}: tensor {shortened(name)}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{where}: expected exactly the fields dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _DTYPES:
        raise ValueError(f"{where}: dtype is {shortened(kind)}, expected one of {', '.join(_DTYPES)}")
    if not _is_list_of_sizes(shape):
        raise ValueError(f"{where}: shape is {shortened(shape)}, expected sizes that are not negative")
    if len(shape) > _MAX_RANK:
        raise ValueError(f"{where}: shape has {len(shape)} axes, at most {_MAX_RANK} are supported")
    if not _is_list_of_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"{where}: data_offsets is {shortened(offsets)}, expected [begin, end]")
    begin, end = offsets
    if end > available:
        raise ValueError(f"{where}: data_offsets end at {end}, but only {available} bytes follow the header")
    dtype = _DTYPES[kind]
    # A zero size would hide an overflow among the others, so the product leaves zeros out.
    if math.prod(dim for dim in shape if dim) * dtype.itemsize > _MAX_DIM:
        raise ValueError(f"{where}: shape {shortened(shape)} overflows")
    if math.prod(shape) * dtype.itemsize != end - begin:
        raise ValueError(
            f"{where}: shape {shortened(shape)} of {kind} needs {math.prod(shape) * dtype.itemsize} bytes, "
            f"data_offsets hold {end - begin}"
        )
    return Entry(dtype, tuple(shape), begin, end)


def _is_list_of_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, int) and not isinstance(item, bool) and 0 <= item <= _MAX_DIM for item in value
    )
