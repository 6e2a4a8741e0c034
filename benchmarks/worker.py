"""Runs one peer in a process of its own, turn by turn, on the orders of race.py.

Orders come as JSON lines on standard input, an answer goes out for each: `prepare` a case (the first results
of each of the peer's ways to do it are written for the comparison), `turn` (times of one of them).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import time
from typing import Any

import numpy as np
from cases import Array, Case
from peers import PEERS, environment, peer_class
from peers.base import NotOffered, Peer, Timed

# Results compared: those of the first calls; of a stream or a training one alone would show little.
CHECKED_CALLS = {"inference": 1, "model": 1, "streaming": 5, "training": 5, "predict": 1, "fit": 3}
WARM_UP_SECONDS = 0.02
MOST_CALLS = 20_000


def times_of_calls(timed: Timed, seconds: float) -> list[float]:
    """Seconds of each call, of calls repeated for about `seconds` after some to warm up; one at least."""
    call, clock = timed.call, time.perf_counter
    end = clock() + min(WARM_UP_SECONDS, seconds / 4)
    while True:
        call()
        if clock() >= end:
            break
    times: list[float] = []
    start = clock()
    end = start + seconds
    while start < end and len(times) < MOST_CALLS:
        call()
        now = clock()
        times.append(now - start)
        start = now
    return times


def checked_results(timed: Timed, calls: int) -> Array:
    return np.stack([np.asarray(timed.read(timed.call()), np.float64) for _ in range(calls)])


def turn(timed: Timed, seconds: float) -> dict[str, Any]:
    processor, wall = time.process_time(), time.perf_counter()
    times = sorted(times_of_calls(timed, seconds))
    processor, wall = time.process_time() - processor, time.perf_counter() - wall
    return {
        "median": statistics.median(times),
        "p99_9": times[min(len(times) - 1, int(0.999 * len(times)))],
        "calls": len(times),
        "processors": round(processor / wall, 2),
    }


def prepared(peer: Peer, case: Case, results: str) -> dict[str, Timed]:
    """The peer's ways to do the case; the first results of each are written to the file `results`."""
    if case.family not in peer.families:
        raise NotOffered(f"{case.family} is not built for it here")
    forms: dict[str, Timed] = getattr(peer, case.section)(case)
    calls = CHECKED_CALLS[case.section]
    arrays: dict[str, Any] = {name: checked_results(form, calls) for name, form in forms.items()}
    np.savez(results, **arrays)
    gc.collect()
    gc.freeze()  # so that collections during the turns look at little
    return forms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", choices=PEERS, required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    # Libraries may print while they load; the answers get a channel of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.environ.update(environment(args.threads))

    def answer(**values: Any) -> None:
        print(json.dumps(values), file=answers, flush=True)

    try:
        peer = peer_class(args.peer)(args.threads)
    except ImportError as error:
        answer(missing=str(error))
        return
    from record import versions  # which asks the system for its load at import

    answer(versions=versions(peer.packages), python=sys.version.split()[0])
    forms: dict[str, Timed] = {}
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "turn":
            answer(**turn(forms[order["form"]], order["seconds"]))
            continue
        forms = {}  # gives back the memory of the case before
        try:
            forms = prepared(peer, Case(**order["case"]), order["results"])
        except NotOffered as reason:
            answer(not_offered=str(reason))
            continue
        except Exception as error:  # one library's failure must not end the run of all
            answer(error=f"{type(error).__name__}: {error}"[:500])
            continue
        answer(forms=list(forms))


if __name__ == "__main__":
    main()
