"""Times loading a model of 100 MB beside reading the bytes of its file.

    python benchmarks/loading.py [--times 11]

Both take turns, with the file in the cache of the system. Writes JSON to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from record import ROOT, write

from lstm_native.layers import LSTM, Dense, Embedding, Input
from lstm_native.models import Sequential, load_model

MOST = 1.2  # times reading, for a file of safetensors


def seconds(call: Callable[[], Any]) -> float:
    """What one call takes; what it gives is thrown away afterwards."""
    start = time.perf_counter()
    kept = call()
    taken = time.perf_counter() - start
    del kept
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=11)
    times = parser.parse_args().times
    model = Sequential(
        [
            Input((None,)),
            Embedding(50_000, 256),
            LSTM(1024, return_sequences=True),
            LSTM(1024),
            Dense(256),
        ]
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".safetensors", ".keras", ".h5"):
            path = Path(folder) / f"model{suffix}"
            model.save(path)
            read, loaded = [], []
            for _ in range(times):
                read.append(seconds(path.read_bytes))
                loaded.append(seconds(lambda path=path: load_model(path)))
            row = {
                "file": suffix,
                "megabytes": round(path.stat().st_size / 1e6, 1),
                "read_ms": round(1e3 * statistics.median(read), 1),
                "load_ms": round(1e3 * statistics.median(loaded), 1),
            }
            row["ratio"] = round(row["load_ms"] / row["read_ms"], 2)
            rows.append(row)
            print("  ".join(f"{key} {value}" for key, value in row.items()))
    print(f"wrote {write('loading', {'times': times, 'rows': rows}).relative_to(ROOT)}")
    if rows[0]["ratio"] > MOST:
        raise SystemExit(f"a safetensors file takes {rows[0]['ratio']} times reading it, expected {MOST}")


if __name__ == "__main__":
    main()
