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


PLACES = [(device, cell) for device in ("cpu", "cuda") for cell in CELLS]


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
    _core.move_variables([projection], device)
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
    weights = [weights_of(cell, device) for _ in range(2)]
    calls: list[_core.RecurrentCall] = [
        (
            own,
            tensor(turn(x)),
            tensor(mask, "bool"),
            *(None, None, None),
            True,
            backwards,
            False,
            True,
            *(None, 0, None),
            time_first,
        )
        for own, backwards in zip(weights, (False, True), strict=True)
    ]
    (joined, h, _, saved), (same, other_h, _, other_saved) = _core.recurrent_forward_together(calls, True)
    assert _core.same_bits(joined, same)
    assert saved is not None
    assert other_saved is not None
    gradients = _core.recurrent_backward_together(
        [
            (own, kept, tensor(turn(d)), None, None, True, False)
            for own, kept in zip(weights, (saved, other_saved), strict=True)
        ]
    )
    for backwards, last_h, got in zip((False, True), (h, other_h), gradients, strict=True):
        part = d[..., width:][:, ::-1] if backwards else d[..., :width]
        output, *expected = results(device, cell, x, np.ascontiguousarray(part), mask, backwards, 0)
        columns = slice(width, None) if backwards else slice(width)
        expected[1] = turn(expected[1])
        expected.append(turn(output[:, ::-1] if backwards else output))
        mine = [last_h.numpy(), *(t.numpy() for t in got if t is not None)]
        mine.append(np.ascontiguousarray(joined.numpy()[..., columns]))
        for one, other in zip(mine, expected, strict=True):
            if device == "cpu":
                assert_bits(one, other)
            else:  # sums of up to 136 products in another order, where two calls have another plan
                np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * float(np.abs(other).max()))


def test_wrong_calls() -> None:
    weights = weights_of("lstm", "cpu")
    x = tensor(np.zeros((2, 3, INPUTS)))

    def call(*sequences: bool, **more: Any) -> None:
        _core.recurrent_forward(
            weights, x, None, None, None, None, *(sequences or (True,)), False, False, False, **more
        )

    with pytest.raises(ValueError, match="for outputs of all steps"):
        call(False, time_first=True)
    with pytest.raises(ValueError, match="indexed inputs with time_first"):
        call(time_first=True, index=tensor(np.zeros((2, 3)), "int32"))


def in_rows(cell: str, x: Array) -> Array:
    """A matrix, or bias, with gates in columns, as PyTorch has it: in rows, a GRU's as r, z, h."""
    blocks = np.split(x, CELLS[cell], axis=-1)
    if cell == "gru":
        blocks[:2] = blocks[1::-1]
    return np.ascontiguousarray(np.concatenate(blocks, axis=-1).T if x.ndim == 2 else np.concatenate(blocks))


@pytest.mark.parametrize(("device", "cell"), [p for p in PLACES if p[1] in ("lstm", "gru", "projection")])
@pytest.mark.parametrize("units", [1, 7, 16, 48, 70])
@pytest.mark.parametrize("inputs", [1, 5, 16, 35])
@pytest.mark.parametrize("steps", [0, 2])
def test_gates_in_rows(device: str, cell: str, units: int, inputs: int, steps: int) -> None:
    rng = np.random.default_rng(units + inputs)
    columns = CELLS[cell] * units
    width = PROJECTION if cell == "projection" else units
    kernel, recurrent = (f32(rng.normal(size=(n, columns)) * 0.3) for n in (inputs, width))
    bias = f32(rng.normal(size=(2, columns) if cell == "gru" else columns))
    projection = f32(rng.normal(size=(units, width))) if cell == "projection" else None
    x, d = f32(rng.normal(size=(9, 5, inputs))), f32(rng.normal(size=(9, 5, width)))

    def call(weights: _core.RecurrentWeights) -> list[Array]:
        output, h, _, saved = _core.recurrent_forward(
            weights, tensor(x), None, None, None, None, True, False, False, True, checkpoint_steps=steps
        )
        assert saved is not None
        backward: Any = _core.recurrent_backward if projection is None else _core.general_backward
        gradients = backward(weights, saved, tensor(d), None, None, True, True)
        return [t.numpy() for t in (output, h, *gradients) if t is not None]

    variables = [_core.Variable(tensor(a)) for a in (kernel, recurrent, bias)]
    if projection is not None:
        variables.append(_core.Variable(tensor(projection)))
    _core.move_variables(variables, device)
    if projection is None:
        plain = _core.RecurrentWeights(cell, *variables, "tanh", "sigmoid")
    else:
        plain = _core.RecurrentWeights.general(
            "lstm", *variables[:3], "tanh", "sigmoid", "tanh", projection=variables[3]
        )
    expected = call(plain)
    for place in (3, 4):
        expected[place] = in_rows(cell, expected[place])
    if cell == "gru":
        expected[5] = np.stack([in_rows(cell, row) for row in expected[5]])
    if projection is not None:
        expected[-1] = expected[-1].T
    turned_bias = np.stack([in_rows(cell, row) for row in bias]) if cell == "gru" else bias
    rows = [tensor(a).to(device) for a in (in_rows(cell, kernel), in_rows(cell, recurrent), turned_bias)]
    turned = None if projection is None else tensor(np.ascontiguousarray(projection.T)).to(device)
    got = call(_core.RecurrentWeights.in_rows(cell.replace("projection", "lstm"), *rows, turned))
    assert len(got) == len(expected)
    for number, (mine, other) in enumerate(zip(got, expected, strict=True)):
        if number in (3, 4, 5, len(got) - 1):  # sums of 45 products, maybe in another order
            np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-5 * float(np.abs(other).max()))
        else:
            assert_bits(mine, other)


def test_rows_are_not_copied() -> None:
    rng = np.random.default_rng(0)
    weight_ih, weight_hh = (tensor(f32(rng.normal(size=shape))) for shape in ((12, 2), (12, 3)))
    x = tensor(np.ones((1, 1, 2)))

    def first(weights: _core.RecurrentWeights) -> Array:
        return _core.recurrent_forward(weights, x, None, None, None, None, True, False, False, False)[
            0
        ].numpy()

    before = first(_core.RecurrentWeights.in_rows("lstm", weight_ih, weight_hh, None, None))
    weight_ih.numpy()[:] *= 2
    after = first(_core.RecurrentWeights.in_rows("lstm", weight_ih, weight_hh, None, None))
    assert not np.array_equal(before, after)
    with pytest.raises(ValueError, match=r"recurrent_kernel has shape \(3, 8\)"):
        _core.RecurrentWeights.in_rows("lstm", weight_ih, tensor(np.zeros((8, 3))), None, None)
