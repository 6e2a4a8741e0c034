"""Times layers with weights in 16 and 8 bits beside the same layer in float32.

    python benchmarks/quantized.py [--threads 1,2] [--peers torch,onnxruntime] [--families lstm]
        [--units 64,256,1024] [--python torch=PATH]

One step of a stream, and inference on sequences of one row and of 32, features as many as units. The modes of
a library run in processes of their own that take turns, as in compare.py. Errors are those of the outputs
beside float32, root mean square and largest. Writes JSON to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from cases import GATES, Case
from compare import OURS, words
from race import Contestant, Process, Turns, add_turn_options, take_turns
from record import ROOT, write
from report import amount

MODES = {OURS: ("", "bfloat16", "int8"), "torch": ("", "int8"), "onnxruntime": ("", "int8")}
UNITS = (64, 128, 256, 512, 1024, 2048)
STEPS = 50
MOST_NUMBERS = 1 << 23  # units * units * rows of sequences that are worth the time


def cases(family: str, units: int) -> Iterator[Case]:
    yield Case("streaming", 1, 1, units, units, family=family)
    for rows in (1, 32):
        if rows * units * units <= MOST_NUMBERS:
            yield Case("inference", rows, STEPS, units, units, family=family)


def label(peer: str, mode: str) -> str:
    return f"{peer} {mode or 'float32'}"


def prepare(
    processes: dict[tuple[str, str], Process], case: Case, seconds: float
) -> tuple[dict[str, tuple[Process, str]], dict[str, Any]]:
    """Who can do the case, each with its fastest form; and the errors beside the first one, by label."""
    able: dict[str, tuple[Process, str]] = {}
    errors: dict[str, Any] = {}
    reference = None
    with tempfile.TemporaryDirectory() as folder:
        for (peer, mode), process in processes.items():
            name, path = label(peer, mode), Path(folder) / "results.npz"
            told = process.order(do="prepare", case=asdict(replace(case, quantized=mode)), results=str(path))
            if "not_offered" in told:
                continue
            if "forms" not in told:
                sys.exit(f"{name}: {told}")
            results = dict(np.load(path))
            times = {form: process.order(do="turn", form=form, seconds=seconds)["median"] for form in results}
            form = min(times, key=times.__getitem__)
            reference = results[form] if reference is None else reference
            error = results[form] - reference
            errors[name] = {"rms": float(np.sqrt((error**2).mean())), "largest": float(abs(error).max())}
            able[name] = process, form
    return able, errors


def rows(args: argparse.Namespace, versions: dict[str, str]) -> Iterator[dict[str, Any]]:
    turns = Turns(args.rounds, args.seconds, args.tries)
    for threads in map(int, args.threads):
        processes: dict[tuple[str, str], Process] = {}
        try:
            for peer in (OURS, *args.peers):
                for mode in MODES[peer]:
                    python = args.python.get(peer, sys.executable)
                    processes[peer, mode] = Process(Contestant(label(peer, mode), peer, python), threads)
                    versions |= processes[peer, mode].versions
            for family in args.families:
                for units in map(int, args.units):
                    for case in cases(family, units):
                        able, errors = prepare(processes, case, turns.seconds / 2)
                        timed = take_turns(able, turns)
                        yield {
                            "case": asdict(case),
                            "name": case.name,
                            "threads": threads,
                            "errors": errors,
                            **timed,
                        }
        finally:
            for process in processes.values():
                process.close()


def markdown(found: list[dict[str, Any]]) -> str:
    """A line a case: microseconds; of the modes how many times as fast, and the root mean square error."""
    names = list(dict.fromkeys(name for row in found for name in row["figures"]))
    lines = [["", "B,T,I,H", "threads", *names], ["---", "---", "---:", *["---:"] * len(names)]]
    for row in found:
        cells = [f"{row['case']['family']} {row['case']['section']}", row["name"], str(row["threads"])]
        for name in names:
            if name not in row["figures"]:
                cells.append("")
                continue
            peer, _, mode = name.partition(" ")
            times = row["figures"][name]["microseconds"]
            cell = amount(times)
            if mode != "float32":
                ratio = row["figures"][label(peer, "")]["microseconds"] / times
                cell += f" ({ratio:.2f}; {row['errors'][name]['rms']:.0e})"
            cells.append(cell)
        lines.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    option("--threads", type=words, default=["1", "2"], help="with commas between (default 1,2)")
    option("--families", type=words, default=["lstm"], help=f"of {', '.join(GATES)} (default lstm)")
    option("--units", type=words, default=[str(n) for n in UNITS], help="default 64,128 and so on to 2048")
    option("--peers", type=words, default=[], help="other libraries: torch, onnxruntime (default none)")
    option("--python", action="append", default=[], metavar="PEER=PATH", help="interpreter that has the peer")
    add_turn_options(parser)
    args = parser.parse_args()
    args.python = dict(item.partition("=")[::2] for item in args.python)
    if unknown := set(args.peers) - set(MODES):
        parser.error(f"--peers {', '.join(unknown)}: there are {', '.join(MODES)}")
    found: list[dict[str, Any]] = []
    versions: dict[str, str] = {}
    for one in rows(args, versions):
        found.append(one)
        print(markdown([one]).splitlines()[-1], flush=True)
    print(f"\n{markdown(found)}\n")
    if not args.no_file:
        path = write("quantized", {"steps": STEPS, "versions": versions, "rows": found})
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
