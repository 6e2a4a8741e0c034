"""Files that are there or not: failing writes, kills at any moment, and reading what is no regular file."""

from __future__ import annotations

import builtins
import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import saving_support
from lstm_native.models import load_model
from lstm_native.saving import read_safetensors, write_safetensors
from saving_support import numbered_model

READERS = [read_safetensors, load_model, numbered_model(0).load_weights]


class Failing:
    """Stands for the file system: fails at the n-th call that changes something.

    Attributes:
        calls: what was called.
    """

    def __init__(self, patch: pytest.MonkeyPatch, fail_at: int) -> None:
        self.calls: list[str] = []
        self._fail_at = fail_at
        really_open = builtins.open

        def opened(path: Any, mode: str = "r", *args: Any) -> Any:
            if "x" not in mode:
                return really_open(path, mode, *args)
            self._count("open")
            file = really_open(path, mode, *args)
            return FailingFile(file, self)

        patch.setattr(builtins, "open", opened)
        for name in ("fsync", "replace"):
            really = getattr(os, name)
            patch.setattr(os, name, self._failing(name, really))

    def _failing(self, name: str, really: Any) -> Any:
        def call(*args: Any) -> Any:
            self._count(name)
            return really(*args)

        return call

    def _count(self, name: str) -> None:
        self.calls.append(name)
        if len(self.calls) == self._fail_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write(self) -> None:
        self._count("write")


class FailingFile:
    """A file whose writes are counted."""

    def __init__(self, file: Any, failing: Failing) -> None:
        self._file = file
        self._failing = failing

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: Any) -> Any:
        self._failing.write()
        return self._file.write(data)


def test_a_disk_that_is_full_at_any_moment(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    numbered_model(1).save(path)
    before = path.read_bytes()
    new = numbered_model(2)
    every_call = ["open", *["write"] * 4, "fsync", "replace", "fsync"]
    for moment in range(1, len(every_call) + 1):
        with pytest.MonkeyPatch.context() as patch:
            failing = Failing(patch, moment)
            with pytest.raises(OSError, match="No space left") as caught:
                new.save(path)
        assert caught.value.errno == errno.ENOSPC
        # The name of the temporary file is an affair of ours.
        assert caught.value.filename in (str(path), None)
        assert failing.calls == every_call[:moment]
        assert os.listdir(tmp_path) == ["m.safetensors"]
        # When the folder fails, which comes last, the new file is in its place.
        assert (path.read_bytes() == before) == (moment < len(every_call))
    with pytest.MonkeyPatch.context() as patch:
        failing = Failing(patch, 0)
        new.save(path)
        assert failing.calls == every_call
    assert load_model(path).get_weights()[1][0] == 2


def test_what_cannot_be_replaced(tmp_path: Path) -> None:
    model = numbered_model(1)
    with pytest.raises(FileNotFoundError, match="none"):
        model.save(tmp_path / "none" / "m.safetensors")
    (tmp_path / "d.safetensors").mkdir()
    with pytest.raises(IsADirectoryError, match=r"d\.safetensors"):
        model.save(tmp_path / "d.safetensors")
    assert os.listdir(tmp_path) == ["d.safetensors"]


def kill_while_saving(folder: Path, kills: int, rng: random.Random) -> int:
    """Number of kills that came while a file was written, of all; every time the file is whole."""
    path = folder / "m.safetensors"
    value = 0.0
    during = 0
    numbered_model(0).save(path)
    for _ in range(kills):
        with subprocess.Popen(
            [sys.executable, saving_support.__file__, str(path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.random() * 0.02)
            process.send_signal(signal.SIGKILL)
            told = process.stdout.read().split()
        # The next one may be whole before its process has said so.
        expected = {float(told[-1]), float(told[-1]) + 1} if told else {value, 1.0}
        found = {float(v) for weights in load_model(path).get_weights() for v in np.unique(weights)}
        assert len(found) == 1
        assert found <= expected
        value = found.pop()
        left = [name for name in os.listdir(folder) if name != path.name]
        assert all(name.startswith(".m.safetensors.") and name.endswith(".tmp") for name in left)
        during += bool(left)
        for name in left:
            os.unlink(folder / name)
    return during


def test_kills_leave_a_whole_file(tmp_path: Path) -> None:
    kill_while_saving(tmp_path, 4, random.Random(0))


@pytest.mark.long
def test_a_thousand_kills(tmp_path: Path) -> None:
    assert kill_while_saving(tmp_path, 1000, random.Random(1)) > 20


# --- reading what is no regular file ----------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="files of POSIX")
@pytest.mark.parametrize("read", READERS)
def test_reading_what_is_no_regular_file(tmp_path: Path, read: Any) -> None:
    fifo = tmp_path / "fifo.safetensors"
    os.mkfifo(fifo)
    link = tmp_path / "link.safetensors"
    link.symlink_to(fifo)
    for path in (fifo, link, "/dev/zero", "/dev/null"):
        with pytest.raises(ValueError, match=rf"^{path}: this is a device or a pipe"):
            read(path)
    with pytest.raises(IsADirectoryError, match=f"^{tmp_path}: this is a folder"):
        read(tmp_path)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (loop, tmp_path / "none", tmp_path / "a" / "b", tmp_path / ("x" * 300)):
        with pytest.raises(OSError, match=path.name):
            read(path)
    for wrong in (0, None, 3.5, ["a"]):
        with pytest.raises(TypeError):
            read(wrong)
    with pytest.raises(ValueError, match="null"):
        read("a\0b")


def test_a_file_that_gets_shorter_while_it_is_read(tmp_path: Path) -> None:
    from lstm_native.saving import SafetensorsFile

    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"a": np.arange(100_000.0)})
    with SafetensorsFile(path) as file:
        os.truncate(path, 1000)
        with pytest.raises(ValueError, match="it got shorter"):
            file.read("a")


def test_saving_over_a_file_that_is_read(tmp_path: Path) -> None:
    from lstm_native.saving import SafetensorsFile

    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"a": np.zeros(1000)})
    with SafetensorsFile(path) as file:
        write_safetensors(path, {"a": np.ones(10)})
        assert file.read("a").sum() == 0
    assert read_safetensors(path)[0]["a"].sum() == 10
