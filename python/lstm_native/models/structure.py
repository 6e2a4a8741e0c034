"""Structure: the form in which a functional model was given its inputs or outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lstm_native.trees import flat, nested


class Structure:
    """One value, or lists, tuples and dicts of values, in each other too.

    Args:
        given: the values.

    Attributes:
        values: the values as a list, until `forget_values`.
        keys: keys of a dict of single values; empty for others.
    """

    def __init__(self, given: Any) -> None:
        self.values: list[Any] = flat(given)
        self._count = len(self.values)
        self._form = nested(given, [None] * self._count)
        plain = isinstance(self._form, dict) and len(self._form) == self._count
        self.keys: list[str] = sorted(self._form) if plain else []

    def forget_values(self) -> None:
        """Keeps the structure alone."""
        self.values = []

    def pack(self, values: Sequence[Any]) -> Any:
        """`values` in this structure."""
        return nested(self._form, values)

    def flatten(
        self,
        given: Any,
        names: Sequence[str],
        ranks: Sequence[int],
        what: str,
        may_lack: bool = False,
    ) -> list[Any]:
        """Data for the values as a list.

        Args:
            given: an array for one value, else data in this structure, a list in the order of the values, or
                a dict by name.
            names: names of the values.
            ranks: numbers of their axes, which tell a list of one array from a nested list.
            what: what the data are, for messages.
            may_lack: whether a dict may leave out some, which are None then.

        Raises:
            ValueError: another number of values, or other names.
        """
        count = self._count
        if isinstance(self._form, dict) and not self.keys and isinstance(given, dict):
            leaves = _leaves(self._form, given)
            if leaves is not None:
                return leaves
        if isinstance(given, dict):
            unknown = [name for name in given if name not in names]
            lacking = [name for name in names if name not in given and not may_lack]
            if unknown or lacking:
                raise ValueError(f"{what} has the keys {list(given)}, expected {list(names)}")
            return [given.get(name) for name in names]
        if count == 1:
            # [x] for x; a list of numbers or rows is an array itself.
            if isinstance(given, list | tuple) and len(given) == 1:
                shape = getattr(given[0], "shape", None)
                if shape is not None and len(shape) == ranks[0]:
                    return [given[0]]
            return [given]
        if isinstance(given, list | tuple):
            leaves = _leaves(self._form, given)
            if leaves is None and len(given) == count:
                leaves = list(given)
            if leaves is not None:
                return leaves
        seen = f"{len(given)} items" if isinstance(given, list | tuple) else f"a {type(given).__name__}"
        raise ValueError(f"{what} is {seen}, expected {self._expected(names)} or a dict by {list(names)}")

    def _expected(self, names: Sequence[str]) -> str:
        if len(self._form) == self._count:
            return f"a list of {self._count}"
        return f"data in the form {self.pack(names)}, a list of {self._count}"


def _leaves(form: Any, given: Any) -> list[Any] | None:
    """The parts of `given` where `form` has leaves; None where `given` is built otherwise."""
    if isinstance(form, dict):
        if not isinstance(given, dict) or given.keys() != form.keys():
            return None
        keys = sorted(form)
        form, given = [form[key] for key in keys], [given[key] for key in keys]
    elif not isinstance(form, list | tuple):
        return [given]
    if not isinstance(given, list | tuple) or len(given) != len(form):
        return None
    parts = [_leaves(*pair) for pair in zip(form, given, strict=True)]
    return None if None in parts else [leaf for part in parts for leaf in part or ()]
