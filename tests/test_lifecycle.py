"""Models that are changed, copied or interrupted: what they allow, and that they stay usable."""

from __future__ import annotations

import copy
import os
import pickle
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lstm_native.callbacks import Callback
from lstm_native.layers import LSTM, Dense, Dropout, Embedding
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


# --- copies ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_trains_on_as_its_model_and_apart_from_it(copied: Callable[[Any], Any]) -> None:
    model = Sequential(
        [
            Embedding(10, 3, mask_zero=True),
            LSTM(4, return_sequences=True, stateful=True),
            Dropout(0.5, seed=3),
            Sequential([LSTM(3, activation="softsign"), Dense(1, activation="sigmoid")]),
        ]
    )
    untrained = copied(model)
    assert not untrained.built
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    model.fit(IDS, LABELS, verbose=0)
    other = copied(model)
    assert other.history.history == model.history.history
    assert other.history.model is other
    for a, b in zip(model.layers[1].states, other.layers[1].states, strict=True):
        assert np.array_equal(a, b)
    before = [w.tobytes() for w in model.get_weights()]
    after = other.fit(IDS, LABELS, epochs=2, shuffle=False, verbose=0).history
    assert [w.tobytes() for w in model.get_weights()] == before
    assert model.fit(IDS, LABELS, epochs=2, shuffle=False, verbose=0).history == after
    assert [w.tobytes() for w in model.get_weights()] == [w.tobytes() for w in other.get_weights()]
    assert np.array_equal(model.predict(IDS, verbose=0), other.predict(IDS, verbose=0))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_of_layers(copied: Callable[[Any], Any]) -> None:
    layer = LSTM(4, activation=np.tanh)
    assert not copied(layer).built
    expected = layer(np.ones((1, 2, 3)))
    assert np.array_equal(copied(layer)(np.ones((1, 2, 3))), expected)
    # A copy shares its variables with the layer, a deep copy has its own.
    copied(layer).kernel.assign(np.zeros((3, 16)))
    assert np.array_equal(layer(np.ones((1, 2, 3))), expected) == (copied is copy.deepcopy)


# --- forks ----------------------------------------------------------------------------------------------


def in_child(work: Callable[[], Any]) -> int | None:
    """Exit status of a forked child that does `work`; None when it hangs."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    for _ in range(3000):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return None


class Pause(Callback):
    """Holds a training or evaluation in its first batch until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.reached.set()
        self.go_on.wait(60)

    on_test_batch_end = on_train_batch_end


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_a_child_forked_while_another_thread_uses_the_model_is_free_to(method: str) -> None:
    model = classifier()
    model.fit(IDS, LABELS, verbose=0)
    pause = Pause()
    busy = threading.Thread(target=lambda: getattr(model, method)(IDS, LABELS, verbose=0, callbacks=[pause]))
    busy.start()
    assert pause.reached.wait(60)
    try:
        assert in_child(lambda: model.evaluate(IDS, LABELS, verbose=0)) == 0
        assert in_child(lambda: model.fit(IDS, LABELS, verbose=0)) == 0
    finally:
        pause.go_on.set()
        busy.join()
    model.fit(IDS, LABELS, verbose=0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_child_forked_while_another_thread_builds_can_build() -> None:
    reached, go_on = threading.Event(), threading.Event()

    def slow(shape: Any, dtype: Any = None) -> Any:
        reached.set()
        go_on.wait(60)
        return np.zeros(shape, np.float32)

    busy = threading.Thread(target=lambda: Dense(1, kernel_initializer=slow).build((None, 2)))
    busy.start()
    assert reached.wait(60)
    try:
        assert in_child(lambda: classifier().fit(IDS, LABELS, verbose=0)) == 0
    finally:
        go_on.set()
        busy.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_callback_may_fork_and_both_go_on() -> None:
    model = classifier()
    children: list[int] = []
    hook = Hook("on_train_batch_end", lambda _: children.append(os.fork()))
    try:
        model.fit(IDS, LABELS, verbose=0, callbacks=[hook])
        model.fit(IDS, LABELS, verbose=0)
    except BaseException:
        if children == [0]:
            os._exit(1)
        raise
    if children == [0]:
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
