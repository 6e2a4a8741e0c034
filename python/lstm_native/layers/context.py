"""Context: one pass through a model, forwards and back. Floor 4."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lstm_native import _core, regularizers
from lstm_native.variable import Variable

if TYPE_CHECKING:
    from lstm_native.layers.base import Layer

Tensor = _core.Tensor


class Context:
    """One forward pass, and its backward pass when it is recorded.

    Args:
        training: layers behave as in training (dropout).
        record: layers keep what `backward` needs.
        padded: as the attribute.

    Attributes:
        padded: whether masks say nothing but where sequences of different lengths end; then none ends early.
        mask: bool tensor (batch, time) of the model's output after a forward pass, or None.
        gradients: gradient of every variable that backward has reached.
        states: new states of stateful layers, moving statistics too; they take effect with `commit_states`.
        penalties: what the activity regularizers of layers add to the loss.
    """

    __slots__ = ("_saved", "gradients", "mask", "padded", "penalties", "record", "states", "training")

    def __init__(self, training: bool = False, record: bool = False, padded: bool = False) -> None:
        self.training = training
        self.record = record
        self.padded = padded
        self.mask: Tensor | None = None
        self.gradients: dict[Variable, Tensor] = {}
        self.states: dict[Layer, tuple[Tensor, ...]] = {}
        self.penalties: dict[Layer, list[float]] = {}
        self._saved: dict[Layer, list[Any]] = {}

    def save(self, layer: Layer, value: Any) -> None:
        """Keeps `value` for the backward pass of `layer`; a stack, so that a layer may be used twice."""
        self._saved.setdefault(layer, []).append(value)

    def take(self, layer: Layer) -> Any:
        """The value saved last for `layer`, which is forgotten."""
        return self._saved[layer].pop()

    def add_gradient(self, variable: Variable, gradient: Tensor) -> None:
        """Adds to the gradient of `variable`."""
        known = self.gradients.get(variable)
        if known is None:
            self.gradients[variable] = gradient
        else:
            _core.add_(known, gradient)

    def add_penalties(self, variables: Iterable[Variable], need_gradient: bool) -> float:
        """What regularizers add to the loss of this pass, once it went forward.

        Args:
            variables: the trainable variables; the gradients of their penalties are added to theirs.
            need_gradient: whether gradients are wanted.

        Returns:
            The penalties of `variables` and of all outputs with an activity regularizer.

        Raises:
            ValueError: a gradient is wanted of a regularizer that has none.
        """
        total = 0.0
        for values in self.penalties.values():
            total += sum(values)
        for variable, value, gradient in regularizers.penalties(variables, need_gradient):
            total += value
            if gradient is not None:
                self.add_gradient(variable, gradient)
        return total

    def commit_states(self) -> None:
        """Gives layers their new states and penalties. Called when the whole pass has succeeded."""
        for layer, states in self.states.items():
            layer.set_states(states)
        for layer, values in self.penalties.items():
            layer.set_activity_losses(values)
