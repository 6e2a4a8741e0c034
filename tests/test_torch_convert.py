"""Models from PyTorch and to it: every conversion runs both sides and compares, so does each test."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_native
from lstm_native.convert import from_torch, to_torch
from lstm_native.layers import (
    GRU,
    LSTM,
    Activation,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    Input,
    LayerNormalization,
    RepeatVector,
    SimpleRNN,
    TimeDistributed,
)
from lstm_native.models import Model, Sequential

torch = pytest.importorskip("torch")
nn = torch.nn

TOLERANCE = 1e-5


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(3)


class Function(nn.Module):
    """Modules by name, and what is done with them."""

    def __init__(self, forward: Any, **modules: Any) -> None:
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)
        self.function = forward

    def forward(self, x: Any) -> Any:
        return self.function(self, x)


class FunctionOfTwo(Function):
    """`Function` with two inputs."""

    def forward(self, x: Any, y: Any) -> Any:
        return self.function(self, x, y)


def assert_same(module: Any, model: Any, *inputs: Any, time_first: tuple[int, ...] = ()) -> None:
    """Outputs of both; inputs are batch first, and those numbered in `time_first` are not so for PyTorch."""
    tensors = [torch.from_numpy(x) for x in inputs]
    theirs = module.eval()(*(x.transpose(0, 1) if i in time_first else x for i, x in enumerate(tensors)))
    ours = model.predict(inputs[0] if len(inputs) == 1 else list(inputs), verbose=0)
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=TOLERANCE, atol=TOLERANCE)


def floats(*shape: int) -> Any:
    return np.random.default_rng(5).standard_normal(shape).astype(np.float32)


def ids(*shape: int) -> Any:
    return np.random.default_rng(5).integers(0, 9, shape)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_recurrent_modules(kind: str, layers: int, bidirectional: bool, bias: bool) -> None:
    for batch_first in (False, True):
        module = getattr(nn, kind)(
            4,
            5,
            layers,
            bias=bias,
            bidirectional=bidirectional,
            batch_first=batch_first,
            dropout=0.2 * (layers > 1),
        )
        model = from_torch(module)
        assert model.conversion.max_difference < TOLERANCE
        x = floats(2, 6, 4)
        outputs = module.eval()(torch.from_numpy(x if batch_first else x.swapaxes(0, 1)))[0].detach().numpy()
        np.testing.assert_allclose(
            model(x), outputs if batch_first else outputs.swapaxes(0, 1), rtol=TOLERANCE, atol=TOLERANCE
        )
        assert sum(isinstance(layer, Dropout) for layer in model.layers) == (layers - 1)
        assert any("time first" in note for note in model.conversion.notes) != batch_first


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_projection_and_relu() -> None:
    for module in (
        nn.LSTM(4, 6, 2, proj_size=3, batch_first=True, bidirectional=True),
        nn.RNN(4, 6, nonlinearity="relu", batch_first=True),
    ):
        x = floats(2, 5, 4)
        expected = module(torch.from_numpy(x))[0].detach().numpy()
        np.testing.assert_allclose(from_torch(module)(x), expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_our_own_modules() -> None:
    import lstm_native.torch as native

    assert from_torch(native.LSTM(3, 4, 2)).conversion.max_difference < TOLERANCE


def classifier(m: Any, x: Any) -> Any:
    h0 = torch.zeros(2, x.size(0), 6).to(x.device)
    out, _ = m.rnn(m.embed(x), (h0, torch.zeros(2, x.shape[0], 6)))
    return torch.sigmoid(m.head(m.drop(out[:, -1, :])))


def both_directions(m: Any, x: Any) -> Any:
    _, (h, _) = m.rnn(m.embed(x))
    return nn.functional.log_softmax(m.head(torch.cat((h[-2], h[-1]), dim=1)), dim=-1)


def pooled(m: Any, x: Any) -> Any:
    return m.head(torch.relu(m.norm(m.rnn(m.embed(x))[0])).mean(dim=1))


def swapped(m: Any, x: Any) -> Any:
    return m.head(m.rnn(m.embed(x).permute(1, 0, 2))[0].transpose(0, 1))


def squeezed(m: Any, x: Any) -> Any:
    return m.head(m.rnn(m.embed(x))[1].squeeze(0))


def several_reads(m: Any, x: Any) -> Any:
    out, h = m.rnn(m.embed(x))
    return m.head(out[:, -1]), out, h[0]


EMBED = {"embed": nn.Embedding(9, 4)}


@pytest.mark.parametrize(
    ("forward", "modules"),
    [
        (
            classifier,
            {
                "rnn": nn.LSTM(4, 6, 2, batch_first=True, dropout=0.3),
                "drop": nn.Dropout(0.2),
                "head": nn.Linear(6, 1),
            },
        ),
        (
            both_directions,
            {"rnn": nn.LSTM(4, 6, 2, batch_first=True, bidirectional=True), "head": nn.Linear(12, 3)},
        ),
        (pooled, {"rnn": nn.GRU(4, 6, batch_first=True), "norm": nn.LayerNorm(6), "head": nn.Linear(6, 2)}),
        (swapped, {"rnn": nn.GRU(4, 6), "head": nn.Linear(6, 2)}),
        (squeezed, {"rnn": nn.RNN(4, 6, batch_first=True), "head": nn.Linear(6, 2)}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_forwards_of_the_callers_own(forward: Any, modules: Any) -> None:
    module = Function(forward, **EMBED, **modules)
    module.train()
    model = from_torch(module)
    assert module.training  # as it was
    assert_same(module, model, ids(3, 8))


def test_sequence_and_last_step_of_one_call() -> None:
    module = Function(several_reads, **EMBED, rnn=nn.GRU(4, 6, batch_first=True), head=nn.Linear(6, 2))
    model = from_torch(module)
    x = ids(3, 8)
    for expected, found in zip(module(torch.from_numpy(x)), model.predict(x, verbose=0), strict=True):
        np.testing.assert_allclose(found, expected.detach().numpy(), rtol=TOLERANCE, atol=TOLERANCE)


def test_time_first_inputs_come_batch_first() -> None:
    module = Function(lambda m, x: m.head(m.rnn(x)[0][-1]), rnn=nn.GRU(4, 6), head=nn.Linear(6, 2))
    model = from_torch(module)
    assert_same(module, model, floats(3, 7, 4), time_first=(0,))
    assert any("time first" in note for note in model.conversion.notes)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_encoder_and_decoder(kind: str) -> None:
    def forward(m: Any, x: Any, y: Any) -> Any:
        _, state = m.encoder(x)
        return m.head(m.decoder(y, state)[0])

    made = getattr(nn, kind)
    module = FunctionOfTwo(
        forward,
        encoder=made(3, 5, 2, batch_first=True),
        decoder=made(2, 5, 2, batch_first=True),
        head=nn.Linear(5, 2),
    )
    assert_same(module, from_torch(module), floats(2, 7, 3), floats(2, 4, 2))


def test_a_converted_model_streams_trains_and_is_saved(tmp_path: Path) -> None:
    module = Function(
        lambda m, x: m.head(m.rnn(x)[0]), rnn=nn.LSTM(3, 5, batch_first=True), head=nn.Linear(5, 2)
    )
    model = from_torch(module)
    x = floats(1, 6, 3)
    expected = model.predict(x, verbose=0)
    stream = model.stream()
    steps = np.stack([stream.step(x[:, t]) for t in range(6)], 1)
    np.testing.assert_array_equal(steps, expected)
    model.save(tmp_path / "m.safetensors")
    again = lstm_native.load_model(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.predict(x, verbose=0), expected)
    model.compile("adam", "mse")
    losses = model.fit(x, np.zeros((1, 6, 2)), epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_modules_without_time() -> None:
    module = nn.Sequential(
        nn.Linear(5, 6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 4, bias=False), nn.GELU(), nn.Identity(),
        nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=-1)),
    )  # fmt: skip
    assert_same(module, from_torch(module), floats(3, 5))
    assert_same(linear := nn.Linear(3, 2), from_torch(linear), floats(2, 3))


def test_state_dicts(tmp_path: Path) -> None:
    modules = {"embed": nn.Embedding(9, 4), "rnn": nn.GRU(4, 6, 2, bidirectional=True, batch_first=True)}
    module = Function(
        lambda m, x: m.head(m.norm(m.rnn(m.embed(x))[0])),
        **modules,
        norm=nn.LayerNorm(12),
        head=nn.Linear(12, 3),
    )
    state = module.state_dict()
    arrays = {name: value.numpy() for name, value in state.items()}
    path = tmp_path / "state.safetensors"
    lstm_native.saving.write_safetensors(path, arrays)
    order = ["embed", "rnn", "norm", "head"]
    backwards = dict(reversed(arrays.items()))
    for source, given in (
        (state, None),
        (arrays, None),
        (path, None),
        (str(path), order),
        (backwards, order),
    ):
        model = from_torch(source, return_sequences=True, order=given)
        assert isinstance(model, Sequential)
        assert model.conversion.max_difference < 2e-6
        assert_same(module, model, ids(2, 5))
    for kind, layer in (("LSTM", LSTM), ("GRU", GRU), ("RNN", SimpleRNN)):
        assert type(from_torch(getattr(nn, kind)(3, 5).state_dict()).layers[-1]) is layer


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_of_weights(dtype: Any) -> None:
    state = nn.LSTM(3, 4).to(dtype).state_dict()
    kernel = from_torch(state).layers[-1].kernel.numpy()
    np.testing.assert_array_equal(kernel, state["weight_ih_l0"].float().numpy().T)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Function(lambda m, x: m.rnn(x)[0] ** 2, rnn=nn.LSTM(4, 4, batch_first=True)), "pow"),
        (Function(lambda m, x: m.rnn(x)[0][:, 2], rnn=nn.LSTM(4, 4, batch_first=True)), "part of a tensor"),
        (
            Function(lambda m, x: m.rnn(x)[0][:, -1], rnn=nn.GRU(4, 4, batch_first=True, bidirectional=True)),
            "second direction",
        ),
        (Function(lambda m, x: m.rnn(x), rnn=nn.GRU(4, 4)), "with its states"),
        (Function(lambda m, x: m.conv(x), conv=nn.Conv2d(2, 3, 1)), "Conv2d"),
        (Function(lambda m, x: m.rnn(x)[0] if x.sum() > 0 else x, rnn=nn.GRU(4, 4)), "without data"),
        (nn.Sequential(nn.Embedding(5, 3, max_norm=1.0)), "max_norm"),
        (nn.Sequential(nn.Linear(3, 4), nn.LayerNorm((2, 2))), "one axis"),
        (nn.Conv2d(2, 3, 1), "Conv2d"),
        (nn.Sequential(nn.Linear(3, 4), nn.Softmax(dim=0)), "dim 0"),
        ({"a.weight": np.zeros((2, 3, 4))}, "a.weight"),
        ({"w": np.zeros(3, np.int32)}, "int32"),
        ({}, "empty"),
        ({"a.weight": np.zeros((3, 3)), "b.weight": np.zeros((4, 4))}, "follow"),
        ({"weight_hh_l0": np.zeros((7, 3)), "weight_ih_l0": np.zeros((7, 3))}, "gates"),
    ],
)
def test_what_has_no_counterpart_is_named(module: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_torch(module)


RECURRENT = {"weight_ih_l0": (4, 3), "weight_hh_l0": (4, 1)}


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"weight_hh_l0": (4, 1)}, "weight_ih_l0' is missing"),
        ({**RECURRENT, "weight_hh_l0": (4,)}, "gates"),
        ({**RECURRENT, "weight_ih_l0": (5, 3)}, r"weight_ih_l0' has shape \(5, 3\), expected shape \(4, 3\)"),
        ({**RECURRENT, "weight_hr_l0": (3,)}, "gates"),
        ({**RECURRENT, "bias_ih_l0": (4,)}, "bias_hh_l0' is missing"),
        ({**RECURRENT, "weight_hh_l7": (4, 1)}, "weight_ih_l1' is missing"),
        ({**RECURRENT, "weight_ih_l0_reverse": (4, 3)}, "weight_hh_l0_reverse' is missing"),
        ({**RECURRENT, "more": (4,)}, "more' has shape .4,., expected no such weight"),
        ({"weight_ih_l0": (0, 3), "weight_hh_l0": (0, 0)}, "expected one or two, none empty"),
        ({"a.weight": ()}, "a.weight' has shape"),
        ({f"l{i}.weight": (4, 4) for i in range(11)} | {"m.weight": (5, 5)}, "no order of"),
    ],
)
def test_hostile_state_dicts(tmp_path: Path, shapes: dict[str, tuple[int, ...]], message: str) -> None:
    path = tmp_path / "state.safetensors"
    lstm_native.saving.write_safetensors(path, {k: np.zeros(s, np.float32) for k, s in shapes.items()})
    with pytest.raises(ValueError, match=message):
        from_torch(path)


def test_other_things_are_type_errors() -> None:
    with pytest.raises(TypeError, match="expected a torch"):
        from_torch(3)
    with pytest.raises(TypeError, match="expected a model"):
        to_torch(nn.Linear(2, 2))
    with pytest.raises(FileNotFoundError):
        from_torch("no such file.safetensors")


# --- to PyTorch -----------------------------------------------------------------------------------


def with_random_weights(model: Any) -> Any:
    random = np.random.default_rng(1)
    for variable in model.weights:
        variable.assign(random.uniform(-0.5, 0.5, variable.shape).astype(np.float32))
    return model


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize(
    "layers",
    [
        lambda: [
            Input((None,)),
            Embedding(9, 5),
            LSTM(6, return_sequences=True),
            Dropout(0.2),
            LSTM(4),
            Dense(3),
        ],
        lambda: [Input((None, 3)), Bidirectional(GRU(4)), Dense(1, activation="sigmoid")],
        lambda: [
            Input((None, 3)),
            Bidirectional(LSTM(4, return_sequences=True, use_bias=False)),
            TimeDistributed(Dense(2, activation="relu")),
            GlobalMaxPooling1D(),
            LayerNormalization(),
            Activation("softmax"),
        ],
        lambda: [
            Input((None, 3)),
            SimpleRNN(4, activation="relu", go_backwards=True, return_sequences=True),
            GlobalAveragePooling1D(),
            RepeatVector(3),
            GRU(5, return_sequences=True, go_backwards=True, use_bias=False),
            Flatten(),
        ],
        lambda: [Input((None, 3)), LSTM(6, projection_units=2, dropout=0.1)],
        lambda: [
            Input((4,)),
            Sequential([Input((4,)), Dense(3, activation="tanh")]),
            Dense(2, activation="gelu"),
        ],
    ],
)
def test_to_torch(layers: Any) -> None:
    model = with_random_weights(Sequential(layers()))
    module = to_torch(model)
    assert module.conversion.max_difference < TOLERANCE
    x = (
        ids(2, 11)
        if isinstance(model.layers[0], Embedding)
        else floats(2, *(11, 3)[: len(model.input_shape) - 1])
    )
    if model.input_shape[1:] == (4,):
        x = floats(2, 4)
    if isinstance(model.layers[-1], Flatten):
        assert module(torch.from_numpy(x)).shape == (2, 15)
    np.testing.assert_allclose(
        module(torch.from_numpy(x)).detach().numpy(),
        model.predict(x, verbose=0),
        rtol=TOLERANCE,
        atol=TOLERANCE,
    )


def test_there_and_back() -> None:
    x = Input((None, 3))
    y = Dense(2)(GRU(4)(LSTM(5, return_sequences=True)(x)))
    model = with_random_weights(Model(x, y))
    again = from_torch(to_torch(model))
    inputs = floats(2, 6, 3)
    np.testing.assert_allclose(again(inputs), model(inputs), rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([Input((None,)), Embedding(9, 5, mask_zero=True), LSTM(6)], "mask_zero"),
        ([Input((None, 3)), LSTM(6, activation="relu")], "activation is relu"),
        ([Input((None, 3)), LSTM(6, recurrent_activation="hard_sigmoid")], "recurrent_activation"),
        ([Input((None, 3)), GRU(6, reset_after=False)], "reset_after"),
        ([Input((None, 3)), LSTM(6, peepholes=True)], "peepholes"),
        ([Input((None, 3)), LSTM(6, peepholes=True, projection_units=2)], "peepholes"),
        ([Input((None, 3)), Bidirectional(LSTM(6), merge_mode="sum")], "side by side"),
        ([Input((None, 3)), Dense(6, activation="squareplus")], "squareplus"),
        ([LSTM(6)], "not built"),
    ],
)
def test_what_torch_does_not_have_is_named(layers: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_torch(Sequential(layers))


def test_the_record() -> None:
    record = lstm_native.convert.Conversion("A", "B")
    record.note("one")
    record.note("one")
    record.compare([np.ones(3)], [np.ones(3)])
    assert str(record) == "from A to B: largest difference 0\n- one"
    for wrong in (np.ones(4), np.ones(3) + 1e-4, np.array([1, np.nan, 1])):
        with pytest.raises(ValueError, match="conversion from A to B"):
            record.compare([np.ones(3)], [wrong])
    for expected, found in itertools.product(([np.ones(3)],), ([], [np.ones(3)] * 2)):
        with pytest.raises(ValueError):
            record.compare(expected, found)


def test_arguments_for_state_dicts() -> None:
    state = {"weight_ih_l0": np.ones((2, 3), np.float32), "weight_hh_l0": np.ones((2, 2), np.float32)}
    with pytest.raises(ValueError, match="nonlinearity is 'gelu', expected 'tanh' or 'relu'"):
        from_torch(state, nonlinearity="gelu")
    with pytest.raises(TypeError, match="order is 'head', expected a list of names"):
        from_torch({"head.weight": np.ones((2, 3), np.float32)}, order="head")
