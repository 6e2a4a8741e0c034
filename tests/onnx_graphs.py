"""Small ONNX models for tests: recurrent operators with random weights, and graphs of any nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FUNCTIONS = {"LSTM": 3, "GRU": 2, "RNN": 1}


def model(
    nodes: Sequence[Any],
    inputs: dict[str, Any],
    outputs: Sequence[str],
    constants: dict[str, Any] | None = None,
    opset: int = 17,
) -> onnx.ModelProto:
    """A model; `inputs` are shapes, of floats, or (type, shape)."""
    values = []
    for name, given in inputs.items():
        kind, shape = given if len(given) == 2 and isinstance(given[1], tuple) else (FLOAT, given)
        values.append(helper.make_tensor_value_info(name, kind, shape))
    ends = [onnx.ValueInfoProto(name=name) for name in outputs]
    weights = [numpy_helper.from_array(np.asarray(a), name) for name, a in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "graph", values, ends, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@dataclass
class RecurrentCase:
    """A graph of one recurrent operator, and inputs for it."""

    op: str
    attributes: dict[str, Any]
    units: int
    features: int
    seed: int
    bias: bool = True
    peepholes: bool = False
    lengths: bool = False
    states: bool = False
    batch: int = 3
    time: int = 5
    feeds: dict[str, Any] = field(default_factory=dict)

    def proto(self, opset: int = 17) -> onnx.ModelProto:
        """The model; fills `feeds`."""
        random = np.random.default_rng(self.seed)
        count = 2 if self.attributes.get("direction") == "bidirectional" else 1
        rows, units = GATES[self.op] * self.units, self.units
        first = self.attributes.get("layout", 0)

        def normal(*shape: int, scale: float = 0.6) -> Any:
            return (scale * random.standard_normal(shape)).astype(np.float32)

        constants = {"W": normal(count, rows, self.features), "R": normal(count, rows, units)}
        names = ["X", "W", "R", "", "", "", "", ""]
        if self.bias:
            constants["B"] = normal(count, 2 * rows)
            names[3] = "B"
        if self.peepholes and self.op == "LSTM":
            constants["P"] = normal(count, 3 * units)
            names[7] = "P"
        shape = (self.batch, self.time) if first else (self.time, self.batch)
        self.feeds = {"X": normal(*shape, self.features, scale=1.0)}
        inputs: dict[str, Any] = {"X": (*(("b", "t") if first else ("t", "b")), self.features)}
        if self.lengths:
            names[4] = "lengths"
            self.feeds["lengths"] = random.integers(1, self.time + 1, self.batch).astype(np.int32)
            self.feeds["lengths"][0] = self.time
            inputs["lengths"] = (TensorProto.INT32, ("b",))
        if self.states:
            for place, name in ((5, "h0"), (6, "c0"))[: 2 if self.op == "LSTM" else 1]:
                names[place] = name
                sizes = (self.batch, count, units) if first else (count, self.batch, units)
                self.feeds[name] = normal(*sizes)
                inputs[name] = ("b", count, units) if first else (count, "b", units)
        while not names[-1]:
            names.pop()
        outputs = ["Y", "Y_h", "Y_c"][: 3 if self.op == "LSTM" else 2]
        node = helper.make_node(self.op, names, outputs, name="cell", hidden_size=units, **self.attributes)
        return model([node], inputs, outputs, constants, opset)
