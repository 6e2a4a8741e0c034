"""Native losses, optimizer steps and array primitives against the yardstick, on every instruction set."""

from __future__ import annotations

from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import reference as ref
from lstm_native import _core
from native_support import (
    UNIT_ROUNDOFF,
    Array,
    assert_bits,
    f32,
    optional_tensor,
    tensor,
    using_isa,
    variable,
)

# A row's loss sums N terms, each right to a few u of itself and none negative: relative error N u at most.
# exp and log of the categorical ones lose up to |logit| u. 3e-6 is 50 u.
LOSS_TOLERANCE = 3e-6


LOGIT_LOSSES = [name for name in ref.LOSSES if "crossentropy" in name]
# What the one parameter of a loss may be.
PARAMETERS = {
    "binary_crossentropy": [0.0, 0.1, 0.5],
    "categorical_crossentropy": [0.0, 0.1, 0.5],
    "huber": [0.01, 1.0, 3.5],
}


def dtype_of(name: str) -> str:
    return "int32" if name.startswith("sparse") else "float32"


def native_loss(
    name: str,
    y_true: Array,
    y_pred: Array,
    weights: Array | None = None,
    from_logits: bool = False,
    parameter: float = 0.0,
) -> tuple[Array, Array]:
    arguments = (
        name,
        tensor(y_true, dtype_of(name)),
        tensor(y_pred),
        optional_tensor(weights),
        from_logits,
        parameter,
    )
    rows, gradient = _core.loss(*arguments, True)
    assert gradient is not None
    alone, nothing = _core.loss(*arguments, False)
    assert nothing is None
    assert_bits(alone.numpy(), rows.numpy(), "rows with and without the gradient")
    return rows.numpy(), gradient.numpy()


def labels(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
    if name == "sparse_categorical_crossentropy":
        return rng.integers(0, shape[-1], size=shape[:-1]).astype(np.int32)
    if name == "kl_divergence":
        share = rng.uniform(size=shape)
        return f32(share / share.sum(axis=-1, keepdims=True))
    if name == "categorical_crossentropy":
        return np.eye(shape[-1], dtype=np.float32)[rng.integers(0, shape[-1], size=shape[:-1])]
    if name == "binary_crossentropy":
        return f32(rng.integers(0, 2, size=shape))
    return f32(rng.normal(size=shape))


@pytest.mark.parametrize("name", ref.LOSSES)
@pytest.mark.parametrize("from_logits", [False, True])
@hypothesis.settings(max_examples=40)
@hypothesis.given(st.data())
def test_random(name: str, from_logits: bool, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    shape = (
        *tuple(data.draw(st.lists(st.integers(1, 12), min_size=0, max_size=2))),
        data.draw(st.integers(1, 60)),
    )
    parameter = data.draw(st.sampled_from(PARAMETERS.get(name, [0.0])))
    weights = f32(rng.uniform(0.0, 3.0, size=shape[:-1])) if data.draw(st.booleans()) else None
    y_true = labels(rng, name, shape)
    if name in ref.REGRESSION_LOSSES or (from_logits and name in LOGIT_LOSSES):
        y_pred = f32(rng.normal(size=shape) * 4.0)
    else:
        y_pred = f32(rng.uniform(0.01, 0.99, size=shape))
    rows, gradient = ref.loss(name, y_true, y_pred, weights, from_logits, parameter)
    for isa in _core.available_isas():
        with using_isa(isa):
            got_rows, got_gradient = native_loss(name, y_true, y_pred, weights, from_logits, parameter)
        assert got_rows.shape == rows.shape
        assert got_gradient.shape == gradient.shape
        # The categorical ones work on shifted logits (up to 30 apart) or logs (up to 5), and terms of the
        # divergence (up to 10) cancel: the error is theirs.
        scale = np.maximum(np.abs(rows), 10.0 if "categorical" in name or name == "kl_divergence" else 0.1)
        np.testing.assert_array_less(np.abs(got_rows - rows), LOSS_TOLERANCE * scale, err_msg=isa)
        bound = LOSS_TOLERANCE * np.maximum(np.abs(gradient), np.abs(gradient).max(axis=-1, keepdims=True))
        # A probability minus a label cancels: 4 u of their size is left.
        remainder = 4 * UNIT_ROUNDOFF * (1.0 if weights is None else weights[..., None])
        assert np.all(np.abs(got_gradient - gradient) <= bound + remainder), isa


@pytest.mark.parametrize("name", LOGIT_LOSSES)
def test_saturated_logits(isa: str, name: str) -> None:
    """A certainty, right or wrong, gives a finite loss and the full gradient."""
    y_pred = f32([[1e4, -1e4, 0.0], [200.0, -200.0, 88.0], [-1e30, 1e30, 0.0], [-95.0, 95.0, 0.0]])
    y_true = labels(np.random.default_rng(1), name, (4, 3))
    rows, gradient = ref.loss(name, y_true, y_pred, None, True)
    got_rows, got_gradient = native_loss(name, y_true, y_pred, None, True)
    np.testing.assert_allclose(got_rows, rows, rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(got_gradient, gradient, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("name", LOGIT_LOSSES)
def test_saturated_probabilities(isa: str, name: str) -> None:
    """Exactly 0 and 1: the numbers of Keras, which clips at 1e-7 in float32; never NaN."""
    y_pred = f32([[0.0, 1.0], [1.0, 0.0], [1e-8, 1.0], [0.0, 1.0]])
    y_true: Array = f32([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    if name.startswith("sparse"):
        y_true = np.argmax(y_true, axis=-1).astype(np.int32)
    rows, gradient = ref.loss(name, y_true, y_pred)
    got_rows, got_gradient = native_loss(name, y_true, y_pred)
    # Near 1 the loss is the log of a float32 one step below 1: right to one such step.
    np.testing.assert_allclose(got_rows, rows, rtol=1e-6, atol=2 * UNIT_ROUNDOFF)
    assert np.isfinite(got_gradient).all()
    np.testing.assert_allclose(got_gradient, gradient, rtol=1e-5, atol=1e-6)


def test_small_binary_losses_keep_their_digits(isa: str) -> None:
    """From logits, the loss of a right answer is exp(-|x|), not a rounded zero."""
    y_pred = f32([[5.0], [20.0], [50.0], [80.0]])
    rows, gradient = native_loss("binary_crossentropy", np.ones((4, 1)), y_pred, None, True)
    np.testing.assert_allclose(rows, np.log1p(np.exp(-y_pred.astype(np.float64)))[:, 0], rtol=1e-5)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", ref.LOSSES)
def test_nan_stays_in_its_row(isa: str, name: str) -> None:
    y_pred = f32(np.full((5, 4), 0.25))
    y_pred[2, 1] = np.nan
    y_true = labels(np.random.default_rng(2), name, (5, 4))
    rows, gradient = native_loss(name, y_true, y_pred, parameter=PARAMETERS.get(name, [0.0])[0])
    np.testing.assert_array_equal(np.isnan(rows), [False, False, True, False, False])
    assert np.isnan(gradient[2]).any()
    assert np.isfinite(gradient[[0, 1, 3, 4]]).all()


def test_zero_weights_and_empty_batches(isa: str) -> None:
    for name in ref.LOSSES:
        y_true = labels(np.random.default_rng(3), name, (3, 4))
        parameter = PARAMETERS.get(name, [0.0])[0]
        _, gradient = native_loss(name, y_true, f32(np.full((3, 4), 0.3)), np.zeros(3), parameter=parameter)
        np.testing.assert_array_equal(gradient, 0.0)
        rows, gradient = native_loss(name, y_true[:0], np.zeros((0, 4)), parameter=parameter)
        assert rows.shape == (0,)
        assert gradient.shape == (0, 4)


@pytest.mark.parametrize("columns", [1, 5])
def test_log_cosh_keeps_the_digits_of_any_difference(isa: str, columns: int) -> None:
    """Small differences are half their squares, not a rounded zero; large ones do not overflow."""
    size = np.concatenate(
        [np.geomspace(1e-15, 0.8, 400), np.linspace(0.8, 1.0, 400), np.geomspace(1.0, 3e37, 400)]
    )
    y_pred = f32(np.concatenate([size, -size]).reshape(-1, 1))
    expected, gradient = ref.loss("log_cosh", np.zeros(y_pred.shape), y_pred)
    y_pred = np.repeat(y_pred, columns, axis=1)
    got, got_gradient = native_loss("log_cosh", np.zeros(y_pred.shape), y_pred)
    # tanh to 2.6 ULP twice, 1 - tanh (down to 0.3, so its error triples), log1p to 2 and a few roundings.
    np.testing.assert_allclose(got, expected, rtol=24 * UNIT_ROUNDOFF, atol=1e-30)
    np.testing.assert_allclose(
        got_gradient[:, 0] * columns, gradient[:, 0], rtol=8 * UNIT_ROUNDOFF, atol=1e-30
    )


def test_huber_is_smooth_at_delta(isa: str) -> None:
    delta = np.float32(0.75)
    y_pred = f32([[0.75], [np.nextafter(delta, np.float32(1))], [-0.75], [0.0], [np.inf], [-np.inf]])
    rows, gradient = native_loss("huber", np.zeros((6, 1)), y_pred, parameter=0.75)
    np.testing.assert_allclose(rows, [0.28125, 0.28125, 0.28125, 0.0, np.inf, np.inf], rtol=1e-6)
    np.testing.assert_array_equal(gradient[:, 0], f32([0.75, 0.75, -0.75, 0.0, 0.75, -0.75]))


def test_divergence_of_zeros_is_finite(isa: str) -> None:
    """Labels and predictions are clipped to [1e-7, 1]; a clipped prediction has no gradient."""
    y_true, y_pred = f32([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]), f32([[0.0, 1.0], [0.0, 1.0], [-0.5, 1.5]])
    rows, gradient = ref.loss("kl_divergence", y_true, y_pred)
    got, got_gradient = native_loss("kl_divergence", y_true, y_pred)
    np.testing.assert_allclose(got, rows, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(got_gradient, gradient, rtol=1e-6)
    assert not got_gradient[2].any()


def test_wrong_arguments_of_loss() -> None:
    y = tensor(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="hinge"):
        _core.loss("hinge", y, y, None, False, 0.0, True)
    for name, parameter in (
        ("mean_squared_error", 0.5),
        ("binary_crossentropy", 1.5),
        ("huber", 0.0),
        ("huber", -1.0),
        ("huber", np.inf),
        ("huber", np.nan),
    ):
        with pytest.raises(ValueError, match=f"{name}: .* is {parameter:g}, expected"):
            _core.loss(name, y, y, None, False, parameter, True)
    with pytest.raises(ValueError, match=r"\("):
        _core.loss("mean_squared_error", tensor(np.zeros((2, 4))), y, None, False, 0.0, True)
    with pytest.raises(ValueError, match=r"\("):
        _core.loss("mean_squared_error", y, y, tensor(np.ones(3)), False, 0.0, True)
    with pytest.raises(ValueError, match=r"\("):
        _core.loss("sparse_categorical_crossentropy", tensor(np.zeros(3), "int32"), y, None, False, 0.0, True)
    for wrong in (3, -1):
        ids = tensor(np.array([0, wrong]), "int32")
        with pytest.raises(ValueError, match=str(wrong)):
            _core.loss("sparse_categorical_crossentropy", ids, y, None, False, 0.0, True)


# --- optimizers -------------------------------------------------------------------------------------

SHAPES = [(7, 12), (12,), (1,), (0,), (33, 64), (5, 1)]


def assert_close(got: Array, expected: Array, steps: int, name: str) -> None:
    """A step rounds each array a handful of times: 8 u of its size a step."""
    bound = 8 * steps * UNIT_ROUNDOFF * np.maximum(np.abs(expected), 0.05)
    assert np.all(np.abs(got - expected) <= bound), name


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("decayed", [False, True])
def test_adam(isa: str, amsgrad: bool, decayed: bool) -> None:
    rng = np.random.default_rng(10)
    weights = [f32(rng.normal(size=shape)) for shape in SHAPES]
    expected: list[tuple[Any, ...]] = [
        (w, np.zeros(w.shape), np.zeros(w.shape), np.zeros(w.shape) if amsgrad else None) for w in weights
    ]
    variables = [variable(w) for w in weights]
    m, v, v_hat = ([variable(np.zeros(shape)) for shape in SHAPES] for _ in range(3))
    decays = [0.01 * index for index in range(len(SHAPES))] if decayed else None
    for step in range(1, 21):
        # Sizes that fall, so that the running maximum of amsgrad differs from v.
        gradients = [f32(rng.normal(size=shape) * 2.0 / step) for shape in SHAPES]
        alpha = ref.adam_alpha(0.01, 0.9, 0.99, step)
        _core.adam_step(
            variables,
            [tensor(g) for g in gradients],
            m,
            v,
            v_hat if amsgrad else None,
            alpha,
            0.9,
            0.99,
            1e-7,
            decays,
        )
        expected = [
            ref.adam_step(w, g, m_, v_, v_hat_, alpha, 0.9, 0.99, 1e-7, decays[index] if decays else 0.0)
            for index, ((w, m_, v_, v_hat_), g) in enumerate(zip(expected, gradients, strict=True))
        ]
    for index, (w, m_, v_, v_hat_) in enumerate(expected):
        assert_close(variables[index].numpy(), w, 20, "variable")
        assert_close(m[index].numpy(), m_, 20, "m")
        assert_close(v[index].numpy(), v_, 20, "v")
        if amsgrad:
            assert_close(v_hat[index].numpy(), v_hat_, 20, "v_hat")


def test_adam_of_zero_and_tiny_gradients(isa: str) -> None:
    """No division by zero; subnormal squares count as zero or as themselves, the weights stay finite."""
    w = variable(np.ones(5))
    m, v = variable(np.zeros(5)), variable(np.zeros(5))
    g = f32([0.0, 1e-30, -1e-20, 1e-10, 0.0])
    _core.adam_step([w], [tensor(g)], [m], [v], None, 1e-3, 0.9, 0.999, 1e-7, None)
    assert np.isfinite(w.numpy()).all()
    np.testing.assert_array_equal(w.numpy()[[0, 4]], 1.0)


@pytest.mark.parametrize("momentum", [None, 0.9])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decayed", [False, True])
def test_sgd(isa: str, momentum: float | None, nesterov: bool, decayed: bool) -> None:
    rng = np.random.default_rng(11)
    weights = [f32(rng.normal(size=shape)) for shape in SHAPES]
    expected: list[tuple[Array, Array | None]] = [
        (w, None if momentum is None else np.zeros(w.shape)) for w in weights
    ]
    variables = [variable(w) for w in weights]
    velocities = None if momentum is None else [variable(np.zeros(shape)) for shape in SHAPES]
    decays = [0.01 * index for index in range(len(SHAPES))] if decayed else None
    for _ in range(10):
        gradients = [f32(rng.normal(size=shape)) for shape in SHAPES]
        tensors = [tensor(g) for g in gradients]
        _core.sgd_step(variables, tensors, velocities, 0.05, momentum or 0.0, nesterov, decays)
        expected = [
            ref.sgd_step(w, g, speed, 0.05, momentum or 0.0, nesterov, decays[index] if decays else 0.0)
            for index, ((w, speed), g) in enumerate(zip(expected, gradients, strict=True))
        ]
    for index, (w, speed) in enumerate(expected):
        assert_close(variables[index].numpy(), w, 10, "variable")
        if velocities is not None and speed is not None:
            assert_close(velocities[index].numpy(), speed, 10, "velocity")


def test_every_step_raises_the_version() -> None:
    w, m, v = (variable(np.ones(3)) for _ in range(3))
    before = w.version
    _core.sgd_step([w], [tensor(np.ones(3))], None, 0.1, 0.0, False, None)
    after = w.version
    assert after > before
    _core.adam_step([w], [tensor(np.ones(3))], [m], [v], None, 0.1, 0.9, 0.999, 1e-7, None)
    assert w.version > after


def test_a_refused_step_changes_nothing() -> None:
    """The second gradient does not fit: the first variable must not have moved."""
    variables, m, v = ([variable(np.ones(shape)) for shape in ((3,), (2, 2))] for _ in range(3))
    good, bad = tensor(np.ones(3)), tensor(np.ones((2, 3)))
    versions = [w.version for w in variables]
    adam = (0.1, 0.9, 0.999, 1e-7, None)
    with pytest.raises(ValueError, match=r"\("):
        _core.adam_step(variables, [good, bad], m, v, None, *adam)
    with pytest.raises(ValueError):
        _core.adam_step(variables, [good], m, v, None, *adam)
    with pytest.raises(ValueError):
        _core.adam_step(variables, [good, tensor(np.ones((2, 2)))], m[:1], v, None, *adam)
    with pytest.raises(ValueError):
        _core.adam_step(variables, [good, tensor(np.ones((2, 2)))], m, v, None, *adam[:-1], [0.1])
    with pytest.raises(ValueError, match=r"\("):
        _core.sgd_step(variables, [good, bad], None, 0.1, 0.0, False, None)
    with pytest.raises(ValueError, match=r"\("):
        _core.sgd_step(variables, [good, tensor(np.ones((2, 2)))], m[::-1], 0.1, 0.9, False, None)
    for arrays in (variables, m, v):
        for array in arrays:
            np.testing.assert_array_equal(array.numpy(), 1.0)
    assert [w.version for w in variables] == versions


# --- primitives ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 3, 15, 16, 17, 33, 100, 100_003])
def test_primitives(isa: str, size: int) -> None:
    """One rounding each, so equal to NumPy in float32; the norm is summed in double precision."""
    rng = np.random.default_rng(size)
    a, b = f32(rng.normal(size=size)), f32(rng.normal(size=size))
    assert_bits(_core.multiply(tensor(a), tensor(b)).numpy(), a * b)
    for operation, expected in (
        (lambda target: _core.add_(target, tensor(b)), a + b),
        (lambda target: _core.scale_(target, 0.3), a * np.float32(0.3)),
        (lambda target: _core.clip_(target, -0.5, 0.7), np.clip(a, np.float32(-0.5), np.float32(0.7))),
    ):
        target = tensor(a).copy()
        operation(target)
        assert_bits(target.numpy(), expected)
    expected_norm = float(np.sum(np.square(a.astype(np.float64))))
    np.testing.assert_allclose(_core.squared_norms([tensor(a)])[0], expected_norm, rtol=1e-12)


def test_squared_norm_beyond_float32(isa: str) -> None:
    np.testing.assert_allclose(_core.squared_norms([tensor(np.full(10, 1e30))])[0], 1e61, rtol=1e-6)


def test_wrong_dtypes() -> None:
    """Never taken for float32: a wrong dtype is refused, in every place, before anything is written."""
    good, wide = tensor(np.ones((2, 3))), tensor(np.ones((2, 3)), "float64")
    for y_true, y_pred, weights in (
        (wide, good, None),
        (good, wide, None),
        (good, good, tensor(np.ones(2), "int32")),
    ):
        with pytest.raises((TypeError, ValueError), match="float32"):
            _core.loss("mean_squared_error", y_true, y_pred, weights, False, 0.0, True)
    with pytest.raises((TypeError, ValueError), match="int32"):
        _core.loss("sparse_categorical_crossentropy", tensor(np.zeros(2)), good, None, False, 0.0, True)
    narrow, broad = _core.Variable(good), _core.Variable(wide)
    adam, sgd = (0.1, 0.9, 0.999, 1e-7, None), (0.1, 0.9, False, None)
    for w, g, slot in ((broad, good, narrow), (narrow, wide, narrow), (narrow, good, broad)):
        with pytest.raises((TypeError, ValueError), match="float32"):
            _core.adam_step([w], [g], [slot], [slot], None, *adam)
        with pytest.raises((TypeError, ValueError), match="float32"):
            _core.sgd_step([w], [g], [slot], *sgd)
    for operation in (
        lambda: _core.add_(good, wide),
        lambda: _core.add_(wide, good),
        lambda: _core.scale_(wide, 2.0),
        lambda: _core.clip_(wide, 0.0, 0.5),
        lambda: _core.multiply(good, wide),
        lambda: _core.squared_norms([wide]),
        lambda: _core.activation_backward("tanh", good, good, wide),
    ):
        with pytest.raises((TypeError, ValueError), match="float32"):
            operation()
    for array in (good, wide, narrow, broad):
        np.testing.assert_array_equal(array.numpy(), 1.0)


def test_wrong_arguments_of_primitives() -> None:
    a, b = tensor(np.zeros((2, 3))), tensor(np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"\("):
        _core.multiply(a, b)
    with pytest.raises(ValueError, match=r"\("):
        _core.add_(a, b)
