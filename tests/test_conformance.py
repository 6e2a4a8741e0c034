"""Keras' own test cases, run against this package; see conformance/README.md."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conformance import keras_suite

FOLDER = Path(__file__).parent / "conformance"
CASES = [case for _, case in keras_suite.read_cases()]
OTHERWISE = (FOLDER / "otherwise.txt").read_text(encoding="utf-8").split()
CASE_LIMIT = 120  # seconds after which a case that does not answer has failed


@pytest.fixture(scope="session")
def keras_site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the Python files of Keras: KERAS_SITE, or one that pip fills once."""
    given = os.environ.get("KERAS_SITE")
    if given:
        return Path(given)
    cache = getattr(request.config, "cache", None)
    site: Path = cache.mkdir("keras-site") if cache is not None else tmp_path_factory.mktemp("keras-site")
    version = site / "keras" / "src" / "version.py"
    if not version.is_file() or f'"{keras_suite.VERSION}"' not in version.read_text(encoding="utf-8"):
        wanted = f"keras=={keras_suite.VERSION}"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target"]
        done = subprocess.run([*command, str(site), wanted], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            message = f"pip could not fetch {wanted}, whose tests these are: {done.stderr.strip()[-300:]}"
            if os.environ.get("CI"):
                pytest.fail(message)
            pytest.skip(message)
    return site


@pytest.fixture(scope="session")
def outcomes(request: pytest.FixtureRequest, keras_site: Path) -> dict[str, Any]:
    """What went wrong in every case that was selected, None where nothing did."""
    selected = {
        getattr(item, "callspec", None) and item.callspec.params.get("case") for item in request.session.items
    }
    arguments = SimpleNamespace(
        impl="lstm_native", keras_site=str(keras_site), verbose=False, case_limit=CASE_LIMIT
    )
    before = set(threading.enumerate())
    with warnings.catch_warnings():
        # Pipes of processes that have ended stay open until the threads that read them are done.
        warnings.simplefilter("ignore", ResourceWarning)
        found = dict(keras_suite.outcomes([case for case in CASES if case in selected], arguments))
        for reader in set(threading.enumerate()) - before:
            reader.join(CASE_LIMIT)
        gc.collect()
    return found


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=c, marks=[pytest.mark.xfail(reason="on purpose")] * (c in OTHERWISE)) for c in CASES],
)
def test_keras_case(case: str, outcomes: dict[str, Any]) -> None:
    problem = outcomes[case]
    if problem is not None:
        pytest.fail("\n".join(problem), pytrace=False)


def test_the_lists_agree() -> None:
    assert len(CASES) == 577
    assert set(OTHERWISE) <= set(CASES)
