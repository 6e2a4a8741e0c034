"""Convolutions, pooling and normalization by the batch, from ONNX: what exporters write, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx: Any = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from lstm_native import layers as L  # noqa: E402
from lstm_native.convert import from_onnx, to_onnx  # noqa: E402
from lstm_native.models import Sequential  # noqa: E402

RNG = np.random.default_rng(0)


def graph(nodes: list[Any], shape: tuple[Any, ...], **weights: Any) -> bytes:
    """A model from x to y."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    constants = [numpy_helper.from_array(np.asarray(a, np.float32), name) for name, a in weights.items()]
    made = helper.make_graph(nodes, "graph", [x], [onnx.ValueInfoProto(name="y")], constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return bytes(model.SerializeToString())


def kinds(model: Any) -> list[str]:
    return [type(layer).__name__ for layer in model.layers if not isinstance(layer, L.InputLayer)]


def conv(**attributes: Any) -> bytes:
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], **attributes)
    groups = attributes.get("group", 1)
    return graph([node], ("N", 4, "T"), w=RNG.normal(size=(6, 4 // groups, 3)), b=RNG.normal(size=6))


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, ["Conv1D"]),
        ({"strides": [2], "auto_pad": "SAME_UPPER"}, ["Conv1D"]),
        ({"pads": [1, 1], "kernel_shape": [3]}, ["Conv1D"]),
        ({"pads": [4, 0], "dilations": [2], "group": 2}, ["Conv1D"]),
        ({"pads": [1, 0], "strides": [2]}, ["ZeroPadding1D", "Conv1D"]),
    ],
)
def test_convolutions(attributes: dict[str, Any], expected: list[str]) -> None:
    model = from_onnx(conv(**attributes), check=True)
    assert kinds(model) == expected
    assert model.inputs[0].shape == (None, None, 4)
    assert "features before time in ONNX" in str(model.conversion)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("attributes", [{}, {"strides": [3]}, {"auto_pad": "SAME_UPPER", "strides": [2]}])
def test_pooling(op: str, attributes: dict[str, Any]) -> None:
    node = helper.make_node(op, ["x"], ["y"], kernel_shape=[2], **attributes)
    assert len(kinds(from_onnx(graph([node], ("N", 4, "T")), check=True))) == 1


@pytest.mark.parametrize("shape", [("N", 4), ("N", 4, "T")])
def test_normalization(shape: Any) -> None:
    node = helper.make_node("BatchNormalization", ["x", "g", "b", "m", "v"], ["y"], epsilon=1e-3)
    weights = {name: RNG.uniform(0.5, 2, 4) for name in "gbmv"}
    model = from_onnx(graph([node], shape, **weights), check=True)
    assert kinds(model) == ["BatchNormalization"]
    assert [w.name for w in model.weights] == ["gamma", "beta", "moving_mean", "moving_variance"]


@pytest.mark.parametrize(
    "layers",
    [
        [L.Conv1D(5, 3, activation="relu"), L.BatchNormalization(), L.MaxPooling1D(2), L.LSTM(3), L.Dense(2)],
        [L.LSTM(4, return_sequences=True), L.Conv1D(4, 2, padding="causal"), L.AveragePooling1D(2), L.GRU(3)],
        [L.BatchNormalization(), L.Bidirectional(L.LSTM(3, return_sequences=True)), L.GlobalMaxPooling1D()],
    ],
)
def test_there_and_back(layers: list[Any], tmp_path: Path) -> None:
    model = Sequential([L.Input((12, 4)), *layers])
    model.set_weights([RNG.uniform(0.1, 0.8, w.shape) for w in model.get_weights()])
    to_onnx(model, tmp_path / "m.onnx", check=True)
    again = from_onnx(tmp_path / "m.onnx", check=True)
    x = RNG.standard_normal((2, 12, 4)).astype(np.float32)
    np.testing.assert_allclose(again(x), model(x), atol=1e-5)


@pytest.mark.parametrize("layer", [L.MaxPooling1D, L.AveragePooling1D])
@pytest.mark.parametrize("time", [5, 6, 7])
def test_strides_longer_than_windows(layer: Any, time: int, tmp_path: Path) -> None:
    model = Sequential([L.Input((time, 4)), layer(1, strides=2, padding="same"), L.Dense(2)])
    to_onnx(model, tmp_path / "m.onnx", check=True)
    x = RNG.standard_normal((2, time, 4)).astype(np.float32)
    np.testing.assert_allclose(from_onnx(tmp_path / "m.onnx")(x), model(x), atol=1e-6)
    model = Sequential([L.Input((time, 4)), layer(2, strides=3, padding="same")])
    with pytest.raises(ValueError, match="strides 3 are longer than windows of 2 steps"):
        to_onnx(model, tmp_path / "other.onnx")
    assert not (tmp_path / "other.onnx").exists()


def test_outputs_with_other_axes_are_noted() -> None:
    model = from_onnx(graph([helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2])], ("N", 4, "T")))
    assert "output y: (batch, features, time) in ONNX, (batch, time, features) here" in model.conversion.notes


def test_as_pytorch_exports_it() -> None:
    """Features before time, a convolution, and an LSTM that wants time first."""
    w, r = RNG.normal(0, 0.3, (1, 12, 6)), RNG.normal(0, 0.3, (1, 12, 3))
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2], strides=[2]),
        helper.make_node("Transpose", ["p"], ["t"], perm=[2, 0, 1]),
        helper.make_node("LSTM", ["t", "lw", "lr"], ["", "h"], hidden_size=3),
        helper.make_node("Squeeze", ["h", "zero"], ["y"]),
    ]
    data = graph(nodes, ("N", 4, "T"), w=RNG.normal(size=(6, 4, 3)), lw=w, lr=r)
    model = onnx.load_from_string(data)
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "zero"))
    made = from_onnx(model.SerializeToString(), check=True)
    assert kinds(made) == ["Conv1D", "Activation", "MaxPooling1D", "LSTM"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            lambda: conv(auto_pad="SAME_LOWER"),
            "SAME_LOWER, ceil_mode and count_include_pad have no counterpart",
        ),
        (lambda: conv(strides=[2], dilations=[2]), "strides and dilations are both above 1"),
        (lambda: conv(kernel_shape=[2]), r"kernel_shape \[2\], .* do not fit"),
        (lambda: conv(pads=[-1, 0]), r"pads is \[-1, 0\], expected two numbers that are not negative"),
        (lambda: conv(group=3), "its input has|no model can be made|features, its weights are for"),
        (
            lambda: graph(
                [helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3], pads=[1, 0])], (2, 4, 9)
            ),
            r"pads is \[1, 0\], expected as many as auto_pad SAME_UPPER has",
        ),
        (
            lambda: graph([helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3])], (2, 4, 9)),
            "windows over more than one axis",
        ),
    ],
)
def test_what_is_refused(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_onnx(data())
