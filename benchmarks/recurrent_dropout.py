"""Times a training step with recurrent dropout beside the same step without it.

    python benchmarks/recurrent_dropout.py [--threads 1,2] [--families lstm,gru,simple_rnn] [--peers keras]
        [--python keras=PATH]

Both steps of a library run in processes of their own that take turns, as in compare.py. Without dropout the
losses of all must agree; each library draws its masks as it likes, so those with dropout cannot be compared.
Writes JSON to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from cases import GATES, Case
from compare import OURS, words
from race import Contestant, Process, Turns, add_turn_options, prepare, take_turns
from record import ROOT, write
from report import amount

RATE = 0.2
SHAPES = ((1, 100, 64, 128), (32, 100, 64, 128), (32, 100, 256, 256), (128, 100, 64, 128))
MOST = 1.15  # times a step without it


def rows(args: argparse.Namespace, versions: dict[str, str]) -> Iterator[dict[str, Any]]:
    turns = Turns(args.rounds, args.seconds, args.tries)
    for threads in map(int, args.threads):
        processes: dict[str, tuple[Process, Process]] = {}
        try:
            for name in (OURS, *args.peers):
                contestant = Contestant(name, name, args.python.get(name, sys.executable))
                processes[name] = (Process(contestant, threads), Process(contestant, threads))
                versions |= processes[name][0].versions
            for family in args.families:
                for shape in SHAPES:
                    yield row(processes, Case("training", *shape, family=family), threads, turns)
        finally:
            for process in (process for pair in processes.values() for process in pair):
                process.close()


def row(
    processes: dict[str, tuple[Process, Process]], case: Case, threads: int, turns: Turns
) -> dict[str, Any]:
    """The figures of a shape, and by library the ratio of both steps."""
    with_it = replace(case, recurrent_dropout=RATE)
    seconds = turns.seconds / 2
    plain = prepare([pair[0] for pair in processes.values()], case, seconds)
    able = {}
    for name, (without, dropping) in processes.items():
        dropped = prepare([dropping], with_it, seconds)[name]
        for process, told, label in ((without, plain[name], name), (dropping, dropped, f"{name}, dropout")):
            if "form" not in told:
                sys.exit(f"{label}: {told}")
            able[label] = (process, told["form"])
    timed = take_turns(able, turns)
    figures = timed["figures"]
    ratios = {
        name: figures[f"{name}, dropout"]["microseconds"] / figures[name]["microseconds"]
        for name in processes
    }
    return {"case": asdict(with_it), "name": case.name, "threads": threads, "ratios": ratios, **timed}


def markdown(found: list[dict[str, Any]]) -> str:
    names = list(found[0]["ratios"])
    heads = [f"{name}{more}" for name in names for more in (", us", ", dropout", ", ratio")]
    lines = [["family", "B,T,I,H", "threads", *heads], ["---", "---", *["---:"] * (len(heads) + 1)]]
    for one in found:
        cells = [one["case"]["family"], one["name"], str(one["threads"])]
        for name in names:
            both = (one["figures"][label]["microseconds"] for label in (name, f"{name}, dropout"))
            cells += [*map(amount, both), f"{one['ratios'][name]:.2f}"]
        lines.append(cells)
    above = [f"{r['case']['family']} {r['name']}" for r in found if r["ratios"][OURS] > MOST]
    verdict = f"Above {MOST}: {', '.join(above)}." if above else f"No row of ours is above {MOST}."
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{verdict}\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    option("--threads", type=words, default=["1", "2"], help="with commas between (default 1,2)")
    option("--families", type=words, default=list(GATES), help=f"of {', '.join(GATES)} (default all)")
    option("--peers", type=words, default=[], help="other libraries: keras (default none)")
    option("--python", action="append", default=[], metavar="PEER=PATH", help="interpreter that has the peer")
    add_turn_options(parser)
    args = parser.parse_args()
    args.python = dict(item.partition("=")[::2] for item in args.python)
    if unknown := set(args.families) - set(GATES):
        parser.error(f"--families {', '.join(unknown)}: there are {', '.join(GATES)}")
    found: list[dict[str, Any]] = []
    versions: dict[str, str] = {}
    for one in rows(args, versions):
        found.append(one)
        print(f"{one['threads']} {one['case']['family']} {one['name']} {one['ratios']}", flush=True)
    print(f"\n{markdown(found)}")
    if not args.no_file:
        path = write("recurrent_dropout", {"rate": RATE, "versions": versions, "rows": found})
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
