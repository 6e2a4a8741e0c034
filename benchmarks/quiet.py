"""Tells whether other processes used the machine during a measurement (Linux; elsewhere it says no)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STAT = Path("/proc/stat")
TICK = os.sysconf("SC_CLK_TCK")
SHARE = 0.1  # of one processor that others may take
TICKS = 0.03  # seconds: what the counters' steps of 10 ms can make of nothing


def busy_seconds() -> float:
    """Processor seconds of the whole machine since its start, what a hypervisor took away included.

    Zero where the system does not tell.
    """
    if not STAT.exists():
        return 0.0
    fields = [int(field) for field in STAT.read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields[:8]
    return (user + nice + system + irq + softirq + steal) / TICK


def _own_seconds(process: int) -> float:
    """Processor seconds of one process."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def is_disturbed(others: float, seconds: float) -> bool:
    """Whether other processes took too many processor seconds, `others`, while `seconds` were measured."""
    return others > SHARE * seconds + TICKS


def undisturbed(measure: Callable[[], Any], process: int, tries: int = 60) -> tuple[Any, bool]:
    """Calls `measure`, whose work `process` does, again until nobody disturbs it.

    Returns:
        The last result, and whether that one was undisturbed (after `tries` calls it may not be).
    """
    if not STAT.exists():
        return measure(), True
    result = None
    for _ in range(tries):
        start, busy, own = time.perf_counter(), busy_seconds(), _own_seconds(process)
        result = measure()
        others = (busy_seconds() - busy) - (_own_seconds(process) - own)
        if not is_disturbed(others, time.perf_counter() - start):
            return result, True
        time.sleep(0.5)
    return result, False
