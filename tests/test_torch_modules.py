"""lstm_native.torch beside torch.nn: outputs, states, every gradient of each configuration; its habits."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn.utils import rnn  # noqa: E402

import lstm_native as ln  # noqa: E402
import lstm_native.torch as native  # noqa: E402
from lstm_native import _core  # noqa: E402
from lstm_native.torch import function  # noqa: E402

# Two float32 results of the same sums in different orders.
TOLERANCE = 2e-5


def pair(kind: str, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """PyTorch's module and ours with the same parameters."""
    theirs = getattr(torch.nn, kind)(*args, **kwargs)
    ours = getattr(native, kind)(*args, **kwargs)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def states_of(kind: str, *shape: int) -> Any:
    made = [torch.randn(*shape, requires_grad=True) for _ in range(2)]
    return tuple(made) if kind == "LSTM" else made[0]


def as_tuple(states: Any) -> tuple[Any, ...]:
    return states if isinstance(states, tuple) else (states,)


def results(module: Any, x: Any, inputs: list[Any], hx: Any) -> list[Any]:
    """Outputs, states, and the gradients of a sum of all of them with different weights."""
    output, states = module(x, hx)
    outputs = [output.data if isinstance(output, rnn.PackedSequence) else output, *as_tuple(states)]
    loss = sum(
        (o * torch.linspace(-1, 1, o.numel(), device=o.device).reshape(o.shape)).sum() for o in outputs
    )
    wanted = [*inputs, *(() if hx is None else as_tuple(hx)), *module.parameters()]
    return [*outputs, *torch.autograd.grad(loss, wanted)]


def assert_same(theirs: list[Any], ours: list[Any]) -> None:
    for expected, found in zip(theirs, ours, strict=True):
        assert found.shape == expected.shape
        np.testing.assert_allclose(
            found.detach().numpy(), expected.detach().numpy(), rtol=TOLERANCE, atol=TOLERANCE
        )


@pytest.mark.parametrize("form", ["time first", "batch first", "unbatched", "packed", "packed unsorted"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_same_as_torch(kind: str, form: str, layers: int, bidirectional: bool, bias: bool) -> None:
    torch.manual_seed(1)
    modules = pair(
        kind, 5, 7, layers, bias=bias, bidirectional=bidirectional, batch_first=form == "batch first"
    )
    count = layers * (2 if bidirectional else 1)
    for given, lengths in itertools.product((False, True), ([4, 9, 1, 9], [6, 6, 6, 6])):
        if form.startswith("packed"):
            ordered = sorted(lengths, reverse=True) if form == "packed" else lengths
            inputs = [torch.randn(n, 5, requires_grad=True) for n in ordered]
            xs = [rnn.pack_sequence(inputs, enforce_sorted=form == "packed") for _ in modules]
            hx = states_of(kind, count, 4, 7) if given else None
        else:
            shape = {"time first": (6, 3, 5), "batch first": (3, 6, 5), "unbatched": (6, 5)}[form]
            x = torch.randn(*shape, requires_grad=True)
            inputs = [x]
            xs = [x, x]
            hx = states_of(kind, *((count, 7) if form == "unbatched" else (count, 3, 7))) if given else None
        assert modules[1]._takes(xs[1], hx)
        assert_same(*(results(m, x, inputs, hx) for m, x in zip(modules, xs, strict=True)))


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("form", ["batch first", "unbatched", "packed"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_projection(form: str, bidirectional: bool, bias: bool) -> None:
    modules = pair("LSTM", 5, 7, 2, proj_size=3, bias=bias, bidirectional=bidirectional, batch_first=True)
    count = 4 if bidirectional else 2
    batch = () if form == "unbatched" else (3,)
    for given in (False, True):
        inputs = [torch.randn(n, 5, requires_grad=True) for n in (6, 4, 1)]
        if form == "packed":
            xs = [rnn.pack_sequence(inputs) for _ in modules]
        else:
            inputs = [torch.randn(*batch, 6, 5, requires_grad=True)]
            xs = inputs * 2
        hx = tuple(torch.randn(count, *batch, n, requires_grad=True) for n in (3, 7)) if given else None
        assert modules[1]._takes(xs[1], hx)
        assert_same(*(results(m, x, inputs, hx) for m, x in zip(modules, xs, strict=True)))


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_dropout_draws_the_same_numbers(kind: str) -> None:
    modules = pair(kind, 4, 6, 3, dropout=0.4, bidirectional=True)
    x = torch.randn(5, 3, 4, requires_grad=True)
    found = []
    for module in modules:
        torch.manual_seed(7)
        found.append(results(module, x, [x], None))
    assert_same(*found)
    assert_same(*(list(m.eval()(x)[:1]) for m in modules))


def test_unsorted_packs_keep_their_order() -> None:
    theirs, ours = pair("GRU", 2, 3)
    x = rnn.pack_sequence([torch.randn(n, 2) for n in (2, 5, 3)], enforce_sorted=False)
    expected, found = (
        rnn.pad_packed_sequence(m(x)[0], padding_value=-1.0, total_length=6) for m in (theirs, ours)
    )
    assert torch.equal(expected[1], found[1])
    torch.testing.assert_close(found[0], expected[0])


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_copies_and_pickles(kind: str) -> None:
    module = getattr(native, kind)(4, 3, 2)
    x = torch.randn(5, 2, 4)
    expected = module(x)[0]
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    copies = [
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        torch.load(file, weights_only=False),
    ]
    for other in copies:
        assert type(other) is type(module)
        assert torch.equal(other(x)[0], expected)
        with torch.no_grad():
            other.weight_hh_l0.zero_()
    assert torch.equal(module(x)[0], expected)


def test_every_way_to_write_a_parameter_is_seen() -> None:
    theirs, ours = pair("LSTM", 3, 4)
    x = torch.randn(5, 2, 3)
    writes = [
        lambda p: p.data.mul_(1.5),
        lambda p: p.detach().numpy().__imul__(0.5),
        lambda p: torch.nn.init.constant_(p, 0.3),
        lambda p: setattr(p, "data", p.data + 0.25),
    ]
    for write in writes:
        for module in (theirs, ours):
            for parameter in module.parameters():
                write(parameter)
        torch.testing.assert_close(ours(x)[0], theirs(x)[0])
        with torch.no_grad():
            torch.testing.assert_close(ours(x)[0], theirs(x)[0])
    ours.weight_ih_l0 = torch.nn.Parameter(torch.ones(16, 3))
    theirs.weight_ih_l0 = torch.nn.Parameter(torch.ones(16, 3))
    torch.testing.assert_close(ours(x)[0], theirs(x)[0])


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_functional_calls_take_the_tensors_given(kind: str) -> None:
    theirs, ours = pair(kind, 4, 5, num_layers=2)
    x = torch.randn(3, 2, 4)
    before = ours(x)[0].detach()
    for module in (theirs, ours):
        module.zero_grad()
    given = {name: (0.5 * p).detach().requires_grad_() for name, p in theirs.named_parameters()}
    found = [torch.func.functional_call(m, given, (x,))[0] for m in (theirs, ours)]
    torch.testing.assert_close(found[1], found[0])
    gradients = [torch.autograd.grad(output.sum(), list(given.values())) for output in found]
    torch.testing.assert_close(gradients[1], gradients[0])
    assert torch.equal(ours(x)[0], before)


def test_meta_tensors_go_to_torch() -> None:
    output, (h, _) = native.LSTM(4, 5, device="meta")(torch.empty(3, 2, 4, device="meta"))
    assert (output.shape, h.shape, output.device.type) == ((3, 2, 5), (1, 2, 5), "meta")


def test_tensors_are_used_where_they_lie() -> None:
    x = torch.randn(5, 2, 3, requires_grad=True)
    native_x = function.to_native(x)
    assert np.shares_memory(native_x.numpy(), x.detach().numpy())
    assert function.to_torch(native_x).data_ptr() == x.data_ptr()
    for batch_first in (False, True):
        output, (h, _) = native.LSTM(3, 4, 2, batch_first=batch_first, bidirectional=True)(x)
        assert output.is_contiguous()
        assert h.is_contiguous()


@pytest.mark.parametrize("batch_first", [False, True])
def test_views(batch_first: bool) -> None:
    modules = pair("LSTM", 3, 4, 2, bidirectional=True, batch_first=batch_first)
    for view in (
        lambda x: x.transpose(0, 1),
        lambda x: x[::2],
        lambda x: x[..., 1:],
        lambda x: x[:1].expand(6, 5, 4),
    ):
        x = torch.randn(6, 5, 4, requires_grad=True)
        y = view(x)[..., :3]
        whole = x.detach()[..., :3].contiguous().requires_grad_()  # of which a transposed view is dense
        assert_same(*(results(m, y, [x], None) for m in modules))
        assert_same(*(results(m, whole.transpose(0, 1), [whole], None) for m in modules))


def test_a_graph_used_twice() -> None:
    module = native.LSTM(3, 4, 2, dropout=0.5)
    x = torch.randn(5, 2, 3, requires_grad=True)
    output, _ = module(x)
    first = torch.autograd.grad(output.sum(), x, retain_graph=True)[0]
    second = torch.autograd.grad(output.sum(), x)[0]
    assert torch.equal(first, second)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(output.sum(), x)


def test_overwritten_parameters_are_an_error() -> None:
    module = native.GRU(3, 4)
    output, _ = module(torch.randn(5, 2, 3))
    with torch.no_grad():
        module.weight_hh_l0.mul_(2)
    with pytest.raises(RuntimeError, match="inplace"):
        output.sum().backward()


def test_gradients_of_gradients_are_refused() -> None:
    module = native.LSTM(3, 4)
    x = torch.randn(5, 2, 3, requires_grad=True)
    output, _ = module(x)
    with pytest.raises(RuntimeError, match="gradients of gradients"):
        torch.autograd.grad(output.sum(), x, create_graph=True)


def test_only_what_needs_a_gradient_gets_one() -> None:
    theirs, ours = pair("LSTM", 3, 4, 2)
    for module in (theirs, ours):
        module.weight_ih_l0.requires_grad_(False)
    x = torch.randn(5, 2, 3)
    for module in (theirs, ours):
        module(x)[1][1].sum().backward()
    assert ours.weight_ih_l0.grad is None
    for expected, found in zip(theirs.parameters(), ours.parameters(), strict=True):
        if expected.grad is not None:
            torch.testing.assert_close(found.grad, expected.grad, rtol=TOLERANCE, atol=TOLERANCE)


def test_other_tensors_go_to_torch() -> None:
    for dtype in (torch.float64, torch.bfloat16):
        theirs, ours = (m.to(dtype) for m in pair("LSTM", 3, 4))
        x = torch.randn(5, 2, 3, dtype=dtype)
        assert not ours._takes(x, None)
        assert torch.equal(ours(x)[0], theirs(x)[0])
    theirs, ours = pair("GRU", 3, 4)
    x = torch.randn(5, 2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours(x)[0], theirs(x)[0])
    assert torch.equal(ours(x[:, :0])[0], theirs(x[:, :0])[0])


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m(torch.randn(5, 2, 4)),
        lambda m: m(torch.randn(2, 2, 5, 3)),
        lambda m: m(torch.randn(0, 2, 3)),
        lambda m: m(torch.randn(5, 2, 3).double()),
        lambda m: m(torch.randn(5, 2, 3), torch.randn(1, 2, 4)),
        lambda m: m(torch.randn(5, 2, 3), (torch.randn(1, 3, 4),) * 2),
        lambda m: m(torch.randn(5, 2, 3), (torch.randn(2, 4),) * 2),
        lambda m: m(torch.randint(5, (5, 2, 3))),
        lambda m: m([[1.0]]),
    ],
)
def test_wrong_calls_raise_what_torch_raises(call: Any) -> None:
    theirs, ours = pair("LSTM", 3, 4)
    with pytest.raises(Exception) as expected:
        call(theirs)
    with pytest.raises(type(expected.value)) as found:
        call(ours)
    assert str(found.value) == str(expected.value)


def test_threads_are_those_of_torch() -> None:
    assert _core.open_openmp(torch._C.__file__)
    assert not _core.open_openmp(_core.__file__)
    assert not _core.open_openmp("no/such/library.so")
    module = native.LSTM(64, 128, 2, bidirectional=True)
    x = torch.randn(9, 40, 64, requires_grad=True)
    own, of_torch = ln.get_num_threads(), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            ln.set_num_threads(3)
            found.append(results(module, x, [x], None))
            ln.set_num_threads(2)
            found.append(results(module, x, [x], None))
            assert _core.borrow_threads(1) == 0  # after the call it is as before
            assert ln.get_num_threads() == 1
            assert _core.borrow_threads(0) == 1
            assert ln.get_num_threads() == 2
    finally:
        torch.set_num_threads(of_torch)
        ln.set_num_threads(own)
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


def test_a_forked_child_has_threads_of_its_own() -> None:
    code = """
import os, torch, lstm_native, lstm_native.torch
torch.set_num_threads(2); lstm_native.set_num_threads(2)
module, x = lstm_native.torch.LSTM(64, 128), torch.randn(30, 40, 64)
with torch.no_grad():
    expected = module(x)[0].numpy()
    child = os.fork()
    if child == 0:  # PyTorch's own parallel operations would hang here
        same = (module(x)[0].numpy() == expected).all()
        os._exit(0 if same and lstm_native._core.pool_threads() == 1 else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], timeout=120).returncode == 0


def test_replace() -> None:
    class Tagger(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = torch.nn.Embedding(11, 5)
            self.layers = torch.nn.ModuleList([torch.nn.GRU(5, 6, batch_first=True), torch.nn.LSTM(6, 4)])
            self.head = torch.nn.Linear(4, 2)

        def forward(self, ids: Any) -> Any:
            x, _ = self.layers[0](self.embed(ids))
            return self.head(self.layers[1](x)[0])

    theirs = Tagger()
    ours = copy.deepcopy(theirs)
    optimizers = [torch.optim.Adam(m.parameters(), 0.01) for m in (theirs, ours)]
    parameters = list(ours.parameters())
    assert native.replace(ours) is ours
    assert [type(m) for m in ours.layers] == [native.GRU, native.LSTM]
    assert all(a is b for a, b in zip(parameters, ours.parameters(), strict=True))
    ids = torch.randint(11, (3, 7))
    for _ in range(3):
        losses = []
        for model, optimizer in zip((theirs, ours), optimizers, strict=True):
            optimizer.zero_grad()
            loss = model(ids).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert isinstance(native.replace(torch.nn.LSTM(2, 3)), native.LSTM)
    with pytest.raises(TypeError, match="expected a torch"):
        native.replace([torch.nn.LSTM(2, 3)])


def test_other_modules_stay() -> None:
    class Mine(torch.nn.LSTM):
        pass

    model = torch.nn.ModuleDict({"rnn": torch.nn.RNN(2, 3), "mine": Mine(2, 3), "done": native.GRU(2, 3)})
    kinds = [type(m) for m in native.replace(model).values()]
    assert kinds == [torch.nn.RNN, Mine, native.GRU]


def test_inside_sequential_and_as_a_string() -> None:
    class Last(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x[0][:, -1]

    model = torch.nn.Sequential(native.LSTM(3, 4, batch_first=True), Last(), torch.nn.Linear(4, 1))
    assert model(torch.randn(2, 5, 3)).shape == (2, 1)
    assert repr(model[0]) == "LSTM(3, 4, batch_first=True)"


@pytest.mark.long
def test_compiled() -> None:
    theirs, ours = pair("LSTM", 3, 4, batch_first=True)
    x = torch.randn(2, 5, 3)
    compiled = torch.compile(ours, backend="eager")
    torch.testing.assert_close(compiled(x)[0], theirs(x)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.nn's own modules cause them, too
        exported = torch.export.export(ours, (x,)).module()
        traced = torch.jit.trace(ours, (x,), check_trace=False)
    torch.testing.assert_close(exported(x)[0], theirs(x)[0])
    torch.testing.assert_close(traced(x)[0], theirs(x)[0])
