"""lstm_native.torch on the CUDA backend: beside torch.nn on the GPU where there is one. Elsewhere PyTorch's
tensors are those of the CPU, copied to and from the backend that runs on the host."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.nn.utils import rnn  # noqa: E402

import lstm_native.torch as native  # noqa: E402
from cuda_support import open_for_tests  # noqa: E402
from lstm_native import _core  # noqa: E402
from lstm_native.torch import function, modules  # noqa: E402
from test_torch_modules import assert_same, pair, results  # noqa: E402


@pytest.fixture(params=["host", "gpu"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Where PyTorch's tensors lie; ours lie on the CUDA device."""
    if request.param == "gpu":
        if not torch.cuda.is_available():
            pytest.skip("needs a GPU and PyTorch for it")
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
        return torch.device("cuda", 0)
    open_for_tests(tmp_path_factory.mktemp("cuda"))
    given, taken = function.to_native, function.to_torch

    def to_torch(x: _core.Tensor) -> Any:
        assert x.device == "cuda"
        return taken(x.to("cpu"))

    monkeypatch.setattr(function, "to_native", lambda x: given(x).to("cuda"))
    monkeypatch.setattr(function, "to_torch", to_torch)
    return torch.device("cpu")


def check(place: Any, modules: tuple[Any, Any], xs: list[Any], inputs: list[Any], hx: Any) -> None:
    for x in xs:
        assert modules[1]._takes(x, hx)
    found = [results(m.to(place), x, inputs, hx) for m, x in zip(modules, xs, strict=True)]
    assert_same(*([t.cpu() for t in side] for side in found))


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("form", ["time first", "batch first", "unbatched", "packed"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_same_as_torch(place: Any, kind: str, form: str, layers: int, bidirectional: bool) -> None:
    torch.manual_seed(1)
    width = 3 if (kind, form, layers) == ("LSTM", "packed", 2) else 0
    more = {"proj_size": width} if width else {}
    both = pair(kind, 5, 7, layers, bidirectional=bidirectional, batch_first=form == "batch first", **more)
    both = tuple(m.to(place) for m in both)
    count = layers * (2 if bidirectional else 1)
    for given in (False, True):
        if form == "packed":
            inputs = [torch.randn(n, 5, device=place, requires_grad=True) for n in (4, 9, 1, 9)]
            xs = [rnn.pack_sequence(inputs, enforce_sorted=False) for _ in both]
            batch: tuple[int, ...] = (4,)
        else:
            shape = {"time first": (6, 3, 5), "batch first": (3, 6, 5), "unbatched": (6, 5)}[form]
            inputs = [torch.randn(*shape, device=place, requires_grad=True)]
            xs = inputs * 2
            batch = () if form == "unbatched" else (3,)
        hx = None
        if given:
            widths = (width or 7, 7) if kind == "LSTM" else (7,)
            made = [torch.randn(count, *batch, n, device=place, requires_grad=True) for n in widths]
            hx = tuple(made) if kind == "LSTM" else made[0]
        check(place, both, xs, inputs, hx)


def test_training_and_inference(place: Any) -> None:
    """Weights that change, calls without gradients, another stream, a graph that is used twice."""
    theirs = torch.nn.LSTM(6, 33, 2, batch_first=True).to(place)
    ours = native.replace(copy.deepcopy(theirs))
    optimizers = [torch.optim.SGD(m.parameters(), 0.1) for m in (theirs, ours)]
    x = torch.randn(4, 9, 6, device=place)
    for _ in range(3):
        for module, optimizer in zip((theirs, ours), optimizers, strict=True):
            optimizer.zero_grad()
            module(x)[0].square().mean().backward()
            optimizer.step()
        with torch.no_grad():
            torch.testing.assert_close(ours(x)[0], theirs(x)[0])
    if place.type == "cuda":
        with torch.cuda.stream(torch.cuda.Stream()):
            y = torch.nn.functional.relu(ours(x * 2)[0])
            torch.testing.assert_close(y, torch.nn.functional.relu(theirs(x * 2)[0]))
    given = x.clone().requires_grad_()
    output = ours(given)[0]
    first = torch.autograd.grad(output.sum(), given, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(output.sum(), given)[0])


def test_dropout(place: Any) -> None:
    module = native.GRU(4, 40, 2, dropout=0.5).to(place)
    x = torch.randn(5, 30, 4, device=place, requires_grad=True)
    outputs, gradients = [], []
    for _ in range(2):
        torch.manual_seed(3)
        outputs.append(module(x)[0])
        gradients.append(torch.autograd.grad(outputs[-1].sum(), x)[0])
    assert torch.equal(*outputs)
    assert torch.equal(*gradients)
    assert not torch.equal(outputs[0], module(x)[0])


def test_which_devices_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "_cuda_is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    assert modules._runs_on(torch.device("cpu"))
    assert modules._runs_on(torch.device("cuda", 0))
    assert not modules._runs_on(torch.device("cuda", 1))
    assert not modules._runs_on(torch.device("meta"))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert not modules._runs_on(torch.device("cuda", 0))
    monkeypatch.setattr(modules, "_cuda_is_available", lambda: False)
    assert not modules._runs_on(torch.device("cuda", 0))
