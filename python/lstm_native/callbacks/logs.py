"""Callbacks that record values: History, CSVLogger. Floor 4."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, ClassVar, TextIO

import numpy as np

from lstm_native.callbacks.base import Callback, Logs


class History(Callback):
    """Records the values at the end of every epoch; `fit` returns one.

    Attributes:
        epoch: Numbers of the epochs run by the last `fit`, counted from 0.
        history: Dictionary from a name ("loss", "val_accuracy", ...) to its value per epoch.
    """

    kept: ClassVar[tuple[str, ...]] = ("epoch", "history")

    def __init__(self) -> None:
        super().__init__()
        self.epoch: list[int] = []
        self.history: dict[str, list[Any]] = {}

    def on_train_begin(self, logs: Logs = None) -> None:
        """Starts the list of epochs anew."""
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Appends the values of this epoch."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class CSVLogger(Callback):
    """Writes the values of every epoch to a line of a CSV file.

    The columns are "epoch" and the values of the first epoch; where there is no validation in that one,
    columns for its values are added. A value that an epoch lacks is "NA". Where `BackupAndRestore` goes back
    to an epoch that has its line already, `append=True` writes it once.

    Args:
        filename: The file.
        separator: What stands between columns (default ",").
        append: True goes on in a file that exists, False starts it anew (default False).

    Attributes:
        columns: Names of the values; None before the first epoch.
        size: Bytes of the file, with the lines written so far.

    Raises:
        OSError: While training, when the file cannot be written.
    """

    kept: ClassVar[tuple[str, ...]] = ("columns", "size")

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        super().__init__()
        self.filename = os.fspath(filename)
        self.separator = separator
        self.append = append
        self.columns: list[str] | None = None
        self.size = 0
        self._file: TextIO | None = None
        self._writer: Any = None

    def on_train_begin(self, logs: Logs = None) -> None:
        """Opens the file."""
        import csv  # rarely needed, and importing the package must not cost

        self._close()
        self._file = open(self.filename, "a" if self.append else "w", newline="", encoding="utf-8")  # noqa: SIM115
        self._writer = csv.writer(self._file, delimiter=self.separator)
        self.columns = None
        if self._file.tell() > 0:
            with open(self.filename, "rb") as written:
                written.seek(-1, os.SEEK_END)
                if written.read() != b"\n":  # a process that ended amid a line wrote it
                    self._file.write("\r\n")
        self.size = self._file.tell()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Writes a line."""
        logs = logs or {}
        assert self._file is not None
        if self.columns is None:
            self.columns = sorted(logs)
            if not any(key.startswith("val_") for key in self.columns):
                self.columns += [f"val_{key}" for key in self.columns]
        if self.size < self._file.tell():  # a backup was taken before the lines behind it
            self._file.truncate(self.size)
            self._file.seek(0, os.SEEK_END)
        if self._file.tell() == 0:
            self._writer.writerow(["epoch", *self.columns])
        self._writer.writerow([epoch, *(_cell(logs.get(key, "NA")) for key in self.columns)])
        self._file.flush()
        self.size = self._file.tell()

    def on_train_end(self, logs: Logs = None) -> None:
        """Closes the file."""
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _cell(value: Any) -> Any:
    if isinstance(value, str) or np.ndim(value) == 0 or not isinstance(value, Iterable):
        return value
    return f'"[{", ".join(map(str, value))}]"'
