"""Predictor: predict, batch by batch, for any model that can run forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lstm_native.arrays import optional_int
from lstm_native.callbacks import CallbackList
from lstm_native.data import (
    ArrayData,
    Batch,
    BatchSource,
    Epochs,
    SlicedData,
    is_iterable_of_batches,
    source_of,
)
from lstm_native.feeding import Feeding, batch_size_for, mask_tensors, rows_of
from lstm_native.layers.base import Context, empty_outputs, numpy_outputs
from lstm_native.progress import Progress, resolve_verbose
from lstm_native.ragged import RaggedData, in_order


class Predictor(Feeding):
    """The predicting side of a model. `predict` and calls may run from many threads at once."""

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """Outputs for all rows of `x`, batch by batch; safe from many threads at once.

        Args:
            x: inputs with the batch axis first, a list or dict of them for several inputs; in the place of an
                array also a list of sequences (time_i, ...) of different lengths, in any order, which for
                several inputs are the same in a row; or a generator or other iterable
                of batches. Arrays in files (`numpy.memmap`) are read batch by batch.
            batch_size: rows of a batch; 32 by default. Results do not depend on it.
            verbose: as `fit`.
            steps: number of batches; all by default.
            callbacks: `Callback` objects.

        Returns:
            Array with the batch axis first, an empty one for no rows; for several outputs a list or dict of
            them, as the model was made. For sequences of different lengths, outputs with a time axis are a
            list of arrays (time_i, ...).
        """
        label = f"{self.label()}: predict"
        verbose = resolve_verbose(verbose)
        calls = CallbackList(callbacks)
        steps = optional_int(steps, label, "steps")
        batch_size = optional_int(batch_size, label, "batch_size")
        source: BatchSource
        join: Callable[[Any, int], Any] = _concatenated
        if is_iterable_of_batches(x):
            source = source_of(x, self._predict_batch, label)
        elif self.has_ragged(x):
            source, join = self._ragged_inputs(x, batch_size, steps)
        elif isinstance(x, np.memmap) and len(x):
            batch_size = batch_size or batch_size_for(len(x), steps)
            self._check_batch_sizes("predict", len(x), batch_size)
            self._predict_batch(x[:batch_size], None, None)
            source = SlicedData(x, None, None, len(x), batch_size, False, 0, self._predict_batch)
        else:
            inputs, output_shape = self._check_x("predict", x)
            rows = rows_of(inputs)
            if rows == 0:
                return self.packed_arrays(empty_outputs(output_shape))
            batch_size = batch_size or batch_size_for(rows, steps)
            self._check_batch_sizes("predict", rows, batch_size)
            if not self.built:
                self.build((None, *inputs.shape[1:]))
            source = ArrayData(Batch(inputs, None, None), batch_size)
        parts = self._predict(Epochs(source, steps, label), calls, verbose)
        if isinstance(parts[0], tuple):
            return self.packed_arrays(tuple(join(each, i) for i, each in enumerate(zip(*parts, strict=True))))
        return self.packed_arrays(join(parts, 0))

    def _predict(self, data: Epochs, calls: CallbackList, verbose: int) -> list[Any]:
        """Outputs of all batches."""
        calls.set_params({"verbose": verbose, "epochs": 1, "steps": data.num_batches})
        calls.set_model(self)
        progress = Progress(verbose, data.num_batches)
        self.stop_predicting = False
        calls.on_predict_begin()
        progress.begin()
        parts: list[Any] = []
        for step, batch in enumerate(data.epoch(0)):
            calls.on_predict_batch_begin(step)
            ctx = Context(padded=batch.mask is not None)
            outputs = numpy_outputs(self.forward(batch.x, ctx, batch.mask), ctx)
            ctx.commit_states()
            parts.append(outputs)
            if calls.wants_predict_batch_end:
                calls.on_predict_batch_end(step, {"outputs": self.packed_arrays(outputs)})
            progress.update(step + 1)
            if self.stop_predicting:
                break
        progress.end()
        calls.on_predict_end()
        return parts

    def _ragged_inputs(
        self, x: Any, batch_size: int | None, steps: int | None
    ) -> tuple[RaggedData, Callable[[Any, int], Any]]:
        """Batches of sequences of different lengths, and what puts the parts of output i back in order."""
        data = self.ragged_data("predict", x, None, None, batch_size, steps, False, self._predict_batch)
        rows = data.rows_of_batches(0)
        shape = self.compute_output_shape(data.shapes()[0])
        shapes = shape if isinstance(shape[0], tuple) else (shape,)

        def join(parts: Any, i: int) -> Any:
            has_time = len(shapes[i]) > 1 and shapes[i][1] is None
            return in_order(parts, rows[: len(parts)], data.lengths if has_time else None)

        return data, join

    def _predict_batch(self, x: Any, y: Any, sample_weight: Any, mask: Any = None) -> Batch:
        inputs, _ = self._check_x("predict", x)
        rows = rows_of(inputs)
        self._check_batch_sizes("predict", rows, rows)
        if not self.built:
            self.build((None, *inputs.shape[1:]))
        return Batch(inputs, None, None, mask_tensors(mask))

    def predict_on_batch(self, x: Any) -> Any:
        """Outputs for one batch."""
        return self(x)


def _concatenated(parts: Any, _: int) -> Any:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
