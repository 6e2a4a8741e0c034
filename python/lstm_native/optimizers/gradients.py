"""What happens to gradients before an optimizer's rule sees them: accumulation and clipping. Floor 4."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lstm_native import _core
from lstm_native.variable import Variable


def accumulate(gradients: list[_core.Tensor], accumulators: Sequence[Variable], steps: int | None) -> None:
    """Adds `gradients` to their `accumulators`.

    Args:
        gradients: Of one step; with `steps` the means of all that was accumulated take their places.
        accumulators: Sums since the last mean, in the order of the gradients; zero again after a mean.
        steps: Number of steps that a mean is taken over; None where it is not time for it.
    """
    means = _core.accumulate_(accumulators, gradients, steps or 0)
    if steps is not None:
        gradients[:] = means


def clip_values(gradients: Sequence[_core.Tensor], limit: float) -> None:
    """Brings every element, in place, between `-limit` and `limit`."""
    for gradient in gradients:
        _core.clip_(gradient, -limit, limit)


def clip_norms(gradients: Sequence[_core.Tensor], limit: float) -> None:
    """Shrinks every gradient, in place, whose norm is above `limit`."""
    for gradient, squared_norm in zip(gradients, _core.squared_norms(gradients), strict=True):
        _shrink([gradient], squared_norm, limit)


def clip_global_norm(gradients: Sequence[_core.Tensor], limit: float) -> None:
    """Shrinks all gradients, in place, where the norm of all together is above `limit`."""
    total = math.fsum(_core.squared_norms(gradients))
    # As in Keras a norm that is not finite makes every gradient NaN, rather than zero.
    _shrink(gradients, total if math.isfinite(total) else math.nan, limit)


def _shrink(gradients: Sequence[_core.Tensor], squared_norm: float, limit: float) -> None:
    norm = math.sqrt(squared_norm)
    if norm <= limit:
        return
    for gradient in gradients:
        _core.scale_(gradient, limit / norm)
