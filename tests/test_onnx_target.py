"""to_onnx: models in onnxruntime, with masks of every pattern; the way back; what has no counterpart."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

import lstm_native.onnx_backend as backend  # noqa: E402
from lstm_native import activations  # noqa: E402
from lstm_native.activations import Parametric  # noqa: E402
from lstm_native.convert import from_onnx, to_onnx  # noqa: E402
from lstm_native.layers import (  # noqa: E402
    GRU,
    LSTM,
    Activation,
    AdditiveAttention,
    AveragePooling1D,
    BatchNormalization,
    Bidirectional,
    Conv1D,
    Cropping1D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    Input,
    LayerNormalization,
    Masking,
    MaxPooling1D,
    Permute,
    RepeatVector,
    Reshape,
    SimpleRNN,
    TimeDistributed,
    ZeroPadding1D,
)
from lstm_native.models import Model, Sequential  # noqa: E402

# Two float32 results of the same sums in different orders.
TOLERANCE = 1e-5
CELLS = (LSTM, GRU, SimpleRNN)


def filled(model: Any, seed: int = 0) -> Any:
    """The model with random weights, biases too."""
    random = np.random.default_rng(seed)
    for variable in model.weights:
        values = random.normal(0, 0.4, variable.shape)
        variable.assign(np.abs(values) + 0.1 if variable.name == "moving_variance" else values)
    return model


def written(model: Any, path: Path) -> Any:
    """A session with the model, which was checked on the way."""
    record = to_onnx(model, path)
    assert record.max_difference is not None, str(record)
    assert record.max_difference <= TOLERANCE
    onnx.checker.check_model(onnx.load(path), full_check=True)
    onnxruntime.set_default_logger_severity(4)
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def check(model: Any, path: Path, *inputs: Any) -> None:
    """Ours and onnxruntime's outputs for these inputs."""
    session = written(model, path)
    ours = model(list(inputs) if len(inputs) > 1 else inputs[0])
    theirs = session.run(None, {i.name: x for i, x in zip(session.get_inputs(), inputs, strict=True)})
    in_our_backend = backend.prepare(path).run(list(inputs))
    for a, b, c in zip(
        list(ours) if isinstance(ours, list | tuple) else [ours], theirs, in_our_backend, strict=True
    ):
        np.testing.assert_allclose(a, b, atol=TOLERANCE, rtol=TOLERANCE)
        np.testing.assert_allclose(a, c, atol=TOLERANCE, rtol=TOLERANCE)


# Padding behind, before, in the middle, everywhere and nowhere.
IDS = np.array(
    [[1, 2, 3, 0, 0], [0, 0, 4, 5, 6], [7, 0, 8, 0, 1], [0, 0, 0, 0, 0], [1, 2, 3, 4, 5]], np.int32
)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("mask", [False, True])
def test_recurrent_layers(cell: Any, mask: bool, tmp_path: Path) -> None:
    for sequences, backwards, zero in itertools.product((False, True), repeat=3):
        layer = cell(4, return_sequences=sequences, go_backwards=backwards, zero_output_for_mask=zero)
        model = Sequential([Input((None,), dtype="int32"), Embedding(9, 3, mask_zero=mask), layer])
        check(filled(model), tmp_path / "m.onnx", IDS)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("merge", ["concat", "sum", "mul", "ave"])
def test_bidirectional(cell: Any, merge: str, tmp_path: Path) -> None:
    for sequences, mask in itertools.product((False, True), repeat=2):
        first = Bidirectional(cell(4, return_sequences=True), merge)
        second = Bidirectional(cell(3, return_sequences=sequences), merge)
        model = Sequential([Input((None,), dtype="int32"), Embedding(9, 3, mask_zero=mask), first, second])
        check(filled(model), tmp_path / "m.onnx", IDS)


@pytest.mark.parametrize(
    "options",
    [
        {"clip": 0.3},
        {"peepholes": True},
        {"coupled_gates": True},
        {"coupled_gates": True, "peepholes": True, "use_bias": False},
        {"activation": "relu", "recurrent_activation": "hard_sigmoid"},
        {"recurrent_activation": Parametric("hard_sigmoid")},
        {"activation": Parametric("scaled_tanh", 1.2, 0.7), "output_activation": "softsign"},
        {
            "activation": Parametric("leaky_relu", 0.05),
            "recurrent_activation": Parametric("affine", 0.3, 0.4),
        },
        {"activation": Parametric("thresholded_relu", 0.2)},
        {"activation": "elu", "recurrent_activation": "softplus", "clip": 1.0},
        {"activation": "linear"},
    ],
    ids=str,
)
def test_options_of_the_lstm_and_back(options: dict[str, Any], tmp_path: Path) -> None:
    layer = LSTM(4, return_sequences=True, **options)
    for model in (
        Sequential([Input((None, 3)), layer]),
        Sequential([Input((None, 3)), Bidirectional(LSTM(4, **options))]),
    ):
        written(filled(model), tmp_path / "m.onnx")
        again = from_onnx(tmp_path / "m.onnx")
        assert isinstance(again, Sequential)
        for a, b in zip(again.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("after", [False, True])
def test_gru(after: bool, tmp_path: Path) -> None:
    model = filled(Sequential([Input((None, 3)), GRU(4, reset_after=after, clip=0.5, return_sequences=True)]))
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    check(model, tmp_path / "m.onnx", x)
    again = from_onnx(tmp_path / "m.onnx")
    np.testing.assert_allclose(again(x), model(x), atol=1e-6)
    assert again.layers[0].reset_after == after


NAMES = [
    "linear", "relu", "relu6", "tanh", "sigmoid", "softplus", "softsign", "elu", "celu", "selu", "leaky_relu",
    "hard_sigmoid", "hard_silu", "exponential", "softmax", "log_softmax", "hard_tanh", "silu", "mish",
    "log_sigmoid", "tanh_shrink", "gelu",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_activations(name: str, tmp_path: Path) -> None:
    x = np.linspace(-8, 8, 44, dtype=np.float32).reshape(4, 11)
    check(filled(Sequential([Input((11,)), Dense(3), Activation(name)])), tmp_path / "m.onnx", x)


@pytest.mark.parametrize(
    "layer",
    [
        Flatten(),
        Reshape((-1, 15)),
        Reshape((3, 10, 1)),
        Permute((2, 1)),
        LayerNormalization(),
        LayerNormalization(scale=False, center=False, epsilon=0.1),
        TimeDistributed(Dense(3, activation="relu")),
        GlobalAveragePooling1D(),
        GlobalMaxPooling1D(),
        GlobalAveragePooling1D(keepdims=True),
        GlobalMaxPooling1D(data_format="channels_first"),
        Dropout(0.5),
        LSTM(2, dropout=0.5, recurrent_dropout=0.5),
    ],
    ids=lambda layer: layer.name,
)
def test_layers_around(layer: Any, tmp_path: Path) -> None:
    model = Sequential([Input((6, 4)), GRU(5, return_sequences=True, activity_regularizer="l2"), layer])
    check(
        filled(model), tmp_path / "m.onnx", np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    )


@pytest.mark.parametrize(
    "layer",
    [
        Conv1D(4, 3, activation="relu", padding="causal", dilation_rate=2),
        Conv1D(4, 3, strides=2, padding="same", use_bias=False),
        Conv1D(4, 2, padding="same"),
        Conv1D(10, 3, groups=5, activation="softmax"),
        Conv1D(4, 2, strides=3, data_format="channels_first"),
        MaxPooling1D(2),
        MaxPooling1D(4, strides=3, padding="same"),
        MaxPooling1D(4, strides=1, padding="same"),
        AveragePooling1D(3, strides=2, data_format="channels_first"),
        AveragePooling1D(4, strides=4, padding="same"),
        ZeroPadding1D((1, 2)),
        ZeroPadding1D((1, 2), data_format="channels_first"),
        Cropping1D((1, 2)),
        Cropping1D((2, 0)),
        BatchNormalization(),
        BatchNormalization(axis=1, scale=False),
    ],
    ids=lambda layer: layer.name,
)
def test_layers_of_windows(layer: Any, tmp_path: Path) -> None:
    fixed = getattr(layer, "data_format", "") == "channels_first" or getattr(layer, "axis", -1) == 1
    inputs = Input((11 if fixed else None, 4))
    model = filled(Sequential([inputs, GRU(5, return_sequences=True), layer, Activation("tanh")]))
    for steps in (11,) if fixed else (11, 16):
        x = np.random.default_rng(0).normal(size=(2, steps, 4)).astype(np.float32)
        session = written(model, tmp_path / "m.onnx")
        (found,) = session.run(None, {session.get_inputs()[0].name: x})
        np.testing.assert_allclose(model(x), found, atol=TOLERANCE, rtol=TOLERANCE)


def test_masks_of_other_layers(tmp_path: Path) -> None:
    model = Sequential(
        [Input((None,), dtype="int32"), Embedding(9, 3, mask_zero=True), GlobalAveragePooling1D()]
    )
    check(filled(model), tmp_path / "m.onnx", IDS)
    x = np.random.default_rng(0).normal(size=(3, 5, 2)).astype(np.float32)
    x[0, 2:] = x[1, :2] = x[2, 1] = 7
    check(
        filled(Sequential([Input((None, 2)), Masking(7.0), LSTM(3), RepeatVector(2)])), tmp_path / "m.onnx", x
    )


def test_batch_and_time_vary(tmp_path: Path) -> None:
    model = filled(Sequential([Input((None, 3)), LSTM(4, return_sequences=True), LSTM(4), Dense(2)]))
    session = written(model, tmp_path / "m.onnx")
    for batch, time in ((1, 1), (7, 2), (2, 19)):
        x = np.random.default_rng(batch).normal(size=(batch, time, 3)).astype(np.float32)
        np.testing.assert_allclose(
            session.run(None, {session.get_inputs()[0].name: x})[0], model(x), atol=TOLERANCE
        )


def test_functional_models(tmp_path: Path) -> None:
    random = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return random.normal(size=shape).astype(np.float32)

    source = Input((None, 8), name="source")
    _, h, c = LSTM(6, return_state=True)(source)
    target = Input((None, 4), name="target")
    steps = LSTM(6, return_sequences=True)(target, initial_state=[h, c])
    model = filled(Model([source, target], [Dense(4)(steps), h]))
    check(model, tmp_path / "m.onnx", normal(3, 5, 8), normal(3, 2, 4))
    again = from_onnx(tmp_path / "m.onnx")
    x = [normal(3, 5, 8), normal(3, 2, 4)]
    for a, b in zip(again(x), model(x), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)

    mask = Input((None,), dtype="bool", name="mask")
    first = Input((6,), name="first")
    outputs = GRU(6, return_state=True, return_sequences=True)(source, mask=mask, initial_state=[first])
    model = filled(Model([source, mask, first], list(outputs)))
    flags = np.array([[1, 1, 0, 0, 1], [0] * 5, [0, 1, 1, 1, 0]], bool)
    check(model, tmp_path / "m.onnx", normal(3, 5, 8), flags, normal(3, 6))

    states = [Input((6,), name=f"state{i}") for i in range(4)]
    both = Bidirectional(LSTM(6, return_state=True, return_sequences=True), None)(
        source, initial_state=states
    )
    model = filled(Model([source, *states], list(both)))
    check(model, tmp_path / "m.onnx", normal(3, 5, 8), *(normal(3, 6) for _ in states))


def test_a_model_in_a_model(tmp_path: Path) -> None:
    inner = Sequential([Input((None, 3)), LSTM(4, return_sequences=True)])
    model = filled(Sequential([Input((None, 3)), inner, Dense(2)]))
    check(model, tmp_path / "m.onnx", np.ones((2, 5, 3), np.float32))


def test_notes(tmp_path: Path) -> None:
    model = Sequential([Input((None, 3)), LSTM(4), Dense(2, activation="hard_sigmoid")])
    assert "1 / 6" in str(to_onnx(model, tmp_path / "m.onnx"))


# --- what has no counterpart ------------------------------------------------------------------------


def twice(x: Any) -> Any:
    return 2 * x


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (LSTM(4, projection_units=2, name="a"), "LSTM 'a': projection_units is set"),
        (LSTM(4, stateful=True, name="a"), "LSTM 'a': stateful is True"),
        (LSTM(4, activation="silu", name="a"), "LSTM 'a': activation is silu"),
        (LSTM(4, activation=twice, name="a"), "LSTM 'a': activation is twice"),
        (Dense(4, activation=twice, name="a"), "Dense 'a': activation is twice"),
        (Dense(4, activation=activations.sparsemax, name="a"), "Dense 'a': activation is sparsemax"),
        (LayerNormalization(axis=1, name="a"), "LayerNormalization 'a': axis is 1"),
        (TimeDistributed(RepeatVector(2), name="a"), "TimeDistributed 'a': it holds a RepeatVector"),
        (Flatten(data_format="channels_first", name="a"), "Flatten 'a': data_format"),
    ],
    ids=str,
)
def test_refused(layer: Any, message: str, tmp_path: Path) -> None:
    model = Sequential([Input((6, 4), batch_size=2), layer])
    with pytest.raises(ValueError, match=f"^to_onnx: {message}"):
        to_onnx(model, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_refused_graphs(tmp_path: Path) -> None:
    a, b = Input((5, 4)), Input((5, 4))
    with pytest.raises(ValueError, match=r"to_onnx: AdditiveAttention .*no counterpart"):
        to_onnx(Model([a, b], AdditiveAttention()([a, b])), tmp_path / "m.onnx")
    reset = Input((5,), dtype="bool")
    with pytest.raises(ValueError, match=r"it is called with \['reset'\]"):
        to_onnx(Model([a, reset], LSTM(3)(a, reset=reset)), tmp_path / "m.onnx")
    with pytest.raises(ValueError, match=r"to_onnx: .* is not built"):
        to_onnx(Sequential([LSTM(3)]), tmp_path / "m.onnx")
    with pytest.raises(TypeError, match="to_onnx: got a LSTM"):
        to_onnx(LSTM(3), tmp_path / "m.onnx")
    with pytest.raises(OSError):
        to_onnx(Sequential([Input((5, 4)), LSTM(3)]), tmp_path / "no folder" / "m.onnx")


def test_the_layout_of_weights_is_noted(tmp_path: Path) -> None:
    record = to_onnx(Sequential([Input((4, 3)), LSTM(2), Dense(1)]), tmp_path / "m.onnx", check=True)
    assert any(note.startswith("gates: our columns became ONNX's rows") for note in record.notes)
