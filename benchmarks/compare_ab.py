"""Compares the speed of two commits: builds each in a folder of its own and lets them take turns.

    python benchmarks/compare_ab.py OLD [NEW] [--what inference,training] [--threads 1,2] [--cases B,T,I,U ..]

OLD and NEW are anything that git calls a commit; NEW is the working tree when it is left out (files that git
does not know are not in it). The benchmarks are those of the working tree for both. Results that differ by
more than 1e-5 show as an error.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

from cases import FAMILIES, SECTIONS
from race import Contestant, Process, Turns, add_turn_options, race
from record import ROOT, write
from report import amount

CASES = SECTIONS | FAMILIES


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout


def commit_of(name: str | None) -> str:
    """The full name of a commit; of one made of the working tree for None."""
    if name is None:
        stashed = git("stash", "create").decode().strip()  # changes neither the tree nor the list of stashes
        return stashed or commit_of("HEAD")
    return git("rev-parse", "--verify", f"{name}^{{commit}}").decode().strip()


def build(commit: str, folder: Path) -> Path:
    """Installs the package of a commit into a folder; returns that one."""
    source, target = folder / "source", folder / "installed"
    with tarfile.open(fileobj=BytesIO(git("archive", commit))) as archive:
        archive.extractall(source, filter="data")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True)
    return target


def compare(contestants: list[Contestant], args: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    turns = Turns(args.rounds, args.seconds, args.tries)
    old, new = contestants
    for threads in map(int, args.threads.split(",")):
        processes = [Process(contestant, threads) for contestant in contestants]
        try:
            for process in processes:
                if process.missing:
                    sys.exit(f"{process.name}: {process.missing}")
            for section in args.what.split(","):
                for case in CASES[section]:
                    if args.cases and case.name not in args.cases:
                        continue
                    row = race(processes, case, threads, turns)
                    rows.append(row)
                    print(f"{threads} {section:9} {case.name:18} {line(row, old.name, new.name)}", flush=True)
        finally:
            for process in processes:
                process.close()
    return rows


def line(row: dict[str, Any], old: str, new: str) -> str:
    words = [f"{name}: {told['error']}" for name, told in row["prepared"].items() if "error" in told]
    if words:
        return "; ".join(words)
    before, after = row["figures"][old], row["figures"][new]
    apart = after["high"] < before["low"] or before["high"] < after["low"]
    times = before["microseconds"] / after["microseconds"]
    return (
        f"{amount(before['microseconds']):>8} -> {amount(after['microseconds']):>8} us  {times:5.2f} x"
        f"{'' if apart else '  (within the spread)'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    option("old")
    option("new", nargs="?")
    option("--what", default=",".join(SECTIONS), help="with commas between (default all of the LSTM)")
    option("--threads", default="1,2", help="with commas between (default 1,2)")
    option("--cases", nargs="+", default=[], metavar="B,T,I,U", help="only these shapes")
    add_turn_options(parser, rounds=7)
    args = parser.parse_args()
    unknown = set(args.what.split(",")) - set(CASES)
    if unknown:
        parser.error(f"--what: there are {', '.join(CASES)}")

    commits = {"old": commit_of(args.old), "new": commit_of(args.new)}
    with tempfile.TemporaryDirectory() as folder:
        contestants = []
        for name, commit in commits.items():
            print(f"building {name}, {commit[:12]}", flush=True)
            installed = build(commit, Path(folder) / name)
            contestants.append(Contestant(name, "lstm_native", environment={"PYTHONPATH": str(installed)}))
        rows = compare(contestants, args)
    for threads in map(int, args.threads.split(",")):
        ratios = [
            row["figures"]["old"]["microseconds"] / row["figures"]["new"]["microseconds"]
            for row in rows
            if row["threads"] == threads and len(row["figures"]) == 2
        ]
        if ratios:
            mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
            print(
                f"{threads} thread{'s' * (threads > 1)}: new is {mean:.3f} x as fast as old (geometric mean)"
            )
    if not args.no_file:
        print(write("compare_ab", {"commits": commits, "rows": rows}).relative_to(ROOT))


if __name__ == "__main__":
    main()
