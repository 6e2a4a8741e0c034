"""plot_model: the text of a drawing, what makes a picture of it, and what is said where that is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from lstm_native.layers import LSTM, Concatenate, Dense, Input
from lstm_native.models import Model, Sequential
from lstm_native.utils import model_to_dot, plot_model


def test_layers_in_a_row(tmp_path: Path) -> None:
    model = Sequential([Input((5, 2)), LSTM(4, name="memory"), Dense(1, name='"head"')])
    plot_model(model, to_file=tmp_path / "m.dot", show_shapes=True, show_layer_names=True)
    text = (tmp_path / "m.dot").read_text()
    assert text.startswith("digraph model {")
    assert r'"memory" [label="memory (LSTM)\noutput shape: (None, 4)"];' in text
    assert r'"memory" -> "\"head\"";' in text


def test_branches_and_options() -> None:
    a, b = Input((3,), name="a"), Input((3,), name="b")
    model = Model([a, b], Dense(1, name="d", activation="relu")(Concatenate(name="c")([a, b])))
    text = model_to_dot(
        model, rankdir="LR", show_layer_activations=True, show_trainable=True, show_dtype=True
    )
    assert "rankdir=LR" in text
    for edge in ('"a" -> "c"', '"b" -> "c"', '"c" -> "d"'):
        assert edge in text
    assert r"activation: relu\noutput dtype: float32\ntrainable" in text


def test_what_is_wrong_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="is not built"):
        plot_model(Sequential([Dense(1)]))
    model = Sequential([Input((2,)), Dense(1)])
    with pytest.raises(ValueError, match="rankdir"):
        model_to_dot(model, rankdir="up")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImportError, match="Graphviz"):
        plot_model(model, tmp_path / "m.png")
    # Anything that is called dot.
    program = tmp_path / "dot"
    program.write_text('#!/bin/sh\n/bin/cat > "$3"\necho "$1" >> "$3"\n')
    program.chmod(0o755)
    plot_model(model, tmp_path / "m.png")
    assert (tmp_path / "m.png").read_text() == model_to_dot(model) + "-Tpng\n"
    program.write_text("#!/bin/sh\necho bad >&2\nexit 1\n")
    with pytest.raises(ValueError, match=r"cannot make m\.png: bad"):
        plot_model(model, tmp_path / "m.png")
