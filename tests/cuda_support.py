"""The CUDA backend for the tests: the installed one where there is a GPU, else its sources for the host."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from lstm_native import _core, cuda

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
LIBRARY = "LSTM_NATIVE_TEST_CUDA_LIBRARY"  # what tests open in place of one that they build
HOST_FLAGS = ["-std=c++17", "-fPIC", "-shared", "-fvisibility=hidden", "-ffp-contract=off", f"-I{CSRC}"]


def compiler() -> str:
    """The system's C++ compiler; skips the test where there is none, or no sources."""
    found = shutil.which("c++") or shutil.which("g++")
    if found is None or not (CSRC / "cuda").is_dir():
        pytest.skip("needs a C++ compiler and the sources")
    return found


def nvcc() -> str:
    """The CUDA compiler; skips the test where there is none."""
    found = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if found is None or not (CSRC / "cuda").is_dir():
        pytest.skip("needs nvcc and the sources")
    return found


def run(*command: object, timeout: float = 600.0) -> str:
    """Runs a program that must succeed; returns what it printed."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def build_for_host(folder: Path, *flags: str | Path) -> Path:
    """Compiles drivers and kernels as plain C++, on a machine of the host (tests/cpp/cuda_on_host.cpp)."""
    library = folder / "liblstm_native_cuda.so"
    blas = folder / "libcublaslt_on_host.so"
    of_host = ROOT / "tests" / "cpp"
    kernels = sorted(p for p in (CSRC / "cuda").glob("*.cu") if p.name != "runtime_cuda.cu")
    drivers = sorted((CSRC / "cuda").glob("*.cpp"))
    others = [CSRC / "core" / "activation.cpp", CSRC / "core" / "library.cpp", of_host / "cuda_on_host.cpp"]
    options = [*HOST_FLAGS, "-O1", f'-DCUBLASLT_ON_HOST="{blas}"', *flags, "-x", "c++"]
    run(compiler(), *options, of_host / "cublaslt_on_host.cpp", "-o", blas)
    run(compiler(), *options, *kernels, *drivers, *others, "-o", library)
    return library


def open_for_tests(folder: Path) -> None:
    """Opens the device, for the rest of this process."""
    if not cuda.is_available():
        given = os.environ.get(LIBRARY)
        library = build_for_host(folder) if given is None else Path(given)
        _core.open_cuda(str(library))
        _core.open_cuda_blas("")
        on_host.append(library)


on_host: list[Path] = []  # the library that was opened in place of a GPU's


class Copies(NamedTuple):
    """What was copied to the device or from it."""

    number: int
    bytes: int

    def since(self, before: Copies) -> Copies:
        return Copies(self.number - before.number, self.bytes - before.bytes)


def copies() -> tuple[Copies, Copies]:
    """Copies to the device and to the host so far; skips the test where a GPU did them."""
    if not on_host:
        pytest.skip("copies are counted on the host only")
    count = ctypes.CDLL(str(on_host[0])).cuda_on_host_copies
    numbers = ctypes.c_int64(), ctypes.c_int64()
    counted = []
    for direction in (0, 1):
        count(direction, *map(ctypes.byref, numbers))
        counted.append(Copies(numbers[0].value, numbers[1].value))
    return counted[0], counted[1]


@contextmanager
def using_precision(name: str) -> Iterator[None]:
    cuda.set_precision(name)
    try:
        yield
    finally:
        cuda.set_precision("float32")
