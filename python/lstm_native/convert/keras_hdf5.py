"""HDF5 as Keras writes it, read without libhdf5: strict, and bounded in memory by the size of the file.

After the HDF5 file format specification, version 3.0: groups of both forms, attributes, contiguous and
compact datasets. What could reach outside of the file, stand for more than it holds or run in circles is
refused: links other than hard ones, external and virtual storage, filters, datasets without data.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_native.saving.json_text import shortened

MAGIC = b"\x89HDF\r\n\x1a\n"
UNDEFINED = (1 << 64) - 1  # the address of what is not there
_MAX_DEPTH = 64
_MAX_AXES = 32
# A group or dataset of any HDF5 library takes more than 200 bytes; below that, structures lie in each other.
_BYTES_PER_OBJECT = 128
# How often the bytes of a file may be looked at; well-formed ones are once.
_PASSES = 4
# Bytes of attributes' texts, and one more for every so many of the file: a configuration is the longest.
_TEXTS = 8 << 20
_BYTES_PER_TEXT = 8

_CLASSES = (
    "integer", "float", "time", "string", "bit field", "opaque", "compound", "reference", "enumeration",
    "variable-length", "array",
)  # fmt: skip
# Precision, exponent's place and size, mantissa's size and bias of IEEE numbers, by bytes.
_IEEE = {2: (16, 10, 5, 0, 10, 15), 4: (32, 23, 8, 0, 23, 127), 8: (64, 52, 11, 0, 52, 1023)}


@dataclass
class Dataset:
    """An array in the file.

    Attributes:
        path: names from the root on.
        shape: its shape.
        dtype: its type, numbers of 1 to 8 bytes.
        attributes: strings, lists of strings and arrays by name.
    """

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    attributes: dict[str, Any]
    data: memoryview = field(repr=False)

    def read(self) -> npt.NDArray[Any]:
        """The values, read-only where they are those in the file."""
        return np.frombuffer(self.data, self.dtype).reshape(self.shape)


@dataclass
class Group:
    """A folder in the file.

    Attributes:
        path: names from the root on.
        attributes: strings, lists of strings and arrays by name.
        members: groups and datasets by name.
    """

    path: str
    attributes: dict[str, Any]
    members: dict[str, Group | Dataset]

    def group(self, path: str) -> Group | None:
        """The group at a path from here; None where there is none."""
        found = self._at(path)
        return found if isinstance(found, Group) else None

    def dataset(self, path: str) -> Dataset | None:
        """The dataset at a path from here; None where there is none."""
        found = self._at(path)
        return found if isinstance(found, Dataset) else None

    def _at(self, path: str) -> Group | Dataset | None:
        found: Group | Dataset | None = self
        for name in path.split("/"):
            found = found.members.get(name) if isinstance(found, Group) else None
        return found

    def datasets(self) -> Iterator[Dataset]:
        """All datasets below."""
        for member in self.members.values():
            if isinstance(member, Dataset):
                yield member
            else:
                yield from member.datasets()

    def strings(self, name: str) -> list[str] | None:
        """The attribute `name`, a list of strings; parts `name0`, `name1` ... of a long one are joined."""
        if name in self.attributes:
            parts = [self.attributes[name]]
        else:
            parts = []
            while f"{name}{len(parts)}" in self.attributes:
                parts.append(self.attributes[f"{name}{len(parts)}"])
            if not parts:
                return None
        found: list[str] = []
        for part in parts:
            values = list(part) if isinstance(part, list | np.ndarray) else [part]
            if not all(isinstance(value, str) for value in values):
                raise ValueError(f"attribute {name!r} of {self.path or '/'} is no list of strings")
            found += values
        return found


def read_hdf5(data: bytes, where: str) -> Group:
    """The root of an HDF5 file.

    Args:
        data: all of the file.
        where: its name, for messages.

    Raises:
        ValueError: the file is damaged, hostile, or has what Keras does not write.
    """
    try:
        return _Reader(data).root()
    except (struct.error, OverflowError, UnicodeDecodeError) as error:
        raise ValueError(f"{where}: this is an HDF5 file, but a damaged one: {error}") from None
    except ValueError as error:
        raise ValueError(f"{where}: not read as an HDF5 file: {error}") from None


class _Type(NamedTuple):
    """An element's type: `dtype` for numbers, `string` for text of fixed length, neither for any length."""

    size: int
    dtype: np.dtype[Any] | None = None
    string: bool = False


class _Message(NamedTuple):
    kind: int
    start: int
    size: int


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._size = len(data)
        self._work = _PASSES * self._size + 65536
        self._objects: set[int] = set()
        self._max_objects = 64 + self._size // _BYTES_PER_OBJECT
        self._stored = 0
        self._texts = _TEXTS + self._size // _BYTES_PER_TEXT
        self._heaps: dict[int, dict[int, tuple[int, int]]] = {}

    def root(self) -> Group:
        if not self._data.startswith(MAGIC):
            raise ValueError("no HDF5 file: it does not begin as one")
        version = self._number(8, 1)
        if version in (0, 1):
            sizes, at = self._bytes(13, 2), 24 + 4 * version
            base, _, end, _ = struct.unpack("<4Q", self._bytes(at, 32))
            start = self._number(at + 40, 8)
        elif version in (2, 3):
            sizes = self._bytes(9, 2)
            base, _, end, start = struct.unpack("<4Q", self._bytes(12, 32))
        else:
            raise ValueError(f"version {version} of the HDF5 superblock is not known")
        if sizes != b"\x08\x08" or base != 0:
            raise ValueError("expected HDF5 addresses of 8 bytes that count from the start of the file")
        if end > self._size:
            raise ValueError(f"the HDF5 file is truncated: {self._size} bytes of {end}")
        found = self._object(start, "", 0)
        if not isinstance(found, Group):
            raise ValueError("the root of the HDF5 file is no group")
        return found

    # --- bytes ------------------------------------------------------------------------------------

    def _bytes(self, at: int, count: int) -> bytes:
        if at < 0 or count < 0 or at + count > self._size:
            raise ValueError(f"the HDF5 file is truncated or damaged: byte {at + count} of {self._size}")
        self._work -= count + 8
        if self._work < 0:
            raise ValueError("structures of the HDF5 file lie in each other")
        return self._data[at : at + count]

    def _number(self, at: int, count: int) -> int:
        return int.from_bytes(self._bytes(at, count), "little")

    def _signature(self, at: int, expected: bytes) -> None:
        if self._bytes(at, len(expected)) != expected:
            raise ValueError(f"the HDF5 file is damaged: no {expected.decode()} at byte {at}")

    # --- objects ----------------------------------------------------------------------------------

    def _object(self, at: int, path: str, depth: int) -> Group | Dataset:
        if at in self._objects:
            raise ValueError(f"{shortened(path)} is the same object as another one, as in a circle of links")
        self._objects.add(at)
        if len(self._objects) > self._max_objects:
            raise ValueError("the HDF5 file names more objects than it has room for")
        if depth > _MAX_DEPTH:
            raise ValueError(f"groups of the HDF5 file are nested more than {_MAX_DEPTH} deep")
        links: dict[str, int] | None = None
        found: dict[int, _Message] = {}
        attributes: dict[str, Any] = {}
        for message in self._messages(at):
            kind, start, _ = message
            if kind == 0x0C:
                name, value = self._attribute(message, path)
                attributes[name] = value
            elif kind == 0x11:
                links = self._symbol_table(start, path) | (links or {})
            elif kind == 0x06:
                name, address = self._link(start, path)
                links = links or {}
                if name in links:
                    raise ValueError(f"{path or '/'} has two members {shortened(name)}")
                links[name] = address
            elif kind == 0x02:
                links = links or {}
                flags = self._number(start + 1, 1)
                if self._number(start + 2 + (8 if flags & 1 else 0), 8) != UNDEFINED:
                    raise ValueError(
                        f"{path or '/'} keeps its links in dense form, which Keras does not write"
                    )
            elif kind == 0x15:
                flags = self._number(start + 1, 1)
                if self._number(start + 2 + (2 if flags & 1 else 0), 8) != UNDEFINED:
                    raise ValueError(
                        f"{path or '/'} keeps its attributes in dense form, which Keras does not write"
                    )
            elif kind == 0x07:
                raise ValueError(f"{path} is stored in external files, which are not opened")
            elif kind == 0x0B:
                raise ValueError(f"{path} is stored with filters (compression), which Keras does not write")
            else:
                found[kind] = message
        if links is None:
            return self._dataset(found, attributes, path)
        members = {
            name: self._object(address, f"{path}/{name}" if path else name, depth + 1)
            for name, address in links.items()
        }
        return Group(path, attributes, members)

    def _messages(self, at: int) -> Iterator[_Message]:
        """The messages of an object header, in either form."""
        blocks: list[tuple[int, int]]
        if self._bytes(at, 4) == b"OHDR":
            version, flags = self._bytes(at + 4, 2)
            if version != 2:
                raise ValueError(f"version {version} of an HDF5 object header is not known")
            start = at + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
            count = 1 << (flags & 3)
            blocks = [(start + count, self._number(start, count))]
            head, wide = 6 if flags & 4 else 4, False
        else:
            if self._number(at, 1) != 1:
                raise ValueError(f"the HDF5 file is damaged: no object header at byte {at}")
            blocks = [(at + 16, self._number(at + 8, 4))]
            head, wide = 8, True
        for start, size in blocks:  # which grows
            self._bytes(start, 0)
            end = start + size
            while start + head <= end:
                if wide:
                    kind, length, flags = struct.unpack("<HHB", self._bytes(start, 5))
                else:
                    kind, length, flags = struct.unpack("<BHB", self._bytes(start, 4))
                start += head
                if start + length > end:
                    raise ValueError(f"the HDF5 file is damaged: a message at byte {start} is too long")
                if flags & 2:
                    raise ValueError("the HDF5 file has shared messages, which Keras does not write")
                if kind == 0x10:
                    block, size = struct.unpack("<QQ", self._bytes(start, 16))
                    if wide:
                        blocks.append((block, size))
                    else:
                        self._signature(block, b"OCHK")
                        blocks.append((block + 4, size - 8))
                else:
                    self._bytes(start, length)
                    yield _Message(kind, start, length)
                start += length

    # --- links ------------------------------------------------------------------------------------

    def _name(self, raw: bytes, path: str) -> str:
        name = raw.decode("utf-8")
        if not name or name in (".", "..") or "/" in name:
            raise ValueError(f"{path or '/'} has a member with the name {shortened(name)}")
        return name

    def _link(self, at: int, path: str) -> tuple[str, int]:
        version, flags = self._bytes(at, 2)
        if version != 1:
            raise ValueError(f"version {version} of an HDF5 link is not known")
        at += 2
        kind = 0
        if flags & 8:
            kind = self._number(at, 1)
            at += 1
        at += (8 if flags & 4 else 0) + (1 if flags & 16 else 0)
        count = 1 << (flags & 3)
        length = self._number(at, count)
        name = self._name(self._bytes(at + count, length), path)
        if kind:
            self._refuse_link(path, name, kind)
        return name, self._number(at + count + length, 8)

    def _refuse_link(self, path: str, name: str, kind: int) -> None:
        what = {1: "a soft", 64: "an external"}.get(kind, "an unknown kind of")
        raise ValueError(f"{path or '/'} has {what} link {shortened(name)}, which is not followed")

    def _symbol_table(self, at: int, path: str) -> dict[str, int]:
        tree, heap = struct.unpack("<QQ", self._bytes(at, 16))
        self._signature(heap, b"HEAP")
        size, _, names = struct.unpack("<QQQ", self._bytes(heap + 8, 24))
        self._bytes(names, 0)
        if names + size > self._size:
            raise ValueError("the HDF5 file is truncated or damaged: a heap of names ends beyond it")
        links: dict[str, int] = {}
        todo, seen = [tree], {tree}
        while todo:
            node = todo.pop()
            if self._bytes(node, 4) == b"TREE":
                kind, _, count = struct.unpack("<BBH", self._bytes(node + 4, 4))
                if kind != 0:
                    raise ValueError("the HDF5 file is damaged: a tree of another kind in a group")
                children = struct.unpack(f"<{2 * count}Q", self._bytes(node + 32 - 8, 16 * count))[1::2]
                before = len(seen)
                seen.update(children)
                if len(seen) != before + count:
                    raise ValueError("the HDF5 file has a tree that runs in circles")
                todo += reversed(children)
                continue
            self._signature(node, b"SNOD")
            count = self._number(node + 6, 2)
            table = self._bytes(node + 8, 40 * count)
            for offset, address, cache in struct.iter_unpack("<QQI20x", table):
                end = self._data.find(b"\0", names + offset, names + size) if offset < size else -1
                if end < 0:
                    raise ValueError("the HDF5 file is damaged: a name ends beyond its heap")
                name = self._name(self._bytes(names + offset, end - names - offset), path)
                if cache == 2:
                    self._refuse_link(path, name, 1)
                if name in links:
                    raise ValueError(f"{path or '/'} has two members {shortened(name)}")
                links[name] = address
        return links

    # --- values -----------------------------------------------------------------------------------

    def _dataset(self, found: dict[int, _Message], attributes: dict[str, Any], path: str) -> Dataset:
        if not {1, 3, 8} <= found.keys():
            raise ValueError(f"{path or '/'} is neither a group nor a dataset")
        kind = self._type(found[3].start, path)
        if kind.dtype is None:
            raise ValueError(f"{path} holds strings, expected numbers")
        shape = self._shape(found[1].start, path)
        if any(size > self._size for size in shape):
            raise ValueError(f"{path} has shape {shape}, which is more than the file can hold")
        needed = math.prod(shape) * kind.size
        start = found[8].start
        version, storage = self._bytes(start, 2)
        if version not in (3, 4):
            raise ValueError(f"{path}: version {version} of the HDF5 layout is not known")
        if storage == 0:
            at, size = start + 4, self._number(start + 2, 2)
        elif storage == 1:
            at, size = struct.unpack("<QQ", self._bytes(start + 2, 16))
        else:
            what = {2: "in chunks", 3: "in other files (virtual)"}.get(storage, "in an unknown way")
            raise ValueError(f"{path} is stored {what}, which Keras does not write")
        if needed == 0:
            at = size = 0
        if at == UNDEFINED:
            raise ValueError(f"{path} has shape {shape} but no values")
        if size != needed:
            raise ValueError(f"{path} has shape {shape}, which needs {needed} bytes, but {size} are stored")
        if at + size > self._size:
            raise ValueError(f"the HDF5 file is truncated or damaged: {path} ends beyond it")
        self._stored += size
        if self._stored > self._size:
            raise ValueError("datasets of the HDF5 file overlap")
        return Dataset(path, shape, kind.dtype, attributes, memoryview(self._data)[at : at + size])

    def _shape(self, at: int, path: str) -> tuple[int, ...]:
        version, rank, _, kind = self._bytes(at, 4)
        if version not in (1, 2):
            raise ValueError(f"{path}: version {version} of an HDF5 dataspace is not known")
        if version == 2 and kind == 2:
            return (0,)
        if rank > _MAX_AXES:
            raise ValueError(f"{path} has {rank} axes, expected at most {_MAX_AXES}")
        return struct.unpack(f"<{rank}Q", self._bytes(at + (8 if version == 1 else 4), 8 * rank))

    def _type(self, at: int, path: str) -> _Type:
        number, order, second = self._bytes(at, 3)
        size = self._number(at + 4, 4)
        kind = number & 15
        sign = "<>"[order & 1]
        if kind == 0 and size in (1, 2, 4, 8):
            if struct.unpack("<HH", self._bytes(at + 8, 4)) == (0, 8 * size):
                return _Type(size, np.dtype(f"{sign}{'i' if order & 8 else 'u'}{size}"))
        elif kind == 1 and size in _IEEE and not order & 64:
            offset, *ieee = struct.unpack("<HHBBBBI", self._bytes(at + 8, 12))
            if offset == 0 and tuple(ieee) == _IEEE[size] and second == 8 * size - 1:
                return _Type(size, np.dtype(f"{sign}f{size}"))
        elif kind == 3 and size > 0:
            return _Type(size, string=True)
        elif kind == 9 and order & 15 == 1:
            return _Type(16)
        name = _CLASSES[kind] if kind < len(_CLASSES) else "unknown"
        raise ValueError(f"{path or '/'} holds values of type {name} with {size} bytes, expected numbers")

    def _attribute(self, message: _Message, path: str) -> tuple[str, Any]:
        at = message.start
        version, flags, *sizes = struct.unpack("<BBHHH", self._bytes(at, 8))
        if version not in (1, 2, 3) or (version > 1 and flags):
            raise ValueError(f"{path or '/'} has an attribute of a form that Keras does not write")
        at += 9 if version == 3 else 8
        starts = []
        for size in sizes:
            starts.append(at)
            at += size + (-size % 8 if version == 1 else 0)
        name = self._bytes(starts[0], sizes[0]).split(b"\0")[0].decode("utf-8")
        label = f"attribute {shortened(name)} of {path or '/'}"
        kind, shape = self._type(starts[1], label), self._shape(starts[2], label)
        count = math.prod(shape)
        if count * kind.size > message.start + message.size - at:
            raise ValueError(f"{label} has shape {shape}, which is more than is stored")
        raw = self._bytes(at, count * kind.size)
        if kind.dtype is not None:
            return name, np.frombuffer(raw, kind.dtype).reshape(shape)
        items = (raw[i : i + kind.size] for i in range(0, len(raw), kind.size))
        texts = [self._counted(item if kind.string else self._text(item), label) for item in items]
        values = [text.rstrip(b"\0").decode("utf-8") for text in texts]
        return name, values if shape else values[0]

    def _counted(self, text: bytes, label: str) -> bytes:
        self._texts -= len(text) + 8
        if self._texts < 0:
            raise ValueError(f"{label}: the texts of all attributes are more than belongs into memory")
        return text

    def _text(self, reference: bytes) -> bytes:
        """A string of any length, which lies in a global heap."""
        length, heap, index = struct.unpack("<IQI", reference)
        if length == 0:
            return b""
        if heap not in self._heaps:
            self._heaps[heap] = self._heap(heap)
        place = self._heaps[heap].get(index)
        if place is None or length > place[1]:
            raise ValueError("the HDF5 file is damaged: a string is not in its heap")
        return self._bytes(place[0], length)

    def _heap(self, at: int) -> dict[int, tuple[int, int]]:
        self._signature(at, b"GCOL")
        end = at + self._number(at + 8, 8)
        if end > self._size:
            raise ValueError("the HDF5 file is truncated or damaged: a heap of strings ends beyond it")
        at += 16
        places = {}
        while at + 16 <= end:
            index, _, size = struct.unpack("<HHxxxxQ", self._bytes(at, 16))
            if index == 0:
                break
            if at + 16 + size > end:
                raise ValueError("the HDF5 file is damaged: a string ends beyond its heap")
            places[index] = (at + 16, size)
            at += 16 + size + -size % 8
        return places
