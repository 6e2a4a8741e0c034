"""The classic first LSTM: three sentences, their words as numbers, and whether each one is praise."""

from __future__ import annotations

import numpy as np

from lstm_native.layers import LSTM, Dense, Embedding
from lstm_native.models import Sequential

# 1 i  2 love  3 this  4 film  5 what  6 a  7 boring  8 story  9 great  10 ending
X = np.array(
    [
        [1, 2, 3, 4],  # I love this film
        [5, 6, 7, 8],  # what a boring story
        [5, 6, 9, 10],  # what a great ending
    ]
)
y = np.array([1, 0, 1])

model = Sequential()
model.add(Embedding(input_dim=1000, output_dim=64))
model.add(LSTM(128))
model.add(Dense(1, activation="sigmoid"))
model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
history = model.fit(X, y, epochs=10, batch_size=1)
prediction = model.predict(X)
print(prediction)
