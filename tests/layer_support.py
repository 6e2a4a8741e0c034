"""Layers held against float64 functions: outputs directly, gradients by central differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native import _core
from lstm_native.layers.base import Layer
from lstm_native.layers.context import Context

Array = npt.NDArray[Any]

# Central differences in float64 with this step are good to about 1e-9 for functions of size 1.
STEP = 1e-6
# float32 results of sums of a few dozen terms of size 1, through functions with slopes of about 1.
FORWARD = 2e-6
GRADIENT = 2e-5


def f64(x: Any) -> Array:
    return np.asarray(x, np.float64)


def draw(shape: Sequence[int], seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=tuple(shape)).astype(np.float32)


def difference(f: Callable[[], Array], x: Array, d_output: Array) -> Array:
    """Gradient of sum(f() * d_output) by the float64 array `x`, which f reads."""
    gradient = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        kept = x[i]
        x[i] = kept + STEP
        above = (f() * d_output).sum()
        x[i] = kept - STEP
        below = (f() * d_output).sum()
        x[i] = kept
        gradient[i] = (above - below) / (2 * STEP)
    return gradient


def close(got: Any, expected: Array, tolerance: float) -> None:
    got = np.asarray(got.numpy() if hasattr(got, "numpy") else got)
    assert got.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * scale)


def check_layer(
    layer: Layer,
    inputs: Sequence[Array],
    function: Callable[..., Array],
    masks: Sequence[Array | None] | None = None,
    **arguments: Any,
) -> None:
    """Outputs and every gradient of `layer` against `function(inputs, weights)` in float64.

    Args:
        layer: the layer; it is built here, and its weights get random values.
        inputs: its inputs, one for most layers.
        function: float64 arrays `(list of inputs, dict of weights by name)` to the outputs.
        masks: masks of the inputs.
        arguments: further arguments of `forward`.
    """
    several = len(inputs) > 1
    shapes = [x.shape for x in inputs]
    layer.build(shapes if several else shapes[0])
    for i, variable in enumerate(layer.variables):
        variable.assign(1.0 + 0.3 * draw(variable.shape, 100 + i))
    tensors = [_core.as_tensor(x, "float32") for x in inputs]
    flags = None if masks is None else [None if m is None else _core.as_tensor(m, "bool") for m in masks]
    wide = [f64(x) for x in inputs]
    weights = {v.name: f64(v.numpy()) for v in layer.variables}

    def f() -> Array:
        return function(wide, weights)

    ctx = Context(training=False, record=True)
    outputs = layer.forward(
        tensors if several else tensors[0],
        ctx,
        flags if several or flags is None else flags[0],  # type: ignore[arg-type]
        **arguments,
    )
    expected = f()
    close(outputs, expected, FORWARD)
    d_outputs = draw(expected.shape, 7)
    d_inputs = layer.backward(_core.as_tensor(d_outputs, "float32"), ctx)
    for got, x in zip(d_inputs if several else [d_inputs], wide, strict=True):
        close(got, difference(f, x, f64(d_outputs)), GRADIENT)
    for variable in layer.variables:
        close(ctx.gradients[variable], difference(f, weights[variable.name], f64(d_outputs)), GRADIENT)
