"""Sequential: a list of layers that is built, called, trained, saved and described as one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import Any, ClassVar, TypeVar

from lstm_native import _core, saving
from lstm_native.arrays import Shape, positive_int, to_shape, to_step_flags
from lstm_native.layers.base import (
    Context,
    Layer,
    Tensor,
    build_lock,
    restored_on_error,
    structure_changed,
    structure_version,
)
from lstm_native.layers.core import ActivationAtEnd, Embedding, InputLayer
from lstm_native.naming import snake_case
from lstm_native.streaming import Stream
from lstm_native.summary import print_summary
from lstm_native.training import Trainer
from lstm_native.variable import Variable

_T = TypeVar("_T")
# A layer and its `forward`, or another method that takes its place.
_Step = tuple[Layer, Callable[[Any, Context, Tensor | None], Any]]


class _Plan:
    """What a pass needs to know of a model, worked out once for each change of its structure."""

    def __init__(self, layers: list[Layer], version: int) -> None:
        self.version = version
        self.can_train = False  # until check_can_train has found nothing against it
        self.shapes: tuple[Shape | None, Any] = None, None  # of inputs and outputs, as asked for last
        self.layers = layers
        self.steps: list[_Step] = [
            (layer, _forward_into(layer, following)) for layer, following in zip_longest(layers, layers[1:])
        ]
        self.first = next((layer for layer in layers if not isinstance(layer, InputLayer)), None)
        self.variables = _unique(v for layer in layers for v in layer.trainable_variables)
        trained = (i for i, layer in enumerate(layers) if layer.trainable_variables)
        self.first_trained = next(trained, len(layers))
        self.stateful = [layer for layer in layers if getattr(layer, "stateful", False)]


class Sequential(Trainer):
    """A model of layers, each fed with the outputs of the one before.

    It builds when it knows the shape of its inputs: from an `Input` as first item, from the first
    layer's `input_shape`, from `build(input_shape)`, or from the first data it sees.

    Models and layers can be copied (`copy.deepcopy`) and pickled, with weights, optimizer and state.

    Args:
        layers: layers to start with.
        trainable: False freezes all layers.
        name: name of the model; numbered automatically by default.
    """

    uncopied: ClassVar[tuple[str, ...]] = (*Trainer.uncopied, "_current_plan")

    def __init__(
        self, layers: Iterable[Layer] | None = None, trainable: bool = True, name: str | None = None
    ) -> None:
        super().__init__(name=name, trainable=trainable)
        self._layers: list[Layer] = []
        self._build_shape: Shape | None = None
        if isinstance(layers, Layer) or not isinstance(layers, Iterable | None):
            raise TypeError(f"{self.label()}: layers is a {type(layers).__name__}, expected a list of layers")
        for layer in layers or ():
            self.add(layer, rebuild=False)
        self._build_if_shape_known()
        if not trainable:
            self.trainable = False

    def make_uncopied(self) -> None:
        super().make_uncopied()
        self._current_plan: _Plan | None = None

    # --- the list ---------------------------------------------------------------------------------

    @property
    def layers(self) -> list[Layer]:
        """The layers, without the `Input`."""
        return (
            self._layers[1:]
            if self._layers and isinstance(self._layers[0], InputLayer)
            else list(self._layers)
        )

    @layers.setter
    def layers(self, _: Any) -> None:
        raise AttributeError(f"{self.label()}: layers cannot be set. Use `add()` and `pop()` to change them")

    def add(self, layer: Layer, rebuild: bool = True) -> None:
        """Appends a layer; a model whose input shape is known builds it at once.

        Args:
            layer: the layer.
            rebuild: whether to build now.

        Raises:
            TypeError: it is no layer.
            ValueError: its name is taken, it is a second `Input`, it holds this model, or it does not fit the
                layers before it.
            RuntimeError: the model is training.
        """
        if not isinstance(layer, Layer):
            raise TypeError(f"{self.label()}: add got a {type(layer).__name__}, expected a layer")
        if any(other.name == layer.name and other is not layer for other in self._layers):
            raise self.error(f"a layer called {layer.name!r} is there, layers should have unique names")
        if isinstance(layer, InputLayer) and self._layers:
            if not isinstance(self._layers[0], InputLayer):
                raise self.error("Input must be the first item")
            raise self._configured(f"add got a second Input of shape {layer.batch_shape}")
        if layer is self or _holds(layer, self):
            raise self.error("add got a model that would hold itself")
        with self.not_training("add"):
            before = list(self._layers), self._build_shape, self.built
            if not self._layers and layer.given_input_shape is not None:
                self._layers.append(InputLayer(layer.given_input_shape))
            self._layers.append(layer)
            self.built = False
            structure_changed()
            try:
                if rebuild:
                    self._build_if_shape_known()
            except BaseException:
                self._layers, self._build_shape, self.built = before
                structure_changed()
                raise

    def held_layers(self) -> Sequence[Layer]:
        return self._layers

    def pop(self, rebuild: bool = True) -> Layer:
        """Removes the last layer and returns it; the others keep their weights.

        Args:
            rebuild: accepted as Keras has it.
        """
        if not self.layers:
            raise self.error("pop from a model without layers")
        with self.not_training("pop"):
            layer = self._layers.pop()
            self.built = self.built and bool(self.layers)
            self._forget_metrics()
            structure_changed()
            return layer

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of that name, or at that position."""
        if (name is None) == (index is None):
            raise self.error("get_layer takes either a name or an index")
        layers = self.layers
        if index is not None:
            if not hasattr(index, "__index__"):
                raise self.error(f"get_layer index is {index!r}, expected an integer")
            if not -len(layers) <= index < len(layers):
                raise self.error(f"get_layer index is {index}, the model has {len(layers)} layers")
            return layers[index]
        for layer in layers:
            if layer.name == name:
                return layer
        raise self.error(f"no layer is called {name!r}, there are {[layer.name for layer in layers]}")

    # --- shapes and building ----------------------------------------------------------------------

    def _build_if_shape_known(self) -> None:
        if len(self._layers) > 1 and isinstance(self._layers[0], InputLayer):
            self.build(self._layers[0].batch_shape)
        elif self._layers and self._build_shape is not None:
            self.build(self._build_shape)

    def build(self, input_shape: Any = None) -> None:
        """Makes the weights of all layers, or of none when one does not fit.

        Args:
            input_shape: shape of the inputs with the batch axis; not needed after an `Input`.
        """
        if self.built:
            if input_shape is not None and isinstance(self._layers[0], InputLayer):
                given = to_shape(input_shape, self.label(), "input_shape")
                if given[1:] != self._layers[0].batch_shape[1:]:
                    raise self._configured(f"build got input_shape {given}")
            return
        if not self.layers:
            raise self.error("the model has no layers, add some first")
        first = self._layers[0]
        if input_shape is None:
            if not isinstance(first, InputLayer):
                raise self.error("build needs input_shape, for the model has no Input")
            input_shape = first.batch_shape
        shape = to_shape(input_shape, self.label(), "input_shape")
        self.compute_output_shape(shape)
        with build_lock, restored_on_error([layer for layer in self._layers if not layer.built]):
            size: Any = shape
            for layer in self._layers:
                layer.build(size)
                size = layer.compute_output_shape(size)
            self._build_shape = first.batch_shape if isinstance(first, InputLayer) else (None, *shape[1:])
            self.built = True
            structure_changed()

    def _configured(self, message: str) -> ValueError:
        shape = self._layers[0].batch_shape  # type: ignore[attr-defined]
        return self.error(f"{message}, but the model has already been configured for inputs of shape {shape}")

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Shape of the outputs for inputs of `input_shape` (batch axis included, None where unknown).

        Raises:
            ValueError: the shape does not fit a layer.
        """
        plan = self._plan()
        known, outputs = plan.shapes
        if type(input_shape) is tuple and input_shape == known:
            return outputs
        if not self.layers:
            raise self.error("the model has no layers, add some first")
        given = shape = to_shape(input_shape, self.label(), "input_shape")
        for layer in self._layers:
            if shape and isinstance(shape[0], tuple):
                raise self.error(f"the layer before {layer.name!r} has several outputs (return_state)")
            layer.check_input_shape(shape)
            shape = layer.compute_output_shape(shape)
        plan.shapes = given, shape
        return shape

    def check_input_shape(self, shape: Shape) -> None:
        self.compute_output_shape(shape)

    def output_shape_of(self, layer: Layer) -> Any:
        """Shape of the outputs of one layer of a built model; None when it is not built."""
        if not self.built:
            return None
        shape: Any = self._build_shape
        for other in self._layers:
            shape = other.compute_output_shape(shape)
            if other is layer:
                break
        return shape

    @property
    def input_shape(self) -> Any:
        """Shape of the inputs, None where it may vary.

        Raises:
            AttributeError: the model is not built.
        """
        if not self.built:
            raise AttributeError(f"{self.label()}: input_shape is not known before the model is built")
        return self._build_shape

    @property
    def output_shape(self) -> Any:
        """Shape of the outputs, None where it may vary.

        Raises:
            AttributeError: the model is not built.
        """
        if not self.built:
            raise AttributeError(f"{self.label()}: output_shape is not known before the model is built")
        return self.compute_output_shape(self._build_shape)

    def summary(
        self,
        line_length: int | None = None,
        positions: list[float] | None = None,
        print_fn: Callable[[str], Any] | None = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: Sequence[str] | None = None,
    ) -> None:
        """Prints the layers, the shapes of their outputs and the numbers of their weights.

        Args:
            line_length: width of the table; as wide as the terminal, up to 88, by default.
            positions: where the columns end, as fractions of the width.
            print_fn: called with every line; `print` by default.
            expand_nested: adds the layers of models that are layers of this one.
            show_trainable: adds a column that says which layers training changes.
            layer_range: names of the first and the last layer to show.
        """
        print_summary(self, line_length, positions, print_fn, expand_nested, show_trainable, layer_range)

    # --- passes -----------------------------------------------------------------------------------

    def _flat_layers(self) -> list[Layer]:
        """The layers that compute, those of nested models in their place."""
        flat: list[Layer] = []
        for layer in self._layers:
            flat += layer._flat_layers() if isinstance(layer, Sequential) else [layer]
        return flat

    def _plan(self) -> _Plan:
        plan = self._current_plan
        version = structure_version()
        if plan is None or plan.version != version:
            plan = _Plan(self._flat_layers(), version)
            self._current_plan = plan
        return plan

    def as_input(self, inputs: Any) -> Tensor:
        first = self._plan().first
        if first is None:
            raise self.error("the model has no layers, add some first")
        return first.as_input(inputs)

    def check_values(self, inputs: Tensor) -> None:
        first = self._plan().first
        if first is not None:
            first.check_values(inputs)

    def check_can_train(self) -> None:
        plan = self._plan()
        if not plan.can_train:
            for layer in plan.layers:
                layer.check_can_train()
            plan.can_train = True

    def __call__(self, inputs: Any, training: bool = False, mask: Any = None) -> Any:
        """Outputs for `inputs`, as a NumPy array; the first call builds the model.

        Args:
            inputs: array-like with the batch axis first.
            training: layers behave as in training (dropout).
            mask: bool (batch, time), True where a time step counts.
        """
        x = self.as_input(inputs)
        return self._call(x, Context(bool(training)), to_step_flags(mask, x.shape, self.label(), "mask"))

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Any:
        return _run(self._plan().steps, inputs, ctx, mask)

    def forward_to_loss(
        self, inputs: Tensor, ctx: Context, activation: str | None
    ) -> tuple[Any, ActivationAtEnd | None]:
        """Outputs, or logits and the last layer when that one ends in `activation`."""
        plan = self._plan()
        last = plan.layers[-1]
        if (
            activation is None
            or not isinstance(last, ActivationAtEnd)
            or last.output_activation != activation
        ):
            return self.forward(inputs, ctx), None
        x = _run(plan.steps[:-1], inputs, ctx, None)
        ctx.mask = last.compute_mask(x, ctx.mask)
        return last.forward_logits(x, ctx), last

    def backward_from_loss(self, gradient: Any, ctx: Context, fused: ActivationAtEnd | None) -> None:
        """Gradients of all trainable variables into `ctx`, from what `forward_to_loss` returned."""
        plan = self._plan()
        first = plan.first_trained
        position = len(plan.layers) - 1
        if fused is not None and position >= first:
            gradient = fused.backward_logits(gradient, ctx, position > first)
            position -= 1
        for i in range(position, first - 1, -1):
            gradient = plan.layers[i].backward(gradient, ctx, i > first)

    def backward(self, d_outputs: Any, ctx: Context, need_d_inputs: bool = True) -> Any:
        layers = self._plan().layers
        for i in range(len(layers) - 1, -1, -1):
            d_outputs = layers[i].backward(d_outputs, ctx, need_d_inputs or i > 0)
        return d_outputs

    def variables_to_train(self) -> list[Variable]:
        """The trainable variables, in a list that must not be changed."""
        return self._plan().variables

    def fixed_batch_size(self) -> int | None:
        """Number of rows that every batch must have; None when it is free."""
        first = self._layers[0] if self._layers else None
        return first.batch_shape[0] if isinstance(first, InputLayer) else None

    def stateful_layers(self) -> list[Any]:
        """The layers that keep a state between calls."""
        return self._plan().stateful

    def reset_state(self) -> None:
        """Sets the state of all stateful layers to zero."""
        for layer in self._layers:
            layer.reset_state()

    def reset_states(self) -> None:
        """Older name of `reset_state`."""
        self.reset_state()

    def stream(self, batch_size: int = 1) -> Stream:
        """The model step by step, for data that comes one time step after the other.

        Args:
            batch_size: number of independent sequences side by side, the rows of a step.

        Returns:
            A stream with zero states and states of its own: `stateful` layers neither give nor take any.

        Raises:
            ValueError: the model is not built, takes no sequences, or has a layer that cannot run step by
                step; the message names the layer.
        """
        rows = positive_int(batch_size, self.label(), "stream: batch_size")
        if not self.built:
            raise self.error("stream before the model is built: call build(input_shape) first")
        return Stream(self._plan().layers, self.input_shape, rows, self.label())

    # --- weights ----------------------------------------------------------------------------------

    @property
    def variables(self) -> list[Variable]:
        """All variables, layer by layer."""
        return _unique(v for layer in self._layers for v in layer.variables)

    @property
    def trainable(self) -> bool:
        """Whether training changes the weights; setting it sets it for all layers."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        for layer in self._layers:
            layer.trainable = self._trainable

    def named_variables(self) -> dict[str, Variable]:
        """Variables by a name that depends on the model's structure alone, as files need it."""
        if not self.built:
            raise self.error("the model has no weights before it is built: call build(input_shape) first")
        named: dict[str, Variable] = {}
        counts: dict[str, int] = {}
        for layer in _unique(self._flat_layers()):
            kind = snake_case(type(layer).__name__)
            count = counts.get(kind, 0)
            counts[kind] = count + 1
            for name, variable in layer.named_variables().items():
                named[f"{kind}_{count}/{name}" if count else f"{kind}/{name}"] = variable
        return named

    def save_weights(self, filepath: str | os.PathLike[str], overwrite: bool = True) -> None:
        """Writes all weights to a safetensors file, which appears whole or not at all.

        Weights are named by the kind of their layer and its number in the model ("lstm_1/kernel").

        Args:
            filepath: the file.
            overwrite: False raises FileExistsError when the file is there.
        """
        tensors = {name: variable.numpy() for name, variable in self.named_variables().items()}
        if not overwrite and os.path.exists(filepath):
            raise FileExistsError(
                f"{self.label()}: save_weights found {os.fspath(filepath)!r}, overwrite=False"
            )
        saving.write_safetensors(filepath, tensors, {"format": "lstm_native.weights"})

    def load_weights(self, filepath: str | os.PathLike[str]) -> None:
        """Reads the weights that `save_weights` wrote; sets all of them or none.

        Args:
            filepath: the file.

        Raises:
            ValueError: the file is damaged, or its weights are not those of this model.
        """
        variables = self.named_variables()
        tensors, _ = saving.read_safetensors(filepath)
        missing = sorted(variables.keys() - tensors.keys())
        extra = sorted(tensors.keys() - variables.keys())
        if missing or extra:
            raise self.error(f"load_weights: the file lacks {missing}, and has {extra} that the model lacks")
        checked: list[tuple[Variable, _core.Tensor]] = []
        for name, variable in variables.items():
            if tensors[name].shape != variable.shape:
                seen = tensors[name].shape
                raise self.error(
                    f"load_weights: {name} has shape {seen} in the file, expected {variable.shape}"
                )
            checked.append((variable, variable.check(tensors[name])))
        for variable, tensor in checked:
            variable.assign(tensor)


def _holds(layer: Layer, sought: Layer) -> bool:
    """Whether `sought` is a part of `layer`, of whatever depth."""
    return any(part is sought or _holds(part, sought) for part in layer.held_layers())


def _forward_into(layer: Layer, following: Layer | None) -> Any:
    """The method that computes what `following` is fed with."""
    if (
        getattr(following, "takes_indexed_rows", False)
        and isinstance(layer, Embedding)
        and type(layer).forward is Embedding.forward
    ):
        return layer.forward_rows
    return layer.forward


def _run(steps: list[_Step], inputs: Any, ctx: Context, mask: Tensor | None) -> Any:
    """Runs one step after the other; the mask of the outputs is `ctx.mask` then."""
    x = inputs
    for layer, forward in steps:
        y = forward(x, ctx, mask)
        mask = layer.compute_mask(x, mask)
        x = y
    ctx.mask = mask
    return x


def _unique(items: Iterable[_T]) -> list[_T]:
    return list(dict.fromkeys(items))
