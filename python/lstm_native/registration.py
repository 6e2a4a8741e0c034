"""The classes and functions of the caller that configurations may name. Floor 4."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

# What `register_serializable` was given, by "package>name", and the other way round.
_registered: dict[str, Any] = {}
_names: dict[Any, str] = {}
_lent: ContextVar[dict[str, Any]] = ContextVar("custom_objects", default={})  # noqa: B039 - never changed


def register_serializable(package: str = "Custom", name: str | None = None) -> Callable[[T], T]:
    """A decorator for classes and functions that configurations and files may name.

        @register_serializable("my_package")
        class Doubled(Layer):
            ...

    Args:
        package: keeps names of different packages apart.
        name: the name in configurations; by default that of the class or function.

    Returns:
        The decorator; it gives back what it decorates.

    Raises:
        ValueError: a class without `get_config` and `from_config`, a lambda, or a name that something else
            has.
    """

    def register(item: T) -> T:
        own = name or getattr(item, "__name__", "")
        if not callable(item) or not own or own == "<lambda>":
            raise ValueError(
                f"register_serializable: got {item!r}, expected a class or a function with a name"
            )
        if isinstance(item, type) and not all(hasattr(item, m) for m in ("get_config", "from_config")):
            raise ValueError(
                f"register_serializable: {own} has no get_config() and from_config(), subclass a class of "
                "lstm_native or define them"
            )
        full = f"{package}>{own}"
        other = _registered.get(full, item)
        if other is not item and _place(other) != _place(item):  # a module that is run again replaces
            raise ValueError(f"register_serializable: {full!r} is registered already, for {other!r}")
        _registered[full] = item
        _names[item] = full
        return item

    return register


def _place(item: Any) -> tuple[Any, Any]:
    return getattr(item, "__module__", None), getattr(item, "__qualname__", None)


@contextmanager
def custom_object_scope(custom_objects: Mapping[str, Any] | None) -> Iterator[None]:
    """Lets configurations name more classes and functions inside a `with` statement.

    Args:
        custom_objects: classes and functions by the names that configurations have for them.

    Raises:
        TypeError: something that is no dict of classes and functions.
    """
    objects = {} if custom_objects is None else custom_objects
    if not isinstance(objects, Mapping) or not all(callable(item) for item in objects.values()):
        raise TypeError(f"custom_objects is {objects!r}, expected a dict of classes and functions by name")
    token = _lent.set(_lent.get() | dict(objects))
    try:
        yield
    finally:
        _lent.reset(token)


def registered_name(item: Any) -> str | None:
    """ "package>name" of a class or function; None when it is not registered."""
    return _names.get(item)


def find(*names: Any) -> Any:
    """What the caller lent or registered under the first of `names` that is known; None when none is."""
    for known in (_lent.get(), _registered):
        for name in names:
            if isinstance(name, str) and name in known:
                return known[name]
    return None
