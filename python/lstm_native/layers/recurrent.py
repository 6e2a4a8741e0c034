"""What LSTM, GRU and SimpleRNN share: arguments, weights, states, calls of the native recurrence. Floor 4."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lstm_native import _core, activations, constraints, regularizers
from lstm_native.arrays import Shape, positive_int
from lstm_native.errors import check_number
from lstm_native.layers.base import Context, Layer, Tensor, require_backward
from lstm_native.layers.dropout import Dropout
from lstm_native.layers.embedding import IndexedRows
from lstm_native.layers.sequence import SequenceLayer, run_steps
from lstm_native.layers.weights import get_initializer
from lstm_native.variable import Variable

Array = npt.NDArray[np.float32]


def native_function(activation: Any) -> str | tuple[str, float, float] | None:
    """The activation as native cells take it; None where they do not."""
    if isinstance(activation, activations.Parametric):
        return activation.native
    name = activations.native_name(activation)
    return name if name is not None and _core.activation_is_elementwise(name) else None


class RecurrentLayer(SequenceLayer):
    """A native cell over whole sequences: (batch, time, features) to (batch, units).

    Args:
        units: number of units.
        activation: of the candidate, and of the cell's output. A name, None (linear) or a callable.
        recurrent_activation: of the gates, for cells that have some. The same.
        use_bias: whether there is a bias.
        kernel_initializer: start values of the kernel.
        recurrent_initializer: start values of the recurrent kernel.
        bias_initializer: start values of the bias.
        kernel_regularizer, recurrent_regularizer, bias_regularizer: penalties that training adds to the loss.
        activity_regularizer: penalty on the outputs, divided by the number of rows.
        kernel_constraint, recurrent_constraint, bias_constraint: what follows every step of the optimizer.
        dropout: fraction of the features that training drops, in [0, 1]; the same at all steps of a sequence.
        recurrent_dropout: fraction of h that training keeps from the recurrent product, in [0, 1]; the same
            at every step of a sequence and for all gates (Gal and Ghahramani 2016). It takes activations of
            lstm_native.activations.
        seed: of the two; drawn at random by default.
        return_sequences: outputs of all time steps, (batch, time, units), instead of the last.
        return_state: calls return (outputs, states ...), with the last states (batch, units).
        go_backwards: run from the last time step to the first; outputs stay in that order.
        stateful: row i of a call continues from the last state of row i of the call before.
        unroll, use_cudnn, implementation: accepted as Keras has them; results are the same.
        zero_output_for_mask: the output of a masked step is zero instead of the output before it.
        checkpoint_steps: in training, the layer keeps its state at every so many time steps only and computes
            what lies between once more in the backward pass (Chen et al. 2016): memory for
            time / checkpoint_steps + checkpoint_steps steps instead of all, for about a third more time. All
            steps are kept by default.
        clip: what goes into the activations of gates and candidate is held within [-clip, clip], as ONNX has
            it; the states are not.

    Activations may be `activations.Parametric` ones. An activation that is another Python callable, or mixes
    the units of a row (softmax), runs step by step in Python and forward only.
    """

    uncopied: ClassVar[tuple[str, ...]] = ("_packed",)
    config_attributes: ClassVar[dict[str, str | None]] = {"use_cudnn": None, "implementation": None}
    supports_masking = True
    # What a subclass says of its cell.
    gates: int
    state_names: ClassVar[tuple[str, ...]] = ("h",)
    activation_arguments: tuple[str, ...] = ("activation", "recurrent_activation")
    # Of an LSTM: f = 1 - i; weights beside kernel, recurrent_kernel and bias.
    coupled_gates = False
    peepholes: Variable | None = None
    projection_kernel: Variable | None = None

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        *,
        recurrent_activation: Any,
        zero_output_for_mask: bool = False,
        use_cudnn: bool | str = "auto",
        implementation: int | None = None,
        checkpoint_steps: int | None = None,
        clip: float | None = None,
        **kwargs: Any,
    ) -> None:
        kind = type(self).__name__
        units = positive_int(units, kind, "units")
        if checkpoint_steps is not None:
            checkpoint_steps = positive_int(checkpoint_steps, kind, "checkpoint_steps")
        if use_cudnn not in ("auto", False):
            raise ValueError(f"{kind}: use_cudnn is {use_cudnn!r}, expected 'auto' or False")
        if clip is not None:
            check_number(kind, "clip", clip, "a number above 0", lambda bound: bound > 0)
        fractions = {"dropout": dropout, "recurrent_dropout": recurrent_dropout}
        for argument, rate in fractions.items():
            check_number(kind, argument, rate, "a number between 0 and 1", lambda r: 0 <= r <= 1)
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.units = units
        self.dropout = float(dropout)
        self.recurrent_dropout = float(recurrent_dropout)
        self.seed = seed
        self._dropout: Dropout | None = None
        self._recurrent_dropout: Dropout | None = None
        if dropout > 0:  # one mask for all steps
            self._dropout = Dropout(dropout, (None, 1, None), seed, name=f"{self.name}_dropout")
        if recurrent_dropout > 0:
            other_seed = None if seed is None else seed + 1
            self._recurrent_dropout = Dropout(
                recurrent_dropout, seed=other_seed, name=f"{self.name}_recurrent_dropout"
            )
        self.activation = activations.get(activation)
        self.recurrent_activation = activations.get(recurrent_activation)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = get_initializer(kernel_initializer, "glorot_uniform")
        self.recurrent_initializer = get_initializer(recurrent_initializer, "orthogonal")
        self.bias_initializer = get_initializer(bias_initializer, "zeros")
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.recurrent_regularizer = regularizers.get(recurrent_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.recurrent_constraint = constraints.get(recurrent_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.return_sequences = bool(return_sequences)
        self.return_state = bool(return_state)
        self.go_backwards = bool(go_backwards)
        self.stateful = bool(stateful)
        self.unroll = bool(unroll)
        self.zero_output_for_mask = bool(zero_output_for_mask)
        self.checkpoint_steps = checkpoint_steps
        self.clip = None if clip is None else float(clip)
        self._settle()

    def _settle(self) -> None:
        """How the recurrence runs, from the arguments; a subclass with more of them calls it again."""
        functions = {name: native_function(getattr(self, name)) for name in self.activation_arguments}
        self._native = None not in functions.values()
        self._general = self.has_general_cell() or any(isinstance(f, tuple) for f in functions.values())
        if self._general and not self._native:
            argument = next(name for name, function in functions.items() if function is None)
            name = activations.name_of(getattr(self, argument))
            raise ValueError(
                f"{type(self).__name__}: {argument} is {name}; with clip, activations.Parametric and the "
                "LSTM's own options expected an elementwise activation of lstm_native.activations"
            )

    # --- for subclasses ---------------------------------------------------------------------------

    def cell_name(self) -> str:
        """Name of the native cell."""
        raise NotImplementedError(f"{type(self).__name__} defines no cell_name")

    def has_general_cell(self) -> bool:
        """Whether the cell has something that takes the general path of the native code."""
        return self.clip is not None

    @property
    def output_units(self) -> int:
        """Columns of the outputs and of h."""
        return self.units

    def bias_shape(self) -> tuple[int, ...]:
        """Shape of the bias."""
        return (self.gates * self.units,)

    def initial_bias(self, shape: tuple[int, ...], dtype: Any = None) -> Array:
        """Start values of the bias."""
        return np.asarray(self.bias_initializer(shape), np.float32)

    def step_in_python(self, x: Array, states: tuple[Array, ...]) -> tuple[Array, ...]:
        """New states from the projected inputs of one time step, bias included, and the old states."""
        raise NotImplementedError(f"{type(self).__name__} defines no step_in_python")

    def named_state_sizes(self) -> Sequence[tuple[str, int]]:
        sizes = (self.output_units, self.units)  # of h and c
        return list(zip(self.state_names, sizes, strict=False))

    @property
    def state_size(self) -> int | list[int]:
        """Columns of the state, or a list with those of every state."""
        sizes = [size for _, size in self.named_state_sizes()]
        return sizes if len(sizes) > 1 else sizes[0]

    def get_initial_state(self, batch_size: int) -> list[Array]:
        """Zeros for every state, each (batch_size, units)."""
        return [np.zeros((batch_size, size), np.float32) for _, size in self.named_state_sizes()]

    # --- weights ----------------------------------------------------------------------------------

    def create_weights(self, input_shape: Shape) -> None:
        features = input_shape[-1]
        assert features is not None
        columns = self.gates * self.units
        self._features = features
        self.kernel = self.add_weight(
            (features, columns),
            self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            name="kernel",
        )
        self.recurrent_kernel = self.add_weight(
            (self.output_units, columns),
            self.recurrent_initializer,
            regularizer=self.recurrent_regularizer,
            constraint=self.recurrent_constraint,
            name="recurrent_kernel",
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                self.bias_shape(),
                self.initial_bias,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                name="bias",
            )
        self.create_general_weights()
        self._pack()

    def create_general_weights(self) -> None:
        """For subclasses: makes `peepholes` and `projection_kernel`."""

    def make_uncopied(self) -> None:
        if self.built:
            self._pack()

    def _pack(self) -> None:
        if not self._native:
            return
        weights = self.cell_name(), self.kernel, self.recurrent_kernel, self.bias
        activation, recurrent_activation, *output = (
            native_function(getattr(self, name)) or "" for name in self.activation_arguments
        )
        if self._general:
            self._packed = _core.RecurrentWeights.general(
                *weights,
                activation,
                recurrent_activation,
                output[0] if output else activation,
                peepholes=self.peepholes,
                projection=self.projection_kernel,
                coupled=self.coupled_gates,
                clip=self.clip,
            )
        else:
            assert isinstance(activation, str)
            assert isinstance(recurrent_activation, str)
            self._packed = _core.RecurrentWeights(*weights, activation, recurrent_activation)

    def check_input_shape(self, shape: Shape) -> None:
        if len(shape) != 3 or not shape[2]:
            raise self.error(f"input has shape {shape}, expected (batch, time, features)")
        if shape[1] == 0:
            raise self.error(f"input has shape {shape}, expected at least one time step")
        if self.built and shape[2] != self._features:
            raise self.error(f"input has shape {shape}, expected {self._features} features in the last axis")

    def compute_output_shape(self, input_shape: Shape) -> Any:
        batch, time = input_shape[:2]
        units = self.output_units
        outputs: Shape = (batch, time, units) if self.return_sequences else (batch, units)
        if not self.return_state:
            return outputs
        return (outputs, *((batch, size) for _, size in self.named_state_sizes()))

    def check_can_train(self) -> None:
        super().check_can_train()
        for argument in self.activation_arguments:
            activation = getattr(self, argument)
            if native_function(activation) is None:
                require_backward(self, argument, activation)
                name = activations.name_of(activation)
                raise self.error(f"{argument} is {name}, which works forward only in a recurrent layer")

    @property
    def takes_indexed_rows(self) -> bool:
        """Whether `forward` takes `IndexedRows` for the inputs."""
        return (
            self._native
            and not self._general
            and self.checkpoint_steps is None
            and self._dropout is None
            and type(self).forward is RecurrentLayer.forward
        )

    def quantizable(self) -> Sequence[tuple[Variable, int]]:
        return ((self.kernel, 1), (self.recurrent_kernel, 1)) if self._native and not self._general else ()

    def held_layers(self) -> list[Layer]:
        return [layer for layer in (self._dropout, self._recurrent_dropout) if layer is not None]

    # --- calls ------------------------------------------------------------------------------------

    def forward(
        self,
        inputs: Any,
        ctx: Context,
        mask: Tensor | None = None,
        initial_state: tuple[Tensor, ...] | None = None,
        reset: Tensor | None = None,
    ) -> Any:
        """See `SequenceLayer`."""
        if self._native:
            call = self.prepare_forward(inputs, ctx, mask, initial_state, reset)
            return self.finish_forward(_core.recurrent_forward(*call), ctx, initial_state is not None)
        self.check_input_shape(inputs.shape)
        start = self._start(initial_state, inputs.shape[0], ctx)
        if self._dropout is not None:
            inputs = self._dropout.forward(inputs, ctx)
        if self._recurrent_dropout is not None and ctx.training:
            raise self.error("recurrent_dropout takes activations of lstm_native.activations only")
        if ctx.record:
            self.check_can_train()
        return self._handed_over(*self._forward_in_python(inputs, mask, reset, start), ctx)

    def backward(self, d_outputs: Any, ctx: Context, need_d_inputs: bool = True) -> Any:
        """See `SequenceLayer`."""
        run_backward: Any = _core.general_backward if self._general else _core.recurrent_backward
        call, finish = self.prepare_backward(d_outputs, ctx, need_d_inputs)
        return finish(run_backward(*call))

    # What `forward` and `backward` do before and after their native calls, for who makes these calls.

    @property
    def is_native(self) -> bool:
        """Whether `forward` and `backward` are a native call between what prepares and finishes it."""
        own = type(self)
        return (
            self._native and own.forward is RecurrentLayer.forward and own.backward is RecurrentLayer.backward
        )

    def prepare_forward(
        self,
        inputs: Any,
        ctx: Context,
        mask: Tensor | None,
        initial_state: tuple[Tensor, ...] | None,
        reset: Tensor | None,
    ) -> _core.RecurrentCall:
        """The arguments of `_core.recurrent_forward`."""
        self.check_input_shape(inputs.shape)
        start = self._start(initial_state, inputs.shape[0], ctx)
        if self._dropout is not None:
            inputs = self._dropout.forward(inputs, ctx)
        noise: Tensor | None = None
        if self._recurrent_dropout is not None and ctx.training:
            noise = self._recurrent_dropout.noise(
                (inputs.shape[0], self.output_units), self.recurrent_kernel.device
            )
        rows, numbers = (inputs[0], inputs[1]) if isinstance(inputs, IndexedRows) else (inputs, None)
        return (
            self._packed,
            rows,
            mask,
            reset,
            None if start is None else start[0],
            None if start is None or len(start) == 1 else start[1],
            self.return_sequences,
            self.go_backwards,
            self.zero_output_for_mask,
            ctx.record,
            numbers,
            self.checkpoint_steps or 0,
            noise,
            False,
        )

    def finish_forward(self, result: _core.RecurrentResult, ctx: Context, initial_state_given: bool) -> Any:
        """What `forward` returns, from what the native call did."""
        outputs, h, c, saved = result
        if ctx.record:
            ctx.save(self, (saved, initial_state_given))
        return self._handed_over(outputs, h, c, ctx)

    def _handed_over(self, outputs: Tensor, h: Tensor, c: Tensor | None, ctx: Context) -> Any:
        states = (h,) if c is None else (h, c)
        if self.stateful:
            ctx.states[self] = states
        return (outputs, *states) if self.return_state else outputs

    def prepare_backward(
        self, d_outputs: Any, ctx: Context, need_d_inputs: bool
    ) -> tuple[_core.RecurrentBackCall, Callable[[Sequence[Any]], Any]]:
        """The arguments of the native call; what makes of its gradients those that `backward` returns."""
        saved, initial_state_given = ctx.take(self)
        d_out, *d_states = d_outputs if self.return_state else (d_outputs,)
        d_h, d_c = (*d_states, None, None)[:2]
        need_d_inputs = need_d_inputs or self._dropout is not None

        def finish(gradients: Sequence[Any]) -> Any:
            d_inputs, d_kernel, d_recurrent, d_bias, d_h0, d_c0, *d_more = gradients
            ctx.add_gradient(self.kernel, d_kernel)
            ctx.add_gradient(self.recurrent_kernel, d_recurrent)
            if self.bias is not None and d_bias is not None:
                ctx.add_gradient(self.bias, d_bias)
            for variable, gradient in zip((self.peepholes, self.projection_kernel), d_more, strict=False):
                if variable is not None:
                    ctx.add_gradient(variable, gradient)
            if self._dropout is not None and d_inputs is not None:
                d_inputs = self._dropout.backward(d_inputs, ctx)
            if not initial_state_given:
                return d_inputs
            return (d_inputs, d_h0) if d_c0 is None else (d_inputs, d_h0, d_c0)

        return (self._packed, saved, d_out, d_h, d_c, need_d_inputs, initial_state_given), finish

    def add_to_stream(self, stream: _core.Stream) -> None:
        if self.go_backwards:
            raise self.error("go_backwards=True begins at the last time step and cannot run step by step")
        if not self._native:
            names = [activations.name_of(a) for a in (self.activation, self.recurrent_activation)]
            raise self.error(
                f"activation and recurrent_activation are {names[0]} and {names[1]}, "
                "a stream takes elementwise activations of lstm_native.activations only"
            )
        stream.add_recurrent(self._packed, self.zero_output_for_mask)

    def apply(self, argument: str, x: Array) -> Array:
        """The activation called `argument`, of any kind, on an array."""
        y = np.asarray(getattr(self, argument)(x), np.float32)
        if y.shape != x.shape:
            raise self.error(f"{argument} turned shape {x.shape} into {y.shape}")
        return y

    def _forward_in_python(
        self,
        inputs: Tensor,
        mask: Tensor | None,
        reset: Tensor | None,
        start: tuple[Tensor, ...] | None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The recurrence for activations that native code cannot call, one time step after the other."""
        x = inputs.numpy()
        batch = len(x)
        z = x @ self.kernel.numpy()
        if self.bias is not None:
            z += self.bias.numpy().reshape(-1, z.shape[-1])[0]
        zeros = (np.zeros((batch, self.units), np.float32),) * len(self.state_names)

        def step(x: Array, states: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
            new = self.step_in_python(x, states)
            return new[0], new

        output, states = run_steps(
            step,
            z,
            zeros if start is None else tuple(s.numpy() for s in start),
            None if mask is None else mask.numpy(),
            None if reset is None else reset.numpy(),
            go_backwards=self.go_backwards,
            zero_output_for_mask=self.zero_output_for_mask,
            return_sequences=self.return_sequences,
        )
        output_tensor, h, *c = (_core.as_tensor(a, "float32") for a in (output, *states))
        return output_tensor, h, c[0] if c else None
