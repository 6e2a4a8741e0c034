"""Calls of the native recurrence: what changes no bit, what is kept between calls, what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lstm_native import _core
from native_support import (
    assert_bits,
    f32,
    indexed,
    recurrent_case,
    tensor,
    variable,
)


def test_a_mask_of_ones_changes_no_bit(isa: str) -> None:
    case = recurrent_case(22, 9, 8, 5, 19)
    ones = replace(case, mask=np.ones((9, 8), bool), reset=np.zeros((9, 8), bool))
    for got, expected in zip(ones.forward(ones.weights())[:3], case.forward(case.weights())[:3], strict=True):
        assert_bits(got, expected)


def test_only_the_gradients_asked_for(isa: str) -> None:
    case = recurrent_case(25, 5, 6, 4, 18)
    weights = case.weights()
    everything = case.gradients()
    for need_d_inputs, need_d_initial in ((False, False), (True, False), (False, True)):
        saved = case.forward(weights, training=True)[3]
        gradients = case.backward(weights, saved, need_d_inputs, need_d_initial)
        assert (gradients["inputs"] is not None) == need_d_inputs
        assert (gradients["h0"] is not None) == need_d_initial
        assert (gradients["c0"] is not None) == need_d_initial
        for name, value in gradients.items():
            expected = everything[name]
            if value is not None and expected is not None:
                assert_bits(value, expected, name)


@pytest.mark.parametrize("name", ["softmax", "no_such_activation"])
def test_refused_activations(name: str) -> None:
    case = recurrent_case(27, 1, 1, 2, 3)
    kernel, recurrent, bias = variable(case.kernel), variable(case.recurrent), variable(case.bias)
    with pytest.raises(ValueError, match=name):
        _core.RecurrentWeights("lstm", kernel, recurrent, bias, name, "sigmoid")
    with pytest.raises(ValueError, match=name):
        _core.RecurrentWeights("lstm", kernel, recurrent, bias, "tanh", name)


def test_a_changed_weight_counts_at_once(isa: str) -> None:
    """Packed weights follow every write to each of the three variables."""
    case = recurrent_case(28, 3, 4, 5, 9)
    kernel, recurrent, bias = variable(case.kernel), variable(case.recurrent), variable(case.bias)
    weights = _core.RecurrentWeights("lstm", kernel, recurrent, bias, "tanh", "sigmoid")
    case.forward(weights)
    assert case.bias is not None
    for target, name in ((kernel, "kernel"), (recurrent, "recurrent"), (bias, "bias")):
        case = replace(case, **{name: getattr(case, name) * np.float32(0.5)})
        target.assign(tensor(getattr(case, name)))
        expected = case.forward(case.weights())[0]
        assert_bits(case.forward(weights)[0], expected, name)


def test_saved_serves_one_backward_call() -> None:
    case = recurrent_case(29, 3, 4, 5, 9)
    weights = case.weights()
    saved = case.forward(weights, training=True)[3]
    case.backward(weights, saved)
    with pytest.raises((RuntimeError, ValueError)):
        case.backward(weights, saved)


def test_backward_uses_the_inputs_of_its_forward_call(isa: str) -> None:
    """Two forward calls before the two backward calls: nothing is shared between them."""
    first, second = recurrent_case(30, 3, 4, 5, 9), recurrent_case(31, 6, 2, 5, 9)
    second = replace(second, kernel=first.kernel, recurrent=first.recurrent, bias=first.bias)
    weights = first.weights()
    saved = [case.forward(weights, training=True)[3] for case in (first, second)]
    for case, kept in zip((first, second), saved, strict=True):
        gradients, expected = case.backward(weights, kept), case.gradients()
        for name, value in gradients.items():
            alone = expected[name]
            assert value is not None
            assert alone is not None
            assert_bits(value, alone, name)


def test_nan_and_infinity_stay_in_their_row(isa: str) -> None:
    case = recurrent_case(32, 14, 6, 5, 20)
    x = case.x.copy()
    x[3, 2, 1], x[7, 0, 0], x[9, 1, 2] = np.nan, np.inf, -np.inf
    dirty = replace(case, x=x)
    output = dirty.forward(dirty.weights())[0]
    clean = case.forward(case.weights())[0]
    others = [row for row in range(14) if row not in (3, 7, 9)]
    assert_bits(output[others], clean[others])
    assert_bits(output[3, :2], clean[3, :2])
    assert np.isnan(output[3, 2:]).all()
    assert not np.isnan(output[7, 0]).any()  # saturated gates, not NaN
    np.testing.assert_array_less(np.abs(output[7, 0]), 1.0 + 1e-6)


def test_a_masked_nan_is_never_read_into_the_state(isa: str) -> None:
    case = recurrent_case(33, 5, 6, 4, 18, mask="holes")
    assert case.mask is not None
    dirty = replace(case, x=np.where(case.mask[..., None], case.x, f32(np.nan)))
    assert_bits(dirty.forward(dirty.weights())[0], case.forward(case.weights())[0])


def test_weights_written_between_forward_and_backward(isa: str) -> None:
    """The gradient is that of the weights which the forward call saw."""
    case = recurrent_case(39, 5, 6, 4, 18)
    kernel, recurrent = variable(case.kernel), variable(case.recurrent)
    assert case.bias is not None
    weights = _core.RecurrentWeights("lstm", kernel, recurrent, variable(case.bias), "tanh", "sigmoid")
    saved = case.forward(weights, training=True)[3]
    kernel.assign(tensor(case.kernel * 3.0))
    recurrent.assign(tensor(case.recurrent * 3.0))
    expected = case.gradients()
    for name, value in case.backward(weights, saved).items():
        wanted = expected[name]
        assert value is not None
        assert wanted is not None
        assert_bits(value, wanted, name)


def test_empty_batch(isa: str) -> None:
    case = recurrent_case(34, 2, 3, 4, 5).rows(slice(0, 0))
    weights = case.weights()
    output, h, c, saved = case.forward(weights, training=True)
    assert output.shape == (0, 3, 5)
    for name, gradient in case.backward(weights, saved).items():
        assert gradient is not None
        np.testing.assert_array_equal(gradient, 0.0, err_msg=name)
    assert h.shape == (0, 5)
    assert c.shape == (0, 5)
    output = replace(case, return_sequences=False).forward(case.weights())[0]
    assert output.shape == (0, 5)


def test_projecting_each_row_once_changes_no_bit(isa: str) -> None:
    case = indexed(recurrent_case(38, 14, 20, 6, 20, mask="holes"), 30)
    plain = replace(case, table=None, index=None)
    for got, expected in zip(
        case.forward(case.weights())[:3], plain.forward(plain.weights())[:3], strict=True
    ):
        assert_bits(got, expected)
    got_gradients, gradients = case.gradients(), plain.gradients()
    for name in ("recurrent", "bias", "h0", "c0"):
        assert_bits(got_gradients[name], gradients[name], name)


@pytest.mark.parametrize("steps", [1, 2, 7, 19, 20, 1000])
def test_checkpoints_change_no_output_and_no_state_gradient(isa: str, steps: int) -> None:
    plain = recurrent_case(39, 14, 20, 6, 20, mask="holes", reset=True)
    case = replace(plain, checkpoint_steps=steps)
    weights = plain.weights()
    for got, expected in zip(
        case.forward(weights, training=True)[:3], plain.forward(weights, training=True)[:3], strict=True
    ):
        assert_bits(got, expected)
    got_gradients, gradients = case.gradients(), plain.gradients()
    for name in ("inputs", "h0", "c0"):
        assert_bits(got_gradients[name], gradients[name], name)


@pytest.mark.parametrize("row", [-1, 30, 2**31 - 1])
def test_an_index_outside_the_rows(row: int) -> None:
    case = indexed(recurrent_case(40, 3, 4, 5, 9), 30)
    assert case.index is not None
    case.index[1, 2] = row
    with pytest.raises(ValueError, match=rf"index holds {row}, expected row numbers in \[0, 30\)"):
        case.forward(case.weights())


def test_wrong_shapes_of_an_index() -> None:
    case = indexed(recurrent_case(41, 3, 4, 5, 9), 30)
    for index, table in (
        (np.zeros(4, np.int32), case.table),
        (np.zeros((3, 4, 1), np.int32), case.table),
        (case.index, case.x),
        (case.index, np.zeros((30, 6), np.float32)),
        (np.zeros((3, 0), np.int32), case.table),
    ):
        with pytest.raises(ValueError, match=r"\("):
            replace(case, index=index, table=table).forward(case.weights())
    with pytest.raises(ValueError, match="checkpoint_steps is -1"):
        replace(case, index=None, table=None, checkpoint_steps=-1).forward(case.weights())
    with pytest.raises(ValueError, match="checkpoint_steps with indexed inputs"):
        replace(case, checkpoint_steps=2).forward(case.weights())


WRONG: dict[str, dict[str, Any]] = {
    "rank of inputs": {"x": np.zeros((2, 4), np.float32)},
    "no time step": {"x": np.zeros((2, 0, 4), np.float32)},
    "features of inputs": {"x": np.zeros((2, 3, 5), np.float32)},
    "mask": {"mask": np.ones((2, 4), bool)},
    "reset": {"reset": np.ones((3, 3), bool)},
    "initial_h": {"h0": np.zeros((2, 6), np.float32)},
    "initial_c": {"c0": np.zeros((1, 5), np.float32)},
    "recurrent_mask": {"recurrent_mask": np.zeros((2, 4), np.float32)},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_shapes_of_forward(wrong: str) -> None:
    case = recurrent_case(35, 2, 3, 4, 5)
    with pytest.raises(ValueError, match=r"\("):  # the message shows the shapes
        replace(case, **WRONG[wrong]).forward(case.weights())


def test_wrong_shapes_of_weights() -> None:
    kernel, recurrent, bias = (variable(np.zeros(shape)) for shape in ((4, 20), (5, 20), (20,)))
    names = "tanh", "sigmoid"
    for arguments in (
        (variable(np.zeros((4, 21))), recurrent, bias),
        (variable(np.zeros(20)), recurrent, bias),
        (kernel, variable(np.zeros((6, 20))), bias),
        (kernel, recurrent, variable(np.zeros(19))),
        (kernel, recurrent, variable(np.zeros((2, 10)))),
    ):
        with pytest.raises(ValueError, match=r"\("):
            _core.RecurrentWeights("lstm", *arguments, *names)
    with pytest.raises(ValueError, match="nonsense"):
        _core.RecurrentWeights("nonsense", kernel, recurrent, bias, *names)


@pytest.mark.parametrize("name", ["d_output", "d_h", "d_c"])
def test_wrong_shapes_of_backward_leave_saved_good(name: str) -> None:
    case = recurrent_case(36, 2, 3, 4, 5)
    weights = case.weights()
    saved = case.forward(weights, training=True)[3]
    with pytest.raises(ValueError, match=r"\("):
        replace(case, **{name: np.zeros((2, 7), np.float32)}).backward(weights, saved)
    expected = case.gradients()["kernel"]
    got = case.backward(weights, saved)["kernel"]
    assert got is not None
    assert expected is not None
    assert_bits(got, expected)


def test_wrong_dtypes() -> None:
    """Never taken for float32: a wrong dtype is refused, in every place."""
    case = recurrent_case(37, 2, 3, 4, 5)
    weights = case.weights()
    x, state, flags = tensor(case.x), tensor(case.h0, "float64"), (True, False, False, True)
    mask = tensor(np.ones((2, 3)), "uint8")
    for arguments in (
        (tensor(case.x, "float64"), None, None, None, None),
        (x, mask, None, None, None),
        (x, None, mask, None, None),
        (x, None, None, state, None),
        (x, None, None, None, state),
    ):
        with pytest.raises((TypeError, ValueError), match=r"float32|bool"):
            _core.recurrent_forward(weights, *arguments, *flags)
    saved = case.forward(weights, training=True)[3]
    assert saved is not None
    with pytest.raises((TypeError, ValueError), match="float32"):
        _core.recurrent_backward(weights, saved, None, state, None, True, True)
    wide = _core.Variable(tensor(case.kernel, "float64"))
    with pytest.raises((TypeError, ValueError), match="float32"):
        _core.RecurrentWeights("lstm", wide, variable(case.recurrent), None, "tanh", "sigmoid")
