"""Times the native operations one by one, as percent of what the machine can do, measured in the same run.

    python benchmarks/kernels.py [--threads 1,2]

The ceiling of a row is the time that its multiply-adds take at the measured peak, or that its bytes take at
the measured rate of reads from a block of that size, where that is longer: a recurrence reads its recurrent
weights again at every step. Ceilings need a C++ compiler; without one there are times only.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from cases import SECTIONS, Array
from ceilings import Ceilings
from record import ROOT, versions, write

import lstm_native
from lstm_native import _core

ROUNDS = 5


@dataclass(frozen=True)
class Kernel:
    """One operation.

    Attributes:
        name: with its shape.
        call: what is timed.
        flops: multiply-adds count two.
        passes: (times, bytes) of blocks that must be read that many times, and the multiply-adds of one such
            pass, which hide behind the reads or hide them.
    """

    name: str
    call: Callable[[], Any]
    flops: float
    passes: tuple[int, int, float] = (0, 0, 0.0)


def random(*shape: int) -> Array:
    return np.random.default_rng(1).uniform(-0.1, 0.1, shape).astype(np.float32)


def variable(*shape: int) -> Any:
    return _core.Variable(_core.as_tensor(random(*shape), "float32"))


def recurrence(batch: int, time_steps: int, inputs: int, units: int) -> Iterator[Kernel]:
    """Forward and backward over a sequence."""
    gates = 4 * units
    weights = _core.RecurrentWeights(
        "lstm", variable(inputs, gates), variable(units, gates), variable(gates), "tanh", "sigmoid"
    )
    x = _core.as_tensor(random(batch, time_steps, inputs), "float32")
    d_output = _core.as_tensor(random(batch, time_steps, units), "float32")

    def forward(training: bool) -> Any:
        return _core.recurrent_forward(weights, x, None, None, None, None, True, False, False, training)

    def backward() -> float:
        # What a forward call saved is good for one backward call; only the latter is timed.
        saved = forward(True)[3]
        start = time.perf_counter()
        _core.recurrent_backward(weights, saved, d_output, None, None, True, False)
        return time.perf_counter() - start

    shape = f"{batch},{time_steps},{inputs},{units}"
    of_inputs, of_state = (2.0 * batch * time_steps * gates * width for width in (inputs, units))
    if time_steps == 1:  # both kernels are read once
        passes = (1, 4 * (inputs + units) * gates, of_inputs + of_state)
        yield Kernel(f"recurrent_forward {shape}", lambda: forward(False), 0.0, passes)
        return
    passes = (time_steps, 4 * units * gates, of_state / time_steps)
    yield Kernel(f"recurrent_forward {shape}", lambda: forward(False), of_inputs, passes)
    # Gradients of the inputs and of h, and of both kernels.
    yield Kernel(f"recurrent_backward {shape}", backward, 2 * of_inputs + of_state, passes)


def others() -> Iterator[Kernel]:
    for rows, width, units in ((1, 256, 256), (32, 128, 128), (512, 512, 512), (4096, 64, 512)):
        weights = _core.DenseWeights(variable(width, units), variable(units))
        x = _core.as_tensor(random(rows, width), "float32")
        yield Kernel(
            f"dense_forward {rows},{width},{units}",
            partial(_core.dense_forward, weights, x),
            0.0,
            (1, 4 * width * units, 2.0 * rows * width * units),
        )
    for size in (100_000, 1_000_000):
        w, m, v = (variable(size) for _ in range(3))
        g = _core.as_tensor(random(size), "float32")
        yield Kernel(
            f"adam_step {size}",
            partial(_core.adam_step, [w], [g], [m], [v], None, 1e-6, 0.9, 0.999, 1e-7, None),
            0.0,
            (1, 16 * size, 0.0),  # four arrays read; three are written too, which is not counted
        )
    for name in ("sigmoid", "tanh"):
        x = _core.as_tensor(random(64, 1024), "float32")
        yield Kernel(
            f"activation_forward {name} 64,1024",
            partial(_core.activation_forward, name, x),
            0.0,
            (1, 4 * 64 * 1024, 0.0),
        )


def kernels() -> Iterator[Kernel]:
    for case in (*SECTIONS["streaming"], *SECTIONS["inference"]):
        yield from recurrence(case.batch, case.time, case.inputs, case.units)
    yield from others()


def seconds(kernel: Kernel, duration: float) -> float:
    """Median time of a call; a call that returns a float has timed itself."""
    times: list[float] = []
    kernel.call()
    end = time.perf_counter() + duration
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        answer = kernel.call()
        times.append(answer if isinstance(answer, float) else time.perf_counter() - start)
    return statistics.median(times)


def least_seconds(kernel: Kernel, ceilings: Ceilings, threads: int) -> float | None:
    """What the kernel takes at the ceilings of this moment."""
    peak = ceilings.multiply_adds(threads)
    if peak is None:
        return None
    times, n_bytes, flops = kernel.passes
    reading = 0.0
    if times:
        # Each thread reads its share of the block.
        rate = ceilings.reads(n_bytes // threads, threads)
        assert rate is not None
        reading = n_bytes / (rate * 1e9)
    return kernel.flops / (peak * 1e9) + times * max(reading, flops / (peak * 1e9))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", default="1,2", help="with commas between (default 1,2)")
    parser.add_argument("--only", default="", help="kernels whose name holds this")
    parser.add_argument("--seconds", type=float, default=0.03, help="of one turn (default 0.03)")
    parser.add_argument("--no-file", action="store_true", help="write nothing to benchmarks/results/")
    args = parser.parse_args()

    rows: list[dict[str, Any]] = []
    with Ceilings() as ceilings:
        for threads in map(int, args.threads.split(",")):
            lstm_native.set_num_threads(threads)
            for kernel in kernels():
                if args.only not in kernel.name:
                    continue
                turns = [
                    (seconds(kernel, args.seconds), least_seconds(kernel, ceilings, threads))
                    for _ in range(ROUNDS)
                ]
                took = statistics.median(turn for turn, _ in turns)
                shares = [100 * least / turn for turn, least in turns if least]
                percent = round(statistics.median(shares), 1) if shares else None
                microseconds = round(took * 1e6, 2)
                rows.append(
                    {
                        "kernel": kernel.name,
                        "threads": threads,
                        "microseconds": microseconds,
                        "percent_of_ceiling": percent,
                    }
                )
                share = f"{percent:5.1f} % of the ceiling" if percent else ""
                print(f"{threads} {kernel.name:36} {microseconds:12.2f} us  {share}", flush=True)
    if not args.no_file:
        figures = {"isa": _core.isa(), "rows": rows}
        print(write("kernels", figures | {"versions": versions(["lstm-native", "numpy"])}).relative_to(ROOT))


if __name__ == "__main__":
    main()
