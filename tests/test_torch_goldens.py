"""Files that PyTorch wrote: ONNX of both exporters and state dicts, against what PyTorch computes of them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_native.convert import from_onnx, from_torch

FOLDER = Path(__file__).parent / "data" / "torch"
GRAPHS = sorted(path.name for path in FOLDER.glob("*.onnx"))
STATE_DICTS = sorted(path.name for path in FOLDER.glob("*.safetensors"))
# The newer exporter has no operator for a plain RNN and writes one graph for each step.
UNROLLED = "plain_dynamo.onnx"
# Outputs of size one, of float32 against PyTorch's of float64.
TOLERANCE = 1e-6


def expected(name: str) -> tuple[Any, Any]:
    """An input and what PyTorch computes of it."""
    with np.load(FOLDER / "expected.npz") as arrays:
        return arrays[f"{name}/x"], arrays[f"{name}/y"]


def check(model: Any, x: Any, y: Any) -> None:
    for rows in (3, 1):
        found = model.predict(x[:rows], verbose=0)
        np.testing.assert_allclose(found, y[:rows], rtol=TOLERANCE, atol=TOLERANCE)


def test_there_are_goldens() -> None:
    assert len(GRAPHS) == 14
    assert len(STATE_DICTS) == 5
    assert max(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < 20_000


@pytest.mark.parametrize("name", GRAPHS)
def test_onnx_of_both_exporters(name: str) -> None:
    pytest.importorskip("onnx")
    if name == UNROLLED:
        with pytest.raises(ValueError, match=r"\(Slice\): it takes 1:2:1 of the axis time"):
            from_onnx(FOLDER / name)
    else:
        check(from_onnx(FOLDER / name), *expected(name))


@pytest.mark.parametrize("name", GRAPHS)
def test_the_backend_runs_them(name: str) -> None:
    pytest.importorskip("onnx")
    import lstm_native.onnx_backend as backend

    x, y = expected(name)
    (found,) = backend.prepare(FOLDER / name).run(x)
    np.testing.assert_allclose(found, y, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.filterwarnings("ignore:LSTM with projections")  # of PyTorch, which the conversion runs
@pytest.mark.parametrize("name", STATE_DICTS)
def test_state_dicts(name: str) -> None:
    order = ["embed", "rnn", "head"]
    model = from_torch(FOLDER / name, return_sequences=True, order=order)
    check(model, *expected(name))


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # of the exporters, about themselves
def test_the_exporters_themselves() -> None:
    for package in ("torch", "onnx", "onnxscript"):
        pytest.importorskip(package)
    spec = importlib.util.spec_from_file_location("make_goldens", FOLDER / "make_goldens.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    files = script.graphs()
    assert sorted(files) == GRAPHS
    for name, (content, x, y) in files.items():
        if name != UNROLLED:
            check(from_onnx(content), x, y)
