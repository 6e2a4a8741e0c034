"""AdamW: Adam with weight decay, as Keras computes it. Floor 4."""

from __future__ import annotations

from typing import Any

from lstm_native.optimizers.adam import Adam
from lstm_native.optimizers.rate import LearningRate


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019); on by default.

    Args:
        learning_rate: Number, schedule or function (default 0.001).
        weight_decay: Before each step weights shrink by `weight_decay * learning_rate * weight`
            (default 0.004).
        beta_1, beta_2, epsilon, amsgrad: See `Adam` (default 0.9, 0.999, 1e-7, False).
        common, options: The arguments of every optimizer, from `clipnorm` on: see `Optimizer`.
    """

    default_name = "adamw"

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        *common: Any,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay, *common, **options)
        if weight_decay is None:
            raise ValueError(
                f"{self.name}: Argument `weight_decay` must be a float. Received: weight_decay={weight_decay}"
            )
