"""Keras on TensorFlow: graphs of `tf.function`, compiled by XLA and not."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from cases import EPSILON, GATES, LEARNING_RATE, VOCABULARY, Case

from peers.base import Peer, Timed

JIT = {"graph": False, "graph, XLA": True}
LAYERS = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "simple_rnn": keras.layers.SimpleRNN}


class Keras(Peer):
    packages = ("keras", "tensorflow", "tensorflow-cpu", "numpy")
    families = tuple(GATES)

    def __init__(self, threads: int) -> None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)

    def inference(self, case: Case) -> dict[str, Timed]:
        layer, x = _alone(case, return_sequences=True), tf.constant(case.data())

        def form(jit: bool) -> Timed:
            run = tf.function(lambda x: layer(x), jit_compile=jit)
            return Timed(lambda: run(x).numpy(), np.asarray)

        return {name: form(jit) for name, jit in JIT.items()}

    def streaming(self, case: Case) -> dict[str, Timed]:
        layer, x = _alone(case, return_state=True), case.data()
        states = 2 if case.family == "lstm" else 1

        def form(jit: bool) -> Timed:
            run = tf.function(lambda x, *state: layer(x, initial_state=list(state))[1:], jit_compile=jit)
            state = [tf.zeros((case.batch, case.units))] * states

            def call() -> Any:
                nonlocal state
                state = run(tf.constant(x), *state)
                return state[0].numpy()

            return Timed(call, np.array)

        return {name: form(jit) for name, jit in JIT.items()}

    def training(self, case: Case) -> dict[str, Timed]:
        def form(jit: bool) -> Timed:
            model, ids, labels = _classifier(case), case.data(), case.labels()
            model.compile(
                optimizer=SummingAdam(learning_rate=LEARNING_RATE, epsilon=EPSILON),
                loss="binary_crossentropy",
                jit_compile=jit,
            )

            def call() -> float:
                # The loss that is returned is a mean over calls until the next reset.
                model.reset_metrics()
                return float(model.train_on_batch(ids, labels))

            return Timed(call, np.asarray)

        return {name: form(jit) for name, jit in JIT.items()}

    def model(self, case: Case) -> dict[str, Timed]:
        model, ids = _classifier(case), tf.constant(case.data())

        def form(jit: bool) -> Timed:
            run = tf.function(lambda ids: model(ids, training=False), jit_compile=jit)
            return Timed(lambda: run(ids).numpy(), np.asarray)

        return {name: form(jit) for name, jit in JIT.items()}


class SummingAdam(keras.optimizers.Adam):
    """Sums the gradients of a token that occurs several times before it squares them.

    Keras squares each occurrence of its own, and so trains an embedding differently from everyone else.
    """

    def apply(self, grads: list[Any], trainable_variables: list[Any] | None = None) -> Any:
        return super().apply([tf.convert_to_tensor(gradient) for gradient in grads], trainable_variables)


def _alone(case: Case, **options: bool) -> Any:
    layer = LAYERS[case.family](case.units, **options)
    layer.build((case.batch, case.time, case.inputs))
    layer.set_weights(case.layer_weights()[0])
    return layer


def _classifier(case: Case) -> keras.Sequential:
    model = keras.Sequential([keras.layers.Embedding(VOCABULARY, case.inputs)])
    for number in range(case.layers):
        sequences = number + 1 < case.layers
        options = {"return_sequences": sequences, "recurrent_dropout": case.recurrent_dropout}
        model.add(LAYERS[case.family](case.units, **options))
    model.add(keras.layers.Dense(1, activation="sigmoid"))
    model.build((case.batch, case.time))
    recurrent = [weight for layer in case.layer_weights() for weight in layer]
    model.set_weights([case.table(), *recurrent, *case.dense_weights()])
    return model
