"""Functions of PyTorch on several tensors of the model, as merging layers; and inputs that only they read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_native.convert.torch_layers import CELLS, OVER_CHANNELS, Part, kind_of
from lstm_native.layers import (
    Add,
    Concatenate,
    Dot,
    Maximum,
    Minimum,
    Multiply,
    Rescaling,
    SimpleRNN,
    Subtract,
)

KINDS: dict[str, Any] = {
    "add": Add, "iadd": Add, "add_": Add, "sub": Subtract, "subtract": Subtract, "isub": Subtract,
    "mul": Multiply, "multiply": Multiply, "imul": Multiply, "mul_": Multiply,
    "maximum": Maximum, "minimum": Minimum, "max": Maximum, "min": Minimum,
}  # fmt: skip
# Functions of a tensor and of numbers as scale and offset, for the tensor in front and behind.
SCALES: dict[str, tuple[Any, Any]] = {
    **dict.fromkeys(("add", "iadd", "add_"), (lambda c: (1.0, c), lambda c: (1.0, c))),
    **dict.fromkeys(("sub", "subtract", "isub"), (lambda c: (1.0, -c), lambda c: (-1.0, c))),
    "rsub": (lambda c: (-1.0, c), None),
    **dict.fromkeys(("mul", "multiply", "imul", "mul_"), (lambda c: (c, 0.0), lambda c: (c, 0.0))),
    **dict.fromkeys(("truediv", "div", "divide", "itruediv"), (lambda c: (1 / c, 0.0), None)),
    "neg": (lambda c: (-1.0, 0.0), None),
}
CATS = ("cat", "concat", "concatenate")
PRODUCTS = ("bmm", "matmul")


@dataclass(frozen=True)
class Flow:
    """A tensor of the model.

    Attributes:
        tensor: the placeholder, batch first.
        swapped: whether PyTorch has time before the batch.
        turned: whether PyTorch has the features before the time.
    """

    tensor: Any
    swapped: bool = False
    turned: bool = False


def rescaling(name: str, args: Sequence[Any]) -> Rescaling | None:
    """The layer for a function of a tensor and a number, or an array of them; None for others.

    Args:
        name: of the function.
        args: what it is called with.

    Raises:
        ValueError: the array has other numbers for each row of the batch.
    """
    tensors = [i for i, argument in enumerate(args) if isinstance(argument, Flow)]
    numbers = [a for a in args if isinstance(a, int | float | np.ndarray) and not isinstance(a, bool)]
    if len(tensors) != 1 or len(numbers) != (name != "neg") or len(args) != 1 + len(numbers):
        return None
    way = SCALES.get(name, (None, None))[tensors[0]]
    constant = _for_steps(numbers[0], args[tensors[0]]) if numbers else np.float64(0)
    if way is None or (way is SCALES["div"][0] and not constant.all()):
        return None
    return Rescaling(*way(constant))


def _for_steps(numbers: Any, x: Flow) -> Any:
    """Numbers for the last axes of what PyTorch computes, as numbers for those of the model's tensor."""
    array = np.asarray(numbers, np.float64)
    rank = len(x.tensor.shape)
    if array.ndim > rank or (x.turned and array.size > 1):
        raise ValueError(f"a constant of shape {array.shape} has other axes than the tensor")
    array = array.reshape((1,) * (rank - array.ndim) + array.shape)
    if x.swapped:
        array = array.swapaxes(0, 1)
    if len(array) > 1:
        raise ValueError("a constant has other numbers for each row of the batch")
    while array.ndim and len(array) == 1:
        array = array[0]
    return array


def joined(name: str, a: Flow, b: Flow) -> Flow:
    """Two tensors element by element.

    Raises:
        ValueError: PyTorch and this package see different axes side by side; the message says which.
    """
    ranks = len(a.tensor.shape), len(b.tensor.shape)
    wide = a if ranks[0] >= ranks[1] else b
    if a.turned or b.turned or (ranks == (3, 3) and a.swapped != b.swapped):
        raise ValueError("their axes are in different orders")
    if ranks[0] != ranks[1] and not wide.swapped:
        raise ValueError("one has no time axis, and PyTorch's batch and time would come together")
    return Flow(KINDS[name]()([a.tensor, b.tensor]), wide.swapped)


def side_by_side(flows: Sequence[Flow], dim: int) -> Flow:
    """Tensors joined along an axis of PyTorch's.

    Raises:
        ValueError: it is that of the batch, or axes are in different orders.
    """
    first = flows[0]
    rank = len(first.tensor.shape)
    if any(len(x.tensor.shape) != rank or x.swapped != first.swapped or x.turned for x in flows):
        raise ValueError("they have different numbers of axes, or axes in different orders")
    axis = dim % rank
    if first.swapped and axis < 2:
        axis = 1 - axis
    if axis == 0:
        raise ValueError("they would be joined along the batch")
    return Flow(Concatenate(axis=-1 if axis == rank - 1 else axis)([x.tensor for x in flows]), first.swapped)


def product(a: Flow, b: Flow) -> Flow:
    """The product of two tensors for each row of the batch, as in attention.

    Raises:
        ValueError: other axes than (batch, time, features), the second with the last two in any order.
    """
    if any(len(x.tensor.shape) != 3 or x.swapped for x in (a, b)) or a.turned:
        raise ValueError("expected (batch, time, features), batch first, and such a tensor or its transpose")
    return Flow(Dot(axes=(2, 2 if b.turned else 1))([a.tensor, b.tensor]))


def takes_last_step(index: Any, swapped: bool) -> bool:
    """Whether `x[index]` is the last time step of a sequence; `swapped` where time comes first."""
    items = index if isinstance(index, tuple) else (index,)
    every = slice(None)
    return items in (
        ((-1,), (-1, every), (-1, every, every)) if swapped else ((every, -1), (every, -1, every))
    )


def picker(features: int) -> Part:
    """A layer that gives the last step of what it reads."""
    layer = SimpleRNN(features, activation="linear", use_bias=False, recurrent_initializer="zeros")
    identity = np.eye(features, dtype=np.float32)
    return Part(layer, ({"kernel": identity, "recurrent_kernel": np.zeros_like(identity)},))


# --- inputs that no module reads ------------------------------------------------------------------


def form_of_input(graph: Any, module: Any, node: Any) -> tuple[int, int] | None:
    """Number of axes and of features of an input that only goes into joins; None where that is not known.

    Args:
        graph: the graph that `torch.fx` traced.
        module: the module.
        node: the input.
    """
    forms: dict[Any, tuple[int, int]] = {}
    for each in graph.nodes:
        form = _form(each, module, forms)
        if form is not None:
            forms[each] = form
    for user in node.users:
        if name_of(user) in KINDS:
            for other in user.args:
                if other in forms:
                    return forms[other]
        if name_of(user) in CATS:
            items = user.args[0]
            others = [forms.get(item) for item in items if item is not node]
            for width in _widths_wanted(user, module):
                known = [form for form in others if form is not None]
                if len(known) == len(others) == len(items) - 1 and known:
                    return known[0][0], width - sum(form[1] for form in known)
    return None


def _widths_wanted(node: Any, module: Any) -> Iterator[int]:
    """The widths that the modules which read a value expect."""
    for user in node.users:
        if user.op == "call_module":
            reader = module.get_submodule(user.target)
            width = getattr(reader, "in_features", getattr(reader, "input_size", None))
            if width is None and kind_of(reader) is not None:
                yield from _widths_wanted(user, module)  # dropout and the like
            elif width is not None:
                yield width


def _form(node: Any, module: Any, forms: dict[Any, tuple[int, int]]) -> tuple[int, int] | None:
    """Number of axes and of features of what a node gives, where modules in front of it tell."""
    args = [argument for argument in node.args if hasattr(argument, "users")]
    given = next((forms[argument] for argument in args if argument in forms), None)
    if node.op == "call_module":
        called = module.get_submodule(node.target)
        kind = kind_of(called)
        if kind == "Linear":
            rank = given[0] if given is not None else 2
            return rank, called.out_features
        if kind == "Embedding":
            return 3, called.embedding_dim
        return None if kind in CELLS or kind in OVER_CHANNELS else given
    name = name_of(node)
    if name == "getitem":
        return _form_of_part(node, module, given)
    if name in CATS:
        items = [forms.get(item) for item in node.args[0]]
        known = [form for form in items if form is not None]
        return (known[0][0], sum(f[1] for f in known)) if len(known) == len(items) else None
    if name in ("mean", "amax") and given is not None:
        return 2, given[1]
    return given if node.op in ("call_function", "call_method") and name not in PRODUCTS else None


def _form_of_part(node: Any, module: Any, given: tuple[int, int] | None) -> tuple[int, int] | None:
    """Of outputs and states of recurrent modules, and of their last steps."""
    path: list[Any] = []
    while name_of(node) == "getitem":
        path.insert(0, node.args[1])
        node = node.args[0]
    called = module.get_submodule(node.target) if node.op == "call_module" else None
    if called is None or kind_of(called) not in CELLS:
        return (2, given[1]) if given is not None else None
    units = called.proj_size or called.hidden_size
    if path[0] == 0:
        return (3 if len(path) == 1 else 2), units * (2 if called.bidirectional else 1)
    return (2, units) if isinstance(path[-1], int) and len(path) > 1 else None


def name_of(node: Any) -> str:
    """The name of the function or method that a node calls."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
