"""General recurrent cells (peepholes, clip, coupled gates, projection, parametric activations) on the CUDA
backend, against the yardstick. Where there is no GPU, its drivers and kernels run on the host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import lstm_native as ln
from cuda_support import open_for_tests, using_precision
from lstm_native import _core
from native_support import MASKS, Array, f32
from test_cuda_backend import variable
from test_cuda_precision import TOLERANCE, assert_within
from test_general_layers import LAYERS
from test_general_native import (
    ALL_CASES,
    CELLS,
    FUNCTIONS,
    GATES,
    IDS,
    Case,
    assert_as_reference,
    away_from_kinks,
    general_case,
)


@pytest.fixture(scope="module", autouse=True)
def device(tmp_path_factory: pytest.TempPathFactory) -> None:
    open_for_tests(tmp_path_factory.mktemp("cuda"))


class OnDevice(Case):
    """A call whose weights lie on the device; its other arrays come from the host."""

    def weights(self) -> _core.RecurrentWeights:
        o = self.options

        def there(x: Array | None) -> _core.Variable | None:
            return None if x is None else variable(x, "cuda")

        return _core.RecurrentWeights.general(
            self.cell,
            variable(self.kernel, "cuda"),
            variable(self.recurrent, "cuda"),
            there(self.bias),
            o.activation,
            o.recurrent_activation,
            o.output_activation,
            peepholes=there(o.peepholes),
            projection=there(o.projection),
            coupled=o.coupled,
            clip=o.clip,
        )


def on_device(case: Case) -> OnDevice:
    return OnDevice(**vars(case))


@pytest.mark.parametrize(("cell", "name", "options"), ALL_CASES, ids=IDS)
def test_cells(cell: str, name: str, options: dict[str, Any]) -> None:
    assert_as_reference(on_device(general_case(1, cell, **options)))
    assert_as_reference(on_device(general_case(2, cell, 27, 21, 7, 18, **options)))


@pytest.mark.parametrize("seed", range(60))
def test_random_configurations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cell = CELLS[seed % 4]
    is_lstm = cell == "lstm"

    def flag() -> bool:
        return bool(rng.integers(2))

    options: dict[str, Any] = {
        "batch": int(rng.integers(1, 20)),
        "time": int(rng.integers(1, 12)),
        "inputs": int(rng.integers(1, 20)),
        "units": int(rng.integers(1, 20)),
        "projection": int(rng.integers(1, 20)) if is_lstm and flag() else None,
        "peepholes": is_lstm and flag(),
        "coupled": is_lstm and flag(),
        "mask": MASKS[rng.integers(len(MASKS))],
        "clip": float(rng.uniform(0.2, 3.0)) if flag() else None,
        "activation": FUNCTIONS[rng.integers(len(FUNCTIONS))],
        "recurrent_activation": GATES[rng.integers(len(GATES))],
        "output_activation": (FUNCTIONS[0], *FUNCTIONS[5:])[rng.integers(len(FUNCTIONS) - 4)],
        "checkpoint_steps": int(rng.integers(0, 5)),
    }
    flags = ("reset", "initial", "use_bias", "recurrent_mask", "return_sequences", "go_backwards")
    options |= {name: flag() for name in (*flags, "zero_output_for_mask")}
    case = general_case(seed, cell, **options)
    if not away_from_kinks(case):
        pytest.skip("near a kink, where the gradient jumps")
    assert_as_reference(on_device(case))


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize(("cell", "projection"), [*((cell, None) for cell in CELLS), ("lstm", 7)])
def test_precisions(cell: str, projection: int | None, precision: str) -> None:
    options: dict[str, Any] = {"clip": 2.5}
    if cell == "lstm":
        options |= {"peepholes": True, "projection": projection}
    case = on_device(general_case(4, cell, 12, 8, 9, 20, mask="holes", reset=True, **options))
    trace, gradients = case.reference()
    expected = {"output": trace.output, "h": trace.h, "c": trace.c if cell == "lstm" else None}
    with using_precision(precision):
        if precision == "float16":
            got: dict[str, Array | None] = dict(
                zip(
                    expected,
                    (None if t is None else t.numpy() for t in case.forward(case.weights())[:3]),
                    strict=True,
                )
            )
            with pytest.raises(RuntimeError, match="'float16' is for inference"):
                case.native()
        else:
            got = case.native()
            expected |= gradients
    for name, want in expected.items():
        assert_within(got[name], want, TOLERANCE[precision], name)


def test_two_runs_agree_bit_for_bit() -> None:
    case = on_device(general_case(6, "lstm", 23, 9, 5, 19, peepholes=True, projection=7, mask="holes"))
    first, second = case.native(), case.native()
    assert all(np.array_equal(a, second[n]) for n, a in first.items() if a is not None)  # type: ignore[arg-type]


def test_batch_of_none() -> None:
    case = on_device(general_case(6, "lstm", 3, 4, 5, 6, projection=7))
    nothing = replace(case, x=case.x[:0], arrays=dict.fromkeys(case.arrays))
    assert case.forward(case.weights())[0].shape == (3, 4, 7)
    assert nothing.forward(nothing.weights())[0].shape == (0, 4, 7)


@pytest.mark.parametrize("name", LAYERS)
def test_models(name: str) -> None:
    """Predictions, training and streams of models with such layers, beside those of the CPU."""
    kind, options = LAYERS[name]
    rng = np.random.default_rng(0)
    x, y = f32(rng.normal(size=(12, 6, 5))), f32(rng.normal(size=(12, 2)))
    models = []
    for where in ("cpu", "cuda"):
        ln.utils.set_random_seed(2)
        layer = ln.layers.Bidirectional(kind(7, return_sequences=True, **options))
        model = ln.Sequential([ln.Input((6, 5)), layer, kind(4, **options), ln.Dense(2)])
        model.compile("sgd", "mse")
        models.append(model.to(where))
    here, there = models
    np.testing.assert_allclose(there.predict(x, verbose=0), here.predict(x, verbose=0), atol=2e-6)
    for model in models:
        model.fit(x, y, epochs=2, batch_size=5, verbose=0, shuffle=False)
    for mine, other in zip(there.get_weights(), here.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)

    ln.utils.set_random_seed(2)
    plain = ln.Sequential([ln.Input((6, 5)), kind(7, **options)]).to("cuda")
    stream = plain.stream(batch_size=12)
    for step in range(6):
        output = stream.step(x[:, step])
    np.testing.assert_allclose(output, plain.predict(x, verbose=0), atol=1e-6)
