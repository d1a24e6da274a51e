"""Rewards, cost, success and fall: one place decides, everybody calls it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict

import torch

from go2_sevpo.envs.go2.observations import Sensed
from go2_sevpo.envs.simulators.base import RobotState

SCRAPE_FORCE = 1.0
"""Normal force, N, from which a body other than a foot counts as touching a stone."""
GAP_DEPTH = 0.06
"""A foot centre this far below the surface around, m, is in a gap (swing feet dip up to 3 cm)."""
FALL_DROP = 0.30
"""The base this far below the stones' surface, m, is a fall: a leg's length under its stance."""
MAX_TILT_COS = 0.26
"""Cosine of the largest tilt, 75 degrees between the body's z axis and the vertical."""
LIMIT_MARGIN = 0.05
"""A joint this near its range's end, rad, begins to cost (version 2)."""
EDGE_DROP = 0.10
"""A foot in contact with ground this far below it 6 cm away, m, stands on an edge (reward only)."""

DEFINITION = (
    "success: the base is within 0.5 m (horizontally) of the destination before the time limit, "
    "no fall before. "
    "fall: the base touches a stone, or tilts more than 75 degrees, "
    "or sinks 0.30 m below the stones' surface. "
    "cost: 1 at a fall, and 1 on every step with the centre of a foot more than 6 cm "
    "below the surface in a gap, or with a thigh, calf or the base touching a stone."
)


@dataclass(frozen=True)
class RewardWeights:
    """Weights per second; ``fall`` and ``success`` are paid once."""

    speed: float = 1.5
    heading: float = 0.5
    vertical_velocity: float = -0.3
    roll_pitch_rate: float = -0.03
    tilt: float = -0.3
    torque: float = -1e-5
    joint_acceleration: float = -1.5e-7
    action_rate: float = -0.08
    hip_offset: float = -0.5
    joint_offset: float = -0.03
    scrape: float = -1.0
    gap: float = -1.0
    edge: float = -0.5
    overspeed: float = -1.0
    fall: float = -2.0
    success: float = 3.0
    joint_limit: float = -3.0
    """Per rad by which a joint is beyond :data:`LIMIT_MARGIN` of its range; version 2 only."""
    clipped_target: float = -0.3
    """Per rad by which a joint's target is clipped at its range; version 2 only."""
    target_speed: float = 1.2
    """m/s towards the next waypoint; faster pays no more, and over 1.5 times this costs."""


@dataclass
class Outcome:
    """What happened in each world, all (N,).

    ``fall`` bool; ``cost`` in {0, 1}; ``gap_feet`` and ``scrapes`` the numbers of feet in a gap and
    of bodies touching a stone (float).
    """

    fall: torch.Tensor
    cost: torch.Tensor
    gap_feet: torch.Tensor
    scrapes: torch.Tensor


def outcome(state: RobotState, sensed: Sensed) -> Outcome:
    """Decide falls and costs from the true state; see :data:`DEFINITION`."""
    touch = state.body_force > SCRAPE_FORCE  # (N, 9), the base first
    # Low, and with no ground where the stones' surface would be: a foot on a stone lower than its
    # neighbours is in no gap.
    low = sensed.feet[..., 2] < sensed.foot_rim - GAP_DEPTH  # (N, 4)
    in_gap = low & (sensed.foot_ground[..., 0] < sensed.foot_rim - GAP_DEPTH / 2)
    upright = -sensed.gravity[:, 2]  # cosine between the body's z axis and the vertical
    sunk = state.base_position[:, 2] < sensed.base_rim - FALL_DROP
    fall = touch[:, 0] | (upright < MAX_TILT_COS) | sunk
    gap_feet, scrapes = in_gap.float().sum(1), touch.float().sum(1)
    cost = (fall | (gap_feet > 0) | (scrapes > 0)).float()
    return Outcome(fall, cost, gap_feet, scrapes)


def limit_terms(
    joint_position: torch.Tensor,
    clipped: torch.Tensor,
    lower: torch.Tensor,
    upper: torch.Tensor,
    w: RewardWeights,
) -> Dict[str, torch.Tensor]:
    """What version 2 adds to :func:`reward_terms`, weighted, per second (N,).

    ``clipped`` (N, 12) is by how much the targets were, rad; ``lower`` and ``upper`` (12,) the
    joints' ranges, rad.
    """
    over = (joint_position - (upper - LIMIT_MARGIN)).clamp_min(0.0)
    under = (lower + LIMIT_MARGIN - joint_position).clamp_min(0.0)
    return {
        "joint_limit": w.joint_limit * (over + under).sum(1),
        "clipped_target": w.clipped_target * clipped.abs().sum(1),
    }


def reward_terms(
    state: RobotState,
    sensed: Sensed,
    result: Outcome,
    direction: torch.Tensor,
    action: torch.Tensor,
    last_action: torch.Tensor,
    joint_acceleration: torch.Tensor,
    default: torch.Tensor,
    w: RewardWeights,
) -> Dict[str, torch.Tensor]:
    """Weighted rewards per second (N,), by name.

    ``direction`` (N, 2) is the unit vector to the next waypoint; actions (N, 12) are in [-1, 1];
    ``joint_acceleration`` (N, 12) is in rad/s^2; ``default`` (12,) is the default pose, rad.
    """
    speed = (state.base_linear_velocity[:, :2] * direction).sum(1)  # m/s towards the waypoint
    bearing = (sensed.heading * direction).sum(1).clamp(-1.0, 1.0)  # cosine of the heading's error
    offset = state.joint_position - default
    # The inner ring around a foot, 6 cm away; its centre rides a foot's radius above the ground.
    drop = (sensed.feet[..., 2:3] - sensed.foot_ground[..., 1:5]).amax(-1)  # (N, 4)
    on_edge = sensed.contact & (drop > EDGE_DROP + 0.02)
    return {
        "speed": w.speed * speed.clamp(max=w.target_speed) / w.target_speed,
        "overspeed": w.overspeed * (speed - 1.5 * w.target_speed).clamp_min(0.0),
        # exp(-angle); acos is kept off +-1, where rounding would make it nan
        "heading": w.heading * torch.exp(-torch.acos(bearing * 0.9999)),
        "vertical_velocity": w.vertical_velocity * state.base_linear_velocity[:, 2].square(),
        "roll_pitch_rate": w.roll_pitch_rate * sensed.angular_velocity[:, :2].square().sum(1),
        "tilt": w.tilt * sensed.gravity[:, :2].square().sum(1),
        "torque": w.torque * state.joint_torque.square().sum(1),
        "joint_acceleration": w.joint_acceleration * joint_acceleration.square().sum(1),
        "action_rate": w.action_rate * 4.0 * (action - last_action).norm(dim=1),
        # Hips are joints 0, 3, 6, 9: legs spread sideways cost more than bent ones.
        "hip_offset": w.hip_offset * offset[:, 0::3].square().sum(1),
        "joint_offset": w.joint_offset * offset.square().sum(1),
        "scrape": w.scrape * result.scrapes,
        "gap": w.gap * result.gap_feet,
        "edge": w.edge * on_edge.float().sum(1),
    }
