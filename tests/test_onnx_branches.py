"""ONNX graphs that branch: merging layers out and in, files of exporters, what has no counterpart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto  # noqa: E402

import test_merging as merging  # noqa: E402
from lstm_native import layers  # noqa: E402
from lstm_native.convert import from_onnx, to_onnx  # noqa: E402
from lstm_native.layers import GRU, LSTM, Attention, Dense, Embedding, Input, Masking  # noqa: E402
from lstm_native.models import Model  # noqa: E402
from onnx_graphs import model  # noqa: E402
from test_onnx_source import check, node, weights  # noqa: E402

DATA = Path(__file__).parent / "data" / "onnx"


def kinds_of(made: Any) -> list[str]:
    return [type(layer).__name__ for layer in made.layers if type(layer).__name__ != "InputLayer"]


# --- to ONNX, and back ------------------------------------------------------------------------------


def masked() -> Any:
    """Masks that are joined, of every kind."""
    steps, words = Input((None, 3)), Input((None,), dtype="int32")
    seen, read = Masking()(steps), Embedding(9, 3, mask_zero=True)(words)
    kinds = (layers.Add, layers.Subtract, layers.Average, layers.Multiply, layers.Maximum, layers.Minimum)
    ends = [LSTM(2)(kind()([seen, read])) for kind in (*kinds, layers.Concatenate)]
    ends += [LSTM(2)(kind()([steps, read, seen])) for kind in (layers.Multiply, layers.Maximum)]
    ends.append(LSTM(2)(layers.Concatenate(axis=1)([seen, steps, read])))
    ends.append(LSTM(2)(Attention(use_scale=True)([seen, read])))
    return Model([steps, words], layers.concatenate(ends))


def broadcast() -> Any:
    """Inputs with fewer axes, and every form of Dot."""
    steps, features = Input((None, 3)), Input((3,))
    ends = [
        layers.add([steps, features]),
        layers.dot([steps, features], axes=(2, 1), normalize=True),
        layers.dot([features, steps], axes=(1, 2)),
        layers.dot([features, features], axes=1),
        layers.dot([steps, steps], axes=1),
    ]
    return Model([steps, features], ends)


MAKERS: list[Callable[[], Any]] = [lambda m=make: m()[0] for make in merging.MODELS]


@pytest.mark.parametrize("make", [*MAKERS, masked, broadcast])
def test_to_onnx(make: Callable[[], Any], tmp_path: Path) -> None:
    record = to_onnx(make(), tmp_path / "m.onnx")
    assert record.max_difference is not None, str(record)


@pytest.mark.parametrize("number", [0, 2, 3])
def test_there_and_back(number: int, tmp_path: Path) -> None:
    first, x = merging.MODELS[number]()
    to_onnx(first, tmp_path / "m.onnx")
    again = from_onnx(tmp_path / "m.onnx")
    assert sorted(kinds_of(again)) == sorted(k for k in kinds_of(first) if k != "Dropout")
    given = x if len(x) > 1 else x[0]
    np.testing.assert_allclose(again(given), first(given), atol=2e-6)


def test_masks_that_are_passed(tmp_path: Path) -> None:
    steps, flags = Input((None, 3)), Input((None,), dtype="bool")
    joined = layers.Multiply()([steps, steps], mask=[flags, None])
    assert to_onnx(Model([steps, flags], joined), tmp_path / "m.onnx").max_difference is not None


def test_what_cannot_be_written(tmp_path: Path) -> None:
    steps = Input((None, 3))
    wide = Input((4, 5, 3))
    additive = Model(steps, layers.AdditiveAttention()([steps, steps]))
    for made, message in (
        (additive, "AdditiveAttention .*: a AdditiveAttention of several inputs has no counterpart"),
        (Model(steps, Attention(score_mode="concat")([steps, steps])), "score_mode is 'concat'"),
        (Model(wide, layers.Dot(3)([wide, wide])), r"its inputs have \[4, 4\] axes"),
    ):
        with pytest.raises(ValueError, match=message):
            to_onnx(made, tmp_path / "m.onnx")


# --- graphs -----------------------------------------------------------------------------------------

SEQUENCE = ("b", "t", 3)


@pytest.mark.parametrize(
    ("op", "kind"),
    [("Add", "Add"), ("Sub", "Subtract"), ("Mul", "Multiply"), ("Max", "Maximum"), ("Min", "Minimum"),
     ("Sum", "Add"), ("Mean", "Average")],
)  # fmt: skip
def test_operators(op: str, kind: str) -> None:
    made = check(model([node(op, "a b")], {"a": SEQUENCE, "b": SEQUENCE}, ["y"]))
    assert kinds_of(made) == [kind]
    if op in ("Max", "Min", "Sum", "Mean"):
        made = check(model([node(op, "a b a")], {"a": SEQUENCE, "b": SEQUENCE}, ["y"]))
        assert kinds_of(made) == [kind]


def test_broadcasting() -> None:
    """A vector for every step, as exporters write it, and a number for every feature."""
    nodes = [
        node("Unsqueeze", "v one", "row"),
        node("Add", "x row", "s"),
        node("Mul", "s g"),
    ]
    inputs = {"x": SEQUENCE, "v": ("b", 3), "g": ("b", "t", 1)}
    made = check(model(nodes, inputs, ["y"], {"one": np.array([1])}))
    assert kinds_of(made) == ["Add", "Multiply"]


def test_sums_of_many_are_one_layer_and_their_mean_too() -> None:
    names = ["a", "b", "c", "d"]
    nodes = [node("Add", "a b", "s"), node("Add", "s c", "t"), node("Add", "t d", "u"), node("Mul", "u q")]
    made = check(model(nodes, dict.fromkeys(names, SEQUENCE), ["y"], {"q": np.float32(0.25)}))
    assert kinds_of(made) == ["Average"]
    again = model(nodes, dict.fromkeys(names, SEQUENCE), ["y", "t"], {"q": np.float32(0.25)})
    assert kinds_of(check(again)) == ["Add", "Add", "Rescaling"]


def test_features_side_by_side() -> None:
    nodes = [node("Concat", "a b", "s", axis=-1), node("Concat", "s a", axis=2)]
    made = check(model(nodes, {"a": SEQUENCE, "b": ("b", "t", 5)}, ["y"]))
    assert kinds_of(made) == ["Concatenate", "Concatenate"]
    assert made.output_shape == (None, None, 11)


def test_steps_one_behind_the_other() -> None:
    made = check(model([node("Concat", "a b", axis=1)], {"a": ("b", 4, 3), "b": ("b", 2, 3)}, ["y"]))
    assert made.output_shape == (None, 6, 3)


def test_attention_of_one_step() -> None:
    """A vector over all steps: in a row, and in a column."""
    end = [node("Softmax", "s", "w", axis=-1), node("Unsqueeze", "w one", "row"),
           node("MatMul", "row x", "c"), node("Squeeze", "c one")]  # fmt: skip
    column = [node("Unsqueeze", "v two", "q"), node("MatMul", "x q", "p"), node("Squeeze", "p two", "s")]
    row = [node("Transpose", "x", "xt", perm=[0, 2, 1]), node("Unsqueeze", "v one", "q"),
           node("MatMul", "q xt", "p"), node("Squeeze", "p one", "s")]  # fmt: skip
    for begin in (column, row):
        constants = {"one": np.array([1]), "two": np.array([2])}
        made = check(model(begin + end, {"x": SEQUENCE, "v": ("b", 3)}, ["y"], constants))
        assert kinds_of(made) == ["Dot", "Activation", "Dot"]


@pytest.mark.parametrize("reverse", [False, True])
def test_recurrent_layers_with_ways_past_them(reverse: bool) -> None:
    """Also where time runs the other way in one of the branches."""
    direction = {"direction": "reverse" if reverse else "forward"}
    nodes = [
        node("Transpose", "x", "xt", perm=[1, 0, 2]),
        node("LSTM", "xt W R B", "Y h", hidden_size=3, **direction),
        node("Squeeze", "Y one", "ys"),
        node("Add", "ys xt", "s"),
        node("Concat", "s ys xt", "z", axis=-1),
        node("Transpose", "z", "y", perm=[1, 0, 2]),
    ]
    made = check(model(nodes, {"x": SEQUENCE}, ["y"], weights(3, 3) | {"one": np.array([1])}))
    assert [k for k in kinds_of(made) if k != "SimpleRNN"] == ["LSTM", "Add", "Concatenate"]


def test_the_last_step_of_what_was_joined() -> None:
    """Only the last steps are joined, where nobody wants the others."""
    nodes = [
        node("Transpose", "x", "xt", perm=[1, 0, 2]),
        node("LSTM", "xt W R B", "Y", hidden_size=3),
        node("LSTM", "xt W2 R2 B2", "Z", hidden_size=3),
        node("Squeeze", "Y one", "ys"),
        node("Squeeze", "Z one", "zs"),
        node("Mul", "ys zs", "s"),
        node("Concat", "s ys", "t", axis=-1),
        node("Gather", "t last", axis=0),
    ]
    second = {f"{name}2": 0.5 * array for name, array in weights(3, 3).items()}
    constants = weights(3, 3) | second | {"one": np.array([1]), "last": np.array(-1)}
    made = check(model(nodes, {"x": SEQUENCE}, ["y"], constants))
    assert sorted(kinds_of(made)) == ["Concatenate", "LSTM", "LSTM", "Multiply"]
    assert not any(getattr(layer, "return_sequences", False) for layer in made.layers)


def test_lengths_come_along() -> None:
    """Sums of outputs that share their lengths keep them; what would treat them otherwise is refused."""
    begin = [
        node("Transpose", "x", "xt", perm=[1, 0, 2]),
        node("LSTM", "xt W R B n", "Y", hidden_size=3),
        node("Squeeze", "Y one", "ys"),
    ]
    inputs = {"x": SEQUENCE, "n": (TensorProto.INT32, ("b",))}
    constants = weights(3, 3) | {"one": np.array([1])}
    check(model([*begin, node("Add", "ys ys")], inputs, ["y"], constants))
    check(model([*begin, node("Concat", "ys xt", axis=-1)], inputs, ["y"], constants))
    for refused in (node("Mul", "ys ys"), node("Max", "ys xt")):
        with pytest.raises(ValueError, match="would treat the steps beyond the lengths in another way"):
            from_onnx(model([*begin, refused], inputs, ["y"], constants))
    with pytest.raises(ValueError, match="it joins sequences with sequence_lens"):
        from_onnx(model([*begin, node("Concat", "ys xt", axis=0)], inputs, ["y"], constants))


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("Add", "x v")], r"its inputs have the axes \(batch, time, features\); \(batch, features\)"),
        ([node("Add", "x w")], r"tensors of \[3, 5\] features go into a Add"),
        ([node("Div", "x x")], r"\(Div\): it divides tensors of the model"),
        ([node("Div", "one x")], "it divides a constant by a tensor of the model, or by zero"),
        ([node("Max", "x one")], "it computes with a constant"),
        ([node("Concat", "x one", axis=0)], "it joins tensors of the model with constants"),
        ([node("Concat", "x v", axis=-1)], "its inputs have different axes"),
        ([node("MatMul", "v v")], "its second input is no constant, and no layer multiplies"),
        ([node("Concat", " ".join(["x"] * 10_000), "c", axis=-1),
          node("Concat", " ".join(["c"] * 10_000), axis=-1)], "would give 300000000 features"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_refused(nodes: list[Any], message: str) -> None:
    inputs = {"x": SEQUENCE, "w": ("b", "t", 5), "v": ("b", 3)}
    with pytest.raises(ValueError, match=message):
        from_onnx(model(nodes, inputs, ["y"], {"one": np.float32(1)}))


# --- files of exporters -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["residual", "two", "attention"])
def test_files_of_keras(name: str) -> None:
    made = check(DATA / f"keras_{name}.onnx")
    wanted = {"residual": "Average", "two": "Concatenate", "attention": "Dot"}[name]
    assert wanted in kinds_of(made)


@pytest.mark.filterwarnings("ignore")  # of the exporter, about itself
def test_modules_of_pytorch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from torch_branches import CASES

    for make, inputs in CASES:
        module = make().eval()
        names, path = [f"x{i}" for i in range(len(inputs))], str(tmp_path / "m.onnx")
        torch.onnx.export(module, tuple(inputs), path, dynamo=False, input_names=names)
        made = check(path)
        with torch.no_grad():
            expected = module(*inputs)
        arrays = [x.numpy() for x in inputs]
        got = made(arrays if len(arrays) > 1 else arrays[0])
        np.testing.assert_allclose(got, expected.numpy(), atol=2e-6)


def test_a_decoder_reads_what_an_encoder_gives(tmp_path: Path) -> None:
    """Sequences of different lengths in one graph."""
    first, second = Input((5, 3)), Input((None, 3))
    encoded, state = GRU(3, return_sequences=True, return_state=True)(first)
    decoded = GRU(3, return_sequences=True)(second, initial_state=[state])
    attended = Attention()([decoded, encoded])
    made = Model([first, second], Dense(2)(layers.concatenate([attended, decoded])))
    assert to_onnx(made, tmp_path / "m.onnx").max_difference is not None
    assert "Dot" in kinds_of(from_onnx(tmp_path / "m.onnx"))
