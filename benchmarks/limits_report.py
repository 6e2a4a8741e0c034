"""The tables of limits.py, and what in them misses its target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
US = ",.1f"


@dataclass(frozen=True)
class Table:
    """Title, and (heading, key, format) of the columns."""

    title: str
    columns: tuple[tuple[str, str, str], ...]


TABLES: dict[str, Table] = {
    "memory": Table(
        "memory of a training step (Embedding, LSTM, Dense, Adam) beside what must be kept",
        (
            ("MiB at most", "mib", ".1f"),
            ("after one call", "first_call_mib", ".1f"),
            ("must be kept", "kept_mib", ".1f"),
            ("ratio", "ratio", ".2f"),
        ),
    ),
    "checkpoints": Table(
        "checkpoint_steps=32",
        (
            ("MiB at most", "mib", ".1f"),
            ("must be kept", "kept_mib", ".1f"),
            ("MiB without", "mib_without", ".1f"),
            ("ms", "milliseconds", ".1f"),
            ("time with / without", "ratio", ".2f"),
        ),
    ),
    "growth": Table(
        "growth of LSTM -> Dense with time steps and batch, 1 thread; each: divided by rows and steps",
        tuple(
            (f"{kind}, {heading}", f"{kind}_{key}", form)
            for kind in ("inference", "training")
            for heading, key, form in (
                ("us", "us", US),
                ("ns each", "ns_each", ",.0f"),
                ("MiB", "mib", ".1f"),
                ("bytes each", "bytes_each", ",.0f"),
            )
        ),
    ),
    "first": Table(
        "first calls of a model, us, medians of 5 processes; warm: after another model, and NumPy is quiet",
        (
            ("threads", "threads", "d"),
            ("Python", "python", ""),
            *((heading, heading, US) for heading in ("first", "second", "third", "fifth", "tenth", "steady")),
            ("second / steady", "ratio", ".2f"),
        ),
    ),
    "subnormals": Table(
        "subnormal numbers, us a call",
        (
            ("threads", "threads", "d"),
            ("ordinary", "ordinary", US),
            ("subnormal", "subnormal", US),
            ("ratio", "ratio", ".2f"),
        ),
    ),
    "threads": Table(
        "one and two threads on a quiet machine, us a call",
        (
            ("1 thread", "one", US),
            ("2 threads", "two", US),
            ("times as fast", "ratio", ".2f"),
            ("asked", "least", ""),
            ("hand-over, ns", "hand_over", ".0f"),
        ),
    ),
    "busy": Table(
        "beside a process that takes one of two processors (free: where the system puts it), mean us a call",
        (
            ("other process", "where", ""),
            ("1 thread", "one", US),
            ("2 threads", "two", US),
            ("median", "two_median", US),
            ("p99", "two_p99", US),
            ("2 threads / 1", "ratio", ".2f"),
        ),
    ),
    "tail": Table(
        "100,000 steps of a stream with `out=`, us, and of as long Python loops; requests for memory in 1000",
        (
            ("threads", "threads", "d"),
            *((heading, key, ".2f") for heading, key in (("median", "median"), ("p99", "p99"))),
            *((heading, key, ".2f") for heading, key in (("p99.9", "p99_9"), ("max", "max"))),
            ("Python p99.9", "python_p99_9", ".2f"),
            ("Python max", "python_max", ".2f"),
            ("requests", "native", "d"),
            ("without out", "native_without_out", "d"),
            ("Python bytes", "python_bytes", "d"),
        ),
    ),
}


def below(row: Row) -> list[str]:
    """What of the row misses its target."""
    ratio = row.get("ratio", 0.0)
    misses = list(row.get("below", ()))
    if ratio > row.get("most", float("inf")):
        misses.append(f"{ratio:.2f}, at most {row['most']}")
    if ratio < row.get("least", 0.0):
        misses.append(f"{ratio:.2f}, at least {row['least']}")
    return misses


def label(row: Row) -> str:
    """Name of a row outside its table."""
    threads = f"{row['threads']} thread{'s' * (row['threads'] > 1)}" if "threads" in row else ""
    return " ".join(word for word in (row["name"], threads, row.get("python"), row.get("where")) if word)


def cells(table: Table, row: Row) -> list[str]:
    return [
        row["name"],
        *("-" if row.get(key) is None else format(row[key], form) for _, key, form in table.columns),
    ]


def markdown(rows: dict[str, list[Row]]) -> str:
    parts = []
    for what, of_section in rows.items():
        table = TABLES[what]
        lines = [["B,T,I,H", *(heading for heading, _, _ in table.columns)]]
        lines.append(["---", *["---:"] * len(table.columns)])
        lines += [cells(table, row) for row in of_section]
        misses = [f"{label(row)} ({'; '.join(words)})" for row in of_section if (words := below(row))]
        verdict = f"Below target: {', '.join(misses)}." if misses else "No row is below its target."
        grid = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"**{table.title}**\n\n{grid}\n\n{verdict}\n")
    return "\n".join(parts)
