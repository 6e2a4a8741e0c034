"""All layers and directions of a recurrent module as one function of PyTorch's autograd, on the CPU or CUDA.

Our calls stand between PyTorch's own, whose OpenMP threads go on spinning for milliseconds after each of
them. So they take these threads, as many as `torch.set_num_threads` says, rather than wake ours beside them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from lstm_native import _core

_core.open_openmp(torch._C.__file__)


def to_native(x: torch.Tensor) -> _core.Tensor:
    """The tensor in place, where it is contiguous; a CUDA one as what the current stream makes of it."""
    x = x.detach().contiguous()
    return _core.as_tensor(x.numpy() if x.device.type == "cpu" else x, "float32")


def to_torch(x: _core.Tensor) -> torch.Tensor:
    """The tensor in place; a CUDA one for the current stream."""
    return torch.from_numpy(x.numpy()) if x.device == "cpu" else torch.from_dlpack(x)


def _parts(states: torch.Tensor | None, count: int) -> list[_core.Tensor | None]:
    """The states (batch, units) of each layer and direction, from (layers, batch, units)."""
    return [None] * count if states is None else list(map(to_native, states.unbind()))


def _together(states: Sequence[_core.Tensor | None]) -> torch.Tensor | None:
    """The way back."""
    if states[0] is None:
        return None
    if len(states) == 1:
        return to_torch(states[0].reshape((1, *states[0].shape)))
    return torch.stack([to_torch(s) for s in states if s is not None])


class _BorrowedThreads:
    def __enter__(self) -> None:
        self._before = _core.borrow_threads(torch.get_num_threads())

    def __exit__(self, *_: object) -> None:
        _core.borrow_threads(self._before)


class PackedWeights:
    """Our form of one layer's and direction's parameters.

    Inference keeps it, with a copy of the parameters, as long as they have the same values; these are
    compared at each call, since writing through `parameter.data` does not raise PyTorch's version. Training
    packs at each call: an optimizer has changed them. So do calls on CUDA, where comparing costs more.

    Args:
        cell: "lstm" or "gru".
        projects: whether the last parameter projects h (`proj_size`).
    """

    def __init__(self, cell: str, projects: bool) -> None:
        self._cell = cell
        self._projects = projects
        self._lock = threading.Lock()
        self._seen: list[_core.Tensor] = []
        self._weights: _core.RecurrentWeights | None = None

    def native(self, weights: Sequence[torch.Tensor], training: bool) -> _core.RecurrentWeights:
        """The weights weight_ih, weight_hh, then bias_ih, bias_hh and weight_hr where they are, packed."""
        matrices = [*weights[:2], *(weights[-1:] if self._projects else ())]
        now = list(map(to_native, matrices))
        if len(weights) >= 4:
            now.append(
                to_native(weights[2] + weights[3] if self._cell == "lstm" else torch.stack(weights[2:4]))
            )
        if training or now[0].device != "cpu":
            return self._made(now)
        with self._lock:
            if self._weights is None or not all(map(_core.same_bits, now, self._seen)):
                self._seen = [tensor.copy() for tensor in now]
                self._weights = self._made(self._seen)
            return self._weights

    def _made(self, tensors: Sequence[_core.Tensor]) -> _core.RecurrentWeights:
        rest = list(tensors[2:])
        projection = rest.pop(0) if self._projects else None
        bias = rest[0] if rest else None
        return _core.RecurrentWeights.in_rows(self._cell, tensors[0], tensors[1], bias, projection)

    def gradients(self, native: Sequence[Any]) -> list[torch.Tensor]:
        """Those of PyTorch's parameters.

        Args:
            native: gradients of kernel, recurrent kernel, bias, h, c, peepholes and projection.
        """
        d_weight_ih, d_weight_hh, d_bias, *_, d_projection = native
        gradients = [to_torch(d_weight_ih), to_torch(d_weight_hh)]
        if d_bias is not None:
            # An LSTM's biases are summed: each has the gradient of the sum. Tensors that share no memory.
            bias = to_torch(d_bias)
            gradients += [d.clone() for d in ((bias, bias) if self._cell == "lstm" else bias.unbind())]
        if d_projection is not None:
            gradients.append(to_torch(d_projection))
        return gradients


@dataclass
class _Kept:
    """What backward needs of one layer: each direction's weights and what it saved; the noise behind it."""

    saved: list[Any] = field(default_factory=list)
    noise: Any = None


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

    def forward(self, tensors: Sequence[Any], training: bool, noises: Sequence[Any] = ()) -> tuple[Any, ...]:
        """Outputs, last h, last c or None, and what `backward` needs of each layer.

        Args:
            tensors: x, h, c and the weights.
            training: whether anything is kept.
            noises: of an earlier call, to be used again; drawn where there are none.
        """
        x, h, c, *weights = tensors
        count = len(self.packed)
        size = len(weights) // count
        with _BorrowedThreads(), torch.no_grad():
            now = to_native(x)
            initial = list(zip(_parts(h, count), _parts(c, count), strict=True))
            layers: list[_Kept] = []
            last: list[tuple[Any, Any]] = []
            for first in range(0, count, self.directions):
                numbers = range(first, first + self.directions)
                own = [
                    self.packed[number].native(weights[number * size : (number + 1) * size], training)
                    for number in numbers
                ]
                calls: list[_core.RecurrentCall] = [
                    (
                        of_one,
                        now,
                        self.mask,
                        None,
                        *initial[number],
                        True,
                        number != first,
                        False,
                        training,
                        None,
                        0,
                        None,
                        self.time_first,
                    )
                    for number, of_one in zip(numbers, own, strict=True)
                ]
                results = _core.recurrent_forward_together(calls, True)
                now = results[0][0]
                last += [(h_last, c_last) for _, h_last, c_last, _ in results]
                kept = _Kept([(of_one, result[3]) for of_one, result in zip(own, results, strict=True)])
                if self.dropout and first + self.directions < count:
                    kept.noise = noises[len(layers)] if noises else self._noise(now.shape, x.device)
                    now = _core.multiply(now, kept.noise)
                layers.append(kept)
            return (to_torch(now), *map(_together, zip(*last, strict=True)), layers)

    def _noise(self, shape: tuple[int, ...], device: torch.device) -> _core.Tensor:
        """Of the outputs' shape, drawn as PyTorch does on the CPU: after the same seed, the same numbers."""
        steps, rows, units = shape if self.time_first else (shape[1], shape[0], shape[2])
        noise = torch.nn.functional.dropout(torch.ones(steps, rows, units, device=device), self.dropout)
        return to_native(noise if self.time_first else noise.transpose(0, 1))

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
        count = len(self.packed)
        with _BorrowedThreads():
            d_output = None if gradients[0] is None else to_native(gradients[0])
            d_last = list(zip(*(_parts(g, count) for g in gradients[1:]), strict=True))
            d_weights: list[list[torch.Tensor]] = [[] for _ in self.packed]
            d_initial: list[tuple[Any, Any]] = [(None, None)] * count
            for layer in reversed(range(len(layers))):
                kept = layers[layer]
                if kept.noise is not None and d_output is not None:
                    d_output = _core.multiply(d_output, kept.noise)
                results = _core.recurrent_backward_together(
                    [
                        (weights, saved, d_output, *d_last[number], layer > 0 or wanted[0], given)
                        for number, (weights, saved) in enumerate(kept.saved, layer * self.directions)
                    ]
                )
                d_input = None
                for number, (d_x, *native) in enumerate(results, layer * self.directions):
                    d_initial[number] = native[3], native[4]
                    d_weights[number] = self.packed[number].gradients(native)
                    if d_input is None:
                        d_input = d_x
                    elif d_x is not None:
                        _core.add_(d_input, d_x)
                d_output = d_input
            d_given = map(_together, zip(*d_initial, strict=True))
            return (
                to_torch(d_output) if wanted[0] and d_output is not None else None,
                *d_given,
                *(d for of_layer in d_weights for d in of_layer),
            )


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
