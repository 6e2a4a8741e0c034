"""Bridges between NumPy, the yardstick and the native module, used by the tests of the native operations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

import reference_recurrent as rec
from lstm_native import _core

Array = npt.NDArray[Any]

# Rounding of one float32 operation: half a unit in the last place of 1.
UNIT_ROUNDOFF = 2.0**-24


def tensor(x: Any, dtype: str = "float32") -> _core.Tensor:
    return _core.as_tensor(np.asarray(x), dtype)


def optional_tensor(x: Array | None, dtype: str = "float32") -> _core.Tensor | None:
    return None if x is None else tensor(x, dtype)


def variable(x: Any) -> _core.Variable:
    return _core.Variable(tensor(x))


def f32(x: Any) -> Array:
    """`x` rounded to float32, so that native code and yardstick start from the same numbers."""
    return np.asarray(x, dtype=np.float32)


@contextmanager
def using_isa(name: str) -> Iterator[None]:
    before = _core.isa()
    _core.set_isa(name)
    try:
        yield
    finally:
        _core.set_isa(before)


def assert_bits(got: Array, expected: Array, message: str = "") -> None:
    """Equal bit for bit: -0.0 differs from 0.0, a NaN equals itself."""
    assert got.shape == expected.shape, message
    assert got.dtype == expected.dtype, message
    assert got.tobytes() == expected.tobytes(), f"{message}: {np.sum(got != expected)} of {got.size} differ"


def ulp_error(got: Array, exact: Array) -> Array:
    """|got - exact| in units in the last place of float32 at `exact` (float64)."""
    spacing = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    return np.abs(got.astype(np.float64) - exact) / spacing


@dataclass(frozen=True)
class RecurrentCase:
    """Arguments of one call of a recurrent layer, forward and backward. With `index`, x is table[index], and
    the native call takes these two in its place."""

    x: Array
    kernel: Array
    recurrent: Array
    bias: Array | None
    mask: Array | None
    reset: Array | None
    h0: Array | None
    c0: Array | None
    d_output: Array | None
    d_h: Array | None
    d_c: Array | None
    return_sequences: bool = True
    go_backwards: bool = False
    zero_output_for_mask: bool = False
    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"
    cell: str = "lstm"
    recurrent_mask: Array | None = None
    table: Array | None = None
    index: Array | None = None
    checkpoint_steps: int = 0

    def __repr__(self) -> str:
        """Shapes and what is there: a failing example is found again by its seed, not by its numbers."""
        batch, time, inputs = self.x.shape
        arrays = ("bias", "mask", "reset", "h0", "c0", "d_output", "d_h", "d_c", "index", "recurrent_mask")
        given = ", ".join(name for name in arrays if getattr(self, name) is not None)
        flags = ("return_sequences", "go_backwards", "zero_output_for_mask")
        on = ", ".join(flag for flag in flags if getattr(self, flag))
        on += f", checkpoint_steps={self.checkpoint_steps}" if self.checkpoint_steps else ""
        return f"<B={batch} T={time} I={inputs} H={len(self.recurrent)} with {given}; {on}>"

    def reference(self) -> rec.RecurrentTrace:
        return rec.recurrent_forward(
            self.x,
            self.kernel,
            self.recurrent,
            self.bias,
            cell=self.cell,
            activation_name=self.activation,
            recurrent_activation=self.recurrent_activation,
            mask=self.mask,
            reset=self.reset,
            h0=self.h0,
            c0=self.c0,
            recurrent_mask=self.recurrent_mask,
            return_sequences=self.return_sequences,
            go_backwards=self.go_backwards,
            zero_output_for_mask=self.zero_output_for_mask,
        )

    def reference_gradients(self, trace: rec.RecurrentTrace) -> dict[str, Array | None]:
        gradients = rec.recurrent_backward(trace, self.d_output, self.d_h, self.d_c)
        named = dict(zip(GRADIENTS, vars(gradients).values(), strict=True))
        if self.cell != "lstm":
            named["c0"] = None
        if self.index is not None and self.table is not None:
            by_row = np.zeros(self.table.shape)
            np.add.at(by_row, self.index, named["inputs"])
            named["inputs"] = by_row
        return named

    def weights(self) -> _core.RecurrentWeights:
        bias = None if self.bias is None else variable(self.bias)
        kernels = variable(self.kernel), variable(self.recurrent)
        activations = self.activation, self.recurrent_activation
        return _core.RecurrentWeights(self.cell, *kernels, bias, *activations)

    def call(self, weights: _core.RecurrentWeights, training: bool = False) -> _core.RecurrentCall:
        return (
            weights,
            tensor(self.x if self.table is None else self.table),
            optional_tensor(self.mask, "bool"),
            optional_tensor(self.reset, "bool"),
            optional_tensor(self.h0),
            optional_tensor(self.c0),
            self.return_sequences,
            self.go_backwards,
            self.zero_output_for_mask,
            training,
            optional_tensor(self.index, "int32"),
            self.checkpoint_steps,
            optional_tensor(self.recurrent_mask),
            False,
        )

    def forward(
        self, weights: _core.RecurrentWeights, training: bool = False
    ) -> tuple[Array, Array, Array | None, _core.RecurrentSaved | None]:
        output, h, c, saved = _core.recurrent_forward(*self.call(weights, training))
        return output.numpy(), h.numpy(), None if c is None else c.numpy(), saved

    def call_back(
        self,
        weights: _core.RecurrentWeights,
        saved: _core.RecurrentSaved | None,
        need_d_inputs: bool = True,
        need_d_initial: bool = True,
    ) -> _core.RecurrentBackCall:
        assert saved is not None
        d_output, d_h, d_c = (optional_tensor(d) for d in (self.d_output, self.d_h, self.d_c))
        return weights, saved, d_output, d_h, d_c, need_d_inputs, need_d_initial

    def backward(
        self,
        weights: _core.RecurrentWeights,
        saved: _core.RecurrentSaved | None,
        need_d_inputs: bool = True,
        need_d_initial: bool = True,
    ) -> dict[str, Array | None]:
        gradients = _core.recurrent_backward(*self.call_back(weights, saved, need_d_inputs, need_d_initial))
        return {
            name: None if gradient is None else gradient.numpy()
            for name, gradient in zip(GRADIENTS, gradients, strict=True)
        }

    def gradients(self) -> dict[str, Array | None]:
        """Native gradients of a call of its own."""
        weights = self.weights()
        return self.backward(weights, self.forward(weights, training=True)[3])

    def rows(self, rows: Any) -> RecurrentCase:
        """The same call with these batch rows only."""
        names = ("x", "index", "mask", "reset", "h0", "c0", "recurrent_mask", "d_output", "d_h", "d_c")
        values = {name: getattr(self, name) for name in names}
        return replace(
            self, **{name: None if value is None else value[rows] for name, value in values.items()}
        )


def indexed(case: RecurrentCase, rows: int, seed: int = 0) -> RecurrentCase:
    """The same call with inputs that are taken from a table of `rows` rows, at random."""
    rng = np.random.default_rng(seed)
    batch, time, features = case.x.shape
    table = f32(rng.normal(size=(rows, features)))
    index = rng.integers(0, rows, (batch, time)).astype(np.int32)
    return replace(case, x=table[index], table=table, index=index)


def recurrent_masked(case: RecurrentCase, rate: float = 0.3, seed: int = 0) -> RecurrentCase:
    """The same call with a recurrent mask as dropout draws it."""
    keep = np.random.default_rng(seed).random((len(case.x), len(case.recurrent))) >= rate
    return replace(case, recurrent_mask=f32(keep / (1.0 - rate)))


GRADIENTS = ("inputs", "kernel", "recurrent", "bias", "h0", "c0")


def random_mask(rng: np.random.Generator, kind: str, batch: int, time: int) -> Array | None:
    """Mask (B, T) of a pattern; 'rows' leaves whole rows without a valid step, 'ends' pads all rows at both
    ends, 'all' has no valid step."""
    if kind == "none":
        return None
    lengths = rng.integers(0, time + 1, size=(batch, 1))
    steps = np.arange(time)
    if kind == "right":
        return np.asarray(steps < lengths)
    if kind == "left":
        return np.asarray(steps >= time - lengths)
    if kind == "ends":
        return np.asarray((steps >= time // 3) & (steps < time // 3 + lengths // 3))
    if kind == "all":
        return np.zeros((batch, time), bool)
    if kind == "holes":
        return np.asarray(rng.random((batch, time)) < 0.6)
    return np.broadcast_to(rng.random((batch, 1)) < 0.5, (batch, time)).copy()


MASKS = ("none", "right", "left", "holes", "rows", "ends", "all")


def recurrent_case(
    seed: int,
    batch: int,
    time: int,
    inputs: int,
    units: int,
    *,
    mask: str = "none",
    reset: bool = False,
    initial: bool = True,
    use_bias: bool = True,
    return_sequences: bool = True,
    weight_scale: float = 1.0,
    cell: str = "lstm",
    **options: Any,
) -> RecurrentCase:
    """A call with inputs of order 1 and weights of the size that Keras draws, times `weight_scale`."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> Array:
        return f32(rng.normal(size=shape))

    kind = rec.CELLS[cell]
    columns = kind.gates * units
    kernel_scale, recurrent_scale = np.sqrt(2.0 / (inputs + columns)), np.sqrt(1.0 / units)
    bias = normal(*kind.bias_shape(units)) * np.float32(0.3 * weight_scale)
    if cell == "lstm":
        bias[units : 2 * units] += np.float32(weight_scale)
    return RecurrentCase(
        x=normal(batch, time, inputs),
        kernel=normal(inputs, columns) * np.float32(kernel_scale * weight_scale),
        recurrent=normal(units, columns) * np.float32(recurrent_scale * weight_scale),
        bias=bias if use_bias else None,
        mask=random_mask(rng, mask, batch, time),
        reset=rng.random((batch, time)) < 0.15 if reset else None,
        h0=np.tanh(normal(batch, units)) if initial else None,
        c0=normal(batch, units) if initial and cell == "lstm" else None,
        d_output=normal(batch, time, units) if return_sequences else normal(batch, units),
        d_h=normal(batch, units),
        d_c=normal(batch, units) if cell == "lstm" else None,
        return_sequences=return_sequences,
        cell=cell,
        **options,
    )


def varied_case(cell: str, seed: int, below: tuple[int, int, int, int], **others: Any) -> RecurrentCase:
    """A call of random sizes that has, by `seed`, all that a call may have.

    Args:
        cell: name of the cell.
        seed: also of the sizes.
        below: what batch, time, inputs and units are below.
        **others: more arguments of `recurrent_case`.
    """
    rng = np.random.default_rng(seed)
    batch, time, inputs, units = (int(rng.integers(1, n)) for n in below)
    case = recurrent_case(
        seed,
        batch,
        time,
        inputs,
        units,
        cell=cell,
        mask=MASKS[seed % 5],
        reset=seed % 3 == 0,
        initial=seed % 2 == 1,
        use_bias=seed % 7 != 0,
        return_sequences=seed % 4 != 0,
        go_backwards=seed % 5 == 1,
        zero_output_for_mask=seed % 6 == 1,
        **others,
    )
    if seed % 4 == 2:
        case = recurrent_masked(case)
    if seed % 5 == 3:
        case = indexed(case, 7)
    if seed % 5 == 4:
        case = replace(case, checkpoint_steps=3)
    return case
