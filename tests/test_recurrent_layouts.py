"""Recurrent calls on time-first arrays, and of both directions into one output: the bits of plain calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cuda_support import open_for_tests
from lstm_native import _core
from native_support import assert_bits, f32, tensor

Array = npt.NDArray[Any]
INPUTS, UNITS, PROJECTION = 5, 19, 3
CELLS = {"lstm": 4, "gru": 3, "gru_before": 3, "simple_rnn": 1, "projection": 4}
SHAPES = [(1, 1), (1, 7), (3, 1), (7, 9), (34, 4)]


PLACES = [("cpu", cell) for cell in CELLS] + [("cuda", cell) for cell in CELLS if cell != "projection"]


@pytest.fixture(scope="module", autouse=True)
def cuda_device(tmp_path_factory: pytest.TempPathFactory) -> None:
    open_for_tests(tmp_path_factory.mktemp("cuda"))


def weights_of(cell: str, device: str) -> _core.RecurrentWeights:
    rng = np.random.default_rng(1)
    columns = CELLS[cell] * UNITS
    width = PROJECTION if cell == "projection" else UNITS
    shapes = [(INPUTS, columns), (width, columns), (2, columns) if cell == "gru" else (columns,)]
    variables = [_core.Variable(tensor(f32(rng.normal(size=shape)) * 0.3)) for shape in shapes]
    _core.move_variables(variables, device)
    kernel, recurrent, bias = variables
    if cell != "projection":
        return _core.RecurrentWeights(cell, kernel, recurrent, bias, "tanh", "sigmoid")
    projection = _core.Variable(tensor(f32(rng.normal(size=(UNITS, PROJECTION)))))
    return _core.RecurrentWeights.general(
        "lstm", kernel, recurrent, bias, "tanh", "sigmoid", "tanh", projection=projection
    )


def swapped(x: Array) -> Array:
    return np.ascontiguousarray(np.swapaxes(x, 0, 1))


def results(
    device: str,
    cell: str,
    x: Array,
    d: Array,
    mask: Array | None,
    backwards: bool,
    steps: int,
    **layout: Any,
) -> list[Array]:
    """The output, last states, and the gradients of inputs and weights."""
    weights = weights_of(cell, device)
    given = None if mask is None else tensor(mask, "bool")
    output, h, _, saved = _core.recurrent_forward(
        weights,
        tensor(x),
        given,
        None,
        None,
        None,
        True,
        backwards,
        False,
        True,
        checkpoint_steps=steps,
        **layout,
    )
    assert saved is not None
    backward: Any = _core.general_backward if cell == "projection" else _core.recurrent_backward
    gradients = backward(weights, saved, tensor(d), None, None, True, False)
    return [t.numpy() for t in (output, h, *gradients) if t is not None]


@pytest.mark.parametrize(("device", "cell"), PLACES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("steps", [0, 3])
def test_time_first(device: str, cell: str, shape: tuple[int, int], backwards: bool, steps: int) -> None:
    batch = shape[0]
    rng = np.random.default_rng(batch)
    width = PROJECTION if cell == "projection" else UNITS
    x, d = f32(rng.normal(size=(*shape, INPUTS))), f32(rng.normal(size=(*shape, width)))
    mask = rng.random(shape) < 0.7 if batch % 2 == 1 else None
    expected = results(device, cell, x, d, mask, backwards, steps)
    got = results(device, cell, swapped(x), swapped(d), mask, backwards, steps, time_first=True)
    assert len(got) == len(expected)
    for number, (mine, other) in enumerate(zip(got, expected, strict=True)):
        assert_bits(mine, swapped(other) if number in (0, 2) else other)


@pytest.mark.parametrize(("device", "cell"), PLACES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("time_first", [False, True])
def test_both_directions_in_one_output(
    device: str, cell: str, shape: tuple[int, int], time_first: bool
) -> None:
    rng = np.random.default_rng(shape[0])
    width = PROJECTION if cell == "projection" else UNITS
    x, d = f32(rng.normal(size=(*shape, INPUTS))), f32(rng.normal(size=(*shape, 2 * width)))
    mask = rng.random(shape) < 0.7
    turn = swapped if time_first else np.ascontiguousarray
    layout: dict[str, Any] = {"time_first": time_first, "bidirectional": True}
    joined = tensor(np.full((*turn(d[..., 0]).shape, 2 * width), np.nan)).to(device)
    for backwards in (False, True):
        part = d[..., width:][:, ::-1] if backwards else d[..., :width]
        expected = results(device, cell, x, np.ascontiguousarray(part), mask, backwards, 0)
        got = results(device, cell, turn(x), turn(d), mask, backwards, 0, output=joined, **layout)
        outputs = expected[0][:, ::-1] if backwards else expected[0]
        columns = slice(width, None) if backwards else slice(width)
        assert_bits(np.ascontiguousarray(joined.numpy()[..., columns]), turn(outputs))
        assert_bits(got[2], turn(expected[2]))
        for mine, other in zip([got[1], *got[3:]], [expected[1], *expected[3:]], strict=True):
            assert_bits(mine, other)
    assert not np.isnan(joined.numpy()).any()


def test_wrong_calls() -> None:
    weights = weights_of("lstm", "cpu")
    x = tensor(np.zeros((2, 3, INPUTS)))

    def call(*sequences: bool, **more: Any) -> None:
        _core.recurrent_forward(
            weights, x, None, None, None, None, *(sequences or (True,)), False, False, False, **more
        )

    with pytest.raises(ValueError, match=r"output has shape .*, expected \(2, 3, 38\)"):
        call(bidirectional=True, output=tensor(np.zeros((3, 2, 38))))
    with pytest.raises(ValueError, match="for outputs of all steps"):
        call(False, time_first=True)
    with pytest.raises(ValueError, match="indexed inputs with time_first"):
        call(time_first=True, index=tensor(np.zeros((2, 3)), "int32"))
