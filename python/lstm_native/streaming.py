"""Stream: a model run one time step a call, with the states kept in between. One native call a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_native import _core
from lstm_native.arrays import Shape, to_float32, to_numpy
from lstm_native.layers.base import Layer
from lstm_native.layers.embedding import Embedding
from lstm_native.layers.inputs import InputLayer

Array = npt.NDArray[np.float32]
# What decides a layer's inference: whoever redefines one of these must redefine add_to_stream as well.
_INFERENCE = ("forward", "forward_logits", "activate", "compute_mask")


class Stream:
    """Runs a model over sequences that come one time step after the other.

    Made by `model.stream(batch_size)`. After t steps the output is, bit for bit, the one that `predict`
    gives for the last of those t steps. States start at zero; changed weights count from the next step on.
    Several streams of one model may run in several threads, each stream in one thread at a time.

    Attributes:
        batch_size: number of independent sequences, the rows of a step.
    """

    __slots__ = ("_label", "_native", "_step", "batch_size")

    def __init__(
        self, layers: Sequence[Layer], input_shape: Shape, batch_size: int, label: str, device: str
    ) -> None:
        first = next((layer for layer in layers if not isinstance(layer, InputLayer)), None)
        ids = isinstance(first, Embedding)
        if len(input_shape) != (2 if ids else 3):
            expected = "(batch, time)" if ids else "(batch, time, features)"
            raise ValueError(
                f"{label}: stream needs inputs {expected}, those of this model are {input_shape}"
            )
        features = 0 if ids else input_shape[-1]
        if features is None:
            raise ValueError(f"{label}: stream needs the number of features, this model's is not known yet")

        def convert(x: Any) -> _core.Tensor:
            return first.as_input(x) if isinstance(first, Embedding) else to_float32(x, label, "x_t")

        self.batch_size = batch_size
        self._label = label
        self._native = _core.Stream(label, batch_size, features, convert, device)
        for layer in layers:
            _check_own_step(layer)
            layer.add_to_stream(self._native)
        self._step = self._native.step

    def step(self, x_t: Any, out: Array | None = None) -> Array:
        """Runs one time step of every row.

        Args:
            x_t: (batch_size, features), or integer ids (batch_size,) where an `Embedding` comes first; with
                a batch size of 1 also (features,) or a single id. Id 0 of `mask_zero`, or features that
                `Masking` skips, leave a row as it is.
            out: C-contiguous float32 array (batch_size, n) that takes the outputs, so that a step asks for no
                memory. It may be `x_t`.

        Returns:
            Outputs (batch_size, n): `out`, or a new array.

        Raises:
            ValueError: another shape, ids outside the embedding's range, or an `out` that does not fit.
            TypeError: no numbers.
            RuntimeError: another thread is in a call of this stream.
        """
        return self._step(x_t, out)

    def reset(self, rows: Any = None) -> None:
        """Begins new sequences: the states become zero.

        Args:
            rows: indices of rows, or bool (batch_size,) with True for those to reset; all rows by default.

        Raises:
            ValueError: there is no such row. Nothing is reset then.
        """
        if rows is None:
            self._native.reset()
            return
        chosen = to_numpy(rows, self._label, "reset: rows")
        if chosen.dtype == np.bool_:
            if chosen.shape != (self.batch_size,):
                raise self._error(f"reset: rows has shape {chosen.shape}, expected ({self.batch_size},)")
            chosen = np.flatnonzero(chosen)
        elif chosen.size and (chosen.dtype.kind == "f" or chosen.ndim > 1):
            raise self._error(
                f"reset: rows is {rows!r}, expected indices of rows or bool ({self.batch_size},)"
            )
        self._native.reset([int(row) for row in chosen.reshape(-1)])

    @property
    def state(self) -> list[tuple[Array, ...]]:
        """States (h, c) or (h,), each (batch_size, units), of the recurrent layers in order.

        Reading gives copies. Setting takes all states, or none where one does not fit (ValueError).
        """
        return [tuple(part.numpy() for part in parts) for parts in self._native.state()]

    @state.setter
    def state(self, state: Sequence[Sequence[Any]]) -> None:
        if not isinstance(state, list | tuple) or not all(
            isinstance(item, list | tuple) and len(item) in (1, 2) for item in state
        ):
            raise self._error("state: expected a list with one (h, c), or (h,), for each recurrent layer")
        self._native.set_state(
            [
                [
                    to_float32(part, self._label, f"state[{i}] {name}")
                    for name, part in zip("hc", parts, strict=False)
                ]
                for i, parts in enumerate(state)
            ]
        )

    def _error(self, message: str) -> ValueError:
        return ValueError(f"{self._label}: {message}")


def _check_own_step(layer: Layer) -> None:
    """Raises ValueError where a subclass computes something else than the step it inherited."""
    for held in layer.held_layers():
        _check_own_step(held)
    kinds = type(layer).__mro__
    step = next(kind for kind in kinds if "add_to_stream" in vars(kind))
    for name in _INFERENCE:
        definer = next((kind for kind in kinds if name in vars(kind)), step)
        if not issubclass(step, definer):
            raise layer.error(f"cannot run step by step in a stream: it defines {name} but no add_to_stream")
