"""from_onnx: files of real exporters, graphs of every pattern, what has no counterpart."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper  # noqa: E402

import lstm_native.onnx_backend as backend  # noqa: E402
from lstm_native.convert import (  # noqa: E402
    from_onnx,
    onnx_source,
    to_onnx,
)
from lstm_native.layers import LSTM, Bidirectional, Dense  # noqa: E402
from lstm_native.models import Sequential, load_model  # noqa: E402
from onnx_graphs import RecurrentCase, model  # noqa: E402

DATA = Path(__file__).parent / "data" / "torch"
FILES = sorted(DATA.glob("*.onnx"))
INT64 = TensorProto.INT64


def node(op: str, inputs: str, outputs: str = "y", **attributes: Any) -> Any:
    return helper.make_node(
        op, ["" if i == "_" else i for i in inputs.split()], outputs.split(), **attributes
    )


def weights(units: int = 3, features: int = 4, count: int = 1, gates: int = 4) -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {
        "W": random.normal(size=(count, gates * units, features)).astype(np.float32),
        "R": random.normal(size=(count, gates * units, units)).astype(np.float32),
        "B": random.normal(size=(count, 2 * gates * units)).astype(np.float32),
    }


def check(proto: Any) -> Any:
    """The model, which gave what the original gave, in onnxruntime or onnx.reference."""
    converted = from_onnx(proto)
    assert converted.conversion.max_difference is not None, str(converted.conversion)
    return converted


# --- files of exporters -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_files_of_exporters(path: Path, tmp_path: Path) -> None:
    with np.load(DATA / "expected.npz") as expected:
        x, y = expected[f"{path.name}/x"], expected[f"{path.name}/y"]
    if path.stem == "plain_dynamo":  # where PyTorch writes the loop of an RNN step by step
        with pytest.raises(ValueError, match="written out step by step are not recognized"):
            from_onnx(path)
        (found,) = backend.prepare(path).run([x])
        np.testing.assert_allclose(found, y, atol=1e-6)
        return
    converted = check(path)
    assert isinstance(converted, Sequential) != path.stem.startswith(("residual", "attended"))
    np.testing.assert_allclose(converted(x), y, atol=1e-6)
    assert any("gates: ONNX's rows" in note for note in converted.conversion.notes)
    converted.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(load_model(tmp_path / "m.safetensors")(x), converted(x))
    assert to_onnx(converted, tmp_path / "m.onnx").max_difference is not None


def test_files_are_there() -> None:
    assert len(FILES) >= 14


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_modules_of_pytorch(kind: str, both: bool, first: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    module = getattr(torch.nn, kind)(4, 5, 2, bidirectional=both, batch_first=first).eval()
    x = torch.randn(3, 6, 4) if first else torch.randn(6, 3, 4)
    states = torch.randn(4 if both else 2, 3, 5)
    given = (states, states + 1) if kind == "LSTM" else states
    for arguments in ((x,), (x, given)):
        path = tmp_path / "m.onnx"
        names = ["x", "h", "c"][: 1 if len(arguments) == 1 else 3 if kind == "LSTM" else 2]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(module, arguments, str(path), dynamo=False, input_names=names)
        converted = check(path)
        inputs = [np.asarray(x if first else x.transpose(0, 1))]
        if len(arguments) == 2:
            stacked = given if kind == "LSTM" else (given,)
            inputs += [np.asarray(part) for state in stacked for part in state]
        with torch.no_grad():
            y, _ = module(*arguments)
        ours = converted(inputs if len(inputs) > 1 else inputs[0])
        np.testing.assert_allclose(ours[0], y if first else y.transpose(0, 1), atol=1e-6)


# --- graphs -----------------------------------------------------------------------------------------


def test_a_chain_is_a_sequential_model() -> None:
    table = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    kernel = np.ones((3, 2), np.float32)
    nodes = [
        node("Cast", "ids", "i", to=INT64),
        node("Gather", "table i", "e"),
        node("Transpose", "e", "t", perm=[1, 0, 2]),
        node("LSTM", "t W R B", "Y h", hidden_size=3),
        node("Squeeze", "h z", "s"),
        node("MatMul", "s k", "m"),
        node("Add", "m b", "a"),
        node("Dropout", "a", "d"),
        node("Softmax", "d"),
    ]
    constants = weights() | {
        "table": table,
        "k": kernel,
        "b": np.array([[1, 2]], np.float32),
        "z": np.array([0]),
    }
    made = check(model(nodes, {"ids": (TensorProto.INT32, ("b", "t"))}, ["y"], constants))
    assert isinstance(made, Sequential)
    assert [type(layer).__name__ for layer in made.layers] == ["Embedding", "LSTM", "Dense"]
    assert made.layers[2].activation.__name__ == "softmax"
    np.testing.assert_array_equal(made.layers[2].get_weights()[1], [1, 2])
    made.compile("adam", "mse")
    made.fit(np.zeros((4, 3), int), np.zeros((4, 2)), verbose=0)  # it trains like any other


def test_gates_and_biases() -> None:
    arrays = weights()
    made = check(model([node("LSTM", "X W R B", "Y", hidden_size=3)], {"X": ("t", "b", 4)}, ["Y"], arrays))
    kernel, _, bias = made.get_weights()
    i, o, f, c = np.split(arrays["W"][0], 4)
    np.testing.assert_array_equal(kernel, np.concatenate([i, f, c, o]).T)
    first, second = np.split(arrays["B"][0], 2)
    np.testing.assert_array_equal(bias[:3], (first + second)[:3])


HOW = {
    "sum": [node("ReduceSum", "Y one", "y", keepdims=0)],
    "ave": [node("ReduceMean", "Y", "y", axes=[1], keepdims=0)],
    "mul": [node("ReduceProd", "Y", "y", axes=[1], keepdims=0)],
    "concat": [node("Transpose", "Y", "p", perm=[0, 2, 1, 3]), node("Reshape", "p flat", "y")],
    "sum of halves": [node("Split", "Y", "f b", axis=1), node("Add", "f b", "s"), node("Squeeze", "s one")],
}


@pytest.mark.parametrize("how", HOW)
def test_both_directions_together(how: str) -> None:
    nodes = [node("LSTM", "X W R B", "Y", hidden_size=3, direction="bidirectional"), *HOW[how]]
    constants = weights(count=2) | {"one": np.array([1]), "flat": np.array([0, 0, -1])}
    made = check(model(nodes, {"X": ("t", "b", 4)}, ["y"], constants))
    (layer,) = made.layers
    assert isinstance(layer, Bidirectional)
    assert layer.merge_mode == how.split()[0]


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("step", [0, -1])
def test_a_step(direction: str, step: int) -> None:
    count = 2 if direction == "bidirectional" else 1
    nodes = [
        node("LSTM", "X W R B", "Y", hidden_size=3, direction=direction),
        node("Transpose", "Y", "p", perm=[2, 0, 1, 3]),
        node("Reshape", "p flat", "q"),
        node("MatMul", "q k", "m"),
        node("Relu", "m", "r"),
        node("Gather", "r s", "y", axis=1),
    ]
    constants = weights(count=count) | {
        "flat": np.array([0, 0, -1]),
        "s": np.array(step),
        "k": np.random.default_rng(1).normal(size=(3 * count, 2)).astype(np.float32),
    }
    made = check(model(nodes, {"X": ("t", "b", 4)}, ["y"], constants))
    plain = direction != "bidirectional" and (step == -1) == (direction == "forward")
    kinds = [type(layer) for layer in made.layers]
    assert kinds == [LSTM, Dense] if plain else len(kinds) == 3


def test_stacks_of_reverse_operators() -> None:
    nodes = [
        node("GRU", "X W R B", "Y", hidden_size=3, direction="reverse"),
        node("Squeeze", "Y one", "s"),
        node("GRU", "s V S C", "Z", hidden_size=3, direction="reverse"),
        node("Slice", "Z minus far zero minus", "y"),
    ]
    second = weights(features=3, gates=3)
    constants = weights(gates=3) | {
        "V": second["W"],
        "S": second["R"],
        "C": second["B"],
        "one": np.array([1]),
    }
    constants |= {"minus": np.array([-1]), "far": np.array([-(1 << 60)]), "zero": np.array([0])}
    made = check(model(nodes, {"X": ("t", "b", 4)}, ["y"], constants))
    # Turned round twice is not turned: no layer does it.
    assert [layer.go_backwards for layer in made.layers] == [True, False]


def test_states_of_zeros_made_from_the_batch() -> None:
    nodes = [
        node("Shape", "X", "shape"),
        node("Gather", "shape one", "n", axis=0),
        node("Unsqueeze", "n zero", "u"),
        node("Concat", "ones u three", "size", axis=0),
        node("ConstantOfShape", "size", "h"),
        node("Expand", "nought size", "c"),
        node("LSTM", "X W R B _ h c", "Y", hidden_size=3),
    ]
    constants = weights() | {
        "one": np.array(1),
        "zero": np.array([0]),
        "ones": np.array([1]),
        "three": np.array([3]),
        "nought": np.zeros((1, 1, 3), np.float32),
    }
    made = check(model(nodes, {"X": ("t", "b", 4)}, ["Y"], constants))
    assert isinstance(made, Sequential)


def test_lengths_are_a_mask() -> None:
    case = RecurrentCase("LSTM", {"direction": "bidirectional"}, 3, 2, 0, lengths=True)
    proto = case.proto()
    made = check(proto)
    x, lengths = case.feeds["X"], case.feeds["lengths"]
    y, *_ = backend.run_model(proto, case.feeds)
    found = made([x.swapaxes(0, 1), np.arange(5) < lengths[:, None]])
    np.testing.assert_allclose(found[0], y[:, 0].swapaxes(0, 1), atol=1e-6)
    np.testing.assert_allclose(found[1], y[:, 1].swapaxes(0, 1), atol=1e-6)
    assert any("a mask (batch, time)" in note for note in made.conversion.notes)


def test_hard_sigmoid_is_that_of_onnx() -> None:
    case = RecurrentCase("GRU", {"activations": ["HardSigmoid", "Tanh"]}, 3, 2, 0)
    made = check(case.proto())
    assert made.layers[-1].recurrent_activation.native[0] == "hard_sigmoid"
    assert any("HardSigmoid is alpha x + beta" in note for note in made.conversion.notes)


def test_outputs_in_several_forms() -> None:
    nodes = [
        node("LSTM", "X W R B", "Y h c", hidden_size=3, direction="bidirectional"),
        node("Transpose", "Y", "p", perm=[0, 2, 1, 3]),
        node("Reshape", "p flat", "y"),
        node("ReduceSum", "h zero", "z", keepdims=0),
    ]
    constants = weights(count=2) | {"flat": np.array([0, 0, -1]), "zero": np.array([0])}
    made = check(model(nodes, {"X": ("t", "b", 4)}, ["y", "z", "c"], constants))
    assert len(made.outputs) == 4
    assert any("2 forms" in note for note in made.conversion.notes)


def test_other_layers() -> None:
    random = np.random.default_rng(0)
    nodes = [
        node("LayerNormalization", "X g b", "n", epsilon=0.01),
        node("LSTM", "n W R B", "Y", hidden_size=3, layout=1),
        node("Squeeze", "Y two", "s"),
        node("LeakyRelu", "s", "l", alpha=0.2),
        node("Sigmoid", "l", "i"),
        node("Mul", "l i", "silu"),
        node("Flatten", "silu", "f"),
        node("Gemm", "f k q", "m", alpha=0.5, beta=2.0, transB=1),
        node("Clip", "m low high", "y"),
    ]
    constants = weights() | {
        "g": random.normal(size=4).astype(np.float32),
        "b": random.normal(size=4).astype(np.float32),
        "two": np.array([2]),
        "k": random.normal(size=(2, 15)).astype(np.float32),
        "q": random.normal(size=2).astype(np.float32),
        "low": np.float32(0),
        "high": np.float32(6),
    }
    made = from_onnx(model(nodes, {"X": ("b", 5, 4)}, ["y"], constants))
    kinds = [type(layer).__name__ for layer in made.layers]
    assert kinds == ["LayerNormalization", "LSTM", "Activation", "Activation", "Flatten", "Dense"]


def test_nodes_that_nobody_needs_are_not_looked_at() -> None:
    nodes = [node("LSTM", "X W R B", "Y h", hidden_size=3), node("Sin", "h", "unused")]
    check(model(nodes, {"X": ("t", "b", 4)}, ["Y"], weights()))


# --- what has no counterpart ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("Sin", "X")], r"node 'y' \(Sin\): this operator has no counterpart"),
        ([node("Gather", "X five", axis=1)], "it takes step 5 of the time"),
        ([node("ReduceMean", "X", axes=[2])], r"\(ReduceMean\): over the axes \(features\)"),
        ([node("Concat", "X X", axis=0)], "it joins the axes batch, batch"),
        ([node("Add", "X k")], "which is no bias of a product"),
        ([node("Mul", "X large")], "which is no bias of a product"),
        ([node("Mul", "X deep")], "which is no bias of a product"),
        ([node("Div", "X nothing")], "or by zero"),
        ([node("Clip", "X low")], r"it clips to \[-3.0, None\]"),
        ([node("Selu", "X", alpha=2.0)], "its attributes have no counterpart"),
        ([node("Reshape", "X halves")], "mixes axes that layers keep apart"),
        (
            [node("LSTM", "X W R B five", "Y", hidden_size=3), node("Squeeze", "Y")],
            "sequence_lens is a constant",
        ),
        (
            [node("LSTM", "X W R B _ k k", "Y", hidden_size=3), node("Squeeze", "Y")],
            "initial_h is a constant",
        ),
        ([node("LSTM", "X X X", "Y", hidden_size=3), node("Squeeze", "Y")], "weights are no constants"),
        ([node("Softmax", "X", axis=1)], "axis is 1, expected the last one"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused(nodes: list[Any], message: str) -> None:
    constants = weights() | {
        "five": np.array(5, np.int64),
        "k": np.ones((1, 1, 3), np.float32),
        "low": np.float32(-3),
        "large": np.ones((5, 1, 1), np.float32),
        "deep": np.ones((1, 1, 1, 1), np.float32),
        "nothing": np.array([0.0, 1.0, 2.0, 3.0], np.float32),
        "halves": np.array([0, 0, 2, 2]),
    }
    with pytest.raises(ValueError, match=message):
        from_onnx(model(nodes, {"X": ("b", "t", 4)}, ["y"], constants))


@pytest.mark.parametrize("value", [2.0, [3.0], [[0.5]], [1.0, -2.0, 3.0, 4.0]])
@pytest.mark.parametrize("nodes", [
    [node("Mul", "X c")], [node("Mul", "c X")], [node("Add", "X c")], [node("Sub", "X c")],
    [node("Sub", "c X")], [node("Div", "X c")], [node("Neg", "X", "s"), node("Add", "s c")],
])  # fmt: skip
def test_constants_rescale(nodes: list[Any], value: Any) -> None:
    made = check(model(nodes, {"X": ("b", "t", 4)}, ["y"], {"c": np.array(value, np.float32)}))
    assert {type(layer).__name__ for layer in made.layers} <= {"InputLayer", "Rescaling"}


def test_a_mask_that_would_come_along_is_refused() -> None:
    nodes = [
        node("LSTM", "X W R B n", "Y", hidden_size=3),
        node("Squeeze", "Y one", "s"),
        node("LSTM", "s V S C", "y", hidden_size=3),
    ]
    second = weights(features=3)
    constants = weights() | {"V": second["W"], "S": second["R"], "C": second["B"], "one": np.array([1])}
    with pytest.raises(ValueError, match="masks would come along"):
        from_onnx(model(nodes, {"X": ("t", "b", 4), "n": (TensorProto.INT32, ("b",))}, ["y"], constants))


def test_large_sizes_are_not_run() -> None:
    made = from_onnx(
        model([node("LSTM", "X W R B", "Y", hidden_size=3)], {"X": (900, 900_000, 4)}, ["Y"], weights())
    )
    assert made.conversion.max_difference is None
    assert made.conversion.not_run == "the sizes that it fixes are large"


def test_ids_that_come_as_floats() -> None:
    nodes = [node("Cast", "x", "i", to=INT64), node("Gather", "k i")]
    made = check(model(nodes, {"x": ("b", "t")}, ["y"], {"k": np.arange(18, dtype=np.float32).reshape(9, 2)}))
    np.testing.assert_array_equal(made(np.array([[0, 8]], np.float32)), [[[0, 1], [16, 17]]])


def test_dense_over_steps_as_one_product() -> None:
    nodes = [
        node("Shape", "x", "s"),
        node("Slice", "s zero two", "front"),
        node("ReduceProd", "front", "rows", axes=[0], keepdims=1),
        node("Concat", "rows four", "flat", axis=0),
        node("Reshape", "x flat", "r"),
        node("MatMul", "r k", "m"),
        node("Concat", "front three", "back", axis=0),
        node("Reshape", "m back", "n"),
        node("Add", "n b"),
    ]
    constants = {
        "zero": np.array([0]),
        "two": np.array([2]),
        "four": np.array([4]),
        "three": np.array([3]),
        "k": np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32),
        "b": np.arange(3, dtype=np.float32),
    }
    made = check(model(nodes, {"x": ("b", "t", 4)}, ["y"], constants))
    assert [type(layer) for layer in made.layers] == [Dense]


def test_a_product_that_is_read_twice_keeps_its_own_bias() -> None:
    kernel, bias = np.ones((4, 3), np.float32), np.arange(3, dtype=np.float32)
    front = [node("MatMul", "x k", "m"), node("Identity", "m", "n"), node("Relu", "m", "z")]
    made = check(model([*front, node("Add", "n b")], {"x": ("b", 4)}, ["y", "z"], {"k": kernel, "b": bias}))
    assert [type(layer).__name__ for layer in made.layers].count("Rescaling") == 1
    made = check(model([*front, node("Tanh", "n")], {"x": ("b", 4)}, ["y", "z"], {"k": kernel}))
    assert [type(layer).__name__ for layer in made.layers].count("Activation") == 2


def test_a_sequence_and_its_last_step() -> None:
    nodes = [
        node("LSTM", "X W R B", "Y", hidden_size=3, layout=1),
        node("Squeeze", "Y two", "s"),
        node("MatMul", "s k", "m"),
        node("Gather", "m last", "g", axis=1),
        node("Add", "g b"),
    ]
    constants = weights() | {"two": np.array([2]), "k": np.ones((3, 2), np.float32), "last": np.array(-1)}
    constants["b"] = np.arange(2, dtype=np.float32)
    inputs = {"X": ("b", "t", 4)}
    made = from_onnx(model(nodes, inputs, ["y"], constants))
    assert [type(layer) for layer in made.layers] == [LSTM, Dense]
    both = from_onnx(model(nodes[:-1], inputs, ["m", "g"], constants))
    sequence, last = both(np.ones((2, 5, 4), np.float32))
    np.testing.assert_allclose(sequence[:, -1], last, atol=1e-6)
    np.testing.assert_allclose(made(np.ones((2, 5, 4), np.float32)), last + constants["b"], atol=1e-6)


def test_without_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    plain = from_onnx(RecurrentCase("GRU", {"linear_before_reset": 1}, 3, 2, 0).proto())
    assert plain.conversion.max_difference is not None
    clipped = from_onnx(
        RecurrentCase("GRU", {"clip": 0.1}, 3, 2, 0).proto()
    )  # which onnx.reference passes over
    assert clipped.conversion.max_difference is None
    assert "onnxruntime is not installed; onnx.reference lacks" in clipped.conversion.not_run


def test_differences_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_source, "run_elsewhere", lambda *_: [np.ones((5, 1, 3, 3)), np.ones((1, 3, 3))])
    with pytest.raises(ValueError, match="from ONNX to lstm_native: outputs differ by"):
        from_onnx(RecurrentCase("GRU", {}, 3, 2, 0).proto())


@pytest.mark.parametrize("kind", [TensorProto.INT32, TensorProto.FLOAT])
@pytest.mark.parametrize("shift", [0, 1])
def test_ids_below_zero_as_exporters_write_them(shift: int, kind: int) -> None:
    nodes = [
        node("Cast", "given", "x", to=TensorProto.INT32),
        node("Cast", "x", "f", to=TensorProto.FLOAT),
        node("Less", "f zero", "low"),
        node("Add", "x nine", "up"),
        node("Where", "low up x", "i"),
        node("Add", "i shift", "j"),
        node("Gather", "k j"),
    ]
    constants = {
        "zero": np.float32(0),
        "nine": np.array([9], np.int32),
        "shift": np.array(shift, np.int32),
        "k": np.arange(18, dtype=np.float32).reshape(9, 2),
    }
    proto = model(nodes, {"given": (kind, ("b", "t"))}, ["y"], constants)
    if shift:
        with pytest.raises(ValueError, match="does not leave them as they are"):
            from_onnx(proto)
    else:
        assert isinstance(check(proto), Sequential)


def test_ids_that_go_elsewhere() -> None:
    nodes = [node("Add", "x x", "a"), node("Softmax", "a")]
    with pytest.raises(ValueError, match="it computes with ids"):
        from_onnx(model(nodes, {"x": (TensorProto.INT32, ("b", "t"))}, ["y"]))


@pytest.mark.parametrize("op", ["Gelu", "Selu", "Celu", "Mish", "HardSwish", "Softplus", "Softsign", "Elu"])
def test_activations(op: str) -> None:
    nodes = [node("MatMul", "x k", "m"), node(op, "m")]
    made = check(model(nodes, {"x": ("b", 4)}, ["y"], {"k": np.eye(4, dtype=np.float32)}, opset=20))
    assert [type(layer) for layer in made.layers] == [Dense]


def test_time_turned_round_by_lengths_of_the_data() -> None:
    nodes = [
        node("Transpose", "x", "t", perm=[1, 0, 2]),
        node("Shape", "t", "s"),
        node("Gather", "s one", "n"),
        node("Gather", "s zero", "steps"),
        node("Expand", "steps n", "lengths"),
        node("ReverseSequence", "t lengths", "r"),
        node("LSTM", "r W R B", "Y", hidden_size=3),
        node("Squeeze", "Y one"),
    ]
    constants = weights() | {"one": np.array([1]), "zero": np.array([0])}
    made = check(model(nodes, {"x": ("b", "t", 4)}, ["y"], constants))
    (layer,) = made.layers
    assert layer.go_backwards
    with pytest.raises(ValueError, match="turns a part of the time round"):
        from_onnx(model(nodes, {"x": ("b", "t", 4)}, ["y"], constants | {"zero": np.array([1])}))


def test_last_steps_of_both_directions() -> None:
    nodes = [
        node("LSTM", "X W R B", "Y", hidden_size=3, direction="bidirectional"),
        node("Split", "Y", "f b", axis=1),
        node("Gather", "f last", "p", axis=0),
        node("Gather", "b first", "q", axis=0),
        node("Concat", "p q", "c", axis=2),
        node("Squeeze", "c first"),
    ]
    constants = weights(count=2) | {"last": np.array(-1), "first": np.array([0])}
    nodes[3] = node("Gather", "b start", "q", axis=0)
    made = check(model(nodes, {"X": ("t", "b", 4)}, ["y"], constants | {"start": np.array(0)}))
    (layer,) = made.layers
    assert isinstance(layer, Bidirectional)
    assert not layer.return_sequences


KERAS = Path(__file__).parent / "data" / "onnx"


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("texts", ["Embedding", "LSTM", "Dense"]),
        ("stack", ["LSTM", "LSTM", "Dense"]),
        ("both", ["Bidirectional", "Bidirectional", "Dense"]),
        ("backwards", ["LSTM", "Dense", "GlobalAveragePooling1D"]),
    ],
)
def test_files_of_keras(name: str, kinds: list[str]) -> None:
    made = check(KERAS / f"keras_{name}.onnx")
    assert isinstance(made, Sequential)
    assert [type(layer).__name__ for layer in made.layers] == kinds
