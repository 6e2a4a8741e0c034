"""Times what Python adds to the native work: the tutorial's model, called with one sentence of four words.

    python benchmarks/overhead.py [--threads 1,2]

Native work is the same native calls, made directly one after the other with tensors that are ready. Both
take turns in one process on the same weights, after a check that both make the same calls.

With two threads the difference holds the pool too: native calls that follow each other closely find it awake
more often than those with Python between them.
"""

from __future__ import annotations

import argparse
import collections
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from cases import VOCABULARY
from quiet import undisturbed
from record import ROOT, versions, write

import lstm_native
from lstm_native import _core
from lstm_native.layers import LSTM, Dense, Embedding
from lstm_native.models import Sequential

ROUNDS = 15
IDS = np.array([[1, 2, 3, 4]])
LABELS = np.array([1])
PREPARATIONS = ("as_tensor", "embedding_check")  # which tensors that are ready and right do not need


@dataclass(frozen=True)
class Operation:
    """A call as users make it, and its native work.

    Attributes:
        name: for the table.
        call: the call.
        native: its native work.
        limits: "whole" or "added", what the target limits: the call, or what Python adds to its native work.
        target: microseconds.
    """

    name: str
    call: Callable[[], Any]
    native: Callable[[], Any]
    limits: str
    target: float


class Tutorial:
    """The tutorial's model, and its native calls made by hand."""

    def __init__(self) -> None:
        self.model = Sequential([Embedding(VOCABULARY, 64), LSTM(128), Dense(1, activation="sigmoid")])
        self.model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
        self.model.train_on_batch(IDS, LABELS)
        self.table, self.kernel, self.recurrent_kernel, self.bias, *_ = self.model.variables
        self.recurrent = _core.RecurrentWeights(
            "lstm", self.kernel, self.recurrent_kernel, self.bias, "tanh", "sigmoid"
        )
        self.dense = _core.DenseWeights(*self.model.variables[-2:])
        assert self.model.optimizer is not None
        _iterations, _rate, *slots = self.model.optimizer.variables
        self.m, self.v = slots[::2], slots[1::2]
        self.ids = _core.as_tensor(IDS, "int32")
        self.labels = _core.as_tensor(LABELS.reshape(1, 1), "float32")

    def _logits(self, training: bool) -> tuple[Any, ...]:
        assert _core.embedding_distinct(self.table, self.ids) is None  # as no word comes twice
        x = _core.embedding_forward(self.table, self.ids)
        h, _, _, saved = _core.recurrent_forward(
            self.recurrent, x, None, None, None, None, False, False, False, training
        )
        return h, saved, _core.dense_forward(self.dense, h)

    def forward(self) -> Any:
        return _core.activation_forward("sigmoid", self._logits(False)[-1])

    def train(self) -> None:
        h, saved, logits = self._logits(True)
        _, d_logits = _core.loss("binary_crossentropy", self.labels, logits, None, True, 0.0, True)
        _core.activation_forward("sigmoid", logits)  # for the metric
        d_h, d_dense, d_dense_bias = _core.dense_backward(self.dense, h, d_logits, True)
        d_x, d_kernel, d_recurrent, d_bias, _, _ = _core.recurrent_backward(
            self.recurrent, saved, d_h, None, None, True, False
        )
        d_table = _core.embedding_backward(self.ids, d_x, VOCABULARY)
        gradients = [d_table, d_kernel, d_recurrent, d_bias, d_dense, d_dense_bias]
        variables = self.model.variables
        _core.adam_step(variables, gradients, self.m, self.v, None, 1e-6, 0.9, 0.999, 1e-7, None)

    def operations(self) -> Iterator[Operation]:
        model = self.model
        yield Operation("model(x)", lambda: model(IDS), self.forward, "added", 10.0)
        yield Operation("predict", lambda: model.predict(IDS, verbose=0), self.forward, "whole", 30.0)
        step = partial(model.train_on_batch, IDS, LABELS)
        yield Operation("train_on_batch", step, self.train, "added", 40.0)


@contextmanager
def counted(calls: collections.Counter[str]) -> Iterator[None]:
    """Counts the calls of native functions, by name, while the body runs."""
    functions = {name: f for name, f in vars(_core).items() if callable(f) and not isinstance(f, type)}

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            return function(*args, **kwargs)

        return call

    try:
        for name, function in functions.items():
            setattr(_core, name, counting(name, function))
        yield
    finally:
        for name, function in functions.items():
            setattr(_core, name, function)


def native_calls(call: Callable[[], Any]) -> collections.Counter[str]:
    calls: collections.Counter[str] = collections.Counter()
    call()  # what happens once
    with counted(calls):
        call()
    return calls


def checked_calls(operation: Operation) -> dict[str, int]:
    """The native calls of `operation`.

    Raises:
        RuntimeError: its native work is not the one listed here.
    """
    calls, expected = native_calls(operation.call), native_calls(operation.native)
    if calls - collections.Counter({name: calls[name] for name in PREPARATIONS}) != expected:
        raise RuntimeError(f"{operation.name} calls {dict(calls)}, its native work is {dict(expected)}")
    return dict(calls)


def microseconds(call: Callable[[], Any], seconds: float) -> float:
    """Median of calls repeated for `seconds`."""
    clock = time.perf_counter
    times: list[float] = []
    call()
    start = clock()
    end = start + seconds
    while start < end:
        call()
        now = clock()
        times.append(now - start)
        start = now
    return 1e6 * statistics.median(times)


def row(operation: Operation, threads: int, seconds: float) -> dict[str, Any]:
    """Medians of all turns; what Python adds is the median of the differences between neighbours."""
    native_calls = checked_calls(operation)

    def measure() -> list[tuple[float, float]]:
        return [
            (microseconds(operation.call, seconds), microseconds(operation.native, seconds))
            for _ in range(ROUNDS)
        ]

    turns, quiet = undisturbed(measure, os.getpid(), tries=10)
    added = [whole - native for whole, native in turns]
    return {
        "operation": operation.name,
        "threads": threads,
        "whole": round(statistics.median(whole for whole, _ in turns), 2),
        "native": round(statistics.median(native for _, native in turns), 2),
        "added": round(statistics.median(added), 2),
        "all_added": [round(value, 2) for value in added],
        "undisturbed": quiet,
        "target": {operation.limits: operation.target},
        "native_calls": native_calls,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", default="1,2", help="with commas between (default 1,2)")
    parser.add_argument("--seconds", type=float, default=0.05, help="of one turn (default 0.05)")
    parser.add_argument("--no-file", action="store_true", help="write nothing to benchmarks/results/")
    args = parser.parse_args()

    rows: list[dict[str, Any]] = []
    print("threads operation           whole   native    added  target (us)")
    for threads in map(int, args.threads.split(",")):
        lstm_native.set_num_threads(threads)
        for operation in Tutorial().operations():
            done = row(operation, threads, args.seconds)
            rows.append(done)
            times = "".join(f"{done[column]:9.1f}" for column in ("whole", "native", "added"))
            target = f"{operation.limits} at most {operation.target:.0f}"
            note = "" if done["undisturbed"] else "  (other processes disturbed)"
            print(f"{threads:7} {operation.name:14}{times}  {target}{note}", flush=True)
    if not args.no_file:
        figures = {"isa": _core.isa(), "rounds": ROUNDS, "seconds": args.seconds, "rows": rows}
        print(write("overhead", figures | {"versions": versions(["lstm-native", "numpy"])}).relative_to(ROOT))


if __name__ == "__main__":
    main()
