"""Right answers under stress: hundreds of forks, thousands of predictions at once, one core, other load.

Each test runs this file as a program of its own, so that a watchdog can end one that hangs. No figure of
speed.
"""

from __future__ import annotations

import argparse
import faulthandler
import functools
import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lstm_native import _core
from lstm_native.layers import LSTM, Dense, Embedding
from lstm_native.models import Sequential
from lstm_native.utils import set_random_seed

Array = npt.NDArray[Any]

# A hang must end at some time; tens of times what the slowest program here takes.
WATCHDOG_SECONDS = 900.0
FORKS = 200
THREADS, PREDICTIONS = 16, 1000

# (rows, steps): calls too small for the pool, one row whose units are shared, tiles for all.
SHAPES = [(1, 9), (2, 7), (1, 40), (5, 20), (16, 12), (24, 10)]


# --- what the programs share ---------------------------------------------------------------------------


@functools.cache
def model() -> Sequential:
    """The same weights in every process."""
    set_random_seed(5)
    made = Sequential(
        [
            Embedding(200, 48, mask_zero=True),
            LSTM(130, return_sequences=True),
            LSTM(40),
            Dense(3, activation="softmax"),
        ]
    )
    made.build((None, None))
    return made


def ids(rows: int, steps: int) -> Array:
    return np.random.default_rng(100 * rows + steps).integers(0, 200, (rows, steps))


INPUTS = [ids(*shape) for shape in SHAPES]


def answer(index: int, way: int = 0) -> bytes:
    """The model's answer to one of the inputs, by `predict` or by a call."""
    x = INPUTS[index % len(INPUTS)]
    y = model().predict(x, verbose=0) if way % 2 == 0 else model()(x)
    return np.asarray(y).tobytes()


def answers() -> list[bytes]:
    return [answer(index) for index in range(len(INPUTS))]


def count_right(expected: list[bytes], first: int, count: int) -> int:
    """Answers one input after the other, beginning with input `first`."""
    return sum(
        answer(turn, turn // len(INPUTS)) == expected[turn % len(INPUTS)]
        for turn in range(first, first + count)
    )


def alone() -> list[bytes]:
    """What one thread answers; the number of threads from before comes back."""
    before = _core.get_num_threads()
    _core.set_num_threads(1)
    try:
        return answers()
    finally:
        _core.set_num_threads(before)


def warm(threads: int) -> list[bytes]:
    """Starts the pool; returns what one thread answers."""
    expected = alone()
    _core.set_num_threads(threads)
    assert answers() == expected
    assert _core.pool_threads() > 0
    return expected


@contextmanager
def predicting(expected: list[bytes]) -> Iterator[None]:
    """Another thread predicts all the time."""
    stop, wrong = threading.Event(), []

    def work() -> None:
        while not stop.is_set():
            if answers() != expected:
                wrong.append("an answer beside forks")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert wrong == []


def on_threads(count: int, work: Callable[[int], int]) -> list[int]:
    """work(0) ... work(count - 1) on as many threads, all started at once."""
    start = threading.Barrier(count)

    def member(index: int) -> int:
        start.wait()
        return work(index)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(member, range(count)))


# --- the programs --------------------------------------------------------------------------------------


def forks() -> None:
    """Children of a warm process answer as it does. Eight at a time; half are forked while it computes."""
    expected = warm(3)
    at_once = 8
    for beside in (False, True):
        with predicting(expected) if beside else nullcontext():
            for _ in range(FORKS // 2 // at_once):
                children = [fork_and_check(expected) for _ in range(at_once)]
                for child in children:
                    _, status = os.waitpid(child, 0)
                    assert os.waitstatus_to_exitcode(status) == 0
    assert answers() == expected


def fork_and_check(expected: list[bytes]) -> int:
    child = os.fork()
    if child != 0:
        return child
    try:
        assert _core.pool_threads() == 0
        assert answers() == expected
        assert _core.pool_threads() > 0
        os._exit(0)
    except BaseException as error:  # nothing may run back into the parent's program
        os.write(2, f"child: {error!r}\n".encode())
        os._exit(1)


def processes(method: str) -> None:
    """The workers of a multiprocessing pool: forked from a warm process, or started anew."""
    expected = warm(3)
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        got = pool.map(answer, range(10 * len(INPUTS)), chunksize=1)
        pool.close()
        pool.join()
    assert got == 10 * expected


def predictions() -> None:
    """Every answer of every thread is checked."""
    expected = warm(3)

    got = on_threads(THREADS, lambda index: count_right(expected, index, PREDICTIONS))
    assert got == THREADS * [PREDICTIONS]


def one_core() -> None:
    """As under `taskset`: one processor for the process, whatever the number of threads is."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    wanted = int(os.environ.get("LSTM_NATIVE_NUM_THREADS", "1"))
    assert _core.get_num_threads() == wanted
    expected = alone()
    for patient in (False, True):  # complete teams take turns on the one processor, barrier by barrier
        _core.set_patient(patient)
        assert answers() == expected
        assert on_threads(4, lambda index: count_right(expected, index, 50)) == [50] * 4
    assert (_core.pool_threads() > 0) == (wanted > 1)
    print(hashlib.sha256(b"".join(expected)).hexdigest())


def digest() -> None:
    print(hashlib.sha256(b"".join(warm(2))).hexdigest())


def beside_torch(first: str) -> None:
    """Both libraries compute at the same time, each on threads of its own, whichever came first."""
    if first == "lstm_native":
        warm(2)
    import torch

    torch.set_num_threads(2)
    x = torch.linspace(-1.0, 1.0, 512 * 512).reshape(512, 512)
    lstm = torch.nn.LSTM(32, 64, batch_first=True)
    steps = x[:32].reshape(32, 16, 32)

    def torch_answers() -> list[bytes]:
        with torch.inference_mode():
            return [y.numpy().tobytes() for y in (x @ x, lstm(steps)[0])]

    torch_expected = torch_answers()
    expected = warm(2)

    def work(index: int) -> int:
        if index % 2 == 0:
            return sum(torch_answers() == torch_expected for _ in range(100))
        return sum(answers() == expected for _ in range(100))

    assert on_threads(4, work) == [100] * 4
    assert (torch.full((9,), 1e-45) * 2 > 0).all(), "PyTorch flushes subnormals now"


def streams() -> None:
    """Two streams a thread, step about, while another thread predicts."""
    expected = warm(3)
    layers = model().layers
    sequences = Sequential([*layers[:2], LSTM(20, return_sequences=True)])
    sequences.build((None, None))
    steps = 400
    inputs = [ids(rows, steps) for rows in (1, 3, 24)]
    wanted = [sequences.predict(x, verbose=0) for x in inputs]

    def work(index: int) -> int:
        mine = [index % 3, (index + 1) % 3]
        running = [sequences.stream(len(inputs[i])) for i in mine]
        right = 0
        for t in range(steps):
            for i, stream in zip(mine, running, strict=True):
                right += stream.step(inputs[i][:, t]).tobytes() == wanted[i][:, t].tobytes()
        return right

    with predicting(expected):
        assert on_threads(8, work) == [2 * steps] * 8


# --- the tests -----------------------------------------------------------------------------------------


def run(program: str, *arguments: str, environment: dict[str, str] | None = None) -> str:
    """Runs a program of this file to its end; returns what it printed."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("LSTM_NATIVE_")}
    process = subprocess.Popen(
        [sys.executable, __file__, program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env | (environment or {}),
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=WATCHDOG_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its children too
        output, errors = process.communicate()
        pytest.fail(f"{program} hangs; its threads before the end:\n{errors}")
    assert process.returncode == 0, errors
    return output


@contextmanager
def busy_process() -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


@pytest.mark.long
def test_two_hundred_forks() -> None:
    run("forks")


@pytest.mark.long
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(method: str) -> None:
    run("processes", method)


@pytest.mark.long
@pytest.mark.parametrize("busy", [False, True], ids=["quiet", "busy"])
def test_sixteen_threads_of_a_thousand_predictions(busy: bool) -> None:
    with busy_process() if busy else nullcontext():
        run("predictions")


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no processor affinity")
def test_one_core() -> None:
    """The same bits as with the whole machine, for any number of threads."""
    wanted = run("digest")
    assert run("one_core") == wanted
    for count in ("1", "2", "7"):
        assert run("one_core", environment={"LSTM_NATIVE_NUM_THREADS": count}) == wanted, count


@pytest.mark.long
@pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")
@pytest.mark.parametrize("first", ["torch", "lstm_native"])
def test_beside_torch(first: str) -> None:
    run("beside_torch", first)


@pytest.mark.long
def test_streams_in_several_threads() -> None:
    run("streams")


PROGRAMS: dict[str, Callable[..., None]] = {
    program.__name__: program
    for program in (forks, processes, predictions, one_core, digest, beside_torch, streams)
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", choices=PROGRAMS)
    parser.add_argument("arguments", nargs="*")
    chosen = parser.parse_args()
    faulthandler.dump_traceback_later(WATCHDOG_SECONDS - 60.0)
    PROGRAMS[chosen.program](*chosen.arguments)
