"""Same bits for every number of threads, and for a row computed alone or inside any batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import reference_recurrent as rec
from lstm_native import _core
from native_support import (
    Array,
    RecurrentCase,
    assert_bits,
    f32,
    indexed,
    recurrent_case,
    recurrent_masked,
    tensor,
    using_isa,
    variable,
)

THREADS = (1, 2, 3, 4, 7)
SetThreads = Callable[[int], None]

# (B, T, I, H): each way of splitting work that the design names, and odd sizes between.
SHAPES = [
    (1, 40, 64, 128),
    (1, 20, 300, 260),
    (8, 30, 64, 128),
    (17, 10, 33, 65),
    (32, 20, 64, 64),
    (40, 12, 130, 260),
    (130, 5, 16, 16),
    (64, 3, 8, 512),
]


def same_for_all_threads(threads: SetThreads, compute: Callable[[], dict[str, Array]]) -> None:
    threads(1)
    expected = {name: value.copy() for name, value in compute().items()}
    _core.set_patient(True)  # a team would start without members that the system is slow to schedule
    try:
        for count in THREADS[1:]:
            threads(count)
            for name, value in compute().items():
                assert_bits(value, expected[name], f"{_core.isa()} {count} threads: {name}")
    finally:
        _core.set_patient(False)


def everything(case: RecurrentCase) -> dict[str, Array]:
    weights = case.weights()
    output, h, c, saved = case.forward(weights, training=True)
    gradients = {name: value for name, value in case.backward(weights, saved).items() if value is not None}
    states = {"h": h} if c is None else {"h": h, "c": c}
    return {"output": output, **states, **gradients}


@pytest.mark.parametrize("cell", rec.CELLS)
@pytest.mark.parametrize("shape", SHAPES)
def test_recurrent_threads(
    isa: str, threads: SetThreads, shape: tuple[int, int, int, int], cell: str
) -> None:
    case = recurrent_case(1, *shape, mask="holes", reset=True, cell=cell)
    same_for_all_threads(threads, lambda: everything(case))
    same_for_all_threads(threads, lambda: everything(indexed(case, 100)))
    same_for_all_threads(threads, lambda: everything(replace(case, checkpoint_steps=4)))
    same_for_all_threads(threads, lambda: everything(recurrent_masked(case)))


@pytest.mark.parametrize("shape", [(32, 20, 64, 64), (3, 9, 20, 50)])
def test_recurrent_threads_without_a_mask(
    isa: str, threads: SetThreads, shape: tuple[int, int, int, int]
) -> None:
    case = recurrent_case(2, *shape, initial=False, return_sequences=False)
    same_for_all_threads(threads, lambda: everything(case))


@pytest.mark.long
@hypothesis.settings(max_examples=60)
@hypothesis.given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 140),
    st.integers(1, 30),
    st.integers(1, 130),
    st.integers(1, 260),
)
def test_recurrent_threads_random(seed: int, batch: int, time: int, inputs: int, units: int) -> None:
    case = recurrent_case(seed, batch, time, inputs, units, mask="holes", reset=True)
    before = _core.get_num_threads()
    try:
        for name in _core.available_isas():
            with using_isa(name):
                same_for_all_threads(_core.set_num_threads, lambda: everything(case))
    finally:
        _core.set_num_threads(before)


@pytest.mark.parametrize(
    "shape", [(3, 4, 5), (200, 128, 130), (700, 64, 300), (1, 2000, 2000), (2000, 64, 1)]
)
def test_dense_threads(isa: str, threads: SetThreads, shape: tuple[int, int, int]) -> None:
    rows, inputs, units = shape
    rng = np.random.default_rng(3)
    x, d_y = f32(rng.normal(size=(rows, inputs))), f32(rng.normal(size=(rows, units)))
    kernel, bias = f32(rng.normal(size=(inputs, units))), f32(rng.normal(size=units))

    def compute() -> dict[str, Array]:
        weights = _core.DenseWeights(variable(kernel), variable(bias))
        d_x, d_kernel, d_bias = _core.dense_backward(weights, tensor(x), tensor(d_y), True)
        assert d_x is not None
        assert d_bias is not None
        y = _core.dense_forward(weights, tensor(x))
        return {"y": y.numpy(), "d_x": d_x.numpy(), "d_kernel": d_kernel.numpy(), "d_bias": d_bias.numpy()}

    same_for_all_threads(threads, compute)


def test_elementwise_threads(isa: str, threads: SetThreads) -> None:
    """Embedding, activations, losses, optimizer steps and norms of arrays large enough to be split."""
    rng = np.random.default_rng(4)
    ids = rng.integers(0, 3000, size=(64, 100)).astype(np.int32)
    table, d_rows = f32(rng.normal(size=(3000, 65))), f32(rng.normal(size=(64, 100, 65)))
    x, d_y = f32(rng.normal(size=(999, 333))), f32(rng.normal(size=(999, 333)))
    classes = rng.integers(0, 333, size=999).astype(np.int32)

    def compute() -> dict[str, Array]:
        results: dict[str, _core.Tensor | None] = {
            "embedding": _core.embedding_forward(variable(table), tensor(ids, "int32")),
            "table": _core.embedding_backward(tensor(ids, "int32"), tensor(d_rows), 3000),
        }
        for name in ("tanh", "sigmoid", "softmax", "gelu"):
            results[name] = y = _core.activation_forward(name, tensor(x))
            results[f"d_{name}"] = _core.activation_backward(name, tensor(x), y, tensor(d_y))
        rows, gradient = _core.loss(
            "sparse_categorical_crossentropy", tensor(classes, "int32"), tensor(x), None, True, 0.0, True
        )
        results |= {"rows": rows, "gradient": gradient}
        rows, gradient = _core.loss("mean_squared_error", tensor(d_y), tensor(x), None, False, 0.0, True)
        results |= {"mse": rows, "d_mse": gradient}
        w, m, v = variable(x), variable(np.zeros(x.shape)), variable(np.zeros(x.shape))
        _core.adam_step([w], [tensor(d_y)], [m], [v], None, 0.01, 0.9, 0.999, 1e-7, [0.1])
        _core.sgd_step([w], [tensor(d_y)], [m], 0.01, 0.9, True, None)
        arrays = {name: value.numpy() for name, value in results.items() if value is not None}
        norm = np.array(_core.squared_norms([tensor(x)]))
        return {**arrays, "w": w.numpy(), "m": m.numpy(), "v": v.numpy(), "norm": norm}

    same_for_all_threads(threads, compute)


# --- a row does not depend on its company ------------------------------------------------------------


def row_results(case: RecurrentCase) -> dict[str, Array]:
    """What belongs to single rows: the states, the outputs, the gradients of inputs and of initial states."""
    results = everything(case)
    return {name: results[name] for name in ("output", "h", "c", "inputs", "h0", "c0")}


def check_rows(case: RecurrentCase, picks: list[list[int]]) -> None:
    whole = row_results(case)
    for pick in picks:
        for name, value in row_results(case.rows(pick)).items():
            assert_bits(value, whole[name][pick], f"{_core.isa()} rows {pick}: {name}")


@pytest.mark.parametrize("units", [1, 7, 16, 33, 64, 128])
@pytest.mark.parametrize("mask", ["none", "holes"])
def test_rows_of_a_batch(isa: str, units: int, mask: str) -> None:
    batch = 29
    case = recurrent_case(5, batch, 7, 10, units, mask=mask, reset=mask != "none")
    rng = np.random.default_rng(6)
    alone = [[row] for row in range(batch)]
    groups = [sorted(rng.choice(batch, size=size, replace=False).tolist()) for size in range(2, batch)]
    check_rows(case, alone + groups)


@pytest.mark.parametrize("shape", [(70, 6, 64, 128), (33, 4, 20, 260)])
def test_rows_of_a_large_batch(isa: str, threads: SetThreads, shape: tuple[int, int, int, int]) -> None:
    """Batches whose sizes are split over threads in other ways."""
    case = recurrent_case(7, *shape)
    threads(3)
    check_rows(case, [[0], [shape[0] - 1], [5], list(range(8)), list(range(3, 20)), list(range(1, shape[0]))])


def test_order_of_rows_does_not_matter(isa: str) -> None:
    case = recurrent_case(8, 21, 5, 6, 24)
    check_rows(case, [np.random.default_rng(9).permutation(21).tolist()])


def test_splitting_a_sequence_changes_no_bit(isa: str) -> None:
    """A stream fed in pieces, the state carried over, answers as the whole sequence does."""
    case = recurrent_case(10, 3, 12, 20, 40)
    whole, last_h, last_c, _ = case.forward(case.weights())
    h, c, parts = case.h0, case.c0, []
    for start, stop in ((0, 1), (1, 2), (2, 7), (7, 12)):
        part = replace(case, x=case.x[:, start:stop], h0=h, c0=c)
        output, h, c, _ = part.forward(part.weights())
        parts.append(output)
    assert h is not None
    assert c is not None
    assert_bits(np.concatenate(parts, axis=1), whole)
    assert_bits(h, last_h)
    assert_bits(c, last_c)


@pytest.mark.parametrize("sizes", [(10, 7), (64, 1), (64, 130), (300, 65)])
def test_rows_of_dense(isa: str, sizes: tuple[int, int]) -> None:
    inputs, units = sizes
    rng = np.random.default_rng(11)
    x, d_y = f32(rng.normal(size=(41, inputs))), f32(rng.normal(size=(41, units)))
    kernel, bias = variable(rng.normal(size=(inputs, units))), variable(rng.normal(size=units))
    weights = _core.DenseWeights(kernel, bias)

    def compute(pick: list[int]) -> tuple[Array, Array]:
        d_x = _core.dense_backward(weights, tensor(x[pick]), tensor(d_y[pick]), True)[0]
        assert d_x is not None
        return _core.dense_forward(weights, tensor(x[pick])).numpy(), d_x.numpy()

    y, d_x = compute(list(range(41)))
    for pick in [[row] for row in range(41)] + [list(range(size)) for size in range(2, 41)]:
        got_y, got_d_x = compute(pick)
        assert_bits(got_y, y[pick], f"rows {pick}")
        assert_bits(got_d_x, d_x[pick], f"gradient of rows {pick}")


def test_rows_of_softmax_and_losses(isa: str) -> None:
    rng = np.random.default_rng(12)
    x, y_true = f32(rng.normal(size=(20, 37))), f32(rng.random(size=(20, 37)))
    whole = _core.activation_forward("softmax", tensor(x)).numpy()
    rows, gradient = _core.loss("binary_crossentropy", tensor(y_true), tensor(x), None, True, 0.0, True)
    assert gradient is not None
    for row in range(20):
        one = slice(row, row + 1)
        assert_bits(_core.activation_forward("softmax", tensor(x[one])).numpy(), whole[one])
        alone = _core.loss("binary_crossentropy", tensor(y_true[one]), tensor(x[one]), None, True, 0.0, True)
        assert alone[1] is not None
        assert_bits(alone[0].numpy(), rows.numpy()[one])
        assert_bits(alone[1].numpy(), gradient.numpy()[one])


def test_repeated_calls_give_the_same_bits(isa: str, threads: SetThreads) -> None:
    threads(3)
    case = recurrent_case(13, 16, 10, 24, 48)
    first = everything(case)
    for _ in range(10):
        for name, value in everything(case).items():
            assert_bits(value, first[name], name)
