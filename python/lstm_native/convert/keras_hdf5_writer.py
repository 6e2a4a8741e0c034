"""HDF5 files in the oldest form, which every reader knows, without libhdf5.

After the HDF5 file format specification, version 3.0: superblock 0, groups with symbol tables, contiguous
datasets, strings of any length in global heaps.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native.convert.keras_hdf5 import MAGIC, UNDEFINED

Array = npt.NDArray[Any]

_LEAF, _INTERNAL = 4, 16  # half of what a leaf and a node of a tree hold; HDF5's defaults
_SUPERBLOCK = 96
_MOST_STRINGS = 1000  # of one heap, and of one attribute: a message has at most 65535 bytes
_NO_ROOM = 1  # says that a heap of names has no free room
_ROUND = 8


@dataclass
class NewGroup:
    """A group to be written: strings and lists of strings by name, groups and arrays by name."""

    attributes: dict[str, str | list[str]] = field(default_factory=dict)
    members: dict[str, NewGroup | Array] = field(default_factory=dict)

    def group(self, path: str) -> NewGroup:
        """The group at a path from here, made where it is not there."""
        found = self
        for name in path.split("/"):
            inner = found.members.setdefault(name, NewGroup())
            assert isinstance(inner, NewGroup)
            found = inner
        return found


def write_hdf5(root: NewGroup) -> bytes:
    """The bytes of a file with this root."""
    return _Writer().file(root)


class _Writer:
    def __init__(self) -> None:
        self._parts: list[bytes] = [bytes(_SUPERBLOCK)]
        self._end = _SUPERBLOCK

    def file(self, root: NewGroup) -> bytes:
        header = self._group(root)
        self._parts[0] = struct.pack(
            "<8s8B2HI4Q QQII16x",
            MAGIC, 0, 0, 0, 0, 0, 8, 8, 0, _LEAF, _INTERNAL, 0,
            0, UNDEFINED, self._end, UNDEFINED, 0, header, 0, 0,
        )  # fmt: skip
        return b"".join(self._parts)

    def _add(self, content: bytes) -> int:
        """Puts `content` behind what is there; returns its address."""
        at = self._end
        self._parts.append(_padded(content))
        self._end += len(self._parts[-1])
        return at

    def _object(self, messages: list[tuple[int, bytes]], attributes: Mapping[str, str | list[str]]) -> int:
        found = [*messages, *((0x0C, self._attribute(n, v)) for n, v in _cut(attributes).items())]
        body = b"".join(struct.pack("<HHB3x", kind, len(_padded(m)), 0) + _padded(m) for kind, m in found)
        return self._add(struct.pack("<BxHIIxxxx", 1, len(found), 1, len(body)) + body)

    def _group(self, group: NewGroup) -> int:
        # By the bytes of the names, in which order readers search.
        members = sorted((name.encode(), member) for name, member in group.members.items())
        heap, offsets = bytearray(_ROUND), []
        for name, _ in members:
            offsets.append(len(heap))
            heap += _padded(name + b"\0")
        addresses = [
            self._group(member) if isinstance(member, NewGroup) else self._dataset(member)
            for _, member in members
        ]
        names = self._add(bytes(heap))
        local = self._add(struct.pack("<4sB3xQQQ", b"HEAP", 0, len(heap), _NO_ROOM, names))
        # Leaves of up to 8 entries with the offset of their last name, then nodes of up to 32 of these.
        level: list[tuple[int, int]] = []
        for i in range(0, len(members), 2 * _LEAF):
            entries = list(zip(offsets, addresses, strict=True))[i : i + 2 * _LEAF]
            leaf = struct.pack("<4sBxH", b"SNOD", 1, len(entries))
            leaf += b"".join(struct.pack("<QQII16x", offset, at, 0, 0) for offset, at in entries)
            level.append((self._add(leaf.ljust(8 + 40 * 2 * _LEAF, b"\0")), entries[-1][0]))
        depth = 0
        while True:
            level = self._nodes(level, depth)
            if len(level) == 1:
                break
            depth += 1
        return self._object([(0x11, struct.pack("<QQ", level[0][0], local))], group.attributes)

    def _nodes(self, children: list[tuple[int, int]], depth: int) -> list[tuple[int, int]]:
        """The nodes above `children` (address, last name), from left to right."""
        size = 24 + 8 + 16 * 2 * _INTERNAL
        groups = [children[i : i + 2 * _INTERNAL] for i in range(0, len(children), 2 * _INTERNAL)] or [[]]
        first = self._end
        nodes = []
        before = 0
        for i, group in enumerate(groups):
            left = first + size * (i - 1) if i else UNDEFINED
            right = first + size * (i + 1) if i + 1 < len(groups) else UNDEFINED
            node = struct.pack("<4sBBHQQQ", b"TREE", 0, depth, len(group), left, right, before)
            node += b"".join(struct.pack("<QQ", at, last) for at, last in group)
            before = group[-1][1] if group else 0
            nodes.append((self._add(node.ljust(size, b"\0")), before))
        return nodes

    def _dataset(self, array: Array) -> int:
        array = np.asarray(array, order="C")
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        at = self._add(array.tobytes()) if array.size else UNDEFINED
        return self._object(
            [
                (0x01, _space(array.shape)),
                (0x03, _type(array.dtype)),
                (0x05, struct.pack("<BBBBI", 2, 2, 2, 1, 0)),  # room late, filled if asked, with zero
                (0x08, struct.pack("<BBQQ", 3, 1, at, array.nbytes)),
            ],
            {},
        )

    def _attribute(self, name: str, value: str | list[str]) -> bytes:
        texts = [text.encode() for text in ([value] if isinstance(value, str) else value)]
        heap = struct.pack("<4sB3xQ", b"GCOL", 1, 0)
        for i, text in enumerate(texts):
            heap += struct.pack("<HHxxxxQ", i + 1, 1, len(text)) + _padded(text)
        free = max(4096 - len(heap), 16)
        heap = heap[:8] + struct.pack("<Q", len(heap) + free) + heap[16:]
        heap += struct.pack("<HHxxxxQ", 0, 0, free) + bytes(free - 16)
        at = self._add(heap)
        data = b"".join(struct.pack("<IQI", len(text), at, i + 1) for i, text in enumerate(texts))
        # UTF-8 of any length, made of bytes.
        kind = struct.pack("<BBBBI", 0x19, 1, 1, 0, 16) + struct.pack("<BBBBIHH", 0x10, 0, 0, 0, 1, 0, 8)
        space = _space(() if isinstance(value, str) else (len(texts),))
        label = name.encode() + b"\0"
        head = struct.pack("<BxHHH", 1, len(label), len(kind), len(space))
        return head + _padded(label) + _padded(kind) + _padded(space) + data


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % _ROUND)


def _cut(attributes: Mapping[str, str | list[str]]) -> dict[str, str | list[str]]:
    """Attributes of which long lists are cut into `name0`, `name1` ..., as Keras does."""
    found: dict[str, str | list[str]] = {}
    for name, value in attributes.items():
        if isinstance(value, list) and len(value) > _MOST_STRINGS:
            parts = range(0, len(value), _MOST_STRINGS)
            found |= {f"{name}{i}": value[at : at + _MOST_STRINGS] for i, at in enumerate(parts)}
        else:
            found[name] = value
    return found


def _space(shape: tuple[int, ...]) -> bytes:
    return struct.pack(f"<BBB5x{len(shape)}Q", 1, len(shape), 0, *shape)


def _type(dtype: np.dtype[Any]) -> bytes:
    size = dtype.itemsize
    if dtype == np.float32:
        return struct.pack("<BBBBIHHBBBBI", 0x11, 0x20, 31, 0, 4, 0, 32, 23, 8, 0, 23, 127)
    assert dtype.kind in "iu"
    return struct.pack("<BBBBIHH", 0x10, 8 if dtype.kind == "i" else 0, 0, 0, size, 0, 8 * size)
