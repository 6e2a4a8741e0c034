"""A model remembers the output shape asked for last; whatever changes its layers must make it forget."""

from __future__ import annotations

from typing import Any

import pytest

from lstm_native.layers import LSTM, Dense, Input
from lstm_native.models import Sequential


def model() -> Sequential:
    return Sequential([Input((None, 3)), LSTM(5), Dense(2)])


def test_shapes_in_turns() -> None:
    m = model()
    for shape, expected in (((1, 4, 3), (1, 2)), ((7, 4, 3), (7, 2)), ((None, 4, 3), (None, 2))) * 2:
        assert m.compute_output_shape(shape) == expected
        assert m.compute_output_shape(list(shape)) == expected


def test_a_shape_that_does_not_fit_after_one_that_does() -> None:
    m = model()
    assert m.compute_output_shape((1, 4, 3)) == (1, 2)
    with pytest.raises(ValueError, match=r"\(1, 4, 6\)"):
        m.compute_output_shape((1, 4, 6))
    assert m.compute_output_shape((1, 4, 3)) == (1, 2)


def test_add_and_pop() -> None:
    m = model()
    assert m.compute_output_shape((1, 4, 3)) == (1, 2)
    m.add(Dense(9))
    assert m.compute_output_shape((1, 4, 3)) == (1, 9)
    m.pop()
    assert m.compute_output_shape((1, 4, 3)) == (1, 2)


def test_a_failed_add() -> None:
    def failing(shape: tuple[int, ...]) -> Any:
        assert m.compute_output_shape((1, 4, 3)) == (1, 9)
        raise RuntimeError("no numbers today")

    m = model()
    with pytest.raises(RuntimeError, match="today"):
        m.add(Dense(9, kernel_initializer=failing))
    assert m.compute_output_shape((1, 4, 3)) == (1, 2)
    assert m.output_shape == (None, 2)


def test_a_model_inside_a_model() -> None:
    inner = Sequential([Dense(4)])
    outer = Sequential([inner])
    assert outer.compute_output_shape((1, 3)) == (1, 4)
    inner.add(Dense(6))
    assert outer.compute_output_shape((1, 3)) == (1, 6)
