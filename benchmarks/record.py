"""What a result needs beside its figures: the machine, the commit, and a file under benchmarks/results/.

`load_before` is the load average when this module was imported: a busy machine makes figures worthless.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOAD_BEFORE = round(os.getloadavg()[0], 2)
RESULTS = ROOT / "benchmarks" / "results"


def machine() -> dict[str, Any]:
    """Processor, processors that this process may use, memory, system and Python."""
    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    flags: set[str] = set()
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                processor = value.strip()
            elif name.strip() == "flags":
                flags = set(value.split())
    notable = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile")
    return {
        "processor": processor,
        "instruction_sets": [flag for flag in notable if flag in flags],
        "processors": len(os.sched_getaffinity(0)),
        "load_before": LOAD_BEFORE,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def commit() -> str:
    """The commit that is checked out, `+changes` added when the tree differs; "unknown" outside git."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "csrc", "python", "CMakeLists.txt", "benchmarks/*.py")
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Installed versions; what is not installed is left out."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write(benchmark: str, figures: dict[str, Any]) -> Path:
    """Writes benchmarks/results/<benchmark>-<date>-<commit>.json and returns its path."""
    now = dt.datetime.now(dt.UTC)
    document = {
        "benchmark": benchmark,
        "time": now.isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        **figures,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{benchmark}-{now:%Y%m%d-%H%M%S}-{document['commit'].partition('+')[0]}.json"
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path
