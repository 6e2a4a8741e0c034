"""Lists of sequences of different lengths in fit, evaluate and predict: as if each were run alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_native.layers import (
    GRU,
    LSTM,
    RNN,
    Bidirectional,
    Dense,
    Embedding,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    GRUCell,
    Input,
    Layer,
    LayerNormalization,
    LSTMCell,
    Masking,
    RepeatVector,
    SimpleRNN,
    TimeDistributed,
)
from lstm_native.models import Model, Sequential
from lstm_native.ragged import RaggedData, Sequences, is_ragged

LENGTHS = (3, 0, 7, 2, 7, 1, 12, 0, 5, 3)


def features(lengths: Any = LENGTHS, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((n, 3)).astype(np.float32) for n in lengths]


def ids(lengths: Any = LENGTHS) -> list[Any]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 9, n) for n in lengths]  # 0 is a word like any other without mask_zero


@pytest.mark.parametrize("batch_size", [1, 2, 4, 32])
@pytest.mark.parametrize("steps", [False, True])
@pytest.mark.parametrize("kind", ["features", "ids", "mask_zero"])
def test_predictions_are_those_of_each_sequence_alone(kind: str, steps: bool, batch_size: int) -> None:
    first = [] if kind == "features" else [Embedding(9, 4, mask_zero=kind == "mask_zero")]
    model = Sequential([*first, LSTM(5, return_sequences=True), LSTM(4, return_sequences=steps), Dense(2)])
    data = features() if kind == "features" else ids()
    found = model.predict(data, batch_size=batch_size, verbose=0)
    assert isinstance(found, list if steps else np.ndarray)
    assert len(found) == len(data)
    for one, sequence in zip(found, data, strict=True):
        if len(sequence):
            np.testing.assert_array_equal(one, model.predict(sequence[None], verbose=0)[0])
        elif steps:
            assert one.shape == (0, 2)
        else:  # nothing was read: the state is zero
            np.testing.assert_array_equal(one, model.layers[-1](np.zeros((1, 4)))[0])


@pytest.mark.parametrize("layer", [GlobalMaxPooling1D(), LSTM(3, go_backwards=True, return_sequences=True)])
def test_layers_that_would_see_padding_get_none(layer: Any) -> None:
    last = [Dense(2)] if isinstance(layer, LSTM) else []
    model = Sequential([LSTM(3, return_sequences=True), layer, *last])
    data = features((3, 7, 2, 7, 3))
    found = model.predict(data, verbose=0)
    for one, sequence in zip(found, data, strict=True):
        np.testing.assert_array_equal(one, model.predict(sequence[None], verbose=0)[0])


def test_evaluate_is_the_mean_over_sequences() -> None:
    model = Sequential([LSTM(4), Dense(1, activation="sigmoid")])
    data, labels = features(), np.arange(10) % 2
    model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    logs = model.evaluate(data, labels, batch_size=3, verbose=0, return_dict=True)
    p = model.predict(data, verbose=0)[:, 0].astype(np.float64)
    expected = -(labels * np.log(p) + (1 - labels) * np.log(1 - p)).mean()
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)
    assert logs["accuracy"] == pytest.approx(((p > 0.5) == labels).mean())


def test_a_step_is_that_of_a_padded_batch_with_a_mask() -> None:
    """One batch of labels for each step, against Masking on padded arrays."""
    data = features((4, 2, 5))
    labels = [np.full((len(s), 1), i, np.float32) for i, s in enumerate(data)]
    weights = [np.linspace(0.5, 1, len(s)) for s in data]
    padded, y, weight = np.zeros((3, 5, 3)), np.zeros((3, 5, 1)), np.zeros((3, 5))
    for i, sequence in enumerate(data):
        padded[i, : len(sequence)] = sequence
        y[i, : len(sequence)], weight[i, : len(sequence)] = labels[i], weights[i]
    start = [LSTM(4, return_sequences=True), Dense(1)]
    model, twin = Sequential(start), Sequential([Masking(), LSTM(4, return_sequences=True), Dense(1)])
    model.build((None, None, 3))
    twin.build((None, None, 3))
    twin.set_weights(model.get_weights())
    for one in (model, twin):
        one.compile("sgd", "mse")
    model.fit(data, labels, sample_weight=weights, epochs=2, shuffle=False, verbose=0)
    twin.fit(padded, y, sample_weight=weight, epochs=2, shuffle=False, verbose=0)
    # The rows lie in another order (sorted by length), so sums over rows round differently.
    for a, b in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_fit_learns_and_repeats() -> None:
    from lstm_native.utils import set_random_seed

    data = features(np.arange(60) % 9, seed=3)
    labels = np.array([s.sum() > 0 for s in data], int)
    weights = []
    for _ in range(2):
        set_random_seed(4)
        model = Sequential([LSTM(8), Dense(1, activation="sigmoid")])
        model.compile("adam", "binary_crossentropy")
        model.optimizer.learning_rate = 0.02  # type: ignore[union-attr]
        history = model.fit(data, labels, batch_size=8, epochs=8, verbose=0, validation_split=0.2).history
        assert history["loss"][-1] < history["loss"][0]
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_batches_hold_every_row_once_and_little_padding() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 500)
    sequences = Sequences([np.zeros(n) for n in lengths], "test", "x")
    for exact in (False, True):
        data = RaggedData(sequences, None, None, 32, True, 7, exact, lambda *parts: parts)  # type: ignore[arg-type,return-value]
        orders = []
        for epoch in range(2):
            batches = data.rows_of_batches(epoch)
            assert len(batches) == data.num_batches
            rows = np.concatenate(batches)
            np.testing.assert_array_equal(np.sort(rows), np.arange(500))
            orders.append(rows)
            padded = sum(len(rows) * lengths[rows].max() for rows in batches)
            assert padded <= lengths.sum() * (1.0 if exact else 1.1)
            assert max(map(len, batches)) <= 32
        assert not np.array_equal(*orders)


def test_functional_models_take_lists_too() -> None:
    x = Input((None, 3))
    hidden = LSTM(4, return_sequences=True)(x)
    model = Model(x, [LSTM(2)(hidden), Dense(1)(hidden)])
    data = features()
    last, steps = model.predict(data, verbose=0, batch_size=4)
    assert last.shape == (10, 2)
    assert [len(s) for s in steps] == list(LENGTHS)
    for i in (0, 2, 6):
        a, b = model.predict(data[i][None], verbose=0)
        np.testing.assert_array_equal(last[i], a[0])
        np.testing.assert_array_equal(steps[i], b[0])


class Half(Layer):
    """A cell in Python."""

    state_size = 3

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight((input_shape[-1], 3), name="kernel")

    def call(self, inputs: Any, states: Any) -> Any:
        h = 0.5 * states[0] + inputs @ self.kernel.numpy()
        return h, [h]


STEPS = {"return_sequences": True}
UNMOVED: dict[str, Any] = {
    "bidirectional": lambda: [Bidirectional(LSTM(3)), Dense(2)],
    "bidirectional steps": lambda: [
        Bidirectional(GRU(3, **STEPS), "mul"),
        Bidirectional(SimpleRNN(2, **STEPS)),
    ],
    "backward layer of its own": lambda: [
        Bidirectional(LSTM(3, **STEPS), backward_layer=GRU(2, go_backwards=True, **STEPS))
    ],
    "time distributed": lambda: [
        TimeDistributed(Dense(4, "tanh")),
        LSTM(3, **STEPS),
        TimeDistributed(Dense(2)),
    ],
    "stack": lambda: [RNN([LSTMCell(3), GRUCell(2)]), Dense(2)],
    "stack of steps": lambda: [RNN([LSTMCell(3), GRUCell(2)], **STEPS), Bidirectional(RNN(LSTMCell(3)))],
    "from the end": lambda: [LSTM(3, go_backwards=True)],
    "normalized": lambda: [LSTM(3, **STEPS), LayerNormalization(), GRU(2)],
    "repeated": lambda: [LSTM(3), RepeatVector(4), LSTM(2, **STEPS)],
    "zero steps": lambda: [LSTM(3, zero_output_for_mask=True, **STEPS), LSTM(2)],
}
MOVED: dict[str, Any] = {
    "steps from the end": lambda: [LSTM(3, go_backwards=True, **STEPS)],
    "steps from the end in a wrapper": lambda: [
        Bidirectional(LSTM(3, go_backwards=True, **STEPS), backward_layer=GRU(3, **STEPS))
    ],
    "zero output": lambda: [LSTM(3, zero_output_for_mask=True)],
    "normalized over time": lambda: [LSTM(3, **STEPS), GlobalAveragePooling1D()],
    "penalty": lambda: [LSTM(3, activity_regularizer="l2")],
    "code in Python": lambda: [TimeDistributed(Sequential([First()]))],
}


class First(Layer):
    """A layer in Python whose rows see each other."""

    def call(self, inputs: Any) -> Any:
        return inputs / np.float32(len(inputs))


@pytest.mark.parametrize(
    ("make", "unmoved"),
    [
        pytest.param(make, i == 0, id=name)
        for i, kinds in enumerate((UNMOVED, MOVED))
        for name, make in kinds.items()
    ],
)
def test_each_sequence_as_if_alone(make: Any, unmoved: bool) -> None:
    """Padded with a mask where the layers say that it changes nothing, else in batches of one length."""
    model = Sequential(make())
    model.build((None, None, 3))
    assert model.unmoved_by_padding == unmoved
    data = features((3, 7, 2, 7, 1, 5))
    found = model.predict(data, verbose=0)
    assert len(found) == len(data)
    if any(isinstance(getattr(layer, "layer", None), Sequential) for layer in model.layers):
        return  # its rows do see each other
    for one, sequence in zip(found, data, strict=True):
        np.testing.assert_array_equal(one, model.predict(sequence[None], verbose=0)[0])


def test_cells_in_python_as_if_alone() -> None:
    model = Sequential([RNN(Half(), **STEPS)])
    data = features((3, 7, 2, 7, 1, 5))
    for one, sequence in zip(model.predict(data, verbose=0), data, strict=True):
        # NumPy's products may round differently for another number of rows.
        np.testing.assert_allclose(one, model.predict(sequence[None], verbose=0)[0], rtol=0, atol=1e-6)
    assert model.unmoved_by_padding


def test_no_padding_enters_a_call_with_states() -> None:
    """Which gets no mask by itself, so that padded steps would move the last output."""
    x = Input((None, 3))
    _, h, c = LSTM(4, return_state=True)(x)
    model = Model(x, LSTM(4)(x, initial_state=[h, c]))
    data = features((3, 7, 2, 7))
    for one, sequence in zip(model.predict(data, verbose=0), data, strict=True):
        np.testing.assert_array_equal(one, model.predict(sequence[None], verbose=0)[0])


# --- several inputs and outputs -------------------------------------------------------------------


def two_inputs() -> Model:
    """Words and features of each step, and features of the whole; a label for each step, and one for all."""
    words, steps, whole = (
        Input((None,), name="words"),
        Input((None, 3), name="steps"),
        Input((2,), name="whole"),
    )
    state = Dense(4)(whole)
    a = LSTM(4, return_sequences=True)(Embedding(9, 4)(words))
    b = Bidirectional(GRU(3, return_sequences=True))(steps)
    outputs = [Dense(1, name="tags")(a), Dense(2, name="more")(b), LSTM(2, name="last")(b), Dense(1)(state)]
    return Model([words, steps, whole], outputs)


@pytest.mark.parametrize("form", [list, tuple, dict])
@pytest.mark.parametrize("batch_size", [2, 32])
def test_several_inputs(form: Any, batch_size: int) -> None:
    model = two_inputs()
    whole = np.random.default_rng(2).standard_normal((10, 2)).astype(np.float32)
    data: Any = form([ids(), features(), whole]) if form is not dict else None
    if form is dict:
        data = {"whole": whole, "steps": features(), "words": ids()}
    tags, more, last, state = model.predict(data, batch_size=batch_size, verbose=0)
    assert [len(tag) for tag in tags] == list(LENGTHS)
    for i, length in enumerate(LENGTHS):
        if length:
            alone = model.predict([ids()[i][None], features()[i][None], whole[i : i + 1]], verbose=0)
            for found, expected in zip((tags, more, last, state), alone, strict=True):
                np.testing.assert_array_equal(found[i], expected[0])


def test_several_inputs_and_outputs_train_as_padded_ones() -> None:
    lengths = (4, 2, 5)
    words, steps, whole = ids(lengths), features(lengths), np.ones((3, 2), np.float32)
    labels = [np.full((n, 1), i, np.float32) for i, n in enumerate(lengths)]
    more = [np.full((n, 2), 2 * i, np.float32) for i, n in enumerate(lengths)]
    rest = [np.ones((3, 2), np.float32), np.zeros((3, 1), np.float32)]

    def padded(rows: Any) -> Any:
        out = np.zeros((3, 5, *rows[0].shape[1:]), rows[0].dtype)
        for one, row in zip(out, rows, strict=True):
            one[: len(row)] = row
        return out

    model, twin = two_inputs(), two_inputs()
    twin.set_weights(model.get_weights())
    valid = np.arange(5) < np.array(lengths)[:, None]
    flags = Input((None,), name="flags")
    starts = twin.inputs
    masked = Model([*starts, flags], twin(starts, mask=[flags, flags, None]))
    for one in (model, masked):
        one.compile("sgd", "mse")
    y = [labels, more, *rest]
    history = model.fit([words, steps, whole], y, epochs=2, shuffle=False, verbose=0).history
    expected = masked.fit(
        [padded(words), padded(steps), whole, valid],
        [padded(labels), padded(more), *rest],
        epochs=2,
        shuffle=False,
        verbose=0,
    ).history
    # The rows lie in another order, so sums over rows round differently.
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)
    for a, b in zip(model.get_weights(), masked.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    x = {"words": words, "steps": steps, "whole": whole}
    assert np.isfinite(model.evaluate(x, y, verbose=0)).all()
    split = model.fit(x, y, validation_split=0.34, verbose=0).history
    assert np.isfinite(split["val_loss"]).all()


def test_inputs_that_do_not_belong_together_are_refused() -> None:
    model = two_inputs()
    whole = np.ones((3, 2), np.float32)
    with pytest.raises(ValueError, match="x of 'steps' has sequences of other lengths than x of 'words'"):
        model.predict([ids((1, 2, 3)), features((1, 3, 2)), whole], verbose=0)
    with pytest.raises(
        ValueError, match=r"x of 'whole' has shape \(2, 2\), expected 3 rows as x of 'words' has"
    ):
        model.predict([ids((1, 2, 3)), features((1, 2, 3)), whole[:2]], verbose=0)
    model.compile("sgd", "mse")
    x = [ids((1, 2, 3)), features((1, 2, 3)), whole]
    y = [features((1, 2, 3)), features((1, 2, 3)), np.ones((2, 2)), np.ones((3, 1))]
    with pytest.raises(ValueError, match="y of 'last' has shape"):
        model.fit(x, y, verbose=0)
    y[2] = np.ones((3, 2))
    with pytest.raises(ValueError, match="sample_weight of 'tags' has sequences of other lengths than x"):
        model.fit(x, y, sample_weight=[[[1.0], [1.0], [1.0, 1.0]], None, None, None], verbose=0)


def test_what_is_ragged() -> None:
    assert is_ragged([[1, 2], [3]])
    assert is_ragged([[], []])
    assert is_ragged((np.zeros((2, 3)), np.zeros((0, 3))))
    for x in ([[1, 2], [3, 4]], [1, 2, 3], [], np.zeros((2, 3)), [np.float32(1), 2], "ab", None):
        assert not is_ragged(x)


def test_wrong_lists_are_refused() -> None:
    model = Sequential([LSTM(3), Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"x\[1\] has shape \(3, 2\), expected \(time, 3\)"):
        model.predict([np.ones((2, 3)), np.ones((3, 2))], verbose=0)
    with pytest.raises(ValueError, match=r"y has shape \(3,\), expected 2 rows"):
        model.fit(features((2, 3)), np.ones(3), verbose=0)
    with pytest.raises(ValueError, match="y has sequences of other lengths than x"):
        model.fit(features((2, 3)), [[1.0], [2.0, 3.0]], verbose=0)
    with pytest.raises(ValueError, match=r"LSTM .*expected \(batch, time, features\)"):
        model.predict([[1.0], [2.0, 3.0]], verbose=0)
    assert not model.built
    stateful = Sequential([LSTM(3, stateful=True)])
    with pytest.raises(ValueError, match="stateful layers and a fixed batch size need arrays"):
        stateful.predict(features((2, 3)), verbose=0)


@pytest.mark.parametrize("lengths", [(2, 4), (4, 0), (2, 6)])
def test_a_fixed_number_of_steps_takes_no_lists(lengths: tuple[int, ...]) -> None:
    model = Sequential([Input((4, 3)), LSTM(3), Dense(1)])
    model.compile("sgd", "mse")
    shape = r"input has shape \(None, [126], 3\), expected \(None, 4, 3\)"
    with pytest.raises(ValueError, match=shape):
        model.predict(features(lengths), verbose=0)
    with pytest.raises(ValueError, match=shape):
        model.fit(features(lengths), np.ones(2), verbose=0)
