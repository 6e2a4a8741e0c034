"""LiteRT (once TensorFlow Lite): its fused LSTM operator, in a model file built here from the weights.

The operator keeps its state in variables of the interpreter, so a stream is one call after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from cases import Array, Case

from peers.base import Peer, Timed

INPUTS = 24  # of the operator; -1 stands for those that are left out
H_STATE, C_STATE = 18, 19  # places among them


class LiteRt(Peer):
    packages = ("ai-edge-litert", "numpy")

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def inference(self, case: Case) -> dict[str, Timed]:
        interpreter, read = self._load(case)

        def call() -> None:
            interpreter.reset_all_variables()
            interpreter.invoke()

        return {"fused operator": Timed(call, read)}

    def streaming(self, case: Case) -> dict[str, Timed]:
        interpreter, _ = self._load(case)
        x_index = interpreter.get_input_details()[0]["index"]
        y_index = interpreter.get_output_details()[0]["index"]
        x = np.ascontiguousarray(case.data().transpose(1, 0, 2))

        def call() -> Array:
            interpreter.set_tensor(x_index, x)
            interpreter.invoke()
            return interpreter.get_tensor(y_index)

        return {"fused operator": Timed(call, lambda y: y[0])}

    def _load(self, case: Case) -> tuple[Interpreter, Callable[[Any], Array]]:
        interpreter = Interpreter(model_content=_model(case), num_threads=self.threads)
        interpreter.allocate_tensors()
        x = interpreter.get_input_details()[0]["index"]
        y = interpreter.get_output_details()[0]["index"]
        interpreter.set_tensor(x, np.ascontiguousarray(case.data().transpose(1, 0, 2)))
        return interpreter, lambda _: interpreter.get_tensor(y).transpose(1, 0, 2)


class _Builder:
    def __init__(self) -> None:
        self.tensors: list[schema.TensorT] = []
        self.buffers = [schema.BufferT()]  # the first one is empty by convention

    def tensor(
        self, name: str, shape: tuple[int, ...], value: Array | None = None, variable: bool = False
    ) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape = name.encode(), list(shape)
        tensor.type, tensor.isVariable = schema.TensorType.FLOAT32, variable
        if value is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(value, np.float32).tobytes(), np.uint8)
            tensor.buffer = len(self.buffers)
            self.buffers.append(buffer)
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def constant(self, name: str, value: Array) -> int:
        return self.tensor(name, value.shape, value)


def _model(case: Case) -> bytes:
    """One UNIDIRECTIONAL_SEQUENCE_LSTM, x (T, B, I) -> y (T, B, U); weights in rows, gates i f c o."""
    builder = _Builder()
    kernel, recurrent_kernel, bias = case.layer_weights()[0]
    inputs = [-1] * INPUTS
    inputs[0] = builder.tensor("x", (case.time, case.batch, case.inputs))
    for place, columns in ((1, kernel), (5, recurrent_kernel), (12, bias)):
        for gate, part in enumerate(np.split(columns, 4, axis=-1)):
            inputs[place + gate] = builder.constant(f"weight{place + gate}", part.T)
    for place in (H_STATE, C_STATE):
        inputs[place] = builder.tensor(f"state{place}", (case.batch, case.units), variable=True)
    y = builder.tensor("y", (case.time, case.batch, case.units))

    options = schema.UnidirectionalSequenceLSTMOptionsT()
    options.fusedActivationFunction = schema.ActivationFunctionType.TANH
    options.timeMajor = True
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = inputs, [y]
    operator.builtinOptionsType = schema.BuiltinOptions.UnidirectionalSequenceLSTMOptions
    operator.builtinOptions = options
    code = schema.OperatorCodeT()
    code.builtinCode = schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_LSTM
    code.deprecatedBuiltinCode = code.builtinCode
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = builder.tensors, [operator]
    graph.inputs, graph.outputs = [inputs[0]], [y]
    model = schema.ModelT()
    model.version, model.operatorCodes = 3, [code]
    model.subgraphs, model.buffers = [graph], builder.buffers
    out = flatbuffers.Builder(1 << 20)
    out.Finish(model.Pack(out), file_identifier=b"TFL3")
    return bytes(out.Output())
