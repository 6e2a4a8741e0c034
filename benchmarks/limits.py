"""Measures what lstm_native promises beside speed: memory, growth, first calls, busy machines, tails.

    python benchmarks/limits.py [--threads 1,2]
        [--what memory,checkpoints,growth,first,subnormals,threads,busy,tail]

Every row comes from new processes (limits_probes.py); a process that others disturbed is run again while
patience lasts. Writes JSON and Markdown tables to benchmarks/results/; Ctrl-C ends it early with what there
is. Memory is exact on Linux only; requests for memory are counted where a C++ compiler and glibc are.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from cases import SECTIONS as CASES
from cases import VOCABULARY, Case
from ceilings import Ceilings
from limits_report import TABLES, Row, below, cells, markdown
from limits_subnormals import SUBNORMALS
from peers import environment
from processes import run_undisturbed
from record import ROOT, versions, write

Shape = tuple[int, int, int, int]  # batch, time, inputs, units
HERE = Path(__file__).parent
MIB = 2**20


class Probes:
    """Runs the orders of limits_probes.py; threads, tries and patience are those of the whole run."""

    def __init__(self, counts: list[int], tries: int, patience: float) -> None:
        self.counts = counts
        self.disturbed = 0
        self._tries = tries
        self._patience = patience

    def __call__(
        self, probe: str, threads: int, load: dict[str, str] | None = None, quiet: bool = True, **order: Any
    ) -> Any:
        """The answer of a new process.

        Args:
            probe: a function of limits_probes.py, which gets `order`.
            threads: of lstm_native.
            load: added to the environment.
            quiet: others must not disturb.
        """
        command = [sys.executable, str(HERE / "limits_probes.py"), json.dumps({"probe": probe, **order})]
        start = time.monotonic()
        tries = self._tries if quiet and self._patience > 0 else 1
        surroundings = {"PYTHONDONTWRITEBYTECODE": "", **environment(threads), **(load or {})}
        done = run_undisturbed(command, surroundings, tries)
        self.disturbed += quiet and done.disturbed
        self._patience -= max(0.0, time.monotonic() - start - done.seconds)
        return json.loads(done.output.splitlines()[-1])


def name_of(shape: Shape) -> str:
    return ",".join(map(str, shape))


# --- memory ---------------------------------------------------------------------------------------

BIGGER: tuple[tuple[Shape, bool], ...] = (
    ((32, 1000, 64, 256), True),
    ((32, 1000, 64, 256), False),
    ((256, 100, 128, 256), False),
    ((8, 2000, 64, 128), False),
)
CHECKPOINT = 32  # steps


def kept_bytes(shape: Shape, ids: bool) -> dict[str, int]:
    """What a training step must keep, in float32; `inputs` are those of the LSTM, and ids (int32)."""
    batch, steps, inputs, units = shape
    of_lstm = 4 * units * (inputs + units + 1)
    parameters = of_lstm + units + 1 + (VOCABULARY * inputs if ids else 0)
    return {
        "inputs": 4 * batch * steps * (inputs + (1 if ids else 0)),
        "gates, c, h": 4 * batch * steps * 6 * units,
        "parameters": 4 * parameters,
        "packs": 4 * (of_lstm + units + 1),
        "gradients": 4 * parameters,
        "slots": 8 * parameters,
    }


def memory(probes: Probes) -> Iterator[Row]:
    shapes = [((case.batch, case.time, case.inputs, case.units), True) for case in CASES["training"]]
    for shape, ids in (*shapes, *BIGGER):
        order: Row = {"shape": shape, "ids": ids, "training": True}
        answers = [probes("memory", max(probes.counts), quiet=False, **order) for _ in range(3)]
        peak = statistics.median(answer["bytes"] for answer in answers)
        kept = kept_bytes(shape, ids)
        yield {
            "name": name_of(shape) + ("" if ids else ", no Embedding"),
            "mib": peak / MIB,
            "kept_mib": sum(kept.values()) / MIB,
            "ratio": peak / sum(kept.values()),
            "kept": kept,
            "first_call_mib": statistics.median(answer["first_call"] for answer in answers) / MIB,
            "most": 1.2,
        }


def checkpoints(probes: Probes) -> Iterator[Row]:
    for shape, ids in BIGGER:
        if ids:
            continue
        order: Row = {"shape": shape, "ids": ids, "training": True, "seconds": 0.5}
        without, with_them = (
            probes("memory", max(probes.counts), checkpoint=steps, **order) for steps in (None, CHECKPOINT)
        )
        batch, steps, _, units = shape
        kept = kept_bytes(shape, ids)
        # h and c at T/k places, everything of k steps.
        kept["gates, c, h"] = 4 * batch * units * (2 * steps // CHECKPOINT + 6 * CHECKPOINT)
        yield {
            "name": name_of(shape),
            "mib": with_them["bytes"] / MIB,
            "mib_without": without["bytes"] / MIB,
            "kept_mib": sum(kept.values()) / MIB,
            "milliseconds": 1e3 * with_them["seconds"],
            "ratio": with_them["seconds"] / without["seconds"],
            "most": 1.5,
        }


# --- growth ---------------------------------------------------------------------------------------

STEPS = (10, 100, 1000, 10_000)
BATCHES = (1, 4, 16, 64, 256, 1024)
LINEAR = 1.15  # what a row and step may cost more than in the next smaller case, noise included


def growth(probes: Probes) -> Iterator[Row]:
    series = [[(batch, steps, 64, 128) for steps in STEPS] for batch in (1, 8)]
    series.append([(batch, 20, 64, 128) for batch in BATCHES])
    for shapes in series:
        before: Row = {}
        for shape in shapes:
            row: Row = {"name": name_of(shape), "below": []}
            for kind, training in (("inference", False), ("training", True)):
                answer = probes("memory", 1, shape=shape, ids=False, training=training, seconds=0.2)
                of_each = shape[0] * shape[1]
                row[f"{kind}_us"] = 1e6 * answer["seconds"]
                row[f"{kind}_ns_each"] = 1e9 * answer["seconds"] / of_each
                row[f"{kind}_mib"] = answer["bytes"] / MIB
                row[f"{kind}_bytes_each"] = answer["bytes"] / of_each
                for what in ("ns_each", "bytes_each"):
                    grown = row[f"{kind}_{what}"] / before.get(f"{kind}_{what}", float("inf"))
                    if grown > LINEAR:
                        row["below"].append(f"{kind} {what.replace('_', ' ')} grew {grown:.2f} x")
            yield row
            before = row


# --- first calls ----------------------------------------------------------------------------------

NUMBERS = {"first": 1, "second": 2, "third": 3, "fifth": 5, "tenth": 10}


def first(probes: Probes) -> Iterator[Row]:
    operations = ("model(x)", "predict", "train_on_batch")
    shapes = ((1, 4, 64, 128), (32, 100, 64, 128))
    for threads, warm, operation, shape in product(probes.counts, (False, True), operations, shapes):
        order: Row = {"operation": operation, "shape": shape, "warm": warm, "seconds": 0.15}
        answers = [probes("first", threads, **order) for _ in range(5)]
        by_call = zip(*(answer["calls"] for answer in answers), strict=True)
        calls = [1e6 * statistics.median(values) for values in by_call]
        steady = 1e6 * statistics.median(answer["steady"] for answer in answers)
        yield {
            "name": f"{operation} {name_of(shape)}",
            "threads": threads,
            "python": "warm" if warm else "new",
            **{name: calls[number - 1] for name, number in NUMBERS.items()},
            "steady": steady,
            "ratio": calls[1] / steady,
            "answers": answers,
            "most": 1.1,
        }


# --- subnormal numbers, threads, busy machines ------------------------------------------------------

NEVER_SLOWER = 0.97  # what noise makes of 1
# A virtual machine may put its processors far apart and close together again: nanoseconds of a hand-over from
# which on a row that misses its target is measured again, and how often.
WELL_PLACED = 100
PLACES = 3


def subnormals(probes: Probes) -> Iterator[Row]:
    for threads in probes.counts:
        for name in SUBNORMALS:
            answer = probes("subnormals", threads, name=name, rounds=5, seconds=0.04)
            yield {
                "name": name,
                "threads": threads,
                "ordinary": 1e6 * answer["ordinary"],
                "subnormal": 1e6 * answer["subnormal"],
                "ratio": answer["subnormal"] / answer["ordinary"],
                **({} if "NumPy" in name else {"most": 1.2}),
            }


def both(probes: Probes, case: Case, rounds: int, busy: str = "") -> tuple[Row, Row]:
    """The figures of one and of two threads."""
    order: Row = {"counts": [1, 2], "rounds": rounds, "seconds": 0.1, "busy": busy}
    one, two = probes("threads", 2, case=asdict(case), **order)
    return one, two


def threads(probes: Probes) -> Iterator[Row]:
    with Ceilings() as ceilings:
        for case in (case for cases in CASES.values() for case in cases):
            least = 1.6 if case.batch >= 8 else NEVER_SLOWER
            for _ in range(PLACES):
                one, two = both(probes, case, 5)
                ratio, hand_over = one["median"] / two["median"], ceilings.hand_over()
                if ratio >= least or hand_over is None or hand_over < WELL_PLACED:
                    break
            yield {
                "name": f"{case.section} {case.name}",
                "one": 1e6 * one["median"],
                "two": 1e6 * two["median"],
                "ratio": ratio,
                "least": least,
                "turns": {"one": one["turns"], "two": two["turns"]},
                "hand_over": hand_over,
            }


def busy(probes: Probes) -> Iterator[Row]:
    for case in (*CASES["inference"], *CASES["streaming"], *CASES["training"]):
        for where in ("free", "bound") if hasattr(os, "sched_setaffinity") else ("free",):
            one, two = both(probes, case, 3, where)
            yield {
                "name": f"{case.section} {case.name}",
                "where": where,
                "one": 1e6 * one["mean"],
                "two": 1e6 * two["mean"],
                "two_median": 1e6 * two["median"],
                "two_p99": 1e6 * two["p99"],
                "ratio": two["mean"] / one["mean"],
                "most": 1.3,
                "answers": [one, two],
            }


# --- steps of a stream ----------------------------------------------------------------------------


def counter(folder: str) -> dict[str, str]:
    """The environment that loads allocations.cpp; empty, with a word, where it cannot be built."""
    library = str(Path(folder) / "allocations.so")
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    flags = ["-O2", "-shared", "-fPIC", str(HERE / "allocations.cpp"), "-o", library, "-ldl"]
    try:
        subprocess.run([*compiler, *flags], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"native requests for memory are not counted: {error}")
        return {}
    # Python's own requests shall come through malloc one by one, too.
    return {"LD_PRELOAD": library, "PYTHONMALLOC": "malloc"}


def tail(probes: Probes) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        load = counter(folder)
        for count in probes.counts:
            for units in (64, 128, 256):
                answer = probes("tail", count, units=units, calls=100_000)
                asked: Row = {}
                for preloaded in ({}, load) if load else ({},):
                    asked |= probes("allocations", count, preloaded, quiet=False, units=units, calls=1000)
                steps, python = answer["steps"], answer["python"]
                yield {
                    "name": f"H = I = {units}",
                    "threads": count,
                    **{name: 1e6 * steps[name] for name in ("median", "p99", "p99_9", "max")},
                    **{f"python_{name}": 1e6 * python[name] for name in ("p99_9", "max")},
                    **asked,
                    "below": [
                        f"{asked[name]} in {name}" for name in ("native", "python_bytes") if asked.get(name)
                    ],
                }


SECTIONS: dict[str, Callable[[Probes], Iterator[Row]]] = {
    section.__name__: section
    for section in (memory, checkpoints, growth, first, subnormals, threads, busy, tail)
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    option("--what", default=",".join(SECTIONS), help=f"of {', '.join(SECTIONS)} (default all)")
    option(
        "--threads", default="1,2", help="of first, subnormals and tail, with commas between (default 1,2)"
    )
    option("--tries", type=int, default=5, help="to get a process that nobody disturbs (default 5)")
    option("--patience", type=float, default=60, help="seconds of such tries in all (default 60)")
    option("--no-file", action="store_true", help="write nothing to benchmarks/results/")
    args = parser.parse_args()
    chosen = args.what.split(",")
    if unknown := set(chosen) - set(SECTIONS):
        parser.error(f"--what {', '.join(unknown)}: there are {', '.join(SECTIONS)}")

    started = time.monotonic()
    probes = Probes([int(count) for count in args.threads.split(",")], args.tries, args.patience)
    rows: dict[str, list[Row]] = {}
    seconds: dict[str, float] = {}
    try:
        for what in chosen:
            begun = time.monotonic()
            rows[what] = []
            for row in SECTIONS[what](probes):
                rows[what].append(row)
                print(what, *cells(TABLES[what], row), *below(row), flush=True)
            seconds[what] = round(time.monotonic() - begun, 1)
    except KeyboardInterrupt:
        print("stopped: what follows is not complete")
    tables = markdown(rows)
    if probes.disturbed:
        tables += f"\n{probes.disturbed} processes were disturbed by others.\n"
    print(f"\n{tables}")
    if not args.no_file:
        document = {
            "versions": versions(["lstm-native", "numpy"]),
            "minutes": round((time.monotonic() - started) / 60, 1),
            "seconds": seconds,
            "disturbed": probes.disturbed,
            "rows": rows,
        }
        path = write("limits", document)
        path.with_suffix(".md").write_text(tables)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
