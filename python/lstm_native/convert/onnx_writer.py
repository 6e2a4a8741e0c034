"""Layers as nodes of ONNX: one function for each kind of layer, on names of values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lstm_native import activations
from lstm_native.convert.onnx_nodes import FAR, Flow, Writer, cast, refused
from lstm_native.convert.onnx_recurrent_writer import write_recurrent
from lstm_native.layers import (
    GRU,
    LSTM,
    Activation,
    AveragePooling1D,
    BatchNormalization,
    Bidirectional,
    Conv1D,
    Cropping1D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GaussianDropout,
    GaussianNoise,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    InputLayer,
    Layer,
    LayerNormalization,
    Masking,
    MaxPooling1D,
    Permute,
    RepeatVector,
    Rescaling,
    Reshape,
    SimpleRNN,
    SpatialDropout1D,
    TimeDistributed,
    ZeroPadding1D,
)
from lstm_native.layers.base import ActivityPenalty
from lstm_native.layers.windows import Windows


def write_layer(writer: Writer, layer: Layer, inputs: Sequence[Flow], states: Sequence[str]) -> list[Flow]:
    """What a layer computes.

    Args:
        writer: gets the nodes.
        layer: the layer.
        inputs: its inputs.
        states: initial states of a recurrent layer.

    Raises:
        ValueError: ONNX, or this writer, does not have it.
    """
    write = _LAYERS.get(type(layer))
    if write is None:
        raise ValueError(
            f"to_onnx: {layer.label()}: {type(layer).__name__} has no counterpart, expected one of "
            f"{', '.join(sorted(kind.__name__ for kind in _LAYERS if kind is not ActivityPenalty))}"
        )
    if states:
        return write_recurrent(writer, layer, inputs[0], states)
    return write(writer, layer, inputs[0])


# --- activations ----------------------------------------------------------------------------------

# Operator and attributes.
_OPERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
    "elu": ("Elu", {"alpha": 1.0}),
    "celu": ("Elu", {"alpha": 1.0}),
    "selu": ("Selu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "hard_silu": ("HardSwish", {}),
    "exponential": ("Exp", {}),
    "softmax": ("Softmax", {"axis": -1}),
    "log_softmax": ("LogSoftmax", {"axis": -1}),
}


def _activate(writer: Writer, layer: Layer, function: Any, x: str, name: str) -> str:
    """Applies an activation; `name` is what the result is called."""
    kind = activations.native_name(function)
    scalar = np.float32
    if kind == "linear":
        return x
    if kind in _OPERATORS:
        op, attributes = _OPERATORS[kind]
        if kind == "hard_sigmoid":
            writer.record.note(
                "hard_sigmoid: x / 6 + 0.5 here, the operator's alpha is 0.2 by default; written as 1 / 6"
            )
        return writer.node(op, x, name=name, **attributes)
    if kind in ("relu6", "hard_tanh"):
        low, high = (0, 6) if kind == "relu6" else (-1, 1)
        return writer.node("Clip", x, writer.constant(scalar(low)), writer.constant(scalar(high)), name=name)
    if kind in ("silu", "mish"):
        gate = (
            writer.node("Sigmoid", x) if kind == "silu" else writer.node("Tanh", writer.node("Softplus", x))
        )
        return writer.node("Mul", x, gate, name=name)
    if kind == "log_sigmoid":
        return writer.node("Neg", writer.node("Softplus", writer.node("Neg", x)), name=name)
    if kind == "tanh_shrink":
        return writer.node("Sub", x, writer.node("Tanh", x), name=name)
    if kind == "gelu":
        erf = writer.node("Erf", writer.node("Mul", x, writer.constant(scalar(np.sqrt(0.5)))))
        twice = writer.node("Mul", x, writer.node("Add", erf, writer.constant(scalar(1))))
        return writer.node("Mul", twice, writer.constant(scalar(0.5)), name=name)
    raise refused(layer, f"activation is {activations.name_of(function)}, which has no counterpart")


# --- layers without time --------------------------------------------------------------------------


def _pass(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    return [x]


def _dense(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    product = writer.node(
        "MatMul",
        x.name,
        writer.weight(layer.kernel.numpy(), f"{layer.name}/kernel"),
        name=f"{layer.name}/product",
    )
    if layer.bias is not None:
        bias = writer.weight(layer.bias.numpy(), f"{layer.name}/bias")
        product = writer.node("Add", product, bias, name=f"{layer.name}/sum")
    return [Flow(_activate(writer, layer, layer.activation, product, layer.name), x.mask)]


def _activation(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    return [Flow(_activate(writer, layer, layer.activation, x.name, layer.name), x.mask)]


def _embedding(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    table = writer.weight(layer.embeddings.numpy(), f"{layer.name}/embeddings")
    mask = x.mask
    if layer.mask_zero:
        zero = writer.constant(np.int32(0))
        mask = _both(writer, writer.node("Not", writer.node("Equal", x.name, zero)), mask)
    return [Flow(writer.node("Gather", table, x.name, name=layer.name, axis=0), mask)]


def _masking(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    differs = writer.node("Not", writer.node("Equal", x.name, writer.constant(np.float32(layer.mask_value))))
    flags = writer.node("ReduceMax", cast(writer, differs), axes=[-1], keepdims=0)
    mask = _both(writer, cast(writer, flags, "BOOL"), x.mask)
    kept = writer.node(
        "Where",
        writer.node("Unsqueeze", mask, writer.ints(2)),
        x.name,
        writer.constant(np.float32(0)),
        name=layer.name,
    )
    return [Flow(kept, mask)]


def _layer_normalization(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    if layer.axis not in (-1, [-1]) or layer.rms_scaling:
        raise refused(
            layer, f"axis is {layer.axis} and rms_scaling {layer.rms_scaling}, expected -1 and False"
        )
    size = layer.compute_output_shape(layer._sizes)[-1]
    gamma = np.ones(size, np.float32) if layer.gamma is None else layer.gamma.numpy()
    inputs = [x.name, writer.weight(gamma, f"{layer.name}/gamma")]
    if layer.beta is not None:
        inputs.append(writer.weight(layer.beta.numpy(), f"{layer.name}/beta"))
    return [
        Flow(
            writer.node("LayerNormalization", *inputs, name=layer.name, axis=-1, epsilon=layer.epsilon),
            x.mask,
        )
    ]


def _rescaling(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    scale, offset = (writer.constant(np.asarray(n, np.float32)) for n in (layer.scale, layer.offset))
    scaled = writer.node("Mul", x.name, scale)
    return [Flow(writer.node("Add", scaled, offset, name=layer.name), x.mask)]


# --- layers around time ---------------------------------------------------------------------------


def _time_distributed(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    inner = layer.layer
    last_axis = type(inner) in (Dense, Activation, Dropout) or type(inner) is LayerNormalization
    if not last_axis:
        raise refused(
            layer,
            f"it holds a {type(inner).__name__}, expected Dense, Activation, Dropout or LayerNormalization",
        )
    return write_layer(writer, inner, [x], [])


def _flatten(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    if layer.data_format != "channels_last":
        raise refused(layer, f"data_format is {layer.data_format!r}, expected 'channels_last'")
    return [Flow(writer.node("Flatten", x.name, name=layer.name, axis=1))]


def _reshape(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    if 0 in layer.target_shape:
        raise refused(layer, f"target_shape is {layer.target_shape}, and 0 stands for another size in ONNX")
    return [Flow(writer.node("Reshape", x.name, writer.ints(0, *layer.target_shape), name=layer.name))]


def _permute(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    return [Flow(writer.node("Transpose", x.name, name=layer.name, perm=[0, *layer.dims]))]


def _repeat_vector(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    column = writer.node("Unsqueeze", x.name, writer.ints(1))
    return [Flow(writer.node("Tile", column, writer.ints(1, layer.n, 1), name=layer.name))]


def _pooling(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    axis = 1 if layer.data_format == "channels_last" else 2
    options = {"axes": [axis], "keepdims": int(layer.keepdims)}
    if type(layer) is GlobalMaxPooling1D:
        return [Flow(writer.node("ReduceMax", x.name, name=layer.name, **options))]
    if x.mask is None:
        return [Flow(writer.node("ReduceMean", x.name, name=layer.name, **options))]
    flags = writer.node("Unsqueeze", cast(writer, x.mask), writer.ints(3 - axis))
    axes, keep = writer.ints(axis), options["keepdims"]
    total = writer.node("ReduceSum", writer.node("Mul", x.name, flags), axes, keepdims=keep)
    count = writer.node("ReduceSum", flags, axes, keepdims=keep)
    return [
        Flow(
            writer.node(
                "Div", total, writer.node("Max", count, writer.constant(np.float32(1))), name=layer.name
            )
        )
    ]


def _over_time(writer: Writer, layer: Any, x: Flow, write: Callable[[str, str], str]) -> str:
    """What `write` makes, of a value and the name of its result, which want (batch, features, time)."""
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        return write(x.name, layer.name)
    inner = write(writer.node("Transpose", x.name, perm=[0, 2, 1]), f"{layer.name}/inner")
    return writer.node("Transpose", inner, name=layer.name, perm=[0, 2, 1])


def _around(layer: Any) -> dict[str, Any]:
    """The attributes that say where the windows of a layer lie."""
    windows: Windows = layer.windows
    options: dict[str, Any] = {"kernel_shape": [windows.size], "strides": [windows.stride]}
    if windows.padding == "same" and windows.stride > 1 and windows.span > 1:
        if windows.span < windows.stride:
            raise refused(
                layer,
                f'padding is "same" and strides {windows.stride} are longer than windows of {windows.span} '
                "steps, for which ONNX Runtime finds no number of zeros",
            )
        return options | {"auto_pad": "SAME_UPPER"}  # which has the odd zero behind, too
    return options | {"pads": [*windows.around(windows.span)]}  # the same for every length


def _convolution(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    weights = [writer.weight(layer.kernel.numpy().transpose(2, 1, 0), f"{layer.name}/kernel")]
    if layer.bias is not None:
        weights.append(writer.weight(layer.bias.numpy(), f"{layer.name}/bias"))
    options = _around(layer) | {"dilations": [layer.windows.dilation], "group": layer.groups}
    made = _over_time(
        writer, layer, x, lambda y, name: writer.node("Conv", y, *weights, name=name, **options)
    )
    return [Flow(_activate(writer, layer, layer.activation, made, f"{layer.name}/activation"))]


def _local_pooling(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    op = "MaxPool" if type(layer) is MaxPooling1D else "AveragePool"
    options = _around(layer)
    return [Flow(_over_time(writer, layer, x, lambda y, name: writer.node(op, y, name=name, **options)))]


def _zero_padding(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    (front, behind), last = layer.padding, layer.time_axis == 1
    pads = writer.ints(0, front, 0, 0, behind, 0) if last else writer.ints(0, 0, front, 0, 0, behind)
    return [Flow(writer.node("Pad", x.name, pads, name=layer.name))]


def _cropping(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    front, behind = layer.cropping
    end = writer.ints(-behind if behind else FAR)
    return [Flow(writer.node("Slice", x.name, writer.ints(front), end, writer.ints(1), name=layer.name))]


def _batch_normalization(writer: Writer, layer: Any, x: Flow) -> list[Flow]:
    size = layer.moving_mean.shape[0]
    given = {
        "gamma": np.ones(size, np.float32) if layer.gamma is None else layer.gamma.numpy(),
        "beta": np.zeros(size, np.float32) if layer.beta is None else layer.beta.numpy(),
        "moving_mean": layer.moving_mean.numpy(),
        "moving_variance": layer.moving_variance.numpy(),
    }
    weights = [writer.weight(array, f"{layer.name}/{name}") for name, array in given.items()]
    axis = layer.axis % layer.rank
    order = [0, axis, *(a for a in range(1, layer.rank) if a != axis)]  # ONNX normalizes axis 1
    name, moved = x.name, axis != 1
    if moved:
        name = writer.node("Transpose", name, perm=order)
    result = f"{layer.name}/inner" if moved else layer.name
    name = writer.node("BatchNormalization", name, *weights, name=result, epsilon=layer.epsilon)
    if moved:
        name = writer.node("Transpose", name, name=layer.name, perm=[*map(int, np.argsort(order))])
    return [Flow(name, x.mask)]


def _both(writer: Writer, mask: str, before: str | None) -> str:
    return mask if before is None else writer.node("And", mask, before)


_LAYERS: dict[type, Callable[[Writer, Any, Flow], list[Flow]]] = {
    InputLayer: _pass,
    **dict.fromkeys((Dropout, SpatialDropout1D, GaussianNoise, GaussianDropout), _pass),
    ActivityPenalty: _pass,
    Dense: _dense,
    Activation: _activation,
    Embedding: _embedding,
    Masking: _masking,
    LayerNormalization: _layer_normalization,
    Rescaling: _rescaling,
    TimeDistributed: _time_distributed,
    Flatten: _flatten,
    RepeatVector: _repeat_vector,
    Reshape: _reshape,
    Permute: _permute,
    Conv1D: _convolution,
    MaxPooling1D: _local_pooling,
    AveragePooling1D: _local_pooling,
    ZeroPadding1D: _zero_padding,
    Cropping1D: _cropping,
    BatchNormalization: _batch_normalization,
    GlobalMaxPooling1D: _pooling,
    GlobalAveragePooling1D: _pooling,
    LSTM: write_recurrent,
    GRU: write_recurrent,
    SimpleRNN: write_recurrent,
    Bidirectional: write_recurrent,
}
