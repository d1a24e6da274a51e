"""What the robot knows: measurable quantities and a map around it. No true base velocity.

Layout of the observation (265 numbers, in this order; scales multiply the physical value, clips act
after): see :func:`observation_spec`. The frame of one control step is 46 numbers; the last three
frames are given.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
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
from go2_sevpo.envs.simulators.base import RobotState

FRAMES = 3
SCAN_X = tuple(round(-0.4 + 0.1 * i, 2) for i in range(17))
SCAN_Y = (-0.3, -0.15, 0.0, 0.15, 0.3)
FOOT_RING = tuple(
    (round(rad * cx, 4), round(rad * cy, 4))
    for rad in (0.06, 0.12)
    for cx, cy in ((1, 0), (0, 1), (-1, 0), (0, -1))
)
SCAN_CENTRE = 0.3
CONTACT_FORCE = 2.0
"""Normal force, N, from which a foot counts as touching."""


@dataclass(frozen=True)
class Field:
    """One field of the observation: ``size`` numbers, each physical value times ``scale``, clipped
    to +-``clip``.
    """

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
MAP_FIELDS: Tuple[Field, ...] = (
    Field(
        "waypoints", 6, "for the next two: cos, sin of the bearing, distance / 2 m", 1.0, 1.0, 0.0
    ),
    Field(
        "height_scan", len(SCAN_X) * len(SCAN_Y), "m, base height - 0.3 - ground", 2.5, 1.0, 0.02
    ),
    Field(
        "foot_heights",
        4 * (1 + len(FOOT_RING)),
        "m, foot - ground under and around it",
        5.0,
        1.0,
        0.01,
    ),
)
FRAME_SIZE = sum(f.size for f in FRAME_FIELDS)


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
        raise KeyError(
            f"no observation field '{name}', expected one of {', '.join(f.name for f in self.fields)}"
        )


def observation_spec() -> ObservationSpec:
    """The layout: the present frame, two earlier frames (``name@-1``, ``name@-2``), then the map
    fields.
    """
    fields: List[Field] = list(FRAME_FIELDS)
    for k in range(1, FRAMES):
        fields.extend(
            Field(f"{f.name}@-{k}", f.size, f.unit, f.scale, f.clip, f.noise) for f in FRAME_FIELDS
        )
    return ObservationSpec(tuple(fields) + MAP_FIELDS, FRAMES)


@dataclass
class Sensed:
    """Quantities derived once per step from the state and the map, shared by observations, rewards
    and costs.

    ``rotation`` (N, 3, 3); ``heading`` (N, 2) cos, sin; ``angular_velocity``, ``gravity`` (N, 3)
    body frame; ``feet`` (N, 4, 3) world, m; ``foot_ground`` (N, 4, 9) ground under and around each
    foot, m; ``foot_rim`` (N, 4) m; ``base_rim`` (N,) m; ``scan`` (N, 85) ground, m; ``contact`` (N,
    4) bool.
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
    c, s = heading[:, 0:1], heading[:, 1:2]
    x, y = points[:, 0], points[:, 1]
    return torch.stack([c * x - s * y, s * x + c * y], dim=-1)


def sense(state: RobotState, course_ids: torch.Tensor, maps: TerrainMaps) -> Sensed:
    """Derive :class:`Sensed` from the true state (no noise) of N robots on courses (N,)."""
    n = state.base_position.shape[0]
    rot = rotation_matrix(state.base_quaternion)
    cos, sin = yaw_cos_sin(rot)
    heading = torch.stack([cos, sin], dim=-1)
    feet = (
        torch.einsum("nij,nkj->nki", rot, foot_positions(state.joint_position))
        + state.base_position[:, None]
    )
    base_xy = state.base_position[:, None, :2]
    scan, around = _patterns(heading.device)
    ring = (feet[:, :, None, :2] + _turn(around, heading)[:, None]).reshape(n, -1, 2)
    points = torch.cat([base_xy, ring, base_xy + _turn(scan, heading)], dim=1)
    cells = maps.cells(course_ids, points)
    rings = 1 + len(FOOT_RING)
    ground = torch.take(maps.height, cells[:, 1:])
    foot_cells = cells[:, 1 : 1 + 4 * rings].reshape(n, 4, rings)
    return Sensed(
        rotation=rot,
        heading=heading,
        angular_velocity=to_body(rot, state.base_angular_velocity),
        gravity=-rot[:, 2, :],
        feet=feet,
        foot_ground=ground[:, : 4 * rings].reshape(n, 4, rings),
        foot_rim=torch.take(maps.rim, foot_cells[:, :, 0]),
        base_rim=torch.take(maps.rim, cells[:, 0]),
        scan=ground[:, 4 * rings :],
        contact=state.foot_force > CONTACT_FORCE,
    )


def frame(
    state: RobotState, sensed: Sensed, last_action: torch.Tensor, default: torch.Tensor
) -> torch.Tensor:
    """Proprioceptive frame (N, 46), scaled and clipped, without noise."""
    parts = [
        sensed.angular_velocity * FRAME_FIELDS[0].scale,
        sensed.gravity,
        state.joint_position - default,
        state.joint_velocity * FRAME_FIELDS[3].scale,
        last_action,
        sensed.contact.float(),
    ]
    return torch.cat(parts, dim=-1).clamp_(-10.0, 10.0)


def map_fields(
    state: RobotState, sensed: Sensed, targets: torch.Tensor, offset: torch.Tensor
) -> torch.Tensor:
    """Waypoints, height scan and foot heights (N, 127); ``targets`` (N, 2, 3) the next two
    waypoints, world.

    ``offset`` (N, 1) m is the map's height error.
    """
    delta = targets[:, :, :2] - state.base_position[:, None, :2]
    c, s = sensed.heading[:, None, 0], sensed.heading[:, None, 1]
    x, y = c * delta[..., 0] + s * delta[..., 1], -s * delta[..., 0] + c * delta[..., 1]
    dist = torch.sqrt(x * x + y * y).clamp_min(1e-3)
    ways = torch.stack([x / dist, y / dist, (dist / 2).clamp_max(1.0)], dim=-1).flatten(1)
    scan = (state.base_position[:, 2:3] - SCAN_CENTRE - sensed.scan + offset) * MAP_FIELDS[1].scale
    foot = (sensed.feet[..., 2:3] - r.FOOT_RADIUS - sensed.foot_ground).flatten(1) + offset
    foot = foot * MAP_FIELDS[2].scale
    return torch.cat([ways, scan.clamp_(-1.0, 1.0), foot.clamp_(-1.0, 1.0)], dim=-1)


def noise_scales(fields: Tuple[Field, ...]) -> torch.Tensor:
    """Half widths of the noise in observation units, one per number."""
    return torch.cat([torch.full((f.size,), f.noise * f.scale) for f in fields])
