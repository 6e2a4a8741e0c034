"""The yardstick of general cells: what ONNX and PyTorch ask of a recurrent layer beyond Keras, in float64.

Peepholes, clip, coupled gates and activations with parameters as the ONNX operators LSTM, GRU and RNN define
them, projection as torch.nn.LSTM. The loop over time is that of `reference_recurrent`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

import reference_recurrent as rec
from reference import Array, activation, activation_gradient, f64

Function = str | tuple[str, float, float]

# Value and derivative, of x, alpha, beta.
PARAMETRIC: dict[str, Any] = {
    "affine": (lambda x, a, b: a * x + b, lambda x, a, b: np.full_like(x, a)),
    "leaky_relu": (lambda x, a, b: np.where(x < 0, a * x, x), lambda x, a, b: np.where(x > 0, 1.0, a)),
    "thresholded_relu": (lambda x, a, b: np.where(x > a, x, 0.0), lambda x, a, b: np.where(x > a, 1.0, 0.0)),
    "scaled_tanh": (
        lambda x, a, b: a * np.tanh(b * x),
        lambda x, a, b: a * b * (1.0 - np.tanh(b * x) ** 2),
    ),
    "hard_sigmoid": (
        lambda x, a, b: np.clip(a * x + b, 0.0, 1.0),
        lambda x, a, b: np.where((a * x + b > 0) & (a * x + b < 1), a, 0.0),
    ),
    "elu": (
        lambda x, a, b: np.where(x < 0, a * np.expm1(np.minimum(x, 0.0)), x),
        lambda x, a, b: np.where(x < 0, a * np.exp(np.minimum(x, 0.0)), 1.0),
    ),
}


def value(f: Function, x: Array) -> Array:
    return activation(f, x) if isinstance(f, str) else f64(PARAMETRIC[f[0]][0](x, *f[1:]))


def gradient(f: Function, x: Array, d_y: Array) -> Array:
    if isinstance(f, str):
        return activation_gradient(f, x, d_y)
    return d_y * f64(PARAMETRIC[f[0]][1](x, *f[1:]))


@dataclass
class Options:
    """Of a general cell; weights as the native module takes them."""

    activation: Function = "tanh"
    recurrent_activation: Function = "sigmoid"
    output_activation: Function = "tanh"
    peepholes: Array | None = None
    projection: Array | None = None
    coupled: bool = False
    clip: float | None = None


@dataclass
class Parameters(rec.Parameters):
    """Gates and candidate clip what they take."""

    options: Options = field(default_factory=Options)
    peepholes: Array = field(default_factory=lambda: np.zeros(0))
    projection: Array | None = None

    def clipped(self, x: Array) -> Array:
        bound = self.options.clip
        return x if bound is None else np.clip(x, -bound, bound)

    def inside(self, x: Array, d_y: Array) -> Array:
        bound = self.options.clip
        return d_y if bound is None else np.where(np.abs(x) < bound, d_y, 0.0)

    def act(self, x: Array) -> Array:
        return value(self.options.activation, self.clipped(x))

    def gate(self, x: Array) -> Array:
        return value(self.options.recurrent_activation, self.clipped(x))

    def d_act(self, x: Array, d_y: Array) -> Array:
        return self.inside(x, gradient(self.options.activation, x, d_y))

    def d_gate(self, x: Array, d_y: Array) -> Array:
        return self.inside(x, gradient(self.options.recurrent_activation, x, d_y))

    def cell_units(self) -> int:
        return len(self.recurrent) if self.projection is None else len(self.projection)

    def zero_sums(self) -> rec.Sums:
        projection = None if self.projection is None else np.zeros_like(self.projection)
        plain = super().zero_sums()
        return Sums(plain.kernel, plain.recurrent, plain.bias, np.zeros_like(self.peepholes), projection)


@dataclass
class Sums(rec.Sums):
    peepholes: Array
    projection: Array | None


class GeneralLSTMCell:
    """Gates i, f, c, o, or i, c, o where they are coupled: f = 1 - i."""

    @staticmethod
    def split(p: Parameters, z: Array) -> tuple[Array, Array | None, Array, Array]:
        if p.options.coupled:
            i, g, o = np.split(z, 3, axis=1)
            return i, None, g, o
        i, f, g, o = np.split(z, 4, axis=1)
        return i, f, g, o

    @staticmethod
    def step(p: Parameters, x: Array, h: Array, c: Array) -> tuple[Array, Array, Any]:
        z = x @ p.kernel + (h * p.mask) @ p.recurrent + p.bias
        i, f, g, o = GeneralLSTMCell.split(p, z)
        peephole = p.peepholes.reshape(-1, c.shape[1])
        i = i + peephole[0] * c
        f = None if f is None else f + peephole[1] * c
        c_new = (1.0 - p.gate(i) if f is None else p.gate(f)) * c + p.gate(i) * p.act(g)
        o = o + peephole[-1] * c_new
        m = p.gate(o) * value(p.options.output_activation, c_new)
        h_new = m if p.projection is None else m @ p.projection
        return h_new, c_new, (x, h, c, i, f, g, o, c_new, m)

    @staticmethod
    def backward(p: Parameters, kept: Any, d_h: Array, d_c: Array, d: Sums) -> tuple[Array, Array, Array]:
        x, h, c, i, f, g, o, c_new, m = kept
        peephole = p.peepholes.reshape(-1, c.shape[1])
        d_m = d_h
        if p.projection is not None:
            d.projection += m.T @ d_h
            d_m = d_h @ p.projection.T
        squash = p.options.output_activation
        d_o = p.d_gate(o, d_m * value(squash, c_new))
        d_c = d_c + gradient(squash, c_new, d_m * p.gate(o)) + d_o * peephole[-1]
        d_i = p.d_gate(i, d_c * (p.act(g) - (c if f is None else 0.0)))
        d_g = p.d_act(g, d_c * p.gate(i))
        d_f = None if f is None else p.d_gate(f, d_c * c)
        d_before = d_c * (1.0 - p.gate(i) if f is None else p.gate(f)) + d_i * peephole[0]
        sums = [(d_i * c).sum(axis=0)]
        if d_f is not None:
            d_before = d_before + d_f * peephole[1]
            sums.append((d_f * c).sum(axis=0))
        sums.append((d_o * c_new).sum(axis=0))
        d.peepholes += np.concatenate(sums)
        dz = np.concatenate([part for part in (d_i, d_f, d_g, d_o) if part is not None], axis=1)
        d.add(x.T @ dz, (h * p.mask).T @ dz, dz.sum(axis=0))
        return dz @ p.kernel.T, p.mask * (dz @ p.recurrent.T), d_before


def general_forward(
    x: Array,
    kernel: Array,
    recurrent: Array,
    bias: Array | None,
    options: Options,
    *,
    cell: str = "lstm",
    recurrent_mask: Array | None = None,
    **arguments: Any,
) -> rec.RecurrentTrace:
    """As `reference_recurrent.recurrent_forward`, for a cell with options; h has the rows of `recurrent`."""
    kernel, recurrent = f64(kernel), f64(recurrent)
    kind = GeneralLSTMCell if cell == "lstm" else rec.CELLS[cell]
    shape = (kernel.shape[1],) if cell != "gru" else (2, kernel.shape[1])
    projection = None if options.projection is None else f64(options.projection)
    units = len(recurrent) if projection is None else len(projection)
    count = kernel.shape[1] - units if cell == "lstm" else 0
    p = Parameters(
        kernel,
        recurrent,
        np.zeros(shape) if bias is None else f64(bias),
        np.ones((len(x), len(recurrent))) if recurrent_mask is None else f64(recurrent_mask),
        "",
        "",
        options,
        np.zeros(count) if options.peepholes is None else f64(options.peepholes),
        projection,
    )
    return rec.run_forward(x, kind, p, has_bias=bias is not None, **arguments)


def general_backward(
    trace: rec.RecurrentTrace,
    d_output: Array | None = None,
    d_h: Array | None = None,
    d_c: Array | None = None,
) -> dict[str, Array | None]:
    """Gradients by name: inputs, kernel, recurrent, bias, h0, c0, peepholes, projection."""
    gradients, sums = rec.run_backward(trace, d_output, d_h, d_c)
    assert isinstance(sums, Sums)
    return {**vars(gradients), "peepholes": sums.peepholes, "projection": sums.projection}
