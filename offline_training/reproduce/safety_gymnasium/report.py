"""Tables 1 to 4 as Markdown."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from go2_sevpo.envs.safety_gymnasium.tasks import find_task, normalised_cost
from go2_sevpo.metrics import percent, wilson
from go2_sevpo.runs.files import save_figure

NAMES = {
    "sevpo": "SEVPO",
    "fisor": "FISOR",
    "cpq": "CPQ",
    "coptidice": "COptiDICE",
    "ccac": "CCAC",
    "bc": "cloning, all data",
    "bc-safe": "cloning, safe episodes",
    "bc-choice": "cloning + Q_c choice",
}


def mean_interval(values: np.ndarray, seed: int = 0, draws: int = 2000) -> Tuple[float, float]:
    """95% bootstrap interval of a mean over episodes (E,): costs are far from normal."""
    rng = np.random.default_rng(seed)
    # Each draw takes E episodes with replacement: (draws, E), then its mean.
    means = values[rng.integers(len(values), size=(draws, len(values)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def scored(rows: List[Dict[str, Any]]) -> Dict[str, Any]:
    """Scores of all members' episodes of one training, and by member."""
    task, limit = find_task(rows[0]["task"]), rows[0]["limit"]
    # (E,) over all members' episodes
    returns = np.concatenate([row["returns"] for row in rows]).astype(float)
    costs = np.concatenate([row["costs"] for row in rows]).astype(float)
    # DSRL's scores: a return of 1 is the best in its data, a cost of 1 the limit.
    reward = np.array([task.normalised_return(x) for x in returns])
    cost = np.array([normalised_cost(x, limit) for x in costs])
    failed = int((costs > limit).sum())
    return {
        "reward": float(reward.mean()),
        "reward_interval": mean_interval(reward),
        "cost": float(cost.mean()),
        "cost_interval": mean_interval(cost),
        "safe": bool(cost.mean() < 1.0),
        "cost_by_member": [normalised_cost(float(np.mean(r["costs"])), limit) for r in rows],
        "cost_max": float(costs.max()),
        "failure_rate": failed / len(costs),
        "failure_interval": wilson(failed, len(costs)),
        "episodes": len(costs),
    }


def table(result: Dict[str, Any], worst: bool = False) -> str:
    """One line per training; the safe method with the highest reward of each group is in bold."""
    groups: Dict[Tuple[str, str], Dict[str, List[Dict[str, Any]]]] = {}
    for row in result["rows"]:
        groups.setdefault((row["task"], row["mix"]), {}).setdefault(row["label"], []).append(row)
    columns = ["reward", "cost", "cost by seed", "safe", "greatest cost", "failure"]
    columns = columns[:2] + columns[4:] if worst else columns
    lines = [
        *_head(result),
        "",
        f"| task | safe:unsafe | method | {' | '.join(columns)} |",
        "|---" * (3 + len(columns)) + "|",
    ]
    for (task, mix), methods in groups.items():
        found = {label: scored(rows) for label, rows in methods.items()}
        safe = {label: score["reward"] for label, score in found.items() if score["safe"]}
        best = max(safe, key=lambda label: safe[label]) if safe else None
        for label, score in found.items():
            title = NAMES.get(label, label)
            shown = f"**{title}**" if label == best else title
            lines.append(f"| {task} | {mix} | {shown} | {' | '.join(_cells(score, worst))} |")
    return "\n".join(lines) + "\n"


def _head(result: Dict[str, Any]) -> List[str]:
    """What stands above the table: how it was made, and what it must not be taken for."""
    settings = result["settings"]
    lines = [
        f"`{result['command']}`, preset {settings['preset']}: "
        f"{settings['members']} training seeds, "
        f"{settings['episodes']} episodes each, last checkpoint. "
        "Reward and cost normalised with DSRL's constants, 95% bootstrap intervals over episodes; "
        "safe: cost below 1. Bold: the safe method with the highest reward. "
        "Failure: share of episodes that cost more than the limit (Wilson).",
    ]
    generated = sorted({k.split()[0] for k, data in result["data"].items() if not data["dsrl"]})
    if generated:
        lines += [
            "",
            f"**{', '.join(generated)}: generated data (`go2-dsrl generate`), not DSRL's.** "
            "Not comparable with published scores.",
        ]
    sevpo = [row for row in result["rows"] if row["algorithm"] == "sevpo"]
    # A dictionary keeps the rows' order.
    chosen = {(row["task"], row["choice"]): None for row in sevpo if row["choice"] != "first"}
    if chosen:
        choices = ", ".join(f"{choice} on {task}" for task, choice in chosen)
        lines += ["", f"SEVPO among N candidates: {choices}."]
    for path, count in Counter(result.get("reused", {}).values()).items():
        lines += [
            "",
            f"Taken from an earlier result, {path} "
            f"(same data, settings, seeds and number of episodes): {count} of the lines.",
        ]
    if result.get("missing"):
        left = [
            f"{line['task']} {line['mix']} {NAMES.get(line['label'], line['label'])}"
            for line in result["missing"]
        ]
        lines += ["", f"Not finished: {', '.join(left)}."]
    return lines


def _cells(score: Dict[str, Any], worst: bool) -> List[str]:
    def interval(name: str) -> str:
        low, high = score[f"{name}_interval"]
        return f"{score[name]:.2f} [{low:.2f}, {high:.2f}]"

    means = [interval("reward"), interval("cost")]
    by_member = ", ".join(f"{cost:.2f}" for cost in score["cost_by_member"])
    between = [] if worst else [by_member, "yes" if score["safe"] else "no"]
    failure = percent(score["failure_rate"], score["failure_interval"], 0)
    return [*means, *between, f"{score['cost_max']:.0f}", failure]


Curve = Tuple[str, str, str, List[Dict[str, float]]]
"""Task, mix, label, and rows of :func:`go2_sevpo.offline_training.evaluation.best.read_curve`."""


def draw_curves(curves: List[Curve], limits: Sequence[float], path: Path) -> None:
    """Return and cost along every training (Figure 11), mean over training seeds.

    Two rows per task, a column per mix; limits dashed.
    """
    from matplotlib.figure import Figure

    # Each once, in the order in which it first comes.
    tasks = list(dict.fromkeys(task for task, _, _, _ in curves))
    mixes = list(dict.fromkeys(mix for _, mix, _, _ in curves))
    labels = list(dict.fromkeys(label for _, _, label, _ in curves))
    figure = Figure(figsize=(3.4 * len(mixes), 2.3 * 2 * len(tasks) + 0.4), layout="constrained")
    axes = figure.subplots(2 * len(tasks), len(mixes), squeeze=False)
    for task, mix, label, rows in curves:
        steps = sorted({row["step"] for row in rows})
        for k, key in enumerate(("return", "cost")):
            axis = axes[2 * tasks.index(task) + k][mixes.index(mix)]
            axis.set_title(f"{task}, {mix}: {key}", fontsize=9)
            if key == "cost":
                for limit in limits:
                    axis.axhline(limit, color="black", linestyle="--", linewidth=0.7)
            if steps:
                # Shares of the training, since the methods' steps differ.
                x = [step / steps[-1] for step in steps]
                y = [np.mean([row[key] for row in rows if row["step"] == step]) for step in steps]
                style = {"color": f"C{labels.index(label)}", "marker": ".", "markersize": 3}
                axis.plot(x, y, label=NAMES.get(label, label), **style)
    for axis in axes[1::2].flat:
        axis.set_yscale("symlog", linthresh=10.0)  # costs begin at 0 and span decades
    for axis in axes[-1]:
        axis.set_xlabel("share of the training", fontsize=8)
    # One legend for all; the limits' lines have automatic labels, which begin with "_".
    lines = {line.get_label(): line for axis in axes.flat for line in axis.get_lines()}
    lines = {label: line for label, line in lines.items() if not label.startswith("_")}
    columns = min(len(lines), 2 * len(mixes))  # what the width has room for
    handles, titles = list(lines.values()), list(lines)
    look = {"ncols": columns, "frameon": False, "fontsize": 8}
    figure.legend(handles, titles, loc="outside upper center", **look)
    save_figure(path, figure, 110)
