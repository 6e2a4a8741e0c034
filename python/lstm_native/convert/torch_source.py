"""Models from PyTorch: modules, state dicts, safetensors files."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lstm_native.arrays import to_numpy
from lstm_native.configurable import short
from lstm_native.convert.both_sides import (
    check_of,
    not_imported,
    outputs_of,
    random_inputs,
    refuse_large,
    run_both,
)
from lstm_native.convert.conversion import Conversion
from lstm_native.convert.layouts import Array
from lstm_native.convert.torch_layers import (
    CELLS,
    Part,
    Recurrent,
    dense,
    embedding,
    kind_of,
    layer_norm,
    load,
)
from lstm_native.later import values_come_later
from lstm_native.layers import Embedding, InputLayer
from lstm_native.models import Sequential
from lstm_native.saving.atomic import path_name

MOST_GROUPS = 12  # modules whose order is searched for
EPSILON = 1e-5  # of PyTorch's LayerNorm, which a state dict does not tell


def from_torch(
    source: Any,
    *,
    return_sequences: bool = False,
    nonlinearity: str = "tanh",
    order: Sequence[str] | None = None,
    check: bool | None = None,
) -> Any:
    """A model with the weights of a PyTorch model.

    Args:
        source: one of

            - a `torch.nn.Module`: an LSTM, GRU or RNN (with layers, directions, dropout, projection, both
              biases), or any module whose `forward` is made of these, Embedding, Linear, LayerNorm, Dropout,
              Conv1d, BatchNorm1d, MaxPool1d, AvgPool1d, activations and what stands between them: `torch.fx`
              follows it, so that `out[:, -1]`, `h[-1]`, `torch.cat` of tensors, `+`, `-`, `*`,
              `torch.maximum`, `torch.bmm` of two of them, or states given to a decoder find their layers;
            - a state dict, or a safetensors file of one: Embedding, recurrent modules, Linear and LayerNorm,
              which follow each other as their names do in the dict. A file does not keep that order: there it
              is found from the widths.
        return_sequences: for a state dict, whether the last recurrent module gives all its steps to what
            follows rather than the last one.
        nonlinearity: for a state dict, of a plain RNN: "tanh" or "relu".
        order: for a state dict or a file, the names of the modules in the order of their calls.
        check: run the model beside the module on random inputs; for a state dict or a file, beside modules of
            `torch.nn` that take its arrays. None: where PyTorch is installed; True: it must be; False: not.
            The first import of PyTorch takes seconds.

    Returns:
        A `Sequential` or functional `Model`, batch first. Its `conversion` says which conventions differ, and
        how far the outputs of both are apart, or why they were not run.

    Raises:
        ValueError: what has no counterpart, named; outputs that differ by more than 1e-5; or with
            `check=True`, both cannot be run.
        TypeError: `source` is something else.
        OSError: the file cannot be read.
        ImportError: with `check=True`, PyTorch is not installed.
    """
    check = check_of(check, "from_torch")
    record = Conversion("PyTorch", "lstm_native")
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"from_torch: nonlinearity is {short(nonlinearity)}, expected 'tanh' or 'relu'")
    if isinstance(order, str):
        raise TypeError(f"from_torch: order is {short(order)}, expected a list of names")
    if isinstance(source, str | bytes | os.PathLike):
        source = path_name(source, "from_torch: source")
        from lstm_native.saving import read_safetensors

        groups = _groups(read_safetensors(source)[0])
        if not groups:
            raise ValueError(f"from_torch: {source}: the file has no tensors")
        order = _order_by_widths(groups) if order is None else order
    elif isinstance(source, Mapping):
        groups = _groups(source)
    else:
        groups = {}
    if groups or isinstance(source, Mapping):
        groups = _in_order(groups, order)
        parts, shape = _parts_of_groups(groups, record, return_sequences, nonlinearity)
        model = _sequential(parts, shape)
        run_both(
            record,
            check,
            lambda: _compare_arrays(groups, model, record, check, return_sequences, nonlinearity),
        )
    elif callable(getattr(source, "named_parameters", None)):
        model = _from_module(source, record, check)
    else:
        raise TypeError(
            f"from_torch: got a {type(source).__name__}, expected a torch.nn.Module, a state dict or the "
            "path of a safetensors file"
        )
    model.conversion = record
    return model


# --- modules --------------------------------------------------------------------------------------


def _from_module(module: Any, record: Conversion, check: bool | None) -> Any:
    import torch

    from lstm_native.convert.torch_graph import TorchGraph

    class Outputs(torch.nn.Module):  # type: ignore[misc]
        """One module as the whole of a model: its outputs, without states."""

        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, x: Any) -> Any:
            outputs = self.module(x)
            return outputs[0] if kind in CELLS else outputs

    kind = kind_of(module)
    if kind in CELLS:
        record.note(f"the model gives the outputs of the {kind} without its last states")
    graph = TorchGraph(module if kind is None else Outputs(), type(module).__name__, record)
    model = graph.model()
    load(graph.parts)

    def run() -> None:
        if not check:
            refuse_large(model)
        random = np.random.default_rng(0)
        inputs = [graph.example(i, random) for i in range(len(graph.inputs))]
        record.compare(graph.run(inputs), outputs_of(model, inputs))

    run_both(record, check, run)
    return model


# --- arrays ---------------------------------------------------------------------------------------


def _array(name: str, value: Any) -> Array:
    if not isinstance(name, str):
        raise TypeError(f"from_torch: the state dict has the key {name!r}, expected names")
    if callable(getattr(value, "detach", None)):
        value = value.detach().cpu()
        value = value.float().numpy() if value.is_floating_point() else value.numpy()
    array = to_numpy(value, "from_torch", name)
    if array.dtype.kind != "f":
        raise ValueError(f"from_torch: {name} is {array.dtype}, expected floating-point weights")
    return array.astype(np.float32)


Groups = dict[str, dict[str, Array]]  # the arrays of each module, by its name


def _groups(arrays: Mapping[str, Any]) -> Groups:
    groups: Groups = {}
    for name, value in arrays.items():
        array = _array(name, value)
        prefix, _, own = name.rpartition(".")
        if array.ndim not in (1, 2) or 0 in array.shape:
            raise ValueError(
                f"from_torch: {short(name)} has shape {array.shape}, expected one or two, none empty"
            )
        groups.setdefault(prefix, {})[own] = array
    for prefix, group in groups.items():
        if "weight_hh_l0" in group:
            Recurrent.of_arrays(group, f"{prefix}." if prefix else "")  # for its checks
    return groups


def _in_order(groups: Groups, order: Sequence[str] | None) -> Groups:
    if order is None:
        return groups
    if sorted(order) != sorted(groups):
        raise ValueError(
            f"from_torch: order is {_listed(order)}, expected {_listed(sorted(groups))} in the order of calls"
        )
    return {prefix: groups[prefix] for prefix in order}


def _listed(names: Sequence[str]) -> str:
    """Names for a message."""
    more = f", ... {len(names)} in all" if len(names) > MOST_GROUPS else ""
    return f"[{', '.join(map(short, names[:MOST_GROUPS]))}{more}]"


def _widths(group: dict[str, Array], is_embedding: bool) -> tuple[int, int]:
    """Features that a module reads and gives; -1 for ids."""
    if "weight_hh_l0" in group:
        directions = 2 if "weight_ih_l0_reverse" in group else 1
        return group["weight_ih_l0"].shape[1], directions * group["weight_hh_l0"].shape[1]
    weight = group.get("weight", np.zeros((0, 0)))
    if weight.ndim == 1:
        return len(weight), len(weight)
    if is_embedding:
        return -1, weight.shape[1]
    return weight.shape[1], weight.shape[0]


def _order_by_widths(groups: Groups) -> list[str]:
    """The one order in which each module reads as many features as the one before gives.

    Raises:
        ValueError: there is none, or there are several.
    """
    has_recurrent = any("weight_hh_l0" in group for group in groups.values())
    widths = {prefix: _widths(group, False) for prefix, group in groups.items()}
    first = {
        prefix: _widths(group, has_recurrent and set(group) == {"weight"} and group["weight"].ndim == 2)
        for prefix, group in groups.items()
    }

    @functools.cache  # of the sets of modules, which are far fewer than their orders
    def orders(left: frozenset[str], width: int | None) -> list[list[str]]:
        """Up to two orders of the modules that are left, the first of which reads `width` features."""
        if not left:
            return [[]]
        found: list[list[str]] = []
        for prefix in groups:
            read, given = (first if width is None else widths)[prefix]
            if prefix in left and width in (None, read):
                found += [[prefix, *rest] for rest in orders(left - {prefix}, given)]
            if len(found) > 1:
                break
        return found[:2]

    found = orders(frozenset(groups), None) if len(groups) <= MOST_GROUPS else []
    if len(found) != 1:
        raise ValueError(
            f"from_torch: {'more than one' if found else 'no'} order of {_listed(sorted(groups))} fits their "
            "widths, pass order"
        )
    return found[0]


def _parts_of_groups(
    groups: Groups, record: Conversion, return_sequences: bool, nonlinearity: str
) -> tuple[list[Part], tuple[int | None, ...]]:
    """The layers, and the shape of an input."""
    recurrent = [prefix for prefix, group in groups.items() if "weight_hh_l0" in group]
    parts: list[Part] = []
    shape: tuple[int | None, ...] = ()
    for number, (prefix, group) in enumerate(groups.items()):
        label = f"{prefix}." if prefix else ""
        weight = group.get("weight")
        if "weight_hh_l0" in group:
            source = replace(Recurrent.of_arrays(group, label), activation=nonlinearity)
            parts += source.parts(record, return_sequences=return_sequences or prefix != recurrent[-1])
            shape = shape or (None, group["weight_ih_l0"].shape[1])
        elif weight is None or set(group) - {"weight", "bias"} or weight.ndim not in (1, 2):
            raise ValueError(
                f"from_torch: {short(label + next(iter(group)))} is no weight of an Embedding, LSTM, GRU, "
                "RNN, Linear or LayerNorm"
            )
        elif weight.ndim == 1:
            parts.append(layer_norm(weight, group.get("bias"), EPSILON))
            record.note(
                f"{label}weight: a LayerNorm with eps 1e-5, PyTorch's default; the state dict has no eps"
            )
            shape = shape or weight.shape
        elif number == 0 and "bias" not in group and recurrent:
            parts.append(embedding(weight))
            shape = (None,)
        else:
            parts.append(dense(weight, group.get("bias")))
            shape = shape or weight.shape[1:]
    if not parts:
        raise ValueError("from_torch: the state dict is empty")
    names = list(groups)
    widths = [
        _widths(group, n == 0 and isinstance(parts[0].layer, Embedding))
        for n, group in enumerate(groups.values())
    ]
    for i in range(1, len(names)):
        if widths[i][0] != widths[i - 1][1]:
            raise ValueError(
                f"from_torch: {short(names[i])} reads {widths[i][0]} features and cannot follow "
                f"{short(names[i - 1])}, which gives {widths[i - 1][1]}; pass order"
            )
    record.note("a state dict has no activations and no dropout: the layers follow each other without")
    return parts, shape


def _compare_arrays(
    groups: Groups,
    model: Any,
    record: Conversion,
    check: bool | None,
    return_sequences: bool,
    nonlinearity: str,
) -> None:
    """Runs the model beside modules of PyTorch that take the arrays under their own names."""
    if not check:
        refuse_large(model)
    try:
        import torch
    except Exception as error:  # whatever is wrong in what it needs
        raise not_imported("torch", error) from error

    inputs = random_inputs(model)
    recurrent = [prefix for prefix, group in groups.items() if "weight_hh_l0" in group]
    with torch.no_grad():
        x = torch.from_numpy(inputs[0])
        for prefix, group in groups.items():
            module = _torch_module(group, x.is_floating_point(), nonlinearity)
            module.load_state_dict({name: torch.from_numpy(array) for name, array in group.items()})
            x = module.eval()(x)
            if prefix in recurrent:
                outputs, states = x
                h = states[0] if isinstance(states, tuple) else states
                if return_sequences or prefix != recurrent[-1]:
                    x = outputs
                else:
                    x = torch.cat((h[-2], h[-1]), -1) if module.bidirectional else h[-1]
    record.compare([x.numpy()], outputs_of(model, inputs))


def _torch_module(group: dict[str, Array], floats: bool, nonlinearity: str) -> Any:
    """A module of `torch.nn` for these arrays.

    Args:
        group: the arrays of one module by its own names.
        floats: whether its input is no ids.
        nonlinearity: of a plain RNN.
    """
    from torch import nn

    if "weight_hh_l0" in group:
        source = Recurrent.of_arrays(group, "")
        kind = {of: name for name, of in CELLS.items()}[source.cell]
        options: dict[str, Any] = {"nonlinearity": nonlinearity} if kind == "RNN" else {}
        if source.projection:
            options["proj_size"] = source.projection
        return getattr(nn, kind)(
            group["weight_ih_l0"].shape[1],
            source.units,
            source.layers,
            bias="bias_ih_l0" in group,
            batch_first=True,
            bidirectional=source.directions == 2,
            **options,
        )
    weight = group["weight"]
    if weight.ndim == 1:
        return nn.LayerNorm(len(weight), eps=EPSILON, bias="bias" in group)
    if not floats:
        return nn.Embedding(*weight.shape)
    return nn.Linear(weight.shape[1], weight.shape[0], bias="bias" in group)


def _sequential(parts: list[Part], shape: tuple[int | None, ...]) -> Any:
    with values_come_later(
        sum(array.size for part in parts for arrays in part.weights for array in arrays.values())
    ):
        model = Sequential([InputLayer(shape), *(part.layer for part in parts)])
    load(parts)
    return model
