"""load_weights: files that are none of weights, and weights that fit some of the layers."""

from __future__ import annotations

import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_native.convert import to_keras
from lstm_native.layers import LSTM, Bidirectional, Dense, Embedding, Input
from lstm_native.models import Model, Sequential, load_model

Save = Callable[[Model, Path], Any]
# Every kind of file that load_weights takes.
FILES: dict[str, tuple[str, Save]] = {
    "weights": ("m.safetensors", lambda m, path: m.save_weights(path)),
    "model": ("m.safetensors", lambda m, path: m.save(path)),
    "weights of Keras": ("m.weights.h5", lambda m, path: m.save_weights(path)),
    "model of Keras": ("m.keras", lambda m, path: m.save(path)),
    "old model of Keras": ("m.h5", lambda m, path: to_keras(m, path, check=False)),
}


def tagger(units: int = 4, classes: int = 2, more: Sequence[Any] = ()) -> Sequential:
    return Sequential(
        [
            Input((6,)),
            Embedding(9, 3, name="words"),
            Bidirectional(LSTM(units), name="reader"),
            Dense(5, name="middle"),
            Dense(classes, name="head"),
            *more,
        ]
    )


def same(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def archive() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("a.txt", "x")
    return content.getvalue()


def array() -> bytes:
    content = io.BytesIO()
    np.save(content, np.ones(3))
    return content.getvalue()


NO_WEIGHTS = {
    "empty": (b"", "the file is empty"),
    "one byte": (b"x", "the file is empty or truncated: 1 byte"),
    "text": (b"epoch,loss\n0,0.5\n1,0.25\n", "no file of a known kind, expected a file of"),
    "noise": (bytes(range(255, 100, -1)), "no file of a known kind, expected a file of"),
    "pickle": (pickle.dumps({"a": list(range(50))}, protocol=4), "known kind|header length"),
    "array": (array(), "this is a NumPy file"),
    "archive": (archive(), "has no metadata.json"),
    "beginning of an archive": (b"PK\3\4", "zip archive"),
    "beginning of HDF5": (b"\x89HDF\r\n\x1a\n", "HDF5 file"),
    "shell script": (b"#!/bin/sh\necho hello\n", "known kind"),
}


@pytest.mark.parametrize("name", NO_WEIGHTS)
@pytest.mark.parametrize("suffix", ["safetensors", "weights.h5", "h5", "hdf5", "keras", "ckpt", "H5", ""])
def test_files_that_hold_no_weights(name: str, suffix: str, tmp_path: Path) -> None:
    content, message = NO_WEIGHTS[name]
    path = tmp_path / f"junk.{suffix}"
    path.write_bytes(content)
    model = tagger()
    before = model.get_weights()
    for skip in (False, True):
        with pytest.raises(ValueError, match=f"{re.escape(str(path))}.*({message})") as caught:
            model.load_weights(path, skip_mismatch=skip)
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(ValueError, match=re.escape(str(path))):
        load_model(path)
    assert same(model.get_weights(), before)


@pytest.mark.parametrize("kind", FILES)
def test_files_that_were_cut_off(kind: str, tmp_path: Path) -> None:
    name, save = FILES[kind]
    save(tagger(), tmp_path / name)
    content = (tmp_path / name).read_bytes()
    model = tagger()
    before = model.get_weights()
    for size in np.linspace(0, len(content) - 1, 40).astype(int):
        (tmp_path / name).write_bytes(content[:size])
        with pytest.raises(ValueError, match=re.escape(name)):
            model.load_weights(tmp_path / name)
        assert same(model.get_weights(), before)


@pytest.mark.parametrize("kind", FILES)
def test_another_architecture_changes_nothing(kind: str, tmp_path: Path) -> None:
    name, save = FILES[kind]
    others = [
        tagger(units=5),
        tagger(classes=3),
        tagger(more=[Dense(2)]),
        Sequential([Input((3,)), Dense(2)]),
    ]
    model = tagger()
    before = model.get_weights()
    for i, other in enumerate(others):
        path = tmp_path / str(i) / name
        path.parent.mkdir()
        save(other, path)
        with pytest.raises(ValueError, match=re.escape(str(path))):
            model.load_weights(path)
        assert same(model.get_weights(), before)


@pytest.mark.parametrize("kind", FILES)
def test_layers_that_do_not_fit_are_skipped(kind: str, tmp_path: Path) -> None:
    name, save = FILES[kind]
    source = tagger()
    save(source, tmp_path / name)
    model = tagger(classes=7)
    own = model.get_layer("head").get_weights()
    with pytest.raises(ValueError, match=r"(head|dense_1)/kernel has shape"):
        model.load_weights(tmp_path / name)
    with pytest.warns(UserWarning, match=r"load_weights skips 'head': .*\(5, 2\).*\(5, 7\)") as caught:
        model.load_weights(tmp_path / name, skip_mismatch=True)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    for layer in ("words", "reader", "middle"):
        assert same(model.get_layer(layer).get_weights(), source.get_layer(layer).get_weights())
    # The bias too, whatever fits of a layer that does not.
    assert same(model.get_layer("head").get_weights(), own)


@pytest.mark.parametrize("kind", FILES)
def test_skipping_where_all_fits_warns_of_nothing(kind: str, tmp_path: Path) -> None:
    name, save = FILES[kind]
    source, model = tagger(), tagger()
    save(source, tmp_path / name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.load_weights(str(tmp_path / name), True)
    assert same(model.get_weights(), source.get_weights())


@pytest.mark.parametrize("kind", FILES)
def test_layers_that_only_one_side_has(kind: str, tmp_path: Path) -> None:
    name, save = FILES[kind]
    source, model = tagger(), tagger(more=[Dense(3, name="more")])
    (tmp_path / "small").mkdir()
    save(source, tmp_path / "small" / name)
    own = model.get_layer("more").get_weights()
    with pytest.warns(UserWarning, match="skips 'more'") as caught:
        model.load_weights(tmp_path / "small" / name, skip_mismatch=True)
    assert len(caught) == 1
    assert same(model.get_weights(), [*source.get_weights(), *own])
    (tmp_path / "large").mkdir()
    save(model, tmp_path / "large" / name)
    small = tagger()
    small.load_weights(tmp_path / "large" / name, skip_mismatch=True)
    assert same(small.get_weights(), source.get_weights())


def test_old_files_with_another_number_of_layers(tmp_path: Path) -> None:
    source = tagger()
    to_keras(source, tmp_path / "m.h5", check=False)
    model = tagger(more=[Dense(3)])
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"the file has 4 layers with weights, .* has 5$"):
        model.load_weights(tmp_path / "m.h5")
    other = Sequential([Input((6,)), Embedding(9, 3, name="a"), LSTM(4, name="b")])
    with pytest.raises(ValueError, match=r"4 layers with weights, .* has 2, and no name is the same"):
        other.load_weights(tmp_path / "m.h5", skip_mismatch=True)
    assert same(model.get_weights(), before)
    # Layers in between, and others that do not fit.
    model = Sequential(
        [
            Input((6,)),
            Embedding(9, 3, name="words"),
            Dense(3, name="new"),
            Bidirectional(LSTM(4), name="reader"),
            Dense(7, name="middle"),
            Dense(2, name="head"),
        ]
    )
    with pytest.warns(UserWarning, match="load_weights skips") as caught:
        model.load_weights(tmp_path / "m.h5", skip_mismatch=True)
    found = [str(warning.message) for warning in caught]
    assert [text.split("'")[3] for text in found] == ["new", "middle", "head"]
    assert "the file has no layer 'new'" in found[0]
    for layer in ("words", "reader"):
        assert same(model.get_layer(layer).get_weights(), source.get_layer(layer).get_weights())
    more = tagger(more=[Dense(3, name="more")])
    own = more.get_layer("more").get_weights()
    more.load_weights(tmp_path / "m.h5", objects_to_skip=[more.get_layer("more")])
    assert same(more.get_weights(), [*source.get_weights(), *own])
    with pytest.raises(ValueError, match="the file has no layer 'more'"):
        more.load_weights(tmp_path / "m.h5", objects_to_skip=[more.get_layer("head")])


def test_by_name(tmp_path: Path) -> None:
    source = tagger()
    to_keras(source, tmp_path / "m.h5", check=False)
    model = Sequential(
        [
            Input((6,)),
            Embedding(9, 3, name="words"),
            LSTM(4, name="new"),
            Dense(5, name="other"),
            Dense(2, name="head"),
        ]
    )
    before = model.get_weights()
    model.load_weights(tmp_path / "m.h5", by_name=True)
    assert same(model.get_layer("words").get_weights(), source.get_layer("words").get_weights())
    assert same(model.get_layer("head").get_weights(), source.get_layer("head").get_weights())
    assert same(model.get_weights()[1:-2], before[1:-2])
    wider = tagger(classes=7)
    with pytest.raises(ValueError, match="head"):
        wider.load_weights(tmp_path / "m.h5", by_name=True)
    with pytest.warns(UserWarning, match="skips 'head'"):
        wider.load_weights(tmp_path / "m.h5", by_name=True, skip_mismatch=True)
    assert same(wider.get_layer("reader").get_weights(), source.get_layer("reader").get_weights())


@pytest.mark.parametrize("kind", [kind for kind in FILES if not kind.startswith("old")])
def test_by_name_needs_a_file_that_goes_by_names(kind: str, tmp_path: Path) -> None:
    name, save = FILES[kind]
    save(tagger(), tmp_path / name)
    model = tagger()
    before = model.get_weights()
    with pytest.raises(ValueError, match=f"{name}: by_name=True needs a file of old Keras"):
        model.load_weights(tmp_path / name, by_name=True)
    assert same(model.get_weights(), before)


@pytest.mark.parametrize("kind", FILES)
def test_objects_to_skip(kind: str, tmp_path: Path) -> None:
    name, save = FILES[kind]
    source, model = tagger(classes=7), tagger()
    save(source, tmp_path / name)
    own = model.get_layer("head").get_weights()
    model.load_weights(tmp_path / name, objects_to_skip=[model.get_layer("head")])
    assert same(model.get_weights(), [*source.get_weights()[:-2], *own])
    with pytest.raises(TypeError, match="objects_to_skip has a str, expected layers"):
        model.load_weights(tmp_path / name, objects_to_skip=["head"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="objects_to_skip is a Dense, expected a list of layers"):
        model.load_weights(tmp_path / name, objects_to_skip=model.layers[-1])  # type: ignore[arg-type]
