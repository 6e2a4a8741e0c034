"""Products of rounded matrices on the CUDA backend: TF32, bfloat16, float16. Where there is no GPU, its
drivers and kernels run on the host, whose products round as tensor cores do."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import lstm_native as ln
from cuda_support import open_for_tests, using_precision
from lstm_native import _core, cuda
from native_support import f32, recurrent_case, tensor, varied_case
from test_cuda_backend import OnDevice, there, variable

Array = npt.NDArray[Any]

# Relative norms of the difference to float64. An element that is rounded to 8 bits is wrong by up to
# 2^-9 = 2e-3, by 1e-3 in the mean; of a sum's terms the errors are independent, so that is the error of a
# product, too. What passes through several steps and products is a few times that (up to 5.5e-3 was seen).
# TF32 and float16 have 3 bits more.
TOLERANCE = {"tf32": 1.5e-3, "bfloat16": 1e-2, "float16": 1.5e-3}


@pytest.fixture(scope="module", autouse=True)
def device(tmp_path_factory: pytest.TempPathFactory) -> None:
    open_for_tests(tmp_path_factory.mktemp("cuda"))


def bfloat16(x: Array) -> Array:
    """`x` with 8 bits of precision, ties to even."""
    bits = f32(x).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return np.where(np.isnan(x), x, rounded.astype(np.uint32).view(np.float32)).astype(np.float32)


def float16(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(np.float32)


ROUNDINGS = {"bfloat16": bfloat16, "float16": float16}


def assert_within(got: Array | None, expected: Array | None, tolerance: float, name: str) -> None:
    if expected is None:
        assert got is None, name
        return
    assert got is not None, name
    assert got.shape == expected.shape, name
    error, norm = np.linalg.norm(got - expected), np.linalg.norm(expected)
    assert error <= tolerance * norm, f"{name}: error {error:.2e}, norm {norm:.2e}"


def check(case: OnDevice, precision: str) -> None:
    """Forward, and where the precision has it backward, against float64."""
    trace = case.reference()
    tolerance = TOLERANCE[precision]
    with using_precision(precision):
        weights = case.weights()
        results = [case.forward(weights)]
        if precision != "float16":
            results.append(case.forward(weights, training=True))
        for output, h, c, _ in results:
            assert_within(output, trace.output, tolerance, "output")
            assert_within(h, trace.h, tolerance, "h")
            assert_within(c, trace.c if case.cell == "lstm" else None, tolerance, "c")
        if precision == "float16":
            return
        assert all(np.array_equal(a, b) for a, b in zip(results[0][:2], results[1][:2], strict=True))
        gradients = case.backward(weights, results[1][3])
    for name, expected in case.reference_gradients(trace).items():
        assert_within(gradients[name], expected, tolerance, name)


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("cell", ["lstm", "gru", "gru_before", "simple_rnn"])
def test_recurrent(cell: str, seed: int, precision: str) -> None:
    case = varied_case(cell, seed, (24, 10, 20, 60), activation="softsign" if seed == 5 else "tanh")
    check(OnDevice(**vars(case)), precision)


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize(("batch", "units"), [(1, 64), (17, 64), (3, 129)])
def test_lstm_in_one_launch_and_step_by_step(batch: int, units: int, precision: str) -> None:
    check(OnDevice(**vars(recurrent_case(units, batch, 12, 16, units, mask="holes"))), precision)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_only_operands_are_rounded(precision: str) -> None:
    """Sums, bias and results of Dense are those of float32."""
    rng = np.random.default_rng(0)
    x, kernel, bias, d_y = (f32(rng.normal(size=s)) for s in ((50, 30), (30, 7), (7,), (50, 7)))
    rounded = ROUNDINGS[precision]
    with using_precision(precision):
        weights = _core.DenseWeights(variable(kernel, "cuda"), variable(bias, "cuda"))
        y = _core.dense_forward(weights, there(x)).numpy()
        expected = rounded(x).astype(np.float64) @ rounded(kernel) + bias
        # Tensor cores cut the sums of 30 terms off where float32 ends.
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
        assert not np.allclose(y, x.astype(np.float64) @ kernel + bias, rtol=1e-5, atol=1e-5)
        if precision == "float16":
            return
        d_x, d_kernel, d_bias = _core.dense_backward(weights, there(x), there(d_y), True)
    wide = rounded(d_y).astype(np.float64)
    for got, want in ((d_x, wide @ rounded(kernel).T), (d_kernel, rounded(x).T @ wide), (d_bias, d_y.sum(0))):
        assert got is not None
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_rounding(precision: str) -> None:
    """Every kind of number, times one."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 200_000, dtype=np.uint32)
    halves = (np.arange(2**16, dtype=np.uint32) << 13) + 0x38000000 - (1 << 12)  # ties of float16
    special = np.array([0, 0x7F800000, 0x7FC00000, 0x477FEFFF], np.uint32)
    x = np.concatenate([bits, halves, bits[:1000] & 0xFFFF8000, special]).view(np.float32)
    small = np.ldexp(f32(rng.normal(size=20_000)), rng.integers(-27, -12, 20_000))
    x = f32(np.concatenate([x, small]))
    x = x[(np.abs(x) > 1.2e-38) | (x == 0) | np.isnan(x)]  # subnormal ones are zero on the host
    with using_precision(precision), np.errstate(invalid="ignore"):
        weights = _core.DenseWeights(variable(f32([[1.0]]), "cuda"), None)
        y = _core.dense_forward(weights, there(x[:, None])).numpy()[:, 0]
        np.testing.assert_array_equal(y, ROUNDINGS[precision](x))


def test_packs_are_those_of_the_precision() -> None:
    case = OnDevice(**vars(recurrent_case(0, 20, 5, 16, 24)))
    weights = case.weights()
    exact = case.forward(weights)[0]
    with using_precision("bfloat16"):
        rough, _, _, saved = case.forward(weights, training=True)
        expected = case.backward(weights, saved)
        saved = case.forward(weights, training=True)[3]
    assert not np.array_equal(exact, rough)
    assert np.array_equal(case.forward(weights)[0], exact)
    with using_precision("float16"):
        assert not np.array_equal(case.forward(weights)[0], rough)
    # A backward pass goes on as its forward pass began.
    for name, gradient in case.backward(weights, saved).items():
        assert np.array_equal(gradient, expected[name])  # type: ignore[arg-type]


def small_model() -> ln.Model:
    ln.utils.set_random_seed(3)
    model = ln.Sequential(
        [
            ln.Input((12,)),
            ln.Embedding(40, 16, mask_zero=True),
            ln.layers.Bidirectional(ln.LSTM(24, return_sequences=True)),
            ln.layers.GRU(16),
            ln.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile("adam", "binary_crossentropy")
    return model.to("cuda")


def test_models_train_and_predict() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 40, (64, 12))
    y = (x[:, :6].sum(1) > x[:, 6:].sum(1)).astype(np.float32)[:, None]
    losses, predictions = {}, {}
    for precision in ("float32", "bfloat16"):
        model = small_model()
        with using_precision(precision):
            losses[precision] = model.fit(x, y, epochs=4, batch_size=32, verbose=0).history["loss"]
            predictions[precision] = model.predict(x, verbose=0)
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=2e-3)
    assert 0 < np.abs(predictions["bfloat16"] - predictions["float32"]).max() < 0.01


def test_float16_is_for_inference() -> None:
    x, y = np.ones((4, 12), np.int64), np.ones((4, 1), np.float32)
    model = small_model()
    expected = model.predict(x, verbose=0)
    before = model.get_weights()
    with using_precision("float16"):
        np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=2e-3)
        with pytest.raises(RuntimeError, match=r"'float16' is for inference.*set_precision\('bfloat16'\)"):
            model.fit(x, y, verbose=0)
        dense = _core.DenseWeights(variable(f32(np.ones((3, 2))), "cuda"), None)
        with pytest.raises(RuntimeError, match="'float16' is for inference"):
            _core.dense_backward(dense, tensor(np.ones((1, 3))), tensor(np.ones((1, 2))), True)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True))
    model.fit(x, y, verbose=0)


def test_streams_follow_the_precision() -> None:
    model = ln.Sequential([ln.Input((None, 8)), ln.LSTM(24), ln.Dense(4)]).to("cuda")
    x = f32(np.random.default_rng(0).normal(size=(20, 3, 8)))
    for precision in ("float32", "bfloat16", "float16", "float32"):
        with using_precision(precision):
            stream = model.stream(batch_size=20)
            for step in range(3):
                y = stream.step(x[:, step])
            # Another order of summation may round h to a neighbour, 4e-3 of it away.
            tolerance = 1e-6 if precision == "float32" else 2e-3
            np.testing.assert_allclose(y, model.predict(x, verbose=0), atol=tolerance)


def test_unknown_precision() -> None:
    with pytest.raises(ValueError, match="precision is 'fp8', expected one of 'float32', 'tf32', 'bfloat16'"):
        cuda.set_precision("fp8")
    with pytest.raises(ValueError, match="precision is 'fp8', expected 'float32'"):
        _core.cuda_set_precision("fp8")
