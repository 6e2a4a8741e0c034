"""Damage to good files: odd values in JSON, a few hundred times in tests and more often in fuzzing."""

from __future__ import annotations

import contextlib
import copy
import random
from typing import Any

ODD: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    1 << 31,
    -(1 << 31),
    1 << 63,
    1 << 64,
    10**30,
    0.5,
    -0.0,
    1e300,
    "",
    "x",
    "0",
    "\0",
    "linear",
    "softmax",
    "os.system",
    "/dev/zero",
    "../x",
    [],
    {},
    [[]],
    [None],
    [0],
    ["x"],
    [1, 2, 3],
    {"class_name": "Dense", "config": {"units": 2}},
    {"class_name": "LSTM", "config": {}},
    {"class_name": "Lambda"},
    {"class_name": "function", "config": "relu"},
    {"class_name": "__numpy__", "config": {"value": [1], "dtype": "f"}},
    {"class_name": "__float__", "config": "nan"},
    {"class_name": "__tuple__", "config": [1, 2]},
    {"class_name": "Sequential", "config": {"layers": []}},
    {"module": "os", "class_name": "system", "config": "ls"},
]


def with_odd_values(value: Any, rng: random.Random, changes: int) -> Any:
    """JSON with a few of its values replaced, removed, doubled or exchanged."""
    places: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        for key, item in list(node.items() if isinstance(node, dict) else enumerate(node)):
            places.append((node, key))
            if isinstance(item, dict | list):
                collect(item)

    collect(value)
    for _ in range(changes):
        node, key = rng.choice(places)
        other, at = rng.choice(places)
        with contextlib.suppress(KeyError, IndexError):  # gone by an earlier change
            kind = rng.randrange(6)
            if kind == 0:
                del node[key]
            elif kind == 1:
                node[key] = copy.deepcopy(other[at])
            elif kind == 2 and isinstance(node, list):
                node.insert(key, copy.deepcopy(node[key]))
            elif kind == 3 and isinstance(node, dict):
                node[rng.choice(list(other)) if isinstance(other, dict) else "x"] = node.pop(key)
            else:
                node[key] = copy.deepcopy(rng.choice(ODD))
    return value
