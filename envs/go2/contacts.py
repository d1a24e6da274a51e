"""Which feet touch, from the joints' torques: a Go2's foot sensors are not to be relied on."""

from __future__ import annotations

from functools import lru_cache
from typing import Tuple

import torch

from go2_sevpo.envs.go2.description import robot as r

CONTACT_THRESHOLD = 20.0
"""Vertical force, N, from which a foot counts as touching."""
SINGULAR = 1e-4
"""m^3; below this the determinant of a leg's Jacobian is taken to be near none."""


@lru_cache(maxsize=None)
def _sides(device: torch.device) -> torch.Tensor:
    """Sideways offset of the thighs from the hips, (4,), m."""
    return torch.tensor([r.thigh_origin(leg)[1] for leg in r.LEGS], device=device)


def leg_jacobians(joint_position: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """How each foot moves with its hip, thigh and calf: three (N, 4, 3), m/rad, base frame.

    Derivatives of :func:`go2_sevpo.envs.go2.description.geometry.foot_positions` at joint positions
    (N, 12), rad: j_k = axis_k x (foot - joint_k).
    """
    q0, q1, q2 = joint_position.reshape(-1, 4, 3).unbind(-1)  # (N, 4) each
    length, (fx, _, fz) = r.LINK_LENGTH, r.FOOT_OFFSET
    ct, st = torch.cos(q1 + q2), torch.sin(q1 + q2)
    # The foot in the leg's plane, from the knee and from the thigh's joint: x forward, z up.
    knee_x, knee_z = fx * ct + fz * st, -fx * st + fz * ct
    x, z = knee_x - length * torch.sin(q1), knee_z - length * torch.cos(q1)
    c0, s0, side = torch.cos(q0), torch.sin(q0), _sides(joint_position.device)
    zero = torch.zeros_like(x)
    # Thigh and calf turn about the plane's y axis, (0, c0, s0): x' = z, z' = -x within the plane.
    hip = torch.stack([zero, -side * s0 - z * c0, side * c0 - z * s0], dim=-1)
    thigh = torch.stack([z, s0 * x, -c0 * x], dim=-1)
    calf = torch.stack([knee_z, s0 * knee_x, -c0 * knee_x], dim=-1)
    return hip, thigh, calf


def vertical_forces(
    joint_position: torch.Tensor, joint_torque: torch.Tensor, gravity: torch.Tensor
) -> torch.Tensor:
    """Vertical force of the ground on each foot (N, 4), N, up.

    From joint positions and torques (N, 12), rad and N m, and the direction of gravity in the base
    frame (N, 3). A leg at rest without weight of its own obeys J^T f = -tau; with J's columns j_k

        f = -(tau_0 j_1 x j_2 + tau_1 j_2 x j_0 + tau_2 j_0 x j_1) / d,   d = j_0 . (j_1 x j_2),

    where 1 / d is written d / (d^2 + SINGULAR^2) so that a leg near a singular pose has no force
    without bounds.
    """
    hip, thigh, calf = leg_jacobians(joint_position)
    tau = joint_torque.reshape(-1, 4, 3)
    plane = torch.cross(thigh, calf, dim=-1)
    d = (hip * plane).sum(-1)  # (N, 4)
    push = tau[..., 0:1] * plane
    push = push + tau[..., 1:2] * torch.cross(calf, hip, dim=-1)
    push = push + tau[..., 2:3] * torch.cross(hip, thigh, dim=-1)
    # Up is against gravity: f_z = -gravity . f, and f = -push / d.
    along = (push * gravity[:, None]).sum(-1)
    return along * d / (d * d + SINGULAR**2)
