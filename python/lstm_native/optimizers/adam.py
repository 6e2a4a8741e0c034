"""Adam, as Keras computes it. Floor 4."""

from __future__ import annotations

import math
from typing import Any

from lstm_native import _core
from lstm_native.errors import check_number
from lstm_native.optimizers.base import Optimizer
from lstm_native.optimizers.rate import LearningRate
from lstm_native.variable import Variable


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2014): steps scaled by running means of gradients and of their squares.

    `w -= m * alpha / (sqrt(v) + epsilon)` with the bias correction inside `alpha`, so that `epsilon`
    is the "epsilon hat" of the paper.

    Args:
        learning_rate: Number, schedule or function (default 0.001).
        beta_1: Decay of the mean of gradients, in [0, 1) (default 0.9).
        beta_2: Decay of the mean of squares, in [0, 1) (default 0.999).
        epsilon: Keeps the divisor from zero (default 1e-7).
        amsgrad: Divides by the largest mean of squares so far (default False).
        common, options: The arguments of every optimizer, from `weight_decay` on: see `Optimizer`.
    """

    default_name = "adam"

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        *common: Any,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, *common, **options)
        for argument, value in (("beta_1", beta_1), ("beta_2", beta_2)):
            check_number(self.name, argument, value, "a number in [0, 1)", lambda v: 0 <= v < 1)
        check_number(self.name, "epsilon", epsilon, "a number that is not negative", lambda v: v >= 0)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.amsgrad = bool(amsgrad)

    def _slot_groups(self) -> tuple[tuple[str, ...], ...]:
        moments = ("momentum", "velocity")
        return (moments, ("velocity_hat",)) if self.amsgrad else (moments,)

    def _update(
        self,
        variables: list[_core.Variable],
        gradients: list[_core.Tensor],
        slots: list[list[Variable]],
        learning_rate: float,
        decays: list[float] | None,
    ) -> None:
        step = int(self.iterations) + 1
        alpha = learning_rate * math.sqrt(1 - self.beta_2**step) / (1 - self.beta_1**step)
        _core.adam_step(
            variables,
            gradients,
            slots[0],
            slots[1],
            slots[2] if self.amsgrad else None,
            alpha,
            self.beta_1,
            self.beta_2,
            self.epsilon,
            decays,
        )
