"""Makes models.zip: files of real Keras 3 and 2 (tf_keras), and in expected.npz inputs and their outputs.

`python make_models.py` with keras==3.15.1, tf_keras==2.21.0, tensorflow-cpu==2.21.0, h5py.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import h5py
import keras
import numpy as np
import tf_keras

RANDOM = np.random.default_rng(5)
EXPECTED: dict[str, Any] = {}
LABELS = np.array([[0.0], [1.0], [1.0], [0.0]])


def ids(*shape: int) -> Any:
    """Numbers of words, with padding at the end of rows."""
    found = RANDOM.integers(1, 9, shape)
    found[1:, -2:] = 0
    return found.astype(np.int32)


def numbers(*shape: int) -> Any:
    return RANDOM.normal(size=shape).astype(np.float32)


def shaken(model: Any) -> Any:
    """`model` with all weights away from zero and one, where errors would hide."""
    for weight in model.trainable_weights:
        weight.assign(RANDOM.normal(size=weight.shape, scale=0.5))
    return model


def keep(name: str, model: Any, inputs: list[Any]) -> None:
    """Notes what the model gives."""
    outputs = model.predict(inputs[0] if len(inputs) == 1 else inputs, verbose=0)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    EXPECTED.update({f"{name}/in{i}": x for i, x in enumerate(inputs)})
    EXPECTED.update({f"{name}/out{i}": y for i, y in enumerate(outputs)})


# --- models, of both versions -----------------------------------------------------------------------


def sequential(k: Any, gate: str) -> Any:
    L = k.layers
    return k.Sequential(
        [
            L.Input((None,)),
            L.Embedding(9, 3, mask_zero=True),
            L.Bidirectional(L.LSTM(2, return_sequences=True, dropout=0.1, recurrent_activation=gate)),
            L.SpatialDropout1D(0.2),
            L.GRU(3, return_sequences=True, recurrent_activation=gate, reset_after=False),
            L.GRU(2, return_sequences=True, go_backwards=True),
            L.TimeDistributed(L.Dense(2, activation="relu")),
            L.Dropout(0.1),
            L.LSTM(2, kernel_regularizer="l2", unit_forget_bias=False),
            L.Dense(1, activation="sigmoid"),
        ]
    )


def cells(k: Any) -> Any:
    L = k.layers
    return k.Sequential(
        [
            L.Input((5, 3)),
            L.Masking(0.5),
            L.RNN([L.LSTMCell(2), L.GRUCell(3), L.SimpleRNNCell(2)], return_sequences=True),
            L.Bidirectional(L.GRU(2, return_sequences=True), merge_mode="sum"),
            L.LayerNormalization(),
            L.SimpleRNN(3, return_sequences=True, activation="softsign"),
            L.GlobalMaxPooling1D(),
            L.RepeatVector(2),
            L.Flatten(),
            L.Dense(4),
            L.Activation("softmax"),
        ]
    )


def functional(k: Any) -> Any:
    """An encoder and a decoder with attention, a model inside, a layer that is used twice, two outputs."""
    L = k.layers
    words, steps = L.Input((None,), name="words"), L.Input((4, 2), name="steps")
    encoded, h, c = L.LSTM(3, return_sequences=True, return_state=True, name="encoder")(
        L.Embedding(9, 3, name="table")(words)
    )
    decoded = L.LSTM(3, return_sequences=True, name="decoder")(steps, initial_state=[h, c])
    inner_in = L.Input((4, 3), name="inner_in")
    inner = k.Model(
        inner_in,
        L.Dense(3, name="inner_dense")(L.GRU(2, return_sequences=True, name="inner_gru")(inner_in)),
        name="inner",
    )
    row = k.Sequential([L.Input((4, 3)), L.Dense(3, name="row_dense")], name="row")
    shared = L.Dense(3, activation="tanh", name="shared")
    attended = L.Attention(name="attention")([shared(row(inner(row(inner(decoded))))), shared(encoded)])
    last = L.LSTM(2, name="last")(attended)
    return k.Model(
        [words, steps], [L.Dense(1, name="first")(last), L.Dense(2, name="second")(attended)], name="whole"
    )


def train(k: Any, model: Any, inputs: Any, labels: Any) -> None:
    model.compile(k.optimizers.Adam(0.01), "binary_crossentropy", metrics=["accuracy"])
    model.fit(inputs, labels, epochs=2, verbose=0)


# --- CuDNN layers, which only old Keras on a GPU could run ---------------------------------------------


def cudnn(folder: Path) -> None:
    """A file as Keras 2.2 wrote it, and what tf_keras makes of its weights in plain layers."""
    L = tf_keras.layers
    weights = [numbers(3, 8), numbers(2, 8), numbers(16), numbers(2, 9), numbers(3, 9), numbers(18)]

    def layer(class_name: str, **config: Any) -> dict[str, Any]:
        common = {
            "trainable": True,
            "return_sequences": True,
            "return_state": False,
            "go_backwards": False,
            "stateful": False,
            "kernel_regularizer": None,
            "activity_regularizer": None,
        }
        return {"class_name": class_name, "config": {**common, **config}}

    config = {
        "class_name": "Sequential",
        "config": {
            "name": "sequential_1",
            "layers": [
                layer(
                    "CuDNNLSTM",
                    name="cu_dnnlstm_1",
                    units=2,
                    batch_input_shape=[None, None, 3],
                    dtype="float32",
                    unit_forget_bias=True,
                ),
                layer("CuDNNGRU", name="cu_dnngru_1", units=3),
            ],
        },
    }
    path = folder / "keras2_cudnn.h5"
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = b"2.2.4"
        file.attrs["backend"] = b"tensorflow"
        file.attrs["model_config"] = json.dumps(config).encode()
        group = file.create_group("model_weights")
        group.attrs["keras_version"] = b"2.2.4"
        group.attrs["backend"] = b"tensorflow"
        group.attrs["layer_names"] = np.array([b"cu_dnnlstm_1", b"cu_dnngru_1"])
        for name, values in (("cu_dnnlstm_1", weights[:3]), ("cu_dnngru_1", weights[3:])):
            of_layer = group.create_group(name)
            names = [f"{name}/{part}:0".encode() for part in ("kernel", "recurrent_kernel", "bias")]
            of_layer.attrs["weight_names"] = np.array(names)
            for key, value in zip(names, values, strict=True):
                of_layer[key.decode()] = value
    model = tf_keras.Sequential(
        [
            L.LSTM(2, return_sequences=True, input_shape=(None, 3)),
            L.GRU(3, return_sequences=True, reset_after=True),
        ]
    )
    model.load_weights(path)
    keep("keras2_cudnn", model, [numbers(3, 5, 3)])


def main(folder: Path) -> None:
    words = ids(4, 6)
    makers: list[tuple[str, Callable[[Any], Any], list[Any]]] = [
        ("cells", cells, [numbers(3, 5, 3)]),
        ("functional", functional, [ids(3, 5), numbers(3, 4, 2)]),
    ]
    for k, version in ((keras, "keras3"), (tf_keras, "keras2")):
        name = f"{version}_sequential"
        model = shaken(sequential(k, "hard_sigmoid"))
        train(k, model, words, LABELS)
        for suffix in (".keras", ".h5"):
            model.save(folder / f"{name}{suffix}")
        model.save_weights(folder / f"{name}.weights.h5")
        keep(name, model, [words])
        L = k.layers
        model = shaken(k.Sequential([L.Input((None,)), L.Embedding(9, 3), L.LSTM(3), L.Dense(1, "sigmoid")]))
        train(k, model, words, LABELS)
        for suffix in (".keras", ".h5"):
            model.save(folder / f"{version}_trained{suffix}")
        model.fit(words, LABELS, verbose=0, shuffle=False)  # from the state that was saved
        keep(f"{version}_trained", model, [words])
        for what, maker, inputs in makers:
            model = shaken(maker(k))
            for suffix in (".keras", ".h5"):
                model.save(folder / f"{version}_{what}{suffix}")
            keep(f"{version}_{what}", model, inputs)
    tf_keras.models.load_model(folder / "keras2_sequential.h5").save_weights(
        folder / "keras2_sequential_old.h5"
    )
    cudnn(folder)
    np.savez(folder / "expected.npz", **EXPECTED)


def zipped(folder: Path, name: str) -> None:
    """Puts the files of `folder` into an archive beside this script."""
    with zipfile.ZipFile(Path(__file__).parent / name, "w") as archive:
        for path in sorted(folder.iterdir()):
            info = zipfile.ZipInfo(path.name, (2026, 1, 1, 0, 0, 0))
            archive.writestr(info, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        main(Path(made))
        zipped(Path(made), "models.zip")
