"""RMSprop, as Keras computes it. Floor 4."""

from __future__ import annotations

from typing import Any

from lstm_native import _core
from lstm_native.errors import check_number
from lstm_native.optimizers.base import Optimizer, check_momentum
from lstm_native.optimizers.rate import LearningRate
from lstm_native.variable import Variable


class RMSprop(Optimizer):
    """RMSprop (Hinton, 2012): steps divided by the root of a running mean of squared gradients.

    `velocity = rho * velocity + (1 - rho) * g ** 2; w -= learning_rate * g / sqrt(velocity + epsilon)`

    Args:
        learning_rate: Number, schedule or function (default 0.001).
        rho: Decay of the mean of squares, in [0, 1) (default 0.9).
        momentum: Above zero, `momentum * last step` is added to each step; in [0, 1] (default 0.0).
        epsilon: Keeps the divisor from zero (default 1e-7).
        centered: Divides by the root of the running variance instead (default False).
        common, options: The arguments of every optimizer, from `weight_decay` on: see `Optimizer`.
    """

    default_name = "rmsprop"

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        *common: Any,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, *common, **options)
        check_number(self.name, "rho", rho, "a number in [0, 1)", lambda v: 0 <= v < 1)
        check_momentum(self.name, momentum)
        check_number(self.name, "epsilon", epsilon, "a number that is not negative", lambda v: v >= 0)
        self.rho = rho
        self.momentum = momentum
        self.epsilon = epsilon
        self.centered = bool(centered)

    def _slot_groups(self) -> tuple[tuple[str, ...], ...]:
        groups = [("velocity",)]
        if self.momentum:
            groups.append(("momentum",))
        if self.centered:
            groups.append(("average_gradient",))
        return tuple(groups)

    def _update(
        self,
        variables: list[_core.Variable],
        gradients: list[_core.Tensor],
        slots: list[list[Variable]],
        learning_rate: float,
        decays: list[float] | None,
    ) -> None:
        _core.rmsprop_step(
            variables,
            gradients,
            slots[0],
            slots[1] if self.momentum else None,
            slots[-1] if self.centered else None,
            learning_rate,
            self.rho,
            self.momentum,
            self.epsilon,
            decays,
        )
