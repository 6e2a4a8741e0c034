"""lstm_native."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import EPSILON, LEARNING_RATE, VOCABULARY, Array, Case

import lstm_native
from lstm_native.layers import LSTM, Dense, Embedding
from lstm_native.models import Sequential
from lstm_native.optimizers import Adam
from peers.base import Peer, Timed


class LstmNative(Peer):
    packages = ("lstm-native", "numpy")

    def __init__(self, threads: int) -> None:
        lstm_native.set_num_threads(threads)

    def inference(self, case: Case) -> dict[str, Timed]:
        model, x = _layer(case, LSTM(case.units, return_sequences=True)), case.data()
        return {"model(x)": Timed(lambda: model(x), np.asarray)}

    def streaming(self, case: Case) -> dict[str, Timed]:
        x = case.data()
        if not hasattr(Sequential, "stream"):
            return {"initial_state": _passed_state(case, x)}
        stream = _layer(case, LSTM(case.units)).stream(case.batch)
        x_t, out = x[:, 0], np.empty((case.batch, case.units), np.float32)
        return {"stream.step": Timed(lambda: stream.step(x_t, out=out), lambda _: out.copy())}

    def training(self, case: Case) -> dict[str, Timed]:
        model, ids, labels = _classifier(case), case.data(), case.labels()
        return {"train_on_batch": Timed(lambda: model.train_on_batch(ids, labels), np.asarray)}

    def model(self, case: Case) -> dict[str, Timed]:
        model, ids = _classifier(case), case.data()
        return {"model(x)": Timed(lambda: model(ids), np.asarray)}


def _layer(case: Case, layer: LSTM) -> Sequential:
    model = Sequential([layer])
    model.build((None, None, case.inputs))
    model.set_weights(case.lstm_weights()[0])
    return model


def _passed_state(case: Case, x: Array) -> Timed:
    layer = LSTM(case.units, return_state=True)
    layer.build((None, None, case.inputs))
    layer.set_weights(case.lstm_weights()[0])
    state: list[Any] = [np.zeros((case.batch, case.units), np.float32)] * 2

    def call() -> Array:
        nonlocal state
        y, *state = layer(x, initial_state=state)
        return y

    return Timed(call, np.asarray)


def _classifier(case: Case) -> Sequential:
    model = Sequential([Embedding(input_dim=VOCABULARY, output_dim=case.inputs)])
    for number in range(case.layers):
        model.add(LSTM(case.units, return_sequences=number + 1 < case.layers))
    model.add(Dense(1, activation="sigmoid"))
    adam = Adam(learning_rate=LEARNING_RATE, epsilon=EPSILON)
    model.compile(optimizer=adam, loss="binary_crossentropy")
    model.build((None, case.time))
    lstms = [weight for layer in case.lstm_weights() for weight in layer]
    model.set_weights([case.table(), *lstms, *case.dense_weights()])
    return model
