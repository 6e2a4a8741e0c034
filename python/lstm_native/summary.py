"""The table that `model.summary()` prints."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from lstm_native.arrays import optional_int
from lstm_native.variable import Variable

_DEFAULT_WIDTH = 88
_HEADER = ["Layer (type)", "Output Shape", "Param #"]
_POSITIONS = [0.45, 0.80, 1.0]
_POSITIONS_CONNECTED = [0.30, 0.60, 0.74, 1.0]


def print_summary(
    model: Any,
    line_length: int | None = None,
    positions: list[float] | None = None,
    print_fn: Callable[[str], Any] | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
    layer_range: Sequence[str] | None = None,
) -> None:
    """Prints the layers of `model`, a line at a time; see `Sequential.summary`."""
    import shutil  # not at the top: it brings the compression modules with it

    line_length = optional_int(line_length, "summary", "line_length")
    layers = _chosen(model.layers, layer_range)
    connected = any(model.sources_of(layer) is not None for layer in model.layers)
    header = [*_HEADER, "Connected to"] if connected else list(_HEADER)
    fractions = list(positions or (_POSITIONS_CONNECTED if connected else _POSITIONS))
    width = line_length or min(_DEFAULT_WIDTH, shutil.get_terminal_size().columns - 4)
    if show_trainable:
        header.append("Trainable")
        if positions is None:
            fractions = [0.9 * p for p in fractions] + [1.0]
        width = line_length or width + 12
    if len(fractions) != len(header):
        raise ValueError(f"summary: positions has {len(fractions)} items, expected {len(header)}")
    ends = [int(p * width) for p in fractions]
    columns = [max(4, b - a) for a, b in zip([0, *ends[:-1]], ends, strict=True)]

    rows = _rows(model, layers, expand_nested, show_trainable, connected)
    lines = [f'Model: "{model.name}"', *_table(header, rows, columns), *_totals(model)]
    if print_fn is None:
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        try:
            "\n".join(lines).encode(encoding)
        except UnicodeEncodeError:
            lines = [_plain(line) for line in lines]
        print_fn = print
    for line in lines:
        print_fn(line)


def _chosen(layers: list[Any], layer_range: Any) -> list[Any]:
    if layer_range is None:
        return layers
    names = [layer.name for layer in layers]
    if (
        not isinstance(layer_range, list | tuple)
        or len(layer_range) != 2
        or any(name not in names for name in layer_range)
    ):
        raise ValueError(f"summary: layer_range is {layer_range!r}, expected two names of {names}")
    first, last = (names.index(name) for name in layer_range)
    return layers[min(first, last) : max(first, last) + 1]


def _rows(
    model: Any,
    layers: list[Any],
    expand_nested: bool,
    show_trainable: bool,
    connected: bool,
    indent: str = "",
) -> list[list[str]]:
    rows = []
    for layer in layers:
        rows.append(_row(model, layer, show_trainable, connected, indent))
        if expand_nested and hasattr(layer, "layers"):
            inner = indent[:-2] + "   └ "
            rows += _rows(layer, layer.layers, expand_nested, show_trainable, connected, inner)
    return rows


def _row(model: Any, layer: Any, show_trainable: bool, connected: bool, indent: str) -> list[str]:
    shape = model.output_shape_of(layer)
    cells = [
        f"{indent}{layer.name} ({type(layer).__name__})",
        "?" if shape is None else str(shape),
        f"{layer.count_params():,}" if layer.built else "0 (unbuilt)",
    ]
    if connected:
        cells.append(", ".join(model.sources_of(layer) or ()) or "-")
    if show_trainable:
        cells.append(("Y" if layer.trainable else "N") if layer.weights else "-")
    return cells


def _table(header: list[str], rows: list[list[str]], columns: list[int]) -> list[str]:
    def border(left: str, line: str, middle: str, right: str) -> str:
        return left + middle.join(line * (width - 1) for width in columns) + right

    def text(cells: list[str], edge: str) -> list[str]:
        inner = [width - 3 for width in columns]
        parts = [_broken(cell, n) for cell, n in zip(cells, inner, strict=True)]
        lines = []
        for i in range(max(map(len, parts))):
            padded = []
            for column, (part, n) in enumerate(zip(parts, inner, strict=True)):
                piece = part[i] if i < len(part) else ""
                padded.append(piece.rjust(n) if column == 2 else piece.ljust(n))
            lines.append(f"{edge} " + f" {edge} ".join(padded) + f" {edge}")
        return lines

    lines = [border("┏", "━", "┳", "┓"), *text(header, "┃"), border("┡", "━", "╇", "┩")]
    for i, row in enumerate(rows):
        if i:
            lines.append(border("├", "─", "┼", "┤"))
        lines += text(row, "│")
    return [*lines, border("└", "─", "┴", "┘")]


def _broken(cell: str, width: int) -> list[str]:
    """A cell in lines of at most `width` characters, broken at blanks where there are any."""
    lines = []
    while len(cell) > width:
        blank = cell.rfind(" ", 1, width + 1)
        end = blank if blank > 0 else width
        lines.append(cell[:end])
        cell = cell[end:].lstrip()
    return [*lines, cell]


def _totals(model: Any) -> list[str]:
    trainable = _sizes(model.trainable_variables)
    frozen = _sizes(model.non_trainable_variables)
    optimizer = model.optimizer
    count = (
        sum(math.prod(v.shape) for v in optimizer.variables)
        if optimizer is not None and optimizer.built
        else 0
    )
    slots = _Sizes(count, 4 * count)
    parts = trainable, frozen, slots
    total = _Sizes(sum(p.numbers for p in parts), sum(p.nbytes for p in parts))
    lines = [
        f" Total params: {_amount(total)}",
        f" Trainable params: {_amount(trainable)}",
        f" Non-trainable params: {_amount(frozen)}",
    ]
    return [*lines, f" Optimizer params: {_amount(slots)}"] if count else lines


class _Sizes(NamedTuple):
    """How many numbers there are, and how many bytes they take."""

    numbers: int
    nbytes: int


def _sizes(variables: Iterable[Variable]) -> _Sizes:
    held = list(variables)
    return _Sizes(sum(v.size for v in held), sum(v.nbytes for v in held))


def _amount(sizes: _Sizes) -> str:
    count, size = sizes.numbers, float(sizes.nbytes)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1024:
            return f"{count:,} ({size:.2f} {unit})"
        size /= 1024
    return f"{count:,} ({size:.2f} TB)"


def _plain(line: str) -> str:
    for fancy, simple in (("━─", "-"), ("┃│", "|"), ("┏┳┓┡╇┩├┼┤└┴┘", "+")):
        for character in fancy:
            line = line.replace(character, simple)
    return line
