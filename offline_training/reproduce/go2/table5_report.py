"""Table 5 as Markdown, beside the paper's."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import numpy as np

from go2_sevpo.metrics import percent, wilson

NAMES = {
    "sevpo": "SEVPO",
    "sevpo, safe part": "SEVPO, safe part",
    "bc-lookahead": "lookahead and cloning",
    "fisor": "FISOR",
    "bc": "cloning, all data",
    "bc-safe": "cloning, safe episodes",
    "bc-choice": "cloning + Q_c choice",
}
PAPER = (
    "The paper (Isaac Gym, 20 episodes, mixed data): "
    "SEVPO 85% success, 15% falls; FISOR 5% success, 95% falls."
)


def episodes_of(report: Dict[str, Any]) -> Dict[str, Any]:
    """Outcome of each episode as one letter, and its cost, from a report of go2-play.

    s is success, f fall, t time-out.
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
        name = f"{source['policy']} on {source['course']}"
        part = parts.setdefault(name, {"episodes": 0, "transitions": 0, "successes": 0})
        for key in part:
            part[key] += int(entry[key])
    return parts


def title(algorithm: str, configs: Dict[str, Dict[str, Any]]) -> str:
    """What a row is called: which parts of SEVPO were on, by its configuration."""
    config = configs.get(algorithm, {})
    safe_part = config.get("unsafe_objective") == "none" or config.get("b2") == 0
    return NAMES["sevpo, safe part" if algorithm == "sevpo" and safe_part else algorithm]


def _rate(count: int, n: int) -> str:
    return percent(count / n, wilson(count, n), sign="")


def cells(rows: List[Dict[str, Any]]) -> List[str]:
    """Success, fall and time-out with intervals over all episodes, and the mean cost.

    With the success stands the worst training seed's.
    """
    outcome = "".join(row["outcome"] for row in rows)
    cost = np.concatenate([row["cost"] for row in rows])
    by_member: Dict[int, str] = {}
    for row in rows:
        by_member[row["member"]] = by_member.get(row["member"], "") + row["outcome"]
    worst = min(letters.count("s") / len(letters) for letters in by_member.values())
    n = len(outcome)
    rates = [_rate(outcome.count(letter), n) for letter in "sft"]
    return [f"{rates[0]}; {100 * worst:.1f}", rates[1], rates[2], f"{cost.mean():.2f}"]


def table(result: Dict[str, Any]) -> str:
    """All evaluations, by mix and course."""
    settings = result["settings"]
    few = settings["choice_episodes"]
    chosen = f" ({few} where N > 1)" if few and few != settings["episodes"] else ""
    lines = [
        f"`{result['command']}`, "
        f"scale {settings['scale']:g} ({settings['harsh_scale']:g} for the harsh mixes), "
        f"preset {settings['preset']}: {settings['members']} training seeds, "
        f"{settings['episodes']} unseen episodes per seed and course{chosen} "
        "at difficulty 1 with all randomisation. "
        "Percent with 95% Wilson intervals over all episodes; "
        "worst training seed after the semicolon. "
        "*best*: chosen by evaluations during training on other courses.",
        "",
        PAPER,
        "",
    ]
    for mix, parts in result["data"].items():
        content = "; ".join(
            f"{part['episodes']} episodes of {name} ({part['transitions']} transitions)"
            for name, part in parts.items()
        )
        lines += [
            f"### {mix}: {content}",
            "",
            "| course | method | N | kept | success | fall | time-out | cost |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for course in settings["courses"]:
            for algorithm in settings["algorithms"]:
                groups: Dict[Tuple[int, str], List[Dict[str, Any]]] = {}
                for row in result["rows"]:
                    if (row["mix"], row["course"], row["algorithm"]) == (mix, course, algorithm):
                        groups.setdefault((row["n"], row["kept"]), []).append(row)
                for (n, kept), rows in groups.items():
                    name = title(algorithm, result.get("configs", {}))
                    columns = [course, name, str(n), kept, *cells(rows)]
                    lines.append(f"| {' | '.join(columns)} |")
        lines.append("")
    return "\n".join(lines)
