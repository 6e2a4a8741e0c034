"""Hostile and damaged safetensors files: one clear error, little memory, and nothing half loaded."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import random
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hostile_safetensors as hostile
from damage import with_odd_values
from hostile_safetensors import Hostile, good_functional, good_model, good_texts, save_whole
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


def check_refused(read: Callable[[Path], Any], file: Hostile, path: Path, memory: bool = True) -> None:
    """One clear error; with `memory`, which takes its time, in little memory."""
    path.write_bytes(file.content)
    peak = 0
    if memory:
        tracemalloc.start()
    try:
        with pytest.raises((ValueError, OSError)) as caught:
            read(path)
        if memory:
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
            check_refused(load_model, file, path, re.search("units|million|terabyte", file.name) is not None)
        except BaseException as error:  # so that one run shows all
            wrong[file.name] = repr(error)[:400]
    assert wrong == {}
    assert count > 100


# --- good files with random damage ------------------------------------------------------------------


def damaged(content: bytes, rng: random.Random) -> bytes:
    """A good file with a few bytes or bits changed, mostly in the header, or cut off, or spliced."""
    header = 8 + int.from_bytes(content[:8], "little")
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        place = rng.randrange(min(rng.choice((8, header, header, len(data))), len(data)))
        kind = rng.randrange(6)
        if kind == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[place] = rng.choice(b'0123456789"[]{}:,\\ -.eEtfn\0\xff')
        elif kind == 2:
            del data[place : place + rng.randrange(1, 5)]
        elif kind == 3:
            data[place:place] = rng.choice((b"0", b"9", b'"', b"[[", b"}", b"-", b"\0\0\0", b"1e9", b"null"))
        elif kind == 4:
            other = rng.randrange(header)
            size = rng.randrange(1, 40)
            data[place : place + size] = data[other : other + size]
        else:
            del data[place + 8 :]
        if len(data) < 9:
            break
    if rng.randrange(2) and len(data) > 8:  # so that the damage goes deeper than the length
        at = data.find(b"}   ") if rng.randrange(4) == 0 else -1
        length = header - 8 + len(data) - len(content) if at < 0 else at + 1 - 8
        data[:8] = max(length, 0).to_bytes(8, "little")
    return bytes(data)


def check_odd_values(folder: Path, times: int, seed: int) -> int:
    """Number of files with odd values in their JSON that could be loaded; all others are refused."""
    path = folder / "odd.safetensors"
    rng = random.Random(seed)
    goods = []
    for model in (good_model(), good_functional(), good_texts()):
        model.compile("adam", "mse", metrics=["mae"])
        save_whole(model, path)
        goods.append(hostile.Parts(path))
    loaded = 0
    for _ in range(times):
        parts = copy.copy(rng.choice(goods))
        parts.metadata = dict(parts.metadata)
        key = rng.choice(("config", "config", "config", "compile", "optimizer"))
        value = with_odd_values(json.loads(parts.metadata[key]), rng, rng.choice((1, 1, 1, 2, 5)))
        parts.metadata[key] = json.dumps(value)
        path.write_bytes(parts.content())
        try:
            load_model(path)
        except (ValueError, OSError) as error:
            check_error(error, path)
        else:
            loaded += 1
    return loaded


def test_odd_values(tmp_path: Path) -> None:
    assert check_odd_values(tmp_path, 300, 0) > 10


@pytest.mark.long
def test_many_odd_values(tmp_path: Path) -> None:
    assert check_odd_values(tmp_path, 10_000, 1) > 100


def check_damage(folder: Path, times: int, seed: int) -> int:
    """Number of damaged files that could be loaded; all others are refused with one clear error."""
    path = folder / "damaged.safetensors"
    rng = random.Random(seed)
    ids = np.arange(20).reshape(4, 5) % 9
    rows = np.ones((4, 3))
    goods = [
        (save_whole(good_model(), path), ids),
        (save_whole(good_functional(), path), rows),
        (save_whole(good_texts(), path), np.array(["one two", "three"])),
    ]
    other = good_model()
    weights = other.get_weights()
    loaded = 0
    for _ in range(times):
        content, x = goods[rng.randrange(3)]
        content = damaged(content, rng)
        path.write_bytes(content)
        try:
            model = load_model(path)
        except (ValueError, OSError) as error:
            check_error(error, path)
        else:
            loaded += 1
            check_model(model, x)
        try:
            other.load_weights(path)
        except (ValueError, OSError) as error:
            check_error(error, path)
            now = other.get_weights()
            assert all(np.array_equal(a, b) for a, b in zip(now, weights, strict=True))
        else:
            other.set_weights(weights)
    return loaded


def check_model(model: Any, x: Any) -> None:
    """A model that was loaded works, or says what it misses: the damage may have changed what it takes."""
    with np.errstate(all="ignore"), contextlib.suppress(ValueError, TypeError):
        y = model.predict(x, verbose=0)
        assert y.shape[0] == len(x)


def test_damage(tmp_path: Path) -> None:
    assert check_damage(tmp_path, 500, 0) > 10


@pytest.mark.long
def test_much_damage(tmp_path: Path) -> None:
    assert check_damage(tmp_path, 10_000, 1) > 100


def test_truncated_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    content = save_whole(good_functional(), path)
    whole = good_functional()
    before = whole.get_weights()
    header = 8 + int.from_bytes(content[:8], "little")
    sizes = {*range(32), *range(header - 9, header + 9), *range(32, len(content), 9), len(content) - 1}
    for size in sorted(sizes):
        path.write_bytes(content[:size])
        for read in (read_safetensors, load_model, whole.load_weights):
            with pytest.raises(ValueError, match=re.escape(str(path))):
                read(path)
    assert all(np.array_equal(a, b) for a, b in zip(whole.get_weights(), before, strict=True))
