"""Tools of PyTorch that look into modules, on lstm_native.torch: scripts, quantization, tracing."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import lstm_native.torch as native  # noqa: E402

KINDS = ["LSTM", "GRU"]


class Tagger(torch.nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.rnn = kind(3, 4, num_layers=2, batch_first=True, bidirectional=True)
        self.head = torch.nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.rnn(x)
        return self.head(y)


def tagger(kind: str) -> tuple[Any, Any, Any]:
    """A model of ours, inputs, and its outputs."""
    torch.manual_seed(3)
    model = Tagger(getattr(native, kind)).eval()
    x = torch.randn(2, 5, 3)
    with torch.no_grad():
        return model, x, model(x)


@pytest.mark.parametrize("kind", KINDS)
def test_script(kind: str) -> None:
    model, x, expected = tagger(kind)
    parameters = list(model.parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch's own, of torch.jit
        scripted = torch.jit.script(model)
    torch.testing.assert_close(scripted(x), expected)
    # The model still works, and can be made ours again.
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    torch.testing.assert_close(native.replace(model)(x), expected)
    assert type(model.rnn) is getattr(native, kind)


def test_script_of_a_class_of_the_caller_is_left_to_pytorch() -> None:
    class Own(native.LSTM):
        pass

    module = Own(3, 4)
    assert module.__prepare_scriptable__() is module


@pytest.mark.parametrize("kind", KINDS)
def test_restore(kind: str) -> None:
    model, x, expected = tagger(kind)
    parameters, state = list(model.parameters()), copy.deepcopy(model.state_dict())
    assert native.restore(model) is model
    assert type(model.rnn) is getattr(torch.nn, kind)
    torch.testing.assert_close(model(x), expected)
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items())
    assert set(vars(model.rnn)) == set(vars(getattr(torch.nn, kind)(3, 4)))
    native.restore(native.replace(model))
    torch.testing.assert_close(model(x), expected)
    with pytest.raises(TypeError, match=r"restore: model is a int, expected a torch\.nn\.Module"):
        native.restore(3)


@pytest.mark.parametrize("kind", KINDS)
def test_quantization(kind: str) -> None:
    model, x, expected = tagger(kind)

    def quantized(model: Any) -> tuple[Any, list[str]]:
        with warnings.catch_warnings(record=True) as caught:  # PyTorch's own, too
            warnings.simplefilter("always")
            made = torch.ao.quantization.quantize_dynamic(model)
        return made, [str(one.message) for one in caught if "lstm_native" in str(one.message)]

    partly, messages = quantized(model)
    assert len(messages) == 1
    assert f"{kind} stays in float32" in messages[0]
    assert "quantize lstm_native.torch.restore(model)" in messages[0]
    assert type(partly.rnn) is getattr(native, kind)
    torch.testing.assert_close(partly(x), expected, rtol=0, atol=0.05)
    wholly, messages = quantized(native.restore(copy.deepcopy(model)))
    assert not messages
    assert "quantized" in type(wholly.rnn).__module__
    torch.testing.assert_close(wholly(x), expected, rtol=0, atol=0.05)
    assert type(model.rnn) is getattr(native, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_trace(kind: str) -> None:
    model, x, expected = tagger(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.nn's own modules cause them, too
        traced = torch.jit.trace(model, (x,), check_trace=False)
    torch.testing.assert_close(traced(x), expected)
