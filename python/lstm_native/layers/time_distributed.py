"""A layer for every time step by itself. Floor 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstm_native import _core
from lstm_native.arrays import Shape, to_numpy
from lstm_native.layers.base import Layer, Tensor
from lstm_native.layers.building import with_held
from lstm_native.layers.context import Context
from lstm_native.layers.dense import ActivationAtEnd


class TimeDistributed(ActivationAtEnd):
    """Applies a layer to every time step by itself: (batch, time, ...) as (batch * time, ...), and back.

    At the end of a model, training may fuse the layer's last activation with the loss, as without wrapper.

    Args:
        layer: the layer; no stateful one, for it sees the steps side by side, not one after the other.
    """

    supports_masking = True

    def __init__(self, layer: Layer, **kwargs: Any) -> None:
        if not isinstance(layer, Layer):
            raise ValueError(f"TimeDistributed: layer is a {type(layer).__name__}, expected a layer")
        if getattr(layer, "stateful", False):
            raise ValueError(
                f"TimeDistributed: layer {layer.name!r} is stateful, expected one without state, for it "
                "sees the steps side by side"
            )
        super().__init__(**kwargs)
        self.layer = layer
        if not self.trainable:
            self.trainable = False  # of the layer too

    def held_layers(self) -> Sequence[Layer]:
        return (self.layer,)

    @property
    def unmoved_by_padding(self) -> bool:
        """Whether outputs at valid steps are the same bits with and without masked steps behind them."""
        # The layer sees steps as rows, and rows do not see each other; code of a user might look.
        return not any(layer.is_custom for layer in with_held([self.layer]))

    def create_weights(self, input_shape: Shape) -> None:
        self.layer.build(_step_shape(input_shape))

    def check_input_shape(self, shape: Shape) -> None:
        if len(shape) < 3:
            raise self.error(f"input has shape {shape}, expected (batch, time, ...), at least three axes")
        if shape[1] == 0:
            raise self.error(f"input has shape {shape}, expected at least one time step")
        self.layer.check_input_shape(_step_shape(shape))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        step = self.layer.compute_output_shape(_step_shape(input_shape))
        if step and isinstance(step[0], list | tuple):
            raise self.error(f"layer {self.layer.name!r} has several outputs (return_state), expected one")
        return (input_shape[0], input_shape[1], *step[1:])

    def as_input(self, inputs: Any) -> Tensor:
        return self.layer.as_input(inputs)

    def check_values(self, inputs: Tensor) -> None:
        self.layer.check_values(inputs)

    def check_can_train(self) -> None:
        self.layer.check_can_train()

    @property
    def output_activation(self) -> str | None:
        """Name of the last activation of the layer; None where it ends in none."""
        return self.layer.output_activation if isinstance(self.layer, ActivationAtEnd) else None

    def __call__(self, inputs: Any, mask: Any = None, training: bool | None = False, **unknown: Any) -> Any:
        """Outputs for `inputs`, as a NumPy array; the first call builds the layer.

        Args:
            inputs: (batch, time, ...).
            mask: bool (batch, time), or with more axes, which go to the layer.
            training: behave as in training.
        """
        if mask is None or unknown:
            return super().__call__(inputs, training=training, **unknown)
        x = self.as_input(inputs)
        flags = to_numpy(mask, self.label(), "mask")
        if flags.ndim < 2 or flags.shape[:2] != x.shape[:2]:
            raise self.error(
                f"The `mask` passed to the `TimeDistributed` layer has a shape {flags.shape}, expected one "
                f"that begins with (batch, time) = {x.shape[:2]}"
            )
        return self._call(x, Context(bool(training)), _core.as_tensor(flags != 0, "bool"))

    def forward(self, inputs: Tensor, ctx: Context, mask: Tensor | None = None) -> Tensor:
        self.check_input_shape(inputs.shape)
        # A mask of time steps says nothing within a step; layers written in Python get it, as in Keras.
        inner = None if mask is None or (mask.ndim == 2 and not self.layer.is_custom) else _folded(mask)
        one_by_one = ctx.training and any(
            layer.couples_rows and layer.trainable for layer in with_held([self.layer])
        )
        if ctx.record:
            ctx.save(self, one_by_one)
        if one_by_one:
            return self._forward_one_by_one(inputs, ctx, mask)
        return _unfolded(self.layer.forward(_folded(inputs), ctx, inner), inputs)

    def backward(self, d_outputs: Tensor, ctx: Context, need_d_inputs: bool = True) -> Tensor | None:
        if ctx.take(self):
            steps = range(d_outputs.shape[1])
            # The last step first, for what it saved lies on top.
            found = [self.layer.backward(_step(d_outputs, t), ctx, need_d_inputs) for t in reversed(steps)]
            return None if found[0] is None else _together(found[::-1])
        d_inputs = self.layer.backward(_folded(d_outputs), ctx, need_d_inputs)
        return None if d_inputs is None else _unfolded(d_inputs, d_outputs)

    def _forward_one_by_one(self, inputs: Tensor, ctx: Context, mask: Tensor | None) -> Tensor:
        """One step after the other, as Keras does: the rows of a step are its batch."""
        flags = mask if self.layer.couples_rows else None
        return _together(
            [
                self.layer.forward(_step(inputs, t), ctx, None if flags is None else _step(flags, t))
                for t in range(inputs.shape[1])
            ]
        )

    def forward_logits(self, inputs: Tensor, ctx: Context) -> Tensor:
        self.check_input_shape(inputs.shape)
        assert isinstance(self.layer, ActivationAtEnd)
        return _unfolded(self.layer.forward_logits(_folded(inputs), ctx), inputs)

    def backward_logits(self, d_logits: Tensor, ctx: Context, need_d_inputs: bool = True) -> Tensor | None:
        assert isinstance(self.layer, ActivationAtEnd)
        d_inputs = self.layer.backward_logits(_folded(d_logits), ctx, need_d_inputs)
        return None if d_inputs is None else _unfolded(d_inputs, d_logits)

    def activate(self, logits: Tensor) -> Tensor:
        assert isinstance(self.layer, ActivationAtEnd)
        return _unfolded(self.layer.activate(_folded(logits)), logits)

    def add_to_stream(self, stream: _core.Stream) -> None:
        self.layer.add_to_stream(stream)


def _step_shape(shape: Shape) -> Shape:
    return (shape[0], *shape[2:])


def _folded(x: Tensor) -> Tensor:
    """(batch, time, ...) as (batch * time, ...)."""
    return x.reshape((x.shape[0] * x.shape[1], *x.shape[2:]))


def _unfolded(x: Tensor, like: Tensor) -> Tensor:
    """(batch * time, ...) as (batch, time, ...), of which `like` has the first two."""
    return x.reshape((*like.shape[:2], *x.shape[1:]))


def _step(x: Tensor, t: int) -> Tensor:
    """Step t of (batch, time, ...)."""
    return _core.as_tensor(np.ascontiguousarray(x.numpy()[:, t]), x.dtype)


def _together(steps: Sequence[Tensor]) -> Tensor:
    """(batch, time, ...) of its steps."""
    return _core.as_tensor(np.stack([step.numpy() for step in steps], axis=1), "float32")
