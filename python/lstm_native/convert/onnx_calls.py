"""What operators of ONNX between recurrent ones are in terms of our layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from lstm_native.activations import Parametric
from lstm_native.convert import onnx_moves as moves
from lstm_native.convert.conversion import Conversion
from lstm_native.convert.layouts import Array
from lstm_native.convert.onnx_file import Graph, Node
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
    Tensor,
)
from lstm_native.convert.onnx_operators import OPERATORS as FOLDED
from lstm_native.convert.onnx_operators import at, gemm_parts, normal_axes, reduced_axes, run_operator
from lstm_native.layers import (
    Activation,
    Dense,
    Embedding,
    Flatten,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    LayerNormalization,
    SimpleRNN,
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


# Bytes that weights and constants may take beside some times the file: nodes may share or multiply them.
ROOM = 16 << 20


class Calls:
    """Collects the uses of layers that operators of a graph amount to.

    Args:
        graph: the graph.
        record: gets the conventions.

    Attributes:
        calls: uses of layers and recurrent operators, in order.
        outputs_of: what each use of a layer gives, by its id.
        batch: size of the batch where the graph fixes it.
    """

    def __init__(self, graph: Graph, record: Conversion) -> None:
        self._graph = graph
        self._record = record
        self.calls: list[Call | Run] = []
        self.outputs_of: dict[int, list[Tensor]] = {}
        self.batch: int | None = None
        self._counted: dict[int, Holder] = {}
        self._flat: dict[int, Tensor] = {}  # what Flatten made of a tensor
        self._uses: dict[int, int] = {}  # of each holder
        self._shared: set[int] = set()  # tensors that several nodes read, under whatever names
        self._room = ROOM + 4 * graph.size
        self._values: dict[str, Any] = dict(graph.constants)
        self._readers: dict[str, int] = {}
        for name in (*graph.outputs, *(name for node in graph.nodes for name in node.inputs)):
            self._readers[name] = self._readers.get(name, 0) + 1

    def role(self, name: str) -> str | None:
        """What an input is where its shape does not tell."""
        raise NotImplementedError

    def _assign(self, name: str, value: Any) -> None:
        """Gives a value of the graph its name."""
        self._values[name] = value
        if isinstance(value, Flow) and self._readers.get(name, 0) > 1:
            self._shared.update(map(id, value.parts))

    def _take(self, size: int, what: str) -> None:
        """Counts bytes that the model takes."""
        self._room -= size
        if self._room < 0:
            raise self._graph.error(
                f"{what} would take {size} bytes more; all weights together take more than 4 times the file"
            )

    # --- layers -----------------------------------------------------------------------------------

    def _call(self, holder: Holder, x: Tensor, size: int | None, time: int | None) -> Tensor:
        if x.mask is not None and not holder.per_step:
            raise self._graph.error(
                f"outputs of a recurrent operator with sequence_lens go into a {holder.kind.__name__}, which "
                "would leave out the steps beyond the lengths"
            )
        if id(holder) not in self._counted:
            self._counted[id(holder)] = holder
            self._take(sum(array.nbytes for array in holder.arrays), f"a {holder.kind.__name__}")
        self._uses[id(holder)] = self._uses.get(id(holder), 0) + 1
        call = Call(holder, x)
        self.calls.append(call)
        made = Tensor(call, size=size, time=time, inputs=x.inputs, mask=x.mask)
        self.outputs_of.setdefault(id(call), []).append(made)
        return made

    def _each(self, holder: Holder, x: Flow, size: int | None) -> Flow:
        """A layer that works on the features, on every part."""
        return replace(x, parts=tuple(self._call(holder, part, size, part.time) for part in x.parts))

    def _copier(self, size: int, **options: Any) -> Holder:
        """A layer whose outputs are its inputs, for what recurrent layers can do with time."""
        self._take(8 * size * size, "a SimpleRNN that picks a step")
        self._record.note("a SimpleRNN with the identity as its kernel picks a step, or turns the time round")
        identity = np.eye(size, dtype=np.float32)
        arguments = {
            "units": size,
            "activation": "linear",
            "use_bias": False,
            "recurrent_initializer": "zeros",
        }
        return Holder(SimpleRNN, arguments | options, [identity, np.zeros_like(identity)], per_step=False)

    def _width(self, node: Node | None, tensor: Tensor) -> int:
        if tensor.size is None or tensor.size > 10_000:
            error = self._graph.error if node is None else node.error
            raise error(f"the number of features is {tensor.size}, expected a fixed one up to 10000")
        return tensor.size

    def _unflipped(self, x: Flow) -> Flow:
        if not x.flipped:
            return x
        parts = []
        for part in x.parts:
            holder = self._copier(self._width(None, part), go_backwards=True, return_sequences=True)
            parts.append(self._call(holder, part, part.size, part.time))
        return replace(x, parts=tuple(parts), flipped=False)

    def _select(self, node: Node, x: Flow, last: bool) -> Flow:
        """The last step in ONNX's order, or the first; without a time axis."""
        x = self._settled(x)
        end = last != x.flipped  # at the end of our order
        return replace(x, parts=tuple(self._at_end(node, part, end) for part in x.parts), flipped=False)

    def _at_end(self, node: Node, x: Tensor, end: bool) -> Tensor:
        chain: list[Call] = []
        here = x
        # Layers that see a step by itself come behind the choice of the step.
        while (
            isinstance(here.source, Call)
            and here.source.holder.per_step
            and here.source.holder.kind is not Embedding
        ):
            chain.append(here.source)
            here = here.source.input
        run = here.source
        last = {("y", 0): True}  # whether the end of our order is the last step of the computation
        if isinstance(run, Run) and len(run.recurrent.directions) == 2:
            last[("y", 1)] = False
        if isinstance(run, Run) and run.mask is None and last.get(here.key) is end:
            chosen = run.output("h", here.key[1])
        else:
            chain, here = [], x
            holder = self._copier(self._width(node, x), go_backwards=not end)
            chosen = self._call(holder, x, x.size, 0)
        for call in reversed(chain):
            holder = call.holder
            if id(x) not in self._shared:  # the whole sequence is not wanted: its layer is not the same
                holder = replace(holder, arguments=dict(holder.arguments), arrays=list(holder.arrays))
            chosen = self._call(holder, chosen, call.holder.arguments.get("units", chosen.size), 0)
        return chosen

    def _settled(self, x: Flow) -> Flow:
        """Axes that join features, as features: of both directions, or of all steps."""
        joins = [i for i, axis in enumerate(x.axes) if axis[-2:] == ("D", "F")]
        if joins:
            axes = list(x.axes)
            axes[joins[0]] = (*axes[joins[0]][:-2], "F")
            x = replace(x, parts=(self._joined(x, "concat"),), axes=tuple(axes))
        if ("T", "F") in x.axes and not x.flipped and len(x.parts) == 1:
            (part,) = x.parts
            if part.time and part.size is not None:
                flat = self._flat.get(id(part))
                if flat is None:
                    flat = self._call(Holder(Flatten, {}, per_step=False), part, part.time * part.size, 0)
                    self._flat[id(part)] = flat
                x = replace(x, parts=(flat,), axes=tuple(F if a == ("T", "F") else a for a in x.axes))
        return x

    def _joined(self, x: Flow, how: str) -> Tensor:
        first = x.parts[0]
        run = first.source
        if (
            isinstance(run, Run)
            and isinstance(first.key, tuple)
            and [part.source for part in x.parts] == [run, run]
        ):
            what = first.key[0]
            if what in ("y", "h") and [part.key for part in x.parts] == [(what, 0), (what, 1)]:
                return run.output(what, how)
        raise self._graph.error(
            f"tensors are joined ({how}) that are not both directions of one recurrent operator, which no "
            "layer does"
        )

    def _per_feature(self, node: Node, x: Flow) -> Flow:
        """The flow with its features alone in the last axis."""
        x = self._settled(x)
        if x.axes[-1:] != (F,):
            axes = ", ".join(map(moves.describe, x.axes))
            raise node.error(f"its input has the axes ({axes}), expected features in the last one")
        return x

    # --- operators on tensors of the model --------------------------------------------------------

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
        if op in ("Add", "Mul"):
            return self._combined(node, inputs)
        if op == "Concat":
            if not all(isinstance(value, Flow) for value in inputs):
                raise node.error("it joins tensors of the model with constants, which has no counterpart")
            return moves.concat(node, inputs)
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
        flows: list[Flow] = []
        arrays: list[Any] = []
        for value in inputs:
            if isinstance(value, Derived):
                flows.append(value.flow)
                arrays.append(value.values)
            elif isinstance(value, Flow):
                flows.append(value)
                arrays.append(np.arange(self._most_ids()))
            else:
                arrays.append(value)
        start = flows[0].parts[0].source if flows else None
        if not isinstance(start, Start) or any(flow != flows[0] for flow in flows):
            return None
        if start.dtype != "int32":
            numbers = len(start.shape) == 1 and self.role(start.name) is None and self._most_ids() > 0
            if numbers and node.op not in ("Cast", "Identity"):
                raise Again(start.name, "ids")  # no layer does that with an input
            return None
        if any(value is not None and not isinstance(value, np.ndarray) for value in arrays):
            return None
        (values,) = run_operator(node, arrays, self._room)
        self._take(values.nbytes, f"what a {node.op} makes of ids")
        return Derived(flows[0], values)

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
        """A bias, both directions of a recurrent operator together, or x * sigmoid(x)."""
        flows = [value for value in inputs if isinstance(value, Flow)]
        if len(flows) == 2:
            a, b = map(self._settled, flows)
            if a.axes == b.axes and a.flipped == b.flipped and len(a.parts) == len(b.parts) == 1:
                silu = self._silu(node, a, b)
                if silu is not None:
                    return silu
                both = replace(a, parts=(*a.parts, *b.parts))
                return replace(a, parts=(self._joined(both, "sum" if node.op == "Add" else "mul"),))
            raise node.error("it combines two tensors of the model, which has no layer")
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
        half = moves.uniform(constant) == Filled(0.5)
        if node.op == "Mul" and half and isinstance(first.source, Run) and first.key[1] == "sum":
            return replace(x, parts=(first.source.output(first.key[0], "ave"),))
        raise node.error("it combines a tensor of the model with a constant, which is no bias of a product")

    def _silu(self, node: Node, a: Flow, b: Flow) -> Flow | None:
        for x, gate in ((a, b), (b, a)):
            source = gate.parts[0].source
            if not isinstance(source, Call) or source.input is not x.parts[0] or node.op != "Mul":
                continue
            if source.holder.kind is Activation and source.holder.arguments == {"activation": "sigmoid"}:
                return self._activation(x, "silu")
        return None

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
