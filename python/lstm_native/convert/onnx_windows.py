"""Operators of ONNX over windows of time steps, and normalization by the batch, as layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lstm_native.convert import onnx_moves as moves
from lstm_native.convert.layouts import Array
from lstm_native.convert.onnx_file import Node
from lstm_native.convert.onnx_flow import Again, B, F, Flow, Holder, T, Tensor
from lstm_native.convert.onnx_merging import Merging
from lstm_native.convert.onnx_shapes import at
from lstm_native.layers import (
    AveragePooling1D,
    BatchNormalization,
    Conv1D,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    MaxPooling1D,
    ZeroPadding1D,
)
from lstm_native.layers.windows import Windows


class OverWindows(Merging):
    """Follows operators that have the features as axis 1, before the time."""

    @property
    def _window_operators(self) -> dict[str, Callable[[Node, Flow, list[Any]], Any]]:
        pools = dict.fromkeys(("MaxPool", "AveragePool"), self._pool)
        return {
            "Conv": self._conv,
            **pools,
            **dict.fromkeys(("GlobalMaxPool", "GlobalAveragePool"), self._global_pool),
            "BatchNormalization": self._batch_normalization,
        }

    def _channels_first(self, node: Node, x: Flow, flat: bool = False) -> Tensor:
        """The tensor of a flow (batch, features, time), or with `flat` (batch, features)."""
        x = self._unflipped(self._settled(x))
        if x.axes == (B, T, F):
            for name in sorted(x.parts[0].inputs):
                if self.role(name) is None:
                    raise Again(name, "channels first")
        if x.axes not in ((B, F, T), *([(B, F)] if flat else [])) or len(x.parts) != 1:
            axes = ", ".join(map(moves.describe, x.axes))
            raise node.error(f"its input has the axes ({axes}), expected (batch, features, time)")
        return x.parts[0]

    def _padded(self, node: Node, x: Tensor, windows: Windows) -> tuple[Tensor, Windows]:
        """The input of an operator, and its windows with the padding that a layer has."""
        kind, pads = node.get("auto_pad", "NOTSET"), tuple(_ints(node, "pads", [0, 0]))
        if kind == "SAME_LOWER" or node.get("ceil_mode", 0) or node.get("count_include_pad", 0):
            raise node.error("auto_pad SAME_LOWER, ceil_mode and count_include_pad have no counterpart")
        if windows.stride > 1 and windows.dilation > 1:
            raise node.error("strides and dilations are both above 1, which has no counterpart")
        size, stride, dilation = windows.size, windows.stride, windows.dilation
        if kind == "SAME_UPPER":
            return x, Windows(size, stride, dilation, "same")
        if kind == "VALID" or not any(pads):
            return x, windows
        if stride == 1 and pads == Windows(size, 1, dilation, "same").around(windows.span):
            return x, Windows(size, 1, dilation, "same")
        if node.op != "Conv":
            raise node.error(f"pads is {list(pads)}, expected as many as auto_pad SAME_UPPER has, or none")
        if pads == (windows.span - 1, 0):
            return x, Windows(size, stride, dilation, "causal")
        if len(pads) != 2 or min(pads) < 0:
            raise node.error(f"pads is {list(pads)}, expected two numbers that are not negative")
        time = x.time + sum(pads) if x.time else x.time
        return self._call(Holder(ZeroPadding1D, {"padding": pads}, per_step=False), x, x.size, time), windows

    def _windows_of(self, node: Node, size: int | None) -> Windows:
        shape = _ints(node, "kernel_shape", [] if size is None else [size])
        strides, dilations = _ints(node, "strides", [1]), _ints(node, "dilations", [1])
        if not all(len(n) == 1 for n in (shape, strides, dilations)):
            raise node.error("it has windows over more than one axis, or none, expected the time axis alone")
        if min(shape[0], strides[0], dilations[0]) < 1 or size not in (None, shape[0]):
            raise node.error(f"kernel_shape {shape}, strides {strides} or dilations {dilations} do not fit")
        return Windows(shape[0], strides[0], dilations[0])

    def _conv(self, node: Node, x: Flow, inputs: list[Any]) -> Flow:
        moves.constant_inputs(node, inputs)
        kernel, bias = at(inputs, 1), at(inputs, 2)
        arrays = [array for array in (kernel, bias) if array is not None]
        known = kernel is not None and kernel.ndim == 3 and kernel.size
        if not known or any(array.dtype != np.float32 for array in arrays):
            raise node.error("its weights are not (filters, features, steps) of float32")
        part = self._channels_first(node, x)
        groups, (filters, per_group, size) = node.get("group", 1), kernel.shape
        if not isinstance(groups, int) or groups < 1:
            raise node.error(f"group is {groups!r}, expected a positive integer")
        part.size = part.size or per_group * groups
        if part.size != per_group * groups or (bias is not None and bias.shape != (filters,)):
            raise node.error(f"its input has {part.size} features, its weights are for {per_group * groups}")
        part, windows = self._padded(node, part, self._windows_of(node, size))
        arguments = {
            "filters": filters,
            "kernel_size": windows.size,
            "strides": windows.stride,
            "padding": windows.padding,
            "dilation_rate": windows.dilation,
            "groups": groups,
            "use_bias": bias is not None,
        }
        ours: list[Array] = [np.ascontiguousarray(kernel.transpose(2, 1, 0)), *arrays[1:]]
        return self._windowed(Holder(Conv1D, arguments, ours, per_step=False), part, filters, windows)

    def _pool(self, node: Node, x: Flow, inputs: list[Any]) -> Flow:
        part, windows = self._padded(node, self._channels_first(node, x), self._windows_of(node, None))
        if windows.dilation > 1 or len([name for name in node.outputs if name]) > 1:
            raise node.error("dilations, and the places of the largest, have no counterpart")
        arguments = {"pool_size": windows.size, "strides": windows.stride, "padding": windows.padding}
        kind = MaxPooling1D if node.op == "MaxPool" else AveragePooling1D
        return self._windowed(Holder(kind, arguments, per_step=False), part, part.size, windows)

    def _windowed(self, holder: Holder, x: Tensor, size: int | None, windows: Windows) -> Flow:
        made = self._call(holder, x, size, windows.count(x.time) if x.time else x.time)
        return Flow((made,), (B, F, T))

    def _global_pool(self, node: Node, x: Flow, inputs: list[Any]) -> Flow:
        part = self._channels_first(node, x)
        kind = GlobalMaxPooling1D if node.op == "GlobalMaxPool" else GlobalAveragePooling1D
        return Flow((self._call(Holder(kind, {}, per_step=False), part, part.size, 0),), (B, F, ()))

    def _batch_normalization(self, node: Node, x: Flow, inputs: list[Any]) -> Flow:
        moves.constant_inputs(node, inputs)
        if node.get("training_mode", 0) or len([name for name in node.outputs if name]) > 1:
            raise node.error("it is in training mode; models run as in inference")
        part = self._channels_first(node, x, flat=True)
        arrays = [array for array in inputs[1:5] if array is not None]
        if len(arrays) != 4:
            raise node.error("it has not scale, bias, mean and variance")
        size = arrays[0].size
        part.size = part.size or size
        if any(array.shape != (part.size,) or array.dtype != np.float32 for array in arrays):
            raise node.error(f"its weights are not of {part.size} features and float32")
        arguments = {
            "epsilon": float(node.get("epsilon", 1e-5)),
            "momentum": float(node.get("momentum", 0.9)),
        }
        # Not called a layer of single steps, as it takes inputs of one rank only.
        holder = Holder(BatchNormalization, arguments, list(arrays), per_step=False)
        axes = (B, F) if part.time == 0 else (B, F, T)
        return Flow((self._call(holder, part, part.size, part.time),), axes)


def _ints(node: Node, name: str, default: list[int]) -> list[int]:
    """An attribute that is a list of integers."""
    found = node.get(name, default)
    if not isinstance(found, list | tuple) or not all(isinstance(n, int) for n in found):
        raise node.error(f"{name} is {found!r}, expected integers")
    return list(found)
