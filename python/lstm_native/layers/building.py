"""Building layers: one lock for all, nothing left behind by a failure, and when plans are stale. Floor 4."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lstm_native.locks import Lock

if TYPE_CHECKING:
    from lstm_native.layers.base import Layer

# One lock for all building: it is rare, and layers may be shared between models.
build_lock = Lock()
_structure_versions = itertools.count(1)
_structure_version = 0


def structure_version() -> int:
    """Changes whenever a layer is built or its `trainable` is set; plans made before are stale."""
    return _structure_version


def structure_changed() -> None:
    """Makes every stored plan stale."""
    global _structure_version
    _structure_version = next(_structure_versions)


@contextmanager
def restored_on_error(layers: Sequence[Layer]) -> Iterator[None]:
    """Puts every attribute of `layers` back when the body fails: a failed build leaves no trace."""
    before = [(layer, layer.__dict__.copy(), list(layer._variables)) for layer in with_held(layers)]
    try:
        yield
    except BaseException:
        for layer, attributes, variables in before:
            # Nothing is missing at any moment, for other threads may be reading.
            layer.__dict__.update(attributes)
            for name in layer.__dict__.keys() - attributes.keys():
                del layer.__dict__[name]
            layer._variables = variables
        raise


def building(build: Callable[..., None]) -> Callable[..., None]:
    """A `build` of a subclass, which needs no lock and no `built` of its own."""

    @functools.wraps(build)
    def once(self: Layer, *args: Any, **kwargs: Any) -> None:
        if self.built:
            return
        with build_lock, restored_on_error([self]):
            if not self.built:
                build(self, *args, **kwargs)
                self.built = True
                structure_changed()

    return once


def with_held(layers: Sequence[Layer]) -> Iterator[Layer]:
    """The layers, and those inside them, of whatever depth."""
    for layer in layers:
        yield layer
        yield from with_held(layer.held_layers())
