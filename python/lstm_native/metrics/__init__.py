"""Metrics under the Keras names, as classes, as functions and by name. Floor 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lstm_native import losses
from lstm_native.errors import unknown_name
from lstm_native.losses import (
    binary_crossentropy,
    categorical_crossentropy,
    categorical_hinge,
    cosine_similarity,
    hinge,
    huber,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    poisson,
    sparse_categorical_crossentropy,
    squared_hinge,
)
from lstm_native.metrics.accuracy import (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
    binary_accuracy,
    categorical_accuracy,
    sparse_categorical_accuracy,
    sparse_top_k_categorical_accuracy,
    top_k_categorical_accuracy,
)
from lstm_native.metrics.base import Metric, MetricVariable
from lstm_native.metrics.confusion import (
    FalseNegatives,
    FalsePositives,
    Precision,
    Recall,
    TrueNegatives,
    TruePositives,
)
from lstm_native.metrics.curves import (
    AUC,
    PrecisionAtRecall,
    RecallAtPrecision,
    SensitivityAtSpecificity,
    SpecificityAtSensitivity,
)
from lstm_native.metrics.distances import (
    CategoricalHinge,
    CosineSimilarity,
    Hinge,
    MeanAbsolutePercentageError,
    MeanSquaredLogarithmicError,
    Poisson,
    SquaredHinge,
)
from lstm_native.metrics.f_score import F1Score, FBetaScore
from lstm_native.metrics.probabilistic import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    KLDivergence,
    SparseCategoricalCrossentropy,
)
from lstm_native.metrics.reduction import Mean, MeanMetricWrapper, Sum
from lstm_native.metrics.regression import (
    LogCoshError,
    MeanAbsoluteError,
    MeanSquaredError,
    R2Score,
    RootMeanSquaredError,
)
from lstm_native.naming import name_and_config, snake_case

__all__ = [
    "AUC",
    "Accuracy",
    "BinaryAccuracy",
    "BinaryCrossentropy",
    "CategoricalAccuracy",
    "CategoricalCrossentropy",
    "CategoricalHinge",
    "CosineSimilarity",
    "F1Score",
    "FBetaScore",
    "FalseNegatives",
    "FalsePositives",
    "Hinge",
    "KLDivergence",
    "LogCoshError",
    "Mean",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanMetricWrapper",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Metric",
    "MetricVariable",
    "Poisson",
    "Precision",
    "PrecisionAtRecall",
    "R2Score",
    "Recall",
    "RecallAtPrecision",
    "RootMeanSquaredError",
    "SensitivityAtSpecificity",
    "SparseCategoricalAccuracy",
    "SparseCategoricalCrossentropy",
    "SparseTopKCategoricalAccuracy",
    "SpecificityAtSensitivity",
    "SquaredHinge",
    "Sum",
    "TopKCategoricalAccuracy",
    "TrueNegatives",
    "TruePositives",
    "binary_accuracy",
    "binary_crossentropy",
    "categorical_accuracy",
    "categorical_crossentropy",
    "categorical_hinge",
    "cosine_similarity",
    "get",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "poisson",
    "sparse_categorical_accuracy",
    "sparse_categorical_crossentropy",
    "sparse_top_k_categorical_accuracy",
    "squared_hinge",
    "top_k_categorical_accuracy",
]

_CLASSES: tuple[type[Metric], ...] = (
    AUC,
    Accuracy,
    BinaryAccuracy,
    BinaryCrossentropy,
    CategoricalAccuracy,
    CategoricalCrossentropy,
    CategoricalHinge,
    CosineSimilarity,
    F1Score,
    FBetaScore,
    FalseNegatives,
    FalsePositives,
    Hinge,
    KLDivergence,
    LogCoshError,
    Mean,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
    Precision,
    PrecisionAtRecall,
    R2Score,
    Recall,
    RecallAtPrecision,
    RootMeanSquaredError,
    SensitivityAtSpecificity,
    SparseCategoricalAccuracy,
    SparseCategoricalCrossentropy,
    SparseTopKCategoricalAccuracy,
    SpecificityAtSensitivity,
    SquaredHinge,
    Sum,
    TopKCategoricalAccuracy,
    TrueNegatives,
    TruePositives,
)
_NAMES: dict[str, type[Metric]] = {
    **{cls.__name__: cls for cls in _CLASSES},
    **{snake_case(cls.__name__): cls for cls in _CLASSES},
    "bce": BinaryCrossentropy,
    "BCE": BinaryCrossentropy,
    "mse": MeanSquaredError,
    "MSE": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "MAE": MeanAbsoluteError,
    "mape": MeanAbsolutePercentageError,
    "MAPE": MeanAbsolutePercentageError,
    "msle": MeanSquaredLogarithmicError,
    "MSLE": MeanSquaredLogarithmicError,
    # Where nothing tells what the labels are.
    "acc": Accuracy,
    "crossentropy": BinaryCrossentropy,
    "ce": BinaryCrossentropy,
}
# Names whose class follows from the labels: for one output, for class numbers, for one-hot labels.
_BY_LABELS: dict[str, tuple[type[Metric], type[Metric], type[Metric]]] = {
    **dict.fromkeys(("accuracy", "acc"), (BinaryAccuracy, SparseCategoricalAccuracy, CategoricalAccuracy)),
    **dict.fromkeys(
        ("crossentropy", "ce"), (BinaryCrossentropy, SparseCategoricalCrossentropy, CategoricalCrossentropy)
    ),
}


def get(
    identifier: Any,
    *,
    loss: losses.Loss | None = None,
    y_shape: Sequence[int | None] | None = None,
    output_shape: Sequence[int | None] | None = None,
) -> Metric:
    """The metric that `identifier` stands for.

    "accuracy" ("acc") and "crossentropy" ("ce") mean the binary one for one output, the sparse
    categorical one for labels that are class numbers, else the categorical one.

    Args:
        identifier: A name, a `Metric`, its class, a configuration `{"class_name": ..., "config":
            {...}}`, or a function (y_true, y_pred) -> values.
        loss: The loss trained with, which tells what labels mean where shapes leave it open.
        y_shape: Shape of the labels as the user gave them.
        output_shape: Shape of the predictions.

    Returns:
        A `Metric`; one asked for by name is called as it was asked for.

    Raises:
        ValueError: Unknown name, or something that is none of these.
    """
    configured = isinstance(identifier, dict)
    identifier, config = name_and_config("metric", identifier)
    if isinstance(identifier, Metric):
        return identifier
    if isinstance(identifier, str):
        if configured and identifier in _NAMES:
            return _NAMES[identifier].from_config(config)
        return _named(identifier, loss, y_shape, output_shape)
    if isinstance(identifier, type) and issubclass(identifier, Metric):
        return identifier()
    if callable(identifier):
        return MeanMetricWrapper(identifier)
    raise ValueError(f"metric: cannot interpret {identifier!r}, expected a name, a Metric or a function")


def _named(
    name: str,
    loss: losses.Loss | None,
    y_shape: Sequence[int | None] | None,
    output_shape: Sequence[int | None] | None,
) -> Metric:
    by_labels = _BY_LABELS.get(name.lower())
    if by_labels is not None and output_shape is not None:
        return _chosen(by_labels, loss, y_shape, output_shape)(name=name)
    if name not in _NAMES:
        raise unknown_name("metric", name, _NAMES)
    try:
        return _NAMES[name](name=name)
    except TypeError:
        raise ValueError(f"metric {name!r} needs arguments: pass an object, not its name") from None


def _chosen(
    classes: tuple[type[Metric], type[Metric], type[Metric]],
    loss: losses.Loss | None,
    y_shape: Sequence[int | None] | None,
    output_shape: Sequence[int | None],
) -> type[Metric]:
    binary, sparse, one_hot = classes
    output = tuple(output_shape)
    if output and output[-1] == 1:
        return binary
    if y_shape is None:
        # Without labels at hand the loss says what they are.
        return sparse if isinstance(loss, losses.SparseCategoricalCrossentropy) else one_hot
    labels = tuple(y_shape)
    return sparse if len(labels) < len(output) or labels[-1:] == (1,) else one_hot
