"""A recurrent layer in both directions. Floor 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from lstm_native import _core
from lstm_native.arrays import Shape, to_step_flags
from lstm_native.layers.base import ActivityPenalty, Layer, Tensor
from lstm_native.layers.cloning import clone_layer
from lstm_native.layers.context import Context
from lstm_native.layers.recurrent import RecurrentLayer
from lstm_native.layers.sequence import SequenceLayer
from lstm_native.trees import flat

_MERGE_MODES = ("sum", "mul", "ave", "concat", None)
_COMMON = ("stateful", "return_sequences", "return_state")


class Bidirectional(Layer):
    """A recurrent layer and a second one that reads the sequence from its end, with their outputs joined.

    Both are made from the constructor's arguments of `layer`, with new weights. The outputs of the second are
    put back in the order of the inputs before they are joined; with `return_sequences`, outputs of masked
    steps are zero. Weights: those of `forward_layer`, then those of `backward_layer`.

    Args:
        layer: the recurrent layer.
        merge_mode: "concat" (features side by side), "sum", "mul", "ave" (mean); None gives both outputs.
        weights: arrays to start from, in the order of `get_weights`.
        backward_layer: a layer for the other direction, used as it is; it needs the other `go_backwards`, and
            equal `stateful`, `return_sequences` and `return_state`.
    """

    supports_masking = True
    config_attributes: ClassVar[dict[str, str | None]] = {"layer": "forward_layer", "weights": None}

    def __init__(
        self,
        layer: Layer,
        merge_mode: str | None = "concat",
        weights: Sequence[Any] | None = None,
        backward_layer: Layer | None = None,
        **kwargs: Any,
    ) -> None:
        for argument, given in (("layer", layer), ("backward_layer", backward_layer)):
            if given is None and argument == "backward_layer":
                continue
            if not isinstance(given, Layer) or not all(hasattr(given, a) for a in ("go_backwards", *_COMMON)):
                raise ValueError(
                    f"Bidirectional: {argument} is a {type(given).__name__}, expected a recurrent layer"
                )
        if merge_mode not in _MERGE_MODES:
            raise ValueError(f"Bidirectional: merge_mode is {merge_mode!r}, expected one of {_MERGE_MODES}")
        super().__init__(**kwargs)
        name = layer.name
        try:
            self.forward_layer: Any = clone_layer(layer, name=f"forward_{name.removeprefix('forward_')}")
            if backward_layer is None:
                backward_name = f"backward_{name.removeprefix('backward_')}"
                backward_layer = clone_layer(layer, name=backward_name, go_backwards=True)
        except TypeError as error:
            raise self.error(
                f"cannot make another {type(layer).__name__} ({error}), expected a constructor that takes "
                "name and go_backwards"
            ) from error
        self.backward_layer: Any = backward_layer
        for attribute in ("go_backwards", *_COMMON):
            first, second = (getattr(direction, attribute) for direction in self.held_layers())
            if (first == second) == (attribute == "go_backwards"):
                expected = "different values" if first == second else "the same"
                raise self.error(f"the directions have {attribute} {first} and {second}, expected {expected}")
        for direction in self.held_layers():
            if hasattr(direction, "zero_output_for_mask"):
                direction.zero_output_for_mask = self.return_sequences
        # One native call runs both directions.
        self._at_once = all(
            isinstance(direction, RecurrentLayer) and direction.is_native for direction in self.held_layers()
        )
        self.merge_mode = merge_mode
        self._start_weights = weights
        if not self.trainable:
            self.trainable = False  # of the directions too

    def held_layers(self) -> Sequence[Any]:
        return self.forward_layer, self.backward_layer

    @property
    def return_sequences(self) -> bool:
        """Whether the outputs are those of all time steps."""
        return bool(self.forward_layer.return_sequences)

    @property
    def return_state(self) -> bool:
        """Whether calls return the last states too."""
        return bool(self.forward_layer.return_state)

    @property
    def stateful(self) -> bool:
        """Whether the states are kept from call to call."""
        return bool(self.forward_layer.stateful)

    @property
    def takes_indexed_rows(self) -> bool:
        """Whether `forward` takes `IndexedRows` for the inputs."""
        return all(getattr(layer, "takes_indexed_rows", False) for layer in self.held_layers())

    @property
    def unmoved_by_padding(self) -> bool:
        """Whether outputs at valid steps are the same bits with and without masked steps behind them."""
        # The outputs of `backward_layer` are turned round, so there padding is behind the others again.
        return all(
            isinstance(layer, SequenceLayer) and not layer.is_custom for layer in self.held_layers()
        ) and (not (self.return_sequences and self.forward_layer.go_backwards))

    # --- building and shapes ----------------------------------------------------------------------

    def create_weights(self, input_shape: Shape) -> None:
        for layer in self.held_layers():
            layer.build(input_shape)
        if self._start_weights is not None:
            self.set_weights(self._start_weights)

    def check_input_shape(self, shape: Shape) -> None:
        for layer in self.held_layers():
            layer.check_input_shape(shape)
        units = [self._output_shapes(layer, shape)[0][-1] for layer in self.held_layers()]
        if self.merge_mode not in ("concat", None) and units[0] != units[1]:
            raise self.error(
                f"the directions have {units[0]} and {units[1]} units, which merge_mode={self.merge_mode!r} "
                "cannot join"
            )

    def _output_shapes(self, layer: Any, shape: Shape) -> tuple[Shape, ...]:
        """Of the outputs, and of the states that are returned."""
        shapes = layer.compute_output_shape(shape)
        return tuple(shapes) if self.return_state else (shapes,)

    def compute_output_shape(self, input_shape: Shape) -> Any:
        (forward, *states), (backward, *more) = (
            self._output_shapes(layer, input_shape) for layer in self.held_layers()
        )
        if self.merge_mode is None:
            return (forward, backward, *states, *more)
        joined = forward
        if self.merge_mode == "concat":
            units, more_units = forward[-1], backward[-1]
            joined = (*forward[:-1], None if units is None or more_units is None else units + more_units)
        return (joined, *states, *more) if self.return_state else joined

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Mask of the outputs: that of the inputs with `return_sequences`, else None.

        Without `merge_mode` one for each direction.
        """
        mask = previous_mask if self.return_sequences else None
        return (mask, mask) if self.merge_mode is None else mask

    def as_input(self, inputs: Any) -> Tensor:
        return self.forward_layer.as_input(inputs)  # type: ignore[no-any-return]

    def check_can_train(self) -> None:
        for layer in self.held_layers():
            layer.check_can_train()

    # --- state ------------------------------------------------------------------------------------

    @property
    def states(self) -> list[Any] | None:
        """Copies of the kept states, those of the forward layer first; None when they are zero."""
        states = [layer.states for layer in self.held_layers()]
        return None if None in states else [state for each in states for state in each]

    def reset_state(self) -> None:
        """Sets the states of both directions to zero."""
        for layer in self.held_layers():
            layer.reset_state()

    def reset_states(self) -> None:
        """Older name of `reset_state`."""
        self.reset_state()

    # --- calls ------------------------------------------------------------------------------------

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
            initial_state: list of the states of the forward layer, then those of the backward layer.
            mask: bool (batch, time); False steps are skipped.
            training: behave as in training.
            reset: bool (batch, time); a True step begins another sequence: neither direction carries its
                state over the boundary before it.

        Returns:
            The joined outputs, or a tuple: both outputs without `merge_mode`, and with `return_state` the
            last states of the forward layer and of the backward layer.
        """
        x = self.as_input(inputs)
        self.check_input_shape(x.shape)
        outputs = self._call(
            x,
            Context(bool(training)),
            to_step_flags(mask, x.shape, self.label(), "mask"),
            initial_state=self.states_from(initial_state, x.shape[0]),
            reset=to_step_flags(reset, x.shape, self.label(), "reset"),
        )
        if not self.return_state:
            return outputs
        leaves = flat(outputs)
        count = 2 if self.merge_mode is None else 1
        forward, backward = (
            layer.packed_states(states)
            for layer, states in zip(self.held_layers(), self._parts(leaves[count:]), strict=True)
        )
        return (*leaves[:count], *forward, *backward)

    def states_from(self, given: Any, batch: int) -> tuple[Tensor, ...] | None:
        """The initial states that a caller gave for `batch` rows, as tensors."""
        if given is None:
            return None
        states: list[Tensor] = []
        for layer, part in zip(self.held_layers(), self._given_parts(given), strict=True):
            states += layer.states_from(part, batch)
        return tuple(states)

    def check_states(self, given: Any, shapes: Sequence[Shape], batch: int | None) -> None:
        parts = self._given_parts(given), self._parts(shapes)
        for layer, part, its_shapes in zip(self.held_layers(), *parts, strict=True):
            layer.check_states(part, its_shapes, batch)

    def _parts(self, states: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
        """What there is for every state: of the forward layer, and of the backward layer."""
        count = len(self.forward_layer.named_state_sizes())
        return states[:count], states[count:]

    def _given_parts(self, given: Any) -> tuple[Sequence[Any], Sequence[Any]]:
        """The initial states that a caller gave, for the forward and for the backward layer."""
        expected = sum(len(layer.named_state_sizes()) for layer in self.held_layers())
        states = flat(given) if isinstance(given, list | tuple) else []
        if len(states) != expected:
            what = f" of {len(states)}" if isinstance(given, list | tuple) else ""
            raise self.error(
                f"initial_state is a {type(given).__name__}{what}, expected a list of {expected}: the states "
                "of the forward layer, then those of the backward layer"
            )
        return self._parts(states)

    def forward(
        self,
        inputs: Any,
        ctx: Context,
        mask: Tensor | None = None,
        initial_state: Sequence[Tensor] | None = None,
        reset: Tensor | None = None,
    ) -> Any:
        """Outputs, or a tuple as `__call__` returns it.

        Args:
            inputs: (batch, time, features), a tensor or `IndexedRows`.
            ctx: the running pass.
            mask: bool (batch, time).
            initial_state: states of the forward layer, then those of the backward layer.
            reset: bool (batch, time).
        """
        self.check_input_shape(inputs.shape)
        given: list[Any] = [None, None]
        if initial_state is not None:
            given = [tuple(part) for part in self._parts(initial_state)]
        joined = self._joins()
        outputs: list[Tensor] = []
        states: list[Tensor] = []
        penalties: list[ActivityPenalty | None] = []
        for layer, result in zip(
            self.held_layers(), self._results(inputs, ctx, mask, given, reset, joined), strict=True
        ):
            penalty = None if layer.activity_regularizer is None else ActivityPenalty(layer)
            if penalty is not None:
                penalty.forward(result, ctx)
            penalties.append(penalty)
            output, *rest = result if self.return_state else (result,)
            outputs.append(output)
            states += rest
        y, y_rev = outputs
        if ctx.record:
            factors = (y, y_rev) if self.merge_mode == "mul" else (None, None)
            ctx.save(self, (joined, y.shape[-1], factors, penalties))
        if self.merge_mode is None:
            return (y, _core.merge_forward("concat", None, y_rev), *states)
        output = y if joined else _core.merge_forward(self.merge_mode, y, y_rev)
        return (output, *states) if self.return_state else output

    def _joins(self) -> bool:
        """Whether both directions write the joined output."""
        first, second = self.forward_layer, self.backward_layer
        return bool(
            self._at_once
            and self.merge_mode == "concat"
            and first.return_sequences
            and not first.go_backwards
            and first.activity_regularizer is None
            and second.activity_regularizer is None
        )

    def _results(
        self,
        inputs: Any,
        ctx: Context,
        mask: Tensor | None,
        given: Sequence[tuple[Tensor, ...] | None],
        reset: Tensor | None,
        joined: bool,
    ) -> tuple[Any, Any]:
        """What `forward` of each direction returns; with `joined` the same output, that of both."""
        first, second = self.forward_layer, self.backward_layer
        calls = (
            (inputs, ctx, mask, given[0], _reset_of(first, reset)),
            (inputs, ctx, mask, given[1], _reset_of(second, reset)),
        )
        if not self._at_once:
            return first.forward(*calls[0]), second.forward(*calls[1])
        results = _core.recurrent_forward_together(
            (first.prepare_forward(*calls[0]), second.prepare_forward(*calls[1])), joined
        )
        return (
            first.finish_forward(results[0], ctx, given[0] is not None),
            second.finish_forward(results[1], ctx, given[1] is not None),
        )

    def backward(self, d_outputs: Any, ctx: Context, need_d_inputs: bool = True) -> Any:
        """Gradient of the inputs; (d_inputs, gradients of the initial states) when those were given.

        Args:
            d_outputs: gradients of what `forward` returned; each item of a tuple may be None.
            ctx: the running pass.
            need_d_inputs: whether the gradient of the inputs is wanted.
        """
        joined, units, factors, penalties = ctx.take(self)
        parts = list(d_outputs) if isinstance(d_outputs, tuple) else [d_outputs]
        if self.merge_mode is None:
            d_y, d_rev, *d_states = parts
            if d_rev is not None:
                d_rev = _core.merge_backward("concat", d_rev, 0, None, None)[1]
        else:
            d_joined, *d_states = parts
            d_y = d_rev = d_joined if joined else None
            if d_joined is not None and not joined:
                d_y, d_rev = _core.merge_backward(self.merge_mode, d_joined, units, *factors)
        d_results = []
        for d_output, d_state, penalty in zip((d_y, d_rev), self._parts(d_states), penalties, strict=True):
            d_result = (d_output, *d_state) if self.return_state else d_output
            d_results.append(d_result if penalty is None else penalty.backward(d_result, ctx))
        d_inputs: Tensor | None = None
        d_initial: list[Tensor] = []
        for d in self._gradients(d_results, ctx, need_d_inputs):
            if isinstance(d, tuple):
                d, *rest = d
                d_initial += rest
            if d_inputs is None:
                d_inputs = d
            elif d is not None:
                _core.add_(d_inputs, d)
        return (d_inputs, *d_initial) if d_initial else d_inputs

    def _gradients(self, d_results: Sequence[Any], ctx: Context, need_d_inputs: bool) -> tuple[Any, Any]:
        """What `backward` of each direction returns."""
        first, second = self.forward_layer, self.backward_layer
        if not self._at_once:
            return (
                first.backward(d_results[0], ctx, need_d_inputs),
                second.backward(d_results[1], ctx, need_d_inputs),
            )
        call, finish = first.prepare_backward(d_results[0], ctx, need_d_inputs)
        other_call, finish_other = second.prepare_backward(d_results[1], ctx, need_d_inputs)
        gradients = _core.recurrent_backward_together((call, other_call))
        return finish(gradients[0]), finish_other(gradients[1])

    def add_to_stream(self, stream: _core.Stream) -> None:
        raise self.error("reads the sequence from its end too and cannot run step by step in a stream")


def _reset_of(layer: Any, reset: Tensor | None) -> Tensor | None:
    """Where `layer` resets its state, so that nothing crosses the boundary before a True step of `reset`."""
    if reset is None or not layer.go_backwards:
        return reset
    # Who comes from the end crosses the boundary at the step before it.
    flags = reset.numpy()
    return _core.as_tensor(np.pad(flags[:, 1:], ((0, 0), (0, 1))), "bool")
