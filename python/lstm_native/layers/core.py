"""The layers around the recurrent ones: Input, Embedding, Dense, Activation, Masking. Floor 4."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_native import _core, activations, constraints, regularizers
from lstm_native.arrays import Shape, positive_int, to_numpy, to_shape
from lstm_native.errors import check_number
from lstm_native.layers.base import Context, Layer, Tensor, require_backward
from lstm_native.layers.symbolic import Node, Placeholder
from lstm_native.layers.weights import get_initializer


class InputLayer(Layer):
    """Says the shape of a model's inputs, so that the model builds before it sees data.

    Args:
        shape: shape of one input, without the batch axis; None where it may vary.
        batch_size: number of rows, when it is fixed.
        dtype: accepted as Keras has it; the first real layer decides what it takes.
        batch_shape: shape with the batch axis, instead of `shape` and `batch_size`.
        name: name of the layer.
    """

    supports_masking = True
    config_attributes: ClassVar[dict[str, str | None]] = {"shape": None, "batch_size": None}  # in batch_shape

    def __init__(
        self,
        shape: Sequence[int | None] | None = None,
        batch_size: int | None = None,
        dtype: str | None = None,
        batch_shape: Sequence[int | None] | None = None,
        name: str | None = None,
    ) -> None:
        if (shape is None) == (batch_shape is None):
            raise ValueError("Input: pass either shape or batch_shape")
        if batch_shape is not None and batch_size is not None:
            raise ValueError("Input: batch_size is part of batch_shape, pass one of them")
        if batch_size is not None:
            batch_size = positive_int(batch_size, "Input", "batch_size")
        try:
            input_dtype = np.dtype(dtype or "float32")
        except TypeError:
            raise ValueError(
                f"Input: dtype is {dtype!r}, expected the name of one, such as 'float32'"
            ) from None
        super().__init__(name=name)
        if batch_shape is None:
            assert shape is not None
            batch_shape = (batch_size, *to_shape(shape, "Input", "shape"))
        self.batch_shape: Shape = to_shape(batch_shape, "Input", "batch_shape")
        self.dtype = input_dtype.name
        self.built = True

    @property
    def output(self) -> Placeholder:
        """The placeholder that layers are called on."""
        if not self.nodes:
            Node(self).give(self.batch_shape, self.dtype)
        return self.nodes[0].outputs[0]

    @property
    def input(self) -> Placeholder:
        """The placeholder that layers are called on."""
        return self.output

    def check_input_shape(self, shape: Shape) -> None:
        if len(shape) != len(self.batch_shape) or any(
            a is not None and b is not None and a != b for a, b in zip(shape, self.batch_shape, strict=True)
        ):
            raise self.error(f"input has shape {shape}, expected {self.batch_shape}")

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Tensor:
        self.check_input_shape(inputs.shape)
        return inputs

    def add_to_stream(self, stream: _core.Stream) -> None:
        pass  # a stream may have any number of rows and steps

    def backward(self, d_outputs: Tensor, ctx: Context, need_d_inputs: bool = True) -> Tensor:
        return d_outputs


def Input(
    shape: Sequence[int | None] | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    batch_shape: Sequence[int | None] | None = None,
    name: str | None = None,
) -> Placeholder:
    """A model's inputs: the first item of a `Sequential`, or what layers of a functional model are called on.

    Arguments as `InputLayer`.
    """
    return InputLayer(shape, batch_size, dtype, batch_shape, name).output


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
            warnings.warn("Embedding: argument input_length is not needed any more", stacklevel=2)
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
        return _step_flags(inputs, lambda ids: ids != 0, previous_mask)

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
        ids = inputs.numpy()
        # A negative id is a large one without its sign.
        if ids.size and ids.view(np.uint32).max() >= self.input_dim:
            where = tuple(int(i) for i in np.argwhere((ids < 0) | (ids >= self.input_dim))[0])
            raise self._bad_id(ids[where], where)

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


def _step_flags(inputs: Any, flags_of: Callable[[npt.NDArray[Any]], npt.NDArray[Any]], previous: Any) -> Any:
    """A mask of the kind that `inputs` are, tensor or array; what `previous` masks stays masked."""
    if isinstance(inputs, Tensor):
        flags = flags_of(inputs.numpy())
        return _core.as_tensor(flags if previous is None else flags & previous.numpy(), "bool")
    flags = flags_of(np.asarray(inputs))
    return flags if previous is None else flags & np.asarray(previous)


def _index(where: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, where))}]" if where else ""


class ActivationAtEnd(Layer):
    """A layer that ends in an activation, which training may fuse with the loss.

    `forward` is `activate(forward_logits(x))`, and so backwards.
    """

    supports_masking = True
    activation: activations.Activation
    _activation_name: str | None  # None for a Python callable

    def _set_activation(self, activation: Any) -> None:
        self.activation = activations.get(activation)
        self._activation_name = activations.native_name(self.activation)

    @property
    def output_activation(self) -> str | None:
        """Name of the last activation; None for a Python callable."""
        return self._activation_name

    def check_can_train(self) -> None:
        super().check_can_train()
        require_backward(self, "activation", self.activation)

    def add_activation_to_stream(self, stream: _core.Stream) -> None:
        """Adds the activation to `stream`; ValueError where it is a Python callable."""
        name = self._activation_name
        if name is None:
            raise self.error(
                f"activation is the Python callable {activations.name_of(self.activation)}, which cannot run "
                "step by step in a stream"
            )
        if name != "linear":
            stream.add_activation(name)

    def forward_logits(self, inputs: Tensor, ctx: Context) -> Tensor:
        """Outputs before the activation."""
        raise NotImplementedError

    def backward_logits(self, d_logits: Tensor, ctx: Context, need_d_inputs: bool = True) -> Tensor | None:
        """Gradient of the inputs from that of `forward_logits`."""
        raise NotImplementedError

    def activate(self, logits: Tensor) -> Tensor:
        """Outputs from the logits."""
        name = self._activation_name
        if name is None:
            outputs = np.asarray(self.activation(logits.numpy()), dtype=np.float32)
            if outputs.shape != logits.shape:
                raise self.error(
                    f"activation {activations.name_of(self.activation)} turned shape {logits.shape} "
                    f"into {outputs.shape}"
                )
            return _core.as_tensor(outputs, "float32")
        return logits if name == "linear" else _core.activation_forward(name, logits)

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Tensor:
        if ctx.record and self._activation_name is None:
            self.check_can_train()  # says why not
        logits = self.forward_logits(inputs, ctx)
        outputs = self.activate(logits)
        if ctx.record and self._activation_name != "linear":
            ctx.save(self, (logits, outputs))
        return outputs

    def backward(self, d_outputs: Tensor, ctx: Context, need_d_inputs: bool = True) -> Tensor | None:
        name = self._activation_name
        if name is not None and name != "linear":
            logits, outputs = ctx.take(self)
            d_outputs = _core.activation_backward(name, logits, outputs, d_outputs)
        return self.backward_logits(d_outputs, ctx, need_d_inputs)


class Dense(ActivationAtEnd):
    """`activation(x @ kernel + bias)` over the last axis.

    Args:
        units: size of the last axis of the outputs.
        activation: name, callable or None (linear).
        use_bias: whether there is a bias.
        kernel_initializer: start values of the kernel (features, units).
        bias_initializer: start values of the bias (units,).
        kernel_regularizer, bias_regularizer: penalties on the weights that training adds to the loss.
        activity_regularizer: penalty on the outputs, divided by the number of rows.
        kernel_constraint, bias_constraint: what they are brought back to after every step of training.
    """

    neutral_arguments: ClassVar[dict[str, Any]] = {
        "lora_rank": None,
        "lora_alpha": None,
        "quantization_config": None,
    }
    uncopied: ClassVar[tuple[str, ...]] = ("_packed",)

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        units = positive_int(units, "Dense", "units")
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.units = units
        self.use_bias = bool(use_bias)
        self.kernel_initializer = get_initializer(kernel_initializer, "glorot_uniform")
        self.bias_initializer = get_initializer(bias_initializer, "zeros")
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self._set_activation(activation)

    def create_weights(self, input_shape: Shape) -> None:
        features = input_shape[-1]
        assert features is not None
        self._features = features
        self.kernel = self.add_weight(
            (features, self.units),
            self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            name="kernel",
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                (self.units,),
                self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                name="bias",
            )
        self._packed = _core.DenseWeights(self.kernel, self.bias)

    def make_uncopied(self) -> None:
        if self.built:
            self._packed = _core.DenseWeights(self.kernel, self.bias)

    def check_input_shape(self, shape: Shape) -> None:
        if len(shape) < 2 or not shape[-1]:
            raise self.error(f"input has shape {shape}, expected (batch, ..., features)")
        if self.built and shape[-1] != self._features:
            raise self.error(f"input has shape {shape}, expected {self._features} features in the last axis")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], self.units)

    def forward_logits(self, inputs: Tensor, ctx: Context) -> Tensor:
        self.check_input_shape(inputs.shape)
        if ctx.record:
            ctx.save(self, inputs)
        return _core.dense_forward(self._packed, inputs)

    def backward_logits(self, d_logits: Tensor, ctx: Context, need_d_inputs: bool = True) -> Tensor | None:
        inputs = ctx.take(self)
        d_inputs, d_kernel, d_bias = _core.dense_backward(self._packed, inputs, d_logits, need_d_inputs)
        ctx.add_gradient(self.kernel, d_kernel)
        if self.bias is not None and d_bias is not None:
            ctx.add_gradient(self.bias, d_bias)
        return d_inputs

    def add_to_stream(self, stream: _core.Stream) -> None:
        stream.add_dense(self._packed)
        self.add_activation_to_stream(stream)


class Activation(ActivationAtEnd):
    """Applies an activation to its inputs.

    Args:
        activation: name, callable or None (linear).
    """

    def __init__(self, activation: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._set_activation(activation)
        self.built = True

    def forward_logits(self, inputs: Tensor, ctx: Context) -> Tensor:
        return inputs

    def backward_logits(self, d_logits: Tensor, ctx: Context, need_d_inputs: bool = True) -> Tensor:
        return d_logits

    def add_to_stream(self, stream: _core.Stream) -> None:
        self.add_activation_to_stream(stream)


class Masking(Layer):
    """Marks time steps whose features all equal `mask_value`, for later layers to skip, and zeroes them.

    Args:
        mask_value: the value that means "no data".
    """

    supports_masking = True

    def __init__(self, mask_value: float = 0.0, **kwargs: Any) -> None:
        mask_value = check_number("Masking", "mask_value", mask_value, "a number")
        super().__init__(**kwargs)
        self.mask_value = mask_value
        self.built = True

    def check_input_shape(self, shape: Shape) -> None:
        if len(shape) != 3:
            raise self.error(f"input has shape {shape}, expected (batch, time, features)")

    def _valid(self, inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.asarray((inputs != np.float32(self.mask_value)).any(axis=-1))

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return _step_flags(inputs, self._valid, previous_mask)

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Tensor:
        self.check_input_shape(inputs.shape)
        valid = self._valid(inputs.numpy())[..., None]
        if ctx.record:
            ctx.save(self, valid)
        return _core.as_tensor(np.where(valid, inputs.numpy(), np.float32(0)), "float32")

    def backward(self, d_outputs: Tensor, ctx: Context, need_d_inputs: bool = True) -> Tensor:
        valid = ctx.take(self)
        return _core.as_tensor(np.where(valid, d_outputs.numpy(), np.float32(0)), "float32")

    def add_to_stream(self, stream: _core.Stream) -> None:
        stream.add_masking(self.mask_value)
