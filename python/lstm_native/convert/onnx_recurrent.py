"""The operators LSTM, GRU and RNN of ONNX as our layers: attributes, weights, calls; and the way back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_native import activations, initializers
from lstm_native.activations import Parametric
from lstm_native.convert.layouts import ONNX_GATES, Array, Weights, from_rows, to_rows
from lstm_native.convert.onnx_file import Node
from lstm_native.layers import GRU, LSTM, Bidirectional, SimpleRNN

OPERATORS: dict[str, tuple[str, Any]] = {
    "LSTM": ("lstm", LSTM),
    "GRU": ("gru", GRU),
    "RNN": ("simple_rnn", SimpleRNN),
}
# Names of the activations of one direction of each operator, as ONNX has them by default.
_DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
_PLAIN = {name: name for name in ("relu", "tanh", "sigmoid", "softsign", "softplus")}
# Ours, and the number of parameters.
_PARAMETRIC = {
    "affine": ("affine", 2), "leakyrelu": ("leaky_relu", 1), "thresholdedrelu": ("thresholded_relu", 1),
    "scaledtanh": ("scaled_tanh", 2), "hardsigmoid": ("hard_sigmoid", 2), "elu": ("elu", 1),
}  # fmt: skip
# Parameters with which a function is one of ours that needs none, and runs faster.
_NAMED = (
    (Parametric("affine", 1.0, 0.0), "linear"),
    (Parametric("elu", 1.0), "elu"),
    (Parametric("leaky_relu", 0.2), "leaky_relu"),
    (Parametric("hard_sigmoid", 1 / 6, 0.5), "hard_sigmoid"),
    (Parametric("scaled_tanh", 1.0, 1.0), "tanh"),
)
_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


@dataclass(frozen=True)
class Direction:
    """One direction of a recurrent operator in our terms.

    Attributes:
        kind: LSTM, GRU or SimpleRNN.
        backwards: from the last step to the first.
        arguments: of the layer's constructor.
        arrays: weights by the names of the layer's variables.
    """

    kind: Any
    backwards: bool
    arguments: dict[str, Any]
    arrays: dict[str, Array]

    def idle(self) -> Direction:
        """The other direction, of one unit that does nothing."""
        inputs, columns = self.arrays["kernel"].shape
        gates = columns // self.arguments["units"]
        arrays = {"kernel": np.zeros((inputs, gates)), "recurrent_kernel": np.zeros((1, gates))}
        arguments = {"units": 1, "use_bias": False, "coupled_gates": True}
        if gates != 3 or self.kind is not LSTM:
            del arguments["coupled_gates"]
        return Direction(self.kind, not self.backwards, arguments, arrays)

    def layer(self, **options: Any) -> Any:
        """A new layer, whose weights `load` puts in place once it is built."""
        # Orthogonal start values, which are replaced at once, would be the costliest part of it all.
        layer = self.kind(**self.arguments, recurrent_initializer="zeros", **options)
        layer.recurrent_initializer = initializers.get("zeros")
        return layer

    def load(self, layer: Any) -> None:
        """Puts the weights into a built layer that `layer` made, and its usual initializer."""
        layer.set_weights([self.arrays[variable.name] for variable in layer.weights])
        layer.recurrent_initializer = initializers.get("orthogonal")


@dataclass(frozen=True)
class Recurrent:
    """A recurrent operator: its directions, and whether the batch is the first axis of its tensors."""

    node: Node
    units: int
    directions: tuple[Direction, ...]
    batch_first: bool

    @property
    def states(self) -> int:
        """Number of states: h, or h and c."""
        return 2 if self.node.op == "LSTM" else 1


def _activation(node: Node, name: str, alphas: list[float], betas: list[float]) -> Any:
    """The activation; takes its parameters from the lists, as the functions of a node follow each other."""
    key = name.lower()
    if key in _PLAIN:
        return _PLAIN[key]
    if key not in _PARAMETRIC:
        raise node.error(f"activation {name[:40]!r} is none of {', '.join([*_PLAIN, *_PARAMETRIC])}")
    function, count = _PARAMETRIC[key]
    alpha = alphas.pop(0) if alphas else None
    beta = betas.pop(0) if betas and count == 2 else None
    try:
        made = Parametric(function, alpha, beta)
    except ValueError as error:
        raise node.error(f"activation {name}: {error}") from None
    for known, plain in _NAMED:
        values = zip(known.native[1:], made.native[1:], strict=True)
        if known.function == made.function and all(math.isclose(a, b, abs_tol=1e-7) for a, b in values):
            return plain
    return made


@np.errstate(all="ignore")  # weights may be any numbers
def recurrent_of(node: Node, weights: Sequence[Array | None]) -> Recurrent:
    """What a node LSTM, GRU or RNN is in our terms.

    Args:
        node: the node.
        weights: W (D, G H, I), R (D, G H, H), B (D, 2 G H) or None, P (D, 3 H) or None, with D directions, G
            gates and H units.

    Raises:
        ValueError: attributes or shapes that the operator does not have.
    """
    cell, kind = OPERATORS[node.op]
    w, r, b, p = weights
    assert w is not None
    assert r is not None
    direction = node.get("direction", "forward")
    if direction not in _DIRECTIONS:
        raise node.error(f"direction is {direction[:40]!r}, expected one of {tuple(_DIRECTIONS)}")
    backwards = _DIRECTIONS[direction]
    gates, count = len(ONNX_GATES[cell]), len(backwards)
    units = r.shape[-1] if r.ndim == 3 else 0
    wanted = {
        "R": (r, (count, gates * units, units)),
        "B": (b, (count, 2 * gates * units)),
        "P": (p, (count, 3 * units)),
    }
    if w.ndim != 3 or w.shape[:2] != (count, gates * units) or not w.size:
        raise node.error(f"W has shape {w.shape}, expected {(count, gates * units)} and the number of inputs")
    for name, (array, shape) in wanted.items():
        if array is not None and array.shape != shape:
            raise node.error(f"{name} has shape {array.shape}, expected {shape}")
    for name, array in zip("WRBP", weights, strict=True):
        if array is not None and array.dtype not in (np.float32, np.float16):
            raise node.error(f"{name} has type {array.dtype}, expected float32")
    if node.get("hidden_size", units) != units:
        raise node.error(f"hidden_size is {node.get('hidden_size')}, but R has {units} columns")
    if node.get("layout", 0) not in (0, 1):
        raise node.error(f"layout is {node.get('layout')}, expected 0 or 1")
    functions = _functions(node, count)
    clip = node.get("clip")
    if clip is not None and not clip > 0:
        raise node.error(f"clip is {clip}, expected a number above 0")
    after = bool(node.get("linear_before_reset", 0))
    coupled = bool(node.get("input_forget", 0))
    directions = []
    for number, reads_back in enumerate(backwards):
        arguments: dict[str, Any] = {"units": units, "use_bias": b is not None, **functions[number]}
        if clip is not None:
            arguments["clip"] = clip
        if node.op == "GRU":
            arguments["reset_after"] = after
        if node.op == "LSTM" and (coupled or p is not None):
            arguments |= {"coupled_gates": coupled, "peepholes": p is not None}
        parts = [None if a is None else np.asarray(a[number], np.float32) for a in (w, r, b, p)]
        arrays = _arrays(cell, parts, sum_biases=node.op == "GRU" and not after, coupled=coupled)
        directions.append(Direction(kind, reads_back, arguments, arrays))
    return Recurrent(node, units, tuple(directions), bool(node.get("layout", 0)))


def _functions(node: Node, directions: int) -> list[dict[str, Any]]:
    """The activations of each direction, as arguments of the layer."""
    default = _DEFAULTS[node.op]
    names = node.get("activations", default * directions)
    if len(names) != len(default) * directions:
        raise node.error(f"activations has {len(names)} names, expected {len(default) * directions}")
    alphas, betas = list(node.get("activation_alpha", ())), list(node.get("activation_beta", ()))
    made = [_activation(node, name, alphas, betas) for name in names]
    found: list[dict[str, Any]] = []
    for start in range(0, len(made), len(default)):
        if node.op == "RNN":
            found.append({"activation": made[start]})
            continue
        gate, candidate, *output = made[start : start + len(default)]
        arguments = {"recurrent_activation": gate, "activation": candidate}
        if output and output[0] != candidate:
            arguments["output_activation"] = output[0]
        found.append(arguments)
    return found


def _arrays(cell: str, parts: list[Array | None], *, sum_biases: bool, coupled: bool) -> dict[str, Array]:
    w, r, b, p = parts
    assert w is not None
    assert r is not None
    ours = from_rows(cell, ONNX_GATES[cell], w, r, None if b is None else np.split(b, 2))
    arrays = {"kernel": ours.kernel, "recurrent_kernel": ours.recurrent_kernel}
    if ours.bias is not None:
        arrays["bias"] = ours.bias.sum(axis=0) if sum_biases else ours.bias
    if coupled and cell == "lstm":
        arrays = {name: _without_forget(array) for name, array in arrays.items()}
    if p is not None:
        i, o, f = np.split(p, 3)
        arrays["peepholes"] = np.concatenate([i, o] if coupled else [i, f, o])
    return arrays


def _without_forget(array: Array) -> Array:
    """Columns i, c, o of those of i, f, c, o."""
    i, _, c, o = np.split(array, 4, axis=-1)
    return np.concatenate([i, c, o], axis=-1)


# --- running --------------------------------------------------------------------------------------


class RecurrentRun:
    """Runs a recurrent operator on arrays with our native cells.

    Args:
        recurrent: the operator.
    """

    def __init__(self, recurrent: Recurrent) -> None:
        self._recurrent = recurrent
        self._layers = []
        for direction in recurrent.directions:
            layer = direction.layer(
                return_sequences=True,
                return_state=True,
                go_backwards=direction.backwards,
                zero_output_for_mask=True,
            )
            layer.build((None, None, direction.arrays["kernel"].shape[0]))
            direction.load(layer)
            self._layers.append(layer)

    def __call__(self, x: Array, lengths: Array | None, states: Sequence[Array | None]) -> list[Array]:
        """Y, Y_h and, of an LSTM, Y_c, in the layout of the operator.

        Args:
            x: (T, B, I), or (B, T, I) with layout 1.
            lengths: int (B,), steps of each row that count; None for all.
            states: initial h and c, (D, B, H), or (B, D, H) with layout 1; None for zeros.
        """
        node, units = self._recurrent.node, self._recurrent.units
        if x.ndim != 3 or x.dtype not in (np.float32, np.float16):
            raise node.error(f"X has shape {x.shape} and type {x.dtype}, expected three axes of float32")
        first = self._recurrent.batch_first
        ours = np.ascontiguousarray(x if first else x.swapaxes(0, 1), np.float32)
        batch, time = ours.shape[:2]
        mask = None
        if lengths is not None:
            if (
                lengths.shape != (batch,)
                or lengths.dtype.kind not in "iu"
                or np.any(lengths > time)
                or np.any(lengths < 0)
            ):
                raise node.error(
                    f"sequence_lens has shape {lengths.shape}, expected {batch} integers in [0, {time}]"
                )
            mask = np.arange(time) < lengths[:, None]
        given: list[Array] = []
        shape = (len(self._layers), batch, units)
        for name, state in zip(("initial_h", "initial_c"), states, strict=False):
            value = np.zeros(shape, np.float32) if state is None else state.swapaxes(0, 1) if first else state
            if value.shape != shape:
                raise node.error(f"{name} has shape {value.shape}, expected {shape}")
            given.append(np.asarray(value, np.float32))
        outputs = []
        for number, layer in enumerate(self._layers):
            start = [np.ascontiguousarray(state[number]) for state in given[: self._recurrent.states]]
            try:
                y, *last = layer(ours, initial_state=start, mask=mask)
            except ValueError as error:
                raise node.error(str(error)) from None
            outputs.append([y[:, ::-1] if layer.go_backwards else y, *last])
        y = np.stack([o[0] for o in outputs], axis=2)
        if not first:
            y = y.transpose(1, 2, 0, 3)
        last = [np.stack(s, axis=1 if first else 0) for s in zip(*(o[1:] for o in outputs), strict=True)]
        return [array.astype(x.dtype, copy=False) for array in (y, *last)]


# --- the way back ---------------------------------------------------------------------------------

_ONNX_NAMES = {
    "tanh": "Tanh", "sigmoid": "Sigmoid", "relu": "Relu", "softsign": "Softsign", "softplus": "Softplus",
}  # fmt: skip
_ONNX_PARAMETRIC = {
    "affine": "Affine", "leaky_relu": "LeakyRelu", "thresholded_relu": "ThresholdedRelu",
    "scaled_tanh": "ScaledTanh", "hard_sigmoid": "HardSigmoid", "elu": "Elu",
}  # fmt: skip


def _name_and_parameters(layer: Any, argument: str) -> tuple[str, float | None, float | None]:
    """ONNX's activation for one of a layer, with the parameters that it takes."""
    function = getattr(layer, argument)
    name = activations.native_name(function)
    if name in _ONNX_NAMES:
        return _ONNX_NAMES[name], None, None
    found = next((known for known, plain in _NAMED if plain == name), None)
    made = function if isinstance(function, Parametric) else found
    if made is None:
        raise layer.error(
            f"{argument} is {activations.name_of(function)}, which ONNX's recurrent operators do not have"
        )
    return _ONNX_PARAMETRIC[made.function], made.alpha, made.beta


def operator_of(layers: Sequence[Any]) -> tuple[str, dict[str, Any], dict[str, Array]]:
    """Operator, attributes and weights W, R, B, P for one layer, or for the two of a `Bidirectional`.

    Args:
        layers: LSTM, GRU or SimpleRNN, built.

    Raises:
        ValueError: something that ONNX cannot say.
    """
    first = layers[0]
    op, cell = next((op, cell) for op, (cell, kind) in OPERATORS.items() if type(first) is kind)
    attributes: dict[str, Any] = {"hidden_size": first.units}
    if len(layers) == 2:
        attributes["direction"] = "bidirectional"
    elif first.go_backwards:
        attributes["direction"] = "reverse"
    for name, key in (
        ("clip", "clip"),
        ("coupled_gates", "input_forget"),
        ("reset_after", "linear_before_reset"),
    ):
        values = [getattr(layer, name, None) for layer in layers]
        if values[0] != values[-1]:
            raise first.error(
                f"{name} is {values[0]}, but {values[1]} in the other direction; ONNX has one for both"
            )
        if values[0]:
            attributes[key] = values[0] if name == "clip" else 1
    functions: list[tuple[str, float | None, float | None]] = []
    for layer in layers:
        arguments = {
            "LSTM": ("recurrent_activation", "activation"),
            "GRU": ("recurrent_activation", "activation"),
        }
        names = [*arguments.get(op, ("activation",))]
        if op == "LSTM":
            names.append("activation" if layer.output_activation is None else "output_activation")
        functions += [_name_and_parameters(layer, name) for name in names]
    if tuple(name for name, _, _ in functions) != _DEFAULTS[op] * len(layers):
        attributes["activations"] = [name for name, _, _ in functions]
        for number, key in ((1, "activation_alpha"), (2, "activation_beta")):
            values = [function[number] for function in functions if function[number] is not None]
            if values:
                attributes[key] = values
    each = [_onnx_arrays(cell, layer) for layer in layers]
    lacking = each[0].keys() ^ each[-1].keys()
    if lacking:
        raise first.error(f"one direction has {sorted(lacking)}, the other has not; ONNX has them for both")
    return op, attributes, {name: np.stack([arrays[name] for arrays in each]) for name in each[0]}


def _onnx_arrays(cell: str, layer: Any) -> dict[str, Array]:
    if layer.projection_kernel is not None:
        raise layer.error("projection_units is set, which ONNX's LSTM does not have")
    kernel, recurrent = layer.kernel.numpy(), layer.recurrent_kernel.numpy()
    bias = None if layer.bias is None else layer.bias.numpy()
    if layer.coupled_gates:
        kernel, recurrent, bias = (
            None if a is None else np.insert(a, [layer.units] * layer.units, 0, axis=-1)
            for a in (kernel, recurrent, bias)
        )
    assert kernel is not None
    assert recurrent is not None
    w, r, biases = to_rows(cell, ONNX_GATES[cell], Weights(kernel, recurrent, bias))
    arrays = {"W": w, "R": r}
    if biases is not None:
        arrays["B"] = np.concatenate(biases)
    if layer.peepholes is not None:
        i, *f, o = np.split(layer.peepholes.numpy(), layer.gates - 1)
        arrays["P"] = np.concatenate([i, o, *(f or [np.zeros_like(i)])])
    return arrays


def directions_of(layer: Any) -> tuple[Any, ...]:
    """The layers of both directions of a `Bidirectional`, or the layer."""
    if isinstance(layer, Bidirectional):
        return layer.forward_layer, layer.backward_layer
    return (layer,)
