"""Base class of metrics, the numbers that they keep, and the shapes of labels and weights. Floor 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native import initializers
from lstm_native.arrays import to_numpy
from lstm_native.configurable import Configurable
from lstm_native.naming import snake_case

Array = npt.NDArray[Any]
_ZERO = np.float64(0.0)


class MetricVariable(np.lib.mixins.NDArrayOperatorsMixin):
    """Numbers that a metric keeps between batches, in double precision; usable in arithmetic like an array.

    Args:
        value: What to start with.
        name: Name inside the metric, such as "total".
    """

    dtype = "float64"
    trainable = False

    def __init__(self, value: Any, name: str) -> None:
        self._value: Any = np.array(value, np.float64)  # or np.float64, where it is one number
        self.name = name

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        shape: tuple[int, ...] = self._value.shape
        return shape

    @property
    def value(self) -> Array:
        """A copy of the values."""
        return np.array(self._value)

    def numpy(self) -> Array:
        """A copy of the values."""
        return np.array(self._value)

    def assign(self, value: Any) -> None:
        """Replaces the values.

        Args:
            value: Numbers in the variable's shape.

        Raises:
            TypeError: `value` is no numbers.
            ValueError: it has another shape.
        """
        new = np.array(to_numpy(value, f"metric variable {self.name!r}", "value"), np.float64)
        if new.shape != self._value.shape:
            raise ValueError(
                f"metric variable {self.name!r}: value has shape {new.shape}, expected {self.shape}"
            )
        self._value = new

    def assign_add(self, value: Any) -> None:
        """Adds `value`, which may be of a shape that broadcasts."""
        total = self._value + value
        is_number = type(total) is np.float64  # the usual case
        if total.shape == self._value.shape and (is_number or total.dtype == np.float64):
            self._value = total
        else:
            self.assign(total)

    def set_to_zero(self) -> None:
        """Replaces all values by zero."""
        shape = self._value.shape
        self._value = np.zeros(shape) if shape else _ZERO

    def assign_sub(self, value: Any) -> None:
        """Subtracts `value`, which may be of a shape that broadcasts."""
        self.assign(self._value - value)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self._value, dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        arrays = [x._value if isinstance(x, MetricVariable) else x for x in inputs]
        return getattr(ufunc, method)(*arrays, **kwargs)

    def __getitem__(self, index: Any) -> Any:
        return self.value[index]

    def __len__(self) -> int:
        return len(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __int__(self) -> int:
        return int(self._value)

    def __float__(self) -> float:
        return float(self._value)

    def __repr__(self) -> str:
        return f"<MetricVariable {self.name}, shape={self.shape}, value={self._value}>"


class Metric(Configurable):
    """Base class of metrics: define `update_state` and `result`, and keep numbers with `add_variable`.

    Args:
        dtype: "float32" or None: the type of results that are arrays. Variables are kept in double
            precision whatever it is. "float64" is taken too.
        name: Name in logs; the class's name in snake case when None.

    Raises:
        ValueError: Another dtype.
    """

    # "up" or "down": which values are better, None when unknown. Read by callbacks.
    _direction: str | None = None

    def __init__(self, dtype: Any = None, name: str | None = None) -> None:
        try:
            self._dtype = np.dtype(np.float32 if dtype is None else dtype).name
        except (TypeError, ValueError):
            self._dtype = ""
        if self._dtype not in ("float32", "float64"):
            raise ValueError(f"{type(self).__name__}: dtype is {dtype!r}, expected float32 or float64")
        self.name = name or snake_case(type(self).__name__)
        self._variables: list[MetricVariable] = []

    @property
    def dtype(self) -> str:
        """Type of results that are arrays."""
        return self._dtype

    @property
    def variables(self) -> list[MetricVariable]:
        """What this metric keeps between batches, and what metrics in its attributes keep."""
        found = list(self._variables)
        for value in vars(self).values():
            for item in value if isinstance(value, list | tuple) else (value,):
                if isinstance(item, Metric):
                    found += item.variables
        return found

    def add_variable(
        self,
        shape: Sequence[int],
        initializer: Any = "zeros",
        dtype: Any = None,
        aggregation: str = "sum",
        name: str | None = None,
    ) -> MetricVariable:
        """Makes a variable; `reset_state` sets it to zero.

        Args:
            shape: Its shape; () for a number.
            initializer: What it starts with: a name or an object of `lstm_native.initializers`.
            dtype, aggregation: Accepted for compatibility; numbers are kept in double precision.
            name: Its name; "variable" when None.

        Returns:
            The variable.
        """
        initialize = initializers.get("zeros" if initializer is None else initializer)
        assert initialize is not None
        variable = MetricVariable(initialize(tuple(shape)), name or "variable")
        self._variables.append(variable)
        return variable

    def add_weight(
        self, shape: Sequence[int] = (), initializer: Any = None, dtype: Any = None, name: str | None = None
    ) -> MetricVariable:
        """The older name of `add_variable`."""
        return self.add_variable(shape, initializer, dtype, name=name)

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Takes a batch into account."""
        raise NotImplementedError(f"{type(self).__name__} does not define update_state()")

    def result(self) -> Any:
        """The value of everything since `reset_state`."""
        raise NotImplementedError(f"{type(self).__name__} does not define result()")

    def reset_state(self) -> None:
        """Sets all variables to zero."""
        for variable in self.variables:
            variable.set_to_zero()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """`update_state` with these arguments, then `result`."""
        self.update_state(*args, **kwargs)
        return self.result()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"

    def _numbers(self, values: Array) -> Any:
        """A float, or an array of the metric's dtype."""
        return values.astype(self._dtype) if np.ndim(values) else float(values)


def same_shape(name: str, y_true: Any, y_pred: Any) -> tuple[Array, Array]:
    """Labels and predictions of one shape: a last axis of size one is added to labels or dropped."""
    true, pred = to_numpy(y_true, name, "y_true"), to_numpy(y_pred, name, "y_pred")
    if true.shape != pred.shape:
        if true.ndim == pred.ndim - 1 and pred.shape[-1] == 1:
            true = true[..., None]
        elif true.ndim == pred.ndim + 1 and true.shape[-1] == 1:
            true = true[..., 0]
        if true.shape != pred.shape:
            raise shape_error(name, y_true, pred)
    return true, pred


def shape_error(name: str, y_true: Any, pred: Array) -> ValueError:
    """The error for labels and predictions that do not fit."""
    return ValueError(
        f"metric {name!r}: labels have shape {np.shape(y_true)}, predictions have {pred.shape}; "
        "they do not fit"
    )


def spread_weights(name: str, sample_weight: Any, shape: tuple[int, ...]) -> Array:
    """`sample_weight` as float64 in `shape`; the weight of a whole sequence counts for each of its steps."""
    given = to_numpy(sample_weight, name, "sample_weight")
    weights = given.astype(np.float64, copy=False)
    if weights.ndim == len(shape) + 1 and weights.shape[-1] == 1:
        weights = weights[..., 0]
    elif weights.ndim < len(shape):
        weights = weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim))
    try:
        return np.broadcast_to(weights, shape)
    except ValueError:
        raise ValueError(
            f"metric {name!r}: sample_weight has shape {given.shape}, values have {shape}"
        ) from None


def ratio(numerator: Array, denominator: Array) -> Array:
    """The quotient, zero where the denominator is zero."""
    zeros = np.zeros(np.broadcast_shapes(np.shape(numerator), np.shape(denominator)))
    return np.divide(numerator, denominator, out=zeros, where=np.not_equal(denominator, 0))
