"""Models: Sequential, and functional ones from `Model(inputs, outputs)`."""

from __future__ import annotations

from lstm_native.models.base import Model
from lstm_native.models.cloning import clone_model, model_from_json
from lstm_native.models.functional import Functional
from lstm_native.models.sequential import Sequential
from lstm_native.saving import load_model, save_model

__all__ = [
    "Functional",
    "Model",
    "Sequential",
    "clone_model",
    "load_model",
    "model_from_json",
    "save_model",
]
