"""Constructors refuse what they cannot use: one clear exception that names class, argument and value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lstm_native
from lstm_native import activations, callbacks, initializers, losses, metrics, optimizers, utils
from lstm_native.layers import LSTM, Activation, Dense, Dropout, Embedding, Input, Masking
from lstm_native.models import Sequential


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LSTM(0), "LSTM: units is 0, expected a positive integer"),
        (lambda: LSTM(2.5), "LSTM: units is 2.5"),
        (lambda: LSTM(True), "LSTM: units is True"),
        (lambda: Dense(-1), "Dense: units is -1"),
        (lambda: Embedding(0, 3), "Embedding: input_dim is 0"),
        (lambda: Embedding(3, 0), "Embedding: output_dim is 0"),
        (lambda: Embedding(2**31, 1), "Embedding: input_dim is 2147483648"),
        (lambda: Dropout(1.5), "Dropout: .* between 0 and 1. Received: rate=1.5"),
        (lambda: Dropout(0.5, noise_shape=(-1,)), "Dropout: .*noise_shape=\\(-1,\\)"),
        (lambda: Dropout("x"), "Dropout: .* between 0 and 1. Received: rate='x'"),
        (lambda: Dropout(None), "Dropout: .*rate=None"),
        (lambda: Masking("a"), "Masking: mask_value is 'a', expected a number"),
        (lambda: Input((np.inf,)), "Input: shape is"),
        (lambda: Input((3,), batch_size=0), "Input: batch_size is 0, expected a positive integer"),
        (lambda: Input((3,), dtype="foo"), "Input: dtype is 'foo'"),
        (lambda: Input(), "Input: pass either shape or batch_shape"),
        (lambda: Input(batch_shape=()), r"Input: batch_shape is \(\), expected the size of the batch first"),
        (lambda: LSTM(3, batch_input_shape=3), "LSTM: batch_input_shape is 3, expected a tuple of sizes"),
        (lambda: LSTM(3, input_dim=2.5), r"LSTM: input_dim is \[None, 2.5\], expected sizes"),
        (lambda: LSTM(3, input_shape=(2, 2), batch_size=0), "LSTM: batch_size is 0, expected"),
        (lambda: Input(shape=(-3,)), "Input: shape is"),
        (lambda: LSTM(3, activation="tahn"), "unknown activation 'tahn': did you mean 'tanh'"),
        (lambda: Dense(3, "sigmoyd"), "did you mean 'sigmoid'"),
        (lambda: Activation("reluu"), "did you mean 'relu'"),
        (lambda: Dense(3, kernel_initializer="glorot"), "unknown initializer 'glorot'"),
        (lambda: LSTM(3, dtype="float16"), "LSTM: dtype is 'float16'"),
        (lambda: LSTM(3, trainable=1), "LSTM: trainable is 1"),
        (lambda: LSTM(3, use_cudnn=True), "LSTM: use_cudnn is True"),
        (
            lambda: Embedding(3, 2, weights=np.zeros((2, 2))),
            r"embeddings: value has shape \(2, 2\), expected \(3, 2\)",
        ),
    ],
)
def test_constructors_refuse_values(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: LSTM(3, retrun_sequences=True),
            "LSTM: unknown argument 'retrun_sequences': did you mean 'return_sequences'",
        ),
        (lambda: LSTM(3, batch_input_shap=(1, 2, 3)), "'batch_input_shap': did you mean 'batch_input_shape'"),
        (lambda: Dense(3, input_dim=2, input_length=4), "Dense: unknown argument 'input_length'"),
        (
            lambda: Dense(3, lora_rank=2),
            "Dense: argument lora_rank=2 is not supported",
        ),
        (lambda: activations.get(3), "activation is 3"),
        (lambda: Sequential([3]), "add got a int, expected a layer"),
        (lambda: Sequential(Dense(3)), "layers is a Dense, expected a list of layers"),
        (lambda: Sequential(5), "layers is a int, expected a list of layers"),
        (lambda: Dense(3).set_weights(None), "Dense .*set_weights got a NoneType, expected a list"),
        (
            lambda: Dense(1, kernel_initializer=lambda shape: np.full(shape, "a"), name="d")(np.ones((1, 1))),
            "Dense 'd': initial value of kernel has dtype <U1",
        ),
        (
            lambda: Embedding(1, 1, weights=np.array([["a"]]), name="e"),
            "e/embeddings: value has dtype <U1, expected numbers",
        ),
    ],
)
def test_constructors_refuse_arguments(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optimizers.Adam(beta_1="a"), "adam: beta_1 is 'a'"),
        (lambda: optimizers.Adam(epsilon="a"), "adam: epsilon is 'a'"),
        (lambda: optimizers.Adam(epsilon=-1), "adam: epsilon is -1"),
        (lambda: optimizers.Adam(clipnorm="a"), "adam: clipnorm is 'a'"),
        (lambda: optimizers.Adam(weight_decay=np.nan), "adam: weight_decay is nan"),
        (lambda: optimizers.SGD(momentum="a"), "SGD: .*momentum='a'"),
        (lambda: losses.BinaryCrossentropy(label_smoothing="a"), "label_smoothing is 'a', expected 0 to 1"),
        (lambda: losses.SparseCategoricalCrossentropy(ignore_class="a"), "ignore_class is 'a'"),
        (lambda: metrics.BinaryAccuracy(threshold="a"), "BinaryAccuracy: threshold is 'a'"),
        (lambda: initializers.Constant("a"), "Constant: value is 'a'"),
        (lambda: initializers.Identity("a"), "Identity: gain is 'a'"),
        (lambda: initializers.Orthogonal("a"), "Orthogonal: gain is 'a'"),
        (lambda: initializers.RandomNormal(stddev="a"), "RandomNormal: stddev is 'a'"),
        (lambda: initializers.RandomUniform("a"), "RandomUniform: minval is 'a'"),
        (lambda: initializers.VarianceScaling("a"), "VarianceScaling: .*scale='a'"),
        (lambda: initializers.Zeros()("ab"), "Zeros: shape is 'ab'"),
        (lambda: callbacks.EarlyStopping(None), "EarlyStopping: monitor is None"),
        (lambda: callbacks.EarlyStopping(min_delta="a"), "EarlyStopping: min_delta is 'a'"),
        (lambda: callbacks.EarlyStopping(patience="a"), "EarlyStopping: patience is 'a'"),
        (lambda: lstm_native.set_num_threads(2**40), "set_num_threads: n is"),
        (lambda: utils.pad_sequences([[1]], maxlen="a"), "pad_sequences: maxlen is 'a'"),
        (lambda: utils.pad_sequences([[1], ["a"]]), "pad_sequences: sequence 1 is no array of int32"),
        (lambda: utils.pad_sequences([[2**40]]), "pad_sequences: sequence 0 is no array of int32"),
        (lambda: utils.to_categorical([0, np.nan]), "to_categorical: x has values that are not finite"),
        (lambda: utils.to_categorical([0], "a"), "to_categorical: num_classes is 'a'"),
    ],
)
def test_numbers_must_be_numbers(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_labels_of_metrics_and_categories_must_be_numbers() -> None:
    with pytest.raises(TypeError, match="binary_accuracy: y_pred has dtype <U1, expected numbers"):
        metrics.BinaryAccuracy()([1, 0], ["a", "b"])
    with pytest.raises(TypeError, match="to_categorical: x has dtype <U1, expected numbers"):
        utils.to_categorical(["a"])


def test_weights_larger_than_memory() -> None:
    layer = Dense(2**44, name="d")
    with pytest.raises(MemoryError, match=r"Dense 'd': weight kernel of shape \(5, 17592186044416\) takes"):
        layer.build((None, 5))
    assert not layer.built
