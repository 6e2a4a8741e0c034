"""A process that saves models one after the other until it is killed: `python saving_support.py FILE`."""

from __future__ import annotations

import itertools
import sys

import numpy as np

from lstm_native.layers import Dense, Input
from lstm_native.models import Sequential

COLUMNS = 300


def numbered_model(number: int) -> Sequential:
    """A model all of whose weights are `number`; a tenth of a megabyte."""
    model = Sequential([Input((COLUMNS,)), Dense(100)])
    model.set_weights([np.full(w.shape, number, np.float32) for w in model.get_weights()])
    return model


def main(path: str) -> None:
    """Saves, and says after each model that it is saved."""
    print("ready", flush=True)
    for number in itertools.count(1):
        numbered_model(number).save(path)
        print(number, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
