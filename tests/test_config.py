"""Threads, `show_config` and `python -m lstm_native`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from lstm_native import _core, config


def test_threads(threads: Callable[[int], None]) -> None:
    threads(3)
    assert config.get_num_threads() == 3
    config.set_num_threads(np.int64(1))  # type: ignore[arg-type]
    assert config.get_num_threads() == 1
    for bad in (0, -1, 1.5, "2", True, None):
        with pytest.raises(ValueError, match="set_num_threads"):
            config.set_num_threads(bad)  # type: ignore[arg-type]
    assert config.get_num_threads() == 1


def test_show_config(capsys: pytest.CaptureFixture[str]) -> None:
    config.show_config()
    text = capsys.readouterr().out
    assert text.startswith("lstm_native")
    for word in ("numpy", "compiler", "instruction set", "threads", _core.isa()):
        assert word in text


def test_module_run_prints_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lstm_native"], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.startswith("lstm_native")
    assert np.__version__ in done.stdout
    assert done.stderr == ""
