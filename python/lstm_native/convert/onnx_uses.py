"""The uses of layers that a graph of ONNX amounts to, while they are collected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lstm_native.convert import onnx_moves as moves
from lstm_native.convert.conversion import Conversion
from lstm_native.convert.onnx_file import Graph, Node
from lstm_native.convert.onnx_flow import Call, F, Flow, Holder, Run, Tensor
from lstm_native.layers import (
    Add,
    Average,
    Concatenate,
    Dot,
    Embedding,
    Flatten,
    Multiply,
    SimpleRNN,
    Subtract,
)

# Bytes that weights and constants may take beside some times the file: nodes may share or multiply them.
ROOM = 16 << 20
MOST_FEATURES = 1 << 24
_KINDS = {"concat": Concatenate, "sum": Add, "mul": Multiply, "ave": Average}


def is_both_directions(parts: Sequence[Tensor]) -> bool:
    """Whether these are the outputs, or the states h, of both directions of one recurrent operator."""
    first = parts[0]
    if not isinstance(first.source, Run) or first.key[0] not in ("y", "h"):
        return False
    keys = [part.key for part in parts if part.source is first.source]
    return len(parts) == 2 and keys == [(first.key[0], 0), (first.key[0], 1)]


def _by_step(call: Call) -> bool:
    """Whether a merging layer joins each step by itself, and all of its inputs have steps."""
    return call.holder.arguments.get("axis", -1) == -1 and all(
        part.time != 0 and call.holder.kind is not Dot for part in call.inputs
    )


class Uses:
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
        return self._made(Call(holder, x), size, time, x.mask)

    def _made(self, call: Call, size: int | None, time: int | None, mask: Tensor | None) -> Tensor:
        self.calls.append(call)
        names = frozenset[str]().union(*(x.inputs for x in call.inputs))
        made = Tensor(call, size=size, time=time, inputs=names, mask=mask)
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
        if isinstance(run, Call) and run.others and _by_step(run):
            here = self._merge(run.holder.kind, [self._at_end(node, part, end) for part in run.inputs])
            return self._behind(chain, here, id(x) in self._shared)
        last = {("y", 0): True}  # whether the end of our order is the last step of the computation
        if isinstance(run, Run) and len(run.recurrent.directions) == 2:
            last[("y", 1)] = False
        if isinstance(run, Run) and run.mask is None and last.get(here.key) is end:
            chosen = run.output("h", here.key[1])
        else:
            chain, here = [], x
            holder = self._copier(self._width(node, x), go_backwards=not end)
            chosen = self._call(holder, x, x.size, 0)
        return self._behind(chain, chosen, id(x) in self._shared)

    def _behind(self, chain: list[Call], chosen: Tensor, shared: bool) -> Tensor:
        """The layers of `chain`, the last first, behind a step."""
        for call in reversed(chain):
            holder = call.holder
            if not shared:  # the whole sequence is not wanted: its layer is not the same
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
        """The parts as one tensor, by the layer itself where they are both directions of one."""
        first = x.parts[0]
        run = first.source
        if is_both_directions(x.parts):
            return run.output(first.key[0], how)  # type: ignore[no-any-return]
        return self._merge(_KINDS[how], x.parts)

    def _merge(self, kind: Any, parts: Sequence[Tensor]) -> Tensor:
        """A layer that joins tensors element by element, or side by side."""
        source = parts[0].source
        alone = id(parts[0]) not in self._shared
        if kind is Add and alone and isinstance(source, Call) and source.holder.kind is Add:
            parts = [*source.inputs, *parts[1:]]  # one sum of all terms
        sizes = [part.size for part in parts]
        time = self._same(kind.__name__, "steps", [part.time for part in parts if part.time != 0] or [0])
        if kind is not Concatenate:
            return self._merged_as(kind, parts, self._same(kind.__name__, "features", sizes), time)
        size = None if None in sizes else sum(size for size in sizes if size is not None)
        return self._merged_as(kind, parts, size, time, axis=-1)

    def _merged_as(
        self, kind: Any, parts: Sequence[Tensor], size: int | None, time: int | None, **arguments: Any
    ) -> Tensor:
        """A merging layer, with the sizes of what it gives."""
        name = kind.__name__
        masks = {id(part.mask) for part in parts if part.mask is not None}
        if len(masks) > 1 or (masks and kind not in (Add, Subtract, Average, Concatenate)):
            raise self._graph.error(
                f"outputs of recurrent operators with sequence_lens go into a {name}, which would treat the "
                "steps beyond the lengths in another way"
            )
        every = all(part.mask is not None for part in parts)
        if (size or 0) > MOST_FEATURES:
            raise self._graph.error(f"a {name} would give {size} features, expected at most {MOST_FEATURES}")
        holder = Holder(kind, arguments, per_step=False)
        self._uses[id(holder)] = 1
        call = Call(holder, parts[0], tuple(parts[1:]))
        return self._made(call, size, time, parts[0].mask if every else None)

    def _same(self, name: str, what: str, sizes: Sequence[int | None]) -> int | None:
        """The size that all have where it is not 1; None where one is not known."""
        known = set(sizes) - {1, None}
        if len(known) > 1:
            raise self._graph.error(f"tensors of {sorted(filter(None, known))} {what} go into a {name}")
        return None if None in sizes else next(iter(known), 1)

    def _per_feature(self, node: Node, x: Flow) -> Flow:
        """The flow with its features alone in the last axis."""
        x = self._settled(x)
        if x.axes[-1:] != (F,):
            axes = ", ".join(map(moves.describe, x.axes))
            raise node.error(f"its input has the axes ({axes}), expected features in the last one")
        return x
