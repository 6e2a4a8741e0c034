"""Models to Keras: `.keras` files, weights alone, and `.h5` files of whole models, written without Keras."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from datetime import datetime
from typing import Any

from lstm_native.convert.both_sides import NotRun, check_of, refuse_large, run_both
from lstm_native.convert.conversion import Conversion
from lstm_native.convert.keras_check import compare_with_live
from lstm_native.convert.keras_file import CONFIG, METADATA, WEIGHTS
from lstm_native.convert.keras_hdf5_writer import NewGroup, write_hdf5
from lstm_native.convert.keras_masks import makes_mask
from lstm_native.convert.keras_operations import as_operations
from lstm_native.convert.keras_original import loaded_in_keras
from lstm_native.convert.keras_weights import write_layers, write_random, write_tree
from lstm_native.models import Model
from lstm_native.saving.atomic import path_name, replace_file
from lstm_native.saving.safetensors import Path
from lstm_native.serialization import serialize

VERSION = "3.15.1"  # of the Keras whose form the files have
_WEIGHTS_ALONE = ".weights.h5"
# Arguments that Keras has not; and one that it takes everywhere, but has not among those of all layers.
_LEFT_OUT = (
    "checkpoint_steps", "clip", "peepholes", "coupled_gates", "projection_units", "output_activation",
    "ends_masks", "activity_regularizer",
)  # fmt: skip
_PACKAGE = "lstm_native."
_HARD_SIGMOID = (1 / 6, 0.5)  # of Keras 3


def to_keras(model: Model, path: Path, *, compile: bool = True, check: bool | None = None) -> Conversion:
    """Writes a model to a file that Keras 3 loads.

    Neither Keras nor h5py is needed. The file appears whole or not at all.

    Args:
        model: a built model.
        path: the file. Its suffix says what it holds: ".keras" the model; ".weights.h5" the weights alone,
            for `load_weights` of such a model; ".h5" or ".hdf5" the model in the old form.
        compile: with what `compile` was given, and the optimizer's state.
        check: run the model beside what Keras loads from the file, on random inputs, before the file is put
            in its place. None: where Keras 3 is installed; True: it must be; False: not. The first import of
            Keras takes seconds.

    Returns:
        Which conventions differ, and how far the outputs of both are apart, or why they were not run.

    Raises:
        ValueError: a layer or argument that Keras has not, named; another suffix; outputs that differ by more
            than 1e-5; or with `check=True`, both cannot be run. Nothing is written then.
        TypeError: something that is no model.
        OSError: the file cannot be written.
        ImportError: with `check=True`, Keras is not installed.
    """
    check = check_of(check, "to_keras")
    if not isinstance(model, Model):
        raise TypeError(f"to_keras: got a {type(model).__name__}, expected a model")
    if not model.built:
        raise model.error("to_keras: has no weights before it is built: call build(input_shape) first")
    record = Conversion("lstm_native", "Keras")
    name = path_name(path, "to_keras: path").lower()
    writers: dict[str, Callable[[Model, bool, Conversion], bytes]] = {
        _WEIGHTS_ALONE: _weights,
        ".keras": _archive,
        ".h5": _old_form,
        ".hdf5": _old_form,
    }
    suffix = next((known for known in writers if name.endswith(known)), None)
    if suffix is None:
        raise ValueError(
            f"{model.label()}: to_keras: the name {os.fsdecode(path)!r} ends in no known suffix, "
            f"expected one of {', '.join(writers)}"
        )
    content = writers[suffix](model, compile, record)

    def run() -> None:
        if not check:
            refuse_large(model)
        config = keras_config_of(model) if suffix == _WEIGHTS_ALONE else None
        compare_with_live(loaded_in_keras(content, suffix, config), model, record)

    run_both(record, check, run)
    replace_file(path, [content])
    return record


def keras_config_of(model: Model) -> dict[str, Any]:
    """The configuration of a model as Keras 3 has it.

    Raises:
        NotRun: it has what Keras has not.
    """
    try:
        return _KerasForm(Conversion("lstm_native", "Keras")).layer(serialize(model))
    except (ValueError, TypeError) as error:
        raise NotRun(f"the model is none of Keras: {error}") from None


# --- files ----------------------------------------------------------------------------------------


def _weights(model: Model, _: bool, record: Conversion) -> bytes:
    root = NewGroup()
    _KerasForm(record, weights_alone=True).layer(serialize(model))  # what Keras has not would not fit there
    write_tree(model, root)
    return write_hdf5(root)


def _archive(model: Model, compile: bool, record: Conversion) -> bytes:
    config = _KerasForm(record).layer(serialize(model))
    root = NewGroup()
    write_tree(model, root)
    write_random(model, root)
    if compile and model.compiled:
        compilation = _compilation(model, record)
        if compilation is not None:
            config["compile_config"] = compilation
            if model.optimizer is not None and model.optimizer.built:
                slots = root.group("optimizer/vars")
                slots.attributes["name"] = model.optimizer.name
                slots.members |= {str(i): v.numpy() for i, v in enumerate(model.optimizer.variables)}
    metadata = {"keras_version": VERSION, "date_saved": datetime.now().strftime("%Y-%m-%d@%H:%M:%S")}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(METADATA, json.dumps(metadata))
        archive.writestr(CONFIG, json.dumps(config))
        archive.writestr(WEIGHTS, write_hdf5(root))
    return content.getvalue()


def _old_form(model: Model, compile: bool, record: Conversion) -> bytes:
    config = _KerasForm(record, old=True).layer(serialize(model), bare=True)
    root = NewGroup({"keras_version": VERSION, "backend": "tensorflow", "model_config": json.dumps(config)})
    if compile and model.compiled:
        compilation = _compilation(model, record)
        if compilation is not None:
            optimizer = compilation.pop("optimizer")
            compilation["optimizer_config"] = {key: optimizer[key] for key in ("class_name", "config")}
            root.attributes["training_config"] = json.dumps(compilation)
            if model.optimizer is not None and model.optimizer.built:
                slots = root.group("optimizer_weights")
                names = [f"{i}_{variable.name}" for i, variable in enumerate(model.optimizer.variables)]
                slots.attributes["weight_names"] = names
                slots.members |= zip(names, (v.numpy() for v in model.optimizer.variables), strict=True)
    group = root.group("model_weights")
    group.attributes |= {"keras_version": VERSION, "backend": "tensorflow"}
    write_layers(model, group)
    write_random(model, root)
    return write_hdf5(root)


def _compilation(model: Model, record: Conversion) -> dict[str, Any] | None:
    """What `compile` was given; a file without it still predicts, so that a failure is a note."""
    try:
        found = _KerasForm(record).value(model.get_compile_config())
    except (TypeError, ValueError) as error:
        record.note(f"what compile() was given is not written ({error})")
        return None
    assert isinstance(found, dict)
    return found


# --- configurations -------------------------------------------------------------------------------


class _KerasForm:
    """Turns our configurations into those of Keras.

    Args:
        record: gets the conventions.
        old: as `.h5` files have them, in which the layers of a model have no module.
        weights_alone: what has no weights may be what Keras has not.
    """

    def __init__(self, record: Conversion, old: bool = False, weights_alone: bool = False) -> None:
        self._record = record
        self._old = old
        self._weights_alone = weights_alone
        self._masked = False  # whether the model makes masks

    def value(self, data: Any, owner: str = "compile") -> Any:
        """Any data."""
        if isinstance(data, list):
            return [self.value(item, owner) for item in data]
        if not isinstance(data, dict):
            return data
        if "class_name" not in data:
            return {key: self.value(item, owner) for key, item in data.items()}
        name, module = data["class_name"], data.get("module", "")
        if name == "Parametric":
            return self._parametric(data["config"], owner)
        if module in ("lstm_native.layers", "lstm_native.models"):
            return self.layer(data)
        if name == "function":
            if "registered_name" in data:
                raise ValueError(
                    f"to_keras: {owner} has the function {data['config']!r}, which Keras does not know"
                )
            return data["config"]
        if name.startswith("__"):
            return data
        if not module.startswith(_PACKAGE):
            raise ValueError(f"to_keras: {owner} has a {name}, which Keras does not know")
        config = self.value(data["config"], f"{owner}: {name}")
        return {**_named(f"keras.{module.removeprefix(_PACKAGE)}", name), "config": config}

    def layer(self, data: dict[str, Any], bare: bool = False) -> dict[str, Any]:
        """A layer or a model; `bare` without its module."""
        name, config = data["class_name"], data["config"]
        label = f"{name} {config.get('name', '')!r}"
        if name == "TextVectorization":
            raise ValueError(
                f"to_keras: {label} begins with texts, which Keras keeps apart; leave the layer out"
            )
        if name in ("Lambda", "MultiHeadAttention") and not self._weights_alone:
            why = "is code" if name == "Lambda" else "is called and keeps its weights in another way there"
            raise ValueError(f"to_keras: {label} {why}; save the model with the suffix .safetensors")
        if self._old and config.get("score_mode") == "dot":
            # Keras 3.15.1 takes the word for the function of that name, and fails; it is the default.
            config = {key: value for key, value in config.items() if key != "score_mode"}
        if data.get("module") not in ("lstm_native.layers", "lstm_native.models"):
            raise ValueError(f"to_keras: {label} is of a class that Keras does not know")
        if name == "Functional":
            made = self._functional(config, label)
        else:
            made = {}
            for key, value in config.items():
                if key == "layers":
                    made[key] = [self.layer(one, bare=self._old) for one in value]
                elif key in _LEFT_OUT and value in (None, False):
                    continue
                elif key == "checkpoint_steps":
                    self._record.note(f"{label}: {key} has no counterpart in Keras; results are the same")
                elif key in _LEFT_OUT and key != "activity_regularizer":
                    raise ValueError(f"to_keras: {label}: {key}={value!r} has no counterpart in Keras")
                else:
                    made[key] = self.value(value, f"{label}: {key}")
        module = "keras.layers"
        if data["module"] == "lstm_native.models":
            module = "keras.src.models.functional" if name == "Functional" else "keras"
        head: dict[str, Any] = {"class_name": name} if bare else _named(module, name)
        if name == "Functional" and not bare:
            head["registered_name"] = name
        return {**head, "config": made}

    def _parametric(self, config: dict[str, Any], owner: str) -> str:
        if config["function"] == "hard_sigmoid" and (config["alpha"], config["beta"]) == _HARD_SIGMOID:
            return "hard_sigmoid"
        if self._weights_alone:
            self._record.note(f"{owner}: an activations.Parametric, which Keras has not, is not in the file")
            return "linear"
        text = ", ".join(f"{key}={value!r}" for key, value in config.items() if value is not None)
        raise ValueError(f"to_keras: {owner}: activations.Parametric({text}) has no counterpart in Keras")

    def _functional(self, config: dict[str, Any], label: str) -> dict[str, Any]:
        self._masked = self._masked or any(map(makes_mask, config["layers"]))
        models = {one["name"] for one in config["layers"] if one["class_name"] == "Functional"}
        found = []
        for one in config["layers"]:
            calls = [self._call(node, models, f"{label}: {one['name']!r}") for node in one["inbound_nodes"]]
            if one["config"].get("ends_masks"):
                if self._masked:
                    found += self._operations(one, calls)
                    continue
                one = {**one, "config": {key: v for key, v in one["config"].items() if key != "ends_masks"}}
            found.append({**self.layer(one, bare=self._old), "name": one["name"], "inbound_nodes": calls})
        return {**config, "layers": found}

    def _operations(self, one: dict[str, Any], calls: list[Any]) -> list[dict[str, Any]]:
        """A layer at which masks end."""
        operations = None if self._old else as_operations(one["class_name"], one["config"], calls)
        if operations is None:
            why = "files of the old form do, write a .keras file" if self._old else "operation of Keras does"
            raise ValueError(
                f"to_keras: {one['class_name']} {one['name']!r}: masks end at it, as at operators, which no "
                f"{why}"
            )
        return operations

    def _call(self, node: Any, models: set[str], owner: str) -> Any:
        for key in node["kwargs"]:
            if key == "reset":
                raise ValueError(
                    f"to_keras: {owner}: the argument reset of a call has no counterpart in Keras"
                )
        return self._renumbered(node, models)

    def _renumbered(self, data: Any, models: set[str]) -> Any:
        """Arguments of calls: there Keras counts the calls of functional models from 0."""
        if isinstance(data, list):
            return [self._renumbered(item, models) for item in data]
        if not isinstance(data, dict):
            return data
        if data.get("class_name") == "__keras_tensor__":
            name, call, output = data["config"]["keras_history"]
            history = [name, call - 1 if name in models else call, output]
            return {**data, "config": {**data["config"], "keras_history": history}}
        return {key: self._renumbered(item, models) for key, item in data.items()}


def _named(module: str, name: str) -> dict[str, Any]:
    return {"module": module, "class_name": name, "registered_name": None}
