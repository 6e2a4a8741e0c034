"""What a model of ours becomes in PyTorch: modules of torch.nn in a row. Nothing in them runs our kernels."""

from __future__ import annotations

from typing import Any

import torch


class Recurrent(torch.nn.Module):
    """A recurrent module of `torch.nn` that gives what a Keras layer gives.

    Args:
        rnn: batch first, of one layer; its `hx` is zero.
        return_sequences: all steps, or the last one. A bidirectional module's last step is the last of both
            directions.
        go_backwards: whether time runs backwards; the outputs are in processed order.
    """

    def __init__(self, rnn: torch.nn.RNNBase, return_sequences: bool, go_backwards: bool) -> None:
        super().__init__()
        self.rnn = rnn
        self.return_sequences = return_sequences
        self.go_backwards = go_backwards

    def forward(self, x: Any) -> Any:
        """x (batch, time, features): (batch, time, units), or (batch, units) without `return_sequences`."""
        outputs, states = self.rnn(x.flip(1) if self.go_backwards else x)
        if self.return_sequences:
            return outputs
        h = states[0] if isinstance(self.rnn, torch.nn.LSTM) else states
        return torch.cat((h[0], h[1]), -1) if self.rnn.bidirectional else h[0]


class MeanOverTime(torch.nn.Module):
    """(batch, time, features) to their means (batch, features)."""

    def forward(self, x: Any) -> Any:
        """The means of x."""
        return x.mean(1)


class MaximumOverTime(torch.nn.Module):
    """(batch, time, features) to their maxima (batch, features)."""

    def forward(self, x: Any) -> Any:
        """The maxima of x."""
        return x.amax(1)


class Repeat(torch.nn.Module):
    """(batch, features) to (batch, n, features).

    Args:
        n: number of time steps.
    """

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def forward(self, x: Any) -> Any:
        """x, n times."""
        return x[:, None].expand(-1, self.n, -1)
