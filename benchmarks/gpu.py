"""Builds the CUDA backend, checks it on the GPU that is here and times it beside cuDNN: one run answers all.

    python benchmarks/gpu.py [--check] [--bench] [--quick]

Needs a GPU, nvcc 13, CMake, ninja, pybind11, pytest, hypothesis and PyTorch with CUDA, whose `torch.nn.LSTM`
calls cuDNN. Everything is built into build/gpu; results go to benchmarks/results (and $OUT) as JSON, and a
table is printed. Without --check and --bench it does both; under 8 minutes.

Times are those of several calls up to a synchronization, the same for both libraries, and the best of some
rounds taken in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "gpu"
PACKAGE = BUILD / "package"
ROUNDS = 5
SECONDS = 0.05  # of a round
# Relative norms of the difference to float64 (shared/design's checks): true float32.
TOLERANCE = 1e-5
PRECISIONS = {"tf32": 1.5e-3, "bfloat16": 1e-2, "float16": 1.5e-3}  # those of tests/test_cuda_precision.py


# --- build ------------------------------------------------------------------------------------------


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
    print(f"built in {time.perf_counter() - start:.0f} s")


# --- the same LSTM twice ------------------------------------------------------------------------------


class Pair:
    """One LSTM layer in both libraries, with the same weights and inputs of the same numbers on the GPU."""

    def __init__(self, batch: int, steps: int, inputs: int, units: int, torch_dtype: Any = None) -> None:
        import torch

        from lstm_native import _core

        self.torch = torch
        self.core = _core
        rng = np.random.default_rng(0)
        scale = 1.0 / np.sqrt(units)

        def draw(*shape: int) -> Any:
            return rng.uniform(-scale, scale, shape).astype(np.float32)

        kernel, recurrent, bias = draw(inputs, 4 * units), draw(units, 4 * units), draw(4 * units)
        x = rng.normal(size=(batch, steps, inputs)).astype(np.float32)
        d = rng.normal(size=(batch, steps, units)).astype(np.float32)

        self.variables = [_core.Variable(_core.as_tensor(a, "float32")) for a in (kernel, recurrent, bias)]
        _core.move_variables(self.variables, "cuda")
        self.weights = _core.RecurrentWeights("lstm", *self.variables, "tanh", "sigmoid")
        self.x, self.d = (_core.as_tensor(a, "float32").to("cuda") for a in (x, d))

        dtype = torch_dtype or torch.float32
        layer = torch.nn.LSTM(inputs, units, batch_first=True)
        with torch.no_grad():  # rows of gates i, f, g, o: ours transposed
            layer.weight_ih_l0.copy_(torch.from_numpy(kernel.T.copy()))
            layer.weight_hh_l0.copy_(torch.from_numpy(recurrent.T.copy()))
            layer.bias_ih_l0.copy_(torch.from_numpy(bias))
            layer.bias_hh_l0.zero_()
        self.layer = layer.to("cuda", dtype)
        self.torch_x = torch.from_numpy(x).to("cuda", dtype).requires_grad_()
        self.torch_d = torch.from_numpy(d).to("cuda", dtype)

    def ours(self, training: bool) -> tuple[Any, ...]:
        output, _, _, saved = self.core.recurrent_forward(
            self.weights, self.x, None, None, None, None, True, False, False, training
        )
        if not training:
            return (output,)
        gradients = self.core.recurrent_backward(self.weights, saved, self.d, None, None, True, False)
        return output, *gradients[:4]

    def cudnn(self, training: bool) -> tuple[Any, ...]:
        if not training:
            with self.torch.no_grad():
                return (self.layer(self.torch_x)[0],)
        output = self.layer(self.torch_x)[0]
        layer = self.layer
        parameters = (self.torch_x, layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0)
        gradients = self.torch.autograd.grad(output, parameters, self.torch_d)
        return output.detach(), gradients[0], gradients[1].T, gradients[2].T, gradients[3]


# --- check --------------------------------------------------------------------------------------------


def run_tests(figures: dict[str, Any]) -> bool:
    """The Python tests of the CUDA backend, which take the GPU where there is one."""
    environment = os.environ | {"PYTHONPATH": str(PACKAGE), "KERAS_BACKEND": "torch"}
    tests = [str(p) for p in sorted((ROOT / "tests").glob("test_cuda*.py"))]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "default", *tests],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    print(done.stdout[-3000:])
    figures["tests"] = done.stdout.strip().splitlines()[-1] if done.stdout else done.stderr[-500:]
    return done.returncode == 0


def run_sanitizer(figures: dict[str, Any]) -> bool:
    """compute-sanitizer over a small model's training, where the tool and the machine offer it."""
    tool = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if tool is None:
        figures["sanitizer"] = "not installed"
        return True
    code = (
        "import numpy as np, lstm_native as ln\n"
        "m = ln.Sequential([ln.Input((6,)), ln.Embedding(20, 5, mask_zero=True), ln.LSTM(33), ln.Dense(1)])\n"
        "m.compile('adam', 'mse'); m.to('cuda')\n"
        "x = np.random.default_rng(0).integers(0, 20, (16, 6))\n"
        "m.fit(x, np.ones((16, 1), np.float32), verbose=0, epochs=2)\n"
    )
    found = {}
    good = True
    for kind in ("memcheck", "racecheck", "initcheck"):
        command = [tool, "--tool", kind, "--error-exitcode", "9", sys.executable, "-c", code]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=100,
                env=os.environ | {"PYTHONPATH": str(PACKAGE)},
            )
        except subprocess.TimeoutExpired:
            found[kind] = "timed out"
            continue
        found[kind] = (done.stdout + done.stderr).strip().splitlines()[-1][:200]
        good &= done.returncode != 9
    figures["sanitizer"] = found
    print(found)
    return good


def error_of(got: Any, expected: Any) -> float:
    """Relative norm of the difference."""
    exact = expected.double().cpu().numpy()
    return float(np.linalg.norm(got.numpy() - exact) / max(float(np.linalg.norm(exact)), 1e-30))


def check_shapes(figures: dict[str, Any], quick: bool) -> bool:
    """Forward and all gradients against float64 on the GPU, and twice against ourselves, bit for bit."""
    import torch

    rows = []
    for units in (100, 128, 129, 2048):
        for batch in (1, 3, 17, 256):
            for steps in (1, 2, 1024):
                if steps == 1024 and units * batch > (129 * 17 if quick else 2048 * 17):
                    continue
                pair = Pair(batch, steps, 64, units, torch.float64)
                first, second = pair.ours(True), pair.ours(True)
                expected = pair.cudnn(True)
                errors = [error_of(a, b) for a, b in zip(first, expected, strict=True)]
                repeat = all(np.array_equal(a.numpy(), b.numpy()) for a, b in zip(first, second, strict=True))
                rows.append({"B": batch, "T": steps, "H": units, "errors": errors, "repeats": repeat})
                if max(errors) > TOLERANCE or not repeat:
                    print("differs:", rows[-1])
                del pair, expected
    figures["shapes"] = rows
    worst = max(max(r["errors"]) for r in rows)
    repeats = all(r["repeats"] for r in rows)
    print(f"{len(rows)} shapes: worst relative norm error {worst:.1e}; two runs bit-equal: {repeats}")
    return worst <= TOLERANCE and repeats


def check_precisions(figures: dict[str, Any], quick: bool) -> bool:
    """Rounded products: forward, and where the precision has it backward, against float64; two runs, bit for
    bit. Sizes that tensor cores like, and odd ones."""
    import torch

    from lstm_native import cuda

    rows = []
    for units, inputs in (
        ((33, 7), (128, 64), (512, 512)) if quick else ((33, 7), (128, 64), (512, 512), (2048, 64))
    ):
        for batch in (1, 17, 256):
            pair = Pair(batch, 64, inputs, units, torch.float64)
            expected = pair.cudnn(True)
            for precision, tolerance in PRECISIONS.items():
                training = precision != "float16"
                cuda.set_precision(precision)
                try:
                    first, second = pair.ours(training), pair.ours(training)
                finally:
                    cuda.set_precision("float32")
                errors = [error_of(a, b) for a, b in zip(first, expected, strict=False)]
                repeat = all(np.array_equal(a.numpy(), b.numpy()) for a, b in zip(first, second, strict=True))
                # A rounded product that is as good as float32 was not rounded: the precision did not arrive.
                good = tolerance / 1000 < max(errors) <= tolerance and repeat
                rows.append({"B": batch, "H": units, "precision": precision, "errors": errors, "good": good})
                if not good:
                    print("differs:", rows[-1], "bit-equal:", repeat)
    figures["precisions"] = rows
    for precision in PRECISIONS:
        worst = max(max(r["errors"]) for r in rows if r["precision"] == precision)
        print(f"{precision}: worst relative norm error {worst:.1e}")
    return all(r["good"] for r in rows)


# --- bench --------------------------------------------------------------------------------------------


def best_times(calls: dict[str, Callable[[], Any]], synchronize: Callable[[], None]) -> dict[str, float]:
    """Seconds of a call, the best round of each."""
    counts = {}
    for name, call in calls.items():
        call()
        synchronize()
        start = time.perf_counter()
        call()
        synchronize()
        counts[name] = max(1, min(200, int(SECONDS / max(time.perf_counter() - start, 1e-6))))
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(counts[name]):
                call()
            synchronize()
            best[name] = min(best[name], (time.perf_counter() - start) / counts[name])
    return best


def bench(figures: dict[str, Any], quick: bool) -> None:
    """Inference and a training step (forward and backward) of one layer, T = 512, as many inputs as units."""
    import torch

    from lstm_native import cuda

    def synchronize() -> None:
        cuda.synchronize()
        torch.cuda.synchronize()

    steps = 512
    rows = []
    print("us a step")
    names = ("ours", "TF32", "cuDNN", "TF32", "bf16")
    print(f"{'H':>5} {'B':>4} {'':9} " + " ".join(f"{n:>9}" for n in names) + f" {'cuDNN/ours':>12}")
    for units in (128, 512) if quick else (128, 256, 512, 1024, 2048):
        for batch in (1, 64) if quick else (1, 16, 64, 256):
            pair = Pair(batch, steps, units, units)
            half = Pair(batch, steps, units, units, torch.bfloat16)
            for training in (False, True):

                def tf32(allowed: bool, pair: Pair = pair, training: bool = training) -> Any:
                    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
                    return pair.cudnn(training)

                def ours(tf32: bool, pair: Pair = pair, training: bool = training) -> Any:
                    pair.core.cuda_set_precision("tf32" if tf32 else "float32")
                    return pair.ours(training)

                calls = {
                    "ours": lambda: ours(False),
                    "ours_tf32": lambda: ours(True),
                    "cudnn": lambda: tf32(False),
                    "cudnn_tf32": lambda: tf32(True),
                    "cudnn_bf16": lambda half=half, training=training: half.cudnn(training),
                }
                times = best_times(calls, synchronize)
                rows.append({"B": batch, "T": steps, "H": units, "training": training, "seconds": times})
                per_step = [times[name] / steps * 1e6 for name in calls]
                kind = "training" if training else "inference"
                ratio = times["cudnn"] / times["ours"]
                print(
                    f"{units:5} {batch:4} {kind:9} "
                    + " ".join(f"{t:9.2f}" for t in per_step)
                    + f" {ratio:12.2f}"
                )
            del pair, half
            torch.cuda.empty_cache()
    figures["lstm"] = rows
    for training in (False, True):
        ratios = [r["seconds"]["cudnn"] / r["seconds"]["ours"] for r in rows if r["training"] == training]
        mean = float(np.exp(np.mean(np.log(ratios))))
        kind = "training" if training else "inference"
        figures[f"{kind}_geometric_mean"] = mean
        print(f"{kind}: geometric mean {mean:.2f} x cuDNN in float32, worst shape {min(ratios):.2f} x")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="tests, sanitizer, shapes against float64")
    parser.add_argument("--bench", action="store_true", help="times beside cuDNN")
    parser.add_argument("--quick", action="store_true", help="fewer shapes")
    arguments = parser.parse_args()
    both = not (arguments.check or arguments.bench)
    import torch

    if not torch.cuda.is_available():
        sys.exit("no GPU that PyTorch can use")
    build()
    sys.path.insert(0, str(PACKAGE))
    from lstm_native import cuda

    cuda.open_device()
    figures: dict[str, Any] = {
        "gpu": cuda.device_name(),
        "driver": subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
        ).stdout.strip(),
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
    }
    print(figures)
    good = True
    if arguments.check or both:
        good = run_tests(figures)
        good = check_shapes(figures, arguments.quick) and good
        good = check_precisions(figures, arguments.quick) and good
    if arguments.bench or both:
        bench(figures, arguments.quick)
    if arguments.check or both:
        good = run_sanitizer(figures) and good
    figures["checks_hold"] = good

    from record import write

    path = write("gpu", figures)
    if "OUT" in os.environ:
        (Path(os.environ["OUT"]) / "gpu.json").write_text(json.dumps(figures, indent=1))
    print(path)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
