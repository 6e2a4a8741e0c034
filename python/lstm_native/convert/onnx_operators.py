"""The operators of ONNX that stand around recurrent ones, on NumPy arrays.

They are rarely timed; the recurrent operators themselves run natively (`onnx_recurrent.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lstm_native import activations
from lstm_native.convert.onnx_file import DTYPES, Array, Node

Inputs = Sequence[Any]  # arrays; None where an optional one is absent
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


def axes_of(node: Node, inputs: Inputs, position: int = 1) -> tuple[int, ...] | None:
    """Axes that newer operators have as an input and older ones as an attribute; None: not given."""
    given = inputs[position] if len(inputs) > position else None
    if given is not None:
        return tuple(int(axis) for axis in given.ravel())
    axes = node.get("axes")
    return None if axes is None else tuple(axes)


def at(inputs: Inputs, position: int) -> Any:
    """The input at a position, where there is one."""
    return inputs[position] if len(inputs) > position else None


def normal_axes(node: Node, axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Axes counted from the front, each once.

    Raises:
        ValueError: there is no such axis, or one is named twice.
    """
    if any(not -rank <= axis < rank for axis in axes) or len({axis % rank for axis in axes}) != len(axes):
        raise node.error(f"axes are {tuple(axes)[:20]}, the tensor has {rank}")
    return tuple(axis % rank for axis in axes)


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


def _reshape(node: Node, inputs: Inputs) -> Any:
    x, shape = inputs[0], inputs[1]
    sizes = [int(size) for size in shape.ravel()]
    if not node.get("allowzero", 0):
        sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    return x.reshape(sizes)


def _flatten(node: Node, inputs: Inputs) -> Any:
    x = inputs[0]
    axis = node.get("axis", 1)
    if not -x.ndim <= axis <= x.ndim:
        raise node.error(f"axis is {axis}, the tensor has {x.ndim}")
    axis = axis % x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _squeeze(node: Node, inputs: Inputs) -> Any:
    x, axes = inputs[0], axes_of(node, inputs)
    return x.squeeze(None if axes is None else normal_axes(node, axes, x.ndim))


def _unsqueeze(node: Node, inputs: Inputs) -> Any:
    x, axes = inputs[0], axes_of(node, inputs)
    return np.expand_dims(x, normal_axes(node, axes or (), x.ndim + len(axes or ())))


def _transpose(node: Node, inputs: Inputs) -> Any:
    x = inputs[0]
    return x.transpose(node.get("perm"))


def _shape(node: Node, inputs: Inputs) -> Any:
    return np.array(inputs[0].shape[slice(node.get("start"), node.get("end"))], np.int64)


def slices_of(node: Node, inputs: Inputs, rank: int) -> dict[int, slice]:
    """What a Slice takes of each axis that it names."""
    if node.opset < 10:
        starts, ends, axes, steps = node.get("starts", ()), node.get("ends", ()), node.get("axes"), None
    else:
        arrays = [at(inputs, i) for i in range(1, 5)]
        if any(array is not None and array.dtype.kind not in "iu" for array in arrays):
            raise node.error("starts, ends, axes or steps are no integers")
        starts, ends, axes, steps = (None if array is None else array.ravel().tolist() for array in arrays)
        if starts is None or ends is None:
            raise node.error("starts or ends are missing")
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise node.error("starts, ends, axes and steps are not of one length, or a step is 0")
    found: dict[int, slice] = {}
    for axis, start, end, step in zip(normal_axes(node, axes, rank), starts, ends, steps, strict=True):
        # An end far below 0 means "beyond the first" where steps are negative, which Python calls None.
        found[axis] = slice(start, None if step < 0 and end < -(1 << 31) + 1 else end, step)
    return found


def _slice(node: Node, inputs: Inputs) -> Any:
    x = inputs[0]
    found = slices_of(node, inputs, x.ndim)
    sizes = {axis: range(*_clamped(piece, x.shape[axis])) for axis, piece in found.items()}
    index = tuple(
        list(sizes[a])
        if a in sizes and sizes[a].step < 0
        else slice(sizes[a].start, sizes[a].stop, sizes[a].step)
        if a in sizes
        else slice(None)
        for a in range(x.ndim)
    )
    for axis, item in enumerate(index):  # one after the other: lists would go together
        x = x[(slice(None),) * axis + (item,)]
    return x


def _clamped(piece: slice, size: int) -> tuple[int, int, int]:
    """Start, stop and step of a Slice within an axis, as ONNX counts."""
    start, stop, step = piece.start, piece.stop, piece.step
    start = start + size if start < 0 else start
    if stop is None:
        stop = -1
    else:
        stop = stop + size if stop < 0 else stop
        stop = min(max(stop, -1 if step < 0 else 0), size)
    start = min(max(start, 0), size - 1 if step < 0 else size)
    return start, stop, step


def split_sizes(node: Node, inputs: Inputs, size: int) -> list[int]:
    """Sizes of the parts of a Split of an axis of `size`."""
    given = at(inputs, 1)
    sizes = node.get("split") if given is None else given.ravel().tolist()
    if sizes is None:
        count = len(node.outputs)
        part = -(-size // count)
        sizes = [max(min(part, size - i * part), 0) for i in range(count)]
    if sum(sizes) != size or len(sizes) != len(node.outputs) or min(sizes) < 0:
        raise node.error(
            f"split is {list(sizes)[:20]}, the axis has {size} and there are {len(node.outputs)} outputs"
        )
    return [int(s) for s in sizes]


def _split(node: Node, inputs: Inputs) -> list[Array]:
    x = inputs[0]
    (axis,) = normal_axes(node, (node.get("axis", 0),), x.ndim)
    sizes = split_sizes(node, inputs, x.shape[axis])
    return np.split(x, np.cumsum(sizes)[:-1], axis=axis)


def _gather(node: Node, inputs: Inputs) -> Any:
    x, indices = inputs[0], inputs[1]
    (axis,) = normal_axes(node, (node.get("axis", 0),), x.ndim)
    if indices.dtype.kind not in "iu":
        raise node.error(f"indices have type {indices.dtype}, expected integers")
    return np.take(x, indices, axis=axis)


def _gather_nd(node: Node, inputs: Inputs) -> Any:
    x, indices = inputs[0], inputs[1]
    batch, depth = node.get("batch_dims", 0), indices.shape[-1]
    if not 0 <= batch < min(x.ndim, indices.ndim) or depth > x.ndim - batch:
        raise node.error(f"batch_dims is {batch}, the tensors have shapes {x.shape} and {indices.shape}")
    rank = indices.ndim - 1
    rows = [np.arange(n).reshape(-1, *[1] * (rank - i - 1)) for i, n in enumerate(x.shape[:batch])]
    return x[(*rows, *(indices[..., i] for i in range(depth)))]


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


def _expand(node: Node, inputs: Inputs) -> Any:
    x, shape = inputs[0], inputs[1]
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(int(s) for s in shape))).copy()


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


def _reverse_sequence(node: Node, inputs: Inputs) -> Any:
    x, lengths = inputs[0], inputs[1]
    time, batch = node.get("time_axis", 0), node.get("batch_axis", 1)
    y = np.moveaxis(x, (batch, time), (0, 1)).copy()
    for row, length in enumerate(lengths.tolist()):
        y[row, :length] = y[row, :length][::-1]
    return np.moveaxis(y, (0, 1), (batch, time))


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
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherND": _gather_nd,
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
    "Reshape": _reshape,
    "ReverseSequence": _reverse_sequence,
    "Selu": _elu,
    "Shape": _shape,
    "Sigmoid": _ours("sigmoid"),
    "Size": lambda node, inputs: np.array(inputs[0].size, np.int64),
    "Slice": _slice,
    "Softmax": _softmax,
    "Softplus": _ours("softplus"),
    "Softsign": _ours("softsign"),
    "Split": _split,
    "Sqrt": _elementwise(np.sqrt),
    "Squeeze": _squeeze,
    "Sub": _elementwise(np.subtract),
    "Sum": _folded(np.add),
    "Tanh": _ours("tanh"),
    "ThresholdedRelu": lambda node, inputs: np.where(
        inputs[0] > node.get("alpha", 1.0), inputs[0], _like(inputs[0], 0)
    ),
    "Tile": lambda node, inputs: np.tile(inputs[0], [int(n) for n in inputs[1]]),
    "TopK": _top_k,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": lambda node, inputs: np.where(*inputs),
}
