"""Accuracy and whole-process time of examples/sentiment.py, over seeds.

    python benchmarks/sentiment.py [--data FILE ...] [--seeds 0 1 2 3 4] [--processors 2]

Without --data it measures the sentences that come with the example.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
from pathlib import Path

from processes import run_undisturbed
from record import ROOT, versions, write

EXAMPLE = ROOT / "examples" / "sentiment.py"
ACCURACY = re.compile(r"accuracy on (\d+) held-back sentences: ([0-9.]+)")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    option(
        "--data", type=Path, action="extend", nargs="+", default=[], metavar="FILE", help="sentence TAB 0|1"
    )
    option("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    option("--processors", type=int, default=2, help="processors that the runs may use (default 2)")
    option("--no-file", action="store_true", help="write nothing to benchmarks/results/")
    args = parser.parse_args()

    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.processors])
    runs = []
    for seed in args.seeds:
        command = [sys.executable, str(EXAMPLE), "--seed", str(seed)]
        for path in args.data:
            command += ["--data", str(path)]
        done = run_undisturbed(command)
        found = ACCURACY.search(done.output)
        if found is None:
            sys.exit(f"no accuracy in the output:\n{done.output}")
        one = {
            "seed": seed,
            "held_back": int(found[1]),
            "accuracy": float(found[2]),
            "seconds": round(done.seconds, 2),
            "peak_mib": round(done.peak_mib, 1),
            "disturbed": done.disturbed,
        }
        runs.append(one)
        print("  ".join(f"{name} {value}" for name, value in one.items()), flush=True)
    accuracies = [one["accuracy"] for one in runs]
    seconds = [one["seconds"] for one in runs]
    print(
        f"accuracy: mean {statistics.mean(accuracies):.3f}, lowest {min(accuracies):.3f}; "
        f"seconds: median {statistics.median(seconds):.1f}, longest {max(seconds):.1f}"
    )
    if not args.no_file:
        figures = {
            "data": [path.name for path in args.data] or [EXAMPLE.name],
            "versions": versions(["lstm-native", "numpy"]),
            "runs": runs,
        }
        print(write("sentiment", figures).relative_to(ROOT))


if __name__ == "__main__":
    main()
