"""Configurations of models as Keras 2 and 3 write them, turned into our own, which are close to them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from lstm_native import registration
from lstm_native.configurable import Configurable, short
from lstm_native.convert.conversion import Conversion
from lstm_native.convert.keras_mask_flow import MERGING
from lstm_native.convert.keras_masks import check_masks_beside_states, without_mask_operations
from lstm_native.convert.keras_merging import ARRAYS, check_merged_masks, with_merging_layers
from lstm_native.errors import nearest
from lstm_native.serialization import namespaces

MODELS = ("Functional", "Model", "Sequential")
RECURRENT = ("LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional")
HOLD_CODE = (
    "Lambda",
    "TFOpLambda",
    "SlicingOpLambda",
    "TensorFlowOpLayer",
    "TorchModuleWrapper",
    "JaxLayer",
)
# Layers of Keras that are another one with certain arguments here, and why that changes nothing.
RENAMED: dict[str, tuple[str, dict[str, Any], str]] = {
    "CuDNNLSTM": ("LSTM", {"activation": "tanh", "recurrent_activation": "sigmoid"}, "weights laid out anew"),
    "CuDNNGRU": (
        "GRU",
        {"activation": "tanh", "recurrent_activation": "sigmoid", "reset_after": True},
        "weights laid out anew",
    ),
    "Softmax": ("Activation", {"activation": "softmax"}, "of the last axis"),
    "ReLU": ("Activation", {"activation": "relu"}, "without slope, threshold and maximum"),
}
CUDNN = ("CuDNNLSTM", "CuDNNGRU")
# Arguments without a counterpart, at the values that change nothing; where there is no value, at all.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "sparse": (False,),
    "ragged": (False,),
    "optional": (False,),
    "time_major": (False,),
    "causal": (False,),
    "batch_input_shape": (),  # read where the model begins
    "input_length": (),
    "implementation": (),
    "num_constants": (),
    "data_format": ("channels_last",),
    "axis": (-1, [-1]),  # of Softmax
    "negative_slope": (0.0,),
    "threshold": (0.0,),
    "renorm": (False,),
    "renorm_momentum": (),
    "synchronized": (),  # between processes
    "fused": (),
    "trainable": (),  # of SpatialDropout1D, which has nothing to train
    "fn": (),  # the function of a loss, which its class says
    "jit_compile": (),
    "is_legacy_optimizer": (),
    "decay": (0.0,),
    "use_cudnn": (),
    "build_config": (),
}
_FLOAT32 = ("float32", None)


def is_plain(name: str, config: Any) -> bool:
    """Whether a layer of one of the `RENAMED` kinds has only arguments that change nothing."""
    if name in CUDNN or not isinstance(config, dict):
        return True
    changing = {"max_value": (None,), "negative_slope": (0.0,), "threshold": (0.0,), "axis": (-1, [-1])}
    return all(config.get(argument, values[0]) in values for argument, values in changing.items())


_HARD_SIGMOID = {
    "module": "lstm_native.activations",
    "class_name": "Parametric",
    "config": {"function": "hard_sigmoid", "alpha": 0.2, "beta": 0.5},
}
_NAMESPACES = {"initializer": "initializers", "regularizer": "regularizers", "constraint": "constraints"}


@functools.cache
def known_classes(namespace: str) -> dict[str, type[Configurable]]:
    """The classes of a namespace that configurations may name."""
    found = vars(namespaces()[namespace])
    return {n: c for n, c in found.items() if isinstance(c, type) and issubclass(c, Configurable)}


class KerasConfig:
    """Turns configurations of one file or model into ours.

    Args:
        version: 2 or 3, of the Keras that wrote them.
        record: gets the conventions.

    Attributes:
        version: the same.
        cudnn: names of the layers whose weights are laid out for cuDNN.
        same_precision: whether all layers compute in float32 in Keras too.
    """

    def __init__(self, version: int, record: Conversion) -> None:
        self.version = version
        self._record = record
        self.cudnn: set[str] = set()
        self.same_precision = True

    def model(self, data: Any) -> dict[str, Any]:
        """The configuration of a whole model.

        Raises:
            ValueError: it has something without a counterpart; the message names layer, class and attribute.
        """
        if not isinstance(data, dict) or data.get("class_name") is None:
            raise ValueError(f"from_keras: the configuration is {short(data)}, expected that of a model")
        name = data["class_name"]
        if name not in MODELS and registration.find(data.get("registered_name"), name) is None:
            raise ValueError(
                f"from_keras: the model is a {short(name)}, expected a Sequential or Functional one, or "
                "custom_objects with that class"
            )
        return self._layer(data, "the model")

    def compilation(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """What `compile` was given, from a `compile_config` of Keras 3 or a `training_config` of Keras 2."""
        optimizer = data.get("optimizer", data.get("optimizer_config"))
        if isinstance(optimizer, dict) and isinstance(optimizer.get("class_name"), str):
            optimizer = {**optimizer, "class_name": optimizer["class_name"].rpartition(">")[2]}
        found: dict[str, Any] = {"optimizer": self._value(optimizer, "optimizers", "the optimizer")}
        found["loss"] = self._value(data.get("loss"), "losses", "the loss")
        found["loss_weights"] = data.get("loss_weights")
        for key in ("metrics", "weighted_metrics"):
            found[key] = self._value(data.get(key), "metrics", "a metric")
        return {key: value for key, value in found.items() if value is not None}

    # --- any object -------------------------------------------------------------------------------

    def _value(self, data: Any, namespace: str, owner: str) -> Any:
        """Data in which objects of `namespace` may stand."""
        if isinstance(data, list | tuple):
            return [self._value(item, namespace, owner) for item in data]
        if not isinstance(data, dict):
            return data
        name = data.get("class_name")
        if name is None:
            return {key: self._value(item, namespace, owner) for key, item in data.items()}
        if not isinstance(name, str):
            raise ValueError(f"from_keras: {owner} has the class {short(name)}, expected a name")
        if namespace == "layers":
            return self._layer(data, owner)
        if name in ARRAYS and isinstance(data.get("config"), dict):
            return data["config"].get("value")
        if registration.find(data.get("registered_name"), name) is not None or name in (
            "function",
            "__tuple__",
        ):
            return data
        if name == "MeanMetricWrapper" and isinstance(data.get("config"), dict):
            short_names = ("accuracy", "acc")  # which stand for the one that fits the outputs
            known = data["config"].get("name")
            return known if known in short_names else self._value(data["config"].get("fn"), namespace, owner)
        cls = known_classes(namespace).get(name)
        if cls is None and namespace == "initializers":
            self._record.note(f"{owner}: start values of {name}, which is not known, became default ones")
            return None
        if cls is None:
            raise ValueError(f"from_keras: {owner} is a {name}, which has no counterpart in {namespace}")
        config = self._arguments(cls, data.get("config") or {}, f"{owner}: {name}")
        return {"module": f"lstm_native.{namespace}", "class_name": name, "config": config}

    def _arguments(self, cls: type[Configurable], config: Any, owner: str) -> dict[str, Any]:
        """The arguments that our class takes; others must be at values that change nothing."""
        if not isinstance(config, dict):
            raise ValueError(f"from_keras: {owner}: configuration is {short(config)}, expected a dict")
        taken = {parameter.name for parameter in cls.constructor_parameters()}
        found = {}
        for key, value in config.items():
            if key in taken and not (key == "dtype" and not self._keeps_dtype(cls)):
                found[key] = self._argument(key, value, owner)
            elif key == "dtype":
                self._check_dtype(value, owner)
            elif value is not None and not self._changes_nothing(key, value):
                raise ValueError(f"from_keras: {owner}: {key}={short(value)} has no counterpart here")
        return found

    @staticmethod
    def _changes_nothing(key: str, value: Any) -> bool:
        return key in _NEUTRAL and (not _NEUTRAL[key] or value in _NEUTRAL[key])

    @staticmethod
    def _keeps_dtype(cls: type) -> bool:
        return cls.__name__ == "InputLayer"

    def _check_dtype(self, value: Any, owner: str) -> None:
        if isinstance(value, dict):
            config = value.get("config")
            value = config.get("name") if isinstance(config, dict) else value
        if value not in _FLOAT32:
            self.same_precision = False
            self._record.note(f"{owner} computes in {short(value)} in Keras, in float32 here")

    def _argument(self, key: str, value: Any, owner: str) -> Any:
        last = key.rpartition("_")[2]
        if last in _NAMESPACES:
            return self._value(value, _NAMESPACES[last], f"{owner}: {key}")
        if last == "activation":
            if isinstance(value, dict) and isinstance(value.get("class_name"), str):
                name = value["class_name"]
                if name != "function" and registration.find(value.get("registered_name"), name) is None:
                    raise ValueError(f"from_keras: {owner}: {key} is a {name}, expected a function")
            if value == "hard_sigmoid" and self.version < 3:
                self._record.note(
                    "hard_sigmoid is clip(0.2 x + 0.5, 0, 1) in Keras 2 and became "
                    "activations.Parametric('hard_sigmoid'); that of Keras 3 and of this package is "
                    "clip(x / 6 + 0.5, 0, 1)"
                )
                return dict(_HARD_SIGMOID)
            return value
        if key == "reduction" and value == "auto":  # of Keras 2, which means this
            return "sum_over_batch_size"
        if key in ("layer", "backward_layer", "cell", "cells", "layers"):
            return self._value(value, "layers", owner)
        return self._value(value, "optimizers.schedules" if key == "learning_rate" else "losses", owner)

    # --- layers -----------------------------------------------------------------------------------

    def _layer(self, data: Any, owner: str) -> dict[str, Any]:
        if not isinstance(data, dict) or not isinstance(data.get("class_name"), str):
            raise ValueError(f"from_keras: {owner} has {short(data)} among its layers")
        name, config = data["class_name"], data.get("config")
        if registration.find(data.get("registered_name"), name) is not None:
            return {key: value for key, value in data.items() if key != "build_config"}
        own = config.get("name", data.get("name")) if isinstance(config, dict) else None
        label = f"{short(name)[1:-1]} {short(own)}" if own is not None else short(name)[1:-1]
        if name in HOLD_CODE:
            raise ValueError(f"from_keras: {label} holds code, which is never run; write it as a layer")
        if name in MODELS:
            return self._nested_model(name, config, label, data)
        more: dict[str, Any] = {}
        if name in RENAMED and is_plain(name, config):
            if name in CUDNN and isinstance(own, str):
                self.cudnn.add(own)
            was, (name, more, why) = name, RENAMED[name]
            self._record.note(f"{was} is {name} here, {why}")
        cls = known_classes("layers").get(name)
        if cls is None:
            near = nearest(name, known_classes("layers"))
            hint = f" (did you mean {near}?)" if near else ""
            raise ValueError(
                f"from_keras: {label} has no counterpart here{hint}; classes of your own go into "
                "custom_objects"
            )
        config = {} if config is None else config
        if name == "TextVectorization" and not _dict(config).get("vocabulary"):
            raise ValueError(
                f"from_keras: {label} has its vocabulary in another part of the file, which is not read; "
                "leave the layer out and make a TextVectorization with vocabulary=..."
            )
        arguments = self._arguments(cls, config, label) | more
        if name == "InputLayer" and "batch_input_shape" in config:  # its name in Keras 2
            arguments["batch_shape"] = config["batch_input_shape"]
        if name in ("GRU", "GRUCell") and self.version < 3:
            arguments.setdefault("reset_after", False)  # from before there was the choice
        return {"module": "lstm_native.layers", "class_name": name, "config": arguments}

    def _nested_model(self, name: str, config: Any, label: str, data: dict[str, Any]) -> dict[str, Any]:
        if isinstance(config, list):  # Sequential of Keras before 2.2.3
            config = {"layers": config}
        if not isinstance(config, dict) or not isinstance(config.get("layers"), list):
            raise ValueError(f"from_keras: {label} has no list of layers")
        if name == "Sequential":
            made = self._sequential(config, label, data.get("build_config"))
        elif "input_layers" in config:
            name, made = "Functional", self._functional(config, label)
        else:
            raise ValueError(f"from_keras: {label} is a class of its own, expected Sequential or functional")
        for key in ("name", "trainable"):
            if key in config:
                made[key] = config[key]
        return {"module": "lstm_native.models", "class_name": name, "config": made}

    def _sequential(self, config: dict[str, Any], label: str, built: Any) -> dict[str, Any]:
        layers = [self._layer(one, label) for one in config["layers"]]
        first = next(iter(config["layers"]), None)
        inner = first.get("config") if isinstance(first, dict) else None
        shape = inner.get("batch_input_shape") if isinstance(inner, dict) else None
        made: dict[str, Any] = {"layers": layers}
        if layers and layers[0]["class_name"] == "InputLayer":
            pass
        elif shape is not None:  # how Keras 2 says the shape without an InputLayer
            layers.insert(0, {"module": "lstm_native.layers", "class_name": "InputLayer"})
            layers[0]["config"] = {"batch_shape": shape}
        else:
            if config.get("build_input_shape") is None and isinstance(built, dict):
                config = {"build_input_shape": built.get("input_shape")}
            made["build_input_shape"] = config.get("build_input_shape")
        return made

    # --- functional models ------------------------------------------------------------------------

    def _functional(self, config: dict[str, Any], label: str) -> dict[str, Any]:
        layers = []
        counts: dict[str, tuple[int, int]] = {}
        operations: set[str] = set()
        for one in with_merging_layers(without_mask_operations(config["layers"]), label, operations):
            made = self._layer(one, label)
            inner = made.get("config")
            name = one.get("name", inner.get("name") if isinstance(inner, dict) else None)
            if not isinstance(name, str):
                raise ValueError(f"from_keras: {label} has a layer without a name: {short(one)}")
            if isinstance(inner, dict):
                inner.setdefault("name", name)
                # Masks end at operations; in Keras 2 at this layer too.
                if name in operations or (self.version < 3 and made["class_name"] == "Rescaling"):
                    inner["ends_masks"] = True
            layers.append((name, made, one.get("inbound_nodes", [])))
            counts[name] = self._first_calls(made)
        graph = _Calls(counts, self.version, label)
        found = []
        for name, made, nodes in layers:
            if not isinstance(nodes, list):
                raise ValueError(f"from_keras: {label}: inbound_nodes of {name!r} is {short(nodes)}")
            calls = [graph.call(node, made["class_name"], name) for node in nodes]
            found.append({**made, "name": name, "inbound_nodes": calls})
        if self.version < 3:
            check_masks_beside_states(found, label)
        check_merged_masks(found, operations, self.version, label)
        return {
            "layers": found,
            "input_layers": graph.ends(config["input_layers"]),
            "output_layers": graph.ends(config.get("output_layers")),
        }

    def _first_calls(self, made: dict[str, Any]) -> tuple[int, int]:
        """What is to be added to the number of a call of a layer: among the calls, and in the outputs.

        Here the calls of functional models are counted from 1, as Keras 2 counts them, and Keras 3 in the
        outputs; Keras 2 counts those of a Sequential with an InputLayer so too.
        """
        if made["class_name"] == "Functional":
            return (1, 0) if self.version >= 3 else (0, 0)
        if made["class_name"] == "Sequential" and self.version < 3:
            layers = made["config"]["layers"]
            begins = bool(layers) and layers[0]["class_name"] == "InputLayer"
            return (-1, -1) if begins else (0, 0)
        return 0, 0


class _Calls:
    """Calls of layers and values between them, in the form of Keras 3.

    Args:
        counts: for every layer what is to be added to the numbers of its calls (`_first_calls`).
        version: 2 or 3.
        label: the model, for messages.
    """

    def __init__(self, counts: dict[str, tuple[int, int]], version: int, label: str) -> None:
        self._counts = counts
        self._version = version
        self._label = label

    def call(self, node: Any, class_name: str, name: str) -> dict[str, Any]:
        """One call of a layer."""
        if isinstance(node, dict):
            given = node.get("kwargs")
            if not isinstance(given, dict):
                raise ValueError(f"from_keras: {self._label}: a call of {name!r} has kwargs {short(given)}")
            # Keras 3 writes down the `training` of the call, but goes by that of the model.
            named = self._taken({k: v for k, v in given.items() if k != "training"}, class_name, name)
            return {"args": self._renumbered(node.get("args")), "kwargs": self._renumbered(named)}
        if not isinstance(node, list) or not node:
            raise ValueError(f"from_keras: {self._label}: a call of {name!r} is {short(node)}")
        values, named = [], {}
        for item in [node] if isinstance(node[0], str) else node:
            if not isinstance(item, list) or len(item) not in (3, 4) or not self._is_history(item[:3]):
                raise ValueError(f"from_keras: {self._label}: a call of {name!r} has the input {short(item)}")
            values.append(self._value(item))
            named |= _dict(item[3]) if len(item) == 4 else {}
        kwargs = {k: self._named(v) for k, v in self._taken(named, class_name, name).items()}
        if len(values) > 1 and class_name in RECURRENT:
            values, kwargs["initial_state"] = values[:1], values[1:]
        single = len(values) == 1 and class_name not in MERGING
        return {"args": values if single else [values], "kwargs": kwargs}

    def _taken(self, named: dict[str, Any], class_name: str, name: str) -> dict[str, Any]:
        """The further arguments of a call, without those that were not given."""
        from inspect import signature  # not at the top: it costs

        cls = known_classes("layers").get(class_name) or known_classes("models").get(class_name)
        known = named if cls is None else signature(cls.__call__).parameters
        for key, value in named.items():
            if value not in (None, False) and key not in known:
                raise ValueError(
                    f"from_keras: {self._label}: a call of {name!r} has {key}={short(value)}, which has no "
                    "counterpart here"
                )
        return {key: value for key, value in named.items() if value is not None and key in known}

    def ends(self, tree: Any) -> Any:
        """`input_layers` or `output_layers`."""
        if self._is_history(tree):
            return self._history(tree, 1)
        if isinstance(tree, list):
            found = [self.ends(item) for item in tree]
            # Keras 2 lists a single one too.
            return found[0] if len(found) == 1 and self._version < 3 else found
        if isinstance(tree, dict):
            return {key: self.ends(item) for key, item in tree.items()}
        return tree

    @staticmethod
    def _is_history(data: Any) -> bool:
        return (
            isinstance(data, list)
            and len(data) == 3
            and isinstance(data[0], str)
            and all(type(number) is int for number in data[1:])
        )

    def _history(self, data: Any, which: int) -> list[Any]:
        return [data[0], data[1] + self._counts.get(data[0], (0, 0))[which], data[2]]

    def _value(self, item: Any) -> dict[str, Any]:
        return {"class_name": "__keras_tensor__", "config": {"keras_history": self._history(item, 0)}}

    def _named(self, data: Any) -> Any:
        """A further argument in the form of Keras 2."""
        if self._is_history(data) and data[0] in self._counts:
            return self._value(data)
        return [self._named(item) for item in data] if isinstance(data, list) else data

    def _renumbered(self, data: Any) -> Any:
        """Arguments in the form of Keras 3."""
        if isinstance(data, list | tuple):
            return [self._renumbered(item) for item in data]
        if not isinstance(data, dict):
            return data
        if data.get("class_name") == "__keras_tensor__":
            history = _dict(data.get("config")).get("keras_history")
            if not isinstance(history, list) or not self._is_history(history):
                raise ValueError(f"from_keras: {self._label}: a value is {short(data)}, expected its history")
            return self._value(history)
        return {key: self._renumbered(item) for key, item in data.items()}


def _dict(data: Any) -> dict[str, Any]:
    return data if isinstance(data, dict) else {}
