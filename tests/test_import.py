"""What `import lstm_native` does to a process: NumPy and nothing else, no thread, no floating-point mode."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import lstm_native

TASKS = Path("/proc/self/task")


def in_fresh_process(code: str, **environment: str) -> Any:
    """What `code` prints as JSON; numpy is imported before it."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("LSTM_NATIVE_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import json, sys, numpy as np\n{code}"],
        capture_output=True,
        text=True,
        timeout=120,
        env=env | environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_pulls_in_numpy_and_nothing_else() -> None:
    names = in_fresh_process(
        "before = set(sys.modules)\nimport lstm_native\nprint(json.dumps(sorted(set(sys.modules) - before)))"
    )
    tops = {name.partition(".")[0] for name in names}
    assert "lstm_native" in tops
    assert tops - {"lstm_native", "numpy"} - set(sys.stdlib_module_names) == set()


def test_heavy_parts_of_the_standard_library_stay_out() -> None:
    """Each of these costs more milliseconds than the package may."""
    heavy = (
        "asyncio",
        "concurrent.futures",
        "multiprocessing",
        "unittest",
        "urllib.request",
        "email",
        "http",
        "sqlite3",
    )
    loaded = in_fresh_process(
        "before = set(sys.modules)\nimport lstm_native\n"
        f"print(json.dumps([n for n in {heavy!r} if n in set(sys.modules) - before]))"
    )
    assert loaded == []


def test_starts_no_thread() -> None:
    if not TASKS.exists():
        pytest.skip("this system has no /proc/self/task")
    before, after, workers = in_fresh_process(
        "import os\nbefore = len(os.listdir('/proc/self/task'))\nimport lstm_native\n"
        "from lstm_native import _core\n"
        "print(json.dumps([before, len(os.listdir('/proc/self/task')), _core.pool_threads()]))"
    )
    assert after == before
    assert workers == 0


def test_leaves_the_floating_point_mode_alone() -> None:
    kept = in_fresh_process(
        "import lstm_native\n"
        "small = np.full(9, 1e-45, np.float32) * np.float32(2.0)\n"
        "print(json.dumps(bool((small > 0).all() and (np.full(9, 5e-324) * 3 > 0).all())))"
    )
    assert kept is True


def test_prints_and_warns_nothing() -> None:
    assert in_fresh_process("import lstm_native\nprint(json.dumps('only this'))") == "only this"


def test_numpy_random_state_is_untouched() -> None:
    first, second = in_fresh_process(
        "np.random.seed(1); a = np.random.random(); np.random.seed(1)\n"
        "import lstm_native\nprint(json.dumps([a, np.random.random()]))"
    )
    assert first == second


def test_ends_cleanly_with_a_warm_pool() -> None:
    """Workers that sleep do not keep the process from ending."""
    code = (
        "from lstm_native import _core\n_core.set_num_threads(3)\n"
        "x = _core.as_tensor(np.ones((600, 600), np.float32), 'float32')\n"
        "w = _core.DenseWeights(_core.Variable(x), None)\n_core.dense_forward(w, x)\n"
        "print(json.dumps(_core.pool_threads()))"
    )
    assert in_fresh_process(code) > 0


def test_programs_that_write_tf_keras_everywhere() -> None:
    import lstm_native as tf

    assert tf.keras is tf
    assert tf.keras.layers.LSTM is lstm_native.layers.LSTM
