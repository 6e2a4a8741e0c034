"""Choosing the instruction set and the number of threads: at run time and by environment variables."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from lstm_native import _core
from native_support import assert_bits, recurrent_case, tensor, using_isa, variable

KNOWN = ("generic", "avx2", "avx512", "neon")


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("LSTM_NATIVE_")}
    command = [sys.executable, "-c", f"from lstm_native import _core\n{code}"]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=env | environment, check=False
    )


def test_names() -> None:
    names = _core.available_isas()
    assert "generic" in names
    assert len(set(names)) == len(names)
    assert set(names) <= set(KNOWN)
    assert _core.isa() in names


def test_set_isa() -> None:
    before = _core.isa()
    for name in _core.available_isas():
        with using_isa(name):
            assert _core.isa() == name
    assert _core.isa() == before


@pytest.mark.parametrize(
    "name", ["sse9", "", "AVX2", *(name for name in KNOWN if name not in _core.available_isas())]
)
def test_set_isa_refuses_what_is_not_there(name: str) -> None:
    before = _core.isa()
    with pytest.raises(ValueError, match=name or "''"):
        _core.set_isa(name)
    assert _core.isa() == before


def test_warm_weights_follow_a_change() -> None:
    """Weights packed for one instruction set are packed anew for another, there and back."""
    case = recurrent_case(1, 5, 6, 20, 40)
    weights = case.weights()
    rng = np.random.default_rng(2)
    kernel, x = variable(rng.normal(size=(30, 50))), tensor(rng.normal(size=(9, 30)))
    dense = _core.DenseWeights(kernel, None)
    names = _core.available_isas()
    for name in [*names, *reversed(names)]:
        with using_isa(name):
            assert_bits(case.forward(weights)[0], case.forward(case.weights())[0], name)
            fresh = _core.DenseWeights(variable(kernel.numpy()), None)
            assert_bits(_core.dense_forward(dense, x).numpy(), _core.dense_forward(fresh, x).numpy(), name)


def test_a_change_between_forward_and_backward() -> None:
    """What a forward call saved stays good: the gradient is that of either instruction set."""
    case = recurrent_case(3, 5, 6, 20, 40)
    names = _core.available_isas()
    expected = case.reference_gradients(case.reference())
    for first, second in zip(names, [*names[1:], names[0]], strict=True):
        weights = case.weights()
        with using_isa(first):
            saved = case.forward(weights, training=True)[3]
        with using_isa(second):
            gradients = case.backward(weights, saved)
        for name, value in gradients.items():
            wanted = expected[name]
            assert value is not None
            assert wanted is not None
            np.testing.assert_allclose(
                value, wanted, rtol=1e-3, atol=1e-4, err_msg=f"{first} {second} {name}"
            )


@pytest.mark.parametrize("name", _core.available_isas())
def test_environment_forces_one(name: str) -> None:
    done = run("print(_core.isa())", LSTM_NATIVE_ISA=name)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == name


def test_the_best_one_is_chosen() -> None:
    order = ["generic", "neon", "avx2", "avx512"]
    done = run("print(_core.isa())")
    assert done.stdout.strip() == max(_core.available_isas(), key=order.index), done.stderr


@pytest.mark.parametrize("name", ["sse9", *(name for name in KNOWN if name not in _core.available_isas())])
def test_environment_with_what_is_not_there(name: str) -> None:
    """One clear Python exception at first use, which names the variable, and no abort."""
    done = run("_core.activation_forward('tanh', _core.as_tensor([1.0], 'float32'))", LSTM_NATIVE_ISA=name)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(("ValueError", "RuntimeError"))
    assert "LSTM_NATIVE_ISA" in last
    assert name in last


@pytest.mark.parametrize("count", ["1", "3"])
def test_environment_sets_the_threads(count: str) -> None:
    done = run("print(_core.get_num_threads())", LSTM_NATIVE_NUM_THREADS=count)
    assert done.stdout.strip() == count, done.stderr


@pytest.mark.parametrize("count", ["0", "-2", "many", "3x", "99999999999999999999"])
def test_environment_with_nonsense_threads(count: str) -> None:
    done = run("_core.get_num_threads()", LSTM_NATIVE_NUM_THREADS=count)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError")
    assert "LSTM_NATIVE_NUM_THREADS" in last
    assert count in last


def test_build_info() -> None:
    info = _core.build_info()
    assert info
    assert all(isinstance(key, str) and isinstance(value, str) for key, value in info.items())
