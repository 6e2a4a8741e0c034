"""Modules of PyTorch, one at a time, as layers with their weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_native.configurable import short
from lstm_native.convert.conversion import Conversion
from lstm_native.convert.layouts import TORCH_GATES, Array, from_rows
from lstm_native.layers import (
    GRU,
    LSTM,
    Activation,
    AveragePooling1D,
    BatchNormalization,
    Bidirectional,
    Conv1D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    Layer,
    LayerNormalization,
    MaxPooling1D,
    Rescaling,
    SimpleRNN,
    SpatialDropout1D,
    ZeroPadding1D,
)
from lstm_native.models import Sequential

CELLS = {"LSTM": "lstm", "GRU": "gru", "RNN": "simple_rnn"}
CLASSES: dict[str, Any] = {"lstm": LSTM, "gru": GRU, "simple_rnn": SimpleRNN}


@dataclass(frozen=True)
class Part:
    """A layer, and the arrays for its variables by their names: one dict, or one for each direction."""

    layer: Layer
    weights: tuple[dict[str, Array], ...] = ()

    def load(self) -> None:
        """Puts the weights into the built layer."""
        if not self.weights:
            return
        layer: Any = self.layer
        directions: tuple[Any, ...] = (layer,)
        if isinstance(layer, Bidirectional):
            directions = (layer.forward_layer, layer.backward_layer)
        for direction, arrays in zip(directions, self.weights, strict=True):
            direction.set_weights([arrays[variable.name] for variable in direction.weights])


@dataclass(frozen=True)
class Recurrent:
    """A recurrent module: all its layers and directions.

    Attributes:
        cell: "lstm", "gru" or "simple_rnn".
        units: of every layer and direction.
        layers: number of layers.
        directions: 1, or 2 for a bidirectional module.
        weights: arrays by PyTorch's names.
        dropout: rate between the layers.
        activation: of a "simple_rnn".
        projection: columns that h of an LSTM is projected to; 0 for none.
    """

    cell: str
    units: int
    layers: int
    directions: int
    weights: Mapping[str, Array]
    dropout: float = 0.0
    activation: str = "tanh"
    projection: int = 0

    @classmethod
    def of_module(cls, module: Any, cell: str) -> Recurrent:
        """From a `torch.nn.LSTM`, `GRU` or `RNN`."""
        return cls(
            cell,
            module.hidden_size,
            module.num_layers,
            2 if module.bidirectional else 1,
            arrays_of(module),
            module.dropout,
            getattr(module, "nonlinearity", "tanh"),
            module.proj_size,
        )

    @classmethod
    def of_arrays(cls, weights: Mapping[str, Array], label: str) -> Recurrent:
        """From arrays by PyTorch's names: the cell follows from their shapes.

        Raises:
            ValueError: shapes or names that are none of a recurrent module's.
        """
        kernel, projected = weights["weight_hh_l0"], weights.get("weight_hr_l0")
        rows, inner = kernel.shape if kernel.ndim == 2 else (0, 0)
        units = inner if projected is None else projected.shape[-1]
        cells = {4 * units: "lstm"}
        if projected is None:
            cells |= {3 * units: "gru", units: "simple_rnn"}
        if rows == 0 or rows not in cells:
            raise ValueError(
                f"from_torch: {label}weight_hh_l0 has shape {kernel.shape}, expected (gates * units, units) "
                "with 4 gates of an LSTM, 3 of a GRU or 1 of an RNN"
            )
        directions = 2 if "weight_ih_l0_reverse" in weights else 1
        layers = max(1, sum(name.startswith("weight_hh_l") for name in weights) // directions)
        features = max(weights.get("weight_ih_l0", kernel).shape[-1:], default=0)
        expected: dict[str, tuple[int, ...]] = {}
        for number in range(layers):
            read = directions * inner if number else max(features, 1)
            for end in (f"l{number}", f"l{number}_reverse")[:directions]:
                expected |= {f"weight_ih_{end}": (rows, read), f"weight_hh_{end}": (rows, inner)}
                if "bias_ih_l0" in weights:
                    expected |= {f"bias_ih_{end}": (rows,), f"bias_hh_{end}": (rows,)}
                if projected is not None:
                    expected[f"weight_hr_{end}"] = (inner, units)
        for name in (*expected, *weights):
            shape = weights[name].shape if name in weights else None
            if shape != expected.get(name):
                seen = "is missing" if shape is None else f"has shape {shape}"
                wanted = f"shape {expected[name]}" if name in expected else "no such weight"
                raise ValueError(f"from_torch: {short(label + name)} {seen}, expected {wanted}")
        cell = cells[rows]
        return cls(cell, units, layers, directions, weights, projection=0 if projected is None else inner)

    def parts(self, record: Conversion, **last: Any) -> list[Part]:
        """The layers, from the first to the last, with dropout between them.

        Args:
            record: gets the conventions.
            last: arguments of the last layer; those before return sequences, and states as it does.
        """
        record.note(
            f"gates: PyTorch's rows {', '.join(TORCH_GATES[self.cell])} became columns in Keras' order; "
            "weights are transposed"
        )
        bias = "bias_ih_l0" in self.weights
        if bias:
            record.note(
                "GRU: both biases are kept, as reset_after=True has them"
                if self.cell == "gru"
                else "biases: PyTorch's two are summed into one"
            )
        arguments: dict[str, Any] = {"use_bias": bias}
        if self.cell == "simple_rnn":
            arguments["activation"] = self.activation
        if self.projection:
            arguments["projection_units"] = self.projection
        parts: list[Part] = []
        for number in range(self.layers):
            top = number == self.layers - 1
            returned = {"return_sequences": True, "return_state": last.get("return_state", False)}
            layer: Layer = CLASSES[self.cell](self.units, **arguments, **(last if top else returned))
            if self.directions == 2:
                layer = Bidirectional(layer)
            ends = ("", "_reverse")[: self.directions]
            parts.append(Part(layer, tuple(self._arrays(f"_l{number}{end}", bias) for end in ends)))
            if self.dropout and not top:
                parts.append(Part(Dropout(self.dropout)))
        return parts

    def _arrays(self, end: str, bias: bool) -> dict[str, Array]:
        biases = [self.weights[f"bias_{kind}{end}"] for kind in ("ih", "hh")] if bias else None
        ours = from_rows(
            self.cell,
            TORCH_GATES[self.cell],
            self.weights[f"weight_ih{end}"],
            self.weights[f"weight_hh{end}"],
            biases,
        )
        arrays = {"kernel": ours.kernel, "recurrent_kernel": ours.recurrent_kernel}
        if ours.bias is not None:
            arrays["bias"] = ours.bias
        if self.projection:
            arrays["projection_kernel"] = np.ascontiguousarray(self.weights[f"weight_hr{end}"].T)
        return arrays


def arrays_of(module: Any) -> dict[str, Array]:
    """The parameters of a module by name, float32."""
    return {name: value.detach().cpu().float().numpy().copy() for name, value in module.named_parameters()}


def dense(weight: Array, bias: Array | None) -> Part:
    """From the arrays of a `Linear`."""
    arrays = {"kernel": np.ascontiguousarray(weight.T)}
    if bias is not None:
        arrays["bias"] = bias
    return Part(Dense(weight.shape[0], use_bias=bias is not None), (arrays,))


def embedding(weight: Array) -> Part:
    """From the array of an `Embedding`."""
    return Part(Embedding(*weight.shape), ({"embeddings": weight},))


def layer_norm(weight: Array | None, bias: Array | None, epsilon: float) -> Part:
    """From the arrays of a `LayerNorm` over the last axis."""
    arrays = {name: a for name, a in (("gamma", weight), ("beta", bias)) if a is not None}
    layer = LayerNormalization(epsilon=epsilon, scale=weight is not None, center=bias is not None)
    return Part(layer, (arrays,))


# --- modules without a state ----------------------------------------------------------------------

# Modules whose default is that of the activation of this name.
_ACTIVATIONS = {
    "ReLU": "relu", "ReLU6": "relu6", "Tanh": "tanh", "Sigmoid": "sigmoid", "SiLU": "silu",
    "Softsign": "softsign", "Hardsigmoid": "hard_sigmoid", "SELU": "selu", "Mish": "mish",
    "LogSigmoid": "log_sigmoid", "Hardswish": "hard_silu", "Tanhshrink": "tanh_shrink",
}  # fmt: skip


def _linear(module: Any, record: Conversion) -> Part:
    arrays = arrays_of(module)
    return dense(arrays["weight"], arrays.get("bias"))


def _embedding(module: Any, record: Conversion) -> Part:
    if module.max_norm is not None:
        raise ValueError("from_torch: Embedding has max_norm, which changes rows while they are read")
    if module.padding_idx is not None:
        record.note(
            "Embedding: padding_idx keeps a row out of training in PyTorch; here the row is trained like "
            "others, and no step is masked"
        )
    return embedding(arrays_of(module)["weight"])


def _layer_norm(module: Any, record: Conversion) -> Part:
    if len(module.normalized_shape) != 1:
        raise ValueError(
            f"from_torch: LayerNorm has normalized_shape {tuple(module.normalized_shape)}, expected one axis"
        )
    arrays = arrays_of(module)
    return layer_norm(arrays.get("weight"), arrays.get("bias"), module.eps)


def _flatten(module: Any, record: Conversion) -> Part:
    if (module.start_dim, module.end_dim) != (1, -1):
        raise ValueError(
            f"from_torch: Flatten has start_dim {module.start_dim} and end_dim {module.end_dim}, expected 1 "
            "and -1"
        )
    return Part(Flatten())


def _softmax(module: Any, record: Conversion) -> Part:
    if module.dim != -1:
        raise ValueError(f"from_torch: {type(module).__name__} has dim {module.dim}, expected -1")
    return Part(Activation("softmax" if type(module).__name__ == "Softmax" else "log_softmax"))


def _gelu(module: Any, record: Conversion) -> Part:
    if module.approximate != "none":
        raise ValueError(f"from_torch: GELU has approximate {module.approximate!r}, expected 'none'")
    return Part(Activation("gelu"))


def _scale(module: Any, record: Conversion) -> Part:
    numbers = (module.scale, module.offset)
    return Part(Rescaling(*(n if isinstance(n, float | int) else n.cpu().numpy() for n in numbers)))


# --- modules over (batch, features, time) ---------------------------------------------------------


def _one(value: Any) -> Any:
    """The number in a tuple of one; others as they are."""
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value


def _conv(module: Any, record: Conversion) -> Part:
    if module.padding_mode != "zeros":
        raise ValueError(f"from_torch: Conv1d has padding_mode {module.padding_mode!r}, expected 'zeros'")
    arrays = arrays_of(module)
    weights = {"kernel": np.ascontiguousarray(arrays["weight"].transpose(2, 1, 0))}
    if module.bias is not None:
        weights["bias"] = arrays["bias"]
    size, stride, dilation = (_one(n) for n in (module.kernel_size, module.stride, module.dilation))
    padding = _one(module.padding)
    same = padding == "same" or (stride == 1 and padding and 2 * padding == dilation * (size - 1))
    layer: Any = Conv1D(
        module.out_channels,
        size,
        stride,
        "same" if same else "valid",
        dilation_rate=dilation,
        groups=module.groups,
        use_bias=module.bias is not None,
    )
    if not same and padding not in (0, "valid"):
        layer = Sequential([ZeroPadding1D(padding), layer])
    return Part(layer, (weights,))


def _pooled(kind: Any) -> Callable[[Any, Conversion], Part]:
    def convert(module: Any, record: Conversion) -> Part:
        name = type(module).__name__
        for argument, expected in (("padding", 0), ("dilation", 1), ("ceil_mode", False)):
            found = _one(getattr(module, argument, expected))
            if found != expected:
                raise ValueError(f"from_torch: {name} has {argument} {found!r}, expected {expected!r}")
        return Part(kind(_one(module.kernel_size), _one(module.stride)))

    return convert


def _batch_norm(module: Any, record: Conversion) -> Part:
    if module.running_mean is None or module.momentum is None:
        raise ValueError("from_torch: BatchNorm1d has no running statistics, or no momentum for them")
    record.note(
        "BatchNorm1d: our momentum is 1 - PyTorch's, and its training takes the variance of a sample, ours "
        "that of the batch"
    )
    arrays = arrays_of(module)
    weights = {ours: arrays[name] for ours, name in (("gamma", "weight"), ("beta", "bias")) if name in arrays}
    for ours, buffer in (("moving_mean", module.running_mean), ("moving_variance", module.running_var)):
        weights[ours] = buffer.detach().cpu().float().numpy().copy()
    options = {"scale": "gamma" in weights, "center": "beta" in weights}
    return Part(BatchNormalization(momentum=1 - module.momentum, epsilon=module.eps, **options), (weights,))


# Those that take the features as axis 1, before the time.
OVER_CHANNELS: dict[str, Callable[[Any, Conversion], Part]] = {
    "Conv1d": _conv,
    "MaxPool1d": _pooled(MaxPooling1D),
    "AvgPool1d": _pooled(AveragePooling1D),
    "BatchNorm1d": _batch_norm,
    "Dropout1d": lambda module, _: Part(SpatialDropout1D(module.p)),
}
# Modules that `to_torch` makes.
_EXPORTED: dict[str, Callable[[Any, Conversion], Part]] = {"Scale": _scale}
# Those that do the same to every number, whatever the order of axes.
ELEMENTWISE = (*_ACTIVATIONS, "GELU", "Dropout")
_MODULES: dict[str, Callable[[Any, Conversion], Part]] = {
    **OVER_CHANNELS,
    "Linear": _linear,
    "Embedding": _embedding,
    "LayerNorm": _layer_norm,
    "Dropout": lambda module, _: Part(Dropout(module.p)),
    "Flatten": _flatten,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "GELU": _gelu,
    **{name: lambda module, _, to=to: Part(Activation(to)) for name, to in _ACTIVATIONS.items()},  # type: ignore[misc]
}


def kind_of(module: Any) -> str | None:
    """The name of the module of `torch.nn`, or of ours, that `module` is, where its layer is known here."""
    import torch

    home, own = type(module).__module__, type(module).__name__
    if home == "lstm_native.torch.modules" or (home == "lstm_native.torch.exported" and own in _EXPORTED):
        return own
    for name in (*CELLS, *_MODULES, "Identity"):
        if type(module) is getattr(torch.nn, name):
            return name
    return None


def part_of(module: Any, kind: str, record: Conversion) -> Part:
    """The layer of a module that is not recurrent."""
    return (_EXPORTED | _MODULES)[kind](module, record)


def load(parts: Sequence[Part]) -> None:
    """Puts weights into the layers, which are built."""
    for part in parts:
        part.load()
