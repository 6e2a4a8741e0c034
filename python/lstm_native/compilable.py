"""What fit, evaluate and predict share: compile, the checks of data, and getting ready.

All checks come before anything changes, so that a failed call leaves the model as it was.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy.typing as npt

from lstm_native import losses, metrics, optimizers
from lstm_native.arrays import Shape, to_float32, to_numpy
from lstm_native.callbacks import History
from lstm_native.data import ArrayData, Batch, Epochs, IterableData, class_weights_of, is_iterable_of_batches
from lstm_native.fit_run import FitRun
from lstm_native.layers.base import Context, Layer, Tensor
from lstm_native.layers.core import ActivationAtEnd
from lstm_native.locks import Lock
from lstm_native.random_state import next_seed
from lstm_native.running import RunningValues
from lstm_native.variable import Variable

Array = npt.NDArray[Any]
_DEFAULT_BATCH_SIZE = 32


class Compilable(Layer):
    """A layer that knows its loss, optimizer and metrics, and checks data against them."""

    uncopied: ClassVar[tuple[str, ...]] = ("_training_lock", "_testing_lock", "fit_run")

    def __init__(self, *, name: str | None = None, trainable: bool = True) -> None:
        super().__init__(name=name, trainable=trainable)
        self.optimizer: optimizers.Optimizer | None = None
        self.loss: Any = None
        self.compiled = False
        self.stop_training = False
        self.history: History | None = None
        self._loss: losses.Loss | None = None
        self._metric_identifiers: tuple[list[Any], list[Any]] = ([], [])
        self._train_values: RunningValues | None = None
        self._test_values: RunningValues | None = None
        self.make_uncopied()

    def make_uncopied(self) -> None:
        self._training_lock = Lock()
        self._testing_lock = Lock()
        # Where `fit` stands; read and moved by callbacks while it runs.
        self.fit_run: FitRun | None = None

    # --- what a model brings ----------------------------------------------------------------------

    def forward_to_loss(
        self, inputs: Tensor, ctx: Context, activation: str | None
    ) -> tuple[Any, ActivationAtEnd | None]:
        """Outputs and None; or logits and the last layer, when that one ends in `activation`."""
        raise NotImplementedError

    def backward_from_loss(self, gradient: Any, ctx: Context, fused: ActivationAtEnd | None) -> None:
        """Gradients of all trainable variables into `ctx`, from what `forward_to_loss` returned."""
        raise NotImplementedError

    def variables_to_train(self) -> list[Variable]:
        """The trainable variables, in a list that must not be changed."""
        raise NotImplementedError

    def stateful_layers(self) -> list[Any]:
        """The layers that keep a state between calls."""
        raise NotImplementedError

    def fixed_batch_size(self) -> int | None:
        """Number of rows that every batch must have; None when it is free."""
        raise NotImplementedError

    def not_training(self, what: str) -> _NotTraining:
        """For a `with` statement: keeps training out while the body runs.

        Raises:
            RuntimeError: the model is training, in another thread or around this call.
        """
        return _NotTraining(self, self._training_lock, what)

    # --- compile ----------------------------------------------------------------------------------

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: None = None,
        metrics: Sequence[Any] | None = None,
        weighted_metrics: Sequence[Any] | None = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | str | None = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """Says how to train.

        Args:
            optimizer: name or object.
            loss: name, object or function `(y_true, y_pred)`.
            loss_weights: None; there is one output.
            metrics: names, objects or functions; sample weights do not touch them.
            weighted_metrics: the same, with sample weights.
            run_eagerly, steps_per_execution, jit_compile, auto_scale_loss: accepted as Keras has them;
                they change nothing here.

        Raises:
            ValueError: an unknown name; the model stays compiled as it was.
            RuntimeError: the model is training, in another thread or around this call.
        """
        if loss_weights is not None:
            raise ValueError(f"{self.label()}: compile got loss_weights, which need several outputs")
        new_optimizer = optimizers.get(optimizer)
        new_loss = None if loss is None else losses.get(loss)
        identifiers = (
            _metric_list("metrics", metrics, self.label()),
            _metric_list("weighted_metrics", weighted_metrics, self.label()),
        )
        with self.not_training("compile"):
            self.optimizer = new_optimizer
            self.loss = loss
            self._loss = new_loss
            self._metric_identifiers = identifiers
            self._forget_metrics()
            self.stop_training = False
            self.compiled = True

    def _forget_metrics(self) -> None:
        self._train_values = None
        self._test_values = None

    def _compiled(self, where: str) -> tuple[optimizers.Optimizer, losses.Loss]:
        if not self.compiled or self.optimizer is None:
            raise ValueError(f"{self.label()}: {where} before compile, call compile() first")
        if self._loss is None:
            raise ValueError(f"{self.label()}: {where} without a loss, pass loss to compile()")
        return self.optimizer, self._loss

    @property
    def metrics(self) -> list[Any]:
        """The metrics of `compile`; empty before the first batch."""
        return [] if self._train_values is None else self._train_values.metrics

    @property
    def metrics_names(self) -> list[str]:
        """Names of the values that training reports; "loss" alone before the first batch."""
        return ["loss"] if self._train_values is None else ["loss", *self._train_values.names]

    def reset_metrics(self) -> None:
        """Forgets the running values of loss and metrics."""
        for values in (self._train_values, self._test_values):
            if values is not None:
                values.reset()

    # --- checks: all of them before anything changes -------------------------------------------------

    def _check(
        self, where: str, x: Any, y: Any, sample_weight: Any, class_weight: dict[int, float] | None = None
    ) -> tuple[Batch, tuple[int, ...]]:
        """Rows converted and checked against model and loss, and the shape of the labels as given."""
        label = f"{self.label()}: {where}"
        _, loss = self._compiled(where)
        tensor, output_shape = self._check_x(where, x)
        rows = tensor.shape[0]
        if rows == 0:
            raise ValueError(f"{label}: x has shape {tensor.shape}, expected at least one row")
        if isinstance(output_shape[0], tuple):
            raise ValueError(f"{label}: the model has several outputs (return_state), expected one")
        if y is None:
            raise ValueError(f"{label}: y is missing, the labels are needed")
        given = to_numpy(y, label, "y")
        if given.shape[:1] != (rows,):
            raise ValueError(f"{label}: y has shape {given.shape}, expected {rows} rows as x has")
        if class_weight is not None:
            if sample_weight is not None:
                raise ValueError(f"{label}: pass class_weight or sample_weight, not both")
            if not isinstance(class_weight, dict):
                raise ValueError(
                    f"{label}: class_weight is {class_weight!r}, expected a dict of class: weight"
                )
            sample_weight = class_weights_of(given, class_weight, label)
        weight = None
        if sample_weight is not None:
            weight = to_float32(sample_weight, label, "sample_weight").numpy()
            expected = output_shape[:-1]
            if weight.shape[:1] != (rows,) or any(
                a not in (1, b) for a, b in zip(weight.shape[1:], (*expected[1:], 1), strict=False)
            ):
                raise ValueError(
                    f"{label}: sample_weight has shape {weight.shape}, expected ({rows},) or {expected}"
                )
        return Batch(tensor, loss.prepare(given, output_shape), weight), given.shape

    def _check_x(self, where: str, x: Any) -> tuple[Tensor, Any]:
        tensor = self.as_input(x)
        shape: Shape = tensor.shape
        if not shape:
            raise ValueError(f"{self.label()}: {where} got a single number as x, expected an array of rows")
        if self.fixed_batch_size() is not None:  # that of the batches, not of the whole array
            shape = (None, *shape[1:])
        output_shape = self.compute_output_shape(shape)
        self.check_values(tensor)
        return tensor, output_shape

    def _check_batch_sizes(self, where: str, rows: int, batch_size: int) -> None:
        """Stateful layers and a fixed batch size want every batch to have the same number of rows."""
        sizes = {min(rows, batch_size), rows % batch_size or batch_size} if rows > batch_size else {rows}
        fixed = self.fixed_batch_size()
        if fixed is not None and sizes != {fixed}:
            raise ValueError(
                f"{self.label()}: {where} makes batches of {sorted(sizes)} rows, but Input fixes {fixed}"
            )
        states = [layer.states for layer in self.stateful_layers()]
        if states and (len(sizes) > 1 or any(s is not None and {len(s[0])} != sizes for s in states)):
            kept = next((len(s[0]) for s in states if s is not None), batch_size)
            raise ValueError(
                f"{self.label()}: {where} makes batches of {sorted(sizes)} rows, but stateful layers need "
                f"{kept} in each: choose batch_size, or call reset_state()"
            )

    def _ready(
        self, where: str, x_shape: tuple[int, ...], y_shape: tuple[int, ...], train: bool
    ) -> RunningValues:
        """Builds what is not built yet: weights, metrics, and for training the optimizer's slots."""
        optimizer, loss = self._compiled(where)
        loss.check_usable(train)
        if train and optimizer.built and not self.built:
            raise ValueError(f"{self.label()}: {where} with the optimizer of another model, make a new one")
        if not self.built:
            self.build((None, *x_shape[1:]))
        values = self._train_values if train else self._test_values
        if values is None:
            output_shape = self.compute_output_shape((self.fixed_batch_size(), *x_shape[1:]))
            plain, weighted = (
                [metrics.get(m, loss=loss, y_shape=y_shape, output_shape=output_shape) for m in identifiers]
                for identifiers in self._metric_identifiers
            )
            values = RunningValues(plain, weighted)
            if train:
                self._train_values = values
            else:
                self._test_values = values
        if train:
            variables = self.variables_to_train()
            if not variables:
                warnings.warn(f"{self.label()}: {where} without trainable weights", UserWarning, stacklevel=4)
            elif optimizer.built:
                optimizer._check_known(variables)
            else:
                optimizer.build(variables)
        return values

    def _data(
        self,
        where: str,
        x: Any,
        y: Any,
        sample_weight: Any,
        batch_size: int | None,
        steps: int | None,
        *,
        train: bool,
        class_weight: dict[int, float] | None = None,
        shuffle: bool | str = False,
    ) -> tuple[Epochs, tuple[tuple[int, ...], tuple[int, ...]] | None]:
        """Batches with labels, and the shapes to build for where they are known beforehand."""
        label = f"{self.label()}: {where}"
        if is_iterable_of_batches(x) or (isinstance(x, list | tuple) and y is None):
            if y is not None or sample_weight is not None:
                raise ValueError(f"{label}: x yields batches, so y and sample_weight belong into them")

            def prepare(x: Any, y: Any, sample_weight: Any) -> Batch:
                batch, y_shape = self._check(where, x, y, sample_weight, class_weight)
                self._check_batch_sizes(where, batch.x.shape[0], batch.x.shape[0])
                self._ready(where, batch.x.shape, y_shape, train)
                return batch

            return Epochs(IterableData(x, prepare, label), steps, label), None
        batch, y_shape = self._check(where, x, y, sample_weight, class_weight)
        rows = batch.x.shape[0]
        batch_size = batch_size or batch_size_for(rows, steps)
        self._check_batch_sizes(where, rows, batch_size)
        seed = next_seed() if shuffle else 0
        epochs = Epochs(ArrayData(batch, batch_size, shuffle, seed), steps, label)
        return epochs, (batch.x.shape, y_shape)


class _NotTraining(NamedTuple):
    """Holds the training lock of a model, which must be free, while a body runs."""

    model: Layer
    lock: Lock
    what: str

    def __enter__(self) -> None:
        if self.lock.acquire(blocking=False):
            if self.lock.depth == 1:
                return
            self.lock.release()
        raise RuntimeError(f"{self.model.label()}: {self.what} while this model is training already")

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def _metric_list(argument: str, given: Any, label: str) -> list[Any]:
    if given is None:
        return []
    if not isinstance(given, list | tuple):
        raise ValueError(f"{label}: compile got {argument}={given!r}, expected a list")
    for identifier in given:
        metrics.get(identifier)  # raises for unknown names
    return list(given)


def batch_size_for(rows: int, steps: int | None) -> int:
    return _DEFAULT_BATCH_SIZE if steps is None else -(-rows // steps)
