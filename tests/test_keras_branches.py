"""Keras models that branch: files of real Keras 2 and 3, ways back to Keras, masks that are joined."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hostile_keras import archive
from lstm_native import load_model
from lstm_native.convert import from_keras, to_keras
from lstm_native.convert.keras_mask_flow import ALL, NONE, MaskFlow
from lstm_native.layers import (
    LSTM,
    Activation,
    Add,
    Concatenate,
    Dense,
    Dot,
    Embedding,
    Input,
    Masking,
    Rescaling,
)
from lstm_native.models import Model

DATA = Path(__file__).parent / "data" / "keras"
with zipfile.ZipFile(DATA / "branches.zip") as _file:
    NAMES = [name for name in _file.namelist() if name != "expected.npz"]
# Both compute in float32; values are below 4, sums have up to 30 terms.
TOLERANCE = 2e-6


@pytest.fixture(autouse=True)
def _without_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another test has imported Keras, models would be run beside it."""
    monkeypatch.delitem(sys.modules, "keras", raising=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of real Keras."""
    folder = tmp_path_factory.mktemp("keras")
    with zipfile.ZipFile(DATA / "branches.zip") as file:
        file.extractall(folder)
    return folder


def check(model: Any, folder: Path, name: str) -> None:
    with np.load(folder / "expected.npz") as file:
        inputs, outputs = (
            [file[k] for k in sorted(file) if k.startswith(f"{name}/{w}")] for w in ("in", "out")
        )
    found = model.predict(inputs[0] if len(inputs) == 1 else inputs, verbose=0)
    for wanted, got in zip(outputs, found if isinstance(found, list) else [found], strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_files_of_keras(name: str, made: Path, tmp_path: Path) -> None:
    """And on to a file of ours, and to both forms of Keras."""
    model = from_keras(made / name)
    case = name.partition(".")[0]
    check(model, made, case)
    for again in ("again.safetensors", "again.keras", "again.h5"):
        if again.endswith("tensors"):
            model.save(tmp_path / again)
        else:
            to_keras(model, tmp_path / again)
        check(load_model(tmp_path / again), made, case)


def test_operators_are_layers(made: Path) -> None:
    for version in ("keras2", "keras3"):
        model = from_keras(made / f"{version}_operators.keras")
        kinds = sorted({type(layer).__name__ for layer in model.layers})
        assert {"Add", "Subtract", "Multiply", "Maximum", "Minimum", "Concatenate"} <= set(kinds)


# --- what differs -----------------------------------------------------------------------------------


def config_of(path: Path) -> Any:
    with zipfile.ZipFile(path) as file:
        return json.loads(file.read("config.json"))


def spoilt(made: Path, tmp_path: Path, name: str, change: Any) -> Path:
    """The file with another configuration."""
    config = config_of(made / name)
    change(config["config"])
    with zipfile.ZipFile(made / name) as file:
        parts = {part: file.read(part) for part in file.namelist()}
    path = tmp_path / "spoilt.keras"
    with zipfile.ZipFile(path, "w") as file:
        for part, content in parts.items():
            file.writestr(part, json.dumps(config) if part == "config.json" else content)
    return path


def layer_named(config: Any, kind: str, number: int = 0) -> Any:
    return [one for one in config["layers"] if one["class_name"] == kind][number]


def with_constant(made: Path, tmp_path: Path, kind: str, *args: Any) -> Path:
    """A file in which an operation on two values became one on such arguments; "x" stands for a value."""

    def change(config: Any) -> None:
        one = next(o for o in config["layers"] if o["class_name"] == "Add" and "ops" in o["module"])
        value = one["inbound_nodes"][0]["args"][0]
        one["inbound_nodes"][0]["args"] = [value if a == "x" else a for a in args]
        one["class_name"] = kind

    return spoilt(made, tmp_path, "keras3_operators.keras", change)


def scaling(path: Path) -> tuple[Any, Any]:
    """Scale and offset of the one Rescaling in a model."""
    (layer,) = (x for x in from_keras(path, check=False).layers if isinstance(x, Rescaling))
    return layer.scale, layer.offset


def array_of(*numbers: float) -> Any:
    return {"class_name": "__tensor__", "config": {"value": list(numbers), "dtype": "float32"}}


@pytest.mark.parametrize(
    ("kind", "args", "scale", "offset"),
    [
        ("Add", ("x", 2.0), 1.0, 2.0),
        ("Add", (3, "x"), 1.0, 3.0),
        ("Subtract", ("x", 0.5), 1.0, -0.5),
        ("Subtract", (1, "x"), -1.0, 1.0),
        ("Multiply", (array_of(0.5), "x"), [0.5], 0.0),
        ("TrueDivide", ("x", 4), 0.25, 0.0),
        ("Divide", ("x", array_of(2.0)), [0.5], 0.0),
        ("Negative", ("x",), -1.0, 0.0),
    ],
)
def test_operations_with_constants(
    made: Path, tmp_path: Path, kind: str, args: Any, scale: Any, offset: Any
) -> None:
    assert scaling(with_constant(made, tmp_path, kind, *args)) == (scale, offset)


@pytest.mark.parametrize(
    ("kind", "args", "message"),
    [
        ("Add", ("x", "y"), r"the operation 'add\w*' \(Add\) has the arguments .* values of layers"),
        ("Add", ("x", [[1.0], [1.0, 2.0]]), "values of layers"),
        ("Multiply", ("x", None), "values of layers"),
        ("TrueDivide", (1.0, "x"), "TrueDivide 'add.*' has no counterpart here"),
        ("TrueDivide", ("x", 0.0), "scale is inf, expected finite numbers"),
        ("Multiply", ("x", array_of(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)), "does not fit"),
        ("Add", (1.0, 2.0), "values of layers"),
    ],
)
def test_operations_with_other_things_are_named(
    made: Path, tmp_path: Path, kind: str, args: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        from_keras(with_constant(made, tmp_path, kind, *args), check=False)


def with_function(made: Path, tmp_path: Path, function: Any, *operands: Any, **named: Any) -> Path:
    """A file of Keras 2 in which a function became another one of such operands; "x" stands for a value."""

    def change(config: Any) -> None:
        one = layer_named(config, "TFOpLambda")
        (node,) = one["inbound_nodes"]
        value = node[:3] if isinstance(node[0], str) else node[0][:3]
        one["config"]["function"] = function
        first, *rest = (value if item == "x" else item for item in operands)
        arguments = {**named, "name": None} | ({"y": rest[0]} if rest else {})
        call = [*(first if first is value else ["_CONSTANT_VALUE", -1, first]), arguments]
        one["inbound_nodes"] = [[call] * 3] if function == "math.add_n" else [call]

    return spoilt(made, tmp_path, "keras2_operators.keras", change)


@pytest.mark.parametrize(
    ("function", "operands", "scale", "offset"),
    [
        ("math.multiply", (2.0, "x"), 2.0, 0.0),
        ("math.multiply", ("x", [0.5]), [0.5], 0.0),
        ("__operators__.add", ("x", 2.0), 1.0, 2.0),
        ("math.subtract", (1.0, "x"), -1.0, 1.0),
        ("math.subtract", ("x", 1), 1.0, -1.0),
        ("math.truediv", ("x", 4), 0.25, 0.0),
        ("math.negative", ("x",), -1.0, 0.0),
    ],
)
def test_functions_of_keras_2_with_constants(
    made: Path, tmp_path: Path, function: str, operands: Any, scale: Any, offset: Any
) -> None:
    assert scaling(with_function(made, tmp_path, function, *operands)) == (scale, offset)


@pytest.mark.parametrize(
    ("function", "named", "activation"),
    [("math.tanh", {}, "tanh"), ("nn.relu", {}, "relu"), ("nn.softmax", {"axis": -1}, "softmax")],
)
def test_activations_that_are_functions_or_operations(
    made: Path, tmp_path: Path, function: str, named: Any, activation: str
) -> None:
    kind = activation.capitalize()
    paths = [with_function(made, tmp_path, function, "x", **named)]
    for path in (*paths, with_constant(made, tmp_path, kind, "x")):
        layers = from_keras(path, check=False).layers
        (layer,) = (layer for layer in layers if isinstance(layer, Activation))
        assert layer.get_config()["activation"] == activation


def test_a_sum_of_a_list_in_keras_2(made: Path, tmp_path: Path) -> None:
    model = from_keras(with_function(made, tmp_path, "math.add_n", "x"), check=False)
    assert 3 in [len(layer.input) for layer in model.layers if isinstance(layer, Add)]


@pytest.mark.parametrize(
    ("function", "operands", "named"),
    [
        ("math.truediv", (1.0, "x"), {}),
        ("math.truediv", ("x", "x"), {}),
        ("math.tanh", (1.0,), {}),
        ("nn.softmax", ("x",), {"axis": 1}),
        ("math.reduce_mean", ("x",), {"axis": 1}),
        ("math.negative", ("x", 2.0), {}),
        ([], ("x",), {}),
    ],
)
def test_functions_of_keras_2_without_a_layer(
    made: Path, tmp_path: Path, function: Any, operands: Any, named: Any
) -> None:
    with pytest.raises(ValueError, match=r"TFOpLambda '.*' holds code, which is never run"):
        from_keras(with_function(made, tmp_path, function, *operands, **named), check=False)


def test_another_mask_is_not_taken_for_the_joined_one(made: Path, tmp_path: Path) -> None:
    """A call that is given the mask of one input alone."""

    def change(config: Any) -> None:
        for one in config["layers"]:
            for node in one["inbound_nodes"]:
                mask = node["kwargs"].get("mask")
                if one["class_name"] == "LSTM" and mask["config"]["keras_history"][0].startswith(
                    "logical_or"
                ):
                    mask["config"]["keras_history"][0] = layer_named(config, "NotEqual")["name"]

    with pytest.raises(ValueError, match=r"NotEqual 'not_equal.*' has no counterpart"):
        from_keras(spoilt(made, tmp_path, "keras3_masks.keras", change))


def value(*history: Any) -> dict[str, Any]:
    return {"class_name": "__keras_tensor__", "config": {"keras_history": list(history)}}


def one_layer(kind: str, name: str, *calls: Any, **config: Any) -> dict[str, Any]:
    nodes = [{"args": call, "kwargs": {}} for call in calls]
    if kind != "InputLayer":
        config["trainable"] = True
    return {"class_name": kind, "module": "keras.layers", "name": name, "inbound_nodes": nodes,
            "config": {"name": name, **config}}  # fmt: skip


def operation(kind: str, name: str, *args: Any, **config: Any) -> dict[str, Any]:
    return {
        **one_layer(kind, name, list(args)),
        "module": "keras.src.ops.numpy",
        "config": {"name": name, **config},
    }


def branching(joined: dict[str, Any], end: dict[str, Any]) -> dict[str, Any]:
    """Two inputs, ids `a` and `b`, whose embeddings have masks; `joined` of them, and `end` of that."""
    layers = []
    for name in "ab":
        shape = {"batch_shape": [None, None], "dtype": "int32"}
        layers.append(one_layer("InputLayer", name, **shape))
        table = {"input_dim": 9, "output_dim": 3, "mask_zero": True}
        layers.append(one_layer("Embedding", f"e{name}", [value(name, 0, 0)], **table))
    ends = {"input_layers": [["a", 0, 0], ["b", 0, 0]], "output_layers": [end["name"], 0, 0]}
    return {"class_name": "Functional", "config": {"name": "m", "layers": [*layers, joined, end], **ends}}


def test_masks_that_differ(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    joined = one_layer("Add", "join", [[value("ea", 0, 0), value("eb", 0, 0)]])
    end = one_layer("LSTM", "end", [value("join", 0, 0)], units=2)
    parts = {"config.json": branching(joined, end), "metadata.json": {"keras_version": "2.15.0"}}
    path.write_bytes(archive(parts))
    message = r"Add 'join': its inputs have different masks, of which Keras 2 .* \(to 'end'\)"
    with pytest.raises(ValueError, match=message):
        from_keras(path)
    # Where no layer goes by the mask, nothing differs: only the weights are missing.
    end = one_layer("GlobalMaxPooling1D", "end", [value("join", 0, 0)])
    path.write_bytes(archive({**parts, "config.json": branching(joined, end)}))
    with pytest.raises(ValueError, match="a weight of shape"):
        from_keras(path)


A, B = value("ea", 0, 0), value("eb", 0, 0)
SPOILT: list[Any] = [[A, B], [[A, B]], [], [None], ["x"], [A], [[A, 1]], [[]], {"a": 1}, None, [[[A]], B]]


@pytest.mark.parametrize(
    "kind", ["Add", "Concatenate", "Dot", "NotEqual", "LogicalOr", "ExpandDims", "ZerosLike"]
)
def test_spoilt_joins_are_value_errors(kind: str, tmp_path: Path) -> None:
    """Whatever stands in the calls of layers, of operations and of functions of Keras 2, and in arguments."""
    path = tmp_path / "m.keras"
    end = one_layer("LSTM", "end", [value("join", 0, 0)], units=2)
    joins = []
    for args in SPOILT:
        for nodes in ([{"args": args, "kwargs": {}}], [{"args": args}], [args], None, "x"):
            layer, function = one_layer(kind, "join", axes=args, axis=args), operation(kind, "join", axis=-1)
            lambdas = {"class_name": "TFOpLambda", "name": "join", "config": {"function": "math.add"}}
            joins += [one | {"inbound_nodes": nodes} for one in (layer, function, lambdas)]
    for join in joins:
        path.write_bytes(archive({"config.json": branching(join, end)}))
        with pytest.raises(ValueError):
            from_keras(path)


def test_mask_formulas() -> None:
    """Of values, as numbers that are equal where masks are."""
    a, b, x = (value(name, 0, 0) for name in ("ea", "eb", "x"))
    layers = [
        *branching(one_layer("Add", "sum", [[a, b]]), one_layer("Add", "twice", [[a, a]]))["config"][
            "layers"
        ],
        one_layer("InputLayer", "x"),
        one_layer("Concatenate", "side", [[b, a]], axis=-1),
        one_layer("Concatenate", "long", [[b, a]], axis=1),
        one_layer("Concatenate", "back", [[a, b]], axis=1),
        one_layer("Concatenate", "with", [[a, x]], axis=-1),
        one_layer("Multiply", "half", [[a, x]]),
        one_layer("Dot", "dot", [[a, b]], axes=2),
        one_layer("LSTM", "states", [[a]], units=2, return_sequences=True),
        one_layer("LSTM", "last", [[a]], units=2),
        one_layer("Attention", "attention", [[b, a]]),
        one_layer("Custom", "custom", [[b]]),
    ]
    flow = MaskFlow(layers)
    mask = {one["name"]: flow.of((one["name"], 0, 0)) for one in layers}
    assert mask["sum"] == mask["side"] not in (mask["ea"], mask["eb"], None)
    assert mask["twice"] == mask["ea"] == mask["states"]
    assert mask["attention"] == mask["eb"]
    assert mask["long"] != mask["back"]
    assert mask["with"] == ALL
    assert [mask[name] for name in ("half", "dot", "last", "x")] == [NONE] * 4
    assert mask["custom"] is None


def test_masks_of_hostile_size() -> None:
    """Time joined with itself over and over: the formulas stay small."""
    layers = branching(one_layer("Add", "j0", [[value("ea", 0, 0)] * 2]), {"name": "x"})["config"]["layers"][
        :-1
    ]
    layers += [
        one_layer("Concatenate", f"j{i}", [[value(f"j{i - 1}", 0, 0)] * 2], axis=1) for i in range(1, 2000)
    ]
    assert MaskFlow(layers).of(("j1999", 0, 0)) not in (None, NONE, ALL)


# --- to Keras ---------------------------------------------------------------------------------------


def test_masks_end_at_operators(tmp_path: Path) -> None:
    """They are operations in files of Keras where that matters, and layers in others."""
    ids = np.array([[1, 2, 3, 0, 0], [4, 5, 0, 0, 0]])
    for masked in (True, False):
        inputs = Input((None,), dtype="int32")
        x = Embedding(9, 3, mask_zero=masked)(inputs)
        y = LSTM(3, return_sequences=True)(x)
        z = 2 * (x + y) - 1 - (1 - 2 * x) * np.array([0.5, 1.0, 1.5])
        z = Concatenate(ends_masks=True)([z, x * y, Activation("tanh", ends_masks=True)(y)])
        model = Model(inputs, LSTM(2)(z))
        model.save(tmp_path / "m.keras")
        with zipfile.ZipFile(tmp_path / "m.keras") as file:
            found = json.loads(file.read("config.json"))["config"]["layers"]
        kinds = {one["class_name"] for one in found if "ops" in one["module"]}
        assert kinds == ({"Add", "Subtract", "Multiply", "Concatenate", "Tanh"} if masked else set())
        again = load_model(tmp_path / "m.keras")
        np.testing.assert_allclose(again.predict(ids), model.predict(ids), atol=1e-6)
        if masked:
            with pytest.raises(ValueError, match=r"masks end at it, .* no files of the old form do, write a"):
                to_keras(model, tmp_path / "m.h5")
    three = Model(inputs, LSTM(2)(Add(ends_masks=True)([Masking()(x), x, x])))
    with pytest.raises(ValueError, match=r"to_keras: Add 'add.*': masks end at it, .* no operation of Keras"):
        to_keras(three, tmp_path / "m.keras")


def test_our_models_come_back(tmp_path: Path) -> None:
    words, steps = Input((None,), dtype="int32"), Input((None, 3))
    read = Embedding(9, 3, mask_zero=True)(words)
    joined = Concatenate(axis=1)([Add()([read, Masking()(steps)]), read])
    ends = [Dense(2)(LSTM(3)(joined)), Dot(axes=1)([LSTM(2)(read), LSTM(2)(steps)])]
    model = Model([words, steps], ends)
    x = [np.array([[1, 2, 0], [3, 0, 0]]), np.random.default_rng(0).normal(size=(2, 3, 3))]
    for suffix in (".keras", ".h5"):
        to_keras(model, tmp_path / f"m{suffix}")
        again = from_keras(tmp_path / f"m{suffix}")
        for a, b in zip(model.predict(x, verbose=0), again.predict(x, verbose=0), strict=True):
            np.testing.assert_array_equal(a, b)
