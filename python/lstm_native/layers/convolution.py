"""Conv1D: a product with every window of time steps. Floor 4."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from lstm_native import _core, constraints, regularizers
from lstm_native.arrays import Shape, whole_number
from lstm_native.layers.base import Context, Tensor
from lstm_native.layers.dense import ActivationAtEnd, kernel_and_bias
from lstm_native.layers.reshaping import check_data_format
from lstm_native.layers.weights import get_initializer
from lstm_native.layers.windows import OverWindows, Windows, check_padding, int_tuple


class Conv1D(OverWindows, ActivationAtEnd):
    """`activation(window @ kernel + bias)` for windows of time steps.

    (batch, time, features) becomes (batch, windows, filters). As in Keras, masked time steps count like
    others, and layers behind see no mask; a warning says so.

    Args:
        filters: size of the last axis of the outputs.
        kernel_size: number of steps in a window.
        strides: how far a window begins behind the one before.
        padding: "valid": no window reaches beyond the sequence; "same": zeros on both sides, so that there is
            a window for every `strides` steps; "causal": as many, with all zeros in front, so that no output
            depends on later steps.
        data_format: "channels_last" (default), or "channels_first" for inputs (batch, features, time).
        dilation_rate: how far the steps of a window are apart; above 1 only where `strides` is 1.
        groups: features and filters fall into so many groups; a filter sees the features of its own group.
        activation: name, callable or None (linear).
        use_bias: whether there is a bias.
        kernel_initializer: start values of the kernel (kernel_size, features / groups, filters).
        bias_initializer: start values of the bias (filters,).
        kernel_regularizer, bias_regularizer: penalties on the weights that training adds to the loss.
        activity_regularizer: penalty on the outputs, divided by the number of rows.
        kernel_constraint, bias_constraint: what they are brought back to after every step of training.
    """

    supports_masking = False
    neutral_arguments: ClassVar[dict[str, Any]] = {"lora_rank": None, "lora_alpha": None}
    uncopied: ClassVar[tuple[str, ...]] = ("_packed",)

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int],
        strides: int | tuple[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | tuple[int] = 1,
        groups: int = 1,
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
        filters = whole_number(filters, "Conv1D", "filters")
        if filters < 1:
            raise ValueError(
                "Conv1D: Invalid value for argument `filters`. Expected a strictly positive value. Received "
                f"filters={filters}."
            )
        groups = whole_number(groups, "Conv1D", "groups")
        if groups < 1:
            raise ValueError(
                f"Conv1D: The number of groups must be a positive integer. Received: groups={groups}."
            )
        if filters % groups:
            raise ValueError(
                "Conv1D: The number of filters must be evenly divisible by the number of groups. Received: "
                f"groups={groups}, filters={filters}."
            )
        self.kernel_size = int_tuple(kernel_size, 1, "Conv1D", "kernel_size")
        self.strides = int_tuple(strides, 1, "Conv1D", "strides")
        self.dilation_rate = int_tuple(dilation_rate, 1, "Conv1D", "dilation_rate")
        if self.strides[0] > 1 and self.dilation_rate[0] > 1:
            raise ValueError(
                "Conv1D: `strides > 1` not supported in conjunction with `dilation_rate > 1`. Received: "
                f"strides={self.strides} and dilation_rate={self.dilation_rate}"
            )
        self.padding = check_padding(padding, ("valid", "same", "causal"), "Conv1D")
        self.data_format = check_data_format("Conv1D", data_format)
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.filters = filters
        self.groups = groups
        self.use_bias = bool(use_bias)
        self.kernel_initializer = get_initializer(kernel_initializer, "glorot_uniform")
        self.bias_initializer = get_initializer(bias_initializer, "zeros")
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self._set_activation(activation)

    @property
    def windows(self) -> Windows:
        """The windows that the kernel is multiplied with."""
        return Windows(self.kernel_size[0], self.strides[0], self.dilation_rate[0], self.padding)

    # --- shapes and weights -----------------------------------------------------------------------

    def check_input_shape(self, shape: Shape) -> None:
        super().check_input_shape(shape)
        features = shape[3 - self.time_axis]
        if not features:
            raise self.error(f"input has shape {shape}, expected a known number of features")
        if features % self.groups:
            raise self.error(
                "The number of input channels must be evenly divisible by the number of groups. Received "
                f"groups={self.groups}, but the input has {features} channels (full input shape is {shape})."
            )
        if self.built and features != self._features:
            raise self.error(f"input has shape {shape}, expected {self._features} features")

    def create_weights(self, input_shape: Shape) -> None:
        features = input_shape[3 - self.time_axis]
        assert features is not None
        self._features = features
        shape = (*self.kernel_size, features // self.groups, self.filters)
        self.kernel, self.bias = kernel_and_bias(self, shape)
        self.make_uncopied()

    def make_uncopied(self) -> None:
        # What the weights of the groups were made of, and these.
        self._packed: tuple[Any, list[_core.DenseWeights]] = (None, [])

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        self.check_input_shape(input_shape)
        return self.with_steps(input_shape, self.windows.count(input_shape[self.time_axis]), self.filters)

    # --- products ---------------------------------------------------------------------------------

    def _weights(self) -> list[_core.DenseWeights]:
        """Kernel and bias of each group."""
        variables = [self.kernel] if self.bias is None else [self.kernel, self.bias]
        made_of = None if self.groups == 1 else [(v.version, v.device) for v in variables]
        known, weights = self._packed
        if not weights or known != made_of:
            weights = [_core.DenseWeights(self.kernel, self.bias)] if self.groups == 1 else self._of_groups()
            self._packed = made_of, weights
        return weights

    def _of_groups(self) -> list[_core.DenseWeights]:
        kernel = self.kernel.numpy()
        parts = [kernel] if self.bias is None else [kernel, self.bias.numpy()]
        made = []
        for group in range(self.groups):
            own = [_core.Variable(self._part(part, group).to(self.kernel.device)) for part in parts]
            made.append(_core.DenseWeights(own[0], own[1] if len(own) > 1 else None))
        return made

    def _part(self, x: Any, group: int) -> Tensor:
        """The part of a group of the last axis of x."""
        size = x.shape[-1] // self.groups
        return _core.as_tensor(np.ascontiguousarray(x[..., group * size : (group + 1) * size]), "float32")

    @property
    def _windows_are_steps(self) -> bool:
        return self.kernel_size == self.strides == (1,) and self.groups == 1 and self.time_axis == 1

    def _columns(self, inputs: Tensor) -> list[Tensor]:
        """The windows side by side (batch, windows, kernel_size * features), for each group."""
        if self._windows_are_steps:
            return [inputs]
        views = self.windows.of(self.steps_first(inputs))
        whole = [_core.as_tensor(np.ascontiguousarray(views), "float32")] if self.groups == 1 else None
        columns = whole or [self._part(views, group) for group in range(self.groups)]
        return [column.reshape((*column.shape[:2], column.shape[2] * column.shape[3])) for column in columns]

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Tensor:
        self.lose_mask(mask)
        return super().forward(inputs, ctx)

    def forward_logits(self, inputs: Tensor, ctx: Context) -> Tensor:
        self.check_input_shape(inputs.shape)
        columns = self._columns(inputs)
        if ctx.record:
            ctx.save(self, (inputs.shape, columns))
        outputs = [_core.dense_forward(w, x) for w, x in zip(self._weights(), columns, strict=True)]
        if len(outputs) == 1 and self.time_axis == 1:
            return outputs[0]
        return self.as_inputs_are(np.concatenate([y.numpy() for y in outputs], axis=-1))

    def backward_logits(self, d_logits: Tensor, ctx: Context, need_d_inputs: bool = True) -> Tensor | None:
        shape, columns = ctx.take(self)
        weights = self._weights()
        parts = [d_logits]
        if len(weights) > 1 or self.time_axis == 2:
            d = self.steps_first(d_logits)
            parts = [self._part(d, group) for group in range(self.groups)]
        found = [
            _core.dense_backward(w, x, d, need_d_inputs)
            for w, x, d in zip(weights, columns, parts, strict=True)
        ]
        ctx.add_gradient(self.kernel, _joined([d_kernel for _, d_kernel, _ in found]))
        if self.bias is not None:
            ctx.add_gradient(self.bias, _joined([d_bias for _, _, d_bias in found if d_bias is not None]))
        if not need_d_inputs:
            return None
        d_columns = [d_column for d_column, _, _ in found if d_column is not None]
        if self._windows_are_steps:
            return d_columns[0]
        per_group = self._features // self.groups
        d_windows = [d.numpy().reshape((*d.shape[:2], self.kernel_size[0], per_group)) for d in d_columns]
        d_inputs = self.windows.back(np.concatenate(d_windows, axis=-1), shape[self.time_axis])
        return self.as_inputs_are(d_inputs)


def _joined(parts: list[Tensor]) -> Tensor:
    """What groups have along the last axis, together."""
    if len(parts) == 1:
        return parts[0]
    return _core.as_tensor(np.concatenate([part.numpy() for part in parts], axis=-1), "float32")


# A name that Keras has too.
Convolution1D = Conv1D
