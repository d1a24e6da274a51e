"""What a robot would know of its surroundings: a drifting pose, a faulty map, a way without maps.

Version 2 of the task. Odometry starts at the truth and walks away from it; the map is read with a
pose that is some control steps old, in cells, with a part of the drift, with holes and wrong
heights; the way is found from the goal and from the map alone (:data:`WAY_RULE`). Rewards, costs
and falls keep looking at the truth.
"""

from __future__ import annotations

import math
from typing import Dict, NamedTuple, Tuple, Union

import torch

from go2_sevpo.envs.go2.config import ParkourConfig
from go2_sevpo.envs.go2.contacts import CONTACT_THRESHOLD, vertical_forces
from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.terrain import TerrainMaps
from go2_sevpo.envs.go2.observations import (
    FOOT_RING,
    MAP_FIELDS,
    SCAN_CENTRE,
    SCAN_X,
    SCAN_Y,
    Sensed,
)
from go2_sevpo.envs.simulators.base import RobotState

CELL = 0.06
"""Size of the map's cells, m."""
WAY_AHEAD = (0.5, 0.7, 0.9, 1.1)
"""Along the way, m: where the map is asked for the middle of what can be walked on."""
WAY_ASIDE = (-0.8, -0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8)
"""Across it, m, to the left."""
WAY_TARGET = 0.8
"""Along the way, m: where the first waypoint lies."""
WAY_DROP = 0.8
"""Height of the base over the ground, m, from which a point is no ground to walk on."""
UNKNOWN_DROP = 10.0
"""Height of the base over cells that are unknown, m: every scaled value is then at its clip."""
WAY_RULE = (
    "u is the unit vector from the odometry's position at the start to the goal, n the same turned "
    "left by 90 degrees. Points robot + a u + b n, a in ahead, b in aside, whose cell is known and "
    "whose ground is less than drop below the base count; lateral is the mean of their b, 0 if "
    "there are none. The first target is robot + target u + lateral n, the second the goal."
)
_EYE = (0.3, 0.05)
"""Where the map's sensor is: m ahead of the base, and above it."""
_HIDDEN = 0.02
"""Slope by which a line of sight must pass under an edge seen before to be hidden by it."""
_MEMORY = 1.0
"""s, time constant with which the map's drift is forgotten: how long a cell is in view."""
_RENEWAL = 1.0
"""s, mean time after which the drift takes another direction."""
_AGES = 6
"""Poses that are remembered: now and five control steps back."""

Cells = torch.Tensor
"""Heights (rows, columns), m; rows along x."""
Rows = Union[slice, torch.Tensor]


class View(NamedTuple):
    """What K robots see; see :mod:`go2_sevpo.envs.go2.observations` for scales."""

    contact: torch.Tensor  # (K, 4) 0 or 1
    around: torch.Tensor  # (K, 127) waypoints, height scan, foot heights; scaled, not clipped


class RobotView:
    """The faults of N robots' pose and map, with what they carry from step to step.

    ``goals`` (C, 2) are the courses' destinations, m.
    """

    BUFFERS = ("odometry", "error", "rate", "lag", "past", "age", "salt", "faulty", "direction")
    """What belongs into a saved state."""

    def __init__(
        self,
        config: ParkourConfig,
        maps: TerrainMaps,
        goals: torch.Tensor,
        generator: torch.Generator,
    ) -> None:
        n, device = config.num_envs, goals.device
        self.z, self.maps, self.goals, self.generator = config.randomization, maps, goals, generator
        self.odometry = torch.zeros(n, 2, device=device)  # position x, y in its own frame, m
        self.error = torch.zeros(n, 2, device=device)  # of height, m, and yaw, rad
        self.rate = torch.zeros(n, 4, device=device)  # drift of x, y, z per m and of yaw per s
        self.lag = torch.zeros(n, 4, device=device)  # the map's x, y, z, yaw minus the truth
        # True x, y, z, cos and sin of the yaw: now, and one to five control steps ago.
        self.past = torch.zeros(n, _AGES, 5, device=device)
        self.age = torch.zeros(n, dtype=torch.long, device=device)  # control steps
        self.salt = torch.zeros(n, dtype=torch.long, device=device)  # decides holes and outliers
        self.faulty = torch.ones(n, dtype=torch.bool, device=device)
        self.direction = torch.zeros(n, 2, device=device)  # of the way, u in WAY_RULE
        scan = [(x, y) for x in SCAN_X for y in SCAN_Y]
        self._scan = torch.tensor(scan, device=device)  # (85, 2)
        self._ring = torch.tensor([(0.0, 0.0), *FOOT_RING], device=device)  # (9, 2)
        way = [(a, b) for a in WAY_AHEAD for b in WAY_ASIDE]
        self._way = torch.tensor(way, device=device)  # (36, 2)
        ahead = [i for i, x in enumerate(SCAN_X) if x > _EYE[0] + 0.05]
        self._ahead = slice(ahead[0], ahead[-1] + 1)
        self._distance = torch.tensor([SCAN_X[i] - _EYE[0] for i in ahead], device=device)[:, None]

    def _rand(self, *shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=self.generator, device=self.goals.device)

    # ---- from step to step ----

    def start(self, ids: torch.Tensor, course: torch.Tensor, state: RobotState) -> None:
        """Episodes of worlds ``ids`` (K,) on courses (K,) start at ``state`` (K rows)."""
        n = len(ids)
        draws = self._rand(n, 8)
        self.odometry[ids] = state.base_position[:, :2]
        self.error[ids], self.lag[ids] = 0.0, 0.0
        self.rate[ids] = self._rates(draws[:, :4])
        low, high = self.z.map_age_s if self.z.map_age else (0.0, 0.0)
        age = (low + (high - low) * draws[:, 4]) / r.CONTROL_DT
        self.age[ids] = age.round().long().clamp_max(_AGES - 1)
        self.salt[ids] = (draws[:, 5] * 2**20).long()
        self.faulty[ids] = draws[:, 6] >= self.z.true_map_share
        way = self.goals[course] - state.base_position[:, :2]
        self.direction[ids] = way / way.norm(dim=1, keepdim=True).clamp_min(1e-6)
        self.past[ids] = self._pose(state)[:, None]

    def _rates(self, draws: torch.Tensor) -> torch.Tensor:
        """Rates of drift (K, 4) from numbers in [0, 1); their rms is the configuration's."""
        z = self.z
        rms = [z.drift_position, z.drift_position, z.drift_height, math.radians(z.drift_yaw)]
        scale = math.sqrt(3.0) * torch.tensor(rms, device=draws.device)
        return (2.0 * draws - 1.0) * scale

    @staticmethod
    def _pose(state: RobotState) -> torch.Tensor:
        """Position and the cosine and sine of the yaw, (K, 5)."""
        w, x, y, z = state.base_quaternion.unbind(-1)
        # First column of the rotation matrix: the body's x axis in the world.
        c, s = 1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z)
        norm = torch.sqrt(c * c + s * s).clamp_min(1e-6)
        return torch.cat([state.base_position, (c / norm)[:, None], (s / norm)[:, None]], dim=1)

    def advance(self, state: RobotState) -> None:
        """All robots have moved to ``state`` in one control step."""
        pose = self._pose(state)
        moved = pose[:, :3] - self.past[:, 0, :3]  # (N, 3)
        self.past = torch.cat([pose[:, None], self.past[:, :-1]], dim=1)
        if not (self.z.odometry_drift or self.z.map_drift):
            self.odometry = pose[:, :2].clone()
            return
        draws = self._rand(len(pose), 5)
        renewed = draws[:, 4:] < r.CONTROL_DT / _RENEWAL
        self.rate = torch.where(renewed, self._rates(draws[:, :4]), self.rate)
        length = moved[:, :2].norm(dim=1, keepdim=True)  # m, of the way
        step = torch.cat([self.rate[:, :3] * length, self.rate[:, 3:] * r.CONTROL_DT], dim=1)
        step = step * self.faulty[:, None]
        if self.z.odometry_drift:
            # The step as it was, in a frame that has turned away, and an error of its own.
            c, s = torch.cos(self.error[:, 1]), torch.sin(self.error[:, 1])
            turned = [c * moved[:, 0] - s * moved[:, 1], s * moved[:, 0] + c * moved[:, 1]]
            self.odometry = self.odometry + torch.stack(turned, dim=1) + step[:, :2]
            self.error = self.error + step[:, 2:]
        else:
            self.odometry = pose[:, :2].clone()
        if self.z.map_drift:
            self.lag = self.lag * (1.0 - r.CONTROL_DT / _MEMORY) + step

    # ---- what is seen ----

    def look(
        self,
        rows: Rows,
        course: torch.Tensor,
        state: RobotState,
        sensed: Sensed,
        offset: torch.Tensor,
    ) -> View:
        """What worlds ``rows`` (K) see, on courses (K,), in ``state`` and ``sensed`` (K rows).

        ``offset`` (K, 1) is the map's constant height error, m.
        """
        contact = self._contact(state, sensed)
        # The way's direction and the goal in the heading frame, as odometry has them.
        pose = self.past[rows][:, 0]
        error = self.error[rows]
        c, s = torch.cos(error[:, 1]), torch.sin(error[:, 1])
        cos, sin = pose[:, 3] * c - pose[:, 4] * s, pose[:, 4] * c + pose[:, 3] * s
        u = _turn_back(self.direction[rows], cos, sin)  # (K, 2)
        goal = _turn_back(self.goals[course] - self.odometry[rows], cos, sin)
        feet = sensed.feet - state.base_position[:, None]  # (K, 4, 3), world axes
        points = self.points(pose, u, feet)
        drop = self._drops(rows, course, points) + offset  # (K, 157), base over ground
        n_way, n_feet = len(self._way), 4 * len(self._ring)
        supported = (drop[:, :n_way] < WAY_DROP).float()
        aside = (supported * self._way[:, 1]).sum(1) / supported.sum(1).clamp_min(1.0)
        ahead = torch.stack(
            [WAY_TARGET * u[:, 0] - aside * u[:, 1], WAY_TARGET * u[:, 1] + aside * u[:, 0]], dim=1
        )
        under = drop[:, n_way : n_way + n_feet].reshape(-1, 4, len(self._ring))
        under = under + feet[..., 2:]
        parts = [
            _bearing(ahead),
            _bearing(goal),
            (drop[:, n_way + n_feet :] - SCAN_CENTRE) * MAP_FIELDS[1].scale,
            (under - r.FOOT_RADIUS).flatten(1) * MAP_FIELDS[2].scale,
        ]
        return View(contact, torch.cat(parts, dim=1))

    def points(self, pose: torch.Tensor, u: torch.Tensor, feet: torch.Tensor) -> torch.Tensor:
        """The places asked for, (K, 157, 2), m, heading frame: 36 of the way, 36 of the feet, 85.

        ``pose`` (K, 5) as in ``past``, ``u`` (K, 2) the way's direction in the heading frame,
        ``feet`` (K, 4, 3) from the base in world axes, m.
        """
        x, y = self._way[:, 0], self._way[:, 1]
        ux, uy = u[:, :1], u[:, 1:]
        way = torch.stack([x * ux - y * uy, x * uy + y * ux], dim=-1)
        fx = pose[:, 3:4] * feet[..., 0] + pose[:, 4:5] * feet[..., 1]
        fy = pose[:, 3:4] * feet[..., 1] - pose[:, 4:5] * feet[..., 0]
        ring = torch.stack([fx, fy], dim=-1)[:, :, None] + self._ring  # (K, 4, 9, 2)
        scan = self._scan.expand(len(pose), -1, -1)
        return torch.cat([way, ring.flatten(1, 2), scan], dim=1)

    def _contact(self, state: RobotState, sensed: Sensed) -> torch.Tensor:
        """Feet that seem to touch, (K, 4), 0 or 1."""
        force = vertical_forces(state.joint_position, state.joint_torque, sensed.gravity)
        touching = force > CONTACT_THRESHOLD
        if self.z.contact_faults:
            draws = self._rand(*touching.shape)
            missed = torch.full_like(draws, self.z.contact_miss)
            wrong = draws < torch.where(touching, missed, self.z.contact_false + 0.0 * missed)
            touching = touching ^ wrong
        return touching.float()

    def _drops(self, rows: Rows, course: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """Height of the base over the map at ``points`` (K, P, 2), m, heading frame: (K, P)."""
        faulty = self.faulty[rows]
        at, height = self.places(rows, points)
        cell = torch.zeros_like(at)
        if self.z.map_cells or self.z.map_outliers:
            # The cells lie still in odometry's frame.
            shift = (self.odometry[rows] - self.past[rows][:, 0, :2])[:, None]
            cell = torch.floor((at + shift) / CELL)
            if self.z.map_cells:
                middle = (cell + 0.5) * CELL - shift
                at = torch.where(faulty[:, None, None], middle, at)
        drop = height - torch.take(self.maps.height, self.maps.cells(course, at))
        if self.z.map_unknown:
            drop = torch.where(self._hidden(drop) & faulty[:, None], UNKNOWN_DROP, drop)
        if self.z.map_outliers:
            drop = self._outliers(rows, cell.long(), drop)
        return drop

    def places(self, rows: Rows, points: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Where ``points`` (K, P, 2), heading frame, are believed to be, (K, P, 2), m, world.

        Also the height (K, 1), m, that the base is believed to have there.
        """
        past, lag = self.past[rows], self.lag[rows]
        age = self.age[rows] * self.faulty[rows]
        pose = past[torch.arange(len(past), device=past.device), age]  # (K, 5)
        c, s = torch.cos(lag[:, 3]), torch.sin(lag[:, 3])
        cos = (pose[:, 3] * c - pose[:, 4] * s)[:, None]
        sin = (pose[:, 4] * c + pose[:, 3] * s)[:, None]
        x, y = points[..., 0], points[..., 1]
        at = torch.stack([cos * x - sin * y, sin * x + cos * y], dim=-1)
        return at + (pose[:, :2] + lag[:, :2])[:, None], (pose[:, 2] + lag[:, 2])[:, None]

    def cells(self, row: int, course: int, first: Tuple[int, int], shape: Tuple[int, int]) -> Cells:
        """The map of world ``row`` in ``shape`` cells from number ``first`` on, NaN if unknown.

        Cell (i, j) spans i to i + 1 and j to j + 1 times :data:`CELL` in the odometry frame.
        """
        device = self.goals.device
        grids = [torch.arange(a, a + n, device=device) for a, n in zip(first, shape)]
        i, j = torch.meshgrid(*grids, indexing="ij")
        cell = torch.stack([i, j], dim=-1).reshape(1, -1, 2)
        rows = torch.tensor([row], device=device)
        shift = (self.odometry[rows] - self.past[rows][:, 0, :2])[:, None]
        at = (cell + 0.5) * CELL - shift
        number = torch.tensor([course], device=device)
        drop = -torch.take(self.maps.height, self.maps.cells(number, at))
        if self.z.map_outliers:
            drop = self._outliers(rows, cell, drop)
        drop = torch.where(drop == UNKNOWN_DROP, float("nan"), drop)
        return -drop.reshape(shape)

    def _hidden(self, drop: torch.Tensor) -> torch.Tensor:
        """Points of the scan behind edges, (K, P) bool; the others count as seen on the way."""
        first = drop.shape[1] - len(self._scan)
        scan = drop[:, first:].reshape(-1, len(SCAN_X), len(SCAN_Y))[:, self._ahead]  # (K, 8, 5)
        # Of lines of sight along x, one that is steeper than one before it runs into an edge.
        slope = -(scan + _EYE[1]) / self._distance
        before = torch.cummax(slope, dim=1).values
        hidden = torch.zeros_like(drop, dtype=torch.bool)
        first += self._ahead.start * len(SCAN_Y)
        hidden[:, first : first + slope[0].numel()] = (slope < before - _HIDDEN).flatten(1)
        return hidden

    def _outliers(self, rows: Rows, cell: torch.Tensor, drop: torch.Tensor) -> torch.Tensor:
        """Holes and wrong heights, which stay with their cells (K, P, 2) for the episode."""
        key = (
            cell[..., 0] * 73856093 ^ cell[..., 1] * 19349663 ^ self.salt[rows][:, None] * 83492791
        )
        key = (key ^ (key >> 13)) * 1274126177
        chance = ((key >> 8) & 0xFFFF).float() / 0x10000
        height = ((key >> 24) & 0xFF).float() / 0xFF * 2.0 - 1.0  # in [-1, 1]
        chance = torch.where(self.faulty[rows][:, None], chance, torch.ones_like(chance))
        hole, wrong = self.z.map_hole, self.z.map_hole + self.z.map_outlier
        drop = torch.where(chance < wrong, drop + self.z.map_outlier_height * height, drop)
        return torch.where(chance < hole, UNKNOWN_DROP, drop)

    def privileged(self) -> torch.Tensor:
        """The map's error in x, y (heading frame), z and yaw, (N, 4), times 10."""
        cos, sin = self.past[:, 0, 3], self.past[:, 0, 4]
        return 10.0 * torch.cat([_turn_back(self.lag[:, :2], cos, sin), self.lag[:, 2:]], dim=1)

    def state_dict(self) -> Dict[str, torch.Tensor]:
        """Everything carried from step to step."""
        return {name: getattr(self, name).clone() for name in self.BUFFERS}

    def load_state_dict(self, state: Dict[str, torch.Tensor]) -> None:
        """Restore :meth:`state_dict`."""
        for name in self.BUFFERS:
            setattr(self, name, state[name].to(self.goals.device, copy=True))


def _turn_back(vector: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Vectors (K, 2) in a frame turned by the angles with ``cos`` and ``sin`` (K,)."""
    x, y = vector[:, 0], vector[:, 1]
    return torch.stack([cos * x + sin * y, cos * y - sin * x], dim=1)


def _bearing(target: torch.Tensor) -> torch.Tensor:
    """Cosine and sine of the bearing and distance / 2 m of targets (K, 2), m, heading frame."""
    distance = target.norm(dim=1, keepdim=True).clamp_min(1e-3)
    return torch.cat([target / distance, distance / 2], dim=1)
