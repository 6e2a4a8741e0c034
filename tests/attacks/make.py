"""The crafted files, each an attack on a reader: `python make.py FOLDER [--measure]` writes them.

With `--measure` each is read too, and a table says what the slowest and the largest took.
"""

from __future__ import annotations

import sys
import tempfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parent)]

import hostile_amounts  # noqa: E402
import hostile_keras  # noqa: E402
import hostile_safetensors  # noqa: E402
from lstm_native.convert import from_onnx  # noqa: E402
from lstm_native.models import load_model  # noqa: E402
from lstm_native.saving import read_safetensors  # noqa: E402

STATUS = Path("/proc/self/status")
REFS = Path("/proc/self/clear_refs")


class Attack(NamedTuple):
    """A file.

    Attributes:
        name: what is wrong with it.
        suffix: what its name ends in.
        content: its bytes.
        read: the reader that it is meant for.
        refused: whether it is; some do no harm and are read.
    """

    name: str
    suffix: str
    content: bytes
    read: Callable[[Path], Any]
    refused: bool = True


def attacks(folder: Path) -> Iterator[Attack]:
    """All of them; those on ONNX where onnx is installed.

    Args:
        folder: where good files are written to be changed, and what files of ONNX lead to.
    """
    for tensors in hostile_safetensors.files_of_tensors():
        yield Attack(tensors.name, ".safetensors", tensors.content, read_safetensors)
    for model in hostile_safetensors.files_of_models(folder):
        yield Attack(model.name, ".safetensors", model.content, load_model)
    for file in hostile_keras.all_files():
        yield Attack(file.name, file.suffix, file.content, hostile_amounts.unchecked, file.cause is not None)
    with zipfile.ZipFile(HERE.parent / "data" / "keras" / "hostile.zip") as archive:
        for name in archive.namelist():
            good = name.startswith("good")
            yield Attack(f"HDF5: {name}", ".h5", archive.read(name), hostile_amounts.read_weights, not good)
    for amount in hostile_amounts.all_files():
        yield Attack(amount.name, amount.suffix, amount.content, amount.read, amount.cause is not None)
    try:
        import hostile_onnx
    except ImportError:
        return
    hostile_onnx.lay_traps(folder)
    for graph in hostile_onnx.all_files():
        yield Attack(graph.name, ".onnx", graph.content, from_onnx)


class Cost(NamedTuple):
    """What reading a file took.

    Attributes:
        seconds: processor time, the least.
        traced: bytes of Python's and NumPy's memory at the most.
        resident: bytes that the whole process grew by at the most; 0 where the system does not tell.
        error: what it was refused with, if it was.
    """

    seconds: float
    traced: int
    resident: int
    error: Exception | None


def cost(attack: Attack, path: Path, times: int = 3) -> Cost:
    """Reads a file, which is written to `path`, so many times and once more."""
    path.write_bytes(attack.content)
    error: Exception | None = None

    def read() -> None:
        nonlocal error
        try:
            attack.read(path)
        except (ValueError, OSError) as refusal:
            error = refusal.with_traceback(None)

    seconds, resident = float("inf"), 0
    for _ in range(times):
        before = _resident("VmRSS", reset=True)
        start = time.process_time()
        read()
        seconds = min(seconds, time.process_time() - start)
        resident = max(0, _resident("VmHWM") - before)
    tracemalloc.start()
    try:
        read()
        traced = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return Cost(seconds, traced, resident, error)


def _resident(what: str, reset: bool = False) -> int:
    """Bytes that the process has in memory, or had at the most since the last reset."""
    try:
        if reset:
            REFS.write_text("5")
        found = next(line for line in STATUS.read_text().splitlines() if line.startswith(what))
    except (OSError, StopIteration):
        return 0
    return int(found.split()[1]) << 10


def table(found: dict[str, tuple[Attack, Cost]]) -> str:
    """The slowest files and those that took the most memory."""
    lines = []
    for title, key in (
        ("slowest", lambda item: -item[1][1].seconds),
        ("most memory", lambda item: -max(item[1][1][1:3])),
    ):
        lines.append(f"{title:12} {'file':>10} {'time':>9} {'traced':>10} {'resident':>10}")
        for name, (attack, one) in sorted(found.items(), key=key)[:10]:
            sizes = f"{len(attack.content) >> 10:>6} KiB {1000 * one.seconds:>6.1f} ms"
            memory = f"{one.traced >> 10:>6} KiB {one.resident >> 10:>6} KiB"
            lines.append(f"{'':12} {sizes} {memory}  {name}")
    seconds = sorted(one.seconds for _, one in found.values())
    lines.append(f"{len(found)} files, in the middle {1000 * seconds[len(seconds) // 2]:.1f} ms")
    return "\n".join(lines)


def main(folder: Path, measure: bool) -> None:
    """Writes all files, and reads them with `measure`."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    with tempfile.TemporaryDirectory() as place:
        for number, attack in enumerate(attacks(Path(place))):
            path = folder / f"{number:03d}{attack.suffix}"
            if measure:
                found[f"{path.name}: {attack.name}"] = attack, cost(attack, path)
            else:
                path.write_bytes(attack.content)
                print(path.name, attack.name)
    if measure:
        print(table(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--measure" in sys.argv[2:])
