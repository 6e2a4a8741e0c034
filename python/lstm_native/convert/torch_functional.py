"""Models that branch as modules of `torch.fx`: layers are submodules, joins are functions of PyTorch."""

from __future__ import annotations

import keyword
import operator
from collections.abc import Callable, Sequence
from typing import Any

from lstm_native.arrays import Shape
from lstm_native.layers import (
    Add,
    Attention,
    Average,
    Concatenate,
    Dot,
    InputLayer,
    Layer,
    Maximum,
    Minimum,
    Multiply,
    Subtract,
)
from lstm_native.layers.base import ActivityPenalty
from lstm_native.layers.merging_axes import EPSILON
from lstm_native.layers.symbolic import output_shapes
from lstm_native.models import Model
from lstm_native.models.graph import Steps
from lstm_native.trees import flat, is_shape

# A function of PyTorch on values of the graph, which gives the value that it computes.
_Call = Callable[..., Any]
_Join = Callable[[Any, _Call, Sequence[Any], Sequence[Shape]], Any]


def fx_module(model: Model, modules_of: Callable[[Layer], list[Any]]) -> Any:
    """The model as a `torch.fx.GraphModule`.

    Args:
        model: a built model.
        modules_of: gives the modules of a layer of one input, in the order of their calls.

    Raises:
        ValueError: a layer, or an argument of a call, that has no counterpart, named.
    """
    import torch

    return _Graph(model, modules_of, torch).module


class _Graph:
    """The graph while it is made."""

    def __init__(self, model: Model, modules_of: Callable[[Layer], list[Any]], torch: Any) -> None:
        self._torch = torch
        self._modules_of = modules_of
        self._root = torch.nn.Module()
        self._graph = torch.fx.Graph()
        self._names: dict[Layer, list[str]] = {}
        starts = model.inputs
        steps = Steps(len(starts))
        ends = model.add_steps(steps, tuple(range(len(starts))), None, len(model.outputs))
        self._values = {slot: self._graph.placeholder(_word(x.name)) for slot, x in enumerate(starts)}
        self._shapes: dict[int, Any] = {slot: x.shape for slot, x in enumerate(starts)}
        for step in steps.steps:
            self._add(step)
        outputs = tuple(self._values[slot] for slot in ends)
        self._graph.output(outputs if len(outputs) > 1 else outputs[0])
        self.module = torch.fx.GraphModule(self._root, self._graph, "Functional").eval()

    def _add(self, step: Any) -> None:
        layer = step.layer
        if step.flags or step.training or step.arguments:
            what = [*step.flags, *step.arguments, *(["training"] if step.training else [])]
            raise ValueError(f"to_torch: {layer.label()}: it is called with {what}, which has no counterpart")
        given = [self._values[slot] for slot in step.inputs]
        shapes = [self._shapes[slot] for slot in step.inputs]
        if isinstance(layer, ActivityPenalty | InputLayer) or type(layer).__name__ == "_Identity":
            made: Any = given
        elif step.several:
            join = _JOINS.get(type(layer))
            if join is None:
                raise ValueError(f"to_torch: {layer.label()}: PyTorch has no function for it here")
            made = [join(layer, self._call, given, shapes)]
        else:
            states = [self._values[slot] for slot in step.states]
            made = self._call_modules(layer, given[0], states)
            count = len(step.outputs)
            made = [self._call(operator.getitem, made, i) for i in range(count)] if count > 1 else [made]
        sizes = output_shapes(layer, tuple(shapes) if step.several else shapes[0], step.arguments)
        self._values.update(zip(step.outputs, made, strict=True))
        self._shapes.update(zip(step.outputs, flat(sizes, is_shape), strict=True))

    def _call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(function, str):
            return self._graph.call_method(function, args, kwargs)
        return self._graph.call_function(function, args, kwargs)

    def _call_modules(self, layer: Layer, x: Any, states: Sequence[Any]) -> Any:
        """A layer of one input; used again, its modules are the same."""
        if layer not in self._names:
            self._names[layer] = []
            for number, module in enumerate(self._modules_of(layer)):
                name = _word(layer.name) + (f"_{number}" if number else "")
                while hasattr(self._root, name):
                    name += "_"
                self._root.add_module(name, module)
                self._names[layer].append(name)
        for name in self._names[layer]:
            x = self._graph.call_module(name, (x, *states))
            states = ()
        return x


def _word(name: str) -> str:
    """`name` as an identifier."""
    word = "".join(c if c.isascii() and c.isalnum() else "_" for c in name)
    return word if word[:1].isalpha() and not keyword.iskeyword(word) else f"_{word}"


# --- joins ----------------------------------------------------------------------------------------


def _folded(function: Callable[[], Any]) -> _Join:
    """A function of two tensors, from input to input; inputs with fewer axes get some behind the batch."""

    def join(layer: Any, call: _Call, given: Sequence[Any], shapes: Sequence[Shape]) -> Any:
        rank = max(map(len, shapes))
        raised = []
        for x, shape in zip(given, shapes, strict=True):
            for _ in range(rank - len(shape)):
                x = call("unsqueeze", x, 1)
            raised.append(x)
        joined = raised[0]
        for x in raised[1:]:
            joined = call(function(), joined, x)
        return joined

    return join


def _of_torch(name: str) -> Callable[[], Any]:
    def function() -> Any:
        import torch

        return getattr(torch, name)

    return function


_sum = _folded(lambda: operator.add)


def _average(layer: Any, call: _Call, given: Sequence[Any], shapes: Sequence[Shape]) -> Any:
    return call(operator.mul, _sum(layer, call, given, shapes), 1 / len(given))


def _concatenate(layer: Any, call: _Call, given: Sequence[Any], shapes: Sequence[Shape]) -> Any:
    return call(_of_torch("cat")(), list(given), layer.axis)


def _dot(layer: Any, call: _Call, given: Sequence[Any], shapes: Sequence[Shape]) -> Any:
    ranks = [len(shape) for shape in shapes]
    if max(ranks) > 3:
        raise ValueError(f"to_torch: {layer.label()}: its inputs have {ranks} axes, expected 2 or 3")
    axes = layer.axes if isinstance(layer.axes, list | tuple) else (layer.axes, layer.axes)
    sides = []
    for i, (x, rank, axis) in enumerate(zip(given, ranks, axes, strict=True)):
        summed = axis % rank
        if layer.normalize:
            import torch

            x = call(torch.nn.functional.normalize, x, dim=summed, eps=EPSILON)
        if rank == 2:
            x = call("unsqueeze", x, 1 if i == 0 else 2)
        # The summed axis is the last of the first tensor, and the second of the other.
        elif summed != 2 - i:
            x = call("transpose", x, 1, 2)
        sides.append(x)
    product = call(_of_torch("bmm")(), *sides)
    return call("squeeze", product, 1 if ranks[0] == 2 else 2) if 2 in ranks else product


def _attention(layer: Any, call: _Call, given: Sequence[Any], shapes: Sequence[Shape]) -> Any:
    if layer.score_mode != "dot":
        raise ValueError(f"to_torch: {layer.label()}: score_mode is {layer.score_mode!r}, expected 'dot'")
    query, value, key = (*given, given[1])[:3]
    bmm = _of_torch("bmm")()
    scores = call(bmm, query, call("transpose", key, 1, 2))
    if layer.scale is not None:
        scores = call(operator.mul, scores, float(layer.scale.numpy()))
    return call(bmm, call(_of_torch("softmax")(), scores, -1), value)


_JOINS: dict[type, _Join] = {
    Add: _sum,
    Average: _average,
    Subtract: _folded(lambda: operator.sub),
    Multiply: _folded(lambda: operator.mul),
    Maximum: _folded(_of_torch("maximum")),
    Minimum: _folded(_of_torch("minimum")),
    Concatenate: _concatenate,
    Dot: _dot,
    Attention: _attention,
}
