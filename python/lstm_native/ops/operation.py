"""How a function of arrays is run, recorded, or made a layer. Floor 4."""

from __future__ import annotations

import builtins
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native.layers.symbolic import Placeholder
from lstm_native.traced import Traced, current, value_of
from lstm_native.variable import Variable

Array = npt.NDArray[Any]
# What turns the gradient of a result into those of the arguments: (gradient, result, *arguments, **options).
Rule = Callable[..., Sequence[Any]]


def as_axes(axis: Any) -> Any:
    """Axes as NumPy takes them."""
    return tuple(axis) if isinstance(axis, list) else axis


def _plain(x: Any) -> Any:
    """An argument as NumPy takes it; constants in double precision become single."""
    x = value_of(x)
    if isinstance(x, np.ndarray) and x.dtype == np.float64:
        return x.astype(np.float32)
    return x


def _flat(arguments: Sequence[Any]) -> list[Any]:
    return [x for a in arguments for x in (_flat(a) if isinstance(a, list | tuple) else (a,))]


def operation(function: Callable[..., Any], rule: Rule | None, *arguments: Any, **options: Any) -> Any:
    """`function(*arguments, **options)`, recorded where training looks on.

    Arguments may be lists of values; `rule` gives their gradients one by one then.
    """
    everything = _flat(arguments)
    if builtins.any(isinstance(x, Placeholder) for x in everything):
        return _on_placeholders(function, rule, arguments, everything, options)
    tape = current()
    if tape is None or not builtins.any(isinstance(x, Traced | Variable) for x in everything):
        return function(*map(_plain, arguments), **options)
    plain = [_plain(a) for a in arguments]
    result = np.asarray(function(*plain, **options))
    if result.dtype == np.float64:
        result = result.astype(np.float32)
    if not tape.record or rule is None or result.dtype.kind != "f":
        return Traced(result, tape)
    given = [
        (i, tape.leaf(x) if isinstance(x, Variable) else x)
        for i, x in enumerate(everything)
        if isinstance(x, Traced | Variable)
    ]
    out = Traced(result, tape)

    def back(gradient: Array) -> list[Any]:
        gradients = rule(gradient, result, *plain, **options)
        return [
            None if gradients[i] is None else summed_to(np.asarray(gradients[i]), value.shape)
            for i, value in given
        ]

    tape.add([out], [value for _, value in given], back)
    return out


def summed_to(gradient: Array, shape: tuple[int, ...]) -> Array:
    """A gradient of what was broadcast, as that of the original."""
    if gradient.shape == shape:
        return gradient.astype(np.float32, copy=False)
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))
    ones = tuple(i for i, size in enumerate(shape) if size == 1 and gradient.shape[i] != 1)
    spread: Array = np.broadcast_to(gradient.sum(axis=ones, keepdims=True), shape).astype(np.float32)
    return spread


def _on_placeholders(
    function: Any, rule: Any, arguments: Sequence[Any], everything: list[Any], options: dict[str, Any]
) -> Any:
    from lstm_native.layers import Lambda  # which is made of this file

    symbols = [x for x in everything if isinstance(x, Placeholder)]

    def refilled(a: Any, values: Any) -> Any:
        if isinstance(a, list | tuple):
            return type(a)(refilled(item, values) for item in a)
        return next(values) if isinstance(a, Placeholder) else a

    def call(inputs: Any) -> Any:
        values = iter(inputs if len(symbols) > 1 else [inputs])
        return operation(function, rule, *(refilled(a, values) for a in arguments), **options)

    return Lambda(call)(symbols if len(symbols) > 1 else symbols[0])


def named(function: Callable[..., Any], rule: Rule | None) -> Callable[..., Any]:
    """A function of arrays alone, from NumPy's."""

    @functools.wraps(function, assigned=("__name__", "__doc__"), updated=())
    def named_operation(*arguments: Any, **options: Any) -> Any:
        return operation(function, rule, *arguments, **options)

    return named_operation
