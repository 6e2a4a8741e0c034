"""TensorBoard: values and weights as event files, through the package tensorboardX. Floor 4."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from lstm_native.arrays import optional_int
from lstm_native.callbacks.base import Callback, Logs


class TensorBoard(Callback):
    """Writes the values of every epoch to event files, for the program `tensorboard --logdir log_dir`.

    The folder `train` gets "epoch_loss" and the like, the learning rate and histograms of the weights;
    `validation` gets the values of validation, and those of `evaluate` by step of the optimizer. A metric
    with several values gives a curve for each, "epoch_f1_score/0" and so on. Needs the extra
    `lstm-native[tensorboard]`.

    Args:
        log_dir: The folder (default "logs").
        histogram_freq: Every how many epochs histograms of the weights are written; 0 for never (default).
        write_graph: Accepted as Keras has it; no graph is written.
        write_images: False; pictures of weights are not written.
        write_steps_per_second: Writes the speed of every epoch too, and with `update_freq` of batches
            (default False).
        update_freq: "epoch"; "batch" or a number of batches writes values in between too, as "batch_loss"
            and the like (default "epoch").
        profile_batch: 0; there is no profiler.
        embeddings_freq: 0; embeddings are not written.
        embeddings_metadata: None.

    Raises:
        ValueError: An argument outside what is listed.
        ImportError: When training or evaluation begins, if tensorboardX is not installed.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: str | int = "epoch",
        profile_batch: int = 0,
        embeddings_freq: int = 0,
        embeddings_metadata: None = None,
    ) -> None:
        super().__init__()
        unsupported = {
            "write_images": write_images,
            "profile_batch": profile_batch,
            "embeddings_freq": embeddings_freq,
            "embeddings_metadata": embeddings_metadata,
        }
        for argument, value in unsupported.items():
            if value:
                raise ValueError(f"TensorBoard: {argument}={value!r} is not supported, leave it out")
        self.log_dir = os.fspath(log_dir)
        self.histogram_freq = optional_int(histogram_freq or None, "TensorBoard", "histogram_freq")
        self.write_graph = write_graph
        self.write_steps_per_second = write_steps_per_second
        self.update_freq: int | None = None
        if update_freq == "epoch":
            self.idle_hooks = ("on_train_batch_begin", "on_train_batch_end")
        else:
            frequency = 1 if update_freq == "batch" else update_freq
            self.update_freq = optional_int(frequency, "TensorBoard", "update_freq")
        self._writers: dict[str, Any] = {}
        self._training = False
        self._batches = 0

    def on_train_begin(self, logs: Logs = None) -> None:
        """Opens the files."""
        self._training = True
        self._batches = 0
        self._writer("train")

    def on_train_end(self, logs: Logs = None) -> None:
        """Closes the files."""
        self._training = False
        self._close()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Starts the clock."""
        self._epoch_start = time.perf_counter(), int(self.model.optimizer.iterations)

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Starts the clock of a batch."""
        self._batch_start = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Writes the values so far, every `update_freq` batches."""
        self._batches += 1
        if self.update_freq is None or self._batches % self.update_freq:
            return
        values = dict(logs or {})
        if self.write_steps_per_second:
            values["steps_per_second"] = 1 / (time.perf_counter() - self._batch_start)
        self._write("train", "batch_", values, self._batches)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Writes the values of the epoch, and histograms."""
        logs = logs or {}
        optimizer = self.model.optimizer
        values = {name: value for name, value in logs.items() if not name.startswith("val_")}
        values["learning_rate"] = float(optimizer.learning_rate)
        if self.write_steps_per_second:
            start, steps = self._epoch_start
            values["steps_per_second"] = (int(optimizer.iterations) - steps) / (time.perf_counter() - start)
        self._write("train", "epoch_", values, epoch)
        validation = {n.removeprefix("val_"): v for n, v in logs.items() if n.startswith("val_")}
        if validation:
            self._write("validation", "epoch_", validation, epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            writer = self._writer("train")
            for variable in self.model.variables:
                writer.add_histogram(f"{variable.path}/histogram", variable.numpy(), epoch)
            writer.flush()

    def on_test_end(self, logs: Logs = None) -> None:
        """Writes the results of `evaluate` or of validation by step of the optimizer."""
        step = int(self.model.optimizer.iterations)
        for name, value in (logs or {}).items():
            _add(self._writer("validation"), f"evaluation_{name}_vs_iterations", value, step)
        if not self._training:
            self._close()

    def _write(self, folder: str, prefix: str, values: dict[str, Any], step: int) -> None:
        writer = self._writer(folder)
        for name, value in values.items():
            _add(writer, f"{prefix}{name}", value, step)
        writer.flush()

    def _writer(self, folder: str) -> Any:
        if folder not in self._writers:
            try:
                from tensorboardX import SummaryWriter
            except ImportError as error:
                raise ImportError(
                    f"TensorBoard: the package tensorboardX cannot be imported ({error}); install it with "
                    "pip install 'lstm-native[tensorboard]'"
                ) from None
            self._writers[folder] = SummaryWriter(os.path.join(self.log_dir, folder))
        return self._writers[folder]

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers = {}


def _add(writer: Any, name: str, value: Any, step: int) -> None:
    """Writes a value; each by itself, as "name/0" and so on, where a metric has several."""
    if np.ndim(value) == 0:
        writer.add_scalar(name, value, step)
    else:
        for i, one in enumerate(np.ravel(value)):
            writer.add_scalar(f"{name}/{i}", one, step)
