"""A graph of ONNX in the making: nodes, weights and the names of values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_native.convert.conversion import Conversion
from lstm_native.convert.layouts import Array
from lstm_native.layers import Layer

FAR = (1 << 63) - 1  # "to the end" of a Slice


@dataclass(frozen=True)
class Flow:
    """A value (batch, time, features) or (batch, features), and its mask (batch, time); names of both."""

    name: str
    mask: str | None = None


class Writer:
    """Nodes and weights of a graph in the making.

    Args:
        record: gets the conventions.

    Attributes:
        nodes: `onnx.NodeProto`s.
        initializers: `onnx.TensorProto`s.
        plain: whether recurrent nodes have nothing that onnx.reference passes over.
    """

    def __init__(self, record: Conversion) -> None:
        self.record = record
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.plain = True
        self._names: set[str] = set()
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def unique(self, wanted: str) -> str:
        """`wanted`, with a number where it is taken."""
        name, number = wanted, 1
        while name in self._names:
            name, number = f"{wanted}_{number}", number + 1
        self._names.add(name)
        return name

    def weight(self, array: Array, name: str) -> str:
        """An initializer."""
        from onnx import numpy_helper

        name = self.unique(name)
        self.initializers.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def ints(self, *values: int) -> str:
        """A constant list of int64."""
        return self.constant(np.array(values, np.int64))

    def constant(self, array: Any) -> str:
        """A small constant, one for all who want the same."""
        array = np.asarray(array)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.weight(array, "constant")
        return self._constants[key]

    def node(self, op: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """A node of one output; returns its name."""
        return self.nodes_outputs(op, inputs, [name or op.lower()], **attributes)[0]

    def nodes_outputs(
        self, op: str, inputs: Sequence[str], names: Sequence[str], **attributes: Any
    ) -> list[str]:
        """A node of several outputs; returns their names."""
        from onnx import helper

        outputs = [self.unique(name) for name in names]
        self.nodes.append(helper.make_node(op, list(inputs), outputs, name=outputs[0], **attributes))
        return outputs


def refused(layer: Layer, why: str) -> ValueError:
    """The error for a layer that cannot be written."""
    return ValueError(f"to_onnx: {layer.label()}: {why}")


def cast(writer: Writer, x: str, to: str = "FLOAT") -> str:
    """Values as those of the type called `to`."""
    import onnx

    return writer.node("Cast", x, to=int(getattr(onnx.TensorProto, to)))


def turned(writer: Writer, x: str) -> str:
    """The time axis, 1, the other way round."""
    return writer.node("Slice", x, writer.ints(-1), writer.ints(-FAR), writer.ints(1), writer.ints(-1))
