"""Models as configurations and JSON, and clones of models: the same shapes, weights and outputs."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_native import Input, Model, Sequential, layers, models
from lstm_native.layers import (
    GRU,
    LSTM,
    Attention,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    Layer,
    Masking,
    TimeDistributed,
)
from lstm_native.models import clone_model, model_from_json
from lstm_native.trees import flat

AGAIN: list[Callable[[Any], Any]] = [
    lambda model: model_from_json(model.to_json()),
    lambda model: type(model).from_config(model.get_config()),
    clone_model,
]


def check(model: Any, inputs: Any) -> None:
    """`model`, made again in every way, is the same with other weights."""
    config = model.get_config()
    assert json.loads(json.dumps(config, allow_nan=False)) == config
    expected = model(inputs)
    for make in AGAIN:
        again = make(model)
        assert again.get_config() == config
        assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
        assert again.input_shape == model.input_shape
        assert again.output_shape == model.output_shape
        assert [w.shape for w in again.weights] == [w.shape for w in model.weights]
        assert not {id(w) for w in again.weights} & {id(w) for w in model.weights}
        again.set_weights(model.get_weights())
        seen = again(inputs)
        assert type(seen) is type(expected)
        for a, b in zip(flat(seen), flat(expected), strict=True):
            np.testing.assert_array_equal(a, b)
    assert model.get_config() == config


def numbers(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape, np.float32)


# --- Sequential -----------------------------------------------------------------------------------


def test_sequential() -> None:
    model = Sequential(
        [Input((5,)), Embedding(9, 4, mask_zero=True), Bidirectional(LSTM(3)), Dense(2)], name="m"
    )
    check(model, np.arange(10).reshape(2, 5) % 9)


def test_sequential_that_data_have_built() -> None:
    model = Sequential([Masking(), Dropout(0.3), GRU(4, return_sequences=True), TimeDistributed(Dense(2))])
    assert "build_input_shape" not in model.get_config()
    assert not model_from_json(model.to_json()).built
    model(numbers(2, 3, 4))
    assert model.get_config()["build_input_shape"] == [None, 3, 4]
    check(model, numbers(2, 3, 4))


def test_models_in_a_sequential() -> None:
    inner = Sequential([Dense(3), LSTM(2, return_sequences=True)], name="inner")
    x = Input((None, 2))
    functional = Model(x, [Dense(3)(x)], name="other")
    check(Sequential([Input((4, 5)), inner, functional, LSTM(2)]), numbers(3, 4, 5))


def test_frozen_layers_stay_frozen() -> None:
    model = Sequential([Input((3,)), Dense(2), Dense(2)])
    model.layers[0].trainable = False
    for make in AGAIN:
        assert [layer.trainable for layer in make(model).layers] == [False, True]
    model.trainable = False
    assert not make(model).trainable_weights


# --- functional models ----------------------------------------------------------------------------


def encoder_decoder() -> Any:
    source, target = Input((None, 3), name="source"), Input((None, 2), name="target")
    steps, h, c = LSTM(4, return_sequences=True, return_state=True, name="encoder")(source)
    outputs = LSTM(4, return_sequences=True, name="decoder")(target, initial_state=[h, c])
    context = Attention()([outputs, steps])
    return Model([source, target], {"words": Dense(5)(context), "last": h}, name="translate")


def test_states_several_inputs_and_outputs() -> None:
    model = encoder_decoder()
    check(model, [numbers(2, 5, 3), numbers(2, 4, 2)])
    call = next(data for data in model.get_config()["layers"] if data["name"] == "decoder")["inbound_nodes"]
    state = call[0]["kwargs"]["initial_state"][0]
    assert state["config"] == {"shape": [None, 4], "dtype": "float32", "keras_history": ["encoder", 0, 1]}


def test_shared_layers_are_one() -> None:
    a, b = Input((None, 3)), Input((None, 3))
    shared = GRU(4)
    model = Model([a, b], [Dense(2)(shared(a)), shared(b)])
    check(model, [numbers(2, 5, 3), numbers(2, 4, 3)])
    assert len(clone_model(model).weights) == len(model.weights) == 5


def test_nested_models_and_tuples() -> None:
    inner = encoder_decoder()
    a, b = Input((None, 3)), Input((None, 2))
    first, second = inner([a, b]), inner([a, b])
    head = Sequential([LSTM(3), Dense(1)], name="head")
    model = Model((a, {"b": b}), (head(first["words"]), [second["last"]]))
    check(model, (numbers(2, 5, 3), {"b": numbers(2, 4, 2)}))


def test_masks_and_other_arguments_of_calls() -> None:
    x, mask = Input((None, 3)), Input((None,), dtype="bool")
    y = LSTM(3, return_sequences=True)(x, mask=mask)
    model = Model([x, mask], Dropout(0.5)(y, training=False))
    check(model, [numbers(2, 4, 3), np.array([[1, 1, 0, 0], [1, 1, 1, 1]], bool)])


def test_a_model_that_begins_in_the_middle() -> None:
    x = Input((None, 3))
    y = LSTM(4, return_sequences=True)(x)
    z = Dense(2)(y)
    check(Model(y, z), numbers(2, 3, 4))


def test_a_layer_that_is_used_on_its_own_output() -> None:
    x = Input((4,))
    again, other = Dense(4), Dense(4)
    check(Model(x, again(other(again(x)))), numbers(3, 4))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_random_graphs(data: st.DataObject) -> None:
    values: list[Any] = [Input((None, 4), name=f"in_{i}") for i in range(data.draw(st.integers(1, 3)))]
    inputs = list(values)
    states: list[Any] = []
    known: list[Any] = []
    for _ in range(data.draw(st.integers(1, 7))):
        x = data.draw(st.sampled_from(values))
        kind = data.draw(st.sampled_from(["old", "dense", "lstm", "state", "attention", "both", "model"]))
        if kind == "old" and known:
            values.append(data.draw(st.sampled_from(known))(x))
        elif kind == "lstm":
            y, h, c = LSTM(4, return_sequences=True, return_state=True)(x)
            values.append(y)
            states.append([h, c])
        elif kind == "state" and states:
            values.append(LSTM(4, return_sequences=True)(x, initial_state=data.draw(st.sampled_from(states))))
        elif kind == "attention":
            values.append(Attention()([x, data.draw(st.sampled_from(values))]))
        elif kind == "model":
            inner = Input((None, 4))
            values.append(Model(inner, Dense(4)(inner))(x))
        else:
            layer = Bidirectional(GRU(2, return_sequences=True)) if kind == "both" else Dense(4, "tanh")
            known.append(layer)
            values.append(layer(x))
    outputs = data.draw(st.lists(st.sampled_from(values[len(inputs) :]), min_size=1, max_size=3))
    needed = data.draw(st.sampled_from([outputs, outputs[0]]))
    model = Model(inputs, needed)
    check(model, [numbers(2, 3, 4) + i for i in range(len(inputs))])


# --- clones ---------------------------------------------------------------------------------------


def test_clones_may_have_other_layers_and_inputs() -> None:
    def wider(layer: Layer) -> Layer:
        return type(layer).from_config(layer.get_config() | {"units": 7})

    sequential = clone_model(Sequential([Input((None, 3)), LSTM(4)]), clone_function=wider)
    assert sequential.output_shape == (None, 7)
    functional = clone_model(encoder_decoder(), input_tensors=[Input((6, 3)), Input((5, 2))])
    assert functional.output_shape[1] == (None, 5, 5)
    with pytest.raises(ValueError, match="got 1 input_tensors, expected 2"):
        clone_model(encoder_decoder(), input_tensors=[Input((6, 3))])
    with pytest.raises(ValueError, match="got 2 input_tensors, expected one"):
        clone_model(Sequential([LSTM(4)]), input_tensors=[Input((6, 3)), Input((6, 3))])
    with pytest.raises(ValueError, match="expected a Sequential or a model"):
        clone_model(Dense(2))  # type: ignore[arg-type]


def test_clones_may_have_lambdas() -> None:
    model = Sequential([Input((3,)), Dense(2, activation=lambda x: x * 2)])
    clone = clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(numbers(2, 3)), model(numbers(2, 3)))


def test_clones_draw_other_weights_and_are_not_compiled() -> None:
    model = Sequential([Input((3,)), Dense(8)])
    model.compile(loss="mse")
    clone = clone_model(model)
    assert not clone.compiled
    assert not np.array_equal(clone.get_weights()[0], model.get_weights()[0])


# --- wrong descriptions ---------------------------------------------------------------------------


def spoilt(change: Callable[[dict[str, Any]], Any]) -> str:
    description = json.loads(encoder_decoder().to_json())
    change(description["config"])
    return json.dumps(description)


def layer_of(config: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(data for data in config["layers"] if data["name"] == name)
    return found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("layers"), "configuration has no 'layers'"),
        (lambda c: c["layers"].append(c["layers"][0]), "two layers called 'source'"),
        (lambda c: c["layers"].append({"class_name": "Zeros"}), "among its layers"),
        (lambda c: c["layers"].append(3), "configuration has 3 among its layers"),
        (lambda c: layer_of(c, "decoder").update(inbound_nodes=3), "inbound_nodes of 'decoder' is 3"),
        (lambda c: layer_of(c, "decoder").update(inbound_nodes=[3]), "a call of 'decoder' is 3"),
        (
            lambda c: layer_of(c, "decoder").update(inbound_nodes=[{"args": [[[1.0]]], "kwargs": {}}]),
            "input has shape",
        ),
        (lambda c: layer_of(c, "encoder").update(inbound_nodes=[]), "come from nowhere"),
        (
            lambda c: c["input_layers"].append(["third", 0, 0]),
            "names the value .'third', 0, 0., which no layer",
        ),
        (lambda c: c.update(output_layers=[["encoder", 0, 9]]), "names the value .'encoder', 0, 9."),
        (lambda c: c.update(output_layers=[["encoder", -1, 0]]), "names the value .'encoder', -1, 0."),
        (lambda c: c.update(output_layers=[3]), "configuration has 3 in the place of a value"),
        (lambda c: c.update(more=3), "unknown argument 'more'"),
    ],
)
def test_wrong_descriptions(change: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        model_from_json(spoilt(change))


def test_calls_without_inputs() -> None:
    x = Input((3,))
    description = json.loads(Model(x, Dense(2, name="d")(x)).to_json())
    layer_of(description["config"], "d")["inbound_nodes"][0]["args"] = [[[1.0, 2.0, 3.0]]]
    with pytest.raises(ValueError, match="a call of 'd' has no inputs"):
        model_from_json(json.dumps(description))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not start with"),
        ("[]", "does not start with"),
        ('{"class_name": "Dense", "config": {"units": 2}}', "expected a model"),
        ("{}", "the text describes {}, expected a model"),
    ],
)
def test_wrong_texts(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model_from_json(text)
    with pytest.raises(TypeError, match="got a bytes, expected a string"):
        model_from_json(b"{}")  # type: ignore[arg-type]


SOUND = json.loads(encoder_decoder().to_json())


def places(data: Any) -> list[tuple[Any, Any]]:
    keys = data.keys() if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
    return [(data, key) for key in keys] + [place for key in keys for place in places(data[key])]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_spoilt_graphs_give_a_model_or_one_clear_error(data: st.DataObject) -> None:
    description = copy.deepcopy(SOUND)
    container, key = data.draw(st.sampled_from(places(description)))
    junk = st.none() | st.integers(-2, 2) | st.sampled_from(["", "encoder", "LSTM"])
    container[key] = data.draw(junk | st.lists(junk, max_size=3) | st.just({}) | st.just({"args": []}))
    message = ""
    try:
        model_from_json(json.dumps(description))
    except (ValueError, TypeError) as error:
        message = str(error)
    assert "\n" not in message


def test_the_base_class_makes_either_kind() -> None:
    for model in (encoder_decoder(), Sequential([Input((3,)), Dense(2)])):
        again = Model.from_config(model.get_config())
        assert type(again) is type(model)
        assert again.get_config() == model.get_config()
    with pytest.raises(ValueError, match="Sequential: configuration has 'units'"):
        Model.from_config({"units": 2})


def test_keras_names_are_there() -> None:
    assert {"clone_model", "model_from_json"} <= set(models.__all__)
    assert layers.Dense.from_config(Dense(2, name="d").get_config()).name == "d"
