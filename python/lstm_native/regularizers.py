"""Penalties on weights and activities, under the Keras names. Floor 4."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native import _core
from lstm_native.configurable import Configurable
from lstm_native.errors import check_number
from lstm_native.naming import callable_named
from lstm_native.variable import Variable

Array = npt.NDArray[Any]
# Vectors shorter than this are not normalized to length one (Keras' epsilon).
_SHORTEST = 1e-7


class Regularizer(Configurable):
    """Base class: an object that is called with values and gives the penalty, a number.

    Subclasses define `__call__(x)` and, to be trained with, `gradient(x)`.
    """

    def __call__(self, x: Any) -> Any:
        """The penalty of `x`, an array or a `Variable`."""
        return 0.0

    def gradient(self, x: Any) -> Any:
        """The gradient of the penalty, in the shape of `x`.

        Raises:
            ValueError: the subclass defines none.
        """
        raise ValueError(
            f"{type(self).__name__}: defines no gradient(x), so it works forward only; training needs one"
        )


class _Norms(Regularizer):
    """`l1 * sum(abs(x)) + l2 * sum(x ** 2)`, natively."""

    def factors(self) -> tuple[float, float]:
        """l1 and l2."""
        raise NotImplementedError

    def __call__(self, x: Any) -> Any:
        tensor = _core.as_tensor(np.asarray(x), "float32")
        return np.float32(_core.penalty(tensor, *self.factors(), False)[0])

    def gradient(self, x: Any) -> Any:
        gradient = _core.penalty(_core.as_tensor(np.asarray(x), "float32"), *self.factors(), True)[1]
        assert gradient is not None
        return gradient.numpy()


class L1(_Norms):
    """`l1 * sum(abs(x))`; its gradient is zero where `x` is.

    Args:
        l1: Factor (default 0.01).
    """

    def __init__(self, l1: float = 0.01) -> None:
        self.l1 = _factor("L1", "l1", 0.01 if l1 is None else l1)

    def factors(self) -> tuple[float, float]:
        return self.l1, 0.0


class L2(_Norms):
    """`l2 * sum(x ** 2)`.

    Args:
        l2: Factor (default 0.01).
    """

    def __init__(self, l2: float = 0.01) -> None:
        self.l2 = _factor("L2", "l2", 0.01 if l2 is None else l2)

    def factors(self) -> tuple[float, float]:
        return 0.0, self.l2


class L1L2(_Norms):
    """`l1 * sum(abs(x)) + l2 * sum(x ** 2)`.

    Args:
        l1: Factor of the first sum (default 0.0).
        l2: Factor of the second (default 0.0).
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        self.l1 = _factor("L1L2", "l1", 0.0 if l1 is None else l1)
        self.l2 = _factor("L1L2", "l2", 0.0 if l2 is None else l2)

    def factors(self) -> tuple[float, float]:
        return self.l1, self.l2


class OrthogonalRegularizer(Regularizer):
    """`factor` times the mean of `abs(cos)` over all pairs of rows, or of columns.

    Args:
        factor: Factor (default 0.01).
        mode: "rows" or "columns" (default "rows").

    Raises:
        ValueError: another mode; at the call, values that are no matrix.
    """

    def __init__(self, factor: float = 0.01, mode: str = "rows") -> None:
        self.factor = _factor("OrthogonalRegularizer", "factor", factor)
        if mode not in ("rows", "columns"):
            raise ValueError(
                'Invalid value for argument `mode`. Expected one of {"rows", "columns"}. '
                f"Received: mode={mode}"
            )
        self.mode = mode

    def __call__(self, x: Any) -> Any:
        directions, _ = self._directions(x)
        cosines = self._cosines(directions)
        return np.float32(self._factor_of_a_pair(directions) * np.abs(cosines).sum(dtype=np.float64))

    def gradient(self, x: Any) -> Any:
        directions, scales = self._directions(x)
        signs = np.sign(self._cosines(directions))
        # Each pair stands in the matrix of cosines twice.
        d_directions = np.float32(2 * self._factor_of_a_pair(directions)) * (signs @ directions)
        along = (d_directions * directions).sum(axis=1, keepdims=True)
        free = scales < 1 / _SHORTEST  # the length of the others is not normalized away
        gradient = scales * (d_directions - np.where(free, along, np.float32(0)) * directions)
        return gradient if self.mode == "rows" else gradient.T

    def _directions(self, x: Any) -> tuple[Array, Array]:
        """The rows (or columns, as rows) with length one, and what they were multiplied with for that."""
        values = np.asarray(x, dtype=np.float32)
        if values.ndim != 2:
            raise ValueError(
                f"Inputs to OrthogonalRegularizer must have rank 2. Received: inputs.shape={values.shape}"
            )
        rows = values if self.mode == "rows" else values.T
        squares = np.square(rows).sum(axis=1, keepdims=True)
        scales = 1 / np.maximum(np.sqrt(squares), np.float32(_SHORTEST))
        return rows * scales, scales

    @staticmethod
    def _cosines(directions: Array) -> Array:
        cosines: Array = directions @ directions.T
        np.fill_diagonal(cosines, 0)
        return cosines

    def _factor_of_a_pair(self, directions: Array) -> float:
        rows = len(directions)
        return self.factor / max(rows * (rows - 1), 1)


def _factor(owner: str, argument: str, value: Any) -> float:
    return check_number(owner, argument, value, "a number that is not negative", lambda v: 0 <= v < math.inf)


def penalty(
    regularizer: Callable[[Any], Any], x: Any, need_gradient: bool
) -> tuple[float, _core.Tensor | None]:
    """The penalty of `x`, and its gradient on request.

    Args:
        regularizer: a `Regularizer`, or any callable where no gradient is asked for.
        x: float32 `Tensor` or `Variable`.
        need_gradient: whether the gradient is wanted.

    Raises:
        ValueError: the gradient is wanted of a callable that has none, or a gradient has another shape.
    """
    if isinstance(regularizer, _Norms):
        if isinstance(x, _core.Variable):
            l1, l2 = regularizer.factors()
            return _core.penalties([x], [l1], [l2], need_gradient)[0]
        return _core.penalty(x, *regularizer.factors(), need_gradient)
    values = x.numpy()
    value = float(regularizer(values))
    if not need_gradient:
        return value, None
    if not can_train(regularizer):
        name = getattr(regularizer, "__name__", None) or type(regularizer).__name__
        raise ValueError(
            f"regularizer: {name} has no method gradient(x), so it works forward only; training needs one"
        )
    given = np.asarray(regularizer.gradient(values))  # type: ignore[attr-defined]
    gradient = _core.as_tensor(given, "float32").copy()  # others add to it
    if gradient.shape != x.shape:
        raise ValueError(
            f"{type(regularizer).__name__}: gradient has shape {gradient.shape}, expected {x.shape}"
        )
    return value, gradient


def penalties(
    variables: Iterable[Variable], need_gradient: bool
) -> list[tuple[Variable, float, _core.Tensor | None]]:
    """The penalties of those `variables` that have a regularizer, with their gradients, as `penalty`.

    Raises:
        ValueError: a gradient is wanted of a regularizer that has none.
    """
    regularized = [(v, v.regularizer) for v in variables if v.regularizer is not None]
    native = [(v, *r.factors()) for v, r in regularized if isinstance(r, _Norms)]
    found = iter(
        _core.penalties(
            [v for v, _, _ in native], [l1 for _, l1, _ in native], [l2 for _, _, l2 in native], need_gradient
        )
    )
    return [
        (v, *(next(found) if isinstance(r, _Norms) else penalty(r, v, need_gradient))) for v, r in regularized
    ]


def can_train(regularizer: Callable[[Any], Any] | None) -> bool:
    """Whether training knows the gradient of `regularizer`; there is none to know of None."""
    gradient = getattr(type(regularizer), "gradient", Regularizer.gradient)
    return regularizer is None or gradient is not Regularizer.gradient


# Keras has these names too.
l1, l2, l1_l2, orthogonal_regularizer = L1, L2, L1L2, OrthogonalRegularizer

_CLASSES: dict[str, type[Regularizer]] = {
    "l1": L1,
    "l2": L2,
    "l1l2": L1L2,
    "l1_l2": L1L2,
    "orthogonal_regularizer": OrthogonalRegularizer,
    **{cls.__name__: cls for cls in (L1, L2, L1L2, OrthogonalRegularizer)},
}


def get(identifier: Any) -> Callable[[Any], Any] | None:
    """The regularizer that `identifier` stands for.

    Args:
        identifier: A name ("l2", "L1L2", ...), a `Regularizer`, its class, a configuration
            `{"class_name": ..., "config": {...}}`, any callable `(values) -> number`, or None. Training
            needs a method `gradient(values)` beside the call.

    Returns:
        A callable; None for None.

    Raises:
        ValueError: Unknown name, or something that is none of these.
    """
    found: Callable[[Any], Any] | None = callable_named("regularizer", identifier, _CLASSES)
    return found
