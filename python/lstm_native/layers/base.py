"""Layer: what all layers share (names, weights, building, calling); Context: one pass through a model."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from lstm_native import _core, activations, initializers
from lstm_native.arrays import Shape, to_float32, to_numpy, to_shape, to_step_flags
from lstm_native.locks import Lock
from lstm_native.naming import snake_case
from lstm_native.variable import Variable

Tensor = _core.Tensor
# One lock for all building: it is rare, and layers may be shared between models.
build_lock = Lock()
_name_counts: dict[str, int] = {}
_structure_versions = itertools.count(1)
_structure_version = 0


def structure_version() -> int:
    """Changes whenever a layer is built or its `trainable` is set; plans made before are stale."""
    return _structure_version


def structure_changed() -> None:
    """Makes every stored plan stale."""
    global _structure_version
    _structure_version = next(_structure_versions)


def _automatic_name(layer: object) -> str:
    base = snake_case(type(layer).__name__)
    with build_lock:
        count = _name_counts.get(base, 0)
        _name_counts[base] = count + 1
    return f"{base}_{count}" if count else base


class Context:
    """One forward pass, and its backward pass when it is recorded.

    Args:
        training: layers behave as in training (dropout).
        record: layers keep what `backward` needs.

    Attributes:
        mask: bool tensor (batch, time) of the model's output after a forward pass, or None.
        gradients: gradient of every variable that backward has reached.
        states: new states of stateful layers; they take effect with `commit_states`.
    """

    __slots__ = ("_saved", "gradients", "mask", "record", "states", "training")

    def __init__(self, training: bool = False, record: bool = False) -> None:
        self.training = training
        self.record = record
        self.mask: Tensor | None = None
        self.gradients: dict[Variable, Tensor] = {}
        self.states: dict[Layer, tuple[Tensor, ...]] = {}
        self._saved: dict[Layer, list[Any]] = {}

    def save(self, layer: Layer, value: Any) -> None:
        """Keeps `value` for the backward pass of `layer`; a stack, so that a layer may be used twice."""
        self._saved.setdefault(layer, []).append(value)

    def take(self, layer: Layer) -> Any:
        """The value saved last for `layer`, which is forgotten."""
        return self._saved[layer].pop()

    def add_gradient(self, variable: Variable, gradient: Tensor) -> None:
        """Adds to the gradient of `variable`."""
        known = self.gradients.get(variable)
        if known is None:
            self.gradients[variable] = gradient
        else:
            _core.add_(known, gradient)

    def commit_states(self) -> None:
        """Gives stateful layers their new states. Called when the whole pass has succeeded."""
        for layer, states in self.states.items():
            layer.set_states(states)


class Layer:
    """Base of all layers.

    A subclass makes its variables in `create_weights`, and computes in `forward` and `backward`. It holds
    nothing else that changes (the state of a stateful layer excepted), so one layer may serve many threads.

    Args:
        name: name of the layer; numbered automatically by default.
        trainable: whether training changes the weights.
        dtype: "float32" or None, the same.
        input_shape: shape of one input without the batch axis; as first layer of a Sequential it makes the
            model build at once.
    """

    # Arguments of the Keras constructor that are accepted at the one value that changes nothing.
    neutral_arguments: ClassVar[dict[str, Any]] = {}
    # Attributes that copies and pickles leave out; `make_uncopied` makes them anew.
    uncopied: ClassVar[tuple[str, ...]] = ()
    # What the constructor was called with, for `clone_layer`.
    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        layer = super().__new__(cls)
        kwargs.pop("weights", None)  # values, not configuration; they may be large
        layer._arguments = args, kwargs
        return layer

    def __init__(
        self,
        *,
        name: str | None = None,
        trainable: bool = True,
        dtype: str | None = None,
        input_shape: Sequence[int | None] | None = None,
        **kwargs: Any,
    ) -> None:
        kind = type(self).__name__
        neutral = {"activity_regularizer": None, "autocast": True} | self.neutral_arguments
        for argument, value in kwargs.items():
            if argument not in neutral:
                raise TypeError(f"{kind}: unknown argument {argument!r}")
            if value != neutral[argument]:
                raise TypeError(
                    f"{kind}: argument {argument}={value!r} is not supported, "
                    f"only {argument}={neutral[argument]!r}"
                )
        if dtype not in (None, "float32"):
            raise ValueError(f"{kind}: dtype is {dtype!r}, expected 'float32'")
        if not isinstance(trainable, bool):
            raise ValueError(f"{kind}: trainable is {trainable!r}, expected True or False")
        self.name = _automatic_name(self) if name is None else str(name)
        self.built = False
        self.dtype = "float32"
        self.given_input_shape = None if input_shape is None else to_shape(input_shape, kind, "input_shape")
        self._trainable = trainable
        self._variables: list[Variable] = []

    # --- for subclasses ---------------------------------------------------------------------------

    def create_weights(self, input_shape: Shape) -> None:
        """Makes the variables for inputs of `input_shape` with `add_weight`."""

    def check_input_shape(self, shape: Shape) -> None:
        """Raises ValueError when inputs of `shape` (None where unknown) do not fit."""

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Shape of the outputs for inputs of `input_shape`, batch axis included, None where unknown."""
        return tuple(input_shape)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Mask (batch, time) of the outputs, given the inputs and their mask."""
        return previous_mask

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Any:
        """Outputs for `inputs`; saves in `ctx` what `backward` needs when `ctx.record`."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def backward(self, d_outputs: Any, ctx: Context, need_d_inputs: bool = True) -> Any:
        """Gradient of the inputs (None when not needed); adds those of the variables to `ctx`."""
        raise NotImplementedError(f"{type(self).__name__} defines no backward")

    def add_to_stream(self, stream: _core.Stream) -> None:
        """Adds one time step of this layer to `stream`.

        Raises:
            ValueError: the layer cannot run step by step.
        """
        raise self.error("cannot run step by step in a stream, for it defines no add_to_stream")

    def check_can_train(self) -> None:
        """Raises ValueError when the layer works forward only."""

    def check_values(self, inputs: Tensor) -> None:
        """Raises ValueError for values that `forward` would refuse; fit asks before it changes anything."""

    def set_states(self, states: tuple[Tensor, ...]) -> None:
        """Takes the states of the next call; stateful layers only."""

    def reset_state(self) -> None:
        """Forgets the state of a stateful layer; nothing to do for others."""

    def held_layers(self) -> Sequence[Layer]:
        """The layers inside this one, for wrappers and models."""
        return ()

    def named_variables(self) -> dict[str, Variable]:
        """All variables, by names that depend on the structure of the layer alone, as files need them."""
        return {variable.name: variable for variable in self.variables}

    def make_uncopied(self) -> None:
        """Makes the attributes listed in `uncopied` (locks, packed weights) from the others."""

    def add_weight(
        self, name: str, shape: tuple[int, ...], initializer: Callable[..., Any], trainable: bool = True
    ) -> Variable:
        """A new variable of this layer.

        Args:
            name: its name in the layer.
            shape: its shape.
            initializer: callable `(shape) -> array`.
            trainable: whether an optimizer may change it.
        """
        if math.prod(shape) * 4 > sys.maxsize:
            raise self.error(f"weight {name} of shape {shape} is larger than the address space")
        try:
            values = to_numpy(initializer(shape), self.label(), f"initial value of {name}")
        except MemoryError:
            raise MemoryError(
                f"{self.label()}: weight {name} of shape {shape} takes {math.prod(shape) * 4} bytes, "
                "more than there is memory"
            ) from None
        if values.shape != shape:
            raise self.error(f"initializer of {name} made an array of shape {values.shape}, expected {shape}")
        variable = Variable(values, name, trainable and self._trainable, f"{self.name}/{name}")
        self._variables.append(variable)
        return variable

    # --- building and calling ---------------------------------------------------------------------

    def label(self) -> str:
        """How messages call this layer."""
        return f"{type(self).__name__} {self.name!r}"

    def error(self, message: str) -> ValueError:
        """A ValueError that names this layer."""
        return ValueError(f"{self.label()}: {message}")

    def build(self, input_shape: Any) -> None:
        """Makes the weights for inputs of `input_shape` (batch axis included); nothing if they are made.

        Raises:
            ValueError: the shape does not fit this kind of layer. Nothing is changed then.
        """
        if self.built:
            return
        shape = to_shape(input_shape, self.label(), "input_shape")
        with build_lock, restored_on_error([self]):
            if not self.built:
                self.check_input_shape(shape)
                self.create_weights(shape)
                self.built = True
                structure_changed()

    def as_input(self, inputs: Any) -> Tensor:
        """`inputs` as a tensor of the type that `forward` takes."""
        return to_float32(inputs, self.label(), "input")

    def __call__(self, inputs: Any, *, mask: Any = None, training: bool = False) -> Any:
        """Outputs for `inputs`, as NumPy arrays; the first call builds the layer.

        Args:
            inputs: array-like with the batch axis first.
            mask: bool (batch, time), True where a time step counts.
            training: behave as in training.
        """
        x = self.as_input(inputs)
        return self._call(x, Context(bool(training)), to_step_flags(mask, x.shape, self.label(), "mask"))

    def _call(self, x: Tensor, ctx: Context, mask: Tensor | None, **arguments: Any) -> Any:
        if not self.built:
            self.build(x.shape)
        if x.shape[:1] == (0,):
            self.check_input_shape(x.shape)
            return empty_outputs(self.compute_output_shape(x.shape))
        outputs = self.forward(x, ctx, mask, **arguments)
        ctx.commit_states()
        return numpy_outputs(outputs)

    # --- weights ----------------------------------------------------------------------------------

    @property
    def trainable(self) -> bool:
        """Whether training changes the weights."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        for variable in self._variables:
            variable.trainable = self._trainable
        structure_changed()

    @property
    def variables(self) -> list[Variable]:
        """All variables."""
        return list(self._variables)

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

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in self.uncopied}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.make_uncopied()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"


@contextmanager
def restored_on_error(layers: Sequence[Layer]) -> Iterator[None]:
    """Puts every attribute of `layers` back when the body fails: a failed build leaves no trace."""
    before = [(layer, layer.__dict__.copy(), list(layer._variables)) for layer in _with_held(layers)]
    try:
        yield
    except BaseException:
        for layer, attributes, variables in before:
            layer.__dict__.clear()
            layer.__dict__.update(attributes)
            layer._variables = variables
        raise


def _with_held(layers: Sequence[Layer]) -> Iterator[Layer]:
    for layer in layers:
        yield layer
        yield from _with_held(layer.held_layers())


def clone_layer(layer: Layer, **changes: Any) -> Layer:
    """A new layer like `layer`, with weights of its own: its constructor's arguments, but for `changes`.

    Layers and initializers among the arguments are made anew too.

    Raises:
        TypeError: the constructor does not take an argument of `changes`.
    """
    import inspect  # not at the top: it costs, and few programs come here

    args, kwargs = layer._arguments
    names = list(inspect.signature(layer.__init__).parameters)  # type: ignore[misc]
    given = dict(zip(names, args, strict=False)) | kwargs
    clone: Layer = type(layer)(**{name: _made_anew(value) for name, value in given.items()} | changes)
    return clone


def _made_anew(value: Any) -> Any:
    if isinstance(value, Layer):
        return clone_layer(value)
    if isinstance(value, initializers.Initializer):
        return type(value)(**value.get_config())  # with another seed, where none was given
    if isinstance(value, list | tuple):
        return type(value)(_made_anew(item) for item in value)
    return value


def empty_outputs(shape: Any) -> Any:
    """Outputs of an empty batch; `shape` is one shape or a tuple of them."""
    if shape and isinstance(shape[0], tuple):
        return tuple(empty_outputs(s) for s in shape)
    return np.empty([0 if size is None else size for size in shape], np.float32)


def numpy_outputs(outputs: Any) -> Any:
    """Tensors as the NumPy arrays that share their memory."""
    if isinstance(outputs, tuple):
        return tuple(t.numpy() for t in outputs)
    return outputs.numpy()


def get_initializer(identifier: Any, default: str) -> Callable[..., Any]:
    """The initializer `identifier`, or the one called `default` for None."""
    return initializers.get(default if identifier is None else identifier)  # type: ignore[return-value]


def require_backward(layer: Layer, argument: str, activation: activations.Activation) -> None:
    """Raises ValueError when `activation` has no backward."""
    if activations.native_name(activation) is None:
        raise layer.error(
            f"{argument} is the Python callable {activations.name_of(activation)}, which works forward only; "
            "training needs an activation of lstm_native.activations with its default parameters"
        )
