"""Objects as plain data that JSON can hold, and objects from such data. Floor 4.

An object is `{"module": ..., "class_name": ..., "config": {...}}`, its configuration being the arguments of
its constructor. Data may come from strangers: nothing is imported or run because of a name in it. Names are
looked up in a fixed table of the package's own classes, and among what the caller registered or lent.
"""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lstm_native import registration
from lstm_native.arrays import to_numpy
from lstm_native.configurable import Configurable, short
from lstm_native.errors import nearest

# Functions of the namespaces that compute no activation, loss or metric.
_NO_VALUES = ("get", "name_of", "native_name", "name_and_config", "snake_case", "unknown_name")
_DTYPES = (
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "bool",
)  # fmt: skip


def serialize(obj: Any) -> Any:
    """`obj` as plain data.

    Args:
        obj: what has `get_config()`: layers, models, optimizers, schedules, initializers, regularizers,
            constraints, losses, metrics; a function of the package or a registered one; or None, a bool, a
            number, a string, an array, or lists and dicts of all these. Tuples become lists.

    Returns:
        For an object `{"module", "class_name", "config"}`; for one of a class of the caller
        `{"class_name", "config", "registered_name"}`.

    Raises:
        TypeError: something that cannot be found again by a name.
    """
    if obj is None or isinstance(obj, bool | str):
        return obj
    if isinstance(obj, int | float | np.bool_ | np.number):
        return _number(obj)
    if isinstance(obj, list | tuple):
        return [serialize(item) for item in obj]
    if isinstance(obj, dict):
        if not all(isinstance(key, str) for key in obj):
            raise TypeError(f"serialize: got a dict with the keys {short(list(obj))}, expected strings")
        return {key: serialize(value) for key, value in obj.items()}
    if isinstance(obj, np.ndarray):
        if obj.dtype.kind not in "fiub":
            raise TypeError(f"serialize: got an array of {obj.dtype}, expected numbers")
        values = serialize(obj.tolist())
        return {"class_name": "__numpy__", "config": {"value": values, "dtype": obj.dtype.name}}
    if isinstance(obj, np.dtype) or (isinstance(obj, type) and issubclass(obj, np.generic)):
        return np.dtype(obj).name
    if not isinstance(obj, type) and hasattr(obj, "get_config"):
        config = serialize(obj.get_config())
        return {**_name_of_class(type(obj)), "config": config}
    if callable(obj):
        return _function(obj)
    raise TypeError(f"serialize: got a {type(obj).__name__}, which has no get_config()")


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """What `serialize` made plain data of.

    Args:
        config: the data.
        custom_objects: classes and functions of the caller by name, beside those that
            `utils.register_serializable` knows.

    Returns:
        A new object for each dict with "class_name"; other data as they are, in new lists and dicts.

    Raises:
        ValueError: an unknown name, or arguments that are missing, unknown or wrong.
        TypeError: arguments of a wrong type.
    """
    with registration.custom_object_scope(custom_objects):
        try:
            return _made(config)
        except RecursionError:
            raise ValueError("deserialize: the configuration is nested too deeply") from None


def _number(number: Any) -> Any:
    value = number.item() if isinstance(number, np.generic) else number
    if isinstance(value, float) and not math.isfinite(value):
        return {"class_name": "__float__", "config": repr(value)}  # JSON has no such numbers
    if not isinstance(value, bool | int | float):
        raise TypeError(f"serialize: got {value!r}, expected a real number")
    return value


def _name_of_class(cls: type) -> dict[str, Any]:
    full = registration.registered_name(cls)
    if full is not None:
        return {"class_name": cls.__name__, "registered_name": full}
    for namespace, classes in _classes().items():
        if classes.get(cls.__name__) is cls:
            return {"module": f"lstm_native.{namespace}", "class_name": cls.__name__}
    return {"class_name": cls.__name__}  # the reader needs custom_objects


def _function(function: Any) -> Any:
    full = registration.registered_name(function)
    name = getattr(function, "__name__", None)
    if full is not None:
        return {"class_name": "function", "config": name, "registered_name": full}
    for namespace, functions in _functions().items():
        if name is not None and functions.get(name) is function:
            if namespace == "activations":
                return name
            return {"module": f"lstm_native.{namespace}", "class_name": "function", "config": name}
    if isinstance(function, type) or name is None or name == "<lambda>":
        raise TypeError(
            f"serialize: got {function!r}, which no name stands for; give a function with a name, or an "
            "object with get_config()"
        )
    return {"class_name": "function", "config": name}


def _made(data: Any) -> Any:
    if isinstance(data, list | tuple):
        return [_made(item) for item in data]
    if not isinstance(data, dict):
        return data
    if "class_name" not in data:
        return {key: _made(value) for key, value in data.items()}
    name, config = data["class_name"], data.get("config")
    if not isinstance(name, str):
        raise ValueError(f"deserialize: class_name is {short(name)}, expected a string")
    if name in _PLAIN:
        return _PLAIN[name](config)
    if name == "function":
        return _found(data, config, "function", _functions())
    cls = _found(data, name, "class", _classes())
    if config is None:
        config = {}
    if not isinstance(config, dict):
        raise ValueError(f"{name}: configuration is {short(config)}, expected a dict")
    try:
        return cls.from_config(dict(config))
    except (TypeError, AttributeError, LookupError, ArithmeticError, AssertionError) as error:
        if isinstance(error, TypeError) and cls.__name__ in str(error):
            raise  # the constructor's own words
        raise ValueError(f"{name}: configuration {short(config)} does not fit ({error!r})") from error


def _found(data: dict[str, Any], name: Any, kind: str, tables: Mapping[str, Mapping[str, Any]]) -> Any:
    """The class or function that `data` names, of the caller or of the package."""
    if not isinstance(name, str):
        raise ValueError(f"deserialize: name of a function is {short(name)}, expected a string")
    registered, module = data.get("registered_name"), data.get("module")
    found = registration.find(registered, name)
    if found is not None:
        if (kind == "class") != (isinstance(found, type) and hasattr(found, "from_config")):
            raise ValueError(f"deserialize: {name!r} names {found!r}, expected a {kind}")
        return found
    namespace = _namespace_of(module)
    known = list(dict.fromkeys(t[name] for n, t in tables.items() if name in t and namespace in (None, n)))
    if len(known) == 1:
        return known[0]
    if known:
        raise ValueError(f"deserialize: there are several {name!r}, expected 'module' beside the class_name")
    near = nearest(name, {n for table in tables.values() for n in table})
    hint = f"did you mean {near!r}? " if near else ""
    raise ValueError(
        f"deserialize: unknown {kind} {short(registered or name)}: {hint}expected one of the package, or one "
        "that utils.register_serializable or custom_objects has made known"
    )


def _namespace_of(module: Any) -> str | None:
    """The namespace that a "module" means; None for any, "" for one of somebody else."""
    if module is None or module == "builtins":
        return None
    parts = module.split(".") if isinstance(module, str) else [""]
    if parts[0] not in ("lstm_native", "keras"):
        return ""
    if "schedules" in parts:
        return "optimizers.schedules"
    named = [part for part in parts[1:] if part in namespaces()]
    return named[0] if named else None


@functools.cache
def _classes() -> dict[str, dict[str, type[Configurable]]]:
    """The classes of the package that configurations may name, by namespace."""
    return {
        namespace: {
            name: item
            for name, item in vars(module).items()
            if isinstance(item, type) and issubclass(item, Configurable) and item is not Configurable
            if item.__name__ == name and not name.startswith("_")
        }
        for namespace, module in namespaces().items()
    }


@functools.cache
def _functions() -> dict[str, dict[str, Callable[..., Any]]]:
    """The functions of the package that configurations may name, by namespace."""
    return {
        namespace: {
            name: item
            for name, item in vars(namespaces()[namespace]).items()
            if isinstance(item, types.FunctionType) and not name.startswith("_")
            if name not in _NO_VALUES
        }
        for namespace in ("activations", "losses", "metrics")
    }


def namespaces() -> dict[str, types.ModuleType]:
    """The namespaces by the names that configurations have for them."""
    from lstm_native import (  # not at the top: all of them use this file
        activations,
        constraints,
        initializers,
        layers,
        losses,
        metrics,
        models,
        optimizers,
        regularizers,
    )

    return {
        "activations": activations,
        "constraints": constraints,
        "initializers": initializers,
        "layers": layers,
        "losses": losses,
        "metrics": metrics,
        "models": models,
        "optimizers": optimizers,
        "optimizers.schedules": optimizers.schedules,
        "regularizers": regularizers,
    }


def _array(config: Any) -> Any:
    if not isinstance(config, dict) or set(config) != {"value", "dtype"}:
        raise ValueError(f"deserialize: an array is {short(config)}, expected its value and its dtype")
    if config["dtype"] not in _DTYPES:
        raise ValueError(
            f"deserialize: dtype of an array is {short(config['dtype'])}, expected one of {_DTYPES}"
        )
    return to_numpy(_made(config["value"]), "deserialize", "array").astype(config["dtype"])


def _float(config: Any) -> float:
    if config not in ("nan", "inf", "-inf"):
        raise ValueError(f"deserialize: a number is {short(config)}, expected 'nan', 'inf' or '-inf'")
    return float(config)


def _tuple(config: Any) -> tuple[Any, ...]:
    if not isinstance(config, list | tuple):
        raise ValueError(f"deserialize: a tuple is {short(config)}, expected a list of its items")
    return tuple(_made(item) for item in config)


def _policy(config: Any) -> Any:
    name = config.get("name") if isinstance(config, dict) else None
    if name not in _DTYPES:
        raise ValueError(f"deserialize: a dtype policy is {short(config)}, expected the name of a dtype")
    return name


# What stands for plain values; tuples and policies of types come in configurations of Keras only.
_PLAIN: dict[str, Callable[[Any], Any]] = {
    "__numpy__": _array,
    "__float__": _float,
    "__tuple__": _tuple,
    "DTypePolicy": _policy,
}
