"""ONNX Runtime on the CPU: `run`, and the same with inputs and outputs bound once."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from cases import Array, Case

from peers.base import NotOffered, Peer, Timed
from peers.onnx_models import classifier_model, sequence_model, step_model


class OnnxRuntime(Peer):
    packages = ("onnxruntime", "onnx", "numpy")

    def __init__(self, threads: int) -> None:
        self.options = ort.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1
        self.options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL

    def _session(self, model: bytes) -> ort.InferenceSession:
        return ort.InferenceSession(model, self.options, providers=["CPUExecutionProvider"])

    def inference(self, case: Case) -> dict[str, Timed]:
        x = np.ascontiguousarray(case.data().transpose(1, 0, 2))
        shape = (case.time, 1, case.batch, case.units)
        return self._forms(
            _quantized(case, sequence_model(case)), "x", x, shape, lambda y: y[:, 0].transpose(1, 0, 2)
        )

    def model(self, case: Case) -> dict[str, Timed]:
        ids = np.ascontiguousarray(case.data().T)
        return self._forms(classifier_model(case), "ids", ids, (case.batch, 1), lambda y: y)

    def _forms(
        self, model: bytes, name: str, x: Array, shape: tuple[int, ...], read: Callable[[Any], Array]
    ) -> dict[str, Timed]:
        session = self._session(model)
        y = np.empty(shape, np.float32)
        binding = session.io_binding()
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(x))
        binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)
        return {
            "run": Timed(lambda: session.run(None, {name: x})[0], read),
            "bound": Timed(lambda: session.run_with_iobinding(binding), lambda _: read(y)),
        }

    def streaming(self, case: Case) -> dict[str, Timed]:
        session = self._session(_quantized(case, step_model(case)))
        x = np.ascontiguousarray(case.data().transpose(1, 0, 2))
        feed = {"x": x} | dict.fromkeys("hc", np.zeros((1, case.batch, case.units), np.float32))
        # Bound, two states (h, c) take turns: what one step wrote is what the next one reads.
        states = np.zeros((2, 2, 1, case.batch, case.units), np.float32)
        bound_x, bindings = np.empty_like(x), []
        for old, new in ((0, 1), (1, 0)):
            binding = session.io_binding()
            binding.bind_input("x", "cpu", 0, np.float32, x.shape, bound_x.ctypes.data)
            for name, before, after in zip("hc", states[old], states[new], strict=True):
                binding.bind_input(name, "cpu", 0, np.float32, before.shape, before.ctypes.data)
                binding.bind_output(f"next_{name}", "cpu", 0, np.float32, after.shape, after.ctypes.data)
            # The view keeps all states alive; the binding knows their addresses only.
            bindings.append((binding, states[new, 0]))
        turns = cycle(bindings)

        def run() -> Array:
            feed["h"], feed["c"] = session.run(None, feed)
            return feed["h"]

        def bound() -> Array:
            binding, y = next(turns)
            np.copyto(bound_x, x)
            session.run_with_iobinding(binding)
            return y

        return {"run": Timed(run, lambda y: y[0]), "bound": Timed(bound, lambda y: y[0].copy())}


def _quantized(case: Case, model: bytes) -> bytes:
    """The model with weights of 8 bits and inputs rounded at every call, where that is asked for."""
    if not case.quantized:
        return model
    if case.quantized != "int8":
        raise NotOffered(f"{case.quantized} is not built for it here")
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        before, after = (Path(folder) / name for name in ("before.onnx", "after.onnx"))
        before.write_bytes(model)
        quantize_dynamic(before, after, weight_type=QuantType.QInt8, per_channel=True)
        return after.read_bytes()
