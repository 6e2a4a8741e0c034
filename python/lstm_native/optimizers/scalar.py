"""Scalar: the numbers that an optimizer keeps beside its slots. Floor 4."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


class Scalar(np.lib.mixins.NDArrayOperatorsMixin):
    """A number with a name that an optimizer keeps beside its slots; computes like a NumPy scalar.

    Attributes:
        name, path: What it is called.
        dtype: "float32" or "int64".
        trainable: Always False.
    """

    shape: tuple[int, ...] = ()
    trainable = False

    def __init__(self, name: str, dtype: str, value: float) -> None:
        self.name = self.path = name
        self.dtype = dtype
        self._type = np.dtype(dtype).type
        self.assign(value)

    def assign(self, value: Any) -> None:
        """Sets the number, rounded to `dtype`.

        Raises:
            ValueError: `value` is no single number.
        """
        given = np.asarray(value)
        if given.size != 1 or given.dtype.kind not in "biuf":
            raise ValueError(f"{self.name}: value is {value!r}, expected a single number")
        # Kept as a Python number: reading it is what happens at every step.
        self._value: float = self._type(given.reshape(())).item()

    @property
    def value(self) -> Any:
        """The number as a NumPy scalar."""
        return self._type(self._value)

    def numpy(self) -> Any:
        """The number as a NumPy scalar."""
        return self._type(self._value)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self._value, dtype=self._type if dtype is None else dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        plain = (x.value if isinstance(x, Scalar) else x for x in inputs)
        return getattr(ufunc, method)(*plain, **kwargs)

    # Equality compares numbers, so this is no key of a dictionary.
    __hash__ = None  # type: ignore[assignment]

    def __float__(self) -> float:
        return float(self._value)

    def __int__(self) -> int:
        return int(self._value)

    def __index__(self) -> int:
        return self._type(self._value).__index__()  # type: ignore[no-any-return]

    def __bool__(self) -> bool:
        return bool(self._value)

    def __format__(self, spec: str) -> str:
        return format(self._value, spec)

    def __repr__(self) -> str:
        return f"<{self.name} = {self._value}>"
