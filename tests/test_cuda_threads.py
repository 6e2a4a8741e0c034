"""Kernels of the CUDA backend as a GPU runs them, every thread of a block on a thread of the host
(tests/cpp/simt.h), under the sanitizers: races between threads, lanes and blocks, accesses out of bounds or
not aligned. No GPU is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cuda_support import LIBRARY, ROOT, build_for_host, compiler, run

pytestmark = pytest.mark.long

TESTS = [
    "tests/test_cuda_plans.py::test_grids",
    "tests/test_cuda_plans.py::test_tensor_cores",
    "tests/test_cuda_backend.py",
]
SLOW = ["33-150", "40-200", "17-", "16-", "test_recurrent["]  # minutes under the sanitizers
RUNTIMES = {"thread": ["tsan"], "address,undefined": ["asan", "ubsan"]}


def runtimes(sanitizers: str) -> str:
    """The libraries to load before all others; skips the test where the compiler has them not."""
    found = [run(compiler(), f"-print-file-name=lib{name}.so").strip() for name in RUNTIMES[sanitizers]]
    if not all(Path(library).is_absolute() for library in found):
        pytest.skip(f"the compiler has no {sanitizers} sanitizers")
    return ":".join(found)


@pytest.mark.parametrize("sanitizers", RUNTIMES)
def test_kernels_on_threads_of_the_host(tmp_path: Path, sanitizers: str) -> None:
    preload = runtimes(sanitizers)
    simt = ["-DLSTM_NATIVE_SIMT=1", "-include", ROOT / "tests" / "cpp" / "simt.h"]
    checks = ["-g1", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=undefined"]
    library = build_for_host(tmp_path, *simt, *checks)
    environment = {
        **os.environ,
        LIBRARY: str(library),
        "LD_PRELOAD": preload,
        "OPENBLAS_NUM_THREADS": "1",
        "TSAN_OPTIONS": "exitcode=66",
        "ASAN_OPTIONS": "detect_leaks=0",  # Python frees little at its end
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    chosen = " and ".join(f"not {name}" for name in SLOW)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, *TESTS]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
