"""Makes branches.zip: functional models of real Keras 3 and 2 that branch, as files, with inputs and outputs.

`python make_branches.py` with what make_models.py needs.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from make_models import EXPECTED, ids, keep, numbers, shaken, zipped


def residual(k: Any) -> Any:
    """LSTM layers with ways past them, masks all the way."""
    L = k.layers
    words = L.Input((None,))
    x = L.Embedding(9, 3, mask_zero=True)(words)
    for merge in (L.Add(), L.Average()):
        x = L.LayerNormalization()(merge([x, L.LSTM(3, return_sequences=True)(x)]))
    return k.Model(words, L.Dense(2)(L.GRU(2)(L.concatenate([x, L.Dense(2)(x)]))))


def two(k: Any) -> Any:
    """Text and features, and the cosine of what becomes of them."""
    L = k.layers
    words, features = L.Input((None,)), L.Input((4,))
    read = L.LSTM(3)(L.Embedding(9, 3, mask_zero=True)(words))
    seen = L.Dense(3, activation="tanh")(features)
    ends = [L.Dense(1)(L.Concatenate()([read, seen])), L.Dot(axes=1, normalize=True)([read, seen])]
    return k.Model([words, features], ends)


def luong(k: Any) -> Any:
    """Attention over an encoder, written with Dot."""
    L = k.layers
    words, steps = L.Input((None,)), L.Input((None, 2))
    encoded, h, c = L.LSTM(3, return_sequences=True, return_state=True)(L.Embedding(9, 3)(words))
    decoded = L.LSTM(3, return_sequences=True)(steps, initial_state=[h, c])
    weights = L.Activation("softmax")(L.dot([decoded, encoded], axes=[2, 2]))
    context = L.Dot(axes=[2, 1])([weights, encoded])
    return k.Model([words, steps], L.Dense(2, activation="tanh")(L.concatenate([context, decoded])))


def kinds(k: Any) -> Any:
    """Every kind of layer, inputs of other shapes, and a model inside."""
    L = k.layers
    steps, features = L.Input((None, 3)), L.Input((3,))
    inside = L.Input((None, 3))
    inner = k.Model(inside, L.subtract([inside, L.Dense(3)(inside)]))
    x = L.add([steps, features, inner(steps)])
    y = L.multiply([x, L.Dense(1, activation="sigmoid")(x)])
    both = [L.maximum([x, y]), L.minimum([x, y]), L.average([x, y, steps])]
    return k.Model([steps, features], L.LSTM(2)(L.concatenate(both, axis=1)))


def operators(k: Any) -> Any:
    """`+` and the like in the place of layers."""
    L = k.layers
    steps = L.Input((None, 3))
    x = L.GRU(3, return_sequences=True)(steps)
    if k is keras:
        joined = k.ops.concatenate([k.ops.maximum(x, steps), k.ops.minimum(x, steps)], axis=-1)
    else:
        joined = tf.concat([tf.maximum(x, steps), tf.minimum(x, steps)], axis=-1)
    return k.Model(steps, L.Dense(2)(L.concatenate([joined, x + steps, x - steps, x * steps])))


def masks(k: Any) -> Any:
    """Masks that are joined, and go on into a recurrent layer, as Keras 3 alone has them."""
    L = k.layers
    words, steps = L.Input((None,)), L.Input((None, 3))
    read, shown = L.Embedding(9, 3, mask_zero=True)(words), L.Masking()(steps)
    kinds = (L.Add, L.Multiply, L.Maximum, L.Minimum, L.Concatenate)
    ends = [L.LSTM(2)(kind()([read, shown])) for kind in kinds]
    ends.append(L.LSTM(2)(L.Concatenate(axis=1)([read, steps, shown])))
    return k.Model([words, steps], L.concatenate(ends))


def main(folder: Path) -> None:
    steps = numbers(3, 5, 3)
    masked = steps.copy()
    masked[0, 3:] = masked[1, 1] = 0
    models = [
        (residual, [ids(3, 5)]),
        (two, [ids(3, 5), numbers(3, 4)]),
        (luong, [ids(3, 5), numbers(3, 4, 2)]),
        (kinds, [steps, numbers(3, 3)]),
        (operators, [steps]),
        (masks, [ids(3, 5), masked]),
    ]
    for k, version in ((keras, "keras3"), (tf_keras, "keras2")):
        for make, inputs in models:
            if make is masks and k is tf_keras:
                continue
            name = f"{version}_{make.__name__}"
            model = shaken(make(k))
            one = ".keras" if k is keras else ".h5"  # both forms where they differ in more than their frame
            for suffix in (".keras", ".h5") if make in (residual, operators, masks) else (one,):
                model.save(folder / f"{name}{suffix}")
            keep(name, model, inputs)
    np.savez(folder / "expected.npz", **EXPECTED)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        main(Path(made))
        zipped(Path(made), "branches.zip")
