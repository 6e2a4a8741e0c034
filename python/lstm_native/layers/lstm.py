"""Long short-term memory (Hochreiter and Schmidhuber 1997, Gers et al. 2000). Floor 4."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from lstm_native.layers.recurrent import Array, RecurrentLayer


class LSTM(RecurrentLayer):
    """Long short-term memory layer: (batch, time, features) to (batch, units).

        i = s(z_i)  f = s(z_f)  g = a(z_c)  o = s(z_o)    c' = f c + i g    h' = o a(c')    z = x K + h R + b

    Weights, gates in the order i, f, c, o: kernel (features, 4 * units), recurrent_kernel
    (units, 4 * units), bias (4 * units,). States h, c, each (batch, units).

    Args:
        units: number of units.
        activation: a, of the candidate and of the cell's output. A name, None (linear) or a callable.
        recurrent_activation: s, of the three gates.
        use_bias: whether there is a bias.
        kernel_initializer: start values of the kernel.
        recurrent_initializer: start values of the recurrent kernel.
        bias_initializer: start values of the bias, except where `unit_forget_bias` sets ones.
        unit_forget_bias: the forget gate's bias starts at one.
        common, options: the arguments of every recurrent layer, from `kernel_regularizer` on: see
            `RecurrentLayer`.
    """

    gates: ClassVar[int] = 4
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

    def cell_name(self) -> str:
        return "lstm"

    def initial_bias(self, shape: tuple[int, ...], dtype: Any = None) -> Array:
        if not self.unit_forget_bias:
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
