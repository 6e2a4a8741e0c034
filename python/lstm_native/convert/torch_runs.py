"""Calls of PyTorch's recurrent modules: what of them is read, and which tensors of the model that is."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from lstm_native.convert.torch_joins import CATS, Flow, name_of, takes_last_step
from lstm_native.convert.torch_layers import Recurrent


@dataclass
class Run:
    """One call of a recurrent module, and what its readers want of it."""

    source: Recurrent
    swapped: bool
    sequence: Any = None
    last: Any = None
    states: list[list[Any]] = field(default_factory=list)  # of each layer


@dataclass(frozen=True)
class Piece:
    """Part of what a recurrent module returned: "all", "sequence", "states", "h", "c"."""

    run: Run
    what: str


@dataclass(frozen=True)
class State:
    """h or c of one layer and direction."""

    run: Run
    what: str
    number: int


class Zeros:
    """Zeros, as initial states are written."""


# --- what is read ---------------------------------------------------------------------------------


def wants(node: Any, what: str, run: Run) -> Iterator[str]:
    """What the readers of a part of the outputs need: "sequence", "last step", "last h", "states".

    Args:
        node: the node that gives the part.
        what: the part, as a `Piece` names it.
        run: the call.
    """
    for user in node.users:
        index = user.args[1] if user.op == "call_function" and user.target is operator.getitem else None
        if what == "all" and index in (0, 1):
            second = "states" if run.source.cell == "lstm" else "h"
            yield from wants(user, "sequence" if index == 0 else second, run)
        elif what == "states" and index in (0, 1):
            yield from wants(user, "hc"[index], run)
        elif what == "sequence" and is_last_step(index, run):
            yield "last step"
        elif what == "h" and _is_top(user, index, run):
            yield "last h"
        else:
            yield "sequence" if what == "sequence" else "states"


def is_last_step(index: Any, run: Run) -> bool:
    """Whether `index` takes the last time step of the outputs."""
    if run.source.directions == 2 or index is None:
        return False
    return takes_last_step(index, run.swapped)


def _is_top(user: Any, index: Any, run: Run) -> bool:
    """Whether a reader of h takes what the last layer's last output is."""
    source = run.source
    count = source.layers * source.directions
    if source.directions == 1:
        squeezed = (
            user.op == "call_method" and user.target == "squeeze" and user.args[1:] == (0,) and count == 1
        )
        return squeezed or (isinstance(index, int) and index in (-1, count - 1))
    # Both directions, side by side.
    return isinstance(index, int) and index % count >= count - 2 and _is_joined(user)


def _is_joined(node: Any) -> bool:
    """Whether a cat((h[-2], h[-1]), 1) reads h[-2] or h[-1]."""
    for user in node.users:
        if user.op != "call_function" or name_of(user) not in CATS:
            continue
        items = user.args[0]
        dim = user.args[1] if len(user.args) > 1 else user.kwargs.get("dim", 0)
        indices = [item.args[1] for item in items if item.op == "call_function" and len(item.args) > 1]
        one = len(items) == 2 and len({item.args[0] for item in items}) == 1
        if one and dim in (1, -1) and indices in ([-2, -1], [0, 1]):
            return True
    return False


# --- what stands for it ---------------------------------------------------------------------------


def part_of_run(piece: Piece, index: Any) -> Flow | Piece | State | None:
    """What `piece[index]` is; None where nothing stands for it."""
    run, what = piece.run, piece.what
    if what == "all" and index == 0:
        return Flow(run.sequence, run.swapped) if run.sequence is not None else Piece(run, "sequence")
    if what == "all" and index == 1:
        return Piece(run, "states" if run.source.cell == "lstm" else "h")
    if what == "states" and index in (0, 1):
        return Piece(run, "hc"[index])
    if what == "sequence" and run.last is not None:
        return Flow(run.last)
    if what in ("h", "c") and isinstance(index, int):
        return State(run, what, index % (run.source.layers * run.source.directions))
    return None


def last_of_both(items: Sequence[Any]) -> Flow | None:
    """The last output of a bidirectional module, for its last h of both directions; None for others."""
    states = [item for item in items if isinstance(item, State)]
    runs = {id(state.run) for state in states}
    if len(states) == len(items) == 2 and len(runs) == 1 and states[0].run.last is not None:
        run = states[0].run
        count = run.source.layers * run.source.directions
        if [(s.what, s.number) for s in states] == [("h", count - 2), ("h", count - 1)]:
            return Flow(run.last)
    return None


def tensor_of_state(state: State) -> Any:
    """The tensor of a state.

    Raises:
        ValueError: no layer returns it.
    """
    run, source = state.run, state.run.source
    if (
        state.what == "h"
        and source.directions == 1
        and state.number == source.layers - 1
        and run.last is not None
    ):
        return run.last
    layer, direction = divmod(state.number, source.directions)
    states = run.states[layer]
    if not states:
        raise ValueError("this state is read in a way that has no counterpart")
    per_direction = len(states) // source.directions
    return states[direction * per_direction + (state.what == "c")]


def initial_states(value: Any, source: Recurrent) -> list[Any] | None:
    """Initial states of each layer; None for zeros.

    Args:
        value: what the module is called with.
        source: the module.

    Raises:
        ValueError: something else than zeros and the states of such a module.
    """
    if value is None or isinstance(value, Zeros):
        return None
    if isinstance(value, tuple | list) and all(isinstance(item, Zeros) for item in value):
        return None
    pieces = [value] if isinstance(value, Piece) else list(value) if isinstance(value, tuple | list) else []
    whats = [piece.what for piece in pieces if isinstance(piece, Piece)]
    if whats not in (["states"], ["h"], ["h", "c"]) or len({id(piece.run) for piece in pieces}) != 1:
        raise ValueError("initial states are neither zeros nor the states of another module")
    run = pieces[0].run
    if (run.source.layers, run.source.directions, run.source.cell) != (
        source.layers,
        source.directions,
        source.cell,
    ):
        raise ValueError("initial states come from a module with other layers")
    return run.states
