"""Tables of the rescue and the stitching benchmark as Markdown."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import numpy as np

from go2_sevpo.metrics import percent, wilson
from go2_sevpo.offline_training.reproduce.go2.arms import ARMS

Row = Dict[str, Any]
INTERVALS = (
    "Percent with 95% Wilson intervals over the episodes of all training seeds; "
    "each training seed's own percent in brackets."
)


def rate(letters: List[str]) -> str:
    """Share of s among the letters of all training seeds, and of each; ``-`` does not count."""
    counted = [x.replace("-", "") for x in letters]
    n, good = sum(map(len, counted)), sum(x.count("s") for x in counted)
    if not n:
        return "no such state"
    own = ", ".join(f"{100 * x.count('s') / len(x):.1f}" for x in counted if x)
    return f"{percent(good / n, wilson(good, n), sign='')} ({own})"


def by_arm(rows: List[Row], data: str) -> Dict[str, List[Row]]:
    """Rows on one dataset by arm, in the order in which they come."""
    found: Dict[str, List[Row]] = {}
    for row in rows:
        if row["data"] == data:
            found.setdefault(row["arm"], []).append(row)
    return found


def _lines(columns: List[str], rows: List[List[str]]) -> List[str]:
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def _head(result: Dict[str, Any]) -> str:
    s = result["settings"]
    seeds = len(s["seeds"]) * s["members"]
    return (
        f"`{result['command']}`, *{s['course']}*, preset {s['preset']}: {seeds} training seeds, "
        f"{s['episodes']} unseen episodes each, last checkpoint, difficulty 1, all randomisation. "
        f"{INTERVALS}"
    )


def rescue_table(result: Dict[str, Any]) -> str:
    """Rescued by the time of taking over, success undisturbed and under pushes."""
    s = result["settings"]
    (data,) = result["data"]
    counts = result["data"][data]
    before = [f"{t:g}" for t in s["before"]]
    columns: Dict[str, Callable[[Row], str]] = {
        **{f"{t} s": (lambda row, t=t: row["before"][t]) for t in before},  # type: ignore[misc]
        "undisturbed": lambda row: str(row["undisturbed"]),
        f"pushes of {s['push_speed']:g} m/s": lambda row: str(row["push"]),
    }
    rows = []
    for arm in by_arm(result["rows"], data).values():
        cells = [rate([take(row) for row in arm]) for take in columns.values()]
        rows.append([arm[0]["title"], *cells])
    return "\n".join(
        [
            _head(result),
            "",
            f"Data: {counts['episodes']} episodes, {counts['transitions']} transitions, "
            f"{counts['safe']} safe episodes. Columns in seconds: rescued (no fall for 2 s) when "
            "taking over so long before the weak policy's own fall.",
            "",
            *_lines(["method", *columns], rows),
            "",
        ]
    )


def stitch_table(result: Dict[str, Any]) -> str:
    """Success, falls and cost by method, dataset after dataset."""
    lines = [_head(result), ""]
    for data, counts in result["data"].items():
        share = 100.0 * counts["safe"] / max(counts["episodes"], 1)
        lines += [
            f"### {data}: {counts['episodes']} episodes, {counts['transitions']} transitions, "
            f"{counts['safe']} safe episodes ({share:.1f}%)",
            "",
        ]
        arms = by_arm(result["rows"], data)
        rows = []
        for name in result["settings"]["arms"]:
            if name not in arms:
                rows.append([ARMS[name].title, "nothing to clone", "", ""])
                continue
            found = arms[name]
            outcomes = [str(row["undisturbed"]) for row in found]
            falls = [x.translate({ord("s"): "x", ord("f"): "s"}) for x in outcomes]
            cost = np.concatenate([row["cost"] for row in found])
            rows.append([found[0]["title"], rate(outcomes), rate(falls), f"{cost.mean():.2f}"])
        lines += [*_lines(["method", "success", "fall", "cost"], rows), ""]
    return "\n".join(lines)
