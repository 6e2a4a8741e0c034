"""A weight of a layer: native storage with a name, and whether training changes it."""

from __future__ import annotations

import copyreg
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native import _core
from lstm_native.arrays import to_float32


def _reduce_tensor(tensor: _core.Tensor) -> tuple[Any, ...]:
    return _core.as_tensor, (tensor.numpy(), tensor.dtype)


# Copies and pickles of layers hold tensors (the state of stateful ones).
copyreg.pickle(_core.Tensor, _reduce_tensor)


class Variable(_core.Variable):
    """A named float32 weight.

    Attributes:
        name: name inside its layer, such as "kernel".
        path: name with the layer's in front, such as "lstm/kernel".
        trainable: whether an optimizer may change it.
    """

    def __init__(self, value: Any, name: str, trainable: bool = True, path: str | None = None) -> None:
        # A copy: the storage must not be an array that somebody else can write to.
        super().__init__(_core.as_tensor(value, "float32").copy())
        self.name = name
        self.path = path or name
        self.trainable = trainable

    @property
    def value(self) -> npt.NDArray[np.float32]:
        """A copy of the values."""
        return self.numpy()

    def check(self, value: Any) -> _core.Tensor:
        """`value` as a tensor that fits this variable.

        Raises:
            ValueError: its shape differs.
            TypeError: it holds no numbers.
        """
        tensor = to_float32(value, self.path, "value")
        if tensor.shape != self.shape:
            raise ValueError(f"{self.path}: value has shape {tensor.shape}, expected {self.shape}")
        return tensor

    def assign(self, value: Any) -> None:
        """Copies `value`, an array of the variable's shape, into it."""
        super().assign(self.check(value))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        values = self.numpy()
        return values if dtype is None else values.astype(dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.numpy(), self.name, self.trainable, self.path)

    def __repr__(self) -> str:
        return f"<Variable {self.path}, shape={self.shape}, trainable={self.trainable}>"
