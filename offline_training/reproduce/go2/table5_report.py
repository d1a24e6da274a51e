"""Table 5 as Markdown, beside the paper's."""

from __future__ import annotations

from typing import Any, Dict, List

import numpy as np

from go2_sevpo.metrics import percent, wilson

NAMES = {
    "sevpo": "SEVPO",
    "fisor": "FISOR",
    "bc": "cloning, all data",
    "bc-safe": "cloning, safe episodes",
    "bc-choice": "cloning + Q_c choice",
}
PAPER = "The paper (Isaac Gym, 20 episodes, mixed data): SEVPO 85% success, 15% falls; FISOR 5% success, 95% falls."


def episodes_of(report: Dict[str, Any]) -> Dict[str, Any]:
    """Outcome of each episode as one letter (s success, f fall, t time-out), and its cost, from a
    report of go2-play.
    """
    detail = report["episodes_detail"]
    letters = ["s" if e["success"] else "f" if e["fall"] else "t" for e in detail]
    return {
        "outcome": "".join(letters),
        "cost": [round(e["cost"]) for e in detail],
        "non_finite": report["non_finite_actions"],
    }


def composition(manifest: Dict[str, Any]) -> Dict[str, Any]:
    """What a dataset consists of: episodes, transitions and successes by source."""
    parts: Dict[str, Dict[str, int]] = {}
    for entry in manifest["shards"]:
        source = entry["info"]["source"]
        part = parts.setdefault(
            f"{source['policy']} on {source['course']}",
            {"episodes": 0, "transitions": 0, "successes": 0},
        )
        for key in part:
            part[key] += int(entry[key])
    return parts


def _rate(count: int, n: int) -> str:
    return percent(count / n, wilson(count, n), sign="")


def cells(rows: List[Dict[str, Any]]) -> List[str]:
    """Success, fall, time-out with intervals over all episodes, mean cost; the worst seed's
    success.
    """
    outcome, cost = "".join(r["outcome"] for r in rows), np.concatenate([r["cost"] for r in rows])
    by_member = {
        m: "".join(r["outcome"] for r in rows if r["member"] == m)
        for m in sorted({r["member"] for r in rows})
    }
    worst = min(o.count("s") / len(o) for o in by_member.values())
    n = len(outcome)
    rates = [_rate(outcome.count(letter), n) for letter in "sft"]
    return [f"{rates[0]}; {100 * worst:.1f}", rates[1], rates[2], f"{cost.mean():.2f}"]


def table(result: Dict[str, Any]) -> str:
    """All evaluations, by mix and course."""
    s = result["settings"]
    few = s["choice_episodes"]
    chosen = f" ({few} where N > 1)" if few and few != s["episodes"] else ""
    lines = [
        f"`{result['command']}`, scale {s['scale']:g} ({s['harsh_scale']:g} for the harsh mixes), preset {s['preset']}: {s['members']} training seeds, "
        f"{s['episodes']} unseen episodes per seed and course{chosen} at difficulty 1 with all randomisation. Percent with 95% Wilson intervals over all episodes; "
        "worst training seed after the semicolon. *best*: chosen by evaluations during training on other courses.",
        "",
        PAPER,
        "",
    ]
    for mix, parts in result["data"].items():
        content = "; ".join(
            f"{p['episodes']} episodes of {name} ({p['transitions']} transitions)"
            for name, p in parts.items()
        )
        lines += [
            f"### {mix}: {content}",
            "",
            "| course | method | N | kept | success | fall | time-out | cost |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for course in s["courses"]:
            for algorithm in s["algorithms"]:
                groups: Dict[Any, List[Dict[str, Any]]] = {}
                for row in result["rows"]:
                    if (row["mix"], row["course"], row["algorithm"]) == (mix, course, algorithm):
                        groups.setdefault((row["n"], row["kept"]), []).append(row)
                for (n, kept), rows in groups.items():
                    lines.append(
                        f"| {course} | {NAMES[algorithm]} | {n} | {kept} | {' | '.join(cells(rows))} |"
                    )
        lines.append("")
    return "\n".join(lines)
