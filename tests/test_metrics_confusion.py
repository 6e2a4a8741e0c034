"""Metrics of decisions against their definitions: counts, precision, recall, areas under curves, F-scores."""

from __future__ import annotations

import copy
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from lstm_native import metrics
from lstm_native.metrics.confusion import count_decisions

RNG = np.random.default_rng(11)
COUNTS = ("true_positives", "false_positives", "true_negatives", "false_negatives")


def counts_by_definition(
    y_true: Any, y_pred: Any, thresholds: Any, weights: Any, by_label: bool
) -> dict[str, Any]:
    """Weighted counts, a loop over thresholds: (thresholds,), or (thresholds, labels)."""
    axis = 0 if by_label else None
    weights = np.broadcast_to(1.0 if weights is None else weights, y_pred.shape)
    result: dict[str, Any] = {name: [] for name in COUNTS}
    for threshold in thresholds:
        said, real = y_pred > threshold, y_true != 0
        for name, chosen in zip(
            COUNTS, (said & real, said & ~real, ~said & ~real, ~said & real), strict=True
        ):
            result[name].append((chosen * weights).sum(axis=axis))
    return {name: np.array(values) for name, values in result.items()}


@hypothesis.settings(max_examples=60)
@hypothesis.given(st.data())
def test_counts(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    shape = (data.draw(st.integers(0, 20)), data.draw(st.integers(1, 5)))
    by_label = data.draw(st.booleans())
    # Coarse numbers, so that predictions hit thresholds.
    y_pred = (rng.integers(0, 9, shape) / 8).astype(np.float32)
    y_pred[rng.uniform(size=shape) < 0.1] = np.nan
    thresholds = (rng.integers(0, 9, data.draw(st.integers(1, 6))) / 8).astype(np.float32)
    y_true = rng.integers(0, 2, shape)
    weights = rng.uniform(-1, 2, shape) if data.draw(st.booleans()) else None
    got = count_decisions(y_true, y_pred, thresholds, weights, shape[1] if by_label else 1)
    expected = counts_by_definition(y_true, y_pred, thresholds, weights, by_label and shape[1] > 1)
    for name, values in got._asdict().items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("thresholds", [None, 0.3, [0.8, 0.0, 0.3]])
def test_count_metrics_sum_over_batches(name: str, thresholds: Any) -> None:
    y_true, y_pred = RNG.integers(0, 2, (20, 3)), RNG.uniform(size=(20, 3)).astype(np.float32)
    weights = RNG.uniform(size=20)
    metric = getattr(metrics, "".join(part.title() for part in name.split("_")))(thresholds)
    assert metric.name == name
    assert [v.name for v in metric.variables] == ["accumulator"]
    for rows in (slice(0, 8), slice(8, 20)):
        metric.update_state(y_true[rows], y_pred[rows], weights[rows])
    listed = np.atleast_1d(0.5 if thresholds is None else thresholds)
    expected = counts_by_definition(y_true, y_pred, listed, weights[:, None], False)[name]
    result = metric.result()
    assert isinstance(result, float if len(listed) == 1 else np.ndarray)
    np.testing.assert_allclose(result, expected[0] if len(listed) == 1 else expected, rtol=1e-6)
    metric.reset_state()
    assert not np.any(metric.result())


@pytest.mark.parametrize("weighted", [False, True])
def test_precision_and_recall(weighted: bool) -> None:
    y_true, y_pred = RNG.integers(0, 2, (30, 4)), RNG.uniform(size=(30, 4)).astype(np.float32)
    weights = RNG.uniform(size=(30, 4)) if weighted else None
    for arguments in (
        {},
        {"thresholds": [0.9, 0.2]},
        {"class_id": 2},
        {"top_k": 2},
        {"top_k": 3, "thresholds": 0.4},
    ):
        thresholds = np.atleast_1d(arguments.get("thresholds", -1.0 if "top_k" in arguments else 0.5))
        true, pred, weight = y_true, y_pred, weights
        if "top_k" in arguments:
            kept = np.argsort(np.argsort(-pred, axis=-1), axis=-1) < arguments["top_k"]
            pred = np.where(kept, pred, -2.0)
        if "class_id" in arguments:
            true, pred = true[:, 2], pred[:, 2]
            weight = None if weight is None else weight[:, 2]
        tp, fp, _, fn = counts_by_definition(true, pred, thresholds, weight, False).values()
        precision, recall = metrics.Precision(**arguments), metrics.Recall(**arguments)
        np.testing.assert_allclose(precision(y_true, y_pred, weights), np.squeeze(tp / (tp + fp)), rtol=1e-6)
        np.testing.assert_allclose(recall(y_true, y_pred, weights), np.squeeze(tp / (tp + fn)), rtol=1e-6)
        assert [v.name for v in precision.variables] == ["true_positives", "false_positives"]
        assert [v.name for v in recall.variables] == ["true_positives", "false_negatives"]
        again = metrics.Precision.from_config(precision.get_config())
        assert again.get_config() == precision.get_config()


def test_of_equal_predictions_the_first_are_on_top() -> None:
    metric = metrics.Recall(top_k=2)
    assert metric([[1, 1, 1, 1]], [[0.5, 0.5, 0.5, 0.5]]) == 0.5
    assert metrics.Precision(top_k=2)([[0, 1, 1, 1]], [[0.5, 0.5, 0.5, 0.5]]) == 0.5


def test_without_positives_the_share_is_zero() -> None:
    assert metrics.Precision()([0, 1], [0.1, 0.2]) == 0.0
    assert metrics.Recall()([0, 0], [0.1, 0.9]) == 0.0
    assert metrics.Precision().result() == 0.0


def test_weights_of_sequences_and_masks() -> None:
    y_true = RNG.integers(0, 2, (4, 6, 1))
    y_pred = RNG.uniform(size=(4, 6, 1)).astype(np.float32)
    mask = RNG.uniform(size=(4, 6)) < 0.5
    masked, alone = metrics.Precision(), metrics.Precision()
    masked.update_state(y_true, y_pred, mask)
    alone.update_state(y_true[mask], y_pred[mask])
    assert masked.result() == alone.result()
    by_row, by_step = metrics.AUC(), metrics.AUC()
    weights = np.array([1.0, 0.0, 2.0, 0.5])
    by_row.update_state(y_true[..., 0], y_pred, weights)
    by_step.update_state(y_true, y_pred, np.repeat(weights[:, None], 6, axis=1))
    assert by_row.result() == by_step.result()


def roc_area(y_true: Any, y_pred: Any, weights: Any) -> float:
    """Share of (positive, negative) pairs in the right order, ties half."""
    positive, negative = y_true == 1, y_true == 0
    higher = y_pred[positive][:, None] - y_pred[negative]
    pairs = weights[positive][:, None] * weights[negative]
    return float((pairs * (np.sign(higher) + 1) / 2).sum() / pairs.sum())


def test_auc_is_the_share_of_ordered_pairs() -> None:
    # Predictions in the middle between thresholds: nothing is lost by counting at thresholds.
    y_pred = ((RNG.integers(0, 100, 300) + 0.5) / 100).astype(np.float32)
    y_true = (RNG.uniform(size=300) < y_pred).astype(int)
    weights = RNG.uniform(size=300)
    metric = metrics.AUC(num_thresholds=101)
    for rows in (slice(0, 100), slice(100, 300)):
        metric.update_state(y_true[rows], y_pred[rows], weights[rows])
    assert metric.result() == pytest.approx(roc_area(y_true, y_pred, weights), rel=1e-9)
    assert [v.name for v in metric.variables] == list(COUNTS)
    logits = np.log(y_pred / (1 - y_pred))
    from_logits = metrics.AUC(num_thresholds=101, from_logits=True)
    assert from_logits(y_true, logits, weights) == pytest.approx(metric.result(), rel=1e-9)
    assert metrics.AUC(num_thresholds=101)(y_true, y_true) == 1.0


def test_summation_methods_enclose_the_area() -> None:
    y_pred = RNG.uniform(size=200).astype(np.float32)
    y_true = (RNG.uniform(size=200) < y_pred).astype(int)
    for curve in ("ROC", "PR", "PRGAIN", "roc"):
        less, middle, more = (
            metrics.AUC(30, curve, method)(y_true, y_pred)
            for method in ("minoring", "interpolation", "majoring")
        )
        assert less < middle < more
        finest = metrics.AUC(20_000, curve)(y_true, y_pred)
        assert less - 0.01 < finest < more + 0.01


def test_interpolated_precision_recall_area() -> None:
    """Between thresholds the counts go along a line: the integral of precision over recall, numerically."""
    y_true, weights = np.array([0, 0, 1, 1, 1, 0]), np.array([1.0, 2.0, 3.0, 4.0, 1.0, 0.5])
    y_pred = np.array([0.1, 0.5, 0.3, 0.9, 0.6, 0.7], np.float32)
    thresholds = [0.0 - 1e-7, 0.2, 0.4, 0.65, 1.0 + 1e-7]
    counts = counts_by_definition(y_true, y_pred, thresholds, weights, False)
    tp, fp, positives = counts["true_positives"], counts["false_positives"], weights[y_true == 1].sum()
    area = 0.0
    for i in np.flatnonzero(tp[:-1] > tp[1:]):
        t = tp[i + 1] + (tp[i] - tp[i + 1]) * (np.arange(100_000) + 0.5) / 100_000
        slope = (fp[i] - fp[i + 1]) / (tp[i] - tp[i + 1])
        found = t + fp[i + 1] + slope * (t - tp[i + 1])
        area += (t / found).mean() * (tp[i] - tp[i + 1]) / positives
    metric = metrics.AUC(curve="PR", thresholds=thresholds[1:-1])
    assert metric(y_true, y_pred, weights) == pytest.approx(area, rel=1e-6)
    assert metric.num_thresholds == 5


def test_labels_have_areas_of_their_own() -> None:
    y_pred = RNG.uniform(size=(50, 3)).astype(np.float32)
    y_true = (RNG.uniform(size=(50, 3)) < y_pred).astype(int)
    shares = np.array([0.2, 0.5, 0.3])
    for curve in ("ROC", "PR", "PRGAIN"):
        alone = [metrics.AUC(curve=curve)(y_true[:, i], y_pred[:, i]) for i in range(3)]
        assert metrics.AUC(curve=curve, multi_label=True)(y_true, y_pred) == pytest.approx(np.mean(alone))
        weighted = metrics.AUC(curve=curve, multi_label=True, num_labels=3, label_weights=shares)
        assert weighted(y_true, y_pred) == pytest.approx(np.dot(alone, shares))
    flat, by_element = metrics.AUC(label_weights=shares), metrics.AUC()
    assert flat(y_true, y_pred) == by_element(y_true, y_pred, np.broadcast_to(shares, (50, 3)))


def test_best_rates_where_another_is_enough() -> None:
    y_pred = RNG.uniform(size=200).astype(np.float32)
    y_true = (RNG.uniform(size=200) < y_pred).astype(int)
    thresholds = np.arange(50) / 49
    tp, fp, tn, fn = counts_by_definition(y_true, y_pred, thresholds, None, False).values()
    recall, specificity = tp / (tp + fn), tn / (tn + fp)
    precision = tp / np.maximum(tp + fp, 1)
    for cls, wanted, bound in (
        (metrics.SensitivityAtSpecificity, recall, specificity),
        (metrics.SpecificityAtSensitivity, specificity, recall),
        (metrics.PrecisionAtRecall, precision, recall),
        (metrics.RecallAtPrecision, recall, precision),
    ):
        for value in (0.0, 0.4, 0.7):
            metric = cls(value, num_thresholds=50)
            assert metric(y_true, y_pred) == pytest.approx(wanted[bound >= value].max(initial=0.0))
            assert cls.from_config(metric.get_config()).get_config() == metric.get_config()
    with pytest.raises(ValueError, match=r"recall is 2, expected a number in \[0, 1\]"):
        metrics.PrecisionAtRecall(2)
    with pytest.raises(ValueError, match="needs arguments"):
        metrics.get("PrecisionAtRecall")


@pytest.mark.parametrize("threshold", [None, 0.4])
@pytest.mark.parametrize("weighted", [False, True])
def test_f_scores(threshold: float | None, weighted: bool) -> None:
    y_true, y_pred = RNG.integers(0, 2, (40, 3)), RNG.uniform(size=(40, 3)).astype(np.float32)
    weights = RNG.uniform(size=40) if weighted else np.ones(40)
    said = y_pred == y_pred.max(-1, keepdims=True) if threshold is None else y_pred > threshold
    tp = (said * y_true * weights[:, None]).sum(0)
    fp, fn = ((said != y_true) * wrong * weights[:, None] for wrong in (said, ~said))
    fp, fn, beta = fp.sum(0), fn.sum(0), 2.0

    def score(tp: Any, fp: Any, fn: Any) -> Any:
        return (1 + beta**2) * tp / ((1 + beta**2) * tp + beta**2 * fn + fp)

    by_class, support = score(tp, fp, fn), (y_true * weights[:, None]).sum(0)
    expected: dict[str | None, Any] = {
        None: by_class,
        "macro": by_class.mean(),
        "micro": score(tp.sum(), fp.sum(), fn.sum()),
        "weighted": (by_class * support).sum() / support.sum(),
    }
    for average, value in expected.items():
        metric = metrics.FBetaScore(average, beta, threshold)
        for rows in (slice(0, 10), slice(10, 40)):
            metric.update_state(y_true[rows], y_pred[rows], weights[rows] if weighted else None)
        # An epsilon of 1e-7 stands in the denominators.
        np.testing.assert_allclose(metric.result(), value, rtol=1e-5)
        assert metrics.FBetaScore.from_config(metric.get_config()).get_config() == metric.get_config()
    one = metrics.F1Score("macro", threshold)
    assert one(y_true, y_pred) == metrics.FBetaScore("macro", 1.0, threshold)(y_true, y_pred)
    assert metrics.F1Score.from_config(one.get_config()).get_config() == one.get_config()


def test_wrong_arguments() -> None:
    for call, message in (
        (lambda: metrics.Precision(1.5), r"\[0, 1\]. Received: \[1.5\]"),
        (lambda: metrics.TruePositives([0.5, None]), r"Received: \[None\]"),
        (lambda: metrics.Recall(top_k=0), "top_k is 0, expected a positive integer"),
        (lambda: metrics.AUC(num_thresholds=1), "must be an integer > 1"),
        (lambda: metrics.AUC(curve="lift"), 'Invalid AUC curve value: "lift"'),
        (lambda: metrics.AUC(summation_method="left"), 'Invalid AUC summation method value: "left"'),
        (lambda: metrics.AUC(num_labels=2), "num_labels is needed only when multi_label"),
        (lambda: metrics.F1Score("mean"), "average is 'mean'"),
        (lambda: metrics.F1Score(threshold=0.0), "threshold is 0.0"),
        (lambda: metrics.FBetaScore(beta=0), "beta is 0"),
        (lambda: metrics.Precision(dtype="int8"), "dtype is 'int8', expected float32"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_failed_update_changes_nothing() -> None:
    y_true, y_pred = RNG.integers(0, 2, (6, 3)), RNG.uniform(size=(6, 3)).astype(np.float32)
    for metric in (
        metrics.Precision(class_id=1),
        metrics.AUC(multi_label=True),
        metrics.F1Score(),
        metrics.R2Score(),
        metrics.BinaryAccuracy(),
    ):
        metric.update_state(y_true, y_pred)
        before = [v.numpy() for v in metric.variables]
        with pytest.raises(ValueError, match="labels have shape"):
            metric.update_state(y_true[:4], y_pred)
        with pytest.raises(ValueError, match="sample_weight has shape"):
            metric.update_state(y_true, y_pred, np.ones(5))
        for now, then in zip(metric.variables, before, strict=True):
            np.testing.assert_array_equal(now, then)
    with pytest.raises(ValueError, match=r"class_id is 7, expected a class in \[0, 3\)"):
        metrics.Precision(class_id=7).update_state(y_true, y_pred)
    areas = metrics.AUC(multi_label=True, num_labels=3)
    with pytest.raises(ValueError, match=r"\('batch', 3\) with multi_label"):
        areas.update_state(y_true[:, :2], y_pred[:, :2])
    f_score = metrics.F1Score()
    f_score.update_state(y_true, y_pred)
    with pytest.raises(ValueError, match=r"expects 2D inputs .* with 3 outputs as before"):
        f_score.update_state(y_true[:, :2], y_pred[:, :2])


def test_copies_are_independent() -> None:
    metric = metrics.AUC()
    metric.update_state([0, 1], [0.2, 0.7])
    other = copy.deepcopy(metric)
    other.update_state([1, 0], [0.2, 0.7])
    assert metric.result() == 1.0
    assert other.result() < 1.0
