"""Optimizers that few programs use, in NumPy, as Keras computes them. Floor 4."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native import _core
from lstm_native.errors import check_number
from lstm_native.optimizers.base import Optimizer
from lstm_native.optimizers.rate import LearningRate
from lstm_native.optimizers.scalar import Scalar
from lstm_native.variable import Variable

Array = npt.NDArray[np.float32]
_DECAY_OF_MOMENTUM = 0.96  # of Nadam's schedule


class _Plain(Optimizer):
    """A rule for one weight at a time, `rule(w, gradient, slots, rate)`."""

    def _fraction(self, name: str, value: Any) -> float:
        return check_number(self.name, name, value, "a number in [0, 1)", lambda v: 0 <= v < 1)

    def _epsilon(self, value: Any) -> float:
        return check_number(self.name, "epsilon", value, "a number that is not negative", lambda v: v >= 0)

    def rule(self, w: Array, gradient: Array, slots: list[Array], rate: float) -> tuple[Array, list[Array]]:
        """The new weight and slots."""
        raise NotImplementedError

    def _update(
        self,
        variables: list[_core.Variable],
        gradients: list[_core.Tensor],
        slots: list[list[Variable]],
        learning_rate: float,
        decays: list[float] | None,
    ) -> None:
        after = []
        for i, (variable, gradient) in enumerate(zip(variables, gradients, strict=True)):
            w = variable.numpy()
            if decays is not None and decays[i]:
                w = w - w * np.float32(decays[i])
            kept = [slot[i].numpy() for slot in slots]
            after.append(self.rule(w, gradient.numpy(), kept, learning_rate))
        for i, (w, kept) in enumerate(after):
            variables[i].assign(_core.as_tensor(w, "float32"))
            for slot, values in zip(slots, kept, strict=True):
                slot[i].assign(values)


class Adagrad(_Plain):
    """Adagrad (Duchi et al., 2011): steps divided by the root of the sum of all squared gradients.

    `accumulator += g ** 2; w -= learning_rate * g / sqrt(accumulator + epsilon)`

    Args:
        learning_rate: Number, schedule or function (default 0.001).
        initial_accumulator_value: What sums start from (default 0.1).
        epsilon: Keeps the divisor from zero (default 1e-7).
        common, options: The arguments of every optimizer, from `weight_decay` on: see `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        *common: Any,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, *common, **options)
        self.initial_accumulator_value = check_number(
            self.name,
            "initial_accumulator_value",
            initial_accumulator_value,
            "a number that is not negative",
            lambda v: v >= 0,
        )
        self.epsilon = self._epsilon(epsilon)

    def _slot_groups(self) -> tuple[tuple[str, ...], ...]:
        return (("accumulator",),)

    def build(self, variables: Iterable[_core.Variable]) -> None:
        """See `Optimizer`."""
        if not self.built:
            super().build(variables)
            for slot in self._slots[0]:
                slot.assign(np.full(slot.shape, self.initial_accumulator_value, np.float32))

    def rule(self, w: Array, gradient: Array, slots: list[Array], rate: float) -> tuple[Array, list[Array]]:
        """See the class."""
        accumulator: Array = slots[0] + gradient * gradient
        step = np.float32(rate) * gradient / np.sqrt(accumulator + np.float32(self.epsilon))
        return w - step, [accumulator]


class Adadelta(_Plain):
    """Adadelta (Zeiler, 2012): steps as long as those before, by the ratio of two running means of squares.

    Args:
        learning_rate: Number, schedule or function (default 0.001; the paper has 1).
        rho: Decay of the means, in [0, 1) (default 0.95).
        epsilon: Added to the means (default 1e-7).
        common, options: The arguments of every optimizer, from `weight_decay` on: see `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        rho: float = 0.95,
        epsilon: float = 1e-7,
        *common: Any,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, *common, **options)
        self.rho = self._fraction("rho", rho)
        self.epsilon = self._epsilon(epsilon)

    def _slot_groups(self) -> tuple[tuple[str, ...], ...]:
        return ("accumulated_grad",), ("accumulated_delta_var",)

    def rule(self, w: Array, gradient: Array, slots: list[Array], rate: float) -> tuple[Array, list[Array]]:
        """See the class."""
        rho, new, epsilon = np.float32(self.rho), np.float32(1 - self.rho), np.float32(self.epsilon)
        squares = rho * slots[0] + new * gradient * gradient
        delta = -np.sqrt(slots[1] + epsilon) * gradient / np.sqrt(squares + epsilon)
        return w + np.float32(rate) * delta, [squares, rho * slots[1] + new * delta * delta]


class _WithMoments(_Plain):
    """What Adamax and Nadam share: their arguments."""

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        *common: Any,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, *common, **options)
        self.beta_1 = self._fraction("beta_1", beta_1)
        self.beta_2 = self._fraction("beta_2", beta_2)
        self.epsilon = self._epsilon(epsilon)


class Adamax(_WithMoments):
    """Adam with the largest gradient in the place of the mean of squares (Kingma and Ba, 2015).

    `m += (g - m) * (1 - beta_1); u = max(beta_2 * u, |g|);
    w -= learning_rate / (1 - beta_1 ** t) * m / (u + epsilon)`

    Args:
        learning_rate: Number, schedule or function (default 0.001).
        beta_1: Decay of the mean of gradients (default 0.9).
        beta_2: Decay of the largest one (default 0.999).
        epsilon: Keeps the divisor from zero (default 1e-7).
        common, options: The arguments of every optimizer, from `weight_decay` on: see `Optimizer`.
    """

    def _slot_groups(self) -> tuple[tuple[str, ...], ...]:
        return ("momentum",), ("norm",)

    def rule(self, w: Array, gradient: Array, slots: list[Array], rate: float) -> tuple[Array, list[Array]]:
        """See the class."""
        m = slots[0] + (gradient - slots[0]) * np.float32(1 - self.beta_1)
        u = np.maximum(np.float32(self.beta_2) * slots[1], np.abs(gradient))
        alpha = np.float32(rate / (1 - self.beta_1 ** (int(self.iterations) + 1)))
        return w - alpha * m / (u + np.float32(self.epsilon)), [m, u]


class Nadam(_WithMoments):
    """Adam with Nesterov's momentum (Dozat, 2016); the momentum grows from half of `beta_1` to all of it.

    Args:
        learning_rate: Number, schedule or function (default 0.001).
        beta_1: Decay of the mean of gradients (default 0.9).
        beta_2: Decay of the mean of squared gradients (default 0.999).
        epsilon: Keeps the divisor from zero (default 1e-7).
        common, options: The arguments of every optimizer, from `weight_decay` on: see `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        *common: Any,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, *common, **options)
        self._product = Scalar("product", "float32", 1.0)

    @property
    def variables(self) -> list[Any]:
        """Everything that continues a training; last, as in Keras, the product of the momenta so far."""
        return [*super().variables, self._product] if self.built else super().variables

    def _slot_groups(self) -> tuple[tuple[str, ...], ...]:
        return (("momentum", "velocity"),)

    def _momentum(self, step: int) -> float:
        return self.beta_1 * (1 - 0.5 * _DECAY_OF_MOMENTUM**step)

    def _update(
        self,
        variables: list[_core.Variable],
        gradients: list[_core.Tensor],
        slots: list[list[Variable]],
        learning_rate: float,
        decays: list[float] | None,
    ) -> None:
        before = self._product.value
        self._product.assign(float(before) * self._momentum(int(self.iterations) + 1))
        try:
            super()._update(variables, gradients, slots, learning_rate, decays)
        except BaseException:
            self._product.assign(before)
            raise

    def rule(self, w: Array, gradient: Array, slots: list[Array], rate: float) -> tuple[Array, list[Array]]:
        """See the class."""
        step = int(self.iterations) + 1
        now, following = self._momentum(step), self._momentum(step + 1)
        product = float(self._product)
        m = slots[0] + (gradient - slots[0]) * np.float32(1 - self.beta_1)
        v = slots[1] + (gradient * gradient - slots[1]) * np.float32(1 - self.beta_2)
        ahead = m * np.float32(following / (1 - product * following))
        ahead = ahead + gradient * np.float32((1 - now) / (1 - product))
        root = np.sqrt(v / np.float32(1 - self.beta_2**step)) + np.float32(self.epsilon)
        return w - np.float32(rate) * ahead / root, [m, v]
