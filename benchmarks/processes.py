"""Whole processes, measured from outside: wall time and peak memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quiet import busy_seconds, is_disturbed


@dataclass(frozen=True)
class Run:
    """One finished process."""

    seconds: float
    peak_mib: float
    output: str
    disturbed: bool  # other processes used the machine meanwhile


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Run:
    """Runs `command` without standard input; ends the program with its output when it fails."""
    start, busy = time.perf_counter(), busy_seconds()
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
    others = busy_seconds() - busy - usage.ru_utime - usage.ru_stime
    process.stdout.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with status {process.returncode}:\n{output}")
    return Run(seconds, usage.ru_maxrss / 1024, output, is_disturbed(others, seconds))


def run_undisturbed(
    command: Sequence[str], environment: Mapping[str, str] | None = None, tries: int = 30
) -> Run:
    """Runs again while other processes disturb, up to `tries` times; the last one may be disturbed."""
    for _ in range(tries - 1):
        done = run(command, environment)
        if not done.disturbed:
            return done
        time.sleep(0.5)
    return run(command, environment)


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """Medians, and the single times."""
    return {
        "seconds": round(statistics.median(run.seconds for run in runs), 4),
        "peak_mib": round(statistics.median(run.peak_mib for run in runs), 1),
        "all_seconds": [round(run.seconds, 4) for run in runs],
        "disturbed": sum(run.disturbed for run in runs),
    }
