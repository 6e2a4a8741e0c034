"""What a model of ours becomes in PyTorch: modules of torch.nn in a row. Nothing in them runs our kernels."""

from __future__ import annotations

from typing import Any

import torch


class Recurrent(torch.nn.Module):
    """A recurrent module of `torch.nn` that gives what a Keras layer gives.

    Args:
        rnn: batch first, of one layer.
        return_sequences: all steps, or the last one. A bidirectional module's last step is the last of both
            directions.
        go_backwards: whether time runs backwards; the outputs are in processed order.
        return_state: a tuple of these outputs and of the states of each direction.
    """

    def __init__(
        self, rnn: torch.nn.RNNBase, return_sequences: bool, go_backwards: bool, return_state: bool = False
    ) -> None:
        super().__init__()
        self.rnn = rnn
        self.return_sequences = return_sequences
        self.go_backwards = go_backwards
        self.return_state = return_state

    def forward(self, x: Any, *initial: Any) -> Any:
        """x (batch, time, features): (batch, time, units), or (batch, units) without `return_sequences`.

        `initial` are states (batch, units), those of the first direction first, zero by default.
        """
        lstm = isinstance(self.rnn, torch.nn.LSTM)
        count = 2 if lstm else 1
        x = x.flip(1) if self.go_backwards else x
        if initial:
            stacks = [torch.stack(initial[i::count]) for i in range(count)]
            outputs, states = self.rnn(x, tuple(stacks) if lstm else stacks[0])
        else:
            outputs, states = self.rnn(x)
        h = states[0] if lstm else states
        if not self.return_sequences:
            outputs = torch.cat((h[0], h[1]), -1) if self.rnn.bidirectional else h[0]
        if not self.return_state:
            return outputs
        each = (states[0], states[1]) if lstm else (states,)
        directions = range(2 if self.rnn.bidirectional else 1)
        return (outputs, *(state[i] for i in directions for state in each))


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


class Scale(torch.nn.Module):
    """`x * scale + offset`.

    Args:
        scale, offset: numbers, or lists of them for the last axes.
    """

    def __init__(self, scale: Any, offset: Any) -> None:
        super().__init__()
        self.scale = scale if isinstance(scale, float | int) else torch.nn.Buffer(torch.tensor(scale))
        self.offset = offset if isinstance(offset, float | int) else torch.nn.Buffer(torch.tensor(offset))

    def forward(self, x: Any) -> Any:
        """x, rescaled."""
        return x * self.scale + self.offset


class ChannelsFirst(torch.nn.Module):
    """A module of `torch.nn` that wants (batch, features, time), for (batch, time, features).

    Args:
        inner: the module.
    """

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Any) -> Any:
        """What `inner` makes of x, with time in front of the features again."""
        return self.inner(x.transpose(1, 2)).transpose(1, 2)


class Reshape(torch.nn.Module):
    """(batch, ...) to (batch, *shape).

    Args:
        shape: of one output; -1 for what is left over.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Any) -> Any:
        """x in that shape."""
        return x.reshape(x.shape[0], *self.shape)


class Permute(torch.nn.Module):
    """Axes in another order.

    Args:
        dims: the axes behind that of the batch, counted from 1.
    """

    def __init__(self, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: Any) -> Any:
        """x with its axes in that order."""
        return x.permute(0, *self.dims)
