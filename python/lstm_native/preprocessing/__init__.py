"""Preparing texts and series, under the names that programs for Keras 2 and tf.keras use. Floor 4."""

from __future__ import annotations

from lstm_native.preprocessing import sequence, text
from lstm_native.utils.timeseries import timeseries_dataset_from_array

__all__ = ["sequence", "text", "timeseries_dataset_from_array"]
