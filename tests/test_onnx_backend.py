"""lstm_native.onnx_backend: ONNX's own node tests, and random attributes beside onnxruntime."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import lstm_native.onnx_backend as backend  # noqa: E402
from lstm_native.convert import from_onnx  # noqa: E402
from onnx_graphs import FUNCTIONS, GATES, RecurrentCase, model  # noqa: E402

# ONNX's tests compare with 1e-3 relative and 1e-7 absolute (onnx.backend.test.runner).
RTOL, ATOL = 1e-3, 1e-7
# Activations of ONNX and how many parameters they have; without ThresholdedRelu, which jumps: a rounding
# before the jump is a difference as large as it.
ACTIVATIONS = {
    "Relu": 0, "Tanh": 0, "Sigmoid": 0, "Softsign": 0, "Softplus": 0, "Affine": 2, "LeakyRelu": 1,
    "ScaledTanh": 2, "HardSigmoid": 2, "Elu": 1,
}  # fmt: skip
# Why a node test is not for us: types that NumPy does not have, training, operators older than opset 7.
NOT_OURS = re.compile(
    r"element type (8|1[4-9]|2\d)|is no tensor|opset versions are \[1\]|training_mode is true"
)


def arrays(values: Any) -> list[Any]:
    return [numpy_helper.to_array(v) if isinstance(v, TensorProto) else np.asarray(v) for v in values]


@pytest.fixture(scope="module")
def node_tests() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        return [case for case in load_model_tests(kind="node") if backend.is_compatible(case.model)]


def outcome(case: Any) -> str:
    """Why a node test does not pass; nothing where it does."""
    try:
        prepared = backend.prepare(case.model)
        for inputs, outputs in case.data_sets:
            found = prepared.run(arrays(inputs))
            for theirs, ours in zip(arrays(outputs), found, strict=True):
                assert theirs.dtype == ours.dtype
                np.testing.assert_allclose(ours, theirs, RTOL, ATOL)
    except (ValueError, AssertionError) as error:
        return str(error)
    return ""


def test_node_tests(node_tests: list[Any]) -> None:
    outcomes = {case.name: outcome(case) for case in node_tests}
    assert {name: why for name, why in outcomes.items() if why and not NOT_OURS.search(why)} == {}
    passed = [case for case in node_tests if not outcomes[case.name]]
    recurrent = [c for c in node_tests if {n.op_type for n in c.model.graph.node} & set(GATES)]
    assert all(case in passed for case in recurrent)
    assert len(recurrent) >= 18
    assert len(passed) > 400
    tested = {node.op_type for case in passed for node in case.model.graph.node}
    assert backend.OPERATORS - tested <= {"Not"}  # its tests are of opset 1


def test_nodes_alone(node_tests: list[Any]) -> None:
    for case in node_tests:
        if case.name in ("test_lstm_with_peepholes", "test_gru_defaults", "test_rnn_seq_length"):
            (node,), (inputs, outputs) = case.model.graph.node, case.data_sets[0]
            for ours, theirs in zip(backend.run_node(node, arrays(inputs)), arrays(outputs), strict=True):
                np.testing.assert_allclose(ours, theirs, RTOL, ATOL)


# --- random attributes beside onnxruntime -----------------------------------------------------------


@st.composite
def cases(draw: Any) -> RecurrentCase:
    op = draw(st.sampled_from(sorted(GATES)))
    direction = draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
    attributes: dict[str, Any] = {"direction": direction}
    parameter = st.integers(1, 9).map(lambda tenth: tenth / 10)
    if draw(st.booleans()):
        attributes["clip"] = draw(st.floats(0.125, 2, width=16))
    if draw(st.booleans()):
        count = FUNCTIONS[op] * (2 if direction == "bidirectional" else 1)
        names = draw(st.lists(st.sampled_from(sorted(ACTIVATIONS)), min_size=count, max_size=count))
        attributes["activations"] = names
        for least, key in ((1, "activation_alpha"), (2, "activation_beta")):
            values = [draw(parameter) for name in names if ACTIVATIONS[name] >= least]
            if values:
                attributes[key] = values
    flag = {"LSTM": "input_forget", "GRU": "linear_before_reset"}.get(op)
    if flag is not None and draw(st.booleans()):
        attributes[flag] = 1
    small = st.integers(1, 5)
    return RecurrentCase(
        op, attributes, draw(small), draw(small), draw(st.integers(0, 99)), draw(st.booleans()),
        draw(st.booleans()), draw(st.booleans()), draw(st.booleans()), draw(small), draw(small),
    )  # fmt: skip


def in_onnxruntime(proto: Any, feeds: dict[str, Any]) -> list[Any]:
    onnxruntime = pytest.importorskip("onnxruntime")
    onnxruntime.set_default_logger_severity(4)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs: list[Any] = session.run(None, feeds)
    return outputs


def assert_close(ours: Any, theirs: Any) -> None:
    # Sums of up to 10 products in other orders, through 5 steps, whose activations may grow: relative to the
    # largest number of all.
    with np.errstate(all="ignore"):
        for a, b in zip(ours, theirs, strict=True):
            assert a.shape == b.shape
            finite = np.isfinite(b).all()
            if finite:
                np.testing.assert_allclose(
                    a, b, atol=1e-4 * max(1.0, float(np.abs(b).max(initial=0))), rtol=1e-4
                )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(case=cases())
def test_attributes(case: RecurrentCase) -> None:
    proto = case.proto()
    assert_close(backend.run_model(proto, case.feeds), in_onnxruntime(proto, case.feeds))


@pytest.mark.long
@settings(max_examples=1500, deadline=None)
@given(case=cases())
def test_many_attributes(case: RecurrentCase) -> None:
    proto = case.proto()
    assert_close(backend.run_model(proto, case.feeds), in_onnxruntime(proto, case.feeds))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(case=cases())
def test_models_of_the_same_graphs(case: RecurrentCase) -> None:
    proto = case.proto()
    if case.attributes["direction"] == "reverse" and case.lengths and case.states:
        with pytest.raises(ValueError, match="backwards with sequence_lens and initial states"):
            from_onnx(proto)
        return
    try:
        difference = from_onnx(proto).conversion.max_difference
    except ValueError as error:
        # Gates without a bound let roundings grow.
        if "activations" not in case.attributes or "outputs differ by" not in str(error):
            raise
    else:
        assert difference <= 1e-5


# --- opsets, types, names, mistakes -----------------------------------------------------------------


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12, 13, 14, 17, 18, 21, 22])
@pytest.mark.parametrize("op", sorted(GATES))
def test_opsets(op: str, opset: int) -> None:
    case = RecurrentCase(op, {"direction": "bidirectional"}, 3, 2, 1, lengths=True, states=True)
    proto = case.proto(opset)
    found = backend.run_model(proto, case.feeds)
    for a, b in zip(found, backend.run_model(case.proto(17), case.feeds), strict=True):
        np.testing.assert_array_equal(a, b)
    assert from_onnx(proto).conversion.max_difference <= 1e-5


@pytest.mark.parametrize("op", sorted(GATES))
def test_layout(op: str) -> None:
    plain = RecurrentCase(op, {"direction": "bidirectional"}, 3, 2, 1, lengths=True, states=True)
    expected = backend.run_model(plain.proto(), plain.feeds)
    other = RecurrentCase(op, {"direction": "bidirectional", "layout": 1}, 3, 2, 1, lengths=True, states=True)
    proto = other.proto()
    feeds = {
        k: v if k == "lengths" else np.ascontiguousarray(v.swapaxes(0, 1)) for k, v in plain.feeds.items()
    }
    y, *last = backend.run_model(proto, feeds)
    np.testing.assert_array_equal(y.transpose(1, 2, 0, 3), expected[0])
    for a, b in zip(last, expected[1:], strict=True):
        np.testing.assert_array_equal(a.swapaxes(0, 1), b)
    converted = from_onnx(proto)
    state = [feeds["h0"][:, 0], *([feeds["c0"][:, 0]] if op == "LSTM" else [])]
    assert len(converted.inputs) == 2 + 2 * len(state)


def test_half_precision() -> None:
    case = RecurrentCase("LSTM", {}, 3, 2, 1)
    proto = case.proto()
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
        )
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    found = backend.run_model(proto, [case.feeds["X"].astype(np.float16)])
    assert all(y.dtype == np.float16 for y in found)
    for a, b in zip(found, backend.run_model(case.proto(), case.feeds), strict=True):
        np.testing.assert_allclose(a, b, atol=5e-3)  # three digits


def test_outputs_by_name_and_one_input() -> None:
    case = RecurrentCase("GRU", {}, 3, 2, 1)
    outputs = backend.prepare(case.proto()).run(case.feeds)
    np.testing.assert_array_equal(outputs["Y"], outputs[0])
    single = backend.prepare(case.proto()).run(case.feeds["X"])
    np.testing.assert_array_equal(single[1], outputs[1])


def test_devices() -> None:
    assert backend.supports_device("CPU")
    assert backend.supports_device("CPU:0")
    assert not backend.supports_device("CUDA")
    with pytest.raises(ValueError, match="expected 'CPU'"):
        backend.prepare(RecurrentCase("GRU", {}, 3, 2, 1).proto(), "CUDA")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": np.zeros((5, 3, 9), np.float32)}, "input 'X' has shape"),
        ({"X": np.zeros((5, 3, 2))}, "input 'X' has type float64"),
        ({"lengths": np.array([6, 1, 1], np.int32)}, "sequence_lens has shape"),
        ({"lengths": np.array([-1, 1, 1], np.int32)}, "sequence_lens has shape"),
        ({"lengths": np.array([1, 1], np.int32)}, "sequence_lens has shape"),
        ({"h0": np.zeros((1, 2, 3), np.float32)}, "initial_h has shape"),
        ({"more": np.zeros(1)}, "got the inputs"),
    ],
)
def test_wrong_inputs(change: dict[str, Any], message: str) -> None:
    case = RecurrentCase("LSTM", {}, 3, 2, 1, lengths=True, states=True)
    prepared = backend.prepare(case.proto())
    with pytest.raises(ValueError, match=message):
        prepared.run(case.feeds | change)


def test_what_is_not_supported_is_named() -> None:
    proto = model([helper.make_node("Sin", ["x"], ["y"], name="wave")], {"x": (1,)}, ["y"])
    assert not backend.is_compatible(proto)
    with pytest.raises(ValueError, match=r"node 'wave' \(Sin\): this operator is not supported"):
        backend.prepare(proto)
