"""Writes the files beside it: models of Keras as tf2onnx exports them. `python make_keras.py FOLDER`.

It takes keras with TensorFlow, and tf2onnx; the files are those of keras 3.15.1, TensorFlow 2.21.0 and
tf2onnx 1.17.0.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
import tf2onnx
from keras import layers

MODELS: dict[str, list[Any]] = {
    "texts": [
        layers.Input((None,), dtype="int32"),
        layers.Embedding(11, 4),
        layers.LSTM(5),
        layers.Dense(1, activation="sigmoid"),
    ],
    "stack": [
        layers.Input((None, 4)),
        layers.LSTM(5, return_sequences=True),
        layers.LSTM(3),
        layers.Dense(2, activation="softmax"),
    ],
    "both": [
        layers.Input((None, 4)),
        layers.Bidirectional(layers.LSTM(5, return_sequences=True)),
        layers.Bidirectional(layers.LSTM(3)),
        layers.Dense(3, activation="relu"),
    ],
    "backwards": [
        layers.Input((None, 4)),
        layers.LSTM(5, return_sequences=True, go_backwards=True),
        layers.Dense(3, activation="tanh"),
        layers.GlobalAveragePooling1D(),
    ],
}


def residual() -> Any:
    """An LSTM layer with a way past it, and a gate."""
    inputs = x = layers.Input((None, 4))
    y = layers.LSTM(4, return_sequences=True)(x)
    x = layers.add([x, y])
    gate = layers.Dense(4, activation="sigmoid")(y)
    mixed = layers.average([layers.multiply([gate, x]), layers.subtract([x, y])])
    return keras.Model(inputs, layers.Dense(2)(layers.LSTM(3)(mixed)))


def two() -> Any:
    """Text and features."""
    words, features = layers.Input((None,), dtype="int32"), layers.Input((3,))
    joined = [layers.LSTM(4)(layers.Embedding(11, 4)(words)), layers.Dense(5, activation="relu")(features)]
    return keras.Model([words, features], layers.Dense(1, activation="sigmoid")(layers.concatenate(joined)))


def attention() -> Any:
    """Attention over an encoder."""
    steps, targets = layers.Input((None, 4)), layers.Input((None, 2))
    encoded, h, c = layers.LSTM(3, return_sequences=True, return_state=True)(steps)
    decoded = layers.LSTM(3, return_sequences=True)(targets, initial_state=[h, c])
    weights = layers.Softmax()(layers.dot([decoded, encoded], axes=2))
    context = layers.dot([weights, encoded], axes=[2, 1])
    return keras.Model([steps, targets], layers.Dense(2)(layers.concatenate([context, decoded])))


BRANCHING = (residual, two, attention)


def main(folder: Path) -> None:
    models = {name: keras.Sequential(parts) for name, parts in MODELS.items()}
    models |= {make.__name__: make() for make in BRANCHING}
    for name, model in models.items():
        signature = [tf.TensorSpec(x.shape, x.dtype, f"x{i}") for i, x in enumerate(model.inputs)]
        function = tf.function(
            lambda *x, model=model: model(x if len(x) > 1 else x[0]), input_signature=signature
        )
        path = str(folder / f"keras_{name}.onnx")
        tf2onnx.convert.from_function(function, input_signature=signature, opset=15, output_path=path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
