"""Callbacks of fit, evaluate and predict, under the Keras names."""

from __future__ import annotations

from lstm_native.callbacks.backup import BackupAndRestore
from lstm_native.callbacks.base import Callback
from lstm_native.callbacks.checkpoint import ModelCheckpoint
from lstm_native.callbacks.functions import LambdaCallback, TerminateOnNaN
from lstm_native.callbacks.learning_rate import LearningRateScheduler, ReduceLROnPlateau
from lstm_native.callbacks.list import CallbackList
from lstm_native.callbacks.logs import CSVLogger, History
from lstm_native.callbacks.monitor import EarlyStopping, MonitorCallback
from lstm_native.callbacks.tensorboard import TensorBoard

__all__ = [
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "MonitorCallback",
    "ReduceLROnPlateau",
    "TensorBoard",
    "TerminateOnNaN",
]
