"""Hostile and damaged ONNX files: one clear error, quickly, with little memory; or a model that works."""

from __future__ import annotations

import os
import random
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

import hostile_onnx as hostile  # noqa: E402
import lstm_native.onnx_backend as backend  # noqa: E402
from hostile_onnx import Hostile  # noqa: E402
from lstm_native.convert import from_onnx  # noqa: E402

MEMORY = 16 << 20
TIMES = 10

FILES = hostile.all_files()


def check_error(error: BaseException) -> None:
    """One line that is short enough to read."""
    message = str(error)
    assert "\n" not in message
    assert len(message) < 1000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    hostile.lay_traps(tmp_path)
    return tmp_path


def refused(read: Callable[[Path], Any], file: Hostile, path: Path) -> str:
    path.write_bytes(file.content)
    tracemalloc.start()
    try:
        with pytest.raises((ValueError, OSError)) as caught:
            read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    check_error(caught.value)
    assert peak < MEMORY + TIMES * len(file.content)
    return str(caught.value)


def test_there_are_many() -> None:
    assert len(FILES) > 100
    assert len({file.name for file in FILES}) == len(FILES)


@pytest.mark.parametrize("file", FILES, ids=[file.name for file in FILES])
def test_refused(folder: Path, file: Hostile) -> None:
    path = folder / "hostile.onnx"
    message = refused(from_onnx, file, path)
    assert re.search(file.cause, message), message
    assert str(path) in message


def test_the_backend_refuses_what_is_damaged(folder: Path) -> None:
    for file in [*hostile.files_of_bytes(), *hostile.files_of_graphs()]:
        if file.name in ("a huge size", "an input without a shape"):  # asks for nothing before it runs
            continue
        message = refused(backend.prepare, file, folder / "hostile.onnx")
        assert re.search(file.cause, message), (file.name, message)


def test_bytes_have_no_folder() -> None:
    with pytest.raises(ValueError, match="pass the path"):
        from_onnx(hostile.external(location="beside.data"))


def test_weights_beside_the_model(tmp_path: Path) -> None:
    path = hostile.with_weights_beside(tmp_path)
    plain = from_onnx(hostile.good().SerializeToString())
    for ours, theirs in zip(from_onnx(path).get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_huge_files_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with open(path, "wb") as file:
        file.write(b"\x08\x08")
        file.truncate(3 << 30)  # a hole, which takes no room
    tracemalloc.start()
    with pytest.raises(ValueError, match="at most"):
        from_onnx(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_no_file_and_no_model(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        from_onnx(tmp_path / "nothing.onnx")
    with pytest.raises(OSError):
        from_onnx(tmp_path)
    with pytest.raises(TypeError, match="from_onnx: got a int"):
        from_onnx(3)


# --- good files with random damage ------------------------------------------------------------------


def damaged(content: bytes, rng: random.Random) -> bytes:
    """A good file with a few bytes or bits changed, taken out or put in, or cut off."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        place = rng.randrange(len(data))
        kind = rng.randrange(5)
        if kind == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[place] = rng.choice((0, 1, 2, 7, 8, 10, 18, 34, 58, 127, 128, 255))
        elif kind == 2:
            del data[place : place + rng.randrange(1, 5)]
        elif kind == 3:
            data[place:place] = rng.randbytes(rng.randrange(1, 5))
        elif rng.randrange(4) == 0:
            del data[place + 1 :]
        if len(data) < 9:
            break
    return bytes(data)


def check_damage(times: int, seed: int) -> int:
    """Number of damaged files that could be read; all others are refused with one clear error."""
    rng = random.Random(seed)
    goods = [
        hostile.good().SerializeToString(),
        hostile.good(direction="bidirectional", clip=0.5).SerializeToString(),
        hostile.around(
            [
                hostile.node("Gemm", "x k b", "a", transB=1),
                hostile.node("Relu", "a", "r"),
                hostile.node("MatMul", "r m", "p"),
                hostile.node("Add", "p c", "z"),
                hostile.node("Softmax", "z"),
            ],
            {
                "k": np.ones((3, 4), np.float32),
                "b": np.ones(3, np.float32),
                "m": np.ones((3, 2), np.float32),
                "c": np.ones(2, np.float32),
            },
        ),
    ]
    read = 0
    for _ in range(times):
        content = damaged(rng.choice(goods), rng)
        for convert in (from_onnx, backend.prepare):
            try:
                convert(content)
            except (ValueError, OSError) as error:
                check_error(error)
            else:
                read += 1
    return read


def test_damage() -> None:
    assert check_damage(150, 0) > 10


@pytest.mark.long
def test_much_damage() -> None:
    assert check_damage(2000, 1) > 100


def test_truncated_everywhere() -> None:
    content = hostile.good().SerializeToString()
    for size in range(0, len(content), 3):
        with pytest.raises(ValueError):
            from_onnx(content[:size])


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ValueError, match="this is a device or a pipe, expected an ONNX file"):
        from_onnx(tmp_path / "pipe.onnx")
