"""Configurations of every class: data that JSON can hold, from which an equal object is made."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configuration_support import ARGUMENTS, CLASSES, FIXED, arguments_of, made
from lstm_native import (
    constraints,
    initializers,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    regularizers,
    serialization,
)
from lstm_native.configurable import Configurable
from lstm_native.layers.cloning import clone_layer
from lstm_native.layers.merging import MergingLayer
from lstm_native.optimizers import schedules

NAMESPACES = (layers, models, optimizers, schedules, losses, metrics, initializers, regularizers, constraints)
# Classes that others are made from: nothing to configure by themselves.
BASES = {
    "Layer", "Model", "Optimizer", "LearningRateSchedule", "Loss", "Metric", "Initializer",
    "RandomInitializer", "Regularizer", "Constraint",
}  # fmt: skip


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


def test_every_class_is_here() -> None:
    public = {
        item
        for namespace in NAMESPACES
        for item in vars(namespace).values()
        if isinstance(item, type) and issubclass(item, Configurable)
        if item.__name__ not in BASES and not item.__name__.startswith("_")
    }
    # Models have tests of their own, and so has a function of the caller.
    assert public - {Configurable, *CLASSES} == {models.Sequential, models.Functional, layers.Lambda}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: f"{cls.__module__.split('.')[1]}.{cls.__name__}")
def test_every_argument_is_here(cls: type) -> None:
    assert set(inspect.signature(cls).parameters) - set(arguments_of(cls)) - FIXED == set()


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: f"{cls.__module__.split('.')[1]}.{cls.__name__}")
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_an_equal_object_is_made(cls: Any, data: st.DataObject) -> None:
    first = made(cls, data)
    config = through_json(first.get_config())
    assert config == first.get_config()
    assert cls.from_config(config).get_config() == config
    description = through_json(serialization.serialize(first))
    assert description["class_name"] == cls.__name__
    second = serialization.deserialize(description)
    assert type(second) is cls
    assert serialization.serialize(second) == description
    assert config == first.get_config(), "making another object changed the data"


def ids_or_numbers(layer: Any, rng: np.random.Generator) -> Any:
    if isinstance(layer, layers.Embedding):
        return rng.integers(0, 9, (2, 3))
    if isinstance(layer, layers.RepeatVector):
        return rng.standard_normal((2, 4), np.float32)
    x = rng.standard_normal((2, 3, 4), np.float32)
    if isinstance(layer, layers.MultiHeadAttention):
        return [x, x, x]
    return [x, x] if isinstance(layer, layers.Attention | MergingLayer) else x


OF_SEQUENCES = [
    cls
    for cls in ARGUMENTS["layers"]
    if not cls.__name__.endswith(("Cell", "Cells"))
    and cls not in (layers.InputLayer, layers.TextVectorization)
]


@pytest.mark.parametrize("cls", OF_SEQUENCES, ids=lambda cls: cls.__name__)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_layers_compute_the_same(cls: Any, data: st.DataObject) -> None:
    first = made(cls, data)
    x = ids_or_numbers(first, np.random.default_rng(1))
    expected = first(x)
    again: list[Callable[[Any], Any]] = [lambda layer: cls.from_config(layer.get_config()), clone_layer]
    for make in again:
        second = make(first)
        assert type(second) is cls
        second.build([one.shape for one in x] if isinstance(x, list) else x.shape)
        assert [w.shape for w in second.weights] == [w.shape for w in first.weights]
        assert [w.trainable for w in second.weights] == [w.trainable for w in first.weights]
        second.set_weights(first.get_weights())
        seen = second(x)
        for a, b in zip(flat(seen), flat(expected), strict=True):
            np.testing.assert_array_equal(a, b)
        assert not {id(w) for w in second.weights} & {id(w) for w in first.weights}


def flat(outputs: Any) -> list[Any]:
    if isinstance(outputs, list | tuple):
        return [leaf for part in outputs for leaf in flat(part)]
    return [outputs]


@pytest.mark.parametrize("cls", list(ARGUMENTS["initializers"]), ids=lambda cls: cls.__name__)
def test_initializers_give_the_same_values(cls: Any) -> None:
    given: dict[str, Any] = {"values": np.ones((2, 3))} if cls is initializers.GivenValues else {}
    if "seed" in inspect.signature(cls).parameters:
        given = {"seed": 7}
    first = cls(**given)
    np.testing.assert_array_equal(cls.from_config(first.get_config())((2, 3)), first((2, 3)))


def test_a_fresh_seed_is_not_written_down() -> None:
    assert initializers.RandomNormal().get_config()["seed"] is None
    assert initializers.RandomNormal(seed=0).get_config()["seed"] == 0


def test_the_learning_rate_of_the_moment_is_written_down() -> None:
    optimizer = optimizers.SGD(0.5)
    optimizer.learning_rate = 0.25
    assert optimizer.get_config()["learning_rate"] == 0.25


def test_a_learnt_vocabulary_comes_along() -> None:
    for mode in ("int", "tf_idf"):
        first = layers.TextVectorization(output_mode=mode)
        assert first.get_config()["vocabulary"] is None
        first.adapt(["a b b", "c b a"])
        second = layers.TextVectorization.from_config(through_json(first.get_config()))
        assert second.get_vocabulary() == first.get_vocabulary()
        np.testing.assert_array_equal(second(["a c d"]), first(["a c d"]))


def test_frozen_parts_stay_frozen() -> None:
    layer = layers.Bidirectional(layers.LSTM(2))
    layer.forward_layer.trainable = False
    again = layers.Bidirectional.from_config(layer.get_config())
    assert [again.trainable, again.forward_layer.trainable, again.backward_layer.trainable] == [
        True,
        False,
        True,
    ]
