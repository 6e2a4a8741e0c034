"""Times sequences of different lengths: lists, padded arrays, full lengths, PyTorch's packed sequences.

    python benchmarks/ragged.py [--threads 1,2] [--families lstm] [--python torch=PATH]

512 sequences of 1 to 200 steps (uniform), 64 inputs, 128 units, batches of 32: `predict` and one epoch of
`fit` of a layer and Dense(1, sigmoid). `list` gets a list of arrays; `padded` an array of 200 steps through
Masking; `full` 512 sequences of 200 steps, whose time a step is the yardstick; `packed` is PyTorch with the
same batches, in `predict` also with batches in no order; `padded batches` is PyTorch without packing, each
batch padded to its longest and read at the last valid steps. Predictions, and the losses of three epochs,
must agree (but those of `full`). Writes JSON to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from cases import GATES, Case
from compare import OURS, words
from race import TOLERANCE, Contestant, Process, Turns, add_turn_options, prepare, take_turns
from record import ROOT, write

MOST = 1.2  # times the yardstick
CASES = {section: Case(section, 32, 200, 64, 128, sequences=512) for section in ("predict", "fit")}


def rows(args: argparse.Namespace, versions: dict[str, str]) -> Iterator[dict[str, Any]]:
    turns = Turns(args.rounds, args.seconds, args.tries)
    for threads in map(int, args.threads):
        torch = Contestant("torch", "torch", args.python.get("torch", sys.executable))
        ours, full = (Contestant(name, OURS) for name in (OURS, "full"))
        processes = [Process(contestant, threads) for contestant in (ours, torch, full)]
        try:
            for process in processes:
                if process.missing:
                    sys.exit(f"{process.name}: {process.missing}")
                versions |= process.versions
            for family in args.families:
                for case in CASES.values():
                    yield row(processes, replace(case, family=family), threads, turns)
        finally:
            for process in processes:
                process.close()


def row(processes: list[Process], case: Case, threads: int, turns: Turns) -> dict[str, Any]:
    """The figures of every form, in nanoseconds for each valid step too."""
    *ragged, full = processes
    whole = replace(case, shortest=case.time)
    told = prepare(ragged, case, turns.seconds / 2) | prepare([full], whole, turns.seconds / 2)
    able = {}
    for process in processes:
        word = told[process.name]
        if "form" not in word:
            sys.exit(f"{process.name}: {word}")
        for form, difference in word["differences"].items():
            if difference > TOLERANCE:
                sys.exit(f"{process.name}, {form}: differs by {difference:.2g}")
            able["full" if process is full else form] = (process, form)
    timed = take_turns(able, turns)
    for name, figures in timed["figures"].items():
        steps = int((whole if name == "full" else case).lengths().sum())
        figures["nanoseconds_a_step"] = 1e3 * figures["microseconds"] / steps
    return {"case": asdict(case), "threads": threads, "prepared": told, **timed}


def markdown(found: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for one in found for name in one["figures"]))
    others = [name for name in names if name not in ("list", "full")]
    head = ["family", "call", "threads", *(f"{name}, ns" for name in names), "list / full"]
    head += [f"{name} / list" for name in others]
    lines = [head, ["---", "---", *["---:"] * (len(head) - 2)]]
    above = []
    for one in found:
        a_step = {name: figures["nanoseconds_a_step"] for name, figures in one["figures"].items()}
        label = [one["case"]["family"], one["case"]["section"], str(one["threads"])]
        over = a_step["list"] / a_step["full"]
        cells = [f"{a_step[name]:.0f}" if name in a_step else "-" for name in names]
        ratios = [f"{a_step[name] / a_step['list']:.2f}" if name in a_step else "-" for name in others]
        lines.append([*label, *cells, f"{over:.2f}", *ratios])
        above += [" ".join(label)] if over > MOST else []
    verdict = f"list / full above {MOST}: {', '.join(above)}." if above else f"No list / full above {MOST}."
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{verdict}\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    option("--threads", type=words, default=["1", "2"], help="with commas between (default 1,2)")
    option("--families", type=words, default=["lstm"], help=f"of {', '.join(GATES)} (default lstm)")
    option("--python", action="append", default=[], metavar="PEER=PATH", help="interpreter that has the peer")
    add_turn_options(parser, seconds=0.4)
    args = parser.parse_args()
    args.python = dict(item.partition("=")[::2] for item in args.python)
    if unknown := set(args.families) - set(GATES):
        parser.error(f"--families {', '.join(unknown)}: there are {', '.join(GATES)}")
    found: list[dict[str, Any]] = []
    versions: dict[str, str] = {}
    for one in rows(args, versions):
        found.append(one)
        print(markdown([one]), flush=True)
    print(markdown(found))
    if not args.no_file:
        path = write("ragged", {"versions": versions, "rows": found})
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
