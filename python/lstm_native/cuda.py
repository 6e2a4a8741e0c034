"""The CUDA device: whether it can be used and why not, its name and memory. Floor 4.

Models are moved with `model.to("cuda")`; the library of the backend is opened then, or when one of these
functions is called first. It comes with `pip install lstm-native[cuda]`. A process computes on one GPU, the
first that the environment variable CUDA_VISIBLE_DEVICES shows.
"""

from __future__ import annotations

import os
from pathlib import Path

from lstm_native import _core

PRECISIONS = ("float32", "tf32", "bfloat16", "float16")

_LIBRARY = "liblstm_native_cuda.so"
_BLAS = "libcublasLt.so.13"
_INSTALL = "run `pip install lstm-native[cuda]`"


def is_available() -> bool:
    """Whether models can be moved to `"cuda"`."""
    return unavailable_reason() is None


def unavailable_reason() -> str | None:
    """Why CUDA cannot be used, and what to do, in one sentence; None when it can."""
    try:
        open_device()
    except RuntimeError as error:
        return str(error)
    return None


def device_name() -> str:
    """Name of the GPU, such as "NVIDIA H100 80GB HBM3".

    Raises:
        RuntimeError: CUDA cannot be used.
    """
    open_device()
    return _core.cuda_info()[0]


def memory_info() -> tuple[int, int]:
    """Free and total memory of the GPU in bytes.

    Raises:
        RuntimeError: CUDA cannot be used.
    """
    open_device()
    return _core.cuda_info()[2:]


def set_precision(precision: str) -> None:
    """How matrix products of recurrent and Dense layers are computed on the GPU, from now on in this process.

    Their sums are float32 in every precision, and so are weights, cell states, optimizers, gradients and
    everything between products; only what a product multiplies is rounded. A backward pass of a recurrent
    layer uses the precision of its forward pass.

    Args:
        precision: What the elements of a product's matrices are rounded to:

            - "float32", the default: not at all.
            - "tf32": to 11 bits by the tensor cores. Results differ by about 1e-3.
            - "bfloat16": to 8 bits, at twice the speed and half the traffic of "tf32". Results differ by
              up to 1e-2.
            - "float16": to 11 bits, as fast as "bfloat16", with a range of 6e-8 to 65504: beyond it is
              infinity. For inference only; training in it raises RuntimeError.

    Raises:
        ValueError: another precision.
        RuntimeError: CUDA cannot be used.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"set_precision: precision is {precision!r}, expected one of {', '.join(map(repr, PRECISIONS))}"
        )
    open_device()
    _core.cuda_set_precision(precision)


def explain(batch: int, steps: int, units: int, cell: str = "lstm", bidirectional: bool = False) -> str:
    """How a recurrent layer with tanh and sigmoid runs on this GPU: in one launch or step by step, and why.

    Args:
        batch: Rows.
        steps: Time steps of a sequence.
        units: Units of the layer.
        cell: "lstm", "gru", "gru_before" (`reset_after=False`) or "simple_rnn".
        bidirectional: Whether a layer with both directions calls them together.

    Returns:
        A sentence for the forward and one for the backward pass, with the times that the choice was made by:
        estimates.

    Raises:
        ValueError: a size below 1, or another cell.
        RuntimeError: CUDA cannot be used.
    """
    for name, value in (("batch", batch), ("steps", steps), ("units", units)):
        if not 1 <= value < 2**31:
            raise ValueError(f"explain: {name} is {value}, expected 1 to {2**31 - 1}")
    if cell not in ("lstm", "gru", "gru_before", "simple_rnn"):
        raise ValueError(f"explain: cell is {cell!r}, expected 'lstm', 'gru', 'gru_before' or 'simple_rnn'")
    open_device()
    return _core.cuda_explain(cell, units, batch, steps, bidirectional)


def synchronize() -> None:
    """Waits until the GPU has done all work that was given to it, as measurements of time need it.

    Raises:
        RuntimeError: CUDA cannot be used.
    """
    open_device()
    _core.cuda_synchronize()


def open_device() -> None:
    """Opens the library of the backend and starts the GPU, unless that has happened.

    The environment variable LSTM_NATIVE_CUDA_LIBRARY names another library than the installed one.

    Raises:
        RuntimeError: why CUDA cannot be used; a later call tries again.
    """
    try:
        if _core.cuda_is_open():
            _core.cuda_info()  # refuses a forked child
        else:
            _core.open_cuda(str(_library()))
            _core.open_cuda_blas(_blas())
    except RuntimeError as error:
        raise RuntimeError(f"CUDA is not available: {error}") from None


def advice(device: str) -> str:
    """What to do about a device such as "cuda:1", as the end of an error's sentence; nothing about others."""
    kind, _, number = str(device).partition(":")
    if kind != "cuda" or not number.isdecimal():
        return ""
    return (
        "; a process computes on one GPU, the first that CUDA_VISIBLE_DEVICES shows: "
        f"for this one start it with CUDA_VISIBLE_DEVICES={number}"
    )


def _library() -> Path:
    named = os.environ.get("LSTM_NATIVE_CUDA_LIBRARY")
    if named:
        return Path(named).absolute()
    folders = [os.path.dirname(_core.__file__)]
    try:
        import lstm_native_cuda13  # the package that holds nothing else
    except ImportError:
        pass
    else:
        folders.extend(lstm_native_cuda13.__path__)
    for folder in folders:
        path = Path(folder, _LIBRARY)
        if path.is_file():
            return path
    raise RuntimeError(f"the library {_LIBRARY} is not installed; {_INSTALL}")


def _blas() -> str:
    """Path of cuBLASLt, which another package brings."""
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib
    except ImportError:
        return _BLAS  # where the system looks for libraries
    try:
        return str(load_nvidia_dynamic_lib("cublasLt").abs_path)
    except RuntimeError:
        raise RuntimeError(f"the library {_BLAS} (cuBLAS) was not found; {_INSTALL}") from None
