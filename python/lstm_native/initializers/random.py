"""Random initial values of weights. Floor 4."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from lstm_native import _core, random_state
from lstm_native.errors import check_number
from lstm_native.initializers.base import Array, Initializer, as_dtype, check_shape

# Standard deviation of a standard normal cut at two standard deviations:
# sqrt(1 - 4 phi(2) / (2 Phi(2) - 1)). Dividing by it gives the asked variance after the cut.
_TRUNCATED_STDDEV = 0.87962566103423978


class RandomInitializer(Initializer):
    """Base of the random ones: one object gives the same values at each call of equal shape.

    Args:
        seed: Integer, or None for a fresh seed (see `utils.set_random_seed`).

    Raises:
        ValueError: `seed` is neither an integer nor None.
    """

    # A fresh seed is not written down.
    config_attributes: ClassVar[dict[str, str | None]] = {"seed": "_given_seed"}

    def __init__(self, seed: int | None = None) -> None:
        self._given_seed = seed
        if seed is None:
            self.seed = random_state.next_seed()
        else:
            self.seed = random_state.check_seed(type(self).__name__, seed)


class RandomUniform(RandomInitializer):
    """Uniform in [minval, maxval).

    Args:
        minval: Lower end (default -0.05).
        maxval: Upper end (default 0.05).
        seed: Integer or None.
    """

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None) -> None:
        self.minval = check_number("RandomUniform", "minval", minval, "a number")
        self.maxval = check_number("RandomUniform", "maxval", maxval, "a number")
        super().__init__(seed)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Array:
        """Random values of `shape`."""
        dims = check_shape(self, shape)
        return _cast(_core.random_uniform(dims, self.minval, self.maxval, self.seed, 0), dtype)


class RandomNormal(RandomInitializer):
    """Normal distribution.

    Args:
        mean: Mean (default 0.0).
        stddev: Standard deviation (default 0.05).
        seed: Integer or None.
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        name = type(self).__name__
        self.mean = check_number(name, "mean", mean, "a number")
        self.stddev = check_number(name, "stddev", stddev, "a number that is not negative", lambda s: s >= 0)
        super().__init__(seed)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Array:
        """Random values of `shape`."""
        dims = check_shape(self, shape)
        return _cast(_core.random_normal(dims, self.mean, self.stddev, self.seed, 0), dtype)


class TruncatedNormal(RandomNormal):
    """Normal distribution without the values beyond two standard deviations, which are drawn again.

    Args:
        mean: Mean (default 0.0).
        stddev: Standard deviation before the cut (default 0.05).
        seed: Integer or None.
    """

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Array:
        """Random values of `shape`."""
        dims = check_shape(self, shape)
        return _cast(_core.random_truncated_normal(dims, self.mean, self.stddev, self.seed, 0), dtype)


class VarianceScaling(RandomInitializer):
    """Random values whose variance is `scale` divided by the fan.

    The fans of a matrix (rows, columns) are rows and columns; leading axes of a longer shape count
    as a receptive field and multiply both.

    Args:
        scale: Positive factor (default 1.0).
        mode: "fan_in", "fan_out" or "fan_avg" (default "fan_in").
        distribution: "truncated_normal" ("normal" is the same), "untruncated_normal" or "uniform".
        seed: Integer or None.

    Raises:
        ValueError: An argument outside what is listed.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
    ) -> None:
        name = type(self).__name__
        if isinstance(scale, bool) or not isinstance(scale, int | float | np.number) or not scale > 0:
            raise ValueError(f"{name}: Argument `scale` must be positive float. Received: scale={scale!r}")
        modes = ("fan_in", "fan_out", "fan_avg")
        if mode not in modes:
            raise ValueError(f"{name}: Invalid `mode` argument: {mode!r}, expected one of {modes}")
        kinds = ("truncated_normal", "untruncated_normal", "uniform")
        kind = str(distribution).lower()
        kind = "truncated_normal" if kind == "normal" else kind
        if kind not in kinds:
            raise ValueError(
                f"{name}: Invalid `distribution` argument: {distribution!r}, expected one of {kinds}"
            )
        self.scale = scale
        self.mode = mode
        self.distribution = kind
        super().__init__(seed)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Array:
        """Random values of `shape`."""
        dims = check_shape(self, shape)
        fan_in, fan_out = _fans(dims)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2.0}[self.mode]
        variance = self.scale / max(1.0, fan)
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * variance)
            return _cast(_core.random_uniform(dims, -limit, limit, self.seed, 0), dtype)
        stddev = math.sqrt(variance)
        if self.distribution == "untruncated_normal":
            return _cast(_core.random_normal(dims, 0.0, stddev, self.seed, 0), dtype)
        stddev /= _TRUNCATED_STDDEV
        return _cast(_core.random_truncated_normal(dims, 0.0, stddev, self.seed, 0), dtype)


class _NamedScaling(VarianceScaling):
    """A `VarianceScaling` with fixed arguments: its configuration is the seed alone."""

    _scale = 1.0
    _mode = "fan_in"
    _distribution = "truncated_normal"

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(self._scale, self._mode, self._distribution, seed)


class GlorotUniform(_NamedScaling):
    """Uniform within sqrt(6 / (fan_in + fan_out)).

    Args:
        seed: Integer or None.
    """

    _mode = "fan_avg"
    _distribution = "uniform"


class GlorotNormal(_NamedScaling):
    """Truncated normal with variance 2 / (fan_in + fan_out).

    Args:
        seed: Integer or None.
    """

    _mode = "fan_avg"


class HeUniform(_NamedScaling):
    """Uniform within sqrt(6 / fan_in).

    Args:
        seed: Integer or None.
    """

    _scale = 2.0
    _distribution = "uniform"


class HeNormal(_NamedScaling):
    """Truncated normal with variance 2 / fan_in.

    Args:
        seed: Integer or None.
    """

    _scale = 2.0


class LecunUniform(_NamedScaling):
    """Uniform within sqrt(3 / fan_in).

    Args:
        seed: Integer or None.
    """

    _distribution = "uniform"


class LecunNormal(_NamedScaling):
    """Truncated normal with variance 1 / fan_in.

    Args:
        seed: Integer or None.
    """


class Orthogonal(RandomInitializer):
    """A random matrix with orthonormal rows or columns (whichever are fewer), times `gain`.

    Axes before the last are flattened into rows.

    Args:
        gain: Factor (default 1.0).
        seed: Integer or None.
    """

    def __init__(self, gain: float = 1.0, seed: int | None = None) -> None:
        self.gain = check_number("Orthogonal", "gain", gain, "a number")
        super().__init__(seed)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Array:
        """Random values of `shape`.

        Raises:
            ValueError: `shape` has fewer than two axes.
        """
        dims = check_shape(self, shape)
        if len(dims) < 2:
            raise ValueError(f"Orthogonal: shape is {dims}, expected at least two axes")
        rows, columns = math.prod(dims[:-1]), dims[-1]
        q = _core.random_orthonormal((min(rows, columns), max(rows, columns)), self.seed, 0).numpy()
        q = q.T if rows >= columns else q
        return np.ascontiguousarray((self.gain * q).reshape(dims), dtype=as_dtype(dtype))


def _cast(values: _core.Tensor, dtype: Any) -> Array:
    return values.numpy().astype(as_dtype(dtype), copy=False)


def _fans(shape: tuple[int, ...]) -> tuple[float, float]:
    if len(shape) < 2:
        size = float(shape[0]) if shape else 1.0
        return size, size
    field = math.prod(shape[:-2])
    return float(field * shape[-2]), float(field * shape[-1])
