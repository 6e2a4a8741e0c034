"""Models to ONNX files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from lstm_native.convert.both_sides import check_of, outputs_of, refuse_large, run_both
from lstm_native.convert.conversion import Conversion
from lstm_native.convert.layouts import Array
from lstm_native.convert.onnx_file import MAX_FILE, require_onnx
from lstm_native.convert.onnx_joins import write_joined
from lstm_native.convert.onnx_nodes import Flow, Writer
from lstm_native.convert.onnx_run import run_elsewhere
from lstm_native.convert.onnx_writer import write_layer
from lstm_native.layers import Embedding, InputLayer
from lstm_native.layers.symbolic import name_of_mask, output_shapes
from lstm_native.models import Model
from lstm_native.models.graph import Steps
from lstm_native.saving.atomic import path_name, replace_file
from lstm_native.trees import flat, is_shape

# The oldest with LayerNormalization; every runtime of today reads it. Recurrent operators are those of 14.
OPSET = 17
IR_VERSION = 8  # that of opset 17's time


def to_onnx(model: Any, path: str | os.PathLike[str], *, check: bool | None = None) -> Conversion:
    """Writes a model as an ONNX file, which appears whole or not at all.

    Batch and time may vary where they may here. Inputs and outputs are those of the model, batch first; ids
    are int32. Masks are part of the graph, whatever their pattern; `from_onnx` does not read such graphs
    back. Dropout, noise and penalties are left out, as in inference.

    Args:
        model: a built `Sequential` or functional model of Embedding, Masking, LSTM, GRU, SimpleRNN,
            Bidirectional, Dense, Activation, TimeDistributed (of Dense and the like), Dropout, Flatten,
            Reshape, Permute, RepeatVector, LayerNormalization over the features, GlobalMaxPooling1D,
            GlobalAveragePooling1D, BatchNormalization, Conv1D, MaxPooling1D, AveragePooling1D, ZeroPadding1D,
            Cropping1D, Attention, Concatenate, Dot, Add, Subtract, Multiply, Average, Maximum, Minimum.
        path: the file.
        check: run the model beside the ONNX model on random inputs before the file is put in its place: in
            onnxruntime where it is installed, else in onnx.reference where that one has what the model needs.
            None: where one of them can; True: one must; False: not.

    Returns:
        The conventions that differ, and how far the outputs of both are apart, or why they were not run.

    Raises:
        ValueError: something that ONNX does not have, named; outputs that differ by more than 1e-5; or with
            `check=True`, both cannot be run. Nothing is written then.
        TypeError: `model` is no model.
        OSError: the file cannot be written.
        ImportError: onnx is not installed, or with `check=True`, onnxruntime.
    """
    check = check_of(check, "to_onnx")
    if not isinstance(model, Model):
        raise TypeError(f"to_onnx: got a {type(model).__name__}, expected a model of lstm_native")
    if not model.built:
        raise ValueError(f"to_onnx: {model.label()} is not built: call build(input_shape) first")
    path = path_name(path, "to_onnx: path")
    require_onnx("to_onnx")
    record = Conversion("lstm_native", "ONNX")
    proto, inputs, plain = _proto(model, record)
    if proto.ByteSize() > MAX_FILE:
        raise ValueError(
            f"to_onnx: {model.label()} takes {proto.ByteSize()} bytes, a file has at most {MAX_FILE}"
        )
    content = proto.SerializeToString()

    def run() -> None:
        if not check:
            refuse_large(model)
        named = dict(zip([i.name for i in proto.graph.input], inputs, strict=True))
        found = run_elsewhere(content, named, plain, record)
        with np.errstate(invalid="ignore"):  # infinity less infinity
            record.compare(outputs_of(model, inputs), found)

    run_both(record, check, run)
    replace_file(path, [content])
    return record


def _proto(model: Any, record: Conversion) -> tuple[Any, list[Array], bool]:
    """The ONNX model, random inputs for it, and whether onnx.reference has all that it needs."""
    from onnx import helper

    starts = model.inputs
    steps = Steps(len(starts))
    ends = model.add_steps(steps, tuple(range(len(starts))), None, len(model.outputs))
    writer = Writer(record)
    tables = _table_sizes(steps, len(starts))
    inputs: list[Any] = []
    samples: list[Array] = []
    random = np.random.default_rng(0)
    values: dict[int, Flow] = {}
    masks = {slot for step in steps.steps for slot in step.flags.values()}
    for slot, start in enumerate(starts):
        name = writer.unique(start.name)
        kind = "bool" if slot in masks else "int32" if slot in tables else "float32"
        time = f"time_{slot}" if slot else "time"  # several inputs may have different numbers of steps
        sizes = ["batch", time, *(f"size_{axis}" for axis in range(2, start.ndim))]
        shape = [size or wanted for size, wanted in zip(start.shape, sizes, strict=False)]
        inputs.append(
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape)
        )
        values[slot] = Flow(name)
        example = tuple(size or (3, 5, 4)[min(axis, 2)] for axis, size in enumerate(start.shape))
        if kind == "bool":
            samples.append(random.random(example) < 0.6)
        elif kind == "int32":
            samples.append(random.integers(0, tables[slot], example, dtype=np.int32))
        else:
            samples.append(random.standard_normal(example).astype(np.float32))
    shapes: dict[int, Any] = {slot: start.shape for slot, start in enumerate(starts)}
    for step in steps.steps:
        _add(writer, step, values, shapes)
    outputs = []
    names = _output_names(model, len(ends))
    for name, slot, end in zip(names, ends, model.outputs, strict=True):
        name = writer.node("Identity", values[slot].name, name=name)
        time = "size_1" if end.ndim == 2 else "time" if len(starts) == 1 else f"time_of_{name}"
        sizes = ["batch", time, *(f"size_{axis}" for axis in range(2, end.ndim))]
        shape = [size or wanted for size, wanted in zip(end.shape, sizes, strict=False)]
        outputs.append(
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype("float32")), shape)
        )
    graph = helper.make_graph(writer.nodes, "lstm_native", inputs, outputs, writer.initializers)
    proto = helper.make_model(
        graph,
        producer_name="lstm_native",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    return proto, samples, writer.plain


def _output_names(model: Any, count: int) -> Sequence[str]:
    names = getattr(model, "output_names", None)
    return (
        names
        if names is not None
        else [model.layers[-1].name]
        if count == 1
        else [f"output_{i}" for i in range(count)]
    )


def _table_sizes(steps: Steps, inputs: int) -> dict[int, int]:
    """The inputs that are ids, by slot, with the number of ids that all their readers have."""
    sizes: dict[int, int] = {}
    origin = {slot: slot for slot in range(inputs)}
    for step in steps.steps:
        slot = origin.get(step.inputs[0])
        if slot is None:
            continue
        if isinstance(step.layer, InputLayer):
            origin[step.outputs[0]] = slot
        elif isinstance(step.layer, Embedding):
            sizes[slot] = min(sizes.get(slot, step.layer.input_dim), step.layer.input_dim)
    return sizes


def _add(writer: Writer, step: Any, values: dict[int, Flow], shapes: dict[int, Any]) -> None:
    """Adds what a step computes: `values` and `shapes` of its outputs."""
    layer = step.layer
    flows = [values[slot] for slot in step.inputs]
    given = [shapes[slot] for slot in step.inputs]
    if step.training:
        raise ValueError(f"to_onnx: {layer.label()}: it is called with training=True")
    masks = {name_of_mask(i, step.several): i for i in range(len(flows))}
    unknown = {*step.flags, *step.arguments} - masks.keys()
    if unknown or masks.keys() & step.arguments.keys():
        raise ValueError(
            f"to_onnx: {layer.label()}: it is called with {sorted(unknown)}, which has no counterpart"
        )
    if step.flags:
        named = {masks[name]: values[slot].name for name, slot in step.flags.items()}
        flows = [Flow(flow.name, named.get(i)) for i, flow in enumerate(flows)]
    # As in Keras, a mask comes along by itself only where nothing else is passed.
    elif step.states or layer.ends_masks:
        flows = [Flow(flow.name) for flow in flows]
    if type(layer).__name__ in ("ActivityPenalty", "_Identity"):
        outputs, made = flows, given
    else:
        if step.several:
            outputs = write_joined(writer, layer, flows, given)
        else:
            outputs = write_layer(writer, layer, flows, [values[slot].name for slot in step.states])
        made = flat(output_shapes(layer, tuple(given) if step.several else given[0], {}), is_shape)
    values.update(zip(step.outputs, outputs, strict=True))
    shapes.update(zip(step.outputs, made, strict=True))
