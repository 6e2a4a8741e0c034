"""A backend of ONNX for recurrent models, after `onnx.backend.base.Backend`: LSTM, GRU and RNN run natively.

    import lstm_native.onnx_backend as backend

    prepared = backend.prepare(onnx.load("model.onnx"))
    outputs = prepared.run([x])

Opsets 7 to that of the installed onnx package. `OPERATORS` are the operators; those beside the recurrent ones
run with NumPy. Tensors are float16, float32, float64, bool and integers; recurrent ones float32 or float16.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend as _Base
from onnx.backend.base import BackendRep, namedtupledict

from lstm_native.convert.onnx_file import Graph, node_of, read_graph
from lstm_native.convert.onnx_interpreter import OPERATORS as OPERATORS
from lstm_native.convert.onnx_interpreter import Interpreter
from lstm_native.convert.onnx_interpreter import run_node as _run_node

_NAME = "onnx_backend"


class PreparedModel(BackendRep):
    """A model that is ready to run.

    Args:
        graph: the model.
    """

    def __init__(self, graph: Graph) -> None:
        self._interpreter = Interpreter(graph)
        self._outputs = graph.outputs

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs, a tuple whose items can be had by name too.

        Args:
            inputs: an array for each input: a sequence in their order, a dict by name, or the only one.
            kwargs: accepted as every backend does.
        """
        given = [inputs] if isinstance(inputs, np.ndarray) else inputs
        outputs: tuple[Any, ...] = namedtupledict("Outputs", self._outputs)(*self._interpreter.run(given))
        return outputs


class Backend(_Base):
    """See the module. Errors are ValueErrors that name the node."""

    @classmethod
    def is_compatible(cls, model: Any, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether all operators of `model` are supported here."""
        return cls.supports_device(device) and all(
            node.domain in ("", "ai.onnx") and node.op_type in OPERATORS for node in model.graph.node
        )

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> PreparedModel:
        """Checks a model and packs its weights.

        Args:
            model: an `onnx.ModelProto`, its bytes, or a path.
            device: "CPU".
            kwargs: accepted as every backend does.
        """
        cls._check_device(device)
        return PreparedModel(read_graph(model, _NAME))

    @classmethod
    def run_model(cls, model: Any, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        """Outputs of a model that is used once; see `prepare` and `PreparedModel.run`."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls, node: Any, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any
    ) -> tuple[Any, ...]:
        """Outputs of one node, those that have a name.

        Args:
            node: an `onnx.NodeProto`.
            inputs: its inputs, in their order, those left out by "" too; or a dict by name.
            device: "CPU".
            outputs_info: accepted as every backend does.
            kwargs: `opset_version`; that of the installed onnx package by default.
        """
        cls._check_device(device)
        opset = kwargs.get("opset_version", onnx.defs.onnx_opset_version())
        checked = node_of(node, _NAME, opset)
        if isinstance(inputs, dict):
            given = [np.asarray(inputs[name]) if name else None for name in checked.inputs]
        else:
            present = iter(inputs)
            whole = len(inputs) == len(checked.inputs)
            given = [np.asarray(next(present)) if name or whole else None for name in checked.inputs]
            given = [array if name else None for array, name in zip(given, checked.inputs, strict=True)]
        named = zip(checked.outputs, _run_node(checked, given), strict=False)
        wanted = [(name, array) for name, array in named if name]
        outputs: tuple[Any, ...] = namedtupledict("Outputs", [name for name, _ in wanted])(
            *(a for _, a in wanted)
        )
        return outputs

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether `device` is "CPU", with a number or without."""
        return str(device).split(":")[0] == "CPU"

    @classmethod
    def _check_device(cls, device: str) -> None:
        if not cls.supports_device(device):
            raise ValueError(f"{_NAME}: device is {device!r}, expected 'CPU'")


is_compatible = Backend.is_compatible
prepare = Backend.prepare
run_model = Backend.run_model
run_node = Backend.run_node
supports_device = Backend.supports_device
