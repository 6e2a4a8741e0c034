"""Memory does not grow over thousands of calls, and no call leaves the floating-point mode changed."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lstm_native import _core
from native_support import f32, recurrent_case, tensor, variable

STATM = Path("/proc/self/statm")
MAPS = Path("/proc/self/maps")
# A leak of one small output (2 KB) a call would add 10 MB over 5,000 calls; allocators settle within this.
GROWTH_LIMIT = 3 << 20


def resident_bytes() -> int:
    if not STATM.exists():
        pytest.skip("this system has no /proc/self/statm")
    if "libasan" in MAPS.read_text():
        pytest.skip("the address sanitizer keeps freed memory back, to find its use")
    return int(STATM.read_text().split()[1]) * 4096


def assert_no_growth(work: Callable[[], object], calls: int) -> None:
    for _ in range(calls // 5):  # pools, packs and allocator reach their size
        work()
    gc.collect()
    before = resident_bytes()
    for _ in range(calls):
        work()
    gc.collect()
    growth = resident_bytes() - before
    assert growth <= GROWTH_LIMIT, f"{growth / 2**20:.1f} MB more after {calls} calls"


@pytest.mark.parametrize("threads_used", [1, 2])
def test_forward_calls(threads: Callable[[int], None], threads_used: int) -> None:
    threads(threads_used)
    case = recurrent_case(1, 4, 8, 16, 32, mask="holes", reset=True)
    weights = case.weights()
    assert_no_growth(lambda: case.forward(weights), 5000)


def test_training_steps() -> None:
    """Forward, backward and an Adam step on all weights, which are packed anew each time."""
    case = recurrent_case(2, 4, 8, 16, 32)
    assert case.bias is not None
    variables = [variable(case.kernel), variable(case.recurrent), variable(case.bias)]
    m, v = ([variable(np.zeros(w.shape)) for w in variables] for _ in range(2))
    weights = _core.RecurrentWeights("lstm", *variables, "tanh", "sigmoid")
    x, d_output = tensor(case.x), tensor(case.d_output)

    def step() -> None:
        saved = _core.recurrent_forward(weights, x, None, None, None, None, True, False, False, True)[3]
        assert saved is not None
        gradients = _core.recurrent_backward(weights, saved, d_output, None, None, True, False)[1:4]
        given = [gradient for gradient in gradients if gradient is not None]
        _core.adam_step(variables, given, m, v, None, 1e-4, 0.9, 0.999, 1e-7, None)

    assert_no_growth(step, 1000)


def test_training_calls_without_backward() -> None:
    """What a forward call saved goes with its last reference."""
    case = recurrent_case(3, 4, 8, 16, 32)
    weights = case.weights()
    assert_no_growth(lambda: case.forward(weights, training=True), 2000)


def test_weights_that_come_and_go() -> None:
    case = recurrent_case(4, 1, 2, 16, 32)
    assert_no_growth(lambda: case.forward(case.weights()), 2000)


def test_refused_calls() -> None:
    """An exception frees what the call had made."""
    case = recurrent_case(5, 4, 8, 16, 32)
    weights = case.weights()
    wrong = tensor(np.zeros((4, 9)), "bool")
    x = tensor(case.x)

    def refused() -> None:
        with pytest.raises(ValueError):
            _core.recurrent_forward(weights, x, wrong, None, None, None, True, False, False, True)

    assert_no_growth(refused, 2000)


def test_views_and_capsules() -> None:
    def work() -> None:
        t = tensor(np.ones(1000))
        np.from_dlpack(t)
        t.__dlpack__()  # a capsule that nobody takes
        t.numpy()
        t.reshape((10, 100)).copy()

    assert_no_growth(work, 5000)


def subnormals_survive() -> bool:
    """Both flags at once: a subnormal operand is read (DAZ) and a subnormal result is kept (FTZ)."""
    smallest32, smallest64 = np.float32(1e-45), np.float64(5e-324)
    return bool(
        np.all(np.full(9, smallest32) * np.float32(2.0) > 0.0)
        and np.all(np.full(9, np.float32(2.0**-126)) * np.float32(0.5) > 0.0)
        and np.all(np.full(9, smallest64) * 3.0 > 0.0)
        and float.fromhex("0x1p-1022") * 0.5 > 0.0
    )


def test_floating_point_mode_is_left_alone(isa: str, threads: Callable[[int], None]) -> None:
    assert subnormals_survive()
    small = recurrent_case(6, 2, 3, 4, 5)
    large = recurrent_case(7, 32, 20, 64, 64)
    for count in (1, 3):
        threads(count)
        for case in (small, large):
            case.gradients()
            assert subnormals_survive()
    rng = np.random.default_rng(8)
    x = tensor(rng.normal(size=(200, 200)))
    weights = _core.DenseWeights(variable(rng.normal(size=(200, 200))), None)
    w, m, v = variable(np.ones((200, 200))), variable(np.ones((200, 200))), variable(np.ones((200, 200)))
    ids = tensor(np.zeros(3), "int32")
    for work in (
        lambda: _core.dense_forward(weights, x),
        lambda: _core.dense_backward(weights, x, x, True),
        lambda: _core.activation_forward("tanh", x),
        lambda: _core.activation_backward("tanh", x, x, x),
        lambda: _core.loss("mean_squared_error", x, x, None, False, 0.0, True),
        lambda: _core.adam_step([w], [x], [m], [v], None, 0.1, 0.9, 0.999, 1e-7, None),
        lambda: _core.sgd_step([w], [x], [m], 0.1, 0.9, True, None),
        lambda: _core.embedding_forward(w, ids),
        lambda: _core.squared_norms([x]),
        lambda: _core.random_normal((100,), 0.0, 1.0, 1, 2),
    ):
        work()
        assert subnormals_survive()
    with pytest.raises(ValueError):
        _core.embedding_forward(w, tensor(np.full(3, 999), "int32"))
    assert subnormals_survive()


def test_subnormal_states_are_no_trap(isa: str) -> None:
    """States that decay through the subnormals reach zero or stay tiny; never NaN."""
    case = recurrent_case(9, 3, 400, 1, 8, use_bias=False, initial=True, return_sequences=False)
    quiet = f32(np.zeros_like(case.x))
    weights = _core.RecurrentWeights(
        "lstm",
        variable(np.zeros((1, 32))),
        variable(np.zeros((8, 32))),
        variable(np.full(32, -1.0)),
        "tanh",
        "sigmoid",
    )
    flags = (False, False, False, False)
    output, _, c, _ = _core.recurrent_forward(
        weights, tensor(quiet), None, None, None, tensor(case.c0), *flags
    )
    assert np.isfinite(output.numpy()).all()
    assert np.isfinite(c.numpy()).all()
