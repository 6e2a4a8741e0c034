"""Contestants in processes of their own that take turns on one case, their results checked equal."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cases import Case
from peers import environment
from quiet import undisturbed

# float32 sums in another order: outputs and losses differ in the last bits.
TOLERANCE = 1e-5
SETTLE = 0.03  # seconds between turns: threads of the one before go to sleep or show as a disturbance
SLOW = 2.5  # times the fastest: who is behind that far takes two turns, enough to say so


@dataclass(frozen=True)
class Contestant:
    """A peer and the interpreter and environment that it runs in."""

    name: str
    peer: str
    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Turns:
    """How long a race takes.

    Attributes:
        rounds: turns of each contestant.
        seconds: of a turn.
        tries: to get a turn that nobody disturbs.
        patience: seconds of a race after which turns that stay disturbed are taken as they are.
    """

    rounds: int
    seconds: float
    tries: int
    patience: float = 20.0


def add_turn_options(parser: argparse.ArgumentParser, rounds: int = 5, seconds: float = 0.15) -> None:
    """What the scripts that race have in common; `rounds` and `seconds` are the defaults."""
    option = parser.add_argument
    option("--rounds", type=int, default=rounds, help=f"turns of each on a case (default {rounds})")
    option("--seconds", type=float, default=seconds, help=f"of one turn (default {seconds})")
    option("--tries", type=int, default=8, help="to get a turn that nobody disturbs (default 8)")
    option("--no-file", action="store_true", help="write nothing to benchmarks/results/")


class Process:
    """A contestant's process; `missing` says why there is none to speak to."""

    def __init__(self, contestant: Contestant, threads: int) -> None:
        command = [contestant.python, str(Path(__file__).with_name("worker.py"))]
        command += ["--peer", contestant.peer, "--threads", str(threads)]
        self.name = contestant.name
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, **environment(threads), **contestant.environment},
            start_new_session=True,  # Ctrl-C is for the race, which then ends the process in order
        )
        hello = self._answer()
        self.missing: str | None = hello.get("missing") or hello.get("error")
        self.versions: dict[str, str] = hello.get("versions", {})

    @property
    def id(self) -> int:
        return self.process.pid

    def order(self, **order: Any) -> dict[str, Any]:
        """The answer; `error` in it when the process ended instead."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            return {"error": f"ended with status {self.process.wait()}: {self.log.read()[-500:]}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def prepare(processes: list[Process], case: Case, seconds: float) -> dict[str, dict[str, Any]]:
    """A word on every contestant: the `form` that is timed is its fastest with the results of the first one.

    Without a form, `not_offered` or `error` says why it cannot take part.
    """
    words: dict[str, dict[str, Any]] = {}
    reference = None
    with tempfile.TemporaryDirectory() as folder:
        for process in processes:
            path = Path(folder) / f"{process.name}.npz"
            told = process.order(do="prepare", case=asdict(case), results=str(path))
            words[process.name] = told
            if "forms" not in told:
                continue
            told["differences"], told["seconds"] = {}, {}
            for form, results in np.load(path).items():
                reference = results if reference is None else reference
                difference = told["differences"][form] = float(np.abs(results - reference).max())
                if difference <= TOLERANCE:
                    answer = process.order(do="turn", form=form, seconds=seconds)
                    told["seconds"][form] = answer["median"]
            if told["seconds"]:
                told["form"] = min(told["seconds"], key=told["seconds"].__getitem__)
            else:
                told["error"] = f"differs from {processes[0].name} by {min(told['differences'].values()):.2g}"
    return words


def race(processes: list[Process], case: Case, threads: int, turns: Turns) -> dict[str, Any]:
    """One row of a table: the figures of every contestant that can run the case."""
    words = prepare(processes, case, turns.seconds / 2)
    able = {p.name: (p, words[p.name]["form"]) for p in processes if "form" in words[p.name]}
    return {
        "case": asdict(case),
        "name": case.name,
        "threads": threads,
        **take_turns(able, turns),
        "prepared": words,
    }


def take_turns(able: Mapping[str, tuple[Process, str]], turns: Turns) -> dict[str, Any]:
    """Figures by name, and how many turns were disturbed.

    Args:
        able: processes, each with the form that it times; one may occur with several.
        turns: how many, and how long.
    """
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in able}
    disturbed, patience = 0, turns.patience
    for number in range(turns.rounds):
        medians = {
            name: statistics.median(answer["median"] for answer in told)
            for name, told in answers.items()
            if told
        }
        best = min(medians.values(), default=0.0)
        for name, (process, form) in able.items():
            if number >= 2 and medians[name] > SLOW * best:
                continue
            time.sleep(SETTLE)
            turn = partial(process.order, do="turn", form=form, seconds=turns.seconds)
            start = time.monotonic()
            answer, quiet = undisturbed(turn, process.id, turns.tries if patience > 0 else 1)
            patience -= 0.0 if quiet else time.monotonic() - start
            if "error" in answer:
                sys.exit(f"{name}: {answer['error']}")
            disturbed += not quiet
            answers[name].append(answer)
    return {
        "disturbed_turns": disturbed,
        "figures": {name: figures(told) for name, told in answers.items()},
    }


def figures(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """Microseconds a call: the median over turns, and the turns."""
    medians = [answer["median"] * 1e6 for answer in answers]
    return {
        "microseconds": round(statistics.median(medians), 2),
        "low": round(min(medians), 2),
        "high": round(max(medians), 2),
        "p99_9": round(statistics.median(answer["p99_9"] for answer in answers) * 1e6, 2),
        "turns": [round(value, 2) for value in medians],
        "calls": sum(answer["calls"] for answer in answers),
        "processors": statistics.median(answer["processors"] for answer in answers),
    }
