"""What the findings of gpu.py come to: whether all checks hold, and tables of the times."""

from __future__ import annotations

import math
from typing import Any

Parts = dict[str, dict[str, Any]]
BENCHED = ("float32", "tf32", "bfloat16")


def checks_hold(parts: Parts) -> bool:
    """Whether every part that was asked for ended well, and no row says otherwise."""
    return all(
        part["ended"] in ("well", "its tool is not installed")
        and all(row.get("good", True) for row in part["rows"])
        for part in parts.values()
    )


def table(parts: Parts) -> str:
    """The findings as text."""
    lines = []
    for name, part in parts.items():
        bad = [row for row in part["rows"] if not row.get("good", True)]
        lines.append(f"{name}: ended {part['ended']}; {len(part['rows'])} rows, {len(bad)} bad")
        lines.extend(f"    {row}" for row in bad[:8])
    lines.extend(_bench("one direction", parts.get("bench", {}).get("rows", [])))
    both = [row for row in parts.get("both_ways", {}).get("rows", []) if "us_a_step" in row]
    lines.extend(_bench("both directions, together and apart", both))
    lines.extend(_plans(parts.get("plans", {}).get("rows", [])))
    lines.extend(_extras(parts.get("extras", {}).get("rows", [])))
    lines.extend(_graphs(parts.get("graphs", {}).get("rows", [])))
    return "\n".join(lines)


def _bench(what: str, rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return []
    names = list(rows[0]["us_a_step"])
    lines = ["", f"{what}: us a step, T = 512; ours / cuDNN, each in three precisions"]
    lines.append(f"{'H':>5} {'B':>4} {'':9} " + " ".join(f"{n:>14}" for n in names))
    for row in rows:
        kind = "training" if row["training"] else "inference"
        times = " ".join(f"{row['us_a_step'][n]:14.2f}" for n in names)
        lines.append(f"{row['H']:5} {row['B']:4} {kind:9} {times}")
    for training in (False, True):
        for precision in BENCHED:
            ratios = [
                row["us_a_step"][f"cudnn {precision}"] / row["us_a_step"][precision]
                for row in rows
                if row["training"] == training
            ]
            if ratios:
                kind = "training" if training else "inference"
                mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
                lines.append(
                    f"{kind}, {precision}: geometric mean {mean:.2f} x cuDNN, worst {min(ratios):.2f} x"
                )
    return lines


def _plans(rows: list[dict[str, Any]]) -> list[str]:
    """Where the planner was wrong, and what to tune it by: all ways, and which was chosen."""
    if not rows:
        return []
    lines = ["", "us a step of each plan (* the planner's, ! one that is 10 % quicker)"]
    for row in rows:
        times = row["us_a_step"]
        chosen = times["auto"]
        ways = {way: t for way, t in times.items() if way != "auto"}
        best = min(ways.values())
        text = ", ".join(
            f"{way} {t:.2f}{'!' if t == best and t < 0.9 * chosen else ''}" for way, t in ways.items()
        )
        kind = "training" if row["training"] else "inference"
        lines.append(f"{row['H']:5} {row['B']:4} {row['precision']:8} {kind:9} auto* {chosen:.2f}: {text}")
    return lines


def _extras(rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return []
    lines = ["", "masks and recurrent dropout, times of the plain call"]
    for row in rows:
        plain = row["us_a_step"]["plain"]
        ratios = ", ".join(f"{k} {t / plain:.2f} x" for k, t in row["us_a_step"].items() if k != "plain")
        lines.append(f"{row['H']:5} {row['B']:4} {'training' if row['training'] else 'inference':9} {ratios}")
    return lines


def _graphs(rows: list[dict[str, Any]]) -> list[str]:
    """What a graph saves, and where steps_of_graph() was wrong."""
    if not rows:
        return []
    lines = ["", "us a step, one by one (* as the planner has it, ! where the other is 5 % quicker)"]
    for row in rows:
        if "model" in row:
            kind = (
                f"{row['model']} {row['plan']}: {row['ms_a_batch']} ms a batch, {row['graphs']['launched']}"
            )
            lines.append(f"{kind} of {row['calls']} calls were graphs, {row['graphs']['made']} made")
            continue
        times, chosen = row["us_a_step"], "graphs" if row["chosen"] else "launches"
        text = ", ".join(
            f"{way} {t:.2f}{'*' if way == chosen else '!' if t < 0.95 * times[chosen] else ''}"
            for way, t in times.items()
        )
        kind = "training" if row["training"] else "inference"
        counts = row["graphs_of_4_calls"]
        lines.append(
            f"{row['H']:5} {row['B']:4} {row['precision']:8} {kind:9} {text}; "
            f"of 4 calls {counts['launched']} graphs, {counts['made']} made"
        )
    return lines
