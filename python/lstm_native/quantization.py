"""Weights of models in 16 or 8 bits, for inference: which ones, and how they come to be so. Floor 4."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lstm_native import _core
from lstm_native.errors import unknown_name
from lstm_native.layers.building import structure_changed, with_held
from lstm_native.variable import Variable

_MODES = ("bfloat16", "int8")


def quantize_model(model: Any, mode: str, where: str) -> None:
    """See `Model.quantize`; `where` is what messages begin with."""
    if mode not in _MODES:
        raise ValueError(f"{where}: {unknown_name('mode', mode, _MODES)}")
    found = _quantizable(model)
    before = quantized_mode(found)
    if before is not None:
        raise ValueError(f"{where}: weights are quantized to {before} already; quantize the float32 model")
    if not found:
        raise ValueError(
            f"{where}: no layer has weights to quantize, expected an LSTM, GRU, SimpleRNN, Dense or Embedding"
        )
    _core.quantize_variables([(v, axis, f"{where}: {name}") for v, (axis, name) in found.items()], mode)
    structure_changed()  # plans know whether they can train


def mode_of_model(model: Any, where: str) -> str | None:
    """The mode that a model was quantized with, or None.

    Raises:
        ValueError: it shares layers with a quantized model and has others of its own; `where` begins the
            message.
    """
    modes = {variable.dtype for variable in _quantizable(model)}
    if len(modes) > 1:
        raise ValueError(
            f"{where}: some weights are quantized and others are not, as layers are shared with a quantized "
            "model; save that one"
        )
    return next((mode for mode in modes if mode in _MODES), None)


def quantized_mode(variables: Iterable[Variable]) -> str | None:
    """The mode of the first quantized one; None where there is none."""
    return next((variable.dtype for variable in variables if variable.is_quantized), None)


def check_float32(layer: Any) -> None:
    """Raises ValueError when the layer, or one inside it, has quantized weights, which cannot be trained."""
    for variable in layer.variables:
        if variable.is_quantized:
            raise layer.error(
                f"{variable.path} is quantized to {variable.dtype}, which is for inference; train the "
                "float32 model and quantize it again"
            )


def _quantizable(model: Any) -> dict[Variable, tuple[int, str]]:
    """The variables that a mode is for: the axis of their scales, and what messages call them."""
    return {
        variable: (axis, f"{layer.label()}: {variable.name}")
        for layer in with_held(model.held_layers())
        if layer.built
        for variable, axis in layer.quantizable()
    }
