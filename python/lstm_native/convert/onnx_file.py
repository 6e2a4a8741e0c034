"""ONNX models as plain data: read with care from files that may be damaged or hostile.

Nothing here runs a model. What is read is checked: sizes against the bytes that are there, names, the order
of the nodes, and every attribute against the operator's schema.
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native.saving.atomic import path_name
from lstm_native.saving.safetensors import open_regular

Array = npt.NDArray[Any]

# Names of ONNX's element types by their numbers (TensorProto.DataType). Others are no numbers of NumPy's.
DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64",
}  # fmt: skip
# Where a tensor without raw bytes keeps its numbers.
_FIELDS = {
    "float32": "float_data", "float64": "double_data", "int64": "int64_data", "uint32": "uint64_data",
    "uint64": "uint64_data",
}  # fmt: skip
OLDEST_OPSET = 7  # the recurrent operators have had their meaning since
MAX_FILE = (1 << 31) - 1  # of protobuf
# Nodes, names, tensors and the like that a file may have, all together: each may take 2 bytes in the file and
# a hundred in memory.
MAX_FIELDS = 150_000
MAX_RANK = 16
# How a field of ModelProto begins.
_FIRST_BYTES = [bytes([b]) for b in (0x08, 0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0x72)]


def _quoted(name: str) -> str:
    """A name from a file, short and on one line."""
    return repr(name if len(name) <= 80 else name[:77] + "...")


@dataclass(frozen=True)
class Value:
    """An input of a graph: its name, its type and its shape, None or a name where a size may vary."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class Node:
    """One use of an operator.

    Attributes:
        label: file and node, for messages.
        op: the operator.
        inputs, outputs: names; "" where an optional one is absent.
        attributes: values of the attributes that are given.
        opset: version of the operators.
    """

    label: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int

    def error(self, why: str) -> ValueError:
        """An error that names the node."""
        return ValueError(f"{self.label}: {why}")

    def get(self, name: str, default: Any = None) -> Any:
        """The value of an attribute."""
        return self.attributes.get(name, default)


@dataclass
class Graph:
    """A model.

    Attributes:
        label: who reads what, for messages.
        inputs: without those that have a value.
        outputs: names.
        constants: values by name.
        nodes: each reads only what stands before it.
        opset: version of the operators.
        size: bytes that were read.
    """

    label: str
    opset: int
    size: int
    inputs: list[Value] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    def error(self, why: str) -> ValueError:
        """An error that names the file."""
        return ValueError(f"{self.label}: {why}")


def require_onnx(caller: str) -> None:
    """Raises ImportError with what to install where the package onnx is not there."""
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{caller} needs the package onnx ({error}); install it with: pip install 'lstm-native[onnx]'"
        ) from error


def read_graph(source: Any, caller: str) -> Graph:
    """The model in `source`.

    Args:
        source: path, bytes, or an `onnx.ModelProto`.
        caller: who reads, for messages.

    Raises:
        ValueError: no ONNX model, or one that breaks a rule of the format.
        OSError: a file that cannot be read.
        TypeError: `source` is something else.
        ImportError: onnx is not installed.
    """
    require_onnx(caller)
    import onnx
    from google.protobuf.message import DecodeError

    folder: str | None = None
    label = caller
    if isinstance(source, str | os.PathLike):
        path = path_name(source, f"{caller}: source")
        label, folder = f"{caller}: {path}", os.path.dirname(os.path.abspath(path))
        source = _read(path, label)
    if isinstance(source, bytes | bytearray | memoryview):
        size = len(source)
        check_fields(source, onnx.ModelProto.DESCRIPTOR, label)
        try:
            model = onnx.ModelProto.FromString(bytes(source))
        except DecodeError:
            raise ValueError(f"{label}: {size} bytes are no ONNX model, or a damaged one") from None
    elif isinstance(source, onnx.ModelProto):
        model = source
        size = model.ByteSize()
    else:
        raise TypeError(
            f"{caller}: got a {type(source).__name__}, expected a path, bytes or an onnx.ModelProto"
        )
    try:
        return _Reader(label, folder, size).graph(model)
    except UnicodeDecodeError:
        raise ValueError(f"{label}: a name in it is no UTF-8 text") from None


def check_fields(data: Any, descriptor: Any, label: str) -> None:
    """Counts the fields of a message of protobuf and of those in it, before protobuf makes objects of them.

    What is damaged is left to protobuf, which reads in the same order.

    Args:
        data: the bytes.
        descriptor: protobuf's description of the message.
        label: who reads what.

    Raises:
        ValueError: there are too many.
    """
    held: dict[Any, dict[int, Any]] = {}  # the messages in a message, by the number of their field

    def messages(of: Any) -> dict[int, Any]:
        if of.full_name not in held:
            held[of.full_name] = {f.number: f.message_type for f in of.fields if f.message_type is not None}
        return held[of.full_name]

    place, end, inner = 0, len(data), messages(descriptor)
    around: list[tuple[int, dict[int, Any]]] = []  # ends and fields of the messages around this one
    with contextlib.suppress(IndexError):  # the bytes end within a field
        for _ in range(MAX_FIELDS + 1):
            while place >= end:
                if not around:
                    return
                end, inner = around.pop()
            tag = data[place]
            place += 1
            if tag > 127:
                tag, place = _varint(data, place - 1)
            wire = tag & 7
            if wire == 2:
                size = data[place]
                place += 1
                if size > 127:
                    size, place = _varint(data, place - 1)
                if size > end - place:
                    return
                if tag >> 3 in inner:
                    around.append((end, inner))
                    end, inner = place + size, messages(inner[tag >> 3])
                else:
                    place += size
            elif wire == 0:
                _, place = _varint(data, place)
            elif wire in (1, 5):
                place += 8 if wire == 1 else 4
            else:
                return
        raise ValueError(f"{label}: it has more than {MAX_FIELDS} nodes, names, tensors and the like")


def _varint(data: Any, place: int) -> tuple[int, int]:
    """A number of protobuf, and where it ends."""
    if place < len(data) and data[place] < 128:
        return data[place], place + 1
    value = shift = 0
    for byte in data[place : place + 10]:
        place += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
    return value, place


def node_of(proto: Any, label: str, opset: int) -> Node:
    """A node alone, checked against the schema of its operator."""
    return _Reader(label, None, proto.ByteSize()).node(proto, opset)


def _read(path: str, label: str) -> bytes:
    """The bytes of a file of a size that can be a model's."""
    with open_regular(path, "an ONNX file") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_FILE:
            raise ValueError(f"{label}: {size} bytes, a model has at most {MAX_FILE}")
        # A zip, text or a pickle ends here, before it is read.
        if file.read(1) not in _FIRST_BYTES:
            raise ValueError(f"{label}: {size} bytes are no ONNX model, or a damaged one")
        file.seek(0)
        return file.read()


class _Reader:
    """Turns messages of protobuf into plain data."""

    def __init__(self, label: str, folder: str | None, size: int) -> None:
        self._label = label
        self._folder = folder
        self._size = size

    def _error(self, why: str) -> ValueError:
        return ValueError(f"{self._label}: {why}")

    def _texts(self, *values: Any) -> None:
        """Refuses what protobuf gives as bytes, for it is no UTF-8."""
        if not all(isinstance(value, str) for value in values):
            raise self._error("a name in it is no UTF-8 text")

    def graph(self, model: Any) -> Graph:
        if not model.HasField("graph"):
            raise self._error(f"{self._size} bytes are no ONNX model: it has no graph")
        proto = model.graph
        opset = self._opset(model)
        if proto.sparse_initializer:
            raise self._error("the graph has sparse initializers, which are not supported")
        graph = Graph(self._label, opset, self._size)
        for tensor in proto.initializer:
            self._texts(tensor.name)
            if not tensor.name or tensor.name in graph.constants:
                raise self._error(f"two initializers are called {_quoted(tensor.name)}, or one has no name")
            graph.constants[tensor.name] = self.tensor(tensor, f"initializer {_quoted(tensor.name)}")
        known = set(graph.constants)
        seen = set()
        for value in proto.input:
            self._texts(value.name)
            if value.name in seen:
                raise self._error(f"two inputs are called {_quoted(value.name)}")
            seen.add(value.name)
            if value.name not in graph.constants:  # before IR version 4, initializers were listed too
                graph.inputs.append(self._value(value))
                known.add(value.name)
        for item in proto.node:
            node = self.node(item, opset)
            for name in node.inputs:
                if name and name not in known:
                    raise node.error(f"it reads {_quoted(name)}, which nothing before it gives")
            for name in node.outputs:
                if name and name in known:
                    raise node.error(f"it gives {_quoted(name)}, a name that is taken")
                known.add(name)
            graph.nodes.append(node)
        for value in proto.output:
            self._texts(value.name)
            if value.name not in known or not value.name:
                raise self._error(f"no node gives the output {_quoted(value.name)}")
            graph.outputs.append(value.name)
        if not graph.outputs:
            raise self._error("the graph has no outputs")
        return graph

    def _opset(self, model: Any) -> int:
        import onnx

        versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
        newest = onnx.defs.onnx_opset_version()
        if len(versions) != 1 or not OLDEST_OPSET <= versions[0] <= newest:
            raise self._error(
                f"opset versions are {versions}, expected one from {OLDEST_OPSET} to {newest} (of the onnx "
                "package that is installed)"
            )
        return int(versions[0])

    def _value(self, proto: Any) -> Value:
        if not proto.type.HasField("tensor_type"):
            raise self._error(f"input {_quoted(proto.name)} is no tensor")
        tensor = proto.type.tensor_type
        dtype = DTYPES.get(tensor.elem_type)
        if dtype is None:
            raise self._error(
                f"input {_quoted(proto.name)} has element type {tensor.elem_type}, expected one of {DTYPES}"
            )
        if not tensor.HasField("shape"):
            return Value(proto.name, dtype, None)
        if len(tensor.shape.dim) > MAX_RANK:
            raise self._error(f"input {_quoted(proto.name)} has {len(tensor.shape.dim)} axes")
        shape: list[int | str | None] = []
        for size in tensor.shape.dim:
            if size.HasField("dim_value"):
                if size.dim_value < 0:
                    raise self._error(f"input {_quoted(proto.name)} has a size of {size.dim_value}")
                shape.append(size.dim_value)
            else:
                self._texts(size.dim_param)
                shape.append(size.dim_param or None)
        return Value(proto.name, dtype, tuple(shape))

    # --- nodes ------------------------------------------------------------------------------------

    def node(self, proto: Any, opset: int) -> Node:
        """Checks operator, attributes and the number of inputs and outputs."""
        import onnx

        self._texts(proto.name, proto.op_type, proto.domain, *proto.input, *proto.output)
        name = proto.name or next((output for output in proto.output if output), "")
        label = f"{self._label}: node {_quoted(name)} ({_quoted(proto.op_type)[1:-1]})"
        if proto.domain not in ("", "ai.onnx"):
            raise ValueError(f"{label}: operators of domain {_quoted(proto.domain)} are not supported")
        try:
            schema = onnx.defs.get_schema(proto.op_type, opset, "")
        except onnx.defs.SchemaError:
            raise ValueError(f"{label}: opset {opset} has no such operator") from None
        attributes: dict[str, Any] = {}
        for attribute in proto.attribute:
            self._texts(attribute.name)
            known = schema.attributes.get(attribute.name)
            if known is None or attribute.name in attributes:
                raise ValueError(f"{label}: attribute {_quoted(attribute.name)} is unknown or there twice")
            if int(known.type) != attribute.type:
                raise ValueError(
                    f"{label}: attribute {attribute.name} has another type than {known.type.name}"
                )
            attributes[attribute.name] = self._attribute(attribute, label)
        for required in schema.attributes.values():
            if required.required and required.name not in attributes:
                raise ValueError(f"{label}: attribute {required.name} is missing")
        for what, count, least, most in (
            ("inputs", len(proto.input), schema.min_input, schema.max_input),
            ("outputs", len(proto.output), schema.min_output, schema.max_output),
        ):
            if not least <= count <= most:
                raise ValueError(f"{label}: it has {count} {what}, expected {least} to {most}")
        if any(not given for given in proto.input[: schema.min_input]):
            raise ValueError(f"{label}: an input is missing")
        return Node(label, proto.op_type, tuple(proto.input), tuple(proto.output), attributes, opset)

    def _attribute(self, proto: Any, label: str) -> Any:
        import onnx

        kinds = onnx.AttributeProto
        if proto.ref_attr_name:
            raise ValueError(f"{label}: attribute {proto.name} refers to one of a function")
        if proto.type == kinds.FLOAT:
            return float(proto.f)
        if proto.type == kinds.INT:
            return int(proto.i)
        if proto.type == kinds.STRING:
            return proto.s.decode()
        if proto.type == kinds.TENSOR:
            return self.tensor(proto.t, f"attribute {proto.name} of {label}")
        if proto.type == kinds.FLOATS:
            return tuple(proto.floats)
        if proto.type == kinds.INTS:
            return tuple(proto.ints)
        if proto.type == kinds.STRINGS:
            return tuple(text.decode() for text in proto.strings)
        raise ValueError(f"{label}: attribute {proto.name} holds a graph or the like, which is not supported")

    # --- tensors ----------------------------------------------------------------------------------

    def tensor(self, proto: Any, what: str) -> Array:
        """The values of a tensor, if they are as many as its shape says."""
        name = DTYPES.get(proto.data_type)
        if name is None:
            raise self._error(f"{what} has element type {proto.data_type}, expected one of {DTYPES}")
        dtype = np.dtype(name)
        shape = tuple(proto.dims)
        if len(shape) > MAX_RANK or any(size < 0 for size in shape):
            raise self._error(
                f"{what} has shape {shape[: MAX_RANK + 1]}, expected up to {MAX_RANK} sizes from 0"
            )
        count = math.prod(shape)
        if count == 0 and math.prod(size or 1 for size in shape) > MAX_FILE:
            raise self._error(f"{what} has shape {shape}, which no array can have")
        if proto.HasField("segment"):
            raise self._error(f"{what} is a segment of a tensor, which is not supported")
        external = proto.data_location == proto.EXTERNAL or bool(proto.external_data)
        expected, data = count * dtype.itemsize, None
        if external:
            data = self._external(proto, what, expected)
        elif proto.HasField("raw_data"):
            data = proto.raw_data
        if data is not None:
            if len(data) != expected:
                raise self._error(
                    f"{what} has {len(data)} bytes, its shape {shape} of {name} takes {expected}"
                )
            return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)
        numbers = getattr(proto, _FIELDS.get(name, "int32_data"))
        if len(numbers) != count:
            raise self._error(f"{what} has {len(numbers)} numbers, its shape {shape} takes {count}")
        if name == "float16":  # its bits, as integers
            wide = np.fromiter(numbers, np.int64, count)
            return wide.astype(np.uint16).view(np.float16).reshape(shape)
        unsigned = _FIELDS.get(name) == "uint64_data"
        wide_type = np.float64 if dtype.kind == "f" else np.uint64 if unsigned else np.int64
        wide = np.fromiter(numbers, wide_type, count)
        return wide.astype(dtype).reshape(shape)

    def _external(self, proto: Any, what: str, expected: int) -> bytes:
        """Bytes of a tensor from the file beside the model that holds them."""
        entries = {entry.key: entry.value for entry in proto.external_data}
        self._texts(*entries, *entries.values())
        location = entries.get("location", "")
        if self._folder is None:
            raise self._error(f"{what} lies in another file, {_quoted(location)}: pass the path of the model")
        if (
            not location
            or location != os.path.basename(location)
            or location in (".", "..")
            or "\\" in location
        ):
            raise self._error(f"{what} lies in {_quoted(location)}, expected a file beside the model")
        try:
            offset, length = int(entries.get("offset", "0")), int(entries.get("length", str(expected)))
        except ValueError:
            raise self._error(f"{what} lies in {_quoted(location)} at no number") from None
        path = os.path.join(self._folder, location)
        try:
            file = open(path, "rb", opener=_open_no_link)  # noqa: SIM115
        except (OSError, ValueError):
            raise self._error(f"{what} lies in {_quoted(location)}, which cannot be opened") from None
        with file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise self._error(f"{what} lies in {_quoted(location)}, which is no regular file")
            if length != expected or offset < 0 or offset + length > status.st_size:
                raise self._error(
                    f"{what} lies at byte {offset} of {_quoted(location)} with {length} bytes; its shape "
                    f"takes {expected}, the file has {status.st_size}"
                )
            self._size += length
            file.seek(offset)
            return file.read(length)


def _open_no_link(path: str, flags: int) -> int:
    # A link could lead anywhere, a pipe could wait for ever.
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
