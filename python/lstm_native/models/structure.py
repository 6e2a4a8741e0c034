"""Structure: the form in which a functional model was given its inputs or outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Structure:
    """One value, or a list, tuple or dict of values.

    Dicts are in the order of their keys, sorted, as in Keras.

    Args:
        given: the values.

    Attributes:
        values: the values as a list, until `forget_values`.
        keys: keys of a dict; empty for others.
    """

    def __init__(self, given: Any) -> None:
        self._kind: type | None = next((k for k in (dict, list, tuple) if isinstance(given, k)), None)
        self.keys: list[str] = sorted(given) if isinstance(given, dict) else []
        self.values: list[Any] = (
            [given[key] for key in self.keys]
            if isinstance(given, dict)
            else list(given)
            if isinstance(given, list | tuple)
            else [given]
        )
        self._count = len(self.values)

    def forget_values(self) -> None:
        """Keeps the structure alone."""
        self.values = []

    def pack(self, values: Sequence[Any]) -> Any:
        """`values` in this structure."""
        if self._kind is None:
            return values[0]
        if self._kind is dict:
            return dict(zip(self.keys, values, strict=True))
        return self._kind(values)

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
            given: an array for one value, else a list in their order or a dict by name.
            names: names of the values.
            ranks: numbers of their axes, which tell a list of one array from a nested list.
            what: what the data are, for messages.
            may_lack: whether a dict may leave out some, which are None then.

        Raises:
            ValueError: another number of values, or other names.
        """
        count = self._count
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
        if isinstance(given, list | tuple) and len(given) == count:
            return list(given)
        seen = f"{len(given)} items" if isinstance(given, list | tuple) else f"a {type(given).__name__}"
        raise ValueError(f"{what} is {seen}, expected a list of {count} or a dict by {list(names)}")
