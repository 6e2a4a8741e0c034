"""Making models for a file that holds their weights: no start values, and no more than fits. Floor 4."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

# Calls of layers that a model in a file may have. Models that call a model twice, which calls a model twice,
# and so on, have more than any computer can list, though their files are small.
_MAX_CALLS = 10_000


# Numbers that all other objects may make when they are made, thresholds of metrics for example.
_MAX_OTHERS = 100_000


# Layers that have a weight of their own, whatever their arguments; and how many of them need no second look.
_WITH_WEIGHTS = frozenset(
    ("Dense", "Embedding", "LSTM", "GRU", "SimpleRNN", "LSTMCell", "GRUCell", "SimpleRNNCell")
)
_MANY = 100


class _Room(threading.local):
    """What may still be made in this thread.

    Attributes:
        left: numbers of weights; None for the usual way, without limits.
        others: numbers of other objects.
    """

    left: int | None = None
    others: int = 0


_room = _Room()


@contextmanager
def values_come_later(count: int) -> Iterator[None]:
    """Inside a `with` statement, new weights of this thread are zero and their initializers do not run.

    Args:
        count: numbers that all these weights together may have. One more raises ValueError before any memory
            is taken.
    """
    before = _room.left, _room.others
    _room.left, _room.others = count, _MAX_OTHERS
    try:
        yield
    finally:
        _room.left, _room.others = before


@contextmanager
def weights_for_a_while() -> Iterator[None]:
    """Weights that are made inside a `with` statement are thrown away again and take no room from others."""
    before = _room.left
    try:
        yield
    finally:
        _room.left = before


def check_room(argument: str, count: int) -> None:
    """To be called by who makes `count` numbers because an argument says so.

    Raises:
        ValueError: a file says so, and it is more than there is room for.
    """
    if _room.left is None:
        return
    if count > _room.others:
        raise ValueError(f"{argument} asks for {count} numbers, a file may ask for {_room.others}")
    _room.others -= count


def max_calls() -> int | None:
    """How many calls of layers a model that is made in this thread may have; None for any number."""
    return None if _room.left is None else _MAX_CALLS


def check_layers(config: Any, arrays: int) -> None:
    """Looks whether a configuration may be made, before anything is.

    Args:
        config: of a model, as JSON.
        arrays: how many arrays the file holds.

    Raises:
        ValueError: it has more layers than calls are allowed, or many more than have weights in the file.
    """
    layers = weights = 0
    todo = [config]
    while todo:
        data = todo.pop()
        if isinstance(data, dict):
            inner = data.get("layers")
            layers += len(inner) if isinstance(inner, list) else 0
            name = data.get("class_name")
            weights += isinstance(name, str) and name in _WITH_WEIGHTS
            data = data.values()
        todo += [item for item in data if isinstance(item, dict | list)]
    if layers > _MAX_CALLS:
        raise ValueError(f"the model has {layers} layers, a file may have {_MAX_CALLS}")
    if weights > max(arrays, _MANY):
        raise ValueError(f"it has {weights} layers with weights, the file has {arrays} arrays")


def initial_values(initializer: Callable[..., Any], shape: tuple[int, ...]) -> Any:
    """What `initializer` gives for a new weight of `shape`; zeros where the values come later.

    Raises:
        ValueError: values that come later are more than there is room for.
    """
    if _room.left is None:
        return initializer(shape)
    size = math.prod(shape)
    if size > _room.left:
        raise ValueError(f"a weight of shape {shape} has {size} numbers, there are {_room.left} left")
    _room.left -= size
    return np.zeros(shape, np.float32)
