"""Renders a result of compare.py: a line, Markdown tables, a picture.

python benchmarks/report.py benchmarks/results/compare-....json [--picture FILE.png]
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from peers import OURS_ELSEWHERE

OURS = "lstm_native"
Row = dict[str, Any]

# Targets: (geometric mean, every single row), times the best peer, by section and threads.
TARGETS: dict[tuple[str, int], tuple[float, float]] = {
    ("inference", 1): (1.4, 1.0),
    ("inference", 2): (1.5, 1.0),
    ("model", 1): (1.4, 1.0),
    ("model", 2): (1.5, 1.0),
    ("training", 1): (2.2, 1.25),
    ("training", 2): (2.6, 1.25),
}
STREAMING_TARGETS = {64: 8.0, 128: 5.0, 256: 2.3}  # by units


def section_of(row: Row) -> str:
    """The section, the family before it where that is not the LSTM."""
    family = row["case"].get("family", "lstm")  # results of old have none
    return ("" if family == "lstm" else f"{family} ") + str(row["case"]["section"])


def best_peer(row: Row) -> tuple[str, float] | None:
    """Name and microseconds of the fastest other library."""
    figures = row["figures"].items()
    others = {name: f["microseconds"] for name, f in figures if name not in (OURS, *OURS_ELSEWHERE)}
    return min(others.items(), key=lambda item: item[1]) if others else None


def ratio(row: Row) -> float | None:
    """How many times as fast as the best peer."""
    best = best_peer(row)
    return best[1] / row["figures"][OURS]["microseconds"] if best and OURS in row["figures"] else None


def target(row: Row) -> float:
    """What the ratio of this row must reach; 0 where nothing is asked."""
    section = section_of(row)
    if section == "streaming":
        return STREAMING_TARGETS.get(row["case"]["units"], 0.0)
    return TARGETS.get((section, row["threads"]), (0.0, 0.0))[1]


def geometric_mean(rows: list[Row]) -> float | None:
    ratios = [value for row in rows if (value := ratio(row))]
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None


def amount(microseconds: float) -> str:
    digits = ".2f" if microseconds < 10 else ".1f" if microseconds < 1000 else ".0f"
    return format(microseconds, digits)


def row_of(row: Row) -> str:
    """One line while the comparison runs."""
    cells = [f"{name} {amount(f['microseconds'])}" for name, f in row["figures"].items()]
    times = ratio(row)
    note = f"; {row['disturbed_turns']} turns disturbed" if row["disturbed_turns"] else ""
    failed = [f"; {name}: {told['error']}" for name, told in row["prepared"].items() if "error" in told]
    best = f" -> {times:.2f} x" if times else ""
    return f"{row['name']:18} us: {', '.join(cells)}{best}{note}{''.join(failed)}"


def sections(rows: list[Row]) -> dict[tuple[str, int], list[Row]]:
    grouped: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        grouped.setdefault((section_of(row), row["threads"]), []).append(row)
    return grouped


def markdown(document: dict[str, Any]) -> str:
    """A table for each section and number of threads, with what is below target."""
    parts = []
    for (section, threads), rows in sections(document["rows"]).items():
        peers = list(dict.fromkeys(name for row in rows for name in row["figures"]))
        columns = ["B,T,I,H", *peers, "best peer / ours"]
        columns += ["p99.9 of ours"] if section.endswith("streaming") else []
        lines = [
            f"**{section}, {_threads(threads)}**: us a call ± half the range of the turns in %",
            "",
            _line(columns),
            _line(["---", *["---:"] * (len(columns) - 1)]),
            *(_line(_cells(row, peers, section)) for row in rows),
            "",
        ]
        mean = geometric_mean(rows)
        if mean:
            wanted = TARGETS.get((section, threads), (0.0, 0.0))[0]
            asked = f" (target {wanted} x)" if wanted else ""
            below = f" {_below(rows)}" if any(map(target, rows)) else ""
            lines.append(f"Geometric mean {mean:.2f} x{asked}.{below}")
        hand_overs = [row["hand_over_nanoseconds"] for row in rows if row.get("hand_over_nanoseconds")]
        if hand_overs:
            lines.append(f"Hand-over of a cache line: {min(hand_overs):.0f} to {max(hand_overs):.0f} ns.")
        disturbed = sum(row["disturbed_turns"] for row in rows)
        if disturbed:
            lines.append(f"{disturbed} turns were disturbed by other processes.")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: Row, peers: list[str], section: str) -> list[str]:
    best = best_peer(row)
    cells = [row["name"]]
    for name in peers:
        figures = row["figures"].get(name)
        if figures is None:
            cells.append("-")
            continue
        spread = 50 * (figures["high"] - figures["low"]) / figures["microseconds"]
        text = f"{amount(figures['microseconds'])} ±{spread:.0f}"
        cells.append(f"**{text}**" if best and name == best[0] else text)
    times = ratio(row)
    cells.append(f"{times:.2f}" if times else "-")
    if section.endswith("streaming"):
        cells.append(amount(row["figures"][OURS]["p99_9"]) if OURS in row["figures"] else "-")
    return cells


def _below(rows: list[Row]) -> str:
    below = [
        f"{row['name']} ({times:.2f} of {target(row)})"
        for row in rows
        if (times := ratio(row)) and times < target(row)
    ]
    return "Below target: " + ", ".join(below) + "." if below else "No row is below its target."


def picture(document: dict[str, Any], path: Path) -> Path | None:
    """Bars: how many times as fast as the best peer, a panel for each section. None without matplotlib."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        return None
    rows = [row for row in document["rows"] if ratio(row)]
    labels: dict[str, list[str]] = {}  # of each section
    for row in rows:
        names = labels.setdefault(section_of(row), [])
        if row["name"] not in names:
            names.append(row["name"])
    if not labels:
        return None
    heights = [len(names) for names in labels.values()]
    figure, panels = plt.subplots(
        len(labels),
        1,
        figsize=(8, 1.6 + 0.45 * sum(heights)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for panel, section in zip(panels[:, 0], labels, strict=True):
        _panel(panel, [row for row in rows if section_of(row) == section], labels[section])
        panel.set_title(f"{section} (batch, time, inputs, units)", fontsize=9, loc="left")
    panels[0, 0].legend(fontsize=8)
    panels[-1, 0].set_xlabel("times as fast as the fastest other library, whose name stands behind the bar")
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def _panel(panel: Any, rows: list[Row], labels: list[str]) -> None:
    counts = sorted({row["threads"] for row in rows})
    for number, threads in enumerate(counts):
        bars = [
            (labels.index(row["name"]) + (number - (len(counts) - 1) / 2) * 0.4, times, best[0])
            for row in rows
            if row["threads"] == threads and (times := ratio(row)) and (best := best_peer(row))
        ]
        places, ratios, names = zip(*bars, strict=True)
        drawn = panel.barh(places, ratios, 0.38, label=_threads(threads))
        words = [f"{times:.1f} {name}" for times, name in zip(ratios, names, strict=True)]
        panel.bar_label(drawn, words, fontsize=7, padding=2)
    panel.axvline(1, color="black", linewidth=0.8)
    panel.set_yticks(range(len(labels)), labels, fontsize=8)
    panel.invert_yaxis()
    panel.margins(x=0.2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--picture", type=Path, help="writes the picture there")
    args = parser.parse_args()
    document = json.loads(args.file.read_text())
    print(markdown(document), end="")
    if args.picture and picture(document, args.picture) is None:
        parser.error("no picture: matplotlib is not installed")


if __name__ == "__main__":
    main()
