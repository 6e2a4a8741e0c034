"""Compilable: the loss, optimizer and metrics of a model, and what it brings to training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from lstm_native import objectives, optimizers
from lstm_native.callbacks import History
from lstm_native.fit_run import FitRun
from lstm_native.layers.base import Context, Layer
from lstm_native.locks import Lock
from lstm_native.running import RunningValues
from lstm_native.serialization import deserialize, serialize
from lstm_native.variable import Variable


class Compilable(Layer):
    """A layer that knows its loss, optimizer and metrics."""

    uncopied: ClassVar[tuple[str, ...]] = ("_training_lock", "_testing_lock", "fit_run")

    def __init__(self, *, name: str | None = None, trainable: bool = True) -> None:
        super().__init__(name=name, trainable=trainable)
        self.optimizer: optimizers.Optimizer | None = None
        self.loss: Any = None
        self.compiled = False
        self.stop_training = False
        self.stop_evaluating = False
        self.stop_predicting = False
        self.history: History | None = None
        self._objectives: list[objectives.Objective] = []
        self._train_values: RunningValues | None = None
        self._test_values: RunningValues | None = None
        self.make_uncopied()

    def make_uncopied(self) -> None:
        self._training_lock = Lock()
        self._testing_lock = Lock()
        # Where `fit` stands; read and moved by callbacks while it runs.
        self.fit_run: FitRun | None = None

    # --- what a model brings ----------------------------------------------------------------------

    def names_of_outputs(self) -> list[str]:
        """Names of the outputs."""
        raise NotImplementedError

    def forward_to_loss(
        self, inputs: Any, ctx: Context, activation: Any, mask: Any = None
    ) -> tuple[Any, Any]:
        """Outputs and None; or logits and the last layer, when that one ends in `activation`.

        With several outputs these are tuples, and `activation` has an item for each: False where no
        gradient comes back.
        """
        raise NotImplementedError

    def backward_from_loss(self, gradient: Any, ctx: Context, fused: Any) -> None:
        """Gradients of all trainable variables into `ctx`, from what `forward_to_loss` returned."""
        raise NotImplementedError

    def has_penalties(self) -> bool:
        """Whether a trainable variable has a regularizer."""
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
        loss_weights: Any = None,
        metrics: Sequence[Any] | dict[str, Any] | None = None,
        weighted_metrics: Sequence[Any] | dict[str, Any] | None = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | str | None = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """Says how to train.

        Args:
            optimizer: name or object.
            loss: name, object or function `(y_true, y_pred)`. For several outputs one for all, a list with
                one for each (None for none), or a dict by the names of the outputs.
            loss_weights: what each loss is multiplied with in the sum that is trained: a list or dict.
            metrics: names, objects or functions; sample weights do not touch them. For several outputs a
                list with an item, or a list of them, for each; or a dict by name.
            weighted_metrics: the same, with sample weights.
            run_eagerly, steps_per_execution, jit_compile, auto_scale_loss: accepted as Keras has them;
                they change nothing here.

        Raises:
            ValueError: an unknown name; the model stays compiled as it was.
            RuntimeError: the model is training, in another thread or around this call.
        """
        new_optimizer = optimizers.get(optimizer)
        found = objectives.resolve(
            self.label(), self.names_of_outputs(), loss, loss_weights, metrics, weighted_metrics
        )
        with self.not_training("compile"):
            self.optimizer = new_optimizer
            self.loss = loss
            self._objectives = found
            self._forget_metrics()
            self.stop_training = False
            self.compiled = True

    def get_compile_config(self) -> dict[str, Any]:
        """The arguments of `compile` as data that JSON can hold; empty before it.

        Raises:
            TypeError: a lambda, or something else that no name stands for.
        """
        if not self.compiled:
            return {}
        weights = [objective.weight for objective in self._objectives]
        several = len(self._objectives) > 1

        def of_outputs(lists: list[list[Any]]) -> list[Any] | None:
            return (lists if several else lists[0]) if any(lists) else None

        arguments = {
            "optimizer": self.optimizer,
            "loss": self.loss,
            "loss_weights": None if weights.count(None) == len(weights) else weights,
            "metrics": of_outputs([objective.metrics for objective in self._objectives]),
            "weighted_metrics": of_outputs([objective.weighted_metrics for objective in self._objectives]),
        }
        return {name: serialize(value) for name, value in arguments.items()}

    def compile_from_config(
        self, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> None:
        """Compiles with what `get_compile_config` gave; the optimizer begins at its first step.

        Args:
            config: the arguments of `compile`; nothing happens when there are none.
            custom_objects: classes and functions of the caller by name.
        """
        if config:
            self.compile(**deserialize(config, custom_objects))

    def _forget_metrics(self) -> None:
        self._train_values = None
        self._test_values = None

    def _compiled(self, where: str) -> optimizers.Optimizer:
        if not self.compiled or self.optimizer is None:
            raise ValueError(f"{self.label()}: {where} before compile, call compile() first")
        for objective in self._objectives:
            if objective.loss is not None:
                return self.optimizer
        raise ValueError(f"{self.label()}: {where} without a loss, pass loss to compile()")

    @property
    def metrics(self) -> list[Any]:
        """The metrics of `compile`; empty before the first batch."""
        return [] if self._train_values is None else self._train_values.metrics

    @property
    def metrics_names(self) -> list[str]:
        """Names of the values that training and evaluation report; "loss" alone before the first batch."""
        values = self._train_values or self._test_values
        return ["loss"] if values is None else ["loss", *values.loss_names, *values.names]

    def reset_metrics(self) -> None:
        """Forgets the running values of loss and metrics."""
        for values in (self._train_values, self._test_values):
            if values is not None:
                values.reset()


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
