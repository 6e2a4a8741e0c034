"""Trainer: fit and evaluate, for any model that can run forward and backward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstm_native import _core
from lstm_native.arrays import optional_int, positive_int
from lstm_native.callbacks import CallbackList, History
from lstm_native.data import (
    Batch,
    Epochs,
    unpack,
)
from lstm_native.errors import check_number
from lstm_native.feeding import rows_of, shape_of
from lstm_native.fit_run import FitRun
from lstm_native.layers.base import Context, Tensor
from lstm_native.predicting import Predictor
from lstm_native.progress import Progress, resolve_verbose
from lstm_native.running import RunningValues


class Trainer(Predictor):
    """The training side of a model. Subclasses bring the passes; see `Sequential`.

    Only one training runs at a time.
    """

    # --- training ---------------------------------------------------------------------------------

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool | str = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | list[int] = 1,
    ) -> History:
        """Trains for some epochs.

        Args:
            x: inputs with the batch axis first, a list or dict of them for several inputs; in the place of an
                array also a list of sequences (time_i, ...) of different lengths, in any order, which for
                several inputs are the same in a row; or a generator, a PyTorch
                DataLoader or another iterable of `(x, y)` or `(x, y, sample_weight)` batches. Arrays in files
                (`numpy.memmap`) are read batch by batch.
            y: labels that fit the loss; a list or dict of them for several outputs.
            batch_size: rows of a batch; 32 by default.
            epochs: number of the epoch at which to stop.
            verbose: 0 silent, 1 a progress bar, 2 a line an epoch, "auto" 1 on a terminal and 2 elsewhere.
            callbacks: `Callback` objects.
            validation_split: fraction of the rows, taken from the end, to validate with.
            validation_data: `(x, y)`, `(x, y, sample_weight)` or an iterable of batches.
            shuffle: a new order of the rows, or of the batches of a `PyDataset`, in every epoch; "batch"
                shuffles within the batches of arrays.
            class_weight: weight of the rows of every class; 1 where it is not listed.
            sample_weight: weight of every row, or of every time step; for several outputs also a list or
                dict.
            initial_epoch: number of the epoch to start with.
            steps_per_epoch: batches an epoch; as many as there are by default.
            validation_steps: batches a validation.
            validation_batch_size: rows of a batch of the validation; `batch_size` by default.
            validation_freq: validate every so many epochs, or in the listed ones (counted from 1).

        Returns:
            The `History`: its `history` holds the values of every epoch.

        Raises:
            ValueError: data that fit neither model nor loss, or no compile before; nothing is changed then.
            TypeError: arrays of objects or strings.
            RuntimeError: this model is training already, in another thread or around this call.
        """
        self._compiled("fit")
        with self.not_training("fit"):
            label = f"{self.label()}: fit"
            self.check_can_train()
            verbose = resolve_verbose(verbose)
            calls = CallbackList(callbacks, add_history=True)
            first, last = (
                _count(v, label, n) for v, n in ((initial_epoch, "initial_epoch"), (epochs, "epochs"))
            )
            batch_size = optional_int(batch_size, label, "batch_size")
            steps_per_epoch = optional_int(steps_per_epoch, label, "steps_per_epoch")
            validation_steps = optional_int(validation_steps, label, "validation_steps")
            validation_batch_size = optional_int(validation_batch_size, label, "validation_batch_size")
            if isinstance(validation_freq, list | tuple):
                validation_freq = [positive_int(v, label, "validation_freq") for v in validation_freq]
            else:
                validation_freq = positive_int(validation_freq, label, "validation_freq")
            if not isinstance(shuffle, bool | np.bool_) and shuffle not in (None, 0, 1, "batch"):
                raise ValueError(f"{label}: shuffle is {shuffle!r}, expected True, False or 'batch'")
            if validation_split is not None and validation_data is None:
                expected = "a number in [0, 1)"
                check_number(label, "validation_split", validation_split, expected, lambda v: 0 <= v < 1)
                if validation_split:
                    (x, y, sample_weight), validation_data = self.split_validation(
                        x, y, sample_weight, validation_split
                    )
            data, shapes = self._data(
                "fit", x, y, sample_weight, batch_size, steps_per_epoch,
                train=True, class_weight=class_weight, shuffle=shuffle,
            )  # fmt: skip
            validation: Epochs | None = None
            if validation_data is not None:
                parts = (validation_data, None, None)
                if isinstance(validation_data, list | tuple):
                    parts = unpack(validation_data, f"{label}: validation_data")
                validation, validation_shapes = self._data(
                    "validation", *parts, validation_batch_size or batch_size, validation_steps, train=False
                )
            if shapes is not None:
                self._ready("fit", *shapes, train=True)
            if validation is not None and validation_shapes is not None:
                self._ready("validation", *validation_shapes, train=False)
            return self._fit(data, validation, calls, verbose, first, last, validation_freq)

    def _fit(
        self,
        data: Epochs,
        validation: Epochs | None,
        calls: CallbackList,
        verbose: int,
        first: int,
        last: int,
        validation_freq: int | Sequence[int],
    ) -> History:
        calls.set_params({"verbose": verbose, "epochs": last, "steps": data.num_batches})
        calls.set_model(self)
        progress = Progress(verbose, data.num_batches, last)
        assert calls.history is not None
        self.history = calls.history
        self.stop_training = False
        run = self.fit_run = FitRun(self, data, validation, calls.callbacks, first)
        logs: dict[str, float] = {}
        calls.on_train_begin()
        for epoch in run.epochs(last):
            if self._train_values is not None:
                self._train_values.reset()
            calls.on_epoch_begin(epoch)
            progress.begin(epoch)
            self._fit_epoch(run, calls, progress)
            if run.batch == 0:
                break
            logs = run.logs()
            every = validation_freq
            if validation is not None and (
                (epoch + 1) % every == 0 if isinstance(every, int) else epoch + 1 in every
            ):
                results = self._evaluate(validation, calls, None)
                logs.update({f"val_{name}": value for name, value in results.items()})
            for callback in calls.callbacks:
                callback.complete_logs(logs)
            progress.end(logs)
            run.epoch, run.batch = epoch + 1, 0
            calls.on_epoch_end(epoch, logs)
            if self.stop_training:
                break
        if last > 0 and self.optimizer is not None:
            self.optimizer.finalize_variable_values()
        calls.on_train_end(logs)
        return calls.history

    def _fit_epoch(self, run: FitRun, calls: CallbackList, progress: Progress) -> None:
        for step, batch in enumerate(run.batches(), run.batch):
            calls.on_train_batch_begin(step)
            values = self._train_step(batch)
            run.batch = step + 1
            if calls.wants_train_batch_end:
                calls.on_train_batch_end(step, values.logs())
            progress.update(run.batch, values.logs() if progress.live and progress.wants_update() else None)
            if self.stop_training:
                break

    def _train_step(self, batch: Batch) -> RunningValues:
        values, optimizer = self._train_values, self.optimizer
        assert values is not None
        assert optimizer is not None
        ctx = Context(True, True, batch.mask is not None)
        variables = self.variables_to_train()
        gradient, fused = self._loss_step(batch, ctx, values, bool(variables))
        if variables:
            self.backward_from_loss(gradient, ctx, fused)
            gradients = ctx.gradients
            optimizer.step([gradients[v] for v in variables], variables)  # type: ignore[arg-type]
        ctx.commit_states()
        return values

    def _loss_step(
        self, batch: Batch, ctx: Context, values: RunningValues, need_gradient: bool
    ) -> tuple[Any, Any]:
        """Forward, loss and metrics of one batch; the gradient at what `forward_to_loss` returned."""
        if len(self._objectives) > 1:
            return self._losses_step(batch, ctx, values, need_gradient)
        x, y, weight, mask = batch
        _, loss, scale, _, _ = self._objectives[0]
        assert loss is not None
        predictions, fused = self.forward_to_loss(x, ctx, loss.logits_activation, mask)
        valid = None if ctx.mask is None else ctx.mask.numpy()
        value, gradient = loss.forward_backward(
            y,
            predictions,
            weight,
            valid,
            need_gradient=need_gradient,
            from_logits=None if fused is None else True,
        )
        if scale is not None:
            value *= scale
            if gradient is not None:
                _core.scale_(gradient, scale)
        if values.metrics:
            outputs = predictions if fused is None else fused.activate(predictions)
            values.update(y, outputs.numpy(), weight, valid)
        if ctx.penalties or self.has_penalties():
            value += ctx.add_penalties(self.variables_to_train(), need_gradient)
        values.add_loss(value, rows_of(x))
        return gradient, fused

    def _losses_step(
        self, batch: Batch, ctx: Context, values: RunningValues, need_gradient: bool
    ) -> tuple[Any, Any]:
        """`_loss_step` for several outputs, whose losses are added."""
        objectives = self._objectives
        x, y, weight, mask = batch
        wanted = tuple(False if o.loss is None else o.loss.logits_activation for o in objectives)
        predictions, fused = self.forward_to_loss(x, ctx, wanted, mask)
        gradients: list[Tensor | None] = []
        losses: list[float] = []
        total = 0.0
        for i, (_, loss, scale, _, _) in enumerate(objectives):
            prediction, last = predictions[i], fused[i]
            flags = ctx.mask[i]  # type: ignore[index]
            valid = None if flags is None else flags.numpy()
            gradient = None
            if loss is not None:
                value, gradient = loss.forward_backward(
                    y[i],
                    prediction,
                    weight[i],
                    valid,
                    need_gradient=need_gradient,
                    from_logits=None if last is None else True,
                )
                losses.append(value)
                if scale is not None:
                    value *= scale
                    if gradient is not None:
                        _core.scale_(gradient, scale)
                total += value
            gradients.append(gradient)
            metrics = values.outputs[i]
            if metrics.plain or metrics.weighted:
                outputs = prediction if last is None else last.activate(prediction)
                metrics.update(y[i], outputs.numpy(), weight[i], valid)
        if ctx.penalties or self.has_penalties():
            total += ctx.add_penalties(self.variables_to_train(), need_gradient)
        rows = rows_of(x)
        values.add_losses(losses, rows)
        values.add_loss(total, rows)
        return tuple(gradients), fused

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: dict[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """One training step on one batch.

        Args:
            x, y, sample_weight, class_weight: as `fit`.
            return_dict: return a dict by name.

        Returns:
            The loss before the step; a list of loss and metrics when there are metrics.
        """
        self._compiled("train_on_batch")
        with self.not_training("train_on_batch"):
            self.check_can_train()
            batch, y_shape = self._check("train_on_batch", x, y, sample_weight, class_weight)
            rows = rows_of(batch.x)
            self._check_batch_sizes("train_on_batch", rows, rows)
            values = self._ready("train_on_batch", shape_of(batch.x), y_shape, train=True)
            values.reset()
            self._train_step(batch)
            return values.result(return_dict)

    # --- evaluation -------------------------------------------------------------------------------

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Loss and metrics on data, without training.

        Args:
            x, y, batch_size, verbose, sample_weight, callbacks: as `fit`.
            steps: number of batches; all by default.
            return_dict: return a dict by name.

        Returns:
            The loss; a list of loss and metrics when there are metrics.
        """
        self._compiled("evaluate")
        label = f"{self.label()}: evaluate"
        verbose = resolve_verbose(verbose)
        calls = CallbackList(callbacks)
        steps = optional_int(steps, label, "steps")
        batch_size = optional_int(batch_size, label, "batch_size")
        data, shapes = self._data("evaluate", x, y, sample_weight, batch_size, steps, train=False)
        with self._testing_lock:
            if shapes is not None:
                self._ready("evaluate", *shapes, train=False)
            calls.set_params({"verbose": verbose, "epochs": 1, "steps": data.num_batches})
            calls.set_model(self)
            self._evaluate(data, calls, Progress(verbose, data.num_batches))
            assert self._test_values is not None
            return self._test_values.result(return_dict)

    def _evaluate(self, data: Epochs, calls: CallbackList, progress: Progress | None) -> dict[str, float]:
        with self._testing_lock:
            values = self._test_values
            if values is not None:
                values.reset()
            data.restart()
            steps = 0
            self.stop_evaluating = False
            calls.on_test_begin()
            if progress is not None:
                progress.begin()
            for batch in data.epoch(0):
                values = self._test_values
                assert values is not None
                calls.on_test_batch_begin(steps)
                ctx = Context(padded=batch.mask is not None)
                self._loss_step(batch, ctx, values, need_gradient=False)
                ctx.commit_states()
                if calls.wants_test_batch_end:
                    calls.on_test_batch_end(steps, values.logs())
                steps += 1
                if progress is not None:
                    show = progress.live and progress.wants_update()
                    progress.update(steps, values.logs() if show else None)
                if self.stop_evaluating:
                    break
            # A generator that is exhausted has nothing to say about this epoch.
            logs = values.logs() if steps and values is not None else {}
            if progress is not None:
                progress.end(logs)
            calls.on_test_end(logs)
            return logs

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """Loss and metrics of one batch, in the form of `train_on_batch`."""
        batch, y_shape = self._check("test_on_batch", x, y, sample_weight)
        rows = rows_of(batch.x)
        self._check_batch_sizes("test_on_batch", rows, rows)
        with self._testing_lock:
            values = self._ready("test_on_batch", shape_of(batch.x), y_shape, train=False)
            values.reset()
            ctx = Context()
            self._loss_step(batch, ctx, values, need_gradient=False)
            ctx.commit_states()
            return values.result(return_dict)


def _count(value: Any, label: str, argument: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise ValueError(f"{label}: {argument} is {value!r}, expected an integer that is not negative")
    return int(value)
