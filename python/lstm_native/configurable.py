"""Configurable: what can say how it was made, and be made again from that. Floor 4."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from inspect import Parameter, Signature


class _ClassSignature:
    """`__signature__` of a class: the arguments that its constructor takes, for itself and for its bases."""

    def __get__(self, instance: Any, owner: type[Configurable]) -> Signature:
        if instance is not None:
            raise AttributeError("__signature__")
        import inspect  # not at the top, here and below: it costs, and few programs come here

        return inspect.Signature(owner.constructor_parameters())


class Configurable:
    """Base of what has a configuration: its constructor's arguments as data that JSON can hold.

    The constructors' signatures say what the arguments are: those of the class, and where it hands on
    `**kwargs`, those of its bases. Their values are in attributes of the same names. So a subclass writes its
    arguments once; `get_config` and `from_config` need no overriding, but may be overridden as in Keras.
    """

    # Arguments whose values are in attributes of other names; None keeps one out of the configuration.
    config_attributes: ClassVar[dict[str, str | None]] = {}
    __signature__ = _ClassSignature()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as data that JSON can hold.

        In a subclass that overrides it, `super().get_config()` gives the arguments of its bases.
        """
        from lstm_native.serialization import serialize

        kinds = type(self).__mro__
        last = max((i for i, kind in enumerate(kinds) if "get_config" in vars(kind)), default=0)
        overriding = [i for i, kind in enumerate(kinds[:last]) if "get_config" in vars(kind)]
        known = kinds[overriding[-1] + 1 :] if overriding else kinds
        taken = type(self).constructor_parameters(known)
        return {name: serialize(value) for name, value in self.arguments(taken).items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """An object from `get_config()`.

        Raises:
            ValueError: an argument is missing, unknown or wrong.
        """
        from lstm_native.serialization import deserialize

        check_names(cls, config)
        return cls(**{name: deserialize(value) for name, value in config.items()})

    @classmethod
    def constructor_parameters(cls, kinds: Sequence[type] | None = None) -> list[Parameter]:
        """The arguments of the constructor, and of those that it hands `*args` and `**kwargs` on to.

        Args:
            kinds: the class and its bases in the order in which Python looks at them.
        """
        return list(_merged(cls.__mro__ if kinds is None else tuple(kinds)))

    def arguments(self, taken: Sequence[Parameter] | None = None) -> dict[str, Any]:
        """What the constructor would make another such object from, by name.

        Args:
            taken: the arguments wanted; all by default.
        """
        found = {}
        for parameter in type(self).constructor_parameters() if taken is None else taken:
            name = parameter.name
            attribute = _attribute_of(type(self), name)
            if attribute is not None:
                found[name] = self.argument(name, attribute)
        return found

    def argument(self, name: str, attribute: str) -> Any:
        """The value of the argument `name`, which is expected in `attribute`."""
        try:
            return getattr(self, attribute)
        except AttributeError:
            raise NotImplementedError(
                f"{type(self).__name__}: get_config() finds no attribute {attribute!r} with the argument "
                f"{name!r}, set it in the constructor or define get_config()"
            ) from None


def check_names(cls: type[Configurable], config: Any) -> None:
    """Raises ValueError unless `config` has the arguments that `cls` needs, and no others."""
    if not isinstance(config, dict) or not all(isinstance(name, str) for name in config):
        raise ValueError(f"{cls.__name__}: configuration is {short(config)}, expected a dict of arguments")
    taken = {parameter.name: parameter for parameter in cls.constructor_parameters()}
    missing = [name for name, p in taken.items() if p.default is p.empty and name not in config]
    if missing:
        raise ValueError(f"{cls.__name__}: configuration lacks {', '.join(map(repr, missing))}")
    unknown = [name for name in config if name not in taken]
    if unknown and not _takes_any(cls):
        raise ValueError(
            f"{cls.__name__}: configuration has {', '.join(map(repr, unknown))}, expected no more than "
            f"{', '.join(taken)}"
        )


def class_with(cls: type, argument: str) -> type:
    """The class among `cls` and its bases whose constructor names `argument`; `cls` when none does."""
    from inspect import signature

    makers = (kind for kind in cls.__mro__ if "__init__" in vars(kind))
    return next((kind for kind in makers if argument in signature(vars(kind)["__init__"]).parameters), cls)


def short(value: Any) -> str:
    """`repr` of data from outside, of which a message quotes no more than a line."""
    try:
        text = repr(value)
    except RecursionError:
        text = f"a {type(value).__name__} of great depth"
    return text if len(text) <= 80 else text[:77] + "..."


def _attribute_of(cls: type, argument: str) -> str | None:
    for kind in cls.__mro__:
        known: Mapping[str, str | None] = vars(kind).get("config_attributes", {})
        if argument in known:
            return known[argument]
    return argument


@functools.lru_cache(256)  # files name the same few classes thousands of times
def _merged(kinds: tuple[type, ...]) -> list[Parameter]:
    from inspect import Parameter, signature

    makers = [kind for kind in kinds if kind is not object and "__init__" in vars(kind)]
    if not makers:
        return []
    own = list(signature(vars(makers[0])["__init__"]).parameters.values())[1:]
    found = [p for p in own if p.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)]
    by_position = any(p.kind is Parameter.VAR_POSITIONAL for p in own)
    if any(p.kind is Parameter.VAR_KEYWORD for p in own):
        names = {p.name for p in found}
        # What a base cannot do without and this class does not take, it passes by itself.
        more = (
            p
            for p in _merged(kinds[kinds.index(makers[0]) + 1 :])
            if p.name not in names and p.default is not p.empty
        )
        found += more if by_position else (p.replace(kind=Parameter.KEYWORD_ONLY) for p in more)
    return sorted(found, key=lambda p: p.kind)  # keeps the order of those of one kind


def _takes_any(cls: type) -> bool:
    """Whether the last constructor in the row looks at unknown arguments by itself."""
    from inspect import Parameter, signature

    makers = [vars(kind)["__init__"] for kind in cls.__mro__[:-1] if "__init__" in vars(kind)]
    return bool(makers) and all(
        any(p.kind is Parameter.VAR_KEYWORD for p in signature(maker).parameters.values()) for maker in makers
    )
