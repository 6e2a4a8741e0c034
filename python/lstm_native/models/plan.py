"""How a pass runs through a model: `Chain`, where layers follow each other, and what it shares with `Graph`.

A plan is worked out once for each change of a model's structure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import zip_longest
from typing import Any, TypeVar

from lstm_native.layers.base import Context, Layer, Tensor
from lstm_native.layers.dense import ActivationAtEnd
from lstm_native.layers.embedding import Embedding
from lstm_native.layers.inputs import InputLayer
from lstm_native.layers.masking import Masking
from lstm_native.quantization import check_float32

_T = TypeVar("_T")
# A layer and its `forward`, or another method that takes its place.
_Step = tuple[Layer, Callable[[Any, Context, Tensor | None], Any]]


class Plan:
    """What a pass needs to know of a model.

    Attributes:
        layers: the layers that compute, those of nested models in their place.
        variables: the trainable variables.
        stateful: the layers that keep a state between calls.
        version: that of the structure.
        can_train: whether `check_can_train` has found nothing against it.
    """

    def __init__(self, layers: list[Layer], version: int) -> None:
        self.layers = layers
        self.version = version
        self.variables = unique(v for layer in layers for v in layer.trainable_variables)
        self.penalties = any(v.regularizer is not None for v in self.variables)
        self.stateful = [layer for layer in unique(layers) if getattr(layer, "stateful", False)]
        self.can_train = False

    def check_can_train(self) -> None:
        """Raises ValueError when a layer works forward only or has quantized weights."""
        if not self.can_train:
            for layer in self.layers:
                check_float32(layer)
                layer.check_can_train()
            self.can_train = True

    def unmoved_by_padding(self) -> bool:
        """Whether outputs at valid steps are the same bits with and without masked steps behind them."""
        # Layers that end masks may end those of padding only where there are no others.
        if any(layer.ends_masks for layer in self.layers) and any(map(makes_mask, self.layers)):
            return False
        return all(layer.unmoved_by_padding and not layer.is_custom for layer in self.layers)

    def forward(self, inputs: Any, ctx: Context, mask: Any = None) -> Any:
        """Outputs, a tuple where there are several; their masks are `ctx.mask` then."""
        raise NotImplementedError

    def forward_to_loss(
        self, inputs: Any, ctx: Context, activation: Any, mask: Any = None
    ) -> tuple[Any, Any]:
        """Outputs, or logits and the last layer when that one ends in `activation`.

        With several outputs these are tuples, and `activation` has an item for each: False where nothing
        comes back.
        """
        raise NotImplementedError

    def backward_from_loss(self, gradient: Any, ctx: Context, fused: Any) -> None:
        """Gradients of all trainable variables into `ctx`, from what `forward_to_loss` returned."""
        raise NotImplementedError

    def backward(self, d_outputs: Any, ctx: Context, need_d_inputs: bool) -> Any:
        """Gradients of all variables into `ctx`; that of the inputs, a tuple where there are several."""
        raise NotImplementedError


class Chain(Plan):
    """Layers that follow each other."""

    def __init__(self, layers: list[Layer], version: int) -> None:
        super().__init__(layers, version)
        self.steps: list[_Step] = [
            (layer, forward_into(layer, following)) for layer, following in zip_longest(layers, layers[1:])
        ]
        self.first = next((layer for layer in layers if not isinstance(layer, InputLayer)), None)
        trained = (i for i, layer in enumerate(layers) if layer.trainable_variables)
        self.first_trained = next(trained, len(layers))

    def readers(self, _: int) -> list[Layer]:
        """The layers that read the inputs."""
        return [] if self.first is None else [self.first]

    def forward(self, inputs: Any, ctx: Context, mask: Tensor | None = None) -> Any:
        return _run(self.steps, inputs, ctx, mask)

    def forward_to_loss(
        self, inputs: Any, ctx: Context, activation: str | None, mask: Tensor | None = None
    ) -> tuple[Any, ActivationAtEnd | None]:
        last = self.layers[-1]
        if (
            activation is None
            or not isinstance(last, ActivationAtEnd)
            or last.output_activation != activation
        ):
            return _run(self.steps, inputs, ctx, mask), None
        x = _run(self.steps[:-1], inputs, ctx, mask)
        ctx.mask = last.compute_mask(x, None if last.ends_masks and not ctx.padded else ctx.mask)
        return last.forward_logits(x, ctx), last

    def backward_from_loss(self, gradient: Any, ctx: Context, fused: ActivationAtEnd | None) -> None:
        first = self.first_trained
        position = len(self.layers) - 1
        if fused is not None and position >= first:
            gradient = fused.backward_logits(gradient, ctx, position > first)
            position -= 1
        for i in range(position, first - 1, -1):
            gradient = self.layers[i].backward(gradient, ctx, i > first)

    def backward(self, d_outputs: Any, ctx: Context, need_d_inputs: bool) -> Any:
        layers = self.layers
        for i in range(len(layers) - 1, -1, -1):
            d_outputs = layers[i].backward(d_outputs, ctx, need_d_inputs or i > 0)
        return d_outputs


def _run(steps: list[_Step], inputs: Any, ctx: Context, mask: Tensor | None) -> Any:
    """Runs one step after the other; the mask of the outputs is `ctx.mask` then."""
    x = inputs
    for layer, forward in steps:
        if layer.ends_masks and not ctx.padded:
            mask = None
        y = forward(x, ctx, mask)
        mask = layer.compute_mask(x, mask)
        x = y
    ctx.mask = mask
    return x


def forward_into(layer: Layer, following: Layer | None) -> Any:
    """The method of `layer` that computes what `following`, its only reader, is fed with."""
    if (
        getattr(following, "takes_indexed_rows", False)
        and isinstance(layer, Embedding)
        and type(layer).forward is Embedding.forward
    ):
        return layer.forward_rows
    return layer.forward


def makes_mask(layer: Layer) -> bool:
    """Whether masks begin at this layer."""
    return isinstance(layer, Masking) or bool(getattr(layer, "mask_zero", False))


def unique(items: Iterable[_T]) -> list[_T]:
    """The items in order, each once."""
    return list(dict.fromkeys(items))
