"""LayerNormalization: every example by itself, over its features or other axes. Floor 4."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from lstm_native import _core, constraints, regularizers
from lstm_native.arrays import Shape
from lstm_native.errors import check_number, warn
from lstm_native.layers.base import Layer, Tensor
from lstm_native.layers.context import Context
from lstm_native.layers.weights import get_initializer


class LayerNormalization(Layer):
    """`(x - mean) / sqrt(variance + epsilon) * gamma + beta`, mean and variance over `axis`.

    Weights, of the sizes that the inputs have along `axis`: gamma, beta.

    Args:
        axis: the axis, or the axes, that are normalized together; the last one by default.
        epsilon: keeps the division from a variance of zero.
        center: whether there is a beta.
        scale: whether there is a gamma.
        beta_initializer: start values of beta.
        gamma_initializer: start values of gamma.
        beta_regularizer: penalty on beta; None for none.
        gamma_regularizer: penalty on gamma.
        beta_constraint: what follows every change of beta by training.
        gamma_constraint: what follows every change of gamma.
        rms_scaling: subtract no mean, and have no beta. Deprecated in Keras, where it divides by the standard
            deviation too, not by the root mean square.
    """

    supports_masking = True
    uncopied: ClassVar[tuple[str, ...]] = ("_packed",)

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        *,
        rms_scaling: bool = False,
        **kwargs: Any,
    ) -> None:
        axes = axis if isinstance(axis, list | tuple) else [axis]
        if not axes or any(isinstance(a, bool) or not isinstance(a, int | np.integer) for a in axes):
            raise TypeError(
                "LayerNormalization: Expected an int or a list/tuple of ints for the argument 'axis', "
                f"got {axis!r}"
            )
        epsilon = check_number(
            "LayerNormalization", "epsilon", epsilon, "a number of at least 0", lambda e: e >= 0
        )
        if rms_scaling:
            warn(
                "LayerNormalization: rms_scaling=True is deprecated in Keras: it divides by the standard "
                "deviation, not by the root mean square"
            )
        super().__init__(**kwargs)
        self.axis = [int(a) for a in axes] if isinstance(axis, list | tuple) else int(axis)  # type: ignore[arg-type]
        self.epsilon = epsilon
        self.center = bool(center)
        self.scale = bool(scale)
        self.rms_scaling = bool(rms_scaling)
        self.beta_initializer = get_initializer(beta_initializer, "zeros")
        self.gamma_initializer = get_initializer(gamma_initializer, "ones")
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)

    @property
    def unmoved_by_padding(self) -> bool:
        """Whether outputs at valid steps are the same bits with and without masked steps behind them."""
        return self.axis in (-1, [-1])

    def _axes(self, shape: Shape) -> tuple[int, ...]:
        """The normalized axes of inputs of `shape`, counted from the front, in order."""
        given = self.axis if isinstance(self.axis, list) else [self.axis]
        if any(not -len(shape) <= a < len(shape) for a in given):
            raise self.error(f"input has shape {shape}, which has no axis {self.axis}")
        axes = tuple(sorted(a % len(shape) for a in given))
        if len(set(axes)) < len(axes):
            raise self.error(f"axis is {self.axis}, which names an axis of the input {shape} twice")
        return axes

    def check_input_shape(self, shape: Shape) -> None:
        sizes = tuple(shape[a] for a in self._axes(shape))
        if not all(sizes):
            raise self.error(
                f"input has shape {shape}, expected known sizes above zero along axis {self.axis}"
            )
        if self.built and sizes != self._sizes:
            raise self.error(f"input has shape {shape}, expected {self._sizes} along axis {self.axis}")

    def create_weights(self, input_shape: Shape) -> None:
        self._sizes = tuple(size for a in self._axes(input_shape) if (size := input_shape[a]) is not None)
        self.gamma = self.beta = None
        if self.scale or self.rms_scaling:
            self.gamma = self.add_weight(
                name="gamma",
                shape=self._sizes,
                initializer=self.gamma_initializer,
                regularizer=self.gamma_regularizer,
                constraint=self.gamma_constraint,
            )
        if self.center and not self.rms_scaling:
            self.beta = self.add_weight(
                name="beta",
                shape=self._sizes,
                initializer=self.beta_initializer,
                regularizer=self.beta_regularizer,
                constraint=self.beta_constraint,
            )
        self._pack()

    def _pack(self) -> None:
        self._packed = _core.LayerNormWeights(self.gamma, self.beta, self.epsilon, self.rms_scaling)

    def make_uncopied(self) -> None:
        if self.built:
            self._pack()

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Tensor:
        self.check_input_shape(inputs.shape)
        axes = self._axes(inputs.shape)
        rows = _axes_last(inputs, axes)
        outputs, mean, inverse = _core.layer_norm_forward(
            self._packed, rows, math.prod(self._sizes), ctx.record
        )
        if ctx.record:
            ctx.save(self, (axes, rows, mean, inverse))
        return _axes_back(outputs, axes)

    def backward(self, d_outputs: Tensor, ctx: Context, need_d_inputs: bool = True) -> Tensor | None:
        axes, rows, mean, inverse = ctx.take(self)
        d_inputs, d_gamma, d_beta = _core.layer_norm_backward(
            self._packed,
            rows,
            math.prod(self._sizes),
            mean,
            inverse,
            _axes_last(d_outputs, axes),
            need_d_inputs,
        )
        for variable, gradient in ((self.gamma, d_gamma), (self.beta, d_beta)):
            if variable is not None and gradient is not None:
                ctx.add_gradient(variable, gradient.reshape(self._sizes))
        return None if d_inputs is None else _axes_back(d_inputs, axes)

    def add_to_stream(self, stream: _core.Stream) -> None:
        if self.axis not in (-1, 2, [-1], [2]):  # of (batch, time, features)
            raise self.error(
                f"axis is {self.axis}, only the features (axis=-1) can be normalized step by step in a stream"
            )
        stream.add_layer_norm(self._packed)


def _order(rank: int, axes: tuple[int, ...]) -> list[int]:
    """All axes, those of `axes` behind the others."""
    return [*(a for a in range(rank) if a not in axes), *axes]


def _axes_last(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    order = _order(x.ndim, axes)
    if order == list(range(x.ndim)):
        return x
    return _core.as_tensor(np.ascontiguousarray(x.numpy().transpose(order)), "float32")


def _axes_back(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    order = _order(x.ndim, axes)
    if order == list(range(x.ndim)):
        return x
    return _core.as_tensor(np.ascontiguousarray(x.numpy().transpose(np.argsort(order))), "float32")
