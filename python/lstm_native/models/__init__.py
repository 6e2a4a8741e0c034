"""Models: Sequential, and functional ones from `Model(inputs, outputs)`."""

from __future__ import annotations

from lstm_native.models.base import Model
from lstm_native.models.functional import Functional
from lstm_native.models.sequential import Sequential

__all__ = ["Functional", "Model", "Sequential"]
