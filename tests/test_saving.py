"""The safetensors reader and writer: round trips, layout, atomic replacement, hostile files."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from lstm_native.saving import read_safetensors, write_safetensors

DTYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]


def raw_file(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    """A file with this header (an object or bytes), right or wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip(tmp_path: Path, dtype: str) -> None:
    rng = np.random.default_rng(0)
    tensors = {
        "matrix": (rng.normal(size=(3, 5)) * 3).astype(dtype),
        "scalar": np.array(1, dtype),
        "empty": np.zeros((0, 4), dtype),
        'ünï/code "name"': np.ones(7, dtype),
    }
    write_safetensors(tmp_path / "x.safetensors", tensors, {"format": "test", "ü": "é"})
    read, metadata = read_safetensors(str(tmp_path / "x.safetensors"))
    assert metadata == {"format": "test", "ü": "é"}
    assert set(read) == set(tensors)
    for name, array in tensors.items():
        assert read[name].dtype == array.dtype
        assert read[name].shape == array.shape
        np.testing.assert_array_equal(read[name], array)
        assert read[name].flags.writeable
        assert read[name].flags.aligned


def test_any_layout_and_byte_order(tmp_path: Path) -> None:
    base = np.arange(24.0).reshape(4, 6)
    tensors = {"big": base.astype(">f8"), "strided": base[::2, ::-1], "fortran": np.asfortranarray(base)}
    base.flags.writeable = False
    write_safetensors(tmp_path / "x", tensors)
    read, metadata = read_safetensors(tmp_path / "x")
    assert metadata == {}
    for name, array in tensors.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype.isnative


def test_layout_is_that_of_the_format(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_safetensors(path, {"b": np.ones(3, np.int8), "a": np.ones(2, np.float32)})
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    header = json.loads(data[8 : 8 + length])
    assert header["a"] == {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    assert header["b"] == {"dtype": "I8", "shape": [3], "data_offsets": [8, 11]}
    assert data[8 + length :] == np.ones(2, "<f4").tobytes() + b"\1\1\1"


def test_bfloat16_comes_as_float32(tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, np.inf, 0.15625, 3e38], np.float32)
    halves = (values.view(np.uint32) >> 16).astype("<u2")
    header = json.dumps({"w": {"dtype": "BF16", "shape": [5], "data_offsets": [0, 10]}}).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + halves.tobytes())
    (found,) = read_safetensors(path)[0].values()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:4], values[:4])
    assert found[4] == pytest.approx(3e38, rel=2**-7)


def test_no_tensors(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "x", {})
    assert read_safetensors(tmp_path / "x") == ({}, {})


def test_what_the_writer_refuses(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_safetensors(path, {"a": np.ones(2)})
    before = path.read_bytes()
    for tensors in (
        {"a": np.array(["text"])},
        {"a": np.array([object()])},
        {"a": np.ones(2, complex)},
        {3: np.ones(2)},
    ):
        with pytest.raises(TypeError, match="write_safetensors"):
            write_safetensors(path, tensors)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="__metadata__"):
        write_safetensors(path, {"__metadata__": np.ones(2)})
    with pytest.raises(TypeError, match="metadata"):
        write_safetensors(path, {}, {"a": 1})  # type: ignore[dict-item]
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    write_safetensors(path, {"a": np.ones(2)})
    before = path.read_bytes()
    for function in ("fsync", "replace"):
        with monkeypatch.context() as patch:

            def fail(*args: Any) -> None:
                raise OSError("disk full")

            patch.setattr(os, function, fail)
            with pytest.raises(OSError, match="disk full"):
                write_safetensors(path, {"a": np.zeros(2)})
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["x"]
    with pytest.raises(FileNotFoundError):
        write_safetensors(tmp_path / "no" / "x", {})


@pytest.mark.skipif(os.name != "posix", reason="links and permission bits of POSIX")
def test_links_are_followed_and_the_umask_is_honoured(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    target = tmp_path / "deep" / "target"
    target.write_bytes(b"old")
    link = tmp_path / "link"
    link.symlink_to(target)
    before = os.umask(0o027)
    try:
        write_safetensors(link, {"a": np.ones(2)})
    finally:
        os.umask(before)
    assert link.is_symlink()
    assert read_safetensors(target)[0]["a"].tolist() == [1, 1]
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        (b"[]", b"", "does not start with"),
        (b"", b"", "header is no valid JSON"),
        (b"{", b"", "header is no valid JSON"),
        (b"\xff\xfe{}", b"", "does not start with"),
        (b'{"\xff": 1}', b"", "header is no valid JSON"),
        (b'{"a": NaN}', b"", "NaN is no JSON"),
        (b"{" + b'"a":{' * 100_000, b"", "header is no valid JSON"),
        (b'{"a": ' + b"9" * 10_000 + b"}", b"", "header is no valid JSON"),
        (b'{"a": {"dtype":"F32","shape":[],"data_offsets":[0,4]}, "a": 1}', b"0123", "duplicate key 'a'"),
        (
            b'{"a": {"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4]}}',
            b"0123",
            "duplicate key 'dtype'",
        ),
        ({"__metadata__": {"a": 1}}, b"", "__metadata__ is no object of strings"),
        ({"__metadata__": "a"}, b"", "__metadata__ is no object of strings"),
        ({"a": 3}, b"", "tensor 'a': expected exactly the fields"),
        ({"a": {"dtype": "F32", "shape": []}}, b"0123", "tensor 'a': expected exactly the fields"),
        ({"a": {**entry(), "more": 1}}, b"01234567", "tensor 'a': expected exactly the fields"),
        ({"a": entry("F31")}, b"01234567", "dtype is 'F31'"),
        ({"a": entry(["F32"])}, b"01234567", "dtype is"),
        ({"a": entry(shape=2)}, b"01234567", "shape is 2"),
        ({"a": entry(shape=[-2])}, b"01234567", r"shape is \[-2\]"),
        ({"a": entry(shape=[2.0])}, b"01234567", r"shape is \[2.0\]"),
        ({"a": entry(shape=[True, 2])}, b"01234567", "shape is"),
        ({"a": entry(shape=[1 << 62, 4])}, b"01234567", "overflows"),
        ({"a": entry(shape=[1 << 64])}, b"01234567", "shape is"),
        ({"a": entry(shape=[0, 1 << 62, 1 << 62], offsets=[0, 0])}, b"", "overflows"),
        ({"a": entry(shape=[1] * 99, offsets=[0, 4])}, b"0123", "99 axes"),
        ({"a": entry(offsets=[0])}, b"01234567", "data_offsets is"),
        ({"a": entry(offsets=[8, 0])}, b"01234567", "data_offsets is"),
        ({"a": entry(offsets=[-8, 0])}, b"01234567", "data_offsets is"),
        ({"a": entry(offsets=[0, 16], shape=[4])}, b"01234567", "end at 16, but only 8"),
        ({"a": entry(shape=[3])}, b"01234567", "needs 12 bytes, data_offsets hold 8"),
        ({"a": entry(), "b": entry(offsets=[4, 12])}, b"0123456789ab", "'b': data_offsets .* overlaps"),
        ({"a": entry(), "b": entry()}, b"01234567", "overlaps"),
        ({"a": entry(), "b": entry(offsets=[12, 20])}, b"0" * 20, "'b': data_offsets .* leaves a gap"),
        ({"a": entry(offsets=[4, 12])}, b"0" * 12, "leaves a gap"),
        ({"a": entry()}, b"0" * 12, "take 8 bytes, but 12 follow"),
        ({}, b"0", "take 0 bytes, but 1 follow"),
        ({"a": entry("BOOL", [2], [0, 2])}, b"\1\2", "other than 0 and 1"),
    ],
)
def test_hostile_headers(tmp_path: Path, header: Any, data: bytes, message: str) -> None:
    path = raw_file(tmp_path / "hostile", header, data)
    with pytest.raises(ValueError, match=message) as caught:
        read_safetensors(path)
    assert str(path) in str(caught.value)


def test_hostile_lengths(tmp_path: Path) -> None:
    path = tmp_path / "hostile"
    for content in (b"", b"1234567"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="truncated"):
            read_safetensors(path)
    raw_file(path, b"{}", length=3)
    with pytest.raises(ValueError, match="header length is 3, but only 2 bytes follow"):
        read_safetensors(path)
    for length in (100_000_001, (1 << 64) - 1):
        raw_file(path, b"{}", length=length)
        with pytest.raises(ValueError, match="the format allows 100000000"):
            read_safetensors(path)


def test_header_may_be_padded_with_spaces(tmp_path: Path) -> None:
    path = raw_file(
        tmp_path / "x", json.dumps({"a": entry()}).encode() + b"  \n ", np.ones(2, "<f4").tobytes()
    )
    assert read_safetensors(path)[0]["a"].tolist() == [1, 1]


# Reading damaged files must end in one clear error, whatever the damage.
@hypothesis.settings(max_examples=300)
@hypothesis.given(position=st.integers(0, 10_000), value=st.integers(0, 255), cut=st.integers(0, 10_000))
def test_damaged_files(tmp_path_factory: pytest.TempPathFactory, position: int, value: int, cut: int) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    write_safetensors(path, {"a": np.arange(6, dtype=np.int16), "b": np.array([True, False])}, {"k": "v"})
    data = bytearray(path.read_bytes())
    data[position % len(data)] = value
    path.write_bytes(data[: len(data) - cut % len(data)] if cut % 2 else data)
    message, read = str(path), None
    try:
        read, _ = read_safetensors(path)
    except ValueError as error:
        message = str(error)
    assert str(path) in message
    assert read is None or sum(array.nbytes for array in read.values()) == 14


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"PK\x03\x04\x14\0\0\0", "a zip archive"),
        (b"\x93NUMPY\1\0", "a NumPy"),
    ],
)
def test_other_formats_are_recognized(tmp_path: Path, start: bytes, kind: str) -> None:
    path = tmp_path / "model.weights.h5"
    path.write_bytes(start + b"\0" * 100)
    with pytest.raises(
        ValueError, match=rf"model\.weights\.h5: this is {kind}.* expected a safetensors file"
    ):
        read_safetensors(path)


def test_errors_of_paths_name_the_path_that_was_given(tmp_path: Path) -> None:
    one = {"a": np.zeros(1)}
    with pytest.raises(FileNotFoundError, match=r"none/x\.safetensors'$"):
        write_safetensors(tmp_path / "none" / "x.safetensors", one)
    with pytest.raises(IsADirectoryError, match=f"{tmp_path}'$"):
        write_safetensors(tmp_path, one)
    with pytest.raises(TypeError):
        read_safetensors(0)  # type: ignore[arg-type]
    write_safetensors(os.fsencode(tmp_path / "x"), one)  # type: ignore[arg-type]
    assert read_safetensors(tmp_path / "x")[0]["a"].shape == (1,)
