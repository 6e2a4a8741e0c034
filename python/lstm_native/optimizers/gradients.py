"""What happens to gradients before an optimizer's rule sees them: accumulation and clipping. Floor 4."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lstm_native import _core
from lstm_native.variable import Variable


def accumulate(gradients: list[_core.Tensor], accumulators: Sequence[Variable], steps: int | None) -> None:
    """Adds `gradients` to their `accumulators`.

    Args:
        gradients: Of one step; with `steps` the means of all that was accumulated take their places.
        accumulators: Sums since the last mean, in the order of the gradients; zero again after a mean.
        steps: Number of steps that a mean is taken over; None where it is not time for it.
    """
    for i, accumulator in enumerate(accumulators):
        total = accumulator.numpy() + gradients[i].numpy()
        if steps is not None:
            gradients[i] = _core.as_tensor(total / np.float32(steps), "float32")
            total = np.zeros_like(total)
        accumulator.assign(total)


def clip_values(gradients: Sequence[_core.Tensor], limit: float) -> None:
    """Brings every element, in place, between `-limit` and `limit`."""
    for gradient in gradients:
        _core.clip_(gradient, -limit, limit)


def clip_norms(gradients: Sequence[_core.Tensor], limit: float) -> None:
    """Shrinks every gradient, in place, whose norm is above `limit`."""
    for gradient in gradients:
        _shrink([gradient], _core.squared_norm(gradient), limit)


def clip_global_norm(gradients: Sequence[_core.Tensor], limit: float) -> None:
    """Shrinks all gradients, in place, where the norm of all together is above `limit`."""
    total = math.fsum(_core.squared_norm(gradient) for gradient in gradients)
    # As in Keras a norm that is not finite makes every gradient NaN, rather than zero.
    _shrink(gradients, total if math.isfinite(total) else math.nan, limit)


def _shrink(gradients: Sequence[_core.Tensor], squared_norm: float, limit: float) -> None:
    norm = math.sqrt(squared_norm)
    if norm <= limit:
        return
    for gradient in gradients:
        _core.scale_(gradient, limit / norm)
