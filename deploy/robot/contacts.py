"""Which feet touch the ground, from the motors' torques; ``foot_force`` only where it agrees.

A Go2's ``foot_force`` is raw: its zero differs from foot to foot and drifts, and in simulators it
may be zero throughout. The torques give the force itself, f = -(J^T)^-1 tau, to a few newtons at
rest; the legs' own inertia disturbs it in fast swings. So torques decide, and the sensor, levelled
by itself, may only confirm a force that lies near the threshold.
"""

from __future__ import annotations

from typing import Optional

import numpy as np

from go2_sevpo.deploy.robot.legs import Legs

THRESHOLD = 20.0
"""Vertical force, N, from which a foot counts as touching."""
DOUBT = 8.0
"""Forces this near the threshold, N, are in doubt."""
SENSOR_RISE = 15.0
"""Raw units above its own lowest reading from which the sensor says contact."""
FORGET = 0.002
"""Share per reading by which the lowest reading rises, so that it follows a drift."""


class Contacts:
    """Estimates contact of each foot; see the module."""

    def __init__(self, legs: Legs, threshold: float = THRESHOLD) -> None:
        self.legs, self.threshold = legs, threshold
        count = len(legs.side)
        self.forces = np.zeros((count, 3))
        """Forces on the feet (L, 3) at the last update, N, base axes."""
        self._low: Optional[np.ndarray] = None
        self._high = np.zeros(count)

    def update(
        self, q: np.ndarray, tau: np.ndarray, up: np.ndarray, foot_force: Optional[np.ndarray]
    ) -> np.ndarray:
        """Contact (L,) bool from positions and torques (3 L,), canonical order.

        ``up`` (3,) is the world's vertical in base axes; ``foot_force`` (L,) the raw sensors, or
        None where there are none.
        """
        self.forces = self.legs.ground_forces(q, tau)
        vertical = self.forces @ up
        contact = vertical > self.threshold
        sensed = self._sensed(foot_force)
        if sensed is not None:
            doubtful = np.abs(vertical - self.threshold) < DOUBT
            contact = np.where(doubtful, sensed, contact)
        return contact

    def _sensed(self, raw: Optional[np.ndarray]) -> Optional[np.ndarray]:
        """What the sensors say (L,), None while they say nothing that could be used."""
        if raw is None:
            return None
        raw = np.asarray(raw, dtype=float)
        if self._low is None:
            self._low, self._high = raw.copy(), raw.copy()
        self._low = np.minimum(self._low + FORGET * np.maximum(raw - self._low, 0.0), raw)
        self._high = np.maximum(self._high - FORGET * np.maximum(self._high - raw, 0.0), raw)
        # A sensor that never moved is none.
        if (self._high - self._low < 2 * SENSOR_RISE).any():
            return None
        return raw - self._low > SENSOR_RISE
