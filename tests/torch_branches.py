"""Modules of PyTorch that branch: ways past layers, several inputs, attention; used by several tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class Residual(nn.Module):
    """LSTM layers with ways past them; of the second one the last step counts."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.LSTM(4, 4, batch_first=True)
        self.b = nn.LSTM(4, 4, batch_first=True)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Any) -> Any:
        y = self.norm(x + self.a(x)[0])
        return self.head((self.b(y)[0] + y)[:, -1])


class Two(nn.Module):
    """Text and features."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 4)
        self.rnn = nn.LSTM(4, 3, batch_first=True)
        self.features = nn.Linear(5, 3)
        self.head = nn.Linear(6, 2)

    def forward(self, ids: Any, features: Any) -> Any:
        _, (h, _c) = self.rnn(self.embed(ids))
        return self.head(torch.cat([h[-1], torch.relu(self.features(features))], 1))


class Attended(nn.Module):
    """Attention of a decoder over an encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.GRU(4, 3, batch_first=True)
        self.decoder = nn.GRU(2, 3, batch_first=True)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Any, y: Any) -> Any:
        encoded, h = self.encoder(x)
        decoded, _ = self.decoder(y, h)
        weights = torch.softmax(torch.bmm(decoded, encoded.transpose(1, 2)), -1)
        return torch.tanh(self.head(torch.cat([torch.bmm(weights, encoded), decoded], -1)))


class Gated(nn.Module):
    """Products, differences and the larger of two branches."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 4, batch_first=True, bidirectional=True)
        self.gate = nn.Linear(8, 8)
        self.skip = nn.Linear(4, 8)

    def forward(self, x: Any) -> Any:
        y = self.rnn(x)[0]
        return torch.maximum(torch.sigmoid(self.gate(y)) * y, self.skip(x) - y)


class Pooled(nn.Module):
    """What steps say on average, at most, and in sum of both, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.GRU(4, 4, batch_first=True)
        self.b = nn.GRU(4, 4, batch_first=True)

    def forward(self, x: Any) -> Any:
        y, z = self.a(x)[0], self.b(x)[0]
        return torch.cat([y.mean(1) + z.mean(1), y.amax(1), torch.minimum(y, z).mean(1)], dim=-1)


CASES: list[tuple[Callable[[], nn.Module], list[Any]]] = [
    (Residual, [torch.randn(3, 5, 4)]),
    (Two, [torch.randint(0, 9, (3, 5)), torch.randn(3, 5)]),
    (Attended, [torch.randn(3, 5, 4), torch.randn(3, 4, 2)]),
    (Gated, [torch.randn(3, 5, 4)]),
    (Pooled, [torch.randn(3, 5, 4)]),
]
