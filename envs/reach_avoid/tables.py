"""Dynamic programming over the reach-avoid task: the tables behind the ground truth.

- ``reach`` on the 4-D lattice (x, y, v, theta): the least number of steps to the goal without a
  step in the hazard or off the map (infinite where there is none). Decisions last 4 steps;
  accelerations {-1, 0, 1} and angular velocities in fifths of the range move speed and heading by
  whole cells, so only x and y are interpolated.
- ``violation``: the least number of steps in the hazard. Map bounds play no part near the hazard,
  and the hazard is a disc at the origin, so the 4-D problem has an exact rotational symmetry: three
  numbers (distance, speed, heading relative to the centre) are enough and the grid can be fine.
  ``violation_4d`` is the same on the lattice, to measure the discretisation error.

Both restrict controls, so true optima are a little better; interpolation errs to either side.
Letters of shapes: V speeds, H headings, X and Y cells of the lattice, D distances.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable, List, NamedTuple

import torch

from go2_sevpo.envs.reach_avoid import task

HOLD = 4
"""Steps per decision."""
UNREACHABLE = 1000.0
"""Value for "never" in tables; anything above 300 steps counts as such."""


@dataclass(frozen=True)
class Resolution:
    """Grid sizes of the lattice and of the symmetric grid."""

    cells: int = 121
    """Of x and of y each."""
    speeds: int = 11
    headings: int = 64
    distances: int = 241
    fine_speeds: int = 41
    fine_headings: int = 121
    """Headings relative to the centre, over half a turn."""


def _controls(resolution: Resolution) -> torch.Tensor:
    """Actions (A, 2) that move the lattice by whole cells in ``HOLD`` steps.

    Raises:
        ValueError: cells so large that none does.
    """
    # Angular velocity and acceleration that move by one cell; multiples up to full control.
    turn = 2 * math.pi / resolution.headings / (HOLD * task.DT)
    fraction = int(1.0 / turn + 1e-6)
    push = task.MAX_SPEED / (resolution.speeds - 1) / (HOLD * task.DT)
    thrust = int(1.0 / push + 1e-6)
    if not fraction or not thrust:
        raise ValueError(
            f"{resolution.speeds} speeds and {resolution.headings} headings are too few: full "
            f"control must move a whole cell in {HOLD} steps; expected at least 11 and 32"
        )
    turns = [k * turn for k in range(-fraction, fraction + 1)]
    pushes = [k * push for k in range(-thrust, thrust + 1)]
    return torch.tensor([[a, w] for a in pushes for w in turns])


def hold(state: torch.Tensor, action: torch.Tensor) -> List[torch.Tensor]:
    """The states (..., 4) after each of ``HOLD`` steps under one action (..., 2)."""
    states = []
    for _ in range(HOLD):
        state = task.advance(state, action)
        states.append(state)
    return states


class _Move(NamedTuple):
    """One control at one speed and heading of the lattice."""

    speed: int
    heading: int
    next_speed: int
    next_heading: int
    path: List[torch.Tensor]  # displacements (2,), m, after each step


class _Lattice:
    """Backups on the 4-D lattice, values (V, H, X, Y).

    Speed, heading and control decide the displacement, whatever the position.
    """

    def __init__(self, resolution: Resolution) -> None:
        r = self.resolution = resolution
        # (X, Y, 2) positions, (V,) speeds, (H,) headings without the seam twice, (A, 2) controls
        axis = torch.linspace(-task.BOUND, task.BOUND, r.cells)
        self.cell = float(axis[1] - axis[0])
        self.positions = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
        self.speeds = torch.linspace(0.0, task.MAX_SPEED, r.speeds)
        self.headings = torch.arange(r.headings) * 2 * math.pi / r.headings - math.pi
        self.controls = _controls(r)

    def moves(self) -> List[_Move]:
        """What every control does from the origin at every speed and heading, V H A moves."""
        turn = 2 * math.pi / self.resolution.headings
        result: List[_Move] = []
        for i, speed in enumerate(self.speeds.tolist()):
            for j, heading in enumerate(self.headings.tolist()):
                start = torch.tensor([0.0, 0.0, speed, heading])
                for control in self.controls:
                    path = hold(start, control)
                    # Whole cells by construction; rounding takes off float32's error.
                    next_i = round(float(path[-1][2]) / float(self.speeds[1]))
                    next_j = round((float(path[-1][3]) + math.pi) / turn) % len(self.headings)
                    result.append(_Move(i, j, next_i, next_j, [p[:2] for p in path]))
        return result

    def shift(self, values: torch.Tensor, offset: torch.Tensor, fill: float) -> torch.Tensor:
        """Values (X, Y) at positions + offset (2,), m, bilinear; ``fill`` beyond the map.

        All positions move alike, so the interpolation is a sum of four shifted copies.
        """
        # The margin holds the longest way of one decision.
        n, width = self.resolution.cells, int(task.MAX_SPEED * HOLD * task.DT / self.cell) + 2
        padded = torch.nn.functional.pad(values, (width,) * 4, value=fill)
        u, v = float(offset[0]) / self.cell, float(offset[1]) / self.cell
        a, b = math.floor(u), math.floor(v)
        fu, fv = u - a, v - b
        a, b = a + width, b + width
        out = padded[a : a + n, b : b + n] * ((1 - fu) * (1 - fv))
        for da, db, w in ((1, 0, fu * (1 - fv)), (0, 1, (1 - fu) * fv), (1, 1, fu * fv)):
            if w > 1e-9:  # rounding must not bring in a copy that has no part in it
                out = out + w * padded[a + da : a + da + n, b + db : b + db + n]
        return out


def solve_reach(resolution: Resolution, say: Callable[[str], None] = print) -> torch.Tensor:
    """Least steps to the goal without violation, (V, H, X, Y); above 300 means never."""
    lattice = _Lattice(resolution)
    moves = lattice.moves()
    goal = (lattice.positions - torch.tensor(task.GOAL)).norm(dim=-1) <= task.GOAL_RADIUS
    inside = lattice.positions.norm(dim=-1) < task.HAZARD_RADIUS
    blocked = []  # (X, Y) per move: from where it leads through the hazard or off the map
    for move in moves:
        bad = torch.zeros_like(inside)
        for offset in move.path:
            at = lattice.positions + offset
            bad |= (at.norm(dim=-1) < task.HAZARD_RADIUS) | (at.abs() > task.BOUND).any(-1)
        blocked.append(bad)
    shape = (resolution.speeds, resolution.headings, resolution.cells, resolution.cells)
    values = torch.full(shape, UNREACHABLE)
    values[:, :, goal] = 0.0
    trapped = inside & ~goal
    for sweep in range(task.MAX_STEPS // HOLD):
        # V(s) = min over moves of 4 + V(s'), 0 at the goal
        new = values.clone()
        for move, bad in zip(moves, blocked):
            after = values[move.next_speed, move.next_heading]
            step = HOLD + lattice.shift(after, move.path[-1], UNREACHABLE)
            step[bad] = UNREACHABLE
            here = new[move.speed, move.heading]
            torch.minimum(here, step, out=here)
        new[:, :, trapped] = torch.minimum(new, torch.tensor(UNREACHABLE))[:, :, trapped]
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
    costs = []  # (X, Y) per move: its steps in the hazard
    for move in moves:
        away = [(lattice.positions + offset).norm(dim=-1) for offset in move.path]
        costs.append(torch.stack([(d < task.HAZARD_RADIUS).float() for d in away]).sum(0))
    shape = (resolution.speeds, resolution.headings, resolution.cells, resolution.cells)
    values = torch.zeros(shape)
    for sweep in range(task.MAX_STEPS // HOLD):
        # V(s) = min over moves of c + V(s')
        new = torch.full(shape, UNREACHABLE)
        for move, cost in zip(moves, costs):
            after = values[move.next_speed, move.next_heading]
            here = new[move.speed, move.heading]
            torch.minimum(here, cost + lattice.shift(after, move.path[-1], UNREACHABLE), out=here)
        change = float((new - values).clamp(max=100.0).abs().max())
        values = new.clamp(max=UNREACHABLE)
        say(f"violation on the lattice: sweep {sweep + 1}, change {change:.2f}")
        if change < 0.01:
            break
    return values


def symmetric(state: torch.Tensor) -> torch.Tensor:
    """(distance, speed, heading relative to the centre in [0, pi]) of states (..., 4)."""
    x, y, v, theta = state.unbind(-1)
    turn = theta - torch.atan2(-y, -x)
    relative = torch.atan2(torch.sin(turn), torch.cos(turn))  # within [-pi, pi]; left is right
    return torch.stack([torch.hypot(x, y), v, relative.abs()], -1)


def look_up_symmetric(table: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Trilinear interpolation of the (D, V, H) table at points (..., 3)."""
    scale = torch.tensor([math.sqrt(2.0) * task.BOUND, task.MAX_SPEED, math.pi])
    # grid_sample wants [-1, 1], the last axis first, and a batch, a channel and three dimensions.
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
        path = hold(state, action)
        cost = torch.stack([task.in_hazard(p).float() for p in path]).sum(0)
        nexts.append((symmetric(path[-1]), cost))  # (D, V, H, 3), (D, V, H)
    # From below: zero is no more than the truth, and each sweep adds a decision.
    values = torch.zeros(distance.shape)
    for sweep in range(task.MAX_STEPS // HOLD):
        new = torch.full_like(values, UNREACHABLE)
        for point, cost in nexts:
            new = torch.minimum(new, cost + look_up_symmetric(values, point))
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
