"""Functional models: recorded calls, several inputs and outputs, sharing, nesting, masks, gradients."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lstm_native import _core
from lstm_native.layers import (
    LSTM,
    RNN,
    Add,
    Attention,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    GRUCell,
    Input,
    InputLayer,
    LSTMCell,
    Masking,
    StackedRNNCells,
)
from lstm_native.layers.base import Context
from lstm_native.models import Functional, Model, Sequential
from lstm_native.models.graph import Graph
from lstm_native.models.plan import Chain
from lstm_native.trees import flat

RNG = np.random.default_rng(5)


def normal(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def encoder_decoder() -> tuple[Model, list[Any]]:
    source, target = Input((None, 3), name="source"), Input((None, 2), name="target")
    _, h, c = LSTM(4, return_state=True)(source)
    steps = LSTM(4, return_sequences=True)(target, initial_state=[h, c])
    return Model([source, target], Dense(3)(steps)), [normal(5, 6, 3), normal(5, 4, 2)]


def shared_and_nested() -> tuple[Model, list[Any]]:
    a, b = Input((3,), name="a"), Input((3,), name="b")
    inner_input = Input((3,))
    inner = Model(inner_input, Dense(2)(Dense(3, activation="tanh")(inner_input)))
    chain = Sequential([Dense(3, activation="sigmoid"), Dropout(0.0), Dense(3)])
    shared = Dense(3, activation="tanh")
    x = shared(shared(a))
    return Model([a, b], [inner(chain(x)), inner(shared(b)), x]), [normal(6, 3), normal(6, 3)]


def one_value_read_often() -> tuple[Model, list[Any]]:
    x = Input((5, 2))
    h = LSTM(3, return_sequences=True)(x)
    return Model(x, [Dense(2)(h), LSTM(2)(h), h]), [normal(4, 5, 2)]


def masked_ids() -> tuple[Model, list[Any]]:
    ids = Input((5,))
    h = LSTM(3, return_sequences=True)(Embedding(7, 3, mask_zero=True)(ids))
    return Model(ids, [LSTM(2)(h), Dense(2, activation="softmax")(h)]), [RNG.integers(0, 7, (4, 5))]


def stacked_encoder_decoder() -> tuple[Model, list[Any]]:
    """Stacks of cells; the encoder starts from states that are inputs, the decoder where the encoder ends."""
    source, target, start = Input((5, 3)), Input((4, 2)), [Input((4,)), Input((4,))]
    cells = [[GRUCell(3), LSTMCell(4)], [LSTMCell(4), GRUCell(3)]]
    first = Input((3,))
    encoder = RNN(cells[0], return_state=True)
    _, state, states = encoder(source, initial_state=[first, start])
    steps = RNN(cells[1], return_sequences=True)(target, initial_state=[states, state])
    return Model([source, target, first, *start], [Dense(2)(steps), state]), [
        normal(6, 5, 3), normal(6, 4, 2), normal(6, 3), normal(6, 4), normal(6, 4)
    ]  # fmt: skip


MODELS = [encoder_decoder, stacked_encoder_decoder, shared_and_nested, one_value_read_often, masked_ids]


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_gradients_of_all_variables_and_inputs(make: Callable[[], tuple[Model, list[Any]]]) -> None:
    """Along each gradient the loss must rise by its squared norm: a central difference in float32."""
    model, data = make()
    x: Any = model.as_input(data if len(data) > 1 else data[0])
    ctx = Context(True, True)
    outputs = model.forward(x, ctx)
    several = isinstance(outputs, tuple)
    weights = [normal(*y.shape) for y in (outputs if several else (outputs,))]

    def loss(inputs: Any = x) -> float:
        found = model.forward(inputs, Context(True))
        parts = found if isinstance(found, tuple) else (found,)
        return sum(float((y.numpy() * w).sum(dtype=np.float64)) for y, w in zip(parts, weights, strict=True))

    tensors = tuple(_core.as_tensor(w, "float32") for w in weights)
    d_inputs = model.backward(tensors if several else tensors[0], ctx)
    assert set(ctx.gradients) == set(model.trainable_variables)
    for variable, gradient in ctx.gradients.items():
        start, g = variable.numpy(), gradient.numpy()
        norm = float((g.astype(np.float64) ** 2).sum())
        # The step moves the weights by 0.01 in all: truncation is of its square, rounding 1e-7 / 0.01.
        step = 0.01 / max(np.sqrt(norm), 1e-6)
        values = []
        for sign in (1, -1):
            variable.assign(start + np.float32(sign * step) * g)
            values.append(loss())
        variable.assign(start)
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(norm, rel=5e-3, abs=1e-3)
    if make is masked_ids:
        return
    for i, d_input in enumerate(d_inputs if isinstance(d_inputs, tuple) else (d_inputs,)):
        g = d_input.numpy()
        norm = float((g.astype(np.float64) ** 2).sum())
        step = 0.01 / np.sqrt(norm)
        values = []
        for sign in (1, -1):
            moved = [np.array(part) for part in data]
            moved[i] = moved[i] + np.float32(sign * step) * g
            values.append(loss(model.as_input(moved if len(moved) > 1 else moved[0])))
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(norm, rel=5e-3, abs=1e-3)


def test_encoder_decoder_computes_as_its_layers() -> None:
    model, (source, target) = encoder_decoder()
    encoder, decoder, dense = (layer for layer in model.layers if not isinstance(layer, InputLayer))
    _, h, c = encoder(source)
    expected = dense(decoder(target, initial_state=[h, c]))
    np.testing.assert_array_equal(model([source, target]), expected)
    np.testing.assert_array_equal(model({"target": target, "source": source}), expected)
    np.testing.assert_array_equal(model.predict([source, target], batch_size=2, verbose=0), expected)
    assert model.input_shape == [(None, None, 3), (None, None, 2)]
    assert model.output_shape == (None, None, 3)
    assert model.input_names == ["source", "target"]


def test_parts_of_a_model_are_models() -> None:
    """The encoder and the decoder of a trained model, taken apart for inference as in the Keras tutorial."""
    model, (source, target) = encoder_decoder()
    encoder_layer, decoder_layer, dense = model.layers[2:]
    encoder = Model(model.input[0], list(encoder_layer.output[1:]))
    states = [Input((4,)), Input((4,))]
    decoder = Model([model.inputs[1], *states], dense(decoder_layer(model.inputs[1], initial_state=states)))
    h, c = encoder.predict(source, verbose=0)
    np.testing.assert_array_equal(decoder([target, h, c]), model([source, target]))
    head = Model(decoder_layer.output, model.output)
    assert head.input_shape == (None, None, 4)
    assert head.layers[-1] is dense


def test_a_plain_functional_model_is_a_chain_and_trains_like_sequential() -> None:
    layers = [Embedding(9, 4), LSTM(5), Dense(1, activation="sigmoid")]
    start = Input((6,))
    x: Any = start
    for layer in layers:
        x = layer(x)
    model = Model(start, x)
    twin = copy.deepcopy(Sequential([Input((6,)), *layers]))
    ids, labels = RNG.integers(0, 9, (12, 6)), RNG.integers(0, 2, 12)
    for one in (model, twin):
        one.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    assert isinstance(model._plan(), Chain)
    histories = [one.fit(ids, labels, epochs=2, shuffle=False, verbose=0).history for one in (model, twin)]
    assert histories[0] == histories[1]
    for a, b in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert isinstance(Model(start, [x, x])._plan(), Graph)


def test_losses_weights_and_metrics_of_several_outputs() -> None:
    x = Input((3,))
    a = Dense(2, name="a")(x)
    b = Dense(1, activation="sigmoid", name="b")(a)
    model = Model(x, [a, b])
    data, y_a, y_b = normal(8, 3), normal(8, 2), RNG.integers(0, 2, (8, 1)).astype(np.float32)
    weight = RNG.random(8).astype(np.float32)
    model.compile(
        "sgd",
        {"a": "mse", "b": "binary_crossentropy"},
        loss_weights={"a": 0.5, "b": 3.0},
        metrics={"b": ["accuracy"]},
        weighted_metrics={"a": "mae"},
    )
    p_a, p_b = model.predict(data, verbose=0)
    loss_a = (((p_a - y_a) ** 2).mean(axis=1) * weight).mean()
    loss_b = -(y_b * np.log(p_b) + (1 - y_b) * np.log(1 - p_b)).mean()
    logs = model.evaluate(
        data, {"a": y_a, "b": y_b}, sample_weight={"a": weight}, verbose=0, return_dict=True, batch_size=3
    )
    mae = (np.abs(p_a - y_a).mean(axis=1) * weight).sum() / weight.sum()
    accuracy = ((p_b > 0.5) == y_b).mean()
    expected = {
        "a_loss": loss_a, "a_mae": mae, "b_accuracy": accuracy, "b_loss": loss_b,
        "loss": loss_a / 2 + 3 * loss_b,
    }  # fmt: skip
    assert list(logs) == list(expected)
    assert logs == pytest.approx(expected, rel=1e-5)
    values = model.test_on_batch(data, [y_a, y_b])
    assert len(values) == 5
    assert len(model.metrics_names) == 5
    history = model.fit(data, [y_a, y_b], epochs=3, verbose=0, validation_split=0.25).history
    assert set(history) == {*expected, *(f"val_{name}" for name in expected)}
    assert history["loss"][-1] < history["loss"][0]
    # An output without a loss needs no labels, and gives no gradient.
    model.compile("sgd", {"b": "binary_crossentropy"})
    assert model.fit(data, {"b": y_b}, verbose=0).history.keys() == {"loss"}


def test_dicts_of_outputs_and_generators_of_dicts() -> None:
    x, z = Input((2,), name="x"), Input((2,), name="z")
    model = Model({"x": x, "z": z}, {"sum": Dense(1)(x), "other": Dense(2)(z)})
    model.compile("sgd", "mse")
    data = {"x": normal(4, 2), "z": normal(4, 2)}
    labels = {"sum": normal(4, 1), "other": normal(4, 2)}
    assert list(model(data)) == ["sum", "other"]  # in the order of the model's definition, as in Keras
    history = model.fit(((data, labels) for _ in range(6)), epochs=2, steps_per_epoch=3, verbose=0).history
    assert history.keys() == {"loss", "other_loss", "sum_loss"}
    found = model.predict(data, verbose=0, batch_size=3)
    assert list(found) == ["sum", "other"]
    np.testing.assert_array_equal(found["other"], model.predict_on_batch(data)["other"])


def test_masks_travel_along_the_edges() -> None:
    x = Input((None, 2))
    hidden = LSTM(3, return_sequences=True)(Masking()(x))
    model = Model(x, [Dense(1)(hidden), LSTM(2)(hidden)])
    data = normal(3, 5, 2)
    data[0, 3:] = 0
    short = data[:1, :3]
    np.testing.assert_array_equal(model(data)[1][0], model(short)[1][0])
    model.compile("sgd", ["mse", None])
    y = normal(3, 5, 1)
    steps = model(data)[0]
    valid = (data != 0).any(axis=-1)
    expected = ((steps - y) ** 2)[valid].mean()
    assert model.test_on_batch(data, [y, normal(3, 2)]) == pytest.approx(expected, rel=1e-5)
    # A mask that is an input.
    flags = Input((None,), dtype="bool")
    plain = Model([x, flags], hidden.node.layer(x, mask=flags))
    np.testing.assert_array_equal(plain([data, valid])[1:], hidden.node.layer(data, mask=valid)[1:])


def test_no_mask_enters_a_call_with_states_by_itself() -> None:
    """As in Keras 3.15.1, where only a call with a single tensor is given the mask of that tensor."""
    ids, h, c = Input((4,)), Input((3,)), Input((3,))
    embedding, layer = Embedding(5, 2, mask_zero=True), LSTM(3)
    model = Model([ids, h, c], layer(embedding(ids), initial_state=[h, c]))
    x, states = np.array([[1, 2, 0, 0]]), [normal(1, 3), normal(1, 3)]
    np.testing.assert_array_equal(model([x, *states]), layer(embedding(x), initial_state=states))


def shape_tree(values: Any) -> Any:
    return [shape_tree(v) for v in values] if isinstance(values, list | tuple) else values.shape


@pytest.mark.parametrize(
    ("cells", "states"),
    [
        ([LSTMCell(4), LSTMCell(3)], [[(None, 4)] * 2, [(None, 3)] * 2]),
        ([GRUCell(4), LSTMCell(3)], [(None, 4), [(None, 3)] * 2]),
        (StackedRNNCells([GRUCell(4), GRUCell(3)]), [(None, 4), (None, 3)]),
        (GRUCell(3), [(None, 3)]),
    ],
)
def test_states_of_stacks_come_as_in_keras(cells: Any, states: list[Any]) -> None:
    x = Input((5, 2))
    layer = RNN(cells, return_state=True)
    outputs = layer(x)
    assert shape_tree(outputs) == [(None, 3), *states]
    data = normal(3, 5, 2)
    leaves = flat(layer(data))
    for form in (outputs, [outputs[0], list(outputs[1:])], {"y": outputs[0], "s": outputs[1:]}):
        model = Model(x, form)
        assert model.output_shape == [(None, *leaf.shape[1:]) for leaf in flat(form)]
        found = model.predict(data, verbose=0)
        assert type(found) is type(form)
        order = leaves if not isinstance(form, dict) else [*leaves[1:], leaves[0]]  # in the order of the keys
        for a, b in zip(flat(found), order, strict=True):
            np.testing.assert_array_equal(a, b)
    # The states go back in, as they came.
    again = Model(x, layer(x, initial_state=outputs[1:]))
    for a, b in zip(flat(again(data)), flat(layer(data, initial_state=leaves[1:])), strict=True):
        np.testing.assert_array_equal(a, b)


def test_states_of_a_stack_in_both_directions() -> None:
    x = Input((5, 2))
    layer = Bidirectional(RNN([LSTMCell(4), LSTMCell(3)], return_state=True))
    half = [[(None, 4)] * 2, [(None, 3)] * 2]
    outputs = layer(x)
    assert shape_tree(outputs) == [(None, 6), *half, *half]
    data = normal(3, 5, 2)
    alone = layer(data)
    assert [len(states) for states in alone[1:]] == [2] * 4
    again = layer(data, initial_state=list(alone[1:]))
    model = Model(x, layer(x, initial_state=list(outputs[1:])))
    for a, b in zip(flat(model(data)), flat(again), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("return_sequences", [False, True])
def test_both_directions_by_themselves_with_states(return_sequences: bool) -> None:
    """Without a merge there are two outputs with a mask, and the states, which have none."""
    x = Input((5, 2))
    layer = Bidirectional(LSTM(3, return_sequences=return_sequences, return_state=True), merge_mode=None)
    data = normal(3, 5, 2)
    data[1, 3:] = 0
    model = Model(x, layer(Masking()(x)))
    expected = layer(data, mask=(data != 0).any(axis=-1))
    for a, b in zip(model.predict(data, verbose=0), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_nested_inputs() -> None:
    x, states = Input((5, 2), name="x"), [[Input((4,)), Input((4,))], Input((3,))]
    layer = RNN([LSTMCell(4), GRUCell(3)])
    y = layer(x, initial_state=states)
    data, start = normal(2, 5, 2), [[normal(2, 4), normal(2, 4)], normal(2, 3)]
    expected = layer(data, initial_state=start)
    model = Model([x, states], y)
    np.testing.assert_array_equal(model([data, start]), expected)
    np.testing.assert_array_equal(model([data, *flat(start)]), expected)
    np.testing.assert_array_equal(model.predict([data, start], verbose=0), expected)
    by_name = Model({"x": x, "states": states}, y)
    np.testing.assert_array_equal(by_name({"x": data, "states": start}), expected)
    nested = Model([x, states], model([x, states]))
    np.testing.assert_array_equal(nested([data, start]), expected)
    with pytest.raises(ValueError, match=r"input is 2 items, expected data in the form \['x', \[\["):
        model([data, [start]])


def test_masks_given_to_nested_models() -> None:
    """As what Masking would have given, in the outputs and in the loss."""
    start, flags = Input((5, 2)), Input((5,), dtype="bool")
    inner_start = Input((5, 2))
    valid = np.arange(5) < np.array([5, 3, 1, 4])[:, None]
    data, y = normal(4, 5, 2), normal(4, 5, 1)
    steps, last = LSTM(3, return_sequences=True), LSTM(3)
    for inner in (Model(inner_start, Dense(1)(steps(inner_start))), Sequential([steps, last, Dense(1)])):
        model = Model([start, flags], inner(start, mask=flags))
        expected = inner(data, mask=valid)
        np.testing.assert_array_equal(model([data, valid]), expected)
        np.testing.assert_array_equal(model.predict([data, valid], verbose=0), expected)
        assert not np.array_equal(expected, inner(data))
        assert inner not in model._plan().layers
        model.compile("sgd", "mse")
        if expected.ndim == 3:
            loss = ((expected - y) ** 2)[valid].mean()
            assert model.test_on_batch([data, valid], y) == pytest.approx(loss, rel=1e-5)
        model.fit([data, valid], y if expected.ndim == 3 else y[:, 0], verbose=0)
        assert inner.compute_mask(data, valid) is valid


def test_masks_of_several_inputs() -> None:
    a, b, flags = Input((5, 2)), Input((5, 2)), Input((5,), dtype="bool")
    two = Model([a, b], [LSTM(3)(a), LSTM(3)(b)])
    model = Model([a, b, flags], two([a, b], mask=[None, flags]))
    x, z, valid = normal(4, 5, 2), normal(4, 5, 2), np.arange(5) < np.array([5, 3, 1, 4])[:, None]
    for found, expected in zip(model([x, z, valid]), two([x, z], mask=[None, valid]), strict=True):
        np.testing.assert_array_equal(found, expected)
    attention = Attention()
    attended = Model([a, b, flags], attention([a, b], mask=[None, flags]))
    np.testing.assert_array_equal(attended([x, z, valid]), attention([x, z], mask=[None, valid]))
    again = Model.from_config(attended.get_config())
    np.testing.assert_array_equal(again([x, z, valid]), attended([x, z, valid]))
    for call in (lambda: two([a, b], mask=[flags]), lambda: two([x, z], mask=[valid])):
        with pytest.raises(ValueError, match="mask has 1 items, expected one for each of 2 inputs"):
            call()
    with pytest.raises(ValueError, match="mask has values, expected a placeholder"):
        two([a, b], mask=[None, valid])


def test_training_flag_of_a_call_wins() -> None:
    x = Input((50,))
    always, never = Model(x, Dropout(0.5)(x, training=True)), Model(x, Dropout(0.5)(x, training=False))
    data = np.ones((4, 50), np.float32)
    assert (always.predict(data, verbose=0) == 0).any()
    np.testing.assert_array_equal(never(data, training=True), data)


def test_frozen_layers_before_a_branch_stay() -> None:
    x = Input((3,))
    frozen = Dense(3)
    frozen.trainable = False
    h = frozen(x)
    model = Model(x, [Dense(1)(h), Dense(1)(h)])
    model.compile("sgd", "mse")
    before = frozen.get_weights()
    model.fit(normal(8, 3), [normal(8, 1), normal(8, 1)], verbose=0)
    np.testing.assert_array_equal(frozen.get_weights()[0], before[0])
    assert len(model.trainable_variables) == 4


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_copies_and_pickles(make: Callable[[], tuple[Model, list[Any]]], tmp_path: Any) -> None:
    model, data = make()
    x = data if len(data) > 1 else data[0]
    expected = model(x)
    several = isinstance(expected, list)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        found = twin(x)
        for a, b in zip(found if several else [found], expected if several else [expected], strict=True):
            np.testing.assert_array_equal(a, b)
        again = Model(twin.input, twin.output)
        assert len(again.weights) == len(model.weights)
    model.save_weights(tmp_path / "w.safetensors")
    model.load_weights(tmp_path / "w.safetensors")


def test_layers_come_in_the_order_of_keras() -> None:
    source, target = Input((None,), name="src"), Input((None,), name="dst")
    embedding = Embedding(12, 5, name="emb")
    _, h, c = LSTM(4, return_state=True, name="enc")(embedding(source))
    steps = LSTM(4, return_sequences=True, name="dec")(embedding(target), initial_state=[h, c])
    model = Model([source, target], [Dense(6, name="words")(steps), Dense(1, name="aux")(h)])
    assert [layer.name for layer in model.layers] == ["dst", "src", "emb", "enc", "dec", "words", "aux"]
    assert model.output_names == ["words", "aux"]
    lines: list[str] = []
    model.summary(print_fn=lines.append, line_length=110)
    text = "\n".join(lines)
    assert "Connected to" in text
    assert "enc[1]" in text


def test_input_serves_sequential_too() -> None:
    start = Input((4, 2))
    model = Sequential([start, LSTM(3), Dense(1)])
    assert model.built
    functional = Model(start, model(start))
    x = normal(2, 4, 2)
    np.testing.assert_array_equal(functional(x), model(x))
    cut = Model(model.input, model.layers[0].output)
    assert cut.output_shape == (None, 3)
    assert isinstance(model, Model)
    assert isinstance(cut, Functional)


def test_wrong_graphs_are_refused() -> None:
    x, other = Input((3,), name="x"), Input((3,), name="other")
    with pytest.raises(ValueError, match="need the Input 'other', which is not among the inputs"):
        Model(x, Dense(1)(other))
    with pytest.raises(ValueError, match="inputs must be what Input"):
        Model(np.ones(3), Dense(1)(x))
    with pytest.raises(ValueError, match="unique names"):
        Model(x, Dense(1, name="d")(Dense(1, name="d")(x)))
    with pytest.raises(ValueError, match=r"LSTM .*expected \(batch, time, features\)"):
        LSTM(2)(x)
    with pytest.raises(TypeError, match="has no values"):
        np.asarray(x)
    model = Model([x, other], [Dense(1, name="a")(x), Dense(1, name="b")(other)])
    with pytest.raises(ValueError, match="expected a list of 2 or a dict by"):
        model(normal(2, 3))
    with pytest.raises(ValueError, match="input has the keys"):
        model({"x": normal(2, 3), "y": normal(2, 3)})
    with pytest.raises(ValueError, match=r"input has shape \(2, 4\), expected \(None, 3\)"):
        model([normal(2, 3), normal(2, 4)])
    with pytest.raises(ValueError, match=r"loss for the outputs \['c'\]"):
        model.compile("sgd", {"c": "mse"})
    with pytest.raises(ValueError, match="metrics with 1 items, expected a list of 2"):
        model.compile("sgd", "mse", metrics=["mae"])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="y of 'b' has shape"):
        model.fit([normal(2, 3), normal(2, 3)], [normal(2, 1), normal(3, 1)], verbose=0)
    with pytest.raises(ValueError, match="inputs of 2 and 3 rows"):
        model.predict([normal(2, 3), normal(3, 3)], verbose=0)


@pytest.mark.parametrize("sizes", [(3,), (4, 3), (3, 3, 3)])
@pytest.mark.parametrize("both", [False, True])
def test_initial_states_must_fit(sizes: tuple[int, ...], both: bool) -> None:
    layer = Bidirectional(LSTM(3)) if both else LSTM(3)
    states = [Input((size,)) for size in sizes] * (2 if both else 1)
    with pytest.raises(ValueError, match=r"(LSTM|Bidirectional) '.*': initial_state .*expected"):
        layer(Input((None, 2)), initial_state=states)
    assert not layer.built
    assert not layer.nodes


def test_an_optimizer_numbers_its_slots_as_the_model_its_weights() -> None:
    """As Keras does, whose files hold the slots by number."""
    inputs = Input((4,))
    left = Dense(4)(Dense(4)(inputs))
    right = Dense(4)(Dense(4)(Dense(4)(inputs)))  # deeper: the layers run in another order
    model = Model(inputs, [left, right])
    other = Input((4,))
    first, second = model(other)
    joined = Add()([second, Dense(4)(other)])
    nested = Model(other, [Dense(2)(first), joined])
    half = Model(inputs, left)
    for frozen in (False, True):
        model.layers[1].trainable = not frozen
        for one in (model, nested, half):
            assert list(map(id, one.variables_to_train())) == list(map(id, one.trainable_variables))
