"""Native activations: tanh and sigmoid to 4 ULP over all float32, the others against the yardstick.

Stated and tested: for every float32 x, tanh(x) and sigmoid(x) are within 4 ULP of the exact value, also
for the tiny sigmoids of negative x. Beyond |x| = 90 they are exactly 0, 1 or -1, but for sigmoids between
-90 and -104 that are subnormal (below 2**-126): results and arguments of that size may be flushed to zero or
not. NaN stays NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import reference as ref
from lstm_native import _core
from native_support import UNIT_ROUNDOFF, Array, f32, tensor, ulp_error, variable

MAX_ULP = 4.0
SMALLEST_NORMAL = 2.0**-126

Native = Callable[[Array], Array]


def all_bit_patterns(stride: int, start: int = 0) -> Array:
    """Every `stride`-th float32 of all 2**32 bit patterns, without the NaNs."""
    x = np.arange(start, 2**32, stride, dtype=np.uint64).astype(np.uint32).view(np.float32)
    return x[~np.isnan(x)]


def everyday_range(count: int) -> Array:
    """Where the curves bend: evenly spread, and powers of two (forms switch there) with neighbours."""
    edges = np.ldexp(1.0, np.arange(-30, 8)).astype(np.float32)
    edges = np.concatenate(
        [edges, np.nextafter(edges, np.float32(0.0)), np.nextafter(edges, np.float32(np.inf))]
    )
    return np.concatenate([np.linspace(-20, 20, count, dtype=np.float32), edges, -edges])


def assert_ulp(function: Native, name: str, x: Array) -> None:
    with np.errstate(over="ignore"):
        exact = ref.activation(name, x)
    got = function(x)
    assert got.dtype == np.float32
    tiny = np.abs(exact) < SMALLEST_NORMAL
    assert np.all(np.abs(got[tiny]) <= SMALLEST_NORMAL), f"{name} of a tiny result"
    error = ulp_error(got[~tiny], exact[~tiny])
    worst = int(np.argmax(error))
    assert error[worst] <= MAX_ULP, f"{_core.isa()} {name}({x[~tiny][worst]!r}): {error[worst]:.2f} ULP"


def native(name: str) -> Native:
    return lambda x: _core.activation_forward(name, tensor(x)).numpy()


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_ulp(isa: str, name: str) -> None:
    assert_ulp(native(name), name, all_bit_patterns(1499))
    assert_ulp(native(name), name, everyday_range(1_000_000))


@pytest.mark.long
@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_ulp_of_tens_of_millions(isa: str, name: str) -> None:
    for start in range(16):
        assert_ulp(native(name), name, all_bit_patterns(1499, 93 * start + 1))
    assert_ulp(native(name), name, everyday_range(10_000_000))


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_saturation_and_special_values(isa: str, name: str) -> None:
    """In vectors and in tails: every length up to two of the widest vectors."""
    low = -1.0 if name == "tanh" else 0.0
    for length in range(1, 34):
        x = f32(np.linspace(90.5, 3e38, length))
        np.testing.assert_array_equal(native(name)(x), 1.0)
        if name == "tanh":
            np.testing.assert_array_equal(native(name)(-x), low)
        else:
            assert np.all(native(name)(-x) <= SMALLEST_NORMAL)
            np.testing.assert_array_equal(native(name)(-x - np.float32(14.0)), low)
        x = np.full(length, np.nan, np.float32)
        assert np.isnan(native(name)(x)).all()
        x[::2], x[1::2] = np.inf, -np.inf
        np.testing.assert_array_equal(native(name)(x), np.where(np.arange(length) % 2, low, 1.0))


def test_signed_zero(isa: str) -> None:
    y = native("tanh")(f32([0.0, -0.0]))
    np.testing.assert_array_equal(np.signbit(y), [False, True])
    np.testing.assert_array_equal(native("sigmoid")(f32([0.0, -0.0])), 0.5)


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_position_in_the_array_changes_no_bit(isa: str, name: str) -> None:
    """Vector and tail compute the same."""
    x = f32(np.linspace(-9, 9, 67))
    whole = native(name)(x)
    alone = np.concatenate([native(name)(x[i : i + 1]) for i in range(67)])
    assert whole.tobytes() == alone.tobytes()


# --- inside the cell: an LSTM whose weights make it the identity around one function --------------

OPEN, SHUT = 100.0, -200.0  # biases that saturate a sigmoid to exactly 1 and exactly 0


def cell(x: Array, kernel_gate: int, bias: list[float], c0: Array | None, want: str) -> Array:
    """One LSTM step over rows x (B,), three equal units; only gate `kernel_gate` (i, f, c, o) sees x."""
    units = 3
    kernel = np.zeros((1, 4, units))
    kernel[:, kernel_gate] = 1.0
    weights = _core.RecurrentWeights(
        "lstm",
        variable(kernel.reshape(1, -1)),
        variable(np.zeros((units, 4 * units))),
        variable(np.repeat(bias, units)),
        "tanh",
        "sigmoid",
    )
    start = None if c0 is None else tensor(np.repeat(c0[:, None], units, axis=1))
    flags = (False, False, False, False)
    output, _, c, _ = _core.recurrent_forward(
        weights, tensor(x.reshape(-1, 1, 1)), None, None, None, start, *flags
    )
    y = (output if want == "h" else c).numpy()
    assert np.all((y == y[:, :1]) | np.isnan(y))
    return y[:, 0]


def test_ulp_of_the_cell(isa: str) -> None:
    """Sigmoid of the input gate, tanh of the candidate, sigmoid of the output gate, tanh of the state."""
    x = np.concatenate([all_bit_patterns(50_021), everyday_range(60_000)])
    x = x[np.isfinite(x)]
    zeros, saturated = np.zeros_like(x), np.full_like(x, 20.0)  # the tanh of 20 is 1
    assert_ulp(lambda x: cell(x, 0, [0.0, SHUT, OPEN, OPEN], None, "c"), "sigmoid", x)
    assert_ulp(lambda x: cell(x, 2, [OPEN, SHUT, 0.0, OPEN], None, "c"), "tanh", x)
    assert_ulp(lambda x: cell(x, 3, [SHUT, OPEN, 0.0, 0.0], saturated, "h"), "sigmoid", x)
    assert_ulp(lambda x: cell(zeros, 0, [SHUT, OPEN, 0.0, OPEN], x, "h"), "tanh", x)


# --- all activations --------------------------------------------------------------------------------


def known(name: str) -> bool:
    return name in ref.ELEMENTWISE or name in ref.ALIASES or name in ref.OVER_LAST_AXIS


def test_every_name_is_in_the_yardstick() -> None:
    names = _core.activation_names()
    assert len(names) == len(set(names))
    assert [name for name in names if not known(name)] == []
    assert {"linear", "tanh", "sigmoid", "hard_sigmoid", "relu", "softsign", "softmax"} <= set(names)
    for name in names:
        assert _core.activation_is_elementwise(name) == (name not in ref.OVER_LAST_AXIS), name


@pytest.mark.parametrize("name", [*ref.ELEMENTWISE, *ref.ALIASES, *ref.OVER_LAST_AXIS])
def test_forward_and_backward(isa: str, name: str) -> None:
    """Within 16 u of the terms that make up the value (up to 1 + |x|); d_x within 32 u of its terms."""
    rng = np.random.default_rng(9)
    for shape in ((7, 19), (3, 5, 4), (33,), (1, 1), (0, 3), (2, 300)):
        x, d_y = f32(rng.normal(size=shape) * 3.0), f32(rng.normal(size=shape))
        y = _core.activation_forward(name, tensor(x))
        expected = ref.activation(name, x)
        scale = np.maximum(1.0 + np.abs(x), np.abs(expected))
        assert y.shape == shape
        assert np.all(np.abs(y.numpy() - expected) <= 16 * UNIT_ROUNDOFF * scale), shape
        got = _core.activation_backward(name, tensor(x), y, tensor(d_y)).numpy()
        wanted = ref.activation_gradient(name, x, d_y)
        scale = np.maximum((1.0 + np.abs(x)) * np.abs(d_y), np.abs(wanted))
        if name in ref.OVER_LAST_AXIS and x.size:  # the terms of the whole row
            scale = scale.sum(axis=-1, keepdims=True)
        assert np.all(np.abs(got - wanted) <= 32 * UNIT_ROUNDOFF * scale), shape


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "sparsemax"])
def test_rows_with_large_values(isa: str, name: str) -> None:
    x = f32([[1e30, 0.0, -1e30], [500.0, 500.0, -500.0], [-1e30, -1e30, -1e30]])
    got = _core.activation_forward(name, tensor(x)).numpy()
    np.testing.assert_allclose(got, ref.activation(name, x), rtol=1e-5)


@pytest.mark.parametrize("name", ["softplus", "log_sigmoid", "silu", "mish", "elu", "selu", "celu", "gelu"])
def test_large_arguments_do_not_overflow(isa: str, name: str) -> None:
    x = f32([-1e4, -200.0, -100.0, 100.0, 200.0, 1e4])
    np.testing.assert_allclose(native(name)(x), ref.activation(name, x), rtol=1e-5, atol=1e-30)
    d_y = np.ones_like(x)
    y = _core.activation_forward(name, tensor(x))
    got = _core.activation_backward(name, tensor(x), y, tensor(d_y)).numpy()
    np.testing.assert_allclose(got, ref.activation_gradient(name, x, d_y), rtol=1e-5, atol=1e-30)


def test_kinks(isa: str) -> None:
    """At its kink relu has the slope of its flat side, as in TensorFlow."""
    x = f32([0.0, -0.0, 1e-30, -1e-30])
    y = _core.activation_forward("relu", tensor(x))
    got = _core.activation_backward("relu", tensor(x), y, tensor(np.ones(4))).numpy()
    np.testing.assert_array_equal(got, [0.0, 0.0, 1.0, 0.0])


def test_wrong_arguments() -> None:
    x = tensor(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="tahn"):
        _core.activation_forward("tahn", x)
    with pytest.raises(ValueError, match="tahn"):
        _core.activation_is_elementwise("tahn")
    with pytest.raises(ValueError, match=r"\("):
        _core.activation_backward("tanh", x, x, tensor(np.zeros((3, 2))))
    with pytest.raises(ValueError, match=r"\("):
        _core.activation_backward("tanh", x, tensor(np.zeros(6)), x)
    with pytest.raises((TypeError, ValueError)):
        _core.activation_forward("tanh", tensor(np.zeros(3), "float64"))
