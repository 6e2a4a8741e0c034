"""Layers written in Python: subclasses of `Layer` with a `call` on arrays. Floor 4."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_native import _core
from lstm_native.arrays import to_numpy
from lstm_native.errors import warn
from lstm_native.later import weights_for_a_while
from lstm_native.layers.building import with_held

if TYPE_CHECKING:
    from lstm_native.layers.base import Layer


@functools.lru_cache(256)
def names_of_arguments(function: Callable[..., Any]) -> frozenset[str]:
    """Names of the arguments that a function takes; none where it cannot tell, as those of older NumPy."""
    import inspect  # not at the top: it costs, and few programs come here

    try:
        return frozenset(inspect.signature(function).parameters)
    except ValueError:
        return frozenset()


def to_arrays(inputs: Any, label: str) -> Any:
    """Inputs of `call`, a list or tuple of them too: float32 where they are floats, else as they are."""
    if isinstance(inputs, list | tuple) and any(hasattr(item, "shape") for item in inputs):
        return type(inputs)(to_arrays(item, label) for item in inputs)
    array = to_numpy(inputs, label, "input")
    return array.astype(np.float32) if array.dtype.kind == "f" and array.dtype != np.float32 else array


def to_tensor(x: Any, label: str, what: str) -> _core.Tensor:
    """An array as the tensor that the next layer takes: float32 where it is floats, else as it is."""
    if isinstance(x, _core.Tensor):
        return x
    array = to_numpy(x, label, what)
    return _core.as_tensor(array, "float32" if array.dtype.kind == "f" else array.dtype.name)


def shapes_of(inputs: Any) -> Any:
    """The shape of an array, or the list of those of several."""
    return [shapes_of(x) for x in inputs] if isinstance(inputs, list | tuple) else tuple(inputs.shape)


def run(layer: Layer, inputs: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """What `call` returns; mask and training reach it where it takes them.

    Args:
        layer: the layer.
        inputs: arrays.
        arguments, named: what else it is called with.
    """
    taken = names_of_arguments(type(layer).call) & {"mask", "training"}  # type: ignore[attr-defined]
    mask = named.get("mask")
    if mask is not None and not layer.supports_masking and "mask" not in taken:
        warn(f"{layer.label()}: the mask of its inputs is lost, for supports_masking is False")
    layer.set_activity_losses([])  # add_loss in `call` adds to these
    kept = {k: v for k, v in named.items() if k not in ("mask", "training") or k in taken}
    return layer.call(inputs, *arguments, **kept)  # type: ignore[attr-defined]


def call(layer: Layer, inputs: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """A call of the layer by itself: what `call` returns, as it is. The first one builds the layer."""
    arrays = _copied(to_arrays(inputs, layer.label()))  # for `x += 1` in there
    if not layer.built:
        layer.build(shapes_of(arrays))
    outputs = run(layer, arrays, arguments, named)
    if layer.activity_regularizer is not None:
        for y in outputs if isinstance(outputs, list | tuple) else (outputs,):
            layer.add_loss(layer.activity_regularizer(y) / max(len(y), 1))
    return outputs


def _copied(arrays: Any) -> Any:
    return type(arrays)(map(_copied, arrays)) if isinstance(arrays, list | tuple) else np.array(arrays)


def layers_among(layer: Layer, kind: type[Layer]) -> list[Layer]:
    """The layers among the attributes of a layer, also in lists, tuples and dictionaries."""
    found: list[Layer] = []
    waiting = [value for name, value in reversed(vars(layer).items()) if name != "_arguments"]
    while waiting:
        value = waiting.pop()
        if isinstance(value, kind):
            found.append(value)
        elif isinstance(value, list | tuple):
            waiting.extend(reversed(value))
        elif isinstance(value, dict):
            waiting.extend(reversed(value.values()))
    return list(dict.fromkeys(found))


def mask_arrays(mask: Any) -> Any:
    """The masks of a pass as arrays."""
    return tuple(map(_array, mask)) if isinstance(mask, tuple) else _array(mask)


def on_tensors(compute_mask: Callable[..., Any]) -> Callable[..., Any]:
    """A `compute_mask` written for arrays, for use between layers that take tensors too."""

    @functools.wraps(compute_mask)
    def adapted(self: Layer, inputs: Any, *masks: Any, **named: Any) -> Any:
        if not isinstance(inputs, _core.Tensor):
            return compute_mask(self, inputs, *masks, **named)
        masks, named = (
            tuple(_array(m) for m in masks),
            {name: _array(m) for name, m in named.items()},
        )
        mask = compute_mask(self, inputs.numpy(), *masks, **named)
        return None if mask is None else _core.as_tensor(np.asarray(mask, dtype=np.bool_), "bool")

    return adapted


def _array(mask: Any) -> Any:
    return mask.numpy() if isinstance(mask, _core.Tensor) else mask


def output_shape(layer: Layer, input_shape: tuple[int | None, ...]) -> Any:
    """Shape of the outputs, seen from calls with zeros; sizes that are unknown in the inputs are tried out.

    Raises:
        ValueError: `call` fails on zeros.
    """
    if not layer.built or any(getattr(held, "stateful", False) for held in with_held([layer])):
        probe = copy.deepcopy(layer)
        with weights_for_a_while():  # those of layers inside too, which the calls build
            probe.build(input_shape)
            first, second = (_probed(layer, probe, input_shape, size) for size in (2, 3))
    else:
        first, second = (_probed(layer, layer, input_shape, size) for size in (2, 3))
    if isinstance(first, list):
        return tuple(map(_known, first, second))
    return _known(first, second)


def _probed(layer: Layer, probe: Layer, input_shape: Any, unknown: int) -> Any:
    several = bool(input_shape) and isinstance(input_shape[0], list | tuple)
    shapes = [
        tuple(unknown if size is None else size for size in one)
        for one in (input_shape if several else (input_shape,))
    ]
    shape = shapes if several else shapes[0]
    failure: Exception | None = None
    for dtype in (np.float32, np.int32):  # ids, where numbers do not fit
        try:
            probe.reset_state()
            zeros = [np.zeros(one, dtype) for one in shapes]
            inputs = zeros if several else zeros[0]
            return shapes_of(run(probe, inputs, (), {"training": False, "mask": None}))
        except Exception as error:
            failure = failure or error
    raise layer.error(
        f"call fails on zeros of shape {shape} ({failure}), define compute_output_shape(input_shape)"
    ) from failure


def _known(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int | None, ...]:
    return tuple(a if a == b else None for a, b in zip(first, second, strict=True))
