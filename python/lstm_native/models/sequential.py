"""Sequential: a list of layers that is built, called, trained, saved and described as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

from lstm_native.arrays import Shape, to_shape
from lstm_native.configurable import check_names
from lstm_native.layers.base import Layer, Tensor, build_lock, restored_on_error, structure_changed
from lstm_native.layers.inputs import InputLayer
from lstm_native.layers.symbolic import Placeholder
from lstm_native.models.base import Model, calls_of, holds
from lstm_native.models.graph import Steps
from lstm_native.serialization import deserialize, serialize


class Sequential(Model):
    """A model of layers, each fed with the outputs of the one before.

    It builds when it knows the shape of its inputs: from an `Input` as first item, from the first
    layer's `input_shape`, from `build(input_shape)`, or from the first data it sees.

    Models and layers can be copied (`copy.deepcopy`) and pickled, with weights, optimizer and state.

    Args:
        layers: layers to start with.
        trainable: False freezes all layers.
        name: name of the model; numbered automatically by default.
    """

    config_attributes: ClassVar[dict[str, str | None]] = {"layers": "_layers"}

    def __init__(
        self,
        layers: Iterable[Layer | Placeholder] | None = None,
        trainable: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name, trainable=trainable)
        self._layers: list[Layer] = []
        self._build_shape: Shape | None = None
        if isinstance(layers, Layer) or not isinstance(layers, Iterable | None):
            raise TypeError(f"{self.label()}: layers is a {type(layers).__name__}, expected a list of layers")
        names: dict[str, Layer] = {}
        for layer in layers or ():
            self._add(layer, False, names)
        self._build_if_shape_known()
        if not trainable:
            self.trainable = False

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

    def add(self, layer: Layer | Placeholder, rebuild: bool = True) -> None:
        """Appends a layer; a model whose input shape is known builds it at once.

        Args:
            layer: the layer; first perhaps what `Input(...)` gave.
            rebuild: whether to build now.

        Raises:
            TypeError: it is no layer.
            ValueError: its name is taken, it is a second `Input`, it holds this model, or it does not fit the
                layers before it.
            RuntimeError: the model is training.
        """
        self._add(layer, rebuild, {other.name: other for other in self._layers})

    def _add(self, layer: Any, rebuild: bool, names: dict[str, Layer]) -> None:
        """`add`; `names` are those of the layers that are there, and afterwards that of the new one too."""
        if isinstance(layer, Placeholder) and isinstance(layer.node.layer, InputLayer):
            layer = layer.node.layer
        if not isinstance(layer, Layer):
            raise TypeError(f"{self.label()}: add got a {type(layer).__name__}, expected a layer")
        if names.setdefault(layer.name, layer) is not layer:
            raise self.error(f"a layer called {layer.name!r} is there, layers should have unique names")
        if isinstance(layer, InputLayer) and self._layers:
            if not isinstance(self._layers[0], InputLayer):
                raise self.error("Input must be the first item")
            raise self._configured(f"add got a second Input of shape {layer.batch_shape}")
        if layer is self or holds(layer, self):
            raise self.error("add got a model that would hold itself")
        with self.not_training("add"):
            before = list(self._layers), self._build_shape, self.built
            if not self._layers and layer.given_input_shape is not None:
                self._layers.append(InputLayer(batch_shape=layer.given_input_shape))
            self._layers.append(layer)
            self.built = False
            self._placeholders = None
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
            self._placeholders = None
            self.built = self.built and bool(self.layers)
            self._forget_metrics()
            structure_changed()
            return layer

    # --- configuration ----------------------------------------------------------------------------

    def first_and_layers(self) -> tuple[InputLayer | None, list[Layer]]:
        """The `Input`, where there is one, and the layers behind it."""
        first = self._layers[0] if self._layers else None
        return first if isinstance(first, InputLayer) else None, self.layers

    def get_config(self) -> dict[str, Any]:
        """Name, layers, and the shape of the inputs where no `Input` tells it, as data that JSON can hold."""
        config: dict[str, Any] = serialize(self.arguments())
        if self.built and self._build_shape is not None:
            config["build_input_shape"] = list(self._build_shape)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Self:
        """See `Model`."""
        given = {name: value for name, value in config.items() if name != "build_input_shape"}
        check_names(cls, given)
        model = cls(**deserialize(given, custom_objects))
        if config.get("build_input_shape") is not None and model.layers:
            model.build(deserialize(config["build_input_shape"]))
        return model

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
        if type(input_shape) is not tuple:
            input_shape = to_shape(input_shape, self.label(), "input_shape")
        return self._remembered_shape(input_shape, self._shape_behind)

    def _shape_behind(self, input_shape: Any) -> Any:
        if not self.layers:
            raise self.error("the model has no layers, add some first")
        shape = to_shape(input_shape, self.label(), "input_shape")
        for layer in self._layers:
            if shape and isinstance(shape[0], tuple):
                raise self.error(f"the layer before {layer.name!r} has several outputs (return_state)")
            layer.check_input_shape(shape)
            shape = layer.compute_output_shape(shape)
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

    # --- passes -----------------------------------------------------------------------------------

    def number_of_calls(self) -> int:
        return calls_of(self._layers)

    def add_steps(
        self, steps: Steps, inputs: tuple[int, ...], training: bool | None, count: int
    ) -> tuple[int, ...]:
        last = len(self._layers) - 1
        for i, layer in enumerate(self._layers):
            inputs = steps.add(layer, inputs, training=training, count=count if i == last else 1)
        return inputs

    def make_placeholders(self) -> tuple[Any, Any]:
        if not self.built:
            raise AttributeError(f"{self.label()}: its input and output are not known before it is built")
        first = self._layers[0]
        if not isinstance(first, InputLayer):
            first = InputLayer(batch_shape=self._build_shape)
        x = first.output
        y: Any = x
        for layer in self.layers:
            y = layer(y)
        return x, y

    def as_input(self, inputs: Any) -> Tensor:
        first = self._plan().first
        if first is None:
            raise self.error("the model has no layers, add some first")
        return first.as_input(inputs)

    def check_values(self, inputs: Tensor) -> None:
        first = self._plan().first
        if first is not None:
            first.check_values(inputs)

    def names_of_outputs(self) -> list[str]:
        return [self._layers[-1].name if self._layers else "output"]

    def fixed_batch_size(self) -> int | None:
        """Number of rows that every batch must have; None when it is free."""
        first = self._layers[0] if self._layers else None
        return first.batch_shape[0] if isinstance(first, InputLayer) else None
