"""Running values of a pass over data: the mean loss and the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native.metrics import Metric

Array = npt.NDArray[Any]


class RunningValues:
    """Loss and metrics since the last `reset`.

    The loss is the mean over the batches, weighted with their numbers of rows.

    Args:
        plain: metrics that sample weights do not touch.
        weighted: metrics that they weigh.
    """

    def __init__(self, plain: Sequence[Metric], weighted: Sequence[Metric]) -> None:
        self._plain = list(plain)
        self._weighted = list(weighted)
        self.metrics = [*self._plain, *self._weighted]
        self.names = _distinct([metric.name for metric in self.metrics])
        self.reset()

    def reset(self) -> None:
        """Forgets everything."""
        self._total = 0.0
        self._rows = 0
        for metric in self.metrics:
            metric.reset_state()

    def add_loss(self, value: float, rows: int) -> None:
        """Takes the loss of a batch of `rows` rows into account."""
        self._total += value * rows
        self._rows += rows

    def update(self, y: Array, outputs: Array, weight: Array | None, mask: Array | None) -> None:
        """Shows a batch to the metrics; masked time steps have weight zero."""
        valid = None if mask is None else mask.astype(np.float32)
        for metric in self._plain:
            metric.update_state(y, outputs, valid)
        if not self._weighted:
            return
        if valid is not None and weight is not None:
            # A weight of a whole sequence counts for each of its steps.
            weight = valid * weight.reshape(weight.shape + (1,) * (valid.ndim - weight.ndim))
        for metric in self._weighted:
            metric.update_state(y, outputs, valid if weight is None else weight)

    def logs(self) -> dict[str, float]:
        """The values by name."""
        logs = {"loss": self._total / self._rows if self._rows else 0.0}
        for name, metric in zip(self.names, self.metrics, strict=True):
            logs[name] = metric.result()
        return logs

    def result(self, as_dict: bool) -> Any:
        """The values as a dict, or as a list, or as the loss alone where there is nothing else."""
        logs = self.logs()
        if as_dict:
            return logs
        return list(logs.values()) if len(logs) > 1 else logs["loss"]


def _distinct(names: list[str]) -> list[str]:
    """`names` with "_1", "_2" ... after those that came before."""
    counts: dict[str, int] = {}
    distinct = []
    for name in names:
        count = counts.get(name, 0)
        counts[name] = count + 1
        distinct.append(f"{name}_{count}" if count else name)
    return distinct
