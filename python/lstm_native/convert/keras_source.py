"""Models from Keras: `.keras` and `.h5` files of every version since 2, without Keras, and live models."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from lstm_native.convert.both_sides import NotRun, check_of, random_inputs, refuse_large, run_both
from lstm_native.convert.conversion import Conversion
from lstm_native.convert.keras_check import compare_with_live
from lstm_native.convert.keras_config import KerasConfig
from lstm_native.convert.keras_file import KerasFile, major_version, read_keras_file
from lstm_native.convert.keras_hdf5 import Group
from lstm_native.convert.keras_original import original_of
from lstm_native.convert.keras_target import keras_config_of
from lstm_native.convert.keras_weights import layer_list, load_layers, load_random, load_tree, names_in
from lstm_native.convert.layouts import Array
from lstm_native.later import check_layers, values_come_later
from lstm_native.models import Model
from lstm_native.registration import custom_object_scope
from lstm_native.saving.atomic import path_name
from lstm_native.saving.blaming import blaming
from lstm_native.saving.safetensors import Path
from lstm_native.saving.weights import Loading
from lstm_native.serialization import deserialize


def from_keras(
    source: Any,
    custom_objects: Mapping[str, Any] | None = None,
    *,
    model: Model | None = None,
    compile: bool = True,
    check: bool | None = None,
) -> Any:
    """A model with the layers and weights of a Keras model.

    Files are read without Keras and h5py, and nothing in them is run: they can only name layers of this
    package, and classes that the caller lends. A damaged or hostile file is a ValueError.

    Args:
        source: one of

            - a `.keras` file, of Keras 3 or of tf.keras since 2.12;
            - an `.h5` file of a whole model, of Keras 2, tf.keras or Keras 3;
            - a file of weights alone (`.weights.h5`, or an `.h5` file in the old form), for `model`;
            - a model of Keras 3, tf_keras or tf.keras itself.
        custom_objects: classes and functions of the caller by the names that the file has for them.
        model: for weights alone, the built model of this package that takes them, all or none.
        compile: with what `compile` was given, where all of it is known here, and the optimizer's state.
        check: run the model beside the original in Keras on random inputs. None: where that can be done;
            True: it must be; False: not. The first import of Keras takes seconds. Its readers never see the
            file: Keras gets the configuration and the weights that were understood, written anew.

    Returns:
        A `Sequential` or functional `Model`, or `model`. Its `conversion` says which conventions differ, and
        how far the outputs of both are apart, or why they were not run.

    Raises:
        ValueError: a layer, class or argument without a counterpart, named; a damaged file; outputs that
            differ by more than 1e-5; or with `check=True`, both cannot be run. A `model` is as before then.
        TypeError: `source` is something else.
        OSError: the file cannot be read.
        ImportError: with `check=True`, Keras is not installed.
    """
    record = Conversion("Keras", "lstm_native")
    check = check_of(check, "from_keras")
    with custom_object_scope(custom_objects):
        if isinstance(source, str | bytes | os.PathLike):
            found = _from_file(path_name(source, "from_keras: source"), record, model, compile, check)
        elif callable(getattr(source, "get_config", None)) and hasattr(source, "layers"):
            found = _from_live(source, record, compile, check)
        else:
            raise TypeError(
                f"from_keras: got a {type(source).__name__}, expected the path of a file or a model of Keras"
            )
    found.conversion = record
    return found


# --- files ----------------------------------------------------------------------------------------


def _from_file(
    path: Path, record: Conversion, target: Model | None, compile: bool, check: bool | None
) -> Model:
    file = read_keras_file(path)
    if file.config is None:
        if target is None:
            raise ValueError(f"{file.where}: this file holds weights alone, pass the model that takes them")
        if not isinstance(target, Model):
            raise TypeError(f"from_keras: model is a {type(target).__name__}, expected a model")
        before = target.get_weights()
        with blaming(file.where, "the weights"):
            load_into(target, file, set())
        if file.version < 3 and "hard_sigmoid" in str(target.get_config()):
            record.note("hard_sigmoid of Keras 2 is activations.Parametric('hard_sigmoid') here")
        try:
            run_both(record, check, lambda: _compare_weights(file, target, record, check))
        except (ValueError, ImportError):
            target.set_weights(before)
            raise
        return target
    if target is not None:
        raise ValueError(f"{file.where}: this file holds a whole model, which is made anew; leave model out")
    reader = KerasConfig(file.version, record)
    # Before any memory is taken: weights that the file does not hold cannot be wanted.
    arrays = list(file.root.datasets())
    count = sum(dataset.dtype.itemsize and _count(dataset.shape) for dataset in arrays)
    with blaming(file.where, "the configuration"), values_come_later(count):
        check_layers(file.config, len(arrays))
        model = _made(reader.model(file.config))
    with blaming(file.where, "the weights"):
        load_into(model, file, reader.cudnn)
        load_random(model, file.root)
    if compile and file.compilation:
        slots = _slots_in(file.root)
        _compile(model, reader, file.compilation, slots, record)
    config = file.config
    run_both(record, check, lambda: _compare(file, config, model, record, check))
    return model


def _compare(
    file: KerasFile, config: dict[str, Any], model: Model, record: Conversion, check: bool | None
) -> None:
    """Runs the model beside the one that Keras makes of what was read."""
    if not check:
        refuse_large(model)
    random_inputs(model)  # before Keras is imported: there may be none
    original = original_of(file, config, record)
    try:
        compare_with_live(original, model, record)
    except ValueError as error:
        raise ValueError(f"{file.where}: {error}") from error


def _compare_weights(file: KerasFile, model: Model, record: Conversion, check: bool | None) -> None:
    """The same for weights alone: the configuration is that of the model that took them."""
    _compare(file._replace(version=3), keras_config_of(model), model, record, check)


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _made(config: dict[str, Any]) -> Model:
    model = deserialize(config)
    if not isinstance(model, Model):
        raise ValueError(f"it describes a {type(model).__name__}, expected a model")
    if not model.built:
        raise ValueError("it describes a model whose input shape is not known")
    model.named_variables()  # goes through all calls of layers, of which there may be too many
    return model


def load_into(model: Model, file: KerasFile, cudnn: set[str], loading: Loading | None = None) -> None:
    """Sets the weights of a model, all or none.

    Args:
        model: the model.
        file: what was read.
        cudnn: names of the layers whose weights are laid out for cuDNN.
        loading: which layers take theirs; all by default.

    Raises:
        ValueError: the file has other weights.
    """
    if not model.built:
        raise ValueError(f"{model.label()}: has no weights before it is built: call build(input_shape) first")
    if file.layers:
        listed = layer_list(file.root)
        assert listed is not None
        load_layers(model, listed, cudnn, loading)
    else:
        load_tree(model, file.root, loading)


# --- what compile was given -----------------------------------------------------------------------


def _slots_in(root: Group) -> list[Any] | None:
    """The optimizer's variables in the order in which Keras lists them; None where there are none."""
    numbered = root.group("optimizer/vars")
    if numbered is not None:
        found = [numbered.dataset(str(i)) for i in range(len(numbered.members))]
        return None if None in found else found
    group = root.group("optimizer_weights")
    if group is None:
        return None
    found = [group.dataset(name) for name in names_in(group, "weight_names")]
    return None if None in found else found


def _compile(
    model: Model, reader: KerasConfig, data: Mapping[str, Any], slots: list[Any] | None, record: Conversion
) -> None:
    """Compiles where everything is known here. A model without it still predicts, so that this is a note."""
    try:
        with values_come_later(0):
            model.compile_from_config(reader.compilation(data))
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        record.note(f"what compile() was given is not taken over ({error}); call compile()")
        return
    optimizer = model.optimizer
    if not slots or optimizer is None or len(slots) <= 1:  # it has taken no step
        return
    if reader.version < 3 and _is_legacy(data.get("optimizer", data.get("optimizer_config"))):
        record.note("the optimizer's state is in the order of old optimizers and not taken over")
        return
    optimizer.build(model.variables_to_train())
    own = optimizer.variables
    if len(slots) == len(own) - 1 and own[1].name == "learning_rate":  # no variable in Keras 2
        slots = [slots[0], _Known(np.asarray(own[1].numpy())), *slots[1:]]
    if len(slots) == len(own) and all(
        tuple(stored.shape) == tuple(variable.shape) and (stored.dtype.kind == "f") == (i > 0)
        for i, (stored, variable) in enumerate(zip(slots, own, strict=True))
    ):
        optimizer.set_weights([stored.read() for stored in slots])
    else:
        with values_come_later(0):
            model.compile_from_config(reader.compilation(data))
        record.note(
            f"the optimizer's state has another form ({len(slots)} arrays, expected {len(own)}) and is not "
            "taken over: training begins with new moments"
        )


def _is_legacy(optimizer: Any) -> bool:
    """Whether an optimizer of Keras 2 is of the kind that it had before 2.11, which orders slots by name."""
    config = optimizer.get("config") if isinstance(optimizer, dict) else None
    return not isinstance(config, dict) or config.get("is_legacy_optimizer") is not False


# --- live models ----------------------------------------------------------------------------------


class _Known(NamedTuple):
    """A value that the file leaves out."""

    value: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> Any:
        return self.value.dtype

    def read(self) -> Array:
        return self.value


class _Held(NamedTuple):
    """A weight of a live model."""

    variable: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.variable.shape)

    @property
    def dtype(self) -> Any:
        return self.read().dtype

    def read(self) -> Array:
        value = self.variable.numpy()
        return value.astype("float32") if value.dtype.kind == "V" else value  # type: ignore[no-any-return]


def _from_live(source: Any, record: Conversion, compile: bool, check: bool | None) -> Model:
    package = _package_of(source)
    version = major_version(getattr(package, "__version__", None), False)
    if not getattr(source, "built", False):
        raise ValueError("from_keras: the model is not built: call it on data, or build(input_shape), first")
    try:
        config = package.saving.serialize_keras_object(source)
    except (NotImplementedError, TypeError) as error:
        raise ValueError(f"from_keras: the model has no configuration: {error}") from error
    reader = KerasConfig(version, record)
    model = _made(reader.model(_plain(config)))
    listed = [
        (layer.name, [_Held(w) for w in (*layer.trainable_weights, *layer.non_trainable_weights)])
        for layer in source.layers
    ]
    with blaming("from_keras", "the weights"):
        load_layers(model, listed, set())
    if compile and getattr(source, "optimizer", None) is not None:
        compilation = _plain(config.get("compile_config"))
        if isinstance(compilation, dict):
            held = getattr(source.optimizer, "variables", None)
            slots = [_Held(v) for v in (held() if callable(held) else held or ())]
            _compile(model, reader, compilation, slots, record)

    def run() -> None:
        if not reader.same_precision:
            raise NotRun("it computes in another precision than float32")
        if not check:
            refuse_large(model)
        compare_with_live(source, model, record)

    run_both(record, check, run)
    return model


def _package_of(source: Any) -> Any:
    """The module of Keras that a model comes from: it is imported already."""
    for kind in type(source).__mro__:
        top = kind.__module__.partition(".")[0]
        if top in ("keras", "tf_keras"):
            return sys.modules[top]
    raise TypeError(
        f"from_keras: got a {type(source).__name__} that is no model of keras or tf_keras; save it to a file "
        "and pass its path"
    )


def _plain(data: Any) -> Any:
    """Configurations of live models as JSON would have them."""
    if isinstance(data, Mapping):
        return {key: _plain(value) for key, value in data.items()}
    return [_plain(item) for item in data] if isinstance(data, list | tuple) else data
