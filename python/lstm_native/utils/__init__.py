"""Small helpers around training: seeds, padding, one-hot labels, windows of time series."""

from __future__ import annotations

from lstm_native.utils.numerical import to_categorical
from lstm_native.utils.seeds import set_random_seed
from lstm_native.utils.sequences import pad_sequences
from lstm_native.utils.timeseries import timeseries_dataset_from_array

__all__ = ["pad_sequences", "set_random_seed", "timeseries_dataset_from_array", "to_categorical"]
