"""Metrics: values, weights, running over batches, and how "accuracy" is resolved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_native import losses, metrics

RNG = np.random.default_rng(3)


def test_binary_accuracy() -> None:
    metric = metrics.BinaryAccuracy()
    metric.update_state([1, 1, 0, 0], [[0.98], [1.0], [0.0], [0.6]])
    assert metric.result() == 0.75
    metric.update_state([[1]], [[0.5]])  # the threshold itself counts as 0
    assert metric.result() == pytest.approx(3 / 5)
    metric.reset_state()
    assert metric.result() == 0.0
    metric.update_state([1, 1, 0, 0], [0.98, 1.0, 0.0, 0.6], sample_weight=[1, 0, 0, 1])
    assert metric.result() == 0.5
    with pytest.raises(ValueError, match="threshold"):
        metrics.BinaryAccuracy(threshold=1.5)


def test_categorical_and_sparse_accuracy_agree() -> None:
    share = RNG.uniform(size=(40, 5))
    labels = RNG.integers(0, 5, 40)
    expected = (share.argmax(-1) == labels).mean()
    one_hot, sparse = metrics.CategoricalAccuracy(), metrics.SparseCategoricalAccuracy()
    one_hot.update_state(np.eye(5)[labels], share)
    sparse.update_state(labels, share)
    assert one_hot.result() == sparse.result() == pytest.approx(expected)
    sparse.reset_state()
    sparse.update_state(labels[:, None], share)
    assert sparse.result() == pytest.approx(expected)


def test_accuracy_counts_equal_values() -> None:
    metric = metrics.Accuracy()
    assert metric([[1], [2], [3], [4]], [[0], [2], [3], [4]]) == 0.75
    assert metrics.Accuracy()([1, 2, 3, 4], [0, 2, 3, 4], sample_weight=[1, 1, 0, 0]) == 0.5


def test_errors_are_means_over_everything_seen() -> None:
    y_true, y_pred = RNG.normal(size=(10, 3)), RNG.normal(size=(10, 3))
    weights = RNG.uniform(size=10)
    for name, values in (("mse", (y_true - y_pred) ** 2), ("mae", np.abs(y_true - y_pred))):
        metric = metrics.get(name)
        assert metric.name == name
        for rows in (slice(0, 3), slice(3, 10)):
            metric.update_state(y_true[rows], y_pred[rows])
        assert metric.result() == pytest.approx(values.mean(), rel=1e-6)
        metric.reset_state()
        metric.update_state(y_true, y_pred, weights)
        assert metric.result() == pytest.approx(np.average(values.mean(-1), weights=weights), rel=1e-6)


def test_mean() -> None:
    metric = metrics.Mean()
    metric.update_state([1, 3, 5, 7])
    assert metric.result() == 4.0
    metric.reset_state()
    metric.update_state([1, 3, 5, 7], sample_weight=[1, 1, 0, 0])
    assert metric.result() == 2.0
    metric.update_state(2.0, sample_weight=6)
    assert metric.result() == 2.0
    metric.update_state(2.0)
    assert metric.count == 9


def test_steps_of_sequences_are_weighted_by_a_mask() -> None:
    y_true = RNG.integers(0, 2, (4, 6, 1))
    y_pred = RNG.uniform(size=(4, 6, 1))
    mask = RNG.uniform(size=(4, 6)) < 0.5
    right = ((y_pred > 0.5) == y_true)[..., 0]
    metric = metrics.BinaryAccuracy()
    metric.update_state(y_true, y_pred, mask)
    assert metric.result() == pytest.approx(right[mask].mean())
    metric.reset_state()
    metric.update_state(y_true[..., 0], y_pred)
    assert metric.result() == pytest.approx(right.mean())
    metric.reset_state()
    metric.update_state(y_true, y_pred, np.array([1.0, 0.0, 0.0, 2.0]))
    assert metric.result() == pytest.approx((right[0].mean() + 2 * right[3].mean()) / 3)


def test_an_empty_batch_changes_nothing() -> None:
    metric = metrics.BinaryAccuracy()
    metric.update_state([1], [0.9])
    metric.update_state(np.zeros((0, 1)), np.zeros((0, 1)))
    assert metric.result() == 1.0


@pytest.mark.parametrize("name", ["accuracy", "acc"])
@pytest.mark.parametrize(
    ("labels", "output", "kind"),
    [
        ((8, 1), (8, 1), metrics.BinaryAccuracy),
        ((8,), (8, 1), metrics.BinaryAccuracy),
        ((8, 5, 1), (None, 5, 1), metrics.BinaryAccuracy),
        ((8, 3), (8, 3), metrics.CategoricalAccuracy),
        ((8,), (8, 3), metrics.SparseCategoricalAccuracy),
        ((8, 1), (8, 3), metrics.SparseCategoricalAccuracy),
        ((8, 5), (8, 5, 3), metrics.SparseCategoricalAccuracy),
        ((8, 5, 3), (8, 5, 3), metrics.CategoricalAccuracy),
    ],
)
def test_accuracy_is_chosen_by_shape(name: str, labels: Any, output: Any, kind: type) -> None:
    metric = metrics.get(name, loss=losses.get("mse"), y_shape=labels, output_shape=output)
    assert type(metric) is kind
    assert metric.name == name


def test_accuracy_without_labels_is_chosen_by_the_loss() -> None:
    sparse = metrics.get("accuracy", loss=losses.SparseCategoricalCrossentropy(), output_shape=(None, 3))
    assert isinstance(sparse, metrics.SparseCategoricalAccuracy)
    one_hot = metrics.get("accuracy", loss=losses.CategoricalCrossentropy(), output_shape=(None, 3))
    assert isinstance(one_hot, metrics.CategoricalAccuracy)


def test_get() -> None:
    mine = metrics.BinaryAccuracy(name="mine")
    assert metrics.get(mine) is mine
    assert isinstance(metrics.get("BinaryAccuracy"), metrics.BinaryAccuracy)
    assert metrics.get("sparse_categorical_accuracy").name == "sparse_categorical_accuracy"
    assert isinstance(metrics.get(metrics.MeanAbsoluteError), metrics.MeanAbsoluteError)
    again = metrics.get({"class_name": "BinaryAccuracy", "config": {"threshold": 0.3}})
    assert isinstance(again, metrics.BinaryAccuracy)
    assert again.threshold == 0.3
    entropy = metrics.get("binary_crossentropy")
    y_true, y_pred = np.array([[0.0], [1.0]]), np.array([[0.2], [0.7]], np.float32)
    entropy.update_state(y_true, y_pred)
    assert entropy.result() == pytest.approx(-np.log([0.8, 0.7]).mean(), rel=1e-5)
    with pytest.raises(ValueError, match="did you mean 'accuracy'"):
        metrics.get("acuracy")
    with pytest.raises(ValueError, match="cannot interpret 3"):
        metrics.get(3)


def test_a_function_is_a_metric() -> None:
    def largest(y_true: Any, y_pred: Any) -> Any:
        return np.abs(y_true - y_pred).max(-1)

    metric = metrics.get(largest)
    assert metric.name == "largest"
    metric.update_state(np.zeros((2, 2)), np.array([[1.0, 2.0], [3.0, 0.0]]))
    assert metric.result() == 2.5


def test_shapes_that_do_not_fit() -> None:
    for name in ("binary_accuracy", "categorical_accuracy", "sparse_categorical_accuracy", "mse", "accuracy"):
        with pytest.raises(ValueError, match=r"labels have shape \(4, 2\).*\(4, 3\)"):
            metrics.get(name).update_state(np.zeros((4, 2)), np.zeros((4, 3)))
    with pytest.raises(ValueError, match="sample_weight"):
        metrics.Accuracy().update_state(np.zeros(4), np.zeros(4), np.zeros(3))
