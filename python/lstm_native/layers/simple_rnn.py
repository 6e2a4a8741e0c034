"""The fully connected recurrent layer (Elman 1990). Floor 4."""

from __future__ import annotations

from typing import Any

from lstm_native.layers.recurrent import Array, RecurrentLayer


class SimpleRNN(RecurrentLayer):
    """Fully connected recurrent layer: (batch, time, features) to (batch, units).

        h' = a(x K + h R + b)

    Weights: kernel (features, units), recurrent_kernel (units, units), bias (units,). One state,
    h (batch, units).

    Args:
        units: number of units.
        common, options: the arguments of every recurrent layer, from `activation` (a) on: see
            `RecurrentLayer`. Keras 3.15 takes an `activity_regularizer` here and forgets it; this layer
            has it like the others.
    """

    gates = 1

    def __init__(self, units: int, *common: Any, **options: Any) -> None:
        # The cell has no gates: sigmoid lets tanh take its fast form.
        super().__init__(units, *common, recurrent_activation="sigmoid", **options)

    def cell_name(self) -> str:
        return "simple_rnn"

    def step_in_python(self, x: Array, states: tuple[Array, ...]) -> tuple[Array, ...]:
        return (self.apply("activation", x + states[0] @ self.recurrent_kernel.numpy()),)
