"""Data sets and get_file: pickled lists without pickle, the choice of words, addresses and archives."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_native
from lstm_native.datasets import imdb, objects, reuters
from lstm_native.utils import get_file

RNG = np.random.default_rng(17)


def lists(count: int) -> Any:
    made = np.empty(count, object)
    for i in range(count):
        made[i] = [int(n) for n in RNG.integers(1, 90_000, RNG.integers(1, 300))]
    return made


@pytest.fixture
def reviews(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    arrays = {"x_train": lists(30), "y_train": RNG.integers(0, 2, 30), "x_test": lists(20)}
    arrays["y_test"] = RNG.integers(0, 2, 20)
    np.savez(tmp_path / "reviews.npz", **arrays)
    return tmp_path / "reviews.npz", arrays


def test_reviews(reviews: tuple[Path, dict[str, Any]]) -> None:
    path, arrays = reviews
    (x, y), (x_test, y_test) = imdb.load_data(str(path))
    assert x.dtype == object
    assert x.shape == (30,)
    assert x_test.shape == (20,)
    # The order of Keras: both halves from one generator.
    generator = np.random.RandomState(113)
    for given, labels, found, of_found in (
        (arrays["x_train"], arrays["y_train"], x, y),
        (arrays["x_test"], arrays["y_test"], x_test, y_test),
    ):
        order = np.arange(len(given))
        generator.shuffle(order)
        np.testing.assert_array_equal(of_found, labels[order])
        top = max(max(text) for part in ("x_train", "x_test") for text in arrays[part]) + 3
        for i, text in zip(order, found, strict=True):
            assert text == [1, *(2 if n + 3 == top else n + 3 for n in given[i])]


def test_the_choice_of_words(reviews: tuple[Path, dict[str, Any]]) -> None:
    path = str(reviews[0])
    (x, _), _ = imdb.load_data(path, num_words=1000, skip_top=10)
    assert {n for text in x for n in text} <= {2, *range(10, 1000)}
    (x, y), _ = imdb.load_data(path, num_words=1000, maxlen=100, oov_char=None, start_char=None, index_from=0)
    assert 0 < len(x) == len(y) < 30
    assert {n for text in x for n in text} <= set(range(1, 1000))
    with pytest.raises(ValueError, match="maxlen is 1"):
        imdb.load_data(path, maxlen=1)
    with pytest.raises(TypeError, match="unknown argument 'nb_words'"):
        imdb.load_data(path, nb_words=3)


def test_news(tmp_path: Path) -> None:
    np.savez(tmp_path / "news.npz", x=lists(10), y=np.arange(10))
    (x, y), (x_test, y_test) = reuters.load_data(str(tmp_path / "news.npz"), test_split=0.3)
    assert (len(x), len(x_test)) == (7, 3)
    assert sorted([*y, *y_test]) == list(range(10))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol(tmp_path: Path, protocol: int) -> None:
    given = lists(5)
    given[0] = [0, 255, 256, 65_535, 65_536, -1, 2**40, True, None, []]
    stream = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": (5,)}
    np.lib.format.write_array_header_1_0(stream, header)
    stream.write(pickle.dumps(given, protocol=protocol))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", stream.getvalue())
    found = objects.load_npz(tmp_path / "a.npz")["x"]
    assert found.tolist() == given.tolist()


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return print, ("run",)

    bad = np.empty(1, object)
    bad[0] = Evil()
    path = tmp_path / "bad.npz"
    np.savez(path, x_train=bad)
    with pytest.raises(ValueError, match=r"pickle with builtins\.print"):
        imdb.load_data(str(path))
    good = np.empty(1, object)
    good[0] = list(range(100))
    np.savez(path, x=good)
    with zipfile.ZipFile(path) as archive:
        data = archive.read("x.npy")
    for size in range(140, len(data) - 1, 7):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", data[:size])
        with pytest.raises(ValueError, match=r"damaged|operation|no array"):
            objects.load_npz(path)
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ValueError, match=r"no \.npz file"):
        imdb.load_data(str(tmp_path / "text.npz"))


def test_numbers_of_words(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(json.dumps({"the": 1}))
    assert imdb.get_word_index(str(tmp_path / "index.json")) == {"the": 1}
    assert reuters.get_word_index(str(tmp_path / "index.json")) == {"the": 1}
    assert lstm_native.datasets.imdb is imdb


def test_files_from_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    source = tmp_path / "text.txt"
    source.write_text("one")
    digest = hashlib.sha256(b"one").hexdigest()
    path = get_file(origin=source.as_uri(), file_hash=digest)
    assert Path(path) == tmp_path / "home" / "datasets" / "text.txt"
    assert "Downloading data" in capsys.readouterr().out
    source.write_text("two")
    assert Path(get_file(origin=source.as_uri())).read_text() == "one"
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError, match="gave a file with the hash"):
        get_file(origin=source.as_uri(), md5_hash="0" * 32)
    assert Path(get_file("x", source.as_uri(), cache_dir=tmp_path, force_download=True)).read_text() == "two"
    for name in ("../x", "..", "a/b"):
        with pytest.raises(ValueError, match="without folders"):
            get_file(name, source.as_uri())
    with pytest.raises(ValueError, match="origin is missing"):
        get_file("x")
    before = sorted((tmp_path / "home" / "datasets").iterdir())
    with pytest.raises(OSError, match="nothing"):
        get_file(origin=(tmp_path / "nothing").as_uri())
    assert sorted((tmp_path / "home" / "datasets").iterdir()) == before


def test_archives(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as zipped:
        zipped.write(tmp_path / "a.txt", "in/a.txt")
    with tarfile.open(tmp_path / "t.tar.gz", "w:gz") as tarred:
        tarred.add(tmp_path / "a.txt", "in/a.txt")
    for name, argument in (("z.zip", "extract"), ("t.tar.gz", "untar")):
        folder = get_file(origin=(tmp_path / name).as_uri(), cache_dir=tmp_path / "c", **{argument: True})  # type: ignore[arg-type]
        assert folder.endswith("_extracted")
        assert (Path(folder) / "in" / "a.txt").read_text() == "a"
    with pytest.raises(ValueError, match="no archive"):
        get_file(origin=(tmp_path / "a.txt").as_uri(), cache_dir=tmp_path / "c", extract=True)
