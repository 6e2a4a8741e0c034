"""Lambda: a function of the caller as a layer. Floor 4."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from lstm_native.layers import custom
from lstm_native.layers.base import Layer


class Lambda(Layer):
    """Applies a function to its inputs.

    Training goes back through the operators, NumPy's functions and those of `lstm_native.ops` in it. It is
    not part of files: a model with one is saved when the function is registered
    (`utils.register_keras_serializable`).

    Args:
        function: takes the inputs, an array or a list of them, and `mask` and `training` where it names
            them.
        output_shape: shape of an output without the batch axis, or a function of the input's shape with it;
            seen from a call with zeros by default.
        mask: a mask of the outputs, or a function of the inputs and their mask; by default they have none.
        arguments: further arguments of `function`, by name.
    """

    config_attributes: ClassVar[dict[str, str | None]] = {"arguments": "_given_arguments"}

    def __init__(
        self,
        function: Callable[..., Any],
        output_shape: Any = None,
        mask: Any = None,
        arguments: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not callable(function):
            raise ValueError(f"Lambda: function is {function!r}, expected a callable")
        super().__init__(**kwargs)
        self.function = function
        self.output_shape = output_shape
        self.mask = mask
        self._given_arguments = dict(arguments or {})
        self.supports_masking = mask is not None

    def call(self, inputs: Any, mask: Any = None, training: bool = False) -> Any:
        """What the function gives."""
        known = {"mask": mask, "training": training}
        taken = custom.names_of_arguments(self.function) & known.keys()
        named = {name: value for name, value in known.items() if name in taken}
        return self.function(inputs, **{**named, **self._given_arguments})

    def compute_output_shape(self, input_shape: Any) -> Any:
        given = self.output_shape
        if given is None:
            return super().compute_output_shape(input_shape)
        several = bool(input_shape) and isinstance(input_shape[0], list | tuple)
        if callable(given):
            return tuple(given(list(input_shape) if several else input_shape))
        return (input_shape[0][0] if several else input_shape[0], *given)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return self.mask(inputs, previous_mask) if callable(self.mask) else self.mask
