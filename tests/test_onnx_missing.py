"""The functions for ONNX where that package is not installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lstm_native.convert import from_onnx, to_onnx
from lstm_native.layers import LSTM, Input
from lstm_native.models import Sequential


def test_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"from_onnx needs the package onnx .*lstm-native\[onnx\]"):
        from_onnx(tmp_path / "m.onnx")
    with pytest.raises(ImportError, match=r"to_onnx needs the package onnx .*lstm-native\[onnx\]"):
        to_onnx(Sequential([Input((None, 3)), LSTM(2)]), tmp_path / "m.onnx")
