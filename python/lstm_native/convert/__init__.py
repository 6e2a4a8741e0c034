"""Models of other libraries, in and out. Extras are imported by the functions that need them."""

from __future__ import annotations

from lstm_native.convert.conversion import Conversion
from lstm_native.convert.keras_source import from_keras
from lstm_native.convert.keras_target import to_keras
from lstm_native.convert.torch_source import from_torch
from lstm_native.convert.torch_target import to_torch

__all__ = ["Conversion", "from_keras", "from_torch", "to_keras", "to_torch"]
