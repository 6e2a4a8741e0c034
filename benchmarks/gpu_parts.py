"""The parts of gpu.py, each in a process of its own: `python gpu_parts.py PART --found FILE`.

What is found goes to FILE, a JSON object a line, as it is found. `good` says whether a check held.

    smoke       every plan and precision on a small shape against step by step: does it run, does it end
    precisions  rounded products against float64
    shapes      forward and all gradients against float64, twice against ourselves, bit for bit
    bench       times beside cuDNN, T = 512
    extras      what masks and recurrent dropout add
    both_ways   bidirectional layers: against float64, times beside cuDNN and of one direction after the other
    plans       times of every plan that a shape may have, to tune csrc/cuda/planner.cpp by
    graphs      steps one by one: by launches of their own and as CUDA graphs, times and bits, and how often
                addresses come again, to tune csrc/cuda/graphs.cpp by
    sanitized   small calls of every plan, for compute-sanitizer

--host LIBRARY tests this file where there is no GPU: the backend compiled for the host, PyTorch
on the CPU, tiny shapes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

AUTO, STEPS, BLOCKS, GRID, LAUNCHES, GRAPHS = range(6)  # LnPlan of csrc/backend/backend.h
UNITS = (8, 16, 32, 64)  # of a block of a grid
EXCHANGES = {"meeting": 256, "marked": 512, "cluster": 768}  # added: how blocks of a grid wait
WAYS = {"steps": STEPS, "blocks": BLOCKS} | {
    f"grid {u} {name}": u + way for u in UNITS for name, way in EXCHANGES.items()
}
# Each way to wait with the units that the planner gives it, each number of units with the way that it gives.
TIMED_WAYS = (
    {"steps": STEPS, "blocks": BLOCKS}
    | {name: GRID + way for name, way in EXCHANGES.items()}
    | {f"grid {u}": u for u in UNITS}
)
# Relative norms of the difference to float64 (shared/design's checks).
TOLERANCE = {"float32": 1e-5, "tf32": 1.5e-3, "bfloat16": 1e-2, "float16": 1.5e-3}


class Setting:
    """Where parts run and what they say."""

    def __init__(self, found: Path, quick: bool, host: str | None) -> None:
        import torch

        if host is not None:
            os.environ["LSTM_NATIVE_CUDA_LIBRARY"] = host
        from lstm_native import _core, cuda

        self.torch, self.core, self.cuda = torch, _core, cuda
        self.host = host is not None
        self.quick = quick or self.host
        self.found = found
        self.place = "cpu" if self.host else "cuda"
        if self.host:  # has products of its own
            _core.open_cuda(str(host))
            _core.open_cuda_blas("")
        cuda.open_device()

    def say(self, **row: Any) -> None:
        """A finding."""
        with self.found.open("a") as to:
            to.write(json.dumps(row) + "\n")
        if not row.get("good", True):
            print("bad:", row)

    def synchronize(self) -> None:
        self.cuda.synchronize()
        if not self.host:
            self.torch.cuda.synchronize()

    def choose(self, plan: int = AUTO, precision: str = "float32") -> None:
        """How calls run from now on."""
        self.core.cuda_set_plan(plan)
        self.core.cuda_set_precision(precision)

    def ways(self, batch: int, units: int, cell: str = "lstm", of: dict[str, int] = WAYS) -> dict[str, int]:
        """Step by step, and the plans that are another for this shape under the precision of now."""
        kept = {}
        for name, plan in of.items():
            self.core.cuda_set_plan(plan)
            if plan == STEPS or "one launch" in self.core.cuda_explain(cell, units, batch, 512):
                kept[name] = plan
        self.core.cuda_set_plan(AUTO)
        return kept


class Pair:
    """One LSTM layer in both libraries, with the same weights and inputs of the same numbers on the GPU."""

    def __init__(
        self, on: Setting, batch: int, steps: int, inputs: int, units: int, dtype: str = "float32"
    ) -> None:
        self.on = on
        torch, core = on.torch, on.core
        rng = np.random.default_rng(0)
        kernel, recurrent, bias = parameters(rng, inputs, units)
        x = rng.normal(size=(batch, steps, inputs)).astype(np.float32)
        d = rng.normal(size=(batch, steps, units)).astype(np.float32)

        self.weights = weights_of(on, kernel, recurrent, bias)
        self.x, self.d = (core.as_tensor(a, "float32").to("cuda") for a in (x, d))
        keep = rng.random((batch, steps)) < 0.9
        keep[:, 0] = True
        self.mask = core.as_tensor(keep, "bool")
        self.dropout = core.as_tensor(rng.random((batch, units)), "float32").to("cuda")

        layer = torch.nn.LSTM(inputs, units, batch_first=True)
        set_parameters(layer, "l0", kernel, recurrent, bias)
        self.torch_dtype = getattr(torch, dtype)
        self.layer = layer.to(on.place, self.torch_dtype)
        self.torch_x = torch.from_numpy(x).to(on.place, self.torch_dtype).requires_grad_()
        self.torch_d = torch.from_numpy(d).to(on.place, self.torch_dtype)

    def ours(self, training: bool, mask: Any = None, dropout: Any = None) -> tuple[Any, ...]:
        core = self.on.core
        output, _, _, saved = core.recurrent_forward(
            self.weights, self.x, mask, None, None, None, True, False, False, training, recurrent_mask=dropout
        )
        if not training:
            return (output,)
        return output, *core.recurrent_backward(self.weights, saved, self.d, None, None, True, False)[:4]

    def cudnn(self, training: bool, tf32: bool = False) -> tuple[Any, ...]:
        torch = self.on.torch
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
        if not training:
            with torch.no_grad():
                return (self.layer(self.torch_x)[0],)
        output = self.layer(self.torch_x)[0]
        layer = self.layer
        parameters = (self.torch_x, layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0)
        gradients = torch.autograd.grad(output, parameters, self.torch_d)
        return output.detach(), gradients[0], gradients[1].T, gradients[2].T, gradients[3]


class BothWays:
    """A bidirectional LSTM layer in both libraries, as Pair."""

    def __init__(self, on: Setting, batch: int, steps: int, units: int, dtype: str = "float32") -> None:
        self.on = on
        torch, core = on.torch, on.core
        rng = np.random.default_rng(0)
        layer = torch.nn.LSTM(units, units, batch_first=True, bidirectional=True)
        self.weights = []
        for suffix in ("l0", "l0_reverse"):
            made = parameters(rng, units, units)
            self.weights.append(weights_of(on, *made))
            set_parameters(layer, suffix, *made)
        x = rng.normal(size=(batch, steps, units)).astype(np.float32)
        d = rng.normal(size=(batch, steps, 2 * units)).astype(np.float32)
        half = np.ascontiguousarray(d[..., :units])  # for calls apart, which have outputs of their own
        self.x, self.d, self.half_d = (core.as_tensor(a, "float32").to("cuda") for a in (x, d, half))
        self.torch_dtype = getattr(torch, dtype)
        self.layer = layer.to(on.place, self.torch_dtype)
        self.torch_x = torch.from_numpy(x).to(on.place, self.torch_dtype).requires_grad_()
        self.torch_d = torch.from_numpy(d).to(on.place, self.torch_dtype)

    def ours(self, training: bool, together: bool = True) -> tuple[Any, ...]:
        """The output of the first step to the last, and gradients: of the inputs by direction, of weights."""
        core = self.on.core
        calls = [
            (w, self.x, None, None, None, None, True, back, False, training, None, 0, None, False)
            for w, back in zip(self.weights, (False, True), strict=True)
        ]
        if together:
            results = core.recurrent_forward_together(calls, True)
        else:
            results = [core.recurrent_forward_together([call], False)[0] for call in calls]
        if not training:
            return tuple(result[0] for result in results[: 1 if together else 2])
        back_calls = [
            (w, result[3], self.d if together else self.half_d, None, None, True, False)
            for w, result in zip(self.weights, results, strict=True)
        ]
        if together:
            gradients = core.recurrent_backward_together(back_calls)
        else:
            gradients = [core.recurrent_backward_together([call])[0] for call in back_calls]
        return (results[0][0], *(g for four in gradients for g in four[:4]))

    def cudnn(self, training: bool, tf32: bool = False) -> tuple[Any, ...]:
        """The output, and the gradients that `ours` has, but that of the inputs: it is of both directions."""
        torch = self.on.torch
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
        if not training:
            with torch.no_grad():
                return (self.layer(self.torch_x)[0],)
        output = self.layer(self.torch_x)[0]
        names = [f"{n}_{s}" for s in ("l0", "l0_reverse") for n in ("weight_ih", "weight_hh", "bias_ih")]
        wanted = (self.torch_x, *(getattr(self.layer, name) for name in names))
        d_x, *d = torch.autograd.grad(output, wanted, self.torch_d)
        return output.detach(), d_x, d[0].T, d[1].T, d[2], d[3].T, d[4].T, d[5]


def parameters(rng: np.random.Generator, inputs: int, units: int) -> tuple[Any, Any, Any]:
    """Kernel, recurrent kernel and bias of an LSTM, of the size that PyTorch draws."""
    scale = 1.0 / np.sqrt(units)

    def draw(*shape: int) -> Any:
        return rng.uniform(-scale, scale, shape).astype(np.float32)

    return draw(inputs, 4 * units), draw(units, 4 * units), draw(4 * units)


def weights_of(on: Setting, *arrays: Any) -> Any:
    variables = [on.core.Variable(on.core.as_tensor(a, "float32")) for a in arrays]
    on.core.move_variables(variables, "cuda")
    return on.core.RecurrentWeights("lstm", *variables, "tanh", "sigmoid")


def set_parameters(layer: Any, suffix: str, kernel: Any, recurrent: Any, bias: Any) -> None:
    """Of a torch.nn.LSTM: rows of gates i, f, g, o, ours transposed."""
    import torch

    with torch.no_grad():
        getattr(layer, f"weight_ih_{suffix}").copy_(torch.from_numpy(kernel.T.copy()))
        getattr(layer, f"weight_hh_{suffix}").copy_(torch.from_numpy(recurrent.T.copy()))
        getattr(layer, f"bias_ih_{suffix}").copy_(torch.from_numpy(bias))
        getattr(layer, f"bias_hh_{suffix}").zero_()


def numbers(x: Any) -> Any:
    """A tensor of either library, or an array, in float64."""
    if hasattr(x, "detach"):
        return x.detach().double().cpu().numpy()
    return np.asarray(x.numpy() if hasattr(x, "numpy") else x, np.float64)


def error_of(got: Any, expected: Any) -> float:
    """Relative norm of the difference; infinite where a number is missing."""
    g, e = numbers(got), numbers(expected)
    error = float(np.linalg.norm(g - e) / max(float(np.linalg.norm(e)), 1e-30))
    return error if np.isfinite(error) else float("inf")


def equal(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    return all(np.array_equal(a.numpy(), b.numpy()) for a, b in zip(first, second, strict=True))


# --- checks -------------------------------------------------------------------------------------------


def smoke(on: Setting) -> None:
    for precision, (batch, units) in itertools.product(TOLERANCE, ((1, 40), (9, 100), (33, 200))):
        pair = Pair(on, batch, 12, 24, units)
        training = precision != "float16"
        on.choose(STEPS, precision)
        expected = [numbers(t) for t in pair.ours(training)]
        for name, plan in on.ways(batch, units).items():
            start = time.perf_counter()
            on.choose(plan, precision)
            got = pair.ours(training)
            on.synchronize()
            error = max(error_of(a, b) for a, b in zip(got, expected, strict=True))
            row = {"plan": name, "precision": precision, "B": batch, "H": units, "error": error}
            seconds = round(time.perf_counter() - start, 4)
            on.say(**row, seconds=seconds, good=error <= 2 * TOLERANCE[precision])


def precisions(on: Setting) -> None:
    """Rounded products: forward, and where the precision has it backward, against float64; two runs, bit for
    bit. Sizes that tensor cores like, and odd ones."""
    sizes = ((33, 7), (128, 64)) if on.quick else ((33, 7), (128, 64), (512, 512), (2048, 64))
    for (units, inputs), batch in itertools.product(sizes, (1, 17) if on.host else (1, 17, 256)):
        pair = Pair(on, batch, 4 if on.host else 64, inputs, units, "float64")
        expected = pair.cudnn(True)
        for precision in ("tf32", "bfloat16", "float16"):
            training = precision != "float16"
            on.choose(AUTO, precision)
            first, second = pair.ours(training), pair.ours(training)
            errors = [error_of(a, b) for a, b in zip(first, expected, strict=False)]
            # A rounded product that is as good as float32 was not rounded: the precision did not arrive.
            low, high = TOLERANCE[precision] / 1000, TOLERANCE[precision]
            good = low < max(errors) <= high and equal(first, second)
            on.say(B=batch, H=units, precision=precision, errors=errors, good=good)


def shapes(on: Setting) -> None:
    lengths = (1, 2, 8) if on.host else (1, 2, 1024)
    sizes = (20, 129) if on.host else (100, 128, 129, 256, 512, 1024, 2048)
    for steps, units, batch in itertools.product(lengths, sizes, (1, 3, 17, 256)):
        # In float64 the largest would take most of the time that there is.
        if steps * units * batch > 1024 * 17 * (129 if on.quick else 2048) or (on.host and batch > 17):
            continue
        pair = Pair(on, batch, steps, 64, units, "float64")
        expected = pair.cudnn(True)
        ways = on.ways(batch, units) if steps < 1024 else {"auto": AUTO}
        for name, plan in ways.items():
            on.choose(plan)
            first, second = pair.ours(True), pair.ours(True)
            errors = [error_of(a, b) for a, b in zip(first, expected, strict=True)]
            repeats = equal(first, second)
            good = max(errors) <= TOLERANCE["float32"] and repeats
            on.say(B=batch, T=steps, H=units, plan=name, errors=errors, repeats=repeats, good=good)


def sanitized(on: Setting) -> None:
    for precision, (batch, units) in itertools.product(("float32", "bfloat16"), ((3, 33), (17, 70))):
        pair = Pair(on, batch, 3, 9, units)
        for name, plan in on.ways(batch, units).items():
            on.choose(plan, precision)
            pair.ours(True, pair.mask, pair.dropout)
            on.synchronize()
            on.say(plan=name, precision=precision, B=batch, H=units)


# --- times --------------------------------------------------------------------------------------------


def best_times(
    on: Setting, calls: dict[str, Callable[[], Any]], rounds: int, seconds: float
) -> dict[str, float]:
    """Seconds of a call up to a synchronization, the best of some rounds taken in turns."""
    counts = {}
    for name, call in calls.items():
        call()
        on.synchronize()
        start = time.perf_counter()
        call()
        on.synchronize()
        counts[name] = max(1, min(200, int(seconds / max(time.perf_counter() - start, 1e-6))))
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            call()  # of another precision than the one before: weights are packed anew
            on.synchronize()
            start = time.perf_counter()
            for _ in range(counts[name]):
                call()
            on.synchronize()
            best[name] = min(best[name], (time.perf_counter() - start) / counts[name])
    return best


def timed_shapes(on: Setting) -> Iterator[tuple[int, int, int]]:
    """Steps, units, batch, smallest first, so that a run out of time has most of the table."""
    steps = 4 if on.host else 512
    sizes = (16,) if on.host else (128, 512) if on.quick else (128, 256, 512, 1024, 2048)
    batches = (1, 3) if on.host else (1, 64) if on.quick else (1, 16, 64, 256)
    for units, batch in itertools.product(sizes, batches):
        yield steps, units, batch


def per_step(times: dict[str, float], steps: int) -> dict[str, float]:
    return {name: round(t / steps * 1e6, 3) for name, t in times.items()}


def bench(on: Setting) -> None:
    """Inference and a training step (forward and backward) of one layer, as many inputs as units."""
    for steps, units, batch in timed_shapes(on):
        pair = Pair(on, batch, steps, units, units)
        half = Pair(on, batch, steps, units, units, "bfloat16")
        for training in (False, True):

            def ours(precision: str, pair: Pair = pair, training: bool = training) -> Any:
                on.choose(AUTO, precision)
                return pair.ours(training)

            calls = {
                "float32": lambda: ours("float32"),
                "tf32": lambda: ours("tf32"),
                "bfloat16": lambda: ours("bfloat16"),
                "cudnn float32": lambda pair=pair, training=training: pair.cudnn(training),
                "cudnn tf32": lambda pair=pair, training=training: pair.cudnn(training, tf32=True),
                "cudnn bfloat16": lambda half=half, training=training: half.cudnn(training),
            }
            times = best_times(on, calls, 3, 0.04)
            on.say(B=batch, T=steps, H=units, training=training, us_a_step=per_step(times, steps))
        del pair, half
        if not on.host:
            on.torch.cuda.empty_cache()


def plans(on: Setting) -> None:
    for steps, units, batch in timed_shapes(on):
        pair = Pair(on, batch, steps, units, units)
        for precision, training in itertools.product(("float32", "tf32", "bfloat16"), (False, True)):
            on.choose(AUTO, precision)
            ways = {"auto": AUTO} | on.ways(batch, units, of=TIMED_WAYS)
            if len(ways) == 2:
                continue  # step by step is all there is

            def call(plan: int, pair: Pair = pair, training: bool = training) -> Any:
                on.core.cuda_set_plan(plan)
                return pair.ours(training)

            calls = {name: (lambda plan=plan, call=call: call(plan)) for name, plan in ways.items()}
            times = per_step(best_times(on, calls, 2, 0.01), steps)
            on.core.cuda_set_plan(AUTO)
            said = on.core.cuda_explain("lstm", units, batch, steps)
            row = {"B": batch, "T": steps, "H": units, "training": training, "precision": precision}
            on.say(**row, us_a_step=times, explained=said)


def extras(on: Setting) -> None:
    for steps, units, batch in timed_shapes(on):
        if batch not in (1, 3, 16, 64):
            continue
        pair = Pair(on, batch, steps, units, units)
        on.choose()
        for training in (False, True):
            calls = {
                "plain": lambda pair=pair, training=training: pair.ours(training),
                "mask": lambda pair=pair, training=training: pair.ours(training, pair.mask),
                "dropout": lambda pair=pair, training=training: pair.ours(training, None, pair.dropout),
            }
            times = best_times(on, calls, 2, 0.02)
            on.say(B=batch, T=steps, H=units, training=training, us_a_step=per_step(times, steps))


def graphs(on: Setting) -> None:
    """Calls of a layer, then batches of `fit`, where other memory comes and goes between the calls."""
    for steps, units, batch in timed_shapes(on):
        pair = Pair(on, batch, steps, units, units)
        for precision, training in itertools.product(("float32", "bfloat16"), (False, True)):
            on.choose(LAUNCHES, precision)
            expected = pair.ours(training)
            on.choose(GRAPHS, precision)
            before = counted(on)
            good = all(equal(pair.ours(training), expected) for _ in range(4))
            after = counted(on)

            def call(plan: int, pair: Pair = pair, training: bool = training) -> Any:
                on.core.cuda_set_plan(plan)
                return pair.ours(training)

            calls = {"launches": lambda call=call: call(LAUNCHES), "graphs": lambda call=call: call(GRAPHS)}
            times = per_step(best_times(on, calls, 2, 0.01), steps)
            on.core.cuda_set_plan(STEPS)
            chosen = (
                "as a CUDA graph" in on.core.cuda_explain("lstm", units, batch, steps).split("; ")[training]
            )
            row = {"B": batch, "T": steps, "H": units, "training": training, "precision": precision}
            launched = {name: after[name] - before[name] for name in after}
            on.say(**row, us_a_step=times, chosen=chosen, graphs_of_4_calls=launched, good=good)
    fitted(on)


def fitted(on: Setting) -> None:
    """A step of training of a model whose layers all run step by step."""
    import lstm_native as ln

    steps, batches = (6, 8) if on.host else (100, 30)
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(64, *shape)).astype(np.float32) for shape in ((steps, 32), (1,)))
    for plan in (LAUNCHES, GRAPHS):
        on.choose(plan)
        ln.utils.set_random_seed(0)
        layers = [ln.GRU(64, reset_after=False, return_sequences=n == 0) for n in range(2)]
        model = ln.Sequential([ln.Input((steps, 32)), *layers, ln.Dense(1)])
        model.compile("adam", "mse")
        model.to("cuda")
        for _ in range(8):
            model.train_on_batch(x, y)
        before = counted(on)
        on.synchronize()
        start = time.perf_counter()
        for _ in range(batches):
            model.train_on_batch(x, y)
        on.synchronize()
        seconds = (time.perf_counter() - start) / batches
        launched = {name: n - before[name] for name, n in counted(on).items()}
        # Two layers, forward and backward: as many graphs as that where addresses always come again.
        row = {"ms_a_batch": round(1e3 * seconds, 3), "calls": 4 * batches, "graphs": launched}
        on.say(model="2 GRU(64, reset_after=False)", plan="launches" if plan == LAUNCHES else "graphs", **row)


def counted(on: Setting) -> dict[str, int]:
    """Graphs so far."""
    said = on.core.cuda_explain("lstm", 8, 1, 8)
    found = re.search(r"graphs so far: (\d+) made, \d+ kept, (\d+) times launched", said)
    made, launched = map(int, found.groups()) if found else (0, 0)
    return {"made": made, "launched": launched}


def both_ways(on: Setting) -> None:
    """Bidirectional layers: checked on small shapes, then timed; `apart` is one direction after the other."""
    for units, batch in ((20, 3), (129, 17)) if on.host else ((64, 16), (100, 3), (129, 17), (512, 64)):
        steps = 4 if on.host else 64
        layer = BothWays(on, batch, steps, units, "float64")
        output, d_x, *expected = layer.cudnn(True)
        on.choose()
        first, second = layer.ours(True), layer.ours(True)
        pairs = zip((first[0], *first[2:5], *first[6:9]), (output, *expected), strict=True)
        errors = [error_of(a, b) for a, b in pairs]
        errors.append(error_of(numbers(first[1]) + numbers(first[5]), d_x))
        good = max(errors) <= TOLERANCE["float32"] and equal(first, second)
        on.say(B=batch, T=steps, H=units, errors=errors, repeats=equal(first, second), good=good)
    for steps, units, batch in timed_shapes(on):
        layer = BothWays(on, batch, steps, units)
        half = BothWays(on, batch, steps, units, "bfloat16")
        for training in (False, True):

            def ours(
                precision: str, together: bool, layer: BothWays = layer, training: bool = training
            ) -> Any:
                on.choose(AUTO, precision)
                return layer.ours(training, together)

            calls = {}
            for precision in ("float32", "tf32", "bfloat16"):
                calls[precision] = lambda p=precision, ours=ours: ours(p, True)
                calls[f"{precision} apart"] = lambda p=precision, ours=ours: ours(p, False)
            calls["cudnn float32"] = lambda layer=layer, training=training: layer.cudnn(training)
            calls["cudnn tf32"] = lambda layer=layer, training=training: layer.cudnn(training, tf32=True)
            calls["cudnn bfloat16"] = lambda half=half, training=training: half.cudnn(training)
            on.choose()
            said = on.core.cuda_explain("lstm", units, batch, steps, True)
            times = per_step(best_times(on, calls, 2, 0.02), steps)
            on.say(B=batch, T=steps, H=units, training=training, us_a_step=times, explained=said)
        del layer, half
        if not on.host:
            on.torch.cuda.empty_cache()


PARTS: dict[str, Callable[[Setting], None]] = {
    f.__name__: f for f in (smoke, precisions, shapes, bench, extras, both_ways, plans, graphs, sanitized)
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--found", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--host", metavar="LIBRARY")
    arguments = parser.parse_args()
    PARTS[arguments.part](Setting(arguments.found, arguments.quick, arguments.host))


if __name__ == "__main__":
    sys.exit(main())
