"""Ground truth of the reach-avoid task: what any policy can achieve, by dynamic programming.

The tables of :mod:`go2_sevpo.envs.reach_avoid.tables` are computed once and cached.
:func:`certify` turns them into facts: it drives from every start in the real dynamics, greedily on
the table.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Callable, Dict

import torch
from safetensors.torch import load_file, save_file

from go2_sevpo.envs.reach_avoid import task
from go2_sevpo.envs.reach_avoid.tables import (
    HOLD,
    UNREACHABLE,
    Resolution,
    fine_controls,
    hold,
    look_up_symmetric,
    solve_reach,
    solve_violation,
    solve_violation_4d,
    symmetric,
)
from go2_sevpo.runs.files import atomic_path


class Truth:
    """The tables with interpolation and greedy control."""

    def __init__(self, tables: Dict[str, torch.Tensor]) -> None:
        self.reach = tables["reach"]  # (V, H, X, Y)
        self.violation = tables["violation"]  # (D, V, H)
        self.violation_4d = tables["violation_4d"]  # (V, H, X, Y)

    def least_violation(self, state: torch.Tensor) -> torch.Tensor:
        """Estimated least steps in the hazard from states (..., 4)."""
        return look_up_symmetric(self.violation, symmetric(state))

    def least_violation_4d(self, state: torch.Tensor) -> torch.Tensor:
        """The same from the coarser lattice."""
        return self._look_up(self.violation_4d, state)

    def steps_to_goal(self, state: torch.Tensor) -> torch.Tensor:
        """Estimated least steps to the goal without violation; above 300 where there is no way."""
        return self._look_up(self.reach, state)

    @staticmethod
    def _look_up(table: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """The (V, H, X, Y) table at states (..., 4), multilinear; the worst value off the map."""
        speeds, headings, cells, _ = table.shape
        x, y, v, theta = state.unbind(-1)
        places = [
            v / task.MAX_SPEED * (speeds - 1),
            (theta + math.pi) / (2 * math.pi) * headings,
            (x + task.BOUND) / (2 * task.BOUND) * (cells - 1),
            (y + task.BOUND) / (2 * task.BOUND) * (cells - 1),
        ]
        at = torch.stack(places, -1)  # (..., 4), in cells
        low = at.floor().long()
        part = at - low
        total = torch.zeros_like(x)
        # The 16 corners of the cell, each weighed by the product of the parts towards it.
        for corner in range(16):
            bits = torch.tensor([(corner >> k) & 1 for k in range(4)])
            index = low + bits
            weight = torch.where(bits.bool(), part, 1 - part).prod(-1)
            i = index[..., 0].clamp(0, speeds - 1)
            j = index[..., 1] % headings  # the seam
            a, b = index[..., 2].clamp(0, cells - 1), index[..., 3].clamp(0, cells - 1)
            total = total + weight * table[i, j, a, b]
        return torch.where(task.outside(state), torch.full_like(total, UNREACHABLE), total)

    def greedy(self, state: torch.Tensor, goal: bool) -> torch.Tensor:
        """Actions (B, 2), one decision ahead on the tables, from states (B, 4).

        Towards the ``goal`` without violation, or with the least violation.
        """
        actions = fine_controls()  # (A, 2)
        wide = state[:, None].expand(-1, len(actions), -1)  # (B, A, 4)
        path = hold(wide, actions.expand(len(state), -1, -1))
        cost = torch.stack([task.in_hazard(p).float() for p in path]).sum(0)  # (B, A)
        left = torch.stack([task.outside(p) for p in path]).any(0)
        score = self.least_violation(path[-1]) + cost + UNREACHABLE * left.float()
        if goal:
            arrived = torch.stack([task.at_goal(p) for p in path]).float()  # (4, B, A)
            # Steps to the goal: within this decision, or this decision and what the table says.
            within, beyond = arrived.argmax(0).float() + 1, HOLD + self.steps_to_goal(path[-1])
            first = torch.where(arrived.sum(0) > 0, within, beyond)
            score = first + UNREACHABLE * ((cost > 0) | left).float()
        return actions[score.argmin(1)]


def load_truth(
    cache: Path,
    resolution: Resolution = Resolution(),  # noqa: B008 - frozen
    say: Callable[[str], None] = print,
) -> Truth:
    """The tables from ``cache``, solved and stored there if missing.

    ``say`` gets a line of progress now and then.
    """
    if not cache.is_file():
        tables = {  # half precision loses less than the grid does
            "violation": solve_violation(resolution, say).half(),
            "violation_4d": solve_violation_4d(resolution, say).half(),
            "reach": solve_reach(resolution, say).half(),
        }
        with atomic_path(cache) as temporary:
            save_file(tables, str(temporary))
    return Truth({k: v.float() for k, v in load_file(str(cache)).items()})


def certify(truth: Truth, starts: torch.Tensor, goal: bool) -> Dict[str, torch.Tensor]:
    """Drive greedily from ``starts`` (B, 4) in the real dynamics, to the ``goal`` or out of danger.

    Returns ``cost``, ``success``, ``left`` (the map) and ``steps``, each (B,).

    What is achieved here is achievable: a proof that a start is feasible, and an upper bound of the
    least violation.
    """
    env = task.ReachAvoid(len(starts), auto_reset=False)
    env.reset(starts)
    cost, steps = torch.zeros(len(starts)), torch.zeros(len(starts))
    alive = torch.ones(len(starts), dtype=torch.bool)
    success, left = torch.zeros_like(alive), torch.zeros_like(alive)
    for _ in range(task.MAX_STEPS):
        action = truth.greedy(env.state, goal)
        _, _, step_cost, terminated, _, info = env.step(action)
        cost, steps = cost + step_cost * alive, steps + alive.float()
        success, left = success | (info["success"] & alive), left | (info["left"] & alive)
        alive &= ~terminated
        if not goal:
            # Nothing more can happen to a world that is out of danger.
            alive &= truth.least_violation(env.state) > 1e-3
        if not bool(alive.any()):
            break
    return {"cost": cost, "success": success, "left": left, "steps": steps}


def feasible_starts(truth: Truth, n: int, seed: int) -> torch.Tensor:
    """States (n, 4), random, from where the table knows a way to the goal without violation."""
    generator, found, count = torch.Generator().manual_seed(seed), [], 0
    while count < n:
        states = task.random_states(4096, generator)
        states = states[truth.steps_to_goal(states) <= task.MAX_STEPS]
        found.append(states)
        count += len(states)
    return torch.cat(found)[:n]
