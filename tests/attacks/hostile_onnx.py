"""Crafted ONNX files, each wrong in one way."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx_graphs import RecurrentCase, model


class Hostile(NamedTuple):
    """A file: what is wrong with it, its bytes, and a pattern that the message must hold."""

    name: str
    content: bytes
    cause: str


def good(**options: Any) -> onnx.ModelProto:
    """A model that can be converted."""
    return RecurrentCase("LSTM", options, 3, 2, 0).proto()


def changed(change: Callable[[Any], Any], **options: Any) -> bytes:
    """The good model after `change`."""
    proto = good(**options)
    change(proto)
    return bytes(proto.SerializeToString())


def with_tensor(change: Callable[[Any], Any]) -> bytes:
    """The good model with its first weight, W, changed."""
    return changed(lambda proto: change(proto.graph.initializer[0]))


def with_node(change: Callable[[Any], Any]) -> bytes:
    """The good model with its node changed."""
    return changed(lambda proto: change(proto.graph.node[0]))


def external(**entries: str) -> bytes:
    """The good model with W in another file."""

    def change(tensor: Any) -> None:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)

    return with_tensor(change)


def around(nodes: list[Any], constants: dict[str, Any] | None = None, **options: Any) -> bytes:
    """A model of these nodes between x (batch, 4) and y."""
    return bytes(model(nodes, {"x": ("b", 4)}, ["y"], constants, **options).SerializeToString())


def node(op: str, inputs: str, outputs: str = "y", **attributes: Any) -> Any:
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def files_of_bytes() -> Iterator[Hostile]:
    """Files that are no ONNX model."""
    whole = good().SerializeToString()
    yield Hostile("empty", b"", "no ONNX model")
    for name, content in (
        ("text", b"This is a text, no model.\n" * 9),
        ("JSON", b'{"graph": {}}'),
        ("pickle", pickle.dumps({"graph": [1, 2]})),
        ("zeros", bytes(1000)),
        ("HDF5", b"\x89HDF\r\n\x1a\n" + bytes(100)),
        ("half of it", whole[: len(whole) // 2]),
        ("all but a byte", whole[:-1]),
        ("a field without an end", b"\x3a\xff\xff\xff\xff\x0f"),
        ("a group without an end", b"\x0b" * 1000),
    ):
        yield Hostile(name, content, "no ONNX model")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("model.onnx", whole)
    yield Hostile("zip", buffer.getvalue(), "no ONNX model")
    yield Hostile("no graph", onnx.ModelProto(ir_version=8).SerializeToString(), "no graph")
    deep = b""
    for _ in range(3000):  # graphs in attributes of nodes of graphs
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            size = len(deep)
            length = b""
            while size > 127:
                length += bytes([size & 127 | 128])
                size >>= 7
            deep = tag + length + bytes([size]) + deep
    yield Hostile("graphs in graphs", b"\x08\x08\x3a" + deep, "no ONNX model")


def files_of_graphs() -> Iterator[Hostile]:
    """Models whose graphs break a rule."""
    add = changed
    yield Hostile("no outputs", add(lambda p: p.graph.ClearField("output")), "no outputs")
    yield Hostile("no opset", add(lambda p: p.ClearField("opset_import")), "opset versions are \\[\\]")
    for version in (0, 6, 1000, -1, 1 << 62):
        yield Hostile(
            f"opset {version}", add(lambda p, v=version: setattr(p.opset_import[0], "version", v)), "opset"
        )
    yield Hostile("two opsets", add(lambda p: p.opset_import.add(domain="", version=9)), "opset")
    yield Hostile(
        "unknown output", add(lambda p: setattr(p.graph.output[0], "name", "nothing")), "no node gives"
    )
    yield Hostile(
        "missing input", with_node(lambda n: n.input.__setitem__(0, "nothing")), "nothing before it"
    )
    yield Hostile("a cycle of one", with_node(lambda n: n.input.__setitem__(0, "Y")), "nothing before it")
    cycle = [node("Relu", "b", "a"), node("Relu", "a", "b"), node("Add", "x b")]
    yield Hostile("a cycle of two", around(cycle), "nothing before it")
    yield Hostile("not in order", around([node("Relu", "a"), node("Relu", "x", "a")]), "nothing before it")
    yield Hostile(
        "a name twice", around([node("Relu", "x", "a"), node("Tanh", "x", "a"), node("Relu", "a")]), "taken"
    )
    yield Hostile("an output called x", around([node("Relu", "x", "x"), node("Relu", "x")]), "taken")
    yield Hostile("two inputs x", add(lambda p: p.graph.input.add().CopyFrom(p.graph.input[0])), "two inputs")
    yield Hostile(
        "two weights W", add(lambda p: p.graph.initializer.add().CopyFrom(p.graph.initializer[0])), "two init"
    )
    yield Hostile("no input at all", with_node(lambda n: n.ClearField("input")), "0 inputs")
    yield Hostile("absent input", with_node(lambda n: n.input.__setitem__(0, "")), "input is missing")
    yield Hostile("twenty inputs", with_node(lambda n: n.input.extend(["X"] * 20)), "inputs, expected")
    yield Hostile(
        "twenty outputs", with_node(lambda n: n.output.extend([f"o{i}" for i in range(20)])), "outputs, "
    )
    yield Hostile("unknown operator", around([node("Explode", "x")]), "no such operator")
    yield Hostile(
        "operator of a domain", around([helper.make_node("Gelu", ["x"], ["y"], domain="com.evil")]), "domain"
    )
    yield Hostile("no operator", around([node("", "x")]), "no such operator")
    yield Hostile("long names", around([node("Relu", "x" * 1_000_000)]), "nothing before it")
    yield Hostile(
        "names with lines", around([helper.make_node("Relu", ["a\nb\rc\x00"], ["y"])]), "nothing before it"
    )
    yield Hostile(
        "no UTF-8",
        around([node("Relu", "abcabc")]).replace(b"abcabc", b"ab\xff\xfebc"),
        "UTF-8|no ONNX|nothing",
    )
    many = b"\x0a\x00" * 300_000
    yield Hostile(
        "too many nodes", around([node("Relu", "x")]) + b"\x3a" + b"\xc0\xcf\x24" + many, "more than 150000"
    )
    nested = model([node("Relu", "x")], {"x": (1,)}, ["y"]).graph
    branch = helper.make_node("If", ["x"], ["y"], then_branch=nested, else_branch=nested)
    yield Hostile("a subgraph", around([branch]), "holds a graph")
    yield Hostile("a function", changed(_add_function), "domain 'own'")
    yield Hostile(
        "an input without a shape",
        add(lambda p: p.graph.input[0].type.tensor_type.ClearField("shape")),
        "shape",
    )
    yield Hostile("an input of no type", add(lambda p: p.graph.input[0].type.Clear()), "no tensor")
    yield Hostile(
        "an input of strings",
        add(lambda p: setattr(p.graph.input[0].type.tensor_type, "elem_type", 8)),
        "element type 8",
    )
    yield Hostile("a negative size", add(lambda p: _size(p, -5)), "size of -5")
    yield Hostile("a huge size", add(lambda p: _size(p, 1 << 62)), "features|large")
    yield Hostile("a sparse weight", add(lambda p: p.graph.sparse_initializer.add()), "sparse")


def _size(proto: Any, size: int) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_value = size


def _add_function(proto: Any) -> None:
    body = [helper.make_node("f", ["a"], ["b"], domain="own")]  # it calls itself
    proto.functions.append(
        helper.make_function("own", "f", ["a"], ["b"], body, [helper.make_opsetid("own", 1)])
    )
    proto.opset_import.add(domain="own", version=1)
    proto.graph.node.append(helper.make_node("f", ["Y"], ["z"], domain="own"))


def files_of_tensors() -> Iterator[Hostile]:
    """Models whose weights are not what they say."""

    def dims(*sizes: int) -> Callable[[Any], None]:
        def change(tensor: Any) -> None:
            del tensor.dims[:]
            tensor.dims.extend(sizes)

        return change

    for name, sizes in (
        ("one more row", (1, 13, 2)),
        ("one column less", (1, 12, 1)),
        ("2^40 rows", (1, 1 << 40, 1 << 40)),
        ("a product that overflows to the size", (1 << 32, 1 << 32, 24)),
        ("no axes", ()),
    ):
        yield Hostile(name, with_tensor(dims(*sizes)), "its shape .* takes")
    yield Hostile("negative sizes", with_tensor(dims(-1, -12, 2)), "has shape")
    yield Hostile("a size of 0", with_tensor(dims(0, 1 << 62, 2)), "no array can have|takes 0")
    yield Hostile("20 axes", with_tensor(dims(*[1] * 20)), "up to 16")
    yield Hostile("bytes cut", with_tensor(lambda t: setattr(t, "raw_data", t.raw_data[:-1])), "has 95 bytes")
    yield Hostile(
        "bytes more", with_tensor(lambda t: setattr(t, "raw_data", t.raw_data + b"\0")), "has 97 bytes"
    )
    yield Hostile("no bytes", with_tensor(lambda t: t.ClearField("raw_data")), "has 0 numbers")
    yield Hostile("element type 8", with_tensor(lambda t: setattr(t, "data_type", 8)), "element type 8")
    yield Hostile("element type 99", with_tensor(lambda t: setattr(t, "data_type", 99)), "element type 99")
    yield Hostile("no element type", with_tensor(lambda t: t.ClearField("data_type")), "element type 0")
    yield Hostile("float64", with_tensor(lambda t: setattr(t, "data_type", 11)), "takes 192")
    yield Hostile("int32", with_tensor(lambda t: setattr(t, "data_type", 6)), "type int32")
    yield Hostile("a segment", with_tensor(lambda t: setattr(t.segment, "end", 5)), "segment")
    for location in (
        "/etc/passwd",
        "../secret",
        "a/b",
        "..",
        ".",
        "",
        "a\\b",
        "/proc/self/environ",
        "sub/../x",
    ):
        yield Hostile(f"external {location}", external(location=location), "expected a file beside")
    yield Hostile("external without a place", external(), "expected a file beside")
    yield Hostile("external that is not there", external(location="nothing.data"), "cannot be opened")
    yield Hostile("external with a zero byte", external(location="a\0b"), "cannot be opened")
    for name, entries, cause in (
        ("beyond the end", {"offset": "100000"}, "the file has"),
        ("negative", {"offset": "-96"}, "the file has"),
        ("too long", {"length": "1000000000000"}, "the file has"),
        ("too short", {"length": "5"}, "the file has"),
        ("no number", {"offset": "x"}, "at no number"),
        ("huge number", {"offset": "9" * 5000}, "at no number|the file has"),
    ):
        yield Hostile(f"external {name}", external(location="beside.data", **entries), cause)
    yield Hostile("external link", external(location="link.data"), "cannot be opened")
    yield Hostile("external folder", external(location="folder"), "no regular file|cannot be opened")
    yield Hostile("external pipe", external(location="pipe"), "no regular file|cannot be opened")


def _attribute(name: str, value: Any) -> bytes:
    def change(item: Any) -> None:
        for attribute in [a for a in item.attribute if a.name == name]:
            item.attribute.remove(attribute)
        item.attribute.append(helper.make_attribute(name, value))

    return with_node(change)


def files_of_operators() -> Iterator[Hostile]:
    """Models whose operators say what cannot be."""
    for name, value, cause in (
        ("hidden_size", 4, "hidden_size is 4"),
        ("hidden_size", -1, "hidden_size is -1"),
        ("hidden_size", 1 << 62, "hidden_size is"),
        ("hidden_size", "3", "another type"),
        ("hidden_size", 3.0, "another type"),
        ("direction", "sideways", "direction is 'sideways'"),
        ("direction", "x" * 100_000, "direction is"),
        ("direction", "bidirectional", "W has shape"),
        ("layout", 7, "layout is 7"),
        ("clip", -1.0, "clip is -1"),
        ("clip", float("nan"), "clip is nan"),
        ("activations", ["Tanh"], "1 names, expected 3"),
        ("activations", ["Tanh"] * 5000, "5000 names"),
        ("activations", ["Sigmoid", "Tanh", "system"], "activation 'system'"),
        ("unheard", 1, "attribute 'unheard' is unknown"),
    ):
        yield Hostile(f"{name}={str(value)[:20]}", _attribute(name, value), cause)
    odd = _attribute("activations", ["Affine"] * 3)
    proto = onnx.ModelProto.FromString(odd)
    proto.graph.node[0].attribute.append(helper.make_attribute("activation_alpha", [float("inf")] * 3))
    yield Hostile("alpha of infinity", proto.SerializeToString(), "activation Affine")
    twice = with_node(lambda n: n.attribute.add().CopyFrom(n.attribute[0]))
    yield Hostile("an attribute twice", twice, "there twice")
    one = np.ones(1, np.float32)
    big = np.array([1 << 20, 1 << 20], np.int64)
    for name, nodes, constants, cause in (
        ("ConstantOfShape", [node("ConstantOfShape", "s", "a"), node("Add", "x a")], {"s": big}, "more than"),
        ("Expand", [node("Expand", "o s", "a"), node("Add", "x a")], {"s": big, "o": one}, "more than"),
        ("Tile", [node("Tile", "o s", "a"), node("Add", "x a")], {"s": big, "o": one[None]}, "more than"),
        ("negative shape", [node("ConstantOfShape", "s", "a"), node("Add", "x a")], {"s": -big}, "cannot be"),
        ("Range", [node("Range", "a b c", "r"), node("Add", "x r")],
         {"a": np.float32(0), "b": np.float32(1e30), "c": np.float32(1)}, "more than"),
        ("a step of 0", [node("Range", "a b c", "r"), node("Add", "x r")],
         {"a": np.int64(0), "b": np.int64(5), "c": np.int64(0)}, "more than"),
        ("an outer product", [node("MatMul", "c r", "m"), node("MatMul", "x m")],
         {"c": np.ones((5000, 1), np.float32), "r": np.ones((1, 5000), np.float32)}, "more than"),
        ("a broadcast", [node("Add", "c r", "m"), node("MatMul", "x m")],
         {"c": np.ones((5000, 1), np.float32), "r": np.ones((1, 5000), np.float32)}, "more than"),
        ("Gather of rows", [node("Gather", "c i", "m"), node("MatMul", "x m")],
         {"c": np.ones((1, 3000), np.float32), "i": np.zeros(3000, np.int64)}, "more than"),
        ("integers divided by 0", [node("Div", "a b", "c"), node("Reshape", "x c")],
         {"a": np.ones(2, np.int64), "b": np.zeros(2, np.int64)}, "division"),
        ("a perm of 5", [node("Transpose", "x", perm=[0, 1, 2, 3, 4])], {}, "axes are"),
        ("a perm twice", [node("Transpose", "x", perm=[0, 0])], {}, "axes are"),
        ("axes of 10^18", [node("Unsqueeze", "x a")], {"a": np.array([10**18])}, "axes are"),
        ("a shape of 10^18", [node("Reshape", "x s")], {"s": np.array([10**18, -1])}, "reshapes"),
        ("two -1", [node("Reshape", "x s")], {"s": np.array([-1, -1])}, "more than once"),
        ("a kernel of ids", [node("MatMul", "x k")], {"k": np.ones((4, 2), np.int64)}, "float32"),
        ("a kernel of 5 rows", [node("MatMul", "x k")], {"k": np.ones((5, 2), np.float32)}, "4 features"),
        ("an empty kernel", [node("MatMul", "x k")], {"k": np.ones((4, 0), np.float32)}, "no constant"),
        ("a kernel of 3 axes", [node("MatMul", "x k")], {"k": np.ones((1, 4, 2), np.float32)}, "no constant"),
        ("a bias of 3", [node("MatMul", "x k", "p"), node("Add", "p b")],
         {"k": np.ones((4, 2), np.float32), "b": np.ones(3, np.float32)}, "adds a constant"),
        ("weights from data", [node("MatMul", "x x")], {}, "no constant"),
        ("an unsupported operator", [node("Sin", "x")], {}, "no counterpart"),
        ("only an input", [node("Identity", "x")], {}, "is an input"),
        ("only a constant", [node("Identity", "k")], {"k": one}, "constant"),
        ("only a shape", [node("Shape", "x")], {}, "shape"),
    ):  # fmt: skip
        yield Hostile(name, around(nodes, constants), cause)
    tower = [node("MatMul", f"x{i} k", f"x{i + 1}") for i in range(1, 200)]
    square = {"k": np.ones((400, 400), np.float32), "first": np.ones((4, 400), np.float32)}
    yield Hostile(
        "a weight 200 times",
        around([node("MatMul", "x first", "x1"), *tower, node("Relu", "x200")], square),
        "4 times the file",
    )
    wide = model([node("Gather", "X last", axis=1)], {"X": ("b", "t", 9999)}, ["y"], {"last": np.array(-1)})
    yield Hostile("a step of 9999 features", wide.SerializeToString(), "4 times the file")
    double = [node("Concat", f"a{i} a{i}", f"a{i + 1}", axis=0) for i in range(60)]
    yield Hostile(
        "doubled 60 times",
        around([*double, node("Add", "x a60")], {"a0": np.ones(4, np.float32)}),
        "more than",
    )

    weights = {"W": np.ones((1, 8, 2), np.float32), "R": np.ones((1, 8, 2), np.float32)}
    double = [node("Concat", f"a{i} a{i}", f"a{i + 1}", axis=1) for i in range(60)]
    run = helper.make_node("LSTM", ["X", "W", "R"], ["a0"], hidden_size=2)
    directions = model([run, *double, node("Relu", "a60")], {"X": ("t", "b", 2)}, ["y"], weights)
    yield Hostile("directions doubled 60 times", directions.SerializeToString(), "expected at most 64")
    yield Hostile(
        "features doubled 60 times",
        around([node("Relu", "x", "a0"), *double, node("Relu", "a60")]),
        "features, expected at most",
    )
    nodes, inputs = [], {"X0": ("t", "b", 2)}
    for i in range(200):
        inputs[f"h{i}"] = (1, "b", 2)
        nodes += [
            node("Identity", f"h{i}", f"s{i}"),
            helper.make_node("LSTM", [f"X{i}", "W", "R", "", "", f"s{i}", f"s{i}"], [f"Y{i}"], hidden_size=2),
            node("Squeeze", f"Y{i} one", f"X{i + 1}"),
        ]
    weights["one"] = np.array([1])
    states = model(nodes, inputs, ["X200"], weights)
    yield Hostile("states behind other nodes", states.SerializeToString(), "shows far from them")


def all_files() -> list[Hostile]:
    """All of them."""
    return [*files_of_bytes(), *files_of_graphs(), *files_of_tensors(), *files_of_operators()]


def lay_traps(folder: Path) -> None:
    """What files of weights lead to: a file that is good, a link, a folder, a pipe."""
    import os

    (folder / "beside.data").write_bytes(bytes(200))
    (folder / "link.data").symlink_to("/etc/passwd")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")


def with_weights_beside(folder: Path) -> Path:
    """A good model whose W lies in a file of its own."""
    path = folder / "good.onnx"
    weights = numpy_helper.to_array(good().graph.initializer[0])
    (folder / "good.data").write_bytes(b"1234" + weights.tobytes())
    path.write_bytes(external(location="good.data", offset="4", length=str(weights.nbytes)))
    return path
