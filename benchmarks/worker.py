"""Runs one peer in a process of its own, turn by turn, on the orders of compare_torch.py.

Orders come as JSON lines on standard input, an answer goes out for each: `outputs` (probabilities and the
losses of a few steps, for the comparison of results) and `turn` (seconds a call of one operation).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from peers import PEERS, peer_class
from peers.base import CASES, Peer
from record import versions

CHECKED_STEPS = 5


def seconds_per_call(call: Callable[[], Any], seconds: float) -> float:
    """Median time of a call, over calls repeated for about `seconds`; three calls warm up."""
    for _ in range(3):
        call()
    times = []
    end = time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        call()
        now = time.perf_counter()
        times.append(now - start)
        if now >= end:
            return statistics.median(times)


def outputs(peer: Peer) -> dict[str, Any]:
    return {
        "probabilities": peer.predict().ravel().tolist(),
        "losses": [peer.train_step() for _ in range(CHECKED_STEPS)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", choices=PEERS, required=True)
    parser.add_argument("--case", choices=CASES, required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    # Libraries may print while they load; the answers get a channel of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    case = CASES[args.case]
    peer = peer_class(args.peer)(case, args.threads)
    peer.prepare(*case.data())
    operations = {"predict": peer.predict, "train_step": peer.train_step}
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "outputs":
            answer = {**outputs(peer), "versions": versions(peer.packages)}
        else:
            answer = {"seconds": seconds_per_call(operations[order["operation"]], order["seconds"])}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
