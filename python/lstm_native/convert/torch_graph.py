"""A module of PyTorch with a `forward` of its own, read with `torch.fx`, as a functional model."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lstm_native.convert.both_sides import steps_for
from lstm_native.convert.conversion import Conversion
from lstm_native.convert.layouts import Array
from lstm_native.convert.torch_joins import (
    CATS,
    KINDS,
    PRODUCTS,
    SCALES,
    Flow,
    form_of_input,
    joined,
    name_of,
    picker,
    product,
    rescaling,
    side_by_side,
    takes_last_step,
)
from lstm_native.convert.torch_layers import (
    CELLS,
    ELEMENTWISE,
    OVER_CHANNELS,
    Part,
    Recurrent,
    kind_of,
    part_of,
)
from lstm_native.convert.torch_runs import (
    Piece,
    Run,
    State,
    Zeros,
    initial_states,
    is_last_step,
    last_of_both,
    part_of_run,
    tensor_of_state,
    wants,
)
from lstm_native.layers import (
    Activation,
    Dropout,
    Flatten,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    Input,
    Permute,
)
from lstm_native.models import Model

# Functions and methods that change places of axes, and those that leave a tensor as it is.
SWAPS = ("transpose", "permute", "t", "swapaxes")
UNCHANGED = ("to", "cuda", "cpu", "contiguous", "detach", "clone", "float", "long", "int", "requires_grad_")


TURNS = ((1, 2), (2, 1), (-1, -2), (-2, -1), (0, 2, 1))  # those of axes 1 and 2


def _order(axes: Sequence[Any]) -> tuple[Any, ...]:
    """The axes that a function which moves them was given, one by one or as a list."""
    return tuple(axes[0]) if len(axes) == 1 and isinstance(axes[0], tuple | list) else tuple(axes)


def _settled(value: Flow) -> Flow:
    """With the axes in the order that PyTorch has."""
    return Flow(Permute((2, 1))(value.tensor)) if value.turned else value


class Opaque:
    """A size, a device or the like, which only says how large zeros are."""


class TorchGraph:
    """Turns a traced module into a model.

    Args:
        module: the module; its class may be the caller's.
        name: of its class, for messages.
        record: gets the conventions.

    Attributes:
        inputs: the placeholders of the model.
        parts: its layers with their weights.
    """

    def __init__(self, module: Any, name: str, record: Conversion) -> None:
        import torch
        import torch.fx

        class Tracer(torch.fx.Tracer):  # type: ignore[misc]
            def is_leaf_module(self, m: Any, qualified_name: str) -> bool:
                return kind_of(m) is not None or super().is_leaf_module(m, qualified_name)

        self._torch = torch
        self._module = module
        self._record = record
        self._name = name
        self.parts: list[Part] = []
        self.inputs: list[Flow] = []
        self._outputs: list[Flow] = []
        self._ids: dict[int, int] = {}  # number of ids, by the number of the input
        self._layers: dict[str, Any] = {}  # by the module's path: one that is called twice is one layer
        try:
            self._graph = Tracer().trace(module)
        except Exception as error:  # whatever the caller's code does with placeholders
            raise ValueError(
                f"from_torch: forward of {self._name} cannot be followed without data ({error}); convert its "
                "parts"
            ) from error
        self._values: dict[Any, Any] = {}

    def model(self) -> Model:
        """The model, whose weights are not loaded yet."""
        for node in self._graph.nodes:
            if node.op == "output":
                return self._finish(node)
            self._values[node] = getattr(self, f"_{node.op}")(node)
        raise AssertionError("a traced graph ends with its output")

    # --- nodes ------------------------------------------------------------------------------------

    def _error(self, node: Any, why: str) -> ValueError:
        call = f"{node.name} = {name_of(node)}({', '.join(map(str, node.args))})"
        return ValueError(f"from_torch: {self._name}: {call}: {why}")

    def _value(self, argument: Any) -> Any:
        """The value of a node; containers of nodes likewise; constants as they are."""
        if isinstance(argument, self._torch.fx.Node):
            return self._values[argument]
        if isinstance(argument, tuple | list):
            return type(argument)(self._value(item) for item in argument)
        return argument

    def _placeholder(self, node: Any) -> Any:
        module, _, turned = self._reader(node, lambda module: True)
        kind = None if module is None else kind_of(module)
        if kind == "Embedding":
            self._ids[len(self.inputs)] = module.num_embeddings
            tensor = Input((None,), dtype="int32", name=node.name)
        elif kind in CELLS:
            tensor = Input((None, module.input_size), name=node.name)
        elif kind == "Linear":
            tensor = Input((module.in_features,), name=node.name)
        elif kind == "Conv1d":
            shape = (None, module.in_channels)
            tensor = Input(shape if turned else shape[::-1], name=node.name)
        elif module is not None and kind is None:
            raise self._error(node, f"it is read by a {type(module).__name__}, which has no layer here")
        elif (form := form_of_input(self._graph, self._module, node)) is not None:
            tensor = Input((None,) * (form[0] - 2) + (form[1],), name=node.name)
        else:
            raise self._error(node, "no module that tells the shape of this input reads it")
        recurrent, swaps, _ = self._reader(node, lambda module: kind_of(module) in CELLS)
        swapped = recurrent is not None and swaps == recurrent.batch_first
        if swapped:
            self._record.note(f"input {node.name}: time first in PyTorch, batch first here")
        self.inputs.append(Flow(tensor, swapped))
        return self.inputs[-1]

    def _reader(self, node: Any, wanted: Callable[[Any], bool]) -> tuple[Any, bool, bool]:
        """The first wanted module behind a node; whether axes 0 and 1, or 1 and 2, change places first."""
        todo = [(node, False, False)]
        for now, swaps, turns in todo:
            for user in now.users:
                module = self._module.get_submodule(user.target) if user.op == "call_module" else None
                if module is not None and user.args[0] is now and wanted(module):
                    return module, swaps, turns
                if name_of(user) not in (*CATS, *PRODUCTS):  # behind which features are others
                    swap = name_of(user) in SWAPS
                    turn = swap and _order(user.args[1:]) in TURNS
                    todo.append((user, swaps != (swap and not turn), turns != turn))
        return None, False, False

    def _get_attr(self, node: Any) -> Any:
        value = operator.attrgetter(node.target)(self._module)
        if not isinstance(value, self._torch.Tensor) or value.requires_grad:
            raise self._error(node, "parameters outside of modules have no layer")
        return value.cpu().double().numpy()

    def _call_module(self, node: Any) -> Any:
        module = self._module.get_submodule(node.target)
        kind = kind_of(module)
        if kind is None:
            raise self._error(node, f"{type(module).__name__} has no layer here")
        value = self._value(node.args[0])
        if kind == "Identity":
            return value
        value = self._tensor(node, value)
        if not isinstance(value, Flow):
            raise self._error(node, "it does not read a tensor of the model")
        value = self._for_module(node, kind, value)
        if kind in CELLS:
            return self._recurrent(node, module, CELLS[kind], value)
        if kind in ("Flatten", "Scale") and value.swapped:
            raise self._error(node, "time is the first axis here")
        if node.target not in self._layers:
            part = part_of(module, kind, self._record)
            self.parts.append(part)
            self._layers[node.target] = part.layer
        return replace(value, tensor=self._layers[node.target](value.tensor))

    def _for_module(self, node: Any, kind: str, value: Flow) -> Flow:
        """A tensor with its axes as a module reads them."""
        if kind in ELEMENTWISE:
            return value
        if kind not in OVER_CHANNELS or len(value.tensor.shape) != 3:
            return _settled(value)
        if value.swapped:
            raise self._error(node, "time is the first axis here")
        return value if value.turned else Flow(Permute((2, 1))(value.tensor), turned=True)

    def _call_function(self, node: Any) -> Any:
        name = name_of(node)
        args = [self._value(argument) for argument in node.args]
        value = args[0] if args else None
        if name in ("zeros", "zeros_like", "new_zeros"):
            return Zeros()
        if name in ("size", "getattr") or any(isinstance(argument, Opaque) for argument in args[:2]):
            return value if isinstance(value, Zeros) else Opaque()
        if name in UNCHANGED or isinstance(value, Zeros):
            return value
        if name == "getitem":
            return self._getitem(node, value, args[1])
        if name in CATS:
            return self._cat(node, value)
        if name in SCALES and not node.kwargs:
            tensors = [self._tensor(node, argument) for argument in args]
            try:
                layer = rescaling(name, tensors)
                if layer is not None:
                    self.parts.append(Part(layer))
                    (x,) = (tensor for tensor in tensors if isinstance(tensor, Flow))
                    return replace(x, tensor=layer(x.tensor))
            except ValueError as error:
                raise self._error(node, str(error)) from None
        if isinstance(value, Piece) and value.what in ("h", "c") and name == "squeeze" and args[1:] == [0]:
            value = State(value.run, value.what, 0)
        squeezed = isinstance(value, State)
        value = self._tensor(node, value)
        if squeezed and name == "squeeze":
            return value
        if not isinstance(value, Flow):
            raise self._error(node, f"{name} has no layer here")
        if len(args) == 2 and (name in PRODUCTS or (name in KINDS and not isinstance(args[1], int))):
            return self._join(node, name, value, self._tensor(node, args[1]))
        axes = [*args[1:], *(node.kwargs[key] for key in ("dim", "axis", "dims") if key in node.kwargs)]
        return self._on_tensor(node, name, value, axes)

    _call_method = _call_function

    def _tensor(self, node: Any, value: Any) -> Any:
        """The tensor of a state; other values as they are."""
        if not isinstance(value, State):
            return value
        try:
            return Flow(tensor_of_state(value))
        except ValueError as error:
            raise self._error(node, str(error)) from None

    def _join(self, node: Any, name: str, a: Flow, b: Any) -> Flow:
        """Two tensors of the model together."""
        if not isinstance(b, Flow) or node.kwargs:
            raise self._error(node, f"{name} of a tensor of the model and a constant has no layer here")
        try:
            return product(a, b) if name in PRODUCTS else joined(name, a, b)
        except ValueError as error:
            raise self._error(node, str(error)) from None

    # --- recurrent modules ------------------------------------------------------------------------

    def _recurrent(self, node: Any, module: Any, cell: str, value: Flow) -> Piece:
        if value.swapped == module.batch_first:
            wanted = "batch" if module.batch_first else "time"
            raise self._error(
                node, f"batch_first is {module.batch_first}, but its input does not begin with {wanted}"
            )
        if node.target in self._layers:
            raise self._error(node, "a recurrent module that is called twice has no counterpart here")
        self._layers[node.target] = None
        run = Run(Recurrent.of_module(module, cell), value.swapped)
        read = set(wants(node, "all", run))
        given = node.args[1] if len(node.args) > 1 else node.kwargs.get("hx")
        try:
            start = initial_states(self._value(given), run.source)
        except ValueError as error:
            raise self._error(node, str(error)) from None
        whole = "sequence" in read
        state = "states" in read or (whole and len(read) > 1)
        parts = run.source.parts(self._record, return_sequences=whole, return_state=state)
        self.parts += parts
        x, layer_number = value.tensor, 0
        for part in parts:
            if not part.weights:
                x = part.layer(x)
                continue
            initial = None if start is None else start[layer_number]
            outputs = part.layer(x) if initial is None else part.layer(x, initial_state=initial)
            x, *states = outputs if state else (outputs,)
            run.states.append(states)
            layer_number += 1
        run.sequence, run.last = (x, None) if whole else (None, x)
        return Piece(run, "all")

    # --- functions and methods --------------------------------------------------------------------

    def _getitem(self, node: Any, value: Any, index: Any) -> Any:
        if isinstance(value, Piece) and (part := part_of_run(value, index)) is not None:
            return part
        source = self._run_of(value) if isinstance(value, Flow) else None
        if source is not None and is_last_step(index, source):
            # Its last output is h where both are wanted.
            return Flow(source.states[-1][0])
        whole = isinstance(value, Flow) and len(value.tensor.shape) == 3 and not value.turned
        if source is None and whole and takes_last_step(index, value.swapped):
            self._record.note("a SimpleRNN with the identity as its kernel picks the last step")
            self.parts.append(picker(value.tensor.shape[-1]))
            return Flow(self.parts[-1].layer(value.tensor))
        why = "this part of a tensor has no layer here"
        if source is not None and source.source.directions == 2:
            why += (
                "; the last step of a bidirectional module is the first one of its second direction, "
                "torch.cat((h[-2], h[-1]), 1) takes the last of both"
            )
        raise self._error(node, why)

    def _run_of(self, value: Flow) -> Run | None:
        """The recurrent call whose outputs these are."""
        for other in self._values.values():
            if isinstance(other, Piece) and other.run.sequence is value.tensor:
                return other.run
        return None

    def _cat(self, node: Any, items: Any) -> Any:
        last = last_of_both(items)
        if last is not None:
            return last
        flows = [self._tensor(node, item) for item in items]
        if not flows or not all(isinstance(item, Flow) for item in flows):
            raise self._error(node, "it joins something else than tensors of the model")
        dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", node.kwargs.get("axis", 0))
        try:
            return side_by_side(flows, dim)
        except ValueError as error:
            raise self._error(node, str(error)) from None

    def _on_tensor(self, node: Any, name: str, value: Flow, axes: list[Any]) -> Any:
        tensor = value.tensor
        rank = len(tensor.shape)
        if name in SWAPS:
            order = _order(axes)
            if order in ((0, 1), (1, 0), (1, 0, 2), ()) and not value.turned:
                return Flow(tensor, not value.swapped)
            if rank == 3 and order in TURNS and not value.swapped:
                return Flow(tensor, turned=not value.turned)
            raise self._error(node, "axes other than batch and time change places")
        if value.turned and name in ("mean", "amax") and axes in ([2], [-1]):
            value, axes = Flow(tensor), [1]
        if name in (
            "relu",
            "tanh",
            "sigmoid",
            "silu",
            "selu",
            "mish",
            "softsign",
            "relu6",
            "hardsigmoid",
            "gelu",
        ):
            activation = Activation("hard_sigmoid" if name == "hardsigmoid" else name)
            return replace(value, tensor=activation(tensor))
        value = _settled(value)
        tensor = value.tensor
        if name in ("softmax", "log_softmax") and axes[:1] in ([-1], [rank - 1]):
            return Flow(Activation(name)(tensor), value.swapped)
        if name == "dropout":
            dropout = Dropout(node.kwargs.get("p", axes[0] if axes else 0.5))
            return replace(value, tensor=dropout(tensor))
        time = 0 if value.swapped else 1
        if name == "mean" and rank == 3 and axes == [time]:
            return Flow(GlobalAveragePooling1D()(tensor))
        if name == "amax" and rank == 3 and axes == [time]:
            return Flow(GlobalMaxPooling1D()(tensor))
        if name == "flatten" and axes == [1] and not value.swapped:
            return Flow(Flatten()(tensor))
        if name == "squeeze" and len(axes) == 1 and axes[0] in (-1, rank - 1) and tensor.shape[-1] == 1:
            if any(user.op != "output" for user in node.users):
                raise self._error(node, "an axis is taken away in the middle of the model")
            self._record.note("outputs keep their last axis of size 1, which PyTorch's squeeze takes away")
            return value
        raise self._error(node, f"{name} has no layer here")

    # --- the end ----------------------------------------------------------------------------------

    def _finish(self, node: Any) -> Model:
        returned = self._value(node.args[0])
        single = not isinstance(returned, tuple | list)
        for value in (returned,) if single else returned:
            if isinstance(value, Piece) and value.what == "all":
                raise self._error(
                    node, "the outputs of a recurrent module come with its states, return one of them"
                )
            value = self._tensor(node, value)
            if not isinstance(value, Flow):
                raise self._error(node, "something else than a tensor of the model is returned")
            self._outputs.append(_settled(value))
        if any(value.swapped for value in self._outputs):
            self._record.note("outputs: time first in PyTorch, batch first here")
        inputs, outputs = ([flow.tensor for flow in flows] for flows in (self.inputs, self._outputs))
        return Model(inputs[0] if len(inputs) == 1 else inputs, outputs[0] if single else outputs)

    def example(self, number: int, random: np.random.Generator) -> Array:
        """Random values for an input of the model; ids are small."""
        tensor = self.inputs[number].tensor
        steps = steps_for([one for part in self.parts for one in (part.layer, *part.layer.held_layers())])
        shape = tuple(size or (3 if axis == 0 else steps) for axis, size in enumerate(tensor.shape))
        if tensor.dtype == "int32":
            return np.asarray(random.integers(0, self._ids[number], shape))
        return np.asarray(random.standard_normal(shape), np.float32)

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """What the module computes of the model's inputs, as the model's outputs are."""
        torch, module = self._torch, self._module
        tensors = [torch.from_numpy(x) for x in inputs]
        training = module.training
        module.eval()
        try:
            with torch.no_grad():
                outputs = module(
                    *(
                        x.transpose(0, 1) if flow.swapped else x
                        for x, flow in zip(tensors, self.inputs, strict=True)
                    )
                )
        finally:
            module.train(training)
        arrays = []
        for output, flow in zip(
            outputs if isinstance(outputs, tuple | list) else (outputs,), self._outputs, strict=True
        ):
            array = (output.transpose(0, 1) if flow.swapped else output).numpy()
            arrays.append(array[..., None] if array.ndim < len(flow.tensor.shape) else array)
        return arrays
