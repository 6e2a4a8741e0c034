"""The native LSTM against the yardstick: every instruction set, random shapes, every flag, all gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import reference as ref
import reference_recurrent as rec
from lstm_native import _core
from native_support import (
    MASKS,
    UNIT_ROUNDOFF,
    Array,
    RecurrentCase,
    assert_bits,
    indexed,
    recurrent_case,
    recurrent_masked,
    using_isa,
)

# Forward, in units of float32 roundoff u = 6e-8. A pre-activation sums K <= 390 products, partial sums stay
# around 1: a random walk of sqrt(K) u / 2 = 10 u. Gates pass a quarter of it on, the candidate at most all of
# it, halved by the input gate; with 4 ULP of the activations a step adds 5 u to c. A forget gate around 0.75
# makes a geometric sum of factor 4 of that, and o tanh'(c) < 0.5 halves it: 10 u = 6e-7 in an output, here
# already an extreme one (8e-7 was measured). 2e-6 leaves a factor for other seeds and processors. A GRU's
# candidate is not halved again, and enters with (1 - z): twice that. A simple RNN has no gate: 10 u (22 u for
# 2000 inputs) reach h, and the recurrence, which shrinks a difference by about 0.6 a step, sums up 25 to 55.
FORWARD_TOLERANCE = {"lstm": 2e-6, "gru": 4e-6, "gru_before": 4e-6, "simple_rnn": 7e-6}
# A gradient's relative norm: back through time each step multiplies by factors that are right to about 20 u
# and the sums over B T <= 2400 rows are random walks of sqrt(2400) u = 50 u; 2e-5 is 330 u.
GRADIENT_TOLERANCE = 2e-5


def cancellation_floor(case: RecurrentCase) -> float:
    """What is left where a gradient cancels: a few u of each term, as large as the gradient that came in; and
    of sums over n = B T rows, whose partial sums of rms sqrt(k) are rounded at each step k, u n / sqrt(6)."""
    given = (d for d in (case.d_output, case.d_h, case.d_c) if d is not None)
    upstream = float(np.sqrt(sum(np.sum(np.square(d)) for d in given)))
    rows = case.x.shape[0] * case.x.shape[1]
    return (4.0 + np.sqrt(rows / 6.0)) * UNIT_ROUNDOFF * upstream


def assert_forward(case: RecurrentCase, trace: rec.RecurrentTrace, weights: _core.RecurrentWeights) -> Any:
    """Compares a training call with the yardstick and with the inference call; returns what it saved."""
    inference = case.forward(weights)
    training = case.forward(weights, training=True)
    assert inference[3] is None
    for name, got, same, expected in zip(
        ("output", "h", "c"), inference, training, (trace.output, trace.h, trace.c), strict=False
    ):
        if case.cell != "lstm" and name == "c":
            assert got is same is None
            continue
        assert got is not None
        assert got.shape == expected.shape, name
        # Cell states are sums and outgrow 1; their error grows with them.
        bound = FORWARD_TOLERANCE[case.cell] * max(1.0, float(np.abs(expected).max(initial=0.0)))
        error = float(np.abs(got - expected).max(initial=0.0))
        assert error <= bound, f"{_core.isa()} {name}: error {error:.2e} > {bound:.2e}"
        assert_bits(same, got, f"{_core.isa()} {name} of training and of inference")
    return training[3]


def assert_gradients(
    case: RecurrentCase, got: dict[str, Array | None], expected: dict[str, Array | None]
) -> None:
    for name, reference_value in expected.items():
        value = got[name]
        if reference_value is None:
            assert value is None, name
            continue
        assert value is not None, name
        assert value.shape == reference_value.shape, name
        norm = float(np.linalg.norm(reference_value))
        error = float(np.linalg.norm(value - reference_value))
        bound = GRADIENT_TOLERANCE * norm + cancellation_floor(case)
        assert error <= bound, f"{_core.isa()} gradient of {name}: error {error:.2e}, norm {norm:.2e}"


def check(case: RecurrentCase) -> None:
    """One case on every instruction set, forward and backward."""
    trace = case.reference()
    gradients = case.reference_gradients(trace)
    for name in _core.available_isas():
        with using_isa(name):
            weights = case.weights()
            saved = assert_forward(case, trace, weights)
            assert_gradients(case, case.backward(weights, saved), gradients)


@st.composite
def cases(draw: st.DrawFn) -> RecurrentCase:
    case = recurrent_case(
        draw(st.integers(0, 2**32 - 1)),
        draw(st.integers(1, 40)),
        draw(st.integers(1, 60)),
        draw(st.integers(1, 130)),
        draw(st.integers(1, 260)),
        mask=draw(st.sampled_from(MASKS)),
        reset=draw(st.booleans()),
        initial=draw(st.booleans()),
        use_bias=draw(st.booleans()),
        return_sequences=draw(st.booleans()),
        go_backwards=draw(st.booleans()),
        zero_output_for_mask=draw(st.booleans()),
        cell=draw(st.sampled_from(list(rec.CELLS))),
    )
    if draw(st.booleans()):
        case = recurrent_masked(case)
    kind = draw(st.sampled_from(["plain", "indexed", "checkpoints"]))
    if kind == "indexed":
        return indexed(case, draw(st.integers(1, 300)))
    if kind == "checkpoints":
        return replace(case, checkpoint_steps=draw(st.integers(1, 20)))
    return case


@hypothesis.settings(max_examples=30)
@hypothesis.given(cases())
def test_random_cases(case: RecurrentCase) -> None:
    check(case)


@pytest.mark.long
@hypothesis.settings(max_examples=300)
@hypothesis.given(cases())
def test_many_random_cases(case: RecurrentCase) -> None:
    check(case)


EXTREMES = [
    (40, 60, 130, 260),
    (1, 60, 1, 260),
    (40, 60, 130, 1),
    (1, 1, 1, 1),
    (300, 2, 3, 17),
    (3, 700, 5, 20),
    (2, 4, 70, 1030),
    (2, 3, 2000, 20),
]


@pytest.mark.parametrize("cell", rec.CELLS)
@pytest.mark.parametrize("shape", EXTREMES)
def test_extreme_shapes(shape: tuple[int, int, int, int], cell: str) -> None:
    check(recurrent_case(11, *shape, reset=True, mask="holes", cell=cell))


@pytest.mark.parametrize("cell", rec.CELLS)
@pytest.mark.parametrize("shape", EXTREMES)
def test_extreme_shapes_indexed(shape: tuple[int, int, int, int], cell: str) -> None:
    check(indexed(recurrent_case(12, *shape, reset=True, mask="holes", cell=cell), 150))


@pytest.mark.parametrize("cell", rec.CELLS)
@pytest.mark.parametrize("shape", EXTREMES)
def test_extreme_shapes_with_checkpoints(shape: tuple[int, int, int, int], cell: str) -> None:
    case = recurrent_case(13, *shape, reset=True, mask="holes", cell=cell)
    check(replace(case, checkpoint_steps=max(1, shape[1] // 3)))


@pytest.mark.parametrize("cell", rec.CELLS)
@pytest.mark.parametrize("shape", EXTREMES)
def test_extreme_shapes_with_a_recurrent_mask(shape: tuple[int, int, int, int], cell: str) -> None:
    check(recurrent_masked(recurrent_case(14, *shape, reset=True, mask="holes", cell=cell)))


@pytest.mark.parametrize("cell", rec.CELLS)
@pytest.mark.parametrize("units", range(1, 70))
def test_every_tail(units: int, cell: str) -> None:
    """All remainders of units, batch and inputs by the vector and tile sizes (1 to 16)."""
    check(recurrent_case(units, 1 + units % 27, 3, 1 + units * 7 % 33, units, cell=cell))


@pytest.mark.parametrize("cell", rec.CELLS)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("return_sequences", [True, False])
@pytest.mark.parametrize("zero_output", [True, False])
@pytest.mark.parametrize("go_backwards", [True, False])
@pytest.mark.parametrize("reset", [True, False])
def test_flags(
    mask: str, return_sequences: bool, zero_output: bool, go_backwards: bool, reset: bool, cell: str
) -> None:
    for initial, use_bias in ((True, True), (False, True), (True, False)):
        check(
            recurrent_case(
                21,
                9,
                8,
                5,
                19,
                mask=mask,
                reset=reset,
                initial=initial,
                use_bias=use_bias,
                return_sequences=return_sequences,
                go_backwards=go_backwards,
                zero_output_for_mask=zero_output,
                cell=cell,
            )
        )


@pytest.mark.parametrize("time", [5, 1])
def test_all_steps_masked(isa: str, time: int) -> None:
    """The state passes through untouched, the output is zero, no weight gets a gradient."""
    case = replace(recurrent_case(23, 6, time, 4, 10), mask=np.zeros((6, time), bool))
    weights = case.weights()
    output, h, c, saved = case.forward(weights, training=True)
    np.testing.assert_array_equal(output, 0.0)
    assert case.h0 is not None
    assert case.c0 is not None
    assert_bits(h, case.h0)
    assert_bits(c, case.c0)
    gradients = case.backward(weights, saved)
    for name in ("inputs", "kernel", "recurrent", "bias"):
        np.testing.assert_array_equal(gradients[name], 0.0, err_msg=name)
    np.testing.assert_array_equal(gradients["h0"], case.d_h)
    np.testing.assert_array_equal(gradients["c0"], case.d_c)


@pytest.mark.parametrize("given_gradients", ["d_output", "d_h", "d_c"])
@pytest.mark.parametrize("return_sequences", [True, False])
def test_one_upstream_gradient(given_gradients: str, return_sequences: bool) -> None:
    case = recurrent_case(24, 5, 6, 4, 18, mask="holes", return_sequences=return_sequences)
    absent = {name: None for name in ("d_output", "d_h", "d_c") if name != given_gradients}
    check(replace(case, **absent))


ELEMENTWISE = [*ref.ELEMENTWISE, *ref.ALIASES]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_activations(name: str) -> None:
    """Each in both roles. Small weights and few steps: unbounded ones grow as fast as e^e^x otherwise."""
    shape = (5, 2, 4, 7) if name == "exponential" else (7, 5, 4, 19)
    for roles in ({"activation": name}, {"recurrent_activation": name}):
        check(recurrent_case(26, *shape, mask="holes", weight_scale=0.4, **roles))


@pytest.mark.parametrize("given_state", ["h0", "c0"])
def test_one_initial_state(given_state: str) -> None:
    case = recurrent_case(38, 5, 6, 4, 18, mask="holes", reset=True)
    check(replace(case, h0=None) if given_state == "c0" else replace(case, c0=None))
