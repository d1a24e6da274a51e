"""Table and picture of Figure 2 and Theorem 4."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np


def _entry(found: Any) -> str:
    return "infeasible" if found is None else f"{found['p']:.2f}, {found['cost']:.2f}"


def table(result: Dict[str, Any]) -> str:
    """The example and the theorem's counts as Markdown."""
    lines = ["From s2, solved exactly: p = pi(a5 | s2) and V_c(s2).", ""]
    lines += ["| limit l | epsilon | Eq. 4: p, V_c | Eq. 5: p, V_c |", "|---|---|---|---|"]
    for row in result["example"]:
        if round(row["epsilon"] * 20) % 5 == 0:
            lines.append(
                f"| {row['limit']:g} | {row['epsilon']:.2f} | {_entry(row['eq4'])} | {_entry(row['eq5'])} |"
            )
    t, s = result["theorem4"], result["settings"]
    lines += [
        "",
        f"Theorem 4 on {s['mdps']} random MDPs ({s['states']} states, {s['actions']} actions, discount 0.9), from every state:",
        "",
        "| | states | Eq. 4 feasible | Eq. 5 feasible |",
        "|---|---|---|---|",
        f"| safe (least V_c <= l) | {t['safe_states']} | {t['safe_eq4_feasible']} | {t['safe_eq5_feasible']} |",
        f"| unsafe | {t['unsafe_states']} | {t['unsafe_eq4_feasible']} | {t['unsafe_states']} |",
        "",
        f"Where Eq. 4 has a solution, Eq. 5's reward is never lower (largest shortfall {t['worst']['reward']:.1e}; {t['violations']} "
        f"violations), higher in {t['better']} of {t['safe_eq4_feasible']} cases, by {t['gain_mean']:.3f} on average and "
        f"{t['gain_max']:.3f} at most. Its cost exceeds l by at most {t['worst']['cost']:.1e}; from unsafe states it exceeds the least "
        f"cost by at most {t['worst']['unsafe_cost']:.1e}.",
        "",
        f"In {t['safe_states'] - t['safe_eq5_feasible']} safe states Eq. 5 is infeasible as well: the limit can be kept there, but not "
        "within epsilon of the behaviour policy. The theorem is silent about them, because it compares with a solution of Eq. 4.",
    ]
    return "\n".join(lines) + "\n"


def _graph(axis: Any) -> None:
    places = {"s1": (0, 1), "s2": (1, 2), "s3": (1, 0), "s4": (2, 2), "s5": (3, 1)}
    arrows = [
        ("s1", "s2", ""),
        ("s1", "s3", ""),
        ("s2", "s5", "a4"),
        ("s2", "s4", "a5"),
        ("s3", "s5", ""),
        ("s4", "s5", ""),
    ]
    for a, b, text in arrows:
        start, end = np.array(places[a], float), np.array(places[b], float)
        direction = (end - start) / np.linalg.norm(end - start)
        axis.annotate(
            "", end - 0.24 * direction, start + 0.24 * direction, arrowprops={"arrowstyle": "->"}
        )
        axis.text(*((start + end) / 2 + np.array([0, 0.08])), text, fontsize=9)
    for name, (x, y) in places.items():
        costly = name in ("s2", "s4")
        axis.add_patch(
            plt.Circle((x, y), 0.22, facecolor="#f4b6c2" if costly else "#d5e8d4", edgecolor="k")
        )
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
    for limit, colour in (
        (0.5, "tab:green"),
        (1.0, "tab:red"),
        (1.5, "tab:orange"),
        (2.0, "tab:blue"),
    ):
        for name, style in (("eq4", "-"), ("eq5", "--")):
            rows = [r for r in result["example"] if r["limit"] == limit and r[name] is not None]
            label = f"{'Eq. 4' if name == 'eq4' else 'Eq. 5'}, l = {limit:g}"
            axes[1].plot(
                [r["epsilon"] for r in rows],
                [r[name]["p"] for r in rows],
                style,
                marker=".",
                color=colour,
                label=label,
            )
    axes[1].set_xlabel("epsilon")
    axes[1].set_ylabel("p = pi(a5 | s2), where feasible")
    axes[1].legend(fontsize=7)
    gains = np.array(result["theorem4"]["gains"])
    axes[2].hist(gains, bins=40, color="tab:blue")
    axes[2].set_xlabel("V_r of Eq. 5 minus V_r of Eq. 4")
    axes[2].set_ylabel("safe states of random MDPs")
    figure.tight_layout()
    figure.savefig(out, dpi=100)
    plt.close(figure)
