"""Activations with parameters that recurrent layers run natively: those of ONNX's operators. Floor 4."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native.configurable import Configurable
from lstm_native.errors import check_number, unknown_name

Array = npt.NDArray[np.float32]

# Value at x, and what alpha and beta are where ONNX leaves them out; None: there is no such parameter.
_FUNCTIONS: dict[str, tuple[Callable[[Any, Any, Any], Any], float, float | None]] = {
    "affine": (lambda x, a, b: a * x + b, 1.0, 0.0),
    "leaky_relu": (lambda x, a, _: np.where(x < 0, a * x, x), 0.01, None),
    "thresholded_relu": (lambda x, a, _: np.where(x > a, x, np.float32(0)), 1.0, None),
    "scaled_tanh": (lambda x, a, b: a * np.tanh(b * x), 1.0, 1.0),
    "hard_sigmoid": (lambda x, a, b: np.clip(a * x + b, np.float32(0), np.float32(1)), 0.2, 0.5),
    "elu": (lambda x, a, _: np.where(x < 0, a * np.expm1(np.minimum(x, 0)), x), 1.0, None),
}


class Parametric(Configurable):
    """An activation with parameters, for recurrent layers: forward, backward and in streams.

    | name | value | alpha | beta |
    |---|---|---|---|
    | `affine` | `alpha * x + beta` | 1 | 0 |
    | `leaky_relu` | `x`, `alpha * x` below 0 | 0.01 | |
    | `thresholded_relu` | `x` above `alpha`, else 0 | 1 | |
    | `scaled_tanh` | `alpha * tanh(beta * x)` | 1 | 1 |
    | `hard_sigmoid` | `alpha * x + beta` within [0, 1] | 0.2 | 0.5 |
    | `elu` | `x`, `alpha * (exp(x) - 1)` below 0 | 1 | |

    These are the functions with parameters that ONNX defines for its operators LSTM, GRU and RNN.
    `Parametric("hard_sigmoid")` is also the hard sigmoid of Keras 2.

    Args:
        function: name of the function.
        alpha, beta: its parameters; by default those of the table.

    Raises:
        ValueError: an unknown name, a parameter that is not finite or that the function has not.
    """

    def __init__(self, function: str, alpha: float | None = None, beta: float | None = None) -> None:
        if function not in _FUNCTIONS:
            raise unknown_name("parametric activation", function, list(_FUNCTIONS))
        defaults = _FUNCTIONS[function][1:]
        values: list[float] = []
        for name, given, default in zip(("alpha", "beta"), (alpha, beta), defaults, strict=True):
            if given is not None and default is None:
                raise ValueError(f"Parametric: {name} is {given!r}, but {function!r} has no {name}")
            if given is not None:
                check_number("Parametric", name, given, "a finite number", math.isfinite)
            values.append(float(given if given is not None else default or 0.0))
        self.function = function
        self.alpha = values[0]
        self.beta = None if defaults[1] is None else values[1]

    @property
    def native(self) -> tuple[str, float, float]:
        """Name and parameters as native code takes them."""
        return self.function, self.alpha, self.beta or 0.0

    def __call__(self, x: Any) -> Array:
        """The values for an array."""
        value = _FUNCTIONS[self.function][0]
        return np.asarray(
            value(np.asarray(x, np.float32), np.float32(self.alpha), np.float32(self.beta or 0)), np.float32
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Parametric) and self.native == other.native

    def __hash__(self) -> int:
        return hash(self.native)

    def __repr__(self) -> str:
        beta = "" if self.beta is None else f", beta={self.beta}"
        return f"Parametric({self.function!r}, alpha={self.alpha}{beta})"
