"""Odometry that drifts: what the robot believes of its way."""

from __future__ import annotations

import math

import numpy as np

from go2_sevpo.deploy.robot.plant.settings import Drift

RENEWAL = 1.0
"""s, mean time after which the drift takes another direction."""


class DriftingOdometry:
    """Integrates the true motion with errors; starts at the truth.

    ``shift`` (3,) and ``turn`` take a point p of the world to the odometry frame:
    Rz(turn) p + shift.
    """

    def __init__(self, drift: Drift, position: np.ndarray, rng: np.random.Generator) -> None:
        self._rng = rng
        self._rms = np.array([drift.position, drift.position, drift.height, drift.yaw])
        self._last, self.position = position.copy(), position.copy()
        self.turn = 0.0
        self._rate = self._draw()

    def _draw(self) -> np.ndarray:
        """Rates whose rms is the settings'."""
        return self._rng.uniform(-1.0, 1.0, 4) * math.sqrt(3.0) * self._rms

    def advance(self, position: np.ndarray, dt: float) -> None:
        """The robot is at ``position`` (3,), m, world, ``dt`` s later."""
        if self._rng.random() < dt / RENEWAL:
            self._rate = self._draw()
        moved = position - self._last
        self._last = position.copy()
        way = float(np.linalg.norm(moved[:2]))
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        step = np.array(
            [cos * moved[0] - sin * moved[1], sin * moved[0] + cos * moved[1], moved[2]]
        )
        self.position = self.position + step + self._rate[:3] * way
        self.turn += math.radians(self._rate[3]) * dt

    def points(self, world: np.ndarray) -> np.ndarray:
        """Points (..., 3) of the world as the robot places them now, odometry frame, m."""
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        relative = world - self._last
        x, y = relative[..., 0], relative[..., 1]
        turned = np.stack([cos * x - sin * y, sin * x + cos * y, relative[..., 2]], axis=-1)
        return turned + self.position

    def quaternion(self, true: np.ndarray) -> np.ndarray:
        """The base's quaternion (4,) w x y z in the odometry frame, from the true one."""
        c, s = math.cos(self.turn / 2), math.sin(self.turn / 2)
        w, x, y, z = true
        # (c, 0, 0, s) * true, Hamilton's product
        return np.array([c * w - s * z, c * x - s * y, c * y + s * x, c * z + s * w])
