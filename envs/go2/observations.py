"""What the robot knows: measurable quantities and a map around it. No true base velocity.

Layout of the observation (265 numbers, in this order; scales multiply the physical value, clips act
after): see :func:`observation_spec`. The frame of one control step is 46 numbers; the last three
frames are given.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Dict, List, Tuple

import torch

from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.geometry import (
    foot_positions,
    rotation_matrix,
    to_body,
    yaw_cos_sin,
)
from go2_sevpo.envs.go2.description.terrain import TerrainMaps
from go2_sevpo.envs.simulators.base import Dynamics, RobotState

FRAMES = 3
SCAN_X = tuple(round(-0.4 + 0.1 * i, 2) for i in range(17))
SCAN_Y = (-0.3, -0.15, 0.0, 0.15, 0.3)
"""Grid of the height scan, m, heading frame: 17 x 5 points from 0.4 m behind to 1.2 m ahead."""
FOOT_RING = tuple(
    (round(radius * x, 4), round(radius * y, 4))
    for radius in (0.06, 0.12)
    for x, y in ((1, 0), (0, 1), (-1, 0), (0, -1))
)
"""Points around each foot, m, heading frame: four on each of two circles."""
SCAN_CENTRE = 0.3
"""Height of the base above the ground, m, at which a scanned point counts as 0."""
CONTACT_FORCE = 2.0
"""Normal force, N, from which a foot counts as touching."""


@dataclass(frozen=True)
class Field:
    """``size`` numbers of the observation: physical value times ``scale``, within +-``clip``."""

    name: str
    size: int
    unit: str
    scale: float
    clip: float
    noise: float
    """Half width of the uniform sensor noise, in ``unit``."""


FRAME_FIELDS: Tuple[Field, ...] = (
    Field("base_angular_velocity", 3, "rad/s, body frame", 0.25, 10.0, 0.2),
    Field("gravity_direction", 3, "unit vector, body frame", 1.0, 1.0, 0.03),
    Field("joint_position_offset", 12, "rad from the default pose", 1.0, 5.0, 0.01),
    Field("joint_velocity", 12, "rad/s", 0.05, 5.0, 1.0),
    Field("last_action", 12, "actions in [-1, 1]", 1.0, 1.0, 0.0),
    Field("foot_contact", 4, "0 or 1", 1.0, 1.0, 0.0),
)
_INNER = 5
"""Points under a foot and on the inner circle around it, which rewards look at."""
_SCAN_POINTS, _FOOT_POINTS = len(SCAN_X) * len(SCAN_Y), 1 + len(FOOT_RING)
_WAYPOINT_UNIT = "for the next two: cos, sin of the bearing, distance / 2 m"
_FOOT_UNIT = "m, foot - ground under and around it"
MAP_FIELDS: Tuple[Field, ...] = (
    Field("waypoints", 6, _WAYPOINT_UNIT, 1.0, 1.0, 0.0),
    Field("height_scan", _SCAN_POINTS, "m, base height - 0.3 - ground", 2.5, 1.0, 0.02),
    Field("foot_heights", 4 * _FOOT_POINTS, _FOOT_UNIT, 5.0, 1.0, 0.01),
)
FRAME_SIZE = sum(f.size for f in FRAME_FIELDS)


# Version 2 of the task: what differs is where the numbers come from, not how many there are.
_VERSION_2_UNITS = {
    "foot_contact": "0 or 1, from the joints' torques",
    "waypoints": "a point ahead, the goal: cos, sin of the bearing, distance / 2 m; odometry",
    "height_scan": "m, base height - 0.3 - ground; map",
    "foot_heights": "m, foot - ground under and around it; map",
}


@dataclass(frozen=True)
class ObservationSpec:
    """The layout of an observation, as data: saved with every dataset and policy."""

    fields: Tuple[Field, ...]
    frames: int

    @property
    def size(self) -> int:
        """Numbers in one observation."""
        return sum(f.size for f in self.fields)

    def to_dict(self) -> Dict[str, Any]:
        """Return plain data for JSON; noise is no part of the layout."""
        fields = [{k: v for k, v in asdict(f).items() if k != "noise"} for f in self.fields]
        return {"fields": fields, "frames": self.frames, "size": self.size}

    def offset(self, name: str) -> Tuple[int, int]:
        """Start and end of the field ``name``.

        Raises:
            KeyError: no such field.
        """
        start = 0
        for f in self.fields:
            if f.name == name:
                return start, start + f.size
            start += f.size
        names = ", ".join(f.name for f in self.fields)
        raise KeyError(f"no observation field '{name}', expected one of {names}")


def observation_spec(version: int = 1) -> ObservationSpec:
    """The layout: the present frame, earlier ones (``name@-1``, ``name@-2``), the map fields."""
    fields: List[Field] = list(FRAME_FIELDS)
    for k in range(1, FRAMES):
        fields.extend(replace(f, name=f"{f.name}@-{k}") for f in FRAME_FIELDS)
    fields.extend(MAP_FIELDS)
    if version > 1:
        units = _VERSION_2_UNITS
        fields = [replace(f, unit=units.get(f.name.split("@")[0], f.unit)) for f in fields]
    return ObservationSpec(tuple(fields), FRAMES)


@dataclass
class Sensed:
    """Quantities derived once per step from the state and the map, for observations and rewards.

    ``rotation`` (N, 3, 3); ``heading`` (N, 2) cos, sin; ``angular_velocity``, ``gravity`` (N, 3)
    body frame; ``feet`` (N, 4, 3) world, m; ``foot_ground`` (N, 4, 9) ground under and around each
    foot, m; ``foot_rim`` (N, 4) and ``base_rim`` (N,) the stones' surface continued over gaps, m;
    ``scan`` (N, 85) ground, m; ``contact`` (N, 4) bool.
    """

    rotation: torch.Tensor
    heading: torch.Tensor
    angular_velocity: torch.Tensor
    gravity: torch.Tensor
    feet: torch.Tensor
    foot_ground: torch.Tensor
    foot_rim: torch.Tensor
    base_rim: torch.Tensor
    scan: torch.Tensor
    contact: torch.Tensor


@lru_cache(maxsize=None)
def _patterns(device: torch.device) -> Tuple[torch.Tensor, torch.Tensor]:
    """Points of the height scan (85, 2) and around a foot (9, 2), m, heading frame."""
    scan = torch.tensor([[x, y] for x in SCAN_X for y in SCAN_Y], device=device)
    return scan, torch.tensor([(0.0, 0.0), *FOOT_RING], device=device)


def _turn(points: torch.Tensor, heading: torch.Tensor) -> torch.Tensor:
    """Turn points (P, 2) by headings (N, 2) to (N, P, 2)."""
    cos, sin = heading[:, 0:1], heading[:, 1:2]  # (N, 1)
    x, y = points[:, 0], points[:, 1]  # (P,)
    return torch.stack([cos * x - sin * y, sin * x + cos * y], dim=-1)


def sense(
    state: RobotState, course_ids: torch.Tensor, maps: TerrainMaps, whole: bool = True
) -> Sensed:
    """Derive :class:`Sensed` from the true state (no noise) of N robots on courses (N,).

    Without ``whole`` only what rewards need: no scan (N, 0), and under and around each foot the
    inner circle (N, 4, 5).
    """
    n = state.base_position.shape[0]
    rotation = rotation_matrix(state.base_quaternion)  # (N, 3, 3)
    heading = torch.stack(yaw_cos_sin(rotation), dim=-1)  # (N, 2)
    in_base = foot_positions(state.joint_position)  # (N, 4, 3)
    feet = torch.einsum("nij,nkj->nki", rotation, in_base) + state.base_position[:, None]
    # One look-up for all points: the base, 9 around each foot, 85 of the scan; (N, 1 + 36 + 85, 2).
    base_xy = state.base_position[:, None, :2]
    scan, around = _patterns(heading.device)
    if not whole:
        scan, around = scan[:0], around[:_INNER]
    n_foot = len(around)
    ring = (feet[:, :, None, :2] + _turn(around, heading)[:, None]).reshape(n, -1, 2)
    points = torch.cat([base_xy, ring, base_xy + _turn(scan, heading)], dim=1)
    cells = maps.cells(course_ids, points)
    ground = torch.take(maps.height, cells[:, 1:])
    foot_cells = cells[:, 1 : 1 + 4 * n_foot].reshape(n, 4, n_foot)
    return Sensed(
        rotation=rotation,
        heading=heading,
        angular_velocity=to_body(rotation, state.base_angular_velocity),
        # The last row of R is world z in the body frame; gravity points the other way.
        gravity=-rotation[:, 2, :],
        feet=feet,
        foot_ground=ground[:, : 4 * n_foot].reshape(n, 4, n_foot),
        foot_rim=torch.take(maps.rim, foot_cells[:, :, 0]),
        base_rim=torch.take(maps.rim, cells[:, 0]),
        scan=ground[:, 4 * n_foot :],
        contact=state.foot_force > CONTACT_FORCE,
    )


def frame(
    state: RobotState, sensed: Sensed, last_action: torch.Tensor, default: torch.Tensor
) -> torch.Tensor:
    """Proprioceptive frame (N, 46), scaled and clipped, without noise, of version 1.

    ``last_action`` (N, 12) in [-1, 1]; ``default`` (12,) the default pose, rad.
    """
    contact = sensed.contact.float()
    return scaled_frame(state, sensed, last_action, default, contact).clamp_(-10.0, 10.0)


def scaled_frame(
    state: RobotState,
    sensed: Sensed,
    last_action: torch.Tensor,
    default: torch.Tensor,
    contact: torch.Tensor,
) -> torch.Tensor:
    """Proprioceptive frame (N, 46), scaled; see :func:`frame`, ``contact`` is (N, 4), 0 or 1."""
    parts = [
        sensed.angular_velocity * FRAME_FIELDS[0].scale,
        sensed.gravity,
        state.joint_position - default,
        state.joint_velocity * FRAME_FIELDS[3].scale,
        last_action,
        contact,
    ]
    return torch.cat(parts, dim=-1)


def map_fields(
    state: RobotState, sensed: Sensed, targets: torch.Tensor, offset: torch.Tensor
) -> torch.Tensor:
    """Waypoints, height scan and foot heights (N, 127), scaled and clipped, without noise.

    ``targets`` (N, 2, 3) are the next two waypoints, world, m; ``offset`` (N, 1) is the map's
    height error, m.
    """
    ways = bearings(targets, state, sensed.heading)  # (N, 6)
    scan = (state.base_position[:, 2:3] - SCAN_CENTRE - sensed.scan + offset) * MAP_FIELDS[1].scale
    # (N, 4, 9) -> (N, 36), from the sole, not from the foot's centre
    foot = (sensed.feet[..., 2:3] - r.FOOT_RADIUS - sensed.foot_ground).flatten(1) + offset
    foot = foot * MAP_FIELDS[2].scale
    return torch.cat([ways, scan.clamp_(-1.0, 1.0), foot.clamp_(-1.0, 1.0)], dim=-1)


def privileged_fields(
    state: RobotState,
    sensed: Sensed,
    dynamics: Dynamics,
    delay: torch.Tensor,
    left: torch.Tensor,
    first_kind: torch.Tensor,
) -> torch.Tensor:
    """What only a critic in simulation may see, (N, 14), scaled to about 1.

    The base's velocity (body frame), foot forces, friction, payload, motor strength, ``delay`` (N,)
    s, the base's height, the share ``left`` (N,) of the episode, whether the course is of the first
    kind, ``first_kind`` (N,) 0 or 1.
    """
    velocity = to_body(sensed.rotation, state.base_linear_velocity)
    height = state.base_position[:, 2] - sensed.base_rim
    physics = [dynamics.friction, dynamics.payload / 2, dynamics.motor_strength]
    scalars = torch.stack([*physics, delay * 50, height, left], dim=1)  # (N, 6)
    return torch.cat([velocity, state.foot_force / 100, scalars, first_kind[:, None]], dim=1)


def clips(fields: Tuple[Field, ...]) -> torch.Tensor:
    """What each number is clipped at, on either side of zero."""
    return torch.cat([torch.full((f.size,), f.clip) for f in fields])


def bearings(targets: torch.Tensor, state: RobotState, heading: torch.Tensor) -> torch.Tensor:
    """Cosine, sine and distance / 2 m, at most 1, of targets (N, 2, 3), world: (N, 6).

    ``heading`` (N, 2) is the cosine and sine of the yaw.
    """
    delta = targets[:, :, :2] - state.base_position[:, None, :2]  # (N, 2, 2)
    cos, sin = heading[:, None, 0], heading[:, None, 1]
    # World to heading frame: turned back by the yaw.
    x, y = cos * delta[..., 0] + sin * delta[..., 1], -sin * delta[..., 0] + cos * delta[..., 1]
    distance = torch.sqrt(x * x + y * y).clamp_min(1e-3)  # on a waypoint there is no bearing
    parts = [x / distance, y / distance, (distance / 2).clamp_max(1.0)]
    return torch.stack(parts, dim=-1).flatten(1)


def noise_scales(fields: Tuple[Field, ...]) -> torch.Tensor:
    """Half widths of the noise in observation units, one per number."""
    return torch.cat([torch.full((f.size,), f.noise * f.scale) for f in fields])
