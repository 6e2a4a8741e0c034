"""Normalization: inputs with the mean and variance of the data. Floor 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native.arrays import Shape, to_numpy
from lstm_native.layers.base import Layer
from lstm_native.traced import value_of

Array = npt.NDArray[Any]
_SMALLEST = np.float32(1e-7)  # standard deviation


class Normalization(Layer):
    """`(x - mean) / sqrt(variance)`, of constants that are given or learned from data with `adapt`.

    Args:
        axis: axes whose elements have a mean each (default the last one); None for one mean of all.
        mean: the mean, a number or an array for the axes.
        variance: the variance; needed with `mean`.
        invert: the other way round: `x * sqrt(variance) + mean`.
    """

    supports_masking = True

    def __init__(
        self,
        axis: int | Sequence[int] | None = -1,
        mean: Any = None,
        variance: Any = None,
        invert: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (mean is None) != (variance is None):
            raise ValueError("Normalization: pass mean and variance, or none of them")
        self.axis = tuple(axis) if isinstance(axis, list | tuple) else axis
        self.input_mean = mean
        self.input_variance = variance
        self.invert = bool(invert)

    config_attributes = {"mean": "input_mean", "variance": "input_variance"}  # noqa: RUF012

    def _axes(self, rank: int) -> list[int]:
        axis = self.axis
        return [] if axis is None else sorted(n % rank for n in np.atleast_1d(axis))

    def create_weights(self, input_shape: Shape) -> None:
        sizes = [input_shape[n] for n in self._axes(len(input_shape))]
        if None in sizes:
            raise self.error(f"input has shape {input_shape}, expected known sizes of the axes {self.axis}")
        self._sizes: tuple[Any, ...] = tuple(sizes)
        if self.input_mean is not None:  # constants, which are no weights
            self.mean: Any
            self.variance: Any
            self.mean, self.variance = (
                np.broadcast_to(np.asarray(value, np.float32), self._sizes)
                for value in (self.input_mean, self.input_variance)
            )
            return
        self.mean, self.variance = (
            self.add_weight(sizes, start, trainable=False, name=name)
            for name, start in (("mean", "zeros"), ("variance", "ones"))
        )
        self.count = self.add_weight((), "zeros", dtype="int32", trainable=False, name="count")

    def adapt(self, data: Any, batch_size: int | None = None, steps: int | None = None) -> None:
        """Learns mean and variance; what was learned before is forgotten.

        Args:
            data: array, or batches of them (a data set; of pairs the first one counts).
            batch_size: accepted as Keras has it.
            steps: number of batches to take; None for all.
        """
        if self.input_mean is not None:
            raise self.error("adapt with a mean and variance that were given")
        if hasattr(data, "shape") or isinstance(data, list):
            batches: list[Array] = [to_numpy(data, self.label(), "data")]
        else:
            batches = [
                to_numpy(b[0] if isinstance(b, tuple) else b, self.label(), "data")
                for _, b in zip(range(steps) if steps else iter(int, 1), data, strict=False)
            ]
        if not batches or not sum(batch.size for batch in batches):
            raise self.error("adapt got no data")
        if not self.built:
            self.build((None, *batches[0].shape[1:]))
        over = tuple(n for n in range(batches[0].ndim) if n not in self._axes(batches[0].ndim))
        count = sum(int(np.prod([batch.shape[n] for n in over])) for batch in batches)
        mean = sum(batch.sum(axis=over, dtype=np.float64) for batch in batches) / count
        squares = sum(np.square(batch, dtype=np.float64).sum(axis=over) for batch in batches) / count
        self.mean.assign(np.asarray(mean))
        self.count.assign(np.asarray(count))
        self.variance.assign(np.asarray(np.maximum(squares - np.square(mean), 0)))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def call(self, x: Any) -> Any:
        """See the class."""
        axes = self._axes(x.ndim)
        spread = [x.shape[n] if n in axes else 1 for n in range(x.ndim)]
        mean, variance = (np.asarray(value_of(v)).reshape(spread) for v in (self.mean, self.variance))
        deviation = np.maximum(np.sqrt(variance), _SMALLEST)
        return x * deviation + mean if self.invert else (x - mean) / deviation
