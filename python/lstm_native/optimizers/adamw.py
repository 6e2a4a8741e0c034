"""AdamW: Adam with weight decay, as Keras computes it. Floor 4."""

from __future__ import annotations

from lstm_native.optimizers.adam import Adam
from lstm_native.optimizers.base import LearningRate


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019); on by default.

    Args:
        learning_rate: Number, schedule or function (default 0.001).
        weight_decay: Before each step weights shrink by `weight_decay * learning_rate * weight`
            (default 0.004).
        beta_1, beta_2, epsilon, amsgrad: See `Adam` (default 0.9, 0.999, 1e-7, False).
        clipnorm, clipvalue, global_clipnorm: See `Optimizer` (default None).
        use_ema, ema_momentum, ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps: See
            `Optimizer` (default False, 0.99, None, None, None).
        name: Default "adamw".

    Raises:
        ValueError: A value outside its range.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = "adamw",
    ) -> None:
        if weight_decay is None:
            raise ValueError(
                f"{name}: Argument `weight_decay` must be a float. Received: weight_decay={weight_decay}"
            )
        super().__init__(
            learning_rate,
            beta_1,
            beta_2,
            epsilon,
            amsgrad,
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
