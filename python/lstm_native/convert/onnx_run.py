"""Runs ONNX models in other packages, to hold ours against them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lstm_native.convert.both_sides import NotRun, cause
from lstm_native.convert.conversion import Conversion
from lstm_native.convert.layouts import Array


def run_elsewhere(
    content: bytes, inputs: Mapping[str, Array], plain: bool, record: Conversion
) -> list[Array]:
    """The outputs in onnxruntime, else in onnx.reference.

    Args:
        content: the model.
        inputs: arrays by name.
        plain: whether onnx.reference has all that the recurrent nodes need: it passes over lengths, clip,
            activations and coupled gates without a word.
        record: is told in which of them.

    Raises:
        NotRun: neither can run the model.
    """
    reasons: list[str] = []
    missing = False
    for run, name in ((_onnxruntime, "onnxruntime"), (_reference, "onnx.reference")):
        if run is _reference and not plain:
            reasons.append(f"{name} lacks some of the attributes")
            continue
        try:
            found = run(content, inputs)
        except ImportError:
            missing = True
            reasons.append(f"{name} is not installed")
        except Exception as error:  # whatever they make of a model that they do not have
            reasons.append(f"{name} refuses it ({cause(error)})")
        else:
            record.beside = name
            return found
    raise NotRun("; ".join(reasons), missing)


def _onnxruntime(content: bytes, inputs: Mapping[str, Array]) -> list[Array]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(inputs)))


def _reference(content: bytes, inputs: Mapping[str, Array]) -> list[Array]:
    import onnx
    from onnx.reference import ReferenceEvaluator

    evaluator: Any = ReferenceEvaluator(onnx.ModelProto.FromString(content))
    return list(evaluator.run(None, dict(inputs)))
