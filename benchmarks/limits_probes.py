"""The measurements of limits.py, each in a process of its own: JSON orders in, JSON answers out."""

from __future__ import annotations

import ctypes
import gc
import json
import resource
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from cases import Case
from limits_models import Call, classifier, clock, data, stream_step, timed
from limits_subnormals import SUBNORMALS
from peers.lstm_native_peer import LstmNative

import lstm_native
from lstm_native.layers import LSTM

Answer = dict[str, Any]

# --- memory and growth ----------------------------------------------------------------------------


def resident() -> int:
    """Bytes of memory that the process has now."""
    rollup = Path("/proc/self/smaps_rollup")
    if not rollup.exists():
        return peak()
    return 1024 * next(int(line.split()[1]) for line in rollup.open() if line.startswith("Rss:"))


def peak() -> int:
    """The most bytes of memory since the start or `forget_peak`."""
    status = Path("/proc/self/status")
    if not status.exists():
        # On Linux this would begin with the peak of the process that started this one.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return 1024 * next(int(line.split()[1]) for line in status.open() if line.startswith("VmHWM:"))


def forget_peak() -> None:
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def memory(
    shape: list[int], ids: bool, training: bool, seconds: float = 0, checkpoint: int | None = None
) -> Answer:
    """Bytes that model, data and calls add to the process, and the median time of a call if `seconds`."""
    batch, steps, inputs, units = shape

    def call_of(batch: int, steps: int, inputs: int, units: int) -> Call:
        model = classifier(inputs, units, ids, **({"checkpoint_steps": checkpoint} if checkpoint else {}))
        x, y = data(batch, steps, inputs, ids)
        return (lambda: model.train_on_batch(x, y)) if training else (lambda: model(x))

    call_of(1, 2, 1, 1)()  # everything but the size: code and what Python keeps of it
    gc.collect()
    before = resident()
    forget_peak()
    call = call_of(batch, steps, inputs, units)
    call()
    first = peak() - before
    call()
    call()
    answer: Answer = {"first_call": first, "bytes": peak() - before}
    if seconds:
        answer["seconds"] = statistics.median(timed(call, seconds))
    return answer


# --- first calls ----------------------------------------------------------------------------------


def first(operation: str, shape: list[int], warm: bool, seconds: float) -> Answer:
    """Seconds of the first ten calls of a model, and the median after them.

    `warm`: Python has seen the code, for another model was called before, and NumPy's threads, which spin for
    some 30 ms after its import, sleep.
    """

    def call_of(batch: int, steps: int, inputs: int, units: int) -> Call:
        model = classifier(inputs, units, ids=True)
        x, y = data(batch, steps, inputs, ids=True)
        calls: dict[str, Call] = {
            "model(x)": lambda: model(x),
            "predict": lambda: model.predict(x, verbose=0),
            "train_on_batch": lambda: model.train_on_batch(x, y),
        }
        return calls[operation]

    if warm:
        timed(call_of(1, 2, 4, 4), 0, 30)
        time.sleep(0.1)
    call = call_of(*shape)
    return {"calls": timed(call, 0, 10), "steady": statistics.median(timed(call, seconds, 20))}


# --- subnormal numbers ----------------------------------------------------------------------------


def subnormals(name: str, rounds: int, seconds: float) -> Answer:
    """Median seconds of a call with either kind of numbers, in turns."""
    pair = SUBNORMALS[name]()
    turns: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for work, medians in zip(pair, turns, strict=True):
            work.call()
            medians.append(statistics.median(timed(work.call, seconds, prepare=work.prepare)))
    return {"ordinary": statistics.median(turns[0]), "subnormal": statistics.median(turns[1])}


# --- threads, quiet and beside another process ------------------------------------------------------


@contextmanager
def busy_process(where: str) -> Iterator[None]:
    """Another process that takes a processor: "" none, "free" any, "bound" always the last one."""
    if not where:
        yield
        return
    bind = "import os; os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})\n" if where == "bound" else ""
    # A child of this process, so that its processor time counts as ours and not as a disturbance.
    process = subprocess.Popen([sys.executable, "-c", f"{bind}while True: pass"])
    try:
        time.sleep(0.1)
        yield
    finally:
        process.kill()
        process.wait()


def threads(
    case: dict[str, Any], counts: list[int], rounds: int, seconds: float, busy: str = ""
) -> list[Answer]:
    """Seconds of a call for each number of threads, in turns: medians over turns of median and mean, p99."""
    work = Case(**case)
    forms = getattr(LstmNative(max(counts)), work.section)(work)
    call = next(iter(forms.values())).call
    turns: dict[int, list[list[float]]] = {count: [] for count in counts}
    with busy_process(busy):
        for _ in range(rounds):
            for count in counts:
                lstm_native.set_num_threads(count)
                timed(call, seconds / 5, 2)
                turns[count].append(timed(call, seconds))
    return [
        {
            "threads": count,
            "median": statistics.median(map(statistics.median, of_turns)),
            "mean": statistics.median(map(statistics.mean, of_turns)),
            "turns": [statistics.median(times) for times in of_turns],
            "p99": float(np.percentile(np.concatenate(of_turns), 99)),
        }
        for count, of_turns in turns.items()
    ]


# --- steps of a stream ------------------------------------------------------------------------------


def distribution(call: Call, calls: int) -> Answer:
    """Of the seconds of single calls."""
    times = np.empty(calls)
    for i in range(calls):
        start = clock()
        call()
        times[i] = clock() - start
    late = times[times > 10 * np.median(times)]
    quantiles = dict(zip(("median", "p99", "p99_9"), np.percentile(times, (50, 99, 99.9)), strict=True))
    return {
        **{name: float(value) for name, value in quantiles.items()},
        "max": float(times.max()),
        "late": late.size,
    }


def tail(units: int, calls: int) -> Answer:
    """Times of steps, and of as long a piece of plain Python: what the machine itself does to any call."""
    step, x, out = stream_step(LSTM(units))
    timed(lambda: step(x, out=out), 0.05)
    steps = distribution(lambda: step(x, out=out), calls)
    loops = [*repeat(None, 1000)]
    of_thousand = statistics.median(timed(lambda: [None for _ in loops], 0.02))
    same = [*repeat(None, max(1, round(1000 * steps["median"] / of_thousand)))]
    return {"steps": steps, "python": distribution(lambda: [None for _ in same], calls)}


def allocations(units: int, calls: int) -> Answer:
    """Memory that `calls` steps ask for.

    Where allocations.cpp is loaded, the requests to the C library with and without `out`; elsewhere what
    tracemalloc saw at most above the start.
    """
    step, x, out = stream_step(LSTM(units))
    counter = getattr(ctypes.CDLL(None), "allocations_so_far", None)

    def asked(*arguments: Any) -> int:
        """Requests during the steps, those of an empty loop taken off."""
        assert counter is not None
        counts: list[int] = []
        for function in (step, lambda *_: None):
            function(*arguments)
            start = counter()
            for _ in repeat(None, calls):
                function(*arguments)
            counts.append(counter() - start)
        return counts[0] - counts[1]

    if counter is not None:
        counter.restype = ctypes.c_ulonglong
        return {"native": asked(x, out), "native_without_out": asked(x)}
    for _ in repeat(None, 10):
        step(x, out=out)
    tracemalloc.start()
    turns = repeat(None, calls)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    for _ in turns:
        step(x, out=out)
    return {"python_bytes": tracemalloc.get_traced_memory()[1] - before}


PROBES: dict[str, Callable[..., Any]] = {
    probe.__name__: probe for probe in (memory, first, subnormals, threads, tail, allocations)
}


def main() -> None:
    order = json.loads(sys.argv[1])
    print(json.dumps(PROBES[order.pop("probe")](**order)))


if __name__ == "__main__":
    main()
