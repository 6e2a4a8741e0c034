"""Trees: values in lists, tuples and dicts in each other, as calls take and return them. Floor 4.

The leaves of dicts are in the order of their keys, sorted, as in Keras.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def is_shape(part: Any) -> bool:
    """Whether `part` is one shape, rather than several in a list or tuple."""
    return isinstance(part, list | tuple) and all(size is None or hasattr(size, "__index__") for size in part)


def flat(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[Any]:
    """The leaves of a tree: all that is no list, tuple or dict, and that for which `is_leaf` holds."""
    if is_leaf is not None and is_leaf(tree):
        return [tree]
    if isinstance(tree, dict):
        tree = [tree[key] for key in sorted(tree)]
    if not isinstance(tree, list | tuple):
        return [tree]
    return [leaf for item in tree for leaf in flat(item, is_leaf)]


def nested(structure: Any, leaves: Sequence[Any], is_leaf: Callable[[Any], bool] | None = None) -> Any:
    """`leaves` in a tree like `structure`."""
    remaining = iter(leaves)

    def build(part: Any) -> Any:
        if is_leaf is not None and is_leaf(part):
            return next(remaining)
        if isinstance(part, dict):
            built = {key: build(part[key]) for key in sorted(part)}
            return {key: built[key] for key in part}
        if isinstance(part, list | tuple):
            return type(part)([build(item) for item in part])
        return next(remaining)

    return build(structure)
