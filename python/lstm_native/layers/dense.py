"""Dense and Activation, which end in an activation that training may fuse with the loss. Floor 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from lstm_native import _core, activations, constraints, regularizers
from lstm_native.arrays import Shape, positive_int
from lstm_native.layers.base import Context, Layer, Tensor
from lstm_native.layers.weights import get_initializer
from lstm_native.traced import Traced, recording
from lstm_native.variable import Variable


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
            return _core.as_tensor(self._checked(outputs, logits.shape), "float32")
        return logits if name == "linear" else _core.activation_forward(name, logits)

    def _checked(self, outputs: Any, shape: Shape) -> Any:
        name = activations.name_of(self.activation)
        if outputs.shape != shape:
            raise self.error(f"activation {name} turned shape {shape} into {outputs.shape}")
        return outputs

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Tensor:
        logits = self.forward_logits(inputs, ctx)
        if ctx.record and self._activation_name is None:
            with recording(True) as tape:
                x = Traced(logits.numpy(), tape)
                y = self._checked(self.activation(x), logits.shape)
            ctx.save(self, (x, y))
            return _core.as_tensor(y.value, "float32")
        outputs = self.activate(logits)
        if ctx.record and self._activation_name != "linear":
            ctx.save(self, (logits, outputs))
        return outputs

    def backward(self, d_outputs: Tensor, ctx: Context, need_d_inputs: bool = True) -> Tensor | None:
        name = self._activation_name
        if name is None:
            x, y = ctx.take(self)
            gradient_of, _ = x.tape.backward([y], [d_outputs.numpy()])
            found = gradient_of(x)
            gradient = np.zeros_like(x.value) if found is None else np.ascontiguousarray(found)
            d_outputs = _core.as_tensor(gradient, "float32")
        elif name != "linear":
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

    unmoved_by_padding = True

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
        self.kernel, self.bias = kernel_and_bias(self, (features, self.units))
        self._packed = _core.DenseWeights(self.kernel, self.bias)

    def make_uncopied(self) -> None:
        if self.built:
            self._packed = _core.DenseWeights(self.kernel, self.bias)

    def quantizable(self) -> Sequence[tuple[Variable, int]]:
        return ((self.kernel, 1),)

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

    unmoved_by_padding = True

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


def kernel_and_bias(layer: Any, shape: Shape) -> tuple[Variable, Variable | None]:
    """New weights of a layer with `use_bias`, `kernel_initializer` and so on: a kernel of `shape`, and a bias
    for its last axis."""
    made = [
        layer.add_weight(
            size,
            getattr(layer, f"{name}_initializer"),
            regularizer=getattr(layer, f"{name}_regularizer"),
            constraint=getattr(layer, f"{name}_constraint"),
            name=name,
        )
        for name, size in (("kernel", shape), ("bias", shape[-1:]))
        if name == "kernel" or layer.use_bias
    ]
    return made[0], made[1] if layer.use_bias else None
