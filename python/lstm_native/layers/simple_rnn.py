"""The fully connected recurrent layer (Elman 1990). Floor 4."""

from __future__ import annotations

from typing import Any, ClassVar

from lstm_native.layers.recurrent import Array, RecurrentLayer


class SimpleRNN(RecurrentLayer):
    """Fully connected recurrent layer: (batch, time, features) to (batch, units).

        h' = a(x K + h R + b)

    Weights: kernel (features, units), recurrent_kernel (units, units), bias (units,). One state,
    h (batch, units).

    Args:
        units: number of units.
        activation: a. A name, None (linear) or a callable.
        use_bias: whether there is a bias.
        kernel_initializer: start values of the kernel.
        recurrent_initializer: start values of the recurrent kernel.
        bias_initializer: start values of the bias.
        kwargs: the arguments of every recurrent layer, `return_sequences` and `stateful` among them: see
            `RecurrentLayer`.
    """

    gates: ClassVar[int] = 1

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            units,
            activation,
            # The cell has no gates: sigmoid lets tanh take its fast form.
            "sigmoid",
            use_bias,
            kernel_initializer,
            recurrent_initializer,
            bias_initializer,
            **kwargs,
        )

    def cell_name(self) -> str:
        return "simple_rnn"

    def step_in_python(self, x: Array, states: tuple[Array, ...]) -> tuple[Array, ...]:
        return (self.apply("activation", x + states[0] @ self.recurrent_kernel.numpy()),)
