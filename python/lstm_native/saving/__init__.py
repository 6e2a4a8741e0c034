"""Saving: models and weights as safetensors files."""

from __future__ import annotations

from lstm_native.registration import custom_object_scope, register_serializable
from lstm_native.saving.models import Format, add_format, load_model, save_checkpoint, save_model
from lstm_native.saving.safetensors import SafetensorsFile, read_safetensors, write_safetensors
from lstm_native.saving.weights import check_weights, load_weights, save_weights
from lstm_native.serialization import deserialize, serialize

# Keras' names of them.
register_keras_serializable = register_serializable
serialize_keras_object = serialize
deserialize_keras_object = deserialize

__all__ = [
    "Format",
    "SafetensorsFile",
    "add_format",
    "check_weights",
    "custom_object_scope",
    "deserialize",
    "deserialize_keras_object",
    "load_model",
    "load_weights",
    "read_safetensors",
    "register_keras_serializable",
    "register_serializable",
    "save_checkpoint",
    "save_model",
    "save_weights",
    "serialize",
    "serialize_keras_object",
    "write_safetensors",
]
