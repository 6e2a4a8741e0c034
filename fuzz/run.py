"""Fuzzes one reader with atheris: `python run.py safetensors|keras|onnx|json FOLDER [options of libFuzzer]`.

FOLDER keeps the corpus, from which the next run goes on. Each place where something else than the errors that
a reader promises comes out, or where it takes too long or too much memory, is one file in FOLDER/finds, and
the run goes on. What ends the process (a signal) is left in FOLDER by libFuzzer. tally.json counts.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import atheris

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "attacks")]
os.environ["LSTM_NATIVE_NUM_THREADS"] = "1"  # before the import, which reads it

with atheris.instrument_imports(include=["lstm_native"]):
    import mutators
    import readers
    import starts

    for name in (
        "convert.keras_format",
        *(("convert.onnx_file", "onnx_backend") if "onnx" in sys.argv else ()),
    ):
        importlib.import_module(f"lstm_native.{name}")  # which are imported when they are needed

MAX_SECONDS = 1.0
MAX_MEMORY = 64 << 20  # beside what libFuzzer itself takes in the meantime
MAX_FILE = 20_000


class Run:
    """Calls a reader, and keeps what is wrong and what is slow."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.folder = folder
        self.count = 0  # of this run
        self.tally = {"executions": 0, "slowest_ms": 0.0}  # of all runs
        if (folder / "tally.json").exists():
            self.tally = json.loads((folder / "tally.json").read_text(encoding="utf-8"))
        (folder / "finds").mkdir(parents=True, exist_ok=True)

    def one(self, content: bytes) -> None:
        """Reads `content`."""
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()
        try:
            readers.READERS[self.kind](content)
        except Exception as error:
            self.keep(content, error)
        taken = time.process_time() - start
        self.count += 1
        self.tally["executions"] += 1
        if 1000 * taken > self.tally["slowest_ms"] and self.count > 100:  # what is imported and made once
            self.tally["slowest_ms"] = round(1000 * taken, 1)
            (self.folder / "slowest").write_bytes(content)
        if self.count % 100 == 0:  # libFuzzer ends the process itself
            (self.folder / "tally.json").write_text(json.dumps(self.tally), encoding="utf-8")
        if taken > MAX_SECONDS:
            self.keep(content, TimeoutError(f"{taken:.1f} s"))
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory)
        if grown > MAX_MEMORY and self.count > 100:
            self.keep(content, MemoryError(f"{grown >> 20} MiB"))

    def keep(self, content: bytes, error: BaseException) -> None:
        """Writes a file for the place of an error, where there is none that is as short."""
        frames = traceback.extract_tb(error.__traceback__)
        frames = [frame for frame in frames if "lstm_native" in frame.filename]
        place = f"{Path(frames[-1].filename).stem}-{frames[-1].lineno}" if frames else "reader"
        path = self.folder / "finds" / f"{self.kind}-{type(error).__name__}-{place}"
        if not path.exists() or path.stat().st_size > len(content):
            path.write_bytes(content)
            path.with_suffix(".txt").write_text("".join(traceback.format_exception(error)), encoding="utf-8")


def main() -> None:
    """Fuzzes until an option of libFuzzer ends it: -runs, -max_total_time."""
    kind, folder, options = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    corpus = folder / "corpus"
    starts.write(kind, corpus)
    run = Run(kind, folder)

    def mutate(data: bytes, size: int, seed: int) -> Any:
        rng = random.Random(seed)
        if rng.randrange(4) == 0 or not data:
            return atheris.Mutate(data, size)
        changed = mutators.MUTATORS[kind](data, rng, atheris.Mutate)
        return changed if len(changed) <= size else atheris.Mutate(data, size)

    limits = [f"-max_len={MAX_FILE}", "-timeout=60", "-rss_limit_mb=3000", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], str(corpus), *limits, *options], run.one, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
