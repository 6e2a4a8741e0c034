"""Models that are changed, copied or interrupted: what they allow, and that they stay usable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lstm_native.callbacks import Callback
from lstm_native.layers import LSTM, Dense, Embedding
from lstm_native.models import Sequential

IDS = np.array([[1, 2, 3], [4, 5, 6]])
LABELS = np.array([0, 1])


def classifier() -> Sequential:
    model = Sequential(
        [Embedding(10, 3, name="words"), LSTM(4, name="memory"), Dense(1, activation="sigmoid", name="top")]
    )
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


class Hook(Callback):
    def __init__(self, hook: str, function: Callable[[Any], Any]) -> None:
        super().__init__()
        setattr(self, hook, lambda *_, **__: function(self.model))


# --- changes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", ["on_epoch_end", "on_train_batch_begin", "on_train_batch_end"])
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("compile", lambda model: model.compile("sgd", "mse")),
        ("add", lambda model: model.add(Dense(1))),
        ("pop", lambda model: model.pop()),
    ],
)
def test_a_callback_cannot_rebuild_the_model_in_training(hook: str, name: str, change: Any) -> None:
    model = classifier()
    with pytest.raises(RuntimeError, match=f"Sequential .*: {name} while this model is training already"):
        model.fit(IDS, LABELS, verbose=0, callbacks=[Hook(hook, change)])
    assert len(model.layers) == 3
    assert model.loss == "binary_crossentropy"
    model.fit(IDS, LABELS, verbose=0)


def test_a_layer_that_a_callback_thaws_is_unknown_to_the_optimizer() -> None:
    model = classifier()
    model.layers[0].trainable = False
    model.compile("adam", "binary_crossentropy")
    model.fit(IDS, LABELS, verbose=0)

    def thaw(model: Any) -> None:
        model.layers[0].trainable = True

    with pytest.raises(ValueError, match=r"words/embeddings is none of the variables .* new optimizer"):
        model.fit(IDS, LABELS, batch_size=1, verbose=0, callbacks=[Hook("on_train_batch_end", thaw)])
    model.compile("adam", "binary_crossentropy")
    model.fit(IDS, LABELS, verbose=0)


def test_no_model_holds_itself() -> None:
    inner = Sequential([Dense(2)])
    outer = Sequential([Sequential([inner])])
    for model, part in ((inner, inner), (inner, outer)):
        with pytest.raises(ValueError, match="add got a model that would hold itself"):
            model.add(part)
    assert len(inner.layers) == 1
    assert outer(np.ones((1, 3))).shape == (1, 2)


# --- interruptions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_a_model_is_usable_after_an_interrupted_fit(error: type[BaseException]) -> None:
    model = classifier()

    def interrupt(_: Any) -> None:
        raise error

    with pytest.raises(error):
        model.fit(IDS, LABELS, batch_size=1, verbose=0, callbacks=[Hook("on_train_batch_end", interrupt)])
    assert int(model.optimizer.iterations) == 1
    model.fit(IDS, LABELS, verbose=0)
    assert int(model.optimizer.iterations) == 2
    assert model.predict(IDS, verbose=0).shape == (2, 1)
