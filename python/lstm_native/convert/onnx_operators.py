"""The operators of ONNX that stand around recurrent ones, on NumPy arrays.

They are rarely timed; the recurrent operators themselves run natively (`onnx_recurrent.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lstm_native import activations
from lstm_native.convert import onnx_shapes
from lstm_native.convert.onnx_file import DTYPES, Array, Node
from lstm_native.convert.onnx_shapes import Inputs, at, axes_of, normal_axes

Operator = Callable[[Node, Inputs], Any]


def run_operator(node: Node, inputs: Inputs, room: int | None = None) -> list[Array]:
    """Outputs of a node.

    Args:
        node: the node.
        inputs: arrays; None where an optional one is absent.
        room: bytes that the outputs may take; None for any number.

    Raises:
        ValueError: an operator that is not known here, inputs that do not fit, outputs that are too large.
    """
    operator = OPERATORS.get(node.op)
    if operator is None:
        raise node.error("this operator is not supported")
    try:
        if room is not None and 8 * _size_of_outputs(node, inputs) > room:
            raise node.error(f"its constant value would take more than {room} bytes")
        with np.errstate(all="ignore"):
            outputs = operator(node, inputs)
    except (
        ValueError,
        TypeError,
        IndexError,
        AttributeError,
        OverflowError,
        MemoryError,
        ArithmeticError,
    ) as error:
        text = str(error).splitlines() or [""]
        raise (
            error if str(error).startswith(node.label) else node.error(f"cannot be computed: {text[0]}")
        ) from None
    if not isinstance(outputs, list):
        outputs = [outputs]
    return [np.asarray(output) for output in outputs]


def _size_of_outputs(node: Node, inputs: Inputs) -> int:
    """An upper bound of the number of elements of the outputs."""
    given = [array for array in inputs if array is not None]
    if node.op in ("ConstantOfShape", "Expand", "Tile"):
        shape = given[-1].ravel()
        sizes = [max(int(size), 1) for size in shape[:64]]
        if len(shape) > 64:
            raise node.error(f"{len(shape)} axes are too many")
        own = given[0].size if node.op != "ConstantOfShape" else 1
        return math.prod(sizes) * max(own, 1)
    if node.op == "Range":
        start, limit, delta = (float(array) for array in given)
        return int(abs((limit - start) / delta)) + 1 if delta and math.isfinite(limit - start) else 1 << 62
    if node.op in ("MatMul", "Gemm"):
        rows, matrices = math.prod(given[0].shape[:-1]), math.prod(given[1].shape[:-2])
        return int(rows * matrices * max(*given[0].shape[-1:], *given[1].shape, 1))
    if node.op in ("Gather", "GatherND"):
        return int(given[0].size * max(given[1].size, 1))
    if node.op in _ELEMENTWISE or node.op == "Where":
        return math.prod(np.broadcast_shapes(*(array.shape for array in given)))
    return sum(array.size for array in given)


# --- helpers --------------------------------------------------------------------------------------


def _float(x: Array) -> Any:
    return x.dtype.type


def _elementwise(function: Callable[..., Any]) -> Operator:
    return lambda node, inputs: _like(inputs[0], function(*inputs))


def _like(x: Any, y: Any) -> Array:
    return np.asarray(y).astype(x.dtype, copy=False)


def _ours(name: str, **arguments: str) -> Operator:
    """An activation of ours; `arguments` name those of ONNX for its parameters."""
    function = activations.get(name)

    def run(node: Node, inputs: Inputs) -> Any:
        given = {ours: node.get(theirs) for ours, theirs in arguments.items() if node.get(theirs) is not None}
        x = inputs[0]
        if x.dtype == np.float64:
            raise node.error("it computes in float32, and its input is float64")
        return _like(x, function(x, **given))

    return run


# --- activations ----------------------------------------------------------------------------------


def _softmax(node: Node, inputs: Inputs) -> Any:
    x = inputs[0]
    log = node.op == "LogSoftmax"
    if node.opset < 13:  # all axes from this one on as one
        axis = node.get("axis", 1)
        (axis,) = normal_axes(node, (axis,), x.ndim) if axis != x.ndim else (axis,)
        rows = x.reshape(math.prod(x.shape[:axis]), -1)
        return _softmax_of(rows, 1, log).reshape(x.shape)
    (axis,) = normal_axes(node, (node.get("axis", -1),), x.ndim)
    return _softmax_of(x, axis, log)


def _softmax_of(x: Array, axis: int, log: bool) -> Array:
    if not x.size:
        return x
    shifted = x - x.max(axis=axis, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=axis, keepdims=True)
    return _like(x, shifted - np.log(total) if log else e / total)


def _leaky_relu(node: Node, inputs: Inputs) -> Any:
    x = inputs[0]
    return np.where(x < 0, _float(x)(node.get("alpha", 0.01)) * x, x)


def _hard_sigmoid(node: Node, inputs: Inputs) -> Any:
    x = inputs[0]
    alpha, beta = (_float(x)(v) for v in (node.get("alpha", 0.2), node.get("beta", 0.5)))
    if node.op == "HardSwish":
        alpha, beta = _float(x)(1 / 6), _float(x)(0.5)
    gate = np.clip(alpha * x + beta, _float(x)(0), _float(x)(1))
    return x * gate if node.op == "HardSwish" else gate


def _elu(node: Node, inputs: Inputs) -> Any:
    x = inputs[0]
    alpha = _float(x)(node.get("alpha", 1.6732632 if node.op == "Selu" else 1.0))
    gamma = _float(x)(node.get("gamma", 1.0507009) if node.op == "Selu" else 1.0)
    return gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _gelu(node: Node, inputs: Inputs) -> Any:
    x = inputs[0]
    return _like(x, activations.gelu(x, approximate=node.get("approximate", "none") == "tanh"))


def _clip(node: Node, inputs: Inputs) -> Any:
    x = inputs[0]
    low, high = at(inputs, 1), at(inputs, 2)
    least = node.get("min") if low is None else low
    most = node.get("max") if high is None else high
    y = x if least is None else np.maximum(x, _like(x, least))
    return y if most is None else np.minimum(y, _like(x, most))


def _layer_normalization(node: Node, inputs: Inputs) -> list[Array]:
    x, scale, bias = inputs[0], inputs[1], at(inputs, 2)
    (first,) = normal_axes(node, (node.get("axis", -1),), x.ndim)
    axes = tuple(range(first, x.ndim))
    wide = x.astype(np.float32, copy=False)
    mean = wide.mean(axis=axes, keepdims=True)
    inverse = 1 / np.sqrt(wide.var(axis=axes, keepdims=True) + np.float32(node.get("epsilon", 1e-5)))
    y = (wide - mean) * inverse * scale
    if bias is not None:
        y = y + bias
    return [_like(x, y), mean, inverse][: len(node.outputs)]


# --- shapes ---------------------------------------------------------------------------------------


def _top_k(node: Node, inputs: Inputs) -> Any:
    x = inputs[0]
    (axis,) = normal_axes(node, (node.get("axis", -1),), x.ndim)
    count = node.get("k") if node.opset < 10 else int(inputs[1].item())
    if not 0 <= count <= x.shape[axis]:
        raise node.error(f"it takes {count} of {x.shape[axis]} numbers")
    backwards = node.get("largest", 1) == 1
    # Of equal numbers the one with the lower index comes first, so the array is turned round, not the order.
    order = np.argsort(np.flip(x, axis) if backwards else x, axis=axis, kind="stable")
    if backwards:
        order = x.shape[axis] - 1 - np.flip(order, axis)
    order = np.take(order, np.arange(count), axis=axis)
    return [np.take_along_axis(x, order, axis), order.astype(np.int64)]


def _cum_sum(node: Node, inputs: Inputs) -> Any:
    x = inputs[0]
    (axis,) = normal_axes(node, (int(inputs[1].item()),), x.ndim)
    turned = np.flip(x, axis) if node.get("reverse", 0) else x
    sums = np.cumsum(turned, axis=axis, dtype=x.dtype)
    if node.get("exclusive", 0):
        sums = sums - turned
    return np.flip(sums, axis) if node.get("reverse", 0) else sums


def _constant(node: Node, inputs: Inputs) -> Any:
    for name, dtype in (
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if name in node.attributes:
            return np.array(node.attributes[name], dtype)
    value = node.get("value")
    if not isinstance(value, np.ndarray):
        raise node.error("it holds no numbers")
    return value


def _constant_of_shape(node: Node, inputs: Inputs) -> Any:
    value = node.get("value", np.zeros(1, np.float32))
    if value.size != 1:
        raise node.error(f"value has {value.size} numbers, expected one")
    return np.full([int(size) for size in inputs[0]], value.ravel()[0], value.dtype)


def _cast(node: Node, inputs: Inputs) -> Any:
    to = DTYPES.get(node.get("to"))
    if to is None:
        raise node.error(f"it casts to element type {node.get('to')}, expected one of {DTYPES}")
    return inputs[0].astype(to)


def _dropout(node: Node, inputs: Inputs) -> list[Array]:
    x, training = inputs[0], at(inputs, 2)
    if training is not None and training.any():
        raise node.error("training_mode is true; models run as in inference")
    mask = np.ones(x.shape, np.bool_ if node.opset >= 10 else x.dtype)
    return [x, mask][: len(node.outputs)]


# --- numbers --------------------------------------------------------------------------------------


def _matmul(node: Node, inputs: Inputs) -> Any:
    return np.matmul(inputs[0], inputs[1])


def gemm_parts(node: Node, inputs: Inputs) -> tuple[Array, Array, Array | None]:
    """A, B and C of a Gemm, transposed and scaled, so that it is A @ B + C."""
    a, b, c = inputs[0], inputs[1], at(inputs, 2)
    a, b = a.T if node.get("transA", 0) else a, b.T if node.get("transB", 0) else b
    return (
        a,
        _like(b, b * _float(b)(node.get("alpha", 1.0))),
        None if c is None else _like(c, c * node.get("beta", 1.0)),
    )


def _gemm(node: Node, inputs: Inputs) -> Any:
    a, b, c = gemm_parts(node, inputs)
    return a @ b if c is None else a @ b + c


def _div(a: Any, b: Any) -> Any:
    if a.dtype.kind in "iu":  # towards zero
        if np.any(b == 0):
            raise ValueError("division of integers by zero")
        quotient = np.abs(a) // np.abs(b)
        return np.where((a < 0) != (b < 0), -quotient, quotient) if a.dtype.kind == "i" else quotient
    return a / b


def _pow(node: Node, inputs: Inputs) -> Any:
    x, y = inputs[0], inputs[1]
    return np.power(x, y).astype(x.dtype)


_REDUCERS: dict[str, Callable[..., Any]] = {
    "ReduceMean": np.mean, "ReduceMax": np.max, "ReduceMin": np.min, "ReduceSum": np.sum,
    "ReduceProd": np.prod,
}  # fmt: skip


def reduced_axes(node: Node, inputs: Inputs, rank: int) -> tuple[int, ...]:
    """The axes that a Reduce operator takes together; all of them where it names none."""
    axes = axes_of(node, inputs)
    if not axes:
        return () if node.get("noop_with_empty_axes", 0) else tuple(range(rank))
    return normal_axes(node, axes, rank)


def _reduce(node: Node, inputs: Inputs) -> Any:
    x = inputs[0]
    axes = reduced_axes(node, inputs, x.ndim)
    if not axes and x.ndim:
        return x
    keep = bool(node.get("keepdims", 1))
    empty = math.prod(x.shape[axis] for axis in axes) == 0
    if empty and node.op in ("ReduceMax", "ReduceMin"):
        sign = 1 if node.op == "ReduceMin" else -1
        kind = x.dtype.kind
        worst = (
            sign * np.inf
            if kind == "f"
            else (sign > 0)
            if kind == "b"
            else getattr(np.iinfo(x.dtype), "max" if sign > 0 else "min")
        )
        return _like(
            x,
            np.min(x, axis=axes, keepdims=keep, initial=worst)
            if sign > 0
            else np.max(x, axis=axes, keepdims=keep, initial=worst),
        )
    return _like(x, _REDUCERS[node.op](x, axis=axes, keepdims=keep))


def _global_pool(node: Node, inputs: Inputs) -> Any:
    x = inputs[0]
    reduce: Any = np.mean if node.op == "GlobalAveragePool" else np.max
    return _like(x, reduce(x, axis=tuple(range(2, x.ndim)), keepdims=True))


def _folded(function: Callable[[Any, Any], Any]) -> Operator:
    def run(node: Node, inputs: Inputs) -> Any:
        total = inputs[0]
        for array in inputs[1:]:
            total = function(total, array)
        return total

    return run


_ELEMENTWISE = {
    "Add", "Sub", "Mul", "Div", "Pow", "Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "And",
    "Or", "Max", "Mean", "Min", "Sum",
}  # fmt: skip

OPERATORS: dict[str, Operator] = {
    "Abs": _elementwise(np.abs),
    "Add": _elementwise(np.add),
    "And": lambda node, inputs: np.logical_and(*inputs),
    "Cast": _cast,
    "Celu": _ours("celu", alpha="alpha"),
    "Clip": _clip,
    "Concat": lambda node, inputs: np.concatenate(inputs, axis=node.attributes["axis"]),
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "CumSum": _cum_sum,
    "Div": _elementwise(_div),
    "Dropout": _dropout,
    "Elu": _elu,
    "Equal": lambda node, inputs: np.equal(*inputs),
    "Erf": lambda node, inputs: _like(inputs[0], np.vectorize(math.erf, otypes=[np.float64])(inputs[0])),
    "Exp": _elementwise(np.exp),
    "Expand": onnx_shapes.expand,
    "Flatten": onnx_shapes.flatten,
    "Gather": onnx_shapes.gather,
    "GatherND": onnx_shapes.gather_nd,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "Greater": lambda node, inputs: np.greater(*inputs),
    "GreaterOrEqual": lambda node, inputs: np.greater_equal(*inputs),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_sigmoid,
    "Identity": lambda node, inputs: inputs[0],
    "LayerNormalization": _layer_normalization,
    "LeakyRelu": _leaky_relu,
    "Less": lambda node, inputs: np.less(*inputs),
    "LessOrEqual": lambda node, inputs: np.less_equal(*inputs),
    "Log": _elementwise(np.log),
    "LogSoftmax": _softmax,
    "MatMul": _matmul,
    "Max": _folded(np.maximum),
    "Mean": lambda node, inputs: _like(inputs[0], _folded(np.add)(node, inputs) / len(inputs)),
    "Min": _folded(np.minimum),
    "Mish": _ours("mish"),
    "Mul": _elementwise(np.multiply),
    "Neg": _elementwise(np.negative),
    "Not": lambda node, inputs: np.logical_not(inputs[0]),
    "Or": lambda node, inputs: np.logical_or(*inputs),
    "Pow": _pow,
    "Range": lambda node, inputs: np.arange(
        *(array.item() for array in inputs if array is not None), dtype=inputs[0].dtype
    ),
    "ReduceMax": _reduce,
    "ReduceMean": _reduce,
    "ReduceMin": _reduce,
    "ReduceProd": _reduce,
    "ReduceSum": _reduce,
    "Relu": lambda node, inputs: np.maximum(inputs[0], _like(inputs[0], 0)),
    "Reshape": onnx_shapes.reshape,
    "ReverseSequence": onnx_shapes.reverse_sequence,
    "Selu": _elu,
    "Shape": onnx_shapes.shape,
    "Sigmoid": _ours("sigmoid"),
    "Size": lambda node, inputs: np.array(inputs[0].size, np.int64),
    "Slice": onnx_shapes.slice_of,
    "Softmax": _softmax,
    "Softplus": _ours("softplus"),
    "Softsign": _ours("softsign"),
    "Split": onnx_shapes.split,
    "Sqrt": _elementwise(np.sqrt),
    "Squeeze": onnx_shapes.squeeze,
    "Sub": _elementwise(np.subtract),
    "Sum": _folded(np.add),
    "Tanh": _ours("tanh"),
    "ThresholdedRelu": lambda node, inputs: np.where(
        inputs[0] > node.get("alpha", 1.0), inputs[0], _like(inputs[0], 0)
    ),
    "Tile": lambda node, inputs: np.tile(inputs[0], [int(n) for n in inputs[1]]),
    "TopK": _top_k,
    "Transpose": onnx_shapes.transpose,
    "Unsqueeze": onnx_shapes.unsqueeze,
    "Where": lambda node, inputs: np.where(*inputs),
}
