"""CUDA that cannot be used: every reason is one sentence, and models stay where they are."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import lstm_native as ln
from cuda_support import CSRC, ROOT, build_for_host, compiler, run
from lstm_native import _core

TRY = """
import numpy as np
import lstm_native as ln
model = ln.Sequential([ln.Input((4, 3)), ln.LSTM(5)])
x = np.ones((2, 4, 3), np.float32)
before, weights = model.predict(x, verbose=0), model.get_weights()
assert not ln.cuda.is_available()
reason = ln.cuda.unavailable_reason()
for function in (lambda: model.to("cuda"), ln.cuda.device_name, ln.cuda.memory_info):
    try:
        function()
    except RuntimeError as error:
        assert str(error) == reason
    else:
        raise AssertionError("no error")
assert model.device == "cpu"
assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), weights))
assert np.array_equal(model.predict(x, verbose=0), before)
print(reason)
"""


def python(code: str, **environment: str) -> str:
    """Runs Python code in a process of its own, without this one's device."""
    variables = {k: v for k, v in os.environ.items() if k != "LSTM_NATIVE_CUDA_LIBRARY"} | environment
    path = os.pathsep.join([str(Path(ln.__file__).parent.parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env=variables | {"PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_library_that_is_missing(tmp_path: Path) -> None:
    reason = python(TRY, LSTM_NATIVE_CUDA_LIBRARY=str(tmp_path / "nowhere.so"))
    assert reason.startswith("CUDA is not available: the CUDA library cannot be opened: ")
    assert "nowhere.so" in reason


def test_package_that_is_missing() -> None:
    beside = Path(_core.__file__).parent / "liblstm_native_cuda.so"
    if beside.exists() or find_spec("lstm_native_cuda13") is not None:
        pytest.skip("the library is here")
    assert python(TRY) == (
        "CUDA is not available: the library liblstm_native_cuda.so is not installed; "
        "run `pip install lstm-native[cuda]`"
    )


def stub(folder: Path, version: str, size: str, entry: str = "lstm_native_backend") -> Path:
    """A library that has nothing but a table of this version and size."""
    source = folder / "stub.cpp"
    source.write_text(
        f'#include "backend/backend.h"\nstatic LnBackend table;\nextern "C" const LnBackend* {entry}() {{\n'
        f"    table.version = {version};\n    table.struct_size = {size};\n    return &table;\n}}\n"
    )
    library = folder / "stub.so"
    run(compiler(), "-shared", "-fPIC", f"-I{CSRC}", source, "-o", library)
    return library


@pytest.mark.parametrize(
    ("version", "size"), [("LN_BACKEND_VERSION + 1", "sizeof(LnBackend)"), ("LN_BACKEND_VERSION", "8")]
)
def test_library_of_another_release(tmp_path: Path, version: str, size: str) -> None:
    reason = python(TRY, LSTM_NATIVE_CUDA_LIBRARY=str(stub(tmp_path, version, size)))
    assert reason.startswith(f"CUDA is not available: {tmp_path / 'stub.so'} has interface ")
    assert reason.endswith("install lstm-native and lstm-native-cuda13 of one release")


def test_library_of_something_else(tmp_path: Path) -> None:
    library = stub(tmp_path, "1", "1", entry="something")
    reason = python(TRY, LSTM_NATIVE_CUDA_LIBRARY=str(library))
    assert reason == f"CUDA is not available: {library} is no CUDA library of lstm_native"


def test_config_says_why_not(tmp_path: Path) -> None:
    code = "import lstm_native as ln; ln.show_config()"
    text = python(code, LSTM_NATIVE_CUDA_LIBRARY=str(tmp_path / "nowhere.so"))
    assert "CUDA is not available: the CUDA library cannot be opened" in text


def test_importing_opens_nothing(tmp_path: Path) -> None:
    assert python("import lstm_native as ln; print(ln._core.cuda_is_open())") == "False"


def test_forked_child(tmp_path: Path) -> None:
    code = """
import os, sys
import numpy as np
import lstm_native as ln
model = ln.Sequential([ln.Input((4, 3)), ln.LSTM(5)])
here = ln.Sequential([ln.Input((4, 3)), ln.LSTM(5)])
x = np.ones((2, 4, 3), np.float32)
model.to("cuda").predict(x, verbose=0)
child = os.fork()
if child == 0:
    here.predict(x, verbose=0)
    for call in (lambda: model.predict(x, verbose=0), lambda: here.to("cuda"), ln.cuda.device_name):
        try:
            call()
        except RuntimeError as error:
            assert "forked child" in str(error) and "'spawn'" in str(error), error
        else:
            os._exit(1)
    assert here.device == "cpu"
    assert "forked child" in ln.cuda.unavailable_reason()
    del model
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print(model.predict(x, verbose=0).shape)
"""
    assert python(code, LSTM_NATIVE_CUDA_LIBRARY=str(build_for_host(tmp_path))) == "(2, 5)"


def test_arguments() -> None:
    model = ln.Sequential([ln.Input((4, 3)), ln.LSTM(5)])
    with pytest.raises(ValueError, match="to got the device 'gpu', expected 'cpu' or 'cuda'"):
        model.to("gpu")
    with pytest.raises(ValueError, match=r"'cuda:1', expected 'cpu' or 'cuda'; .* CUDA_VISIBLE_DEVICES=1$"):
        model.to("cuda:1")
    assert model.to("cpu") is model
    x = _core.as_tensor(np.ones(3), "float32")
    assert x.to("cpu") is x
    with pytest.raises(ValueError, match="device is 'tpu', expected 'cpu' or 'cuda'"):
        x.to("tpu")


def test_planner(tmp_path: Path) -> None:
    program = tmp_path / "planner"
    source = ROOT / "tests" / "cpp" / "cuda_planner_test.cpp"
    run(compiler(), "-std=c++17", f"-I{CSRC}", source, CSRC / "cuda" / "planner.cpp", "-o", program)
    run(program)
