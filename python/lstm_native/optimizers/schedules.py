"""Learning rates that change from step to step. Floor 4."""

from __future__ import annotations

from typing import Any


class LearningRateSchedule:
    """Base class: define `__call__(step)`, which gives the learning rate of that step.

    An object of it is what an optimizer takes as `learning_rate`. `step` counts batches from 0.
    """

    def __call__(self, step: int) -> float:
        """The learning rate of `step`."""
        raise NotImplementedError(f"{type(self).__name__} does not define __call__(step)")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        raise NotImplementedError(f"{type(self).__name__} does not define get_config()")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LearningRateSchedule:
        """A schedule from `get_config()`."""
        return cls(**config)
