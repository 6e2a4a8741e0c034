"""OpenVINO on the CPU, float32, from the same ONNX models as ONNX Runtime."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np
import openvino as ov
from cases import Array, Case

from peers.base import Peer, Timed
from peers.onnx_models import classifier_model, sequence_model, step_model


class OpenVino(Peer):
    packages = ("openvino", "onnx", "numpy")

    def __init__(self, threads: int) -> None:
        self.core = ov.Core()
        self.options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where the processor has it
        }

    def _compile(self, model: bytes) -> ov.CompiledModel:
        return self.core.compile_model(self.core.read_model(model), "CPU", self.options)

    def inference(self, case: Case) -> dict[str, Timed]:
        x = np.ascontiguousarray(case.data().transpose(1, 0, 2))
        form = self._bound(sequence_model(case), x)
        return {"bound": Timed(form.call, lambda y: form.read(y)[:, 0].transpose(1, 0, 2))}

    def model(self, case: Case) -> dict[str, Timed]:
        return {"bound": self._bound(classifier_model(case), np.ascontiguousarray(case.data().T))}

    def _bound(self, model: bytes, x: Array) -> Timed:
        request = self._compile(model).create_infer_request()
        request.set_input_tensor(0, ov.Tensor(x))
        return Timed(
            lambda: request.infer(share_outputs=True), lambda _: request.get_output_tensor(0).data.copy()
        )

    def streaming(self, case: Case) -> dict[str, Timed]:
        compiled = self._compile(step_model(case))
        x = np.ascontiguousarray(case.data().transpose(1, 0, 2))
        # Two requests take turns: what one wrote is what the other reads.
        zeros = np.zeros((1, case.batch, case.units), np.float32)
        h, c = ([ov.Tensor(zeros), ov.Tensor(zeros)] for _ in "hc")
        requests = []
        for old, new in ((0, 1), (1, 0)):
            request = compiled.create_infer_request()
            for name, tensor in {"h": h[old], "c": c[old], "next_h": h[new], "next_c": c[new]}.items():
                request.set_tensor(name, tensor)
            requests.append((request, h[new]))
        turns = cycle(requests)

        def call() -> Array:
            request, y = next(turns)
            request.infer({"x": x}, share_inputs=True, share_outputs=True)
            return y.data

        return {"state bound": Timed(call, lambda y: y[0].copy())}
