"""Models from ONNX files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lstm_native.convert.both_sides import check_of, outputs_of, refuse_large, run_both, steps_for
from lstm_native.convert.conversion import Conversion
from lstm_native.convert.layouts import Array
from lstm_native.convert.onnx_file import Graph, read_graph
from lstm_native.convert.onnx_flow import Again, Call, Flow, Run, Start, Tensor
from lstm_native.convert.onnx_mapping import Mapper
from lstm_native.convert.onnx_recurrent import OPERATORS as RECURRENT
from lstm_native.convert.onnx_run import run_elsewhere
from lstm_native.layers import Bidirectional, Input
from lstm_native.layers.windows import OverWindows
from lstm_native.models import Model, Sequential

MAX_NAME = 100
# Nodes that may be gone through anew, because an input turned out to be something else than it seemed.
MAX_NODES_AGAIN = 10_000


@np.errstate(all="ignore")  # weights may be any numbers
def from_onnx(source: Any, *, check: bool | None = None) -> Any:
    """A model with the weights of an ONNX model.

    Operators LSTM, GRU and RNN with their attributes, between Gather (of rows of a table), MatMul, Gemm, Add
    of a bias, activations, LayerNormalization, ReduceMean and ReduceMax over time, and what moves axes about,
    as exporters of PyTorch and Keras write them; and Add, Sub, Mul, Max, Min, Mean, Sum, Concat and MatMul of
    tensors that the model computes. Opsets 7 to that of the installed onnx package. Inputs and
    outputs are batch first; several directions in one output are outputs of their own.

    Args:
        source: path of a file, its bytes, or an `onnx.ModelProto`. Weights in another file are read from the
            folder of the path.
        check: run the model beside the original on random inputs: in onnxruntime where it is installed, else
            in onnx.reference where that one has what the model needs. None: where one of them can; True: one
            must; False: not. They get what was read and understood, written anew, not the file.

    Returns:
        A `Sequential` or functional `Model`. Its `conversion` says which conventions differ, and how far the
        outputs of both are apart, or why they were not run.

    Raises:
        ValueError: a damaged file; what has no counterpart, named by node, operator and attribute; outputs
            that differ by more than 1e-5; or with `check=True`, both cannot be run.
        OSError: the file cannot be read.
        ImportError: onnx is not installed, or with `check=True`, onnxruntime.
        TypeError: `source` is something else.
    """
    check = check_of(check, "from_onnx")
    graph = _pruned(read_graph(source, "from_onnx"))
    roles = _plain_roles(graph)
    known = len(roles)
    while True:
        record = Conversion("ONNX", "lstm_native")
        try:
            mapper = Mapper(graph, roles, record)
            break
        except Again as again:  # at most once for each input
            roles[again.name] = again.role
        if (len(roles) - known) * len(graph.nodes) > MAX_NODES_AGAIN:
            raise graph.error(f"what {len(roles) - known} of its inputs are only shows far from them")
    try:
        model = _Builder(graph, mapper, record).model()
    except (ValueError, TypeError) as error:
        if str(error).startswith(graph.label):
            raise
        raise graph.error(f"no model can be made of it: {str(error).splitlines()[0]}") from None
    run_both(record, check, lambda: _compare(graph, mapper, model, record, check))
    model.conversion = record
    return model


def _plain_roles(graph: Graph) -> dict[str, str]:
    """What inputs are that a recurrent operator takes for its states or lengths as they are."""
    ranks = {value.name: len(value.shape or ()) for value in graph.inputs}
    found: dict[str, str] = {}
    for node in graph.nodes:
        if node.op in RECURRENT:
            state = "state batch first" if node.get("layout", 0) else "state"
            for name, role, rank in zip(node.inputs[4:7], ("lengths", state, state), (1, 3, 3), strict=False):
                if ranks.get(name) == rank:
                    found.setdefault(name, role)
    return found


def _pruned(graph: Graph) -> Graph:
    """The graph without the nodes, constants and inputs that no output needs."""
    needed = set(graph.outputs)
    nodes = []
    for node in reversed(graph.nodes):
        if needed.intersection(name for name in node.outputs if name):
            nodes.append(node)
            needed.update(node.inputs)
    constants = {name: array for name, array in graph.constants.items() if name in needed}
    inputs = [value for value in graph.inputs if value.name in needed]
    return replace(graph, nodes=nodes[::-1], constants=constants, inputs=inputs)


class _Builder:
    """Makes the layers, calls them and puts the weights in."""

    def __init__(self, graph: Graph, mapper: Mapper, record: Conversion) -> None:
        self._graph = graph
        self._mapper = mapper
        self._record = record
        self._placed: dict[Any, Any] = {}  # placeholders of our tensors
        self._loads: list[Any] = []
        self._names: set[str] = set()

    def model(self) -> Any:
        outputs = [part for flow in self._mapper.outputs for part in flow.parts]
        wanted = {id(tensor) for tensor in outputs}
        needed = []
        for call in reversed(self._mapper.calls):
            made = self._wanted(call, wanted)
            if made:
                needed.append((call, made))
                wanted.update(id(tensor) for tensor in _sources(call))
        inputs = []
        for starts in self._mapper.starts.values():
            for start in starts:
                placeholder = Input(start.shape, dtype=start.dtype, name=self._name(start.name))
                inputs.append(placeholder)
                self._placed[start] = placeholder
        self._tensors: dict[int, Any] = {}
        chain: list[Any] | None = []  # the layers, as long as each reads what the one before gives
        before: Any = inputs[0] if len(inputs) == 1 else None
        for call, made in needed[::-1]:
            layers = self._call(call) if isinstance(call, Call) else self._run(call, made)
            single = len(layers) == 1 and len(made) == len(layers[0].nodes[-1].outputs) == 1
            source = _sources(call)
            if chain is not None and single and len(source) == 1 and self._place(source[0]) is before:
                chain.append(layers[0])
                before = self._tensors[id(made[0])]
            else:
                chain = None
        for load in self._loads:
            load()
        ends = [self._place(tensor) for tensor in outputs]
        distinct = len({layer.name for layer in chain or ()}) == len(chain or ())
        if chain and len(ends) == 1 and ends[0] is before and distinct:
            items: list[Any] = [inputs[0], *chain]
            return Sequential(items)
        return Model(inputs[0] if len(inputs) == 1 else inputs, ends[0] if len(ends) == 1 else ends)

    def _name(self, wanted: str) -> str | None:
        """The name of an input, where a layer may have it."""
        name: str | None = wanted
        if not wanted or len(wanted) > MAX_NAME or wanted in self._names:
            name = None
        self._names.add(wanted)
        return name

    def _place(self, tensor: Tensor) -> Any:
        source = tensor.source
        return self._placed[source] if isinstance(source, Start) else self._tensors[id(tensor)]

    def _wanted(self, call: Call | Run, wanted: set[int]) -> list[Tensor]:
        """The outputs of a call that somebody wants."""
        if isinstance(call, Run):
            return [tensor for tensor in call.made.values() if id(tensor) in wanted]
        return [tensor for tensor in self._mapper.outputs_of[id(call)] if id(tensor) in wanted]

    def _call(self, call: Call) -> list[Any]:
        holder = call.holder
        if holder.layer is None:
            layer = holder.layer = holder.kind(**holder.arguments)
            if holder.arrays:
                self._loads.append(lambda: layer.set_weights(holder.arrays))
        inputs = [self._place(tensor) for tensor in call.inputs]
        output = holder.layer(inputs if call.others else inputs[0])
        for tensor in self._mapper.outputs_of[id(call)]:
            self._tensors[id(tensor)] = output
        return [holder.layer]

    def _run(self, run: Run, made: list[Tensor]) -> list[Any]:
        """Calls a recurrent operator once for each form in which its outputs are wanted."""
        keys = {tensor.key: tensor for tensor in made}
        both = len(run.recurrent.directions) == 2
        forms: list[tuple[bool, str | None]] = []  # return_sequences, merge_mode
        for what, which in keys:
            merge = which if isinstance(which, str) else None
            if what == "y" or merge is not None:
                form = (what == "y", merge)
                if form not in forms:
                    forms.append(form)
        states = [key for key in keys if key[0] == "c" or (key[0] == "h" and not isinstance(key[1], str))]
        sequences = any(whole for whole, _ in forms)
        if not forms:
            forms.append((False, None))
        # The last h is the output itself where no sequence and no c is wanted.
        plain = not both and not sequences and all(key[0] == "h" for key in states)
        if len(forms) > 1:
            self._record.note(
                f"{run.recurrent.node.op}: its outputs are wanted in {len(forms)} forms, each of which is "
                "computed by a layer of its own with the same weights"
            )
        layers = []
        for number, (whole, merge) in enumerate(forms):
            with_states = bool(states) and number == 0 and not plain
            layer, outputs = self._recurrent_layer(run, whole, merge, with_states)
            layers.append(layer)
            count = 2 if both and merge is None else 1
            for i in range(count):
                which = merge if merge is not None else i
                for what in ("y",) if whole else ("h",):
                    if (what, which) in keys:
                        self._tensors[id(keys[what, which])] = outputs[i]
            if with_states:
                names = [
                    (what, i) for i in range(2 if both else 1) for what in ("h", "c")[: run.recurrent.states]
                ]
                for key, output in zip(names, outputs[count:], strict=True):
                    if key in keys:
                        self._tensors[id(keys[key])] = output
        return layers

    def _recurrent_layer(
        self, run: Run, whole: bool, merge: str | None, with_states: bool
    ) -> tuple[Any, Sequence[Any]]:
        directions = run.recurrent.directions
        options: dict[str, Any] = {"return_sequences": whole, "return_state": with_states}
        if run.mask is not None and whole:
            options["zero_output_for_mask"] = True
        if len(directions) == 2:
            forward = directions[0].layer(**options)
            layer: Any = Bidirectional(
                forward, merge, backward_layer=directions[1].layer(go_backwards=True, **options)
            )
            parts: tuple[Any, ...] = (layer.forward_layer, layer.backward_layer)
        else:
            layer = directions[0].layer(go_backwards=run.backwards, **options)
            parts = (layer,)
        arguments: dict[str, Any] = {}
        if run.mask is not None:
            arguments["mask"] = self._place(run.mask)
        if run.states is not None:
            arguments["initial_state"] = [self._place(state) for state in run.states]
        outputs = layer(self._place(run.input), **arguments)
        for direction, part in zip(directions, parts, strict=True):
            self._loads.append(lambda direction=direction, part=part: direction.load(part))
        return layer, outputs if isinstance(outputs, list | tuple) else [outputs]


def _sources(call: Call | Run) -> list[Tensor]:
    if isinstance(call, Call):
        return list(call.inputs)
    return [call.input, *(call.states or ()), *(() if call.mask is None else (call.mask,))]


# --- both sides side by side ----------------------------------------------------------------------


def _compare(graph: Graph, mapper: Mapper, model: Any, record: Conversion, check: bool | None) -> None:
    """Runs the original and the model on the same random inputs.

    What is run of the original is made anew of what was read and understood, not the file.
    """
    batch = 3 if mapper.batch is None else mapper.batch
    shapes = {value.name: _sample_shape(mapper, value.name, batch) for value in graph.inputs}
    if not check:
        refuse_large(model, [shape for name in mapper.starts for shape in shapes[name]])
    random = np.random.default_rng(0)
    theirs: dict[str, Array] = {}
    ours: list[Array] = []
    for value in graph.inputs:
        arrays: list[Array] = []
        for start, shape in zip(mapper.starts[value.name], shapes[value.name], strict=True):
            if start.dtype == "float32":
                arrays.append((0.5 * random.standard_normal(shape)).astype(np.float32))
            elif start.dtype == "bool":
                lengths = random.integers(1, shape[1] + 1, batch)
                lengths[0] = shape[1]
                arrays.append(np.arange(shape[1]) < lengths[:, None])
            else:
                arrays.append(random.integers(0, _ids(mapper, start), shape, dtype=np.int32))
        ours += arrays
        theirs[value.name] = _as_theirs(mapper, value.name, arrays).astype(value.dtype)
    found = run_elsewhere(_proto(graph), theirs, _plain(mapper), record)
    expected = [
        part for array, flow in zip(found, mapper.outputs, strict=True) for part in _as_ours(array, flow)
    ]
    record.compare(expected, outputs_of(model, ours))


def _sample_shape(mapper: Mapper, name: str, batch: int) -> list[tuple[int, ...]]:
    known = next(
        (s.shape[0] for starts in mapper.starts.values() for s in starts if len(s.shape) == 2 and s.shape[0]),
        None,
    )
    layers = [call.holder.layer for call in mapper.calls if isinstance(call, Call)]
    time = known or (steps_for(layers) if any(isinstance(one, OverWindows) for one in layers) else 5)
    return [
        (batch, *(time if size is None else size for size in start.shape)) for start in mapper.starts[name]
    ]


def _ids(mapper: Mapper, start: Start) -> int:
    """The number of ids that all tables have that an input goes into."""
    sizes = [
        call.holder.arguments["input_dim"]
        for call in mapper.calls
        if isinstance(call, Call) and call.input.source is start and "input_dim" in call.holder.arguments
    ]
    return min(sizes, default=1)


def _as_theirs(mapper: Mapper, name: str, arrays: list[Array]) -> Array:
    """Our inputs in the form of ONNX's."""
    role = mapper.role(name)
    if role == "lengths":
        return np.asarray(arrays[0].sum(axis=1))
    if role is not None and role.startswith("state"):
        return np.stack(arrays, axis=1 if role.endswith("batch first") else 0)
    if role == "channels first":
        return arrays[0].swapaxes(1, 2)
    return arrays[0].swapaxes(0, 1) if role == "time first" else arrays[0]


def _as_ours(array: Array, flow: Flow) -> list[Array]:
    """An output of ONNX as our outputs: one for each part, batch first."""
    gone = tuple(i for i, axis in enumerate(flow.axes) if not axis)
    letters = [axis[0] for axis in flow.axes if axis]
    array = array.squeeze(gone).transpose([letters.index(letter) for letter in "DBTF" if letter in letters])
    return list(array) if "D" in letters else [array]


def _plain(mapper: Mapper) -> bool:
    """Whether onnx.reference does not pass over an attribute or input of a recurrent node."""
    skipped = {"activations", "activation_alpha", "activation_beta", "clip", "input_forget"}
    runs = [call for call in mapper.calls if isinstance(call, Run)]
    return not any(run.mask is not None or skipped & set(run.recurrent.node.attributes) for run in runs)


def _proto(graph: Graph) -> bytes:
    """What was read as an ONNX model again."""
    import onnx
    from onnx import helper, numpy_helper

    nodes = []
    for node in graph.nodes:
        made = helper.make_node(node.op, list(node.inputs), list(node.outputs))
        kinds: Mapping[str, Any] = onnx.defs.get_schema(node.op, node.opset, "").attributes
        for name, value in node.attributes.items():
            held = numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
            made.attribute.append(helper.make_attribute(name, held, attr_type=int(kinds[name].type)))
        nodes.append(made)
    inputs = [
        helper.make_tensor_value_info(v.name, helper.np_dtype_to_tensor_dtype(np.dtype(v.dtype)), v.shape)
        for v in graph.inputs
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in graph.outputs]
    weights = [numpy_helper.from_array(array, name) for name, array in graph.constants.items()]
    made_graph = helper.make_graph(nodes, "graph", inputs, outputs, weights)
    model = helper.make_model(made_graph, opset_imports=[helper.make_opsetid("", graph.opset)])
    model.ir_version = min(model.ir_version, 10)  # older runtimes refuse newer ones
    return bytes(model.SerializeToString())
