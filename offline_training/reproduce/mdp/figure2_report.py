"""Table and picture of Figure 2 and Theorem 4."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
from go2_sevpo.runs.files import save_figure


def _entry(found: Optional[Dict[str, float]]) -> str:
    return "infeasible" if found is None else f"{found['p']:.2f}, {found['cost']:.2f}"


def table(result: Dict[str, Any]) -> str:
    """The example and the theorem's counts as Markdown."""
    lines = ["From s2, solved exactly: p = pi(a5 | s2) and V_c(s2).", ""]
    lines += ["| limit l | epsilon | Eq. 4: p, V_c | Eq. 5: p, V_c |", "|---|---|---|---|"]
    for row in result["example"]:
        if round(row["epsilon"] * 20) % 5 == 0:
            entries = f"{_entry(row['eq4'])} | {_entry(row['eq5'])}"
            lines.append(f"| {row['limit']:g} | {row['epsilon']:.2f} | {entries} |")
    counts, settings = result["theorem4"], result["settings"]
    worst = counts["worst"]
    safe = [counts[f"safe_{key}"] for key in ("states", "eq4_feasible", "eq5_feasible")]
    # Eq. 5 always has a solution there.
    unsafe = [counts[f"unsafe_{key}"] for key in ("states", "eq4_feasible", "states")]
    lines += [
        "",
        f"Theorem 4 on {settings['mdps']} random MDPs ({settings['states']} states, "
        f"{settings['actions']} actions, discount 0.9), from every state:",
        "",
        "| | states | Eq. 4 feasible | Eq. 5 feasible |",
        "|---|---|---|---|",
        f"| safe (least V_c <= l) | {' | '.join(map(str, safe))} |",
        f"| unsafe | {' | '.join(map(str, unsafe))} |",
        "",
        "Where Eq. 4 has a solution, Eq. 5's reward is never lower "
        f"(largest shortfall {worst['reward']:.1e}; {counts['violations']} violations), "
        f"higher in {counts['better']} of {counts['safe_eq4_feasible']} cases, "
        f"by {counts['gain_mean']:.3f} on average and {counts['gain_max']:.3f} at most. "
        f"Its cost exceeds l by at most {worst['cost']:.1e}; "
        f"from unsafe states it exceeds the least cost by at most {worst['unsafe_cost']:.1e}.",
        "",
        f"In {counts['safe_states'] - counts['safe_eq5_feasible']} safe states "
        "Eq. 5 is infeasible as well: the limit can be kept there, "
        "but not within epsilon of the behaviour policy. "
        "The theorem is silent about them, because it compares with a solution of Eq. 4.",
    ]
    return "\n".join(lines) + "\n"


def _graph(axis: Axes) -> None:
    """The example's states and arrows, with the names of s2's two actions."""
    places = {"s1": (0, 1), "s2": (1, 2), "s3": (1, 0), "s4": (2, 2), "s5": (3, 1)}
    arrows = [("s1", "s2", ""), ("s1", "s3", ""), ("s2", "s5", "a4"), ("s2", "s4", "a5")]
    arrows += [("s3", "s5", ""), ("s4", "s5", "")]
    for begin, target, text in arrows:
        start, end = np.array(places[begin], float), np.array(places[target], float)
        # From rim to rim of the circles, which have a radius of 0.22.
        gap = 0.24 * (end - start) / np.linalg.norm(end - start)
        axis.annotate("", end - gap, start + gap, arrowprops={"arrowstyle": "->"})
        x, y = (start + end) / 2
        axis.text(x, y + 0.08, text, fontsize=9)
    for name, (x, y) in places.items():
        costly = name in ("s2", "s4")
        colour = "#f4b6c2" if costly else "#d5e8d4"
        axis.add_patch(plt.Circle((x, y), 0.22, facecolor=colour, edgecolor="k"))
        axis.text(x, y, f"{name}\nc={int(costly)}", ha="center", va="center", fontsize=8)
    axis.set_xlim(-0.4, 3.4)
    axis.set_ylim(-0.4, 2.4)
    axis.set_aspect("equal")
    axis.axis("off")
    axis.set_title("the example (rewards 1)", fontsize=10)


def draw(result: Dict[str, Any], out: Path) -> None:
    """The MDP, p over epsilon for both problems, the gains on random MDPs."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.4))
    _graph(axes[0])
    colours = {0.5: "tab:green", 1.0: "tab:red", 1.5: "tab:orange", 2.0: "tab:blue"}
    for limit, colour in colours.items():
        for name, title, style in (("eq4", "Eq. 4", "-"), ("eq5", "Eq. 5", "--")):
            rows = [r for r in result["example"] if r["limit"] == limit and r[name] is not None]
            epsilons, p = [r["epsilon"] for r in rows], [r[name]["p"] for r in rows]
            label = f"{title}, l = {limit:g}"
            axes[1].plot(epsilons, p, style, marker=".", color=colour, label=label)
    axes[1].set_xlabel("epsilon")
    axes[1].set_ylabel("p = pi(a5 | s2), where feasible")
    axes[1].legend(fontsize=7)
    gains = np.array(result["theorem4"]["gains"])
    axes[2].hist(gains, bins=40, color="tab:blue")
    axes[2].set_xlabel("V_r of Eq. 5 minus V_r of Eq. 4")
    axes[2].set_ylabel("safe states of random MDPs")
    figure.tight_layout()
    save_figure(out, figure, 100)
    plt.close(figure)
