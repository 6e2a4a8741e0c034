"""benchmarks/gpu.py without a GPU: its parts run on the backend compiled for the host, on tiny shapes, and
one that fails or hangs takes no other with it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from cuda_support import ROOT, build_for_host


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    if not (ROOT / "benchmarks" / "gpu.py").exists():
        pytest.skip("needs the sources")
    folder = str(ROOT / "benchmarks")
    sys.path.insert(0, folder)
    try:
        import gpu
    finally:
        sys.path.remove(folder)
    return gpu


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("torch")
    return str(build_for_host(tmp_path_factory.mktemp("cuda")))


@pytest.mark.long
@pytest.mark.parametrize(
    "part", ["smoke", "precisions", "shapes", "bench", "extras", "both_ways", "plans", "graphs"]
)
def test_parts(gpu: ModuleType, library: str, part: str) -> None:
    result = gpu.run_part(part, 120, True, library)
    assert result["ended"] == "well", result
    assert result["rows"]
    assert gpu.gpu_report.checks_hold({part: result}), result["rows"]
    text = gpu.gpu_report.table({part: result})
    assert f"{part}: ended well; {len(result['rows'])} rows, 0 bad" in text
    if part in ("bench", "both_ways"):
        assert "inference, bfloat16: geometric mean" in text


def test_a_part_that_fails_or_hangs(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "part.py"
    script.write_text(
        "import sys, time\n"
        "open(sys.argv[2], 'w').write('{\"good\": true}\\n{\"good\"')\n"
        "time.sleep(60) if sys.argv[1] == 'hangs' else sys.exit(3)\n"
    )

    def command_of(part: str, found: Path, *_: object) -> list[str] | None:
        return None if part == "absent" else [sys.executable, str(script), part, str(found)]

    monkeypatch.setattr(gpu, "command_of", command_of)
    hangs = gpu.run_part("hangs", 5, True, None)
    assert hangs["ended"] == "stopped after 5 s"
    assert hangs["rows"] == [{"good": True}]  # without the line that it was writing
    fails = gpu.run_part("fails", 30, True, None)
    assert fails["ended"] == "with exit status 3"
    absent = gpu.run_part("absent", 5, True, None)
    report = gpu.gpu_report
    assert report.checks_hold({"absent": absent})
    assert not report.checks_hold({"fails": fails})
    assert not report.checks_hold({"a": {"ended": "well", "rows": [{"good": False}]}})
    assert "hangs: ended stopped after 5 s; 1 rows, 0 bad" in report.table({"hangs": hangs})


def test_tables(gpu: ModuleType) -> None:
    names = ["float32", "tf32", "bfloat16", "cudnn float32", "cudnn tf32", "cudnn bfloat16"]
    rows = [
        {
            "B": 1,
            "T": 512,
            "H": 128,
            "training": t,
            "us_a_step": dict(zip(names, (1, 1, 1, 4, 2, 1), strict=True)),
        }
        for t in (False, True)
    ]
    plans = [
        {
            "B": 1,
            "H": 512,
            "training": False,
            "precision": "tf32",
            "us_a_step": {"auto": 3.0, "steps": 6.0, "grid 8": 2.0},
        }
    ]
    text = gpu.gpu_report.table(
        json.loads(
            json.dumps({"bench": {"ended": "well", "rows": rows}, "plans": {"ended": "well", "rows": plans}})
        )
    )
    assert "training, float32: geometric mean 4.00 x cuDNN, worst 4.00 x" in text
    assert "auto* 3.00: steps 6.00, grid 8 2.00!" in text
