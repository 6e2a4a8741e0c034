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
        self.names = _distinct([m.name for m in self._plain], [m.name for m in self._weighted])
        self._sorted = sorted(zip(self.names, self.metrics, strict=True), key=lambda pair: pair[0])
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
        """The values by name, in the order of the alphabet as Keras has them."""
        logs: dict[str, float] = {}
        loss = self._loss()
        for name, metric in self._sorted:
            if name > "loss" and "loss" not in logs:
                logs["loss"] = loss
            logs[name] = metric.result()
        logs.setdefault("loss", loss)
        return logs

    def _loss(self) -> float:
        return self._total / self._rows if self._rows else 0.0

    def result(self, as_dict: bool) -> Any:
        """The values as a dict, or as a list, or as the loss alone where there is nothing else."""
        if as_dict:
            return self.logs()
        return [self._loss(), *(m.result() for m in self.metrics)] if self.metrics else self._loss()


def _distinct(plain: list[str], weighted: list[str]) -> list[str]:
    """Names with "weighted_" in front, and "_1", "_2" ... behind, where they came before."""
    counts: dict[str, int] = {"loss": 1}
    distinct = []
    for names, prefix in ((plain, ""), (weighted, "weighted_")):
        for given in names:
            name = prefix + given if given in counts else given
            count = counts.get(name, 0)
            counts[name] = count + 1
            distinct.append(f"{name}_{count}" if count else name)
    return distinct
