"""Random arguments for every class that has a configuration."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from hypothesis import strategies as st

from lstm_native import constraints, initializers, layers, losses, metrics, optimizers, regularizers
from lstm_native.activations import Parametric
from lstm_native.optimizers import schedules

flag = st.booleans()
fraction = st.sampled_from([0.0, 0.25, 0.5])
positive = st.floats(1e-3, 10.0)
number = st.floats(-3.0, 3.0)
size = st.integers(1, 4)
seed = st.none() | st.integers(0, 99)
name = st.none() | st.sampled_from(["one", "two"])
axis = st.sampled_from([0, [0], [0, 1]])
activation = st.sampled_from(["tanh", "sigmoid", "relu", "linear", "softsign", None])
parametric = activation | st.builds(Parametric, st.just("scaled_tanh"), number, number)

initializer = st.one_of(
    st.sampled_from(["zeros", "glorot_uniform"]),
    st.builds(initializers.RandomNormal, stddev=positive, seed=seed),
    st.builds(initializers.Constant, value=number),
    st.builds(initializers.VarianceScaling, scale=positive, mode=st.sampled_from(["fan_in", "fan_avg"])),
)
regularizer = st.none() | st.just("l2") | st.builds(regularizers.L1L2, l1=positive, l2=positive)
constraint = st.none() | st.just("non_neg") | st.builds(constraints.MinMaxNorm, max_value=positive, axis=axis)
schedule = st.one_of(
    positive,
    st.builds(schedules.CosineDecay, positive, size, warmup_steps=size, warmup_target=st.none() | positive),
    st.builds(schedules.PiecewiseConstantDecay, st.just([1, 5]), st.just([0.3, 0.2, 0.1])),
)

WEIGHTS = {
    f"{weight}_{what}": strategy
    for weight in ("kernel", "recurrent", "bias")
    for what, strategy in (
        ("initializer", initializer), ("regularizer", regularizer), ("constraint", constraint)
    )
}  # fmt: skip
LAYER = {"activity_regularizer": regularizer, "trainable": flag, "name": name}
CELL = {
    "activation": parametric, "clip": st.none() | positive, "use_bias": flag, "dropout": fraction,
    "recurrent_dropout": fraction, "seed": seed, "trainable": flag, "name": name,
    "checkpoint_steps": st.none() | size, **WEIGHTS,
}  # fmt: skip
SEQUENCE = {
    "return_sequences": flag, "return_state": flag, "go_backwards": flag, "unroll": flag,
    "zero_output_for_mask": flag, "activity_regularizer": regularizer,
}  # fmt: skip
GATES = {"recurrent_activation": parametric}
LSTM = {
    "unit_forget_bias": flag, "peepholes": flag, "coupled_gates": flag, "projection_units": st.none() | size,
    "output_activation": parametric, **CELL, **GATES,
}  # fmt: skip
OPTIMIZER = {
    "learning_rate": schedule, "clipnorm": st.none() | positive, "weight_decay": positive, "use_ema": flag,
    "ema_momentum": fraction, "ema_overwrite_frequency": st.none() | size, "name": name,
    "loss_scale_factor": st.none() | positive, "gradient_accumulation_steps": st.none() | size,
}  # fmt: skip
DECAY = {"initial_learning_rate": positive, "decay_steps": size}
LOSS = {"reduction": st.sampled_from(["sum", "none", "mean"]), "name": name}
METRIC = {"name": name, "dtype": st.sampled_from([None, "float64"])}
THRESHOLDS = {**METRIC, "thresholds": st.none() | fraction | st.just([0.1, 0.7])}
COUNTED = {**THRESHOLDS, "top_k": st.none() | size, "class_id": st.none() | size}
CURVE = {**METRIC, "num_thresholds": size, "class_id": st.none() | size}

cell = st.one_of(
    st.builds(layers.LSTMCell, size, unit_forget_bias=flag),
    st.builds(layers.GRUCell, size, reset_after=flag),
    st.builds(layers.SimpleRNNCell, size, activation=activation),
)
direction = st.builds(
    layers.GRU, size, return_sequences=st.just(True), recurrent_dropout=fraction, name=st.just("inner")
) | st.builds(layers.LSTM, size, return_sequences=st.just(True), kernel_initializer=initializer)

# Arguments of every class; all that a constructor takes and that changes something stands here or in `FIXED`.
ARGUMENTS: dict[str, dict[type, dict[str, st.SearchStrategy[Any]]]] = {
    "layers": {
        layers.Dense: {"units": size, "activation": activation, "use_bias": flag, **LAYER,
                       **{k: v for k, v in WEIGHTS.items() if not k.startswith("recurrent")}},
        layers.Activation: {"activation": activation, **LAYER},
        layers.MultiHeadAttention: {
            "num_heads": size, "key_dim": size, "value_dim": st.none() | size,
            "output_shape": st.none() | size, "dropout": fraction, "use_bias": flag, "seed": seed, **LAYER,
            **{k: v for k, v in WEIGHTS.items() if not k.startswith("recurrent")}},
        layers.Normalization: {"axis": st.sampled_from([-1, None]), "invert": flag, **LAYER},
        layers.ReLU: {"max_value": st.none() | positive, "negative_slope": positive, "threshold": positive,
                      **LAYER},
        layers.LeakyReLU: {"negative_slope": positive, **LAYER},
        layers.ELU: {"alpha": positive, **LAYER},
        layers.Softmax: {"axis": st.sampled_from([-1, 1]), **LAYER},
        layers.PReLU: {"alpha_initializer": initializer, "alpha_regularizer": regularizer,
                       "alpha_constraint": constraint, "shared_axes": st.none() | st.just([1]), **LAYER},
        layers.ActivityRegularization: {"l1": positive, "l2": positive, "name": name},
        layers.Embedding: {"input_dim": st.just(9), "output_dim": size, "mask_zero": flag, **LAYER,
                           "embeddings_initializer": initializer, "embeddings_regularizer": regularizer,
                           "embeddings_constraint": constraint},
        layers.Masking: {"mask_value": number | st.just(float("nan")) | st.just(-float("inf")), **LAYER},
        layers.Dropout: {"rate": fraction, "noise_shape": st.none() | st.just((None, 1, None)), "seed": seed,
                         **LAYER},
        layers.SpatialDropout1D: {"rate": fraction, "seed": seed, "name": name},
        layers.GaussianNoise: {"stddev": fraction, "seed": seed, **LAYER},
        layers.GaussianDropout: {"rate": fraction, "seed": seed, **LAYER},
        layers.Rescaling: {"scale": number | st.lists(number, min_size=4, max_size=4), "offset": number,
                           **LAYER},
        layers.LSTM: {"units": size, **LSTM, **SEQUENCE},
        layers.GRU: {"units": size, "reset_after": flag, **CELL, **SEQUENCE, **GATES},
        layers.SimpleRNN: {"units": size, **CELL, **SEQUENCE},
        layers.LSTMCell: {"units": size, **LSTM},
        layers.GRUCell: {"units": size, "reset_after": flag, **CELL, **GATES},
        layers.SimpleRNNCell: {"units": size, **CELL},
        layers.StackedRNNCells: {"cells": st.lists(cell, min_size=1, max_size=3), "name": name},
        layers.RNN: {"cell": cell | st.lists(cell, min_size=1, max_size=3), **SEQUENCE, "name": name},
        layers.Bidirectional: {"layer": direction, "name": name, "trainable": flag,
                               "merge_mode": st.sampled_from(["sum", "mul", "ave", "concat"])},
        layers.TimeDistributed: {"layer": st.builds(layers.Dense, size, activation=activation), "name": name,
                                 "trainable": flag},
        layers.LayerNormalization: {"axis": st.sampled_from([-1, 2, [1, 2]]), "epsilon": positive,
                                    "center": flag, "scale": flag, "beta_initializer": initializer,
                                    "gamma_initializer": initializer, "beta_regularizer": regularizer,
                                    "gamma_regularizer": regularizer, "beta_constraint": constraint,
                                    "gamma_constraint": constraint, **LAYER},
        layers.BatchNormalization: {"axis": st.sampled_from([-1, 1, 2]), "momentum": fraction,
                                    "epsilon": positive, "center": flag, "scale": flag,
                                    **{f"{w}_initializer": initializer
                                       for w in ("beta", "gamma", "moving_mean", "moving_variance")},
                                    "beta_regularizer": regularizer, "gamma_regularizer": regularizer,
                                    "beta_constraint": constraint, "gamma_constraint": constraint, **LAYER},
        layers.Attention: {"use_scale": flag, "score_mode": st.sampled_from(["dot", "concat"]),
                           "dropout": fraction, "seed": seed, "name": name, "trainable": flag},
        layers.AdditiveAttention: {"use_scale": flag, "dropout": fraction, "seed": seed, "name": name},
        layers.GlobalMaxPooling1D: {"data_format": st.sampled_from([None, "channels_first"]),
                                    "keepdims": flag, **LAYER},
        layers.GlobalAveragePooling1D: {"data_format": st.sampled_from([None, "channels_first"]),
                                        "keepdims": flag, **LAYER},
        layers.Conv1D: {"filters": st.just(4), "kernel_size": st.sampled_from([1, 2, (3,)]),
                        "strides": st.sampled_from([1, [2]]), "padding": st.sampled_from(["same", "causal"]),
                        "data_format": st.sampled_from([None, "channels_last"]), "dilation_rate": st.just(1),
                        "groups": st.sampled_from([1, 2]), "activation": activation, "use_bias": flag,
                        **LAYER,
                        **{k: v for k, v in WEIGHTS.items() if not k.startswith("recurrent")}},
        **{kind: {"pool_size": st.integers(1, 3), "strides": st.none() | size,
                  "padding": st.sampled_from(["valid", "SAME"]),
                  "data_format": st.sampled_from([None, "channels_first"]), **LAYER}
           for kind in (layers.MaxPooling1D, layers.AveragePooling1D)},
        layers.ZeroPadding1D: {"padding": size | st.just((0, 2)),
                               "data_format": st.sampled_from([None, "channels_first"]), **LAYER},
        layers.Cropping1D: {"cropping": st.sampled_from([1, (0, 2), [1, 0]]), **LAYER},
        layers.UpSampling1D: {"size": size, **LAYER},
        layers.Flatten: {"data_format": st.sampled_from([None, "channels_first"]), **LAYER},
        layers.Reshape: {"target_shape": st.sampled_from([(4, 3), [12], (-1, 2), (2, 3, 2)]), **LAYER},
        layers.Permute: {"dims": st.sampled_from([(2, 1), [1, 2]]), **LAYER},
        layers.RepeatVector: {"n": size, **LAYER},
        **{kind: dict(LAYER) for kind in (layers.Add, layers.Average, layers.Maximum, layers.Minimum,
                                          layers.Multiply, layers.Subtract)},
        layers.Concatenate: {"axis": st.sampled_from([1, 2, -1]), **LAYER},
        layers.Dot: {"axes": st.sampled_from([2, -1, (1, 1), [2, -1]]), "normalize": flag, **LAYER},
        layers.InputLayer: {"batch_shape": st.sampled_from([(None, 3), (2, None, 3)]), "name": name,
                            "dtype": st.sampled_from([None, "int32"])},
        layers.TextVectorization: {"max_tokens": st.none() | st.integers(4, 9), "name": name,
                                   "standardize": st.sampled_from([None, "lower"]),
                                   "split": st.sampled_from([None, "character", "whitespace"]),
                                   "ngrams": st.none() | size | st.just((1, 3)),
                                   "output_mode": st.just("int"), "encoding": st.just("latin-1"),
                                   "output_sequence_length": st.none() | size,
                                   "vocabulary": st.none() | st.just(["a", "b"])},
    },
    "optimizers": {
        optimizers.Adam: {"beta_1": fraction, "beta_2": fraction, "epsilon": positive, "amsgrad": flag,
                          **OPTIMIZER},
        optimizers.AdamW: {"beta_1": fraction, "beta_2": fraction, "epsilon": positive, "amsgrad": flag,
                           **OPTIMIZER},
        optimizers.SGD: {"momentum": fraction, "nesterov": flag, **OPTIMIZER},
        optimizers.Adagrad: {"initial_accumulator_value": positive, "epsilon": positive, **OPTIMIZER},
        optimizers.Adadelta: {"rho": fraction, "epsilon": positive, **OPTIMIZER},
        optimizers.Adamax: {"beta_1": fraction, "beta_2": fraction, "epsilon": positive, **OPTIMIZER},
        optimizers.Nadam: {"beta_1": fraction, "beta_2": fraction, "epsilon": positive, **OPTIMIZER},
        optimizers.RMSprop: {"rho": fraction, "momentum": fraction, "epsilon": positive, "centered": flag,
                             **OPTIMIZER},
    },
    "optimizers.schedules": {
        schedules.ExponentialDecay: {**DECAY, "decay_rate": positive, "staircase": flag, "name": name},
        schedules.InverseTimeDecay: {**DECAY, "decay_rate": positive, "staircase": flag, "name": name},
        schedules.PolynomialDecay: {**DECAY, "end_learning_rate": positive, "power": positive, "cycle": flag,
                                    "name": st.just("p")},
        schedules.PiecewiseConstantDecay: {"boundaries": st.just([1, 2]), "values": st.just([3.0, 2.0, 1.0]),
                                           "name": st.just("p")},
        schedules.CosineDecay: {**DECAY, "alpha": fraction, "warmup_target": st.none() | positive,
                                "warmup_steps": size, "name": st.just("c")},
        schedules.CosineDecayRestarts: {"initial_learning_rate": positive, "first_decay_steps": size,
                                        "t_mul": st.floats(1, 3), "m_mul": positive, "alpha": fraction,
                                        "name": st.just("c")},
    },
    "losses": {
        losses.MeanSquaredError: LOSS,
        losses.MeanAbsoluteError: LOSS,
        losses.LogCosh: LOSS,
        **dict.fromkeys(
            (losses.MeanAbsolutePercentageError, losses.MeanSquaredLogarithmicError, losses.Hinge,
             losses.SquaredHinge, losses.CategoricalHinge, losses.Poisson), LOSS),
        losses.CosineSimilarity: {"axis": st.just(-1), **LOSS},
        losses.KLDivergence: LOSS,
        losses.Huber: {"delta": positive, **LOSS},
        losses.BinaryCrossentropy: {"from_logits": flag, "label_smoothing": fraction, "axis": st.just(1),
                                    **LOSS},
        losses.CategoricalCrossentropy: {"from_logits": flag, "label_smoothing": fraction, "axis": st.just(1),
                                         **LOSS},
        losses.SparseCategoricalCrossentropy: {"from_logits": flag, "ignore_class": st.none() | size,
                                               "axis": st.just(1), **LOSS},
    },
    "metrics": {
        **dict.fromkeys(
            (metrics.Accuracy, metrics.CategoricalAccuracy, metrics.SparseCategoricalAccuracy, metrics.Mean,
             metrics.Sum, metrics.KLDivergence, metrics.LogCoshError, metrics.MeanAbsoluteError,
             metrics.MeanSquaredError, metrics.RootMeanSquaredError,
             metrics.MeanAbsolutePercentageError, metrics.MeanSquaredLogarithmicError, metrics.Hinge,
             metrics.SquaredHinge, metrics.CategoricalHinge, metrics.Poisson), METRIC),
        metrics.CosineSimilarity: {"axis": st.just(-1), **METRIC},
        **dict.fromkeys(
            (metrics.TruePositives, metrics.FalsePositives, metrics.TrueNegatives, metrics.FalseNegatives),
            THRESHOLDS),
        **dict.fromkeys((metrics.Precision, metrics.Recall), COUNTED),
        metrics.BinaryAccuracy: {"threshold": st.floats(0.1, 0.9), **METRIC},
        metrics.TopKCategoricalAccuracy: {"k": size, **METRIC},
        metrics.SparseTopKCategoricalAccuracy: {"k": size, "from_sorted_ids": flag, **METRIC},
        metrics.BinaryCrossentropy: {"from_logits": flag, "label_smoothing": fraction, **METRIC},
        metrics.CategoricalCrossentropy: {"from_logits": flag, "label_smoothing": fraction,
                                          "axis": st.just(-1), **METRIC},
        metrics.SparseCategoricalCrossentropy: {"from_logits": flag, "ignore_class": st.none() | size,
                                                "axis": st.just(-1), **METRIC},
        metrics.F1Score: {"average": st.sampled_from([None, "micro"]), "threshold": st.none() | st.just(0.5),
                          **METRIC},
        metrics.FBetaScore: {"average": st.sampled_from([None, "micro"]), "beta": positive,
                             "threshold": st.none() | st.just(0.5), **METRIC},
        metrics.R2Score: {"class_aggregation": st.sampled_from([None, "uniform_average"]),
                          "num_regressors": size, **METRIC},
        metrics.AUC: {"num_thresholds": st.integers(2, 9), "curve": st.sampled_from(["ROC", "PR"]),
                      "summation_method": st.sampled_from(["minoring", "majoring"]),
                      "thresholds": st.none() | st.just([0.2, 0.6]), "multi_label": st.just(True),
                      "num_labels": st.none() | st.just(2), "label_weights": st.none() | st.just([1.0, 2.0]),
                      "from_logits": flag, **METRIC},
        metrics.SensitivityAtSpecificity: {"specificity": fraction, **CURVE},
        metrics.SpecificityAtSensitivity: {"sensitivity": fraction, **CURVE},
        metrics.PrecisionAtRecall: {"recall": fraction, **CURVE},
        metrics.RecallAtPrecision: {"precision": fraction, **CURVE},
        metrics.MeanMetricWrapper: {"fn": st.sampled_from([losses.mean_squared_error,
                                                           metrics.categorical_accuracy]), **METRIC},
    },
    "initializers": {
        initializers.Zeros: {},
        initializers.Ones: {},
        initializers.Constant: {"value": number | st.just(np.arange(3.0))},
        initializers.Identity: {"gain": number},
        initializers.GivenValues: {"values": st.just(np.ones((2, 3), np.float32))},
        initializers.RandomUniform: {"minval": number, "maxval": number, "seed": seed},
        initializers.RandomNormal: {"mean": number, "stddev": positive, "seed": seed},
        initializers.TruncatedNormal: {"mean": number, "stddev": positive, "seed": seed},
        initializers.VarianceScaling: {"scale": positive, "mode": st.sampled_from(["fan_out", "fan_avg"]),
                                       "distribution": st.sampled_from(["uniform", "normal"]), "seed": seed},
        initializers.Orthogonal: {"gain": positive, "seed": seed},
        **{getattr(initializers, f"{who}{how}"): {"seed": seed}
           for who in ("Glorot", "He", "Lecun") for how in ("Uniform", "Normal")},
    },
    "regularizers": {
        regularizers.L1: {"l1": positive},
        regularizers.L2: {"l2": positive},
        regularizers.L1L2: {"l1": positive, "l2": positive},
        regularizers.OrthogonalRegularizer: {"factor": positive,
                                             "mode": st.sampled_from(["rows", "columns"])},
    },
    "constraints": {
        constraints.NonNeg: {},
        constraints.MaxNorm: {"max_value": positive, "axis": axis},
        constraints.UnitNorm: {"axis": axis},
        constraints.MinMaxNorm: {"min_value": positive, "max_value": positive, "rate": fraction,
                                 "axis": axis},
    },
}  # fmt: skip
CLASSES = [cls for classes in ARGUMENTS.values() for cls in classes]
# Arguments that are taken at one value only, are values rather than configuration, or are other arguments'
# other form.
FIXED = {"dtype", "use_cudnn", "implementation", "weights", "shape", "batch_size", "clipvalue",
         "global_clipnorm", "lora_rank", "backward_layer", "rms_scaling", "stateful", "idf_weights",
         "pad_to_max_tokens", "score_mode", "activity_regularizer", "trainable", "input_shape",
         "batch_input_shape", "mean", "variance"}  # fmt: skip


def arguments_of(cls: type) -> dict[str, st.SearchStrategy[Any]]:
    return next(classes[cls] for classes in ARGUMENTS.values() if cls in classes)


def made(cls: type, data: st.DataObject) -> Any:
    """An object of `cls`, its optional arguments given or not."""
    taken = inspect.signature(cls).parameters
    given = {}
    for argument, strategy in arguments_of(cls).items():
        needed = taken[argument].default is inspect.Parameter.empty
        if needed or argument in ("batch_shape", "multi_label") or data.draw(flag):
            given[argument] = data.draw(strategy)
    return cls(**given)
