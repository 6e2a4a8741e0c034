"""Traced: values of a computation that can be gone through backwards: layers and losses in Python. Floor 4.

Inside `recording()` code of the caller gets `Traced` values in the place of arrays. What it computes of them
with operators, NumPy's functions and `ops` goes into a list, each with the rule of its gradient (Wengert,
1964); `Tape.backward` walks that list from its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native import tapes
from lstm_native.tapes import current as current
from lstm_native.variable import Variable

Array = npt.NDArray[Any]
Back = Callable[..., Any]
_Operators = np.lib.mixins.NDArrayOperatorsMixin


class Tape:
    """What was computed, in order.

    Args:
        record: whether gradients will be asked for; else values only carry their masks.
        layer_context: a `layers.Context` that layers called on the way put their states and penalties into.
    """

    def __init__(self, record: bool, layer_context: Any = None) -> None:
        self.record = record
        self.layer_context = layer_context
        self._operations: list[tuple[tuple[Traced, ...], tuple[Traced, ...], Back]] = []
        self._leaves: dict[Variable, Traced] = {}

    def leaf(self, variable: Variable) -> Traced:
        """The value of a variable, one for all uses of it."""
        known = self._leaves.get(variable)
        if known is None:
            known = self._leaves[variable] = Traced(variable.numpy(), self)
        return known

    def add(self, outputs: Sequence[Traced], parents: Sequence[Traced], back: Back) -> None:
        """Adds an operation.

        Args:
            outputs: what it gave.
            parents: what it was given.
            back: takes the gradient of each output, None where there is none; gives one for each parent.
        """
        if self.record:
            self._operations.append((tuple(outputs), tuple(parents), back))

    def backward(
        self, outputs: Sequence[Traced], gradients: Sequence[Array | None]
    ) -> tuple[Callable[[Traced], Array | None], dict[Variable, Array]]:
        """Gradients of everything that `outputs` depend on.

        Args:
            outputs: values of this tape.
            gradients: theirs.

        Returns:
            A function that gives the gradient of a value, and the gradients of the variables.
        """
        sums: dict[int, Array] = {}

        def add(value: Traced, gradient: Array | None) -> None:
            if gradient is not None and value.is_float:
                before = sums.get(id(value))
                sums[id(value)] = gradient if before is None else before + gradient

        for value, gradient in zip(outputs, gradients, strict=True):
            add(value, gradient)
        for results, parents, back in reversed(self._operations):
            given = [sums.get(id(result)) for result in results]
            if any(gradient is not None for gradient in given):
                for parent, gradient in zip(parents, back(*given), strict=True):
                    add(parent, gradient)
        found = {v: sums[id(leaf)] for v, leaf in self._leaves.items() if id(leaf) in sums}
        return lambda value: sums.get(id(value)), found


@contextmanager
def recording(record: bool, layer_context: Any = None) -> Iterator[Tape]:
    """A new tape, current while the body runs. Arguments as `Tape`."""
    tape = Tape(record, layer_context)
    before = tapes.change(tape)
    try:
        yield tape
    finally:
        tapes.change(before)


class Traced(_Operators):
    """An array on a tape.

    Attributes:
        value: the array.
        tape: the tape.
        mask: which time steps count, (batch, time), or None.
    """

    __slots__ = ("mask", "tape", "value")

    def __init__(self, value: Array, tape: Tape, mask: Any = None) -> None:
        self.value = value
        self.tape = tape
        self.mask = mask

    @property
    def is_float(self) -> bool:
        """Whether it can have a gradient."""
        return self.value.dtype.kind == "f"

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.value.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.value.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.value.size

    @property
    def dtype(self) -> Any:
        """Type of the elements."""
        return self.value.dtype

    @property
    def T(self) -> Any:
        """Axes in reverse."""
        return _ops().transpose(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if self.tape.record and self.is_float:
            raise TypeError(
                "a value that training differentiates was made an array, which loses its gradient; use "
                "operators, NumPy's functions or lstm_native.ops on it"
            )
        return self.value if dtype is None else self.value.astype(dtype)

    def numpy(self) -> Array:
        """The array, without a gradient."""
        return self.value

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return _dispatch().apply_ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return _dispatch().apply_function(function, args, kwargs)

    # `x += y` makes another value and leaves the array behind x as it is.
    __iadd__ = _Operators.__add__
    __isub__ = _Operators.__sub__
    __imul__ = _Operators.__mul__
    __itruediv__ = _Operators.__truediv__
    __ifloordiv__ = _Operators.__floordiv__
    __imod__ = _Operators.__mod__
    __ipow__ = _Operators.__pow__
    __imatmul__ = _Operators.__matmul__

    # Values are compared by element, so they are no keys of dictionaries.
    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self, index: Any) -> Any:
        return _ops().getitem(self, index)

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self.value)

    def __float__(self) -> float:
        return float(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __repr__(self) -> str:
        return f"<Traced shape={self.shape}, dtype={self.dtype}>"

    def astype(self, dtype: Any) -> Any:
        """See `ops.cast`."""
        return _ops().cast(self, dtype)

    def reshape(self, *shape: Any) -> Any:
        """See `ops.reshape`."""
        return _ops().reshape(self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Any:
        """See `ops.transpose`."""
        return _ops().transpose(self, axes[0] if len(axes) == 1 else axes or None)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Any:
        """See `ops.sum`."""
        return _ops().sum(self, axis, keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Any:
        """See `ops.mean`."""
        return _ops().mean(self, axis, keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Any:
        """See `ops.max`."""
        return _ops().max(self, axis, keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Any:
        """See `ops.min`."""
        return _ops().min(self, axis, keepdims)

    def squeeze(self, axis: Any = None) -> Any:
        """See `ops.squeeze`."""
        return _ops().squeeze(self, axis)


def value_of(x: Any) -> Any:
    """What is behind a traced value or a variable; anything else as it is, lists item by item."""
    if isinstance(x, Traced):
        return x.value
    if isinstance(x, Variable):
        return x.numpy()
    if isinstance(x, list | tuple):
        return type(x)(value_of(item) for item in x)
    return x


def _ops() -> Any:
    from lstm_native import ops  # which is made of this file

    return ops


def _dispatch() -> Any:
    from lstm_native.ops import dispatch  # which is made of this file

    return dispatch
