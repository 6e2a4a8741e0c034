"""All layers and directions of a recurrent module as one function of PyTorch's autograd.

Between the layers work is NumPy's and ours: threads that PyTorch wakes for small tensors go on spinning for a
while, on the processors that our kernels need.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lstm_native import _core
from lstm_native.convert.layouts import GATES, TORCH_GATES, Weights, from_rows, to_rows

Array = npt.NDArray[Any]


def _native(x: Array | None) -> Any:
    """The array in place, where it is contiguous."""
    return None if x is None else _core.as_tensor(x, "float32")


def _together(states: Sequence[Array]) -> torch.Tensor:
    """States (batch, units) of all layers and directions as (layers, batch, units)."""
    return torch.from_numpy(states[0][None] if len(states) == 1 else np.stack(states))


class PackedWeights:
    """Our form of one layer's and direction's parameters, made anew whenever one of them has other values.

    Values are compared at each call: writing through `parameter.data` does not raise PyTorch's version.

    Args:
        cell: "lstm" or "gru".
        projects: whether the last parameter projects h (`proj_size`).
    """

    def __init__(self, cell: str, projects: bool) -> None:
        self._cell = cell
        self._projects = projects
        self._lock = threading.Lock()
        self._seen: list[Any] = []
        self._weights: _core.RecurrentWeights | None = None

    def native(self, weights: Sequence[Array]) -> _core.RecurrentWeights:
        """The weights weight_ih, weight_hh, then bias_ih, bias_hh and weight_hr where they are, packed."""
        with self._lock:
            now = list(map(_native, weights))
            if self._weights is None or not all(map(_core.same_bits, now, self._seen)):
                seen = [w.copy() for w in weights]
                biases = seen[2:4] if len(seen) >= 4 else None
                ours = from_rows(self._cell, TORCH_GATES[self._cell], seen[0], seen[1], biases)
                kernel, recurrent = (_core.Variable(_native(w)) for w in ours[:2])
                bias = None if ours.bias is None else _core.Variable(_native(ours.bias))
                if self._projects:
                    projection = _core.Variable(_native(seen[-1].T))
                    self._weights = _core.RecurrentWeights.general(
                        self._cell, kernel, recurrent, bias, "tanh", "sigmoid", "tanh", projection=projection
                    )
                else:
                    self._weights = _core.RecurrentWeights(
                        self._cell, kernel, recurrent, bias, "tanh", "sigmoid"
                    )
                self._seen = list(map(_native, seen))
            return self._weights

    def backward(
        self, weights: _core.RecurrentWeights, *arguments: Any
    ) -> tuple[Any, tuple[Any, Any], list[torch.Tensor]]:
        """Gradients of x, of h and c, and of PyTorch's parameters.

        Args:
            weights: what `native` gave to the forward call.
            arguments: of `_core.recurrent_backward` behind them.
        """
        backward = _core.general_backward if self._projects else _core.recurrent_backward
        d_x, d_kernel, d_recurrent, d_bias, d_h0, d_c0, *rest = backward(weights, *arguments)
        ours = Weights(d_kernel.numpy(), d_recurrent.numpy(), None if d_bias is None else d_bias.numpy())
        weight_ih, weight_hh, biases = to_rows(self._cell, TORCH_GATES[self._cell], ours)
        arrays = [weight_ih, weight_hh]
        if biases is not None:
            # One bias of ours stands for the sum of two: each has its gradient.
            arrays += biases if len(GATES[self._cell]) == 3 else (biases[0], biases[0].copy())
        for d_projection in rest[1:]:
            assert d_projection is not None
            arrays.append(np.ascontiguousarray(d_projection.numpy().T))
        return d_x, (d_h0, d_c0), list(map(torch.from_numpy, arrays))


@dataclass
class _Kept:
    """What backward needs of one layer: each direction's weights and what it saved; the noise behind it."""

    saved: list[Any] = field(default_factory=list)
    noise: Array | None = None


@dataclass(frozen=True)
class Network:
    """How a call runs; x (batch, time, inputs), or (time, batch, inputs) with `time_first`.

    Attributes:
        packed: weights by layer and direction.
        directions: 1, or 2 for bidirectional layers.
        dropout: rate between the layers.
        time_first: whether time is the first axis of inputs and outputs.
        mask: bool (batch, time), True at valid steps; None where all are.
    """

    packed: Sequence[PackedWeights]
    directions: int
    dropout: float
    time_first: bool
    mask: Any

    def __call__(self, x: Any, states: Sequence[Any], weights: Sequence[Any]) -> tuple[Any, ...]:
        """Outputs and last states (layers, batch, units), with gradients where PyTorch wants them.

        Args:
            x: inputs.
            states: initial h, or h and c; empty for zeros.
            weights: of all layers and directions.
        """
        h, c = (*states, None, None)[:2]
        tensors = (x, h, c, *weights)
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
            output, *last = _Recurrent.apply(self, *tensors)
        else:
            output, *last, _ = self.forward(tensors, training=False)
        return (output, *(state for state in last if state is not None))

    def _weights(self, number: int, tensors: Sequence[Any]) -> list[Array]:
        size = (len(tensors) - 3) // len(self.packed)
        return [w.detach().numpy() for w in tensors[3 + number * size : 3 + (number + 1) * size]]

    def forward(self, tensors: Sequence[Any], training: bool, noises: Sequence[Any] = ()) -> tuple[Any, ...]:
        """Outputs, last h, last c or None, and what `backward` needs of each layer.

        Args:
            tensors: x, h, c and the weights.
            training: whether anything is kept.
            noises: of an earlier call, to be used again; drawn where there are none.
        """
        x = tensors[0].detach().numpy()
        h, c = (None if t is None else t.detach().numpy() for t in tensors[1:3])
        now = self._inside(x)
        layers: list[_Kept] = []
        last_h, last_c = [], []
        for first in range(0, len(self.packed), self.directions):
            kept = _Kept()
            outputs = []
            for number in range(first, first + self.directions):
                weights = self.packed[number].native(self._weights(number, tensors))
                output, new_h, new_c, saved = _core.recurrent_forward(
                    weights,
                    now,
                    self.mask,
                    None,
                    None if h is None else _native(h[number]),
                    None if c is None else _native(c[number]),
                    True,
                    number != first,
                    False,
                    training,
                )
                outputs.append(output)
                kept.saved.append((weights, saved))
                last_h.append(new_h.numpy())
                if new_c is not None:
                    last_c.append(new_c.numpy())
            now = outputs[0] if len(outputs) == 1 else _core.merge_forward("concat", outputs[0], outputs[1])
            if self.dropout and first + self.directions < len(self.packed):
                kept.noise = noises[len(layers)] if noises else self._noise(now.shape)
                now = _native(now.numpy() * kept.noise)
            layers.append(kept)
        states = (_together(s) if s else None for s in (last_h, last_c))
        return (self._outside(now), *states, layers)

    def _inside(self, x: Array) -> Any:
        """x as our kernels take it: batch first."""
        return _native(np.swapaxes(x, 0, 1) if self.time_first else x)

    def _outside(self, x: Any) -> torch.Tensor:
        """The way back."""
        array = x.numpy()
        return torch.from_numpy(np.ascontiguousarray(np.swapaxes(array, 0, 1)) if self.time_first else array)

    def _noise(self, shape: tuple[int, ...]) -> Array:
        """(batch, time, units), drawn as PyTorch does: the same numbers drop out after the same seed."""
        batch, time, units = shape
        noise = torch.nn.functional.dropout(torch.ones(time, batch, units), self.dropout)
        return np.ascontiguousarray(np.swapaxes(noise.numpy(), 0, 1))

    def backward(
        self,
        gradients: Sequence[Any],
        layers: Sequence[_Kept],
        given: bool,
        wanted: Sequence[bool],
    ) -> tuple[Any, ...]:
        """Gradients of x, h, c and the weights.

        Args:
            gradients: of outputs, last h and last c; each may be None.
            layers: what `forward` kept.
            given: whether initial states were.
            wanted: whether the gradients of x, h, c ... are.
        """
        d_output = None if gradients[0] is None else self._inside(gradients[0].numpy())
        d_h, d_c = (None if g is None else g.numpy() for g in gradients[1:])
        d_weights: list[list[torch.Tensor]] = [[] for _ in self.packed]
        d_states: tuple[list[Any], list[Any]] = ([None] * len(self.packed), [None] * len(self.packed))
        for layer in reversed(range(len(layers))):
            kept = layers[layer]
            first = layer * self.directions
            if kept.noise is not None and d_output is not None:
                d_output = _native(d_output.numpy() * kept.noise)
            parts: Sequence[Any] = (d_output,)
            if self.directions == 2:
                parts = (None, None) if d_output is None else self._split(d_output)
            d_inputs: list[Any] = []
            for number, part, (weights, saved) in zip(
                range(first, first + self.directions), parts, kept.saved, strict=True
            ):
                d_x, d_initial, d_weights[number] = self.packed[number].backward(
                    weights,
                    saved,
                    part,
                    None if d_h is None else _native(d_h[number]),
                    None if d_c is None else _native(d_c[number]),
                    layer > 0 or wanted[0],
                    given,
                )
                d_inputs.append(d_x)
                for states, d_state in zip(d_states, d_initial, strict=True):
                    states[number] = None if d_state is None else d_state.numpy()
            d_output = d_inputs[0]
            if len(d_inputs) == 2 and d_output is not None:
                d_output = _native(d_output.numpy() + d_inputs[1].numpy())
        d_first = self._outside(d_output) if wanted[0] else None
        d_given = (None if s[0] is None else _together(s) for s in d_states)
        return (d_first, *d_given, *(g for layer in d_weights for g in layer))

    def _split(self, d_output: Any) -> tuple[Any, Any]:
        """The parts of both directions, each in its own order of the steps."""
        d = d_output.numpy()
        units = d.shape[2] // 2
        return _native(d[..., :units]), _native(d[:, ::-1, units:])


class _Recurrent(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, network: Network, *tensors: Any) -> tuple[Any, ...]:
        *outputs, ctx.layers = network.forward(tensors, training=True)
        ctx.network = network
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "lstm_native.torch: create_graph=True asks for gradients of gradients, which our kernels do "
                "not have; use torch.nn's module here"
            )
        tensors = ctx.saved_tensors  # raises where one of them was overwritten
        layers = ctx.layers
        if layers[0].saved == []:  # with retain_graph=True: the first time used up what was kept
            noises = [kept.noise for kept in layers]
            layers = ctx.network.forward(tensors, True, noises)[3]
        result = ctx.network.backward(gradients, layers, tensors[1] is not None, ctx.needs_input_grad[1:])
        for kept in layers:
            kept.saved = []
        return None, *result
