"""Layers among code written in Python: passes through that code, and calls of layers on the way. Floor 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_native import _core, tapes
from lstm_native.arrays import to_step_flags
from lstm_native.layers import custom
from lstm_native.layers.context import Context
from lstm_native.traced import Tape, Traced, recording, value_of
from lstm_native.trees import flat

if TYPE_CHECKING:
    from lstm_native.layers.base import Layer

Tensor = _core.Tensor


def forward(
    layer: Layer, inputs: Any, ctx: Context, mask: Any, arguments: dict[str, Any] | None = None
) -> Any:
    """`call` of a layer written in Python, on the tensors of a pass; recorded if `ctx.record`."""
    several = isinstance(inputs, tuple)
    if not ctx.record and not layer.held_layers():
        # Layers inside want the masks that traced values carry; other code may do with arrays what it likes.
        # Copies, for `x += 1` in there.
        arrays = tuple(x.numpy().copy() for x in inputs) if several else inputs.numpy().copy()
        named = {**(arguments or {}), "training": ctx.training, "mask": custom.mask_arrays(mask)}
        outputs = custom.run(layer, arrays, (), named)
        _note_losses(layer, ctx)
        return _as_tensors(layer, outputs)
    with recording(ctx.record, ctx) as tape:
        masks = mask if isinstance(mask, tuple) else (mask,) * len(inputs) if several else (mask,)
        values = tuple(
            Traced(x.numpy(), tape, None if m is None else m.numpy())
            for x, m in zip(inputs if several else (inputs,), masks, strict=True)
        )
        named = {**(arguments or {}), "training": ctx.training, "mask": custom.mask_arrays(mask)}
        outputs = custom.run(layer, values if several else values[0], (), named)
    added = _note_losses(layer, ctx)
    if ctx.record:
        ends = [y if isinstance(y, Traced) else Traced(np.asarray(value_of(y)), tape) for y in flat(outputs)]
        ctx.save(layer, (tape, values, ends, [loss for loss in added if isinstance(loss, Traced)]))
    return _as_tensors(layer, outputs)


def _note_losses(layer: Layer, ctx: Context) -> list[Any]:
    """Puts what `call` added with `add_loss` among the penalties of the pass."""
    added = layer.losses_of_call()
    if added:
        ctx.penalties[layer] = [float(np.sum(value_of(loss))) for loss in added]
    return added


def _as_tensors(layer: Layer, outputs: Any) -> Any:
    tensors = tuple(custom.to_tensor(value_of(y), layer.label(), "output of call") for y in flat(outputs))
    return tensors if isinstance(outputs, list | tuple | dict) else tensors[0]


def backward(layer: Layer, d_outputs: Any, ctx: Context) -> Any:
    """The way back through what `forward` recorded: gradients of the inputs, those of variables in `ctx`."""
    tape, values, outputs, added = ctx.take(layer)
    given = d_outputs if isinstance(d_outputs, tuple) else (d_outputs,)
    gradients_given = [None if d is None else d.numpy() for d in given]
    gradients_given += [np.ones_like(loss.value) for loss in added]
    gradient_of, variables = tape.backward([*outputs, *added], gradients_given)
    for variable, gradient in variables.items():
        if variable.trainable:
            ctx.add_gradient(variable, _tensor(gradient))
    gradients = tuple(
        _tensor(np.zeros_like(x.value) if gradient_of(x) is None else gradient_of(x)) if x.is_float else None
        for x in values
    )
    return gradients if len(gradients) > 1 else gradients[0]


def _tensor(gradient: Any) -> Tensor:
    # A copy of its own: sums of gradients are made in place.
    return _core.as_tensor(np.array(gradient, np.float32), "float32")


def call(tape: Tape, layer: Layer, given: Any, positional: tuple[Any, ...], bound: dict[str, Any]) -> Any:
    """A call of a layer by code that runs on `tape`.

    Args:
        tape: the tape.
        layer: the layer.
        given: the inputs, traced or arrays.
        positional, bound: the further arguments of the call.
    """
    inputs, several = layer.flat_placeholders(given)
    outer = tape.layer_context
    training = bound.pop("training", None)
    training = outer.training if training is None and outer is not None else bool(training)
    asked = bound.get("mask") is not None
    masks = _masks(layer, bound.pop("mask", None), inputs, several)
    if layer.is_custom:
        values = tuple(x if isinstance(x, Traced) else custom.to_arrays(x, layer.label()) for x in inputs)
        if not layer.built:
            layer.build([x.shape for x in values] if several else values[0].shape)
        mask = None if all(m is None for m in masks) else list(masks) if several else masks[0]
        named = {**bound, "training": training, "mask": mask}
        return custom.run(layer, list(values) if several else values[0], positional, named)
    if positional:
        raise TypeError(
            f"{layer.label()}: pass the arguments of a call by name, got {len(positional)} without"
        )
    tensors = _tensors(layer, [value_of(x) for x in inputs], several)
    x: Any = tensors if several else tensors[0]
    if not layer.built:
        layer.build(tuple(t.shape for t in tensors) if several else x.shape)
    shapes: Any = tuple(t.shape for t in tensors) if several else x.shape
    layer.check_input_shape(shapes)
    states = flat(bound.pop("initial_state", ()) or ())
    arguments = {name: value_of(value) for name, value in bound.items() if value is not None}
    if arguments.get("reset") is not None:
        arguments["reset"] = to_step_flags(arguments["reset"], x.shape, layer.label(), "reset")
    if states:
        arguments["initial_state"] = tuple(_core.as_tensor(value_of(s), "float32") for s in states)
    flags = tuple(
        None if m is None else to_step_flags(m, t.shape, layer.label(), "mask")
        for m, t in zip(masks, tensors, strict=True)
    )
    before: Any = (None if all(m is None for m in flags) else flags) if several else flags[0]
    ctx = Context(training, tape.record)
    parts = layer.with_penalty()
    # As in Keras, a mask comes along by itself only where the inputs are all that is passed.
    into = None if states and not asked else before
    if outer is not None:
        ctx.states.update(outer.states)  # of layers that this pass has used before
    suspended = tapes.change(None)
    try:
        y = layer.forward(x, ctx, into, **arguments)
        after = layer.compute_mask(x, before)
        for part in parts[1:]:
            y = part.forward(y, ctx)
    finally:
        tapes.change(suspended)
    if outer is not None:
        outer.states.update(ctx.states)
        outer.penalties.update(ctx.penalties)
    tuple_of = y if isinstance(y, tuple) else (y,)
    outputs = [Traced(t.numpy(), tape) for t in tuple_of]
    first = after[0] if isinstance(after, list | tuple) else after
    outputs[0].mask = None if first is None else first.numpy()
    sources = [*inputs, *states]
    variables = layer.trainable_variables

    def back(*gradients: Any) -> list[Any]:
        given = [None if g is None else _tensor(g) for g in gradients]
        d: Any = tuple(given) if isinstance(y, tuple) else given[0]
        for part in reversed(parts):
            d = part.backward(d, ctx, True)
        found = d if isinstance(d, tuple) else (d,)
        each = [*found, *(None for _ in sources[len(found) :])]
        ours = [g for g, source in zip(each, sources, strict=True) if isinstance(source, Traced)]
        ours += [ctx.gradients.get(variable) for variable in variables]
        return [None if g is None else g.numpy() for g in ours]

    parents = [source for source in sources if isinstance(source, Traced)]
    tape.add(outputs, [*parents, *(tape.leaf(variable) for variable in variables)], back)
    if not isinstance(y, tuple):
        return outputs[0]
    if hasattr(layer, "packed_arrays"):
        return layer.packed_arrays(tuple(outputs))
    if hasattr(layer, "packed_states"):
        return (outputs[0], *layer.packed_states(outputs[1:]))
    return tuple(outputs)


def _tensors(layer: Layer, values: list[Any], several: bool) -> tuple[Tensor, ...]:
    if not several:
        return (layer.as_input(values[0]),)
    if hasattr(layer, "packed_arrays"):  # a model
        return layer.as_input(values)  # type: ignore[return-value]
    return tuple(custom.to_tensor(x, layer.label(), "input") for x in values)


def _masks(layer: Layer, given: Any, inputs: Sequence[Any], several: bool) -> tuple[Any, ...]:
    """The mask of each input: what was passed, else what it carries."""
    if given is None:
        return tuple(x.mask if isinstance(x, Traced) else None for x in inputs)
    masks = list(given) if several else [given]
    if len(masks) != len(inputs):
        raise layer.error(f"mask has {len(masks)} items, expected one for each of {len(inputs)} inputs")
    return tuple(value_of(m) for m in masks)
