"""Crafted safetensors files, each wrong in one way: as files of tensors, and as files of models."""

from __future__ import annotations

import copy
import json
import pickle
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lstm_native.layers import LSTM, Bidirectional, Dense, Dropout, Embedding, Input, TextVectorization
from lstm_native.models import Model, Sequential
from lstm_native.saving import read_safetensors


class Hostile(NamedTuple):
    """A file.

    Attributes:
        name: what is wrong with it.
        content: its bytes.
        cause: pattern that the message must hold.
    """

    name: str
    content: bytes
    cause: str


def raw(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A file with this header (an object or bytes), right or wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


# --- files of tensors -----------------------------------------------------------------------------

EIGHT = b"01234567"
_ONE = '{"dtype":"F32","shape":[],"data_offsets":[0,4]}'


def files_of_tensors() -> Iterator[Hostile]:
    """Files that are no safetensors files."""
    yield Hostile("empty file", b"", "truncated: 0 bytes")
    yield Hostile("seven bytes", b"1234567", "truncated: 7 bytes")
    yield Hostile("length zero", raw(b"", length=0), "does not start with")
    yield Hostile("length zero with data", raw(b"", EIGHT, length=0), "does not start with")
    yield Hostile("length one beyond the file", raw(b"{}", length=3), "but only 2 bytes follow")
    yield Hostile("length beyond the file", raw(b"{}", length=99_999_999), "but only 2 bytes follow")
    yield Hostile("length over the limit", raw(b"{}", length=100_000_001), "the format allows 100000000")
    yield Hostile("length 2^63", raw(b"{}", length=1 << 63), "the format allows")
    yield Hostile("length negative", raw(b"{}", length=(1 << 64) - 1), "the format allows")
    yield Hostile("length cuts the header", raw({"a": entry()}, EIGHT, length=20), "no valid JSON")
    for text in (b"[]", b"null", b"0", b'"a"', b" {}", b"\xef\xbb\xbf{}", b"\xff\xfe{\0}\0", b"\0" * 64):
        yield Hostile(f"header {text[:8]!r}", raw(text), "does not start with")
    for text in (b"{", b"{}}", b'{"a"}', b"{'a': 1}", b'{"a":1,}', b"{//}", b'{"a":01}', b'{"' + b"a" * 99):
        yield Hostile(f"header {text[:8]!r}", raw(text), "no valid JSON")
    yield Hostile("non-UTF-8", raw(b'{"\xff": 1}'), "utf-8")
    yield Hostile("half a surrogate", raw(b'{"\xed\xa0\x80": 1}'), "utf-8")
    for constant in (b"NaN", b"Infinity", b"-Infinity"):
        yield Hostile(constant.decode(), raw(b'{"a": ' + constant + b"}"), f"{constant.decode()} is no JSON")
    yield Hostile("1e999", raw(b'{"a": 1e999}'), "too large")
    yield Hostile("a number of 100,000 digits", raw(b'{"a": ' + b"9" * 100_000 + b"}"), "no valid JSON")
    yield Hostile("deep lists", raw(b'{"a":' + b"[" * 500_000), "more than 100 levels|more than .* values")
    yield Hostile("deep objects", raw(b'{"a":' * 5_000), "more than 100 levels")
    yield Hostile("deep and closed", raw(b'{"a":' + b"[" * 101 + b"]" * 101 + b"}"), "more than 100 levels")
    yield Hostile("a million lists", raw(b'{"a":[' + b"[]," * 1_000_000 + b"[]]}"), "more than .* values")
    yield Hostile("a million objects", raw(b'{"a":[' + b"{}," * 1_000_000 + b"{}]}"), "more than .* values")
    keys = b",".join(b'"%d":0' % i for i in range(400_000))
    yield Hostile("400,000 keys", raw(b"{" + keys + b"}"), "more than .* values")
    yield Hostile("quotes without end", raw(b"{" + b'"' + b'\\"' * 1_000_000), "no valid JSON")
    yield Hostile("quotes in a row", raw(b"{" + b'"' * 1_000_001), "no valid JSON")
    yield Hostile("a name of a megabyte", raw({"a" * 1_000_000: 3}), "expected exactly the fields")
    yield Hostile("tensor twice", raw(f'{{"a":{_ONE},"a":{_ONE}}}'.encode(), b"0123"), "duplicate key 'a'")
    yield Hostile(
        "field twice", raw(f'{{"a":{_ONE[:-1]},"dtype":"F32"}}}}'.encode(), b"0123"), "duplicate key 'dtype'"
    )
    yield Hostile("metadata twice", raw(b'{"__metadata__":{"a":"1","a":"2"}}'), "duplicate key 'a'")
    for value in ("a", 3, None, ["a"], {"a": 1}, {"a": None}, {"a": {"b": "c"}}, {"a": ["b"]}):
        yield Hostile(f"metadata {value}", raw({"__metadata__": value}), "no object of strings")
    for value in (3, None, "a", [], {}, {"dtype": "F32", "shape": [2]}, {**entry(), "more": 1}):
        yield Hostile(f"tensor {value}", raw({"a": value}, EIGHT), "'a': expected exactly the fields")
    for value in ("F31", "f32", "", "BF16 ", "O", 4, None, ["F32"], {"a": 1}):
        yield Hostile(f"dtype {value!r}", raw({"a": entry(value)}, EIGHT), "'a': dtype is")
    for value in (2, None, "2", [-2], [2.0], [True, 2], ["2"], [None], [[2]], [1 << 64], {"0": 2}):
        yield Hostile(f"shape {value}", raw({"a": entry(shape=value)}, EIGHT), "'a': shape is")
    for value in ([1 << 62, 4], [1 << 31, 1 << 31, 2], [(1 << 63) - 1, 1]):
        yield Hostile(f"shape {value}", raw({"a": entry(shape=value)}, EIGHT), "overflows")
    zeros = entry(shape=[0, 1 << 62, 1 << 62], offsets=[0, 0])
    yield Hostile("a zero hides an overflow", raw({"a": zeros}), "overflows")
    yield Hostile("99 axes", raw({"a": entry(shape=[1] * 99, offsets=[0, 4])}, b"0123"), "99 axes")
    yield Hostile("10,000 axes", raw({"a": entry(shape=[1] * 10_000)}, EIGHT), "10000 axes")
    for value in (8, None, "0,8", [0], [0, 8, 8], [8, 0], [-8, 0], [0.0, 8.0], [False, 8], ["0", "8"]):
        yield Hostile(f"offsets {value}", raw({"a": entry(offsets=value)}, EIGHT), "data_offsets is")
    yield Hostile("end beyond the file", raw({"a": entry(shape=[4], offsets=[0, 16])}, EIGHT), "only 8 bytes")
    big = entry("U8", [(1 << 63) - 1], [0, (1 << 63) - 1])
    yield Hostile("end at 2^63", raw({"a": big}, EIGHT), "only 8 bytes")
    yield Hostile("shape and offsets differ", raw({"a": entry(shape=[3])}, EIGHT), "needs 12 bytes")
    second = entry(offsets=[4, 12])
    yield Hostile("overlap", raw({"a": entry(), "b": second}, b"0" * 12), "overlaps")
    yield Hostile("the same bytes twice", raw({"a": entry(), "b": entry()}, EIGHT), "overlaps")
    yield Hostile("gap", raw({"a": entry(), "b": entry(offsets=[12, 20])}, b"0" * 20), "leaves a gap")
    yield Hostile("gap at the start", raw({"a": second}, b"0" * 12), "leaves a gap")
    yield Hostile("bytes behind the last tensor", raw({"a": entry()}, b"0" * 12), "take 8 bytes, but 12")
    yield Hostile("data without tensors", raw({}, b"0"), "take 0 bytes, but 1")
    yield Hostile("BOOL of 2", raw({"a": entry("BOOL", [2], [0, 2])}, b"\1\2"), "bytes other than 0 and 1")
    yield Hostile(
        "a pickle", pickle.dumps({"a": [1.0] * 99}, protocol=4), "no file of a known kind|no valid JSON"
    )
    yield Hostile("a zip archive", b"PK\x03\x04\x14\0\0\0" + b"\0" * 99, "a zip archive")
    yield Hostile("an HDF5 file", b"\x89HDF\r\n\x1a\n" + b"\0" * 99, "an HDF5 file")
    yield Hostile("a NumPy file", b"\x93NUMPY\1\0v\0" + b"{'descr': '|O'}", "a NumPy file")
    yield Hostile("gzip", b"\x1f\x8b\x08\0\0\0\0\0" + b"\0" * 99, "but only|the format allows|does not start")
    yield Hostile("a script", b"#!/bin/sh\nrm -rf /\n", "no file of a known kind")
    yield Hostile("JSON alone", json.dumps({"a": entry()}).encode(), "no file of a known kind")


# --- files of models ------------------------------------------------------------------------------


def good_model() -> Sequential:
    """A model with everything that a file may hold, trained a little."""
    model = Sequential(
        [
            Input((None,), batch_size=4),
            Embedding(9, 3, mask_zero=True),
            Bidirectional(LSTM(2, return_sequences=True)),
            LSTM(3, stateful=True, dropout=0.2),
            Dropout(0.1, name="dropout"),
            Dense(1, activation="sigmoid"),
        ]
    )
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    rng = np.random.default_rng(0)
    model.fit(rng.integers(0, 9, (8, 5)), rng.integers(0, 2, (8, 1)), 4, epochs=2, verbose=0)
    return model


def good_functional() -> Model:
    """A functional model with a layer that is used twice."""
    a = Input((3,), name="a")
    shared = Dense(3, name="shared")
    return Model(a, Dense(3, name="out")(shared(shared(a))), name="functional")


def good_texts() -> Sequential:
    """A model that begins with texts."""
    vectorization = TextVectorization(output_sequence_length=4, vocabulary=["one", "two", "three"])
    model = Sequential([vectorization, Embedding(5, 2), LSTM(2)])
    model(np.array(["one two", "three"]))
    return model


def save_whole(model: Any, path: Path) -> bytes:
    """The bytes of a file with everything in it."""
    model.save(path, include_state=True, include_history=True)
    return path.read_bytes()


class Parts:
    """The parts of a good file, to be changed before `content` puts them together again."""

    def __init__(self, path: Path) -> None:
        self.tensors, self.metadata = read_safetensors(path)

    def content(self) -> bytes:
        header: dict[str, Any] = {"__metadata__": self.metadata}
        data = b""
        kinds = {"float32": "F32", "float64": "F64", "int64": "I64", "int32": "I32", "bool": "BOOL"}
        for name, array in self.tensors.items():
            offsets = [len(data), len(data) + array.nbytes]
            header[name] = entry(kinds[array.dtype.name], list(array.shape), offsets)
            data += np.ascontiguousarray(array).tobytes()
        return raw(header, data)


def changed(path: Path, change: Callable[[Parts], Any]) -> bytes:
    """The good file at `path` after `change`."""
    parts = Parts(path)
    change(parts)
    return parts.content()


def with_json(key: str, change: Callable[[Any], Any]) -> Callable[[Parts], None]:
    """A change of the JSON under `key` in the metadata; what `change` returns, if anything, replaces it."""

    def apply(parts: Parts) -> None:
        value = json.loads(parts.metadata[key])
        replaced = change(value)
        parts.metadata[key] = json.dumps(value if replaced is None else replaced)

    return apply


def layers_of(config: Any) -> list[Any]:
    """The configurations of the layers of a model."""
    return config["config"]["layers"]  # type: ignore[no-any-return]


def layer_called(config: Any, class_name: str) -> Any:
    """The configuration of the last layer of a class."""
    return next(one for one in reversed(layers_of(config)) if one["class_name"] == class_name)


def dense(**arguments: Any) -> Callable[[Parts], None]:
    """Other arguments for the last layer."""
    return with_json("config", lambda c: layer_called(c, "Dense")["config"].update(arguments))


def metadata(**values: Any) -> Callable[[Parts], None]:
    return lambda parts: parts.metadata.update(values)


def dropped(config: Any, arguments: Any) -> Any:
    """`config` without the units among the arguments of a layer in it."""
    del arguments["units"]
    return config


def without(*names: str) -> Callable[[Parts], Any]:
    """A change that removes entries of the metadata or tensors."""
    return lambda p: [p.metadata.pop(name, None) or p.tensors.pop(name) for name in names]


def tensor(name: str, change: Callable[[Any], Any]) -> Callable[[Parts], None]:
    return lambda p: p.tensors.update({name: change(p.tensors.get(name))})


def nested(depth: int) -> Callable[[Any], Any]:
    """TimeDistributed around the last layer, and around that, and so on."""

    def change(config: Any) -> None:
        layers = layers_of(config)
        for i in range(depth):
            inner = layers[-1]
            layers[-1] = {"class_name": "TimeDistributed", "config": {"layer": inner, "name": f"t{i}"}}

    return change


def twice(levels: int) -> Callable[[Any], Any]:
    """A model that calls a model twice, which calls a model twice, and so on."""

    def change(config: Any) -> Any:
        for level in range(levels):
            text = json.dumps(config)
            if level == 0:  # the number of a model's first call is 1
                text = text.replace('"shared", 1, 0', '"shared", 2, 0').replace(
                    '"shared", 0, 0', '"shared", 1, 0'
                )
            outer = json.loads(text)
            shared = next(one for one in layers_of(outer) if one["config"]["name"] == "shared")
            shared |= {**copy.deepcopy(config), "name": "shared"}
            shared["config"]["name"] = "shared"
            outer["config"]["name"] = f"level_{level}"
            config = outer
        return config

    return change


def bidirectional(depth: int) -> Callable[[Any], Any]:
    """Bidirectional around a Bidirectional, and so on: each makes its layer twice."""

    def change(config: Any) -> None:
        layer = layer_called(config, "Bidirectional")
        for i in range(depth):
            inner = copy.deepcopy(layer)
            layer["config"] = {"layer": inner, "name": f"b{i}"}

    return change


def files_of_models(folder: Path) -> Iterator[Hostile]:
    """Safetensors files that are no models.

    Args:
        folder: a place for good files.
    """
    path = folder / "good.safetensors"
    save_whole(good_model(), path)

    def made(name: str, cause: str, *changes: Callable[[Parts], Any]) -> Hostile:
        return Hostile(name, changed(path, lambda parts: [change(parts) for change in changes]), cause)

    yield made("no format", "'format' is None", without("format"))
    yield made("other format", "'format' is 'pt'", metadata(format="pt"))
    yield made("weights alone", "holds weights alone", metadata(format="lstm_native.weights"))
    yield made("no version", "'format_version' is ''", without("format_version"))
    for version in ("2", "999999999"):
        yield made(f"version {version}", "reads up to 1", metadata(format_version=version))
    for version in ("0", "-1", "1.0", "\uff11", "one", "1" * 5000):
        yield made(f"version {version[:4]}", "expected a number", metadata(format_version=version))
    for key in ("config", "optimizer"):
        yield made(f"no {key}", f"metadata '{key}' is missing", without(key))
    for text in ("", "[]", "{", "null", '{"a":NaN}', '{"a":1,"a":1}', "[" * 200_000, '{"a":' * 5000):
        yield made(f"config {text[:9]}", "metadata 'config' is no valid JSON", metadata(config=text))
    yield made("empty config", "the configuration", metadata(config="{}"))
    yield made("config of a million values", "values", metadata(config='{"a":[' + "[]," * 1_000_000 + "[]]}"))

    model = with_json("config", lambda c: {**c, "class_name": "Modle"})
    yield made("unknown class of model", "'Modle'", model)
    yield made("no class", "the configuration", with_json("config", lambda c: c.update(class_name=None)))
    yield made("a layer is no model", "expected a model", with_json("config", lambda c: layers_of(c)[-1]))
    for value in (None, 3, "x", [], {"layers": 3}, {"layers": None}, {"layers": [3]}, {"layers": [{}]}):
        yield made(
            f"config of the model {value}",
            "the configuration",
            with_json("config", lambda c, v=value: c.update(config=v)),
        )
    for name in ("Lambda", "lambda", "LSTM.__init__", "os.system", "eval", "", "Layer", "\0", "../Dense"):
        yield made(
            f"class {name!r}",
            "the configuration",
            with_json("config", lambda c, n=name: layers_of(c)[-1].update(class_name=n)),
        )
    for value in (None, 3, ["Dense"], {"class_name": "Dense"}):
        yield made(
            f"class {value}",
            "the configuration",
            with_json("config", lambda c, v=value: layers_of(c)[-1].update(class_name=v)),
        )
    for module in ("os", "subprocess", "builtins.eval", 3, ["os"]):
        yield made(
            f"module {module!r}",
            "the configuration",
            with_json("config", lambda c, m=module: layers_of(c)[-1].update(module=m, class_name="system")),
        )
    yield made("no units", "'units'", with_json("config", lambda c: dropped(c, layers_of(c)[-1]["config"])))
    yield made("an argument too many", "'more'", dense(more=1))
    for units in (-1, 0, 1.5, "1", None, True, [1], {"a": 1}, 1e300, 10**30):
        yield made(f"units {units}", "the configuration", dense(units=units))
    for units in (1 << 31, (1 << 31) - 1, 1 << 40, 10_000_000):
        yield made(f"units {units}", "numbers, there are|address space", dense(units=units))
    yield made("other units", "has shape|numbers, there are", dense(units=2))
    yield made(
        "an embedding of a terabyte",
        "numbers, there are",
        with_json("config", lambda c: layer_called(c, "Embedding")["config"].update(input_dim=1 << 30)),
    )
    for value in ("no", "__import__", "os.system", 3, ["tanh"], {"class_name": "Dense", "config": {}}, {}):
        yield made(f"activation {value}", "the configuration", dense(activation=value))
    constant = {"class_name": "Constant", "config": {"value": "x"}}
    for value in ("no", 3, {"class_name": "Adam", "config": {}}, constant):
        yield made(f"initializer {value}", "the configuration", dense(kernel_initializer=value))
    for value in (7, -0.1, "0.1", None, [0.1]):
        yield made(
            f"dropout {value}",
            "the configuration",
            with_json("config", lambda c, v=value: layer_called(c, "Dropout")["config"].update(rate=v)),
        )
    yield made("names twice", "the configuration", dense(name="dropout"))
    yield made("deep wrappers", "the configuration", with_json("config", nested(40)))
    yield made("deeper wrappers", "levels|the configuration", with_json("config", nested(80)))
    yield made("Bidirectional of itself", "the configuration", with_json("config", bidirectional(40)))

    yield made("weight missing", "1 numbers, there are 0", without("dense/bias"))
    yield made(
        "weight under another name",
        r"lacks \['dense/bias'\], and has \['dense/bios'\]",
        lambda p: p.tensors.update({"dense/bios": p.tensors.pop("dense/bias")}),
    )
    yield made("weight too many", r"has \['more'\]", tensor("more", lambda _: np.zeros(2, np.float32)))
    for name in ("../../etc/passwd", "a\0b", "\u202e", "x" * 5000):
        yield made(f"weight {name[:9]!r}", "has \\[", tensor(name, lambda _: np.zeros(2, np.float32)))
    yield made("weight of another shape", "has shape", tensor("dense/kernel", lambda a: a.T))
    yield made("weight of a row more", "has shape", tensor("dense/kernel", lambda a: np.vstack([a, a])))
    yield made("weight of integers", "holds int64", tensor("dense/kernel", lambda a: a.astype(np.int64)))
    yield made("weight of bools", "holds bool", tensor("dense/kernel", lambda a: a > 0))

    def compiled(name: str, cause: str, **arguments: Any) -> Hostile:
        return made(name, cause, with_json("compile", lambda c: c.update(arguments)))

    asked = r"what compile\(\) was given"
    yield compiled("unknown loss", asked, loss="no")
    yield compiled("unknown optimizer", asked, optimizer={"class_name": "Evil", "config": {}})
    lstm = {"class_name": "LSTM", "config": {"units": 1}}
    yield compiled("optimizer of a wrong class", asked, optimizer=lstm)
    for value in (3, [3], {"a": 1}, [None], "accuracy"):
        yield compiled(f"optimizer {value}", asked, optimizer=value)
    yield compiled("unknown metric", asked, metrics=["no"])
    for name, arguments in {
        "AUC": {"num_thresholds": (1 << 31) - 1},
        "PrecisionAtRecall": {"num_thresholds": 10**12, "recall": 0.5},
        "AUC of labels": {"multi_label": True, "num_labels": 1 << 31},
    }.items():
        metric = {"class_name": name.split()[0], "config": arguments}
        yield compiled(f"{name} of many units", "a file may ask for", metrics=[metric])
    auc = {"class_name": "AUC", "config": {"num_thresholds": 20_000}}
    yield compiled("many metrics of many units", "a file may ask for", metrics=[auc] * 99)
    yield compiled("metrics of a wrong type", asked, metrics=3)
    yield compiled("an argument too many for compile", asked, more=1)
    yield made("compile is no dict", "no valid JSON", metadata(compile="[3]"))
    yield made("compile is empty", "optimizer", metadata(compile="{}"))
    for value in (3, "dense/kernel", ["no"], [3], [["dense/kernel"]], {}):
        for key in ("weights", "without_decay"):
            yield made(
                f"{key} {value}",
                asked,
                with_json("optimizer", lambda c, k=key, v=value: c.update({k: v})),
            )
    yield made("fewer slots", asked, with_json("optimizer", lambda c: c.update(weights=c["weights"][1:])))
    yield made("no slots", asked, with_json("optimizer", lambda c: c.update(weights=None)))
    yield made("slot missing", asked, without("_optimizer/0/iteration"))
    yield made("slot too many", asked, tensor("_optimizer/no", lambda _: np.zeros(2, np.float32)))
    yield made("slot of another shape", "has shape", tensor("_optimizer/0/iteration", lambda a: a.reshape(1)))
    yield made("iteration of floats", "holds float32", tensor("_optimizer/0/iteration", np.float32))

    for array in (np.zeros((2, 3), np.int64), np.zeros(2, np.int64), np.zeros((2, 2), np.float32)):
        yield made(
            f"random {array.shape} {array.dtype}", "_random is", tensor("_random", lambda _, a=array: a)
        )
    yield made("random below zero", "negative", tensor("_random", lambda a: -a - 1))
    state = "_states/2/h"
    yield made("state of other columns", "expected float32 of shape", tensor(state, lambda a: a[:, :2]))
    yield made("state of three axes", "expected float32 of shape", tensor(state, lambda a: a[None]))
    yield made("state of integers", "expected float32", tensor(state, lambda a: a.astype(np.int64)))
    yield made("half a state", "expected float32", without("_states/2/c"))
    yield made("state of other rows", "expected float32", tensor("_states/2/c", lambda a: a[:1]))
    yield made("history of two axes", "row of numbers", tensor("_history/values/loss", lambda a: a[None]))
    yield made("epochs of floats", "row of numbers", tensor("_history/epoch", lambda a: a.astype(np.float64)))

    save_whole(good_functional(), path)
    graph = "the configuration"

    def functional(name: str, change: Callable[[Any], Any], cause: str = graph) -> Hostile:
        return made(name, cause, with_json("config", change))

    def calls(config: Any, name: str) -> Any:
        layer = next(one for one in layers_of(config) if one["config"]["name"] == name)
        return layer["inbound_nodes"]

    def history_of(config: Any, name: str, value: Any) -> None:
        text = json.dumps(calls(config, name)[0]).replace('["a", 0, 0]', json.dumps(value))
        calls(config, name)[0] = json.loads(text)

    yield functional("a cycle", lambda c: history_of(c, "shared", ["out", 0, 0]))
    yield functional("a layer that feeds itself", lambda c: history_of(c, "shared", ["shared", 1, 0]))
    yield functional("an unknown layer", lambda c: history_of(c, "shared", ["no", 0, 0]))
    yield functional("a call that is not there", lambda c: history_of(c, "shared", ["a", 7, 0]))
    yield functional("a negative call", lambda c: history_of(c, "shared", ["a", -1, 0]))
    yield functional("an output that is not there", lambda c: history_of(c, "shared", ["a", 0, 7]))
    yield functional("a negative output", lambda c: history_of(c, "shared", ["a", 0, -1]))
    for value in (None, 3, "a", ["a"], {}, ["a", "0", "0"], [["a"], 0, 0]):
        yield functional(f"fed by {value}", lambda c, v=value: history_of(c, "shared", v))
        yield functional(f"inputs {value}", lambda c, v=value: c["config"].update(input_layers=v))
        yield functional(f"outputs {value}", lambda c, v=value: c["config"].update(output_layers=v))
    for value in (None, 3, "a", [3], [None], ["a"], [{"args": 3, "kwargs": 4}], [{}]):
        yield functional(f"calls {value}", lambda c, v=value: layers_of(c)[-1].update(inbound_nodes=v))
    for levels in (20, 40):
        yield made(
            f"models in models twice each, {levels} levels",
            "10000 calls|levels",
            with_json("config", twice(levels)),
            tensor("more", lambda _: np.zeros(10_000, np.float32)),
        )
    yield functional("two layers of one name", lambda c: layers_of(c)[-1]["config"].update(name="shared"))

    save_whole(good_texts(), path)

    def texts(name: str, **arguments: Any) -> Hostile:
        return made(name, graph, with_json("config", lambda c: layers_of(c)[0]["config"].update(arguments)))

    secret = folder / "secret.txt"
    secret.write_text("one\ntwo\nthree\n")
    for value in (str(secret), "/etc/passwd", "/dev/zero", 3, [3], [None], ["one", "one"], {"a": 1}):
        yield texts(f"vocabulary {value}", vocabulary=value)
    for value in (1 << 31, -1, "2", [0], [1.5]):
        yield texts(f"ngrams {value}", ngrams=value)
    for value in ("os.system", {"class_name": "function", "config": "system", "module": "os"}, 3):
        yield texts(f"split {value}", split=value)
