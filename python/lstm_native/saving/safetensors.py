"""Reader and writer of safetensors files, the format of saved weights. Floor 4.

A file is the header's length (8 bytes, little-endian), the header (JSON from a tensor's name to its
dtype, shape and byte range) and the tensors' bytes. The reader trusts nothing in it.
"""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

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
# What other files of weights start with; as the length of a header all of these are too long.
_OTHER_FORMATS = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file (.h5)",
    b"PK\x03\x04": "a zip archive (.keras, .npz or .pt)",
    b"\x93NUMPY": "a NumPy file (.npy)",
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}

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
        tensors: Arrays by name, any layout and byte order.
        metadata: Strings by name, kept in the header.

    Raises:
        TypeError: A dtype that the format lacks, or names or metadata that are no strings.
        ValueError: The name "__metadata__", or a header over 100 MB.
        OSError: The file cannot be written; `path` is as it was.
    """
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
                f"{', '.join(known.name for known in _NAMES)}"
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
    _replace_file(os.path.realpath(os.fsdecode(path)), [len(text).to_bytes(8, "little"), text, *arrays])


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
    # An integer would be read as the number of an open file.
    with open(os.fspath(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        entries, metadata, start = _read_header(file, size, _where(path))
        data = bytearray(size - start)
        if file.readinto(data) != len(data):
            raise ValueError(f"{_where(path)}: file is truncated: it got shorter while it was read")

    tensors: dict[str, npt.NDArray[Any]] = {}
    for name, dtype, shape, begin, end in entries:
        raw = np.frombuffer(data, np.uint8, end - begin, begin) if end > begin else np.empty(0, np.uint8)
        if dtype.kind == "b" and raw.size and raw.max() > 1:
            raise ValueError(f"{_where(path)}: tensor {name!r}: BOOL data holds bytes other than 0 and 1")
        # A copy is aligned and does not keep the whole file in memory for one tensor.
        tensors[name] = raw.copy().view(dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
    return tensors, metadata


_Entry = tuple[str, np.dtype[Any], tuple[int, ...], int, int]


def _read_header(file: BinaryIO, size: int, where: str) -> tuple[list[_Entry], dict[str, str], int]:
    """The checked entries in order of their bytes, the metadata, and where the data starts."""
    if size < 8:
        raise ValueError(f"{where}: file is truncated: {size} bytes, expected at least 8")
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if length > _MAX_HEADER:
        for magic, kind in _OTHER_FORMATS.items():
            if start.startswith(magic):
                raise ValueError(f"{where}: this is {kind}, expected a safetensors file")
        raise ValueError(f"{where}: header length is {length}, the format allows {_MAX_HEADER}")
    if length > size - 8:
        raise ValueError(f"{where}: header length is {length}, but only {size - 8} bytes follow")
    header = _parse_json(file.read(length), where)
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError(f"{where}: {_METADATA} is no object of strings")

    available = size - 8 - length
    entries = [_check_entry(name, entry, available, where) for name, entry in header.items()]
    entries.sort(key=lambda entry: entry[3:])
    position = 0
    for name, _, _, begin, end in entries:
        if begin != position:
            kind = "overlaps the tensor before it" if begin < position else "leaves a gap before it"
            raise ValueError(
                f"{where}: tensor {name!r}: data_offsets [{begin}, {end}] {kind} (at byte {position})"
            )
        position = end
    if position != available:
        raise ValueError(f"{where}: the tensors take {position} bytes, but {available} follow the header")
    return entries, metadata, 8 + length


def _parse_json(text: bytes, where: str) -> dict[str, Any]:
    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            seen: set[str] = set()
            double = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise ValueError(f"duplicate key {double!r}")
        return result

    def no_constant(name: str) -> Any:
        raise ValueError(f"{name} is no JSON")

    try:
        if not text.startswith(b"{"):
            raise ValueError("it does not start with '{'")
        header = json.loads(text.decode("utf-8"), object_pairs_hook=no_duplicates, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: header is no valid JSON object: {error}") from None
    if not isinstance(header, dict):
        raise ValueError(f"{where}: header is a {type(header).__name__}, expected an object")
    return header


def _check_entry(name: str, entry: Any, available: int, where: str) -> _Entry:
    where = f"{where}: tensor {name!r}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{where}: expected exactly the fields dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _DTYPES:
        raise ValueError(f"{where}: dtype is {kind!r}, expected one of {', '.join(_DTYPES)}")
    if not _is_list_of_sizes(shape):
        raise ValueError(f"{where}: shape is {_short(shape)}, expected sizes that are not negative")
    if len(shape) > _MAX_RANK:
        raise ValueError(f"{where}: shape has {len(shape)} axes, at most {_MAX_RANK} are supported")
    if not _is_list_of_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"{where}: data_offsets is {_short(offsets)}, expected [begin, end]")
    begin, end = offsets
    if end > available:
        raise ValueError(f"{where}: data_offsets end at {end}, but only {available} bytes follow the header")
    dtype = _DTYPES[kind]
    # A zero size would hide an overflow among the others, so the product leaves zeros out.
    if math.prod(dim for dim in shape if dim) * dtype.itemsize > _MAX_DIM:
        raise ValueError(f"{where}: shape {_short(shape)} overflows")
    if math.prod(shape) * dtype.itemsize != end - begin:
        raise ValueError(
            f"{where}: shape {_short(shape)} of {kind} needs {math.prod(shape) * dtype.itemsize} bytes, "
            f"data_offsets hold {end - begin}"
        )
    return name, dtype, tuple(shape), begin, end


def _is_list_of_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, int) and not isinstance(item, bool) and 0 <= item <= _MAX_DIM for item in value
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _where(path: Path) -> str:
    return os.fsdecode(path)


def _replace_file(path: str, parts: list[Any]) -> None:
    """Puts `parts` into a new file that takes the place of `path` only when it is whole on disk."""
    folder, name = os.path.split(path)
    # The errors of the temporary file would name the temporary file.
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    temporary = os.path.join(folder, f".{name[:64]}.{os.urandom(8).hex()}.tmp")
    # open() honours the umask, which tempfile does not.
    with open(temporary, "xb") as file:
        try:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            file.close()
            os.unlink(temporary)
            raise
    try:
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    if os.name == "posix":
        # The rename itself is on disk only when the folder is.
        descriptor = os.open(folder or ".", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
