"""Conversions where the package that they need is not installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lstm_native.convert import from_onnx, to_onnx, to_torch
from lstm_native.layers import LSTM, Dense, Input
from lstm_native.models import Sequential


def test_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"from_onnx needs the package onnx .*lstm-native\[onnx\]"):
        from_onnx(tmp_path / "m.onnx")
    with pytest.raises(ImportError, match=r"to_onnx needs the package onnx .*lstm-native\[onnx\]"):
        to_onnx(Sequential([Input((None, 3)), LSTM(2)]), tmp_path / "m.onnx")


def test_to_torch_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"to_torch needs the package torch .*lstm-native\[torch\]"):
        to_torch(Sequential([Input((3,)), Dense(1)]))
    with pytest.raises(TypeError, match="to_torch: got a int"):
        to_torch(3)
