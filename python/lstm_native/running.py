"""Running values of a pass over data: the mean loss and the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native.metrics import Metric

Array = npt.NDArray[Any]


class OutputMetrics:
    """The metrics of one output.

    Args:
        plain: metrics that sample weights do not touch.
        weighted: metrics that they weigh.
        name: name of the output, where there are several; it begins the names of its metrics.
    """

    def __init__(self, plain: Sequence[Metric], weighted: Sequence[Metric], name: str = "") -> None:
        self.plain = list(plain)
        self.weighted = list(weighted)
        self.prefix = f"{name}_" if name else ""

    def update(self, y: Array, outputs: Array, weight: Array | None, mask: Array | None) -> None:
        """Shows a batch to the metrics; masked time steps have weight zero."""
        valid = None if mask is None else mask.astype(np.float32)
        for metric in self.plain:
            metric.update_state(y, outputs, valid)
        if not self.weighted:
            return
        if valid is not None and weight is not None:
            # A weight of a whole sequence counts for each of its steps.
            weight = valid * weight.reshape(weight.shape + (1,) * (valid.ndim - weight.ndim))
        for metric in self.weighted:
            metric.update_state(y, outputs, valid if weight is None else weight)


class RunningValues:
    """Losses and metrics since the last `reset`.

    Losses are means over the batches, weighted with their numbers of rows.

    Args:
        outputs: the metrics of each output.
        losses: names of the losses of the outputs, where there are several.
    """

    def __init__(self, outputs: Sequence[OutputMetrics], losses: Sequence[str] = ()) -> None:
        self.outputs = list(outputs)
        self.metrics = [m for o in self.outputs for m in o.plain] + [
            m for o in self.outputs for m in o.weighted
        ]
        self.loss_names = list(losses)
        self.names = _distinct(self.outputs, ["loss", *losses])
        self._sorted = sorted(zip(self.names, self.metrics, strict=True), key=lambda pair: pair[0])
        self.reset()

    def reset(self) -> None:
        """Forgets everything."""
        self._total = 0.0
        self._rows = 0
        self._totals = np.zeros(len(self.loss_names))
        for metric in self.metrics:
            metric.reset_state()

    def add_loss(self, value: float, rows: int) -> None:
        """Takes the loss of a batch of `rows` rows into account."""
        self._total += value * rows
        self._rows += rows

    def add_losses(self, values: Sequence[float], rows: int) -> None:
        """Takes the losses of the outputs into account, before `add_loss` of their weighted sum."""
        if self.loss_names:
            self._totals += np.multiply(values, rows)

    def update(self, y: Array, outputs: Array, weight: Array | None, mask: Array | None) -> None:
        """Shows a batch to the metrics of the only output."""
        self.outputs[0].update(y, outputs, weight, mask)

    def logs(self) -> dict[str, float]:
        """The values by name, in the order of the alphabet as Keras has them."""
        loss = self._loss()
        if self.loss_names:
            values = {"loss": loss, **self._output_losses()}
            values |= {name: metric.result() for name, metric in self._sorted}
            return dict(sorted(values.items()))
        logs: dict[str, float] = {}
        for name, metric in self._sorted:
            if name > "loss" and "loss" not in logs:
                logs["loss"] = loss
            logs[name] = metric.result()
        logs.setdefault("loss", loss)
        return logs

    def _loss(self) -> float:
        return self._total / self._rows if self._rows else 0.0

    def _output_losses(self) -> dict[str, float]:
        means = self._totals / self._rows if self._rows else self._totals
        return dict(zip(self.loss_names, map(float, means), strict=True))

    def result(self, as_dict: bool) -> Any:
        """The values as a dict, or as a list, or as the loss alone where there is nothing else."""
        if as_dict:
            return self.logs()
        if len(self.outputs) > 1:  # as Keras: the losses, then the metrics in the order of the alphabet
            values = [self._loss(), *self._output_losses().values(), *(m.result() for _, m in self._sorted)]
            return values if len(values) > 1 else values[0]
        return [self._loss(), *(m.result() for m in self.metrics)] if self.metrics else self._loss()


def _distinct(outputs: Sequence[OutputMetrics], taken: Sequence[str]) -> list[str]:
    """Names with "weighted_" in front, and "_1", "_2" ... behind, where they came before."""
    counts = dict.fromkeys(taken, 1)
    distinct = []
    for attribute, mark in (("plain", ""), ("weighted", "weighted_")):
        for output in outputs:
            for metric in getattr(output, attribute):
                name = f"{output.prefix}{metric.name}"
                if name in counts and mark:
                    name = f"{output.prefix}{mark}{metric.name}"
                count = counts.get(name, 0)
                counts[name] = count + 1
                distinct.append(f"{name}_{count}" if count else name)
    return distinct
