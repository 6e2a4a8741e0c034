"""GaussianNoise and GaussianDropout: in training, normally distributed noise on the inputs. Floor 4."""

from __future__ import annotations

import math
from typing import Any

from lstm_native import _core
from lstm_native.layers.base import Tensor
from lstm_native.layers.dropout import Drawing, check_fraction


class GaussianNoise(Drawing):
    """In training, adds normally distributed noise with mean 0.

    Args:
        stddev: standard deviation of the noise, in [0, 1].
        seed: the noise is a function of the seed and of the number of calls; drawn at random by default.
    """

    def __init__(self, stddev: float, seed: int | None = None, **kwargs: Any) -> None:
        stddev = check_fraction("GaussianNoise", "stddev", stddev)
        super().__init__(seed, **kwargs)
        self.stddev = stddev

    @property
    def strength(self) -> float:
        return self.stddev

    def changed(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        outputs = _normal(self, inputs, 0.0, self.stddev)
        _core.add_(outputs, inputs)
        return outputs, None


class GaussianDropout(Drawing):
    """In training, multiplies by normally distributed noise with mean 1.

    Args:
        rate: the standard deviation of the noise is sqrt(rate / (1 - rate)), that of the masks of a `Dropout`
            with this rate; in [0, 1]. Training with a rate of 1 is an error.
        seed: the noise is a function of the seed and of the number of calls; drawn at random by default.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        rate = check_fraction("GaussianDropout", "rate", rate)
        super().__init__(seed, **kwargs)
        self.rate = rate

    @property
    def strength(self) -> float:
        return self.rate

    def check_can_train(self) -> None:
        super().check_can_train()
        if self.rate == 1.0:
            raise self.error("rate is 1, of which the noise has no finite deviation; training needs less")

    def changed(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        self.check_can_train()
        noise = _normal(self, inputs, 1.0, math.sqrt(self.rate / (1.0 - self.rate)))
        return _core.multiply(inputs, noise), noise


def _normal(layer: Drawing, like: Tensor, mean: float, deviation: float) -> Tensor:
    """The next random numbers of `layer`, in the shape of `like` and where that lies."""
    offset = layer.draw(like.size)
    return _core.random_normal(like.shape, mean, deviation, layer._stream, offset).to(like.device)
