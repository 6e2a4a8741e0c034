"""Recurrent calls that run together, as both directions of a layer: the bits of one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lstm_native import _core
from lstm_native.layers import GRU, LSTM, Bidirectional, Dense, Embedding, SimpleRNN
from lstm_native.layers.context import Context
from lstm_native.layers.recurrent import RecurrentLayer
from lstm_native.models import Sequential
from native_support import RecurrentCase, assert_bits, f32, indexed, recurrent_case, tensor, varied_case

Array = npt.NDArray[Any]
CELLS = ("lstm", "gru", "gru_before", "simple_rnn")
THREADS = (1, 2, 3, 4, 7)


@pytest.fixture(scope="module", autouse=True)
def complete_teams() -> Iterator[None]:
    before = _core.get_num_threads()
    _core.set_patient(True)  # a team would start without members that the system is slow to schedule
    yield
    _core.set_patient(False)
    _core.set_num_threads(before)


def arrays(results: Sequence[Any]) -> list[Array]:
    return [x.numpy() for x in results if isinstance(x, _core.Tensor)]


def apart(cases: Sequence[RecurrentCase]) -> list[list[Array]]:
    """Of each case: what inference gives, training, and backward, in calls of its own on one thread."""
    _core.set_num_threads(1)
    found = []
    for case in cases:
        weights = case.weights()
        plain = _core.recurrent_forward(*case.call(weights))
        trained = _core.recurrent_forward(*case.call(weights, training=True))
        gradients = _core.recurrent_backward(*case.call_back(weights, trained[3]))
        found.append(arrays((*plain, *trained, *gradients)))
    return found


def together(cases: Sequence[RecurrentCase], threads: int) -> list[list[Array]]:
    """The same, in calls for all cases."""
    _core.set_num_threads(threads)
    pairs = [(case, case.weights()) for case in cases]
    plain = _core.recurrent_forward_together([case.call(weights) for case, weights in pairs], False)
    trained = _core.recurrent_forward_together([case.call(weights, True) for case, weights in pairs], False)
    gradients = _core.recurrent_backward_together(
        [case.call_back(weights, result[3]) for (case, weights), result in zip(pairs, trained, strict=True)]
    )
    return [arrays((*a, *b, *c)) for a, b, c in zip(plain, trained, gradients, strict=True)]


def assert_same(cases: Sequence[RecurrentCase], message: str = "") -> None:
    expected = apart(cases)
    for threads in THREADS:
        for case, got, wanted in zip(cases, together(cases, threads), expected, strict=True):
            assert len(got) == len(wanted)
            for a, b in zip(got, wanted, strict=True):
                assert_bits(a, b, f"{message} {threads} threads, {case}")


# Fewer tiles than threads, as many, more; units that threads share and units that they do not.
SIZES = [(1, 24, 20, 130), (2, 14, 40, 130), (5, 9, 33, 40), (30, 11, 24, 48), (70, 5, 20, 48), (3, 2, 7, 9)]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("size", SIZES)
def test_two_directions(cell: str, size: tuple[int, int, int, int]) -> None:
    for mask in ("none", "holes"):
        cases = [
            recurrent_case(seed, *size, cell=cell, mask=mask, reset=mask == "holes", go_backwards=seed == 1)
            for seed in (0, 1)
        ]
        assert_same(cases)


@pytest.mark.parametrize("seed", range(12))
def test_calls_of_all_kinds(seed: int) -> None:
    """Calls that have nothing in common: other cells, shapes, masks, index, checkpoints."""
    below = [(40, 12, 20, 60), (4, 40, 40, 140), (80, 6, 9, 30)]
    cases = [varied_case(CELLS[(seed + i) % 4], 3 * seed + i, below[i]) for i in range(2 + seed % 2)]
    assert_same(cases, f"seed {seed}")


@pytest.mark.parametrize("batch", [2, 60])
def test_rows_by_number(batch: int) -> None:
    cases = [indexed(recurrent_case(seed, batch, 16, 30, 130 - 80 * (batch > 9)), 7, seed) for seed in (0, 1)]
    assert_same(cases)


def test_no_calls_one_call_and_no_rows() -> None:
    assert _core.recurrent_forward_together([], False) == []
    assert _core.recurrent_backward_together([]) == []
    cases = [recurrent_case(1, 3, 4, 5, 6), recurrent_case(2, 0, 4, 5, 6)]
    assert_same(cases[:1])
    assert_same(cases)


def test_a_wrong_call_is_seen_before_one_runs() -> None:
    good, other = recurrent_case(1, 3, 4, 5, 6), recurrent_case(2, 3, 4, 5, 6)
    weights = good.weights()
    wrong = list(other.call(other.weights(), True))
    wrong[2] = tensor(np.ones((3, 9)), "bool")
    with pytest.raises(ValueError, match="LSTM: mask has shape"):
        _core.recurrent_forward_together([good.call(weights, True), tuple(wrong)], False)  # type: ignore[list-item]
    with pytest.raises(ValueError, match="one has 13 arguments, expected 14"):
        _core.recurrent_forward_together([good.call(weights)[:-1]], False)  # type: ignore[list-item]
    shorter = recurrent_case(2, 3, 3, 5, 6)
    with pytest.raises(ValueError, match=r"joined output has shape .* expected"):
        _core.recurrent_forward_together([good.call(weights), shorter.call(shorter.weights())], True)
    last = recurrent_case(2, 3, 4, 5, 6, return_sequences=False)
    with pytest.raises(ValueError, match="for outputs of all steps"):
        _core.recurrent_forward_together([good.call(weights), last.call(last.weights())], True)

    saved = _core.recurrent_forward(*good.call(weights, True))[3]
    used = _core.recurrent_forward(*good.call(weights, True))[3]
    expected = arrays(_core.recurrent_backward(*good.call_back(weights, used)))
    for second in (used, saved):
        with pytest.raises(RuntimeError, match="backward was already called"):
            _core.recurrent_backward_together(
                [good.call_back(weights, saved), good.call_back(weights, second)]
            )
    for got, wanted in zip(
        arrays(_core.recurrent_backward(*good.call_back(weights, saved))), expected, strict=True
    ):
        assert_bits(got, wanted)


# --- the layer: what it does in one call, and one direction after the other -----------------------


class OwnForward(LSTM):
    """A user's layer, whose `forward` no native call may leave out."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return super().forward(*args, **kwargs)


LAYERS: dict[str, Callable[[], Bidirectional]] = {
    "concat": lambda: Bidirectional(LSTM(6, return_sequences=True)),
    "last outputs": lambda: Bidirectional(GRU(6)),
    "sum": lambda: Bidirectional(SimpleRNN(6, return_sequences=True), "sum"),
    "mul, states": lambda: Bidirectional(LSTM(6, return_sequences=True, return_state=True), "mul"),
    "concat, states": lambda: Bidirectional(GRU(6, return_sequences=True, return_state=True)),
    "both": lambda: Bidirectional(LSTM(6, return_sequences=True), None),
    "other units": lambda: Bidirectional(
        LSTM(6, return_sequences=True), backward_layer=LSTM(3, return_sequences=True, go_backwards=True)
    ),
    "other cells": lambda: Bidirectional(
        LSTM(6, return_sequences=True), backward_layer=GRU(5, return_sequences=True, go_backwards=True)
    ),
    "turned": lambda: Bidirectional(
        LSTM(6, return_sequences=True, go_backwards=True), backward_layer=LSTM(6, return_sequences=True)
    ),
    "dropout": lambda: Bidirectional(
        LSTM(6, return_sequences=True, dropout=0.4, recurrent_dropout=0.3, seed=5)
    ),
    "stateful": lambda: Bidirectional(LSTM(6, return_sequences=True, stateful=True)),
    "penalties": lambda: Bidirectional(LSTM(6, return_sequences=True, activity_regularizer="l2")),
    "checkpoints": lambda: Bidirectional(LSTM(6, return_sequences=True, checkpoint_steps=2)),
    "general": lambda: Bidirectional(LSTM(6, return_sequences=True, clip=0.5)),
    "in Python": lambda: Bidirectional(LSTM(6, return_sequences=True, activation=lambda x: np.tanh(x) / 2)),
    "own forward": lambda: Bidirectional(OwnForward(6, return_sequences=True)),
}


def apart_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers that are made from here on call one direction after the other."""
    monkeypatch.setattr(RecurrentLayer, "is_native", False)


def passes(name: str, masked: bool) -> list[Array]:
    """Outputs, states, penalties and gradients of two passes through a layer."""
    rng = np.random.default_rng(3)
    layer = LAYERS[name]()
    layer.build((3, 5, 4))
    layer.set_weights([f32(rng.normal(size=w.shape)) for w in layer.get_weights()])
    found: list[Array] = []
    for number in range(2):
        x = tensor(rng.normal(size=(3, 5, 4)))
        mask = tensor(rng.random((3, 5)) < 0.7, "bool") if masked else None
        reset = tensor(rng.random((3, 5)) < 0.2, "bool") if masked else None
        count = sum(1 + isinstance(direction, LSTM) for direction in layer.held_layers())
        start = None
        if number == 1 and name != "other cells" and name != "other units":
            start = [tensor(rng.normal(size=(3, 6))) for _ in range(count)]
        ctx = Context(True, record=name != "in Python")
        result = layer.forward(x, ctx, mask, start, reset)
        outputs = result if isinstance(result, tuple) else (result,)
        found += arrays(outputs)
        for states in ctx.states.values():
            found += arrays(states)
        ctx.commit_states()
        if ctx.record:
            d = tuple(tensor(rng.normal(size=output.shape)) for output in outputs)
            gradients = layer.backward(d if len(d) > 1 else d[0], ctx)
            found += arrays(gradients if isinstance(gradients, tuple) else (gradients,))
            found += [ctx.gradients[variable].numpy() for variable in layer.variables if variable.trainable]
    return found


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_layer(name: str, masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    together_calls = []
    run = _core.recurrent_forward_together
    monkeypatch.setattr(_core, "recurrent_forward_together", lambda *a: together_calls.append(a) or run(*a))
    got = passes(name, masked)
    assert len(together_calls) == (0 if name in ("in Python", "own forward") else 2)
    apart_only(monkeypatch)
    expected = passes(name, masked)
    assert len(got) == len(expected) >= 2
    for a, b in zip(got, expected, strict=True):
        assert_bits(a, b, name)


def test_training_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model with an embedding, whose distinct rows go to both directions."""
    rng = np.random.default_rng(0)
    ids, y = rng.integers(0, 9, (20, 6)), rng.integers(0, 2, (20, 1))

    def trained() -> list[Array]:
        layers = [
            Embedding(9, 4, mask_zero=True, embeddings_initializer="ones"),
            Bidirectional(LSTM(5, return_sequences=True, dropout=0.2, seed=1)),
            Bidirectional(GRU(3, recurrent_dropout=0.2, seed=2)),
            Dense(1, activation="sigmoid"),
        ]
        model = Sequential(layers)
        model.build((None, None))
        weights = np.random.default_rng(1)
        model.set_weights([f32(weights.normal(size=w.shape)) for w in model.get_weights()])
        model.compile("adam", "binary_crossentropy")
        model.fit(ids, y, epochs=2, batch_size=8, shuffle=False, verbose=0)
        return [*model.get_weights(), model.predict(ids, verbose=0)]

    got = trained()
    apart_only(monkeypatch)
    for a, b in zip(got, trained(), strict=True):
        assert_bits(a, b)
