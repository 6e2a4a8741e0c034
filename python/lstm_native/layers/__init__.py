"""Layers under their Keras names."""

from __future__ import annotations

from lstm_native.layers.base import Layer
from lstm_native.layers.core import Activation, Dense, Embedding, Input, InputLayer, Masking
from lstm_native.layers.dropout import Dropout
from lstm_native.layers.recurrent import LSTM

__all__ = ["LSTM", "Activation", "Dense", "Dropout", "Embedding", "Input", "InputLayer", "Layer", "Masking"]
