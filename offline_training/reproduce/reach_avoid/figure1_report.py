"""Table and pictures of Figure 1 and Figure 5."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Tuple

import h5py
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch

from go2_sevpo import metrics
from go2_sevpo.envs.reach_avoid import play, task
from go2_sevpo.envs.reach_avoid.truth import Truth
from go2_sevpo.envs.seeds import REACH_AVOID_PLAY
from go2_sevpo.policies.torch_policy import DiffusionPolicy, Policy
from go2_sevpo.runs.files import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from go2_sevpo.offline_training.reproduce.reach_avoid.figure1_settings import Figure1

NAMES = {
    "sevpo": "SEVPO",
    "fisor": "FISOR",
    "bc-safe": "cloning, safe episodes",
    "cpq": "CPQ",
    "coptidice": "COptiDICE",
    "bc-choice": "cloning + Q_c choice",
}


def percent(entry: Dict[str, Any]) -> str:
    """A rate with its interval, in percent."""
    return metrics.percent(entry["rate"], entry["interval"], sign="")


def table(result: Dict[str, Any]) -> str:
    """All evaluations as a Markdown table."""
    settings = result["settings"]
    columns = [
        *("safe:unsafe", "method", "N", "paper start: safe and successful", "feasible: safe"),
        *("feasible: safe and successful", "left the map"),
        "infeasible: violation steps / least",
    ]
    lines = [
        f"`go2-reproduce figure1`: {settings['members']} training seeds, "
        f"per seed {settings['paper_repeats']} episodes from the paper's start, "
        f"{settings['starts']} from feasible and {settings['starts']} from infeasible random "
        "starts. Percent with 95% Wilson intervals over all episodes; "
        "worst seed after the semicolon.",
        "",
        f"| {' | '.join(columns)} |",
        "|---" * len(columns) + "|",
    ]
    for part in result["results"]:
        for key, evaluation in part["evaluations"].items():
            name, n = NAMES[part["algorithm"]], key[1:]
            if part["algorithm"] == "bc-choice" and n == "1":
                name = "cloning, all data"
            cells = [f"{part['ratio']:g}:1", name, n, *_cells(evaluation["summary"])]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Regions learned in the first stage (mean over seeds):", ""]
    lines += [
        "| safe:unsafe | method | feasible starts called safe | infeasible starts called unsafe |",
        "|---|---|---|---|",
    ]
    for part in result["results"]:
        if part["regions"][0]:
            keys = ("feasible_called_safe", "infeasible_called_unsafe")
            means = [100 * np.mean([region[key] for region in part["regions"]]) for key in keys]
            shown = " | ".join(f"{mean:.1f}%" for mean in means)
            lines.append(f"| {part['ratio']:g}:1 | {NAMES[part['algorithm']]} | {shown} |")
    return "\n".join(lines) + "\n"


def _cells(summary: Dict[str, Any]) -> List[str]:
    paper, feasible, infeasible = summary["paper"], summary["feasible"], summary["infeasible"]
    steps, least = infeasible["violations"], infeasible["least"]
    # Behind the rates of success the worst training seed's.
    worst_paper = f"{100 * min(paper['safe_success_by_member']):.0f}"
    worst_feasible = f"{100 * min(feasible['safe_success_by_member']):.1f}"
    return [
        f"{percent(paper['safe_success'])}; {worst_paper}",
        percent(feasible["safe"]),
        f"{percent(feasible['safe_success'])}; {worst_feasible}",
        f"{100 * feasible['left']['rate']:.1f}",
        f"{steps:.2f} / {least:.2f} = {infeasible['ratio']:.2f}",
    ]


def _scene(axis: Axes) -> None:
    """The map with its hazard and its goal."""
    axis.add_patch(plt.Circle((0, 0), task.HAZARD_RADIUS, color="#f4b6c2", zorder=1))
    axis.add_patch(plt.Circle(task.GOAL, task.GOAL_RADIUS, color="#f5a623", zorder=1))
    axis.set_xlim(-task.BOUND, task.BOUND)
    axis.set_ylim(-task.BOUND, task.BOUND)
    axis.set_aspect("equal")
    axis.set_xticks([])
    axis.set_yticks([])


def _density(axis: Axes, folder: Path) -> None:
    """How often the data of a folder visit each place."""
    points = []
    for path in sorted(folder.glob("*.hdf5")):
        with h5py.File(path, "r") as handle:
            points.append(handle["observations"][:, :2])  # (T, 2) positions in m
    xy = np.concatenate(points)
    edges = np.linspace(-task.BOUND, task.BOUND, 81)
    counts, _, _ = np.histogram2d(xy[:, 0], xy[:, 1], bins=(edges, edges))
    image = np.log1p(counts).T  # rows are y
    extent = (-task.BOUND, task.BOUND, -task.BOUND, task.BOUND)
    axis.imshow(image, origin="lower", extent=extent, cmap="viridis", zorder=0)


def draw_densities(folders: Dict[float, Path], out: Path) -> None:
    """Figure 5: where the data of each ratio lie (logarithmic colours)."""
    figure, axes = plt.subplots(1, len(folders), figsize=(3.4 * len(folders), 3.6), squeeze=False)
    for axis, (ratio, folder) in zip(axes[0], folders.items()):
        _density(axis, folder)
        axis.add_patch(plt.Circle((0, 0), task.HAZARD_RADIUS, fill=False, color="white", lw=1.5))
        axis.add_patch(plt.Circle(task.GOAL, task.GOAL_RADIUS, fill=False, color="#f5a623", lw=1.5))
        axis.set_aspect("equal")
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_title(f"safe : unsafe = {ratio:g} : 1", fontsize=10)
    figure.tight_layout()
    save_figure(out, figure, 110)
    plt.close(figure)


def _grid_states(n: int = 121) -> Tuple[np.ndarray, torch.Tensor]:
    """Places in m (n,) and the states (n * n, 4) there, rows of y one after another.

    Speed and heading are those of the paper's start.
    """
    axis = np.linspace(-task.BOUND, task.BOUND, n, dtype=np.float32)
    x, y = np.meshgrid(axis, axis, indexing="xy")
    v, theta = task.PAPER_START[2], task.PAPER_START[3]
    columns = [x.ravel(), y.ravel(), np.full(x.size, v), np.full(x.size, theta)]
    return axis, torch.from_numpy(np.stack(columns, -1).astype(np.float32))


def draw_trajectories(
    args: Figure1,
    truth: Truth,
    starts: play.Starts,
    policies: Dict[Tuple[float, str], List[Policy]],
    out: Path,
) -> None:
    """Figure 1: trajectories at the largest N and region boundaries.

    Ratios are rows, algorithms columns, the data the first. Boundaries are drawn for the paper
    start's speed and heading: the true one dashed, the learned ones solid.

    Args:
        args: the figure's settings.
        truth: for the true boundary.
        starts: where trajectories begin.
        policies: by ratio and algorithm, one for each training seed that is drawn.
        out: the picture.
    """
    names = list(args.algorithms)
    size = (3.0 * (len(names) + 1), 3.1 * len(args.ratios))
    figure, axes = plt.subplots(len(args.ratios), len(names) + 1, figsize=size, squeeze=False)
    places, states = _grid_states()
    shape = (len(places), len(places))
    true_value = truth.least_violation(states).reshape(shape).numpy()
    begin = torch.cat([starts.paper[:3], starts.feasible[:6], starts.infeasible[:3]])
    colours = ["tab:green"] * 3 + ["tab:blue"] * 6 + ["tab:red"] * 3
    for row, ratio in enumerate(args.ratios):
        _density(axes[row][0], args.out / "data" / f"ratio_{ratio:g}")
        _scene(axes[row][0])
        axes[row][0].plot(*task.PAPER_START[:2], "o", color="tab:green", ms=5)
        axes[row][0].set_ylabel(f"safe : unsafe = {ratio:g} : 1", fontsize=10)
        axes[0][0].set_title("data", fontsize=10)
        for column, name in enumerate(names, start=1):
            axis = axes[row][column]
            _scene(axis)
            # Violations are counted in whole steps: 0.5 lies between none and one.
            dashed = {"colors": "k", "linestyles": "--", "linewidths": 0.9}
            axis.contour(places, places, true_value, levels=[0.5], **dashed)
            for k, policy in enumerate(policies[ratio, name]):
                _learned_boundary(axis, policy, places, states)
                seed = REACH_AVOID_PLAY.number(args.seed, 500 + k)
                _, paths = play.play(policy, begin, max(args.candidates), seed, keep_paths=True)
                for path, colour in zip(paths, colours):
                    axis.plot(path[:, 0], path[:, 1], color=colour, lw=0.8, alpha=0.8, zorder=2)
                    axis.plot(*path[0, :2], ".", color=colour, ms=5, zorder=3)
            if row == 0:
                axis.set_title(NAMES[name], fontsize=10)
    v, theta = task.PAPER_START[2], math.degrees(task.PAPER_START[3])
    title = (
        "Green: the paper's start. Blue: feasible, red: infeasible starts. "
        f"Unsafe region at v = {v} m/s, heading {theta:.0f} deg: "
        f"true (dashed), learned (purple). N = {max(args.candidates)}."
    )
    figure.suptitle(title, fontsize=9, y=0.998)
    figure.tight_layout(rect=(0, 0, 1, 0.985))
    save_figure(out, figure, 100)
    plt.close(figure)


def _learned_boundary(axis: Axes, policy: Policy, places: np.ndarray, states: torch.Tensor) -> None:
    """Where a policy's V_c passes its limit, if it has a V_c."""
    if not isinstance(policy, DiffusionPolicy) or policy.cost_value is None:
        return
    with torch.no_grad():
        value = policy.cost_value(policy.normalizer(task.observe(states)))  # (n * n,)
    value = value.reshape(len(places), len(places)).numpy()
    levels = [policy.limit]
    axis.contour(places, places, value, levels=levels, colors="tab:purple", linewidths=0.8)
