"""Runs a converted model and its original on the same random inputs: when, and on what."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from lstm_native.configurable import short
from lstm_native.convert.conversion import Conversion
from lstm_native.layers import Attention, Dot, Embedding
from lstm_native.layers.symbolic import output_shapes
from lstm_native.layers.text import TextVectorization
from lstm_native.layers.windows import OverWindows
from lstm_native.model_state import all_layers, layers_with_states, restore_states
from lstm_native.models import Model
from lstm_native.models.graph import Steps
from lstm_native.trees import flat, is_shape

SIZES = (3, 7, 4)  # of axes whose size the model leaves open: batch, time, and others
_MOST_STEPS = 1000
# Numbers in the values between the layers, and multiplications, that are not too many to run: a file may fix
# any sizes. A model whose sizes are open has fewer than 64 multiplications for a weight.
MAX_NUMBERS = 1 << 24
MAX_PRODUCTS = 1 << 32
MAX_CALLS = 1000  # of layers, each of which takes another library milliseconds
_PRODUCTS_OF_WEIGHT = 64


class NotRun(Exception):
    """The two sides cannot be run beside each other; the message says why.

    Args:
        why: the reason, as in "not run beside the original: ...".
        missing: whether a package is all that is missing.
    """

    def __init__(self, why: str, missing: bool = False) -> None:
        super().__init__(why)
        self.missing = missing


def check_of(value: bool | None, function: str) -> bool | None:
    """The argument `check` of a conversion.

    Raises:
        TypeError: it is neither a bool nor None.
    """
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{function}: check is {short(value)}, expected True, False or None")
    return value


def run_both(record: Conversion, check: bool | None, run: Callable[[], None]) -> None:
    """Runs both sides as `check` wants it.

    Args:
        record: of the conversion; `run` puts its comparison there, and this function the reason where there
            is none.
        check: None: where both can be run; True: in any case; False: not at all.
        run: does it; raises NotRun where it cannot.

    Raises:
        ValueError: the outputs differ; or with `check=True`, the two sides cannot be run.
        ImportError: with `check=True`, the other side is not installed.
    """
    if check is False:
        record.not_run = "check is False"
        return
    try:
        run()
    except NotRun as why:
        record.not_run = str(why)
        if check:
            kind = ImportError if why.missing else ValueError
            raise kind(
                f"conversion from {record.source} to {record.target}: check is True, but the two sides "
                f"cannot be run: {why}"
            ) from why.__cause__


def not_imported(name: str, error: Exception) -> NotRun:
    """Why there is no other side: the package is not installed, or its import fails."""
    if isinstance(error, ModuleNotFoundError) and error.name == name:
        return NotRun(f"{name} is not installed", missing=True)
    return NotRun(f"{name} cannot be imported ({cause(error)})", missing=True)


def cause(error: Exception) -> str:
    """An error of another package in one short line."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"


@contextlib.contextmanager
def from_zero_states(model: Model) -> Iterator[None]:
    """Inside, stateful layers begin with zeros; afterwards they have the states from before."""
    kept = [layer.states for layer in layers_with_states(model)]
    model.reset_state()
    try:
        yield
    finally:
        restore_states(model, kept)


def outputs_of(model: Model, inputs: list[Any]) -> list[Any]:
    """What the model gives for these inputs, as a list; its states stay as they are."""
    with from_zero_states(model):
        found = model(inputs[0] if len(inputs) == 1 else inputs)
    values = (
        found.values() if isinstance(found, dict) else found if isinstance(found, list | tuple) else [found]
    )
    return [np.asarray(value) for value in values]


def random_inputs(model: Model) -> list[Any]:
    """An array for each input: numbers; whole ones with zeros among them where an Embedding reads them.

    Raises:
        NotRun: an input of texts.
    """
    random = np.random.default_rng(0)
    plan = model._plan()
    found = []
    steps = steps_for([*all_layers(model)])
    for i, placeholder in enumerate(model.inputs):
        shape = _concrete(placeholder.shape, steps)
        readers = plan.readers(i)
        tables = [layer for layer in readers if isinstance(layer, Embedding)]
        if any(isinstance(layer, TextVectorization) for layer in readers):
            raise NotRun("it reads texts")
        if tables:
            ids = random.integers(0, min(layer.input_dim for layer in tables), shape)
            ids[..., -1:] = 0
            found.append(ids.astype(np.int32))
        else:
            found.append(random.standard_normal(shape).astype(np.float32))
    return found


def steps_for(layers: Sequence[Any]) -> int:
    """How many time steps a model is tried with: enough for the windows of all its layers."""
    steps = SIZES[1]
    for layer in reversed(layers):
        if isinstance(layer, OverWindows):
            steps = min(steps * layer.windows.stride + layer.windows.span, _MOST_STEPS)
    return steps


def _concrete(shape: tuple[int | None, ...], steps: int = SIZES[1]) -> tuple[int, ...]:
    # Where there are windows the last axis may be the one of the time.
    sizes = (SIZES[0], steps, SIZES[2] if steps == SIZES[1] else steps)
    return tuple(sizes[min(axis, 2)] if size is None else size for axis, size in enumerate(shape))


def refuse_large(model: Model, shapes_of_inputs: Sequence[tuple[int, ...]] | None = None) -> None:
    """Raises NotRun where sizes that the model fixes make a run too long or too large.

    Args:
        model: the model.
        shapes_of_inputs: of what it is to be run on; by default those of `random_inputs`.
    """
    steps = Steps(len(model.inputs))
    model.add_steps(steps, tuple(range(len(model.inputs))), None, len(model.outputs))
    if len(steps.steps) > MAX_CALLS:
        raise NotRun(f"it has {len(steps.steps)} calls of layers")
    given_shapes = shapes_of_inputs or [
        _concrete(x.shape, steps_for([*all_layers(model)])) for x in model.inputs
    ]
    shapes: dict[int, tuple[int, ...]] = dict(enumerate(given_shapes))
    numbers = sum(math.prod(shape) for shape in shapes.values())
    products, weights = 0, sum(math.prod(v.shape) for v in model.variables)
    for step in steps.steps:
        given = tuple(shapes[slot] for slot in step.inputs)
        made = output_shapes(step.layer, given if step.several else given[0], step.arguments)
        shapes.update(zip(step.outputs, map(_concrete, flat(made, is_shape)), strict=True))
        numbers += sum(math.prod(shapes[slot]) for slot in step.outputs)
        rows = math.prod(given[0][:-1])
        if isinstance(step.layer, Attention | Dot):  # every step of one beside every step of the other
            numbers += rows * math.prod(given[-1][1:])
        if not isinstance(step.layer, Embedding):
            products += rows * sum(math.prod(v.shape) for v in step.layer.variables)
        if numbers > MAX_NUMBERS or products > MAX_PRODUCTS + _PRODUCTS_OF_WEIGHT * weights:
            raise NotRun("the sizes that it fixes are large")
