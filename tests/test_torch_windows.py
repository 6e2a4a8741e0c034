"""Convolutions, pooling, normalization and what else stands in front of an LSTM: from and to PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lstm_native import layers as L
from lstm_native.convert import from_torch, to_torch
from lstm_native.models import Model, Sequential

torch: Any = pytest.importorskip("torch")
nn = torch.nn
RNG = np.random.default_rng(0)


def drawn(model: Any) -> Any:
    """The model with random weights, moving variances above zero."""
    model.set_weights([RNG.uniform(0.2, 1.0, w.shape) for w in model.get_weights()])
    return model


TO: dict[str, Callable[[], list[Any]]] = {
    "valid": lambda: [L.Conv1D(5, 3, strides=2, activation="relu")],
    "same": lambda: [L.Conv1D(5, 4, padding="same", use_bias=False)],
    "causal": lambda: [L.Conv1D(6, 3, padding="causal", dilation_rate=2, groups=2, activation="tanh")],
    "channels first": lambda: [L.Conv1D(5, 3, data_format="channels_first"), L.Permute((2, 1))],
    "maxima": lambda: [L.MaxPooling1D(3, strides=2)],
    "means": lambda: [L.AveragePooling1D(2)],
    "steps": lambda: [L.ZeroPadding1D((2, 1)), L.UpSampling1D(3), L.Cropping1D((1, 2))],
    "noise": lambda: [L.GaussianNoise(0.1), L.SpatialDropout1D(0.5), L.GaussianDropout(0.2)],
    "normalized": lambda: [L.BatchNormalization(), L.BatchNormalization(scale=False, center=False)],
    "shapes": lambda: [L.Reshape((3, -1)), L.Permute((2, 1))],
}


@pytest.mark.parametrize("name", TO)
def test_to_torch(name: str) -> None:
    model = drawn(Sequential([L.Input((12, 4)), *TO[name](), L.LSTM(3), L.Dense(2)]))
    made = to_torch(model, check=True)
    x = RNG.standard_normal((2, 12, 4)).astype(np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(made(torch.from_numpy(x)).numpy(), model(x), atol=1e-5)
    inputs = L.Input((12, 4))
    y = inputs
    for layer in TO[name]():
        y = layer(y)
    branched = drawn(Model(inputs, L.Concatenate()([L.LSTM(3)(y), L.GlobalMaxPooling1D()(y)])))
    to_torch(branched, check=True)


def test_normalization_of_rows() -> None:
    model = drawn(Sequential([L.Input((4,)), L.Dense(3), L.BatchNormalization(momentum=0.8), L.Dense(2)]))
    made = to_torch(model, check=True)
    assert [type(module).__name__ for module in made] == ["Linear", "BatchNorm1d", "Linear"]
    assert made[1].momentum == pytest.approx(0.2)
    again = from_torch(made, check=True)
    assert again.layers[2].momentum == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (L.Conv1D(4, 3, strides=2, padding="same"), 'padding is "same" with strides'),
        (L.MaxPooling1D(2, padding="same"), "padding is 'same', expected 'valid'"),
        (L.BatchNormalization(axis=1), "axis is 1, expected the last one"),
    ],
)
def test_to_torch_refuses(layer: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"to_torch: {layer.label()}: {message}"):
        to_torch(Sequential([L.Input((12, 4)), layer]))


class Net(nn.Module):  # type: ignore[misc, name-defined]
    """Convolutions over (batch, features, time), and an LSTM over (batch, time, features)."""

    def __init__(self, turned: bool = False, **options: Any) -> None:
        super().__init__()
        self.turned = turned
        self.conv = nn.Conv1d(4, 6, 3, **options)
        self.norm = nn.BatchNorm1d(6)
        self.drop = nn.Dropout1d(0.2)
        self.pool = nn.MaxPool1d(2)
        self.rnn = nn.LSTM(6, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Any) -> Any:
        if self.turned:
            x = x.transpose(1, 2)
        x = self.pool(self.drop(torch.relu(self.norm(self.conv(x)))))
        _, (h, _) = self.rnn(x.permute(0, 2, 1))
        return self.head(h[-1])


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": 1},
        {"padding": 2, "stride": 2},
        {"padding": "same", "dilation": 2},
        {"groups": 2, "bias": False},
    ],
)
def test_cnn_and_lstm(turned: bool, options: dict[str, Any]) -> None:
    net = Net(turned, **options)
    with torch.no_grad():
        net.norm.running_mean.normal_()
        net.norm.running_var.uniform_(0.5, 2)
    model = from_torch(net.eval(), check=True)
    assert model.inputs[0].shape == ((None, None, 4) if turned else (None, 4, None))
    x = RNG.standard_normal((2, 20, 4) if turned else (2, 4, 20)).astype(np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(model(x), net(torch.from_numpy(x)).numpy(), atol=1e-5)


def test_outputs_with_features_in_front() -> None:
    net = nn.Sequential(nn.Conv1d(3, 4, 2), nn.GELU(), nn.AvgPool1d(2), nn.Softmax(-1))
    model = from_torch(net.eval(), check=True)
    x = RNG.standard_normal((2, 3, 9)).astype(np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(model(x), net(torch.from_numpy(x)).numpy(), atol=1e-6)

    class Pooled(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(3, 4, 2)

        def forward(self, x: Any) -> Any:
            y = self.conv(x)
            return y.mean(2), y.amax(-1)

    for found, wanted in zip(from_torch(Pooled().eval(), check=True)(x), range(2), strict=True):
        assert found.shape == (2, 4), wanted


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Conv1d(4, 4, 3, padding=1, padding_mode="circular"), "padding_mode 'circular', expected 'zeros'"),
        (
            nn.Sequential(nn.Conv1d(4, 4, 3), nn.MaxPool1d(3, padding=1)),
            "MaxPool1d has padding 1, expected 0",
        ),
        (nn.Sequential(nn.Conv1d(4, 4, 3), nn.AvgPool1d(3, ceil_mode=True)), "AvgPool1d has ceil_mode True"),
        (
            nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)),
            "no running statistics",
        ),
    ],
)
def test_from_torch_refuses(module: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_torch(module)


@pytest.mark.parametrize(
    "function",
    [
        lambda y: torch.relu(y.transpose(1, 2)),
        lambda y: y.transpose(1, 2).softmax(-1),
        lambda y: y.permute(0, 2, 1).flatten(1),
    ],
)
def test_time_in_the_last_axis(function: Any) -> None:
    class Turned(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(3, 4, batch_first=True)

        def forward(self, x: Any) -> Any:
            return function(self.rnn(x)[0])

    net = Turned().eval()
    model = from_torch(net, check=True)
    x = RNG.standard_normal((2, 5, 3)).astype(np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(model(x), function(net.rnn(torch.from_numpy(x))[0]).numpy(), atol=1e-6)
