"""Rotations and leg kinematics, batched in torch. Quaternions are wxyz, base to world."""

from __future__ import annotations

from functools import lru_cache
from typing import Tuple

import torch

from go2_sevpo.envs.go2.description import robot as r


def rotation_matrix(q: torch.Tensor) -> torch.Tensor:
    """Rotation matrices (..., 3, 3) of unit quaternions (..., 4)."""
    w, x, y, z = q.unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    entries = [entry for row in rows for entry in row]
    return torch.stack(entries, dim=-1).reshape(*q.shape[:-1], 3, 3)


def to_body(rotation: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """Turn world vectors (N, 3) into the body frame given ``rotation`` (N, 3, 3), body to world."""
    return torch.einsum("nji,nj->ni", rotation, vector)  # R^T v


def yaw_cos_sin(rotation: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine (N,) of the heading of the body x axis in the world's horizontal plane."""
    x, y = rotation[:, 0, 0], rotation[:, 1, 0]
    # A robot standing on its nose has no heading; the clamp keeps its pair finite.
    norm = torch.sqrt(x * x + y * y).clamp_min(1e-6)
    return x / norm, y / norm


def from_roll_yaw(roll: torch.Tensor, yaw: torch.Tensor) -> torch.Tensor:
    """Quaternions (N, 4) of a yaw about world z after a roll about body x."""
    # q = (cy, 0, 0, sy) * (cr, sr, 0, 0), half angles, Hamilton's product
    cr, sr = torch.cos(roll / 2), torch.sin(roll / 2)
    cy, sy = torch.cos(yaw / 2), torch.sin(yaw / 2)
    return torch.stack([cy * cr, cy * sr, sy * sr, sy * cr], dim=-1)


@lru_cache(maxsize=None)
def _origins(device: torch.device) -> Tuple[torch.Tensor, torch.Tensor]:
    """Hip origins (4, 3) and sideways thigh offsets (4,), m."""
    hip = torch.tensor([r.hip_origin(leg) for leg in r.LEGS], device=device)
    return hip, torch.tensor([r.thigh_origin(leg)[1] for leg in r.LEGS], device=device)


def foot_positions(joint_position: torch.Tensor) -> torch.Tensor:
    """Foot sphere centres (N, 4, 3), m, base frame, from joint positions (N, 12), rad, canonical.

    Forward kinematics of a leg with hip (about x), thigh and calf (about y).
    """
    q0, q1, q2 = joint_position.reshape(-1, 4, 3).unbind(-1)  # (N, 4) each
    length, (fx, _, fz) = r.LINK_LENGTH, r.FOOT_OFFSET
    # In the leg's plane: the thigh hangs by q1, the foot's offset in the calf by q1 + q2.
    theta = q1 + q2
    ct, st = torch.cos(theta), torch.sin(theta)
    x = -length * torch.sin(q1) + fx * ct + fz * st
    z = -length * torch.cos(q1) - fx * st + fz * ct
    # The hip turns that plane, the thigh's sideways offset included, about x.
    hip, side = _origins(x.device)
    c0, s0 = torch.cos(q0), torch.sin(q0)
    return torch.stack([x, side * c0 - z * s0, side * s0 + z * c0], dim=-1) + hip
