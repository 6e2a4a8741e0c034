"""BackupAndRestore: training that was interrupted goes on as if nothing had happened. Floor 4.

A backup is one safetensors file: the arrays of `FitRun.state()`, and the rest of it as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, ClassVar

import numpy as np

from lstm_native import saving
from lstm_native.callbacks.base import Logs
from lstm_native.callbacks.frequency import SavingCallback

_FORMAT = "lstm_native.backup.1"
_NAME = "latest.safetensors"
_PREVIOUS = "previous.safetensors"


class BackupAndRestore(SavingCallback):
    """Backs up the state of training to a folder, and continues from there when `fit` is called again.

    A training that was killed and started again with the same script ends with the weights of one that ran
    through, bit for bit: the backup holds weights, optimizer, states of stateful layers, the order of the
    rows, all random numbers (of this package, of Python's `random` and of NumPy's global generator), the
    running means, what other callbacks keep (their attributes listed in `kept`), and the place in the data.
    It is called after all other callbacks, wherever it stands among them.

    The model must be built and compiled as before, and the data be the same. Generators are taken from the
    start: what was consumed before is dropped. Data that draws random numbers should do so from a seeded
    generator of its own.

    Args:
        backup_dir: The folder, for this training alone; made when it is not there.
        save_freq: "epoch", or a number of batches, counted through all epochs (default "epoch").
        double_checkpoint: Keeps the backup before the last one too, and takes it where the last one cannot
            be read (default False).
        delete_checkpoint: Removes the backup when training has ended (default True).

    Raises:
        ValueError: A wrong argument; or, when training begins, a model that is not built, or a backup of
            another model or other data.
        OSError: While training, when the folder cannot be read or written.
    """

    runs_last: ClassVar[bool] = True

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: str | int = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ) -> None:
        super().__init__()
        self.backup_dir = os.fspath(backup_dir)
        if not self.backup_dir:
            raise ValueError("BackupAndRestore: backup_dir is empty, expected the name of a folder")
        self.set_frequency(save_freq)
        self.double_checkpoint = double_checkpoint
        self.delete_checkpoint = delete_checkpoint
        self._state: dict[str, Any] | None = None

    def on_train_begin(self, logs: Logs = None) -> None:
        """Goes to where the backup was made, if there is one."""
        self.unsaved_batches = 0
        if not self.model.built:
            raise ValueError(
                f"BackupAndRestore: {self.model.label()} is not built, call build(input_shape) before fit"
            )
        for name in self._files():
            if name.endswith(".tmp"):  # a kill left it
                os.unlink(self._path(name))
        self._state = self._read()
        if self._state is not None:
            self.model.fit_run.resume(self._state)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Undoes what the beginning of an epoch did that had begun before the interruption already."""
        if self._state is not None:
            if self._state["batch"]:
                self.model.fit_run.restore(self._state)
            self._state = None

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Makes a backup when enough batches have gone by."""
        if self.is_due():
            self._write()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Makes a backup, unless batches are counted."""
        if self.save_freq == "epoch":
            self._write()

    def on_train_end(self, logs: Logs = None) -> None:
        """Removes the backup."""
        if not self.delete_checkpoint:
            return
        for name in self._files():
            os.unlink(self._path(name))
        with contextlib.suppress(OSError):  # not there, or somebody's files are in it
            os.rmdir(self.backup_dir)

    def _path(self, name: str) -> str:
        return os.path.join(self.backup_dir, name)

    def _files(self) -> list[str]:
        """The files that this class writes."""
        names = os.listdir(self.backup_dir) if os.path.isdir(self.backup_dir) else []
        return [
            name
            for name in names
            if name in (_NAME, _PREVIOUS) or (name.startswith(f".{_NAME}.") and name.endswith(".tmp"))
        ]

    def _write(self) -> None:
        tensors: dict[str, Any] = {}
        text = json.dumps(_take_arrays(self.model.fit_run.state(), "", tensors))
        os.makedirs(self.backup_dir, exist_ok=True)
        if self.double_checkpoint and os.path.exists(self._path(_NAME)):
            os.replace(self._path(_NAME), self._path(_PREVIOUS))
        saving.write_safetensors(self._path(_NAME), tensors, {"format": _FORMAT, "state": text})

    def _read(self) -> dict[str, Any] | None:
        """The newest backup that can be read; None where there is none."""
        found = set(self._files())
        names = [name for name in (_NAME, _PREVIOUS) if name in found]
        for name in names:
            try:
                tensors, metadata = saving.read_safetensors(self._path(name))
                if metadata.get("format") != _FORMAT:
                    raise ValueError(f"{self._path(name)}: no backup of this version")
                state: dict[str, Any] = _put_arrays(json.loads(metadata["state"]), tensors)
            except (OSError, ValueError, KeyError):
                if name == names[-1]:
                    raise
            else:
                return state
        return None


def _take_arrays(value: Any, name: str, tensors: dict[str, Any]) -> Any:
    """`value` as JSON has it; its arrays go to `tensors` and leave their names."""
    if isinstance(value, np.ndarray):
        tensors[name] = value
        return {"array": name}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {"dict": [[key, _take_arrays(v, f"{name}/{key}", tensors)] for key, v in value.items()]}
    if isinstance(value, list | tuple):
        return [_take_arrays(v, f"{name}/{i}", tensors) for i, v in enumerate(value)]
    return value


def _put_arrays(value: Any, tensors: dict[str, Any]) -> Any:
    """Undoes `_take_arrays`."""
    if isinstance(value, dict):
        if "array" in value:
            return tensors[value["array"]]
        return {key: _put_arrays(v, tensors) for key, v in value["dict"]}
    if isinstance(value, list):
        return [_put_arrays(v, tensors) for v in value]
    return value
