"""Weighted: what has weights: making them, listing them, setting them, freezing them. Floor 4."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native import constraints, initializers, regularizers
from lstm_native.arrays import to_numpy
from lstm_native.later import initial_values
from lstm_native.layers.building import structure_changed
from lstm_native.variable import Variable


class Weighted:
    """The part of every layer that has its weights, and lists those of the layers inside it.

    Attributes:
        name: name of the layer.
        built: whether the weights are made.
    """

    name: str
    built: bool
    _trainable: bool
    _variables: list[Variable]

    def label(self) -> str:
        """How messages call this layer."""
        return f"{type(self).__name__} {self.name!r}"

    def error(self, message: str) -> ValueError:
        """A ValueError that names this layer."""
        return ValueError(f"{self.label()}: {message}")

    def held_layers(self) -> Sequence[Any]:
        """The layers inside this one, for wrappers and models."""
        return ()

    def add_weight(
        self,
        shape: Any = None,
        initializer: Any = None,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        aggregation: str = "none",
        name: str | None = None,
    ) -> Variable:
        """A new variable of this layer. The order of the arguments is that of Keras; pass them by name.

        Args:
            shape: its shape; () by default.
            initializer: name, `Initializer` or callable `(shape) -> array`; "glorot_uniform" by default.
            dtype: "float32" or None, the same; "int32" or "int64" for counters.
            trainable: whether an optimizer may change it.
            regularizer: name, `Regularizer` or callable: a penalty that training adds to the loss.
            constraint: name, `Constraint` or callable: what follows every step of the optimizer.
            autocast, aggregation: accepted as Keras has them; they change nothing here.
            name: its name in the layer.
        """
        name = f"variable_{len(self._variables)}" if name is None else name
        shape = () if shape is None else tuple(shape)
        if math.prod(shape) * 4 > sys.maxsize:
            raise self.error(f"weight {name} of shape {shape} is larger than the address space")
        start = get_initializer(initializer, "glorot_uniform")
        try:
            values = to_numpy(initial_values(start, shape), self.label(), f"initial value of {name}")
        except MemoryError:
            raise MemoryError(
                f"{self.label()}: weight {name} of shape {shape} takes {math.prod(shape) * 4} bytes, "
                "more than there is memory"
            ) from None
        if values.shape != shape:
            raise self.error(f"initializer of {name} made an array of shape {values.shape}, expected {shape}")
        variable = Variable(
            values,
            dtype=dtype,
            trainable=trainable,
            name=name,
            path=f"{self.name}/{name}",
            regularizer=regularizers.get(regularizer),
            constraint=constraints.get(constraint),
        )
        variable.trainable = trainable and self._trainable
        self._variables.append(variable)
        return variable

    @property
    def trainable(self) -> bool:
        """Whether training changes the weights."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        for variable in self._variables:
            variable.trainable = self._trainable and not variable.fixed
        for layer in self.held_layers():
            layer.trainable = self._trainable
        structure_changed()

    @property
    def variables(self) -> list[Variable]:
        """All variables, those of the layers inside it too."""
        held = (v for layer in self.held_layers() for v in layer.variables)
        return list(dict.fromkeys([*self._variables, *held]))

    @property
    def weights(self) -> list[Variable]:
        """All variables, in the order of `get_weights`."""
        return self.variables

    @property
    def trainable_variables(self) -> list[Variable]:
        """The variables that training changes."""
        return [v for v in self.variables if v.trainable]

    @property
    def trainable_weights(self) -> list[Variable]:
        """The variables that training changes."""
        return self.trainable_variables

    @property
    def non_trainable_variables(self) -> list[Variable]:
        """The variables that training leaves alone."""
        return [v for v in self.variables if not v.trainable]

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The variables that training leaves alone."""
        return self.non_trainable_variables

    def get_weights(self) -> list[npt.NDArray[np.float32]]:
        """Copies of all weights."""
        return [v.numpy() for v in self.variables]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Sets all weights, or none when one does not fit.

        Args:
            weights: arrays in the order and of the shapes of `get_weights`.

        Raises:
            ValueError: another number of arrays, or an array of another shape.
        """
        variables = self.variables
        if not hasattr(weights, "__len__"):
            raise TypeError(f"{self.label()}: set_weights got a {type(weights).__name__}, expected a list")
        if len(weights) != len(variables):
            raise self.error(f"set_weights got {len(weights)} arrays, expected {len(variables)}")
        checked = [v.check(w) for v, w in zip(variables, weights, strict=True)]
        for variable, tensor in zip(variables, checked, strict=True):
            variable.assign(tensor)

    def count_params(self) -> int:
        """Number of scalars in the weights.

        Raises:
            ValueError: the layer is not built.
        """
        if not self.built:
            raise self.error("count_params before the layer is built: call build(input_shape) first")
        return sum(v.size for v in self.variables)

    def named_variables(self) -> dict[str, Variable]:
        """All variables, by names that depend on the structure of the layer alone, as files need them."""
        named = {variable.name: variable for variable in self._variables}
        for i, layer in enumerate(self.held_layers()):
            named |= {f"layer_{i}/{name}": v for name, v in layer.named_variables().items()}
        return named


def get_initializer(identifier: Any, default: str) -> Callable[..., Any]:
    """The initializer `identifier`, or the one called `default` for None."""
    return initializers.get(default if identifier is None else identifier)  # type: ignore[return-value]
