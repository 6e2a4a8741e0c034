"""Embedding: a trained vector for every id; and such vectors by their numbers. Floor 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_native import _core, constraints, regularizers
from lstm_native.arrays import Shape, positive_int, to_numpy
from lstm_native.errors import warn
from lstm_native.layers.base import Context, Layer, Tensor
from lstm_native.layers.masking import step_flags
from lstm_native.layers.weights import get_initializer
from lstm_native.variable import Variable


class IndexedRows(NamedTuple):
    """Inputs (batch, time, features) of a recurrent layer that repeat: step (b, t) is rows[numbers[b, t]].

    The layer projects each row once, and sends back the gradient of `rows`.
    """

    rows: Tensor
    numbers: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.numbers.shape, self.rows.shape[1])


class Embedding(Layer):
    """A trained vector for every id: ids (batch, time) to (batch, time, output_dim).

    The gradient of a vector is the sum over all places of its id in the batch. Keras 3 on TensorFlow squares
    the parts of that sum one by one in `Adam`, `RMSprop` and their like: with ids that repeat, training there
    takes somewhat other steps.

    Args:
        input_dim: number of ids; they run from 0 to input_dim - 1.
        output_dim: length of a vector.
        embeddings_initializer: start values; uniform in [-0.05, 0.05] by default.
        embeddings_regularizer: penalty on the table that training adds to the loss.
        embeddings_constraint: what the table is brought back to after every step of training.
        mask_zero: id 0 is padding; later layers skip those time steps.
        weights: the table (input_dim, output_dim) to start from.

    Raises:
        ValueError: at the call, for ids that are not whole or outside [0, input_dim).
    """

    unmoved_by_padding = True
    neutral_arguments: ClassVar[dict[str, Any]] = {
        "lora_rank": None,
        "lora_alpha": None,
        "quantization_config": None,
    }
    config_attributes: ClassVar[dict[str, str | None]] = {"weights": None}

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        weights: Any = None,
        **kwargs: Any,
    ) -> None:
        input_dim = positive_int(input_dim, "Embedding", "input_dim")
        output_dim = positive_int(output_dim, "Embedding", "output_dim")
        largest = int(np.iinfo(np.int32).max)  # ids are int32
        if input_dim > largest:
            raise ValueError(f"Embedding: input_dim is {input_dim}, expected at most {largest}")
        input_length = kwargs.pop("input_length", None)
        super().__init__(**kwargs)
        if input_length is not None:
            warn("Embedding: argument input_length is not needed any more")
        self.input_dim = input_dim
        self.output_dim = output_dim
        self.embeddings_initializer = get_initializer(embeddings_initializer, "uniform")
        self.embeddings_regularizer = regularizers.get(embeddings_regularizer)
        self.embeddings_constraint = constraints.get(embeddings_constraint)
        self.mask_zero = self.supports_masking = bool(mask_zero)
        if weights is not None:
            self.build()
            one_array = np.ndim(weights) == 2
            self.set_weights([weights] if one_array else weights)

    def build(self, input_shape: Any = (None, None)) -> None:
        """Makes the table, whatever the shape of the inputs."""
        super().build(input_shape)

    def create_weights(self, input_shape: Shape) -> None:
        self.embeddings = self.add_weight(
            (self.input_dim, self.output_dim),
            self.embeddings_initializer,
            regularizer=self.embeddings_regularizer,
            constraint=self.embeddings_constraint,
            name="embeddings",
        )

    def quantizable(self) -> Sequence[tuple[Variable, int]]:
        return ((self.embeddings, 0),)

    def check_input_shape(self, shape: Shape) -> None:
        if not shape:
            raise self.error("input is a single number, expected an array of ids (batch, time)")
        if len(shape) > 1 and shape[1] == 0:
            raise self.error(f"input has shape {shape}, expected at least one time step")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape, self.output_dim)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        if not self.mask_zero:
            return previous_mask
        return step_flags(inputs, lambda ids: ids != 0, previous_mask)

    def as_input(self, inputs: Any) -> Tensor:
        if type(inputs) is Tensor and inputs.dtype == "int32":
            return inputs
        given = to_numpy(inputs, self.label(), "input")
        try:
            return _core.as_tensor(given, "int32")
        except ValueError:
            self._refuse(given)  # says which layer and where
            raise

    def _refuse(self, given: npt.NDArray[Any]) -> None:
        """Raises ValueError for the first number that is no id."""
        with np.errstate(invalid="ignore"):
            changed = given.astype(np.int32) != given
        if changed.any():
            where = tuple(int(i) for i in np.argwhere(changed)[0])
            if given.dtype.kind == "f" and not float(given[where]).is_integer():
                raise self.error(f"input{_index(where)} is {given[where]}, expected whole numbers")
            raise self._bad_id(given[where], where)

    def check_values(self, inputs: Tensor) -> None:
        try:
            _core.embedding_check(inputs, self.input_dim)
        except ValueError:
            ids = inputs.numpy()  # says which layer and where
            where = tuple(int(i) for i in np.argwhere((ids < 0) | (ids >= self.input_dim))[0])
            raise self._bad_id(ids[where], where) from None

    def _bad_id(self, value: Any, where: tuple[int, ...]) -> ValueError:
        return self.error(
            f"input{_index(where)} is {int(value)}, expected an index in [0, {self.input_dim}) (input_dim)"
        )

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Tensor:
        ids = self.as_input(inputs)
        self.check_input_shape(ids.shape)
        try:
            outputs = _core.embedding_forward(self.embeddings, ids)
        except ValueError:
            self.check_values(ids)  # says which layer and where
            raise
        if ctx.record:
            ctx.save(self, ids)
        return outputs

    def forward_rows(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Tensor | IndexedRows:
        """`forward` for a layer that takes indexed rows: one for each distinct id, where that saves work."""
        ids = self.as_input(inputs)
        self.check_input_shape(ids.shape)
        try:
            found = _core.embedding_distinct(self.embeddings, ids)
        except ValueError:
            self.check_values(ids)
            raise
        if found is None:
            return self.forward(ids, ctx, mask)
        rows, distinct, numbers = found
        if ctx.record:
            ctx.save(self, distinct)
        return IndexedRows(rows, numbers)

    def backward(self, d_outputs: Tensor, ctx: Context, need_d_inputs: bool = True) -> None:
        ids = ctx.take(self)
        ctx.add_gradient(self.embeddings, _core.embedding_backward(ids, d_outputs, self.input_dim))

    def add_to_stream(self, stream: _core.Stream) -> None:
        stream.add_embedding(self.label(), self.embeddings, self.mask_zero)


def _index(where: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, where))}]" if where else ""
