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


def main(folder: Path) -> None:
    for name, parts in MODELS.items():
        model = keras.Sequential(parts)
        signature = [tf.TensorSpec(x.shape, x.dtype) for x in model.inputs]
        function = tf.function(lambda x, model=model: model(x), input_signature=signature)
        path = str(folder / f"keras_{name}.onnx")
        tf2onnx.convert.from_function(function, input_signature=signature, opset=15, output_path=path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
