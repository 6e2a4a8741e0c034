"""Compiles ceilings.cpp on the fly and asks for the limits of the machine, in the run that needs them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

SOURCE = Path(__file__).with_name("ceilings.cpp")


class Ceilings:
    """The program, running. Without a C++ compiler (`CXX`, c++) every answer is None."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._process: subprocess.Popen[str] | None = None
        compiler = shlex.split(os.environ.get("CXX", "c++"))
        if not shutil.which(compiler[0]):
            print(f"no ceilings: there is no {compiler[0]}")
            return
        program = str(Path(self._folder.name) / "ceilings")
        flags = ["-O3", "-march=native", "-ffp-contract=fast", "-std=c++17", "-pthread"]
        subprocess.run([*compiler, *flags, str(SOURCE), "-o", program], check=True)
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
        self._folder.cleanup()

    def _ask(self, order: str) -> float | None:
        if self._process is None:
            return None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def multiply_adds(self, threads: int) -> float | None:
        """GFLOP/s in float32, of all threads together."""
        return self._ask(f"fma {threads}")

    def reads(self, n_bytes: int, threads: int) -> float | None:
        """GB/s that all threads together read, each from a block of its own."""
        return self._ask(f"read {n_bytes} {threads}")

    def hand_over(self) -> float | None:
        """Nanoseconds until a core has seen what another one wrote; None with a single processor."""
        return self._ask("handover") if len(os.sched_getaffinity(0)) > 1 else None
