"""ONNX models of the cases, built from the weights: one LSTM node a layer, time first, gates i o f c."""

from __future__ import annotations

import numpy as np
import onnx
from cases import Array, Case
from onnx import TensorProto, helper, numpy_helper

# What every runtime of today reads.
OPSET = 17
IR_VERSION = 8


def sequence_model(case: Case) -> bytes:
    """x (T, B, I) -> y (T, 1, B, U)."""
    graph = _Graph()
    graph.lstm(case, 0, "x", y="y")
    x = _value("x", [case.time, case.batch, case.inputs])
    return graph.model([x], [_value("y", [case.time, 1, case.batch, case.units])])


def step_model(case: Case) -> bytes:
    """x (1, B, I), h and c (1, B, U) -> next_h and next_c (1, B, U)."""
    graph = _Graph()
    graph.lstm(case, 0, "x", state=["h", "c"], y_h="next_h", y_c="next_c")
    inputs = [_value("x", [1, case.batch, case.inputs])]
    inputs += [_value(name, [1, case.batch, case.units]) for name in ("h", "c")]
    outputs = [_value(name, [1, case.batch, case.units]) for name in ("next_h", "next_c")]
    return graph.model(inputs, outputs)


def classifier_model(case: Case) -> bytes:
    """ids int32 (T, B) -> probabilities (B, 1)."""
    graph = _Graph()
    kernel, bias = case.dense_weights()
    graph.node("Gather", [graph.constant("table", case.table()), "ids"], "x0")
    for number in range(case.layers):
        last = number + 1 == case.layers
        graph.lstm(case, number, f"x{number}", y="" if last else f"y{number}", y_h="h" if last else "")
        if not last:
            axis = graph.constant(f"axis{number}", np.array([1]))
            graph.node("Squeeze", [f"y{number}", axis], f"x{number + 1}")
    graph.node("Squeeze", ["h", graph.constant("axis", np.array([0]))], "last")
    graph.node("Gemm", ["last", graph.constant("kernel", kernel), graph.constant("bias", bias)], "logits")
    graph.node("Sigmoid", ["logits"], "y")
    ids = helper.make_tensor_value_info("ids", TensorProto.INT32, [case.time, case.batch])
    return graph.model([ids], [_value("y", [case.batch, 1])])


class _Graph:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: Array) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, operator: str, inputs: list[str], *outputs: str, **attributes: int) -> None:
        self.nodes.append(helper.make_node(operator, inputs, list(outputs), **attributes))

    def lstm(
        self,
        case: Case,
        number: int,
        x: str,
        state: list[str] | None = None,
        y: str = "",
        y_h: str = "",
        y_c: str = "",
    ) -> None:
        kernel, recurrent_kernel, bias = case.layer_weights()[number]
        both_biases = np.concatenate([_gates(bias), np.zeros_like(bias)])
        inputs = [
            x,
            self.constant(f"w{number}", _gates(kernel).T[None]),
            self.constant(f"r{number}", _gates(recurrent_kernel).T[None]),
            self.constant(f"b{number}", both_biases[None]),
        ]
        if state:
            inputs += ["", *state]  # no lengths
        self.node("LSTM", inputs, y, y_h, y_c, hidden_size=case.units)

    def model(self, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]) -> bytes:
        graph = helper.make_graph(self.nodes, "lstm", inputs, outputs, self.constants)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        serialized: bytes = model.SerializeToString()
        return serialized


def _gates(columns: Array) -> Array:
    """Columns of the gates i f c o, in the order i o f c."""
    i, f, c, o = np.split(columns, 4, axis=-1)
    return np.concatenate([i, o, f, c], axis=-1)


def _value(name: str, shape: list[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
