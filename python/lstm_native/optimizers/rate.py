"""The learning rate of an optimizer: a number, a schedule or a function. Floor 4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lstm_native.optimizers.scalar import Scalar
from lstm_native.optimizers.schedules import LearningRateSchedule

LearningRate = float | LearningRateSchedule | Callable[[], float]


class HasLearningRate:
    """The part of every optimizer that knows its learning rate.

    Attributes:
        name: Name of the optimizer.
    """

    name: str
    _iterations: Scalar
    _rate: Scalar | LearningRateSchedule | Callable[[], float]

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the next step; may be set between steps.

        Raises:
            TypeError: Set to a number on an optimizer that was made with a schedule.
        """
        rate = self._rate
        return rate if isinstance(rate, Scalar) else self._current_rate()

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if isinstance(value, Scalar):
            value = float(value)
        if not callable(value) and isinstance(self._rate, LearningRateSchedule):
            raise TypeError(
                f"{self.name}: learning_rate cannot be set. This optimizer was created with a "
                f"`LearningRateSchedule` ({type(self._rate).__name__}), make it with a number"
            )
        if not callable(value) and isinstance(self._rate, Scalar):
            self._rate.assign(self._check_rate(value))
        else:
            self._rate = self._rate_of(value)

    def given_rate(self) -> LearningRate:
        """The learning rate as the constructor takes it."""
        return float(self._rate) if isinstance(self._rate, Scalar) else self._rate

    def _rate_of(self, value: Any) -> Scalar | LearningRateSchedule | Callable[[], float]:
        if callable(value):
            return value  # type: ignore[no-any-return]
        return Scalar("learning_rate", "float32", self._check_rate(value))

    def _current_rate(self) -> float:
        rate = self._rate
        if isinstance(rate, Scalar):
            return rate._value
        if isinstance(rate, LearningRateSchedule):
            return float(rate(int(self._iterations)))
        return float(rate())

    def _check_rate(self, value: Any) -> float:
        if isinstance(value, (bool, str)) or np.ndim(value) or not hasattr(value, "__float__"):
            raise ValueError(
                f"{self.name}: learning_rate is {value!r}, expected a number, a LearningRateSchedule "
                "or a function"
            )
        return float(value)
