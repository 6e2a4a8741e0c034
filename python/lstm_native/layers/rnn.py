"""RNN: any cell over whole sequences; native ones as their layers, those in Python in a loop. Floor 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstm_native import _core
from lstm_native.arrays import Shape
from lstm_native.layers.base import Context, Layer, Tensor
from lstm_native.layers.cells import (
    Array,
    NativeCell,
    StackedRNNCells,
    check_cell,
    initial_state_of,
    output_size_of,
    step_of,
)
from lstm_native.layers.recurrent import RecurrentLayer
from lstm_native.layers.sequence import SequenceLayer, run_steps
from lstm_native.trees import flat, nested


class RNN(SequenceLayer):
    """A cell over whole sequences: (batch, time, features) to (batch, units).

    `LSTMCell`, `GRUCell` and `SimpleRNNCell`, alone or stacked, run natively and train. A cell may also be
    written in Python: an object, best a subclass of `Layer`, with `call(inputs, states)`, which returns the
    output and the list of new states for one time step of NumPy arrays, and `state_size`, the columns of its
    state or a list with those of every state. It may have `output_size` (by default the columns of the first
    state) and `get_initial_state(batch_size)` (zeros by default), and works forward only.

    Args:
        cell: a cell, or a list of cells on top of each other, as `StackedRNNCells` has them.
        return_sequences: outputs of all time steps, (batch, time, units), instead of the last.
        return_state: calls return (outputs, states ...); of a stack, an item for every cell: the list of its
            states, or the only state of a cell in Python whose `state_size` is a number.
        go_backwards: run from the last time step to the first; outputs stay in that order.
        stateful: row i of a call continues from the last state of row i of the call before.
        unroll: accepted as Keras has it; results are the same.
        zero_output_for_mask: the output of a masked step is zero instead of the output before it.
    """

    supports_masking = True

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        if isinstance(cell, list | tuple):
            cell = StackedRNNCells(cell)
        check_cell(cell, "RNN")
        structure = _state_structure(cell)
        for size in flat(structure):
            if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
                raise ValueError(
                    f"RNN: state_size of the cell is {cell.state_size!r}, expected a positive integer or a "
                    "list of them"
                )
        super().__init__(**kwargs)
        self.cell = cell
        self.state_size: list[Any] = _as_list(cell.state_size)
        self.return_sequences = bool(return_sequences)
        self.return_state = bool(return_state)
        self.go_backwards = bool(go_backwards)
        self.stateful = bool(stateful)
        self.unroll = bool(unroll)
        self.zero_output_for_mask = bool(zero_output_for_mask)
        self._structure = structure
        self._cells = _chained(cell)
        self._state_counts = [len(flat(_state_structure(c))) for c in self._cells]
        if not self.trainable:
            self.trainable = False  # of the cell too

    def held_layers(self) -> Sequence[Layer]:
        return (self.cell,) if isinstance(self.cell, Layer) else ()

    # --- building and shapes ----------------------------------------------------------------------

    def create_weights(self, input_shape: Shape) -> None:
        self._features = input_shape[2:]
        if isinstance(self.cell, Layer):
            self.cell.build(_step_shape(input_shape))

    def check_input_shape(self, shape: Shape) -> None:
        native = isinstance(self._cells[0], NativeCell)
        if (len(shape) != 3 if native else len(shape) < 3) or 0 in shape[2:]:
            raise self.error(f"input has shape {shape}, expected (batch, time, features)")
        if shape[1] == 0:
            raise self.error(f"input has shape {shape}, expected at least one time step")
        if self.built and shape[2:] != self._features:
            expected = ", ".join(["batch", "time", *map(str, self._features)])
            raise self.error(f"input has shape {shape}, expected ({expected})")
        if native:
            self._cells[0].check_input_shape(_step_shape(shape))

    def compute_output_shape(self, input_shape: Shape) -> Any:
        batch, time = input_shape[:2]
        units = output_size_of(self.cell)
        outputs: Shape = (batch, time, units) if self.return_sequences else (batch, units)
        if not self.return_state:
            return outputs
        return (outputs, *nested(self.state_size, [(batch, size) for size in flat(self.state_size)]))

    def packed_states(self, states: list[Any]) -> list[Any]:
        """States as a call returns them: those of a stack as a list for every cell."""
        return nested(self._structure, states)  # type: ignore[no-any-return]

    def named_state_sizes(self) -> Sequence[tuple[str, int]]:
        return [(f"state_{i}", size) for i, size in enumerate(flat(self._structure))]

    def get_initial_state(self, batch_size: int) -> list[Any]:
        """The states that a call starts from by default."""
        return _as_list(initial_state_of(self.cell, batch_size))

    # --- calls ------------------------------------------------------------------------------------

    @property
    def takes_indexed_rows(self) -> bool:
        """Whether `forward` takes `IndexedRows` for the inputs."""
        first = self._cells[0]
        return isinstance(first, NativeCell) and first.layer.takes_indexed_rows

    def check_can_train(self) -> None:
        super().check_can_train()
        for layer in self._layers():
            layer.check_can_train()

    def _layers(self) -> list[RecurrentLayer | CellLoop]:
        """What runs the cells over sequences, one after the other.

        A stack gives the same whether it runs step by step or cell by cell: at a masked step no cell looks at
        what comes from the cell below.
        """
        layers: list[RecurrentLayer | CellLoop] = []
        for i, cell in enumerate(self._cells):
            options = {
                "return_sequences": self.return_sequences or i < len(self._cells) - 1,
                "go_backwards": self.go_backwards and i == 0,
                "zero_output_for_mask": self.zero_output_for_mask,
            }
            if isinstance(cell, NativeCell):
                layers.append(cell.over_sequences(return_state=True, **options))
            else:
                layers.append(CellLoop(cell, _state_structure(cell), **options))
        return layers

    def _by_cell(self, states: Sequence[Any]) -> list[tuple[Any, ...]]:
        """The states of all cells in one row, as a tuple for each cell."""
        remaining = iter(states)
        return [tuple(next(remaining) for _ in range(count)) for count in self._state_counts]

    def forward(
        self,
        inputs: Any,
        ctx: Context,
        mask: Tensor | None = None,
        initial_state: tuple[Tensor, ...] | None = None,
        reset: Tensor | None = None,
    ) -> Any:
        """See `SequenceLayer`."""
        self.check_input_shape(inputs.shape)
        start = self._start(initial_state, inputs.shape[0], ctx)
        starts = [None] * len(self._cells) if start is None else self._by_cell(start)
        layers = self._layers()
        x = inputs
        states: list[Tensor] = []
        for i, layer in enumerate(layers):
            x, *new = layer.forward(x, ctx, mask, starts[i], reset)
            states += new
            if i == 0 and self.go_backwards:
                # Outputs are in the order of their computation, and so are the steps of the other cells.
                mask, reset = _reversed(mask), _reversed(reset)
        if ctx.record:
            ctx.save(self, (layers, initial_state is not None))
        if self.stateful:
            ctx.states[self] = tuple(states)
        return (x, *states) if self.return_state else x

    def backward(self, d_outputs: Any, ctx: Context, need_d_inputs: bool = True) -> Any:
        """See `SequenceLayer`."""
        layers, initial_state_given = ctx.take(self)
        d_x, *d_states = d_outputs if self.return_state else (d_outputs,)
        d_initial: list[Tensor] = []
        by_cell = self._by_cell(d_states or [None] * sum(self._state_counts))
        for i in reversed(range(len(layers))):
            d = layers[i].backward((d_x, *by_cell[i]), ctx, need_d_inputs or i > 0)
            d_x, *rest = d if isinstance(d, tuple) else (d,)
            d_initial = rest + d_initial
        return (d_x, *d_initial) if initial_state_given else d_x

    def add_to_stream(self, stream: _core.Stream) -> None:
        for layer in self._layers():
            layer.add_to_stream(stream)


class CellLoop:
    """Runs a cell written in Python over sequences, as `RNN` runs the layer of a native cell.

    Args:
        cell: the cell.
        structure: its states, as lists of their sizes.
        options: those of `run_steps`.
    """

    def __init__(self, cell: Any, structure: list[Any], **options: bool) -> None:
        self._cell = cell
        self._structure = structure
        self._options = options

    def forward(
        self,
        inputs: Tensor,
        ctx: Context,
        mask: Tensor | None = None,
        initial_state: tuple[Tensor, ...] | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """(outputs, states ...) of sequences (batch, time, ...)."""
        if ctx.record:
            self.check_can_train()
        start = (
            flat(initial_state_of(self._cell, inputs.shape[0])) if initial_state is None else initial_state
        )

        def step(x: Array, states: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
            output, new = step_of(self._cell, x, nested(self._structure, states), ctx.training)
            leaves = tuple(np.asarray(state, np.float32) for state in flat(new))
            seen, expected = ([state.shape for state in each] for each in (leaves, states))
            if seen != expected:
                raise self._error(f"call returned states of shapes {seen}, expected {expected}")
            return np.asarray(output, np.float32), leaves

        output, states = run_steps(
            step,
            inputs.numpy(),
            tuple(np.asarray(state, np.float32) for state in start),
            None if mask is None else mask.numpy(),
            None if reset is None else reset.numpy(),
            **self._options,
        )
        return tuple(_core.as_tensor(array, "float32") for array in (output, *states))

    def backward(self, d_outputs: Any, ctx: Context, need_d_inputs: bool = True) -> Any:
        """There is none."""
        self.check_can_train()

    def check_can_train(self) -> None:
        """Raises ValueError."""
        raise self._error(
            "its call is Python code, which works forward only; training needs LSTMCell, GRUCell or "
            "SimpleRNNCell"
        )

    def add_to_stream(self, stream: _core.Stream) -> None:
        """Raises ValueError."""
        raise self._error("its call is Python code and cannot run step by step in a stream")

    def _error(self, message: str) -> ValueError:
        name = self._cell.label() if isinstance(self._cell, Layer) else type(self._cell).__name__
        return ValueError(f"{name}: {message}")


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _state_structure(cell: Any) -> list[Any]:
    """The sizes of a cell's states; of a stack, an item for every cell, as calls return its states."""

    def of(part: Any) -> Any:
        if isinstance(part, StackedRNNCells):
            return [of(item) for item in part.cells]
        return _as_list(part.state_size) if isinstance(part, NativeCell) else part.state_size

    return _as_list(of(cell))


def _chained(cell: Any) -> list[Any]:
    """The cells that run one after the other, each over the whole sequence."""
    if isinstance(cell, StackedRNNCells) and type(cell).call is StackedRNNCells.call:
        return [each for item in cell.cells for each in _chained(item)]
    return [cell]


def _step_shape(shape: Shape) -> Shape:
    return (shape[0], *shape[2:])


def _reversed(flags: Tensor | None) -> Tensor | None:
    """Flags (batch, time) with the steps in the opposite order."""
    return None if flags is None else _core.as_tensor(flags.numpy()[:, ::-1], "bool")
