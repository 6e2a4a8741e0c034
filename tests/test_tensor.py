"""Tensor and Variable: conversions, shared memory, lifetimes, DLPack in both directions."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

from lstm_native import _core
from native_support import Array, assert_bits, tensor

DTYPES = ("float32", "float64", "int32", "int64", "uint8", "bool")


class Exporter:
    """An object that offers nothing but DLPack."""

    def __init__(self, array: Array) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


class OldExporter(Exporter):
    """DLPack as it was before version 1.0: no options but the stream."""

    def __dlpack__(self, stream: Any = None) -> Any:
        return self.array.__dlpack__(stream=stream)


@pytest.mark.parametrize("dtype", DTYPES)
def test_attributes(dtype: str) -> None:
    a = np.ones((2, 3, 4), dtype)
    t = _core.as_tensor(a, dtype)
    assert (t.shape, t.ndim, t.size, t.dtype, t.device) == ((2, 3, 4), 3, 24, dtype, "cpu")
    assert len(t) == 2
    assert_bits(t.numpy(), a)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (1, 1, 5)])
def test_shapes(shape: tuple[int, ...]) -> None:
    a = np.arange(float(np.prod(shape))).reshape(shape).astype(np.float32)
    t = tensor(a)
    assert t.shape == shape
    assert_bits(t.numpy(), a)
    assert_bits(t.copy().numpy(), a)
    if shape == ():
        with pytest.raises(TypeError):
            len(t)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", DTYPES)
def test_conversions_between_dtypes(dtype: str, target: str) -> None:
    a = np.array([[0, 1, 7], [100, 1, 0]]).astype(dtype)
    assert_bits(_core.as_tensor(a, target).numpy(), a.astype(target))


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "uint32", "uint64", "float16"])
def test_other_numbers_are_converted(dtype: str) -> None:
    a = np.array([0, 1, 100]).astype(dtype)
    for target in ("float32", "int32"):
        assert_bits(_core.as_tensor(a, target).numpy(), a.astype(target))


@pytest.mark.parametrize("value", [3, 2.5, True, [1, 2, 3], [[1.5], [2.5]], (1, 2), np.float64(2.0), []])
def test_python_values(value: Any) -> None:
    assert_bits(_core.as_tensor(value, "float32").numpy(), np.asarray(value, np.float32))


LAYOUTS: dict[str, Array] = {
    "strided": np.arange(48, dtype=np.float32).reshape(6, 8)[::2, 1::3],
    "transposed": np.arange(12, dtype=np.float32).reshape(3, 4).T,
    "reversed": np.arange(12, dtype=np.float32).reshape(3, 4)[::-1, ::-1],
    "broadcast": np.broadcast_to(np.arange(4, dtype=np.float32), (3, 4)),
    "fortran": np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)),
    "big endian": np.arange(12, dtype=">f4").reshape(3, 4),
    "big endian integers": np.arange(12, dtype=">i8").reshape(3, 4),
    "unaligned": np.frombuffer(b"\0" + np.arange(12, dtype=np.float32).tobytes(), np.float32, 12, 1),
    "field": np.zeros(5, dtype=[("skip", "u1"), ("value", "f4")])["value"],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str) -> None:
    a = LAYOUTS[layout]
    got = tensor(a).numpy()
    assert got.flags.c_contiguous
    assert got.flags.aligned
    assert_bits(got, np.ascontiguousarray(a, np.float32).reshape(a.shape))


def test_read_only_memory_is_never_written() -> None:
    a = np.arange(6, dtype=np.float32)
    a.flags.writeable = False
    t = tensor(a)
    got = t.numpy()
    if got.flags.writeable:
        got[:] = -1.0
    else:
        assert np.shares_memory(got, a)
    np.testing.assert_array_equal(a, np.arange(6))


def test_matching_arrays_come_in_without_a_copy() -> None:
    for dtype in DTYPES:
        a = np.zeros((3, 4), dtype)
        t = _core.as_tensor(a, dtype)
        assert np.shares_memory(t.numpy(), a), dtype
        a[1, 2] = 1
        assert t.numpy()[1, 2] == 1


def test_a_tensor_of_its_dtype_comes_in_as_itself() -> None:
    t = tensor(np.zeros(3))
    assert np.shares_memory(_core.as_tensor(t, "float32").numpy(), t.numpy())
    assert_bits(_core.as_tensor(t, "int32").numpy(), np.zeros(3, np.int32))


REFUSED: dict[str, Any] = {
    "object": np.array([1, None], object),
    "string": np.array(["a", "b"]),
    "bytes": np.array([b"a"]),
    "complex": np.array([1j]),
    "dates": np.array(["2020-01-01"], "datetime64[D]"),
    "record": np.zeros(2, dtype=[("a", "f4"), ("b", "f4")]),
    "None": None,
    "a string": "abc",
    "a dictionary": {"a": 1},
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_values(name: str) -> None:
    with pytest.raises(TypeError):
        _core.as_tensor(REFUSED[name], "float32")


def test_ragged_lists_are_refused() -> None:
    with pytest.raises((TypeError, ValueError)):
        _core.as_tensor([[1.0], [1.0, 2.0]], "float32")


def test_unknown_dtype() -> None:
    for name in ("float16", "nonsense", ""):
        with pytest.raises((TypeError, ValueError)):
            _core.as_tensor(np.zeros(2), name)


@pytest.mark.parametrize("value", [2**31, 2**32 + 1, -(2**31) - 1])
def test_large_ids_do_not_wrap_around(value: int) -> None:
    """An id of 2**32 + 1 must not become 1."""
    with pytest.raises((ValueError, OverflowError)):
        _core.as_tensor(np.array([0, value], np.int64), "int32")


@pytest.mark.parametrize("value", [1.5, np.nan, np.inf, 1e20, -0.25])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_that_are_not_whole_do_not_become_ids(value: float, dtype: str) -> None:
    with pytest.raises(ValueError):
        _core.as_tensor(np.array([0.0, value], dtype), "int32")


def test_array_protocol() -> None:
    t = tensor(np.arange(6.0).reshape(2, 3))
    assert np.shares_memory(np.asarray(t), t.numpy())
    assert not np.shares_memory(np.array(t), t.numpy())
    assert np.asarray(t, np.float64).dtype == np.float64
    assert_bits(np.asarray(t, np.float64), np.arange(6.0).reshape(2, 3))
    assert np.shares_memory(t.__array__(copy=False), t.numpy())
    assert not np.shares_memory(t.__array__(copy=True), t.numpy())
    with pytest.raises(ValueError):
        t.__array__(np.dtype(np.float64), copy=False)


def test_copy_and_reshape() -> None:
    t = tensor(np.arange(6.0))
    view = t.reshape((2, 3))
    assert view.shape == (2, 3)
    assert np.shares_memory(view.numpy(), t.numpy())
    assert not np.shares_memory(t.copy().numpy(), t.numpy())
    for wrong in ((4,), (2, 4), (-2, -3), (0,), (2**40, 2**40)):
        with pytest.raises((ValueError, OverflowError)):
            t.reshape(wrong)


def test_memory_lives_as_long_as_anybody_uses_it() -> None:
    a = np.arange(5, dtype=np.float32)
    gone = weakref.ref(a)
    t = tensor(a)
    del a
    gc.collect()
    np.testing.assert_array_equal(t.numpy(), np.arange(5))
    view = t.reshape((5, 1)).numpy()
    del t
    gc.collect()
    assert gone() is not None
    np.testing.assert_array_equal(view[:, 0], np.arange(5))
    del view
    gc.collect()
    assert gone() is None


def test_results_outlive_what_made_them() -> None:
    x = tensor(np.ones((300, 200)))
    y = _core.multiply(x, x).numpy()
    del x
    gc.collect()
    np.testing.assert_array_equal(y, 1.0)


# --- DLPack ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_dlpack_out(dtype: str) -> None:
    t = _core.as_tensor(np.ones((2, 3), dtype), dtype)
    assert t.__dlpack_device__() == (1, 0)
    a = np.from_dlpack(t)
    assert np.shares_memory(a, t.numpy())
    expected = t.numpy().copy()
    del t
    gc.collect()
    assert_bits(a, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [Exporter, OldExporter])
def test_dlpack_in(dtype: str, kind: type[Exporter]) -> None:
    a = np.ones((2, 3), dtype)
    gone = weakref.ref(a)
    t = _core.as_tensor(kind(a), dtype)
    assert t.dtype == dtype
    assert np.shares_memory(t.numpy(), a)
    del a
    gc.collect()
    assert gone() is not None
    del t
    gc.collect()
    assert gone() is None


def test_dlpack_in_converts_layout_and_dtype() -> None:
    a = np.arange(12.0).reshape(3, 4)
    assert_bits(_core.as_tensor(Exporter(a.T), "float32").numpy(), np.ascontiguousarray(a.T, np.float32))
    assert_bits(
        _core.as_tensor(Exporter(a[::2, ::-1]), "float64").numpy(), np.ascontiguousarray(a[::2, ::-1])
    )
    assert _core.as_tensor(Exporter(np.zeros((0, 3), np.float32)), "float32").shape == (0, 3)
    with pytest.raises(TypeError):
        _core.as_tensor(Exporter(np.zeros(3, np.complex64)), "float32")


class AskingForACopy:
    """What `np.from_dlpack(t, copy=True)` does; NumPy 1 has no such argument."""

    def __init__(self, t: _core.Tensor) -> None:
        self.t = t

    def __dlpack__(self, **options: Any) -> Any:
        return self.t.__dlpack__(**{**options, "copy": True})

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.t.__dlpack_device__()


def test_dlpack_options() -> None:
    t = tensor(np.arange(3.0))
    for options in (
        {},
        {"stream": None},
        {"max_version": (1, 0)},
        {"max_version": (0, 8)},
        {"dl_device": (1, 0)},
    ):
        assert "dltensor" in repr(t.__dlpack__(**options))  # and nobody takes the capsule
    assert "dltensor_versioned" in repr(t.__dlpack__(max_version=(1, 0)))
    copied = np.from_dlpack(AskingForACopy(t))
    assert not np.shares_memory(copied, t.numpy())
    np.testing.assert_array_equal(copied, [0.0, 1.0, 2.0])
    with pytest.raises(BufferError):
        t.__dlpack__(dl_device=(2, 0))


# --- Variable -------------------------------------------------------------------------------------


def test_variable_owns_its_memory() -> None:
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    w = _core.Variable(tensor(a))
    a[:] = -1.0
    expected = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert_bits(w.numpy(), expected)
    out = w.numpy()
    out[:] = -2.0
    assert_bits(w.numpy(), expected)
    assert (w.shape, w.ndim, w.size, w.dtype, w.device) == ((2, 3), 2, 6, "float32", "cpu")


def test_assign_copies_and_counts() -> None:
    w = _core.Variable(tensor(np.zeros((2, 2))))
    a = np.ones((2, 2), np.float32)
    version = w.version
    w.assign(tensor(a))
    assert w.version > version
    a[:] = 5.0
    np.testing.assert_array_equal(w.numpy(), 1.0)
    version = w.version
    for wrong in (np.ones((2, 3)), np.ones(4), np.ones((1, 2, 2))):
        with pytest.raises(ValueError, match=r"\(2, 2\)"):
            w.assign(tensor(wrong))
    assert w.version == version
    np.testing.assert_array_equal(w.numpy(), 1.0)


def test_variable_can_be_subclassed() -> None:
    class Named(_core.Variable):
        def __init__(self, value: _core.Tensor, name: str) -> None:
            super().__init__(value)
            self.name = name

    kernel = Named(tensor(np.eye(2)), "kernel")
    weights = _core.DenseWeights(kernel, None)
    np.testing.assert_array_equal(_core.dense_forward(weights, tensor(np.ones((1, 2)))).numpy(), 1.0)
    assert kernel.name == "kernel"


@pytest.mark.parametrize("name", ["as_tensor", "recurrent_forward", "dense_forward", "loss", "adam_step"])
def test_wrong_argument_types_are_type_errors(name: str) -> None:
    with pytest.raises(TypeError):
        getattr(_core, name)(object())
