"""Saving: models and weights as safetensors files."""

from __future__ import annotations

from lstm_native.saving.safetensors import SafetensorsFile, read_safetensors, write_safetensors

__all__ = ["SafetensorsFile", "read_safetensors", "write_safetensors"]
