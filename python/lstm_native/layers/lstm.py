"""Long short-term memory (Hochreiter and Schmidhuber 1997, Gers et al. 2000). Floor 4."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from lstm_native import activations
from lstm_native.arrays import positive_int
from lstm_native.layers.recurrent import Array, RecurrentLayer


class LSTM(RecurrentLayer):
    """Long short-term memory layer: (batch, time, features) to (batch, units).

        i = s(z_i)  f = s(z_f)  g = a(z_c)  o = s(z_o)    c' = f c + i g    h' = o a(c')    z = x K + h R + b

    Weights, gates in the order i, f, c, o: kernel (features, 4 * units), recurrent_kernel
    (units, 4 * units), bias (4 * units,). States h, c, each (batch, units).

    With the options of other libraries' cells:

        i = s(z_i + p_i c)  f = s(z_f + p_f c), or 1 - i  g = a(z_c)  o = s(z_o + p_o c')  h' = (o b(c')) K_p

    Args:
        units: number of units.
        activation: a, of the candidate and of the cell's output. A name, None (linear) or a callable.
        recurrent_activation: s, of the three gates.
        use_bias: whether there is a bias.
        kernel_initializer: start values of the kernel.
        recurrent_initializer: start values of the recurrent kernel.
        bias_initializer: start values of the bias, except where `unit_forget_bias` sets ones.
        unit_forget_bias: the forget gate's bias starts at one.
        peepholes: gates see the cell state (Gers and Schmidhuber 2000): i and f that before the step, o that
            after it. One more weight, `peepholes` (3 * units,) for i, f, o, which starts at zero.
        coupled_gates: f is 1 - i (Greff et al. 2017; `input_forget` of ONNX). All weights lack the columns of
            f: kernel (features, 3 * units), gates i, c, o; peepholes (2 * units,) for i, o.
        projection_units: h is projected to so many columns (Sak et al. 2014; `proj_size` of PyTorch), which
            outputs have too. One more weight, `projection_kernel` (units, projection_units), from
            `kernel_initializer`; recurrent_kernel (projection_units, 4 * units).
        output_activation: b, where it is not a; None for a.
        common, options: the arguments of every recurrent layer, from `kernel_regularizer` on: see
            `RecurrentLayer`.
    """

    gates = 4
    config_attributes: ClassVar[dict[str, str | None]] = {"peepholes": "has_peepholes"}
    has_peepholes = False
    projection_units: int | None = None
    output_activation: activations.Activation | None = None
    state_names: ClassVar[tuple[str, ...]] = ("h", "c")

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        *common: Any,
        peepholes: bool = False,
        coupled_gates: bool = False,
        projection_units: int | None = None,
        output_activation: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(
            units,
            activation,
            use_bias,
            kernel_initializer,
            recurrent_initializer,
            bias_initializer,
            *common,
            recurrent_activation=recurrent_activation,
            **options,
        )
        self.unit_forget_bias = bool(unit_forget_bias)
        if projection_units is not None:
            projection_units = positive_int(projection_units, type(self).__name__, "projection_units")
        self.projection_units = projection_units
        self.has_peepholes = bool(peepholes)
        self.coupled_gates = bool(coupled_gates)
        if self.coupled_gates:
            self.gates = 3
        if output_activation is not None:
            self.output_activation = activations.get(output_activation)
            self.activation_arguments = (*self.activation_arguments, "output_activation")
        self._settle()

    def cell_name(self) -> str:
        return "lstm"

    def has_general_cell(self) -> bool:
        return (
            super().has_general_cell()
            or self.has_peepholes
            or self.coupled_gates
            or self.projection_units is not None
            or self.output_activation is not None
        )

    @property
    def output_units(self) -> int:
        return self.units if self.projection_units is None else self.projection_units

    def create_general_weights(self) -> None:
        self.peepholes = self.projection_kernel = None
        if self.has_peepholes:
            self.peepholes = self.add_weight(((self.gates - 1) * self.units,), "zeros", name="peepholes")
        if self.projection_units is not None:
            self.projection_kernel = self.add_weight(
                (self.units, self.projection_units), self.kernel_initializer, name="projection_kernel"
            )

    def initial_bias(self, shape: tuple[int, ...], dtype: Any = None) -> Array:
        if not self.unit_forget_bias or self.coupled_gates:
            return super().initial_bias(shape)
        units = self.units
        ones = np.ones(units, np.float32)
        return np.concatenate([self.bias_initializer((units,)), ones, self.bias_initializer((2 * units,))])

    def step_in_python(self, x: Array, states: tuple[Array, ...]) -> tuple[Array, ...]:
        h, c = states
        i, f, g, o = np.split(x + h @ self.recurrent_kernel.numpy(), 4, axis=1)
        i, f, o = (self.apply("recurrent_activation", gate) for gate in (i, f, o))
        c = f * c + i * self.apply("activation", g)
        return o * self.apply("activation", c), c
