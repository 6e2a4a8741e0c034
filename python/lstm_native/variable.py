"""A weight of a layer: native storage with a name, and whether training changes it. Floor 4."""

from __future__ import annotations

import copyreg
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native import _core, tapes
from lstm_native.arrays import to_numpy


def _reduce_tensor(tensor: _core.Tensor) -> tuple[Any, ...]:
    return _core.as_tensor, (tensor.numpy(), tensor.dtype)


# Copies and pickles of layers hold tensors (the state of stateful ones).
copyreg.pickle(_core.Tensor, _reduce_tensor)


class Variable(_core.Variable, np.lib.mixins.NDArrayOperatorsMixin):
    """A named weight. In arithmetic it stands for its values; `==` asks whether it is the same variable.

    Args:
        initializer: the values, or a callable `(shape) -> array`.
        shape: shape of the values; needed for a callable.
        dtype: "float32" or None, the same, for weights; "int32" and "int64" for counters.
        trainable: whether an optimizer may change it.
        name: name inside its layer, such as "kernel".
        path: name with the layer's in front, such as "lstm/kernel"; `name` by default.
        regularizer: callable `(values) -> number` that training adds to the loss, or None.
        constraint: callable `(values) -> values` that follows every step of an optimizer, or None.

    Attributes:
        trainable: as above; freezing its layer takes it away for a while.
        fixed: whether it was made with `trainable=False`.
        is_quantized: whether `Model.quantize` has put 16 or 8 bits in the place of float32; `dtype` is
            "bfloat16" or "int8" then, `numpy()` the float32 numbers that these stand for, and nothing can be
            assigned.
        nbytes: bytes that the values take.

    Raises:
        TypeError: `initializer` holds no numbers.
        ValueError: its shape is not `shape`.
    """

    def __init__(
        self,
        initializer: Any,
        shape: Sequence[int] | None = None,
        dtype: str | None = None,
        trainable: bool = True,
        *,
        name: str | None = None,
        path: str | None = None,
        regularizer: Callable[[Any], Any] | None = None,
        constraint: Callable[[Any], Any] | None = None,
    ) -> None:
        name = name or "variable"
        path = path or name
        values = initializer(shape) if callable(initializer) else initializer
        tensor = _core.as_tensor(to_numpy(values, path, "value"), dtype or "float32")
        if shape is not None and tensor.shape != tuple(shape):
            raise ValueError(f"{path}: value has shape {tensor.shape}, expected {shape}")
        super().__init__(tensor)  # which copies
        self.name = name
        self.path = path
        self.trainable = trainable
        self.fixed = not trainable
        self.regularizer = regularizer
        self.constraint = constraint

    @property
    def value(self) -> npt.NDArray[Any]:
        """A copy of the values."""
        return self.numpy()

    def check(self, value: Any) -> _core.Tensor:
        """`value` as a tensor that fits this variable.

        Raises:
            ValueError: its shape differs, or the variable is quantized.
            TypeError: it holds no numbers.
        """
        if self.is_quantized:
            raise ValueError(
                f"{self.path}: is quantized to {self.dtype} and takes no other values; set weights before "
                "quantize()"
            )
        if type(value) is _core.Tensor and value.dtype == self.dtype:
            tensor = value
        else:
            tensor = _core.as_tensor(to_numpy(value, self.path, "value"), self.dtype)
        if tensor.shape != self.shape:
            raise ValueError(f"{self.path}: value has shape {tensor.shape}, expected {self.shape}")
        return tensor

    def assign(self, value: Any) -> None:
        """Copies `value`, an array of the variable's shape, into it."""
        super().assign(self.check(value))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        values = self.numpy()
        return values if dtype is None else values.astype(dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        tape = tapes.current()
        if tape is not None and not kwargs:
            return getattr(ufunc, method)(*tapes.on_tape(inputs, tape, Variable))
        plain = (x.numpy() if isinstance(x, Variable) else x for x in inputs)
        outputs = kwargs.pop("out", ())
        result = getattr(ufunc, method)(*plain, **kwargs)
        for output in outputs:  # `variable += x`
            output.assign(result) if isinstance(output, Variable) else np.copyto(output, result)
        return outputs[0] if outputs else result

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        tape = tapes.current()
        if tape is not None:
            return function(*tapes.on_tape(args, tape, Variable), **kwargs)
        return function(*_plain(args), **{name: _plain(value) for name, value in kwargs.items()})

    # A key of dictionaries and an item of lists, so it equals itself alone.
    __eq__ = object.__eq__
    __ne__ = object.__ne__
    __hash__ = object.__hash__

    def __getitem__(self, index: Any) -> Any:
        tape = tapes.current()
        return self.numpy()[index] if tape is None else tape.leaf(self)[index]

    def __len__(self) -> int:
        return len(self.numpy())

    def __float__(self) -> float:
        return float(self.numpy())

    def __int__(self) -> int:
        return int(self.numpy())

    def __bool__(self) -> bool:
        return bool(self.numpy())

    def __reduce__(self) -> tuple[Any, ...]:
        quantized = (self.dtype, self.scale_axis) if self.is_quantized else None
        return _restored, (self.numpy(), self.__dict__, quantized)

    def __repr__(self) -> str:
        if "path" not in self.__dict__:
            return "<Variable>"  # in the traceback of its own constructor, without native storage yet
        return f"<Variable {self.path}, shape={self.shape}, trainable={self.trainable}>"


def _plain(x: Any) -> Any:
    if isinstance(x, list | tuple):
        return type(x)(map(_plain, x))
    return x.numpy() if isinstance(x, Variable) else x


def _restored(
    values: npt.NDArray[Any], attributes: dict[str, Any], quantized: tuple[str, int] | None = None
) -> Variable:
    variable = Variable(values, dtype=values.dtype.name)
    variable.__dict__.update(attributes)
    if quantized is not None:  # the same codes as before
        mode, axis = quantized
        _core.quantize_variables([(variable, axis, variable.path)], mode, is_new=True)
    return variable
