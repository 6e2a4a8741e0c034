"""Objectives: what `compile` asks of each output of a model: its loss, that loss's weight, its metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from lstm_native import losses, metrics, registration
from lstm_native.errors import check_number


class Objective(NamedTuple):
    """What is asked of one output.

    Attributes:
        name: name of the output.
        loss: its loss, or None.
        weight: what its loss is multiplied with; None for 1.
        metrics: metrics that sample weights do not touch, as given.
        weighted_metrics: metrics that they weigh, as given.
    """

    name: str
    loss: losses.Loss | None
    weight: float | None
    metrics: list[Any]
    weighted_metrics: list[Any]


def resolve(
    label: str, names: Sequence[str], loss: Any, loss_weights: Any, plain: Any, weighted: Any
) -> list[Objective]:
    """The objectives of the outputs `names`, from the arguments of `compile`.

    Args:
        label: who asks, for messages.
        names: names of the outputs.
        loss: a loss for all outputs, a list with one for each, or a dict by name; None where there is none.
        loss_weights: a number for one output, a list or a dict.
        plain, weighted: `metrics` and `weighted_metrics`: a list for one output; for several a list with an
            item for each, or a dict by name; items are metrics or lists of them.

    Raises:
        ValueError: names or numbers of outputs that are not there, or unknown losses or metrics.
    """
    several = len(names) > 1
    if several or isinstance(loss, dict | list | tuple):
        is_config = isinstance(loss, dict) and "class_name" in loss
        nested = isinstance(loss, dict | list | tuple) and not is_config
        each = _spread(label, "loss", loss, names) if nested else [loss] * len(names)
    else:
        each = [loss]
    found = [None if one is None else losses.get(one) for one in each]
    weights = _weights(label, loss_weights, names, found)
    return [
        Objective(name, one, weight, a, b)
        for name, one, weight, a, b in zip(
            names,
            found,
            weights,
            _metrics(label, "metrics", plain, names),
            _metrics(label, "weighted_metrics", weighted, names),
            strict=True,
        )
    ]


def _spread(label: str, argument: str, given: Any, names: Sequence[str]) -> list[Any]:
    """An item for each output, from a list or dict."""
    if isinstance(given, dict):
        unknown = [name for name in given if name not in names]
        if unknown:
            raise ValueError(
                f"{label}: compile got {argument} for the outputs {unknown}, there are {list(names)}"
            )
        return [given.get(name) for name in names]
    if isinstance(given, list | tuple) and len(given) == len(names):
        return list(given)
    seen = f"{len(given)} items" if isinstance(given, list | tuple) else repr(given)
    raise ValueError(
        f"{label}: compile got {argument} with {seen}, expected a list of {len(names)} "
        f"or a dict by {list(names)}"
    )


def _weights(
    label: str, given: Any, names: Sequence[str], found: Sequence[losses.Loss | None]
) -> list[float | None]:
    if given is None:
        return [None] * len(names)
    if not isinstance(given, dict | list | tuple):
        if len(names) > 1:
            raise ValueError(
                f"{label}: compile got loss_weights={given!r}, expected a list or dict for "
                f"{len(names)} outputs"
            )
        given = [given]
    with_loss = [i for i, loss in enumerate(found) if loss is not None]
    if isinstance(given, list | tuple) and len(given) == len(with_loss) != len(names):
        by_output: list[Any] = [None] * len(names)
        for i, weight in zip(with_loss, given, strict=True):
            by_output[i] = weight
        given = by_output
    weights = _spread(label, "loss_weights", given, names)
    for weight in weights:
        if weight is not None:
            check_number(f"{label}: compile", "loss_weights", weight, "numbers")
    return [None if weight is None else float(weight) for weight in weights]


def _metrics(label: str, argument: str, given: Any, names: Sequence[str]) -> list[list[Any]]:
    if given is None:
        return [[] for _ in names]
    if not isinstance(given, list | tuple | dict):
        raise ValueError(f"{label}: compile got {argument}={given!r}, expected a list or dict")
    if len(names) > 1:
        lists = (
            [_listed(item) for item in _spread(label, argument, given, names)]
            if given
            else [[] for _ in names]
        )
    elif isinstance(given, dict):
        lists = [_listed(item) for item in _spread(label, argument, given, names)]
    else:
        lists = [[metric for item in given for metric in _listed(item)]]
    # What the caller lends by a name may be gone when metrics are made, with the first batch.
    lists = [
        [item if registration.find(item) is None else registration.find(item) for item in one]
        for one in lists
    ]
    for one in lists:
        for identifier in one:
            metrics.get(identifier)  # raises for unknown names
    return lists


def _listed(item: Any) -> list[Any]:
    if item is None:
        return []
    return list(item) if isinstance(item, list | tuple) else [item]
