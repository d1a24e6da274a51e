"""Ground truth of the reach-avoid task: what any policy can achieve, by dynamic programming.

Two tables, each computed once and cached:

- ``reach`` on the 4-D lattice (x, y, v, theta): the least number of steps to the goal without a step in the hazard or
  off the map (infinite where there is none). Decisions last 4 steps; accelerations {-1, 0, 1} and
  angular velocities in fifths of the range move speed and heading by whole cells, so only x and y
  are interpolated.
- ``violation``: the least number of steps in the hazard. Map bounds play no part near the hazard, and the hazard is a
  disc at the origin, so the 4-D problem has an exact rotational symmetry: three numbers (distance,
  speed, heading relative to the centre) are enough and the grid can be fine. ``violation_4d`` is
  the same on the lattice, to measure the discretisation error.

Both restrict controls, so true optima are a little better; interpolation errs to either side.
:func:`certify` turns tables into facts: it drives from every start in the real dynamics, greedily
on the table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import torch
from safetensors.torch import load_file, save_file

from go2_sevpo.envs.reach_avoid import task
from go2_sevpo.runs.files import atomic_path

HOLD = 4
"""Steps per decision."""
UNREACHABLE = 1000.0
"""Value for "never" in tables; anything above 300 steps counts as such."""


@dataclass(frozen=True)
class Resolution:
    """Grid sizes: lattice (x and y, speed, heading) and symmetric grid (distance, speed, relative
    heading).
    """

    cells: int = 121
    speeds: int = 11
    headings: int = 64
    distances: int = 241
    fine_speeds: int = 41
    fine_headings: int = 121


def _controls(resolution: Resolution) -> torch.Tensor:
    """Actions (A, 2) that move the lattice by whole cells in ``HOLD`` steps.

    Raises:
        ValueError: cells so large that none does.
    """
    turn = 2 * math.pi / resolution.headings / (HOLD * task.DT)
    fraction = int(1.0 / turn + 1e-6)
    push = task.MAX_SPEED / (resolution.speeds - 1) / (HOLD * task.DT)
    thrust = int(1.0 / push + 1e-6)
    if not fraction or not thrust:
        raise ValueError(
            f"{resolution.speeds} speeds and {resolution.headings} headings are too few: full control must move a whole "
            f"cell in {HOLD} steps; expected at least 11 and 32"
        )
    turns = [k * turn for k in range(-fraction, fraction + 1)]
    pushes = [k * push for k in range(-thrust, thrust + 1)]
    return torch.tensor([[a, w] for a in pushes for w in turns])


def _hold(state: torch.Tensor, action: torch.Tensor) -> List[torch.Tensor]:
    """The states after each of ``HOLD`` steps under one action."""
    states = []
    for _ in range(HOLD):
        state = task.advance(state, action)
        states.append(state)
    return states


class _Lattice:
    """Backups on the 4-D lattice: values (V, H, X, Y), one constant displacement per speed, heading
    and action.
    """

    def __init__(self, resolution: Resolution) -> None:
        r = self.resolution = resolution
        axis = torch.linspace(-task.BOUND, task.BOUND, r.cells)
        self.cell = float(axis[1] - axis[0])
        self.positions = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
        self.speeds = torch.linspace(0.0, task.MAX_SPEED, r.speeds)
        self.headings = torch.arange(r.headings) * 2 * math.pi / r.headings - math.pi
        self.controls = _controls(r)

    def moves(self) -> List[Tuple[int, int, int, int, List[torch.Tensor]]]:
        """(speed, heading, next speed, next heading, offsets (2,) after each step) for every
        control.
        """
        r, result = self.resolution, []
        for i in range(r.speeds):
            for j in range(r.headings):
                start = torch.tensor([0.0, 0.0, float(self.speeds[i]), float(self.headings[j])])
                for control in self.controls:
                    path = _hold(start, control)
                    di = round(float(path[-1][2]) / float(self.speeds[1]))
                    dj = (
                        round((float(path[-1][3]) + math.pi) / (2 * math.pi / r.headings))
                        % r.headings
                    )
                    result.append((i, j, di, dj, [p[:2] for p in path]))
        return result

    def shift(self, values: torch.Tensor, offset: torch.Tensor, fill: float) -> torch.Tensor:
        """Bilinear interpolation of (X, Y) values at positions + offset; ``fill`` beyond the map."""
        n, width = self.resolution.cells, int(task.MAX_SPEED * HOLD * task.DT / self.cell) + 2
        padded = torch.nn.functional.pad(values, (width,) * 4, value=fill)
        u, v = float(offset[0]) / self.cell, float(offset[1]) / self.cell
        a, b = math.floor(u), math.floor(v)
        fu, fv = u - a, v - b
        a, b = a + width, b + width
        out = padded[a : a + n, b : b + n] * ((1 - fu) * (1 - fv))
        for da, db, w in ((1, 0, fu * (1 - fv)), (0, 1, (1 - fu) * fv), (1, 1, fu * fv)):
            if w > 1e-9:
                out = out + w * padded[a + da : a + da + n, b + db : b + db + n]
        return out


def solve_reach(resolution: Resolution, say: Callable[[str], None] = print) -> torch.Tensor:
    """Least steps to the goal without violation, (V, H, X, Y); above 300 means never."""
    lattice = _Lattice(resolution)
    moves = lattice.moves()
    goal = (lattice.positions - torch.tensor(task.GOAL)).norm(dim=-1) <= task.GOAL_RADIUS
    inside = lattice.positions.norm(dim=-1) < task.HAZARD_RADIUS
    blocked = []
    for *_, path in moves:
        bad = torch.zeros_like(inside)
        for offset in path:
            at = lattice.positions + offset
            bad |= (at.norm(dim=-1) < task.HAZARD_RADIUS) | (at.abs() > task.BOUND).any(-1)
        blocked.append(bad)
    shape = (resolution.speeds, resolution.headings, resolution.cells, resolution.cells)
    values = torch.full(shape, UNREACHABLE)
    values[:, :, goal] = 0.0
    for sweep in range(task.MAX_STEPS // HOLD):
        new = values.clone()
        for (i, j, di, dj, path), bad in zip(moves, blocked):
            step = HOLD + lattice.shift(values[di, dj], path[-1], UNREACHABLE)
            step[bad] = UNREACHABLE
            torch.minimum(new[i, j], step, out=new[i, j])
        new[:, :, inside & ~goal] = torch.minimum(new, torch.tensor(UNREACHABLE))[
            :, :, inside & ~goal
        ]
        new[:, :, goal] = 0.0
        change = float((new - values).abs().max())
        values = new
        say(f"reach: sweep {sweep + 1}, change {change:.2f}")
        if change < 0.05:
            break
    return values.clamp(max=UNREACHABLE)


def solve_violation_4d(resolution: Resolution, say: Callable[[str], None] = print) -> torch.Tensor:
    """Least steps in the hazard without leaving the map, (V, H, X, Y)."""
    lattice = _Lattice(resolution)
    moves = lattice.moves()
    costs = []
    for *_, path in moves:
        costs.append(
            sum(((lattice.positions + o).norm(dim=-1) < task.HAZARD_RADIUS).float() for o in path)
        )
    shape = (resolution.speeds, resolution.headings, resolution.cells, resolution.cells)
    values = torch.zeros(shape)
    for sweep in range(task.MAX_STEPS // HOLD):
        new = torch.full(shape, UNREACHABLE)
        for (i, j, di, dj, path), cost in zip(moves, costs):
            torch.minimum(
                new[i, j],
                cost + lattice.shift(values[di, dj], path[-1], UNREACHABLE),
                out=new[i, j],
            )
        change = float((new - values).clamp(max=100.0).abs().max())
        values = new.clamp(max=UNREACHABLE)
        say(f"violation on the lattice: sweep {sweep + 1}, change {change:.2f}")
        if change < 0.01:
            break
    return values


def _symmetric(state: torch.Tensor) -> torch.Tensor:
    """(distance, speed, heading relative to the centre in [0, pi]) of states (..., 4)."""
    x, y, v, theta = state.unbind(-1)
    relative = torch.atan2(
        torch.sin(theta - torch.atan2(-y, -x)), torch.cos(theta - torch.atan2(-y, -x))
    )
    return torch.stack([torch.hypot(x, y), v, relative.abs()], -1)


def _look_up_symmetric(table: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Trilinear interpolation of the (D, V, H) table at points (..., 3)."""
    scale = torch.tensor([math.sqrt(2.0) * task.BOUND, task.MAX_SPEED, math.pi])
    grid = (points / scale * 2.0 - 1.0).flip(-1).reshape(1, 1, 1, -1, 3)
    found = torch.nn.functional.grid_sample(
        table[None, None], grid, mode="bilinear", padding_mode="border", align_corners=True
    )
    return found.reshape(points.shape[:-1])


def solve_violation(resolution: Resolution, say: Callable[[str], None] = print) -> torch.Tensor:
    """Least steps in the hazard on the symmetric grid (D, V, H)."""
    r = resolution
    axes = (
        torch.linspace(0.0, math.sqrt(2.0) * task.BOUND, r.distances),
        torch.linspace(0.0, task.MAX_SPEED, r.fine_speeds),
        torch.linspace(0.0, math.pi, r.fine_headings),
    )
    distance, speed, heading = torch.meshgrid(*axes, indexing="ij")
    # A representative to the left of the centre, which then lies in direction 0.
    state = torch.stack([-distance, torch.zeros_like(distance), speed, heading], -1)
    nexts = []
    for action in fine_controls():
        path = _hold(state, action)
        nexts.append((_symmetric(path[-1]), sum(task.in_hazard(p).float() for p in path)))
    values = torch.zeros(distance.shape)
    for sweep in range(task.MAX_STEPS // HOLD):
        new = torch.full_like(values, UNREACHABLE)
        for point, cost in nexts:
            new = torch.minimum(new, cost + _look_up_symmetric(values, point))
        change = float((new - values).abs().max())
        values = new
        if sweep % 10 == 9 or change < 0.01:
            say(f"violation: sweep {sweep + 1}, change {change:.3f}")
        if change < 0.01:
            break
    return values


def fine_controls() -> torch.Tensor:
    """Actions (15, 2): three accelerations, five angular velocities."""
    return torch.tensor([[a, w] for a in (-1.0, 0.0, 1.0) for w in (-1.0, -0.5, 0.0, 0.5, 1.0)])


class Truth:
    """The tables with interpolation and greedy control."""

    def __init__(self, tables: Dict[str, torch.Tensor]) -> None:
        self.reach, self.violation, self.violation_4d = (
            tables[k] for k in ("reach", "violation", "violation_4d")
        )

    def least_violation(self, state: torch.Tensor) -> torch.Tensor:
        """Estimated least steps in the hazard from states (..., 4)."""
        return _look_up_symmetric(self.violation, _symmetric(state))

    def least_violation_4d(self, state: torch.Tensor) -> torch.Tensor:
        """The same from the coarser lattice."""
        return self._look_up(self.violation_4d, state)

    def steps_to_goal(self, state: torch.Tensor) -> torch.Tensor:
        """Estimated least steps to the goal without violation; above 300 where there is no way."""
        return self._look_up(self.reach, state)

    @staticmethod
    def _look_up(table: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """Interpolation over all four coordinates; the worst value off the map."""
        speeds, headings, cells, _ = table.shape
        x, y, v, theta = state.unbind(-1)
        at = torch.stack(
            [
                v / task.MAX_SPEED * (speeds - 1),
                (theta + math.pi) / (2 * math.pi) * headings,
                (x + task.BOUND) / (2 * task.BOUND) * (cells - 1),
                (y + task.BOUND) / (2 * task.BOUND) * (cells - 1),
            ],
            -1,
        )
        low = at.floor().long()
        part = at - low
        total = torch.zeros_like(x)
        for corner in range(16):
            bits = torch.tensor([(corner >> k) & 1 for k in range(4)])
            index = low + bits
            weight = torch.where(bits.bool(), part, 1 - part).prod(-1)
            i = index[..., 0].clamp(0, speeds - 1)
            j = index[..., 1] % headings
            a, b = index[..., 2].clamp(0, cells - 1), index[..., 3].clamp(0, cells - 1)
            total = total + weight * table[i, j, a, b]
        return torch.where(task.outside(state), torch.full_like(total, UNREACHABLE), total)

    def greedy(self, state: torch.Tensor, goal: bool) -> torch.Tensor:
        """Actions (B, 2): towards the goal without violation, or the least violation, one decision
        ahead.
        """
        actions = fine_controls()
        wide = state[:, None].expand(-1, len(actions), -1)
        path = _hold(wide, actions.expand(len(state), -1, -1))
        cost = sum(task.in_hazard(p).float() for p in path)
        left = sum(task.outside(p).float() for p in path) > 0
        score = self.least_violation(path[-1]) + cost + UNREACHABLE * left.float()
        if goal:
            arrived = torch.stack([task.at_goal(p) for p in path]).float()
            first = torch.where(
                arrived.sum(0) > 0,
                arrived.argmax(0).float() + 1,
                HOLD + self.steps_to_goal(path[-1]),
            )
            score = first + UNREACHABLE * ((cost > 0) | left).float()
        return actions[score.argmin(1)]


def load_truth(
    cache: Path, resolution: Resolution = Resolution(), say: Callable[[str], None] = print
) -> Truth:
    """The tables from ``cache``, solved and stored there if missing."""
    if not cache.is_file():
        tables = {
            "violation": solve_violation(resolution, say).half(),
            "violation_4d": solve_violation_4d(resolution, say).half(),
            "reach": solve_reach(resolution, say).half(),
        }
        with atomic_path(cache) as temporary:
            save_file(tables, str(temporary))
    return Truth({k: v.float() for k, v in load_file(str(cache)).items()})


def certify(truth: Truth, starts: torch.Tensor, goal: bool) -> Dict[str, torch.Tensor]:
    """Drive greedily from ``starts`` (B, 4) in the real dynamics: ``cost`` (B,), ``success`` (B,),
    ``left`` (B,), ``steps``.

    What is achieved here is achievable: a proof that a start is feasible, and an upper bound of the
    least violation.
    """
    env = task.ReachAvoid(len(starts), auto_reset=False)
    env.reset(starts)
    cost, alive = torch.zeros(len(starts)), torch.ones(len(starts), dtype=torch.bool)
    success, left, steps = (
        torch.zeros_like(alive),
        torch.zeros_like(alive),
        torch.zeros(len(starts)),
    )
    for _ in range(task.MAX_STEPS):
        action = truth.greedy(env.state, goal)
        _, _, c, terminated, _, info = env.step(action)
        cost, steps = cost + c * alive, steps + alive.float()
        success, left = success | (info["success"] & alive), left | (info["left"] & alive)
        alive &= ~terminated
        if not goal:
            # Nothing more can happen to a world that is out of danger.
            alive &= truth.least_violation(env.state) > 1e-3
        if not bool(alive.any()):
            break
    return {"cost": cost, "success": success, "left": left, "steps": steps}


def feasible_starts(truth: Truth, n: int, seed: int) -> torch.Tensor:
    """``n`` random states from where the table knows a way to the goal without violation."""
    generator, found, count = torch.Generator().manual_seed(seed), [], 0
    while count < n:
        states = task.random_states(4096, generator)
        states = states[truth.steps_to_goal(states) <= task.MAX_STEPS]
        found.append(states)
        count += len(states)
    return torch.cat(found)[:n]
