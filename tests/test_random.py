"""Counter-based random numbers: reproducible to the bit everywhere, with the distributions they claim."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from lstm_native import _core
from native_support import Array, assert_bits

Draw = Callable[[Sequence[int], int, int], Array]

DRAWS: dict[str, Draw] = {
    "uniform": lambda shape, seed, offset: _core.random_uniform(shape, 0.0, 1.0, seed, offset).numpy(),
    "normal": lambda shape, seed, offset: _core.random_normal(shape, 0.0, 1.0, seed, offset).numpy(),
    "truncated": lambda shape, seed, offset: _core.random_truncated_normal(
        shape, 0.0, 1.0, seed, offset
    ).numpy(),
    "dropout": lambda shape, seed, offset: _core.dropout_mask(shape, 0.3, seed, offset).numpy(),
}
SAMPLE = 200_000
# A mean of SAMPLE numbers lies within 5 standard errors but for one seed in two million.
SIGMAS = 5.0


@pytest.mark.parametrize("name", DRAWS)
def test_a_function_of_seed_and_offset(name: str) -> None:
    draw = DRAWS[name]
    base = draw((1000,), 7, 3)
    assert base.dtype == np.float32
    assert_bits(draw((1000,), 7, 3), base)
    assert_bits(draw((10, 100), 7, 3).ravel(), base)
    assert_bits(draw((333,), 7, 3), base[:333])  # number i depends on i, not on how many are drawn
    for seed, offset in (
        (8, 3),
        (7, 4),
        (7 + 2**32, 3),
        (7, 3 + 2**32),
        (3, 7),
        (2**63 - 1, 2**63 - 1),
        (0, 0),
    ):
        assert not np.array_equal(draw((1000,), seed, offset), base), (seed, offset)


@pytest.mark.parametrize("name", DRAWS)
def test_same_bits_for_all_instruction_sets_and_threads(
    name: str, isa: str, threads: Callable[[int], None]
) -> None:
    draw = DRAWS[name]
    threads(1)
    _core.set_isa("generic")
    expected = draw((50_001,), 11, 5)
    _core.set_isa(isa)
    for count in (1, 2, 3, 7):
        threads(count)
        assert_bits(draw((50_001,), 11, 5), expected)


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (2, 3, 4)])
def test_shapes(name: str, shape: tuple[int, ...]) -> None:
    assert DRAWS[name](shape, 1, 2).shape == shape


@pytest.mark.parametrize("name", ["uniform", "normal", "truncated"])
def test_streams_are_not_correlated(name: str) -> None:
    """Neighbouring offsets, neighbouring seeds and neighbouring numbers: correlation within 5 / sqrt(n)."""
    draw = DRAWS[name]
    base = draw((SAMPLE,), 1, 1).astype(np.float64)
    for other in (draw((SAMPLE,), 1, 2), draw((SAMPLE,), 2, 1), np.roll(base, 1), np.roll(base, 4)):
        assert abs(np.corrcoef(base, other)[0, 1]) <= SIGMAS / math.sqrt(SAMPLE)


def assert_moments(x: Array, mean: float, stddev: float, fourth: float) -> None:
    """`fourth`: central fourth moment over variance squared; it gives the spread of the sample variance."""
    error = stddev / math.sqrt(x.size)
    assert abs(x.mean(dtype=np.float64) - mean) <= SIGMAS * error
    assert abs(x.var(dtype=np.float64) / stddev**2 - 1.0) <= SIGMAS * math.sqrt((fourth - 1.0) / x.size)


def test_uniform() -> None:
    x = _core.random_uniform((SAMPLE,), -2.0, 6.0, 3, 0).numpy()
    assert x.min() >= -2.0
    assert x.max() < 6.0
    assert_moments(x, 2.0, 8.0 / math.sqrt(12.0), 1.8)
    # Every 16th of the range holds its share.
    counts, _ = np.histogram(x, 16, (-2.0, 6.0))
    assert np.all(np.abs(counts - SAMPLE / 16) <= SIGMAS * math.sqrt(SAMPLE / 16))


def test_uniform_never_reaches_its_upper_bound() -> None:
    """Rounding to float32 must not lift a number to `high`, where one step below it is coarse."""
    x = _core.random_uniform(
        (SAMPLE,), 1.0, float(np.nextafter(np.float32(1.0), np.float32(2.0))), 3, 1
    ).numpy()
    np.testing.assert_array_equal(x, 1.0)


def test_normal() -> None:
    x = _core.random_normal((SAMPLE,), 1.5, 0.5, 4, 0).numpy()
    assert_moments(x, 1.5, 0.5, 3.0)
    z = (x - 1.5) / 0.5
    for bound, share in ((1.0, 0.15865525), (2.0, 0.02275013), (3.0, 0.00134990)):
        error = SIGMAS * math.sqrt(share / SAMPLE)
        assert abs(np.mean(z > bound) - share) <= error
        assert abs(np.mean(z < -bound) - share) <= error
    assert np.abs(z).max() < 6.5


def test_truncated_normal() -> None:
    """Within two standard deviations, as TruncatedNormal of Keras; the variance shrinks to 0.7737 of it."""
    x = _core.random_truncated_normal((SAMPLE,), -1.0, 2.0, 5, 0).numpy()
    assert x.min() >= -5.0
    assert x.max() <= 3.0
    density, inside = math.exp(-2.0) / math.sqrt(2.0 * math.pi), math.erf(math.sqrt(2.0))
    variance = 1.0 - 4.0 * density / inside
    fourth = (3.0 * variance - 16.0 * density / inside) / variance**2  # integration by parts
    assert_moments(x, -1.0, 2.0 * math.sqrt(variance), fourth)
    assert np.mean(np.abs(x + 1.0) > 3.8) > 0.002  # not cut short of its bounds


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_dropout_mask(rate: float) -> None:
    mask = _core.dropout_mask((SAMPLE,), rate, 6, 0).numpy()
    kept = mask > 0.0
    np.testing.assert_array_equal(mask[kept], np.float32(1.0 / (1.0 - rate)))
    np.testing.assert_array_equal(mask[~kept], 0.0)
    assert abs(np.mean(~kept) - rate) <= SIGMAS * math.sqrt(rate * (1.0 - rate) / SAMPLE)


@pytest.mark.parametrize("rate", [-0.1, 1.5, math.nan])
def test_dropout_rate_out_of_range(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        _core.dropout_mask((3,), rate, 1, 1)


@pytest.mark.parametrize("n", [0, 1, 2, 17, 5000])
def test_permutation(n: int) -> None:
    p = _core.random_permutation(n, 7, 0).numpy()
    assert p.dtype == np.int64
    np.testing.assert_array_equal(np.sort(p), np.arange(n))
    assert_bits(_core.random_permutation(n, 7, 0).numpy(), p)
    if n > 10:
        assert not np.array_equal(_core.random_permutation(n, 7, 1).numpy(), p)
        assert not np.array_equal(_core.random_permutation(n, 8, 0).numpy(), p)
        assert not np.array_equal(p, np.arange(n))


def test_permutations_are_uniform() -> None:
    """All 24 orders of four things over 4,800 offsets: chi-square of 23 degrees of freedom, 5 sigma."""
    counts: dict[bytes, int] = {}
    for offset in range(4800):
        key = _core.random_permutation(4, 9, offset).numpy().tobytes()
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == 24
    chi_square = sum((count - 200.0) ** 2 / 200.0 for count in counts.values())
    assert chi_square <= 23.0 + SIGMAS * math.sqrt(46.0)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError):
        _core.random_uniform((-1,), 0.0, 1.0, 1, 1)
    with pytest.raises(ValueError):
        _core.random_permutation(-1, 1, 1)
    with pytest.raises((ValueError, OverflowError, MemoryError)):
        _core.random_normal((2**40, 2**40), 0.0, 1.0, 1, 1)
