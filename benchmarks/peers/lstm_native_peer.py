"""lstm_native."""

from __future__ import annotations

import lstm_native
from lstm_native.layers import LSTM, Dense, Embedding
from lstm_native.models import Sequential
from lstm_native.optimizers import Adam
from peers.base import EPSILON, LEARNING_RATE, Array, Case, Peer


class LstmNative(Peer):
    packages = ("lstm-native", "numpy")

    def __init__(self, case: Case, threads: int) -> None:
        lstm_native.set_num_threads(threads)
        self.model = Sequential(
            [
                Embedding(input_dim=case.vocabulary, output_dim=case.embedding),
                LSTM(case.units),
                Dense(1, activation="sigmoid"),
            ]
        )
        self.model.compile(
            optimizer=Adam(learning_rate=LEARNING_RATE, epsilon=EPSILON), loss="binary_crossentropy"
        )
        self.model.build((None, case.time))
        self.model.set_weights(case.weights())

    def prepare(self, ids: Array, labels: Array) -> None:
        self.ids, self.labels = ids, labels

    def predict(self) -> Array:
        return self.model(self.ids)

    def train_step(self) -> float:
        return float(self.model.train_on_batch(self.ids, self.labels))
