"""Builds the CUDA backend, checks it on the GPU that is here and times it beside cuDNN: one run answers all.

    python benchmarks/gpu.py [--check] [--bench] [--quick] [--parts smoke,bench,...] [--seconds 470]

Needs a GPU, nvcc 13, CMake, ninja, pybind11, pytest, hypothesis and PyTorch with CUDA, whose `torch.nn.LSTM`
calls cuDNN. Everything is built into build/gpu. Without --check and --bench it does both; under 8 minutes.

Each part (gpu_parts.py) runs in a process of its own with a time limit, so that one which hangs or crashes
takes no other with it, and says what it finds line by line: what was found before is kept. After each part
everything so far is written to benchmarks/results (and $OUT) as JSON; a table comes last.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gpu_report
from record import write

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "gpu"
PACKAGE = BUILD / "package"
Rows = list[dict[str, Any]]

# Name: seconds at most, whether it belongs to --check, to --bench. What later parts need to be believed comes
# first, what costs most for what it finds last.
PARTS = {
    "smoke": (60, True, True),
    "precisions": (60, True, False),
    "shapes": (90, True, False),
    "bench": (150, False, True),
    "extras": (40, False, True),
    "both_ways": (60, False, True),
    "plans": (90, False, True),
    "graphs": (50, True, True),
    "tests": (150, True, False),
    "memcheck": (60, True, False),
    "racecheck": (60, True, False),
}


def build() -> None:
    """Module and CUDA library, for the GPU that is here."""
    import torch

    major, minor = torch.cuda.get_device_capability()
    name = f"{major}{minor}" + ("a" if major == 9 else "")
    environment = dict(os.environ)
    if shutil.which("nvcc") is None:
        environment["PATH"] += os.pathsep + "/usr/local/cuda/bin"
    pybind = subprocess.run(
        [sys.executable, "-m", "pybind11", "--cmakedir"], capture_output=True, text=True, check=True
    ).stdout.strip()
    options = {
        "CMAKE_BUILD_TYPE": "Release",
        "pybind11_DIR": pybind,
        "Python_EXECUTABLE": sys.executable,
        "LSTM_NATIVE_CUDA": "ON",
        "LSTM_NATIVE_CUDA_ARCHITECTURES": f"{name}-real",
    }
    commands: list[list[Any]] = [
        ["cmake", "-S", ROOT, "-B", BUILD, "-G", "Ninja", *(f"-D{k}={v}" for k, v in options.items())],
        ["cmake", "--build", BUILD],
        ["cmake", "--install", BUILD, "--prefix", PACKAGE],
    ]
    start = time.perf_counter()
    for command in commands:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
        if done.returncode != 0:
            sys.exit(f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    print(f"built in {time.perf_counter() - start:.0f} s", flush=True)


def command_of(part: str, found: Path, quick: bool, host: str | None) -> list[str] | None:
    """What runs a part; None where its tool is not there."""
    this = [sys.executable, str(ROOT / "benchmarks" / "gpu_parts.py")]
    options = ["--found", str(found), *(["--quick"] if quick else []), *(["--host", host] if host else [])]
    if part == "tests":
        tests = [str(p) for p in sorted((ROOT / "tests").glob("test_cuda*.py"))]
        plugins = ["-p", "no:cacheprovider", "-W", "default"]
        return [sys.executable, "-m", "pytest", "-q", "-m", "not long", *plugins, *tests]
    if part in ("memcheck", "racecheck"):
        tool = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
        if tool is None:
            return None
        return [tool, "--tool", part, "--error-exitcode", "9", *this, "sanitized", *options]
    return [*this, part, *options]


def run_part(part: str, seconds: float, quick: bool, host: str | None) -> dict[str, Any]:
    """Runs a part; its rows, what became of it, and the end of what it printed if that was bad."""
    package = ROOT / "python" if host else PACKAGE
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
        "KERAS_BACKEND": "torch",
    }
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "rows"
        output = Path(folder) / "output"
        command = command_of(part, found, quick, host)
        if command is None:
            return {"ended": "its tool is not installed", "rows": []}
        with output.open("w") as to:
            try:
                done = subprocess.run(
                    command, stdout=to, stderr=subprocess.STDOUT, timeout=seconds, cwd=ROOT, env=environment
                )
                ended = "well" if done.returncode == 0 else f"with exit status {done.returncode}"
            except subprocess.TimeoutExpired:
                ended = f"stopped after {seconds:.0f} s"
        rows = read_rows(found)
        text = output.read_text(errors="replace")
    result: dict[str, Any] = {"ended": ended, "seconds": round(time.perf_counter() - start, 1), "rows": rows}
    if ended != "well" or part in ("tests", "memcheck", "racecheck"):
        result["output"] = text[-3000:]
    return result


def read_rows(path: Path) -> Rows:
    """What a part has said; a line that it did not finish is left out."""
    rows: Rows = []
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
    return rows


def machine() -> dict[str, Any]:
    """GPU, driver and peers."""
    import torch

    return {
        "gpu": torch.cuda.get_device_name(),
        "driver": subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
        ).stdout.strip(),
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
    }


def save(figures: dict[str, Any], path: Path | None) -> Path:
    """Writes the figures, in the place of `path` if that was written before."""
    written = write("gpu", figures)
    if path is not None and path != written:
        path.unlink()
    if "OUT" in os.environ:
        shutil.copy(written, Path(os.environ["OUT"]) / "gpu.json")
    return written


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="shapes against float64, tests, sanitizer")
    parser.add_argument("--bench", action="store_true", help="times beside cuDNN, and of each plan")
    parser.add_argument("--quick", action="store_true", help="fewer shapes")
    parser.add_argument("--parts", help=f"only these, of {', '.join(PARTS)}")
    parser.add_argument("--seconds", type=float, default=470.0, help="for all parts together")
    parser.add_argument(
        "--host", metavar="LIBRARY", help=argparse.SUPPRESS
    )  # without a GPU: see gpu_parts.py
    arguments = parser.parse_args()
    both = not (arguments.check or arguments.bench)
    begin = time.perf_counter()
    figures: dict[str, Any] = {}
    if arguments.host is None:
        import torch

        if not torch.cuda.is_available():
            sys.exit("no GPU that PyTorch can use")
        build()
        figures = machine()
        print(figures, flush=True)
    chosen = arguments.parts.split(",") if arguments.parts else list(PARTS)
    figures["parts"] = {}
    path = None
    for part in chosen:
        limit, checks, benches = PARTS[part]
        if not (arguments.parts or both or (checks and arguments.check) or (benches and arguments.bench)):
            continue
        left = arguments.seconds - (time.perf_counter() - begin)
        if left < 10:
            figures["parts"][part] = {"ended": "not begun: no time was left", "rows": []}
            continue
        result = run_part(part, min(limit, left), arguments.quick, arguments.host)
        figures["parts"][part] = result
        print(f"{part}: ended {result['ended']}, {len(result['rows'])} rows", flush=True)
        if result["ended"] != "well" and result.get("output"):
            print(result["output"][-1500:], flush=True)
        if arguments.host is None:
            path = save(figures, path)
    figures["checks_hold"] = gpu_report.checks_hold(figures["parts"])
    print(gpu_report.table(figures["parts"]))
    if arguments.host is None:
        print(save(figures, path))
    sys.exit(0 if figures["checks_hold"] else 1)


if __name__ == "__main__":
    main()
