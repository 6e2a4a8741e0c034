"""Shared by all tests: the hypothesis profile, random numbers, and fixtures."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

# Counted, repeatable examples: a run tests the same everywhere, and a slow machine is no failure.
hypothesis.settings.register_profile(
    "repository", deadline=None, derandomize=True, database=None, print_blob=True
)
hypothesis.settings.load_profile("repository")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Every test draws random numbers of its own, the same at every run."""
    from lstm_native.utils import set_random_seed

    set_random_seed(zlib.crc32(item.nodeid.encode()))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test that asks for `isa` once for every instruction set that this machine offers."""
    if "isa" in metafunc.fixturenames:
        from lstm_native import _core

        metafunc.parametrize("isa", _core.available_isas(), indirect=True)


@pytest.fixture
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Name of the instruction set that the test runs with."""
    from lstm_native import _core

    before = _core.isa()
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa(before)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of threads; the number from before comes back after the test."""
    from lstm_native import _core

    before = _core.get_num_threads()
    yield _core.set_num_threads
    _core.set_num_threads(before)


@pytest.fixture(scope="module")
def cuda_device(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A CUDA device is open: a GPU, or the host in its place."""
    from cuda_support import open_for_tests

    open_for_tests(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def cuda_settings() -> Iterator[None]:
    """Plan and precision are the usual ones again after the test."""
    from lstm_native import _core, cuda

    yield
    _core.cuda_set_plan(0)  # LN_PLAN_AUTO
    cuda.set_precision("float32")
