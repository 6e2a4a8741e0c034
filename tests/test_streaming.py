"""model.stream: equal to predict bit for bit; states, threads, memory."""

from __future__ import annotations

import threading
import time
import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lstm_native import _core
from lstm_native.layers import LSTM, Dense
from lstm_native.models import Sequential
from native_support import assert_bits, using_isa
from stream_support import MODELS, on_features, sequences

Array = npt.NDArray[Any]


def expected(model: Sequential, x: Array) -> Array:
    """Outputs of `predict` for every prefix of x, (time, rows, n)."""
    model.reset_state()
    if len(model.output_shape) == 3 or isinstance(model.output_shape[0], tuple):
        y = model.predict(x, verbose=0)
        return np.moveaxis(y[0] if isinstance(y, tuple) else y, 1, 0)
    steps = []
    for t in range(x.shape[1]):
        steps.append(model.predict(x[:, : t + 1], verbose=0, batch_size=len(x)))
        model.reset_state()
    return np.stack(steps)


@pytest.mark.parametrize("rows", [1, 7, 30])
@pytest.mark.parametrize("name", list(MODELS))
def test_equals_predict(name: str, rows: int, isa: str) -> None:
    model = MODELS[name]()
    x = sequences(model, rows, 8)
    stream = model.stream(rows)
    assert stream.batch_size == rows
    out: Array | None = None
    for t, want in enumerate(expected(model, x)):
        got = stream.step(x[:, t], out=out)
        assert_bits(got, want, f"step {t}")
        out = np.empty_like(want) if t % 2 == 0 else None


def test_a_long_sequence(isa: str) -> None:
    model = on_features(LSTM(50, return_sequences=True), features=20)
    x = sequences(model, 1, 400)
    stream = model.stream()
    assert_bits(np.stack([stream.step(x[0, t]) for t in range(400)], 1), model.predict(x, verbose=0))


def test_a_step_that_is_worth_threads(threads: Any) -> None:
    """The same bits for every number of threads, though a large step is shared."""
    model = on_features(LSTM(400, return_sequences=True), features=100)
    x = sequences(model, 30, 3)
    want = model.predict(x, verbose=0)
    for n in (1, 2, 3):
        threads(n)
        stream = model.stream(30)
        for t in range(3):
            assert_bits(stream.step(x[:, t]), np.ascontiguousarray(want[:, t]))


def test_weights_that_change_count_from_the_next_step() -> None:
    layer = LSTM(6)
    model = on_features(layer, Dense(1))
    model.compile("adam", "mse")
    x = sequences(model, 7, 5)
    stream = model.stream(7)
    stream.step(x[:, 0])
    for change in range(3):
        if change == 1:
            model.fit(x, np.ones((7, 1)), epochs=1, verbose=0)
        elif change == 2:
            model.set_weights([w + np.float32(0.1) for w in model.get_weights()])
        [(h, c)] = stream.state
        got = stream.step(x[:, 1])
        assert_bits(got, model.layers[1](layer(x[:, 1:2], initial_state=[h, c])))
    stream.reset()
    assert_bits([stream.step(x[:, t]) for t in range(5)][-1], model.predict(x, verbose=0))


def test_another_instruction_set_goes_on_with_the_state() -> None:
    model = MODELS["stack"]()
    x = sequences(model, 3, 9)
    stream = model.stream(3)
    for name in _core.available_isas() * 2:
        with using_isa(name):
            fresh = model.stream(3)
            fresh.state = stream.state
            assert_bits(stream.step(x[:, 0]), fresh.step(x[:, 0]), name)


# --- states ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        (None, [0, 1, 2, 3]),
        (2, [2]),
        ([0, 3, 3], [0, 3]),
        (np.array([1], np.int32), [1]),
        (np.array([True, False, True, False]), [0, 2]),
        ([], []),
    ],
)
def test_reset(rows: Any, chosen: list[int]) -> None:
    model = MODELS["stack"]()
    x = sequences(model, 4, 6)
    stream, other, fresh = model.stream(4), model.stream(4), model.stream(4)
    for s in (stream, other):
        for t in range(3):
            s.step(x[:, t])
    stream.reset(rows)
    for t in range(3, 6):
        continued, begun = other.step(x[:, t]), fresh.step(x[:, t])
        want = [begun[r] if r in chosen else continued[r] for r in range(4)]
        assert_bits(stream.step(x[:, t]), np.stack(want))


def test_state_round_trip() -> None:
    model = MODELS["stack"]()
    x = sequences(model, 2, 6)
    stream = model.stream(2)
    assert [(h.shape, c.shape) for h, c in stream.state] == [((2, 33), (2, 33)), ((2, 20), (2, 20))]
    assert all((a == 0).all() for pair in stream.state for a in pair)
    for t in range(3):
        stream.step(x[:, t])
    saved = stream.state
    first = [stream.step(x[:, t]) for t in range(3, 6)]
    stream.state = [[h.astype(np.float64), c.tolist()] for h, c in saved]
    for t in range(3, 6):
        assert_bits(stream.step(x[:, t]), first[t - 3])
    saved[0][0][:] = 7  # a copy: the stream does not see it
    assert not (stream.state[0][0] == 7).any()


# --- threads and memory -----------------------------------------------------------------------------


def test_streams_of_one_model_in_several_threads() -> None:
    model = on_features(
        LSTM(64, return_sequences=True), features=64
    )  # large enough to let the interpreter go
    data = [sequences(model, 8, 40 + i) for i in range(6)]
    want = [model.predict(x, verbose=0) for x in data]
    got: list[Any] = [None] * len(data)

    def work(i: int) -> None:
        stream = model.stream(8)
        got[i] = np.stack([stream.step(data[i][:, t]) for t in range(data[i].shape[1])], 1)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(len(data))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    for a, b in zip(got, want, strict=True):
        assert_bits(a, b)


def test_one_stream_in_two_threads_is_refused() -> None:
    """Steps until one is refused; those that were not are all there, one after the other."""
    model = on_features(LSTM(128, return_sequences=True), features=128)
    x = sequences(model, 32, 1)[:, 0]
    stream = model.stream(32)
    refused: list[str] = []
    done = [0, 0]
    limit = time.monotonic() + 120

    def work(i: int) -> None:
        while not refused and time.monotonic() < limit:
            try:
                stream.step(x)
                done[i] += 1
            except RuntimeError as error:
                refused.append(str(error))

    workers = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(150)
    assert refused
    assert "another thread" in refused[0]
    other = model.stream(32)
    for _ in range(sum(done)):
        other.step(x)
    assert_bits(stream.step(x), other.step(x))


def test_a_step_with_out_keeps_no_memory() -> None:
    model = MODELS["masked ids"]()
    stream = model.stream(7)
    ids, out = sequences(model, 7, 1)[:, 0].copy(), np.empty((7, 2), np.float32)
    stream.step(ids, out=out)
    tracemalloc.start()
    try:
        stream.step(ids, out=out)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for _ in range(100):
            stream.step(ids, out=out)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Arguments of the call itself; an array would be at least a hundred bytes more a step.
    assert after - before < 500
    assert peak - before < 500
