"""The CUDA library itself, where nvcc is: it compiles without warnings for Hopper and as PTX, its kernels
spill no registers, nothing of CUDA is linked, it answers on a machine without a driver. No GPU is needed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from cuda_support import CSRC, nvcc, run
from test_cuda import python

pytestmark = pytest.mark.long  # minutes of the compiler

TARGETS = ["-gencode=arch=compute_90a,code=sm_90a", "-gencode=arch=compute_90,code=compute_90"]
STRICT = ["-Xcompiler=-Wall,-Wextra,-Werror", "--Werror=all-warnings"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The library, and what the compiler says of its kernels."""
    library = tmp_path_factory.mktemp("nvcc") / "liblstm_native_cuda.so"
    sources = [*(CSRC / "cuda").glob("*.cu"), *(CSRC / "cuda").glob("*.cpp")]
    sources += [CSRC / "core" / "activation.cpp", CSRC / "core" / "library.cpp"]
    flags = ["-std=c++17", "-O3", "-shared", "--extended-lambda", f"-I{CSRC}", "-Xptxas=-v", "--threads=2"]
    hidden = ["-Xcompiler=-fPIC,-fvisibility=hidden", "-Xlinker=--exclude-libs,ALL", "-cudart=static"]
    report = run(nvcc(), *flags, *hidden, *TARGETS, *STRICT, *sorted(sources), "-o", library, timeout=1200)
    return library, report


def test_no_kernel_spills_registers(built: tuple[Path, str]) -> None:
    kernels = re.findall(
        r"Function properties for (\S+)\n\s+(\d+) bytes stack frame, (\d+) bytes spill", built[1]
    )
    assert len(kernels) > 80
    # For each cell and precision, forward and backward, one call and two, with marks and at meetings;
    # LSTMs in blocks with 1, 2, 4 rows.
    # Nor may they copy their arguments to memory, to pick those of one of two calls.
    for name, number in (("each_grid_step", 4 * (4 + 3) * 2 * 2), ("each_block", 3 * 2 * 2)):
        frames = [int(frame) for kernel, frame, _ in kernels if name in kernel]
        assert frames == [0] * number, name
    # Rare activations are functions that kernels call; around a call, registers go to memory.
    rare = re.compile("AnyActivations|GeneralLstm|value_of|slope_of")
    assert [name for name, _, spilled in kernels if spilled != "0" and not rare.search(name)] == []


def test_exports_one_function_and_links_no_cuda(built: tuple[Path, str]) -> None:
    if shutil.which("nm") is None or shutil.which("ldd") is None:
        pytest.skip("needs binutils")
    names = [line.split()[-1] for line in run("nm", "-D", "--defined-only", built[0]).splitlines()]
    assert [name for name in names if not name.startswith("_Z")] == ["lstm_native_backend"]
    assert not any("lstm_native" in name or "cuda" in name for name in names if name.startswith("_Z"))
    assert not re.search(r"libcuda|libcublas|libcudart", run("ldd", built[0]))


def test_answers_without_a_driver(built: tuple[Path, str]) -> None:
    code = "import lstm_native as ln; print(ln.cuda.unavailable_reason())"
    reason = python(code, LSTM_NATIVE_CUDA_LIBRARY=str(built[0]))
    if reason == "None" or "no NVIDIA driver" not in reason:
        pytest.skip(f"this machine has a driver: {reason}")
    assert reason == (
        "CUDA is not available: no NVIDIA driver was found; install one that supports CUDA 13.0"
    )
