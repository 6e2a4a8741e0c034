"""Gated recurrent unit (Cho et al. 2014). Floor 4."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_native.layers.recurrent import Array, RecurrentLayer


class GRU(RecurrentLayer):
    """Gated recurrent unit: (batch, time, features) to (batch, units).

        z = s(x K_z + h R_z + b_z)    r = s(x K_r + h R_r + b_r)    h' = z h + (1 - z) g
        g = a(x K_h + b_h + r (h R_h + c_h))    with `reset_after`, c being the second row of the bias
        g = a(x K_h + b_h + (r h) R_h)          without

    Weights, gates in the order z, r, h: kernel (features, 3 * units), recurrent_kernel (units, 3 * units),
    bias (2, 3 * units) with `reset_after`, of the inputs and of the recurrent product, else (3 * units,). One
    state, h (batch, units).

    Args:
        units: number of units.
        activation: a, of the candidate. A name, None (linear) or a callable.
        recurrent_activation: s, of the two gates.
        common, options: the arguments of every recurrent layer, from `use_bias` on: see `RecurrentLayer`.
        reset_after: whether the reset gate acts after the recurrent product, or before.
    """

    gates = 3

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        *common: Any,
        reset_after: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(units, activation, *common, recurrent_activation=recurrent_activation, **options)
        self.reset_after = bool(reset_after)

    def cell_name(self) -> str:
        return "gru" if self.reset_after else "gru_before"

    def bias_shape(self) -> tuple[int, ...]:
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)

    def step_in_python(self, x: Array, states: tuple[Array, ...]) -> tuple[Array, ...]:
        (h,) = states
        units = self.units
        kernel = self.recurrent_kernel.numpy()
        if self.reset_after:
            product = h @ kernel
            if self.bias is not None:
                product += self.bias.numpy()[1]
            z, r = self._gates((x + product)[:, : 2 * units])
            candidate = x[:, 2 * units :] + r * product[:, 2 * units :]
        else:
            z, r = self._gates(x[:, : 2 * units] + h @ kernel[:, : 2 * units])
            candidate = x[:, 2 * units :] + (r * h) @ kernel[:, 2 * units :]
        return (z * h + (1 - z) * self.apply("activation", candidate),)

    def _gates(self, x: Array) -> list[Array]:
        return [self.apply("recurrent_activation", gate) for gate in np.split(x, 2, axis=1)]
