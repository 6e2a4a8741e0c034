"""Gradient descent with momentum, as Keras computes it. Floor 4."""

from __future__ import annotations

from typing import Any

from lstm_native import _core
from lstm_native.optimizers.base import Optimizer, check_momentum
from lstm_native.optimizers.rate import LearningRate
from lstm_native.variable import Variable


class SGD(Optimizer):
    """Gradient descent: `velocity = momentum * velocity - learning_rate * g; w += velocity`.

    Without momentum `w -= learning_rate * g`; with `nesterov` the step is
    `w += momentum * velocity - learning_rate * g`.

    Args:
        learning_rate: Number, schedule or function (default 0.01).
        momentum: In [0, 1] (default 0.0).
        nesterov: Whether to look ahead along the velocity (default False).
        common, options: The arguments of every optimizer, from `weight_decay` on: see `Optimizer`.
    """

    default_name = "SGD"

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        *common: Any,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, *common, **options)
        check_momentum(self.name, momentum)
        self.momentum = momentum
        self.nesterov = bool(nesterov)

    def _slot_groups(self) -> tuple[tuple[str, ...], ...]:
        return (("momentum",),) if self.momentum else ()

    def _update(
        self,
        variables: list[_core.Variable],
        gradients: list[_core.Tensor],
        slots: list[list[Variable]],
        learning_rate: float,
        decays: list[float] | None,
    ) -> None:
        velocities = slots[0] if slots else None
        _core.sgd_step(variables, gradients, velocities, learning_rate, self.momentum, self.nesterov, decays)
