"""Recurrent calls of the CUDA backend in every way that they can run (csrc/cuda/planner.h): step by step, in
blocks of their own, in grids of blocks that wait for each other. Without a GPU the same kernels run on the
host."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_native import _core, cuda
from native_support import RecurrentCase, recurrent_case, varied_case
from test_cuda_backend import OnDevice
from test_recurrent_native import assert_forward, assert_gradients

AUTO, STEPS, BLOCKS, GRID = range(4)  # LnPlan; from 8 on a grid with so many units a block
UNITS = (8, 16, 32, 64)  # of a SimpleRNN, which has one gate, 32, 64 and 128
WAYS = (256, 512, 768)  # added: blocks wait for each other at meetings, for marks, for those of a cluster


pytestmark = pytest.mark.usefixtures("cuda_device", "cuda_settings")


def on_device(case: RecurrentCase) -> OnDevice:
    return OnDevice(**vars(case))


def assert_case(case: OnDevice) -> None:
    trace = case.reference()
    weights = case.weights()
    saved = assert_forward(case, trace, weights)
    assert_gradients(case, case.backward(weights, saved), case.reference_gradients(trace))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("plan", UNITS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("batch", "units"), [(1, 64), (3, 129), (17, 40), (9, 7), (2, 150)])
def test_grids(cell: str, plan: int, way: int, batch: int, units: int) -> None:
    """Slices of the batch of several sizes, the last unfilled; units that fill no block; weights that
    registers do not hold (few warps share a sum where a block has many units)."""
    _core.cuda_set_plan(plan + way)
    assert_case(on_device(recurrent_case(units, batch, 4, 5, units, cell=cell)))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("seed", range(24))
def test_grids_with_all_that_a_call_may_have(cell: str, seed: int) -> None:
    case = varied_case(cell, seed, (12, 9, 9, 80))
    _core.cuda_set_plan(UNITS[seed % 4] + WAYS[seed % 3])
    assert_case(on_device(case))


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("plan", [32, 64, 128])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("batch", "units"), [(1, 64), (17, 140), (9, 7), (2, 300)])
def test_grids_of_a_simple_rnn(activation: str, plan: int, way: int, batch: int, units: int) -> None:
    _core.cuda_set_plan(plan + way)
    assert_case(
        on_device(recurrent_case(units, batch, 4, 5, units, cell="simple_rnn", activation=activation))
    )


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("seed", range(16))
def test_grids_of_a_simple_rnn_with_all_that_a_call_may_have(activation: str, seed: int) -> None:
    case = varied_case("simple_rnn", seed, (12, 9, 9, 150), activation=activation)
    _core.cuda_set_plan((32, 64, 128)[seed % 3] + WAYS[seed % 2 + 1])
    assert_case(on_device(case))


def test_relu_in_another_way_back() -> None:
    """Forward in a grid, backward step by step: both keep the same of a step."""
    case = on_device(recurrent_case(0, 3, 4, 5, 40, cell="simple_rnn", activation="relu"))
    trace = case.reference()
    weights = case.weights()
    _core.cuda_set_plan(GRID)
    saved = assert_forward(case, trace, weights)
    _core.cuda_set_plan(STEPS)
    assert_gradients(case, case.backward(weights, saved), case.reference_gradients(trace))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_weights_that_blocks_do_not_hold(cell: str) -> None:
    """Many units in few blocks: a part of the recurrent kernel is read from global memory in every step."""
    for way in WAYS:
        _core.cuda_set_plan(64 + way)
        assert_case(on_device(recurrent_case(0, 5, 3, 3, 520, cell=cell)))


def test_large_batches_pass_by_in_parts() -> None:
    """More rows than fit shared memory at once; one row more than a whole number of tiles."""
    _core.cuda_set_plan(64)
    assert_case(on_device(recurrent_case(0, 193, 2, 3, 300, mask="holes")))


# Relative norms that rounding of elements to 11 and to 8 bits leaves of some steps, times a few.
ROUNDING = {"tf32": 3e-3, "bfloat16": 2e-2, "float16": 3e-3}


@pytest.mark.parametrize("precision", list(ROUNDING))
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("cell", "batch", "units", "plan"),
    [
        (cell, batch, units, plan)
        for cell in ("lstm", "gru")
        for batch, units, plan in ((30, 20, 8), (27, 50, 16), (17, 129, 32), (33, 150, 64))
    ]
    + [("simple_rnn", 40, 50, 32), ("simple_rnn", 17, 129, 64), ("simple_rnn", 40, 200, 128)],
)
def test_tensor_cores(cell: str, batch: int, units: int, plan: int, way: int, precision: str) -> None:
    """Elements are rounded, sums stay float32: as step by step but for the order of the sums."""
    case = on_device(recurrent_case(batch, batch, 4, 5, units, cell=cell, mask="holes"))
    trace = case.reference()
    expected = case.reference_gradients(trace)
    cuda.set_precision(precision)
    results = []
    for chosen in (plan + way, STEPS):
        _core.cuda_set_plan(chosen)
        output, *_ = case.forward(case.weights())
        gradients = {} if precision == "float16" else case.gradients()  # for inference only
        results.append({"output": output} | gradients)
    for name, got in results[0].items():
        if got is not None:
            exact = trace.output if name == "output" else expected[name]
            assert 1e-6 < relative(got, exact) < ROUNDING[precision], name
            if cuda.device_name() == "host":  # cuBLASLt may round the other way
                assert relative(got, results[1][name]) < 0.5 * relative(got, exact), name


@pytest.mark.parametrize(("precision", "low", "high"), [("tf32", 0.0, 1e-6), ("bfloat16", 1e-5, 2e-2)])
@pytest.mark.parametrize("batch", [1, 2])
def test_few_rows(batch: int, precision: str, low: float, high: float) -> None:
    """With TF32 they are not worth tensor cores, so h is not rounded: all that is, where inputs are zero."""
    case = on_device(recurrent_case(batch, batch, 4, 5, 40))
    case.x[:] = 0.0
    trace = case.reference()
    cuda.set_precision(precision)
    _core.cuda_set_plan(16)
    output, *_ = case.forward(case.weights())
    assert low <= relative(output, trace.output) < high


@pytest.mark.parametrize("precision", ["float32", *ROUNDING])
@pytest.mark.parametrize("way", WAYS)
def test_what_is_no_number_goes_on_from_step_to_step(way: int, precision: str) -> None:
    """No bits of a number are taken for the mark of a step."""
    case = on_device(recurrent_case(0, 5, 6, 4, 70))
    case.x[0, 2] = np.nan
    case.x[1, 3] = np.inf
    case.h0[2] = -np.nan  # type: ignore[index]
    cuda.set_precision(precision)
    found = []
    for plan in (8 + way, STEPS):
        _core.cuda_set_plan(plan)
        output, *_ = case.forward(case.weights())
        found.append(np.isnan(output))
    assert np.array_equal(*found)
    assert 0 < found[0].sum() < found[0].size


@pytest.mark.parametrize(
    ("precision", "steps"), [("tf32", 4200), pytest.param("bfloat16", 33000, marks=pytest.mark.long)]
)
@pytest.mark.parametrize("way", WAYS[1:])
def test_marks_repeat_after_many_steps(way: int, precision: str, steps: int) -> None:
    case = on_device(recurrent_case(0, 3, steps, 2, 9))
    cuda.set_precision(precision)
    outputs = []
    for plan in (8 + way, 8 + WAYS[0]):
        _core.cuda_set_plan(plan)
        outputs.append(case.forward(case.weights())[0])
    assert np.array_equal(*outputs)


def relative(got: Any, expected: Any) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def test_a_plan_that_cannot_be_is_step_by_step() -> None:
    """Activations that no such kernel has, cells that have none, more units than blocks can own."""
    _core.cuda_set_plan(8)
    assert_case(on_device(recurrent_case(0, 2, 3, 4, 9, activation="relu")))
    assert_case(on_device(recurrent_case(0, 2, 3, 4, 9, cell="gru_before")))
    assert_case(on_device(recurrent_case(0, 2, 3, 4, 9, cell="simple_rnn")))  # too few units a block
    assert_case(on_device(recurrent_case(0, 2, 2, 3, 8 * 24 + 1)))


def test_repeats_bit_for_bit() -> None:
    lstm = [("lstm", units + way) for units in UNITS for way in WAYS]
    for cell, plan in [*lstm, ("gru", 16), ("simple_rnn", 32)]:
        case = on_device(recurrent_case(0, 5, 6, 4, 70, cell=cell))
        _core.cuda_set_plan(plan)
        first, second = case.gradients(), case.gradients()
        for name, gradient in first.items():
            assert np.array_equal(gradient, second[name]), name  # type: ignore[arg-type]


def test_explain() -> None:
    waits = ("wait for each other after every step", "wait for each other's numbers", "clusters that write")
    for way, said in zip(WAYS, waits, strict=True):
        _core.cuda_set_plan(GRID + way)
        assert cuda.explain(3, 10, 70).count(said) == 2
    _core.cuda_set_plan(GRID)
    text = cuda.explain(3, 10, 70)
    assert text.startswith("forward: all steps in one launch of ")
    assert "; backward: all steps in one launch of " in text
    assert cuda.explain(3, 10, 70, "simple_rnn").startswith("forward: all steps in one launch of ")
    assert cuda.explain(3, 10, 70, "gru_before").startswith("forward: step by step")
    with pytest.raises(ValueError, match="units is 0, expected 1 to"):
        cuda.explain(1, 1, 0)
    with pytest.raises(ValueError, match="cell is 'rnn', expected 'lstm', 'gru', 'gru"):
        cuda.explain(1, 1, 1, "rnn")
