"""Bidirectional and TimeDistributed: both are what their layers are, put together."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from layer_support import GRADIENT, Array, close, draw, f64
from lstm_native import _core
from lstm_native.layers import (
    GRU,
    LSTM,
    Activation,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    Input,
    Layer,
    LayerNormalization,
    SimpleRNN,
    TimeDistributed,
)
from lstm_native.layers.cloning import clone_layer
from lstm_native.layers.context import Context
from lstm_native.models import Model, Sequential
from lstm_native.optimizers import Adam
from reference_recurrent import recurrent_backward, recurrent_forward

MODES = ("concat", "sum", "ave", "mul")
MASK = np.array([[True, True, False, True, True], [False, True, True, False, False], [True] * 5])


def built(layer: Any, shape: tuple[int, ...] = (3, 5, 4)) -> Any:
    layer.build(shape)
    for i, variable in enumerate(layer.variables):
        variable.assign(0.5 * draw(variable.shape, 50 + i))
    return layer


def _tensor(x: Array) -> _core.Tensor:
    return _core.as_tensor(x, "float32")


def merged(mode: str | None, y: Array, y_rev: Array) -> Any:
    y_rev = y_rev[:, ::-1] if y_rev.ndim == 3 else y_rev
    if mode is None:
        return y, y_rev
    if mode == "concat":
        return np.concatenate([y, y_rev], -1)
    if mode == "mul":
        return y * y_rev
    return (y + y_rev) * np.float32(0.5 if mode == "ave" else 1)


# --- Bidirectional --------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("mode", [*MODES, None])
def test_outputs_are_those_of_the_two_layers(mode: str | None, return_sequences: bool, masked: bool) -> None:
    layer = built(Bidirectional(LSTM(6, return_sequences=return_sequences), merge_mode=mode))
    x = draw((3, 5, 4))
    mask = MASK if masked else None
    y, y_rev = (part(x, mask=mask) for part in (layer.forward_layer, layer.backward_layer))
    expected, got = merged(mode, y, y_rev), layer(x, mask=mask)
    shape = layer.compute_output_shape((3, 5, 4))
    if mode is None:
        assert [a.shape for a in got] == list(shape)
        assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))
    else:
        assert got.shape == shape
        assert np.array_equal(got, expected)
    if masked and return_sequences and mode is not None:
        assert not got[~MASK].any()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("cell", "kind"), [("lstm", LSTM), ("gru", GRU), ("simple_rnn", SimpleRNN)])
def test_gradients(cell: str, kind: Any, mode: str, return_sequences: bool, masked: bool) -> None:
    """Against the float64 recurrences, with initial states and gradients of the last ones."""
    inner = kind(3, return_sequences=return_sequences, return_state=True)
    layer = built(Bidirectional(inner, mode))
    x, mask = draw((3, 5, 4)), MASK if masked else None
    count = 2 if cell == "lstm" else 1  # states of a direction
    states = [draw((3, 3), 20 + i) for i in range(2 * count)]
    d_states = [draw((3, 3), 30 + i) for i in range(2 * count)]
    d = draw(
        (3, 5, 6 if mode == "concat" else 3) if return_sequences else (3, 6 if mode == "concat" else 3), 1
    )
    ctx = Context(record=True)
    flags = None if mask is None else _core.as_tensor(mask, "bool")
    outputs, *last = layer.forward(_tensor(x), ctx, flags, tuple(map(_tensor, states)))
    d_inputs, *d_initial = layer.backward(tuple(map(_tensor, (d, *d_states))), ctx)

    traces = []
    for i, part in enumerate(layer.held_layers()):
        traces.append(
            recurrent_forward(
                x,
                *(v.numpy() for v in part.variables),
                cell=cell,
                mask=mask,
                return_sequences=return_sequences,
                go_backwards=bool(i),
                zero_output_for_mask=return_sequences,
                **dict(zip(("h0", "c0"), states[count * i : count * (i + 1)], strict=False)),
            )
        )
    y, y_rev = merged(None, *(trace.output for trace in traces))
    close(outputs, merged(mode, *(trace.output for trace in traces)), 2e-6)
    wide = f64(d)
    parts = {"concat": lambda: (wide[..., :3], wide[..., 3:]), "mul": lambda: (wide * y_rev, wide * y)}
    d_y, d_rev = parts.get(mode, lambda: 2 * [wide / 2 if mode == "ave" else wide])()
    expected = np.zeros(x.shape)
    for i, (part, trace) in enumerate(zip(layer.held_layers(), traces, strict=True)):
        d_part = d_rev[:, ::-1] if i and return_sequences else (d_y, d_rev)[i]
        back = recurrent_backward(trace, d_part, *map(f64, d_states[count * i : count * (i + 1)]))
        expected += back.inputs
        for variable, wanted in zip(part.variables, (back.kernel, back.recurrent, back.bias), strict=True):
            assert wanted is not None
            close(ctx.gradients[variable], wanted, GRADIENT)
        for j, (state, d_state) in enumerate(((trace.h, back.h0), (trace.c, back.c0))[:count]):
            close(last[count * i + j], state, 2e-6)
            close(d_initial[count * i + j], d_state, GRADIENT)
    close(d_inputs, expected, GRADIENT)


def test_gradients_of_outputs_that_nobody_used() -> None:
    """Without merge_mode each output may have a gradient or not."""
    x = _core.as_tensor(draw((2, 5, 4)), "float32")
    d = draw((2, 5, 3), 1)
    for used in (0, 1):
        layer = built(Bidirectional(LSTM(3, return_sequences=True), merge_mode=None))
        ctx, alone = Context(record=True), Context(record=True)
        layer.forward(x, ctx)
        given: list[Any] = [None, None]
        given[used] = _core.as_tensor(d, "float32")
        d_inputs = layer.backward(tuple(given), ctx)
        part = layer.held_layers()[used]
        part.forward(x, alone)
        turned = np.ascontiguousarray(d[:, ::-1]) if used else d
        assert np.array_equal(
            d_inputs.numpy(), part.backward(_core.as_tensor(turned, "float32"), alone).numpy()
        )


def test_layers_are_made_from_the_arguments() -> None:
    given = LSTM(4, activation="relu", kernel_initializer="he_normal", name="reader")
    given.build((None, None, 2))
    layer = Bidirectional(given, name="both")
    forward, backward = layer.forward_layer, layer.backward_layer
    assert (forward.name, backward.name) == ("forward_reader", "backward_reader")
    assert (forward.go_backwards, backward.go_backwards) == (False, True)
    assert forward.activation is backward.activation is given.activation
    assert not forward.built
    layer.build((None, None, 2))
    weights = layer.get_weights()
    assert [w.shape for w in weights] == 2 * [(2, 16), (4, 16), (16,)]
    assert not np.array_equal(weights[0], weights[3])  # not the same seed twice
    assert not np.array_equal(weights[0], given.get_weights()[0])
    assert [v.path.split("/")[0] for v in layer.weights] == 3 * ["forward_reader"] + 3 * ["backward_reader"]


def test_seeded_initializers_stay_seeded() -> None:
    from lstm_native.initializers import GlorotUniform

    layer = Bidirectional(LSTM(3, kernel_initializer=GlorotUniform(seed=4)))
    layer.build((None, None, 2))
    assert np.array_equal(layer.get_weights()[0], layer.get_weights()[3])


def test_own_backward_layer_and_weights() -> None:
    own = LSTM(5, go_backwards=True, return_sequences=True)
    layer = Bidirectional(LSTM(3, return_sequences=True), backward_layer=own)
    assert layer.backward_layer is own
    assert layer(draw((2, 4, 2))).shape == (2, 4, 8)
    twin = Bidirectional(
        LSTM(3, return_sequences=True),
        weights=layer.get_weights(),
        backward_layer=LSTM(5, go_backwards=True, return_sequences=True),
    )
    assert np.array_equal(twin(draw((2, 4, 2))), layer(draw((2, 4, 2))))


@pytest.mark.parametrize("cells", [(LSTM, GRU), (GRU, LSTM)])
def test_directions_with_different_numbers_of_states(cells: tuple[type, type]) -> None:
    kinds = {"return_sequences": True, "return_state": True}
    layer = Bidirectional(cells[0](3, **kinds), backward_layer=cells[1](3, go_backwards=True, **kinds))
    x, start = Input((4, 2)), [Input((3,)) for _ in range(3)]
    model = Model([x, *start], layer(x, initial_state=start))
    data, states = draw((2, 4, 2)), [draw((2, 3), seed) for seed in range(3)]
    outputs = model([data, *states])
    for a, b in zip(outputs, layer(data, initial_state=states), strict=True):
        assert np.array_equal(a, b)
    count = len(layer.forward_layer.named_state_sizes())
    forward = layer.forward_layer(data, initial_state=states[:count])
    backward = layer.backward_layer(data, initial_state=states[count:])
    expected = [np.concatenate([forward[0], backward[0][:, ::-1]], -1), *forward[1:], *backward[1:]]
    for a, b in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    # A loss on the last states of the LSTM changes nothing in the GRU, and no state goes to the wrong one.
    gru = next(part for part in layer.held_layers() if isinstance(part, GRU))
    before = [w.copy() for w in gru.get_weights()]
    own = slice(1, 1 + count) if cells[0] is LSTM else slice(1 + count, None)
    training = Model([x, *start], model.outputs[own])
    training.compile("sgd", "mse")
    training.fit([data, *states], [np.ones((2, 3))] * 2, epochs=2, verbose=0)
    for a, b in zip(gru.get_weights(), before, strict=True):
        assert np.array_equal(a, b)
    with pytest.raises(ValueError, match="initial_state is a list of 2, expected a list of 3"):
        layer(data, initial_state=states[:2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bidirectional(5), "layer is a int, expected a recurrent layer"),  # type: ignore[arg-type]
        (lambda: Bidirectional(Dense(3)), "layer is a Dense"),
        (lambda: Bidirectional(LSTM(3), merge_mode="max"), "merge_mode is 'max'"),
        (lambda: Bidirectional(LSTM(3), backward_layer=LSTM(3)), "go_backwards False and False"),
        (lambda: Bidirectional(LSTM(3, go_backwards=True)), "go_backwards True and True"),
        (
            lambda: Bidirectional(LSTM(3), backward_layer=LSTM(3, go_backwards=True, stateful=True)),
            "stateful False and True",
        ),
        (
            lambda: Bidirectional(LSTM(3), "sum", backward_layer=LSTM(4, go_backwards=True))(draw((2, 3, 2))),
            "3 and 4 units",
        ),
        (lambda: Bidirectional(LSTM(3))(draw((2, 3))), r"input has shape \(2, 3\)"),
        (lambda: Bidirectional(LSTM(3))(draw((2, 3, 2)), [np.zeros((2, 3))]), "initial_state"),
        (lambda: Bidirectional(LSTM(3))(draw((2, 3, 2)), 4 * [np.zeros((2, 4))]), r"shape \(2, 4\)"),
    ],
)
def test_bidirectional_refuses(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_layer_that_cannot_be_made_again() -> None:
    class Fixed(LSTM):
        def __init__(self) -> None:
            super().__init__(3)

    with pytest.raises(ValueError, match=r"cannot make another Fixed .*go_backwards"):
        Bidirectional(Fixed())


def test_stateful() -> None:
    layer = built(Bidirectional(LSTM(3, stateful=True)))
    assert layer.states is None
    x = draw((3, 5, 4))
    first = layer(x)
    assert [s.shape for s in layer.states] == 4 * [(3, 3)]
    assert not np.array_equal(layer(x), first)
    layer.reset_state()
    assert np.array_equal(layer(x), first)
    model = Sequential([layer])
    model.reset_state()
    assert np.array_equal(model.predict(x, batch_size=3, verbose=0), first)
    with pytest.raises(ValueError, match="stateful layers need 3"):
        model.predict(x[:2], verbose=0)


def test_reset_is_a_boundary_for_both_directions() -> None:
    layer = built(Bidirectional(LSTM(6, return_sequences=True)))
    x = draw((3, 5, 4))
    reset = np.zeros((3, 5), bool)
    reset[:, 2] = True
    expected = np.concatenate([layer(x[:, :2]), layer(x[:, 2:])], axis=1)
    np.testing.assert_allclose(layer(x, reset=reset), expected, rtol=0, atol=1e-6)


def test_masks_go_on_as_in_keras() -> None:
    for sequences in (False, True):
        mask = MASK if sequences else None
        layer = Bidirectional(LSTM(3, return_sequences=sequences))
        assert layer.compute_mask(None, MASK) is mask
        assert Bidirectional(layer.forward_layer, None).compute_mask(None, MASK) == (mask, mask)
    model = Sequential(
        [Embedding(9, 4, mask_zero=True), Bidirectional(LSTM(3, return_sequences=True)), LSTM(2)]
    )
    ids = np.array([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]])
    full = model(ids)
    np.testing.assert_allclose(model(ids[:1, :3]), full[:1], rtol=0, atol=1e-6)


def test_an_embedding_projects_each_distinct_id_once() -> None:
    """Indexed rows go to both directions; outputs and gradients are those of plain inputs."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 5, (8, 20))
    model = Sequential([Embedding(5, 6), Bidirectional(LSTM(4)), Dense(1)])
    model.build((None, None))
    embedding, layer = model.layers[:2]
    assert layer.takes_indexed_rows
    ctx, plain = Context(record=True), Context(record=True)
    given = embedding.as_input(ids)
    rows = embedding.forward_rows(given, ctx)
    got = layer.forward(rows, ctx)
    assert np.array_equal(model.layers[2](got.numpy()), model(ids))
    expected = layer.forward(embedding.forward(given, plain), plain)
    assert np.array_equal(got.numpy(), expected.numpy())
    d = _core.as_tensor(draw(got.shape), "float32")
    embedding.backward(layer.backward(d, ctx), ctx)
    embedding.backward(layer.backward(d, plain), plain)
    for variable, gradient in plain.gradients.items():
        close(ctx.gradients[variable], f64(gradient.numpy()), 2e-6)


def test_bidirectional_trains_saves_and_copies(tmp_path: Any) -> None:
    x = draw((24, 6, 3))
    y = x.sum((1, 2), keepdims=False)[:, None]
    model = Sequential(
        [Bidirectional(LSTM(6, return_sequences=True)), Bidirectional(LSTM(4), "sum"), Dense(1)]
    )
    model.compile(Adam(0.02), "mse")
    before = model.train_on_batch(x, y)
    for _ in range(80):
        after = model.train_on_batch(x, y)
    assert after < 0.5 * before
    expected = model.predict(x, verbose=0)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(twin.predict(x, verbose=0), expected)
    path = tmp_path / "weights.safetensors"
    model.save_weights(path)
    other = Sequential([clone_layer(layer) for layer in model.layers])
    other.build((None, None, 3))
    other.load_weights(path)
    assert np.array_equal(other.predict(x, verbose=0), expected)


def test_a_failed_build_leaves_no_trace() -> None:
    layer = Bidirectional(LSTM(3))
    model = Sequential([layer, LSTM(2)])  # the second wants three axes
    with pytest.raises(ValueError, match=r"expected \(batch, time, features\)"):
        model.build((None, None, 4))
    assert not layer.built
    assert not layer.forward_layer.built
    assert layer(draw((2, 3, 7))).shape == (2, 6)


def test_trainable_reaches_the_layers_inside() -> None:
    for layer in (Bidirectional(LSTM(3), trainable=False), TimeDistributed(Dense(3), trainable=False)):
        layer.build((None, None, 2))
        assert not layer.trainable_weights
        layer.trainable = True
        assert len(layer.trainable_weights) == len(layer.weights)


def test_bidirectional_cannot_stream() -> None:
    model = Sequential([Bidirectional(LSTM(3, return_sequences=True), name="both")])
    model.build((None, None, 2))
    with pytest.raises(ValueError, match=r"Bidirectional 'both': .*cannot run step by step"):
        model.stream()


# --- TimeDistributed ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer",
    [Dense(3, "softmax"), LayerNormalization(), Activation("tanh"), TimeDistributed(Dense(2)), LSTM(3)],
)
def test_every_step_by_itself(layer: Layer) -> None:
    deep = isinstance(layer, TimeDistributed | LSTM)
    shape = (2, 3, 5, 4) if deep else (2, 3, 4)
    wrapper = built(TimeDistributed(layer), shape)
    x = draw(shape)
    expected = np.stack([wrapper.layer(x[:, t]) for t in range(3)], axis=1)
    assert np.array_equal(wrapper(x), expected)
    assert wrapper.compute_output_shape(shape) == expected.shape

    ctx, each = Context(record=True), Context(record=True)
    wrapper.forward(_core.as_tensor(x, "float32"), ctx)
    d = draw(expected.shape, 3)
    d_inputs = wrapper.backward(_core.as_tensor(d, "float32"), ctx).numpy()
    for t in range(3):
        step = _core.as_tensor(np.ascontiguousarray(x[:, t]), "float32")
        wrapper.layer.forward(step, each)
        got = wrapper.layer.backward(_core.as_tensor(np.ascontiguousarray(d[:, t]), "float32"), each)
        assert np.array_equal(d_inputs[:, t], got.numpy())
    for variable, gradient in each.gradients.items():
        close(ctx.gradients[variable], f64(gradient.numpy()), 1e-5)


def test_masks_of_steps_and_within_steps() -> None:
    wrapper = built(TimeDistributed(LSTM(3)), (2, 3, 5, 4))
    x = draw((2, 3, 5, 4))
    assert np.array_equal(wrapper(x, mask=np.zeros((2, 3), bool)), wrapper(x))
    within = np.ones((2, 3, 5), bool)
    within[1, 2, 3:] = False
    got = wrapper(x, mask=within)
    np.testing.assert_allclose(got[1, 2], wrapper.layer(x[1:, 2, :3])[0], rtol=0, atol=1e-6)
    assert np.array_equal(got[0], wrapper(x)[0])
    assert wrapper.compute_mask(x, MASK) is MASK
    with pytest.raises(ValueError, match=r"has a shape \(2, 4\)"):
        wrapper(x, mask=np.ones((2, 4)))


def test_the_last_activation_is_fused_with_the_loss() -> None:
    """Weights after training are those of the bare Dense, whose softmax the loss takes over."""
    x, y = draw((6, 4, 3)), np.random.default_rng(0).integers(0, 5, (6, 4))
    models = []
    for wrapped in (False, True):
        dense = Dense(5, activation="softmax")
        model = Sequential([TimeDistributed(dense) if wrapped else dense])
        model.build((None, 4, 3))
        model.set_weights([60 * draw((3, 5)), draw((5,))])  # saturated
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        results = model.train_on_batch(x, y)
        models.append((results, model.get_weights()))
    assert models[0][0] == models[1][0]
    assert all(np.array_equal(a, b) for a, b in zip(models[0][1], models[1][1], strict=True))


def test_time_distributed_in_models_and_streams() -> None:
    model = Sequential(
        [
            Embedding(9, 4, mask_zero=True),
            LSTM(5, return_sequences=True),
            Dropout(0.1),
            TimeDistributed(Dense(3, activation="softmax")),
        ]
    )
    ids = np.random.default_rng(0).integers(0, 9, (4, 6))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(ids, ids % 3, verbose=0)
    expected = model.predict(ids, verbose=0)
    stream = model.stream(4)
    for t in range(6):
        assert np.array_equal(stream.step(ids[:, t]), expected[:, t])


def test_a_subclass_inside_does_not_stream_as_its_base() -> None:
    class Doubled(Dense):
        def forward(self, inputs: Any, ctx: Context, mask: Any = None) -> Any:
            return super().forward(_core.multiply(inputs, inputs), ctx, mask)

    model = Sequential([TimeDistributed(Doubled(2))])
    model.build((None, None, 3))
    with pytest.raises(ValueError, match="defines forward but no add_to_stream"):
        model.stream()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TimeDistributed(3), "layer is a int, expected a layer"),  # type: ignore[arg-type]
        (lambda: TimeDistributed(LSTM(3, stateful=True)), "is stateful"),
        (lambda: TimeDistributed(Dense(3))(draw((2, 3))), "at least three axes"),
        (lambda: TimeDistributed(Dense(3))(np.zeros((2, 0, 3))), "at least one time step"),
        (lambda: TimeDistributed(LSTM(3))(draw((2, 3, 4))), r"LSTM .*expected \(batch, time, features\)"),
        (
            lambda: Sequential([TimeDistributed(LSTM(3, return_state=True))])(draw((2, 3, 4, 5))),
            "several outputs",
        ),
    ],
)
def test_time_distributed_refuses(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
