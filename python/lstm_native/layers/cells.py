"""Cells of recurrent layers: one time step a call, and several of them stacked. Floor 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from lstm_native.arrays import Shape, to_float32
from lstm_native.layers.base import SHAPE_ARGUMENTS, Context, Layer
from lstm_native.layers.gru import GRU
from lstm_native.layers.lstm import LSTM
from lstm_native.layers.recurrent import RecurrentLayer
from lstm_native.layers.simple_rnn import SimpleRNN
from lstm_native.variable import Variable

if TYPE_CHECKING:
    from inspect import Parameter

Array = npt.NDArray[np.float32]
# Arguments of the layers that say what to do with a sequence: RNN takes them, cells do not.
_OF_SEQUENCES = (
    "activity_regularizer", "go_backwards", "return_sequences", "return_state", "stateful", "unroll",
    "use_cudnn", "zero_output_for_mask", *SHAPE_ARGUMENTS,
)  # fmt: skip
# Those that the cell itself has.
_OF_CELLS = ("dtype", "name", "trainable")


class NativeCell(Layer):
    """A cell that holds the layer which runs it over whole sequences, and calls it with one time step.

    Args:
        args, kwargs: arguments of the layer, but for those that `RNN` takes.

    Attributes:
        kind: class of the layer.
        units: number of units.
        state_size: columns of the state, or a list with those of every state.
        output_size: columns of the output: `units`, or the layer's `projection_units`.
        layer: the layer; it has the weights.
        kernel, recurrent_kernel, bias: the weights, once the cell is built.
    """

    kind: ClassVar[type[RecurrentLayer]]
    config_attributes: ClassVar[dict[str, str | None]] = {"implementation": None}

    def __init__(self, *args: Any, name: str | None = None, **kwargs: Any) -> None:
        for argument in kwargs:
            if argument in _OF_SEQUENCES:
                raise TypeError(
                    f"{type(self).__name__}: takes no {argument}, which is an argument of RNN(cell, ...)"
                )
        super().__init__(name=name, trainable=kwargs.get("trainable", True))
        self.layer = self.kind(*args, name=self.name, **kwargs)
        self.units = self.layer.units
        self.output_size = self.layer.output_units
        self.state_size = self.layer.state_size

    def __getattr__(self, name: str) -> Any:
        # The arguments of the layer are attributes of the cell too.
        if "layer" in self.__dict__ and any(p.name == name for p in self.constructor_parameters()):
            return getattr(self.layer, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @classmethod
    def constructor_parameters(cls, kinds: Sequence[type] | None = None) -> list[Parameter]:
        """See `Configurable`: those of the layer, but for those that `RNN` takes."""
        if next(kind for kind in kinds or cls.__mro__ if "__init__" in vars(kind)) is not NativeCell:
            return super().constructor_parameters(kinds)  # a subclass with a constructor of its own
        return [p for p in cls.kind.constructor_parameters() if p.name not in _OF_SEQUENCES]

    def argument(self, name: str, attribute: str) -> Any:
        """See `Configurable`."""
        return (
            super().argument(name, attribute) if name in _OF_CELLS else self.layer.argument(name, attribute)
        )

    def create_weights(self, input_shape: Shape) -> None:
        batch, features = input_shape
        self.layer.build((batch, None, features))
        self.kernel = self.layer.kernel
        self.recurrent_kernel = self.layer.recurrent_kernel
        self.bias = self.layer.bias

    def check_input_shape(self, shape: Shape) -> None:
        if len(shape) != 2 or not shape[1]:
            raise self.error(f"input has shape {tuple(shape)}, expected (batch, features)")
        if self.built and shape[1] != self.kernel.shape[0]:
            raise self.error(f"input has shape {tuple(shape)}, expected {self.kernel.shape[0]} features")

    def check_can_train(self) -> None:
        self.layer.check_can_train()

    def quantizable(self) -> Sequence[tuple[Variable, int]]:
        return self.layer.quantizable()

    def get_initial_state(self, batch_size: int | None = None) -> list[Array]:
        """Zeros for every state, each (batch_size, units)."""
        return self.layer.get_initial_state(batch_size or 0)

    def over_sequences(self, **options: Any) -> RecurrentLayer:
        """A layer with the weights of this cell, packed once for all such layers, and other options."""
        kind = type(self.layer)
        layer = kind.__new__(kind)
        layer.__dict__.update(self.layer.__dict__, **options)
        return layer

    def call(self, inputs: Any, states: Any, training: bool = False) -> tuple[Array, list[Array]]:
        """One time step.

        Args:
            inputs: (batch, features).
            states: list of the states, each (batch, units).
            training: behave as in training.

        Returns:
            The output (batch, units), and the list of the new states.
        """
        x = to_float32(inputs, self.label(), "input")
        self.check_input_shape(x.shape)
        batch, features = x.shape
        start = self.layer.states_from(states, batch)
        if not batch:
            return self.get_initial_state(0)[0], self.get_initial_state(0)
        layer = self.over_sequences(return_state=True)
        output, *new = layer.forward(
            x.reshape((batch, 1, features)), Context(bool(training)), initial_state=start
        )
        return output.numpy(), [state.numpy() for state in new]


class LSTMCell(NativeCell):
    """One time step of `LSTM`, with its arguments, but for those that `RNN` takes.

    `cell(x, [h, c])` gives (h, [h, c]): x (batch, features), states (batch, units). `RNN(cell)` runs it over
    whole sequences, as fast as the layer.
    """

    kind = LSTM
    config_attributes = LSTM.config_attributes


class GRUCell(NativeCell):
    """One time step of `GRU`, with its arguments, but for those that `RNN` takes.

    `cell(x, [h])` gives (h, [h]): x (batch, features), h (batch, units). `RNN(cell)` runs it over whole
    sequences, as fast as the layer.
    """

    kind = GRU


class SimpleRNNCell(NativeCell):
    """One time step of `SimpleRNN`, with its arguments, but for those that `RNN` takes.

    `cell(x, [h])` gives (h, [h]): x (batch, features), h (batch, units). `RNN(cell)` runs it over whole
    sequences, as fast as the layer.
    """

    kind = SimpleRNN


class StackedRNNCells(Layer):
    """Cells on top of each other as one cell: each takes the output of the one before.

    `cell(x, states)` takes and gives a list with the states of every cell: a list of arrays, or a single
    array where the cell's `state_size` is a number.

    Args:
        cells: the cells.

    Raises:
        ValueError: an item that is no cell (`check_cell`).
    """

    def __init__(self, cells: Sequence[Any], **kwargs: Any) -> None:
        for cell in cells:
            check_cell(cell, "StackedRNNCells")
        if not cells:
            raise ValueError("StackedRNNCells: cells is empty, expected at least one cell")
        super().__init__(**kwargs)
        self.cells = list(cells)
        if not self.trainable:
            self.trainable = False  # of the cells too

    @property
    def state_size(self) -> list[Any]:
        """The `state_size` of every cell."""
        return [cell.state_size for cell in self.cells]

    @property
    def output_size(self) -> int:
        """Columns of the last cell's output."""
        return output_size_of(self.cells[-1])

    def create_weights(self, input_shape: Shape) -> None:
        shape = tuple(input_shape)
        for cell in self.cells:
            if isinstance(cell, Layer):
                cell.check_input_shape(shape)
                cell.build(shape)
            shape = (shape[0], output_size_of(cell))

    def check_can_train(self) -> None:
        for layer in self.held_layers():
            layer.check_can_train()

    def get_initial_state(self, batch_size: int | None = None) -> list[Any]:
        """The states that every cell starts from."""
        return [initial_state_of(cell, batch_size or 0) for cell in self.cells]

    def call(self, inputs: Any, states: Any, training: bool = False) -> tuple[Any, list[Any]]:
        """One time step of every cell.

        Args:
            inputs: (batch, features).
            states: list with the states of every cell.
            training: behave as in training.

        Returns:
            The output of the last cell, and the list with the new states of every cell.
        """
        if len(states) != len(self.cells):
            raise self.error(
                f"states is a list of {len(states)}, expected one item for each of {len(self.cells)} cells"
            )
        new_states = []
        for cell, state in zip(self.cells, states, strict=True):
            several = isinstance(state, list | tuple)
            inputs, new = step_of(cell, inputs, state if several else [state], training)
            new_states.append(new if several else new[0])
        return inputs, new_states


def check_cell(cell: Any, owner: str) -> None:
    """Raises ValueError when `cell`, which was given to `owner`, is no cell."""
    for attribute in ("call", "state_size"):
        if not hasattr(cell, attribute):
            raise ValueError(
                f"{owner}: cell is {cell!r} without {attribute}, expected a cell: call(inputs, states) and "
                "state_size"
            )


def output_size_of(cell: Any) -> int:
    """Columns of the output of a cell, which need not say it: by default those of its first state."""
    size: Any = getattr(cell, "output_size", None)
    if size is None:
        size = cell.state_size
    while isinstance(size, list | tuple):
        size = size[0]
    return int(size)


def initial_state_of(cell: Any, batch: int) -> Any:
    """The states that a cell starts from: its own, or zeros like its `state_size`."""
    if hasattr(cell, "get_initial_state"):
        return cell.get_initial_state(batch_size=batch)

    def zeros(size: Any) -> Any:
        if isinstance(size, list | tuple):
            return [zeros(item) for item in size]
        return np.zeros((batch, size), np.float32)

    return zeros(cell.state_size)


def step_of(cell: Any, inputs: Array, states: Sequence[Any], training: bool) -> tuple[Any, list[Any]]:
    """One time step of any cell: the output and the list of its new states."""
    if isinstance(cell, Layer):
        output, new = cell(inputs, list(states), training=training)
    else:
        output, new = (cell if callable(cell) else cell.call)(inputs, list(states))
    return output, list(new) if isinstance(new, list | tuple) else [new]
