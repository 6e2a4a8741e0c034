"""How other libraries lay out the weights of recurrent layers: gates in rows or columns, in their own order.

Ours are Keras': kernel (inputs, G units), recurrent_kernel (units, G units), gates in columns; LSTM i, f, c,
o; GRU z, r, h, with a bias (2, 3 units) where the reset gate comes after the recurrent product; SimpleRNN has
one block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

GATES = {"lstm": "ifco", "gru": "zrh", "simple_rnn": "h"}  # ours, in the order of their columns
TORCH_GATES = {"lstm": "ifco", "gru": "rzh", "simple_rnn": "h"}  # PyTorch calls c g, and h n
ONNX_GATES = {"lstm": "iofc", "gru": "zrh", "simple_rnn": "h"}


class Weights(NamedTuple):
    """Weights of one recurrent layer and direction in our layout; `bias` is None where there is none."""

    kernel: Array
    recurrent_kernel: Array
    bias: Array | None


def reorder_gates(rows: Array, source: str, target: str) -> Array:
    """Blocks of rows (G units, ...) whose gates are in the order of `source`, in the order of `target`."""
    if source == target:
        return rows
    blocks = np.split(rows, len(source))
    return np.concatenate([blocks[source.index(gate)] for gate in target])


def from_rows(
    cell: str,
    gates: str,
    weight_ih: Array,
    weight_hh: Array,
    biases: Sequence[Array] | None,
) -> Weights:
    """Our layout from gates in rows, as PyTorch and ONNX have them.

    Args:
        cell: "lstm", "gru" (its reset gate after the recurrent product) or "simple_rnn".
        gates: the order of the rows, as in `TORCH_GATES`.
        weight_ih: (G units, inputs).
        weight_hh: (G units, units).
        biases: of the input and of the recurrent product, each (G units,).
    """
    target = GATES[cell]
    bias = None
    if biases is not None:
        ours = [reorder_gates(np.asarray(b), gates, target) for b in biases]
        bias = np.stack(ours) if cell == "gru" else ours[0] + ours[1]
    return Weights(
        np.ascontiguousarray(reorder_gates(np.asarray(weight_ih), gates, target).T),
        np.ascontiguousarray(reorder_gates(np.asarray(weight_hh), gates, target).T),
        bias,
    )


def to_rows(cell: str, gates: str, weights: Weights) -> tuple[Array, Array, tuple[Array, Array] | None]:
    """weight_ih, weight_hh and, where there is a bias, both biases: the way back from `from_rows`.

    A single bias goes whole to the input's; the recurrent one is zero.
    """
    source = GATES[cell]
    weight_ih, weight_hh = (
        np.ascontiguousarray(reorder_gates(w.T, source, gates))
        for w in (weights.kernel, weights.recurrent_kernel)
    )
    if weights.bias is None:
        return weight_ih, weight_hh, None
    bias = weights.bias
    first, second = bias if bias.ndim == 2 else (bias, np.zeros_like(bias))
    return weight_ih, weight_hh, (reorder_gates(first, source, gates), reorder_gates(second, source, gates))
