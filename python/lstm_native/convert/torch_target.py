"""Models to PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lstm_native import activations
from lstm_native.convert.both_sides import check_of, outputs_of, random_inputs, refuse_large, run_both
from lstm_native.convert.conversion import Conversion
from lstm_native.convert.layouts import TORCH_GATES, Array, Weights, to_rows
from lstm_native.convert.torch_functional import fx_module
from lstm_native.convert.torch_layers import CELLS
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
    MaxPooling1D,
    Permute,
    RepeatVector,
    Rescaling,
    Reshape,
    SimpleRNN,
    SpatialDropout1D,
    TimeDistributed,
    UpSampling1D,
    ZeroPadding1D,
)
from lstm_native.models import Model

# Modules that compute what the activation of that name does; `softmax` and its like are over the last axis.
_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("Identity", {}),
    "relu": ("ReLU", {}),
    "relu6": ("ReLU6", {}),
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
    "hard_sigmoid": ("Hardsigmoid", {}),
    "silu": ("SiLU", {}),
    "gelu": ("GELU", {}),
    "selu": ("SELU", {}),
    "elu": ("ELU", {}),
    "softplus": ("Softplus", {"threshold": 1000.0}),
    "softsign": ("Softsign", {}),
    "mish": ("Mish", {}),
    "log_sigmoid": ("LogSigmoid", {}),
    "hard_silu": ("Hardswish", {}),
    "tanh_shrink": ("Tanhshrink", {}),
    "softmax": ("Softmax", {"dim": -1}),
    "log_softmax": ("LogSoftmax", {"dim": -1}),
}


def to_torch(model: Any, *, check: bool | None = None) -> Any:
    """The model as PyTorch's own modules with its weights, in eval mode.

    Layers that follow each other become a `torch.nn.Sequential`, other models a `torch.fx.GraphModule`: it is
    called on a tensor for each input and gives one for each output, in the order of the model, and its `code`
    shows what it does.

    Recurrent modules stand in `lstm_native.torch.exported.Recurrent`, which picks the outputs that the layer
    gives. `lstm_native.torch.replace` brings our kernels to them.

    Args:
        model: a built model.
        check: run the model beside the modules on random inputs. None: where that can be done; True: it must
            be; False: not.

    Returns:
        The modules. Their `conversion` says which conventions differ, and how far the outputs of both are
        apart, or why they were not run.

    Raises:
        ValueError: a layer or an argument that PyTorch's modules do not have, named; outputs that differ by
            more than 1e-5; or with `check=True`, both cannot be run.
        TypeError: `model` is no model.
        ImportError: PyTorch is not installed.
    """
    check = check_of(check, "to_torch")
    if not isinstance(model, Model):
        raise TypeError(f"to_torch: got a {type(model).__name__}, expected a model")
    if not model.built:
        raise ValueError(f"to_torch: {model.label()} is not built yet, call it or give it an Input")
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"to_torch needs the package torch ({error}); install it with: pip install 'lstm-native[torch]'"
        ) from error

    record = Conversion("lstm_native", "PyTorch")
    layers = model.layers_in_a_row()
    if layers is None:
        result = fx_module(model, lambda layer: _modules(layer, record))
    else:
        modules = (_modules(layer, record) for layer in layers if not isinstance(layer, InputLayer))
        result = torch.nn.Sequential(*(module for row in modules for module in row)).eval()

    def run() -> None:
        if not check:
            refuse_large(model)
        inputs = random_inputs(model)
        with torch.no_grad():
            found = result(*map(torch.from_numpy, inputs))
        parts = found if isinstance(found, tuple) else (found,)
        record.compare(outputs_of(model, inputs), [part.numpy() for part in parts])

    run_both(record, check, run)
    result.conversion = record
    return result


def _module(name: str, weights: dict[str, Array], *args: Any, **kwargs: Any) -> Any:
    """A module of torch.nn with these parameters."""
    import torch

    module = getattr(torch.nn, name)(*args, **kwargs)
    state = {key: torch.from_numpy(np.array(value, np.float32)) for key, value in weights.items()}
    module.load_state_dict(state)
    return module


def _modules(layer: Any, record: Conversion) -> list[Any]:
    for kind, convert in _LAYERS.items():
        if type(layer) is kind:
            return convert(layer, record)
    raise _refused(layer, "PyTorch has no module for it here")


def _refused(layer: Layer, why: str) -> ValueError:
    return ValueError(f"to_torch: {layer.label()}: {why}")


def _activation(layer: Any, record: Conversion) -> list[Any]:
    name = activations.name_of(layer.activation)
    if name not in _ACTIVATIONS:
        raise _refused(layer, f"activation is {name}, which is no module of PyTorch")
    module, arguments = _ACTIVATIONS[name]
    return [] if name == "linear" else [_module(module, {}, **arguments)]


def _dense(layer: Any, record: Conversion) -> list[Any]:
    weights = {"weight": layer.kernel.numpy().T}
    if layer.bias is not None:
        weights["bias"] = layer.bias.numpy()
    units, features = weights["weight"].shape
    linear = _module("Linear", weights, features, units, bias=layer.bias is not None)
    return [linear, *_activation(layer, record)]


def _embedding(layer: Any, record: Conversion) -> list[Any]:
    if layer.mask_zero:
        raise _refused(
            layer, "mask_zero is True, and PyTorch's modules take no masks (pack the sequences there)"
        )
    table = layer.embeddings.numpy()
    return [_module("Embedding", {"weight": table}, *table.shape)]


def _layer_norm(layer: Any, record: Conversion) -> list[Any]:
    if (layer.gamma is None and layer.beta is not None) or getattr(layer, "rms_scaling", False):
        raise _refused(layer, "PyTorch's LayerNorm has no such form")
    named = (("weight", layer.gamma), ("bias", layer.beta))
    weights = {name: v.numpy() for name, v in named if v is not None}
    shape = next(iter(weights.values())).shape if weights else None
    if shape is None or len(shape) != 1:
        raise _refused(layer, "only the last axis, with a scale, is normalized by PyTorch's LayerNorm")
    return [_module("LayerNorm", weights, shape[0], eps=layer.epsilon, bias=layer.beta is not None)]


def _direction(layer: Any, end: str) -> dict[str, Array]:
    cell = _cell(layer)
    bias = None if layer.bias is None else layer.bias.numpy()
    ours = Weights(layer.kernel.numpy(), layer.recurrent_kernel.numpy(), bias)
    weight_ih, weight_hh, biases = to_rows(cell, TORCH_GATES[cell], ours)
    named = {f"weight_ih_l0{end}": weight_ih, f"weight_hh_l0{end}": weight_hh}
    if biases is not None:
        named |= {f"bias_ih_l0{end}": biases[0], f"bias_hh_l0{end}": biases[1]}
    if getattr(layer, "projection_kernel", None) is not None:
        named[f"weight_hr_l0{end}"] = layer.projection_kernel.numpy().T
    return named


def _cell(layer: Any) -> str:
    return {LSTM: "lstm", GRU: "gru", SimpleRNN: "simple_rnn"}[type(layer)]


def _recurrent(layer: Any, record: Conversion) -> list[Any]:
    from lstm_native.torch.exported import Recurrent

    both = isinstance(layer, Bidirectional)
    first = layer.forward_layer if both else layer
    if type(first) not in (LSTM, GRU, SimpleRNN):
        raise _refused(layer, f"it holds a {type(first).__name__}, expected LSTM, GRU or SimpleRNN")
    if both and (layer.merge_mode != "concat" or type(layer.backward_layer) is not type(first)):
        raise _refused(
            layer, "PyTorch's bidirectional modules put both directions side by side, and nothing else"
        )
    directions = [first, layer.backward_layer] if both else [first]
    for direction in directions:
        _check_recurrent(direction)
    cell = _cell(first)
    name = next(key for key, value in CELLS.items() if value == cell)
    weights = _direction(first, "") | (_direction(directions[1], "_reverse") if both else {})
    arguments: dict[str, Any] = {"bias": first.bias is not None, "batch_first": True, "bidirectional": both}
    if cell == "simple_rnn":
        arguments["nonlinearity"] = activations.name_of(first.activation)
    if getattr(first, "projection_units", None):
        arguments["proj_size"] = first.projection_units
    features = first.kernel.shape[0]
    record.note("gates: our columns became PyTorch's rows, in its order; weights are transposed")
    if first.bias is not None and cell != "gru":
        record.note("biases: ours is bias_ih, bias_hh is zero")
    if first.dropout or first.recurrent_dropout:
        record.note(f"{layer.label()}: dropout inside the layer is left out, PyTorch's modules have none")
    module = _module(name, weights, features, first.units, **arguments)
    return [Recurrent(module, first.return_sequences, first.go_backwards, first.return_state)]


def _check_recurrent(layer: Any) -> None:
    expected: dict[str, tuple[str, ...]] = {"activation": ("tanh",), "recurrent_activation": ("sigmoid",)}
    if isinstance(layer, SimpleRNN):
        expected = {"activation": ("tanh", "relu")}
    for argument, names in expected.items():
        name = activations.name_of(getattr(layer, argument))
        if name not in names:
            raise _refused(layer, f"{argument} is {name}, PyTorch's module has {' or '.join(names)}")
    if isinstance(layer, GRU) and not layer.reset_after:
        raise _refused(layer, "reset_after is False, PyTorch's GRU resets after the recurrent product")
    if layer.stateful:
        raise _refused(layer, "stateful is True, but PyTorch's modules keep nothing between calls")
    extras = ("has_peepholes", "coupled_gates", "clip", "output_activation")
    if any(getattr(layer, extra, None) for extra in extras):
        raise _refused(layer, "peepholes, clip and coupled gates are not in PyTorch's module")


def _time_distributed(layer: Any, record: Conversion) -> list[Any]:
    if not isinstance(layer.layer, Dense | Activation | Dropout):
        raise _refused(
            layer, f"it holds a {type(layer.layer).__name__}, expected Dense, Activation or Dropout"
        )
    return _modules(layer.layer, record)


def _exported(name: str) -> Callable[[Any, Conversion], list[Any]]:
    def convert(layer: Any, record: Conversion) -> list[Any]:
        from lstm_native.torch import exported

        if getattr(layer, "keepdims", False) or getattr(layer, "data_format", None) == "channels_first":
            raise _refused(layer, "keepdims and channels_first have no counterpart here")
        arguments: tuple[Any, ...] = (layer.n,) if isinstance(layer, RepeatVector) else ()
        if isinstance(layer, Rescaling):
            arguments = layer.scale, layer.offset
        elif isinstance(layer, Reshape | Permute):
            arguments = (layer.target_shape if isinstance(layer, Reshape) else layer.dims,)
        return [getattr(exported, name)(*arguments)]

    return convert


def _batch_norm(layer: Any, record: Conversion) -> list[Any]:
    if not layer.normalizes_features:
        raise _refused(layer, f"axis is {layer.axis}, expected the last one")
    size = layer.moving_mean.shape[0]
    weights = {
        "weight": np.ones(size) if layer.gamma is None else layer.gamma.numpy(),
        "bias": np.zeros(size) if layer.beta is None else layer.beta.numpy(),
        "running_mean": layer.moving_mean.numpy(),
        "running_var": layer.moving_variance.numpy(),
        "num_batches_tracked": np.zeros(()),
    }
    record.note(
        f"{layer.label()}: PyTorch's momentum is 1 - ours, and its training takes the variance of a sample, "
        "ours that of the batch"
    )
    module = _module("BatchNorm1d", weights, size, eps=layer.epsilon, momentum=1 - layer.momentum)
    rank = layer.rank
    if rank > 3:
        raise _refused(
            layer, f"its inputs have {rank} axes, expected (batch, features) or (batch, time, features)"
        )
    return [module] if rank == 2 else _over_time(layer, module)


def _over_time(layer: Any, module: Any) -> list[Any]:
    """A module that wants (batch, features, time)."""
    from lstm_native.torch.exported import ChannelsFirst

    return [module] if getattr(layer, "data_format", None) == "channels_first" else [ChannelsFirst(module)]


def _convolution(layer: Any, record: Conversion) -> list[Any]:
    import torch

    if layer.data_format == "channels_first" and activations.name_of(layer.activation) in (
        "softmax",
        "log_softmax",
    ):
        raise _refused(layer, "its softmax is over the time axis")
    weights = {"weight": layer.kernel.numpy().transpose(2, 1, 0)}
    if layer.bias is not None:
        weights["bias"] = layer.bias.numpy()
    windows = layer.windows
    if windows.padding == "same" and windows.stride > 1:
        raise _refused(layer, 'padding is "same" with strides: its zeros depend on the length of a sequence')
    before, behind = windows.around(windows.span)  # the same for every length
    module = _module(
        "Conv1d",
        weights,
        layer.kernel.shape[1] * layer.groups,
        layer.filters,
        windows.size,
        stride=windows.stride,
        padding=before if before == behind else 0,
        dilation=windows.dilation,
        groups=layer.groups,
        bias=layer.bias is not None,
    )
    if before != behind:
        module = torch.nn.Sequential(torch.nn.ConstantPad1d((before, behind), 0.0), module)
    return [*_over_time(layer, module), *_activation(layer, record)]


def _local_pooling(layer: Any, record: Conversion) -> list[Any]:
    if layer.padding != "valid":
        raise _refused(layer, f"padding is {layer.padding!r}, expected 'valid'")
    name = "MaxPool1d" if isinstance(layer, MaxPooling1D) else "AvgPool1d"
    return _over_time(layer, _module(name, {}, layer.pool_size[0], layer.strides[0]))


def _padding(layer: Any, record: Conversion) -> list[Any]:
    around = layer.padding if isinstance(layer, ZeroPadding1D) else tuple(-n for n in layer.cropping)
    return _over_time(layer, _module("ConstantPad1d", {}, around, 0.0))


def _without_noise(layer: Any, record: Conversion) -> list[Any]:
    record.note(f"{layer.label()}: the noise of training is left out, PyTorch's modules have none")
    return []


_LAYERS: dict[type, Callable[[Any, Conversion], list[Any]]] = {
    LSTM: _recurrent,
    GRU: _recurrent,
    SimpleRNN: _recurrent,
    Bidirectional: _recurrent,
    Dense: _dense,
    Embedding: _embedding,
    LayerNormalization: _layer_norm,
    Activation: _activation,
    TimeDistributed: _time_distributed,
    Dropout: lambda layer, _: [_module("Dropout", {}, layer.rate)],
    SpatialDropout1D: lambda layer, _: _over_time(layer, _module("Dropout1d", {}, layer.rate)),
    GaussianNoise: _without_noise,
    GaussianDropout: _without_noise,
    BatchNormalization: _batch_norm,
    Conv1D: _convolution,
    MaxPooling1D: _local_pooling,
    AveragePooling1D: _local_pooling,
    ZeroPadding1D: _padding,
    Cropping1D: _padding,
    UpSampling1D: lambda layer, _: _over_time(layer, _module("Upsample", {}, scale_factor=layer.size)),
    Flatten: lambda layer, _: [_module("Flatten", {})],
    Reshape: _exported("Reshape"),
    Permute: _exported("Permute"),
    GlobalAveragePooling1D: _exported("MeanOverTime"),
    GlobalMaxPooling1D: _exported("MaximumOverTime"),
    RepeatVector: _exported("Repeat"),
    Rescaling: _exported("Scale"),
}
