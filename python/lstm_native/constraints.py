"""What weights are brought back to after every step of training, under the Keras names. Floor 4."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native.configurable import Configurable
from lstm_native.errors import check_number
from lstm_native.naming import callable_named

Array = npt.NDArray[Any]
# Keeps a divisor from zero (Keras' epsilon).
_EPSILON = np.float32(1e-7)


class Constraint(Configurable):
    """Base class: an object that is called with weights and gives those that take their place.

    Subclasses define `__call__(w)`.
    """

    def __call__(self, w: Any) -> Any:
        """The weights for `w`, in the same shape."""
        return w


class NonNeg(Constraint):
    """Negative weights become zero."""

    def __call__(self, w: Any) -> Array:
        return np.maximum(_floats(w), np.float32(0))


class MinMaxNorm(Constraint):
    """Weights are scaled so that their norms are between two numbers.

    Args:
        min_value: Smallest norm (default 0.0).
        max_value: Largest norm (default 1.0).
        rate: How much of the way to go; 1 goes it all (default 1.0).
        axis: Axis, or list of axes, that a norm is taken along (default 0: the weights of one unit).
    """

    def __init__(
        self,
        min_value: float = 0.0,
        max_value: float = 1.0,
        rate: float = 1.0,
        axis: int | Sequence[int] = 0,
    ) -> None:
        name = type(self).__name__
        self.min_value = check_number(name, "min_value", min_value, "a number")
        self.max_value = check_number(name, "max_value", max_value, "a number")
        self.rate = check_number(name, "rate", rate, "a number")
        self.axis = axis

    def __call__(self, w: Any) -> Array:
        weights, norms = _norms(w, self.axis)
        near = np.clip(norms, np.float32(self.min_value), np.float32(self.max_value))
        wanted = np.float32(self.rate) * near + np.float32(1 - self.rate) * norms
        return np.asarray(weights * (wanted / (_EPSILON + norms)))


class MaxNorm(MinMaxNorm):
    """Weights whose norm is too large are scaled down to it.

    Args:
        max_value: Largest norm (default 2).
        axis: Axis, or list of axes, that a norm is taken along (default 0: the weights of one unit).
    """

    def __init__(self, max_value: float = 2, axis: int | Sequence[int] = 0) -> None:
        super().__init__(0.0, max_value, 1.0, axis)


class UnitNorm(Constraint):
    """Weights are scaled to norm one.

    Args:
        axis: Axis, or list of axes, that a norm is taken along (default 0: the weights of one unit).
    """

    def __init__(self, axis: int | Sequence[int] = 0) -> None:
        self.axis = axis

    def __call__(self, w: Any) -> Array:
        weights, norms = _norms(w, self.axis)
        return np.asarray(weights / (_EPSILON + norms))


def _floats(w: Any) -> Array:
    return np.asarray(w, dtype=np.float32)


def _norms(w: Any, axis: int | Sequence[int]) -> tuple[Array, Array]:
    weights = _floats(w)
    axes = tuple(axis) if isinstance(axis, list | tuple) else axis
    return weights, np.sqrt(np.square(weights).sum(axis=axes, keepdims=True))


# Keras has these names too.
non_neg, max_norm, unit_norm, min_max_norm = NonNeg, MaxNorm, UnitNorm, MinMaxNorm

_CLASSES: dict[str, type[Constraint]] = {
    "non_neg": NonNeg,
    "max_norm": MaxNorm,
    "unit_norm": UnitNorm,
    "min_max_norm": MinMaxNorm,
    # Names of Keras 1 and 2.
    "nonneg": NonNeg,
    "maxnorm": MaxNorm,
    "unitnorm": UnitNorm,
    **{cls.__name__: cls for cls in (NonNeg, MaxNorm, UnitNorm, MinMaxNorm)},
}


def get(identifier: Any) -> Callable[[Any], Any] | None:
    """The constraint that `identifier` stands for.

    Args:
        identifier: A name ("max_norm", "NonNeg", ...), a `Constraint`, its class, a configuration
            `{"class_name": ..., "config": {...}}`, any callable `(weights) -> weights`, or None.

    Returns:
        A callable; None for None.

    Raises:
        ValueError: Unknown name, or something that is none of these.
    """
    found: Callable[[Any], Any] | None = callable_named("constraint", identifier, _CLASSES)
    return found
