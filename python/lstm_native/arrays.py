"""What comes in at the public edge: any array-like becomes a numeric NumPy array or one clear error."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native import _core, cuda

Shape = tuple[int | None, ...]
_CUDA = 2  # of DLPack's devices


class Result(np.ndarray[Any, np.dtype[Any]]):
    """The NumPy array that a call of a layer or model gives, and a batch of a data set.

    It is one as any other, and has the method that programs for TensorFlow ask for.
    """

    def numpy(self) -> npt.NDArray[Any]:
        """The same array."""
        return self.view(np.ndarray)

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        # A sum over everything is a number, as that of other arrays.
        return array[()] if array.ndim == 0 else super().__array_wrap__(array, context)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.numpy().__reduce__()  # type: ignore[return-value]

    def __repr__(self) -> str:
        return repr(self.numpy())


def to_numpy(x: Any, label: str, argument: str) -> npt.NDArray[Any]:
    """`x` as a NumPy array of numbers, without a copy where possible.

    Args:
        x: array, nested list, native tensor or anything with `__array__` or `__dlpack__`.
        label: who asks, for the message of an error.
        argument: name of the argument, for the message of an error.

    Raises:
        TypeError: objects, strings, complex numbers.
        ValueError: nested lists of unequal lengths.
    """
    given = x
    if not isinstance(x, np.ndarray):
        if isinstance(x, _core.Tensor):
            x = x.numpy()
        elif _on_gpu(x):
            x = _from_gpu(x).numpy()
        elif hasattr(x, "__dlpack__") and not hasattr(x, "__array__"):
            x = np.from_dlpack(x)
        else:
            try:
                x = np.asarray(x)
            except ValueError:
                raise ValueError(
                    f"{label}: {argument} is a nested list of unequal lengths, expected a rectangular array"
                ) from None
    if x.dtype.kind not in "fiub":
        if (
            x.dtype == object
            and not hasattr(given, "__array__")
            and not isinstance(given, list | tuple | int)
        ):
            raise TypeError(f"{label}: {argument} is a {type(given).__name__}, expected an array of numbers")
        raise TypeError(f"{label}: {argument} has dtype {x.dtype}, expected numbers")
    return x  # type: ignore[no-any-return]


def to_float32(x: Any, label: str, argument: str) -> _core.Tensor:
    """`x` as a float32 tensor; shares memory with a float32 array."""
    if type(x) is _core.Tensor and x.dtype == "float32":
        return x
    if _on_gpu(x):
        return _core.as_tensor(_from_gpu(x), "float32")
    return _core.as_tensor(to_numpy(x, label, argument), "float32")


def _on_gpu(x: Any) -> bool:
    """Whether `x` is an array of another library on a CUDA device."""
    if type(x) is np.ndarray:  # which has the method, too, and takes its time
        return False
    return hasattr(x, "__dlpack_device__") and x.__dlpack_device__()[0] == _CUDA


def _from_gpu(x: Any) -> _core.Tensor:
    """An array of another library on the GPU, without a copy; one with strides is copied by that library."""
    cuda.open_device()
    tensor = _core.from_dlpack(x)
    if tensor is None:
        tensor = _core.from_dlpack(x.contiguous() if hasattr(x, "contiguous") else x.copy())
    if tensor is None:
        raise TypeError(
            f"an array on the GPU has dtype {x.dtype}, expected one that NumPy has; convert it to float32"
        )
    return tensor


def to_step_flags(x: Any, shape: Shape, label: str, argument: str) -> _core.Tensor | None:
    """A mask or reset argument as a bool tensor of shape (batch, time); None stays None."""
    if x is None:
        return None
    flags = to_numpy(x, label, argument)
    if flags.shape != shape[:2]:
        raise ValueError(
            f"{label}: {argument} has shape {flags.shape}, expected (batch, time) = {tuple(shape[:2])}"
        )
    return _core.as_tensor(flags if flags.dtype == np.bool_ else flags != 0, "bool")


def to_shape(value: Any, label: str, argument: str) -> Shape:
    """A tuple of sizes (None where unknown).

    Raises:
        ValueError: a negative or fractional size.
    """
    try:
        sizes = tuple(value)
        whole = [s if s is None else int(s) for s in sizes]
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{label}: {argument} is {value!r}, expected a tuple of sizes") from None
    if any(s is not None and (s < 0 or s != given) for s, given in zip(whole, sizes, strict=True)):
        raise ValueError(f"{label}: {argument} is {value!r}, expected sizes that are not negative, or None")
    return tuple(whole)


def fits(shape: Shape, expected: Shape) -> bool:
    """Whether two shapes agree; None agrees with every size."""
    return len(shape) == len(expected) and all(
        a is None or b is None or a == b for a, b in zip(shape, expected, strict=True)
    )


def optional_int(value: Any, label: str, argument: str) -> int | None:
    """`value` as an int of at least 1, or None."""
    return None if value is None else positive_int(value, label, argument)


def positive_int(value: Any, label: str, argument: str) -> int:
    """`value` as an int of at least 1; bools and fractions are refused."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{label}: {argument} is {value!r}, expected a positive integer")
    return int(value)


def whole_number(value: Any, label: str, argument: str) -> int:
    """`value` as an int of any sign; bools and fractions are refused."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ValueError(f"{label}: {argument} is {value!r}, expected an integer")
    return int(value)
