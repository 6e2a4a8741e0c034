"""Which layers compute what an ONNX graph does: the graph is followed node by node, recurrent ones here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lstm_native.convert import onnx_moves as moves
from lstm_native.convert.conversion import Conversion
from lstm_native.convert.onnx_calls import ON_IDS, Calls
from lstm_native.convert.onnx_file import Graph, Node, Value
from lstm_native.convert.onnx_flow import (
    Again,
    B,
    D,
    Derived,
    F,
    Filled,
    Flow,
    Run,
    Start,
    T,
    Tensor,
)
from lstm_native.convert.onnx_operators import run_operator
from lstm_native.convert.onnx_recurrent import OPERATORS as RECURRENT
from lstm_native.convert.onnx_recurrent import recurrent_of
from lstm_native.convert.onnx_shapes import at


class Mapper(Calls):
    """Follows a graph.

    Args:
        graph: the graph; all of its nodes are needed for the outputs.
        roles: what inputs are where it is not what their shape suggests: "time first", "state",
            "lengths", "ids".
        record: gets the conventions.

    Attributes:
        starts: inputs of the model, by the input of ONNX that they belong to.
        outputs: what the outputs of the graph are.
    """

    def __init__(self, graph: Graph, roles: Mapping[str, str], record: Conversion) -> None:
        super().__init__(graph, record)
        self._roles = roles
        self.starts: dict[str, list[Start]] = {}
        for value in graph.inputs:
            self._assign(value.name, self._input(value))
        for node in graph.nodes:
            self._follow(node)
        self.outputs = [self._output(name) for name in graph.outputs]

    def role(self, name: str) -> str | None:
        """What an input is where its shape does not tell."""
        return self._roles.get(name)

    def _follow(self, node: Node) -> None:
        inputs = [self._values[name] if name else None for name in node.inputs]
        given = [value for value in inputs if value is not None]
        if node.op in RECURRENT:
            made: Any = self._recurrent(node, inputs)
        elif all(isinstance(value, np.ndarray) for value in given):
            made = run_operator(node, inputs, self._room)
            self._take(sum(array.nbytes for array in made), f"the constant of a {node.op}")
        elif node.op in ON_IDS and (derived := self._derived(node, inputs)) is not None:
            plain = node.op in ("Cast", "Identity") and isinstance(inputs[0], Flow)
            made = inputs[0] if plain else derived
        elif any(isinstance(value, Flow | Derived) for value in given):
            made = self._on_flow(node, inputs)
        elif node.op == "ConstantOfShape":
            made = Filled(float(node.get("value", np.zeros(1)).ravel()[0]))
        elif node.op == "Expand" and (filled := moves.uniform(inputs[0])) is not None:
            made = filled
        elif any(isinstance(value, Filled) for value in given):
            made = moves.on_filled(node, inputs)
        else:
            made = moves.on_sizes(node, inputs)
        for name, value in zip(node.outputs, made if isinstance(made, list) else [made], strict=False):
            self._assign(name, value)

    # --- inputs and outputs -----------------------------------------------------------------------

    def _input(self, value: Value) -> Flow:
        role = self._roles.get(value.name)
        shape = value.shape
        if shape is None:
            raise self._graph.error(f"input {value.name[:80]!r} has no shape")
        sizes = [size if isinstance(size, int) else None for size in shape]
        whole = value.dtype in ("int32", "int64") or role == "ids"
        rank = len(sizes)
        starts: list[Start]
        if role == "lengths" and rank == 1:
            starts = [Start(value.name, (None,), "bool")]
            tensors = [Tensor(starts[0], time=None, inputs=frozenset([value.name]))]
            flow = Flow(tuple(tensors), (B,))
        elif role is not None and role.startswith("state") and rank == 3:
            first = 1 if role.endswith("batch first") else 0
            count, units = sizes[first], sizes[2]
            if not count or units is None or count > 1000:
                raise self._graph.error(
                    f"input {value.name[:80]!r} has shape {shape}, a state needs fixed sizes"
                )
            ends = [""] if count == 1 else [f"_{i}" for i in range(count)]
            starts = [Start(value.name + end, (units,), "float32") for end in ends]
            flow = Flow(
                tuple(Tensor(start, size=units, inputs=frozenset([value.name])) for start in starts),
                (D if count > 1 else (), B, F) if not first else (B, D if count > 1 else (), F),
            )
            self._record.note(
                f"input {value.name}: (directions, batch, units) in ONNX; one (batch, units) for each here"
            )
        elif rank in ((1, 2) if whole else (2, 3)) and 0 not in sizes:
            swapped = role == "time first" and rank > 1
            order = [1, 0, *range(2, rank)] if swapped else list(range(rank))
            if role == "channels first":
                order = [0, 2, 1]
                self._record.note(f"input {value.name}: features before time in ONNX, behind it here")
            ours = [sizes[axis] for axis in order]
            features = None if whole else ours[-1]
            time = 0 if rank == (1 if whole else 2) else ours[1]
            if self.batch is None:
                self.batch = ours[0]
            starts = [Start(value.name, tuple(ours[1:]), "int32" if whole else "float32")]
            axes = [B, *([T] if time != 0 else []), *([] if whole else [F])]
            tensor = Tensor(starts[0], size=features, time=time, inputs=frozenset([value.name]))
            flow = Flow((tensor,), tuple(axes[axis] for axis in order))
            if swapped:
                self._record.note(f"input {value.name}: time first in ONNX, batch first here")
        else:
            raise self._graph.error(
                f"input {value.name[:80]!r} has shape {shape} of {value.dtype}, expected (batch, time, "
                "features), (batch, features), ids (batch, time), states or lengths"
            )
        self.starts[value.name] = starts
        return flow

    def _output(self, name: str) -> Flow:
        flow = self._values[name]
        if not isinstance(flow, Flow):
            raise self._graph.error(
                f"output {name[:80]!r} is a constant or a shape, expected a tensor of the model"
            )
        flow = self._settled(self._unflipped(flow))
        if any(len(axis) > 1 for axis in flow.axes) or any(
            isinstance(part.source, Start) for part in flow.parts
        ):
            axes = ", ".join(map(moves.describe, flow.axes))
            raise self._graph.error(f"output {name[:80]!r} has the axes ({axes}), or is an input")
        ours = tuple(axis for axis in (B, T, F) if axis in flow.axes)
        if D not in flow.axes and flow.axes != ours:
            there, here = (", ".join(map(moves.describe, axes)) for axes in (flow.axes, ours))
            self._record.note(f"output {name}: ({there}) in ONNX, ({here}) here")
        return flow

    # --- recurrent operators ----------------------------------------------------------------------

    def _recurrent(self, node: Node, inputs: list[Any]) -> list[Flow]:
        x = inputs[0]
        weights = [at(inputs, i) for i in (1, 2, 3, 7)]
        if not isinstance(x, Flow) or any(w is not None and not isinstance(w, np.ndarray) for w in weights):
            raise node.error("X is no tensor of the model, or weights are no constants")
        recurrent = recurrent_of(node, weights)
        self._take(sum(w.nbytes for w in weights if w is not None), f"a {node.op}")
        x = self._settled(x)
        wanted = (B, T, F) if recurrent.batch_first else (T, B, F)
        if x.axes != wanted:
            for name in sorted(x.parts[0].inputs):
                if sorted(x.axes) == sorted(wanted) and name not in self._roles:
                    raise Again(name, "time first")
            axes = ", ".join(map(moves.describe, x.axes))
            raise node.error(f"X has the axes ({axes}), expected ({', '.join(map(moves.describe, wanted))})")
        self._record.note(
            f"gates: ONNX's rows became columns in Keras' order; weights are transposed{self._about(node)}"
        )
        width = recurrent.directions[0].arrays["kernel"].shape[0]
        both = len(recurrent.directions) == 2
        x = self._unflipped(x) if both else x
        (part,) = x.parts
        part.size = part.size or width
        if part.size != width:
            raise node.error(f"X has {part.size} features, W {width}")
        mask = self._mask(node, at(inputs, 4), part)
        states = self._states(node, recurrent, [at(inputs, 5), at(inputs, 6)])
        if mask is not part.mask and part.mask is not None:
            raise node.error("what it reads has sequence_lens, which it has not; masks would come along here")
        if mask is not None and x.flipped:
            raise node.error("its input is turned round, and it has sequence_lens")
        backwards = recurrent.directions[0].backwards
        numbers = range(len(recurrent.directions))
        if mask is not None and backwards:
            if states is not None:
                raise node.error(
                    "it runs backwards with sequence_lens and initial states, which has no counterpart"
                )
            # Bidirectional turns its outputs round, where a mask stays in place.
            recurrent = replace(recurrent, directions=(recurrent.directions[0].idle(), *recurrent.directions))
            self._record.note(
                "the backward half of a Bidirectional stands for a reverse operator with lengths"
            )
            numbers = range(1, 2)
        turned = backwards and mask is None
        run = Run(recurrent, part, mask, states, backwards != x.flipped)
        self.calls.append(run)
        which = D if both else ()
        sequence = (B, T, which, F) if recurrent.batch_first else (T, which, B, F)
        state = (B, which, F) if recurrent.batch_first else (which, B, F)
        # With one direction outputs come in the order of the computation.
        flows = [Flow(tuple(run.output("y", i) for i in numbers), sequence, turned and not both)]
        last = ("h", "c")[: recurrent.states]
        return flows + [Flow(tuple(run.output(what, i) for i in numbers), state) for what in last]

    def _about(self, node: Node) -> str:
        texts = [""]
        if node.op == "GRU":
            after = node.get("linear_before_reset", 0)
            texts.append(
                "the GRU's linear_before_reset is reset_after" + ("" if after else "; both biases are summed")
            )
        elif node.op == "LSTM":
            texts.append("both biases are summed")
        names = [name.lower() for name in node.get("activations", ())]
        if "hardsigmoid" in names:
            texts.append("HardSigmoid is alpha x + beta with ONNX's alpha and beta, not x / 6 + 0.5")
        return "; ".join(texts)

    def _mask(self, node: Node, lengths: Any, x: Tensor) -> Tensor | None:
        if lengths is None:
            return None
        if isinstance(lengths, np.ndarray):
            if x.time and (lengths == x.time).all():
                return None
            raise node.error("sequence_lens is a constant, which has no counterpart")
        if isinstance(lengths, Flow) and lengths.axes == (B,) and isinstance(lengths.parts[0].source, Start):
            start = lengths.parts[0].source
            if start.dtype == "bool":
                self._record.note(
                    f"input {start.name}: lengths (batch,) in ONNX, a mask (batch, time) of bool here"
                )
                return lengths.parts[0]
            if start.name not in self._roles:
                raise Again(start.name, "lengths")
        raise node.error("sequence_lens is no input of the model")

    def _states(self, node: Node, recurrent: Any, given: Sequence[Any]) -> list[Tensor] | None:
        """Initial states, those of each direction together; None for zeros."""
        count = len(recurrent.directions)
        first = recurrent.batch_first
        kind = D if count > 1 else ()
        wanted = (B, kind, F) if first else (kind, B, F)
        found: list[tuple[Tensor, ...] | None] = []
        for name, value in zip(("initial_h", "initial_c"), given[: recurrent.states], strict=False):
            if value is None or moves.uniform(value) == Filled(0.0):
                found.append(None)
                continue
            if not isinstance(value, Flow):
                raise node.error(f"{name} is a constant other than zero, which has no counterpart")
            source = value.parts[0].source
            if (
                value.axes != wanted
                and isinstance(source, Start)
                and len(value.axes) == 3
                and source.name not in self._roles
            ):
                raise Again(source.name, "state batch first" if first else "state")
            if value.axes != wanted or len(value.parts) != count:
                axes = ", ".join(map(moves.describe, value.axes))
                raise node.error(
                    f"{name} has the axes ({axes}), expected ({', '.join(map(moves.describe, wanted))})"
                )
            for part in value.parts:
                part.size = part.size or recurrent.units
                if part.size != recurrent.units:
                    raise node.error(f"{name} has {part.size} units, expected {recurrent.units}")
            found.append(value.parts)
        if all(parts is None for parts in found):
            return None
        if any(parts is None for parts in found):
            raise node.error(
                "one of initial_h and initial_c is given, the other is zero; expected both or none"
            )
        return [parts[i] for i in range(count) for parts in found if parts is not None]
