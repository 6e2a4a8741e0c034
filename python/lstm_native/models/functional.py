"""Functional: a model with branches, from what calls of layers on `Input(...)` have recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

from lstm_native.arrays import to_float32
from lstm_native.feeding import rows_of, shape_of
from lstm_native.layers.base import Context, Layer, call_outputs, empty_outputs, structure_changed
from lstm_native.layers.cloning import clone_layer
from lstm_native.layers.embedding import Embedding
from lstm_native.layers.inputs import InputLayer
from lstm_native.layers.symbolic import Node, Placeholder, output_shapes
from lstm_native.models.base import Model, calls_of
from lstm_native.models.configuration import call_again, graph_config, graph_from_config, tree_config
from lstm_native.models.graph import Step, Steps
from lstm_native.models.plan import Chain, unique
from lstm_native.models.structure import Structure
from lstm_native.registration import custom_object_scope
from lstm_native.serialization import deserialize
from lstm_native.trees import flat, is_shape


class Functional(Model):
    """A model from placeholders to placeholders; `Model(inputs, outputs)` makes one.

    It is the list of the calls that lead from `inputs` to `outputs`. Layers may be shared with other
    models, and used several times; models may be called like layers. As in Keras, masks come along by
    themselves, but not into a call that is given initial states: pass `mask` to it where it needs one.

        encoder_input = Input((None, 8))
        _, h, c = LSTM(32, return_state=True)(encoder_input)
        decoder_input = Input((None, 4))
        steps = LSTM(32, return_sequences=True)(decoder_input, initial_state=[h, c])
        model = Model([encoder_input, decoder_input], Dense(4)(steps))

    Data for several inputs are a list in their order, or a dict by their names; so are labels for several
    outputs.

    Args:
        inputs: what `Input(...)` gave, or a list or dict of that. Results of layers are allowed too: the
            model begins there.
        outputs: what layers gave, or a list or dict of that.
        name: name of the model; numbered automatically by default.
        trainable: False freezes all layers.

    Raises:
        ValueError: the outputs need an input that is not listed, or two layers have one name.

    Attributes:
        input_names: names of the inputs.
        output_names: names of the layers that the outputs come from, or the keys of a dict of outputs.
    """

    # In configurations of Keras' form calls of functional models are counted from 1.
    calls_before_first: ClassVar[int] = 1

    def __init__(
        self, inputs: Any, outputs: Any, *, name: str | None = None, trainable: bool = True, **kwargs: Any
    ) -> None:
        if kwargs:
            raise TypeError(f"Model: unknown argument {next(iter(kwargs))!r}")
        super().__init__(name=name, trainable=trainable)
        self._arguments = (), {}  # placeholders hold the whole graph, which copies leave out
        self._in, self._out = Structure(inputs), Structure(outputs)
        starts, ends = self._in.values, self._out.values
        for what, values in (("inputs", starts), ("outputs", ends)):
            if not values or not all(isinstance(value, Placeholder) for value in values):
                raise self.error(f"{what} must be what Input(...) and calls of layers on it gave")
        if len(set(starts)) != len(starts):
            raise self.error("inputs holds one placeholder twice")
        nodes = self._nodes_between(starts, ends)
        self._placeholders = inputs, outputs
        self._in.forget_values()
        self._out.forget_values()

        self._input_layers = [_input_layer(start) for start in starts]
        self.input_names = self._in.keys or [layer.name for layer in self._input_layers]
        self.output_names = self._out.keys or _distinct(end.node.layer.name for end in ends)
        slots = {start: slot for slot, start in enumerate(starts)}
        self._steps: list[Step] = []
        for node in nodes:
            for value in node.outputs:
                slots[value] = len(slots)
            self._steps.append(
                Step(
                    node.layer,
                    tuple(slots[value] for value in node.inputs),
                    node.several,
                    tuple(slots[value] for value in node.states),
                    {flag: slots[value] for flag, value in node.flags.items()},
                    node.arguments,
                    node.training,
                    tuple(slots[value] for value in node.outputs),
                )
            )
        self._slots = len(slots)
        self._calls = calls_of(step.layer for step in self._steps)
        self._ends = tuple(slots[end] for end in ends)
        self._layers = self._by_depth()
        names: set[str] = set()
        for layer in self._layers:
            if layer.name in names:
                raise self.error(f"two layers are called {layer.name!r}, layers should have unique names")
            names.add(layer.name)
        self.built = True
        structure_changed()
        if not trainable:
            self.trainable = False

    def _nodes_between(self, starts: list[Placeholder], ends: list[Placeholder]) -> list[Node]:
        """The calls that lead from `starts` to `ends`, each behind those that it needs.

        The order is a matter of the structure alone, not of when the calls were made: names of weights in
        files depend on it, and a model that comes from a file has made its calls in another order.
        """
        given, found = set(starts), dict[Node, None]()
        entered: set[Node] = set()
        stack = [(value, False) for value in reversed(ends)]
        while stack:
            value, leaving = stack.pop()
            if leaving:
                found[value.node] = None
            if value in given or value.node in entered:
                continue
            if not value.node.inputs:
                raise self.error(
                    f"the outputs need the Input {value.name!r}, which is not among the inputs "
                    f"{[start.name for start in starts]}"
                )
            entered.add(value.node)
            stack.append((value, True))
            stack += [(source, False) for source in reversed(value.node.sources)]
        return list(found)

    def _by_depth(self) -> list[Layer]:
        """All layers, inputs too, those farthest from the outputs first, as Keras orders them."""
        makers = {slot: step for step in self._steps for slot in step.outputs}
        layer_of: dict[int, Layer] = dict(enumerate(self._input_layers))
        layer_of |= {slot: step.layer for slot, step in makers.items()}
        seen: dict[Layer, int] = {}  # in the order in which a search from the outputs meets them
        searched: list[Step] = []  # in the order in which it leaves them
        done: set[Any] = set()
        for end in self._ends:
            stack: list[tuple[int, bool]] = [(end, False)]
            while stack:
                slot, leaving = stack.pop()
                step = makers.get(slot)
                call = slot if step is None else step.outputs
                if leaving and step is not None:
                    searched.append(step)
                if call in done:
                    continue
                done.add(call)
                seen.setdefault(layer_of[slot], len(seen))
                if step is not None:
                    stack.append((slot, True))
                    stack += [(source, False) for source in reversed(_sources(step))]
        depth_of_slot = dict.fromkeys(range(self._slots), 0)
        depth: dict[Layer, int] = {}
        for step in reversed(searched):
            at = max(depth.get(step.layer, 0), *(depth_of_slot[slot] for slot in step.outputs))
            depth[step.layer] = at
            for slot in _sources(step):
                depth_of_slot[slot] = max(depth_of_slot[slot], at + 1)
        for slot, layer in enumerate(self._input_layers):
            depth[layer] = depth_of_slot[slot]
        unused = -1  # inputs that no output needs come first among those of depth 0
        return sorted(depth, key=lambda layer: (-depth[layer], seen.get(layer, unused)))

    # --- structure --------------------------------------------------------------------------------

    @property
    def layers(self) -> list[Layer]:
        """The layers, inputs too, those farthest from the outputs first."""
        return list(self._layers)

    def _counts(self) -> tuple[int, int]:
        return len(self._input_layers), len(self._ends)

    def number_of_calls(self) -> int:
        return self._calls

    def add_steps(
        self, steps: Steps, inputs: tuple[int, ...], training: bool | None, count: int
    ) -> tuple[int, ...]:
        slots = dict(enumerate(inputs))
        for step in self._steps:
            outputs = steps.add(
                step.layer,
                [slots[slot] for slot in step.inputs],
                several=step.several,
                states=[slots[slot] for slot in step.states],
                flags={name: slots[slot] for name, slot in step.flags.items()},
                arguments=step.arguments,
                training=training if step.training is None else step.training,
                count=len(step.outputs),
            )
            slots |= zip(step.outputs, outputs, strict=True)
        return tuple(slots[slot] for slot in self._ends)

    def make_placeholders(self) -> tuple[Any, Any]:
        """The calls recorded anew, for a model that is a copy."""
        return self.calls_again(lambda layer: layer, [layer.output for layer in self._input_layers])

    def calls_again(
        self, layer_for: Callable[[Layer], Layer], given: Sequence[Any] | None
    ) -> tuple[Any, Any]:
        """The calls recorded once more, of other layers: placeholders of inputs and outputs.

        Args:
            layer_for: gives the layer that takes the place of one of the model's.
            given: placeholders of the inputs; those of new `InputLayer`s by default.

        Raises:
            ValueError: another number of placeholders.
        """
        starts = [clone_layer(layer).output for layer in self._input_layers] if given is None else list(given)
        if len(starts) != len(self._input_layers):
            raise self.error(f"got {len(starts)} input_tensors, expected {len(self._input_layers)}")
        values: dict[int, Any] = dict(enumerate(starts))
        for step in self._steps:
            call_again(step, layer_for(step.layer), values)
        return self._in.pack(starts), self._out.pack([values[slot] for slot in self._ends])

    def get_config(self) -> dict[str, Any]:
        """Name, layers and how they are connected, as data that JSON can hold."""
        shapes = self._all_shapes([layer.batch_shape for layer in self._input_layers])
        layers, history = graph_config(self._layers, self._input_layers, self._steps, shapes)
        inputs = [history(slot) for slot in range(len(self._input_layers))]
        outputs = [history(slot) for slot in self._ends]
        return {
            "name": self.name,
            "trainable": self.trainable,
            "layers": layers,
            "input_layers": tree_config(self._in.pack(inputs)),
            "output_layers": tree_config(self._out.pack(outputs)),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Self:
        """See `Model`."""
        with custom_object_scope(custom_objects):
            inputs, outputs = graph_from_config(config, cls.__name__)
            graph = ("layers", "input_layers", "output_layers")
            given = {name: deserialize(value) for name, value in config.items() if name not in graph}
            return cls(inputs, outputs, **given)

    def flat_placeholders(self, inputs: Any) -> tuple[list[Any], bool]:
        return self.flat_inputs(inputs), len(self._input_layers) > 1

    def packed_outputs(self, outputs: Any) -> Any:
        return self._out.pack(flat(outputs))

    # --- shapes and building ----------------------------------------------------------------------

    def build(self, input_shape: Any = None) -> None:
        """Nothing to do: the weights were made when the layers were called on placeholders."""

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Shape of the outputs for inputs of `input_shape` (batch axis included, None where unknown).

        Several inputs have a tuple of shapes, several outputs too.

        Raises:
            ValueError: the shape does not fit a layer.
        """

        def compute(given: Any) -> Any:
            shapes = self._all_shapes(self._in_shapes(given))
            ends = tuple(shapes[slot] for slot in self._ends)
            return ends if len(ends) > 1 else ends[0]

        return self._remembered_shape(input_shape, compute)

    def _in_shapes(self, given: Any) -> list[Any]:
        count = len(self._input_layers)
        nested = bool(given) and isinstance(given[0], list | tuple)
        shapes = [tuple(shape) for shape in given] if nested else [tuple(given)]
        if len(shapes) != count:
            raise self.error(f"got inputs of shape {given}, expected {count} inputs")
        return shapes

    def _all_shapes(self, shapes: list[Any]) -> dict[int, Any]:
        """Shapes of all values."""
        for layer, shape in zip(self._input_layers, shapes, strict=True):
            layer.check_input_shape(shape)
        known: dict[int, Any] = dict(enumerate(shapes))
        for step in self._steps:
            given = tuple(known[slot] for slot in step.inputs)
            size: Any = given if step.several else given[0]
            step.layer.check_input_shape(size)
            outputs = flat(output_shapes(step.layer, size, step.arguments), is_shape)
            known |= zip(step.outputs, outputs, strict=True)
        return known

    def check_input_shape(self, shape: Any) -> None:
        self.compute_output_shape(shape)

    @property
    def input_shape(self) -> Any:
        """Shape of the inputs, None where it may vary; a list for several inputs."""
        shapes = [layer.batch_shape for layer in self._input_layers]
        return shapes if len(shapes) > 1 else shapes[0]

    @property
    def output_shape(self) -> Any:
        """Shape of the outputs, None where it may vary; a list for several outputs."""
        shape = self.compute_output_shape(self._given_shapes())
        return list(shape) if len(self._ends) > 1 else shape

    def _given_shapes(self) -> Any:
        shapes = tuple(layer.batch_shape for layer in self._input_layers)
        return shapes if len(shapes) > 1 else shapes[0]

    def output_shape_of(self, layer: Layer) -> Any:
        """Shape of the outputs of one layer, of its first call."""
        if isinstance(layer, InputLayer):
            return layer.batch_shape
        shapes = self._all_shapes([one.batch_shape for one in self._input_layers])
        step = next(step for step in self._steps if step.layer is layer)
        each = tuple(shapes[slot] for slot in step.outputs)
        return each if len(each) > 1 else each[0]

    def sources_of(self, layer: Layer) -> list[str] | None:
        """Names of the layers that feed `layer`, with the number of the output where there are several.

        None where the layers follow each other, as in `Sequential`.
        """
        if isinstance(self._plan(), Chain):
            return None
        names = {slot: one.name for slot, one in enumerate(self._input_layers)}
        for step in self._steps:
            for i, slot in enumerate(step.outputs):
                names[slot] = f"{step.layer.name}[{i}]" if len(step.outputs) > 1 else step.layer.name
        return unique(names[slot] for step in self._steps if step.layer is layer for slot in _sources(step))

    def _call(self, x: Any, ctx: Context, mask: Any, **arguments: Any) -> Any:
        shape = self.compute_output_shape(shape_of(x))  # also checks
        if rows_of(x) == 0:
            return empty_outputs(shape)
        outputs = self.forward(x, ctx, mask)
        ctx.commit_states()
        return call_outputs(outputs, ctx)

    # --- data -------------------------------------------------------------------------------------

    def flat_inputs(self, inputs: Any) -> list[Any]:
        """The inputs in their order, from a list, or a dict by name."""
        ranks = [len(layer.batch_shape) for layer in self._input_layers]
        return self._in.flatten(inputs, self.input_names, ranks, f"{self.label()}: input")

    def as_input(self, inputs: Any) -> Any:
        plan = self._plan()
        tensors = []
        for i, given in enumerate(self.flat_inputs(inputs)):
            readers = plan.readers(i)
            # Ids stay whole numbers where nobody but embeddings reads them.
            taker = next((r for r in readers if not isinstance(r, Embedding)), next(iter(readers), None))
            name = f"input {self.input_names[i]!r}"
            tensors.append(to_float32(given, self.label(), name) if taker is None else taker.as_input(given))
        return tuple(tensors) if len(tensors) > 1 else tensors[0]

    def check_values(self, inputs: Any) -> None:
        plan = self._plan()
        for i, tensor in enumerate(inputs if isinstance(inputs, tuple) else (inputs,)):
            for reader in plan.readers(i):
                if isinstance(reader, Embedding):
                    reader.check_values(reader.as_input(tensor))

    def packed_arrays(self, outputs: Any) -> Any:
        return self._out.pack(outputs if isinstance(outputs, tuple) else (outputs,))

    def flat_outputs(self, values: Any, argument: str) -> list[Any]:
        """Labels or weights in the order of the outputs, None where a dict leaves one out."""
        shapes = flat(self.compute_output_shape(self._given_shapes()), is_shape)
        ranks = [len(shape) for shape in shapes]
        what = f"{self.label()}: {argument}"
        return self._out.flatten(values, self.output_names, ranks, what, may_lack=True)

    def names_of_outputs(self) -> list[str]:
        return self.output_names

    def fixed_batch_size(self) -> int | None:
        """Number of rows that every batch must have; None when it is free."""
        sizes = {layer.batch_shape[0] for layer in self._input_layers} - {None}
        return next(iter(sizes), None)


def _input_layer(start: Placeholder) -> InputLayer:
    layer = start.node.layer
    if isinstance(layer, InputLayer):
        return layer
    return InputLayer(batch_shape=start.shape, dtype=start.dtype, name=f"{start.name}_input")


def _sources(step: Step) -> tuple[int, ...]:
    return (*step.inputs, *step.states, *step.flags.values())


def _distinct(names: Iterable[str]) -> list[str]:
    """Names with "_1", "_2" ... behind where they came before."""
    counts: dict[str, int] = {}
    distinct = []
    for name in names:
        count = counts.get(name, 0)
        counts[name] = count + 1
        distinct.append(f"{name}_{count}" if count else name)
    return distinct
