"""Initial values of weights, under the Keras names and by name. Floor 4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lstm_native import _core
from lstm_native.errors import unknown_name
from lstm_native.initializers.base import Array, Initializer
from lstm_native.initializers.fixed import Constant, GivenValues, Identity, Ones, Zeros
from lstm_native.initializers.random import (
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    LecunNormal,
    LecunUniform,
    Orthogonal,
    RandomInitializer,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
)
from lstm_native.naming import name_and_config

__all__ = [
    "Constant",
    "GivenValues",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Identity",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "Orthogonal",
    "RandomInitializer",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
    "constant",
    "get",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "identity",
    "lecun_normal",
    "lecun_uniform",
    "ones",
    "orthogonal",
    "random_normal",
    "random_uniform",
    "truncated_normal",
    "variance_scaling",
    "zeros",
]

# Keras has these names too.
constant = Constant
glorot_normal = GlorotNormal
glorot_uniform = GlorotUniform
he_normal = HeNormal
he_uniform = HeUniform
identity = Identity
lecun_normal = LecunNormal
lecun_uniform = LecunUniform
ones = Ones
orthogonal = Orthogonal
random_normal = RandomNormal
random_uniform = RandomUniform
truncated_normal = TruncatedNormal
variance_scaling = VarianceScaling
zeros = Zeros

_CLASSES: dict[str, type[Initializer]] = {
    "zeros": Zeros,
    "ones": Ones,
    "constant": Constant,
    "identity": Identity,
    "random_uniform": RandomUniform,
    "random_normal": RandomNormal,
    "truncated_normal": TruncatedNormal,
    "variance_scaling": VarianceScaling,
    "glorot_uniform": GlorotUniform,
    "glorot_normal": GlorotNormal,
    "he_uniform": HeUniform,
    "he_normal": HeNormal,
    "lecun_uniform": LecunUniform,
    "lecun_normal": LecunNormal,
    "orthogonal": Orthogonal,
}
_NAMES: dict[str, type[Initializer]] = {
    **_CLASSES,
    **{cls.__name__: cls for cls in _CLASSES.values()},
    "zero": Zeros,
    "one": Ones,
    "uniform": RandomUniform,
    "normal": RandomNormal,
    "IdentityInitializer": Identity,
    "OrthogonalInitializer": Orthogonal,
}


def get(identifier: Any) -> Callable[..., Array] | None:
    """The initializer that `identifier` stands for.

    Args:
        identifier: A name ("glorot_uniform", "GlorotUniform", "uniform", ...), an `Initializer`, its
            class, a configuration `{"class_name": ..., "config": {...}}`, an array of values, any
            callable `(shape, dtype=None) -> array`, or None.

    Returns:
        A callable `(shape, dtype=None) -> array`; None for None.

    Raises:
        ValueError: Unknown name, or something that is none of these.
    """
    if identifier is None or isinstance(identifier, Initializer):
        return identifier
    identifier, config = name_and_config("initializer", identifier)
    if isinstance(identifier, str):
        if identifier not in _NAMES:
            raise unknown_name("initializer", identifier, _NAMES)
        return _NAMES[identifier].from_config(config)
    if isinstance(identifier, type) and issubclass(identifier, Initializer):
        return identifier()
    if isinstance(identifier, (np.ndarray, np.generic, _core.Tensor)):
        return GivenValues(np.array(identifier))
    if callable(identifier):
        function: Callable[..., Array] = identifier
        return function
    raise ValueError(f"initializer: cannot interpret {identifier!r}, expected a name, an object or an array")
