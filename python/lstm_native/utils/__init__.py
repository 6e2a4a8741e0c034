"""Small helpers around training: seeds, padding, one-hot labels, windows of time series, data sets."""

from __future__ import annotations

from lstm_native.registration import custom_object_scope, register_serializable
from lstm_native.utils.datasets import PyDataset, Sequence
from lstm_native.utils.drawing import model_to_dot, plot_model
from lstm_native.utils.files import get_file
from lstm_native.utils.numerical import normalize, to_categorical
from lstm_native.utils.seeds import set_random_seed
from lstm_native.utils.sequences import pad_sequences
from lstm_native.utils.session import clear_session
from lstm_native.utils.timeseries import timeseries_dataset_from_array

# Keras' name of it.
register_keras_serializable = register_serializable

__all__ = [
    "PyDataset",
    "Sequence",
    "clear_session",
    "custom_object_scope",
    "get_file",
    "model_to_dot",
    "normalize",
    "pad_sequences",
    "plot_model",
    "register_keras_serializable",
    "register_serializable",
    "set_random_seed",
    "timeseries_dataset_from_array",
    "to_categorical",
]
