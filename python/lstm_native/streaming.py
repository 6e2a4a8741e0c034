"""Stream: a model run one time step a call, with the states kept in between. One native call a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lstm_native import _core
from lstm_native.arrays import Shape, to_float32, to_numpy
from lstm_native.layers.base import Layer
from lstm_native.layers.embedding import Embedding
from lstm_native.layers.inputs import InputLayer
from lstm_native.models.plan import makes_mask

if TYPE_CHECKING:
    from lstm_native.models.graph import Step

Array = npt.NDArray[np.float32]
# What says how a layer runs step by step, and one of several inputs.
_STEP, _JOIN = ("add_to_stream",), ("add_join_to_stream", "merge_mode")
# What decides a layer's inference: whoever redefines one of these must redefine that as well.
_INFERENCE = ("forward", "forward_logits", "activate", "joined", "compute_mask")


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
        self,
        steps: Sequence[Step],
        output: int,
        input_shape: Shape,
        batch_size: int,
        label: str,
        device: str,
    ) -> None:
        first = next((step.layer for step in steps if not isinstance(step.layer, InputLayer)), None)
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
        slots = {0: 0}
        shapes: dict[int, Any] = {0: input_shape}
        masked = any(makes_mask(step.layer) for step in steps)
        for step in steps:
            self._add(step, slots, shapes, masked)
        self._native.read(slots[output])
        self._step = self._native.step

    def _add(self, step: Step, slots: dict[int, int], shapes: dict[int, Any], masked: bool) -> None:
        """Adds a use of a layer.

        Args:
            step: the use.
            slots: native slots by those of the model; gets that of the output.
            shapes: of what is in the slots of the model; gets that of the output.
            masked: whether some steps may not count.
        """
        layer = step.layer
        _check_own_step(layer, _JOIN if step.several else _STEP)
        if step.states or step.flags or step.arguments or step.training:
            raise layer.error(
                "is called with states, a mask or other arguments, and cannot run step by step in a stream"
            )
        if not all(slot in slots for slot in step.inputs):
            raise layer.error("reads the states of another layer, and cannot run step by step in a stream")
        given = tuple(shapes[slot] for slot in step.inputs)
        if step.several:
            masked = masked and not layer.ends_masks
            layer.add_join_to_stream(self._native, [slots[slot] for slot in step.inputs], given, masked)
        else:
            self._native.read(slots[step.inputs[0]])
            layer.add_to_stream(self._native)
        if layer.ends_masks:
            self._native.end_mask()
        slots[step.outputs[0]] = self._native.slot
        shape = layer.compute_output_shape(given if step.several else given[0])
        shapes[step.outputs[0]] = shape[0] if isinstance(shape[0], list | tuple) else shape

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


def _check_own_step(layer: Layer, methods: tuple[str, ...] = _STEP) -> None:
    """Raises ValueError where a subclass of the caller computes something else than the step it inherited."""
    for held in layer.held_layers():
        _check_own_step(held)
    kinds = type(layer).__mro__
    step = next((kind for kind in kinds if not vars(kind).keys().isdisjoint(methods)), Layer)
    for name in _INFERENCE:
        definer = next((kind for kind in kinds if name in vars(kind)), step)
        if not issubclass(step, definer) and not definer.__module__.startswith("lstm_native."):
            raise layer.error(f"cannot run step by step in a stream: it defines {name} but no {methods[0]}")
