"""Rescaling, and what `2 * x`, `x + y` and the like are between layers; its conversions."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_native import layers
from lstm_native.convert import from_torch, to_torch
from lstm_native.layers import LSTM, Dense, Embedding, Input, Rescaling
from lstm_native.models import Model, Sequential, clone_model, load_model

Array = np.ndarray[Any, Any]
X = np.random.default_rng(4).standard_normal((2, 4, 3)).astype(np.float32)
THREE = np.array([1.0, 2.0, -3.0])


@pytest.mark.parametrize("scale", [2.0, -0.5, 1, [1.0, 2.0, 3.0], THREE, np.ones((4, 3))])
@pytest.mark.parametrize("offset", [0.0, 1, [0.0, 1.0, -1.0]])
def test_values(scale: Any, offset: Any) -> None:
    layer = Rescaling(scale, offset)
    want = X.astype(np.float64) * np.asarray(scale) + np.asarray(offset)
    np.testing.assert_allclose(layer(X), want, rtol=1e-6, atol=1e-6)
    again = Rescaling.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    np.testing.assert_array_equal(again(X), layer(X))


def test_integers_as_of_pictures() -> None:
    np.testing.assert_allclose(Rescaling(1 / 127.5, offset=-1)(np.array([[0, 255]], np.uint8)), [[-1.0, 1.0]])
    assert Rescaling(1 / 127.5).scale == 1 / 127.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": "a"}, "scale has dtype"),
        ({"scale": None}, "scale is a NoneType"),
        ({"scale": float("inf")}, "scale is inf, expected finite numbers"),
        ({"scale": 1.0, "offset": [0.0, float("nan")]}, "offset is .*nan.*, expected finite numbers"),
        ({"scale": [[1.0], [1.0, 2.0]]}, "scale is a nested list of unequal lengths"),
    ],
)
def test_wrong_arguments(arguments: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^Rescaling: {message}"):
        Rescaling(**arguments)


@pytest.mark.parametrize("scale", [[1.0, 2.0], np.ones((2, 1, 3)), np.ones((2, 4, 3)), np.ones((1, 1, 1, 3))])
def test_numbers_that_do_not_fit(scale: Any) -> None:
    with pytest.raises(
        ValueError, match=r"input has shape \(2, 4, 3\), which scale of shape .* does not fit"
    ):
        Rescaling(scale)(X)
    with pytest.raises(ValueError, match="does not fit"):
        Rescaling(scale)(Input((4, 3)))


OPERATORS: dict[str, tuple[Callable[[Any], Any], list[str]]] = {
    "2 x": (lambda x: 2 * x, ["Rescaling"]),
    "x 2": (lambda x: x * 2.0, ["Rescaling"]),
    "x + 1": (lambda x: x + 1, ["Rescaling"]),
    "1 + x": (lambda x: np.float32(1) + x, ["Rescaling"]),
    "x - 1": (lambda x: x - 1, ["Rescaling"]),
    "1 - x": (lambda x: 1 - x, ["Rescaling"]),
    "x / 4": (lambda x: x / 4, ["Rescaling"]),
    "-x": (lambda x: -x, ["Rescaling"]),
    "array x": (lambda x: THREE * x, ["Rescaling"]),
    "x - array": (lambda x: x - THREE, ["Rescaling"]),
    "array - x": (lambda x: THREE - x, ["Rescaling"]),
    "x + x": (lambda x: x + x, ["Add"]),
    "x - 2 x": (lambda x: x - 2 * x, ["Rescaling", "Subtract"]),
    "x x": (lambda x: x * x, ["Multiply"]),
    "residual": (lambda x: x + 0.5 * (x * (1 - x)), ["Rescaling", "Multiply", "Rescaling", "Add"]),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name: str, tmp_path: Path) -> None:
    apply, kinds = OPERATORS[name]
    inputs = Input((4, 3))
    hidden = LSTM(3, return_sequences=True)(inputs)
    model, before = Model(inputs, apply(hidden)), Model(inputs, hidden)
    assert [type(layer).__name__ for layer in model.layers[2:]] == kinds
    np.testing.assert_allclose(model(X), apply(before(X).astype(np.float64)), rtol=1e-5, atol=1e-6)
    model.save(tmp_path / "m.safetensors")
    for again in (
        load_model(tmp_path / "m.safetensors"),
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
    ):
        np.testing.assert_array_equal(again(X), model(X))
    # The gradient, against a difference of losses.
    model.compile("sgd", "mse")
    kernel = model.trainable_variables[0]
    start, target = kernel.numpy(), np.zeros_like(X)
    model.fit(X, target, verbose=0)
    gradient = (start - kernel.numpy()) / 0.01
    losses = []
    for sign in (1, -1):
        kernel.assign(start + sign * 1e-2 * gradient / np.linalg.norm(gradient))
        model.trainable_variables[1].assign(before.get_weights()[1])
        losses.append(float(np.mean(model(X).astype(np.float64) ** 2)))
    assert losses[0] > losses[1]


def test_what_is_no_operation() -> None:
    x = Input((4, 3))
    for apply in (lambda: x / x, lambda: 2 / x, lambda: x**2, lambda: x @ x):
        with pytest.raises(TypeError, match="unsupported operand"):
            apply()
    with pytest.raises(TypeError, match="Rescaling: scale is a NoneType"):
        x * None
    for zero in (0, np.float32(0), [1, 0, 2]):
        with pytest.raises(ZeroDivisionError):
            x / zero
    with pytest.raises(ValueError, match="scale is 1e\\+300, expected finite numbers of float32"):
        x * 1e300


def test_constants_of_small_types() -> None:
    x, data = Input((3,)), np.ones((1, 3), np.float32)
    small = np.array([1, 2, 3], np.uint8)
    for outputs, expected in (
        (x - np.uint8(3), [-2, -2, -2]),
        (x - small, 1.0 - small),
        (x - np.int8(-128), [129, 129, 129]),
        (x - True, [0, 0, 0]),
        (x / np.float16(3), np.full(3, 1 / 3)),
        (x / [1, 2, 4], [1, 0.5, 0.25]),
    ):
        np.testing.assert_allclose(Model(x, outputs)(data)[0], expected, rtol=1e-7)


def residual(join: Callable[[Any, Any], Any], mask_zero: bool = True) -> Model:
    """Ids to a vector, by way of what `join` makes of two sequences."""
    inputs = Input((None,), dtype="int32")
    x = Embedding(5, 3, mask_zero=mask_zero)(inputs)
    return Model(inputs, LSTM(2)(join(x, LSTM(3, return_sequences=True)(x))))


IDS = np.array([[1, 2, 3, 0, 0], [3, 1, 0, 0, 0]])
# Operators, and what goes on through the layers that they stand for.
JOINS: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = {
    "2 x": (lambda x, y: 2 * x, lambda x, y: Rescaling(2)(x)),
    "1 - x": (lambda x, y: 1 - x, lambda x, y: Rescaling(-1, 1)(x)),
    "sum": (lambda x, y: x + y, lambda x, y: layers.add([x, y])),
    "product": (lambda x, y: x * y, lambda x, y: layers.multiply([x, y])),
    "both": (lambda x, y: layers.add([x - y, x]), lambda x, y: layers.add([layers.subtract([x, y]), x])),
}


@pytest.mark.parametrize("name", JOINS)
def test_masks_end_at_operators_as_in_keras(name: str, tmp_path: Path) -> None:
    operator, layer = JOINS[name]
    model = residual(operator)
    # The recurrent layer in front skips padding; the one behind counts it.
    inputs = model.inputs
    before = Model(inputs, [model.layers[1].output, model.layers[2].output])
    x, y = Input((None, 3)), Input((None, 3))
    behind = Model([x, y], LSTM(2)(operator(x, y)))
    behind.set_weights(model.get_weights()[-3:])
    want = behind.predict(before.predict(IDS, verbose=0), verbose=0)
    np.testing.assert_allclose(model.predict(IDS, verbose=0), want, atol=1e-6)
    model.save(tmp_path / "m.safetensors")
    for again in (load_model(tmp_path / "m.safetensors"), copy.deepcopy(model), clone_model(model)):
        again.set_weights(model.get_weights())
        np.testing.assert_allclose(again(IDS), want, atol=1e-6)
    # Behind a layer masks go on: padding changes nothing.
    masked = residual(layer)
    np.testing.assert_allclose(masked(IDS)[:1], masked(IDS[:1, :3]), atol=1e-6)
    assert not np.allclose(want[:1], model(IDS[:1, :3]), rtol=1e-3, atol=0)
    stream = model.stream(2)
    steps = [stream.step(IDS[:, t]) for t in range(5)]
    np.testing.assert_array_equal(steps[-1], model.predict(IDS, verbose=0))


@pytest.mark.parametrize("name", JOINS)
@pytest.mark.parametrize("mask_zero", [False, True])
def test_lists_of_sequences_are_computed_one_by_one(name: str, mask_zero: bool) -> None:
    model = residual(JOINS[name][0], mask_zero)
    assert model.unmoved_by_padding != mask_zero
    rows = [np.array(row) for row in ([1, 2, 3], [4, 1, 0, 2], [2], [3, 3, 1, 0, 1])]
    alone = [model.predict(row[None], verbose=0)[0] for row in rows]
    np.testing.assert_array_equal(model.predict(rows, verbose=0), alone)


@pytest.mark.parametrize("scale", [0.5, [1.0, 2.0, 3.0]])
def test_pytorch(scale: Any) -> None:
    torch = pytest.importorskip("torch")
    model = Sequential([Input((4, 3)), LSTM(3, return_sequences=True), Rescaling(scale, 1.0), Dense(2)])
    made = to_torch(model, check=True)
    with torch.no_grad():
        np.testing.assert_allclose(made(torch.from_numpy(X)).numpy(), model(X), atol=1e-6)
    again = from_torch(made, check=True)
    np.testing.assert_allclose(again(X), model(X), atol=1e-6)
    found = [(layer.scale, layer.offset) for layer in again.layers if isinstance(layer, Rescaling)]
    assert found == [(scale, 1.0)]


def test_functions_of_pytorch() -> None:
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, function: Any, batch_first: bool) -> None:
            super().__init__()
            self.rnn = torch.nn.LSTM(3, 4, batch_first=batch_first)
            self.head = torch.nn.Linear(4, 2)
            self.function = function

        def forward(self, x: Any) -> Any:
            y, (h, _) = self.rnn(x)
            return self.head(self.function(y)), self.function(h[-1])

    functions: list[Any] = [
        lambda x: 2 * x,
        lambda x: x.mul(0.5).add(1),
        lambda x: 1 - x,
        lambda x: x - 1,
        lambda x: torch.div(x, 4),
        lambda x: -x,
        torch.neg,
        lambda x: x + 0.5 * x,
    ]
    for function in functions:
        for batch_first in (True, False):
            model = from_torch(Net(function, batch_first), check=True)
            assert any(isinstance(layer, Rescaling) for layer in model.layers)


@pytest.mark.parametrize("batch_first", [True, False])
def test_constants_of_pytorch(batch_first: bool) -> None:
    torch = pytest.importorskip("torch")
    steps = torch.arange(1.0, 4.0).reshape((1, 3, 1) if batch_first else (3, 1, 1))

    class Net(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, function: Any) -> None:
            super().__init__()
            self.rnn = torch.nn.LSTM(3, 4, batch_first=batch_first)
            self.head = torch.nn.Linear(4, 2)
            self.function = function
            self.numbers = torch.nn.Buffer(torch.tensor([1.0, 2.0, -3.0, 0.5]))
            self.frozen = torch.nn.Parameter(torch.tensor(2.0), requires_grad=False)
            self.steps = torch.nn.Buffer(steps)
            self.gain = torch.nn.Parameter(torch.ones(4))

        def forward(self, x: Any) -> Any:
            return self.head(self.function(self, self.rnn(x)[0]))

    for function in (
        lambda m, y: y * m.numbers,
        lambda m, y: m.numbers - y,
        lambda m, y: y / m.numbers,
        lambda m, y: y + m.frozen,
        lambda m, y: y * m.steps,
        lambda m, y: torch.tensor([[1, 0, 2, 3]]) * y,
    ):
        module = Net(function)
        x = torch.from_numpy(X[:, :3] if batch_first else X[:, :3].swapaxes(0, 1).copy())
        with torch.no_grad():
            want = module(x).numpy()
        got = from_torch(module, check=False)(X[:, :3])
        np.testing.assert_allclose(got if batch_first else got.swapaxes(0, 1), want, atol=1e-6)
    for function, message in (
        (lambda m, y: y * m.gain, "parameters outside of modules have no layer"),
        (lambda m, y: y / torch.zeros(4), "no layer here"),
        (lambda m, y: y * torch.ones(2, 1, 1, 4), r"a constant of shape \(2, 1, 1, 4\) has other axes"),
        (
            lambda m, y: y * torch.ones((2, 1, 4) if batch_first else (2, 4)),
            "a constant has other numbers for each row of the batch",
        ),
    ):
        with pytest.raises(ValueError, match=f"^from_torch: Net: .*{message}"):
            from_torch(Net(function))
