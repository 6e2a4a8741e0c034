"""Hostile and broken files of Keras: one clear sentence, nothing run, nothing fetched, memory bounded."""

from __future__ import annotations

import copy
import io
import random
import re
import sys
import tracemalloc
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from damage import with_odd_values
from hostile_keras import Hostile, all_files, archive, good_config
from lstm_native import load_model
from lstm_native.convert import Conversion, from_keras
from lstm_native.convert.both_sides import NotRun
from lstm_native.convert.keras_config import MODELS, RENAMED, KerasConfig, known_classes
from lstm_native.convert.keras_file import read_keras_file
from lstm_native.convert.keras_hdf5 import read_hdf5
from lstm_native.convert.keras_masks import OPERATIONS
from lstm_native.convert.keras_original import PlainConfig
from lstm_native.layers import Dense, Input
from lstm_native.models import Sequential
from lstm_native.serialization import deserialize

DATA = Path(__file__).parent / "data" / "keras"
FILES = list(all_files())
KERNEL = np.arange(6, dtype=np.float32).reshape(3, 2)
with zipfile.ZipFile(DATA / "hostile.zip") as _file:
    HDF5 = {name: _file.read(name) for name in _file.namelist()}
# What a reader may take beside the file and its arrays: Python's own objects for a small file.
ROOM = 1 << 24


@pytest.fixture(autouse=True)
def _without_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Keras is installed, models would be run beside it: test_keras_live.py does that."""
    for package in ("keras", "tf_keras"):
        monkeypatch.setitem(sys.modules, package, None)


def read(path: Path) -> Any:
    """The model; files of weights alone for the model that they are made for."""
    try:
        return from_keras(path)
    except ValueError as error:
        if "weights alone" not in str(error):
            raise
        return from_keras(path, model=Sequential([Input((3,)), Dense(2)]))


def test_there_are_enough() -> None:
    assert len(FILES) + len(HDF5) > 200
    assert len({hostile.name + hostile.suffix for hostile in FILES}) == len(FILES)


@pytest.mark.parametrize("hostile", FILES, ids=lambda hostile: hostile.name + hostile.suffix)
def test_a_crafted_file_is_one_sentence(
    hostile: Hostile, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"file{hostile.suffix}"
    path.write_bytes(hostile.content)
    if hostile.cause is None:
        assert from_keras(path).built
    else:
        with pytest.raises(ValueError) as error:
            from_keras(path)
        message = str(error.value)
        assert message.startswith(str(path))
        assert re.search(hostile.cause, message), message
        assert "\n" not in message
        assert len(message) < 1000
    assert capfd.readouterr() == ("", "")
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", HDF5)
def test_hdf5_that_reaches_out_or_promises_more_than_it_holds(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file.h5"
    path.write_bytes(HDF5[name])
    (tmp_path / "good").write_bytes(HDF5["good"])  # what links may point at
    model = Sequential([Input((3,)), Dense(2)])
    before = model.get_weights()
    if name.startswith("good"):
        from_keras(path, model=model)
        np.testing.assert_array_equal(model.get_weights()[0], KERNEL)
        return
    with pytest.raises(ValueError, match=re.escape(str(path))) as error:
        from_keras(path, model=model)
    assert "\n" not in str(error.value)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)  # all or nothing


@pytest.mark.parametrize(
    ("name", "cause"),
    {
        "external link": "an external link",
        "soft link": "a soft link",
        "virtual": "virtual",
        "external storage": "external files",
        "shape bomb in one piece": "more than the file can hold",
        "shape bomb in chunks": "more than the file can hold",
        "shape bomb of the right rank": "no values",
        "circle": "circle",
        "deep": "nested more than 64 deep",
        "compound": "type compound",
        "strings of any length": "strings",
        "compressed": "filters",
        "committed type": "shared messages",
    }.items(),
)
def test_the_sentence_says_what_is_wrong(name: str, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        read_hdf5(HDF5[name], "file")


def test_load_model_too(tmp_path: Path) -> None:
    for name in ("Lambda 2", "bomb in the weights", "os.system"):
        hostile = next(one for one in FILES if one.name == name)
        path = tmp_path / f"file{hostile.suffix}"
        path.write_bytes(hostile.content)
        with pytest.raises(ValueError, match=hostile.cause):
            load_model(path)


def test_memory_stays_near_the_size_of_the_file(tmp_path: Path) -> None:
    files = [(hostile.name, hostile.suffix, hostile.content) for hostile in FILES]
    files += [(name, ".h5", content) for name, content in HDF5.items()]
    for name, suffix, content in files:
        path = tmp_path / f"file{suffix}"
        path.write_bytes(content)
        tracemalloc.start()
        try:
            read(path)
        except ValueError:
            pass
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 16 * len(content) + ROOM, name


# --- random damage --------------------------------------------------------------------------------


def good_files() -> dict[str, bytes]:
    with zipfile.ZipFile(DATA / "models.zip") as file:
        names = ("keras3_functional.keras", "keras3_trained.keras", "keras2_functional.h5", "keras2_cudnn.h5")
        return {name: file.read(name) for name in names}


def spoilt(content: bytes, random: np.random.Generator) -> bytes:
    """`content` with a few other bytes, cut, or with a part that is there twice or not at all."""
    data = bytearray(content)
    kind = random.integers(6)
    if kind == 0:
        return bytes(data[: random.integers(len(data))])
    if kind == 1:
        start, count = random.integers(len(data)), random.integers(1, 64)
        del data[start : start + count]
    elif kind == 2:
        start, count = random.integers(len(data)), random.integers(1, 64)
        data[start:start] = data[start : start + count]
    else:
        for at in random.integers(len(data), size=random.integers(1, 9)):
            data[at] = random.choice([0, 1, 0xFF, 0x7F, int(random.integers(256))])
    return bytes(data)


def damaged(count: int) -> Iterator[tuple[str, bytes]]:
    random = np.random.default_rng(11)
    files = good_files()
    for i in range(count):
        name = list(files)[i % len(files)]
        content = files[name]
        if name.endswith(".keras") and i % 3:  # behind the checksums of the archive
            with zipfile.ZipFile(io.BytesIO(content)) as file:
                parts = {part: file.read(part) for part in file.namelist()}
            part = "config.json" if i % 3 == 1 else "model.weights.h5"
            parts[part] = spoilt(parts[part], random)
            yield name, archive(parts)
        else:
            yield name, spoilt(content, random)


def check_damage(count: int, folder: Path) -> None:
    loaded, messages = 0, []
    for name, content in damaged(count):
        path = folder / name
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of layers, about arguments that are odd but legal
            try:
                read(path)
                loaded += 1
            except ValueError as error:
                messages.append(str(error))
    assert 0 < loaded < count
    assert [message for message in messages if "\n" in message or not message.startswith(str(folder))] == []


def test_damaged_files(tmp_path: Path) -> None:
    check_damage(150, tmp_path)


@pytest.mark.long
def test_many_damaged_files(tmp_path: Path) -> None:
    check_damage(2000, tmp_path)


def test_every_truncation(tmp_path: Path) -> None:
    with zipfile.ZipFile(DATA / "models.zip") as file:
        content = file.read("keras2_cudnn.h5")
    for length in [*range(0, 2200, 7), *range(2200, len(content), 97)]:
        with pytest.raises(ValueError):
            read_hdf5(content[:length], "file")


def test_custom_objects_are_the_only_way_in(tmp_path: Path) -> None:
    class Mine(Dense):
        pass

    config = good_config()
    config["config"]["layers"][1]["class_name"] = "Mine"
    path = tmp_path / "m.keras"
    path.write_bytes(archive({"config.json": config}))
    with pytest.raises(ValueError, match=r"Mine 'dense' has no counterpart here; classes of your own"):
        from_keras(path)
    # Its own class: its weights are where Keras would look for them, under the name of the class.
    with pytest.raises(ValueError, match="'layers/mine/vars'"):
        from_keras(path, {"Mine": Mine})


# --- what Keras is given to run beside ours --------------------------------------------------------------


def check_plain(data: Any) -> None:
    """Nothing in a configuration names more than classes that both know, tensors of the graph, and values."""
    if isinstance(data, list | tuple):
        for item in data:
            check_plain(item)
    elif isinstance(data, dict):
        name = data.get("class_name")
        if name == "__keras_tensor__":
            assert data.keys() == {"class_name", "config"}
            assert data["config"].keys() <= {"shape", "dtype", "keras_history"}
        elif name is not None:
            known = {"keras": MODELS, "keras.layers": LAYERS, "keras.src.ops.numpy": OPERATIONS}
            assert name in known[data["module"]]
            assert data["registered_name"] in (None, name)
        else:
            assert not data.keys() & {"module", "registered_name"}
        for key, item in data.items():
            assert isinstance(key, str)
            if key != "module":
                check_plain(item)
    else:
        assert data is None or isinstance(data, bool | int | float | str)


LAYERS = {*known_classes("layers"), *RENAMED} - {"TextVectorization"}


@pytest.mark.parametrize("target", [2, 3])
def test_keras_is_given_plain_configurations_only(target: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(DATA / "models.zip") as file:
        file.extractall(tmp_path)
    rng = random.Random(target)
    given = 0
    for path in sorted(tmp_path.glob("*.keras")):
        read = read_keras_file(path)
        assert read.config is not None
        for changes in (0, *[1] * 8, *[3] * 8):
            config = (
                read.config if changes == 0 else with_odd_values(copy.deepcopy(read.config), rng, changes)
            )
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    deserialize(KerasConfig(read.version, Conversion("a", "b")).model(config))
                made = PlainConfig(read.version, target).layer(config)
            except Exception:  # `from_keras` catches them all
                continue
            check_plain(made)
            given += 1
    assert given > 40


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"class_name": "__lambda__", "config": {"value": "AAAA"}}, "is no plain value"),
        ({"module": "os", "class_name": "system", "config": "ls"}, "is no plain value"),
        ({1: 2}, "1 is no name"),
        (b"x", "is no plain value"),
    ],
)
def test_other_values_are_not_given_to_keras(value: Any, why: str) -> None:
    with pytest.raises(NotRun, match=why):
        PlainConfig(3, 3).layer({"class_name": "Dense", "config": {"units": [value]}})
    node = {"args": [value], "kwargs": {}}
    one = {"class_name": "Dense", "name": "d", "config": {"units": 2}, "inbound_nodes": [node]}
    with pytest.raises(NotRun):
        PlainConfig(3, 3).layer({"class_name": "Functional", "config": {"layers": [one]}})
    for name in ("Lambda", "TextVectorization"):
        with pytest.raises(NotRun):
            PlainConfig(3, 3).layer({"class_name": name, "config": {}})
    with pytest.raises(NotRun, match="is none of Keras"):
        PlainConfig(3, 3).layer({"class_name": "Dense", "config": {"activation": {"class_name": "Mine"}}})
