"""When a learning curve has come to rest: the one rule by which every rival's budget is found.

A training ends when the mean of the last five evaluations, over all members, differs from that of
the five before by at most 2% of the task's return range and by at most a quarter of the cost limit;
at the latest at the published number of steps.
"""

from __future__ import annotations

from pathlib import Path

from go2_sevpo.envs.safety_gymnasium.tasks import Task
from go2_sevpo.offline_training.evaluation.best import read_curve

WINDOW = 5
"""Evaluations of which means are compared."""
RETURN_SHARE, COST_SHARE = 0.02, 0.25
"""Of the task's return range and of the cost limit: what counts as no change."""


def settled(run: Path, task: Task, limit: float) -> bool:
    """Whether the curve of a run folder has come to rest; a limit of 0 counts as 1."""
    curve = read_curve(run)
    steps = sorted({point["step"] for point in curve})
    if len(steps) < 2 * WINDOW:
        return False
    bounds = {
        "return": RETURN_SHARE * (task.return_max - task.return_min),
        "cost": COST_SHARE * (limit or 1.0),
    }
    for key, bound in bounds.items():
        means = []
        for part in (steps[-2 * WINDOW : -WINDOW], steps[-WINDOW:]):
            values = [point[key] for point in curve if point["step"] in part]
            means.append(sum(values) / len(values))
        if abs(means[1] - means[0]) > bound:
            return False
    return True
