"""Times lstm_native beside PyTorch: inference and whole training steps, 1 and 2 threads.

    python benchmarks/compare_torch.py [--threads 1 2] [--cases tutorial sequence] [--rounds 7]

Each peer runs in a process of its own and the peers take turns, so that a machine that slows down slows
all of them; a turn that other processes disturbed is repeated. A figure is the median over turns, a turn
the median over its calls. All start from the same
weights; a run in which probabilities or losses differ is worth nothing and ends with an error.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from peers import PEERS
from peers.base import CASES
from quiet import undisturbed
from record import ROOT, write

OPERATIONS = ("predict", "train_step")
REFERENCE = "torch"
# float32 sums in another order: probabilities differ in the last bits; a few Adam steps widen that little.
PROBABILITY_TOLERANCE = 1e-5
LOSS_TOLERANCE = 1e-5


class Worker:
    """A peer's process."""

    def __init__(self, peer: str, case: str, threads: int) -> None:
        command = [sys.executable, str(Path(__file__).with_name("worker.py"))]
        command += ["--peer", peer, "--case", case, "--threads", str(threads)]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "LSTM_NATIVE_NUM_THREADS": str(threads)}
        self.peer = peer
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def order(self, **order: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.peer}: the process ended with status {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def check_same(outputs: dict[str, dict[str, Any]]) -> dict[str, float]:
    """The largest difference of any peer from the reference; ends the program where it is too large."""
    differences = {}
    for peer, answer in outputs.items():
        for what, limit in (("probabilities", PROBABILITY_TOLERANCE), ("losses", LOSS_TOLERANCE)):
            difference = float(np.abs(np.subtract(answer[what], outputs[REFERENCE][what])).max())
            if not difference <= limit:
                sys.exit(f"{what} of {peer} differ by {difference:.2g}, more than {limit:.0e}: no fair race")
            if peer != REFERENCE:
                differences[f"{peer} {what}"] = difference
    return differences


def race(peers: list[str], case: str, threads: int, rounds: int, seconds: float) -> dict[str, Any]:
    """All operations of one case at one number of threads."""
    workers = [Worker(peer, case, threads) for peer in peers]
    try:
        outputs = {worker.peer: worker.order(do="outputs") for worker in workers}
        differences = check_same(outputs)
        turns: dict[str, dict[str, list[float]]] = {o: {peer: [] for peer in peers} for o in OPERATIONS}
        disturbed = 0
        for _ in range(rounds):
            for operation in OPERATIONS:
                for worker in workers:
                    turn = partial(worker.order, do="turn", operation=operation, seconds=seconds)
                    answer, quiet = undisturbed(turn, worker.process.pid)
                    disturbed += not quiet
                    turns[operation][worker.peer].append(answer["seconds"])
    finally:
        for worker in workers:
            worker.close()
    return {
        "case": vars(CASES[case]),
        "threads": threads,
        "versions": {name: v for answer in outputs.values() for name, v in answer["versions"].items()},
        "largest_differences": differences,
        "disturbed_turns": disturbed,
        "microseconds": {
            operation: {peer: round(statistics.median(times) * 1e6, 2) for peer, times in by_peer.items()}
            for operation, by_peer in turns.items()
        },
        "turns_microseconds": {
            operation: {peer: [round(t * 1e6, 2) for t in times] for peer, times in by_peer.items()}
            for operation, by_peer in turns.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    option("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    option("--cases", nargs="+", choices=CASES, default=list(CASES))
    option("--threads", nargs="+", type=int, default=[1, 2])
    option("--rounds", type=int, default=7)
    option("--seconds", type=float, default=0.4, help="of one turn (default 0.4)")
    option("--no-file", action="store_true", help="write nothing to benchmarks/results/")
    args = parser.parse_args()
    if REFERENCE not in args.peers:
        parser.error(f"--peers must hold {REFERENCE}, whose results the others are checked against")

    races = []
    print(f"{'case':10} {'threads':>7}  {'operation':10}  " + "  ".join(f"{p:>14}" for p in args.peers))
    for case in args.cases:
        for threads in args.threads:
            result = race(args.peers, case, threads, args.rounds, args.seconds)
            races.append(result)
            for operation, times in result["microseconds"].items():
                figures = "  ".join(f"{times[peer]:11.1f} us" for peer in args.peers)
                print(f"{case:10} {threads:7}  {operation:10}  {figures}", flush=True)
            if result["disturbed_turns"]:
                print(f"{result['disturbed_turns']} turns were disturbed by other processes: measure again")
    if not args.no_file:
        path = write(
            "compare_torch", {"rounds": args.rounds, "seconds_per_turn": args.seconds, "races": races}
        )
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
