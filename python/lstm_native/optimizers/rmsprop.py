"""RMSprop, as Keras computes it. Floor 4."""

from __future__ import annotations

from typing import Any

from lstm_native import _core
from lstm_native.errors import check_number
from lstm_native.optimizers.base import LearningRate, Optimizer, check_momentum
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
        weight_decay, clipnorm, clipvalue, global_clipnorm: See `Optimizer` (default None).
        use_ema, ema_momentum, ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps: See
            `Optimizer` (default False, 0.99, None, None, None).
        name: Default "rmsprop".

    Raises:
        ValueError: A value outside its range.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = "rmsprop",
    ) -> None:
        super().__init__(
            learning_rate,
            weight_decay,
            clipnorm,
            clipvalue,
            global_clipnorm,
            use_ema,
            ema_momentum,
            ema_overwrite_frequency,
            loss_scale_factor,
            gradient_accumulation_steps,
            name,
        )
        check_number(self.name, "rho", rho, "a number in [0, 1)", lambda v: 0 <= v < 1)
        check_momentum(self.name, momentum)
        check_number(self.name, "epsilon", epsilon, "a number that is not negative", lambda v: v >= 0)
        self.rho = rho
        self.momentum = momentum
        self.epsilon = epsilon
        self.centered = bool(centered)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "rho": self.rho,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "centered": self.centered,
        }

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
