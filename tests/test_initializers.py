"""Initializers: moments, bounds, orthogonality, seeds, names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from lstm_native import initializers, random_state, utils

RANDOM = [
    initializers.RandomUniform,
    initializers.RandomNormal,
    initializers.TruncatedNormal,
    initializers.GlorotUniform,
    initializers.GlorotNormal,
    initializers.HeUniform,
    initializers.HeNormal,
    initializers.LecunUniform,
    initializers.LecunNormal,
    initializers.VarianceScaling,
    initializers.Orthogonal,
]


def test_constants() -> None:
    assert (initializers.Zeros()((2, 3)) == np.zeros((2, 3))).all()
    assert (initializers.Ones()((4,)) == np.ones(4)).all()
    assert (initializers.Constant(2.5)((2, 2)) == np.full((2, 2), 2.5)).all()
    assert (initializers.Identity(3.0)((2, 3)) == 3 * np.eye(2, 3)).all()
    with pytest.raises(ValueError, match="Identity"):
        initializers.Identity()((2, 2, 2))
    for cls in (initializers.Zeros, initializers.Ones):
        assert cls()((2,)).dtype == np.float32
        assert cls()((2,), "float64").dtype == np.float64


@pytest.mark.parametrize("cls", RANDOM)
def test_seeds(cls: Any) -> None:
    first = cls(seed=5)
    values = first((6, 4))
    assert values.shape == (6, 4)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(first((6, 4)), values)
    np.testing.assert_array_equal(cls(seed=5)((6, 4)), values)
    assert (cls(seed=6)((6, 4)) != values).any()
    assert (cls()((6, 4)) != cls()((6, 4))).any()
    np.testing.assert_array_equal(first.clone()((6, 4)), values)
    for bad in (1.5, "one", True):
        with pytest.raises(ValueError, match="seed"):
            cls(seed=bad)


def test_set_random_seed_makes_fresh_seeds_repeat() -> None:
    draws = []
    for _ in range(2):
        utils.set_random_seed(11)
        draws.append([initializers.get("glorot_uniform")((5, 5)), initializers.GlorotUniform()((5, 5))])
    np.testing.assert_array_equal(draws[0][0], draws[1][0])
    np.testing.assert_array_equal(draws[0][1], draws[1][1])
    assert (draws[0][0] != draws[0][1]).any()
    utils.set_random_seed(12)
    assert (initializers.GlorotUniform()((5, 5)) != draws[0][0]).any()


def test_set_random_seed_seeds_python_and_numpy_and_checks_first() -> None:
    import random

    utils.set_random_seed(3)
    first = (random.random(), np.random.rand(), random_state.next_seed())  # noqa: NPY002
    for bad in (-1, 1 << 32, 0.5, "x", True):
        with pytest.raises(ValueError, match="set_random_seed"):
            utils.set_random_seed(bad)
    utils.set_random_seed(3)
    assert (random.random(), np.random.rand(), random_state.next_seed()) == first  # noqa: NPY002


# Fans of (80, 50) are 80 and 50. With 4,000 draws the standard deviation estimates its value with a relative
# error of about 1 / sqrt(2 * 4000) = 1.1 %, so 5 % is more than four of them; the seed is fixed anyway.
SHAPE = (80, 50)


@pytest.mark.parametrize(
    ("initializer", "variance"),
    [
        (initializers.GlorotUniform(seed=1), 2 / 130),
        (initializers.GlorotNormal(seed=1), 2 / 130),
        (initializers.HeUniform(seed=1), 2 / 80),
        (initializers.HeNormal(seed=1), 2 / 80),
        (initializers.LecunUniform(seed=1), 1 / 80),
        (initializers.LecunNormal(seed=1), 1 / 80),
        (initializers.VarianceScaling(3.0, "fan_out", "untruncated_normal", seed=1), 3 / 50),
        (initializers.RandomNormal(seed=1), 0.05**2),
        (initializers.RandomUniform(seed=1), 0.1**2 / 12),
    ],
)
def test_variance(initializer: Any, variance: float) -> None:
    values = initializer(SHAPE).astype(np.float64)
    assert values.std() == pytest.approx(math.sqrt(variance), rel=0.05)
    assert abs(values.mean()) < 4 * math.sqrt(variance / values.size)


def test_bounds() -> None:
    limit = math.sqrt(6 / 130)
    glorot = initializers.GlorotUniform(seed=2)(SHAPE)
    assert np.abs(glorot).max() <= limit
    assert np.abs(glorot).max() > 0.98 * limit
    uniform = initializers.RandomUniform(1.0, 3.0, seed=2)(SHAPE)
    assert uniform.min() >= 1.0
    assert uniform.max() < 3.0
    cut = initializers.TruncatedNormal(1.0, 0.5, seed=2)(SHAPE)
    assert np.abs(cut - 1.0).max() <= 1.0 + 1e-6
    shifted = initializers.RandomNormal(7.0, 0.1, seed=2)(SHAPE)
    assert shifted.mean() == pytest.approx(7.0, abs=0.01)


@pytest.mark.parametrize("shape", [(8, 8), (4, 16), (16, 4), (2, 3, 5)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    matrix = initializers.Orthogonal(gain=2.0, seed=3)(shape).reshape(-1, shape[-1]).astype(np.float64)
    small = min(matrix.shape)
    product = matrix @ matrix.T if matrix.shape[0] == small else matrix.T @ matrix
    # Entries are rounded to float32, a relative 6e-8 each.
    np.testing.assert_allclose(product, 4 * np.eye(small), atol=1e-5)


def test_orthogonal_needs_a_matrix() -> None:
    with pytest.raises(ValueError, match=r"Orthogonal.*two axes"):
        initializers.Orthogonal()((4,))


def test_get() -> None:
    for name, cls in (
        ("glorot_uniform", initializers.GlorotUniform),
        ("GlorotUniform", initializers.GlorotUniform),
        ("uniform", initializers.RandomUniform),
        ("normal", initializers.RandomNormal),
        ("zeros", initializers.Zeros),
        ("one", initializers.Ones),
        ("orthogonal", initializers.Orthogonal),
        ("identity", initializers.Identity),
    ):
        assert type(initializers.get(name)) is cls
    mine = initializers.Constant(3.0)
    assert initializers.get(mine) is mine
    assert initializers.get(None) is None
    assert isinstance(initializers.get(initializers.HeNormal), initializers.HeNormal)
    constant = initializers.get({"class_name": "Constant", "config": {"value": 4.0}})
    assert constant is not None
    assert constant((1,))[0] == 4.0
    given = initializers.get(np.arange(6).reshape(2, 3))
    assert given is not None
    assert given((2, 3)).tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(ValueError, match=r"`shape` to be \(2, 3\).*\(3, 2\)"):
        given((3, 2))
    with pytest.raises(ValueError, match="did you mean 'glorot_uniform'"):
        initializers.get("glorot_unifrom")
    with pytest.raises(ValueError, match="cannot interpret"):
        initializers.get(3)


def test_arguments_out_of_range() -> None:
    for arguments in ({"scale": 0.0}, {"mode": "fan"}, {"distribution": "gamma"}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            initializers.VarianceScaling(**arguments)
    with pytest.raises(ValueError, match="shape"):
        initializers.Zeros()((2, -1))
    with pytest.raises(ValueError, match="shape"):
        initializers.GlorotUniform()(3)  # type: ignore[arg-type]
