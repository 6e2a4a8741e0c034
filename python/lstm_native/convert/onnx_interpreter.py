"""Runs ONNX models: recurrent operators with our native cells, those around them with NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lstm_native.convert.onnx_file import Array, Graph, Node
from lstm_native.convert.onnx_operators import OPERATORS as PLAIN
from lstm_native.convert.onnx_operators import run_operator
from lstm_native.convert.onnx_recurrent import OPERATORS as RECURRENT
from lstm_native.convert.onnx_recurrent import RecurrentRun, recurrent_of
from lstm_native.convert.onnx_shapes import at

OPERATORS = frozenset({*PLAIN, *RECURRENT})


def run_node(node: Node, inputs: Sequence[Array | None], kept: RecurrentRun | None = None) -> list[Array]:
    """Outputs of one node; recurrent ones may have been prepared (`prepare_recurrent`)."""
    if node.op not in RECURRENT:
        return run_operator(node, inputs)
    run = kept or prepare_recurrent(node, inputs)
    x = inputs[0]
    if x is None:
        raise node.error("X is missing")
    return run(x, at(inputs, 4), [at(inputs, 5), at(inputs, 6)])[: len(node.outputs)]


def prepare_recurrent(node: Node, inputs: Sequence[Array | None]) -> RecurrentRun:
    """The layers of a recurrent node, from its inputs."""
    if inputs[1] is None or inputs[2] is None:
        raise node.error("W or R is missing")
    return RecurrentRun(recurrent_of(node, [at(inputs, i) for i in (1, 2, 3, 7)]))


class Interpreter:
    """A model that runs node by node.

    Args:
        graph: the model.

    Raises:
        ValueError: an operator that is not known here; weights that do not fit.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._kept: dict[int, RecurrentRun] = {}
        last_reader = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
        self._ends: list[list[str]] = [[] for _ in graph.nodes]
        for name, i in last_reader.items():
            if name and name not in graph.outputs and name not in graph.constants:
                self._ends[i].append(name)
        room = 4 * graph.size + (16 << 20)  # nodes may share a weight
        for i, node in enumerate(graph.nodes):
            if node.op not in OPERATORS:
                raise node.error("this operator is not supported")
            weights = [name for position in (1, 2, 3, 7) if (name := _name(node, position))]
            if node.op not in RECURRENT or not all(name in graph.constants for name in weights):
                continue
            room -= sum(graph.constants[name].nbytes for name in weights)
            if room >= 0:
                self._kept[i] = prepare_recurrent(node, [graph.constants.get(name) for name in node.inputs])

    def run(self, inputs: Mapping[str, Any] | Sequence[Any]) -> list[Array]:
        """The outputs.

        Args:
            inputs: an array for each input, in their order or by name.

        Raises:
            ValueError: an input that is missing, or of another type or shape.
        """
        graph = self._graph
        names = [value.name for value in graph.inputs]
        if not isinstance(inputs, Mapping):
            if len(inputs) != len(names):
                raise graph.error(f"got {len(inputs)} inputs, expected {len(names)}: {names}")
            inputs = dict(zip(names, inputs, strict=True))
        if set(inputs) != set(names):
            raise graph.error(f"got the inputs {sorted(inputs)}, expected {names}")
        values: dict[str, Array] = dict(graph.constants)
        for value in graph.inputs:
            array = np.asarray(inputs[value.name])
            if array.dtype != value.dtype:
                raise graph.error(f"input {value.name!r} has type {array.dtype}, expected {value.dtype}")
            if value.shape is not None and (
                array.ndim != len(value.shape)
                or any(isinstance(s, int) and s != n for s, n in zip(value.shape, array.shape, strict=True))
            ):
                raise graph.error(f"input {value.name!r} has shape {array.shape}, expected {value.shape}")
            values[value.name] = array
        for i, node in enumerate(graph.nodes):
            given = [values[name] if name else None for name in node.inputs]
            values.update(zip(node.outputs, run_node(node, given, self._kept.get(i)), strict=False))
            for name in self._ends[i]:
                del values[name]
        return [values[name] for name in graph.outputs]


def _name(node: Node, position: int) -> str:
    return node.inputs[position] if len(node.inputs) > position else ""
