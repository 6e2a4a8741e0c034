"""Metrics: values, weights, running over batches, and how "accuracy" is resolved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_native import losses, metrics
from lstm_native.layers import Dense
from lstm_native.models import Sequential
from lstm_native.optimizers import Adam

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


def test_crossentropy_is_chosen_by_shape() -> None:
    for name in ("crossentropy", "ce"):
        for labels, output, kind in (
            ((8,), (8, 1), metrics.BinaryCrossentropy),
            ((8,), (8, 3), metrics.SparseCategoricalCrossentropy),
            ((8, 3), (8, 3), metrics.CategoricalCrossentropy),
        ):
            metric = metrics.get(name, y_shape=labels, output_shape=output)
            assert type(metric) is kind
            assert metric.name == name


def test_sum() -> None:
    metric = metrics.Sum()
    metric.update_state([[1, 3], [5, 7]])
    metric.update_state([[1, 3], [5, 7]], sample_weight=[1, 0])
    metric.update_state([[1.0, np.nan], [5, 7]], sample_weight=[[2, 0], [0, 0]])
    assert metric.result() == 22.0
    assert [v.name for v in metric.variables] == ["total"]


@pytest.mark.parametrize("k", [1, 2, 3, 9])
def test_top_k(k: int) -> None:
    share = RNG.integers(0, 6, size=(4, 10, 5)).astype(np.float32)  # with ties
    labels = RNG.integers(0, 5, (4, 10))
    own = np.take_along_axis(share, labels[..., None], -1)
    expected = (share > own).sum(-1) < k
    np.testing.assert_array_equal(metrics.sparse_top_k_categorical_accuracy(labels, share, k), expected)
    np.testing.assert_array_equal(metrics.top_k_categorical_accuracy(np.eye(5)[labels], share, k), expected)
    weights = RNG.uniform(size=(4, 10))
    sparse, one_hot = metrics.SparseTopKCategoricalAccuracy(k), metrics.TopKCategoricalAccuracy(k)
    assert sparse(labels, share, weights) == pytest.approx(np.average(expected, weights=weights))
    assert one_hot(np.eye(5)[labels], share) == pytest.approx(expected.mean())
    assert sparse.get_config() == {
        "name": "sparse_top_k_categorical_accuracy", "dtype": "float32", "k": k, "from_sorted_ids": False,
    }  # fmt: skip


def test_top_k_of_what_is_no_class_or_no_number() -> None:
    share = np.array([[0.1, 0.9], [np.nan, 0.9], [0.3, np.inf], [0.1, 0.9], [0.1, 0.9]])
    labels = np.array([0, 1, 1, -1, 2])
    right = metrics.sparse_top_k_categorical_accuracy(labels, share, k=2)
    np.testing.assert_array_equal(right, [True, False, False, False, False])
    sorted_ids = metrics.SparseTopKCategoricalAccuracy(k=2, from_sorted_ids=True)
    assert sorted_ids([3, 1, 2], [[3, 1, 0], [0, 2, 1], [0, 2, 1]]) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="k is 0, expected a positive integer"):
        metrics.TopKCategoricalAccuracy(k=0)


def test_root_mean_squared_error() -> None:
    y_true, y_pred = RNG.normal(size=(2, 7, 3))
    weights = RNG.uniform(size=(7, 3))
    metric = metrics.RootMeanSquaredError()
    metric.update_state(y_true[:4], y_pred[:4])
    metric.update_state(y_true[4:], y_pred[4:])
    assert metric.result() == pytest.approx(np.sqrt(((y_true - y_pred) ** 2).mean()), rel=1e-6)
    metric.reset_state()
    expected = np.sqrt(np.average((y_true - y_pred) ** 2, weights=weights))
    assert metric(y_true, y_pred, weights) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_r2_score(weighted: bool) -> None:
    y_true = RNG.normal(size=(30, 3)) * [1.0, 5.0, 0.2]
    y_pred = y_true + RNG.normal(size=(30, 3)) * 0.3
    weights = RNG.uniform(0.1, 1, 30) if weighted else np.ones(30)
    deviations = (weights[:, None] * (y_true - np.average(y_true, axis=0, weights=weights)) ** 2).sum(0)
    scores = 1 - (weights[:, None] * (y_true - y_pred) ** 2).sum(0) / deviations
    for aggregation, expected in (
        (None, scores),
        ("uniform_average", scores.mean()),
        ("variance_weighted_average", np.average(scores, weights=deviations)),
    ):
        for regressors in (0, 4):
            metric = metrics.R2Score(aggregation, regressors)
            for rows in (slice(0, 10), slice(10, 30)):
                metric.update_state(y_true[rows], y_pred[rows], weights[rows] if weighted else None)
            adjusted = 1 - (1 - expected) * 89 / (89 - regressors)  # all 90 values are samples, as in Keras
            np.testing.assert_allclose(metric.result(), adjusted, rtol=1e-6)
            assert metrics.R2Score.from_config(metric.get_config()).get_config() == metric.get_config()


def test_r2_score_without_much_to_go_by() -> None:
    assert metrics.R2Score().result() == 0.0
    constant = metrics.R2Score(None)
    constant.update_state([[1.0, 0.0], [1.0, 2.0]], [[1.5, 0.0], [1.0, 2.0]])
    np.testing.assert_array_equal(constant.result(), [0.0, 1.0])
    metric = metrics.R2Score(num_regressors=2)
    metric.update_state([[1.0], [2.0], [4.0]], [[1.0], [2.0], [3.0]])
    with pytest.warns(UserWarning, match="2 regressors for 3 values"):
        metric.result()


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("LogCoshError", losses.LogCosh()),
        ("KLDivergence", losses.KLDivergence()),
        ("BinaryCrossentropy", losses.BinaryCrossentropy()),
        ("CategoricalCrossentropy", losses.CategoricalCrossentropy()),
    ],
)
def test_losses_as_metrics(name: str, loss: losses.Loss) -> None:
    y_true, y_pred = RNG.dirichlet(np.ones(4), (2, 6))
    metric = getattr(metrics, name)()
    metric.update_state(y_true[:2], y_pred[:2])
    metric.update_state(y_true[2:], y_pred[2:])
    assert metric.result() == pytest.approx(loss(y_true, y_pred), rel=1e-6)
    assert metric._direction == "down"
    assert type(metric).from_config(metric.get_config()).get_config() == metric.get_config()


def test_arguments_of_losses_as_metrics() -> None:
    logits, labels = RNG.normal(size=(6, 4)), RNG.integers(0, 4, 6)
    one_hot = np.eye(4)[labels]
    for metric, loss, y_true in (
        (
            metrics.BinaryCrossentropy(from_logits=True, label_smoothing=0.1),
            losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1),
            one_hot,
        ),
        (
            metrics.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2),
            losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2),
            one_hot,
        ),
        (
            metrics.SparseCategoricalCrossentropy(from_logits=True),
            losses.SparseCategoricalCrossentropy(from_logits=True),
            labels,
        ),
    ):
        assert metric(y_true, logits) == pytest.approx(loss(y_true, logits), rel=1e-6)
        assert type(metric).from_config(metric.get_config())(y_true, logits) == metric.result()


def test_a_metric_of_ones_own() -> None:
    class Range(metrics.Metric):
        def __init__(self, name: str = "range", **kwargs: Any) -> None:
            super().__init__(name=name, **kwargs)
            self.low = self.add_weight(name="low")
            self.high = self.add_variable((2,), "ones", name="high")
            self.inner = metrics.Mean()

        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
            self.low.assign(np.minimum(self.low, np.min(y_pred)))
            self.high.assign(self.high + np.array([1.0, np.max(y_pred)]))
            self.inner.update_state(y_pred)

        def result(self) -> Any:
            return self.high[1] - self.low

    metric = Range()
    assert [v.name for v in metric.variables] == ["low", "high", "total", "count"]
    assert metric([0.0], [-2.0, 4.0]) == 7.0
    assert float(metric.low) == -2.0
    np.testing.assert_array_equal(metric.high.value, [2.0, 5.0])
    with pytest.raises(ValueError, match=r"'high': value has shape \(3,\), expected \(2,\)"):
        metric.high.assign(np.zeros(3))
    with pytest.raises(TypeError, match="'low': value is a NoneType, expected an array of numbers"):
        metric.low.assign(None)
    with pytest.raises(TypeError, match="'low': value has dtype <U1, expected numbers"):
        metric.low.assign("a")
    assert float(metric.low) == -2.0
    metric.high.assign_sub([1.0, 1.0])
    np.testing.assert_array_equal(metric.high, [1.0, 4.0])
    metric.reset_state()
    assert all(not np.any(v) for v in metric.variables)
    assert metric.dtype == "float32"
    assert metric.get_config() == {"name": "range", "dtype": "float32"}


def test_variables_may_be_restored() -> None:
    first, second = metrics.get("mse"), metrics.get("mse")
    first.update_state([[1.0], [2.0]], [[3.0], [2.0]])
    for mine, theirs in zip(second.variables, first.variables, strict=True):
        mine.assign(theirs)
    assert second.result() == first.result() == 2.0


def test_metrics_in_training() -> None:
    x = RNG.normal(size=(64, 5)).astype(np.float32)
    y = (x.sum(-1) > 0).astype(np.float32)
    model = Sequential([Dense(8, activation="tanh"), Dense(1, activation="sigmoid")])
    names = ["precision", "Recall", "AUC", "f1_score", "ce"]
    model.compile(
        Adam(0.05), "binary_crossentropy", metrics=names, weighted_metrics=[metrics.Precision(name="heavy")]
    )
    weights = RNG.uniform(size=64)
    history = model.fit(x, y, epochs=12, verbose=0, sample_weight=weights, validation_data=(x, y))
    assert {*names, "heavy", "loss", "val_AUC"} <= set(history.history)
    share = model.predict(x, verbose=0)
    again = dict(
        zip(["loss", *names, "heavy"], model.evaluate(x, y, verbose=0, sample_weight=weights), strict=True)
    )
    for name in names[:3]:
        assert again[name] == pytest.approx(metrics.get(name)(y, share), rel=1e-6)
    assert again["heavy"] == pytest.approx(metrics.Precision()(y, share, weights), rel=1e-6)
    assert history.history["val_AUC"][-1] > 0.8


def test_a_result_for_every_class_in_training(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = RNG.normal(size=(32, 4)), np.eye(3)[RNG.integers(0, 3, 32)]
    model = Sequential([Dense(3, activation="softmax")])
    model.compile("sgd", "kl_divergence", metrics=[metrics.F1Score(), metrics.Precision([0.2, 0.4])])
    history = model.fit(x, y, epochs=2, verbose=2)
    assert history.history["f1_score"][1].shape == (3,)
    assert history.history["precision"][1].shape == (2,)
    assert "f1_score" in capsys.readouterr().out


def test_get() -> None:
    mine = metrics.BinaryAccuracy(name="mine")
    assert metrics.get(mine) is mine
    assert isinstance(metrics.get("BinaryAccuracy"), metrics.BinaryAccuracy)
    for name in metrics.__all__:
        kind = getattr(metrics, name)
        if (
            isinstance(kind, type)
            and "At" not in name
            and name not in ("Metric", "MetricVariable", "MeanMetricWrapper")
        ):
            assert type(metrics.get(name)) is kind
            assert metrics.get(name).name == name
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
