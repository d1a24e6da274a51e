"""What is drawn when an episode starts: the world's physics, and where the robot stands.

Every function draws from one generator in a fixed order, so a seed decides everything.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

import torch

from go2_sevpo.envs.go2.config import ParkourConfig, Randomization
from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.geometry import from_roll_yaw
from go2_sevpo.envs.simulators.base import Dynamics, RobotState


class WaypointTables(NamedTuple):
    """Waypoints of C courses; see :meth:`go2_sevpo.envs.go2.pool.CoursePool.tables`."""

    position: torch.Tensor  # (C, W, 3) m
    last: torch.Tensor  # (C,) number of the destination
    roll: torch.Tensor  # (C, W) rad, tilt of the stone under it


class Start(NamedTuple):
    """Where K episodes start.

    ``state`` has K rows, positions relative to the course; ``goal`` (K,) is the first waypoint's
    number.
    """

    state: RobotState
    goal: torch.Tensor


def uniform(generator: torch.Generator, n: int, low: float, high: float) -> torch.Tensor:
    """Random numbers (n,) in [low, high)."""
    return low + (high - low) * torch.rand(n, generator=generator, device=generator.device)


def first_payload(config: ParkourConfig) -> torch.Tensor:
    """Payloads (N,), kg, for back ends whose masses are set once, spread over the range."""
    z, n = config.randomization, config.num_envs
    share = torch.rand(n, generator=torch.Generator().manual_seed(config.seed))
    low, high = z.payload_kg if z.payload else (0.0, 0.0)
    return low + (high - low) * share


def draw_dynamics(
    z: Randomization, n: int, fixed_payload: Optional[torch.Tensor], generator: torch.Generator
) -> Dynamics:
    """Friction, payload, motors and joints of ``n`` worlds; nominal where ``z`` switches them off.

    ``fixed_payload`` (n,), kg, is what a back end cannot change; None where it can.
    """
    dynamics = Dynamics.nominal(n, generator.device)
    if z.friction:
        dynamics.friction = uniform(generator, n, *z.friction_factor)
    if z.payload:
        # Drawn even where it is fixed: what follows is the same on every back end.
        dynamics.payload = uniform(generator, n, *z.payload_kg)
    if fixed_payload is not None:
        dynamics.payload = fixed_payload
    if z.motor_strength:
        dynamics.motor_strength = uniform(generator, n, *z.motor_factor)
    if z.joint_damping:
        dynamics.damping = uniform(generator, n, *z.damping)
    if z.armature:
        dynamics.armature = uniform(generator, n, *z.armature_inertia)
    if z.dry_friction:
        dynamics.friction_loss = uniform(generator, n, *z.friction_loss)
    if z.torque_speed:
        dynamics.droop = uniform(generator, n, *z.droop)
    return dynamics


def draw_start(
    config: ParkourConfig,
    course: torch.Tensor,
    waypoints: WaypointTables,
    default: torch.Tensor,
    generator: torch.Generator,
) -> Start:
    """Starts on courses ``course`` (K,): on the platform, or a share of them on a random stone.

    ``default`` (12,) is the default pose, rad; joints start within 0.1 rad of it.
    """
    n, device = len(course), default.device
    jitter = 1.0 if config.randomization.start_pose else 0.0
    position = torch.zeros(n, 3, device=device)
    position[:, 0] = uniform(generator, n, -0.2, 0.2) * jitter
    position[:, 1] = uniform(generator, n, -0.15, 0.15) * jitter
    yaw = uniform(generator, n, -0.2, 0.2) * jitter
    roll, forward_speed = torch.zeros(n, device=device), torch.zeros(n, device=device)
    goal = torch.zeros(n, dtype=torch.long, device=device)
    if config.random_start > 0:
        there = uniform(generator, n, 0.0, 1.0) < config.random_start  # (K,) who starts on a stone
        # Any stone; the destination is no start.
        stone = (uniform(generator, n, 0.0, 1.0) * waypoints.last[course]).long()
        on_stone = waypoints.position[course, stone] + 0.0  # (K, 3), a copy
        on_stone[:, 0] += uniform(generator, n, -0.25, 0.1)
        position = torch.where(there[:, None], on_stone, position)
        # Not quite the stone's tilt: legs of one length stand a little more upright.
        roll = torch.where(there, 0.8 * waypoints.roll[course, stone], roll)
        goal = torch.where(there, stone + 1, goal)
        forward_speed = torch.where(there, uniform(generator, n, 0.0, 1.0), forward_speed)
    # The base stands over the surface along its own z axis, a centimetre high.
    up = torch.stack([torch.zeros_like(roll), -torch.sin(roll), torch.cos(roll)], dim=-1)  # (K, 3)
    position = position + up * (r.NOMINAL_BASE_HEIGHT + 0.01)
    spread = torch.rand(n, len(r.JOINT_NAMES), generator=generator, device=device) - 0.5
    velocity = torch.zeros(n, 3, device=device)
    velocity[:, 0] = forward_speed
    still = torch.zeros(n, len(r.JOINT_NAMES), device=device)
    state = RobotState(
        base_position=position,
        base_quaternion=from_roll_yaw(roll, yaw),
        base_linear_velocity=velocity,
        base_angular_velocity=torch.zeros(n, 3, device=device),
        joint_position=default + spread * 0.2 * jitter,
        joint_velocity=still,
        joint_torque=still,
        foot_force=still[:, : len(r.LEGS)],
        body_force=still[:, : len(r.CONTACT_BODIES)],
    )
    return Start(state, goal)
