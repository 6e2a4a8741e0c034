"""Whole processes, measured from outside: wall time and peak memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """One finished process."""

    seconds: float
    peak_mib: float
    output: str


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Run:
    """Runs `command` without standard input; ends the program with its output when it fails."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=None if environment is None else {**os.environ, **environment},
    )
    assert process.stdout is not None
    output = process.stdout.read().decode(errors="replace")
    # wait4 gives the peak memory of this child alone; Popen must be told that it was waited for.
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.stdout.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with status {process.returncode}:\n{output}")
    return Run(seconds, usage.ru_maxrss / 1024, output)


def summary(runs: Sequence[Run]) -> dict[str, float | list[float]]:
    """Medians, and the single times."""
    return {
        "seconds": round(statistics.median(run.seconds for run in runs), 4),
        "peak_mib": round(statistics.median(run.peak_mib for run in runs), 1),
        "all_seconds": [round(run.seconds, 4) for run in runs],
    }
