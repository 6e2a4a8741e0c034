"""Times Bidirectional(LSTM) beside its two layers, called one after the other and joined.

    python benchmarks/bidirectional.py [--threads 2] [--units 32,64,128,256] [--batches 1,4,8,32]

Inference, and a training pass forward and backward, on sequences of 100 steps with as many features as
units. Both take turns in one process on the same weights, after a check that their results are the same bits.
Writes JSON to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
from overhead import microseconds
from quiet import undisturbed
from record import ROOT, versions, write

import lstm_native
from lstm_native import _core
from lstm_native.layers import LSTM, Bidirectional
from lstm_native.layers.context import Context

ROUNDS = 9
STEPS = 100


def numbers(count: str) -> list[int]:
    return [int(part) for part in count.split(",")]


class Pair:
    """A layer, and a call of it; with `apart` of its two layers.

    Args:
        units: of each direction, and features.
        batch: rows.
    """

    def __init__(self, units: int, batch: int) -> None:
        rng = np.random.default_rng(1)
        self._layer = Bidirectional(LSTM(units, return_sequences=True))
        self._layer.build((batch, STEPS, units))
        self._x, self._d = (
            _core.as_tensor(rng.normal(size=(batch, STEPS, columns)), "float32")
            for columns in (units, 2 * units)
        )

    def call(self, training: bool, apart: bool) -> list[Any]:
        """The output, or gradients: of the inputs and of all weights."""
        layer, ctx = self._layer, Context(training, record=training)
        if not apart:
            output = layer.forward(self._x, ctx)
            return [layer.backward(self._d, ctx), *ctx.gradients.values()] if training else [output]
        directions = layer.held_layers()
        outputs = [direction.forward(self._x, ctx) for direction in directions]
        output = _core.merge_forward("concat", *outputs)
        if not training:
            return [output]
        d_outputs = _core.merge_backward("concat", self._d, outputs[0].shape[2], None, None)
        d_inputs, other = (
            direction.backward(d, ctx) for direction, d in zip(directions, d_outputs, strict=True)
        )
        _core.add_(d_inputs, other)
        return [d_inputs, *ctx.gradients.values()]


def row(pair: Pair, training: bool, seconds: float) -> dict[str, Any]:
    """Medians of all turns; the ratio is the median of those of neighbours."""
    calls: list[Callable[[], Any]] = [lambda: pair.call(training, True), lambda: pair.call(training, False)]
    apart, together = (call() for call in calls)
    assert all(_core.same_bits(a, b) for a, b in zip(apart, together, strict=True))

    def measure() -> list[list[float]]:
        return [[microseconds(call, seconds) for call in calls] for _ in range(ROUNDS)]

    turns, quiet = undisturbed(measure, os.getpid(), tries=10)
    return {
        "apart": round(statistics.median(first for first, _ in turns), 1),
        "together": round(statistics.median(second for _, second in turns), 1),
        "ratio": round(statistics.median(first / second for first, second in turns), 2),
        "undisturbed": quiet,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=numbers, default=[2], help="with commas between (default 2)")
    parser.add_argument("--units", type=numbers, default=[32, 64, 128, 256], help="default 32,64,128,256")
    parser.add_argument("--batches", type=numbers, default=[1, 4, 8, 32], help="rows (default 1,4,8,32)")
    parser.add_argument("--seconds", type=float, default=0.02, help="of one turn (default 0.02)")
    parser.add_argument("--no-file", action="store_true", help="write nothing to benchmarks/results/")
    args = parser.parse_args()

    rows: list[dict[str, Any]] = []
    print(
        "| units | B | threads | inference apart, us | together | ratio | training apart | together | ratio |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for threads in args.threads:
        lstm_native.set_num_threads(threads)
        for units in args.units:
            for batch in args.batches:
                pair = Pair(units, batch)
                done = {
                    name: row(pair, name == "training", args.seconds) for name in ("inference", "training")
                }
                rows.append({"units": units, "batch": batch, "threads": threads, **done})
                cells = [
                    f"{times['apart']:.0f} | {times['together']:.0f} | {times['ratio']:.2f}"
                    + ("" if times["undisturbed"] else " (disturbed)")
                    for times in done.values()
                ]
                print(f"| {units} | {batch} | {threads} | {' | '.join(cells)} |", flush=True)
    if not args.no_file:
        figures = {
            "isa": _core.isa(),
            "rounds": ROUNDS,
            "steps": STEPS,
            "seconds": args.seconds,
            "rows": rows,
        }
        told = versions(["lstm-native", "numpy"])
        print(write("bidirectional", figures | {"versions": told}).relative_to(ROOT))


if __name__ == "__main__":
    main()
