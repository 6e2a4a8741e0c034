"""What operators of ONNX between recurrent ones are in terms of our layers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from lstm_native.activations import Parametric
from lstm_native.convert import onnx_moves as moves
from lstm_native.convert.layouts import Array
from lstm_native.convert.onnx_file import Node
from lstm_native.convert.onnx_flow import (
    Again,
    Call,
    D,
    Derived,
    F,
    Filled,
    Flow,
    Holder,
    Run,
    Sizes,
    Start,
    T,
)
from lstm_native.convert.onnx_merging import KINDS
from lstm_native.convert.onnx_operators import OPERATORS as FOLDED
from lstm_native.convert.onnx_operators import gemm_parts, reduced_axes, run_operator
from lstm_native.convert.onnx_shapes import at, normal_axes
from lstm_native.convert.onnx_windows import OverWindows
from lstm_native.layers import (
    Activation,
    Dense,
    Embedding,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    LayerNormalization,
    Rescaling,
)

# Operators and the activations that they are as ONNX has them by default.
_ACTIVATIONS = {
    "Relu": "relu", "Tanh": "tanh", "Sigmoid": "sigmoid", "Softplus": "softplus", "Softsign": "softsign",
    "Exp": "exponential", "HardSwish": "hard_silu", "Mish": "mish",
}  # fmt: skip
# Those with parameters: the function of ours, our default of alpha, whether there is a beta.
_PARAMETRIC = {
    "LeakyRelu": ("leaky_relu", 0.01), "Elu": ("elu", 1.0), "ThresholdedRelu": ("thresholded_relu", 1.0),
    "HardSigmoid": ("hard_sigmoid", 0.2),
}  # fmt: skip
# What may be done with ids on their way to a table.
ON_IDS = (
    "Cast", "Identity", "Add", "Sub", "Mul", "Less", "Greater", "Equal", "Not", "And", "Or", "Where", "Max",
    "Min",
)  # fmt: skip
_MOVES = ("Transpose", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Gather", "Slice", "Split", "Concat")


class Calls(OverWindows):
    """Follows the operators that stand between recurrent ones."""

    def _on_flow(self, node: Node, inputs: list[Any]) -> Any:
        x, op = inputs[0], node.op
        if any(isinstance(value, Derived) for value in inputs) and op != "Gather":
            raise node.error("it computes with ids, which has no counterpart")
        if op == "Shape":
            sizes = x.sizes(self.batch)[slice(node.get("start"), node.get("end"))]
            return Sizes(tuple(sizes))
        if op in ("Identity", "Cast"):
            return x
        if op == "Dropout":
            return [x, None]
        if op == "Gather" and not isinstance(x, Flow):
            return self._embedding(node, x, inputs[1])
        if op in KINDS or op == "Div":
            return self._combined(node, inputs)
        if op == "Neg":
            return self._rescaled(x, -1.0, 0.0)
        if op == "Concat":
            if not all(isinstance(value, Flow) for value in inputs):
                raise node.error("it joins tensors of the model with constants, which has no counterpart")
            return self._concatenated(node, inputs)
        if not isinstance(x, Flow):
            raise node.error("it computes with a constant in front, which has no counterpart")
        if op == "ReverseSequence":
            return moves.reverse_sequence(node, x, inputs[1])
        if op in _MOVES:
            try:
                return self._moved(node, x, inputs)
            except ValueError:
                source = x.parts[0].source
                if isinstance(source, Start) and self._may_be_state(source.name):
                    raise Again(source.name, "state") from None  # what has directions, not time
                raise
        known: dict[str, Callable[[Node, Flow, list[Any]], Any]] = {
            "MatMul": self._matmul,
            "Gemm": self._gemm,
            "LayerNormalization": self._layer_normalization,
            "Clip": self._clip,
            **self._window_operators,
            **dict.fromkeys(("Softmax", "LogSoftmax"), self._softmax),
            **dict.fromkeys(("ReduceMean", "ReduceMax", "ReduceSum", "ReduceProd"), self._reduce),
        }
        if op in known:
            return known[op](node, x, inputs)
        name: Any = _ACTIVATIONS.get(op)
        if op in _PARAMETRIC:
            name = self._parametric(node)
        if op in ("Selu", "Celu", "Gelu") and not node.attributes:
            name = op.lower()
        if name is None:
            kind = "its attributes have" if op in FOLDED else "this operator has"
            raise node.error(f"{kind} no counterpart among the layers")
        return self._activated(node, x, name)

    def _may_be_state(self, name: str) -> bool:
        """Whether an input has the shape of a state, (directions, batch, units), and no role yet."""
        shape = next((value.shape for value in self._graph.inputs if value.name == name), None) or ()
        return self.role(name) is None and len(shape) == 3 and all(isinstance(n, int) for n in shape[::2])

    def _moved(self, node: Node, x: Flow, inputs: list[Any]) -> Any:
        if node.op == "Transpose":
            return moves.transpose(node, x)
        if node.op == "Squeeze":
            return moves.squeeze(node, x, inputs)
        if node.op == "Unsqueeze":
            return moves.unsqueeze(node, x, inputs)
        if node.op == "Reshape":
            return moves.reshape(node, x, inputs, self.batch)
        if node.op == "Flatten":
            return moves.flatten(node, x)
        if node.op == "Gather":
            return moves.gather(node, x, inputs[1], self._select)
        if node.op == "Slice":
            return moves.slice_(node, x, inputs, self._select)
        return moves.split(node, x, inputs)

    def _derived(self, node: Node, inputs: list[Any]) -> Derived | None:
        """Integers computed from ids, where that is all that the node does."""
        flows = [v.flow if isinstance(v, Derived) else v for v in inputs if isinstance(v, Derived | Flow)]
        start = flows[0].parts[0].source if flows else None
        if not isinstance(start, Start) or any(flow != flows[0] for flow in flows):
            return None
        if start.dtype != "int32":
            numbers = len(start.shape) == 1 and self.role(start.name) is None and self._most_ids > 0
            if numbers and node.op not in ("Cast", "Identity"):
                raise Again(start.name, "ids")  # no layer does that with an input
            return None
        ids = np.arange(self._most_ids)
        arrays = [v.values if isinstance(v, Derived) else ids if isinstance(v, Flow) else v for v in inputs]
        if any(value is not None and not isinstance(value, np.ndarray) for value in arrays):
            return None
        (values,) = run_operator(node, arrays, self._room)
        self._take(values.nbytes, f"what a {node.op} makes of ids")
        return Derived(flows[0], values)

    @functools.cached_property
    def _most_ids(self) -> int:
        """The number of rows of the largest table that ids go into."""
        tables = [self._graph.constants.get(n.inputs[0]) for n in self._graph.nodes if n.op == "Gather"]
        return max((table.shape[0] for table in tables if table is not None and table.ndim == 2), default=0)

    def _embedding(self, node: Node, table: Any, given: Any) -> Flow:
        if (
            not isinstance(table, np.ndarray)
            or table.ndim != 2
            or table.dtype != np.float32
            or not table.size
        ):
            raise node.error(
                "it takes rows by the data, expected those of a constant (ids, features) of float32"
            )
        if isinstance(given, Derived):
            rows = np.arange(table.shape[0])
            if not np.array_equal(given.values[: len(rows)], rows):
                raise node.error("what is computed of the ids does not leave them as they are")
        ids = given.flow if isinstance(given, Derived) else given
        source = ids.parts[0].source
        if isinstance(source, Start) and source.dtype == "float32" and self.role(source.name) is None:
            raise Again(source.name, "ids")  # numbers, of which a Cast makes ids
        (axis,) = normal_axes(node, (node.get("axis", 0),), 2)
        if (
            axis
            or any(F[0] in a or D[0] in a for a in ids.axes)
            or not isinstance(ids.parts[0].source, Start)
        ):
            raise node.error("it takes rows by what is no input of ids, or columns")
        holder = Holder(Embedding, {"input_dim": table.shape[0], "output_dim": table.shape[1]}, [table])
        return self._each(holder, ids, table.shape[1]).with_axes((*ids.axes, F))

    def _dense(self, node: Node, x: Flow, kernel: Any, bias: Array | None) -> Flow:
        x = self._per_feature(node, x)
        if (
            not isinstance(kernel, np.ndarray)
            or kernel.ndim != 2
            or kernel.dtype != np.float32
            or not kernel.size
        ):
            raise node.error("its second input is no constant (features, units) of float32")
        for part in x.parts:
            if part.size is None:
                part.size = kernel.shape[0]
            if part.size != kernel.shape[0]:
                raise node.error(f"its input has {part.size} features, the kernel {kernel.shape[0]} rows")
        units = kernel.shape[1]
        arrays = [kernel] if bias is None else [kernel, bias]
        holder = Holder(Dense, {"units": units, "use_bias": bias is not None}, arrays)
        return self._each(holder, x, units)

    def _matmul(self, node: Node, x: Flow, inputs: list[Any]) -> Flow:
        if isinstance(inputs[1], Flow):
            return self._product(node, [x, inputs[1]])
        return self._dense(node, x, inputs[1], None)

    def _gemm(self, node: Node, x: Flow, inputs: list[Any]) -> Flow:
        if node.get("transA", 0) or not all(
            isinstance(value, np.ndarray) for value in inputs[1:] if value is not None
        ):
            raise node.error("its first input is transposed, or the others are no constants")
        _, kernel, bias = gemm_parts(node, [np.zeros((1, 1), np.float32), *inputs[1:]])
        if kernel.ndim == 2 and bias is not None:
            bias = self._vector(node, bias, kernel.shape[1])
        return self._dense(node, x, kernel, bias)

    def _vector(self, node: Node, array: Array, size: int) -> Array:
        """A bias, of one number for each feature."""
        if (
            array.dtype != np.float32
            or array.size not in (1, size)
            or (array.ndim and array.size > 1 and array.shape[-1] != size)
        ):
            raise node.error(f"it adds a constant {array.shape} of {array.dtype} to {size} features")
        return np.ascontiguousarray(np.broadcast_to(array.ravel(), (size,)))

    def _fresh(self, x: Flow) -> Holder | None:
        """The Dense layer that made `x`, if nobody else reads that and no activation follows yet."""
        source = x.parts[0].source
        if not isinstance(source, Call) or source.holder.kind is not Dense:
            return None
        alone = self._uses[id(source.holder)] == len(x.parts) and not any(
            id(p) in self._shared for p in x.parts
        )
        return source.holder if alone and "activation" not in source.holder.arguments else None

    def _combined(self, node: Node, inputs: list[Any]) -> Flow:
        """Tensors of the model together, or one with a bias, or the mean of both directions."""
        flows = [value for value in inputs if isinstance(value, Flow)]
        if len(flows) == len(inputs):
            if node.op == "Div":
                raise node.error("it divides tensors of the model, which has no counterpart")
            return self._merged(node, flows)
        if len(inputs) != 2 or node.op not in ("Add", "Mul", "Sub", "Div"):
            raise node.error("it computes with a constant, which has no counterpart")
        (x,) = flows
        constant = next(value for value in inputs if not isinstance(value, Flow))
        if not isinstance(constant, np.ndarray):
            raise node.error("it combines a tensor of the model with sizes")
        holder = self._fresh(x)
        first = x.parts[0]
        if (
            node.op == "Add"
            and holder is not None
            and not holder.arguments["use_bias"]
            and first.size is not None
        ):
            holder.arguments["use_bias"] = True
            holder.arrays.append(self._vector(node, constant, first.size))
            return x
        factor = moves.uniform(constant)
        if node.op == "Mul" and factor is not None:
            if factor == Filled(0.5) and isinstance(first.source, Run) and first.key[1] == "sum":
                return replace(x, parts=(first.source.output(first.key[0], "ave"),))
            mean = self._averaged(x, factor.value)
            if mean is not None:
                return mean
        # One number, or one for each feature.
        each = x.axes[-1:] == (F,) and constant.shape[-1:] == (constant.size,) == (first.size,)
        small = constant.ndim <= len(x.axes) and (constant.size == 1 or (each and len(x.parts) == 1))
        if not small or not np.isfinite(constant).all():
            raise node.error(
                "it combines a tensor of the model with a constant, which is no bias of a product"
            )
        numbers = constant.astype(np.float64).reshape(() if constant.size == 1 else -1)
        in_front = inputs[1] is x
        if node.op == "Div" and (in_front or not numbers.all()):
            raise node.error("it divides a constant by a tensor of the model, or by zero")
        scale, offset = {
            "Add": (1.0, numbers),
            "Mul": (numbers, 0.0),
            "Sub": (-1.0, numbers) if in_front else (1.0, -numbers),
            "Div": (1 / (numbers if node.op == "Div" else 1.0), 0.0),
        }[node.op]
        return self._rescaled(x, np.asarray(scale).tolist(), np.asarray(offset).tolist())

    def _rescaled(self, x: Flow, scale: Any, offset: Any) -> Flow:
        holder = Holder(Rescaling, {"scale": scale, "offset": offset})
        return replace(x, parts=tuple(self._call(holder, part, part.size, part.time) for part in x.parts))

    def _activated(self, node: Node, x: Flow, name: Any) -> Flow:
        x = self._settled(x)
        holder = self._fresh(x)
        if holder is not None:
            holder.arguments["activation"] = name
            return x
        return self._activation(x, name)

    def _activation(self, x: Flow, name: Any) -> Flow:
        holder = Holder(Activation, {"activation": name})
        return replace(x, parts=tuple(self._call(holder, part, part.size, part.time) for part in x.parts))

    def _parametric(self, node: Node) -> Any:
        function, default = _PARAMETRIC[node.op]
        alpha = node.get("alpha", default)
        beta = node.get("beta", 0.5) if node.op == "HardSigmoid" else None
        for plain, named in (
            (("leaky_relu", 0.2, None), "leaky_relu"),
            (("elu", 1.0, None), "elu"),
            (("hard_sigmoid", 1 / 6, 0.5), "hard_sigmoid"),
        ):
            if plain[0] == function and abs(plain[1] - alpha) < 1e-7 and plain[2] == beta:
                return named
        self._record.note(f"{node.op} with alpha {alpha:g} is an activation that works forward only")
        try:
            return Parametric(function, alpha, beta)
        except ValueError as error:
            raise node.error(str(error)) from None

    def _clip(self, node: Node, x: Flow, inputs: list[Any]) -> Flow:
        moves.constant_inputs(node, inputs)
        low, high = (
            node.get(name) if value is None else float(value.ravel()[0]) if value.size == 1 else None
            for name, value in (("min", at(inputs, 1)), ("max", at(inputs, 2)))
        )
        name = {(0.0, 6.0): "relu6", (-1.0, 1.0): "hard_tanh"}.get((low, high))  # type: ignore[arg-type]
        if (low, high) == (0.0, None):
            name = "relu"
        if name is None:
            raise node.error(f"it clips to [{low}, {high}], expected [0, 6] or [-1, 1]")
        return self._activated(node, x, name)

    def _softmax(self, node: Node, x: Flow, inputs: list[Any]) -> Flow:
        x = self._per_feature(node, x)
        axis = node.get("axis", 1 if node.opset < 13 else -1)
        if normal_axes(node, (axis,), len(x.axes)) != (len(x.axes) - 1,):
            raise node.error(f"axis is {axis}, expected the last one, of the features")
        return self._activated(node, x, "softmax" if node.op == "Softmax" else "log_softmax")

    def _layer_normalization(self, node: Node, x: Flow, inputs: list[Any]) -> Flow:
        x = self._per_feature(node, x)
        axis = normal_axes(node, (node.get("axis", -1),), len(x.axes))
        moves.constant_inputs(node, inputs)
        size = self._width(node, x.parts[0])
        gamma, beta = inputs[1], at(inputs, 2)
        arrays = [array for array in (gamma, beta) if array is not None]
        if (
            axis != (len(x.axes) - 1,)
            or any(a.shape != (size,) or a.dtype != np.float32 for a in arrays)
            or len(node.outputs) > 1
        ):
            raise node.error("expected the last axis, one float32 number for each feature, and one output")
        arguments = {"epsilon": float(node.get("epsilon", 1e-5)), "center": beta is not None}
        return self._each(Holder(LayerNormalization, arguments, arrays), x, size)

    def _reduce(self, node: Node, x: Flow, inputs: list[Any]) -> Flow:
        axes = reduced_axes(node, moves.constant_inputs(node, inputs), len(x.axes))
        kind = x.axes[axes[0]] if len(axes) == 1 else None
        pools = {"ReduceMean": GlobalAveragePooling1D, "ReduceMax": GlobalMaxPooling1D}
        merges = {"ReduceMean": "ave", "ReduceSum": "sum", "ReduceProd": "mul"}
        if kind == T and node.op in pools:
            x = self._settled(x)
            holder = Holder(pools[node.op], {}, per_step=False)
            made = replace(
                x, parts=tuple(self._call(holder, part, part.size, 0) for part in x.parts), flipped=False
            )
        elif kind == D and node.op in merges:
            made = replace(x, parts=(self._joined(x, merges[node.op]),))
        else:
            named = ", ".join(moves.describe(x.axes[axis]) for axis in axes)
            raise node.error(f"over the axes ({named}) it has no counterpart")
        keep = [()] if node.get("keepdims", 1) else []
        return made.with_axes([*made.axes[: axes[0]], *keep, *made.axes[axes[0] + 1 :]])
