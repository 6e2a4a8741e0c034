"""A model as one safetensors file.

Weights are tensors under the names of `named_variables` ("lstm/kernel"); quantized ones are BF16, or I8 with
"_scales/lstm/kernel", whose product they stand for. Tensors that begin with "_" are what else goes on:
"_optimizer/0/iteration" and so on in the order of the optimizer's variables, "_states/0/h" of stateful
layers, "_random" (a row with seed and position for every layer that draws random numbers, in the order of
`all_layers`), "_history/epoch" and "_history/values/loss". The metadata hold strings: "format",
"format_version", "lstm_native_version", of a quantized model "quantization" (the mode), and as JSON "config"
(the model), "compile" and "optimizer" (the weights that it changes, and those that it does not decay).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native import _core
from lstm_native.later import check_layers, values_come_later
from lstm_native.model_state import STREAM, all_layers, layers_with_states, model_state, restore_model_state
from lstm_native.quantization import mode_of_model, quantize_model
from lstm_native.registration import custom_object_scope
from lstm_native.saving.blaming import blaming
from lstm_native.saving.json_text import parse_json, shortened
from lstm_native.saving.safetensors import Path, SafetensorsFile, write_safetensors
from lstm_native.saving.weights import LazyTensors, check_entry, check_weights, stored_weights, weights_in
from lstm_native.serialization import deserialize, serialize

_FORMAT = "lstm_native.model"
_EXPECTED = "a file of a model: .safetensors, .keras or .h5"
_VERSION = 1
_OPTIMIZER = "_optimizer/"
_STATES = "_states/"
_RANDOM = "_random"
_EPOCHS = "_history/epoch"
_VALUES = "_history/values/"

Array = npt.NDArray[Any]


# --- saving ---------------------------------------------------------------------------------------


def save(model: Any, path: Path, include_optimizer: bool, include_state: bool, include_history: bool) -> None:
    """See `save_model`."""
    state = model_state(model)
    tensors = stored_weights(model.named_variables(), state["weights"])
    quantization = mode_of_model(model, f"{model.label()}: save")
    metadata = {
        "format": _FORMAT,
        "format_version": str(_VERSION),
        "lstm_native_version": _core.build_info()["version"],
        "config": json.dumps(serialize(model)),
    }
    if quantization is not None:
        metadata["quantization"] = quantization
    streams = [[stream[name] for name in STREAM] for stream in state["streams"] if stream]
    if streams:
        tensors[_RANDOM] = np.array(streams, np.int64)
    if include_optimizer and model.compiled:
        metadata["compile"] = json.dumps(_compile_config(model))
        metadata["optimizer"] = json.dumps(_weights_of_optimizer(model))
        tensors |= zip(_optimizer_names(model.optimizer), state["optimizer"], strict=True)
    if include_state:
        for i, (layer, states) in enumerate(zip(layers_with_states(model), state["states"], strict=True)):
            if states is not None:
                tensors |= zip(_state_names(i, layer), states, strict=True)
    if include_history and model.history is not None:
        tensors[_EPOCHS] = np.array(model.history.epoch, np.int64)
        for name, values in model.history.history.items():
            tensors[f"{_VALUES}{name}"] = _numbers(model, name, values)
    write_safetensors(path, tensors, metadata)


def _compile_config(model: Any) -> Any:
    try:
        return model.get_compile_config()
    except TypeError as error:
        raise TypeError(
            f"{model.label()}: save: cannot write down what compile() was given ({error}); "
            "include_optimizer=False, or save_weights_only=True of ModelCheckpoint, leaves it out"
        ) from error


def _weights_of_optimizer(model: Any) -> dict[str, Any]:
    optimizer = model.optimizer
    names = {id(variable): name for name, variable in model.named_variables().items()}
    changed = list(optimizer.trained_variables)
    if not all(id(variable) in names for variable in changed):
        raise ValueError(
            f"{model.label()}: save: the optimizer was built with weights that the model has no longer, call "
            "compile() again, or leave it out with include_optimizer=False"
        )
    all_weights = list(model.named_variables().values())
    return {
        "weights": [names[id(v)] for v in changed] if optimizer.built else None,
        "without_decay": [names[id(v)] for v in all_weights if not optimizer.decays(v)],
    }


def _numbers(model: Any, name: str, values: Sequence[Any]) -> Array:
    try:
        numbers = np.array(values, np.float64)
    except (TypeError, ValueError):
        numbers = np.empty((0, 0))
    if numbers.ndim != 1:
        raise ValueError(
            f"{model.label()}: save: the history of {name!r} holds other values than numbers, leave it out "
            "with include_history=False"
        )
    return numbers


def _optimizer_names(optimizer: Any) -> list[str]:
    return [f"{_OPTIMIZER}{i}/{variable.name}" for i, variable in enumerate(optimizer.variables)]


def _state_names(number: int, layer: Any) -> list[str]:
    return [f"{_STATES}{number}/{name}" for name, _ in layer.named_state_sizes()]


# --- loading --------------------------------------------------------------------------------------


def load(path: Path, custom_objects: Any, compile: bool) -> Any:
    """See `load_model`."""
    with custom_object_scope(custom_objects), SafetensorsFile(path, _EXPECTED) as file:
        _check_version(file)
        model = _model(file)
        with blaming(file.where, "the configuration"):
            named = model.named_variables()
            check_weights(file, named, model.label())
        optimizer = _compile(file, model, named) if compile and "compile" in file.metadata else []
        restore_model_state(
            model,
            {
                "weights": LazyTensors(file),
                "optimizer": (file.read(name) for name in optimizer),
                "states": [_states(file, i, layer) for i, layer in enumerate(layers_with_states(model))],
                "streams": _streams(file, model),
            },
        )
        if "quantization" in file.metadata:
            with blaming(file.where, "metadata 'quantization'"):
                quantize_model(model, file.metadata["quantization"], model.label())
        _load_history(file, model)
    return model


def _check_version(file: SafetensorsFile) -> None:
    kind, version = file.metadata.get("format"), file.metadata.get("format_version", "")
    if kind == "lstm_native.weights":
        raise ValueError(
            f"{file.where}: this file holds weights alone, make the model and call load_weights()"
        )
    if kind != _FORMAT:
        raise ValueError(
            f"{file.where}: metadata 'format' is {shortened(kind)}, expected {_FORMAT!r}, which save() writes"
        )
    if not (version.isascii() and version.isdigit() and len(version) < 10 and int(version) > 0):
        raise ValueError(
            f"{file.where}: metadata 'format_version' is {shortened(version)}, expected a number"
        )
    if int(version) > _VERSION:
        raise ValueError(
            f"{file.where}: format_version is {version}, this version of lstm_native reads up to {_VERSION}"
        )


def _model(file: SafetensorsFile) -> Any:
    """The model that the file describes, built, with weights of zero."""
    config = _json(file, "config")
    # Before any memory is taken: weights that the file does not hold cannot be wanted.
    count = sum(int(np.prod(entry.shape, dtype=object)) for entry in weights_in(file).values())
    with blaming(file.where, "the configuration"), values_come_later(count):
        check_layers(config, len(file.entries))
        model = deserialize(config)
        if not hasattr(model, "named_variables") or not hasattr(model, "compile_from_config"):
            raise ValueError(f"it describes a {type(model).__name__}, expected a model")
        if not model.built:
            raise ValueError("it describes a model whose input shape is not known")
        model.named_variables()  # goes through all calls of layers, of which there may be too many
    return model


def _compile(file: SafetensorsFile, model: Any, named: dict[str, Any]) -> list[str]:
    """Compiles the model; gives the tensors of the optimizer's variables, in their order."""
    config, parts = _json(file, "compile"), _json(file, "optimizer")
    with blaming(file.where, "what compile() was given"), values_come_later(0):
        model.compile_from_config(config)
        chosen = {}
        for key in ("weights", "without_decay"):
            names = parts.get(key)
            if not isinstance(names, list | None) or not all(
                isinstance(name, str) and name in named for name in names or ()
            ):
                raise ValueError(f"{key} of the optimizer is {shortened(names)}, expected names of weights")
            chosen[key] = names
        optimizer = model.optimizer
        if optimizer is None:
            raise ValueError("there is no optimizer")
        if chosen["without_decay"]:
            optimizer.exclude_from_weight_decay([named[name] for name in chosen["without_decay"]])
        if chosen["weights"] is not None:
            optimizer.build(named[name] for name in dict.fromkeys(chosen["weights"]))
        expected = _optimizer_names(optimizer)
        found = {name for name in file.entries if name.startswith(_OPTIMIZER)}
        # The number says which variable it is; names of layers that layers of the caller make are counted on.
        numbered = {name.split("/")[1]: name for name in found}
        names = [numbered.get(str(i), "") for i in range(len(expected))]
        if found != set(names):
            raise ValueError(
                f"the optimizer has the tensors {shortened(sorted(found))}, expected {shortened(expected)}"
            )
    for name, variable in zip(names, optimizer.variables, strict=True):
        check_entry(file, name, variable)
    return names


def _states(file: SafetensorsFile, number: int, layer: Any) -> list[Array] | None:
    names = _state_names(number, layer)
    if names[0] not in file.entries:
        return None
    states = []
    rows = file.entries[names[0]].shape[:1]
    for name, (_, size) in zip(names, layer.named_state_sizes(), strict=True):
        entry = file.entries.get(name)
        if entry is None or entry.shape != (*rows, size) or entry.dtype.kind != "f":
            raise ValueError(
                f"{file.where}: {shortened(name)} is {entry and entry[:2]}, expected float32 of shape "
                f"(rows, {size})"
            )
        states.append(file.read(name))
    return states


def _streams(file: SafetensorsFile, model: Any) -> list[dict[str, int]]:
    layers = list(all_layers(model))
    drawing = [layer for layer in layers if all(name in vars(layer) for name in STREAM)]
    rows: Iterator[list[int]] = iter(())
    if drawing and _RANDOM in file.entries:
        dtype, shape = file.entries[_RANDOM][:2]
        if dtype != np.int64 or shape != (len(drawing), len(STREAM)):
            raise ValueError(
                f"{file.where}: {_RANDOM} is {dtype.name} of shape {shape}, expected int64 of shape "
                f"{(len(drawing), len(STREAM))}"
            )
        numbers = file.read(_RANDOM)
        if numbers.min() < 0:
            raise ValueError(f"{file.where}: {_RANDOM} holds negative numbers")
        rows = iter(numbers.tolist())
    streams = []
    known = set(map(id, drawing))
    for layer in layers:
        row = next(rows, None) if id(layer) in known else None
        streams.append({} if row is None else dict(zip(STREAM, row, strict=True)))
    return streams


def _load_history(file: SafetensorsFile, model: Any) -> None:
    if _EPOCHS not in file.entries:
        return
    from lstm_native.callbacks.logs import History  # callbacks save models

    for name, entry in file.entries.items():
        wanted = "i" if name == _EPOCHS else "f" if name.startswith(_VALUES) else entry.dtype.kind
        if name.startswith("_history/") and (len(entry.shape) != 1 or entry.dtype.kind != wanted):
            raise ValueError(f"{file.where}: {shortened(name)} is {entry[:2]}, expected a row of numbers")
    history = History()
    history.epoch = file.read(_EPOCHS).tolist()
    history.history = {
        name.removeprefix(_VALUES): file.read(name).tolist()
        for name in file.entries
        if name.startswith(_VALUES)
    }
    history.set_model(model)
    model.history = history


def _json(file: SafetensorsFile, key: str) -> dict[str, Any]:
    if key not in file.metadata:
        raise ValueError(f"{file.where}: metadata {key!r} is missing")
    return parse_json(file.metadata[key], file.where, f"metadata {key!r}", file.size)
