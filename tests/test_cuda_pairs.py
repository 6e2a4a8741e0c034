"""Two recurrent calls that are alike in one launch of the CUDA backend, as the directions of a bidirectional
layer are; without a GPU the same kernels run on the host."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

import lstm_native as ln
from lstm_native import _core, cuda
from native_support import GRADIENTS, RecurrentCase, optional_tensor, recurrent_case, tensor, varied_case
from test_cuda_backend import OnDevice
from test_cuda_plans import AUTO, BLOCKS, GRID, ROUNDING, STEPS, relative
from test_recurrent_native import assert_forward, assert_gradients

pytestmark = pytest.mark.usefixtures("cuda_device", "cuda_settings")


@dataclass(frozen=True, repr=False)
class Together(OnDevice):
    """A call that runs beside another, before it or behind it."""

    other: OnDevice | None = None
    behind: bool = False

    def forward(self, weights: _core.RecurrentWeights, training: bool = False) -> Any:
        assert self.other is not None
        both = [(self, weights), (self.other, self.other.weights())]
        calls = [arguments(case, own, training) for case, own in (both[::-1] if self.behind else both)]
        results = _core.recurrent_forward_together(calls, False)
        output, h, c, saved = results[self.behind]
        kept = (both[1][1], saved, results[not self.behind][3]) if training else None
        return output.numpy(), h.numpy(), None if c is None else c.numpy(), kept

    def backward(
        self,
        weights: _core.RecurrentWeights,
        saved: Any,
        need_d_inputs: bool = True,
        need_d_initial: bool = True,
    ) -> Any:
        assert self.other is not None
        other_weights, mine, others = saved
        calls = [
            (own, kept, *(optional_tensor(d) for d in (case.d_output, case.d_h, case.d_c)), True, True)
            for case, own, kept in ((self, weights, mine), (self.other, other_weights, others))
        ]
        results = _core.recurrent_backward_together(calls[::-1] if self.behind else calls)
        gradients = (None if d is None else d.numpy() for d in results[self.behind])
        return dict(zip(GRADIENTS, gradients, strict=False))


def arguments(case: RecurrentCase, weights: _core.RecurrentWeights, training: bool) -> Any:
    return (
        weights,
        tensor(case.x if case.table is None else case.table),
        optional_tensor(case.mask, "bool"),
        optional_tensor(case.reset, "bool"),
        optional_tensor(case.h0),
        optional_tensor(case.c0),
        case.return_sequences,
        case.go_backwards,
        case.zero_output_for_mask,
        training,
        optional_tensor(case.index, "int32"),
        case.checkpoint_steps,
        optional_tensor(case.recurrent_mask),
        False,
    )


def assert_together(first: RecurrentCase, second: RecurrentCase) -> None:
    for case, other, behind in ((first, second, False), (second, first, True)):
        both = Together(**vars(case), other=OnDevice(**vars(other)), behind=behind)
        trace = both.reference()
        weights = both.weights()
        saved = assert_forward(both, trace, weights)
        assert_gradients(both, both.backward(weights, saved), both.reference_gradients(trace))


def directions(
    seed: int, batch: int, time: int, inputs: int, units: int, **others: Any
) -> list[RecurrentCase]:
    """Two calls of the same sizes with other numbers, the second from the end to the begin."""
    first = recurrent_case(seed, batch, time, inputs, units, **others)
    return [
        first,
        replace(recurrent_case(seed + 100, batch, time, inputs, units, **others), go_backwards=True),
    ]


@pytest.mark.parametrize("plan", [AUTO, BLOCKS, GRID])
@pytest.mark.parametrize(("batch", "units"), [(1, 64), (3, 100), (9, 30), (17, 7), (2, 150)])
def test_lstm(plan: int, batch: int, units: int) -> None:
    """Blocks with 1, 2 and 4 rows, grids; the last block unfilled; too many rows for blocks together."""
    _core.cuda_set_plan(plan)
    assert_together(*directions(units, batch, 4, 5, units))


@pytest.mark.parametrize(
    ("cell", "plan", "batch", "units", "others"),
    [
        ("lstm", 8, 3, 70, {}),
        ("lstm", 64, 17, 140, {"mask": "holes"}),
        ("gru", 16, 9, 40, {}),
        ("gru", 64, 3, 129, {"mask": "right", "initial": False}),
        ("simple_rnn", 32, 9, 150, {}),
        ("simple_rnn", 128, 17, 40, {"activation": "relu", "reset": True}),
    ],
)
def test_grids(cell: str, plan: int, batch: int, units: int, others: dict[str, Any]) -> None:
    _core.cuda_set_plan(plan)
    assert_together(*directions(units, batch, 4, 5, units, cell=cell, **others))


@pytest.mark.parametrize("cell", ["lstm", "gru", "simple_rnn"])
@pytest.mark.parametrize("seed", range(12))
def test_with_all_that_a_call_may_have(cell: str, seed: int) -> None:
    """The second without what the first may have: masks, resets, initial states, the last output alone."""
    first = varied_case(cell, seed, (12, 9, 9, 60))
    batch, time, inputs = first.x.shape
    plain = recurrent_case(seed + 50, batch, time, inputs, len(first.recurrent), cell=cell)
    _core.cuda_set_plan((GRID, 32)[seed % 2])
    assert_together(first, replace(plain, go_backwards=seed % 2 == 0))


def test_weights_that_blocks_do_not_hold() -> None:
    """Each call has a place of its own for the part that is read from global memory in every step."""
    _core.cuda_set_plan(64)
    assert_together(*directions(0, 5, 3, 3, 520))


def test_other_sizes_run_one_after_the_other() -> None:
    for plan in (AUTO, BLOCKS, GRID, STEPS):
        _core.cuda_set_plan(plan)
        first = recurrent_case(0, 3, 4, 5, 40)
        assert_together(first, recurrent_case(1, 3, 4, 5, 41))
        assert_together(first, recurrent_case(1, 2, 4, 5, 40))
        assert_together(first, recurrent_case(1, 3, 5, 5, 40))
        assert_together(first, recurrent_case(1, 3, 4, 5, 40, cell="gru"))
        assert_together(first, recurrent_case(1, 3, 4, 5, 40, activation="relu"))


def test_other_inputs_share_a_launch() -> None:
    _core.cuda_set_plan(GRID)
    assert_together(recurrent_case(0, 3, 4, 5, 40), recurrent_case(1, 3, 4, 8, 40))


@pytest.mark.parametrize("precision", list(ROUNDING))
@pytest.mark.parametrize("cell", ["lstm", "gru", "simple_rnn"])
def test_tensor_cores(cell: str, precision: str) -> None:
    first, second = directions(0, 9, 4, 5, 70, cell=cell)
    both = Together(**vars(first), other=OnDevice(**vars(second)))
    trace = both.reference()
    expected = both.reference_gradients(trace)
    cuda.set_precision(precision)
    _core.cuda_set_plan(32)
    weights = both.weights()
    training = precision != "float16"  # which is for inference
    output, _, _, saved = both.forward(weights, training)
    assert 1e-6 < relative(output, trace.output) < ROUNDING[precision]
    if training:
        for name, got in both.backward(weights, saved).items():
            if expected[name] is not None:
                assert 1e-6 < relative(got, expected[name]) < ROUNDING[precision], name


def test_repeats_bit_for_bit() -> None:
    for cell, plan in (("lstm", BLOCKS), ("lstm", 8), ("gru", 32), ("simple_rnn", 64)):
        _core.cuda_set_plan(plan)
        first, second = directions(0, 5, 6, 4, 70, cell=cell)
        both = Together(**vars(first), other=OnDevice(**vars(second)))
        one, two = both.gradients(), both.gradients()
        for name, gradient in one.items():
            assert np.array_equal(gradient, two[name]), name  # type: ignore[arg-type]


@pytest.mark.parametrize("plan", [BLOCKS, GRID])
def test_bidirectional_layers_train(plan: int) -> None:
    """A layer with both directions against the same one on the CPU."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 5, 3)).astype(np.float32), rng.normal(size=(6, 2)).astype(np.float32)

    def trained(where: str) -> list[Any]:
        model = ln.Sequential(
            [
                ln.Input((5, 3)),
                ln.layers.Bidirectional(ln.layers.LSTM(20, return_sequences=True)),
                ln.layers.Bidirectional(ln.layers.LSTM(9)),
                ln.layers.Dense(2),
            ]
        )
        weights = np.random.default_rng(1)
        model.set_weights([weights.normal(0.0, 0.3, w.shape) for w in model.get_weights()])
        model.compile(optimizer=ln.optimizers.SGD(0.1), loss="mse")
        model.to(where)
        model.fit(x, y, epochs=3, batch_size=6, shuffle=False, verbose=0)
        return list(model.get_weights())

    _core.cuda_set_plan(plan)
    for mine, expected in zip(trained("cuda"), trained("cpu"), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=0, atol=1e-5)


def test_explain() -> None:
    _core.cuda_set_plan(GRID)
    text = cuda.explain(3, 10, 70, bidirectional=True)
    assert text.startswith("forward of two calls together: all steps in one launch of ")
    assert "; backward of two calls together: all steps in one launch of " in text
    _core.cuda_set_plan(STEPS)
    text = cuda.explain(3, 10, 70, "gru", bidirectional=True)
    assert text.startswith("one call after the other, forward: step by step")
    assert "; one call after the other, backward: step by step" in text
