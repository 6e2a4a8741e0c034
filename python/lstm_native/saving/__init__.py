"""Saving: models and weights as safetensors files."""

from __future__ import annotations

from lstm_native.saving.models import Format, add_format, load_model, save_checkpoint, save_model
from lstm_native.saving.safetensors import SafetensorsFile, read_safetensors, write_safetensors
from lstm_native.saving.weights import check_weights

__all__ = [
    "Format",
    "SafetensorsFile",
    "add_format",
    "check_weights",
    "load_model",
    "read_safetensors",
    "save_checkpoint",
    "save_model",
    "write_safetensors",
]
