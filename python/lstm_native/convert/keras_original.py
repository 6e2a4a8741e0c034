"""The original of a file, made anew in Keras of what our own reader understood of the file.

Keras' readers are none for files of strangers: configurations can name code, paths and modules there. So no
byte of the file reaches them. Keras gets a configuration that is written here, of known classes and plain
values only, and the weights in a file that is written here.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from lstm_native import registration
from lstm_native.configurable import short
from lstm_native.convert.both_sides import NotRun, cause, not_imported
from lstm_native.convert.conversion import Conversion
from lstm_native.convert.keras_config import HOLD_CODE, MODELS, RECURRENT, RENAMED, is_plain, known_classes
from lstm_native.convert.keras_file import KerasFile, major_version
from lstm_native.convert.keras_hdf5 import Group
from lstm_native.convert.keras_hdf5_writer import NewGroup, write_hdf5
from lstm_native.convert.keras_masks import OPERATIONS
from lstm_native.convert.keras_merging import ARRAYS, with_merging_layers
from lstm_native.convert.keras_weights import OLD_LAYERS, names_in

# Arguments that change no output once the weights are there, by the last part of their names; and those that
# say how exactly it is computed.
_LEFT_OUT = ("initializer", "regularizer", "constraint", "trainable")
_COMPUTED_IN = ("dtype", "autocast")
_INNER_LAYERS = ("layer", "backward_layer", "cell", "cells", "layers")
_ACTIVATIONS = ("activation", "recurrent_activation")


def original_of(file: KerasFile, config: dict[str, Any], record: Conversion) -> Any:
    """The model in Keras.

    Models of Keras 2 are made in tf_keras where that is installed, which is Keras 2; else in Keras 3, with
    the hard_sigmoid of Keras 2.

    Args:
        file: what was read.
        config: of the model, in the form of Keras, which our own reader has taken.
        record: is told in what it was made.

    Raises:
        NotRun: Keras is not installed, or does not take it.
    """
    reasons = []
    missing = True
    for name in ("tf_keras", "keras") if file.version < 3 else ("keras",):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Keras and TensorFlow among themselves
            try:
                package = _imported(name)
            except NotRun as why:
                reasons.append(str(why))
                continue
            try:
                made = _made(package, file, config)
            except NotRun:
                raise
            except Exception as error:  # whatever they have against it
                missing = False
                reasons.append(f"{name} does not take it ({cause(error)})")
            else:
                record.beside = f"{name} {package.__version__}"
                return made
    raise NotRun("; ".join(reasons), missing)


def _imported(name: str) -> Any:
    """Keras 3, or tf_keras, which is Keras 2.

    Raises:
        NotRun: it is not installed.
    """
    try:
        if name == "tf_keras":
            import tf_keras as package
        else:
            import keras as package
    except Exception as error:  # whatever is wrong in what they need
        raise not_imported(name, error) from error
    return package


def loaded_in_keras(content: bytes, suffix: str, config: dict[str, Any] | None) -> Any:
    """What Keras 3 loads from a file that is written here.

    Args:
        content: the file.
        suffix: what its name ends in.
        config: where it holds weights alone, that of the model which takes them.

    Raises:
        NotRun: Keras 3 is not installed, or gives a name twice by itself.
        ValueError: it does not load the file.
    """
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Keras and TensorFlow among themselves
        keras = _imported("keras")
        if major_version(keras.__version__, False) < 3:
            raise NotRun(f"keras {keras.__version__} is installed, the file is for Keras 3", missing=True)
        path = Path(folder) / f"model{suffix}"
        path.write_bytes(content)
        try:
            if config is None:
                return keras.saving.load_model(path, compile=False)
            model = keras.saving.deserialize_keras_object(PlainConfig(3, 3).layer(config))
            model.load_weights(path)
        except NotRun:
            raise
        except Exception as error:
            # Of masks that are joined Keras makes operations, under the next free names of the process.
            if "names should be unique" in str(error):
                raise NotRun(
                    f"Keras named an operation of its own as the model a layer ({cause(error)})"
                ) from error
            raise ValueError(
                f"to_keras: Keras {keras.__version__} does not load the file ({cause(error)}); check=False "
                "writes it all the same"
            ) from error
        return model


def _made(package: Any, file: KerasFile, config: dict[str, Any]) -> Any:
    """The model with its weights in `keras` or `tf_keras`."""
    target = major_version(package.__version__, False)
    model = package.saving.deserialize_keras_object(PlainConfig(file.version, target).layer(config))
    if not model.built:
        raise NotRun("the file does not say the shape of its inputs")
    if file.version < target:
        _with_old_hard_sigmoid(package, model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("weights.h5" if file.layers else "model.weights.h5")
        path.write_bytes(write_hdf5(_layers(file.root) if file.layers else _tree(file.root)))
        model.load_weights(path if target >= 3 else str(path))
    return model


def _with_old_hard_sigmoid(package: Any, model: Any) -> None:
    """Gives the model of Keras 3 the hard_sigmoid that Keras 2 has."""
    clip = package.ops.clip

    def hard_sigmoid(x: Any) -> Any:
        return clip(0.2 * x + 0.5, 0.0, 1.0)

    for layer in model._flatten_layers():
        for name in _ACTIVATIONS:
            if vars(layer).get(name) is package.activations.hard_sigmoid:
                setattr(layer, name, hard_sigmoid)


# --- weights ----------------------------------------------------------------------------------------


def _tree(root: Group) -> NewGroup:
    """The weights of a file in the new form."""
    made = NewGroup()
    for name, member in root.members.items():
        first, *rest = name.replace("\\", "/").split("/")  # on Windows, names are whole paths
        if isinstance(member, Group) and first in ("layers", OLD_LAYERS):
            _copy(member, made.group("/".join(("layers", *rest))))
    made.group("vars")
    return made


def _copy(group: Group, new: NewGroup) -> None:
    for name, member in group.members.items():
        if isinstance(member, Group):
            _copy(member, new.group(name))
        else:
            new.members[name] = np.asarray(member.read())


def _layers(root: Group) -> NewGroup:
    """The weights of a file in the old form."""
    names = root.strings("layer_names") or []
    made = NewGroup({"layer_names": names, "keras_version": "2.15.0", "backend": "tensorflow"})
    for name in names:
        group, new = root.group(name), made.group(name)
        assert group is not None
        weights = names_in(group, "weight_names")
        new.attributes["weight_names"] = weights
        for weight in weights:
            dataset = group.dataset(weight)
            assert dataset is not None
            folder, _, own = weight.rpartition("/")
            (new.group(folder) if folder else new).members[own] = np.asarray(dataset.read())
    return made


# --- configurations ---------------------------------------------------------------------------------


class PlainConfig:
    """Writes configurations of Keras anew, of known classes and plain values.

    Args:
        version: 2 or 3, of the Keras that wrote them.
        target: of the Keras that is to read them.
    """

    def __init__(self, version: int, target: int) -> None:
        self._version = version
        self._target = target

    def layer(self, data: Any) -> dict[str, Any]:
        """A layer or a model."""
        name, config = data["class_name"], data.get("config")
        if registration.find(data.get("registered_name"), name) is not None:
            raise NotRun(f"{short(name)} is a class of the caller")
        if name in MODELS:
            return _head(
                "keras", "Sequential" if name == "Sequential" else "Model", self._model(name, config)
            )
        if name in OPERATIONS:
            return {**_head("keras.src.ops.numpy", name, self._values(config)), "registered_name": name}
        if name == "TextVectorization":
            raise NotRun("it reads texts")
        if name in HOLD_CODE:
            raise NotRun(f"{name} holds code")
        renamed = name in RENAMED and is_plain(name, config)
        cls = known_classes("layers").get(RENAMED[name][0] if renamed else name)
        if cls is None:
            raise NotRun(f"{short(name)} is not known")
        if name.startswith("CuDNN"):  # which needs a GPU; weights are laid out anew by the reader of Keras 2
            name, changed = RENAMED[name][:2]
            config = {**config, **changed}
        taken = {parameter.name: parameter.default for parameter in cls.constructor_parameters()}
        made: dict[str, Any] = {}
        for key, value in (config or {}).items():
            if key.rpartition("_")[2] in _LEFT_OUT:
                continue
            if key in _COMPUTED_IN:
                if name == "InputLayer" and isinstance(value, str):
                    made[key] = value
            elif key in ("batch_shape", "batch_input_shape") and name == "InputLayer":
                made["batch_shape" if self._target >= 3 else "batch_input_shape"] = self._values(value)
            elif key not in taken or (value is None and taken[key] is None):
                continue  # our reader has seen to it that it is at a value that changes nothing
            elif key in _INNER_LAYERS and isinstance(value, dict | list):
                made[key] = (
                    self.layer(value) if isinstance(value, dict) else [self.layer(one) for one in value]
                )
            elif key.rpartition("_")[2] == "activation":
                made[key] = self._activation(value)
            else:
                made[key] = self._values(value)
        return _head("keras.layers", name, made)

    @staticmethod
    def _activation(value: Any) -> str | None:
        if isinstance(value, dict) and value.get("class_name") == "function":
            value = value.get("config")
        if value is not None and (not isinstance(value, str) or registration.find(value, value)):
            raise NotRun(f"the activation {short(value)} is none of Keras")
        return value

    def _model(self, name: str, config: Any) -> dict[str, Any]:
        if isinstance(config, list):
            config = {"layers": config}
        made: dict[str, Any] = {"name": config.get("name", "model"), "trainable": True}
        if name != "Sequential":  # operations are layers of Keras that compute the same, as they are ours
            config = {**config, "layers": list(with_merging_layers(config["layers"], name, set()))}
        layers = [self.layer(one) for one in config["layers"]]
        if name != "Sequential":
            names = [one.get("name", _dict(one["config"]).get("name")) for one in config["layers"]]
            shift = {name: self._first_calls(one) for name, one in zip(names, config["layers"], strict=True)}
            made["layers"] = [
                {**new, "name": name, "inbound_nodes": self._calls(one, shift)}
                for new, name, one in zip(layers, names, config["layers"], strict=True)
            ]
            for key in ("input_layers", "output_layers"):
                made[key] = self._ends(config[key], shift)
            return made
        first = config["layers"][0].get("config") if config["layers"] else None
        shape = first.get("batch_input_shape") if isinstance(first, dict) else None
        if shape is not None and layers[0]["class_name"] != "InputLayer":
            key = "batch_shape" if self._target >= 3 else "batch_input_shape"
            layers.insert(0, _head("keras.layers", "InputLayer", {key: self._values(shape)}))
        made["layers"] = layers
        made["build_input_shape"] = self._values(config.get("build_input_shape"))
        return made

    def _calls(self, one: dict[str, Any], shift: dict[str, tuple[int, int]]) -> list[Any]:
        nodes = one.get("inbound_nodes") or []
        if self._target < 3:
            return [self._arguments(node) for node in nodes]
        return [
            self._new_call(node, one["class_name"], shift)
            if isinstance(node, list)
            else self._arguments(node)
            for node in nodes
        ]

    def _new_call(
        self, node: list[Any], class_name: str, shift: dict[str, tuple[int, int]]
    ) -> dict[str, Any]:
        """A call in the form of Keras 2, in that of Keras 3."""

        def tensor(history: list[Any]) -> dict[str, Any]:
            name, call, output = history
            found = {"keras_history": [name, call + shift[name][0], output], "shape": [], "dtype": "float32"}
            return {"class_name": "__keras_tensor__", "config": found}

        def named(value: Any) -> Any:
            is_history = isinstance(value, list) and len(value) == 3 and value[0] in tuple(shift)
            if is_history:
                return tensor(value)
            return [named(one) for one in value] if isinstance(value, list) else self._values(value)

        items = [node] if isinstance(node[0], str) else node
        values = [tensor(item[:3]) for item in items]
        kwargs = {self._text(k): named(v) for item in items for k, v in (item[3] if item[3:] else {}).items()}
        if len(values) > 1 and class_name in RECURRENT:
            kwargs["initial_state"] = values[1:]
            values = values[:1]
        return {"args": values if len(values) == 1 else [values], "kwargs": kwargs}

    def _first_calls(self, one: dict[str, Any]) -> tuple[int, int]:
        """What is to be added to the number of a call of a layer: among the calls, and in the outputs.

        Keras 2 counts those of models that begin with an InputLayer from 1, Keras 3 in the outputs only, and
        there only those of functional ones.
        """
        if self._version >= 3 or self._target < 3 or one["class_name"] not in MODELS:
            return 0, 0
        if one["class_name"] != "Sequential":
            return -1, 0
        config = one["config"]
        first = (config if isinstance(config, list) else config["layers"])[:1]
        begins = first and (
            first[0]["class_name"] == "InputLayer" or "batch_input_shape" in first[0]["config"]
        )
        return (-1, -1) if begins else (0, 0)

    def _ends(self, tree: Any, shift: dict[str, tuple[int, int]]) -> Any:
        """`input_layers` or `output_layers`."""
        if isinstance(tree, list) and len(tree) == 3 and isinstance(tree[0], str):
            return [tree[0], tree[1] + shift[tree[0]][1], tree[2]]
        if isinstance(tree, dict):
            return {self._text(key): self._ends(item, shift) for key, item in tree.items()}
        return [self._ends(item, shift) for item in tree]

    def _arguments(self, data: Any) -> Any:
        """Arguments of a call: plain values, and values of the graph."""
        if isinstance(data, list | tuple):
            return [self._arguments(item) for item in data]
        if not isinstance(data, dict):
            return self._values(data)
        if "class_name" not in data:
            return {self._text(key): self._arguments(item) for key, item in data.items()}
        if data["class_name"] != "__keras_tensor__":
            raise NotRun(f"a call is given {short(data)}")
        config = data["config"]
        kept = {
            key: self._values(config[key]) for key in ("shape", "dtype", "keras_history") if key in config
        }
        return {"class_name": "__keras_tensor__", "config": kept}

    def _values(self, data: Any) -> Any:
        """Plain values."""
        if isinstance(data, list | tuple):
            return [self._values(item) for item in data]
        if isinstance(data, dict):
            if data.get("class_name") == "__tuple__":
                return tuple(self._values(item) for item in data["items"])
            if data.get("class_name") in ARRAYS:
                return self._values(_dict(data["config"]).get("value"))
            if "class_name" in data:
                raise NotRun(f"{short(data)} is no plain value")
            return {self._text(key): self._values(item) for key, item in data.items()}
        if data is None or isinstance(data, bool | int | float | str):
            return data
        raise NotRun(f"{short(data)} is no plain value")

    @staticmethod
    def _text(key: Any) -> str:
        if not isinstance(key, str):
            raise NotRun(f"{short(key)} is no name")
        return key


def _dict(data: Any) -> dict[str, Any]:
    return data if isinstance(data, dict) else {}


def _head(module: str, name: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"module": module, "class_name": name, "config": config, "registered_name": None}
