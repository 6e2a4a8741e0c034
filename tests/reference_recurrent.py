"""The yardstick of recurrent layers: cells and a loop over time, forward and backward, in float64 NumPy.

Written to be right, not fast. `test_reference.py` holds every gradient here against central differences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from reference import Array, activation, activation_gradient, f64


class LSTMCell:
    """Hochreiter and Schmidhuber 1997 with a forget gate; gates in columns i, f, c, o."""

    gates = 4

    @staticmethod
    def bias_shape(units: int) -> tuple[int, ...]:
        return (4 * units,)

    @staticmethod
    def step(p: Parameters, x: Array, h: Array, c: Array) -> tuple[Array, Array, Any]:
        z = x @ p.kernel + (h * p.mask) @ p.recurrent + p.bias
        i, f, g, o = np.split(z, 4, axis=1)
        c_new = p.gate(f) * c + p.gate(i) * p.act(g)
        return p.gate(o) * p.act(c_new), c_new, (x, h, c, z, c_new)

    @staticmethod
    def backward(p: Parameters, kept: Any, d_h: Array, d_c: Array, d: Sums) -> tuple[Array, Array, Array]:
        x, h, c, z, c_new = kept
        i, f, g, o = np.split(z, 4, axis=1)
        d_c = d_c + p.d_act(c_new, d_h * p.gate(o))
        dz = np.concatenate(
            [
                p.d_gate(i, d_c * p.act(g)),
                p.d_gate(f, d_c * c),
                p.d_act(g, d_c * p.gate(i)),
                p.d_gate(o, d_h * p.act(c_new)),
            ],
            axis=1,
        )
        d.add(x.T @ dz, (h * p.mask).T @ dz, dz.sum(axis=0))
        return dz @ p.kernel.T, p.mask * (dz @ p.recurrent.T), d_c * p.gate(f)


class SimpleRNNCell:
    """Elman 1990."""

    gates = 1

    @staticmethod
    def bias_shape(units: int) -> tuple[int, ...]:
        return (units,)

    @staticmethod
    def step(p: Parameters, x: Array, h: Array, c: Array) -> tuple[Array, Array, Any]:
        z = x @ p.kernel + (h * p.mask) @ p.recurrent + p.bias
        return p.act(z), c, (x, h, z)

    @staticmethod
    def backward(p: Parameters, kept: Any, d_h: Array, d_c: Array, d: Sums) -> tuple[Array, Array, Array]:
        x, h, z = kept
        dz = p.d_act(z, d_h)
        d.add(x.T @ dz, (h * p.mask).T @ dz, dz.sum(axis=0))
        return dz @ p.kernel.T, p.mask * (dz @ p.recurrent.T), d_c


class GRUCell:
    """Cho et al. 2014 with the reset gate after the recurrent product; gates in columns z, r, h."""

    gates = 3

    @staticmethod
    def bias_shape(units: int) -> tuple[int, ...]:
        return (2, 3 * units)

    @staticmethod
    def step(p: Parameters, x: Array, h: Array, c: Array) -> tuple[Array, Array, Any]:
        of_x, of_h = x @ p.kernel + p.bias[0], (h * p.mask) @ p.recurrent + p.bias[1]
        xz, xr, xh = np.split(of_x, 3, axis=1)
        hz, hr, hh = np.split(of_h, 3, axis=1)
        z, r = p.gate(xz + hz), p.gate(xr + hr)
        g = p.act(xh + r * hh)
        return z * h + (1.0 - z) * g, c, (x, h, xz + hz, xr + hr, hh, xh + r * hh)

    @staticmethod
    def backward(p: Parameters, kept: Any, d_h: Array, d_c: Array, d: Sums) -> tuple[Array, Array, Array]:
        x, h, zz, zr, hh, zg = kept
        z, r, g = p.gate(zz), p.gate(zr), p.act(zg)
        dg = p.d_act(zg, d_h * (1.0 - z))
        dz, dr = p.d_gate(zz, d_h * (h - g)), p.d_gate(zr, dg * hh)
        of_x, of_h = np.concatenate([dz, dr, dg], axis=1), np.concatenate([dz, dr, dg * r], axis=1)
        d.add(x.T @ of_x, (h * p.mask).T @ of_h, np.stack([of_x.sum(axis=0), of_h.sum(axis=0)]))
        return of_x @ p.kernel.T, d_h * z + p.mask * (of_h @ p.recurrent.T), d_c


class GRUBeforeCell:
    """The reset gate before the recurrent product."""

    gates = 3

    @staticmethod
    def bias_shape(units: int) -> tuple[int, ...]:
        return (3 * units,)

    @staticmethod
    def step(p: Parameters, x: Array, h: Array, c: Array) -> tuple[Array, Array, Any]:
        units = h.shape[1]
        of_x = x @ p.kernel + p.bias
        masked = h * p.mask
        gates = of_x[:, : 2 * units] + masked @ p.recurrent[:, : 2 * units]
        z, r = np.split(p.gate(gates), 2, axis=1)
        zg = of_x[:, 2 * units :] + (r * masked) @ p.recurrent[:, 2 * units :]
        return z * h + (1.0 - z) * p.act(zg), c, (x, h, gates, zg)

    @staticmethod
    def backward(p: Parameters, kept: Any, d_h: Array, d_c: Array, d: Sums) -> tuple[Array, Array, Array]:
        x, h, gates, zg = kept
        units, masked = h.shape[1], h * p.mask
        zz, zr = np.split(gates, 2, axis=1)
        z, r, g = p.gate(zz), p.gate(zr), p.act(zg)
        dg = p.d_act(zg, d_h * (1.0 - z))
        d_rh = dg @ p.recurrent[:, 2 * units :].T
        of_gates = np.concatenate([p.d_gate(zz, d_h * (h - g)), p.d_gate(zr, d_rh * masked)], axis=1)
        of_x = np.concatenate([of_gates, dg], axis=1)
        d.add(
            x.T @ of_x, np.concatenate([masked.T @ of_gates, (r * masked).T @ dg], axis=1), of_x.sum(axis=0)
        )
        dh = d_h * z + p.mask * (d_rh * r + of_gates @ p.recurrent[:, : 2 * units].T)
        return of_x @ p.kernel.T, dh, d_c


CELLS: dict[str, Any] = {
    "lstm": LSTMCell,
    "simple_rnn": SimpleRNNCell,
    "gru": GRUCell,
    "gru_before": GRUBeforeCell,
}


@dataclass
class Parameters:
    """Weights and the recurrent mask in float64, and the two activations with their gradients."""

    kernel: Array
    recurrent: Array
    bias: Array
    mask: Array  # of h in the recurrent product
    activation: str
    recurrent_activation: str

    def act(self, x: Array) -> Array:
        return activation(self.activation, x)

    def gate(self, x: Array) -> Array:
        return activation(self.recurrent_activation, x)

    def d_act(self, x: Array, d_y: Array) -> Array:
        return activation_gradient(self.activation, x, d_y)

    def d_gate(self, x: Array, d_y: Array) -> Array:
        return activation_gradient(self.recurrent_activation, x, d_y)

    def cell_units(self) -> int:
        """Columns of c."""
        return self.recurrent.shape[0]

    def zero_sums(self) -> Sums:
        return Sums(np.zeros_like(self.kernel), np.zeros_like(self.recurrent), np.zeros_like(self.bias))


@dataclass
class Sums:
    """Gradients of the weights, summed over steps."""

    kernel: Array
    recurrent: Array
    bias: Array

    def add(self, kernel: Array, recurrent: Array, bias: Array) -> None:
        self.kernel += kernel
        self.recurrent += recurrent
        self.bias += bias


@dataclass
class _Step:
    """One processed step: what its backward step needs."""

    t: int  # input index
    kept: Any  # of the cell
    valid: Array  # (B, 1) bool
    reset: Array


@dataclass
class RecurrentTrace:
    """Results of a forward pass, and what the backward pass needs."""

    output: Array
    h: Array
    c: Array
    steps: list[_Step]
    cell: Any
    parameters: Parameters
    has_bias: bool
    input_shape: tuple[int, ...]
    return_sequences: bool
    zero_output_for_mask: bool


@dataclass
class RecurrentGradients:
    inputs: Array
    kernel: Array
    recurrent: Array
    bias: Array | None
    h0: Array
    c0: Array


def recurrent_forward(
    x: Array,
    kernel: Array,
    recurrent: Array,
    bias: Array | None,
    *,
    cell: str = "lstm",
    activation_name: str = "tanh",
    recurrent_activation: str = "sigmoid",
    mask: Array | None = None,
    reset: Array | None = None,
    h0: Array | None = None,
    c0: Array | None = None,
    recurrent_mask: Array | None = None,
    return_sequences: bool = True,
    go_backwards: bool = False,
    zero_output_for_mask: bool = False,
) -> RecurrentTrace:
    """A cell over x (B, T, I); outputs in processed order.

    mask (B, T): a False step carries the state and repeats the last output (zeros before the first
    valid step), or gives zeros with `zero_output_for_mask`. reset (B, T): a True step begins a new
    sequence in its row: the state is set to its initial value before it, and there is no last output.
    mask and reset are in input order. recurrent_mask (B, U) scales h in the recurrent product. Cells without
    a cell state carry c0 through.
    """
    kernel, recurrent = f64(kernel), f64(recurrent)
    batch, units = x.shape[0], recurrent.shape[0]
    kind = CELLS[cell]
    b = np.zeros(kind.bias_shape(units)) if bias is None else f64(bias)
    recurrent_ones = np.ones((batch, units)) if recurrent_mask is None else f64(recurrent_mask)
    p = Parameters(kernel, recurrent, b, recurrent_ones, activation_name, recurrent_activation)
    return run_forward(
        x,
        kind,
        p,
        has_bias=bias is not None,
        mask=mask,
        reset=reset,
        h0=h0,
        c0=c0,
        return_sequences=return_sequences,
        go_backwards=go_backwards,
        zero_output_for_mask=zero_output_for_mask,
    )


def run_forward(
    x: Array,
    kind: Any,
    p: Parameters,
    *,
    has_bias: bool,
    mask: Array | None,
    reset: Array | None,
    h0: Array | None,
    c0: Array | None,
    return_sequences: bool,
    go_backwards: bool,
    zero_output_for_mask: bool,
) -> RecurrentTrace:
    """The loop of `recurrent_forward`, for any cell."""
    x = f64(x)
    batch, time, _ = x.shape
    units = p.recurrent.shape[0]
    first_h = np.zeros((batch, units)) if h0 is None else f64(h0)
    first_c = np.zeros((batch, p.cell_units())) if c0 is None else f64(c0)
    all_valid = np.ones((batch, time), bool) if mask is None else np.asarray(mask, bool)
    all_reset = np.zeros((batch, time), bool) if reset is None else np.asarray(reset, bool)

    h, c = first_h, first_c
    last = np.zeros((batch, units))
    outputs, steps = [], []
    for t in reversed(range(time)) if go_backwards else range(time):
        valid, cut = all_valid[:, t, None], all_reset[:, t, None]
        h, c, last = np.where(cut, first_h, h), np.where(cut, first_c, c), np.where(cut, 0.0, last)
        h_new, c_new, kept = kind.step(p, x[:, t], h, c)
        steps.append(_Step(t, kept, valid, cut))
        h, c = np.where(valid, h_new, h), np.where(valid, c_new, c)
        last = np.where(valid, h_new, 0.0 if zero_output_for_mask else last)
        outputs.append(last)
    output = np.stack(outputs, axis=1) if return_sequences else last
    return RecurrentTrace(
        output, h, c, steps, kind, p, has_bias, x.shape, return_sequences, zero_output_for_mask
    )


def recurrent_backward(
    trace: RecurrentTrace, d_output: Array | None = None, d_h: Array | None = None, d_c: Array | None = None
) -> RecurrentGradients:
    """Gradients, given those of the output (all steps or the last), of the last h and of the last c."""
    return run_backward(trace, d_output, d_h, d_c)[0]


def run_backward(
    trace: RecurrentTrace, d_output: Array | None, d_h: Array | None, d_c: Array | None
) -> tuple[RecurrentGradients, Sums]:
    """`recurrent_backward`, and the sums of the cell."""
    batch, time, _ = trace.input_shape
    p = trace.parameters
    units = p.recurrent.shape[0]
    d_steps = np.zeros((batch, time, units))
    if d_output is not None and trace.return_sequences:
        d_steps += f64(d_output)
    elif d_output is not None:
        d_steps[:, -1] += f64(d_output)
    dh = np.zeros((batch, units)) if d_h is None else f64(d_h)
    dc = np.zeros((batch, p.cell_units())) if d_c is None else f64(d_c)

    d_x = np.zeros(trace.input_shape)
    d = p.zero_sums()
    d_h0, d_c0 = np.zeros_like(dh), np.zeros_like(dc)
    d_last = np.zeros((batch, units))
    for s in reversed(range(time)):
        step = trace.steps[s]
        d_out = d_steps[:, s] + d_last
        d_last = np.where(step.valid, 0.0, 0.0 if trace.zero_output_for_mask else d_out)
        # What a valid step hands to the formulas; a masked step passes dh and dc by.
        dh_new = np.where(step.valid, dh + d_out, 0.0)
        dc_new = np.where(step.valid, dc, 0.0)
        d_x[:, step.t], dh_before, dc_before = trace.cell.backward(p, step.kept, dh_new, dc_new, d)
        dh = np.where(step.valid, dh_before, dh)
        dc = np.where(step.valid, dc_before, dc)
        d_h0 += np.where(step.reset, dh, 0.0)
        d_c0 += np.where(step.reset, dc, 0.0)
        dh, dc, d_last = (np.where(step.reset, 0.0, gradient) for gradient in (dh, dc, d_last))
    bias_gradient = d.bias if trace.has_bias else None
    return RecurrentGradients(d_x, d.kernel, d.recurrent, bias_gradient, d_h0 + dh, d_c0 + dc), d
