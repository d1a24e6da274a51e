"""Leg kinematics in numpy: where the feet are, and what the motors' torques do there.

Legs have a hip turning about x, a thigh and a calf turning about y. Frames: base axes (x forward, y
left, z up), metres, radians. Canonical order: legs as the policy's joints name them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Legs:
    """Geometry of L legs: ``hip_origin`` (L, 3), base frame, ``side`` (L,) the thigh's offset.

    ``thigh`` is the thigh's length, ``foot`` (3,) the foot's centre in the calf's frame, all in m.
    """

    hip_origin: np.ndarray
    side: np.ndarray
    thigh: float
    foot: np.ndarray
    foot_radius: float

    def _plane(self, q: np.ndarray) -> np.ndarray:
        """Feet in their legs' planes, x and z from the hip (L,), and the angle of the calf."""
        _, q1, q2 = q.reshape(-1, 3).T
        theta = q1 + q2
        ct, st = np.cos(theta), np.sin(theta)
        fx, _, fz = self.foot
        x = -self.thigh * np.sin(q1) + fx * ct + fz * st
        z = -self.thigh * np.cos(q1) - fx * st + fz * ct
        return np.stack([x, z, ct, st])

    def feet(self, q: np.ndarray) -> np.ndarray:
        """Centres of the feet (L, 3), m, base frame, from joint positions (3 L,), rad."""
        x, z, _, _ = self._plane(q)
        c0, s0 = np.cos(q[0::3]), np.sin(q[0::3])
        relative = np.stack([x, self.side * c0 - z * s0, self.side * s0 + z * c0], axis=1)
        return relative + self.hip_origin

    def jacobians(self, q: np.ndarray) -> np.ndarray:
        """Velocity of each foot per joint velocity, (L, 3, 3): axes by joints of its leg."""
        x, z, ct, st = self._plane(q)
        fx, _, fz = self.foot
        c0, s0 = np.cos(q[0::3]), np.sin(q[0::3])
        # The plane's x and z by the thigh's angle and by the calf's.
        x_calf, z_calf = -fx * st + fz * ct, -fx * ct - fz * st
        y_base, z_base = self.side * c0 - z * s0, self.side * s0 + z * c0
        jacobian = np.zeros((len(x), 3, 3))
        jacobian[:, 0, 1], jacobian[:, 0, 2] = z, x_calf
        jacobian[:, 1, 0], jacobian[:, 2, 0] = -z_base, y_base
        jacobian[:, 1, 1], jacobian[:, 1, 2] = s0 * x, -s0 * z_calf
        jacobian[:, 2, 1], jacobian[:, 2, 2] = -c0 * x, c0 * z_calf
        return jacobian

    def ground_forces(self, q: np.ndarray, tau: np.ndarray) -> np.ndarray:
        """Forces of the ground on the feet (L, 3), N, base axes, from torques (3 L,), N m.

        Of legs without mass at rest: tau = -J^T f. A leg stretched out (its Jacobian singular)
        gives zeros.
        """
        jacobian = self.jacobians(q)
        regular = np.abs(np.linalg.det(jacobian)) > 1e-4
        jacobian[~regular] = np.eye(3)
        forces = -np.linalg.solve(np.swapaxes(jacobian, 1, 2), tau.reshape(-1, 3)[..., None])[
            ..., 0
        ]
        forces[~regular] = 0.0
        return forces


def rotation_matrix(quaternion: np.ndarray) -> np.ndarray:
    """Rotation (3, 3), body to world, of a quaternion (4,) w x y z of any length but zero."""
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
