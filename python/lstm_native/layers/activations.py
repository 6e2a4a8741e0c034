"""Layers that are one activation with parameters. Floor 4."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from lstm_native import activations, constraints, regularizers
from lstm_native.arrays import Shape
from lstm_native.errors import check_number
from lstm_native.layers.base import Layer
from lstm_native.layers.dense import Activation
from lstm_native.layers.weights import get_initializer


class ReLU(Activation):
    """`max(x, 0)`; with parameters as `activations.relu`.

    Args:
        max_value: largest output; None for no limit.
        negative_slope: slope below `threshold` (default 0).
        threshold: outputs below follow `negative_slope` (default 0).
    """

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        **kwargs: Any,
    ) -> None:
        kind = type(self).__name__
        if max_value is not None:
            check_number(kind, "max_value", max_value, "a number from 0 on, or None", lambda v: v >= 0)
        for name, value in (("negative_slope", negative_slope), ("threshold", threshold)):
            check_number(kind, name, value, "a number from 0 on", lambda v: v >= 0)
        plain = max_value is None and not negative_slope and not threshold
        function = functools.partial(
            activations.relu, negative_slope=negative_slope, max_value=max_value, threshold=threshold
        )
        super().__init__(activations.relu if plain else function, **kwargs)
        self.max_value = max_value
        self.negative_slope = negative_slope
        self.threshold = threshold


class LeakyReLU(Activation):
    """`x` where positive, else `negative_slope * x`.

    Args:
        negative_slope: slope below zero (default 0.3).
            `alpha` is its older name.
    """

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any) -> None:
        negative_slope = kwargs.pop("alpha", negative_slope)
        check_number("LeakyReLU", "negative_slope", negative_slope, "a number from 0 on", lambda v: v >= 0)
        super().__init__(functools.partial(activations.leaky_relu, negative_slope=negative_slope), **kwargs)
        self.negative_slope = negative_slope


class ELU(Activation):
    """`x` where positive, else `alpha * (exp(x) - 1)`.

    Args:
        alpha: limit of the negative side (default 1).
    """

    def __init__(self, alpha: float = 1.0, **kwargs: Any) -> None:
        check_number("ELU", "alpha", alpha, "a number")
        plain = alpha == 1
        super().__init__(
            activations.elu if plain else functools.partial(activations.elu, alpha=alpha), **kwargs
        )
        self.alpha = alpha


class Softmax(Activation):
    """`exp(x)`, scaled to sum to one.

    Args:
        axis: along which axis, or several as if they were one (default the last one).
    """

    def __init__(self, axis: int | Sequence[int] = -1, **kwargs: Any) -> None:
        plain = axis == -1
        super().__init__(
            activations.softmax if plain else functools.partial(activations.softmax, axis=axis), **kwargs
        )
        self.axis = axis


class PReLU(Layer):
    """`x` where positive, else `alpha * x` with slopes that are learned (He et al., 2015).

    Args:
        alpha_initializer: start values of the slopes (default zeros), one for each element of an input.
        alpha_regularizer: penalty on them.
        alpha_constraint: what they are brought back to after every step of training.
        shared_axes: axes whose elements share a slope, the batch axis being 0; (1,) shares over time.
    """

    supports_masking = True

    def __init__(
        self,
        alpha_initializer: Any = "Zeros",
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        shared_axes: int | Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.alpha_initializer = get_initializer(alpha_initializer, "zeros")
        self.alpha_regularizer = regularizers.get(alpha_regularizer)
        self.alpha_constraint = constraints.get(alpha_constraint)
        axes = [shared_axes] if isinstance(shared_axes, int) else shared_axes
        self.shared_axes = None if axes is None else list(axes)

    def create_weights(self, input_shape: Shape) -> None:
        sizes = [1 if i in (self.shared_axes or ()) else n for i, n in enumerate(input_shape)][1:]
        if None in sizes:
            raise self.error(
                f"input has shape {input_shape}, expected known sizes of all axes that are not in shared_axes"
            )
        self.alpha = self.add_weight(
            tuple(sizes),
            self.alpha_initializer,
            regularizer=self.alpha_regularizer,
            constraint=self.alpha_constraint,
            name="alpha",
        )

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def call(self, x: Any) -> Any:
        """See the class."""
        return np.maximum(x, np.float32(0)) + self.alpha * np.minimum(x, np.float32(0))


class ActivityRegularization(Activation):
    """Its inputs, with a penalty on them that training adds to the loss.

    Args:
        l1: penalty on sizes (default 0).
        l2: penalty on squares (default 0).
    """

    config_attributes: ClassVar[dict[str, str | None]] = {"activity_regularizer": None}

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(None, activity_regularizer=regularizers.L1L2(l1, l2), **kwargs)
        self.l1 = l1
        self.l2 = l2
