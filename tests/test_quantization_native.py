"""Quantized weights in the native layers: codes, products of every shape, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from lstm_native import _core
from native_support import Array, RecurrentCase, assert_bits, recurrent_case, tensor, variable, varied_case

CELLS = ("lstm", "gru", "gru_before", "simple_rnn")
MODES = ("bfloat16", "int8")
EPSILON = float(np.finfo(np.float32).eps)


def quantized(values: Array, mode: str, axis: int = 1) -> _core.Variable:
    made = variable(values)
    _core.quantize_variables([(made, axis, "a matrix")], mode)
    return made


def in_mode(case: RecurrentCase, mode: str) -> tuple[RecurrentCase, _core.RecurrentWeights]:
    """The case with the weights that quantized ones stand for, and quantized weights of it."""
    kernel, recurrent = quantized(case.kernel, mode), quantized(case.recurrent, mode)
    bias = None if case.bias is None else variable(case.bias)
    activations = case.activation, case.recurrent_activation
    weights = _core.RecurrentWeights(case.cell, kernel, recurrent, bias, *activations)
    rounded = replace(case, kernel=kernel.numpy(), recurrent=recurrent.numpy(), checkpoint_steps=0)
    return rounded, weights


# --- codes ----------------------------------------------------------------------------------------


def test_bfloat16_is_the_nearest_number_of_16_bits() -> None:
    x = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32) * 10.0 ** np.arange(-15, 15)
    x = x.astype(np.float32)
    below = (x.view(np.uint32) & 0xFFFF0000).view(np.float32)  # towards zero
    above = ((x.view(np.uint32) & 0xFFFF0000) + 0x10000).view(np.float32)
    expected = np.where(abs(x - below) < abs(above - x), below, above)
    assert_bits(quantized(x, "bfloat16").numpy(), expected)


def test_bfloat16_takes_the_even_one_of_two() -> None:
    one = 0x3F80  # 1.0
    x = np.array([[one << 16 | 0x8000, (one + 1) << 16 | 0x8000]], np.uint32).view(np.float32)
    assert quantized(x, "bfloat16").numpy().view(np.uint32).tolist() == [[one << 16, (one + 2) << 16]]


def test_bfloat16_keeps_what_is_no_number() -> None:
    bits = np.array([[0x7F800000, 0xFF800000, 0x7F800001, 0xFFFFFFFF, 0x7F7FFFFF, 0x80000000]], np.uint32)
    values = quantized(bits.view(np.float32), "bfloat16").numpy()
    assert np.isposinf(values[0, [0, 4]]).all()  # the largest float rounds up
    assert np.isneginf(values[0, 1])
    assert np.isnan(values[0, [2, 3]]).all()
    assert np.signbit(values[0, 5])


def test_int8_of_the_largest_numbers_is_finite() -> None:
    """And the same again, as copies want it."""
    largest = np.finfo(np.float32).max
    x = np.array([[largest, 1.0, -largest], [-1e38, 2.0, 3e38]], np.float32)
    made = quantized(x, "int8")
    scales = made.scales
    assert scales is not None
    assert (abs(made.numpy().astype(np.float64) - x) <= abs(x).max(axis=0) / 254 * 1.01).all()
    assert not (scales.view(np.uint32) & 0xFF).any()
    assert_bits(quantized(made.numpy(), "int8").numpy(), made.numpy())


@pytest.mark.parametrize("axis", [0, 1])
def test_int8_is_the_nearest_multiple_of_a_scale(axis: int) -> None:
    x = np.random.default_rng(1).standard_t(3, size=(37, 23)).astype(np.float32)
    x[:, 4] = 0.0
    x[5] = 0.0
    made = quantized(x, "int8", axis)
    scales = made.scales
    assert scales is not None
    assert scales.shape == ((37, 1) if axis == 0 else (1, 23))
    largest = abs(x).max(axis=1 - axis, keepdims=True)
    # Largest / 127, rounded up to 16 bits.
    np.testing.assert_allclose(scales, largest / 127, rtol=2.0**-15)
    assert (scales * 127 >= largest).all()
    assert not (scales.view(np.uint32) & 0xFF).any()
    steps = np.divide(made.numpy(), scales, out=np.zeros_like(x), where=scales > 0)
    assert_bits(steps, np.rint(steps))
    assert abs(steps).max(axis=1 - axis)[largest.ravel() > 0].tolist() == [127.0] * int((largest > 0).sum())
    assert (abs(made.numpy() - x) <= scales / 2 * (1 + 4 * EPSILON)).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("power", [-38, -30, 0, 30, 37])
def test_to_quantize_again_changes_nothing(mode: str, axis: int, power: int) -> None:
    x = np.random.default_rng(2).normal(size=(19, 33)) * 10.0**power
    once = quantized(x.astype(np.float32), mode, axis)
    again = quantized(once.numpy(), mode, axis)
    assert_bits(again.numpy(), once.numpy())
    if mode == "int8":
        assert once.scales is not None
        assert again.scales is not None
        assert_bits(again.scales, once.scales)


def test_bytes() -> None:
    x = np.ones((6, 10), np.float32)
    plain = variable(x)
    assert (plain.nbytes, plain.dtype, plain.is_quantized, plain.scales) == (240, "float32", False, None)
    half = quantized(x, "bfloat16")
    assert (half.nbytes, half.dtype, half.is_quantized, half.scales) == (120, "bfloat16", True, None)
    assert (quantized(x, "int8").nbytes, quantized(x, "int8", 0).nbytes) == (60 + 40, 60 + 24)


def test_all_or_none() -> None:
    good, bad = variable(np.ones((2, 3))), variable(np.array([[1.0, np.nan]]))
    version = good.version
    with pytest.raises(ValueError, match=r"^the second: cannot be quantized to int8 as it holds nan$"):
        _core.quantize_variables([(good, 1, "the first"), (bad, 1, "the second")], "int8")
    assert (good.dtype, good.version) == ("float32", version)
    for given, mode, words in (
        ((variable(np.ones(3)), 1, "b"), "int8", r"it is float32 \(3,\)"),
        ((good, 2, "b"), "int8", "axis of its scales is 2"),
        ((good, 1, "b"), "int4", "'int4', expected 'bfloat16' or 'int8'"),
        ((quantized(np.ones((2, 2)), "int8"), 1, "b"), "bfloat16", "as it is int8"),
    ):
        with pytest.raises(ValueError, match=words):
            _core.quantize_variables([given], mode)


def test_the_gpu_takes_none() -> None:
    plain, eight = variable(np.ones((2, 3))), quantized(np.ones((2, 3)), "int8")
    with pytest.raises(ValueError, match="a variable is quantized to int8, which the device 'cuda' has not"):
        _core.move_variables([eight, plain], "cuda")
    _core.move_variables([plain, eight], "cpu")
    assert eight.dtype == "int8"


# --- layers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(10))
def test_recurrent_layers(isa: str, cell: str, mode: str, seed: int) -> None:
    """Outputs are those of the rounded weights: in 16 bits bit for bit, in 8 but for the order of a sum."""
    case, weights = in_mode(varied_case(cell, seed, (30, 9, 40, 50)), mode)
    output, h, c, _ = case.forward(weights)
    plain = case.forward(case.weights())
    if mode == "bfloat16":
        for got, expected in zip((output, h, c), plain[:3], strict=True):
            assert (got is None) == (expected is None)
            if got is not None and expected is not None:
                assert_bits(got, expected)
    reference = case.reference()
    # Sums of at most 90 products of order 1, and nine steps that pass their errors on.
    np.testing.assert_allclose(output, reference.output, atol=3e-6, rtol=3e-5)
    np.testing.assert_allclose(h, reference.h, atol=3e-6, rtol=3e-5)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("mode", MODES)
def test_bits_hang_on_neither_threads_nor_batch(
    isa: str, threads: Callable[[int], None], cell: str, mode: str
) -> None:
    case, weights = in_mode(recurrent_case(3, 29, 5, 70, 96, cell=cell), mode)
    threads(1)
    output = case.forward(weights)[0]
    for count in (2, 3, 5):
        threads(count)
        assert_bits(case.forward(weights)[0], output)
    for rows in (slice(0, 1), slice(7, 9), slice(12, 25), slice(28, 29)):
        assert_bits(case.rows(rows).forward(weights)[0], output[rows])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 2), (17, 33, 40), (130, 64, 700)])
def test_dense(isa: str, threads: Callable[[int], None], mode: str, shape: tuple[int, int, int]) -> None:
    rows, features, units = shape
    rng = np.random.default_rng(4)
    x, bias = rng.normal(size=(rows, features)).astype(np.float32), rng.normal(size=units).astype(np.float32)
    kernel = quantized(rng.normal(size=(features, units)).astype(np.float32), mode)
    weights = _core.DenseWeights(kernel, variable(bias))
    threads(1)
    y = _core.dense_forward(weights, tensor(x)).numpy()
    exact = x.astype(np.float64) @ kernel.numpy() + bias
    sums = abs(x).astype(np.float64) @ abs(kernel.numpy()) + abs(bias)
    assert (abs(y - exact) <= (features + 2) * EPSILON * sums).all()
    threads(3)
    assert_bits(_core.dense_forward(weights, tensor(x)).numpy(), y)
    assert_bits(_core.dense_forward(weights, tensor(x[-1:])).numpy(), y[-1:])


@pytest.mark.parametrize("mode", MODES)
def test_embedding(isa: str, mode: str) -> None:
    rng = np.random.default_rng(5)
    table = quantized(rng.normal(size=(50, 37)).astype(np.float32), mode, 0)
    ids = rng.integers(0, 50, (6, 11)).astype(np.int32)
    assert_bits(_core.embedding_forward(table, tensor(ids, "int32")).numpy(), table.numpy()[ids])


def test_weights_that_are_quantized_later() -> None:
    """Packs follow their variables."""
    case = recurrent_case(6, 4, 5, 8, 20)
    assert case.bias is not None
    kernel, recurrent = variable(case.kernel), variable(case.recurrent)
    weights = _core.RecurrentWeights("lstm", kernel, recurrent, variable(case.bias), "tanh", "sigmoid")
    assert_bits(case.forward(weights)[0], case.forward(case.weights())[0])
    _core.quantize_variables([(recurrent, 1, "one of two")], "bfloat16")
    mixed = replace(case, recurrent=recurrent.numpy())
    assert_bits(case.forward(weights)[0], mixed.forward(mixed.weights())[0])
    _core.quantize_variables([(kernel, 1, "the other")], "int8")
    assert_bits(case.forward(weights)[0], case.forward(in_mode_of(case, kernel, recurrent))[0])


def in_mode_of(
    case: RecurrentCase, kernel: _core.Variable, recurrent: _core.Variable
) -> _core.RecurrentWeights:
    assert case.bias is not None
    return _core.RecurrentWeights("lstm", kernel, recurrent, variable(case.bias), "tanh", "sigmoid")


# --- what they refuse -----------------------------------------------------------------------------


def test_no_training() -> None:
    case, weights = in_mode(recurrent_case(7, 2, 3, 4, 5), "int8")
    with pytest.raises(ValueError, match="LSTM: training with quantized weights"):
        case.forward(weights, training=True)
    dense = _core.DenseWeights(quantized(np.ones((2, 3)), "int8"), None)
    with pytest.raises(ValueError, match="Dense: training with a quantized kernel"):
        _core.dense_backward(dense, tensor(np.ones((1, 2))), tensor(np.ones((1, 3))), True)


def test_gradients_of_a_pass_before() -> None:
    """What a forward pass saved stays good."""
    case = recurrent_case(8, 3, 4, 5, 6)
    kernel, recurrent = variable(case.kernel), variable(case.recurrent)
    weights = in_mode_of(case, kernel, recurrent)
    saved = case.forward(weights, training=True)[3]
    _core.quantize_variables([(kernel, 1, "kernel"), (recurrent, 1, "recurrent")], "int8")
    for name, gradient in case.backward(weights, saved).items():
        expected = case.gradients()[name]
        assert gradient is not None
        assert expected is not None
        assert_bits(gradient, expected, name)


def test_who_takes_float32_alone() -> None:
    kernel, recurrent = quantized(np.ones((3, 8)), "int8"), quantized(np.ones((2, 8)), "int8")
    with pytest.raises(ValueError, match="LSTM: kernel has dtype int8, expected float32"):
        _core.RecurrentWeights.general("lstm", kernel, recurrent, None, "tanh", "sigmoid", "tanh", clip=1.0)
    later = variable(np.ones((3, 8))), variable(np.ones((2, 8)))
    weights = _core.RecurrentWeights.general("lstm", *later, None, "tanh", "sigmoid", "tanh", clip=1.0)
    _core.quantize_variables([(later[0], 1, "kernel")], "int8")
    case = recurrent_case(9, 2, 2, 3, 2, initial=False)
    with pytest.raises(ValueError, match="LSTM has dtype int8, expected float32"):
        case.forward(weights)
    rows = quantized(np.ones((3, 8)), "int8", 0)
    with pytest.raises(ValueError, match="Dense: kernel has its scales along axis 0, expected 1"):
        _core.DenseWeights(rows, None)
    with pytest.raises(ValueError, match="Embedding: table has its scales along axis 1, expected 0"):
        _core.embedding_forward(kernel, tensor(np.zeros((1, 1), np.int32), "int32"))
    with pytest.raises(ValueError, match="assign: value has dtype float32, expected int8"):
        kernel.assign(tensor(np.ones((3, 8))))
