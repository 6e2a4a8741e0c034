"""Steps that go to the GPU as CUDA graphs (csrc/cuda/graphs.h): the same bits as by launches of their own,
whatever the calls in between were. Without a GPU a graph is a list of launches with their arguments, and
memory that was given back is taken again at once, so that calls of other shapes come with the same
addresses."""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import lstm_native as ln
from cuda_support import CSRC, ROOT, compiler, on_host, run, using_precision
from lstm_native import _core, cuda
from native_support import Array, f32, recurrent_case, recurrent_masked, tensor, varied_case
from test_cuda_backend import OnDevice as PlainOnDevice
from test_cuda_general import OnDevice as GeneralOnDevice
from test_general_native import CELLS, FUNCTIONS, GATES, general_case

AUTO, LAUNCHES, GRAPHS = 0, 4, 5  # LnPlan
Results = dict[str, Array | None]


pytestmark = pytest.mark.usefixtures("cuda_device", "cuda_settings")


class Counts(NamedTuple):
    made: int
    kept: int
    launched: int


def counts() -> Counts:
    found = re.search(
        r"graphs so far: (\d+) made, (\d+) kept, (\d+) times launched", cuda.explain(1, 100, 40, "gru_before")
    )
    return Counts(*map(int, found.groups())) if found else Counts(0, 0, 0)


def assert_equal(got: Results, expected: Results, what: object) -> None:
    assert got.keys() == expected.keys()
    for name, want in expected.items():
        mine = got[name]
        assert (mine is None) == (want is None), (what, name)
        if mine is not None and want is not None:
            assert mine.tobytes() == want.tobytes(), (what, name)


def inference(case: Any) -> Results:
    output, h, c, _ = case.forward(case.weights())
    found = {"output": output, "h": h, "c": c}
    return {n: t.numpy() if isinstance(t, _core.Tensor) else t for n, t in found.items()}


def training(case: Any) -> Results:
    return dict(case.native() if isinstance(case, GeneralOnDevice) else case.gradients())


def check(calls: list[tuple[str, Callable[[], Results]]], rounds: int = 4) -> None:
    """Each call by launches, then all in turns as graphs: what came before must not change their results."""
    _core.cuda_set_plan(LAUNCHES)
    before = counts()
    expected = [call() for _, call in calls]
    assert counts() == before
    _core.cuda_set_plan(GRAPHS)
    for _ in range(rounds):
        for (what, call), want in zip(calls, expected, strict=True):
            assert_equal(call(), want, what)


def plain_cases(cell: str) -> list[PlainOnDevice]:
    cases = []
    for seed in range(30):
        others: dict[str, Any] = {}
        if seed % 3 == 1:
            others = {"activation": ["relu", "softsign"][seed % 2], "recurrent_activation": "hard_sigmoid"}
        cases.append(PlainOnDevice(**vars(varied_case(cell, seed, (4, 9, 5, 9), **others))))
    return cases


def general_cases(number: int) -> list[GeneralOnDevice]:
    cases = []
    for seed in range(number):
        rng = np.random.default_rng(seed)
        cell = CELLS[seed % 4]
        is_lstm = cell == "lstm"
        options: dict[str, Any] = {
            "batch": int(rng.integers(1, 4)),
            "time": int(rng.integers(4, 9)),
            "units": int(rng.integers(1, 9)),
            "projection": int(rng.integers(1, 9)) if is_lstm and seed % 3 else None,
            "peepholes": is_lstm and rng.random() < 0.5,
            "coupled": is_lstm and rng.random() < 0.3,
            "mask": ("none", "holes")[int(rng.integers(2))],
            "clip": float(rng.uniform(0.2, 3.0)) if rng.random() < 0.3 else None,
            "activation": FUNCTIONS[int(rng.integers(len(FUNCTIONS)))],
            "recurrent_activation": GATES[int(rng.integers(len(GATES)))],
            "output_activation": (FUNCTIONS[0], *FUNCTIONS[5:])[int(rng.integers(len(FUNCTIONS) - 4))],
        }
        flags = ("reset", "initial", "use_bias", "recurrent_mask", "return_sequences", "go_backwards")
        options |= {name: bool(rng.integers(2)) for name in flags}
        cases.append(GeneralOnDevice(**vars(general_case(seed, cell, **options))))
    return cases


def calls_of(cases: list[Any], train: bool = True) -> list[tuple[str, Callable[[], Results]]]:
    found: list[tuple[str, Callable[[], Results]]] = []
    for case in cases:
        found.append((f"inference {case}", lambda case=case: inference(case)))  # type: ignore[misc]
        if train:
            found.append((f"training {case}", lambda case=case: training(case)))  # type: ignore[misc]
    return found


@pytest.mark.parametrize("cell", ["lstm", "gru", "gru_before", "simple_rnn"])
def test_same_bits_whatever_came_before(cell: str) -> None:
    before = counts()
    check(calls_of(plain_cases(cell)))
    after = counts()
    assert after.launched > before.launched + 20  # or nothing was tested


def test_same_bits_of_general_cells() -> None:
    before = counts()
    check(calls_of(general_cases(40)))
    assert counts().launched > before.launched + 20


@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
def test_same_bits_in_other_precisions(precision: str) -> None:
    cases = [case for cell in ("lstm", "gru_before") for case in plain_cases(cell)[:8]]
    cases += [case for cell in ("gru", "simple_rnn") for case in plain_cases(cell)[:4]]
    with using_precision(precision):
        check(calls_of([*cases, *general_cases(12)], train=precision != "float16"))


def test_precisions_in_turns() -> None:
    """The same arrays, rounded or not."""
    case = PlainOnDevice(**vars(recurrent_case(0, 3, 6, 4, 8)))
    expected = {}
    _core.cuda_set_plan(LAUNCHES)
    for precision in cuda.PRECISIONS:
        with using_precision(precision):
            expected[precision] = inference(case)
    _core.cuda_set_plan(GRAPHS)
    for _ in range(4):
        for precision in cuda.PRECISIONS:
            with using_precision(precision):
                assert_equal(inference(case), expected[precision], precision)


def test_one_thing_changes() -> None:
    """Calls that differ in one argument only, at the same addresses: nothing that decides about launches may
    be missing where calls are compared."""
    case = recurrent_case(1, 3, 7, 4, 8, mask="holes", reset=True)
    rng = np.random.default_rng(0)
    masked = recurrent_masked(case)
    cases = [
        case,
        replace(case, go_backwards=True),
        replace(case, zero_output_for_mask=True),
        replace(case, mask=None),
        replace(case, reset=None),
        replace(case, mask=None, reset=None),
        replace(case, h0=None),
        replace(case, c0=None),
        replace(case, bias=None),
        replace(case, activation="relu"),
        replace(case, recurrent_activation="tanh"),
        replace(case, return_sequences=False, d_output=case.d_output[:, 0]),  # type: ignore[index]
        replace(case, d_h=None),
        replace(case, d_c=None),
        replace(case, d_output=None),
        replace(case, mask=rng.random((3, 7)) < 0.5),
        replace(case, h0=f32(rng.normal(size=(3, 8)))),
        replace(case, recurrent=f32(rng.normal(size=(8, 32)))),
        masked,
        masked.rows(slice(0, 2)),
        case.rows(slice(0, 2)),
        replace(case, checkpoint_steps=3),
        replace(masked, go_backwards=True),
    ]
    check(calls_of([PlainOnDevice(**vars(c)) for c in cases]))


ARRAYS = ("h0", "c0", "recurrent_mask", "reset", "d_output", "d_h", "d_c", "weights")


@pytest.mark.parametrize("changed", ARRAYS)
@pytest.mark.parametrize("cell", ["lstm", "gru_before"])
def test_one_address_changes(cell: str, changed: str) -> None:
    """Two arrays of one kind, both there all the time; all other memory is the same in every call."""
    case = recurrent_masked(recurrent_case(1, 3, 7, 4, 8, cell=cell, reset=True))
    if changed in ("c0", "d_c") and cell != "lstm":
        pytest.skip("has no c")
    rng = np.random.default_rng(0)
    kept: dict[str, list[Any]] = {"weights": []}
    for name in ARRAYS[:-1]:
        array = getattr(case, name)
        arrays = (
            [array, f32(rng.normal(size=array.shape)) if name != "reset" else ~array]
            if array is not None
            else []
        )
        kind = "bool" if name == "reset" else "float32"
        kept[name] = [tensor(a, kind).to("cuda") if kind == "float32" else tensor(a, kind) for a in arrays]
        kept[name] = kept[name] or [None, None]
    for scale in (1.0, 0.5):
        given = replace(case, recurrent=case.recurrent * np.float32(scale))
        kept["weights"].append(PlainOnDevice(**vars(given)).weights())
    x = tensor(case.x).to("cuda")

    def call(which: int) -> Results:
        a = {name: both[which if name == changed else 0] for name, both in kept.items()}
        output, h, c, saved = _core.recurrent_forward(
            a["weights"], x, None, a["reset"], a["h0"], a["c0"], True, False, False, True,
            recurrent_mask=a["recurrent_mask"],
        )  # fmt: skip
        d = _core.recurrent_backward(a["weights"], saved, a["d_output"], a["d_h"], a["d_c"], True, True)
        results = (output, h, c, *d)
        return {str(n): None if t is None else t.numpy() for n, t in enumerate(results)}

    before = counts()
    check([(f"{changed} {which}", lambda which=which: call(which)) for which in (0, 1)])  # type: ignore[misc]
    if on_host:
        assert counts().launched >= before.launched + 8


@pytest.mark.parametrize("cell", ["lstm", "gru_before"])
def test_steady_training_and_inference(cell: str) -> None:
    """A model in `fit` and `predict`: bit for bit as by launches; after the first batches graphs run."""
    rng = np.random.default_rng(0)
    x, y = f32(rng.normal(size=(24, 9, 5))), f32(rng.normal(size=(24, 2)))
    weights, outputs, launched = [], [], []
    for plan in (LAUNCHES, GRAPHS):
        _core.cuda_set_plan(plan)
        ln.utils.set_random_seed(3)
        options: dict[str, Any] = {} if cell == "lstm" else {"reset_after": False}
        kind: Any = ln.LSTM if cell == "lstm" else ln.GRU
        both = ln.layers.Bidirectional(kind(7, return_sequences=True, **options))
        model = ln.Sequential([ln.Input((9, 5)), both, kind(6, **options), ln.Dense(2)])
        model.compile("adam", "mse")
        model.to("cuda")
        before = counts()
        model.fit(x, y, epochs=6, batch_size=8, verbose=0, shuffle=False)
        launched.append(counts().launched - before.launched)
        outputs += [model.predict(x, batch_size=8, verbose=0) for _ in range(4)]
        weights.append(model.get_weights())
    for mine, other in zip(*weights, strict=True):
        assert np.array_equal(mine, other)
    assert all(np.array_equal(outputs[0], o) for o in outputs)
    if on_host:  # six calls a batch; a pool of the GPU may give other addresses
        assert launched[0] == 0
        assert launched[1] > 0.5 * 6 * 18


def test_weights_that_change_in_place() -> None:
    """A graph reads what lies at its addresses when it runs."""
    case = PlainOnDevice(**vars(recurrent_case(2, 2, 6, 3, 5, cell="gru_before")))
    weights = case.weights()
    rng = np.random.default_rng(0)
    results: dict[int, list[Array]] = {}
    for plan in (LAUNCHES, GRAPHS):
        _core.cuda_set_plan(plan)
        rng = np.random.default_rng(0)
        results[plan] = []
        for _ in range(5):
            case = replace(case, x=f32(rng.normal(size=case.x.shape)), h0=f32(rng.normal(size=(2, 5))))
            results[plan].append(case.forward(weights)[0])
    for mine, other in zip(*results.values(), strict=True):
        assert np.array_equal(mine, other)


def test_sequences_that_take_more_than_one_graph() -> None:
    """4096 launches a graph at most: 2500 steps of two launches are two graphs of 1250 steps."""
    case = PlainOnDevice(**vars(recurrent_case(0, 1, 2500, 1, 2, cell="simple_rnn", mask="holes")))
    before = counts()
    check(calls_of([case], train=False))
    if on_host:
        assert counts().made - before.made == 2


def test_threads() -> None:
    cases: list[Any] = [*plain_cases("lstm")[:6], *plain_cases("gru_before")[:6], *general_cases(8)]
    _core.cuda_set_plan(LAUNCHES)
    expected = [training(case) for case in cases]
    _core.cuda_set_plan(GRAPHS)
    errors: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for i in range(3 * len(cases)):
                n = (first + i) % len(cases)
                for _ in range(2):
                    assert_equal(training(cases[n]), expected[n], cases[n])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(5 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.parametrize("after", [0, 1, 5, -2])
def test_a_graph_that_fails(after: int) -> None:
    """In the middle of making it, or at its start: the steps run by launches of their own."""
    if not on_host:
        pytest.skip("errors are made on the host only")
    library = ctypes.CDLL(str(on_host[0]))
    cases = [PlainOnDevice(**vars(recurrent_case(after + 2, 2, 6 + n, 3, 5 + after % 7))) for n in range(3)]
    _core.cuda_set_plan(LAUNCHES)
    expected = [training(case) for case in cases]
    _core.cuda_set_plan(GRAPHS)
    training(cases[0])
    before = counts()
    library.cuda_on_host_fail(ctypes.c_int64(after))
    try:
        for _ in range(3):
            assert_equal(training(cases[0]), expected[0], "fails")
    finally:
        library.cuda_on_host_fail(ctypes.c_int64(-1))
    failed = counts()
    for _ in range(4):
        for case, want in zip(cases, expected, strict=True):
            assert_equal(training(case), want, "later")
    after_all = counts()
    assert after_all.launched > failed.launched
    alive = ctypes.c_int64()
    library.cuda_on_host_graphs_alive(ctypes.byref(alive))
    assert alive.value == after_all.kept  # none was lost
    assert failed.made - before.made <= 2


def test_explain() -> None:
    say = "as a CUDA graph where a call comes again with the same addresses"
    _core.cuda_set_plan(GRAPHS)
    assert cuda.explain(2, 100, 20).count(say) == 2
    assert say not in cuda.explain(2, 1, 20)  # one step
    _core.cuda_set_plan(LAUNCHES)
    assert say not in cuda.explain(2, 100, 20)
    assert cuda.explain(2, 100, 20).startswith("forward: step by step")
    _core.cuda_set_plan(AUTO)
    assert say in cuda.explain(1, 100, 20, "gru_before")  # the host would be late
    assert say not in cuda.explain(4096, 100, 4000, "gru_before")  # the device is busy


def test_which_graphs_are_kept(tmp_path: Path) -> None:
    program = tmp_path / "graphs"
    sources = ROOT / "tests" / "cpp" / "cuda_graphs_test.cpp", CSRC / "cuda" / "graphs.cpp"
    run(compiler(), "-std=c++17", f"-I{CSRC}", *sources, "-o", program)
    run(program)
