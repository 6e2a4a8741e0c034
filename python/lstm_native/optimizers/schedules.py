"""Learning rates that change from step to step, under the Keras names. Floor 4."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lstm_native import serialization
from lstm_native.configurable import Configurable, short
from lstm_native.errors import check_number


class LearningRateSchedule(Configurable):
    """Base class: define `__call__(step)`, which gives the learning rate of that step.

    An object of it is what an optimizer takes as `learning_rate`. `step` counts batches from 0.
    """

    def __call__(self, step: Any) -> float:
        """The learning rate of `step`."""
        raise NotImplementedError(f"{type(self).__name__} does not define __call__(step)")


class _Decay(LearningRateSchedule):
    """What falls by `decay_rate` in `decay_steps` steps."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str | None = None,
    ) -> None:
        self.initial_learning_rate = _number(self, "initial_learning_rate", initial_learning_rate)
        self.decay_steps = _positive(self, "decay_steps", decay_steps)
        self.decay_rate = _not_negative(self, "decay_rate", decay_rate)
        self.staircase = bool(staircase)
        self.name = type(self).__name__ if name is None else name

    def _periods(self, step: Any) -> float:
        """How many times `decay_steps` steps have passed; a whole number in a staircase."""
        periods = float(step) / self.decay_steps
        return math.floor(periods) if self.staircase else periods


class ExponentialDecay(_Decay):
    """`initial_learning_rate * decay_rate ** (step / decay_steps)`.

    Args:
        initial_learning_rate: Learning rate of step 0.
        decay_steps: Steps in which it falls by `decay_rate`; positive.
        decay_rate: Factor.
        staircase: Falls at once after every `decay_steps` steps (default False).
        name: Default "ExponentialDecay".
    """

    def __call__(self, step: Any) -> float:
        """The learning rate of `step`."""
        return self.initial_learning_rate * math.pow(self.decay_rate, self._periods(step))


class InverseTimeDecay(_Decay):
    """`initial_learning_rate / (1 + decay_rate * step / decay_steps)`.

    Args:
        initial_learning_rate: Learning rate of step 0.
        decay_steps: Steps that one `decay_rate` belongs to; positive.
        decay_rate: What is added to the divisor.
        staircase: Falls at once after every `decay_steps` steps (default False).
        name: Default "InverseTimeDecay".
    """

    def __call__(self, step: Any) -> float:
        """The learning rate of `step`."""
        return self.initial_learning_rate / (1 + self.decay_rate * self._periods(step))


class PiecewiseConstantDecay(LearningRateSchedule):
    """One number up to and with each boundary, another one after it.

    Args:
        boundaries: Steps, rising.
        values: Learning rates, one more than boundaries.
        name: Default "PiecewiseConstant".

    Raises:
        ValueError: Not one value more than boundaries.
    """

    def __init__(
        self, boundaries: Sequence[float], values: Sequence[float], name: str = "PiecewiseConstant"
    ) -> None:
        if len(values) != len(boundaries) + 1:
            raise ValueError(
                f"PiecewiseConstantDecay: {len(boundaries)} boundaries and {len(values)} values, "
                "expected one value more than boundaries"
            )
        self.boundaries = [_number(self, "boundaries", b) for b in boundaries]
        self.values = [_number(self, "values", v) for v in values]
        self.name = name

    def __call__(self, step: Any) -> float:
        """The learning rate of `step`."""
        return self.values[sum(float(step) > boundary for boundary in self.boundaries)]


class PolynomialDecay(LearningRateSchedule):
    """From one learning rate to another, as a power of what is left of the steps.

    `(initial_learning_rate - end_learning_rate) * (1 - step / decay_steps) ** power + end_learning_rate`

    Args:
        initial_learning_rate: Learning rate of step 0.
        decay_steps: Steps until the end; positive.
        end_learning_rate: Learning rate from there on (default 0.0001).
        power: 1.0, the default, is a straight line.
        cycle: Goes on behind the end, with the next multiple of `decay_steps` as end (default False).
        name: Default "PolynomialDecay".
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        self.initial_learning_rate = _number(self, "initial_learning_rate", initial_learning_rate)
        self.decay_steps = _positive(self, "decay_steps", decay_steps)
        self.end_learning_rate = _number(self, "end_learning_rate", end_learning_rate)
        self.power = _not_negative(self, "power", power)
        self.cycle = bool(cycle)
        self.name = name

    def __call__(self, step: Any) -> float:
        """The learning rate of `step`."""
        end: float = self.decay_steps
        if self.cycle:
            end *= max(math.ceil(float(step) / end), 1)  # step 0 too has an end
        left = 1 - min(float(step), end) / end
        above = (self.initial_learning_rate - self.end_learning_rate) * math.pow(left, self.power)
        return above + self.end_learning_rate


class CosineDecay(LearningRateSchedule):
    """Half a cosine wave from the learning rate down to `alpha` times it, after a straight warm-up if wanted.

    Args:
        initial_learning_rate: Learning rate of step 0.
        decay_steps: Steps of the wave; positive.
        alpha: Share of the learning rate that is left at the end (default 0.0).
        name: Default "CosineDecay".
        warmup_target: Learning rate that `warmup_steps` steps rise to, and the wave begins at; None, the
            default, begins with the wave.
        warmup_steps: Steps of the warm-up (default 0).
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: float = 0,
    ) -> None:
        self.initial_learning_rate = _number(self, "initial_learning_rate", initial_learning_rate)
        self.decay_steps = _positive(self, "decay_steps", decay_steps)
        self.alpha = _number(self, "alpha", alpha)
        self.name = name
        self.warmup_target = None if warmup_target is None else _number(self, "warmup_target", warmup_target)
        self.warmup_steps = _number(self, "warmup_steps", warmup_steps)

    def __call__(self, step: Any) -> float:
        """The learning rate of `step`."""
        position, top = float(step), self.initial_learning_rate
        if self.warmup_target is not None:
            if position < self.warmup_steps:
                return top + (self.warmup_target - top) * position / self.warmup_steps
            position, top = position - self.warmup_steps, self.warmup_target
        return top * _cosine(min(position, self.decay_steps) / self.decay_steps, 1.0, self.alpha)


class CosineDecayRestarts(LearningRateSchedule):
    """Half cosine waves one after the other (Loshchilov and Hutter, 2016).

    Args:
        initial_learning_rate: Learning rate of step 0.
        first_decay_steps: Steps of the first wave; positive.
        t_mul: Each wave is so many times as long as the one before; at least 1 (default 2.0).
        m_mul: Each wave begins at so many times what the one before began at (default 1.0).
        alpha: Share of the learning rate that is left at the end of a wave (default 0.0).
        name: Default "SGDRDecay".
    """

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: float,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ) -> None:
        self.initial_learning_rate = _number(self, "initial_learning_rate", initial_learning_rate)
        self.first_decay_steps = _positive(self, "first_decay_steps", first_decay_steps)
        self.t_mul = check_number(
            type(self).__name__, "t_mul", t_mul, "a number of at least 1", lambda t: t >= 1
        )
        self.m_mul = _number(self, "m_mul", m_mul)
        self.alpha = _number(self, "alpha", alpha)
        self.name = name

    def __call__(self, step: Any) -> float:
        """The learning rate of `step`."""
        length = self.first_decay_steps
        if self.t_mul == 1.0:
            wave, rest = divmod(float(step), length)
        else:
            # Few turns, for lengths grow; the logarithm of a formula would miss restarts by its rounding.
            wave, rest = 0.0, float(step)
            while rest >= length:
                rest -= length
                length *= self.t_mul
                wave += 1
        return self.initial_learning_rate * _cosine(rest / length, math.pow(self.m_mul, wave), self.alpha)


def _cosine(fraction: float, height: float, floor: float) -> float:
    return (1 - floor) * height * 0.5 * (1 + math.cos(math.pi * fraction)) + floor


def _number(owner: LearningRateSchedule, argument: str, value: Any) -> float:
    # The learning rate of an optimizer, too, is a number here.
    value = float(value) if hasattr(value, "numpy") else value
    return check_number(type(owner).__name__, argument, value, "a number")


def _positive(owner: LearningRateSchedule, argument: str, value: Any) -> float:
    return check_number(type(owner).__name__, argument, value, "a positive number", lambda v: v > 0)


def _not_negative(owner: LearningRateSchedule, argument: str, value: Any) -> float:
    expected = "a number that is not negative"
    return check_number(type(owner).__name__, argument, value, expected, lambda v: v >= 0)


def serialize(learning_rate_schedule: LearningRateSchedule) -> dict[str, Any]:
    """The configuration of a schedule, as `serialization.serialize` makes it."""
    config: dict[str, Any] = serialization.serialize(learning_rate_schedule)
    return config


def deserialize(
    config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None
) -> LearningRateSchedule:
    """The schedule of a configuration.

    Args:
        config: what `serialize` gave.
        custom_objects: classes of the caller by name.

    Raises:
        ValueError: Unknown name, or something that is no schedule.
    """
    schedule = serialization.deserialize(config, custom_objects)
    if not isinstance(schedule, LearningRateSchedule):
        raise ValueError(f"learning rate schedule: configuration {short(config)} is that of something else")
    return schedule
