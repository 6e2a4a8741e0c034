"""All crafted files together: refused in little memory. And what fuzzing found, once and for all."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

import make
import readers

FINDS = sorted((Path(make.__file__).parent / "finds").glob("*"))
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


@pytest.mark.parametrize("path", FINDS, ids=lambda path: path.name)
def test_finds_of_fuzzing(path: Path) -> None:
    kind = path.name.partition("-")[0]
    if kind == "onnx":
        pytest.importorskip("onnx")
    readers.READERS[kind](path.read_bytes())
