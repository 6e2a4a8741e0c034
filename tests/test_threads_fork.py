"""The thread pool seen from outside: lazy start, Python threads, changes of the thread count, fork."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lstm_native import _core
from native_support import RecurrentCase, assert_bits, f32, recurrent_case, tensor, variable

SetThreads = Callable[[int], None]
# No figure of speed: a hang must end at some time.
WATCHDOG_SECONDS = 60.0

LARGE = (32, 20, 64, 64)  # enough work for the pool


def warm(case: RecurrentCase) -> bytes:
    """Computes on a weights object of its own; the bytes of all results."""
    weights = case.weights()
    output, h, c, saved = case.forward(weights, training=True)
    gradients = case.backward(weights, saved)
    arrays = [output, h, c, *(value for value in gradients.values() if value is not None)]
    return b"".join(array.tobytes() for array in arrays)


def in_child(work: Callable[[], bytes]) -> bytes:
    """What `work` returns in a forked child."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12+ warns of fork beside threads: that is what is tested here.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            with os.fdopen(writer, "wb") as pipe:
                pipe.write(work())
            os._exit(0)
        except BaseException as error:  # nothing may run back into the test session
            os.write(2, f"child: {error!r}\n".encode())
            os._exit(1)
    os.close(writer)
    received = bytearray()
    deadline = time.monotonic() + WATCHDOG_SECONDS
    try:
        while True:
            ready, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the forked child hangs"
            block = os.read(reader, 1 << 16)
            if not block:
                break
            received += block
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        os.close(reader)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return bytes(received)


def test_number_of_threads(threads: SetThreads) -> None:
    assert _core.get_num_threads() >= 1
    threads(3)
    assert _core.get_num_threads() == 3
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=str(wrong)):
            threads(wrong)
    assert _core.get_num_threads() == 3


def test_fork_after_a_warm_pool(threads: SetThreads) -> None:
    case = recurrent_case(1, *LARGE)
    threads(3)
    expected = warm(case)
    assert _core.pool_threads() > 0
    assert in_child(lambda: warm(case)) == expected
    assert warm(case) == expected  # and the parent goes on


def test_a_child_has_no_workers_until_it_needs_them(threads: SetThreads) -> None:
    case = recurrent_case(2, *LARGE)
    threads(3)
    warm(case)

    def work() -> bytes:
        before = _core.pool_threads()
        warm(case)
        return bytes([before, _core.pool_threads()])

    before, after = in_child(work)
    assert before == 0
    assert after == 2


def test_a_child_of_a_child(threads: SetThreads) -> None:
    case = recurrent_case(3, *LARGE)
    threads(2)
    expected = warm(case)

    def work() -> bytes:
        assert warm(case) == expected
        return in_child(lambda: warm(case))

    assert in_child(work) == expected


def test_fork_while_another_thread_computes(threads: SetThreads) -> None:
    """The pool's locks may be held by a thread that the child does not have."""
    case = recurrent_case(4, *LARGE)
    threads(2)
    expected = warm(case)
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            warm(case)

    other = threading.Thread(target=compute)
    other.start()
    try:
        for _ in range(10):
            assert in_child(lambda: warm(case)) == expected
    finally:
        stop.set()
        other.join(WATCHDOG_SECONDS)
    assert not other.is_alive()


def test_fork_keeps_warm_weights_usable(threads: SetThreads) -> None:
    """The packed weights of the parent are the child's too."""
    case = recurrent_case(5, *LARGE)
    threads(2)
    weights = case.weights()
    expected = case.forward(weights)[0].tobytes()
    assert in_child(lambda: case.forward(weights)[0].tobytes()) == expected


def test_fork_while_weights_are_packed(threads: SetThreads) -> None:
    """Another thread may hold the lock of the very weights that the child goes on to use."""
    threads(1)
    values, x = tensor(np.ones((1200, 1200))), tensor(np.ones((30, 1200)))
    kernel = _core.Variable(values)
    weights = _core.DenseWeights(kernel, None)
    expected = _core.dense_forward(weights, x).numpy().tobytes()
    stop = threading.Event()

    def write_and_pack() -> None:
        while not stop.is_set():
            kernel.assign(values)
            _core.dense_forward(weights, x)

    other = threading.Thread(target=write_and_pack)
    other.start()
    try:
        for _ in range(30):
            assert in_child(lambda: _core.dense_forward(weights, x).numpy().tobytes()) == expected
    finally:
        stop.set()
        other.join(WATCHDOG_SECONDS)
    assert not other.is_alive()


def run_together(count: int, work: Callable[[int], bytes]) -> list[bytes]:
    """work(0) ... work(count - 1) on as many Python threads, all started at once."""
    start = threading.Barrier(count)

    def member(index: int) -> bytes:
        start.wait(WATCHDOG_SECONDS)
        return work(index)

    with ThreadPoolExecutor(count) as pool:
        return [future.result(WATCHDOG_SECONDS) for future in [pool.submit(member, i) for i in range(count)]]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_sixteen_python_threads(threads: SetThreads, count: int) -> None:
    """One weights object for all, not packed yet when they start; each has its own input."""
    threads(count)
    base = recurrent_case(6, 16 * 5, 10, 32, 64, mask="holes")
    cases = [base.rows(slice(5 * index, 5 * index + 5)) for index in range(16)]
    serial = base.weights()
    expected = [case.forward(serial)[0].tobytes() for case in cases]
    shared = base.weights()

    def work(index: int) -> bytes:
        answers = {cases[index].forward(shared)[0].tobytes() for _ in range(10)}
        assert len(answers) == 1
        return answers.pop()

    assert run_together(16, work) == expected


def test_training_calls_from_python_threads(threads: SetThreads) -> None:
    threads(2)
    cases = [recurrent_case(seed, 17, 8, 20, 40) for seed in range(8)]
    expected = [warm(case) for case in cases]
    assert run_together(8, lambda index: warm(cases[index])) == expected


def test_thread_count_changes_while_others_compute(threads: SetThreads) -> None:
    case = recurrent_case(7, *LARGE)
    expected = warm(case)
    done = threading.Event()

    def work(index: int) -> bytes:
        if index == 0:
            turn = 0
            while not done.is_set():
                _core.set_num_threads(1 + turn % 4)
                turn += 1
                time.sleep(0.0005)
            return expected
        try:
            answers = {warm(case) for _ in range(15)}
            assert answers == {expected}
            return expected
        finally:
            if index == 1:
                done.set()

    assert run_together(4, work) == [expected] * 4


def test_writers_beside_readers(threads: SetThreads) -> None:
    """`assign` while others read: a mixture may be computed, a crash or a stale answer afterwards may not."""
    threads(2)
    rng = np.random.default_rng(8)
    x = tensor(rng.normal(size=(4, 64)))
    values = [tensor(rng.normal(size=(64, 64))) for _ in range(2)]
    kernel = _core.Variable(values[0])
    weights = _core.DenseWeights(kernel, None)

    def work(index: int) -> bytes:
        for turn in range(200):
            if index == 0:
                kernel.assign(values[turn % 2])
            else:
                _core.dense_forward(weights, x)
        return b""

    run_together(5, work)
    kernel.assign(values[0])
    fresh = _core.DenseWeights(variable(values[0].numpy()), None)
    assert_bits(_core.dense_forward(weights, x).numpy(), _core.dense_forward(fresh, x).numpy())


def test_large_calls_release_the_interpreter(threads: SetThreads) -> None:
    """Another Python thread gets to run during one long native call."""
    threads(1)
    x = tensor(f32(np.ones((2000, 1500))))
    weights = _core.DenseWeights(variable(np.ones((1500, 1500))), None)
    running, calls_seen = threading.Event(), []
    ticks = 0

    def compute() -> None:
        running.set()
        for _ in range(3):
            before = ticks
            _core.dense_forward(weights, x)
            calls_seen.append(ticks - before)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(60.0)  # so that only a released lock lets the counter run
    try:
        other = threading.Thread(target=compute)
        other.start()
        deadline = time.monotonic() + WATCHDOG_SECONDS
        while other.is_alive() and time.monotonic() < deadline:
            ticks += 1
            time.sleep(0)
        other.join(WATCHDOG_SECONDS)
    finally:
        sys.setswitchinterval(interval)
    assert max(calls_seen) > 1
