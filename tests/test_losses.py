"""Losses: values and gradients against the reference, weights, masks, reductions, labels that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import reference
from lstm_native import _core, losses
from lstm_native.layers import LSTM, Dense, Masking
from lstm_native.models import Sequential
from lstm_native.utils import set_random_seed

RNG = np.random.default_rng(7)
# float32 results of a handful of float32 operations near 1: a few dozen roundings of 6e-8.
TOLERANCE = {"rtol": 2e-5, "atol": 2e-6}

ACTIVATIONS = {"kl_divergence": "softmax"}


def case(name: str, shape: tuple[int, ...], from_logits: bool = False) -> tuple[Any, Any]:
    """Labels and predictions that fit the loss `name`; `shape` is that of the predictions."""
    logits = RNG.normal(0, 2, shape).astype(np.float32)
    if name == "sparse_categorical_crossentropy":
        y_true: Any = RNG.integers(0, shape[-1], shape[:-1])
    elif name == "categorical_crossentropy":
        y_true = np.eye(shape[-1], dtype=np.float32)[RNG.integers(0, shape[-1], shape[:-1])]
    elif name == "binary_crossentropy":
        y_true = RNG.integers(0, 2, shape).astype(np.float32)
    elif name == "kl_divergence":
        y_true = RNG.dirichlet(np.ones(shape[-1]), shape[:-1]).astype(np.float32)
    else:
        y_true = RNG.normal(size=shape).astype(np.float32)
    if from_logits or name in reference.REGRESSION_LOSSES:
        return y_true, logits
    odds = np.exp(logits)
    share = odds / (1 + odds) if name == "binary_crossentropy" else odds / odds.sum(-1, keepdims=True)
    return y_true, share.astype(np.float32)


@pytest.mark.parametrize("name", reference.LOSSES)
@pytest.mark.parametrize("shape", [(1, 3), (5, 2), (4, 6, 3)])
def test_value_and_gradient_match_the_reference(name: str, shape: tuple[int, ...]) -> None:
    y_true, y_pred = case(name, shape)
    loss = losses.get(name)
    rows, gradient = reference.loss(name, y_true, y_pred, parameter=1.0 if name == "huber" else 0.0)
    assert loss(y_true, y_pred) == pytest.approx(rows.mean(), rel=1e-5)
    value, d_pred = loss.forward_backward(
        loss.prepare(y_true, shape), _core.as_tensor(y_pred, "float32"), need_gradient=True
    )
    assert value == pytest.approx(rows.mean(), rel=1e-5)
    assert d_pred is not None
    np.testing.assert_allclose(d_pred.numpy(), gradient / rows.size, **TOLERANCE)


@pytest.mark.parametrize("name", [n for n in reference.LOSSES if "crossentropy" in n])
def test_from_logits_and_its_override(name: str) -> None:
    y_true, logits = case(name, (6, 4), from_logits=True)
    rows, gradient = reference.loss(name, y_true, logits, from_logits=True)
    own = losses.get({"class_name": name, "config": {"from_logits": True}})
    assert own.logits_activation is None
    assert own(y_true, logits) == pytest.approx(rows.mean(), rel=1e-5)
    fused = losses.get(name)
    assert fused.logits_activation == ("sigmoid" if name.startswith("binary") else "softmax")
    prepared = fused.prepare(y_true, logits.shape)
    value, d_pred = fused.forward_backward(
        prepared, _core.as_tensor(logits, "float32"), need_gradient=True, from_logits=True
    )
    assert value == pytest.approx(rows.mean(), rel=1e-5)
    assert d_pred is not None
    np.testing.assert_allclose(d_pred.numpy(), gradient / 6, **TOLERANCE)


@pytest.mark.parametrize("name", ["binary_crossentropy", "categorical_crossentropy"])
def test_label_smoothing(name: str) -> None:
    y_true, y_pred = case(name, (5, 3))
    rows, _ = reference.loss(name, y_true, y_pred, parameter=0.2)
    loss = losses.get({"class_name": name, "config": {"label_smoothing": 0.2}})
    assert loss(y_true, y_pred) == pytest.approx(rows.mean(), rel=1e-5)


@pytest.mark.parametrize("delta", [0.1, 1.0, 5])
def test_huber_takes_delta(delta: float) -> None:
    y_true, y_pred = case("huber", (5, 3))
    mask = np.array([True, True, False, True, False])
    rows, gradient = reference.loss("huber", y_true, y_pred, mask / 3, parameter=delta)
    loss = losses.Huber(delta)
    np.testing.assert_allclose(losses.huber(y_true, y_pred, delta), rows, **TOLERANCE)
    assert loss(y_true, y_pred) == pytest.approx(rows.mean(), rel=1e-5)
    value, d_pred = loss.forward_backward(
        y_true, _core.as_tensor(y_pred, "float32"), None, mask, need_gradient=True
    )
    assert value == pytest.approx(rows[mask].mean(), rel=1e-5)
    assert d_pred is not None
    np.testing.assert_allclose(d_pred.numpy(), gradient, **TOLERANCE)
    assert losses.Huber.from_config(loss.get_config()).get_config() == loss.get_config()
    assert loss.name == "huber_loss"
    assert loss.dtype == "float32"


@pytest.mark.parametrize("delta", [0, -1.0, float("nan"), float("inf"), "1"])
def test_huber_refuses_a_delta_that_is_not_positive(delta: Any) -> None:
    with pytest.raises(ValueError, match=r"delta is .* expected a positive number"):
        losses.Huber(delta)


@pytest.mark.parametrize("name", ["binary_crossentropy", "categorical_crossentropy"])
def test_saturated_predictions_give_finite_loss_and_gradient(name: str) -> None:
    y_true = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    for from_logits, y_pred in ((False, 1 - y_true), (True, (1 - y_true) * 200 - 100)):
        loss = losses.get({"class_name": name, "config": {"from_logits": from_logits}})
        value, d_pred = loss.forward_backward(
            y_true, _core.as_tensor(y_pred.astype(np.float32), "float32"), need_gradient=True
        )
        assert np.isfinite(value)
        assert value > 10
        assert d_pred is not None
        assert np.isfinite(d_pred.numpy()).all()


def test_functions_give_a_value_per_row() -> None:
    y_true, y_pred = case("binary_crossentropy", (4, 3))
    rows, _ = reference.loss("binary_crossentropy", y_true, y_pred)
    result = losses.binary_crossentropy(y_true, y_pred)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, rows, **TOLERANCE)
    for name in ("log_cosh", "kl_divergence"):
        y_true, y_pred = case(name, (4, 3))
        rows, _ = reference.loss(name, y_true, y_pred)
        np.testing.assert_allclose(getattr(losses, name)(y_true, y_pred), rows, **TOLERANCE)
    labels, shares = case("sparse_categorical_crossentropy", (4, 3))
    rows, _ = reference.loss("sparse_categorical_crossentropy", labels, shares)
    np.testing.assert_allclose(losses.sparse_categorical_crossentropy(labels, shares), rows, **TOLERANCE)


def test_sample_weights_multiply_before_the_average() -> None:
    y_true, y_pred = case("mean_squared_error", (4, 3))
    weights = np.array([1.0, 0.0, 2.0, 0.5])
    rows, gradient = reference.loss("mean_squared_error", y_true, y_pred, weights / 4)
    loss = losses.MeanSquaredError()
    assert loss(y_true, y_pred, weights) == pytest.approx((rows * weights).sum() / 4, rel=1e-5)
    assert loss(y_true, y_pred, weights[:, None]) == loss(y_true, y_pred, weights)
    assert loss(y_true, y_pred, 2.0) == pytest.approx(2 * rows.mean(), rel=1e-5)
    value, d_pred = loss.forward_backward(
        y_true, _core.as_tensor(y_pred, "float32"), weights, need_gradient=True
    )
    assert value == pytest.approx((rows * weights).sum() / 4, rel=1e-5)
    assert d_pred is not None
    np.testing.assert_allclose(d_pred.numpy(), gradient, **TOLERANCE)


def test_weights_of_a_sequence_count_for_each_step() -> None:
    y_true, y_pred = case("mean_squared_error", (3, 5, 2))
    rows, _ = reference.loss("mean_squared_error", y_true, y_pred)
    weights = np.array([1.0, 0.0, 3.0])
    loss = losses.MeanSquaredError()
    assert loss(y_true, y_pred, weights) == pytest.approx((rows * weights[:, None]).mean(), rel=1e-5)
    steps = RNG.uniform(size=(3, 5))
    assert loss(y_true, y_pred, steps) == pytest.approx((rows * steps).mean(), rel=1e-5)


def test_mask_divides_by_the_valid_steps() -> None:
    y_true, y_pred = case("mean_squared_error", (3, 5, 2))
    mask = RNG.uniform(size=(3, 5)) < 0.6
    weights = RNG.uniform(size=(3, 5))
    rows, _ = reference.loss("mean_squared_error", y_true, y_pred)
    loss = losses.MeanSquaredError()
    pred = _core.as_tensor(y_pred, "float32")
    value, d_pred = loss.forward_backward(y_true, pred, None, mask, need_gradient=True)
    assert value == pytest.approx(rows[mask].mean(), rel=1e-5)
    _, gradient = reference.loss("mean_squared_error", y_true, y_pred, mask / mask.sum())
    assert d_pred is not None
    np.testing.assert_allclose(d_pred.numpy(), gradient, **TOLERANCE)
    value, _ = loss.forward_backward(y_true, pred, weights, mask, need_gradient=False)
    assert value == pytest.approx((rows * weights)[mask].sum() / mask.sum(), rel=1e-5)


def test_a_fully_masked_batch_has_loss_zero_and_no_gradient() -> None:
    y_true, y_pred = case("mean_squared_error", (2, 3, 1))
    value, d_pred = losses.MeanSquaredError().forward_backward(
        y_true, _core.as_tensor(y_pred, "float32"), None, np.zeros((2, 3), np.bool_), need_gradient=True
    )
    assert value == 0.0
    assert d_pred is not None
    assert not d_pred.numpy().any()


@pytest.mark.parametrize("odd", [np.nan, 1e30])  # the square of the second is infinite
def test_a_row_that_does_not_count_may_have_no_loss(odd: float) -> None:
    y_true, y_pred = case("mean_squared_error", (3, 2))
    y_true[1] = odd
    loss = losses.MeanSquaredError()
    assert not np.isfinite(loss(y_true, y_pred))
    assert np.isfinite(loss(y_true, y_pred, [1.0, 0.0, 1.0]))
    value, d_pred = loss.forward_backward(
        y_true, _core.as_tensor(y_pred, "float32"), None, np.array([True, False, True]), need_gradient=True
    )
    assert np.isfinite(value)
    assert d_pred is not None
    assert np.isfinite(d_pred.numpy()).all()
    assert not d_pred.numpy()[1].any()


def test_reductions() -> None:
    y_true, y_pred = case("mean_squared_error", (4, 3))
    rows, gradient = reference.loss("mean_squared_error", y_true, y_pred)
    weights = np.array([1.0, 0.0, 2.0, 0.5])
    assert losses.MeanSquaredError("sum")(y_true, y_pred) == pytest.approx(rows.sum(), rel=1e-5)
    assert losses.MeanSquaredError("mean")(y_true, y_pred) == losses.MeanSquaredError()(y_true, y_pred)
    np.testing.assert_allclose(
        losses.MeanSquaredError("none")(y_true, y_pred, weights), rows * weights, **TOLERANCE
    )
    by_weight = losses.MeanSquaredError("mean_with_sample_weight")
    assert by_weight(y_true, y_pred, weights) == pytest.approx(np.average(rows, weights=weights), rel=1e-5)
    pred = _core.as_tensor(y_pred, "float32")
    value, d_pred = losses.MeanSquaredError("sum").forward_backward(y_true, pred, need_gradient=True)
    assert value == pytest.approx(rows.sum(), rel=1e-5)
    assert d_pred is not None
    np.testing.assert_allclose(d_pred.numpy(), gradient, **TOLERANCE)
    with pytest.raises(ValueError, match="reduction is None"):
        losses.MeanSquaredError(None).forward_backward(y_true, pred, need_gradient=True)
    with pytest.raises(ValueError, match="did you mean 'sum_over_batch_size'"):
        losses.MeanSquaredError("sum_over_batch")


def test_ignore_class_leaves_rows_out() -> None:
    labels, shares = case("sparse_categorical_crossentropy", (6, 4))
    labels[[1, 4]] = -1
    kept = labels >= 0
    rows, _ = reference.loss("sparse_categorical_crossentropy", labels[kept], shares[kept])
    loss = losses.SparseCategoricalCrossentropy(ignore_class=-1)
    assert loss(labels, shares) == pytest.approx(rows.mean(), rel=1e-5)
    value, d_pred = loss.forward_backward(
        loss.prepare(labels, shares.shape), _core.as_tensor(shares, "float32"), need_gradient=True
    )
    assert value == pytest.approx(rows.mean(), rel=1e-5)
    assert d_pred is not None
    assert not d_pred.numpy()[~kept].any()
    assert d_pred.numpy()[kept].any()


def test_labels_are_brought_to_the_predictions_rank() -> None:
    loss = losses.BinaryCrossentropy()
    for labels in ([0, 1, 1], [[0], [1], [1]], np.array([False, True, True]), np.array([0, 1, 1], ">i8")):
        prepared = loss.prepare(labels, (3, 1))
        assert prepared.shape == (3, 1)
        assert prepared.dtype == np.float32
        assert prepared[:, 0].tolist() == [0, 1, 1]
    assert loss.prepare(np.zeros((2, 5)), (None, 5, 1)).shape == (2, 5, 1)
    sparse = losses.SparseCategoricalCrossentropy()
    for labels in ([0, 2], [[0], [2]], np.array([0.0, 2.0])):
        prepared = sparse.prepare(labels, (2, 3))
        assert prepared.dtype == np.int32
        assert prepared.tolist() == [0, 2]


def test_labels_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"binary_crossentropy.*\(4, 2\).*\(4, 1\)"):
        losses.BinaryCrossentropy().prepare(np.zeros((4, 2)), (4, 1))
    with pytest.raises(
        ValueError, match=r"must have the same shape; the last axis of size 1 may be left out"
    ):
        losses.BinaryCrossentropy().prepare(np.zeros((4, 2)), (4, 1))
    with pytest.raises(ValueError, match=r"mean_squared_error.*\(3,\).*\(4, 1\)"):
        losses.MeanSquaredError()(np.zeros(3), np.zeros((4, 1)))
    with pytest.raises(ValueError, match=r"categorical_crossentropy.*\(4,\).*\(4, 3\)"):
        losses.CategoricalCrossentropy().prepare(np.zeros(4), (4, 3))
    sparse = losses.SparseCategoricalCrossentropy()
    for bad in ([0, 3], [0, -1], [0.0, 0.5], [0.0, np.nan], [0.0, np.inf]):
        with pytest.raises(ValueError, match=r"sparse_categorical_crossentropy.*label .* found.*\[0, 3\)"):
            sparse.prepare(bad, (2, 3))
    with pytest.raises(ValueError, match=r"\(2, 3\) or \(2, 3, 1\)|\(2,\) or \(2, 1\)"):
        sparse.prepare(np.zeros((2, 3)), (2, 3))
    with pytest.raises(TypeError, match="y_true has dtype"):
        losses.MeanSquaredError().prepare(np.array(["a", "b"]), (2, 1))
    with pytest.raises(ValueError, match=r"sample_weight has shape \(3,\)"):
        losses.MeanSquaredError()(np.zeros((4, 1)), np.zeros((4, 1)), [1, 2, 3])


def test_get_takes_names_classes_objects_functions_and_configurations() -> None:
    mse = losses.MeanSquaredError()
    assert losses.get(mse) is mse
    for identifier in ("mse", "MSE", "mean_squared_error", "MeanSquaredError", losses.MeanSquaredError):
        assert isinstance(losses.get(identifier), losses.MeanSquaredError)
    assert isinstance(losses.get(losses.binary_crossentropy), losses.BinaryCrossentropy)
    for identifier in ("kld", "KLD", "kl_divergence", "KLDivergence", losses.kl_divergence):
        assert isinstance(losses.get(identifier), losses.KLDivergence)
    assert isinstance(losses.get("huber"), losses.Huber)
    assert isinstance(losses.get("log_cosh"), losses.LogCosh)
    smooth = losses.CategoricalCrossentropy(label_smoothing=0.1, from_logits=True, name="mine")
    again = losses.get({"class_name": "CategoricalCrossentropy", "config": smooth.get_config()})
    assert again.get_config() == smooth.get_config()
    sparse = losses.SparseCategoricalCrossentropy(ignore_class=2)
    assert losses.SparseCategoricalCrossentropy.from_config(sparse.get_config()).ignore_class == 2
    with pytest.raises(ValueError, match="did you mean 'binary_crossentropy'"):
        losses.get("binary_crosentropy")
    with pytest.raises(ValueError, match="cannot interpret 3"):
        losses.get(3)
    with pytest.raises(ValueError, match="label_smoothing"):
        losses.BinaryCrossentropy(label_smoothing=1.5)
    with pytest.raises(ValueError, match="axis"):
        losses.BinaryCrossentropy(axis=1)(np.zeros((2, 3, 1)), np.zeros((2, 3, 1)))


def test_a_function_serves_evaluation_and_training() -> None:
    loss = losses.get(lambda t, p: np.abs(t - p) ** 3)
    y_true, y_pred = np.array([[0.0, 1.0], [1.0, 1.0]]), np.array([[0.0, 3.0], [1.0, 1.0]], np.float32)
    assert loss(y_true, y_pred) == pytest.approx(2.0)
    pred = _core.as_tensor(y_pred, "float32")
    value, gradient = loss.forward_backward(y_true.astype(np.float32), pred, need_gradient=True)
    assert value == pytest.approx(2.0)
    assert gradient is not None
    np.testing.assert_allclose(gradient.numpy(), [[0, 3 * 2**2 / 4], [0, 0]])


def test_a_loss_of_ones_own_with_a_gradient() -> None:
    class Quartic(losses.Loss):
        def call(self, y_true: Any, y_pred: Any) -> Any:
            return ((y_pred - y_true) ** 4).sum(-1)

        def gradient(self, y_true: Any, y_pred: Any, row_weights: Any) -> Any:
            return 4 * (y_pred - y_true) ** 3 * row_weights[..., None]

    loss = Quartic()
    assert loss.name == "quartic"
    y_true, y_pred = np.zeros((2, 1), np.float32), np.array([[1.0], [2.0]], np.float32)
    value, d_pred = loss.forward_backward(
        y_true, _core.as_tensor(y_pred, "float32"), np.array([1.0, 3.0]), need_gradient=True
    )
    assert value == pytest.approx((1 + 3 * 16) / 2)
    assert d_pred is not None
    np.testing.assert_allclose(d_pred.numpy(), [[4 / 2], [32 * 3 / 2]])


@pytest.mark.parametrize("name", [*reference.REGRESSION_LOSSES, "kl_divergence"])
def test_training_follows_the_gradient_of_the_loss(name: str) -> None:
    """A step of SGD goes against the central differences of evaluate; masked steps are left out of both."""
    set_random_seed(1)
    rng = np.random.default_rng(1)
    model = Sequential(
        [Masking(), LSTM(3, return_sequences=True), Dense(2, activation=ACTIVATIONS.get(name))]
    )
    model.compile("sgd", name)
    x = rng.normal(size=(4, 5, 2)).astype(np.float32)
    x[1, 3:] = x[2, :2] = 0.0
    y = rng.dirichlet(np.ones(2), (4, 5))
    if name == "mean_absolute_error":
        y += 3.0  # no prediction comes near the kink
    weights = rng.uniform(0.5, 2, 4)
    model.evaluate(x, y, verbose=0)
    before = model.get_weights()
    model.train_on_batch(x, y, sample_weight=weights)
    slopes = [(b - a) / 0.01 for a, b in zip(model.get_weights(), before, strict=True)]
    step = 1e-2
    for index, weight in enumerate(before):
        place = tuple(rng.integers(0, n) for n in weight.shape)
        values = []
        for sign in (1, -1):
            moved = [w.copy() for w in before]
            moved[index][place] += sign * step
            model.set_weights(moved)
            values.append(model.evaluate(x, y, verbose=0, sample_weight=weights))
        # float32 values near 1 give differences right to 1e-7 / step, curvature another 1e-4.
        assert slopes[index][place] == pytest.approx((values[0] - values[1]) / (2 * step), rel=0.01, abs=5e-4)
