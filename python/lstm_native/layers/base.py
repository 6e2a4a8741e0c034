"""Layer: what all layers share: names, building, calling, penalties. Floor 4."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from lstm_native import _core, activations, regularizers
from lstm_native.arrays import Result, Shape, optional_int, to_float32, to_shape, to_step_flags
from lstm_native.configurable import Configurable, class_with
from lstm_native.errors import unknown_name, warn
from lstm_native.layers import custom, on_tape, symbolic
from lstm_native.layers.building import build_lock as build_lock
from lstm_native.layers.building import building
from lstm_native.layers.building import restored_on_error as restored_on_error
from lstm_native.layers.building import structure_changed as structure_changed
from lstm_native.layers.building import structure_version as structure_version
from lstm_native.layers.context import Context as Context
from lstm_native.layers.weights import Weighted
from lstm_native.naming import snake_case
from lstm_native.variable import Variable

Tensor = _core.Tensor
_name_counts: dict[str, int] = {}


def _automatic_name(layer: object) -> str:
    base = snake_case(type(layer).__name__)
    with build_lock:
        count = _name_counts.get(base, 0)
        _name_counts[base] = count + 1
    return f"{base}_{count}" if count else base


# Arguments that say the shape of the inputs of a first layer; the last one only of layers over time steps.
SHAPE_ARGUMENTS = (
    "input_shape", "input_dim", "batch_input_shape", "batch_shape", "batch_size", "input_length",
)  # fmt: skip


def forget_names() -> None:
    """Automatic names begin anew."""
    with build_lock:
        _name_counts.clear()


class Layer(symbolic.Callee, Weighted, Configurable):
    """Base of all layers.

    A subclass makes its variables in `create_weights`, and computes in `forward` and `backward`. It holds
    nothing else that changes (the state of a stateful layer excepted), so one layer may serve many threads.

    A layer of your own may also be written as for Keras: `build(input_shape)` makes weights with
    `add_weight`, `call(inputs)` computes the outputs from NumPy arrays, and takes `mask` and `training`
    where it names them. Training goes back through what `call` computes with layers, operators, NumPy's
    functions and those of `ops`; for that it gets values that stand for arrays (`traced.Traced`).

    Args:
        activity_regularizer: penalty on the outputs (name, `Regularizer` or callable), divided by the number
            of rows; None for none.
        name: name of the layer; numbered automatically by default.
        trainable: whether training changes the weights.
        dtype: "float32" or None, the same.
        input_shape: shape of one input without the batch axis; as first layer of a Sequential it makes the
            model build at once.
        input_dim: `input_shape` of one axis; of layers over time steps the number of features, to which
            `input_length` is the number of steps.
        batch_input_shape, batch_shape: `input_shape` with the batch axis; or `batch_size` beside it.

    Attributes:
        supports_masking: whether the mask of the inputs is that of the outputs too.
        ends_masks: whether in a functional model it does not see masks, and outputs have none: it was made
            of an operator, such as `x + y`.
    """

    supports_masking: bool = False
    # Whether the rows of a batch depend on each other in training, where the layer is trainable.
    couples_rows: ClassVar[bool] = False
    # Whether the class computes with a method `call` of its own.
    is_custom: ClassVar[bool] = False

    # Whether its inputs are (batch, time, features).
    over_time_steps: ClassVar[bool] = False
    # Arguments of the Keras constructor that are accepted at the one value that changes nothing.
    neutral_arguments: ClassVar[dict[str, Any]] = {}
    # Whether a `build` of the class looks for itself after what is built, and after other threads.
    builds_in_its_own_way: ClassVar[bool] = False
    # Attributes that copies and pickles leave out; `make_uncopied` makes them anew.
    uncopied: ClassVar[tuple[str, ...]] = ()
    # What the constructor was called with.
    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.is_custom = hasattr(cls, "call")
        if "__call__" in vars(cls):
            cls.__call__ = symbolic.recording(vars(cls)["__call__"])  # type: ignore[method-assign]
        if "build" in vars(cls) and not cls.builds_in_its_own_way:
            cls.build = building(vars(cls)["build"])  # type: ignore[method-assign]
        if cls.is_custom and "compute_mask" in vars(cls):
            cls.compute_mask = custom.on_tensors(vars(cls)["compute_mask"])  # type: ignore[method-assign]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        layer = super().__new__(cls)
        kwargs.pop("weights", None)  # values, not configuration; they may be large
        layer._arguments = args, kwargs
        return layer

    def __init__(
        self,
        *,
        activity_regularizer: Any = None,
        trainable: bool = True,
        dtype: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        kind = type(self).__name__
        # Of layers that operators make: a part of the configuration where it is True.
        self.ends_masks = bool(kwargs.pop("ends_masks", False))
        # The shape of the inputs is the affair of the model: no part of the configuration.
        input_shape = self._take_input_shape(kind, kwargs)
        neutral = {"autocast": True} | self.neutral_arguments
        for argument, value in kwargs.items():
            if argument not in neutral:
                names = [p.name for p in self.constructor_parameters()]
                known = (*names, *SHAPE_ARGUMENTS)
                raise TypeError(f"{kind}: {unknown_name('argument', argument, known)}")
            if value != neutral[argument]:
                raise TypeError(
                    f"{kind}: argument {argument}={value!r} is not supported, "
                    f"only {argument}={neutral[argument]!r}"
                )
        if dtype not in (None, "float32"):
            raise ValueError(f"{kind}: dtype is {dtype!r}, expected 'float32'")
        if not isinstance(trainable, bool):
            raise ValueError(f"{kind}: trainable is {trainable!r}, expected True or False")
        self._activity_regularizer = regularizers.get(activity_regularizer)
        self._activity_losses: list[Any] = []
        self.name = _automatic_name(self) if name is None else str(name)
        self.built = False
        self.dtype = "float32"
        self.given_input_shape = input_shape
        self._trainable = trainable
        self._variables: list[Variable] = []
        self.nodes = []

    def arguments(self, taken: Sequence[Any] | None = None) -> dict[str, Any]:
        """See `Configurable`."""
        found = super().arguments(taken)
        return found | {"ends_masks": True} if self.ends_masks else found

    def _take_input_shape(self, kind: str, arguments: dict[str, Any]) -> Shape | None:
        """The shape of the inputs, batch axis included, which it takes out of a constructor's arguments."""
        names = SHAPE_ARGUMENTS if self.over_time_steps else SHAPE_ARGUMENTS[:-1]
        given = {name: arguments.pop(name, None) for name in names}
        for name in ("batch_input_shape", "batch_shape"):
            if given[name] is not None:
                return to_shape(given[name], kind, name)
        if given["input_shape"] is not None:
            shape = to_shape(given["input_shape"], kind, "input_shape")
        elif given["input_dim"] is not None:
            axes = [given[name] for name in ("input_length", "input_dim") if name in names]
            shape = to_shape(axes, kind, "input_dim")
        else:
            return None
        return (optional_int(given["batch_size"], kind, "batch_size"), *shape)

    # --- for subclasses ---------------------------------------------------------------------------

    def create_weights(self, input_shape: Shape) -> None:
        """Makes the variables for inputs of `input_shape` with `add_weight`."""

    def check_input_shape(self, shape: Shape) -> None:
        """Raises ValueError when inputs of `shape` (None where unknown) do not fit."""

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Shape of the outputs for inputs of `input_shape`, batch axis included, None where unknown."""
        return custom.output_shape(self, input_shape) if self.is_custom else tuple(input_shape)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Mask (batch, time) of the outputs, given the inputs and their mask."""
        return previous_mask if self.supports_masking else None

    def lose_mask(self, mask: Tensor | None) -> None:
        """Warns where inputs have a mask, of which this kind of layer knows nothing, as in Keras."""
        if mask is not None:
            warn(
                f"{self.label()}: the inputs have a mask, which this layer does not use: masked time steps "
                "count, and layers after it see no mask"
            )

    @property
    def unmoved_by_padding(self) -> bool:
        """Whether outputs at valid steps are the same bits with and without masked steps behind them."""
        return False

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Any:
        """Outputs for `inputs`; saves in `ctx` what `backward` needs when `ctx.record`."""
        if not self.is_custom:
            raise NotImplementedError(f"{type(self).__name__} defines neither forward nor call")
        return on_tape.forward(self, inputs, ctx, mask)

    def backward(self, d_outputs: Any, ctx: Context, need_d_inputs: bool = True) -> Any:
        """Gradient of the inputs (None when not needed); adds those of the variables to `ctx`."""
        if not self.is_custom:
            raise NotImplementedError(f"{type(self).__name__} defines no backward")
        return on_tape.backward(self, d_outputs, ctx)

    def add_to_stream(self, stream: _core.Stream) -> None:
        """Adds one time step of this layer to `stream`.

        Raises:
            ValueError: the layer cannot run step by step.
        """
        raise self.error("cannot run step by step in a stream, for it defines no add_to_stream")

    def add_join_to_stream(
        self, stream: _core.Stream, slots: Sequence[int], shapes: Sequence[Any], masked: bool
    ) -> None:
        """The same for a layer of several inputs.

        Args:
            stream: the stream.
            slots: its slots that the layer reads.
            shapes: of the inputs.
            masked: whether some steps may not count.
        """
        self.add_to_stream(stream)

    def check_can_train(self) -> None:
        """Raises ValueError when the layer works forward only."""
        for argument, value in vars(self).items():
            if argument.endswith("_regularizer") and not regularizers.can_train(value):
                raise self.error(
                    f"{argument.lstrip('_')} is {activations.name_of(value)}, which works forward only; "
                    "training needs a regularizer with a method gradient(x)"
                )

    def quantizable(self) -> Sequence[tuple[Variable, int]]:
        """The matrices that `Model.quantize` stores in fewer bits, each with the axis of its scales."""
        return ()

    def check_values(self, inputs: Tensor) -> None:
        """Raises ValueError for values that `forward` would refuse; fit asks before it changes anything."""

    def set_states(self, states: tuple[Tensor, ...]) -> None:
        """Takes the states of the next call; stateful layers only."""

    def reset_state(self) -> None:
        """Forgets the state of a stateful layer, and of those inside a layer written in Python."""
        if self.is_custom:
            for layer in self.held_layers():
                layer.reset_state()

    def held_layers(self) -> Sequence[Layer]:
        """The layers inside this one, for wrappers and models."""
        return custom.layers_among(self, Layer) if self.is_custom else ()

    def make_uncopied(self) -> None:
        """Makes the attributes listed in `uncopied` (locks, packed weights) from the others."""

    def add_loss(self, loss: Any) -> None:
        """For `call` of a layer written in Python: adds a number, or a list of them, to `losses`."""
        self._activity_losses.extend(loss if isinstance(loss, list | tuple) else [loss])

    # --- building and calling ---------------------------------------------------------------------

    def build(self, input_shape: Any = None) -> None:
        """Makes the weights for inputs of `input_shape` (batch axis included); nothing if they are made.

        Raises:
            ValueError: the shape does not fit this kind of layer. Nothing is changed then.
        """
        if self.built:
            return
        shape = input_shape if self.is_custom else to_shape(input_shape, self.label(), "input_shape")
        with build_lock, restored_on_error([self]):
            if not self.built:
                self.check_input_shape(shape)
                self.create_weights(shape)
                self.built = True
                structure_changed()

    def as_input(self, inputs: Any) -> Tensor:
        """`inputs` as a tensor of the type that `forward` takes."""
        if self.is_custom:
            return custom.to_tensor(inputs, self.label(), "input")
        return to_float32(inputs, self.label(), "input")

    @symbolic.recording
    def __call__(
        self, inputs: Any, *arguments: Any, mask: Any = None, training: bool | None = False, **named: Any
    ) -> Any:
        """Outputs for `inputs`, as NumPy arrays; the first call builds the layer.

        On placeholders, which `Input(...)` gives, the call is recorded for a functional model.

        Args:
            inputs: array-like with the batch axis first.
            mask: bool (batch, time), True where a time step counts.
            training: behave as in training.
            arguments, named: further arguments of `call`, for a layer written in Python.
        """
        if self.is_custom:
            return custom.call(self, inputs, arguments, {"mask": mask, "training": training, **named})
        if arguments or named:
            raise TypeError(
                f"{self.label()}: takes inputs, mask and training, got also {[*arguments, *named]}"
            )
        x = self.as_input(inputs)
        return self._call(x, Context(bool(training)), to_step_flags(mask, x.shape, self.label(), "mask"))

    def _call(self, x: Tensor, ctx: Context, mask: Tensor | None, **arguments: Any) -> Any:
        if not self.built:
            self.build(x.shape)
        if x.shape[:1] == (0,):
            self.check_input_shape(x.shape)
            return empty_outputs(self.compute_output_shape(x.shape))
        outputs = self.forward(x, ctx, mask, **arguments)
        if self._activity_regularizer is not None:
            ActivityPenalty(self).forward(outputs, ctx)
        ctx.commit_states()
        return call_outputs(outputs, ctx)

    # --- penalties --------------------------------------------------------------------------------

    @property
    def activity_regularizer(self) -> Callable[[Any], Any] | None:
        """The penalty on the outputs; may be set."""
        return self._activity_regularizer

    @activity_regularizer.setter
    def activity_regularizer(self, value: Any) -> None:
        self._activity_regularizer = regularizers.get(value)
        structure_changed()

    @property
    def losses(self) -> list[Any]:
        """The penalties: those of the outputs of the last call, then those of the trainable weights."""
        weights = [v for v in self.trainable_variables if v.regularizer is not None]
        return self._penalties_of_outputs() + [v.regularizer(v.value) for v in weights if v.regularizer]

    def _penalties_of_outputs(self) -> list[Any]:
        held = (value for layer in self.held_layers() for value in layer._penalties_of_outputs())
        return [*self._activity_losses, *held]

    def losses_of_call(self) -> list[Any]:
        """What the last `call` of a layer written in Python added with `add_loss`, layers inside it too."""
        return self._penalties_of_outputs() if self.is_custom else []

    def set_activity_losses(self, values: list[Any]) -> None:
        """Takes the penalties of the outputs of a call, for `losses`."""
        self._activity_losses = values

    def with_penalty(self) -> list[Layer]:
        """This layer, and behind it the one that adds the penalty of its outputs where there is any."""
        return [self] if self._activity_regularizer is None else [self, ActivityPenalty(self)]

    # --- copies -----------------------------------------------------------------------------------

    def argument(self, name: str, attribute: str) -> Any:
        """See `Configurable`. A class of the caller need not keep what its constructor was given."""
        args, kwargs = self._arguments
        parameters = type(self).constructor_parameters()
        given = dict(zip([p.name for p in parameters], args, strict=False)) | kwargs
        own = name not in ("name", "trainable", "dtype") and name in given
        # An attribute of a base may have the name of an argument of a subclass, and another value.
        if own and not class_with(type(self), name).__module__.startswith("lstm_native."):
            return given[name]
        if hasattr(self, attribute):
            return getattr(self, attribute)
        defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        return (defaults | given)[name]

    def __getstate__(self) -> dict[str, Any]:
        # The calls on placeholders stay behind: they hold whole models.
        left_out = (*self.uncopied, "nodes")
        return {name: value for name, value in self.__dict__.items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.nodes = []
        self.make_uncopied()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"


class ActivityPenalty(Layer):
    """Stands behind a layer with an activity regularizer: outputs pass, their penalty goes into the context.

    Args:
        layer: the layer in front.
    """

    supports_masking = True

    def __init__(self, layer: Layer) -> None:
        super().__init__(name=f"{layer.name}_activity")
        assert layer.activity_regularizer is not None
        self._layer = layer
        self._regularizer = layer.activity_regularizer
        self.built = True

    def forward(self, inputs: Any, ctx: Context, mask: Tensor | None = None) -> Any:
        values, gradients = ctx.penalties.setdefault(self._layer, []), []
        for tensor in inputs if isinstance(inputs, tuple) else (inputs,):
            value, gradient = regularizers.penalty(self._regularizer, tensor, ctx.record)
            rows = max(tensor.shape[0], 1)
            values.append(value / rows)
            if gradient is not None:
                _core.scale_(gradient, 1 / rows)
                gradients.append(gradient)
        if ctx.record:
            ctx.save(self, gradients)
        return inputs

    def backward(self, d_outputs: Any, ctx: Context, need_d_inputs: bool = True) -> Any:
        gradients = ctx.take(self)
        given = d_outputs if isinstance(d_outputs, tuple) else (d_outputs,)
        for gradient, d_output in zip(gradients, given, strict=True):
            if d_output is not None:
                _core.add_(gradient, d_output)
        return tuple(gradients) if isinstance(d_outputs, tuple) else gradients[0]

    def add_to_stream(self, stream: _core.Stream) -> None:
        pass  # penalties are a matter of training


def empty_outputs(shape: Any) -> Any:
    """Outputs of an empty batch; `shape` is one shape or a tuple of them."""
    if shape and isinstance(shape[0], tuple):
        return tuple(empty_outputs(s) for s in shape)
    return np.empty([0 if size is None else size for size in shape], np.float32)


def call_outputs(outputs: Any, ctx: Context) -> Any:
    """What a call gives back: NumPy arrays on the tensors' memory; tensors where they are on a GPU.

    The memory is the caller's from now on: see `own_outputs`.
    """
    outputs = own_outputs(outputs, ctx)
    if isinstance(outputs, tuple):
        return tuple(t.numpy().view(Result) if t.device == "cpu" else t for t in outputs)
    return outputs.numpy().view(Result) if outputs.device == "cpu" else outputs


def numpy_outputs(outputs: Any, ctx: Context) -> Any:
    """The same, on the host in any case."""
    outputs = own_outputs(outputs, ctx)
    return tuple(t.numpy() for t in outputs) if isinstance(outputs, tuple) else outputs.numpy()


def own_outputs(outputs: Any, ctx: Context) -> Any:
    """Outputs of the pass `ctx` as tensors that nobody else holds, copied only where somebody does.

    What layers pass through is the caller's own array; states may be those that a stateful layer keeps; and
    an output may stand in several places.
    """
    if not (ctx.states or isinstance(outputs, tuple)):
        return outputs.own()
    held = {id(state) for states in ctx.states.values() for state in states}
    own = []
    for tensor in outputs if isinstance(outputs, tuple) else (outputs,):
        own.append(tensor.copy() if id(tensor) in held else tensor.own())
        held.add(id(tensor))
    return tuple(own) if isinstance(outputs, tuple) else own[0]


def require_backward(layer: Layer, argument: str, activation: activations.Activation) -> None:
    """Raises ValueError when `activation` has no backward."""
    if activations.native_name(activation) is None:
        raise layer.error(
            f"{argument} is the Python callable {activations.name_of(activation)}, which works forward only; "
            "training needs an activation of lstm_native.activations with its default parameters"
        )
