"""Cells and RNN: native cells bit for bit as their layers, stacks step by step, cells written in Python."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import lstm_native as ln
import reference_recurrent as rec
from lstm_native.layers import (
    GRU,
    LSTM,
    RNN,
    Bidirectional,
    Dense,
    Embedding,
    GRUCell,
    Layer,
    LSTMCell,
    SimpleRNN,
    SimpleRNNCell,
    StackedRNNCells,
)
from lstm_native.layers.base import Context
from lstm_native.layers.cloning import clone_layer
from native_support import Array, assert_bits, f32, tensor

UNITS = {"lstm": 4, "gru": 3, "gru_before": 5, "simple_rnn": 2}
CELLS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "lstm": (LSTMCell, LSTM, {}),
    "gru": (GRUCell, GRU, {}),
    "gru_before": (GRUCell, GRU, {"reset_after": False}),
    "simple_rnn": (SimpleRNNCell, SimpleRNN, {}),
}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"return_sequences": True},
    {"return_sequences": True, "go_backwards": True},
    {"return_sequences": True, "zero_output_for_mask": True},
    {"go_backwards": True},
]


def cell_of(name: str, **more: Any) -> Any:
    kind, _, options = CELLS[name]
    return kind(UNITS[name], bias_initializer="glorot_uniform", **options, **more)


def stack() -> list[Any]:
    return [cell_of(name) for name in CELLS]


def draw(*shape: int, seed: int = 3) -> Array:
    return f32(np.random.default_rng(seed).normal(size=shape))


def flags(*shape: int, seed: int = 4, share: float = 0.7) -> Array:
    return np.random.default_rng(seed).random(shape) < share


def flat(tree: Any) -> list[Array]:
    return [leaf for item in tree for leaf in flat(item)] if isinstance(tree, list | tuple) else [tree]


class StepByStep(StackedRNNCells):
    """The same stack; a `call` of its own makes RNN run it one time step after the other."""

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        return super().call(inputs, states, training)


class Sum(Layer):
    """Output and state are the sum of what came so far; starts from `start`."""

    def __init__(self, units: int, start: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.state_size = units
        self.start = start

    def get_initial_state(self, batch_size: int) -> Array:
        return np.full((batch_size, self.state_size), self.start, np.float32)

    def call(self, inputs: Any, states: Any) -> Any:
        total = inputs + states[0]
        return total, total


class Plain:
    """A cell that is no layer, with two states: the last inputs and the number of steps."""

    state_size = (3, 1)
    output_size = 3

    def call(self, inputs: Any, states: Any) -> Any:
        last, count = states
        return inputs - last, (inputs, count + 1)


# --- native cells ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("options", OPTIONS)
def test_a_native_cell_runs_as_its_layer(name: str, options: dict[str, Any]) -> None:
    rnn = RNN(cell_of(name), return_state=True, **options)
    _, kind, more = CELLS[name]
    layer = kind(UNITS[name], return_state=True, **more, **options)
    x = draw(4, 6, 5)
    for built in (rnn, layer):
        built.build(x.shape)
    layer.set_weights(rnn.get_weights())
    start = [draw(4, UNITS[name], seed=i) for i in range(len(layer.state_names))]
    for arguments in ({}, {"mask": flags(4, 6), "initial_state": start, "reset": flags(4, 6, share=0.3)}):
        for got, expected in zip(rnn(x, **arguments), layer(x, **arguments), strict=True):
            assert_bits(got, expected)
    assert rnn.compute_output_shape((None, 6, 5)) == layer.compute_output_shape((None, 6, 5))


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_called_step_by_step_gives_the_sequence(name: str) -> None:
    cell = cell_of(name)
    x = draw(4, 6, 5)
    states = cell.get_initial_state(batch_size=4)
    assert [s.shape for s in states] == [(4, UNITS[name])] * len(states)
    steps = []
    for t in range(6):
        output, states = cell(x[:, t], states)
        steps.append(output)
    outputs, *last = RNN(cell, return_sequences=True, return_state=True)(x)
    assert_bits(np.stack(steps, axis=1), outputs)
    for got, expected in zip(states, last, strict=True):
        assert_bits(got, expected)
    assert cell.output_size == UNITS[name]
    assert cell.state_size == (UNITS[name] if len(states) == 1 else [UNITS[name]] * 2)


@pytest.mark.parametrize("options", OPTIONS)
def test_a_stack_runs_cell_by_cell_as_it_runs_step_by_step(options: dict[str, Any]) -> None:
    cells = stack()
    chained = RNN(cells, return_state=True, **options)
    stepped = RNN(StepByStep(cells), return_state=True, **options)
    x = draw(4, 6, 5)
    start = [[draw(4, size, seed=size)] * (2 if size == 4 else 1) for size in UNITS.values()]
    for arguments in ({}, {"mask": flags(4, 6), "initial_state": start, "reset": flags(4, 6, share=0.3)}):
        got, expected = chained(x, **arguments), stepped(x, **arguments)
        assert [len(states) for states in got[1:]] == [2, 1, 1, 1]
        for one, other in zip(flat(got), flat(expected), strict=True):
            assert_bits(one, other)
    assert chained.cell.state_size == [[4, 4], 3, 5, 2]
    assert chained.compute_output_shape((4, 6, 5))[1:] == ([(4, 4)] * 2, (4, 3), (4, 5), (4, 2))


@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_gradients_of_a_stack(go_backwards: bool, return_sequences: bool) -> None:
    rnn = RNN(stack(), return_sequences, return_state=True, go_backwards=go_backwards)
    x, mask = draw(3, 5, 4), flags(3, 5)
    rnn.build(x.shape)
    start = [draw(3, size, seed=10 + i) for i, size in enumerate([4, 4, 3, 5, 2])]
    ctx = Context(record=True)
    outputs = rnn.forward(tensor(x), ctx, tensor(mask, "bool"), tuple(map(tensor, start)))
    d_outputs = [draw(*y.shape, seed=20 + i) for i, y in enumerate(outputs)]
    d_x, *d_start = rnn.backward(tuple(map(tensor, d_outputs)), ctx)

    traces: list[Any] = []
    y, m, states = x, mask, list(start)
    for i, (name, cell) in enumerate(zip(CELLS, rnn.cell.cells, strict=True)):
        given = dict(zip(["h0", "c0"][: 2 if name == "lstm" else 1], states, strict=False))
        del states[: len(given)]
        traces.append(
            rec.recurrent_forward(
                y, *cell.get_weights(), cell=name, mask=m, go_backwards=go_backwards and i == 0,
                return_sequences=return_sequences or i < 3, **given,
            )
        )  # fmt: skip
        y, m = traces[-1].output, m[:, ::-1] if go_backwards and i == 0 else m
    d_y, *d_states = d_outputs
    expected_start: list[Array] = []
    for name, cell, trace in reversed(list(zip(CELLS, rnn.cell.cells, traces, strict=True))):
        own = [d_states.pop() for _ in range(2 if name == "lstm" else 1)][::-1]
        gradients = rec.recurrent_backward(trace, d_y, *own)
        d_y = gradients.inputs
        expected_start = [gradients.h0, gradients.c0][: len(own)] + expected_start
        for variable, value in (
            (cell.kernel, gradients.kernel),
            (cell.recurrent_kernel, gradients.recurrent),
            (cell.bias, gradients.bias),
        ):
            assert_near(ctx.gradients[variable], value)
    assert_near(d_x, d_y)
    for got, value in zip(d_start, expected_start, strict=True):
        assert_near(got, value)


def assert_near(got: Any, value: Array) -> None:
    assert np.linalg.norm(got.numpy() - value) <= 2e-5 * np.linalg.norm(value)


def test_gradient_of_the_state_of_a_lower_cell_alone() -> None:
    rnn = RNN([SimpleRNNCell(3), GRUCell(2)], return_state=True)
    x = draw(2, 4, 3)
    rnn.build(x.shape)
    ctx = Context(record=True)
    rnn.forward(tensor(x), ctx)
    d_h = draw(2, 3)
    d_x = rnn.backward((None, tensor(d_h), None), ctx)
    kernel, recurrent, bias = rnn.cell.cells[0].get_weights()
    trace = rec.recurrent_forward(x, kernel, recurrent, bias, cell="simple_rnn")
    assert_near(d_x, rec.recurrent_backward(trace, d_h=d_h).inputs)


def test_training_equals_that_of_layers() -> None:
    """Two cells in one RNN, and two layers of their own: the same weights after fit, bit for bit."""
    x, y = draw(16, 6, 5), draw(16, 1)
    models = [
        ln.Sequential([RNN([LSTMCell(4), GRUCell(3)]), Dense(1)]),
        ln.Sequential([LSTM(4, return_sequences=True), GRU(3), Dense(1)]),
    ]
    for model in models:
        model.build(x.shape)
        model.compile("adam", "mse")
    models[1].set_weights(models[0].get_weights())
    for model in models:
        model.fit(x, y, epochs=3, batch_size=4, shuffle=False, verbose=0)
    for one, other in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        assert_bits(one, other)


def test_dropout_of_cells_is_that_of_layers() -> None:
    options = {"dropout": 0.4, "recurrent_dropout": 0.3, "seed": 7}
    rnn, layer = RNN(LSTMCell(4, **options)), LSTM(4, **options)
    x = draw(5, 6, 3)
    rnn.build(x.shape)
    layer.build(x.shape)
    layer.set_weights(rnn.get_weights())
    assert_bits(rnn(x), layer(x))
    assert_bits(rnn(x, training=True), layer(x, training=True))


def test_behind_an_embedding_and_in_a_stream() -> None:
    cells = stack()
    ids = np.random.default_rng(5).integers(0, 9, (6, 7))
    model = ln.Sequential([Embedding(60, 5, mask_zero=True), RNN(cells)])
    outputs = model.predict(ids, verbose=0)
    plain = RNN(StepByStep(cells))(model.layers[0](ids), mask=ids != 0)
    assert_bits(outputs, plain)
    stream = model.stream(batch_size=6)
    for t in range(7):
        last = stream.step(ids[:, t])
    assert_bits(last, outputs)
    with pytest.raises(ValueError, match="go_backwards"):
        ln.Sequential([ln.Input((None, 5)), RNN(cells, go_backwards=True)]).stream()


def test_weights_are_those_of_the_cells() -> None:
    cells = stack()
    first, second = RNN(cells, name="first"), RNN(cells, return_sequences=True)
    x = draw(4, 6, 5)
    assert_bits(first(x), second(x)[:, -1])
    assert first.weights == second.weights == [w for cell in cells for w in cell.weights]
    assert [w.path for w in cells[0].weights] == [
        f"{cells[0].name}/{w}" for w in ("kernel", "recurrent_kernel", "bias")
    ]
    cells[1].recurrent_kernel.assign(np.zeros((3, 9)))
    assert_bits(first(x), second(x)[:, -1])
    first.trainable = False
    assert not second.trainable_weights
    assert not RNN([GRUCell(2)], trainable=False).cell.cells[0].trainable
    assert RNN(LSTMCell(2, kernel_regularizer="l2", kernel_constraint="non_neg")).losses == []


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda rnn: pickle.loads(pickle.dumps(rnn))])
def test_copies_stand_alone(copied: Any) -> None:
    rnn = RNN(stack(), return_sequences=True)
    x = draw(4, 6, 5)
    outputs = rnn(x)
    twin = copied(rnn)
    assert_bits(twin(x), outputs)
    twin.cell.cells[0].kernel.assign(np.zeros((5, 16)))
    assert (twin(x) != outputs).any()
    assert_bits(rnn(x), outputs)


def test_clones_have_the_arguments() -> None:
    rnn = RNN([LSTMCell(4, "relu", use_bias=False), GRUCell(3)], return_sequences=True)
    clone: Any = clone_layer(rnn, go_backwards=True)
    first, second = clone.cell.cells
    assert (clone.return_sequences, clone.go_backwards) == (True, True)
    assert (first.units, first.layer.use_bias, second.units) == (4, False, 3)
    assert first.layer.activation is ln.activations.relu


def test_arguments_whose_names_are_weights_too() -> None:
    for cell in (LSTMCell(2, peepholes=True), LSTMCell(2)):
        expected = cell.layer.has_peepholes
        assert cell.get_config()["peepholes"] is expected
        cell.build((None, 3))
        assert cell.get_config()["peepholes"] is expected
        assert LSTMCell.from_config(cell.get_config()).layer.has_peepholes is expected


def test_both_directions() -> None:
    x = draw(4, 6, 5)
    cells, layers = (
        Bidirectional(make, merge_mode="sum")
        for make in (RNN(LSTMCell(3), return_sequences=True), LSTM(3, return_sequences=True))
    )
    cells.build(x.shape)
    layers.build(x.shape)
    layers.set_weights(cells.get_weights())
    mask = flags(4, 6)
    assert_bits(cells(x, mask=mask), layers(x, mask=mask))


# --- states ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cells", [stack, lambda: [Sum(5), LSTMCell(3)], lambda: GRUCell(2)])
def test_stateful_calls_continue(cells: Any) -> None:
    cell = cells()
    rnn, whole = RNN(cell, stateful=True, return_sequences=True), RNN(cell, return_sequences=True)
    other = RNN(cell, stateful=True)
    x = draw(4, 9, 5)
    parts = [rnn(x[:, :2]), rnn(x[:, 2:3]), rnn(x[:, 3:])]
    assert_bits(np.concatenate(parts, axis=1), whole(x))
    assert other.states is None  # states are those of the RNN, not of its cells
    with pytest.raises(ValueError, match=r"input has 3 rows, but the state of this stateful layer has 4"):
        rnn(x[:3])
    kept = rnn.states
    rnn.reset_state()
    assert_bits(rnn(x[:, :2]), parts[0])
    rnn.set_states(tuple(map(tensor, kept)))
    assert [s.tolist() for s in rnn.states] == [s.tolist() for s in kept]


def test_an_empty_batch() -> None:
    outputs, one, two = RNN([LSTMCell(4), GRUCell(3)], return_state=True)(np.zeros((0, 6, 5)))
    assert outputs.shape == (0, 3)
    assert [s.shape for s in [*one, *two]] == [(0, 4), (0, 4), (0, 3)]
    output, states = LSTMCell(4)(np.zeros((0, 5)), [np.zeros((0, 4))] * 2)
    assert output.shape == states[0].shape == states[1].shape == (0, 4)


# --- cells in Python ------------------------------------------------------------------------------


def test_a_cell_in_python() -> None:
    x = draw(4, 6, 3)
    outputs, total = RNN(Sum(3, start=2.0), return_sequences=True, return_state=True)(x)
    np.testing.assert_allclose(outputs, 2 + np.cumsum(x, axis=1), atol=1e-5)
    assert_bits(total, outputs[:, -1])
    outputs, last, count = RNN(Plain(), return_sequences=True, return_state=True, go_backwards=True)(x)
    np.testing.assert_allclose(outputs, np.diff(x[:, ::-1], axis=1, prepend=0), atol=1e-6)
    assert_bits(last, x[:, 0])
    assert (count == 6).all()
    wide = draw(2, 4, 3, 2)  # steps with more axes than one
    assert RNN(Sum(3), return_sequences=True).compute_output_shape(wide.shape) == (2, 4, 3)


def test_masks_and_resets_of_a_cell_in_python() -> None:
    x = np.ones((3, 5, 1), np.float32)
    mask = np.array([[0, 1, 0, 1, 1], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], bool)
    reset = np.array([[0, 0, 0, 0, 1], [0, 0, 1, 0, 0], [0, 1, 0, 0, 0]], bool)
    options = {"return_sequences": True, "return_state": True}
    outputs, total = RNN(Sum(1), **options)(x, mask=mask, reset=reset)
    assert outputs[..., 0].tolist() == [[0, 1, 1, 2, 1], [1, 2, 1, 1, 1], [0, 0, 0, 0, 0]]
    assert total[:, 0].tolist() == [1, 1, 0]
    zeros, total = RNN(Sum(1), zero_output_for_mask=True, **options)(x, mask=mask)
    assert zeros[..., 0].tolist() == [[0, 1, 0, 2, 3], [1, 2, 3, 0, 0], [0, 0, 0, 0, 0]]
    assert total[:, 0].tolist() == [3, 3, 0]


def test_cells_in_python_run_forward_only() -> None:
    model = ln.Sequential([RNN([LSTMCell(3), Sum(3)]), Dense(1)])
    x = draw(4, 6, 5)
    assert model.predict(x, verbose=0).shape == (4, 1)
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match=r"Sum '.*call is Python code.*forward only; training needs"):
        model.fit(x, draw(4, 1), verbose=0)
    with pytest.raises(ValueError, match="cannot run step by step in a stream"):
        model.stream()


def test_states_that_do_not_fit_are_refused() -> None:
    class Wrong(Sum):
        def call(self, inputs: Any, states: Any) -> Any:
            return inputs, [states[0][:, :1]]

    with pytest.raises(ValueError, match=r"Wrong '.*states of shapes \[\(2, 1\)\], expected \[\(2, 3\)\]"):
        RNN(Wrong(3))(draw(2, 4, 3))


# --- wrong arguments ------------------------------------------------------------------------------


def test_wrong_arguments() -> None:
    for argument in ({"return_sequences": True}, {"stateful": True}, {"activity_regularizer": "l2"}):
        with pytest.raises(TypeError, match=rf"GRUCell: .*{next(iter(argument))}.* RNN\(cell"):
            GRUCell(3, **argument)
    for cell, message in (
        (3, "RNN: cell is 3 without call"),
        (object(), "without call"),
        ([], "StackedRNNCells: cells is empty"),
        ([LSTMCell(3), LSTM(3)], "StackedRNNCells: cell is .*LSTM.* without call"),
    ):
        with pytest.raises(ValueError, match=message):
            RNN(cell)
    with pytest.raises(ValueError, match="RNN: state_size of the cell is -1, expected a positive integer"):
        RNN(Sum(-1))


def test_wrong_inputs_change_nothing() -> None:
    cell = LSTMCell(3)
    rnn = RNN([cell, GRUCell(2)])
    for x in (np.zeros((4, 5)), np.zeros((4, 0, 5)), np.zeros((4, 6, 0))):
        with pytest.raises(ValueError, match="RNN '"):
            rnn(x)
    assert not rnn.built
    assert not cell.built
    rnn(np.zeros((4, 6, 5)))
    with pytest.raises(ValueError, match=r"RNN '.*\(4, 6, 4\), expected \(batch, time, 5\)"):
        rnn(np.zeros((4, 6, 4)))
    with pytest.raises(ValueError, match=r"initial_state is a list of 1, expected .*\(4, 3\), \(4, 2\)\]"):
        rnn(np.zeros((4, 6, 5)), initial_state=[np.zeros((4, 3))])
    with pytest.raises(ValueError, match=r"initial_state state_2 has shape \(4, 3\), expected \(4, 2\)"):
        rnn(np.zeros((4, 6, 5)), initial_state=[np.zeros((4, 3))] * 3)
    other = RNN([Sum(4), cell])
    with pytest.raises(ValueError, match=r"LSTMCell '.*\(4, 4\), expected 5 features"):
        other(np.zeros((4, 6, 4)))
    assert not other.built
    assert not other.cell.built
    with pytest.raises(ValueError, match=r"LSTMCell '.*expected \(batch, features\)"):
        cell(np.zeros((4, 6, 5)), cell.get_initial_state(4))
    with pytest.raises(ValueError, match=r"initial_state is a list of 1, expected \[h, c\]"):
        cell(np.zeros((4, 5)), [np.zeros((4, 3))])
    with pytest.raises(ValueError, match="states is a list of 1, expected one item for each of 2 cells"):
        rnn.cell(np.zeros((4, 5)), [[np.zeros((4, 3))] * 2])


@pytest.mark.parametrize(("cell", "layer"), [(LSTMCell, LSTM), (GRUCell, GRU), (SimpleRNNCell, SimpleRNN)])
def test_cells_and_layers_say_what_they_are(cell: Any, layer: Any) -> None:
    made, whole = cell(3, activation="relu", dropout=0.25), layer(3, activation="relu")
    assert (made.activation, made.dropout, made.use_bias) == (whole.activation, 0.25, True)
    assert made.state_size == whole.state_size == ([3, 3] if layer is LSTM else 3)
    for state in (*made.get_initial_state(2), *whole.get_initial_state(2)):
        np.testing.assert_array_equal(state, np.zeros((2, 3)))
    for name in ("go_backwards", "tempo", "_layer"):
        assert not hasattr(made, name)
