"""PyTorch modules that branch, into our models and back: sums, products, joins, several inputs, attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import test_merging as merging  # noqa: E402
from lstm_native import layers as L  # noqa: E402
from lstm_native.convert import from_torch, to_torch  # noqa: E402
from lstm_native.layers import GRU, LSTM, Bidirectional, Dense, Input  # noqa: E402
from lstm_native.models import Model  # noqa: E402
from torch_branches import CASES  # noqa: E402

CALLS = 6e-7  # float32 on both sides: sums of a few dozen products of size 1


class Function(nn.Module):
    """Submodules by name, and a forward."""

    def __init__(self, function: Any, **modules: Any) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Any) -> Any:
        return self.function(self, x)


class Pair(Function):
    """The same, of two inputs."""

    def forward(self, x: Any, y: Any) -> Any:  # type: ignore[override]
        return self.function(self, x, y)


def kinds(model: Any) -> list[str]:
    return sorted(type(layer).__name__ for layer in model.layers if type(layer).__name__ != "InputLayer")


@pytest.mark.parametrize("number", range(len(CASES)))
def test_modules_that_branch(number: int) -> None:
    make, inputs = CASES[number]
    module = make().eval()
    model = from_torch(module)
    with torch.no_grad():
        expected = module(*inputs).numpy()
    arrays = [x.numpy() for x in inputs]
    got = model(arrays if len(arrays) > 1 else arrays[0])
    np.testing.assert_allclose(got, expected, atol=5 * CALLS)


@pytest.mark.parametrize(
    ("forward", "kind"),
    [
        (lambda m, x: m.a(x)[0] + m.b(x)[0], "Add"),
        (lambda m, x: torch.add(m.a(x)[0], m.b(x)[0]), "Add"),
        (lambda m, x: m.a(x)[0].add(m.b(x)[0]), "Add"),
        (lambda m, x: m.a(x)[0] - m.b(x)[0], "Subtract"),
        (lambda m, x: m.a(x)[0] * m.b(x)[0], "Multiply"),
        (lambda m, x: torch.maximum(m.a(x)[0], m.b(x)[0]), "Maximum"),
        (lambda m, x: torch.min(m.a(x)[0], m.b(x)[0]), "Minimum"),
        (lambda m, x: torch.cat((m.a(x)[0], x, m.b(x)[0]), dim=-1), "Concatenate"),
        (lambda m, x: torch.cat((m.a(x)[0], m.b(x)[0]), 1), "Concatenate"),
        (lambda m, x: m.a(x)[1][-1] * m.b(x)[1].squeeze(0), "Multiply"),
    ],
)
def test_functions(forward: Any, kind: str) -> None:
    model = from_torch(
        Function(forward, a=nn.GRU(3, 4, batch_first=True), b=nn.GRU(3, 4, batch_first=True)).eval()
    )
    assert kind in kinds(model)
    assert model.conversion.max_difference < CALLS


def test_time_first() -> None:
    """There a vector goes with every step, and time is joined along the first axis."""

    def forward(m: Any, x: Any) -> Any:
        y, h = m.a(x)
        return torch.cat([m.b(y * x + h[-1])[0], x], 0)

    model = from_torch(Function(forward, a=nn.GRU(4, 4), b=nn.GRU(4, 4)).eval())
    assert kinds(model) == ["Add", "Concatenate", "GRU", "GRU", "Multiply"]


def test_functions_of_states_count() -> None:
    model = from_torch(Function(lambda m, x: torch.tanh(m.a(x)[1][0]), a=nn.GRU(3, 4)).eval())
    assert kinds(model) == ["Activation", "GRU"]


@pytest.mark.parametrize("dim", [1, -1])
def test_features_that_only_a_join_reads(dim: int) -> None:
    def forward(m: Any, ids: Any, features: Any) -> Any:
        h = m.rnn(m.embed(ids))[1]
        return m.head(m.drop(torch.cat([h[-1], features, h[-2]], dim=dim)))

    parts = {"embed": nn.Embedding(9, 4), "rnn": nn.GRU(4, 3, batch_first=True, bidirectional=True)}
    model = from_torch(Pair(forward, **parts, drop=nn.Dropout(), head=nn.Linear(11, 2)).eval())
    assert model.input_shape == [(None, None), (None, 5)]


def test_sequences_that_only_a_join_reads() -> None:
    def forward(m: Any, x: Any, y: Any) -> Any:
        return m.b(torch.cat([m.a(x)[0], y], dim=2))[0]

    module = Pair(forward, a=nn.LSTM(4, 3, batch_first=True), b=nn.LSTM(5, 2, batch_first=True)).eval()
    assert from_torch(module).input_shape == [(None, None, 4), (None, None, 2)]
    module = Pair(lambda m, x, y: m.a(x)[0] + y, a=nn.LSTM(4, 3, batch_first=True)).eval()
    assert from_torch(module).input_shape == [(None, None, 4), (None, None, 3)]


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda m, x: 1.0 / m.a(x)[0], "truediv has no layer here"),
        (lambda m, x: torch.maximum(m.a(x)[0], torch.ones(4)), "a constant has no layer here"),
        (lambda m, x: torch.add(m.a(x)[0], m.b(x)[0], alpha=2), "has no layer here"),
        (lambda m, x: torch.cat([m.a(x)[0], m.b(x)[0]]), "joined along the batch"),
        (lambda m, x: torch.cat([m.a(x)[0], m.b(x)[1][0]], 1), "different numbers of axes"),
        (lambda m, x: m.a(x)[0] * m.b(x)[1][0], "PyTorch's batch and time would come together"),
        (lambda m, x: m.a(x)[0] + m.b(x)[0].transpose(0, 1), "in different orders"),
        (lambda m, x: torch.bmm(m.a(x)[0].transpose(1, 2), m.b(x)[0]), "batch first, and such a tensor"),
        (lambda m, x: m.a(x), "the outputs of a recurrent module come with its states"),
        (lambda m, x: torch.cat([m.a(x)[0], x.new_zeros(1, 4)], 1), "joins something else than tensors"),
    ],
)
def test_what_has_no_counterpart_is_named(forward: Any, message: str) -> None:
    module = Function(forward, a=nn.GRU(3, 4, batch_first=True), b=nn.GRU(3, 4, batch_first=True))
    with pytest.raises(ValueError, match=message):
        from_torch(module)


# --- to PyTorch -------------------------------------------------------------------------------------


def states() -> Any:
    """States that go from module to module, of both directions too."""
    a, b = Input((None, 3)), Input((None, 2), name="lambda")
    encoded, *last = Bidirectional(LSTM(3, return_sequences=True, return_state=True))(a)
    decoded = Bidirectional(LSTM(3, return_sequences=True))(b, initial_state=last)
    joined = L.Concatenate(name="forward")([L.Attention(use_scale=True)([decoded, encoded]), decoded])
    out, h = GRU(6, return_state=True, go_backwards=True)(a)
    return Model([a, b], [joined, L.add([out, h])])


def broadcast() -> Any:
    """Inputs with fewer axes, and every form of Dot."""
    a, b = Input((None, 3)), Input((3,))
    ends = [L.add([a, b]), L.dot([a, b], axes=(2, 1), normalize=True), L.dot([b, a], axes=(1, 2))]
    return Model([a, b], [*ends, L.dot([b, b], axes=1), L.dot([a, a], axes=1), L.average([a, b])])


def shared() -> Any:
    """A layer that is called three times, and a model inside."""
    x = Input((None, 3))
    layer = Dense(3, activation="tanh", activity_regularizer="l2")
    y = Input((None, 3))
    inner = Model(y, L.subtract([y, layer(y)]))
    return Model(x, L.concatenate([layer(x), layer(inner(x))], axis=1))


MAKERS = [*(lambda m=merging.MODELS[i]: m()[0] for i in (0, 2, 3)), states, broadcast, shared]


@pytest.mark.parametrize("make", MAKERS)
def test_models_that_branch_go_to_torch(make: Any) -> None:
    model = make()
    module = to_torch(model)
    assert module.conversion.max_difference < 2e-6
    assert sum(p.numel() for p in module.parameters()) >= model.count_params()  # two biases for one
    assert not module.training


def test_there_and_back() -> None:
    model, (x,) = merging.MODELS[0]()
    again = from_torch(to_torch(model))
    np.testing.assert_allclose(again(x), model(x), atol=2e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda x: L.AdditiveAttention()([x, x]),
            "AdditiveAttention .*: PyTorch has no function for it here",
        ),
        (lambda x: L.Attention(score_mode="concat")([x, x]), "score_mode is 'concat'"),
        (
            lambda x: L.add([x, LSTM(3, return_sequences=True)(x, training=True)]),
            "is called with .'training'",
        ),
        (lambda x: L.add([x, LSTM(3, stateful=True, return_sequences=True)(x)]), "stateful is True"),
        (lambda x: L.add([x, L.Masking()(x)]), "Masking .*: PyTorch has no module for it here"),
    ],
)
def test_what_torch_does_not_have_is_named(make: Any, message: str) -> None:
    x = Input((None, 3), batch_size=2)
    with pytest.raises(ValueError, match=message):
        to_torch(Model(x, make(x)))
