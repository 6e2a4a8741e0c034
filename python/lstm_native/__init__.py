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
    from lstm_native import backend, convert, datasets, ops, preprocessing

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
    "backend",
    "callbacks",
    "constraints",
    "convert",
    "cuda",
    "datasets",
    "get_num_threads",
    "initializers",
    "layers",
    "load_model",
    "losses",
    "metrics",
    "models",
    "ops",
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
    # `from lstm_native import ...` would ask this function again.
    if name == "backend":
        import lstm_native.backend as backend_module

        return backend_module
    if name == "convert":
        import lstm_native.convert as convert_module

        return convert_module
    if name == "datasets":
        import lstm_native.datasets as datasets_module

        return datasets_module
    if name == "keras":
        # `import lstm_native as tf` serves programs that write tf.keras everywhere.
        import lstm_native as package

        return package
    if name == "ops":
        import lstm_native.ops as ops_module

        return ops_module
    if name == "preprocessing":
        import lstm_native.preprocessing as preprocessing_module

        return preprocessing_module
    raise AttributeError(f"module 'lstm_native' has no attribute {name!r}")
