"""What values of an ONNX graph are in terms of our layers: tensors with named axes, sizes, zeros.

ONNX has time first, directions as an axis of their own, and moves axes about with Transpose, Squeeze and
Reshape. Here an axis is a tuple of letters: B batch, T time, F features, D directions or layers, which are
tensors of their own with us; () is an axis of size 1, ("D", "F") one that joins the features of both
directions. So these operators only rename axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lstm_native.convert.onnx_recurrent import Recurrent

Axis = tuple[str, ...]
B, T, F, D = ("B",), ("T",), ("F",), ("D",)
# A size: an int, times the sizes that only the data tell: "B", "T".
Size = tuple[int, tuple[str, ...]]


@dataclass(eq=False)
class Holder:
    """A layer in the making; one that is used several times is one layer.

    Attributes:
        kind: of the layer.
        arguments: of its constructor.
        arrays: weights in the order of the layer's.
        per_step: whether each time step goes through it by itself.
        layer: the layer, once it is made.
    """

    kind: Any
    arguments: dict[str, Any]
    arrays: list[Any] = field(default_factory=list)
    per_step: bool = True
    layer: Any = None


@dataclass(eq=False)
class Tensor:
    """A tensor that our model computes: (batch, time, features), (batch, features) or ids (batch, time).

    Attributes:
        source: what computes it.
        key: which of the outputs of `source` it is.
        size: number of features; None where unknown, and for ids.
        time: number of steps; None for any number, 0 where there is no time axis.
        inputs: names of the inputs that it depends on.
        mask: the mask that comes along with it.
    """

    source: Any
    key: Any = 0
    size: int | None = None
    time: int | None = 0
    inputs: frozenset[str] = frozenset()
    mask: Tensor | None = None


@dataclass(eq=False)
class Start:
    """An input of the model, from one of ONNX; a state has one for each direction."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(eq=False)
class Call:
    """One use of a layer.

    Attributes:
        holder: the layer.
        input: what it reads.
        others: further inputs, of merging layers.
    """

    holder: Holder
    input: Tensor
    others: tuple[Tensor, ...] = ()

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """All that it reads."""
        return self.input, *self.others


@dataclass(eq=False)
class Run:
    """A recurrent operator.

    Attributes:
        recurrent: what it is.
        input: what it reads.
        mask: the steps that count.
        states: initial states, those of the first direction in front; None for zeros.
        backwards: whether a layer of one direction begins at the last step.
        made: its outputs: ("y", 0), ("h", 1), ("c", 0) of a direction, ("y", "concat") joined.
    """

    recurrent: Recurrent
    input: Tensor
    mask: Tensor | None
    states: list[Tensor] | None
    backwards: bool
    made: dict[Any, Tensor] = field(default_factory=dict)

    def output(self, what: str, which: Any) -> Tensor:
        """One of the outputs."""
        key = what, which
        if key not in self.made:
            units = self.recurrent.units * (2 if which == "concat" else 1)
            time = self.input.time if what == "y" else 0
            inputs = self.input.inputs.union(*(state.inputs for state in self.states or ()))
            self.made[key] = Tensor(self, key, units, time, inputs, self.mask if what == "y" else None)
        return self.made[key]


@dataclass(frozen=True)
class Flow:
    """A value of the graph.

    Attributes:
        parts: our tensors: one, or one for each index along axis D.
        axes: those of ONNX's tensor.
        flipped: whether ONNX's time runs the other way than that of the parts.
    """

    parts: tuple[Tensor, ...]
    axes: tuple[Axis, ...]
    flipped: bool = False

    def sizes(self, batch: int | None) -> list[Size]:
        """Sizes of the axes."""
        return [product([self._size_of(letter, batch) for letter in axis]) for axis in self.axes]

    def _size_of(self, letter: str, batch: int | None) -> Size:
        first = self.parts[0]
        known = {"B": batch, "T": first.time, "F": first.size, "D": len(self.parts)}[letter]
        return (1, (letter,)) if known is None else (known, ())

    def with_axes(self, axes: Sequence[Axis]) -> Flow:
        """The same parts with other axes."""
        return replace(self, axes=tuple(axes))

    def reshaped(self, target: Sequence[Size | None], batch: int | None) -> Flow | None:
        """With axes of the sizes of `target`, None for the one that takes what is left; None: impossible."""
        letters = [letter for axis in self.axes for letter in axis]
        hole = target.index(None) if None in target else len(target)
        front = self._grouped(letters, target[:hole], batch)
        if front is None:
            return None
        left = letters[sum(map(len, front)) :]
        if hole == len(target):
            return self.with_axes(front) if not left else None
        behind = self._grouped(left[::-1], target[:hole:-1], batch)
        if behind is None:
            return None
        rest = tuple(left[: len(left) - sum(map(len, behind))])
        return self.with_axes([*front, rest, *(axis[::-1] for axis in behind[::-1])])

    def _grouped(
        self, letters: list[str], target: Sequence[Size | None], batch: int | None
    ) -> list[Axis] | None:
        """The first letters in groups of the sizes of `target`."""
        found: list[Axis] = []
        place = 0
        for i, wanted in enumerate(target):
            assert wanted is not None
            factor, symbols = wanted[0], list(wanted[1])
            axis: list[str] = []
            while place < len(letters):
                number, unknown = self._size_of(letters[place], batch)
                single = number == 1 and not unknown
                # One unit, or one feature, that no axis of its own waits for.
                free = single and letters[place] == "F" and (1, ()) not in target[i + 1 :]
                if factor == 1 and not symbols and (axis or not single) and not free:
                    break
                if unknown:
                    if unknown[0] not in symbols:
                        return None
                    symbols.remove(unknown[0])
                elif number == 0 or factor % number:
                    return None
                else:
                    factor //= number
                axis.append(letters[place])
                place += 1
            if factor != 1 or symbols:
                return None
            found.append(tuple(axis))
        return found


@dataclass(frozen=True)
class Derived:
    """Integers that are computed from ids; exporters write so that negative ids count from the end.

    Attributes:
        flow: the ids.
        values: what becomes of the ids 0, 1, 2 ...
    """

    flow: Flow
    values: Any


@dataclass(frozen=True)
class Sizes:
    """A tensor of sizes: what Shape gives, or a part of that; `scalar` where it has no axis."""

    values: tuple[Size, ...]
    scalar: bool = False


@dataclass(frozen=True)
class Filled:
    """A tensor of one value, of whatever shape."""

    value: float


def product(sizes: Sequence[Size]) -> Size:
    """The product of sizes."""
    number = 1
    symbols: list[str] = []
    for factor, unknown in sizes:
        number *= factor
        symbols += unknown
    return number, tuple(sorted(symbols))


class Again(Exception):
    """An input turned out to be something else than was assumed: the graph is read once more."""

    def __init__(self, name: str, role: str) -> None:
        super().__init__(name)
        self.name = name
        self.role = role
