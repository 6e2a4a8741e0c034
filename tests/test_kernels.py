"""Micro-kernels: tiles of every number of rows and of column pairs give the same bits."""

from __future__ import annotations

from dataclasses import replace

import pytest

import reference_recurrent as rec
from lstm_native import _core
from native_support import Array, RecurrentCase, assert_bits, indexed, recurrent_case


def row_results(case: RecurrentCase) -> dict[str, Array]:
    """What belongs to single rows: outputs, the last state, and the gradients of inputs and initial state."""
    weights = case.weights()
    output, h, _, saved = case.forward(weights, training=True)
    gradients = case.backward(weights, saved)
    results = {"output": output, "h": h, "inputs": gradients["inputs"], "h0": gradients["h0"]}
    return {name: value for name, value in results.items() if value is not None}


# Numbers of column pairs that leave each remainder after tiles of four, three and two.
@pytest.mark.parametrize("units", [8, 31, 70, 100, 129])
@pytest.mark.parametrize("cell", rec.CELLS)
def test_every_number_of_rows(isa: str, cell: str, units: int) -> None:
    most = 13  # one more than the tallest tile
    case = recurrent_case(21, most, 3, 9, units, mask="holes", reset=True, cell=cell)
    whole = row_results(case)
    for rows in range(1, most):
        for first in {0, most - rows}:
            pick = list(range(first, first + rows))
            for name, value in row_results(case.rows(pick)).items():
                assert_bits(value, whole[name][pick], f"{_core.isa()} {cell} rows {pick}: {name}")


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
@pytest.mark.parametrize("cell", rec.CELLS)
def test_chains_that_start_from_given_rows(isa: str, cell: str, rows: int) -> None:
    """Steps of indexed inputs start from projected rows, the others from gates in place: the same sums."""
    case = indexed(recurrent_case(22, rows, 5, 9, 100, cell=cell), 7)
    plain = replace(case, table=None, index=None)
    output, h, _, _ = case.forward(case.weights())
    expected, expected_h, _, _ = plain.forward(plain.weights())
    assert_bits(output, expected, f"{_core.isa()} {cell}")
    assert_bits(h, expected_h, f"{_core.isa()} {cell}")


@pytest.mark.parametrize("cell", rec.CELLS)
def test_single_steps(isa: str, cell: str) -> None:
    """A call of one step projects the rows of that step, a whole sequence those of many steps at once."""
    case = recurrent_case(23, 2, 6, 70, 100, cell=cell)
    whole = case.forward(case.weights())[0]
    h, c = case.h0, case.c0
    for t in range(6):
        step = replace(case, x=case.x[:, t : t + 1], h0=h, c0=c)
        output, h, c, _ = step.forward(step.weights())
        assert_bits(output[:, 0], whole[:, t], f"{_core.isa()} {cell} step {t}")
