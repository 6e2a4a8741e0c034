"""Models of other libraries, in and out. Extras are imported by the functions that need them."""

from __future__ import annotations

from lstm_native.convert.conversion import Conversion
from lstm_native.convert.keras_source import from_keras
from lstm_native.convert.keras_target import to_keras
from lstm_native.convert.onnx_source import from_onnx
from lstm_native.convert.onnx_target import to_onnx
from lstm_native.convert.torch_source import from_torch
from lstm_native.convert.torch_target import to_torch

__all__ = ["Conversion", "from_keras", "from_onnx", "from_torch", "to_keras", "to_onnx", "to_torch"]
