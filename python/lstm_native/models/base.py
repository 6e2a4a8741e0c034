"""Model: what Sequential and functional models share: passes, weights in memory and in files, the summary."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from lstm_native import _core, cuda, saving
from lstm_native.arrays import positive_int, to_step_flags
from lstm_native.layers.base import Context, Layer, structure_version
from lstm_native.models.graph import Graph, Steps, steps_of
from lstm_native.models.plan import Chain, unique
from lstm_native.naming import snake_case
from lstm_native.quantization import quantize_model, quantized_mode
from lstm_native.registration import custom_object_scope
from lstm_native.serialization import serialize
from lstm_native.streaming import Stream
from lstm_native.summary import print_summary
from lstm_native.training import Trainer
from lstm_native.trees import flat
from lstm_native.variable import Variable

if TYPE_CHECKING:
    from lstm_native.convert import Conversion


class Model(Trainer):
    """A model of layers. `Model(inputs, outputs)` makes a functional one, see `Functional`.

    A class of your own with layers among its attributes and a method `call`, as for Keras, trains too.

    Models and layers can be copied (`copy.deepcopy`) and pickled, with weights, optimizer and state.
    """

    builds_in_its_own_way = True
    conversion: Conversion | None = None
    """What was converted, where the model comes from another library."""

    uncopied: ClassVar[tuple[str, ...]] = (
        *Trainer.uncopied, "_current_plan", "_device", "_known_shapes", "_placeholders",
    )  # fmt: skip

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if cls is Model:
            from lstm_native.models.functional import Functional  # a subclass

            return Functional.__new__(Functional, *args, **kwargs)  # type: ignore[return-value]
        if cls.is_custom and cls.add_steps is Model.add_steps:
            from lstm_native.models.subclassed import class_of  # of a subclass

            cls = class_of(cls)  # type: ignore[assignment]
        return super().__new__(cls, *args, **kwargs)

    def make_uncopied(self) -> None:
        super().make_uncopied()
        self._current_plan: Chain | Graph | None = None
        self._known_shapes: tuple[int, Any, Any] = -1, None, None  # structure, shape of inputs, of outputs
        self._placeholders: tuple[Any, Any] | None = None
        self._device: str | None = None  # None: as the layers come

    # --- what a kind of model brings --------------------------------------------------------------

    @property
    def layers(self) -> list[Layer]:
        """The layers."""
        raise NotImplementedError

    def held_layers(self) -> Sequence[Layer]:
        return self.layers

    def number_of_calls(self) -> int:
        """How many calls of layers a pass has, those of a nested model for every call of it."""
        raise NotImplementedError

    def add_steps(
        self, steps: Steps, inputs: tuple[int, ...], training: bool | None, count: int
    ) -> tuple[int, ...]:
        """Adds what the model computes to `steps`; returns the slots of its outputs.

        Args:
            steps: the list.
            inputs: slots of the inputs.
            training: True or False where the caller fixed it.
            count: number of outputs.
        """
        raise NotImplementedError

    def output_shape_of(self, layer: Layer) -> Any:
        """Shape of the outputs of one layer of a built model; None when it is not built."""
        raise NotImplementedError

    def sources_of(self, layer: Layer) -> list[str] | None:
        """Names of the layers that feed `layer`; None for models whose layers follow each other."""
        return None

    def _counts(self) -> tuple[int, int]:
        """Numbers of inputs and outputs."""
        return 1, 1

    def make_placeholders(self) -> tuple[Any, Any]:
        """Placeholders of inputs and outputs, in the structure that the model was made with."""
        raise NotImplementedError

    # --- the list ---------------------------------------------------------------------------------

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

    # --- placeholders -----------------------------------------------------------------------------

    def _symbols(self) -> tuple[Any, Any]:
        if self._placeholders is None:
            self._placeholders = self.make_placeholders()
        return self._placeholders

    @property
    def input(self) -> Any:
        """Placeholder of the inputs, or several; to build other models from."""
        return self._symbols()[0]

    @property
    def output(self) -> Any:
        """Placeholder of the outputs, or several; to build other models from."""
        return self._symbols()[1]

    @property
    def inputs(self) -> list[Any]:
        """Placeholders of all inputs."""
        return flat(self.input)

    @property
    def outputs(self) -> list[Any]:
        """Placeholders of all outputs."""
        return flat(self.output)

    # --- passes -----------------------------------------------------------------------------------

    def _plan(self) -> Chain | Graph:
        plan = self._current_plan
        version = structure_version()
        if plan is None or plan.version != version:
            plan = self._current_plan = self._new_plan(version)
            # In the order of `trainable_variables`, as Keras numbers an optimizer's slots.
            order = {id(variable): i for i, variable in enumerate(self.trainable_variables)}
            plan.variables.sort(key=lambda variable: order[id(variable)])
            if self._device is not None:  # variables made since `to`
                _core.move_variables(self.variables, self._device)
        return plan

    def _remembered_shape(self, input_shape: Any, compute: Callable[[Any], Any]) -> Any:
        """What `compute` gives for a shape of inputs; what was asked for last is known.

        Models in models ask for it twice on each level. A plan would know it too, but lists all calls.
        """
        version = structure_version()
        known, given, outputs = self._known_shapes
        if known != version or given != input_shape:
            outputs = compute(input_shape)
            self._known_shapes = version, input_shape, outputs
        return outputs

    def _new_plan(self, version: int) -> Chain | Graph:
        inputs, count = self._counts()
        steps = Steps(inputs)
        outputs = self.add_steps(steps, tuple(range(inputs)), None, count)
        x: tuple[int, ...] = (0,)
        for step in steps.steps:
            plain = not (step.several or step.states or step.flags or step.arguments)
            if (
                inputs != 1
                or step.inputs != x
                or len(step.outputs) != 1
                or not plain
                or step.training is not None
            ):
                break
            x = step.outputs
        else:
            if outputs == x:
                return Chain([step.layer for step in steps.steps], version)
        return Graph(steps.steps, steps.slots, inputs, outputs, version)

    def check_can_train(self) -> None:
        self._plan().check_can_train()

    def __call__(self, inputs: Any, training: bool = False, mask: Any = None) -> Any:
        """Outputs for `inputs`, as NumPy arrays; the first call builds the model.

        Args:
            inputs: array-like with the batch axis first; a list or dict of them for several inputs.
            training: layers behave as in training (dropout).
            mask: bool (batch, time), True where a time step counts; for several inputs a list with one, or
                None, for each.
        """
        x: Any = self.as_input(inputs)
        if type(x) is tuple:
            masks = [None] * len(x) if mask is None else flat(mask)
            if len(masks) != len(x):
                raise self.error(f"mask has {len(masks)} items, expected one for each of {len(x)} inputs")
            flags: Any = tuple(
                to_step_flags(m, part.shape, self.label(), "mask") for m, part in zip(masks, x, strict=True)
            )
        else:
            flags = to_step_flags(mask, x.shape, self.label(), "mask")
        return self.packed_arrays(self._call(x, Context(bool(training)), flags))

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """The mask of the inputs, as in Keras; the layers of the model know that of its outputs."""
        return previous_mask

    def forward(self, inputs: Any, ctx: Context, mask: Any = None) -> Any:
        return self._plan().forward(inputs, ctx, mask)

    def forward_to_loss(
        self, inputs: Any, ctx: Context, activation: Any, mask: Any = None
    ) -> tuple[Any, Any]:
        return self._plan().forward_to_loss(inputs, ctx, activation, mask)

    def backward_from_loss(self, gradient: Any, ctx: Context, fused: Any) -> None:
        self._plan().backward_from_loss(gradient, ctx, fused)

    def backward(self, d_outputs: Any, ctx: Context, need_d_inputs: bool = True) -> Any:
        return self._plan().backward(d_outputs, ctx, need_d_inputs)

    def variables_to_train(self) -> list[Variable]:
        """The trainable variables, in a list that must not be changed."""
        return self._plan().variables

    def has_penalties(self) -> bool:
        return self._plan().penalties

    @property
    def unmoved_by_padding(self) -> bool:
        """Whether outputs at valid steps are the same bits with and without masked steps behind them."""
        return self._plan().unmoved_by_padding()

    def stateful_layers(self) -> list[Any]:
        """The layers that keep a state between calls."""
        return self._plan().stateful

    def reset_state(self) -> None:
        """Sets the state of all stateful layers to zero."""
        for layer in self.held_layers():
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
            ValueError: the model is not built, takes no sequences, has several inputs or outputs, or a layer
                that cannot run step by step; the message names the layer.
        """
        rows = positive_int(batch_size, self.label(), "stream: batch_size")
        if not self.built:
            raise self.error("stream before the model is built: call build(input_shape) first")
        steps, output = steps_of(self._plan())
        if output is None:
            raise self.error("stream needs a model with one input and one output")
        return Stream(steps, output, self.input_shape, rows, self.label(), self.device)

    def layers_in_a_row(self) -> list[Layer] | None:
        """The layers, nested ones too, where each reads only the one before it; None where not."""
        plan = self._plan()
        return plan.layers if isinstance(plan, Chain) else None

    @property
    def input_shape(self) -> Any:
        """Shape of the inputs, None where it may vary; a list for several inputs.

        Raises:
            AttributeError: the model is not built.
        """
        raise NotImplementedError

    def quantize(self, mode: str, calibration_data: Any = None) -> None:
        """Stores the weights in 16 or 8 bits, for inference on the CPU: half or a quarter of the bytes.

        Bytes are what limits streams and small batches of large layers. Changed are kernels and recurrent
        kernels of `LSTM`, `GRU` and `SimpleRNN` (in wrappers and cells too), kernels of `Dense` and tables of
        `Embedding`. Biases stay in float32, as do other layers, and recurrent layers with `clip`, peepholes,
        a projection, coupled gates, `activations.Parametric` or activations in Python. Activations, states
        and sums are float32 in any case: outputs are those of the rounded weights, the same bit for bit in
        streams, for every number of threads and in every batch.

        `predict`, `evaluate`, calls, `stream`, copies, `save` and `load_model` work as before. `get_weights`,
        the conversions and files of other kinds give the rounded weights as float32. `set_weights`,
        `load_weights` and training raise ValueError: keep the float32 model for these. Calls of other threads
        that are under way are waited for.

        Args:
            mode: "bfloat16" rounds to 8 significant bits, an error of at most 1/256 of a weight; "int8" to
                multiples of a scale that each column (of an `Embedding`, each row) has, an error of at most
                1/254 of the largest magnitude there.
            calibration_data: accepted as other libraries have it, and not used: nothing but weights is
                quantized, so no range of activations has to be found.

        Raises:
            ValueError: another mode; the model is not built, quantized already, on a GPU or has no such
                layers; "int8" of weights that are not finite. Nothing is changed then.
            RuntimeError: the model is training.
        """
        if not self.built:
            raise self.error("quantize before the model is built: call build(input_shape) first")
        if self.device != "cpu":
            raise self.error(f"quantize of a model on the device {self.device!r}: call to('cpu') first")
        with self.not_training("quantize"):
            quantize_model(self, mode, f"{self.label()}: quantize")

    # --- device -----------------------------------------------------------------------------------

    @property
    def device(self) -> str:
        """Where the weights lie and the model computes: "cpu" or "cuda"."""
        if self._device is not None:
            return self._device
        return next((variable.device for variable in self.variables), "cpu")

    def to(self, device: str) -> Self:
        """Moves the weights, and what the optimizer keeps of them, to "cpu" or "cuda".

        "cuda" and "cuda:0" are the first GPU that the environment variable CUDA_VISIBLE_DEVICES shows; a
        process computes on one.
        On a GPU `predict` gives NumPy arrays as ever; calls of the model give tensors that lie there, and
        take those of other libraries (DLPack) without a copy. Layers that other models share move with it.
        Weights that are made later go there too. Copies and pickles of a model lie on the CPU.

        Returns:
            The model.

        Raises:
            RuntimeError: CUDA cannot be used, or the model is training; the model stays where it is.
            ValueError: another device, or "cuda" for quantized weights.
            MemoryError: the weights do not fit there.
        """
        if device == "cuda:0":
            device = "cuda"
        if device not in ("cpu", "cuda"):
            raise self.error(f"to got the device {device!r}, expected 'cpu' or 'cuda'{cuda.advice(device)}")
        if device == "cuda":
            mode = quantized_mode(self.variables)
            if mode is not None:
                raise self.error(
                    f"to('cuda'): weights are quantized to {mode}, which the CPU alone computes with; move "
                    "the float32 model, cuda.set_precision chooses what it computes with there"
                )
            cuda.open_device()
        with self.not_training("to"):
            kept = () if self.optimizer is None else self.optimizer.variables
            _core.move_variables([*self.variables, *(v for v in kept if isinstance(v, Variable))], device)
            self._device = device
        return self

    # --- weights ----------------------------------------------------------------------------------

    @property
    def variables(self) -> list[Variable]:
        """All variables, layer by layer."""
        return unique(v for layer in self.held_layers() for v in layer.variables)

    @property
    def trainable(self) -> bool:
        """Whether training changes the weights; setting it sets it for all layers."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        for layer in self.held_layers():
            layer.trainable = self._trainable

    def named_variables(self) -> dict[str, Variable]:
        """Variables by a name that depends on the model's structure alone, as files need it."""
        if not self.built:
            raise self.error("the model has no weights before it is built: call build(input_shape) first")
        named: dict[str, Variable] = {}
        counts: dict[str, int] = {}
        for layer in unique(self._plan().layers):
            kind = snake_case(type(layer).__name__)
            count = counts.get(kind, 0)
            counts[kind] = count + 1
            for name, variable in layer.named_variables().items():
                named[f"{kind}_{count}/{name}" if count else f"{kind}/{name}"] = variable
        return named

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Self:
        """A model from `get_config()`, with new weights.

        `Model.from_config` makes what `config` describes, a functional model or a `Sequential`.

        Args:
            config: the data.
            custom_objects: classes and functions of the caller by name.

        Raises:
            ValueError: data that describe no such model.
        """
        with custom_object_scope(custom_objects):
            if cls is not Model:
                return super().from_config(config)
            from lstm_native.models import Functional, Sequential  # subclasses

            kind = Functional if isinstance(config, dict) and "input_layers" in config else Sequential
            return kind.from_config(config)  # type: ignore[return-value]

    def to_json(self, **kwargs: Any) -> str:
        """The layers and how they are connected, without weights, as JSON; see `models.model_from_json`.

        Args:
            kwargs: arguments of `json.dumps`.
        """
        return json.dumps(serialize(self), **kwargs)

    def save_weights(self, filepath: str | os.PathLike[str], overwrite: bool = True) -> None:
        """Writes all weights to one file, which appears whole or not at all.

        In a safetensors file they are named by the kind of their layer and its number in the model
        ("lstm_1/kernel"). A name that ends in ".h5" or ".hdf5", such as "model.weights.h5", makes a file that
        Keras 3 reads with `load_weights`.

        Args:
            filepath: the file.
            overwrite: False raises FileExistsError when the file is there.
        """
        saving.save_weights(self, filepath, overwrite)

    def load_weights(
        self,
        filepath: str | os.PathLike[str],
        skip_mismatch: bool = False,
        by_name: bool = False,
        objects_to_skip: Iterable[Layer] | None = None,
    ) -> None:
        """Reads the weights in a file of `save_weights`, `save` or Keras; sets all of them or none.

        Args:
            filepath: the file, whatever it is called.
            skip_mismatch: layers whose weights are missing in the file, or are of another number or shape
                there, keep their own, with a warning for each; weights of layers that the model lacks are
                left alone. Files of old Keras list layers in order; with another number of them than the
                model has, names say which is which.
            by_name: layers take the weights of the layer with their name, those that the file does not name
                keep their own; for files of old Keras (".h5"), the only ones that go by such names.
            objects_to_skip: layers that keep their own weights.

        Raises:
            ValueError: the file is damaged or none of weights, or its weights are not those of this model.
        """
        saving.load_weights(self, filepath, skip_mismatch, by_name, objects_to_skip)

    def save(
        self,
        filepath: str | os.PathLike[str],
        overwrite: bool = True,
        include_optimizer: bool = True,
        include_state: bool = False,
        include_history: bool = False,
    ) -> None:
        """Writes the whole model to one file, from which `load_model` makes it again.

        Arguments and errors are those of `models.save_model`.
        """
        saving.save_model(self, filepath, overwrite, include_optimizer, include_state, include_history)


def holds(layer: Layer, sought: Layer) -> bool:
    """Whether `sought` is a part of `layer`, of whatever depth."""
    return any(part is sought or holds(part, sought) for part in layer.held_layers())


def calls_of(layers: Iterable[Layer]) -> int:
    """The sum of the calls that these layers are in a pass."""
    return sum(layer.number_of_calls() if isinstance(layer, Model) else 1 for layer in layers)
