"""All crafted files together: refused in little memory. And what fuzzing found, once and for all."""

from __future__ import annotations

import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

import hostile_amounts
import make
import readers

FINDS = sorted((Path(make.__file__).parent / "finds").glob("*"))
AMOUNTS = list(hostile_amounts.all_files())
MEMORY = 16 << 20


@pytest.mark.long  # of which memory that Python knows of is held by the tests of each reader
def test_every_attack_is_refused_within_its_size_and_16_mib(tmp_path: Path) -> None:
    kinds: Counter[str] = Counter()
    wrong = {}
    for attack in make.attacks(tmp_path):
        kinds[attack.suffix] += 1
        cost = make.cost(attack, tmp_path / f"file{attack.suffix}", times=1)
        if attack.refused != (cost.error is not None):
            wrong[attack.name] = f"{cost.error!r}, expected refused={attack.refused}"
        if max(cost.traced, cost.resident) > len(attack.content) + MEMORY:
            wrong[attack.name] = f"{cost.traced} and {cost.resident} bytes for {len(attack.content)}"
    assert wrong == {}
    assert kinds[".safetensors"] > 200
    assert kinds[".keras"] + kinds[".h5"] > 200
    assert kinds[".onnx"] > 100 or "onnx" not in sys.modules


@pytest.mark.parametrize("file", AMOUNTS, ids=[file.name for file in AMOUNTS])
def test_too_much_is_one_short_sentence(file: hostile_amounts.Amount, tmp_path: Path) -> None:
    path = tmp_path / f"file{file.suffix}"
    path.write_bytes(file.content)
    tracemalloc.start()
    try:
        if file.cause is None:
            assert file.read(path).built
        else:
            with pytest.raises(ValueError, match=file.cause) as caught:
                file.read(path)
            assert "\n" not in str(caught.value)
            assert len(str(caught.value)) < readers.MAX_MESSAGE
        assert tracemalloc.get_traced_memory()[1] < len(file.content) + MEMORY
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("path", FINDS, ids=lambda path: path.name)
def test_finds_of_fuzzing(path: Path) -> None:
    kind = path.name.partition("-")[0]
    if kind == "onnx":
        pytest.importorskip("onnx")
    readers.READERS[kind](path.read_bytes())
