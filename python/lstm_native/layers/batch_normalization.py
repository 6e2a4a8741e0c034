"""BatchNormalization: every feature by its mean and variance over the batch. Floor 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lstm_native import _core, constraints, regularizers
from lstm_native.arrays import Shape, to_numpy
from lstm_native.errors import check_number
from lstm_native.layers.base import Layer, Tensor
from lstm_native.layers.context import Context
from lstm_native.layers.weights import get_initializer

Array = npt.NDArray[Any]


class BatchNormalization(Layer):
    """`(x - mean) / sqrt(variance + epsilon) * gamma + beta` (Ioffe and Szegedy 2015, arXiv:1502.03167).

    In training, mean and variance are those of the batch, over all axes but `axis`; masked time steps do not
    count in them. The moving ones become `moving * momentum + batch * (1 - momentum)`, and are what
    inference takes. So does training with `trainable=False`, which changes them no more.

    Weights, each of the size that the inputs have along `axis`: gamma, beta, moving_mean, moving_variance.

    Args:
        axis: the axis of the features.
        momentum: how much of the moving mean and variance stays, in [0, 1].
        epsilon: keeps the division from a variance of zero.
        center: whether there is a beta.
        scale: whether there is a gamma.
        beta_initializer, gamma_initializer: start values of beta and gamma.
        moving_mean_initializer, moving_variance_initializer: start values of the moving mean and variance.
        beta_regularizer, gamma_regularizer: penalties on beta and gamma; None for none.
        beta_constraint, gamma_constraint: what follows every change of beta and gamma by training.

    Attributes:
        rank: number of axes of the inputs, once the layer is built.
    """

    supports_masking = True
    couples_rows = True
    neutral_arguments: ClassVar[dict[str, Any]] = {
        "renorm": False,
        "renorm_clipping": None,
        "renorm_momentum": 0.99,
        "synchronized": False,
    }

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        kind = "BatchNormalization"
        if isinstance(axis, list | tuple) and len(axis) == 1:  # as files of Keras 2 have it
            (axis,) = axis
        if isinstance(axis, bool) or not isinstance(axis, int | np.integer):
            raise TypeError(f"{kind}: axis is {axis!r}, expected an integer")
        momentum = check_number(kind, "momentum", momentum, "a number in [0, 1]", lambda m: 0 <= m <= 1)
        epsilon = check_number(kind, "epsilon", epsilon, "a number of at least 0", lambda e: e >= 0)
        super().__init__(**kwargs)
        self.axis = int(axis)
        self.momentum = momentum
        self.epsilon = epsilon
        self.center = bool(center)
        self.scale = bool(scale)
        self.beta_initializer = get_initializer(beta_initializer, "zeros")
        self.gamma_initializer = get_initializer(gamma_initializer, "ones")
        self.moving_mean_initializer = get_initializer(moving_mean_initializer, "zeros")
        self.moving_variance_initializer = get_initializer(moving_variance_initializer, "ones")
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)

    # --- shapes and weights -----------------------------------------------------------------------

    def check_input_shape(self, shape: Shape) -> None:
        rank = len(shape)
        if rank < 2 or not -rank <= self.axis < rank or self.axis % rank == 0:
            raise self.error(
                f"input has shape {shape}, which has no axis {self.axis} beside that of the batch"
            )
        size = shape[self.axis]
        if not size:
            raise self.error(
                f"input has shape {shape}, expected a known size above zero along axis {self.axis}"
            )
        if self.built and (rank, size) != (self.rank, self._size):
            raise self.error(
                f"input has shape {shape}, expected {self.rank} axes with {self._size} along axis {self.axis}"
            )

    def create_weights(self, input_shape: Shape) -> None:
        size = input_shape[self.axis]
        assert size is not None
        self.rank, self._size = len(input_shape), size
        self.gamma = self.beta = None
        if self.scale:
            self.gamma = self.add_weight(
                (size,),
                self.gamma_initializer,
                regularizer=self.gamma_regularizer,
                constraint=self.gamma_constraint,
                name="gamma",
            )
        if self.center:
            self.beta = self.add_weight(
                (size,),
                self.beta_initializer,
                regularizer=self.beta_regularizer,
                constraint=self.beta_constraint,
                name="beta",
            )
        self.moving_mean = self.add_weight(
            (size,), self.moving_mean_initializer, trainable=False, name="moving_mean"
        )
        self.moving_variance = self.add_weight(
            (size,), self.moving_variance_initializer, trainable=False, name="moving_variance"
        )

    @property
    def normalizes_features(self) -> bool:
        """Whether the axis is the last one; once the layer is built."""
        return self.axis % self.rank == self.rank - 1

    @property
    def unmoved_by_padding(self) -> bool:
        """Whether outputs at valid steps are the same bits with and without masked steps behind them."""
        return self.axis == -1 or (self.built and self.normalizes_features)

    # --- calls ------------------------------------------------------------------------------------

    def __call__(self, inputs: Any, mask: Any = None, training: bool | None = False, **unknown: Any) -> Any:
        """Normalized `inputs`, as a NumPy array; the first call builds the layer.

        Args:
            inputs: (batch, ..., features), or with the features along `axis`.
            mask: True where the inputs count in mean and variance: bool, of one axis less than the inputs,
                whose sizes are those of the inputs or 1.
            training: normalize by the batch, and change the moving mean and variance.
        """
        if mask is None or unknown:
            return super().__call__(inputs, training=training, **unknown)
        x = self.as_input(inputs)
        flags = to_numpy(mask, self.label(), "mask")
        self._check_mask(flags.shape, x.shape)
        return self._call(x, Context(bool(training)), _core.as_tensor(flags != 0, "bool"))

    def _check_mask(self, mask: Sequence[int], shape: Sequence[int]) -> None:
        if len(mask) != len(shape) - 1:
            raise self.error(
                "The mask provided should be one dimension less than the inputs. Received: "
                f"mask.shape={tuple(mask)}, inputs.shape={tuple(shape)}"
            )
        if any(n not in (1, size) for n, size in zip(mask, shape, strict=False)):
            raise self.error(
                f"mask has shape {tuple(mask)}, which does not fit inputs of shape {tuple(shape)}"
            )

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Tensor:
        self.check_input_shape(inputs.shape)
        if mask is not None:
            self._check_mask(mask.shape, inputs.shape)
        mean, variance = (
            values.numpy().astype(np.float64)
            for values in ctx.states.get(self, (self.moving_mean, self.moving_variance))
        )
        x = inputs.numpy()
        by_batch = ctx.training and self.trainable
        valid = None
        with np.errstate(all="ignore"):  # infinity and NaN pass through
            if by_batch:
                valid = None if mask is None else np.broadcast_to(mask.numpy()[..., None], x.shape)
                moving = mean, variance
                mean = self._mean(x, valid)
                variance = self._mean(np.square(x - self._along(mean)), valid)
                ctx.states[self] = tuple(
                    _core.as_tensor(old * self.momentum + new * (1 - self.momentum), "float32")
                    for old, new in zip(moving, (mean, variance), strict=True)
                )
            # As streams compute it, so that they give the same bits.
            centered = x - self._along(mean)
            deviation = np.sqrt(variance + self.epsilon)
            outputs = centered * self._along(self._factors() / deviation)
            if self.beta is not None:
                outputs += self._along(self.beta.numpy())
        if ctx.record:
            ctx.save(self, (centered, deviation, valid, by_batch))
        return _core.as_tensor(outputs, "float32")

    def backward(self, d_outputs: Tensor, ctx: Context, need_d_inputs: bool = True) -> Tensor | None:
        centered, deviation, valid, by_batch = ctx.take(self)
        d, axes = d_outputs.numpy(), self._others
        with np.errstate(all="ignore"):
            normal = centered * self._along(1 / deviation)
            d_beta = d.sum(axes, dtype=np.float64)
            d_gamma = (d * normal).sum(axes, dtype=np.float64)
            for variable, gradient in ((self.gamma, d_gamma), (self.beta, d_beta)):
                if variable is not None:
                    ctx.add_gradient(variable, _core.as_tensor(gradient, "float32"))
            if not need_d_inputs:
                return None
            if by_batch:  # every input that counts has a part in mean and variance
                count = d.size // self._size if valid is None else np.maximum(valid.sum(axes), 1)
                part = self._along(d_beta / count) + normal * self._along(d_gamma / count)
                d = d - (part if valid is None else np.where(valid, part, np.float32(0)))
            return _core.as_tensor(d * self._along(self._factors() / deviation), "float32")

    @property
    def _others(self) -> tuple[int, ...]:
        """All axes but that of the features."""
        return tuple(a for a in range(self.rank) if a != self.axis % self.rank)

    def _along(self, values: Array) -> Array:
        """A number for each feature, broadcastable to the inputs."""
        shape = [1] * self.rank
        shape[self.axis] = self._size
        return values.astype(np.float32).reshape(shape)

    def _factors(self) -> Array:
        return np.ones(self._size) if self.gamma is None else self.gamma.numpy().astype(np.float64)

    def _mean(self, values: Array, valid: Array | None) -> Array:
        """The mean of each feature; 0 where nothing counts."""
        if valid is None:
            return np.asarray(values.mean(self._others, dtype=np.float64))
        total = np.where(valid, values, np.float32(0)).sum(self._others, dtype=np.float64)
        return np.asarray(total / np.maximum(valid.sum(self._others), 1))

    # --- what a pass leaves behind ----------------------------------------------------------------

    def set_states(self, states: tuple[Tensor, ...]) -> None:
        """Takes the moving mean and variance of a pass that has succeeded."""
        for variable, value in zip((self.moving_mean, self.moving_variance), states, strict=True):
            variable.assign(value)

    def add_to_stream(self, stream: _core.Stream) -> None:
        if not self.normalizes_features:
            raise self.error(
                f"axis is {self.axis}, only the last axis can be normalized step by step in a stream"
            )
        stream.add_batch_norm(self.moving_mean, self.moving_variance, self.gamma, self.beta, self.epsilon)
