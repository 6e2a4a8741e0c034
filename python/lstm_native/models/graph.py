"""Graph: layers whose inputs and outputs branch, share and join, as a list in topological order.

Values live in slots. Forward walks the list and fills them, backward walks it the other way and sums the
gradients of values that are read several times. There is no general autograd.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from lstm_native import _core
from lstm_native.arrays import to_step_flags
from lstm_native.later import max_calls
from lstm_native.layers.base import ActivityPenalty, Context, Layer, Tensor
from lstm_native.layers.dense import ActivationAtEnd
from lstm_native.layers.symbolic import name_of_mask
from lstm_native.models.plan import Chain, Plan, forward_into


class Step(NamedTuple):
    """One use of a layer.

    Attributes:
        layer: the layer.
        inputs: slots of its inputs.
        several: whether the layer takes a tuple of inputs.
        states: slots of the initial states of a recurrent layer.
        flags: slots of other arguments (mask, reset), by name.
        arguments: constant arguments, by name.
        training: True or False where the model's maker fixed it.
        outputs: slots of its outputs.
    """

    layer: Layer
    inputs: tuple[int, ...]
    several: bool
    states: tuple[int, ...]
    flags: dict[str, int]
    arguments: dict[str, Any]
    training: bool | None
    outputs: tuple[int, ...]


class Steps:
    """The list while it is made; nested models add their own steps.

    Attributes:
        steps: the list.
        slots: how many there are.
    """

    def __init__(self, inputs: int) -> None:
        self.steps: list[Step] = []
        self.slots = inputs
        self._limit = max_calls()

    def add(
        self,
        layer: Layer,
        inputs: Sequence[int],
        *,
        several: bool = False,
        states: Sequence[int] = (),
        flags: dict[str, int] | None = None,
        arguments: dict[str, Any] | None = None,
        training: bool | None = None,
        count: int = 1,
    ) -> tuple[int, ...]:
        """Adds a use of `layer`, which has `count` outputs; returns their slots."""
        expand = getattr(layer, "add_steps", None)
        if self._limit is not None:
            calls = 1 if expand is None else layer.number_of_calls()  # type: ignore[attr-defined]
            if len(self.steps) + calls > self._limit:
                raise layer.error(f"the model around it has more than {self._limit} calls of layers")
        if expand is not None:
            given = tuple(
                self._masked(slot, (flags or {}).get(name_of_mask(i, several)))
                for i, slot in enumerate(inputs)
            )
            outputs: tuple[int, ...] = expand(self, given, training, count)
            return outputs
        for part in layer.with_penalty():
            outputs = tuple(range(self.slots, self.slots + count))
            self.slots += count
            if part is layer:
                step = Step(
                    part,
                    tuple(inputs),
                    several,
                    tuple(states),
                    flags or {},
                    arguments or {},
                    training,
                    outputs,
                )
            else:  # what the outputs of the layer pass through
                step = Step(part, tuple(inputs), count > 1, (), {}, {}, training, outputs)
            self.steps.append(step)
            inputs = outputs
        return outputs

    def _masked(self, slot: int, mask: int | None) -> int:
        """Slot of the value in `slot` with the mask in slot `mask`."""
        if mask is None:
            return slot
        return self.add(_Identity(), (slot,), flags={"mask": mask})[0]


class _Identity(Layer):
    """Gives its inputs, with the mask that it was called with."""

    supports_masking = True
    unmoved_by_padding = True

    def __init__(self) -> None:
        super().__init__()
        self.built = True

    def forward(self, inputs: Any, ctx: Context, mask: Tensor | None = None) -> Any:
        return inputs

    def backward(self, d_outputs: Any, ctx: Context, need_d_inputs: bool = True) -> Any:
        return d_outputs


def steps_of(plan: Chain | Graph) -> tuple[list[Step], int | None]:
    """The uses of layers in a plan with one input, which is slot 0, and the slot of its output.

    That is None where there are several inputs or outputs.
    """
    if isinstance(plan, Graph):
        single = plan.inputs == len(plan.outputs) == 1
        return plan.steps, plan.outputs[0] if single else None
    steps = [Step(layer, (i,), False, (), {}, {}, None, (i + 1,)) for i, layer in enumerate(plan.layers)]
    return steps, len(steps)


class _Use(NamedTuple):
    """How one kind of pass uses a step."""

    step: Step
    forward: Any
    fused: bool  # the last activation is left to the loss
    record: bool
    need_d_inputs: bool
    ends: tuple[int, ...]  # slots that nobody reads afterwards


class Graph(Plan):
    """Steps in topological order.

    Args:
        steps: the steps; the first slots are those of the inputs.
        slots: number of slots.
        inputs: number of inputs.
        outputs: slots of the outputs.
        version: that of the structure.

    Attributes:
        steps, inputs, outputs: as given.
    """

    def __init__(
        self, steps: list[Step], slots: int, inputs: int, outputs: tuple[int, ...], version: int
    ) -> None:
        super().__init__([step.layer for step in steps], version)
        self.steps = steps
        self._slots = slots
        self.inputs = inputs
        self.outputs = outputs
        self._readers: list[list[Step]] = [[] for _ in range(slots)]
        for step in steps:
            for slot in {*step.inputs, *step.states, *step.flags.values()}:
                self._readers[slot].append(step)
        # Whether the value of a slot depends on a trainable variable.
        self._trained = [False] * slots
        for step in steps:
            trained = bool(step.layer.trainable_variables) or any(
                self._trained[slot] for slot in (*step.inputs, *step.states)
            )
            for slot in step.outputs:
                self._trained[slot] = trained
        self.first = next(iter(self.readers(0)), None)
        self._all = self._uses([None] * len(outputs), everything=True)
        self._to_loss: dict[Any, list[_Use]] = {}

    def readers(self, slot: int) -> list[Layer]:
        """The layers that have this slot for their only input; those of the inputs come first."""
        return [step.layer for step in self._readers[slot] if step.inputs == (slot,) and not step.several]

    def _fused(self, step: Step, activations: Sequence[Any]) -> bool:
        """Whether `step` does nothing but end the model in the activation that its loss wants."""
        slot, layer = step.outputs[0], step.layer
        return (
            isinstance(layer, ActivationAtEnd)
            and not self._readers[slot]
            and self.outputs.count(slot) == 1
            and bool(activations[self.outputs.index(slot)])
            and layer.output_activation == activations[self.outputs.index(slot)]
        )

    def _uses(self, activations: Sequence[Any], everything: bool = False) -> list[_Use]:
        """How a pass uses the steps: `activations` as in `forward_to_loss`."""
        reached = [False] * self._slots  # by gradients
        for slot, activation in zip(self.outputs, activations, strict=True):
            reached[slot] |= activation is not False
        kept = set(self.outputs)
        uses: list[_Use] = []
        for step in reversed(self.steps):
            layer, sources = step.layer, (*step.inputs, *step.states)
            wanted = isinstance(layer, ActivityPenalty) or any(reached[slot] for slot in step.outputs)
            record = everything or (wanted and self._trained[step.outputs[0]])
            for slot in sources:
                reached[slot] |= record
            ends = {slot for slot in (*sources, *step.flags.values()) if slot not in kept}
            kept |= ends
            fused = not everything and self._fused(step, activations)
            forward = layer.forward_logits if fused else self._forward_of(step)
            need = everything or any(self._trained[slot] for slot in sources)
            uses.append(_Use(step, forward, fused, record, need, tuple(ends)))
        return uses[::-1]

    def _forward_of(self, step: Step) -> Any:
        readers = self._readers[step.outputs[0]]
        only = len(readers) == 1 and step.outputs[0] not in self.outputs
        reader = readers[0] if only else None
        if reader is not None and reader.inputs != step.outputs:
            reader = None
        return forward_into(step.layer, reader.layer if reader is not None else None)

    def unmoved_by_padding(self) -> bool:
        # Where states are given, the mask enters a call only if it is passed.
        return super().unmoved_by_padding() and all(
            "mask" in step.flags or not step.states for step in self.steps
        )

    # --- passes -----------------------------------------------------------------------------------

    def forward(self, inputs: Any, ctx: Context, mask: Any = None) -> Any:
        return self._run(self._all, inputs, ctx, mask)

    def forward_to_loss(
        self, inputs: Any, ctx: Context, activation: Any, mask: Any = None
    ) -> tuple[Any, Any]:
        several = len(self.outputs) > 1
        uses = self._uses_to_loss(activation if several else (activation,))
        outputs = self._run(uses, inputs, ctx, mask)
        fused: list[Any] = [None] * len(self.outputs)
        for use in uses:
            if use.fused:
                fused[self.outputs.index(use.step.outputs[0])] = use.step.layer
        return outputs, tuple(fused) if several else fused[0]

    def _uses_to_loss(self, activations: tuple[Any, ...]) -> list[_Use]:
        uses = self._to_loss.get(activations)
        if uses is None:
            uses = self._to_loss[activations] = self._uses(activations)
        return uses

    def _run(self, uses: list[_Use], inputs: Any, ctx: Context, mask: Any) -> Any:
        values: list[Any] = [None] * self._slots
        masks: list[Any] = [None] * self._slots
        values[: self.inputs] = inputs if self.inputs > 1 else (inputs,)
        if mask is not None:
            masks[: self.inputs] = mask if self.inputs > 1 else (mask,)
        record, training = ctx.record, ctx.training
        for step, forward, fused, recorded, _, ends in uses:
            x, before, into, arguments = _read(step, values, masks)
            if step.layer.ends_masks and not ctx.padded:
                before = into = None
            ctx.record = record and recorded
            if step.training is not None:
                ctx.training = step.training
            outputs = forward(x, ctx) if fused else forward(x, ctx, into, **arguments)
            ctx.training = training
            after = step.layer.compute_mask(x, before)
            if len(step.outputs) == 1:
                values[step.outputs[0]] = outputs
                masks[step.outputs[0]] = after[0] if isinstance(after, list | tuple) else after
            else:
                # Of several outputs the first ones are the sequences; states have no mask.
                each = after if isinstance(after, list | tuple) else (after,)
                for slot, value, its_mask in zip_longest(step.outputs, outputs, each[: len(outputs)]):
                    values[slot], masks[slot] = value, its_mask
            for slot in ends:
                values[slot] = masks[slot] = None
        ctx.record = record
        if len(self.outputs) == 1:
            ctx.mask = masks[self.outputs[0]]
            return values[self.outputs[0]]
        ctx.mask = tuple(masks[slot] for slot in self.outputs)  # type: ignore[assignment]
        return tuple(values[slot] for slot in self.outputs)

    def backward_from_loss(self, gradient: Any, ctx: Context, fused: Any) -> None:
        several = len(self.outputs) > 1
        gradients = gradient if several else (gradient,)
        layers = fused if several else (fused,)
        activations = tuple(
            False if g is None else None if layer is None else layer.output_activation
            for g, layer in zip(gradients, layers, strict=True)
        )
        self._walk_back(self._uses_to_loss(activations), gradients, ctx)

    def backward(self, d_outputs: Any, ctx: Context, need_d_inputs: bool) -> Any:
        gradients = d_outputs if len(self.outputs) > 1 else (d_outputs,)
        sums = self._walk_back(self._all, gradients, ctx)
        return tuple(sums[: self.inputs]) if self.inputs > 1 else sums[0]

    def _walk_back(self, uses: list[_Use], gradients: Sequence[Any], ctx: Context) -> list[Tensor | None]:
        sums: list[Tensor | None] = [None] * self._slots
        own = [False] * self._slots  # sums that may be added to, for nobody else holds them

        def add(slot: int, gradient: Tensor | None) -> None:
            known = sums[slot]
            if known is None or gradient is None:
                sums[slot] = gradient if known is None else known
                return
            if not own[slot]:
                known = sums[slot] = known.copy()
                own[slot] = True
            _core.add_(known, gradient)

        for slot, gradient in zip(self.outputs, gradients, strict=True):
            add(slot, gradient)
        for use in reversed(uses):
            step = use.step
            given = [sums[slot] for slot in step.outputs]
            if not use.record:
                continue
            d_outputs = given[0] if len(given) == 1 else tuple(given)
            back = step.layer.backward_logits if use.fused else step.layer.backward
            d_inputs = back(d_outputs, ctx, use.need_d_inputs)
            for slot in step.outputs:
                sums[slot] = None
            sources = (*step.inputs, *step.states)
            each = d_inputs if isinstance(d_inputs, tuple) else (d_inputs,)
            for slot, gradient in zip(sources, each, strict=False):
                add(slot, gradient)
        return sums


def _read(step: Step, values: list[Any], masks: list[Any]) -> tuple[Any, Any, Any, dict[str, Any]]:
    """What a step takes from the slots.

    Returns:
        Its inputs, their masks, the masks that its layer's forward gets, and its further arguments.
    """
    arguments = step.arguments
    if step.states:
        arguments = {**arguments, "initial_state": tuple(values[slot] for slot in step.states)}
    # As in Keras, a mask comes along by itself only where the inputs are all that is passed.
    alone = not step.states
    if step.several:
        x = tuple(values[slot] for slot in step.inputs)
        before: Any = tuple(masks[slot] for slot in step.inputs)
        if step.flags:
            slots = [step.flags.get(name_of_mask(i, True)) for i in range(len(x))]
            before = tuple(
                None if slot is None else to_step_flags(values[slot], part.shape, step.layer.label(), "mask")
                for slot, part in zip(slots, x, strict=True)
            )
        if all(mask is None for mask in before):
            before = None
        return x, before, before if alone else None, arguments
    one, before = values[step.inputs[0]], masks[step.inputs[0]]
    into = before if alone else None
    for name, slot in step.flags.items():
        flags = to_step_flags(values[slot], one.shape, step.layer.label(), name)
        if name == "mask":
            before = into = flags
        else:
            arguments = {**arguments, name: flags}
    return one, before, into, arguments
