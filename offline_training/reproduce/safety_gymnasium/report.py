"""Tables 1 to 4 as Markdown."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from go2_sevpo.envs.safety_gymnasium.tasks import find_task, normalised_cost
from go2_sevpo.metrics import percent, wilson

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
    means = values[rng.integers(len(values), size=(draws, len(values)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def scored(rows: List[Dict[str, Any]]) -> Dict[str, Any]:
    """Scores of all members' episodes of one training, and by member."""
    task, limit = find_task(rows[0]["task"]), rows[0]["limit"]
    returns, costs = (
        np.concatenate([r[k] for r in rows]).astype(float) for k in ("returns", "costs")
    )
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
    s = result["settings"]
    generated = sorted({k.split()[0] for k, d in result["data"].items() if not d["dsrl"]})
    lines = [
        f"`{result['command']}`, preset {s['preset']}: {s['members']} training seeds, {s['episodes']} episodes each, last checkpoint. "
        "Reward and cost normalised with DSRL's constants, 95% bootstrap intervals over episodes; safe: cost below 1. Bold: the "
        "safe method with the highest reward. Failure: share of episodes that cost more than the limit (Wilson).",
    ]
    if generated:
        lines += [
            "",
            f"**{', '.join(generated)}: generated data (`go2-dsrl generate`), not DSRL's.** Not comparable with published scores.",
        ]
    sevpo = [r for r in result["rows"] if r["algorithm"] == "sevpo"]
    chosen = {(r["task"], r["choice"]): None for r in sevpo if r["choice"] != "first"}
    if chosen:
        lines += [
            "",
            f"SEVPO among N candidates: {', '.join(f'{choice} on {task}' for task, choice in chosen)}.",
        ]
    reused = Counter(result.get("reused", {}).values())
    for path, count in reused.items():
        lines += [
            "",
            f"Taken from an earlier result, {path} (same data, settings, seeds and number of episodes): {count} of the lines.",
        ]
    if result.get("missing"):
        left = [
            f"{m['task']} {m['mix']} {NAMES.get(m['label'], m['label'])}" for m in result["missing"]
        ]
        lines += ["", f"Not finished: {', '.join(left)}."]
    groups: Dict[Tuple[str, str], Dict[str, List[Dict[str, Any]]]] = {}
    for row in result["rows"]:
        groups.setdefault((row["task"], row["mix"]), {}).setdefault(row["label"], []).append(row)
    columns = ["reward", "cost", "cost by seed", "safe", "greatest cost", "failure"]
    columns = columns[:2] + columns[4:] if worst else columns
    lines += [
        "",
        f"| task | safe:unsafe | method | {' | '.join(columns)} |",
        "|---" * (3 + len(columns)) + "|",
    ]
    for (task, mix), methods in groups.items():
        found = {label: scored(rows) for label, rows in methods.items()}
        safe = {label: f["reward"] for label, f in found.items() if f["safe"]}
        best = max(safe, key=lambda k: safe[k]) if safe else None
        for label, f in found.items():
            title = NAMES.get(label, label)
            lines.append(
                f"| {task} | {mix} | {f'**{title}**' if label == best else title} | {' | '.join(_cells(f, worst))} |"
            )
    return "\n".join(lines) + "\n"


def _cells(f: Dict[str, Any], worst: bool) -> List[str]:
    def interval(name: str) -> str:
        low, high = f[f"{name}_interval"]
        return f"{f[name]:.2f} [{low:.2f}, {high:.2f}]"

    failure = percent(f["failure_rate"], f["failure_interval"], 0)
    scores = [interval("reward"), interval("cost")]
    if worst:
        return [*scores, f"{f['cost_max']:.0f}", failure]
    by_member = ", ".join(f"{x:.2f}" for x in f["cost_by_member"])
    return [*scores, by_member, "yes" if f["safe"] else "no", f"{f['cost_max']:.0f}", failure]


Curve = Tuple[str, str, str, List[Dict[str, float]]]
"""Task, mix, label and the rows of :func:`go2_sevpo.offline_training.evaluation.best.read_curve`."""


def draw_curves(curves: List[Curve], limits: Sequence[float], path: Path) -> None:
    """Return and cost along every training (Figure 11), mean over training seeds; two rows per
    task, a column per mix; limits dashed.
    """
    from matplotlib.figure import Figure

    tasks, mixes = (
        list(dict.fromkeys(c[0] for c in curves)),
        list(dict.fromkeys(c[1] for c in curves)),
    )
    labels = list(dict.fromkeys(c[2] for c in curves))
    figure = Figure(figsize=(3.4 * len(mixes), 2.3 * 2 * len(tasks) + 0.4), layout="constrained")
    axes = figure.subplots(2 * len(tasks), len(mixes), squeeze=False)
    for task, mix, label, rows in curves:
        for k, key in enumerate(("return", "cost")):
            axis = axes[2 * tasks.index(task) + k][mixes.index(mix)]
            axis.set_title(f"{task}, {mix}: {key}", fontsize=9)
            if key == "cost":
                for limit in limits:
                    axis.axhline(limit, color="black", linestyle="--", linewidth=0.7)
            steps = sorted({r["step"] for r in rows})
            if steps:
                # Shares of the training, since the methods' steps differ.
                x = [s / steps[-1] for s in steps]
                y = [np.mean([r[key] for r in rows if r["step"] == s]) for s in steps]
                axis.plot(
                    x,
                    y,
                    color=f"C{labels.index(label)}",
                    marker=".",
                    markersize=3,
                    label=NAMES.get(label, label),
                )
    for axis in axes[1::2].flat:
        axis.set_yscale("symlog", linthresh=10.0)
    for axis in axes[-1]:
        axis.set_xlabel("share of the training", fontsize=8)
    lines = {
        line.get_label(): line
        for axis in axes.flat
        for line in axis.get_lines()
        if not line.get_label().startswith("_")
    }
    columns = min(len(lines), 2 * len(mixes))  # what the width has room for
    figure.legend(
        list(lines.values()),
        list(lines),
        loc="outside upper center",
        ncols=columns,
        frameon=False,
        fontsize=8,
    )
    figure.savefig(str(path), dpi=110)
