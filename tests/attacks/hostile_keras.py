"""Crafted files of Keras, each wrong in one way: `.keras` archives, and `.h5` files in the old form.

Those whose harm is in HDF5 itself are in data/keras/hostile.zip.
"""

from __future__ import annotations

import base64
import copy
import io
import json
import marshal
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from lstm_native.convert.keras_hdf5_writer import NewGroup, write_hdf5

KERNEL = np.arange(6, dtype=np.float32).reshape(3, 2)
PARTS = ("metadata.json", "config.json", "model.weights.h5")


class Hostile(NamedTuple):
    """A file.

    Attributes:
        name: what is wrong with it.
        suffix: what its name ends in.
        content: its bytes.
        cause: pattern that the message must hold; None where the file does no harm and is read.
    """

    name: str
    suffix: str
    content: bytes
    cause: str | None


def layer(class_name: str, **config: Any) -> dict[str, Any]:
    return {
        "module": "keras.layers",
        "class_name": class_name,
        "config": {"name": class_name.lower(), **config},
        "registered_name": None,
    }


def good_config() -> dict[str, Any]:
    layers = [layer("InputLayer", batch_shape=[None, 3]), layer("Dense", units=2)]
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "model", "layers": layers},
        "registered_name": None,
    }


def functional_config() -> dict[str, Any]:
    def value(name: str, call: int = 0, output: int = 0) -> dict[str, Any]:
        return {"class_name": "__keras_tensor__", "config": {"keras_history": [name, call, output]}}

    dense = {
        **layer("Dense", units=2),
        "name": "dense",
        "inbound_nodes": [{"args": [value("inputlayer")], "kwargs": {}}],
    }
    start = {**layer("InputLayer", batch_shape=[None, 3]), "name": "inputlayer", "inbound_nodes": []}
    config = {
        "name": "model",
        "layers": [start, dense],
        "input_layers": ["inputlayer", 0, 0],
        "output_layers": ["dense", 0, 0],
    }
    return {"module": "keras.src.models.functional", "class_name": "Functional", "config": config}


def many_masks(count: int) -> dict[str, Any]:
    """Masks of as many tables, each computed as Keras 3 writes it down."""

    def called(name: str, class_name: str, *args: Any, **config: Any) -> dict[str, Any]:
        node = {"args": [value, *args], "kwargs": {}}
        return {"class_name": class_name, "config": config, "name": name, "inbound_nodes": [node]}

    config = functional_config()
    value = history_of("inputlayer")
    for i in range(count):
        layers_of(config).append(called(f"mask{i}", "NotEqual", float(i)))
        layers_of(config).append(called(f"masking{i}", "Masking", mask_value=float(i)))
    return config


def history_of(name: str) -> dict[str, Any]:
    return {"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, 0]}}


def weights(**more: Any) -> bytes:
    root = NewGroup()
    group = root.group("layers/dense/vars")
    group.attributes["name"] = "dense"
    group.members |= {"0": KERNEL, "1": np.zeros(2, np.float32), **more}
    return write_hdf5(root)


def archive(
    parts: dict[str, Any] | None = None, compression: int = zipfile.ZIP_STORED, more: Any = ()
) -> bytes:
    """A `.keras` file with other parts, of which None is left out, and further members."""
    found: dict[str, Any] = {
        "metadata.json": {"keras_version": "3.15.1"},
        "config.json": good_config(),
        "model.weights.h5": weights(),
        **(parts or {}),
    }
    content = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(content, "w", compression) as file:
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, part in [*found.items(), *more]:
            if part is not None:
                file.writestr(name, part if isinstance(part, bytes | str) else json.dumps(part))
    return content.getvalue()


def changed(change: Callable[[Any], Any], config: Any = None) -> dict[str, Any]:
    """The parts of an archive with a changed configuration."""
    config = copy.deepcopy(good_config() if config is None else config)
    replaced = change(config)
    return {"config.json": config if replaced is None else replaced}


def old(config: Any, names: Any = ("dense",), **attributes: Any) -> bytes:
    """An `.h5` file in the old form."""
    root = NewGroup({"keras_version": "2.4.0", "model_config": config, **attributes})
    group = root.group("model_weights")
    group.attributes["layer_names"] = list(names)
    dense = group.group("dense")
    dense.attributes["weight_names"] = ["dense/kernel:0", "dense/bias:0"]
    dense.group("dense").members |= {"kernel:0": KERNEL, "bias:0": np.zeros(2, np.float32)}
    return write_hdf5(root)


def patched(content: bytes, name: str, field: int, value: int, form: str = "<I") -> bytes:
    """An archive with another number in the header of a member in the directory at its end."""
    data = bytearray(content)
    at = data.rindex(b"PK\1\2", 0, data.rindex(name.encode()))
    struct.pack_into(form, data, at + field, value)
    return bytes(data)


class Evil:
    """What a pickle would run."""

    def __reduce__(self) -> Any:
        return print, ("a pickle was run",)


def code() -> str:
    """A function as Keras writes it into a Lambda."""
    function = compile("lambda x: print('a Lambda was run')", "x", "eval").co_consts[0]
    return base64.b64encode(marshal.dumps(function)).decode()


def archives() -> Iterator[Hostile]:
    """Wrong `.keras` files."""

    def file(name: str, cause: str | None, content: bytes) -> Hostile:
        return Hostile(name, ".keras", content, cause)

    good = archive()
    yield file("empty", "neither a zip archive", b"")
    yield file("a pickle", "neither a zip archive", pickle.dumps(Evil()))
    yield file(
        "a pickle behind a signature", "a zip archive, but a damaged", b"PK\3\4" + pickle.dumps(Evil())
    )
    yield file("signature alone", "a zip archive, but a damaged", b"PK\3\4")
    yield file("an archive of nothing", "neither a zip archive", archive(dict.fromkeys(PARTS)))
    yield file("cut in the middle", "a zip archive, but a damaged", good[: len(good) // 2])
    yield file("without its last byte", "a zip archive, but a damaged", good[:-1])
    for part in PARTS:
        yield file(f"no {part}", f"no {part}", archive({part: None}))
        yield file(f"{part} twice", "twice", archive(more=[(part, b"{}")]))
    for name in ("../evil", "/etc/evil", "a/../../evil", "..\\evil"):
        yield file(f"member {name}", "has the member", archive(more=[(name, b"x")]))
    zeros = b'{"a": "' + b"a" * 40_000_000 + b'"}'
    bomb = archive({"config.json": zeros}, zipfile.ZIP_DEFLATED)
    yield file("bomb in the configuration", "more than belongs into memory", bomb)
    bomb = archive({"model.weights.h5": bytes(40_000_000)}, zipfile.ZIP_DEFLATED)
    yield file("bomb in the weights", "more than belongs into memory", bomb)
    yield file(
        "bomb that is declared small", "damaged|no valid JSON", patched(bomb, "model.weights.h5", 24, 100)
    )
    huge = patched(good, "config.json", 24, 0xFFFFFFFE)
    yield file("member of 4 GiB", "more than belongs into memory|damaged", huge)
    yield file("LZMA", "compressed in a way", archive(compression=zipfile.ZIP_LZMA))
    yield file(
        "unknown compression", "compressed in a way|damaged", patched(good, "config.json", 10, 77, "<H")
    )
    yield file("encrypted", "damaged", patched(good, "config.json", 8, 1, "<H"))
    yield file("wrong checksum", "damaged", patched(good, "config.json", 16, 7))
    yield file("member beyond the file", "damaged", patched(good, "config.json", 42, 1 << 30))

    for text in (
        "",
        "[]",
        "null",
        "{",
        '{"a":NaN}',
        '{"a":1,"a":1}',
        '{"a":' * 5000,
        '{"a":' + "[" * 200_000,
        "\xff",
    ):
        content = archive({"config.json": text.encode("latin-1")})
        yield file(f"configuration {text[:9]!r}", "config.json is no valid JSON", content)
    text = '{"a":[' + "[]," * 1_000_000 + "[]]}"
    yield file("a million lists", "more than .* values", archive({"config.json": text}))
    yield file("metadata no JSON", "metadata.json is no valid JSON", archive({"metadata.json": "3"}))
    for version in (None, 3, [], "", "-1", "9" * 5000, "\u0663.0"):
        yield file(f"version {version!r:.9}", None, archive({"metadata.json": {"keras_version": version}}))
    for value in (
        {},
        {"class_name": None},
        {"class_name": 3},
        {"class_name": []},
        {"class_name": "Sequential"},
    ):
        yield file(f"configuration {value}", "the configuration", archive({"config.json": value}))
    for name in ("Model", "Modle", "Lambda", "Dense", "os.system", "function", "__numpy__", "Sequential\0"):
        content = archive(changed(lambda c, n=name: c.update(class_name=n)))
        yield file(f"model of class {name!r}", "the configuration", content)
    for value in (
        None,
        3,
        "x",
        [],
        {},
        {"layers": 3},
        {"layers": None},
        {"layers": [3]},
        {"layers": [{}]},
        {"layers": []},
    ):
        yield file(
            f"model {value}", "the configuration", archive(changed(lambda c, v=value: c.update(config=v)))
        )

    lambda_config = {"name": "evil", "function": {"class_name": "__lambda__", "config": {"code": code()}}}
    for config in (
        lambda_config,
        {"name": "evil", "function": [code(), None, None], "function_type": "lambda"},
    ):
        content = archive(changed(lambda c, v=config: layers_of(c).append({**layer("Lambda"), "config": v})))
        yield file(f"Lambda {len(config)}", "holds code, which is never run", content)
    value = {"class_name": "__lambda__", "config": {"code": code()}}
    yield file("a Lambda as an activation", "activation", archive(with_dense(activation=value)))
    for key in (
        "kernel_initializer",
        "kernel_regularizer",
        "kernel_constraint",
        "units",
        "name",
        "trainable",
    ):
        cause = None if key == "kernel_initializer" else "the configuration"  # there are values
        yield file(f"a Lambda as {key}", cause, archive(with_dense(**{key: value})))
    for module, name in (
        ("os", "system"), ("builtins", "eval"), ("subprocess", "Popen"), ("keras.src.utils", "get_file"),
        ("lstm_native.saving", "load_model"), ("lstm_native.layers.base", "os"), ("keras", "__class__"),
        ("keras.models", "load_model"), ("pickle", "loads"), ("importlib", "import_module"),
    ):  # fmt: skip
        evil = {"module": module, "class_name": name, "config": {"name": "evil"}, "registered_name": name}
        yield file(
            f"{module}.{name}", "counterpart", archive(changed(lambda c, v=evil: layers_of(c).append(v)))
        )
        evil = {
            "module": module,
            "class_name": "function",
            "config": name,
            "registered_name": f"{module}>{name}",
        }
        yield file(f"function {module}.{name}", "unknown function", archive(with_dense(activation=evil)))
        evil = {"module": module, "class_name": name, "config": {}}
        yield file(f"constraint {module}.{name}", "counterpart", archive(with_dense(kernel_constraint=evil)))
    tricks: list[Any] = ["Custom>Dense", "builtins>eval", "package>Dense", 3, [], {"a": 1}, "\0"]
    for name in tricks:
        evil = {**layer("Evil"), "registered_name": name}
        content = archive(changed(lambda c, v=evil: layers_of(c).append(v)))
        yield file(f"registered as {name!r}", "counterpart|the configuration", content)
    for class_name in (None, 3, [], {}, "", "Conv1D", "BatchNormalization", "Layer", "InputLayer", "Dens"):
        content = archive(changed(lambda c, n=class_name: layers_of(c)[1].update(class_name=n)))
        yield file(f"layer {class_name!r}", "the configuration|the weights", content)
    for arguments in (
        {"units": 0}, {"units": -1}, {"units": 2.5}, {"units": "2"}, {"units": [2]}, {"units": 1 << 62},
        {"units": 1 << 40}, {"units": True}, {"activation": "tanhh"}, {"activation": 3}, {"activation": []},
        {"use_bias": False}, {"colour": "red"}, {"lora_rank": 4}, {"kernel_regularizer": "l3"},
        {"quantization_config": {"class_name": "Int8QuantizationConfig", "config": {}}},
    ):  # fmt: skip
        yield file(f"Dense {arguments}", "the configuration|the weights", archive(with_dense(**arguments)))
    shapes = [None, 3, [], [None], [None, 0], [None, -3], [None, "3"], [None, 1 << 62], [None, None], [[3]]]
    shapes += [[None, 4], [None, 3.5], [None] * 99, [None, True]]
    for shape in shapes:
        content = archive(changed(lambda c, s=shape: layers_of(c)[0]["config"].update(batch_shape=s)))
        yield file(f"input {str(shape)[:30]}", "the configuration|the weights", content)
    lstm = [layer("InputLayer", batch_shape=[None, None, 3]), layer("LSTM", units=1 << 20)]
    yield file(
        "an LSTM of 16 TB", "numbers, there are", archive(changed(lambda c: c["config"].update(layers=lstm)))
    )
    for depth in (20, 2000):
        dense = json.dumps(layer("Dense", units=2))
        outer = '{"class_name": "TimeDistributed", "config": {"layer": ' * depth
        text = json.dumps(good_config()).replace(dense, outer + dense + "}}" * depth)
        yield file(
            f"TimeDistributed {depth} deep", "the configuration|no valid JSON", archive({"config.json": text})
        )

    for name, change in {
        "no layers": lambda c: c["config"].update(layers=None),
        "no output_layers": lambda c: c["config"].update(output_layers=None),
        "an output of nowhere": lambda c: c["config"].update(output_layers=["evil", 0, 0]),
        "an output with call -1": lambda c: c["config"].update(output_layers=["dense", -1, 0]),
        "an output with call 2^70": lambda c: c["config"].update(output_layers=["dense", 1 << 70, 0]),
        "outputs of numbers": lambda c: c["config"].update(output_layers=[1, 2, 3]),
        "an input in the place of a model": lambda c: c["config"].update(input_layers="evil"),
        "a circle": lambda c: history(c).update(keras_history=["dense", 0, 0]),
        "a call of nowhere": lambda c: history(c).update(keras_history=["evil", 0, 0]),
        "a value without history": lambda c: history(c).clear(),
        "a history of lists": lambda c: history(c).update(keras_history=[[], {}, 0]),
        "a node of text": lambda c: layers_of(c)[1].update(inbound_nodes=["evil"]),
        "a node of numbers": lambda c: layers_of(c)[1].update(inbound_nodes=[[3]]),
        "nodes of text": lambda c: layers_of(c)[1].update(inbound_nodes="evil"),
        "an old node": lambda c: layers_of(c)[1].update(inbound_nodes=[[["inputlayer", 0, "0", {}]]]),
        "a layer twice": lambda c: layers_of(c).append(copy.deepcopy(layers_of(c)[1])),
        "arguments of text": lambda c: layers_of(c)[1]["inbound_nodes"][0].update(kwargs="evil"),
        "an unknown argument": lambda c: layers_of(c)[1]["inbound_nodes"][0].update(kwargs={"evil": 1}),
        "a layer with a number for a name": lambda c: layers_of(c)[1].update(name=3),
    }.items():  # fmt: skip
        yield file(name, "the configuration", archive(changed(change, functional_config())))

    yield file("more masks than layers could want", "200 masks", archive({"config.json": many_masks(200)}))
    members = [(f"assets/{i}", b"") for i in range(10_000)]
    yield file("10,000 members and one twice", "twice", archive(more=[*members, members[0]]))
    yield file("weights of zip", "not read as an HDF5 file", archive({"model.weights.h5": good}))
    yield file(
        "weights of pickle", "not read as an HDF5 file", archive({"model.weights.h5": pickle.dumps(Evil())})
    )
    yield file("weights cut", "truncated|damaged", archive({"model.weights.h5": weights()[:-99]}))
    kernel = np.zeros((2, 3), np.float32)
    yield file(
        "kernel transposed", "expected \\(3, 2\\)", archive({"model.weights.h5": weights(**{"0": kernel})})
    )
    whole = KERNEL.astype(np.int64)
    yield file("kernel of integers", "holds int64", archive({"model.weights.h5": weights(**{"0": whole})}))
    yield file("three weights", "3 weights", archive({"model.weights.h5": weights(**{"2": KERNEL})}))
    yield file("no weights", "there are 0 left", archive({"model.weights.h5": write_hdf5(NewGroup())}))
    more = NewGroup()
    more.group("layers/dense/vars").members |= {"0": KERNEL, "1": np.zeros(2, np.float32)}
    more.group("layers/evil/vars").members["0"] = KERNEL
    yield file("weights of another layer", "layers/evil", archive({"model.weights.h5": write_hdf5(more)}))


def old_files() -> Iterator[Hostile]:
    """Wrong `.h5` files of whole models."""

    def file(name: str, cause: str | None, content: bytes) -> Hostile:
        return Hostile(name, ".h5", content, cause)

    config = json.dumps(good_config())
    good = old(config)
    yield file("cut in the middle", "truncated", good[: len(good) // 2])
    yield file("signature alone", "an HDF5 file", good[:8])
    yield file("configuration of a list", "no text", old([config]))
    yield file("configuration no JSON", "model_config is no valid JSON", old("{"))
    yield file("configuration deep", "model_config is no valid JSON", old('{"a":' * 5000))
    yield file("key twice", "duplicate key", old('{"a":1,"a":1}'))
    lambda_layer = {"class_name": "Lambda", "config": {"name": "evil", "function": [code(), None, None]}}
    evil = good_config()
    layers_of(evil).append(lambda_layer)
    yield file("Lambda", "holds code, which is never run", old(json.dumps(evil)))
    yield file("layer_names is text", "no group for the layer", old(config, names="dense"))
    yield file("a layer too many", "no group for the layer", old(config, names=["dense", "evil"]))
    yield file("a layer twice", "lists the layer .dense. twice", old(config, names=["dense", "dense"]))
    yield file(
        "a path out of the group", "no group for the layer", old(config, names=["../model_weights/dense"])
    )
    yield file("a layer with a slash", "no group for the layer", old(config, names=["/"]))
    root = NewGroup({"model_config": config})
    yield file("no weights", "no group 'model_weights'", write_hdf5(root))
    yield file("weights alone", "weights alone", weights())
    yield file("an empty file", "weights alone", write_hdf5(NewGroup()))


def all_files() -> Iterator[Hostile]:
    yield from archives()
    yield from old_files()


def layers_of(config: Any) -> list[Any]:
    return config["config"]["layers"]  # type: ignore[no-any-return]


def history(config: Any) -> Any:
    """Of the value that the Dense of the functional model reads."""
    return layers_of(config)[1]["inbound_nodes"][0]["args"][0]["config"]


def with_dense(**arguments: Any) -> dict[str, Any]:
    """The parts of an archive whose Dense has other arguments."""
    return changed(lambda c: layers_of(c)[1]["config"].update(arguments))
