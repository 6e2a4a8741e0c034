"""serialize and deserialize: the caller's classes, wrong data, and that no name in data runs anything."""

from __future__ import annotations

import copy
import json
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_native import initializers, layers, losses, metrics, optimizers, regularizers, serialization
from lstm_native.layers import LSTM, Dense, Layer
from lstm_native.layers.cloning import clone_layer
from lstm_native.optimizers import schedules
from lstm_native.serialization import deserialize, serialize
from lstm_native.utils import custom_object_scope, register_keras_serializable, register_serializable


@register_serializable("tests")
class Scaled(Layer):
    """A layer in Python that says nothing of configurations."""

    def __init__(self, factor: float, inner: Layer | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._factor = factor  # not called as the argument
        self.inner = inner

    def call(self, inputs: Any) -> Any:
        return self._factor * inputs


@register_keras_serializable(package="tests", name="Halving")
class Halved(schedules.LearningRateSchedule):
    def __init__(self, start: float) -> None:
        self.start = start

    def __call__(self, step: Any) -> float:
        return float(self.start / (1 + float(step)))


@register_serializable("tests")
def doubled(x: Any) -> Any:
    return 2 * x


class Shifted(Layer):
    """One that is not registered, and overrides both methods as for Keras."""

    def __init__(self, by: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.by = by

    def call(self, inputs: Any) -> Any:
        return inputs + self.by

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "steps": float(self.by)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Shifted:
        return cls(np.float32(config.pop("steps")), **config)


def copied(obj: Any, **custom: Any) -> Any:
    """Through JSON and back."""
    return deserialize(json.loads(json.dumps(serialize(obj))), custom or None)


def test_a_description_says_where_its_class_is() -> None:
    assert serialize(Dense(3, name="d"))["module"] == "lstm_native.layers"
    assert serialize(losses.MeanSquaredError())["module"] == "lstm_native.losses"
    assert serialize(metrics.MeanSquaredError())["module"] == "lstm_native.metrics"
    assert serialize(schedules.CosineDecay(1, 2))["module"] == "lstm_native.optimizers.schedules"
    assert type(copied(metrics.MeanSquaredError())) is metrics.MeanSquaredError
    assert type(copied(losses.MeanSquaredError())) is losses.MeanSquaredError


def test_plain_data_stay_what_they_are() -> None:
    data = {"a": [1, 2.5, None, True, "x"], "b": {"c": []}}
    assert serialize(data) == data
    assert deserialize(data) == data
    assert serialize((np.float32(0.5), np.int64(3), np.bool_(True))) == [0.5, 3, True]
    for value in (float("inf"), -float("inf")):
        assert copied(value) == value
    assert np.isnan(copied([float("nan")])[0])
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    np.testing.assert_array_equal(copied(array), array)
    assert copied(array).dtype == np.int16


def test_data_of_keras_are_read() -> None:
    layer = deserialize(
        {
            "module": "keras.layers",
            "class_name": "Dense",
            "registered_name": None,
            "config": {
                "units": 2,
                "dtype": {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}},
                "kernel_initializer": {
                    "module": "keras.initializers",
                    "class_name": "RandomUniform",
                    "config": {"minval": 0, "maxval": 1, "seed": 3},
                    "registered_name": None,
                },
            },
        }
    )
    assert isinstance(layer, Dense)
    assert isinstance(layer.kernel_initializer, initializers.RandomUniform)


# --- the caller's classes -------------------------------------------------------------------------


def test_registered_classes_are_found() -> None:
    first = Scaled(2.5, inner=Dense(3), name="s")
    description = serialize(first)
    assert description["registered_name"] == "tests>Scaled"
    assert description["config"]["factor"] == 2.5
    second = copied(first)
    assert type(second) is Scaled
    assert serialize(second) == description
    optimizer = copied(optimizers.SGD(Halved(0.5)))
    assert optimizer.get_config()["learning_rate"]["registered_name"] == "tests>Halving"
    assert float(optimizer.learning_rate) == 0.5
    assert optimizers.get(serialize(optimizer)).get_config() == optimizer.get_config()


def test_functions_go_by_their_names() -> None:
    layer = copied(LSTM(2, activation=doubled, recurrent_activation="relu"))
    assert layer.activation is doubled
    assert serialize(layer)["config"]["recurrent_activation"] == "relu"

    def tripled(x: Any) -> Any:
        return 3 * x

    assert copied(Dense(2, activation=tripled), tripled=tripled).activation is tripled
    with pytest.raises(ValueError, match="unknown function 'tripled': "):
        copied(Dense(2, activation=tripled))
    with pytest.raises(TypeError, match="which no name stands for"):
        serialize(Dense(2, activation=lambda x: x))


def test_lent_classes_are_found_until_the_end() -> None:
    first = Shifted(2, name="s")
    assert serialize(first)["config"]["steps"] == 2.0
    assert "by" not in serialize(first)["config"]
    description = serialize(layers.TimeDistributed(first))
    assert deserialize(description, {"Shifted": Shifted}).layer.by == 2
    with custom_object_scope({"Shifted": Shifted}):
        assert deserialize(description).layer.by == 2
    with pytest.raises(ValueError, match="unknown class 'Shifted': expected one of the package, or one that"):
        deserialize(description)


def test_the_data_given_stay_as_they_are() -> None:
    description = serialize(layers.TimeDistributed(Shifted(2)))
    before = copy.deepcopy(description)
    deserialize(description, {"Shifted": Shifted})
    assert description == before


def test_wrong_registrations() -> None:
    with pytest.raises(ValueError, match=r"int has no get_config\(\) and from_config\(\)"):
        register_serializable()(int)
    with pytest.raises(ValueError, match="expected a class or a function with a name"):
        register_serializable()(lambda x: x)

    class Scaled(Layer):
        pass

    with pytest.raises(ValueError, match="'tests>Scaled' is registered already"):
        register_serializable("tests")(Scaled)
    with pytest.raises(TypeError, match="custom_objects is 3, expected a dict"):
        deserialize({}, 3)  # type: ignore[arg-type]


class Wider(LSTM):
    """One whose argument is not what its base makes of it."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(2 * units, **kwargs)


class Named(LSTM):
    """One that adds an argument to the configuration by hand."""

    def __init__(self, label_of: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kept = label_of

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "label_of": self.kept}


def test_subclasses_of_layers_of_the_package() -> None:
    wider = copied(Wider(3, go_backwards=True), Wider=Wider)
    assert (wider.units, wider.go_backwards) == (6, True)
    assert clone_layer(wider).units == 6
    named = copied(Named("x", units=4, dropout=0.5, trainable=False), Named=Named)
    assert (named.kept, named.units, named.dropout, named.trainable) == ("x", 4, 0.5, False)


# --- arguments ------------------------------------------------------------------------------------


class Plain(regularizers.Regularizer):
    def __init__(self, size: int) -> None:
        self.length = size

    def __call__(self, x: Any) -> Any:
        return 0.0


def test_a_class_that_keeps_no_argument_is_told_so() -> None:
    with pytest.raises(NotImplementedError, match="finds no attribute 'size' with the argument 'size'"):
        Plain(3).get_config()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"class_name": "LSMT", "config": {}}, "unknown class 'LSMT': did you mean 'LSTM'"),
        ({"class_name": "os.system", "config": "ls"}, "unknown class 'os.system'"),
        ({"class_name": ["LSTM"], "config": {}}, "class_name is .'LSTM'., expected a string"),
        ({"class_name": "LSTM", "config": [3]}, "LSTM: configuration is .3., expected a dict"),
        ({"class_name": "LSTM", "config": {}}, "LSTM: configuration lacks 'units'"),
        ({"class_name": "Huber", "config": {"delt": 3}}, "Huber: configuration has 'delt', expected no more"),
        ({"class_name": "LSTM", "config": {3: 3}}, "LSTM: configuration is .*, expected a dict of arguments"),
        ({"class_name": "LSTM", "config": {"units": "3"}}, "LSTM: units is '3', expected a positive integer"),
        ({"class_name": "MeanSquaredError", "config": {}}, "there are several 'MeanSquaredError'"),
        ({"module": "os", "class_name": "LSTM", "config": {"units": 3}}, "unknown class 'LSTM'"),
        ({"module": 3, "class_name": "LSTM", "config": {"units": 3}}, "unknown class 'LSTM'"),
        ({"class_name": "function", "config": "system"}, "unknown function 'system'"),
        ({"class_name": "function", "config": {}}, "name of a function is {}, expected a string"),
        ({"class_name": "LSTM", "config": {}, "registered_name": "tests>doubled"}, "expected a class"),
        ({"class_name": "__numpy__", "config": [1]}, "an array is .1., expected its value and its dtype"),
        ({"class_name": "__numpy__", "config": {"value": [1], "dtype": "O"}}, "dtype of an array is 'O'"),
        ({"class_name": "__float__", "config": "1e3"}, "a number is '1e3', expected 'nan'"),
        ({"class_name": "__tuple__", "config": 3}, "a tuple is 3, expected a list"),
        ({"class_name": "DTypePolicy", "config": {"name": "/etc/passwd"}}, "a dtype policy is"),
    ],
)  # fmt: skip
def test_wrong_data(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        deserialize(data)
    with pytest.raises(ValueError, match=message):
        deserialize({"nested": [data]})


def test_wrong_objects() -> None:
    for value, message in (
        (object(), "got a object, which has no get_config"),
        ({3: 3}, "expected strings"),
        (np.array(["a"]), "expected numbers"),
        (2j, "has no get_config"),
        (LSTM, "which no name stands for"),
    ):
        with pytest.raises(TypeError, match=message):
            serialize(value)


def test_deep_data_end_in_an_error() -> None:
    data: Any = []
    for _ in range(100_000):
        data = [data]
    with pytest.raises(ValueError, match="nested too deeply"):
        deserialize(data)


# What a stranger may write into the places of a description.
word = st.sampled_from(
    ["", "relu", "LSTM", "os.system", "tests>doubled", "__numpy__", "function", "/etc/passwd", "module"]
)
leaf = st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | word
few = leaf | st.lists(leaf, max_size=3)
key = st.sampled_from(["class_name", "config", "units", "module"])
junk = few | st.lists(few, max_size=2) | st.dictionaries(key, few | st.dictionaries(key, few), max_size=3)
EXAMPLES = [
    Dense(2, kernel_regularizer="l2"),
    layers.RNN([layers.LSTMCell(2), layers.GRUCell(3)]),
    layers.Bidirectional(LSTM(2)),
    layers.LayerNormalization(),
    layers.TextVectorization(vocabulary=["a"]),
    layers.InputLayer((3,)),
    layers.Dropout(0.5),
    layers.RepeatVector(2),
    layers.Attention(),
    optimizers.Adam(schedules.CosineDecay(0.1, 10)),
    schedules.PiecewiseConstantDecay([1], [2.0, 3.0]),
    losses.BinaryCrossentropy(),
    metrics.AUC(thresholds=[0.5]),
    metrics.MeanMetricWrapper(losses.mean_squared_error),
    initializers.Constant(np.ones(3)),
]


def places(data: Any) -> list[tuple[Any, Any]]:
    """Every container in `data` with every key into it."""
    keys = data.keys() if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
    return [(data, key) for key in keys] + [place for key in keys for place in places(data[key])]


@pytest.mark.filterwarnings("ignore:.*rms_scaling")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda obj: type(obj).__name__)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_spoilt_data_give_an_object_or_one_clear_error(example: Any, data: st.DataObject) -> None:
    description = copy.deepcopy(serialize(example))
    known = set(sys.modules)
    for _ in range(data.draw(st.integers(1, 2))):
        container, place = data.draw(st.sampled_from(places(description)))
        container[place] = data.draw(junk)
    message = ""
    try:
        deserialize(description)
    except (ValueError, TypeError) as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 1500
    assert {name for name in set(sys.modules) - known if not name.startswith("lstm_native")} <= set(
        sys.stdlib_module_names
    )


def test_names_lead_to_nothing_but_the_tables() -> None:
    classes = {cls for table in serialization._classes().values() for cls in table.values()}
    functions = {f for table in serialization._functions().values() for f in table.values()}
    assert all(item.__module__.startswith("lstm_native.") for item in classes | functions)
    assert all(hasattr(cls, "from_config") for cls in classes)
    assert not {f.__name__ for f in functions} & {"get", "name_of", "native_name"}
