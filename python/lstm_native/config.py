"""Threads, and what this installation is made of. Floor 4."""

from __future__ import annotations

import sys

import numpy as np

from lstm_native import _core, cuda


def get_num_threads() -> int:
    """Number of threads that native operations may use."""
    return _core.get_num_threads()


def set_num_threads(n: int) -> None:
    """Limits the threads of native operations, the caller's own included.

    Results do not depend on it, bit for bit. The environment variable LSTM_NATIVE_NUM_THREADS sets
    the number that a process starts with.

    Args:
        n: At least 1.

    Raises:
        ValueError: `n` is no integer or below 1.
    """
    if isinstance(n, bool) or not hasattr(n, "__index__") or n < 1:
        raise ValueError(f"set_num_threads: n is {n!r}, expected an integer of at least 1")
    # The native side refuses too many, but only takes what fits its integers.
    _core.set_num_threads(min(int(n), 2**31 - 1))


def config_text() -> str:
    """What `show_config` prints."""
    # Imported here because it costs, and importing the package must not.
    import platform

    build = _core.build_info()
    reason = cuda.unavailable_reason()
    lines = [
        ("lstm_native", build.pop("version", "unknown")),
        ("python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("numpy", np.__version__),
        ("platform", f"{sys.platform} {platform.machine()}"),
        *sorted((name.replace("_", " "), value) for name, value in build.items()),
        ("cuda", cuda.device_name() if reason is None else reason),
        ("instruction sets here", ", ".join(_core.available_isas())),
        ("instruction set chosen", _core.isa()),
        ("threads", f"{_core.get_num_threads()} allowed, {_core.pool_threads()} workers running"),
    ]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:{width}}  {value}" for name, value in lines)


def show_config() -> None:
    """Prints versions, compiler, instruction sets built and chosen, threads, the GPU or why not."""
    print(config_text())
