"""Base class of optimizers: options, slots and the order of a step. Floor 4."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from lstm_native import _core
from lstm_native.arrays import optional_int
from lstm_native.configurable import Configurable
from lstm_native.errors import check_number, unknown_name, warn
from lstm_native.naming import snake_case
from lstm_native.optimizers.gradients import accumulate, clip_global_norm, clip_norms, clip_values
from lstm_native.optimizers.rate import HasLearningRate, LearningRate
from lstm_native.optimizers.scalar import Scalar
from lstm_native.variable import Variable


class Optimizer(HasLearningRate, Configurable):
    """Base class of optimizers; these are the arguments of all of them, behind those of their own.

    After each step, variables with a `constraint` become what it makes of them.

    Args:
        learning_rate: A number, a `schedules.LearningRateSchedule`, or a function without arguments.
        weight_decay: Before each step weights shrink by `weight_decay * learning_rate * weight`.
        clipnorm: Largest norm of each gradient by itself.
        clipvalue: Largest magnitude of each element of a gradient.
        global_clipnorm: Largest norm of all gradients together.
        use_ema: Keeps a running mean of the weights; `fit` puts it in their place when it ends.
        ema_momentum: Share of the old mean in the new one, in [0, 1].
        ema_overwrite_frequency: Puts the mean in the place of the weights after every so many steps too.
        loss_scale_factor: What the gradients given to `apply` were multiplied with; they are divided by
            it. `fit` computes in float32 and does not scale.
        gradient_accumulation_steps: Changes the weights at every so many steps only, by the mean of the
            gradients since the last change; None does at every step.
        name: Name; `default_name`, or the class's name in snake case, when None.

    Raises:
        ValueError: More than one of the three clips, or an argument outside its range.
        TypeError: An argument that the class does not have.
    """

    default_name: ClassVar[str | None] = None

    def __init__(
        self,
        learning_rate: LearningRate,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        *more: Any,
        **unknown: Any,
    ) -> None:
        if more or unknown:
            raise self._unexpected(more, unknown)
        self.name = name or self.default_name or snake_case(type(self).__name__)
        clips = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        given = [f"{key}={value}" for key, value in clips.items() if value is not None]
        if len(given) > 1:
            raise ValueError(
                f"{self.name}: Only one of `clipnorm`, `clipvalue` and `global_clipnorm` can be set. "
                f"Received: {' and '.join(given)}"
            )
        for key, value in {**clips, "weight_decay": weight_decay}.items():
            if value is not None:
                check_number(self.name, key, value, "a number that is not negative", lambda v: v >= 0)
        self.weight_decay = weight_decay
        self.clipnorm = clipnorm
        self.clipvalue = clipvalue
        self.global_clipnorm = global_clipnorm
        check_number(self.name, "ema_momentum", ema_momentum, "a number in [0, 1]", lambda v: 0 <= v <= 1)
        if loss_scale_factor is not None:
            check_number(
                self.name, "loss_scale_factor", loss_scale_factor, "a positive number", lambda v: v > 0
            )
        self.use_ema = bool(use_ema)
        self.ema_momentum = ema_momentum
        self.ema_overwrite_frequency = optional_int(
            ema_overwrite_frequency, self.name, "ema_overwrite_frequency"
        )
        self.loss_scale_factor = loss_scale_factor
        self.gradient_accumulation_steps = optional_int(
            gradient_accumulation_steps, self.name, "gradient_accumulation_steps"
        )
        self.built = False
        self._iterations = Scalar("iteration", "int64", 0)
        self._rate = self._rate_of(learning_rate)
        self._trainable: list[_core.Variable] = []
        self._index: dict[int, int] = {}
        self._slots: list[list[Variable]] = []
        self._averages: list[Variable] = []
        self._accumulators: list[Variable] = []
        self._excluded: list[_core.Variable] = []
        self._excluded_names: re.Pattern[str] | None = None
        self._decay_mask: list[bool] = []

    @property
    def iterations(self) -> Scalar:
        """Number of steps taken; with accumulation, of changes of the weights."""
        if self.gradient_accumulation_steps is None:
            return self._iterations
        return Scalar("iteration", "int64", int(self._iterations) // self.gradient_accumulation_steps)

    @property
    def variables(self) -> list[Any]:
        """Everything that continues a training: step number, learning rate, slots."""
        rate = [self._rate] if isinstance(self._rate, Scalar) else []
        slots: list[Any] = []
        start = 0
        # The order of Keras: the slots of one group stand together weight by weight.
        for group in self._slot_groups() if self.built else ():
            for of_one_weight in zip(*self._slots[start : start + len(group)], strict=True):
                slots.extend(of_one_weight)
            start += len(group)
        return [self._iterations, *rate, *self._averages, *self._accumulators, *slots]

    @property
    def trained_variables(self) -> list[_core.Variable]:
        """The variables that the optimizer was built with, in the order of its slots."""
        return list(self._trainable)

    def build(self, variables: Iterable[_core.Variable]) -> None:
        """Makes the slots (moments and the like) for `variables`; does nothing when built already."""
        if self.built:
            return
        trainable = list(variables)
        self._slots = [
            [_zeros_like(variable, i, name) for i, variable in enumerate(trainable)]
            for group in self._slot_groups()
            for name in group
        ]
        if self.use_ema:
            self._averages = [_zeros_like(variable, i, "average") for i, variable in enumerate(trainable)]
        if self.gradient_accumulation_steps is not None:
            self._accumulators = [
                _zeros_like(variable, i, "gradient_accumulator") for i, variable in enumerate(trainable)
            ]
        self._trainable = trainable
        self._number(trainable)
        self._decay_mask = [self.decays(variable) for variable in trainable]
        self.built = True

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, _core.Variable]]) -> Scalar:
        """Takes one step.

        Args:
            grads_and_vars: Pairs of a gradient (array-like or None) and its variable.

        Returns:
            The number of steps taken.

        Raises:
            ValueError: No gradients at all, a shape that differs, or a variable that the optimizer was
                not built with; nothing has changed then.
        """
        pairs = list(grads_and_vars)
        self.apply([gradient for gradient, _ in pairs], [variable for _, variable in pairs])
        return self._iterations

    def apply(
        self, grads: Sequence[Any], trainable_variables: Sequence[_core.Variable] | None = None
    ) -> None:
        """Takes one step; the gradients stay as they are.

        Args:
            grads: Gradients in the order of the variables, array-like; None leaves its variable alone.
            trainable_variables: The variables; None takes those that the optimizer was built with.

        Raises:
            ValueError: As `apply_gradients`.
        """
        if len(grads) == 0:
            return
        if trainable_variables is None:
            if not self.built:
                raise ValueError(f"{self.name}: apply() without variables needs build(variables) before")
            trainable_variables = self._trainable
        variables = list(trainable_variables)
        if len(grads) != len(variables):
            raise ValueError(f"{self.name}: {len(grads)} gradients for {len(variables)} variables")
        chosen = [(g, v) for g, v in zip(grads, variables, strict=True) if g is not None]
        if not chosen:
            raise ValueError(f"{self.name}: No gradients provided for any variable.")
        if self.built:
            self._check_known(variables)
        tensors = []
        for gradient, variable in chosen:
            tensor = _core.as_tensor(gradient, "float32")
            if tensor.shape != variable.shape:
                raise ValueError(
                    f"{self.name}: gradient of {_name(variable)} has shape {tensor.shape}, "
                    f"expected {variable.shape}"
                )
            # Clipping works in place, and these numbers are the caller's.
            tensors.append(tensor.copy() if self._clips() or self.loss_scale_factor else tensor)
        if len(chosen) < len(variables):
            missing = ", ".join(_name(v) for g, v in zip(grads, variables, strict=True) if g is None)
            warn(f"{self.name}: no gradients for {missing}")
        if not self.built:
            self.build(variables)
        if self.loss_scale_factor:
            for tensor in tensors:
                _core.scale_(tensor, 1 / self.loss_scale_factor)
        self.step(tensors, [variable for _, variable in chosen])

    def step(self, gradients: list[_core.Tensor], variables: list[_core.Variable]) -> None:
        """One step of training: `apply` without its checks; gradients are clipped in place.

        Args:
            gradients: float32, in the shapes of `variables`.
            variables: Variables that the optimizer was built with.
        """
        if variables == self._trainable:
            slots, decay_mask = self._slots, self._decay_mask
        else:
            self._check_known(variables)
            order = [self._index[id(variable)] for variable in variables]
            slots = [[slot[i] for i in order] for slot in self._slots]
            decay_mask = [self._decay_mask[i] for i in order]
        if self.gradient_accumulation_steps is None or self._accumulate(gradients, variables):
            if self._clips():
                self._clip(gradients)
            rate = self._current_rate()
            decays = None
            if self.weight_decay:
                shrink = self.weight_decay * rate
                decays = [shrink if decay else 0.0 for decay in decay_mask]
            self._update(variables, gradients, slots, rate, decays)
        if self.use_ema:
            self._average()
        for variable in variables:
            constraint = getattr(variable, "constraint", None)
            if constraint is not None:
                variable.assign(constraint(variable.numpy()))
        self._iterations._value += 1

    def finalize_variable_values(self, var_list: Iterable[_core.Variable] | None = None) -> None:
        """Puts the running means in the place of the weights if `use_ema`; `fit` calls it when it ends.

        Args:
            var_list: The weights; None takes all that the optimizer was built with.
        """
        if not self.use_ema or not self.built:
            return
        variables = self._trainable if var_list is None else list(var_list)
        self._check_known(variables)
        for variable in variables:
            variable.assign(_core.as_tensor(self._averages[self._index[id(variable)]].numpy(), "float32"))

    def _accumulate(self, gradients: list[_core.Tensor], variables: list[_core.Variable]) -> bool:
        """Adds to the accumulators; at every n-th step `gradients` become the means since the last one."""
        steps = self.gradient_accumulation_steps
        assert steps is not None
        full = (int(self._iterations) + 1) % steps == 0
        accumulators = [self._accumulators[self._index[id(variable)]] for variable in variables]
        accumulate(gradients, accumulators, steps if full else None)
        return full

    def _average(self) -> None:
        iterations = int(self.iterations)
        momentum = self.ema_momentum if iterations else 0.0
        _core.average_(self._averages, self._trainable, momentum)
        if self.ema_overwrite_frequency and (iterations + 1) % self.ema_overwrite_frequency == 0:
            self.finalize_variable_values()

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Sets `variables` from arrays in that order.

        Raises:
            ValueError: Not built yet, or another number of arrays or shape; nothing has changed then.
        """
        if not self.built:
            raise ValueError(f"{self.name}: set_weights() needs build(variables) before")
        own = self.variables
        if len(weights) != len(own):
            raise ValueError(
                f"{self.name}: {len(weights)} arrays given, the optimizer has {len(own)} variables"
            )
        for variable, weight in zip(own, weights, strict=True):
            if np.shape(weight) != variable.shape:
                raise ValueError(
                    f"{self.name}: {variable.path} has shape {variable.shape}, "
                    f"the array given {np.shape(weight)}"
                )
        for variable, weight in zip(own, weights, strict=True):
            variable.assign(weight)

    def exclude_from_weight_decay(
        self, var_list: Iterable[_core.Variable] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """Keeps weight decay away from some variables; to be called before the optimizer is built.

        Args:
            var_list: Variables themselves.
            var_names: Patterns; a variable is left out when one is found in its `name` ("bias").

        Raises:
            ValueError: The optimizer is built already.
        """
        if self.built:
            raise ValueError(f"{self.name}: exclude_from_weight_decay() must come before the first step")
        names = sorted(set(var_names or ()))
        self._excluded_names = re.compile("|".join(names)) if names else None
        self._excluded = list(var_list or ())

    def decays(self, variable: _core.Variable) -> bool:
        """Whether weight decay touches `variable`."""
        if any(variable is excluded for excluded in self._excluded):
            return False
        name = getattr(variable, "name", "")
        return self._excluded_names is None or self._excluded_names.search(name) is None

    def argument(self, name: str, attribute: str) -> Any:
        """See `Configurable`."""
        if name == "learning_rate":
            return self.given_rate()
        return super().argument(name, attribute)

    def _unexpected(self, more: tuple[Any, ...], unknown: dict[str, Any]) -> TypeError:
        kind = type(self)
        taken = [parameter.name for parameter in kind.constructor_parameters()]
        if more:
            return TypeError(f"{kind.__name__}: {len(more)} arguments too many, expected {', '.join(taken)}")
        return TypeError(f"{kind.__name__}: {unknown_name('argument', next(iter(unknown)), taken)}")

    def _number(self, variables: Sequence[_core.Variable]) -> None:
        self._index = {id(variable): i for i, variable in enumerate(variables)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._number(self._trainable)  # the variables of a copy are others

    def _slot_groups(self) -> tuple[tuple[str, ...], ...]:
        """Names of what is kept per variable, in the groups that `variables` lists one after another."""
        return ()

    def _update(
        self,
        variables: list[_core.Variable],
        gradients: list[_core.Tensor],
        slots: list[list[Variable]],
        learning_rate: float,
        decays: list[float] | None,
    ) -> None:
        """The rule itself: changes `variables` and `slots`, all or nothing."""
        raise NotImplementedError(f"{type(self).__name__} does not define _update()")

    def _check_known(self, variables: Sequence[_core.Variable]) -> None:
        if variables == self._trainable:
            return
        for variable in variables:
            if id(variable) not in self._index:
                raise ValueError(
                    f"{self.name}: {_name(variable)} is none of the variables that this optimizer was built "
                    "with; call compile() with a new optimizer"
                )

    def _clips(self) -> bool:
        return bool(self.clipnorm or self.clipvalue or self.global_clipnorm)

    def _clip(self, gradients: list[_core.Tensor]) -> None:
        if self.clipvalue:
            clip_values(gradients, self.clipvalue)
        elif self.clipnorm:
            clip_norms(gradients, self.clipnorm)
        elif self.global_clipnorm:
            clip_global_norm(gradients, self.global_clipnorm)


def _zeros_like(variable: _core.Variable, index: int, slot: str) -> Variable:
    path = getattr(variable, "path", None) or f"variable_{index}"
    name = f"{path.replace('/', '_')}_{slot}"
    zeros = Variable(np.zeros(variable.shape, np.float32), name=name, trainable=False)
    _core.move_variables([zeros], variable.device)
    return zeros


def _name(variable: _core.Variable) -> str:
    return str(getattr(variable, "path", None) or f"a variable of shape {variable.shape}")


def check_momentum(owner: str, momentum: Any) -> None:
    """Raises ValueError unless `momentum` is a number in [0, 1]."""
    number = isinstance(momentum, int | float | np.floating) and not isinstance(momentum, bool)
    if not number or not 0 <= momentum <= 1:
        raise ValueError(
            f"{owner}: `momentum` must be a float between [0, 1]. Received: momentum={momentum!r}"
        )
