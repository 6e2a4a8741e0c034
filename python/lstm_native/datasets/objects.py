"""Lists of numbers out of .npz files, which hold them as pickles; nothing in them is run. Floor 4."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
# What the pickle of an array names; anything else is refused.
_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _Object:
    """What a name in a pickle made: an array when `items` are known, else something without interest."""

    items: list[Any] | None = None


def load_npz(path: Path) -> dict[str, Array]:
    """The arrays of a .npz file; arrays of lists as object arrays.

    Args:
        path: the file.

    Raises:
        ValueError: no such file, or a pickle in it that is more than lists of numbers and texts.
    """
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                arrays[name.removesuffix(".npy")] = _array(archive.read(name), f"{path}: {name}")
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: no .npz file: {error}") from None
    return arrays


def _array(data: bytes, label: str) -> Array:
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    _, _, dtype = read(stream)
    if not dtype.hasobject:
        stream.seek(0)
        plain: Array = np.lib.format.read_array(stream, allow_pickle=False)
        return plain
    items = _Reader(data, stream.tell(), label).read()
    result = np.empty(len(items), object)
    for i, item in enumerate(items):
        result[i] = item
    return result


class _Reader:
    """A machine for the part of pickles that lists of numbers need: protocols 0 to 5.

    Args:
        data: bytes.
        start: where the pickle begins in them.
        label: who asks, for messages.
    """

    def __init__(self, data: bytes, start: int, label: str) -> None:
        self._data = data
        self._at = start
        self._label = label
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def read(self) -> list[Any]:
        """The items of the array."""
        try:
            found = self._run()
        except (IndexError, KeyError, TypeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"{self._label}: damaged: {type(error).__name__}: {error}") from None
        if not isinstance(found, _Object) or found.items is None:
            raise ValueError(f"{self._label}: no array of lists")
        return found.items

    def _run(self) -> Any:
        data, stack = self._data, self._stack
        others: dict[int, Callable[[], None]] = {
            ord(code): getattr(self, f"_{name}") for code, name in _OPERATIONS.items()
        }
        at = self._at
        while True:
            code = data[at]
            at += 1
            if code == 0x4B:  # one byte; numbers of words are nearly all there is
                stack.append(data[at])
                at += 1
            elif code == 0x4D:  # two bytes
                stack.append(data[at] | data[at + 1] << 8)
                at += 2
            elif code == 0x2E:
                return stack.pop()
            elif code in others:
                self._at = at
                others[code]()
                at = self._at
            else:
                raise ValueError(
                    f"{self._label}: pickle with the operation {code:#04x}, which is no list of numbers"
                )

    # --- reading ----------------------------------------------------------------------------------

    def _take(self, count: int) -> bytes:
        part = self._data[self._at : self._at + count]
        if count < 0 or len(part) != count:
            raise IndexError("it ends early")
        self._at += count
        return part

    def _number(self, count: int, signed: bool = False) -> int:
        return int.from_bytes(self._take(count), "little", signed=signed)

    def _line(self) -> str:
        end = self._data.find(b"\n", self._at)
        line = self._take(end - self._at).decode("ascii")
        self._at += 1
        return line

    def _since_mark(self) -> list[Any]:
        mark = self._marks.pop()
        items = self._stack[mark:]
        del self._stack[mark:]
        return items

    # --- operations -------------------------------------------------------------------------------

    def _protocol(self) -> None:
        self._take(1)

    def _frame(self) -> None:
        self._take(8)

    def _mark(self) -> None:
        self._marks.append(len(self._stack))

    def _integer4(self) -> None:
        self._stack.append(self._number(4, signed=True))

    def _integer_line(self) -> None:
        line = self._line()
        self._stack.append({"00": False, "01": True}[line] if line in ("00", "01") else int(line.rstrip("L")))

    def _long1(self) -> None:
        self._stack.append(self._number(self._number(1), signed=True))

    def _none(self) -> None:
        self._stack.append(None)

    def _true(self) -> None:
        self._stack.append(True)

    def _false(self) -> None:
        self._stack.append(False)

    def _text1(self) -> None:
        self._stack.append(self._take(self._number(1)).decode("latin1"))

    def _text4(self) -> None:
        self._stack.append(self._take(self._number(4)).decode("latin1"))

    def _text_line(self) -> None:
        self._stack.append(self._line())

    def _empty_list(self) -> None:
        self._stack.append([])

    def _empty_tuple(self) -> None:
        self._stack.append(())

    def _list(self) -> None:
        self._stack.append(self._since_mark())

    def _tuple(self) -> None:
        self._stack.append(tuple(self._since_mark()))

    def _tuple_of(self, count: int) -> None:
        items = tuple(self._stack[-count:])
        del self._stack[-count:]
        self._stack.append(items)

    def _tuple1(self) -> None:
        self._tuple_of(1)

    def _tuple2(self) -> None:
        self._tuple_of(2)

    def _tuple3(self) -> None:
        self._tuple_of(3)

    def _append(self) -> None:
        item = self._stack.pop()
        self._stack[-1].append(item)

    def _appends(self) -> None:
        items = self._since_mark()
        self._stack[-1].extend(items)

    def _name(self, module: str, name: str) -> None:
        if (module, name) not in _KNOWN:
            raise ValueError(f"{self._label}: pickle with {module}.{name}, which is no list of numbers")
        self._stack.append(_Object())

    def _global(self) -> None:
        module = self._line()
        self._name(module, self._line())

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._name(module, name)

    def _reduce(self) -> None:
        self._stack.pop()
        self._stack[-1] = _Object()

    def _build(self) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        # (version, shape, type, order, items) of an array; of a type it is something else.
        if isinstance(target, _Object) and len(state) == 5 and isinstance(state[4], list):
            target.items = state[4]

    def _put1(self) -> None:
        self._memo[self._number(1)] = self._stack[-1]

    def _put4(self) -> None:
        self._memo[self._number(4)] = self._stack[-1]

    def _put_line(self) -> None:
        self._memo[int(self._line())] = self._stack[-1]

    def _memoize(self) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _get1(self) -> None:
        self._stack.append(self._memo[self._number(1)])

    def _get4(self) -> None:
        self._stack.append(self._memo[self._number(4)])

    def _get_line(self) -> None:
        self._stack.append(self._memo[int(self._line())])


# Of Python's pickle protocol (PEP 3154 and pickletools).
_OPERATIONS = {
    "\x80": "protocol", "\x95": "frame", "(": "mark", "J": "integer4", "I": "integer_line",
    "L": "integer_line", "\x8a": "long1", "N": "none", "\x88": "true", "\x89": "false", "\x8c": "text1",
    "X": "text4", "V": "text_line", "U": "text1", "T": "text4", "S": "text_line", "C": "text1",
    "B": "text4", "]": "empty_list", ")": "empty_tuple", "l": "list", "t": "tuple", "\x85": "tuple1",
    "\x86": "tuple2", "\x87": "tuple3", "a": "append", "e": "appends", "c": "global",
    "\x93": "stack_global", "R": "reduce", "b": "build", "q": "put1", "r": "put4", "p": "put_line",
    "\x94": "memoize", "h": "get1", "j": "get4", "g": "get_line",
}  # fmt: skip
