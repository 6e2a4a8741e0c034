"""Tells whether other processes used the machine during a measurement (Linux; elsewhere it says no)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TICK = os.sysconf("SC_CLK_TCK")
# Of one processor. Ticks are 10 ms, so turns shorter than a few tenths of a second cannot be judged finer.
DISTURBED = 0.1


def _busy_seconds() -> float:
    """Processor seconds of the whole machine since its start, what a hypervisor took away included."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields[:8]
    return (user + nice + system + irq + softirq + steal) / TICK


def _own_seconds(process: int) -> float:
    """Processor seconds of one process."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def undisturbed(measure: Callable[[], Any], process: int, tries: int = 60) -> tuple[Any, bool]:
    """Calls `measure`, whose work `process` does, again until nobody disturbs it.

    Returns:
        The last result, and whether that one was undisturbed (after `tries` calls it may not be).
    """
    if not Path("/proc/stat").exists():
        return measure(), True
    result = None
    for _ in range(tries):
        start, busy, own = time.perf_counter(), _busy_seconds(), _own_seconds(process)
        result = measure()
        others = (_busy_seconds() - busy) - (_own_seconds(process) - own)
        if others < DISTURBED * (time.perf_counter() - start):
            return result, True
        time.sleep(0.5)
    return result, False
