"""Placeholders and nodes: what calling layers on `Input(...)` records, for functional models. Floor 4."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from lstm_native import tapes
from lstm_native.arrays import Shape, to_numpy
from lstm_native.trees import flat, is_shape, nested

if TYPE_CHECKING:
    from inspect import Signature

    from lstm_native.layers.base import Layer

_numbers = itertools.count()


class Placeholder:
    """A value that a functional model will compute: what `Input(...)` and calls of layers on it return.

    Attributes:
        shape: its shape, batch axis included, None where it may vary.
        dtype: name of its type.
        name: name of the layer that it comes from.
        node: the call that computes it.
        index: which of the outputs of that call it is.

    `x + y`, `x - y` and `x * y` of two of them are calls of the layers `Add`, `Subtract` and `Multiply`; with
    a number, and `x / 2` and `-x`, of `Rescaling`; `x[:, -1]` and functions of `ops` are calls of `Lambda`.
    As behind operators of Keras, outputs have no masks: where steps are not to count, call such a layer.
    """

    __slots__ = ("dtype", "index", "name", "node", "shape")
    __array_ufunc__ = None  # `array * x` is a call of a layer too

    def __init__(self, shape: Shape, dtype: str, name: str, node: Node, index: int) -> None:
        self.shape = shape
        self.dtype = dtype
        self.name = name
        self.node = node
        self.index = index

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        raise TypeError(
            f"{self!r} has no values: make a Model(inputs, outputs) of it and call that with arrays"
        )

    def __add__(self, other: Any) -> Any:
        return _combined("Add", self, other, 1.0, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return _combined("Subtract", self, other, 1.0, _negative(other))

    def __rsub__(self, other: Any) -> Any:
        return _combined("Subtract", other, self, -1.0, other)

    def __mul__(self, other: Any) -> Any:
        return _combined("Multiply", self, other, other, 0.0)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        if isinstance(other, Placeholder):
            return NotImplemented
        divisor = _in_double(other, "divisor")
        if not divisor.all():
            raise ZeroDivisionError(f"{self!r} divided by {other!r}")
        return self * (1.0 / divisor)

    def __neg__(self) -> Any:
        return self * -1.0

    def __getitem__(self, index: Any) -> Any:
        from lstm_native import ops  # which is made of layers

        return ops.getitem(self, index)

    # Without it Python would ask for x[0], x[1] ... without end.
    __iter__ = None

    def __repr__(self) -> str:
        return f"<Placeholder shape={self.shape}, dtype={self.dtype}, name={self.name}>"


def _negative(value: Any) -> Any:
    return value if isinstance(value, Placeholder) else -_in_double(value, "offset")


def _in_double(value: Any, argument: str) -> np.ndarray[Any, Any]:
    """`value` in double precision, of which all negatives and quotients are right."""
    return to_numpy(value, "Rescaling", argument).astype(np.float64)


def _combined(kind: str, a: Any, b: Any, scale: Any, offset: Any) -> Any:
    """Two placeholders joined by a layer of that kind, or the one of them rescaled by what is none."""
    from lstm_native import layers  # which are made of this file

    if isinstance(a, Placeholder) and isinstance(b, Placeholder):
        return getattr(layers, kind)(ends_masks=True)([a, b])
    return layers.Rescaling(scale, offset, ends_masks=True)(a if isinstance(a, Placeholder) else b)


class Node:
    """One call of a layer on placeholders.

    Attributes:
        layer: the layer.
        inputs: its inputs.
        several: whether they were given as a list.
        states: initial states, of recurrent layers.
        flags: other placeholders among the arguments (mask, reset), by name; of several inputs, "mask_0",
            "mask_1" ...
        arguments: the other arguments that were given, by name.
        training: True or False where the caller fixed it.
        outputs: what the call gave.
        returned: the same in the form in which the call returned it.
        number: counts all calls, so that it orders the nodes of a model topologically.
    """

    __slots__ = (
        "arguments", "flags", "inputs", "layer", "number", "outputs", "returned", "several", "states",
        "training",
    )  # fmt: skip

    def __init__(
        self,
        layer: Layer,
        inputs: tuple[Placeholder, ...] = (),
        several: bool = False,
        states: tuple[Placeholder, ...] = (),
        flags: dict[str, Placeholder] | None = None,
        arguments: dict[str, Any] | None = None,
        training: bool | None = None,
    ) -> None:
        self.layer = layer
        self.inputs = inputs
        self.several = several
        self.states = states
        self.flags = flags or {}
        self.arguments = arguments or {}
        self.training = training
        self.outputs: tuple[Placeholder, ...] = ()
        self.returned: Any = None
        self.number = next(_numbers)
        layer.nodes.append(self)

    def give(self, shapes: Any, dtype: str = "float32") -> None:
        """Makes the outputs, of one shape or of a tree of shapes."""
        self.outputs = tuple(
            Placeholder(tuple(shape), dtype, self.layer.name, self, i)
            for i, shape in enumerate(flat(shapes, is_shape))
        )
        self.returned = self.layer.packed_outputs(nested(shapes, self.outputs, is_shape))

    @property
    def sources(self) -> tuple[Placeholder, ...]:
        """Everything that the call depends on."""
        return (*self.inputs, *self.states, *self.flags.values())


class Callee:
    """What can be called on placeholders: the part of every layer that keeps these calls.

    Attributes:
        nodes: the calls.
    """

    nodes: list[Node]

    @property
    def output(self) -> Any:
        """What the first call on placeholders gave; to build other models from.

        Raises:
            AttributeError: there was none.
        """
        return self._first_call("output").returned

    @property
    def input(self) -> Any:
        """The placeholders that the layer was first called on.

        Raises:
            AttributeError: there were none.
        """
        node = self._first_call("input")
        return list(node.inputs) if node.several else node.inputs[0]

    def _first_call(self, what: str) -> Node:
        if not self.nodes:
            raise AttributeError(f"{self!r}: {what} is known only after a call on what Input(...) gave")
        return self.nodes[0]

    def flat_placeholders(self, inputs: Any) -> tuple[Sequence[Any], bool]:
        """The inputs of a call on placeholders as a list, and whether the layer takes several."""
        several = isinstance(inputs, list | tuple)
        return (inputs, True) if several else ([inputs], False)

    def check_states(self, given: Any, shapes: Sequence[Any], batch: int | None) -> None:
        """Raises ValueError when initial states do not fit.

        Args:
            given: what the caller passed, for messages.
            shapes: of the states in it, None where unknown.
            batch: number of rows.
        """

    def packed_outputs(self, outputs: Any) -> Any:
        """The outputs of a call on placeholders in the form in which the call returns them.

        Args:
            outputs: placeholders in the form that `compute_output_shape` has for their shapes.
        """
        return outputs


def is_symbolic(inputs: Any) -> bool:
    """Whether these are placeholders, one or several."""
    if isinstance(inputs, list | tuple):
        return bool(inputs) and is_symbolic(inputs[0])
    if isinstance(inputs, dict):
        return any(map(is_symbolic, inputs.values()))
    return isinstance(inputs, Placeholder)


def recording(call: Callable[..., Any]) -> Callable[..., Any]:
    """`call`, the `__call__` of a layer, which records a node where the inputs are placeholders."""

    @functools.wraps(call)
    def recorded_or_called(self: Layer, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(inputs, np.ndarray) and is_symbolic(inputs):
            return _record(self, call, inputs, args, kwargs)
        tape = tapes.current()
        if tape is not None:
            return _on_tape(tape, self, call, inputs, args, kwargs)
        return call(self, inputs, *args, **kwargs)

    return recorded_or_called


def _on_tape(tape: Any, layer: Layer, call: Any, given: Any, args: Any, kwargs: Any) -> Any:
    from lstm_native.layers import on_tape  # which is made of this file

    signature = _signature(call)
    arguments = dict(list(signature.bind(layer, given, *args, **kwargs).arguments.items())[2:])
    positional: tuple[Any, ...] = ()
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments |= arguments.pop(parameter.name, {})
        elif parameter.kind is parameter.VAR_POSITIONAL:
            positional = arguments.pop(parameter.name, ())
    return on_tape.call(tape, layer, given, positional, arguments)


def output_shapes(layer: Layer, shapes: Any, arguments: dict[str, Any]) -> Any:
    """Shape of the outputs of a call with `arguments`, or a tree of them.

    Args:
        layer: the layer.
        shapes: shape of its input, or a tuple of those of several.
        arguments: the further arguments of the call, by name.
    """
    named = {}
    if arguments:
        taken = _signature(type(layer).compute_output_shape).parameters
        named = {name: value for name, value in arguments.items() if name in taken}
    return layer.compute_output_shape(shapes, **named)


@functools.lru_cache(256)
def _signature(function: Callable[..., Any]) -> Signature:
    import inspect  # not at the top: it costs, and few programs come here

    return inspect.signature(function)


def name_of_mask(number: int, several: bool) -> str:
    """The name under which a node keeps the mask of input `number`."""
    return f"mask_{number}" if several else "mask"


def arguments_of(flags: dict[str, Any], count: int, several: bool) -> dict[str, Any]:
    """The flags that a node keeps for `count` inputs, as the arguments of its call."""
    if not several:
        return flags
    masks = [flags.get(name_of_mask(i, several)) for i in range(count)]
    return {} if all(mask is None for mask in masks) else {"mask": masks}


def _masks_by_input(layer: Layer, given: Any, count: int, several: bool) -> dict[str, Placeholder]:
    """The masks of the inputs, without those that are None, by the names that nodes have for them."""
    masks = [] if given is None else flat(given)
    if given is not None and len(masks) != count:
        raise layer.error(f"mask has {len(masks)} items, expected one for each of {count} inputs")
    if not all(mask is None or isinstance(mask, Placeholder) for mask in masks):
        raise layer.error("mask has values, expected a placeholder as the inputs are")
    return {name_of_mask(i, several): mask for i, mask in enumerate(masks) if mask is not None}


def _record(
    layer: Layer, call: Callable[..., Any], given: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    signature = _signature(call)
    bound = signature.bind(layer, given, *args, **kwargs).arguments
    arguments = {name: value for name, value in list(bound.items())[2:] if value is not None}
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments |= arguments.pop(parameter.name, {})
        elif parameter.kind is parameter.VAR_POSITIONAL and arguments.get(parameter.name):
            raise TypeError(f"{layer.label()}: pass the arguments of a call on placeholders by name")
    training = arguments.pop("training", None)
    start = arguments.pop("initial_state", ())
    states = flat(start)
    inputs, several = layer.flat_placeholders(given)
    for name, values in (("input", inputs), ("initial_state", states)):
        if not all(isinstance(value, Placeholder) for value in values):
            raise layer.error(f"{name} mixes placeholders of a functional model with other values")
    arguments |= _masks_by_input(layer, arguments.pop("mask", None), len(inputs), several)
    flags = {name: value for name, value in arguments.items() if isinstance(value, Placeholder)}
    if several and not all(name.startswith("mask_") for name in flags):
        raise layer.error(f"{next(iter(flags))} is a placeholder, which goes with a single input only")
    arguments = {name: value for name, value in arguments.items() if name not in flags}

    shapes: Any = tuple(value.shape for value in inputs) if several else inputs[0].shape
    if states:
        layer.check_states(start, [state.shape for state in states], inputs[0].shape[0])
    if not layer.built:
        layer.build(shapes)
    layer.check_input_shape(shapes)
    node = Node(layer, tuple(inputs), several, tuple(states), flags, arguments, training)
    node.give(output_shapes(layer, shapes, arguments))
    return node.returned
