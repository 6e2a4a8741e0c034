"""Times lstm_native beside other libraries: inference, streaming, training, whole models; 1 and 2 threads.

    python benchmarks/compare.py --what inference|streaming|training|model|all|gru|simple_rnn [--threads 1,2]
        [--peers torch,onnxruntime,...] [--python PEER=PATH ...]

What is not called gru or simple_rnn is of the LSTM. Every library runs in a process of its own and the
processes take turns, so that a machine that slows down slows all of them; a turn that other processes
disturbed is repeated. A figure is the median over turns, a turn the median over its calls. All start from the
same weights; whose results differ is not counted. Libraries that are not installed are left out with a word.
Writes JSON, a Markdown table and a picture (where matplotlib is installed) to benchmarks/results/; Ctrl-C
ends it early with what there is.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from typing import Any

from cases import FAMILIES, SECTIONS
from ceilings import Ceilings
from peers import OURS_ELSEWHERE, PEERS
from race import Contestant, Process, Turns, add_turn_options, race
from record import ROOT, write
from report import markdown, picture, row_of, section_of

OURS = "lstm_native"
CASES = SECTIONS | FAMILIES


def words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    option("--what", type=words, default=["all"], help=f"{', '.join(CASES)} or all (of the LSTM)")
    option("--threads", type=words, default=["1", "2"], help="with commas between (default 1,2)")
    peers = [name for name in PEERS if name not in OURS_ELSEWHERE]
    option("--peers", type=words, default=peers, help=f"of {', '.join(PEERS)} (default all but the last)")
    option("--cases", nargs="+", default=[], metavar="B,T,I,U", help="only these shapes")
    option("--python", action="append", default=[], metavar="PEER=PATH", help="interpreter that has the peer")
    add_turn_options(parser)
    args = parser.parse_args()
    args.what = list(SECTIONS) if args.what == ["all"] else args.what
    args.threads = [int(word) for word in args.threads]
    args.python = dict(item.partition("=")[::2] for item in args.python)
    for name in args.what:
        if name not in CASES:
            parser.error(f"--what {name}: there are {', '.join(CASES)} and all")
    for name in (*args.peers, *args.python):
        if name not in PEERS:
            parser.error(f"{name} is no peer: there are {', '.join(PEERS)}")
    # Ours leads: the others' results are compared with its.
    args.peers = [OURS, *(name for name in args.peers if name != OURS)]
    return args


def start(args: argparse.Namespace, threads: int) -> list[Process]:
    """The peers' processes; a word on who is not installed."""
    processes = []
    for name in args.peers:
        process = Process(Contestant(name, name, args.python.get(name, sys.executable)), threads)
        if process.missing:
            print(f"{name} is left out: {process.missing}", flush=True)
            process.close()
        else:
            processes.append(process)
    return processes


def races(args: argparse.Namespace, versions: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The rows one by one; adds the libraries' versions to `versions`."""
    turns = Turns(args.rounds, args.seconds, args.tries)
    with Ceilings() as ceilings:
        for threads in args.threads:
            processes = start(args, threads)
            try:
                for process in processes:
                    versions |= process.versions
                for case in (case for section in args.what for case in CASES[section]):
                    if args.cases and case.name not in args.cases:
                        continue
                    row = race(processes, case, threads, turns)
                    if threads > 1:
                        row["hand_over_nanoseconds"] = ceilings.hand_over()
                    yield row
            finally:
                for process in processes:
                    process.close()


def main() -> None:
    args = parsed()
    started = time.monotonic()
    rows: list[dict[str, Any]] = []
    versions: dict[str, str] = {}
    try:
        for row in races(args, versions):
            rows.append(row)
            print(f"{row['threads']} {section_of(row):9} {row_of(row)}", flush=True)
    except KeyboardInterrupt:
        print("stopped: what follows is not complete")
    document = {
        "rounds": args.rounds,
        "seconds_per_turn": args.seconds,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "versions": versions,
        "rows": rows,
    }
    print()
    print(markdown(document))
    if not args.no_file:
        path = write("compare", document)
        path.with_suffix(".md").write_text(markdown(document))
        print(path.relative_to(ROOT))
        drawn = picture(document, path.with_suffix(".png"))
        print(drawn.relative_to(ROOT) if drawn else "no picture: matplotlib is not installed")


if __name__ == "__main__":
    main()
