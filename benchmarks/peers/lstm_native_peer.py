"""lstm_native."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import EPSILON, GATES, LEARNING_RATE, VOCABULARY, Array, Case

import lstm_native
from lstm_native import layers
from lstm_native.layers import LSTM, Dense, Embedding
from lstm_native.models import Sequential
from lstm_native.optimizers import Adam
from peers.base import Peer, Timed

LAYERS = {"lstm": "LSTM", "gru": "GRU", "simple_rnn": "SimpleRNN"}  # names: old commits lack some


class LstmNative(Peer):
    packages = ("lstm-native", "numpy")
    families = tuple(GATES)

    def __init__(self, threads: int) -> None:
        lstm_native.set_num_threads(threads)

    def inference(self, case: Case) -> dict[str, Timed]:
        model, x = _alone(case, return_sequences=True), case.data()
        return {"model(x)": Timed(lambda: model(x), np.asarray)}

    def streaming(self, case: Case) -> dict[str, Timed]:
        x = case.data()
        if not hasattr(Sequential, "stream"):
            return {"initial_state": _passed_state(case, x)}
        stream = _alone(case).stream(case.batch)
        x_t, out = x[:, 0], np.empty((case.batch, case.units), np.float32)
        return {"stream.step": Timed(lambda: stream.step(x_t, out=out), lambda _: out.copy())}

    def training(self, case: Case) -> dict[str, Timed]:
        model, ids, labels = _classifier(case), case.data(), case.labels()
        return {"train_on_batch": Timed(lambda: model.train_on_batch(ids, labels), np.asarray)}

    def model(self, case: Case) -> dict[str, Timed]:
        model, ids = _classifier(case), case.data()
        return {"model(x)": Timed(lambda: model(ids), np.asarray)}

    def predict(self, case: Case) -> dict[str, Timed]:
        def form(model: Sequential, x: Any) -> Timed:
            return Timed(lambda: model.predict(x, batch_size=case.batch, verbose=0), np.asarray)

        if case.shortest == case.time:
            return {"array": form(_over_sequences(case), case.padded_data())}
        return {
            "list": form(_over_sequences(case), case.ragged_data()),
            "padded": form(_over_sequences(case, masking=True), case.padded_data()),
        }

    def fit(self, case: Case) -> dict[str, Timed]:
        # The order that batches of lists have, so that arrays make the same batches.
        order = np.concatenate(case.rows_of_batches())
        y = case.labels()[order]

        def form(model: Sequential, x: Any) -> Timed:
            def call() -> float:
                history = model.fit(x, y, batch_size=case.batch, epochs=1, shuffle=False, verbose=0)
                loss: float = history.history["loss"][0]
                return loss

            return Timed(call, np.asarray)

        padded = case.padded_data()[order]
        if case.shortest == case.time:
            return {"array": form(_over_sequences(case), padded)}
        sequences = case.ragged_data()
        return {
            "list": form(_over_sequences(case), [sequences[row] for row in order]),
            "padded": form(_over_sequences(case, masking=True), padded),
        }


def _recurrent(case: Case, **options: Any) -> Any:
    return getattr(layers, LAYERS[case.family])(case.units, **options)


def _alone(case: Case, **options: Any) -> Sequential:
    model = Sequential([_recurrent(case, **options)])
    model.build((None, None, case.inputs))
    model.set_weights(case.layer_weights()[0])
    if case.quantized:
        model.quantize(case.quantized)
    return model


def _passed_state(case: Case, x: Array) -> Timed:
    layer = LSTM(case.units, return_state=True)
    layer.build((None, None, case.inputs))
    layer.set_weights(case.layer_weights()[0])
    state: list[Any] = [np.zeros((case.batch, case.units), np.float32)] * 2

    def call() -> Array:
        nonlocal state
        y, *state = layer(x, initial_state=state)
        return y

    return Timed(call, np.asarray)


def _classifier(case: Case) -> Sequential:
    model = Sequential([Embedding(input_dim=VOCABULARY, output_dim=case.inputs)])
    dropout = {"recurrent_dropout": case.recurrent_dropout} if case.recurrent_dropout else {}
    for number in range(case.layers):
        model.add(_recurrent(case, return_sequences=number + 1 < case.layers, **dropout))
    model.add(Dense(1, activation="sigmoid"))
    _compile(model)
    model.build((None, case.time))
    recurrent = [weight for layer in case.layer_weights() for weight in layer]
    model.set_weights([case.table(), *recurrent, *case.dense_weights()])
    return model


def _over_sequences(case: Case, masking: bool = False) -> Sequential:
    model = Sequential([layers.Masking()] if masking else [])
    model.add(_recurrent(case))
    model.add(Dense(1, activation="sigmoid"))
    _compile(model)
    model.build((None, None, case.inputs))
    model.set_weights([*case.layer_weights()[0], *case.dense_weights()])
    return model


def _compile(model: Sequential) -> None:
    adam = Adam(learning_rate=LEARNING_RATE, epsilon=EPSILON)
    model.compile(optimizer=adam, loss="binary_crossentropy")
