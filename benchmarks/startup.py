"""Whole-process time and peak memory of examples/tutorial.py, and what `import lstm_native` costs over NumPy.

    python benchmarks/startup.py [--keras-python /path/to/venv/bin/python]

With --keras-python, an interpreter that has Keras and a backend, the same script runs there too, its imports
changed to `keras`, in turns with ours.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from processes import Run, run, run_undisturbed, summary
from record import ROOT, versions, write

TUTORIAL = ROOT / "examples" / "tutorial.py"


# Printed by the other interpreter: what it has of these.
VERSIONS = """
import importlib.metadata as m
for name in ("keras", "tensorflow", "tensorflow-cpu", "torch", "jax", "numpy"):
    try:
        print(name, m.version(name))
    except m.PackageNotFoundError:
        pass
"""


def keras_versions(python: str) -> dict[str, str]:
    """Versions in the other environment."""
    done = subprocess.run([python, "-c", VERSIONS], capture_output=True, text=True, check=True)
    versions_there = {}
    for line in done.stdout.splitlines():
        name, version = line.split()
        versions_there[name] = version
    return versions_there


def take_turns(commands: dict[str, list[str]], rounds: int) -> dict[str, list[Run]]:
    """Runs every command once a round; a first round, not counted, warms file cache and bytecode."""
    environment = {"PYTHONDONTWRITEBYTECODE": ""}
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            done = run_undisturbed(command, environment) if number else run(command, environment)
            if number:
                runs[name].append(done)
    return runs


def note(values: dict[str, Any]) -> str:
    return f"({values['disturbed']} runs disturbed by other processes)" if values["disturbed"] else ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keras-python", metavar="PYTHON", help="interpreter that has Keras")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-file", action="store_true", help="write nothing to benchmarks/results/")
    args = parser.parse_args()

    figures: dict[str, Any] = {"rounds": args.rounds, "versions": versions(["lstm-native", "numpy"])}
    imports = take_turns(
        {
            "numpy": [sys.executable, "-c", "import numpy"],
            "lstm_native": [sys.executable, "-c", "import lstm_native"],
        },
        rounds=4 * args.rounds,
    )
    figures["import"] = {name: summary(runs) for name, runs in imports.items()}

    with tempfile.TemporaryDirectory() as folder:
        commands = {"lstm_native": [sys.executable, str(TUTORIAL)]}
        if args.keras_python:
            script = Path(folder) / "tutorial_keras.py"
            script.write_text(TUTORIAL.read_text().replace("from lstm_native.", "from keras."))
            commands["keras"] = [args.keras_python, str(script)]
            figures["keras_versions"] = keras_versions(args.keras_python)
        tutorial = take_turns(commands, args.rounds)
    figures["tutorial"] = {name: summary(runs) for name, runs in tutorial.items()}

    for what in ("import", "tutorial"):
        for name, values in figures[what].items():
            seconds, peak = values["seconds"], values["peak_mib"]
            print(f"{what:9} {name:12} {seconds:8.3f} s  {peak:8.1f} MiB {note(values)}")
    if not args.no_file:
        print(write("startup", figures).relative_to(ROOT))


if __name__ == "__main__":
    main()
