"""LSTM and GRU with PyTorch's constructors, parameters, calls and results, run by our kernels."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from lstm_native import _core, cuda
from lstm_native.torch.function import Network, PackedWeights

_PACKED = "_packed_layers"  # the attribute of a module that holds its `_PackedLayers`


class _PackedLayers:
    """The packed weights of a module's layers and directions. Copies and pickles of the module begin anew."""

    def __init__(self) -> None:
        self._layers: list[PackedWeights] = []

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return type(self), ()

    def of(self, number: int, cell: str, projects: bool) -> PackedWeights:
        """Those of one layer and direction, counted as l0, l0_reverse, l1, l1_reverse ..."""
        while len(self._layers) <= number:
            self._layers.append(PackedWeights(cell, projects))
        return self._layers[number]


class _Native(torch.nn.RNNBase):
    """PyTorch's module with another `forward`."""

    cell: str

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As PyTorch's module of the same name.

        Tensors that our kernels do not take (other dtypes than float32, other devices, empty ones), calls
        inside autocast, and tracing or exporting go to PyTorch's own code.
        """
        if self._takes(input, hx):
            return self._run(input, hx)
        return super().forward(input, hx)

    def __prepare_scriptable__(self) -> torch.nn.Module:
        """PyTorch's module on the same parameters, which `torch.jit.script` compiles instead of this one."""
        kind = _THEIRS.get(type(self))
        if kind is None:  # a class of the caller, with code of its own
            return self
        theirs: torch.nn.Module = object.__new__(kind)
        vars(theirs).update({name: value for name, value in vars(self).items() if name != _PACKED})
        return theirs

    @property
    def qconfig(self) -> Any:
        """What PyTorch's quantization puts down in all modules; this one it cannot quantize."""
        return None

    @qconfig.setter
    def qconfig(self, config: Any) -> None:
        warnings.warn(
            f"lstm_native.torch.{type(self).__name__} stays in float32 when PyTorch quantizes the model "
            "around it: quantize lstm_native.torch.restore(model), which has PyTorch's modules again",
            stacklevel=2,
        )

    @qconfig.deleter
    def qconfig(self) -> None:
        """Nothing is kept."""

    def _takes(self, input: Any, hx: Any) -> bool:
        """Whether our kernels run this call; wrong ones are left to PyTorch, which says what is wrong."""
        if torch.jit.is_tracing() or torch.jit.is_scripting() or torch.compiler.is_exporting():
            return False
        if torch._C._are_functorch_transforms_active():
            return False
        packed = isinstance(input, PackedSequence)
        data = input.data if packed else input
        states = () if hx is None else hx if isinstance(hx, tuple | list) else (hx,)
        self._update_flat_weights()  # `torch.func.functional_call` puts other tensors in their place
        tensors = (data, *states, *self._flat_weights)
        if not all(type(t) in (torch.Tensor, torch.nn.Parameter) for t in tensors):
            return False
        if any(t.device != data.device or t.dtype != torch.float32 or t.numel() == 0 for t in tensors):
            return False
        if not _runs_on(data.device) or torch.is_autocast_enabled(data.device.type):
            return False
        if data.dim() != 2 if packed else data.dim() not in (2, 3):
            return False
        if data.shape[-1] != self.input_size:
            return False
        if hx is None:
            return True
        batch: tuple[int, ...] = ()
        if packed:
            batch = (int(input.batch_sizes[0]),)
        elif data.dim() == 3:
            batch = (data.shape[0 if self.batch_first else 1],)
        widths = [self.proj_size or self.hidden_size, self.hidden_size][: 2 if self.cell == "lstm" else 1]
        expected = [(self._directions * self.num_layers, *batch, width) for width in widths]
        is_pair = isinstance(hx, tuple | list)
        return is_pair == (self.cell == "lstm") and [tuple(state.shape) for state in states] == expected

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    @torch.compiler.disable
    def _run(self, input: Any, hx: Any) -> Any:
        states = () if hx is None else hx if isinstance(hx, tuple | list) else (hx,)
        if isinstance(input, PackedSequence):
            data, batch_sizes, sorted_indices, unsorted_indices = input
            x, lengths = pad_packed_sequence(PackedSequence(data, batch_sizes))
            mask = torch.arange(len(x)) < lengths[:, None] if int(lengths[-1]) < len(x) else None
            states = tuple(_rows(s, sorted_indices) for s in states)
            output, *last = self._network(True, mask)(x, states, self._flat_weights)
            packed = pack_padded_sequence(output, lengths)
            output = PackedSequence(packed.data, batch_sizes, sorted_indices, unsorted_indices)
            last = [_rows(s, unsorted_indices) for s in last]
        elif input.dim() == 2:
            states = tuple(s.unsqueeze(1) for s in states)
            output, *last = self._network(True)(input.unsqueeze(1), states, self._flat_weights)
            output, last = output.squeeze(1), [s.squeeze(1) for s in last]
        else:
            # A transposed view lies in the other order of axes, and so may its outputs.
            turned = input.transpose(0, 1)
            if input.is_contiguous() or not turned.is_contiguous():
                output, *last = self._network(not self.batch_first)(input, states, self._flat_weights)
            else:
                output, *last = self._network(self.batch_first)(turned, states, self._flat_weights)
                output = output.transpose(0, 1)
        return output, (tuple(last) if self.cell == "lstm" else last[0])

    def _network(self, time_first: bool, mask: torch.Tensor | None = None) -> Network:
        layers = self.__dict__.setdefault(_PACKED, _PackedLayers())
        count = self.num_layers * self._directions
        return Network(
            [layers.of(number, self.cell, self.proj_size > 0) for number in range(count)],
            self._directions,
            self.dropout if self.training else 0.0,
            time_first,
            None if mask is None else _core.as_tensor(mask.numpy(), "bool"),
        )


@functools.cache
def _cuda_is_available() -> bool:
    return cuda.is_available()


def _runs_on(device: torch.device) -> bool:
    """Whether our kernels run there; a CUDA graph does not record them."""
    if device.type == "cuda" and device.index == 0:
        return _cuda_is_available() and not torch.cuda.is_current_stream_capturing()
    return bool(device.type == "cpu")


def _rows(state: torch.Tensor, order: torch.Tensor | None) -> torch.Tensor:
    """The rows of a state (layers, batch, units) in another order."""
    return state if order is None else state.index_select(1, order)


class LSTM(_Native, torch.nn.LSTM):
    """`torch.nn.LSTM`, computed by our kernels: the same arguments, `state_dict`, outputs and gradients.

    Contiguous float32 tensors are used where they lie: on the CPU and, if `lstm_native.cuda.is_available()`,
    on the first GPU (this has not run on a GPU yet). What our kernels do not take goes to PyTorch's own code.
    Calls use at most as many threads as PyTorch's. Gradients of gradients are refused.
    """

    cell = "lstm"


class GRU(_Native, torch.nn.GRU):
    """`torch.nn.GRU`, computed by our kernels; see `LSTM`."""

    cell = "gru"


_OURS: dict[type, type] = {torch.nn.LSTM: LSTM, torch.nn.GRU: GRU}
_THEIRS = {ours: theirs for theirs, ours in _OURS.items()}


def replace(model: torch.nn.Module) -> torch.nn.Module:
    """Makes every `torch.nn.LSTM` and `torch.nn.GRU` in `model` ours, in place; parameters and hooks stay.

    Subclasses of them stay as they are.

    Args:
        model: any module; itself one of them, too.

    Returns:
        `model`.
    """
    return _exchanged("replace", model, _OURS)


def restore(model: torch.nn.Module) -> torch.nn.Module:
    """Makes every `LSTM` and `GRU` of ours in `model` PyTorch's again, in place: undoes `replace`.

    What looks at the classes of modules, such as PyTorch's quantization or `torch.fx`, takes the model then.
    `torch.jit.script` does so by itself, in the model that it is given too.

    Args:
        model: any module; itself one of them, too.

    Returns:
        `model`.
    """
    return _exchanged("restore", model, _THEIRS)


def _exchanged(name: str, model: torch.nn.Module, kinds: dict[type, type]) -> torch.nn.Module:
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"{name}: model is a {type(model).__name__}, expected a torch.nn.Module")
    for module in model.modules():
        if kind := kinds.get(type(module)):
            vars(module).pop(_PACKED, None)
            module.__class__ = kind  # the parameters stay the very objects that optimizers know
    return model
