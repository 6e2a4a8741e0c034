"""Conversions run both sides: when they do, what `check` wants, and what they leave as it was."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_native.convert import Conversion, from_keras, from_onnx, from_torch, to_keras, to_onnx, to_torch
from lstm_native.convert.both_sides import (
    NotRun,
    from_zero_states,
    not_imported,
    outputs_of,
    random_inputs,
    refuse_large,
    run_both,
)
from lstm_native.layers import (
    LSTM,
    AdditiveAttention,
    Dense,
    Embedding,
    Input,
    RepeatVector,
    TextVectorization,
)
from lstm_native.models import Model, Sequential
from lstm_native.saving import write_safetensors


def small(**options: Any) -> Sequential:
    return Sequential([Input((5, 3), batch_size=2), LSTM(4, **options), Dense(1)])


def state_dict() -> dict[str, Any]:
    return {"0.weight": np.ones((4, 3), np.float32), "0.bias": np.arange(4, dtype=np.float32)}


def conversions(folder: Path) -> dict[str, tuple[str, str, Callable[..., Any]]]:
    """What each wants to convert at all and to run the other side, and a call of it."""
    model = small()
    to_keras(model, folder / "m.keras", check=False)
    to_keras(model, folder / "m.weights.h5", check=False)
    write_safetensors(folder / "state.safetensors", state_dict())
    found: dict[str, tuple[str, str, Callable[..., Any]]] = {
        "from_keras, a file": ("", "keras", lambda **o: from_keras(folder / "m.keras", **o)),
        "from_keras, weights": (
            "", "keras", lambda **o: from_keras(folder / "m.weights.h5", model=small(), **o),
        ),
        "to_keras": ("", "keras", lambda **o: to_keras(model, folder / "new.keras", **o)),
        "to_keras, weights": ("", "keras", lambda **o: to_keras(model, folder / "new.weights.h5", **o)),
        "from_torch, arrays": ("", "torch", lambda **o: from_torch(state_dict(), **o)),
        "from_torch, a file": ("", "torch", lambda **o: from_torch(folder / "state.safetensors", **o)),
        "to_torch": ("torch", "torch", lambda **o: to_torch(model, **o)),
    }  # fmt: skip
    if is_installed("onnx"):
        to_onnx(model, folder / "m.onnx", check=False)
        found["to_onnx"] = "onnx", "onnx", lambda **o: to_onnx(model, folder / "new.onnx", **o)
        found["from_onnx"] = "onnx", "onnx", lambda **o: from_onnx(folder / "m.onnx", **o)
    if is_installed("torch"):
        import torch

        found["from_torch"] = "torch", "torch", lambda **o: from_torch(torch.nn.Linear(3, 2), **o)
    return found


@pytest.mark.filterwarnings("ignore")  # those of TensorFlow and NumPy among themselves
@pytest.mark.parametrize("check", [None, True, False])
def test_one_rule_for_all(check: bool | None, tmp_path: Path) -> None:
    for name, (needed, other, call) in conversions(tmp_path).items():
        if needed and not is_installed(needed):
            continue
        if check and not is_installed(other):
            with pytest.raises(ImportError, match=r"check is True, but .* is not installed"):
                call(check=check)
            continue
        made = call() if check is None else call(check=check)
        record = made if isinstance(made, Conversion) else made.conversion
        if check is not False and is_installed(other):
            assert record.max_difference < 2e-6, name
            assert record.not_run is None, name
            assert "largest difference" in str(record)
        else:
            assert record.max_difference is None, name
            assert record.not_run == "check is False" or "is not installed" in record.not_run
            assert f"not run beside the original: {record.not_run}" in str(record)


def test_check_is_a_bool(tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    calls = conversions(tmp_path)
    written = sorted(tmp_path.iterdir())
    for needed, _, call in calls.values():
        if not needed or is_installed(needed):
            with pytest.raises(TypeError, match="check is 'yes', expected True, False or None"):
                call(check="yes")
    assert sorted(tmp_path.iterdir()) == written != before


def test_nothing_is_written_where_both_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.keras"

    def differ(*_: Any) -> None:
        raise ValueError("conversion: outputs differ by 1")

    monkeypatch.setattr("lstm_native.convert.keras_target.run_both", differ)
    with pytest.raises(ValueError, match="outputs differ"):
        to_keras(small(), path)
    assert not path.exists()


def test_weights_that_differ_are_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to_keras(small(), tmp_path / "m.weights.h5", check=False)

    def differ(*_: Any) -> None:
        raise ValueError("conversion: outputs differ by 1")

    monkeypatch.setattr("lstm_native.convert.keras_source.run_both", differ)
    model = small()
    before = model.get_weights()
    with pytest.raises(ValueError, match="outputs differ"):
        from_keras(tmp_path / "m.weights.h5", model=model)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_reason_is_kept_or_raised() -> None:
    def never() -> None:
        raise NotRun("no reason")

    record = Conversion("A", "B")
    run_both(record, None, never)
    assert record.not_run == "no reason"
    with pytest.raises(ValueError, match="A to B: check is True, but the two sides cannot be run: no"):
        run_both(record, True, never)
    assert str(record) == "from A to B: not run beside the original: no reason"


def test_more_outputs_than_the_original() -> None:
    with pytest.raises(ValueError, match="from A to B: the model has 2 outputs, expected 1 as the original"):
        Conversion("A", "B").compare([np.zeros(1)], [np.zeros(1), np.zeros(1)])


def test_states_stay() -> None:
    model = small(stateful=True)
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    fresh = outputs_of(model, [x])[0]
    model.predict(x, verbose=0)
    states = [np.asarray(state) for state in model.layers[0].states]
    assert np.any(states[0])
    np.testing.assert_array_equal(outputs_of(model, [x])[0], fresh)
    for a, b in zip(states, model.layers[0].states, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(RuntimeError, match="within"), from_zero_states(model):
        raise RuntimeError("within")
    for a, b in zip(states, model.layers[0].states, strict=True):
        np.testing.assert_array_equal(a, b)


def test_inputs_fit_the_model() -> None:
    ids = random_inputs(Sequential([Input((None,)), Embedding(5, 2), LSTM(2)]))[0]
    assert ids.dtype == np.int32
    assert ids.min() == 0
    assert ids.max() < 5
    texts = Sequential([TextVectorization(vocabulary=["a"]), Embedding(3, 2), LSTM(2)])
    texts.predict(np.array(["a b"]), verbose=0)
    with pytest.raises(NotRun, match="it reads texts"):
        random_inputs(texts)


def many_calls() -> Model:
    layer, x = Dense(3), Input((3,))
    y = x
    for _ in range(1001):
        y = layer(y)
    return Model(x, y)


def beside_each_other() -> Model:
    x = Input((4000, 8))
    return Model(x, AdditiveAttention()([x, x]))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Sequential([Input((3,)), RepeatVector(10_000_000)]), "sizes that it fixes are large"),
        (lambda: Sequential([Input((3,), batch_size=10_000_000), Dense(1)]), "sizes that it fixes are large"),
        (lambda: Sequential([Input((100_000, 1)), LSTM(200)]), "sizes that it fixes are large"),
        (beside_each_other, "sizes that it fixes are large"),
        (many_calls, "it has 1001 calls of layers"),
    ],
)
def test_large_models_are_not_run(make: Callable[[], Model], why: str) -> None:
    with pytest.raises(NotRun, match=why):
        refuse_large(make())


def test_models_with_many_weights_are_run() -> None:
    refuse_large(Sequential([Input((None,)), Embedding(100_000, 64), LSTM(512), Dense(100_000)]))


def test_why_there_is_no_other_side() -> None:
    why = not_imported("keras", ModuleNotFoundError("No module named 'keras'", name="keras"))
    assert (str(why), why.missing) == ("keras is not installed", True)
    why = not_imported("keras", ModuleNotFoundError("No module named 'h5py'", name="h5py"))
    assert str(why) == "keras cannot be imported (ModuleNotFoundError: No module named 'h5py')"


def is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
