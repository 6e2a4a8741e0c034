"""Holds the floors: who may include or import whom, how long a file may be, what the package may not use."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import lstm_native
from lstm_native import _core

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
PACKAGE = ROOT / "python" / "lstm_native"
MAX_LINES = 600
# Kept as it came (the README beside it), so that a newer one can take its place.
FOREIGN = ROOT / "tests" / "conformance" / "keras_suite.py"

FOLDERS = ("csrc", "python", "tests", "benchmarks", "examples")
SUFFIXES = (".py", ".pyi", ".h", ".cpp", ".cu", ".cuh")
SOURCES = [
    path
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in SUFFIXES and "__pycache__" not in path.parts and path != FOREIGN
]
NATIVE = [path for path in SOURCES if path.is_relative_to(CSRC)]
PYTHON = sorted(PACKAGE.rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_sources_are_found() -> None:
    assert len(NATIVE) > 10
    assert len(PYTHON) > 10


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_files_are_short_and_say_what_they_are(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_LINES
    if path.suffix in (".h", ".cpp") and "#include" in "".join(lines[:1]):
        return  # a source file whose header, named first, says it
    assert not lines or lines[0].startswith(('"""', 'r"""', "#", "//", "/*")), (
        "the first lines say what the file is"
    )


# --- C++ ------------------------------------------------------------------------------------------

# What each folder may include of ours.
MAY_INCLUDE = {
    "core": {"core"},
    "backend": set[str](),
    "cpu": {"cpu", "core", "backend"},
    "cuda": {"cuda", "core", "backend"},
    "ops": {"ops", "core", "backend"},
    "bindings": {"bindings", "ops", "core", "backend"},
}
# Where the table of a device is found, and where its instruction sets are named.
TABLE_OF_DEVICE = ("csrc/ops/context.h", "csrc/bindings/machine.cpp")
INTRINSICS = re.compile(r"<(\w*mmintrin|x86intrin|arm_neon|arm_sve|cpuid)\.h>")
INTRINSIC_CALL = re.compile(r"\b(_mm\d*_\w+|__m(128|256|512)\w*|__cpuid\w*|_xgetbv|vld1q_\w+|float32x4_t)\b")
OPERATING_SYSTEM = re.compile(r"<(pthread|dlfcn|sched|signal|unistd|sys/\w+|asm/\w+|windows)\.h>")
CUDA_TOOLKIT = re.compile(r"<(cuda_\w+\.h|cub/.+\.cuh)>")
# Their inline functions must not be compiled for one instruction set and linked for all (architecture.md).
CONTAINERS = re.compile(
    r"<(vector|string|map|unordered_map|memory|functional|algorithm|atomic|mutex|sstream|array)>"
)


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s+(<[^>]+>|"[^"]+")', path.read_text(encoding="utf-8"), re.MULTILINE)


def code_of(path: Path) -> str:
    """The text without comments."""
    text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"//[^\n]*", "", text)


@pytest.mark.parametrize("path", NATIVE, ids=relative)
def test_native_floors(path: Path) -> None:
    floor = path.relative_to(CSRC).parts[0]
    for include in includes(path):
        name = include[1:-1]
        if include.startswith('"'):
            if relative(path) in TABLE_OF_DEVICE and name == "cpu/backend_cpu.h":
                continue
            assert (CSRC / name).is_file(), f"{include} is not written from csrc/"
            assert name.split("/")[0] in MAY_INCLUDE[floor], include
        elif name.startswith("pybind11/") or name == "Python.h":
            assert floor == "bindings", include
        elif OPERATING_SYSTEM.fullmatch(include):
            assert floor == "core", include
        elif CUDA_TOOLKIT.fullmatch(include):
            assert floor == "cuda", include
        elif not INTRINSICS.fullmatch(include):
            standard_c = floor == "backend"
            assert re.fullmatch(r"<std(int|def)\.h>" if standard_c else r"<[a-z_0-9]+>", include), include


@pytest.mark.parametrize("path", NATIVE, ids=relative)
def test_intrinsics_stay_in_their_files(path: Path) -> None:
    name = relative(path)
    if re.fullmatch(r"csrc/cpu/kernels/(vec_\w+\.h|isa\.cpp)|csrc/core/fp_mode\.cpp", name):
        return
    assert not any(INTRINSICS.fullmatch(include) for include in includes(path))
    assert INTRINSIC_CALL.findall(code_of(path)) == []


@pytest.mark.parametrize(
    "path", [p for p in NATIVE if re.fullmatch(r"(.*-inl|vec_\w+)\.h|kernels_\w+\.cpp", p.name)], ids=relative
)
def test_kernel_files_use_no_containers(path: Path) -> None:
    assert not any(CONTAINERS.fullmatch(include) for include in includes(path))


@pytest.mark.parametrize("path", NATIVE, ids=relative)
def test_native_code_never_aborts_or_prints(path: Path) -> None:
    calls = re.findall(
        r"\b(?:std::)?(abort|exit|terminate|printf|fprintf|puts|cout|cerr)\b(?=\s*[(<])", code_of(path)
    )
    assert calls == []


def test_the_backend_header_is_plain_c() -> None:
    text = code_of(CSRC / "backend" / "backend.h")
    assert not re.search(r"\b(class|template|namespace|std::|virtual)\b", text)


# --- Python ---------------------------------------------------------------------------------------

# Nobody named on the left may import what is named on the right, at any depth.
MAY_NOT_IMPORT = {
    "layers": {
        "models",
        "training",
        "data",
        "summary",
        "streaming",
        "losses",
        "metrics",
        "optimizers",
        "callbacks",
        "progress",
    },
    "losses": {"models", "training", "layers", "metrics", "optimizers", "callbacks"},
    "metrics": {"models", "training", "layers", "optimizers", "callbacks"},
    "optimizers": {"models", "training", "layers", "losses", "metrics", "callbacks"},
    "initializers": {"models", "training", "layers", "losses", "metrics", "optimizers"},
    "activations": {"models", "training", "layers", "losses", "metrics", "optimizers"},
    "callbacks": {"models", "training", "layers", "losses", "optimizers"},
    "saving": {"models", "training", "layers", "losses", "metrics", "optimizers"},
    "variable": {"models", "training", "layers", "losses", "metrics", "optimizers"},
    "errors": {"models", "training", "layers", "losses", "metrics", "optimizers", "initializers"},
    "random_state": {"models", "training", "layers", "losses", "metrics", "optimizers", "initializers"},
}
FORBIDDEN_MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "marshal",
    "shelve",
    "importlib",
    "imp",
    "runpy",
    "code",
}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
STANDARD_AND_NUMPY = {"numpy", "lstm_native"}
# Extras, imported inside the functions that need them.
EXTRAS = {
    # To run a model beside its original, where that is installed.
    "convert/keras_original.py": {"keras", "tf_keras"},
    "callbacks/tensorboard.py": {"tensorboardX"},
    "convert/onnx_file.py": {"google", "onnx"},  # google.protobuf, which onnx brings
    "convert/onnx_nodes.py": {"onnx"},
    "convert/onnx_run.py": {"onnx", "onnxruntime"},
    "convert/onnx_source.py": {"onnx"},
    "convert/onnx_target.py": {"onnx"},
    "onnx_backend.py": {"onnx"},  # a module for ONNX's users, which nothing else imports
    "convert/torch_graph.py": {"torch"},
    "convert/torch_layers.py": {"torch"},
    "convert/torch_source.py": {"torch"},
    "convert/torch_functional.py": {"torch"},
    "convert/torch_target.py": {"torch"},
    "cuda.py": {"cuda", "lstm_native_cuda13"},
    # Modules for PyTorch's users, which nothing else imports.
    "torch/exported.py": {"torch"},
    "torch/function.py": {"torch"},
    "torch/modules.py": {"torch"},
}


def imported_modules(path: Path) -> set[str]:
    """Full names of all modules that the file imports, also inside functions."""
    here = path.relative_to(PACKAGE.parent).with_suffix("").parts
    package = here if path.name == "__init__.py" else here[:-1]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_python_floors(path: Path) -> None:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    used = {name.split(".")[1] for name in imported_modules(path) if name.startswith("lstm_native.")}
    assert used & MAY_NOT_IMPORT.get(parts[0], set()) == set()


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_only_numpy_and_the_standard_library(path: Path) -> None:
    tops = {name.split(".")[0] for name in imported_modules(path)}
    allowed = STANDARD_AND_NUMPY | EXTRAS.get(path.relative_to(PACKAGE).as_posix(), set())
    assert tops - allowed - set(sys.stdlib_module_names) == set()


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_nothing_that_runs_foreign_code(path: Path) -> None:
    assert {name.split(".")[0] for name in imported_modules(path)} & FORBIDDEN_MODULES == set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    called = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert called & FORBIDDEN_CALLS == set()


def test_the_package_root_holds_names_only() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    code = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef | ast.For | ast.While)]
    # The one function brings names that are loaded with their first use.
    assert [getattr(node, "name", "") for node in code] == ["__getattr__"]


def test_what_comes_with_its_first_use() -> None:
    loaded = "import lstm_native as ln, sys; assert 'lstm_native.convert' not in sys.modules"
    subprocess.run([sys.executable, "-c", f"{loaded}; ln.convert.to_torch"], check=True)
    with pytest.raises(AttributeError, match="no attribute 'convrt'"):
        lstm_native.convrt  # noqa: B018


# --- the native module and its type stub ------------------------------------------------------------

STUB = ast.parse((PACKAGE / "_core.pyi").read_text(encoding="utf-8"))


def public(names: list[str]) -> set[str]:
    return {name for name in names if not name.startswith("_")}


def test_the_stub_names_what_the_module_has() -> None:
    stub = [node.name for node in STUB.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert public(stub) == public(dir(_core))


@pytest.mark.parametrize("name", [node.name for node in STUB.body if isinstance(node, ast.ClassDef)])
def test_the_stub_names_what_a_class_has(name: str) -> None:
    node = next(node for node in STUB.body if isinstance(node, ast.ClassDef) and node.name == name)
    stub = [member.name for member in node.body if isinstance(member, ast.FunctionDef)]
    real = dir(getattr(_core, name))
    assert public(stub) == public(real)
    assert set(stub) <= set(real)


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert lstm_native.__version__ == project["version"]
    assert _core.build_info()["version"] == project["version"]
