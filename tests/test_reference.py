"""The yardstick checked: every gradient of reference.py against central differences, values by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import reference as ref
import reference_recurrent as rec

Array = npt.NDArray[Any]

STEP = 1e-5


def central_difference(f: Callable[[], float], x: Array) -> Array:
    """Gradient of f with respect to x, which f reads in place."""
    gradient = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        saved = x[index]
        x[index] = saved + STEP
        above = f()
        x[index] = saved - STEP
        below = f()
        x[index] = saved
        gradient[index] = (above - below) / (2 * STEP)
    return gradient


def assert_gradient(got: Array, f: Callable[[], float], x: Array) -> None:
    """Relative norm <= 1e-6: for values of order 1 truncation is STEP**2 = 1e-10, rounding 1e-16 / STEP."""
    expected = central_difference(f, x)
    assert got.shape == expected.shape
    assert np.linalg.norm(got - expected) <= 1e-6 * np.linalg.norm(expected) + 1e-9


RECURRENT_CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "last_output": {"return_sequences": False},
    "go_backwards": {"go_backwards": True, "mask": "holes", "reset": True},
    "mask": {"mask": "holes"},
    "mask_last_output": {"mask": "right", "return_sequences": False},
    "mask_zero_output": {"mask": "holes", "zero_output_for_mask": True},
    "mask_zero_last_output": {"mask": "right", "zero_output_for_mask": True, "return_sequences": False},
    "reset": {"reset": True},
    "reset_and_mask": {"reset": True, "mask": "holes", "return_sequences": False},
    "no_bias": {"use_bias": False},
    "no_initial_state": {"initial": False, "mask": "left"},
    "softsign_hard_sigmoid": {"activation_name": "softsign", "recurrent_activation": "hard_sigmoid"},
    "linear": {"activation_name": "linear"},
    "elu_sparse_sigmoid": {"activation_name": "elu", "recurrent_activation": "sparse_sigmoid"},
}


@pytest.mark.parametrize("cell", rec.CELLS)
@pytest.mark.parametrize("case", RECURRENT_CASES)
def test_recurrent_gradients(case: str, cell: str) -> None:
    options = dict(RECURRENT_CASES[case])
    rng = np.random.default_rng(7)
    batch, time, inputs, units = 3, 5, 2, 3
    columns = rec.CELLS[cell].gates * units
    mask = {
        "holes": np.array([[1, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0]], bool),
        "right": np.array([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool),
        "left": np.array([[0, 0, 1, 1, 1], [0, 0, 0, 0, 1], [1, 1, 1, 1, 1]], bool),
        "": None,
    }[options.pop("mask", "")]
    reset = np.array([[1, 0, 1, 0, 1], [0, 1, 0, 0, 0], [0, 0, 0, 1, 0]], bool)
    if not options.pop("reset", False):
        reset = None
    values: dict[str, Array] = {
        "x": rng.normal(size=(batch, time, inputs)),
        "kernel": rng.normal(size=(inputs, columns)) * 0.7,
        "recurrent": rng.normal(size=(units, columns)) * 0.5,
    }
    bias = rng.normal(size=rec.CELLS[cell].bias_shape(units)) if options.pop("use_bias", True) else None
    if bias is not None:
        values["bias"] = bias
    h0 = c0 = None
    if options.pop("initial", True):
        h0, c0 = values["h0"], values["c0"] = rng.normal(size=(2, batch, units))
    d_h, d_c = rng.normal(size=(2, batch, units))

    def run() -> rec.RecurrentTrace:
        return rec.recurrent_forward(
            values["x"],
            values["kernel"],
            values["recurrent"],
            bias,
            cell=cell,
            mask=mask,
            reset=reset,
            h0=h0,
            c0=c0,
            **options,
        )

    d_output = rng.normal(size=run().output.shape)

    def total() -> float:
        trace = run()
        return float((trace.output * d_output).sum() + (trace.h * d_h).sum() + (trace.c * d_c).sum())

    gradients = rec.recurrent_backward(run(), d_output, d_h, d_c)
    names = {"x": "inputs"}
    for name, value in values.items():
        assert_gradient(getattr(gradients, names.get(name, name)), total, value)
    assert (gradients.bias is None) == (bias is None)


def test_lstm_one_step_by_hand() -> None:
    """Gates i, f, c, o in this order: one unit, one step, numbers worked out from the formulas."""
    trace = rec.recurrent_forward(
        np.array([[[2.0]]]),
        np.array([[0.1, 0.2, 0.3, 0.4]]),
        np.array([[0.5, 0.6, 0.7, 0.8]]),
        np.array([0.01, 0.02, 0.03, 0.04]),
        h0=np.array([[0.5]]),
        c0=np.array([[-0.4]]),
    )
    i, f, o = (1.0 / (1.0 + np.exp(-z)) for z in (0.46, 0.72, 1.24))
    c = f * -0.4 + i * np.tanh(0.98)
    np.testing.assert_allclose(trace.c, [[c]], rtol=1e-14)
    np.testing.assert_allclose(trace.output, [[[o * np.tanh(c)]]], rtol=1e-14)


def test_masked_steps_carry_the_state_and_repeat_the_output() -> None:
    rng = np.random.default_rng(3)
    x, kernel = rng.normal(size=(1, 5, 2)), rng.normal(size=(2, 12))
    recurrent, bias = rng.normal(size=(3, 12)), rng.normal(size=12)
    h0 = rng.normal(size=(1, 3))
    mask = np.array([[0, 1, 0, 1, 0]], bool)
    trace = rec.recurrent_forward(x, kernel, recurrent, bias, mask=mask, h0=h0)
    short = rec.recurrent_forward(x[:, [1, 3]], kernel, recurrent, bias, h0=h0)
    np.testing.assert_array_equal(trace.output[:, 0], 0.0)
    np.testing.assert_array_equal(trace.output[:, 1:], short.output[:, [0, 0, 1, 1]])
    np.testing.assert_array_equal(trace.c, short.c)
    zeroed = rec.recurrent_forward(x, kernel, recurrent, bias, mask=mask, h0=h0, zero_output_for_mask=True)
    np.testing.assert_array_equal(zeroed.output, np.where(mask[..., None], trace.output, 0.0))


def test_reset_starts_a_new_sequence() -> None:
    rng = np.random.default_rng(4)
    x, kernel = rng.normal(size=(2, 6, 2)), rng.normal(size=(2, 12))
    recurrent, h0 = rng.normal(size=(3, 12)), rng.normal(size=(2, 3))
    reset = np.zeros((2, 6), bool)
    reset[:, 4] = True
    whole = rec.recurrent_forward(x, kernel, recurrent, None, reset=reset, h0=h0)
    first = rec.recurrent_forward(x[:, :4], kernel, recurrent, None, h0=h0)
    second = rec.recurrent_forward(x[:, 4:], kernel, recurrent, None, h0=h0)
    np.testing.assert_array_equal(whole.output, np.concatenate([first.output, second.output], axis=1))
    mask = np.array([[1, 1, 1, 1, 0, 1], [1, 1, 1, 1, 0, 0]], bool)
    masked = rec.recurrent_forward(x, kernel, recurrent, None, reset=reset, mask=mask, h0=h0)
    np.testing.assert_array_equal(masked.output[:, 4], 0.0)
    np.testing.assert_array_equal(masked.h[1], h0[1])


@pytest.mark.parametrize("name", [*ref.ELEMENTWISE, *ref.ALIASES, *ref.OVER_LAST_AXIS])
def test_activation_gradients(name: str) -> None:
    rng = np.random.default_rng(5)
    x = rng.uniform(-4, 4, size=(6, 7)) + 0.0123  # no point of it is a kink
    d_y = rng.normal(size=x.shape)
    assert_gradient(
        ref.activation_gradient(name, x, d_y), lambda: float((ref.activation(name, x) * d_y).sum()), x
    )


def test_activation_values_by_hand() -> None:
    x = np.array([-7.0, -0.75, 0.0, 0.25, 7.0])
    expected = {
        "relu6": [0.0, 0.0, 0.0, 0.25, 6.0],
        "leaky_relu": [-1.4, -0.15, 0.0, 0.25, 7.0],
        "hard_sigmoid": [0.0, 0.375, 0.5, 0.5 + 0.25 / 6, 1.0],
        "hard_tanh": [-1.0, -0.75, 0.0, 0.25, 1.0],
        "softsign": [-0.875, -0.75 / 1.75, 0.0, 0.2, 0.875],
        "soft_shrink": [-6.5, -0.25, 0.0, 0.0, 6.5],
        "hard_shrink": [-7.0, -0.75, 0.0, 0.0, 7.0],
        "sparse_plus": [0.0, 0.015625, 0.25, 0.390625, 7.0],
        "sparse_sigmoid": [0.0, 0.125, 0.5, 0.625, 1.0],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(ref.activation(name, x), values, rtol=1e-14, err_msg=name)
    np.testing.assert_allclose(ref.activation("sparsemax", np.array([[1.0, 0.8, -1.0]])), [[0.6, 0.4, 0.0]])
    np.testing.assert_allclose(ref.activation("softmax", np.array([[800.0, 800.0]])), [[0.5, 0.5]])


def test_dense_and_embedding_gradients() -> None:
    rng = np.random.default_rng(6)
    x, kernel, bias = rng.normal(size=(2, 3, 4)), rng.normal(size=(4, 5)), rng.normal(size=5)
    d_y = rng.normal(size=(2, 3, 5))

    def dense() -> float:
        return float((ref.dense_forward(x, kernel, bias) * d_y).sum())

    for got, value in zip(ref.dense_backward(x, kernel, d_y), (x, kernel, bias), strict=True):
        assert_gradient(got, dense, value)
    table, ids = rng.normal(size=(6, 5)), np.array([[0, 3, 3], [5, 3, 1]])
    assert_gradient(
        ref.embedding_backward(ids, d_y, 6),
        lambda: float((ref.embedding_forward(table, ids) * d_y).sum()),
        table,
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("parameter", [0.0, 0.1])
@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("name", ref.LOSSES)
def test_loss_gradients(name: str, from_logits: bool, parameter: float, weighted: bool) -> None:
    rng = np.random.default_rng(8)
    y_pred = rng.normal(size=(2, 3, 4)) if from_logits else rng.uniform(0.1, 0.9, size=(2, 3, 4))
    y_true: Array = rng.uniform(size=(2, 3, 4))
    if name == "sparse_categorical_crossentropy":
        y_true = rng.integers(0, 4, size=(2, 3))
    weights = rng.uniform(0.5, 2.0, size=(2, 3)) if weighted else None

    def total() -> float:
        rows, _ = ref.loss(name, y_true, y_pred, None, from_logits, parameter)
        return float(rows.sum() if weights is None else (rows * weights).sum())

    assert_gradient(ref.loss(name, y_true, y_pred, weights, from_logits, parameter)[1], total, y_pred)


def test_loss_values_by_hand() -> None:
    rows, _ = ref.loss("binary_crossentropy", np.array([[1.0, 0.0]]), np.array([[0.8, 0.4]]))
    np.testing.assert_allclose(rows, [-(np.log(0.8) + np.log(0.6)) / 2])
    logits = np.log(np.array([[0.8, 0.4]]) / np.array([[0.2, 0.6]]))
    same, _ = ref.loss("binary_crossentropy", np.array([[1.0, 0.0]]), logits, from_logits=True)
    np.testing.assert_allclose(same, rows)
    # Probabilities that do not sum to one are normalized.
    rows, _ = ref.loss("categorical_crossentropy", np.array([[0.0, 1.0]]), np.array([[1.0, 3.0]]))
    np.testing.assert_allclose(rows, [-np.log(0.75)])
    rows, _ = ref.loss("sparse_categorical_crossentropy", np.array([1]), np.array([[1.0, 3.0]]))
    np.testing.assert_allclose(rows, [-np.log(0.75)])
    # A wrong certainty costs what Keras in float32 makes of it, and has no gradient behind the clip.
    rows, gradient = ref.loss("binary_crossentropy", np.array([[1.0], [0.0]]), np.array([[0.0], [1.0]]))
    np.testing.assert_allclose(rows, [16.118095, 15.942385], rtol=1e-6)
    np.testing.assert_array_equal(gradient, 0.0)
    rows, _ = ref.loss("mean_squared_error", np.array([[1.0, 2.0]]), np.array([[3.0, 2.0]]))
    np.testing.assert_allclose(rows, [2.0])
    rows, _ = ref.loss("mean_absolute_error", np.array([[1.0, 2.0]]), np.array([[3.0, 2.0]]))
    np.testing.assert_allclose(rows, [1.0])
    # Quadratic up to delta, then a straight line.
    rows, _ = ref.loss("huber", np.array([[1.0, 2.0]]), np.array([[1.1, 4.0]]), parameter=0.5)
    np.testing.assert_allclose(rows, [(0.5 * 0.1**2 + 0.5 * (2.0 - 0.25)) / 2])
    rows, _ = ref.loss("log_cosh", np.array([[0.0, 1.0]]), np.array([[0.3, -4.0]]))
    np.testing.assert_allclose(rows, [(np.log(np.cosh(0.3)) + np.log(np.cosh(5.0))) / 2])
    rows, _ = ref.loss("kl_divergence", np.array([[0.4, 0.6]]), np.array([[0.8, 0.2]]))
    np.testing.assert_allclose(rows, [0.4 * np.log(0.5) + 0.6 * np.log(3.0)])
    with pytest.raises(ValueError, match="hinges"):
        ref.loss("hinges", np.zeros((1, 1)), np.zeros((1, 1)))


def test_adam_by_hand() -> None:
    """The first step moves each weight by the learning rate against its gradient's sign."""
    w, g = np.array([1.0, -2.0]), np.array([0.3, -5.0])
    alpha = ref.adam_alpha(0.01, 0.9, 0.999, 1)
    new, m, v, v_hat = ref.adam_step(w, g, np.zeros(2), np.zeros(2), None, alpha, 0.9, 0.999, 0.0)
    np.testing.assert_allclose(new, [0.99, -1.99], rtol=1e-12)
    np.testing.assert_allclose(m, 0.1 * g)
    np.testing.assert_allclose(v, 0.001 * g * g)
    assert v_hat is None
    new, _, _, v_hat = ref.adam_step(w, g, m, v, np.array([1.0, 0.0]), 0.5, 0.9, 0.999, 1e-7, decay=0.1)
    v_new = v + 0.001 * (g * g - v)
    np.testing.assert_allclose(v_hat, [1.0, v_new[1]])
    m_new = 0.9 * m + 0.1 * g
    np.testing.assert_allclose(new, 0.9 * w - 0.5 * m_new / (np.sqrt([1.0, v_new[1]]) + 1e-7))


def test_sgd_by_hand() -> None:
    w, g, velocity = np.array([1.0]), np.array([2.0]), np.array([0.5])
    np.testing.assert_allclose(ref.sgd_step(w, g, None, 0.1)[0], [0.8])
    new, speed = ref.sgd_step(w, g, velocity, 0.1, momentum=0.9)
    np.testing.assert_allclose(speed, [0.25])
    np.testing.assert_allclose(new, [1.25])
    np.testing.assert_allclose(ref.sgd_step(w, g, velocity, 0.1, momentum=0.9, nesterov=True)[0], [1.025])
    np.testing.assert_allclose(ref.sgd_step(w, g, None, 0.1, decay=0.01)[0], [0.79])
