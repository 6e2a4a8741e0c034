"""LSTM networks with Keras names on a native core: NumPy arrays in, NumPy arrays out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lstm_native import (
    activations,
    callbacks,
    constraints,
    cuda,
    initializers,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    regularizers,
    saving,
    utils,
)
from lstm_native.config import get_num_threads, set_num_threads, show_config
from lstm_native.layers import (
    GRU,
    LSTM,
    Activation,
    Dense,
    Dropout,
    Embedding,
    Input,
    InputLayer,
    Layer,
    Masking,
)
from lstm_native.models import Model, Sequential, load_model
from lstm_native.optimizers import SGD, Adam, AdamW, RMSprop
from lstm_native.variable import Variable

if TYPE_CHECKING:
    from lstm_native import convert, preprocessing

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "SGD",
    "Activation",
    "Adam",
    "AdamW",
    "Dense",
    "Dropout",
    "Embedding",
    "Input",
    "InputLayer",
    "Layer",
    "Masking",
    "Model",
    "RMSprop",
    "Sequential",
    "Variable",
    "__version__",
    "activations",
    "callbacks",
    "constraints",
    "convert",
    "cuda",
    "get_num_threads",
    "initializers",
    "layers",
    "load_model",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "preprocessing",
    "regularizers",
    "saving",
    "set_num_threads",
    "show_config",
    "utils",
]


def __getattr__(name: str) -> Any:
    """What few programs need comes with its first use."""
    if name == "convert":
        import lstm_native.convert as module

        return module
    if name == "preprocessing":
        import lstm_native.preprocessing as preprocessing

        return preprocessing
    raise AttributeError(f"module 'lstm_native' has no attribute {name!r}")
