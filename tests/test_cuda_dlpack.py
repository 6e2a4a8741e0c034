"""When arrays of other libraries on the GPU are given back: not before the work that uses them is done, and
nobody waits for that. Without a GPU, where a machine of the host says that it is busy."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from cuda_support import on_host, open_for_tests
from lstm_native import _core, cuda
from native_support import f32, tensor


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    open_for_tests(tmp_path_factory.mktemp("cuda"))
    if not on_host:
        pytest.skip("asks the machine of the host")
    library = ctypes.CDLL(str(on_host[0]))
    library.cuda_on_host_taken_back.restype = ctypes.c_int64
    return library


class Foreign:
    """An array of another library; when it is given back, the queue waits for that library's stream."""

    def __init__(self, tensor: _core.Tensor, stream: int = 1) -> None:
        self.tensor, self.stream = tensor, stream

    def __dlpack__(self, stream: Any = None, **options: Any) -> Any:
        return self.tensor.__dlpack__(stream=self.stream, **options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.tensor.__dlpack_device__()


def take(stream: int = 1) -> _core.Tensor:
    given = tensor(f32(np.arange(6.0))).to("cuda")
    return _core.as_tensor(Foreign(given, stream), "float32")


def test_given_back_at_once_when_nothing_runs(machine: ctypes.CDLL) -> None:
    cuda.synchronize()
    before = machine.cuda_on_host_taken_back()
    taken = take()
    assert machine.cuda_on_host_taken_back() == before
    del taken
    assert machine.cuda_on_host_taken_back() == before + 1


def test_given_back_when_work_is_done(machine: ctypes.CDLL) -> None:
    cuda.synchronize()
    before = machine.cuda_on_host_taken_back()
    first, second = take(), take()
    machine.cuda_on_host_is_busy()
    del first, second
    assert machine.cuda_on_host_taken_back() == before
    third = take()  # looks whether something can be given back
    assert machine.cuda_on_host_taken_back() == before
    cuda.synchronize()
    assert machine.cuda_on_host_taken_back() == before + 2
    assert np.array_equal(third.numpy(), np.arange(6.0))


def test_a_later_exchange_gives_back(machine: ctypes.CDLL) -> None:
    cuda.synchronize()
    before = machine.cuda_on_host_taken_back()
    first, other = take(), take(stream=2)
    machine.cuda_on_host_is_busy()
    del first
    assert machine.cuda_on_host_taken_back() == before
    machine.cuda_on_host_is_idle()
    assert "dltensor" in repr(other.__dlpack__(stream=-1))
    assert machine.cuda_on_host_taken_back() == before + 1


def test_streams_that_may_be_no_more(machine: ctypes.CDLL) -> None:
    """All work of the device is waited for, not that of a stream."""
    cuda.synchronize()
    before = machine.cuda_on_host_taken_back()
    taken = [take(stream) for stream in (2, -1)]
    del taken
    assert machine.cuda_on_host_taken_back() == before


def test_many_bytes_are_waited_for(machine: ctypes.CDLL) -> None:
    """More than 256 MB at a time are not left to be given back later."""
    cuda.synchronize()
    before = machine.cuda_on_host_taken_back()
    large = _core.as_tensor(Foreign(tensor(np.zeros((1 << 26) + 1, np.float32)).to("cuda")), "float32")
    machine.cuda_on_host_is_busy()
    del large
    assert machine.cuda_on_host_taken_back() == before + 1
