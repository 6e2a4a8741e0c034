"""Models of classes of the caller: subclasses of `Model` with a method `call`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstm_native.feeding import rows_of, shape_of
from lstm_native.layers import custom, on_tape
from lstm_native.layers.base import Context, Layer, call_outputs, empty_outputs, structure_changed
from lstm_native.layers.building import with_held
from lstm_native.models.base import Model
from lstm_native.models.graph import Steps
from lstm_native.variable import Variable


class Subclassed(Model):
    """What a class with `call` becomes: `Model` makes objects of this class and of the caller's at once.

    The layers are those among the attributes. `call` takes arrays, one or a list of them, and `mask` and
    `training` where it names them; training, `predict` and `evaluate` need a single output.
    """

    def __init__(self, *, name: str | None = None, trainable: bool = True, **kwargs: Any) -> None:
        super().__init__(name=name, trainable=trainable, **kwargs)
        self._whole = _Whole(self)
        self._build_shape: Any = None

    @property
    def layers(self) -> list[Layer]:
        """The layers among the attributes."""
        return [layer for layer in custom.layers_among(self, Layer) if not isinstance(layer, _Whole)]

    @property
    def variables(self) -> list[Variable]:
        """All variables, those of the model itself first."""
        return list(dict.fromkeys([*self._variables, *super().variables]))

    def number_of_calls(self) -> int:
        return 1

    def add_steps(
        self, steps: Steps, inputs: tuple[int, ...], training: bool | None, count: int
    ) -> tuple[int, ...]:
        return steps.add(self._whole, inputs, several=len(inputs) > 1, training=training, count=count)

    def output_shape_of(self, layer: Layer) -> Any:
        """Not known: `call` does with the layers what it likes."""
        return None

    def _counts(self) -> tuple[int, int]:
        shape = self._build_shape
        return (len(shape) if shape and isinstance(shape[0], tuple) else 1), 1

    def make_placeholders(self) -> tuple[Any, Any]:
        raise AttributeError(
            f"{self.label()}: its call is Python code, so there are no placeholders of its inputs and outputs"
        )

    # --- shapes and building ----------------------------------------------------------------------

    def build(self, input_shape: Any = None) -> None:
        """Makes the weights, by a call with zeros.

        Args:
            input_shape: shape of the inputs with the batch axis, or a list of shapes.

        Raises:
            ValueError: `call` fails on zeros of that shape.
        """
        if self.built:
            return
        if input_shape is None:
            raise self.error("build needs input_shape")
        several = isinstance(input_shape[0], list | tuple)
        shapes = [tuple(one) for one in (input_shape if several else [input_shape])]
        zeros = [np.zeros([2 if n is None else n for n in one], np.float32) for one in shapes]
        try:
            custom.run(self, zeros if several else zeros[0], (), {"training": False, "mask": None})
        except Exception as error:
            raise self.error(f"call fails on zeros of shape {input_shape} ({error})") from error
        self._build_shape = tuple(shapes) if several else shapes[0]
        self.built = True
        self.reset_state()
        structure_changed()

    def check_input_shape(self, shape: Any) -> None:
        pass  # `call` sees for itself

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Shape of the outputs, seen from calls with zeros."""
        return self._remembered_shape(input_shape, lambda shape: custom.output_shape(self, shape))

    @property
    def input_shape(self) -> Any:
        """Shape of the inputs that the model was built for."""
        if not self.built:
            raise AttributeError(f"{self.label()}: input_shape is not known before the model is built")
        return self._build_shape

    @property
    def output_shape(self) -> Any:
        """Shape of the outputs, None where it may vary."""
        return self.compute_output_shape(self.input_shape)

    # --- passes -----------------------------------------------------------------------------------

    def __call__(
        self, inputs: Any, *arguments: Any, training: bool = False, mask: Any = None, **named: Any
    ) -> Any:
        """Outputs for `inputs`; the first call builds the model.

        Args:
            inputs: array-like with the batch axis first, or a list of them.
            training: layers behave as in training (dropout).
            mask: bool (batch, time), True where a time step counts.
            arguments, named: further arguments of `call`; what it returns comes as it is then.
        """
        x = self.as_input(inputs)
        if not self.built:
            self.build(shape_of(x))
        if not arguments and not named:
            return super().__call__(inputs, training=training, mask=mask)
        arrays = custom.to_arrays(inputs, self.label())
        return custom.run(self, arrays, arguments, {"training": training, "mask": mask, **named})

    def _call(self, x: Any, ctx: Context, mask: Any, **arguments: Any) -> Any:
        if not isinstance(x, tuple):
            return super()._call(x, ctx, mask, **arguments)
        if rows_of(x) == 0:
            return empty_outputs(self.compute_output_shape(shape_of(x)))
        outputs = self.forward(x, ctx, mask, **arguments)
        ctx.commit_states()
        return call_outputs(outputs, ctx)

    def as_input(self, inputs: Any) -> Any:
        if isinstance(inputs, list | tuple) and any(hasattr(item, "shape") for item in inputs):
            return tuple(custom.to_tensor(x, self.label(), "input") for x in inputs)
        return custom.to_tensor(inputs, self.label(), "input")

    def packed_arrays(self, outputs: Any) -> Any:
        return outputs

    def names_of_outputs(self) -> list[str]:
        return ["output_1"]

    def fixed_batch_size(self) -> int | None:
        """Number of rows that every batch must have; None, for it is free."""
        return None

    def stateful_layers(self) -> list[Any]:
        """The layers that keep a state between calls."""
        return [layer for layer in with_held(self.layers) if getattr(layer, "stateful", False)]

    def __reduce__(self) -> tuple[Any, ...]:
        return _new, (type(self).__bases__[0],), self.__getstate__()


class _Whole(Layer):
    """The `call` of a model as one layer of its plan.

    Args:
        model: the model.
    """

    def __init__(self, model: Subclassed) -> None:
        super().__init__(name=f"{model.name}_call")
        self._model = model
        self._variables = model._variables  # one list for both
        self.built = True

    def held_layers(self) -> Sequence[Layer]:
        return self._model.layers

    def forward(self, inputs: Any, ctx: Context, mask: Any = None) -> Any:
        return on_tape.forward(self._model, inputs, ctx, mask)

    def backward(self, d_outputs: Any, ctx: Context, need_d_inputs: bool = True) -> Any:
        return on_tape.backward(self._model, d_outputs, ctx)


_classes: dict[type, type[Subclassed]] = {}


def class_of(cls: type[Model]) -> type[Subclassed]:
    """The class of the objects that a class of the caller makes."""
    known = _classes.get(cls)
    if known is None:
        names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
        known = _classes[cls] = type(cls.__name__, (cls, Subclassed), names)
    return known


def _new(cls: type[Model]) -> Model:
    return class_of(cls).__new__(class_of(cls))
