"""Hostile and damaged safetensors files: one clear error, little memory, and nothing half loaded."""

from __future__ import annotations

import os
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hostile_safetensors as hostile
from hostile_safetensors import Hostile
from lstm_native.layers import Dense, Input
from lstm_native.models import Sequential, load_model
from lstm_native.saving import read_safetensors

# What reading may take beside some times the file.
MEMORY = 16 << 20
TIMES = 10


def check_error(error: BaseException, path: Path) -> None:
    """One line that names the file and is short enough to read."""
    message = str(error)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 2000  # with the names that are known, where one is not


def check_refused(read: Callable[[Path], Any], file: Hostile, path: Path) -> None:
    path.write_bytes(file.content)
    tracemalloc.start()
    try:
        with pytest.raises((ValueError, OSError)) as caught:
            read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    check_error(caught.value, path)
    assert re.search(file.cause, str(caught.value)), str(caught.value)
    assert peak < MEMORY + TIMES * len(file.content)


def small() -> Sequential:
    return Sequential([Input((2,)), Dense(2)])


TENSORS = list(hostile.files_of_tensors())


@pytest.mark.parametrize("file", TENSORS, ids=[file.name for file in TENSORS])
def test_files_of_tensors(tmp_path: Path, file: Hostile) -> None:
    path = tmp_path / "hostile.safetensors"
    model = small()
    before = model.get_weights()
    check_refused(read_safetensors, file, path)
    for read in (load_model, model.load_weights):
        check_refused(read, file._replace(cause=""), path)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert os.listdir(tmp_path) == ["hostile.safetensors"]


def test_files_of_models(tmp_path: Path) -> None:
    path = tmp_path / "hostile.safetensors"
    wrong = {}
    count = 0
    for file in hostile.files_of_models(tmp_path):
        count += 1
        try:
            check_refused(load_model, file, path)
        except BaseException as error:  # so that one run shows all
            wrong[file.name] = repr(error)[:400]
    assert wrong == {}
    assert count > 100
