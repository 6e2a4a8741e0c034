"""What layers over time steps share: calls, initial and kept states, and the loop in Python. Floor 4."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native.arrays import Shape, fits, to_float32, to_step_flags
from lstm_native.layers.base import Context, Layer, Tensor
from lstm_native.trees import flat

Array = npt.NDArray[np.float32]
# One time step: inputs (batch, ...) and states to the output and the new states.
Step = Callable[[Array, tuple[Array, ...]], tuple[Array, tuple[Array, ...]]]


class SequenceLayer(Layer):
    """A layer over the time steps of (batch, time, ...), with states that may be given and kept.

    Attributes:
        return_sequences: outputs of all time steps instead of the last.
        go_backwards: from the last time step to the first; outputs stay in that order.
        zero_output_for_mask: the output of a masked step is zero instead of the output before it.
        return_state: calls return the last states too.
        stateful: row i of a call continues from the last state of row i of the call before.
    """

    return_sequences: bool
    go_backwards: bool
    zero_output_for_mask: bool
    return_state: bool
    stateful: bool
    over_time_steps = True
    # What a stateful layer starts from; None for its own start.
    _states: tuple[Tensor, ...] | None = None

    @property
    def unmoved_by_padding(self) -> bool:
        """Whether outputs at valid steps are the same bits with and without masked steps behind them."""
        return not (self.go_backwards if self.return_sequences else self.zero_output_for_mask)

    # --- for subclasses ---------------------------------------------------------------------------

    def named_state_sizes(self) -> Sequence[tuple[str, int]]:
        """Name and number of columns of every state."""
        raise NotImplementedError(f"{type(self).__name__} defines no named_state_sizes")

    def forward(
        self,
        inputs: Any,
        ctx: Context,
        mask: Tensor | None = None,
        initial_state: tuple[Tensor, ...] | None = None,
        reset: Tensor | None = None,
    ) -> Any:
        """Outputs, or (outputs, states ...) with `return_state`.

        Args:
            inputs: (batch, time, features), a tensor or `IndexedRows`.
            ctx: the running pass.
            mask: bool (batch, time).
            initial_state: the states in one row, each (batch, units).
            reset: bool (batch, time).
        """
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def backward(self, d_outputs: Any, ctx: Context, need_d_inputs: bool = True) -> Any:
        """Gradient of the inputs; (d_inputs, d_states ...) when the forward call was given initial states.

        Args:
            d_outputs: gradient of the outputs, or (d_outputs, d_states ...) with `return_state`; each may be
                None.
            ctx: the running pass.
            need_d_inputs: whether the gradient of the inputs is wanted.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no backward")

    def packed_states(self, states: list[Any]) -> list[Any]:
        """States, all in one list, in the form in which calls return them."""
        return states

    # --- states -----------------------------------------------------------------------------------

    @property
    def states(self) -> list[Array] | None:
        """Copies of the states that the next call of a stateful layer starts from; None before the first."""
        states = self._states
        return None if states is None else [s.numpy().copy() for s in states]

    def set_states(self, states: tuple[Tensor, ...]) -> None:
        self._states = states

    def reset_state(self) -> None:
        """Forgets the state of a stateful layer; the next call may have another batch size."""
        self._states = None

    def reset_states(self) -> None:
        """Older name of `reset_state`."""
        self.reset_state()

    def _start(self, given: Sequence[Tensor] | None, batch: int, ctx: Context) -> tuple[Tensor, ...] | None:
        """The states that a pass starts from: those given, or those kept; None for zeros."""
        if given is not None or not self.stateful:
            return None if given is None else tuple(given)
        states = ctx.states.get(self, self._states)
        if states is not None and states[0].shape[0] != batch:
            raise self.error(
                f"input has {batch} rows, but the state of this stateful layer has {states[0].shape[0]}: "
                "keep the batch size or call reset_state()"
            )
        return states

    def states_from(self, given: Any, batch: int) -> tuple[Tensor, ...] | None:
        """The initial states that a caller gave for `batch` rows, as tensors; lists in lists count as one."""
        if given is None:
            return None
        leaves = flat(given)
        states = tuple(to_float32(s, self.label(), "initial_state") for s in leaves)
        self.check_states(given, [state.shape for state in states], batch)
        return states

    def check_states(self, given: Any, shapes: Sequence[Shape], batch: int | None) -> None:
        names, sizes = zip(*self.named_state_sizes(), strict=True)
        expected = [(batch, size) for size in sizes]
        if len(shapes) != len(names):
            what = f"a {type(given).__name__}"
            if isinstance(given, list | tuple):
                what += f" of {len(shapes)}"
            raise self.error(f"initial_state is {what}, expected [{', '.join(names)}] of shapes {expected}")
        for name, shape, wanted in zip(names, shapes, expected, strict=True):
            if not fits(shape, wanted):
                raise self.error(f"initial_state {name} has shape {shape}, expected {wanted}")

    # --- calls ------------------------------------------------------------------------------------

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Mask of the outputs: that of the inputs with `return_sequences`, else None."""
        return previous_mask if self.return_sequences else None

    def __call__(
        self,
        inputs: Any,
        initial_state: Any = None,
        mask: Any = None,
        training: bool | None = False,
        reset: Any = None,
    ) -> Any:
        """Outputs for `inputs`, as NumPy arrays; the first call builds the layer.

        Args:
            inputs: (batch, time, features).
            initial_state: list of the states, each (batch, units); by default the kept ones if stateful, else
                zeros.
            mask: bool (batch, time); False steps are skipped, the state is carried over them.
            training: behave as in training.
            reset: bool (batch, time); before a True step the state is set back to its start.

        Returns:
            (batch, units), or (batch, time, units) with `return_sequences`; with `return_state` the
            tuple (outputs, states ...).
        """
        x = self.as_input(inputs)
        self.check_input_shape(x.shape)
        label = self.label()
        outputs = self._call(
            x,
            Context(bool(training)),
            to_step_flags(mask, x.shape, label, "mask"),
            initial_state=self.states_from(initial_state, x.shape[0]),
            reset=to_step_flags(reset, x.shape, label, "reset"),
        )
        if not self.return_state:
            return outputs
        output, *states = flat(outputs)
        return (output, *self.packed_states(states))


def run_steps(
    step: Step,
    inputs: Array,
    states: tuple[Array, ...],
    mask: npt.NDArray[np.bool_] | None,
    reset: npt.NDArray[np.bool_] | None,
    *,
    go_backwards: bool,
    zero_output_for_mask: bool,
    return_sequences: bool,
) -> tuple[Array, tuple[Array, ...]]:
    """Runs a step written in Python over whole sequences.

    Args:
        step: one time step.
        inputs: (batch, time, ...).
        states: the states to start from.
        mask: (batch, time); where False, states stay and the output before is repeated.
        reset: (batch, time); where True, states are set back to their start before the step.
        go_backwards: run from the last time step to the first.
        zero_output_for_mask: zeros for the outputs of masked steps.
        return_sequences: outputs of all steps, in the order of their computation, instead of the last.

    Returns:
        The output, and the last states.
    """
    time = inputs.shape[1]
    first = states
    outputs: list[Array] = []
    last: Any = np.float32(0)
    for t in reversed(range(time)) if go_backwards else range(time):
        if reset is not None:
            restart = reset[:, t]
            states = tuple(_where(restart, a, b) for a, b in zip(first, states, strict=True))
        output, new = step(inputs[:, t], states)
        if reset is not None and outputs:
            last = _where(restart, np.zeros_like(output), last)
        if mask is None:
            states, last = new, output
        else:
            valid = mask[:, t]
            states = tuple(_where(valid, a, b) for a, b in zip(new, states, strict=True))
            last = _where(valid, output, np.float32(0) if zero_output_for_mask else last)
        outputs.append(last)
        if not return_sequences:
            del outputs[:-1]
    return (np.stack(outputs, axis=1) if return_sequences else outputs[-1]), states


def _where(rows: npt.NDArray[np.bool_], a: Any, b: Any) -> Any:
    """The rows of `a` where `rows`, else those of `b`."""
    return np.where(rows.reshape(-1, *[1] * (a.ndim - 1)), a, b)
